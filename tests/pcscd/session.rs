//! Connecting and exchanging, on every kind of reader.

use crate::harness::{
    PROTO_MISMATCH, Pcscd, REMOVED_CARD, UNPOWERED_CARD, UNSUPPORTED_FEATURE, hex,
};

/// An APDU with `data` for the instruction that gives it back.
fn echo(data: &[u8], extended: bool) -> String {
    let length = match extended {
        true => [&[0][..], &(data.len() as u16).to_be_bytes()].concat(),
        false => vec![data.len() as u8],
    };
    // With Le: case 4.
    let le: &[u8] = if extended { &[0, 0] } else { &[0] };
    hex(&[&[0x00, 0x10, 0, 0][..], &length, data, le].concat())
}

fn counted(length: usize) -> Vec<u8> {
    (0..length).map(|n| n as u8).collect()
}

fn answer(data: &[u8]) -> String {
    hex(data) + "9000"
}

/// T=1 at extended APDU level.
#[test]
fn a_session() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let mut program = pcscd.puppet();
    assert_eq!(program.say(&["list"]).ok(), ["Simulated 00 00"]);
    assert_eq!(program.connect("Simulated 00 00"), "2", "T=1");
    let status = program.say(&["status"]).ok();
    assert_eq!(status[0], "3B97958131FE4580318073F42140DE");
    assert_eq!(program.transmit("00100000020102"), "01029000");
    for length in [1, 255, 256, 1000, 60_000] {
        let data = counted(length);
        assert_eq!(program.transmit(&echo(&data, length > 255)), answer(&data), "{length}");
    }
    program.say(&["begin"]).ok();
    assert_eq!(program.transmit("0012010000"), answer(&counted(256)));
    program.say(&["end", "0"]).ok();
    let again = program.say(&["reconnect", "shared", "3", "1"]).ok();
    assert_eq!(again, ["2"], "after a reset");
    assert_eq!(program.transmit("00100000020102"), "01029000");
    program.say(&["disconnect", "2"]).ok();
    assert_eq!(pcscd.hands("Simulated").violations(), [""; 0]);
}

/// The host speaks T=0 and T=1 itself: blocks, chaining, PPS.
#[test]
fn tpdu_level_and_character_level() {
    let devices = [
        ("One", "sim:t1-tpdu", "2"),
        ("Crc", "sim:t1-tpdu-crc", "2"),
        ("Chains", "sim:t1-tpdu-short", "2"),
        ("Manual", "sim:t1-tpdu-manual", "2"),
        ("Pps", "sim:pps", "2"),
        ("Characters", "sim:t1-character", "2"),
        ("Faults", "sim:t1-faults-random", "2"),
        ("Zero", "sim:t0-tpdu", "1"),
        ("Zeros", "sim:t0-character", "1"),
        ("Bytes", "sim:t0-character-one", "1"),
    ];
    let readers: Vec<_> = devices.iter().map(|(name, device, _)| (*name, *device)).collect();
    let pcscd = Pcscd::start(&readers);
    for (index, (name, device, protocol)) in devices.iter().enumerate() {
        let mut program = pcscd.puppet();
        let reader = format!("{name} {index:02X} 00");
        assert_eq!(program.connect(&reader), *protocol, "{device}");
        let data = counted(200);
        if *protocol == "2" {
            assert_eq!(program.transmit(&echo(&data, false)), answer(&data), "{device}");
        } else {
            // One TPDU: what comes next is the program's business.
            let command = hex(&[&[0x00, 0x10, 0, 0, 200][..], &data].concat());
            assert_eq!(program.transmit(&command), "61C8", "{device}");
            assert_eq!(program.transmit("00C00000C8"), answer(&data), "{device}");
        }
        program.say(&["disconnect", "0"]).ok();
        assert_eq!(pcscd.hands(name).violations(), [""; 0], "{device}");
    }
}

