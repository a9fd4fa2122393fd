//! Historical bytes (ISO/IEC 7816-4 §12.1.1; PC/SC part 3 §3.1.3.2.3 for storage cards).

use super::{Row, counted, enumerate};
use crate::cli::hex::as_text;
use crate::cli::status_word::StatusWord;

/// RID of the PC/SC workgroup, which stands in the ATR that a reader makes up for a contactless
/// storage card.
const PCSC_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x06];

/// Explains the historical bytes, which begin at `offset` in the ATR.
pub(super) fn explain(bytes: &[u8], offset: usize) -> Vec<Row> {
    let Some((&category, rest)) = bytes.split_first() else {
        return Vec::new();
    };
    let begin = |meaning: &str| Row::new(offset, &[category], "", meaning);
    match category {
        0x00 => {
            let mut rows = vec![begin("historical bytes: compact TLV, and a status at the end")];
            let (objects, status) = rest.split_at(rest.len().saturating_sub(3));
            rows.extend(compact_tlv(objects, offset + 1));
            rows.push(status_row(status, offset + 1 + objects.len()));
            rows
        }
        0x80 => match storage_card(rest, offset + 1) {
            Some(row) => vec![begin("historical bytes: a storage card, by PC/SC part 3"), row],
            None => {
                let mut rows = vec![begin("historical bytes: compact TLV")];
                rows.extend(compact_tlv(rest, offset + 1));
                rows
            }
        },
        0x10 => {
            let mut rows = vec![begin("historical bytes: a reference to the file EF.DIR")];
            let row = Row::new(offset + 1, rest, "", "which record of it");
            rows.push(row.odd_if(rest.len() != 1, "one byte is due"));
            rows
        }
        0x81..=0x8F => vec![Row::new(offset, bytes, "", "historical bytes of a reserved kind")],
        _ => {
            let row = Row::new(offset, bytes, "", "historical bytes of the maker's own kind");
            vec![with_text(row)]
        }
    }
}

/// Data objects of tag and length in a byte.
fn compact_tlv(mut bytes: &[u8], mut offset: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some((&head, rest)) = bytes.split_first() {
        let length = usize::from(head & 0x0F);
        let value = rest.get(..length).unwrap_or(rest);
        let object = bytes.get(..=value.len()).unwrap_or(bytes);
        let row = data_object(head >> 4, value, offset, object);
        let odd = format!("announces {}, has {}", counted(length, "byte"), value.len());
        rows.push(row.odd_if(value.len() < length, &odd));
        offset += object.len();
        bytes = bytes.get(object.len()..).unwrap_or_default();
    }
    rows
}

fn data_object(tag: u8, value: &[u8], offset: usize, object: &[u8]) -> Row {
    let row = |meaning: String| Row::new(offset, object, "", meaning);
    match (tag, value) {
        (1, _) => row(format!("country code and national data: {}", nibbles(value))),
        (2, _) => row(format!("issuer identification number: {}", nibbles(value))),
        (3, [services]) => row(format!("card services: {}", card_services(*services))),
        (4, _) => with_text(row("initial access data".into())),
        (5, _) => with_text(row("card issuer's data".into())),
        (6, _) => with_text(row("pre-issuing data".into())),
        (7, [first, ..]) if value.len() <= 3 => row(capabilities(*first, value.get(1..))),
        (8, [_] | [_, _] | [_, _, _]) => {
            let mut status = status_row(value, offset);
            status.bytes = object.to_vec();
            status
        }
        (15, _) => with_text(row("application identifier".into())),
        _ => with_text(row(format!("data object of tag {tag:X}h")))
            .odd_if(matches!(tag, 3 | 7 | 8), "its length is wrong"),
    }
}

/// Decimal digits, two a byte, without filling.
fn nibbles(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    digits.trim_end_matches('F').to_owned()
}

fn with_text(mut row: Row) -> Row {
    let skip = usize::from(row.bytes.len() > 1 && !row.meaning.starts_with("historical"));
    if let Some(text) = row.bytes.get(skip..).and_then(as_text) {
        row.meaning = format!("{}: {text:?}", row.meaning);
    }
    row
}

/// Life cycle status, and SW1 SW2.
fn status_row(bytes: &[u8], offset: usize) -> Row {
    let (life, word) = match *bytes {
        [life] => (Some(life), None),
        [sw1, sw2] => (None, Some([sw1, sw2])),
        [life, sw1, sw2] => (Some(life), Some([sw1, sw2])),
        _ => (None, None),
    };
    let life = life.map(|life| format!("life cycle: {}", life_cycle(life)));
    // 0000h says that there is none.
    let word = word.filter(|word| *word != [0, 0]).map(|word| {
        let word = StatusWord(u16::from_be_bytes(word));
        format!("status {:04X}, {}", word.0, word.meaning(0))
    });
    let parts: Vec<_> = life.into_iter().chain(word).collect();
    let meaning = if parts.is_empty() { "status".into() } else { parts.join("; ") };
    let row = Row::new(offset, bytes, "", meaning);
    row.odd_if(parts.is_empty(), "a status of one, two or three bytes is due")
}

