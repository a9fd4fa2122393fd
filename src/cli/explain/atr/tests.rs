use super::*;
use crate::cli::hex;

fn explained(text: &str) -> Explained {
    explain(&hex::parse(text).unwrap(), None)
}

/// Each row as "NAME BYTES: MEANING", what is odd behind a "!".
fn rows(text: &str) -> Vec<String> {
    let show = |row: &Row| {
        let odd = row.odd.as_ref().map(|odd| format!(" ! {odd}")).unwrap_or_default();
        let line = format!("{} {}: {}{odd}", row.name, hex::compact(&row.bytes), row.meaning);
        line.trim_start().to_owned()
    };
    explained(text).rows.iter().map(show).collect()
}

fn row(text: &str, name: &str) -> String {
    let start = format!("{name} ");
    let found = rows(text).into_iter().find(|row| row.starts_with(&start));
    found.unwrap_or_else(|| panic!("no {name} in {:?}", rows(text)))
}

/// The OpenPGP card 1.x.
#[test]
fn a_card_is_explained_byte_by_byte() {
    let expected = [
        "TS 3B: direct convention",
        "T0 FA: TA1, TB1, TC1 and TD1 follow; 10 historical bytes",
        "TA1 13: Fi 372, Di 4: 93 clocks a bit, up to 5 MHz; 43011 bit/s at 4 MHz",
        "TB1 00: programming voltage: a thing of the past, ignored",
        "TC1 FF: guard time as short as possible: 12 bit times in T=0, 11 in T=1",
        "TD1 81: T=1, blocks; TD2 follows",
        "TD2 31: T=1, blocks; TA3 and TB3 follow",
        "TA3 80: IFSC: the card takes blocks of up to 128 bytes",
        "TB3 45: BWI 4, CWI 5: the card has 1.4 s for a block at 4 MHz, 43 bit times for a \
         character",
        "00: historical bytes: compact TLV, and a status at the end",
        "31C1: card services: selection of applications by full name, by the first part of the \
         name and no master file",
        "73C00100: capabilities: selection by full name and first part of the name; writing works \
         once, in units of 8 bits; no further logical channel",
        "009000: life cycle: not told; status 9000, success",
        "TCK B1: checksum: right",
    ];
    let text = "3B FA 13 00 FF 81 31 80 45 00 31 C1 73 C0 01 00 00 90 00 B1";
    assert_eq!(rows(text), expected);
    assert_eq!(explained(text).summary, "T=1 only; up to 43011 bit/s at 4 MHz");
    assert_eq!(explained(text).broken, None);
}

#[test]
fn the_clock_of_the_reader_counts() {
    let explained = explain(&[0x3B, 0x10, 0x95], Some(4800));
    assert_eq!(
        explained.rows[2].meaning,
        "Fi 512, Di 16: 32 clocks a bit, up to 5 MHz; 150000 bit/s at 4.8 MHz"
    );
    assert_eq!(explained.summary, "T=0 only; up to 150000 bit/s at 4.8 MHz");
}

#[test]
fn every_interface_byte_has_a_meaning() {
    // TD1: T=0, all follow; TD2: T=15, all follow; then a second T=15 and T=14.
    let text = "3B 80 F0 81 00 0A FF 43 80 00 7F 03 01 02 FE 05 06 07";
    assert_eq!(
        row(text, "TA2"),
        "TA2 81: specific mode, which cannot be left: T=1 at once, at the rate of TA1"
    );
    assert_eq!(
        row(text, "TC2"),
        "TC2 0A: WI 10: the card has 893 ms for a character in T=0 at 4 MHz"
    );
    assert_eq!(row(text, "TA3"), "TA3 43: works at 5 V and 3 V; the clock may be stopped low");
    assert_eq!(row(text, "TB3"), "TB3 80: contact C6 is used in a way of the card's own");
    assert_eq!(row(text, "TC3"), "TC3 00: reserved for T=15");
    assert_eq!(row(text, "TA4"), "TA4 03: reserved for T=15");
    let text = "3B 80 80 71 20 45 01 FE 07 0E";
    assert_eq!(row(text, "TC3"), "TC3 01: blocks are checked by a CRC");
    let text = "3B 10 18 00";
    assert_eq!(
        row(text, "TA1"),
        "TA1 18: Fi 372, Di 12: 31 clocks a bit, up to 5 MHz; 129032 bit/s at 4 MHz"
    );
}