#[test]
fn a_protocol_that_the_card_does_not_speak() {
    let pcscd = Pcscd::start(&[("One", "sim:t1-tpdu"), ("Both", "sim:pps")]);
    let mut program = pcscd.puppet();
    let refused = program.say(&["connect", "One 00 00", "shared", "1"]);
    assert_eq!(refused.code, PROTO_MISMATCH);
    for protocol in ["1", "2"] {
        let connected = program.say(&["connect", "Both 01 00", "shared", protocol]).ok();
        assert_eq!(connected, [protocol]);
        program.transmit("001000000101");
        program.say(&["disconnect", "2"]).ok();
    }
}

/// Chips with a USB plug of their own, both dialects.
#[test]
fn iccd() {
    let devices = ["sim:iccd-a-apdu", "sim:iccd-b", "sim:iccd-b-short", "sim:iccd-b-interrupt"];
    let readers = devices.map(|device| (&device[4..], device));
    let pcscd = Pcscd::start(&readers);
    for (index, (name, _)) in readers.iter().enumerate() {
        let mut program = pcscd.puppet();
        program.connect(&format!("{name} {index:02X} 00"));
        let data = counted(200);
        assert_eq!(program.transmit(&echo(&data, false)), answer(&data), "{name}");
        assert_eq!(pcscd.hands(name).violations(), [""; 0], "{name}");
    }
}

/// Each slot is a reader of its own, and they work at the same time.
#[test]
fn eight_slots() {
    let pcscd = Pcscd::start(&[("Octo", "sim:eight-slots")]);
    let mut first = pcscd.puppet();
    let names = first.say(&["list"]).ok();
    let expected: Vec<_> = (0..8).map(|slot| format!("Octo 00 {slot:02X}")).collect();
    assert_eq!(names, expected);
    let mut programs: Vec<_> = names
        .iter()
        .map(|name| {
            let mut program = pcscd.puppet();
            program.connect(name);
            program
        })
        .collect();
    // All of them hang at once, but one.
    for program in &mut programs[1..] {
        program.begin(&["transmit", "0014012C"]);
    }
    assert_eq!(programs[0].transmit("0012001010"), answer(&counted(16)));
    for program in &mut programs[1..] {
        assert_eq!(program.returned().first(), "9000");
    }
    let mut hands = pcscd.hands("Octo");
    hands.say("remove 3");
    first.wait_for_card("Octo 00 03", false);
    assert_eq!(programs[3].say(&["transmit", "0014000A"]).code, REMOVED_CARD);
    assert_eq!(programs[4].transmit("0014000A"), "9000");
    assert_eq!(hands.violations(), [""; 0]);
}

#[test]
fn a_mute_card() {
    let pcscd = Pcscd::start(&[("Mute", "sim:mute")]);
    let mut program = pcscd.puppet();
    assert_eq!(program.say(&["connect", "Mute 00 00", "shared", "3"]).code, UNPOWERED_CARD);
}

#[test]
fn attributes() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let mut program = pcscd.puppet();
    program.connect("Simulated 00 00");
    for (attribute, value) in [
        ("90303", "3B97958131FE4580318073F42140DE"),
        ("90300", "02"),
        ("90301", "01"),
        ("7A007", "08000100"),
        ("7FFF0003", &(hex(b"Simulated 00 00") + "00")),
        ("7FFF0004", &(hex(b"Simulated 00 00") + "00")),
    ] {
        assert_eq!(program.say(&["get", attribute]).first(), value, "{attribute}");
    }
    let mut texts = Vec::new();
    for attribute in ["10100", "10103", "10102", "20110"] {
        texts.push(program.say(&["get", attribute]).first());
    }
    assert!(texts.iter().all(|text| !text.is_empty()), "{texts:?}");
    assert_eq!(program.say(&["get", "12345"]).code, UNSUPPORTED_FEATURE);
    assert_eq!(program.say(&["set", "12345", "00"]).code, UNSUPPORTED_FEATURE);
}