fn life_cycle(code: u8) -> &'static str {
    match code {
        0x00 => "not told",
        0x01 => "being created",
        0x03 => "being initialised",
        0x04 | 0x06 => "deactivated",
        0x05 | 0x07 => "activated",
        0x0C..=0x0F => "terminated",
        0x10..=0xFF => "by the maker's own code",
        _ => "reserved",
    }
}

fn card_services(byte: u8) -> String {
    let mut services = Vec::new();
    for (bit, text) in [
        (0x80, "selection of applications by full name"),
        (0x40, "by the first part of the name"),
        (0x20, "data objects in EF.DIR"),
        (0x10, "data objects in EF.ATR"),
    ] {
        if byte & bit != 0 {
            services.push(text);
        }
    }
    if byte & 0x30 != 0 {
        services.push(match (byte >> 1) & 0x07 {
            0b100 => "which are read by READ BINARY",
            0b010 => "which are read by GET DATA",
            0b000 => "which are read by READ RECORD",
            _ => "read in a reserved way",
        });
    }
    services.push(if byte & 1 == 0 { "a master file" } else { "no master file" });
    enumerate(&services)
}

/// Card capabilities: selection, data coding, and what stands in a third byte.
fn capabilities(first: u8, more: Option<&[u8]>) -> String {
    let methods: Vec<_> = [
        (0x80, "full name"),
        (0x40, "first part of the name"),
        (0x20, "path"),
        (0x10, "file identifier"),
        (0x08, "nothing (implicitly)"),
        (0x04, "short file identifier"),
        (0x02, "record number"),
        (0x01, "record identifier"),
    ]
    .into_iter()
    .filter(|(bit, _)| first & bit != 0)
    .map(|(_, method)| method)
    .collect();
    let mut text = format!("capabilities: selection by {}", enumerate(&methods));
    if let Some(coding) = more.and_then(<[u8]>::first) {
        let write = match (coding >> 5) & 0x03 {
            0 => "once",
            1 => "in a way of the card's own",
            2 => "as OR",
            _ => "as AND",
        };
        let bits = 4u32 << (coding & 0x0F).min(15);
        text += &format!("; writing works {write}, in units of {bits} bits");
    }
    if let Some(third) = more.and_then(|more| more.get(1)) {
        text += &third_capability_byte(*third);
    }
    text
}

fn third_capability_byte(byte: u8) -> String {
    let mut can = Vec::new();
    for (bit, text) in
        [(0x80, "command chaining"), (0x40, "extended Lc and Le"), (0x20, "lengths told in EF.ATR")]
    {
        if byte & bit != 0 {
            can.push(text.to_owned());
        }
    }
    let channels = (byte & 0x07) + 1;
    match (byte & 0x18, channels) {
        (0, _) => can.push("no further logical channel".into()),
        (_, 8) => can.push("eight or more logical channels".into()),
        (_, n) => can.push(format!("{n} logical channels")),
    }
    format!("; {}", enumerate(&can))
}

/// The ATR that a reader makes up for a contactless storage card: 4F 0C RID, standard, name.
fn storage_card(bytes: &[u8], offset: usize) -> Option<Row> {
    let [0x4F, 0x0C, r0, r1, r2, r3, r4, standard, n0, n1, ..] = *bytes else {
        return None;
    };
    if [r0, r1, r2, r3, r4] != PCSC_RID {
        return None;
    }
    let standard = match standard {
        0x01..=0x03 => format!("ISO/IEC 14443 A, part {standard}"),
        0x05..=0x07 => format!("ISO/IEC 14443 B, part {}", standard - 4),
        0x09..=0x0C => format!("ISO/IEC 15693, part {}", standard - 8),
        0x11 => "FeliCa".into(),
        0x00 => "no standard told".into(),
        other => format!("standard {other:02X}h"),
    };
    let name = match u16::from_be_bytes([n0, n1]) {
        0x0001 => "MIFARE Classic 1K",
        0x0002 => "MIFARE Classic 4K",
        0x0003 => "MIFARE Ultralight",
        0x0026 => "MIFARE Mini",
        0x003A => "MIFARE Ultralight C",
        0x003B => "FeliCa",
        0xF004 => "Topaz or Jewel",
        0xF011 => "FeliCa at 212 kbit/s",
        0xF012 => "FeliCa at 424 kbit/s",
        _ => "",
    };
    let code = u16::from_be_bytes([n0, n1]);
    let name = if name.is_empty() { format!("card name {code:04X}h") } else { name.into() };
    Some(Row::new(offset, bytes, "", format!("{name}; {standard}")))
}