#[test]
fn what_is_odd_is_marked() {
    for (text, name, odd) in [
        ("3B 10 7A", "TA1", "! reserved; 372 and 1 are used instead"),
        ("3B 80 0F 8F", "TD1", "! T=15 is no protocol, and must not come first"),
        ("3B 80 02 82", "TD1", "! a protocol that no reader speaks"),
        ("3B 80 81 11 00 10", "TA3", "! reserved; 32 bytes are used instead"),
        ("3B 80 81 21 A5 25", "TB3", "! BWI is 9 at most"),
        ("3B 80 40 00", "TC2", "! reserved; 10 is used instead"),
        ("3B 80 01 80", "TCK", "! wrong: it should be 81"),
        ("03 00", "TS", "! it should have been made 3F"),
    ] {
        assert!(row(text, name).ends_with(odd), "{}", row(text, name));
    }
    let behind = rows("3B 00 AA BB");
    assert!(behind[2].contains("T=0 alone has no checksum"), "{behind:?}");
    let long = format!("3B 00 {}", "11".repeat(40));
    assert!(rows(&long)[2].contains("at most 33 bytes"), "{long}");
}

#[test]
fn an_atr_that_breaks_off_is_explained_so_far() {
    for (text, rows, broken) in [
        ("3B", 1, "T0 is missing: the ATR ends after 1 byte"),
        ("3B 90 11", 3, "TD1 is missing: the ATR ends after 3 bytes"),
        ("3B 03 41 42", 3, "historical byte 3 of 3 is missing: the ATR ends after 4 bytes"),
        ("3B 80 01", 3, "TCK is missing: the ATR ends after 3 bytes"),
    ] {
        let explained = explained(text);
        assert_eq!(explained.rows.len(), rows, "{text}");
        assert_eq!(explained.broken.as_deref(), Some(broken));
    }
    assert_eq!(explained("AB").rows[0].odd.as_deref(), Some("neither 3B nor 3F: this is no ATR"));
}

#[test]
fn protocols_are_summed_up() {
    let t0_and_t1 = "3B 90 95 80 1F C7 5A".to_owned();
    assert!(explained(&t0_and_t1).summary.starts_with("T=0 only"));
    assert!(explained("3B 80 80 01 01").summary.starts_with("T=0 and T=1, T=0 unless asked"));
    assert!(explained("3B 80 11 01 90").summary.starts_with("T=1 only (specific mode)"));
    assert!(explained("3B 80 0E 8E").summary.starts_with("neither T=0 nor T=1"));
}

#[test]
fn historical_bytes_of_every_kind() {
    for (text, line) in [
        ("3B 05 41 52 45 4E 41", "4152454E41: historical bytes of the maker's own kind: \"ARENA\""),
        ("3B 02 10 03", "03: which record of it"),
        ("3B 02 80 31", "31: data object of tag 3h ! its length is wrong; announces 1 byte, has 0"),
        ("3B 05 80 53 41 42 43", "53414243: card issuer's data"),
        ("3B 06 80 54 41 42 43 44", "5441424344: card issuer's data: \"ABCD\""),
        ("3B 04 80 82 90 00", "829000: status 9000, success"),
        ("3B 04 80 81 05 11", "8105: life cycle: activated"),
        ("3B 04 80 12 02 76", "120276: country code and national data: 0276"),
        ("3B 01 85", "85: historical bytes of a reserved kind"),
        ("3B 01 00", ": status ! a status of one, two or three bytes is due"),
    ] {
        let rows = rows(text);
        assert!(rows.iter().any(|row| row == line), "{line} is not in {rows:?}");
    }
    let storage = rows("3B 8F 80 01 80 4F 0C A0 00 00 03 06 03 00 01 00 00 00 00 6A");
    let name = "MIFARE Classic 1K; ISO/IEC 14443 A, part 3";
    assert!(storage.iter().any(|row| row.ends_with(name)), "{storage:?}");
}

#[test]
fn any_bytes_are_explained() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    for round in 0..20_000 {
        let bytes: Vec<u8> = (0..round % 40)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            })
            .collect();
        let rows = explain(&bytes, Some(u32::MAX)).rows;
        let explained: Vec<u8> = rows.iter().flat_map(|row| row.bytes.clone()).collect();
        assert!(bytes.starts_with(&explained), "{bytes:02X?}");
    }
}
