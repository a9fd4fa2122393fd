//! Messages as GnuPG's scdaemon tells of them where it drives the reader itself
//! (`debug-ccid-driver` in scdaemon.conf, and no `disable-ccid`): a title, the fields of the header
//! by their names, and the bytes behind these with the offset of the first.
//!
//! ```text
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver: PC_to_RDR_XfrBlock:
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   dwLength ..........: 5
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   bSlot .............: 0
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   bSeq ..............: 9
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   bBWI ..............: 0x04
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   wLevelParameter ...: 0x0000
//! 2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver:   [0010]  00 40 05 00 A4
//! ```
//!
//! What is zero may be left out. It tells neither of readers nor of their descriptors: all is of one
//! device.

use ccid::wire::{Command, HEADER_LEN, MAX_DATA_LEN, Response};
use std::time::Duration;

/// What every line of the driver has in it.
const DRIVER: &str = "ccid-driver: ";

const DAY: u32 = 24 * 60 * 60;

/// What scdaemon leaves out of the two longest names of messages.
const LEFT_OUT: &str = "AndClockFrequency";

/// How a field's value is written.
#[derive(Clone, Copy)]
enum Written {
    Decimal,
    /// With or without 0x.
    Hexadecimal,
    /// `T=1`.
    Protocol,
}

use Written::{Decimal, Hexadecimal, Protocol};

/// Where the fields are: name, offset, length, how the value is written.
const FIELDS: [(&str, usize, usize, Written); 28] = [
    ("dwLength", 1, 4, Decimal),
    ("bSlot", 5, 1, Decimal),
    ("bSeq", 6, 1, Decimal),
    ("bStatus", 7, 1, Decimal),
    ("bError", 8, 1, Decimal),
    ("bChainParameter", 9, 1, Hexadecimal),
    ("bClockStatus", 9, 1, Hexadecimal),
    ("protocol", 9, 1, Protocol),
    ("buffer[9]", 9, 1, Hexadecimal),
    ("bPowerSelect", 7, 1, Hexadecimal),
    ("bBWI", 7, 1, Hexadecimal),
    // Of Secure; it is called so there.
    ("bBMI", 7, 1, Hexadecimal),
    ("wLevelParameter", 8, 2, Hexadecimal),
    ("bProtocolNum", 7, 1, Hexadecimal),
    ("bClockCommand", 7, 1, Hexadecimal),
    ("bFunction", 7, 1, Hexadecimal),
    ("bmChanges", 7, 1, Hexadecimal),
    ("bClassGetResponse", 8, 1, Hexadecimal),
    ("bClassEnvelope", 9, 1, Hexadecimal),
    ("bmFindexDindex", 10, 1, Hexadecimal),
    ("bmTCCKST1", 11, 1, Hexadecimal),
    ("bGuardTimeT1", 12, 1, Hexadecimal),
    ("bmWaitingIntegersT1", 13, 1, Hexadecimal),
    ("bClockStop", 14, 1, Hexadecimal),
    ("bIFSC", 15, 1, Decimal),
    ("bNadValue", 16, 1, Decimal),
    ("dwClockFrequency", 10, 4, Decimal),
    ("dwDataRate", 14, 4, Decimal),
];

/// A message of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// The line of its title.
    pub(super) line: u64,
    /// Since the first line with a time.
    pub(super) time: Duration,
    /// The host sent it.
    pub(super) out: bool,
    pub(super) bytes: Vec<u8>,
}

/// What a line is.
pub(super) enum Line {
    /// Not the driver's.
    OfOthers,
    /// The driver's; if it begins a message, the one before is whole.
    Own(Option<Told>),
}

/// Puts messages together, line by line.
#[derive(Default)]
pub(super) struct Log {
    /// The message that is being told of.
    current: Option<Told>,
    time: Duration,
    /// Second of the day of the last line with a time.
    second: Option<u32>,
}

impl Log {
    /// Takes the line of that number.
    pub(super) fn line(&mut self, number: u64, text: &str) -> Line {
        let Some((before, said)) = text.split_once(DRIVER) else { return Line::OfOthers };
        if let Some(second) = before.split_ascii_whitespace().find_map(second_of_day) {
            let passed = (DAY + second - self.second.unwrap_or(second)) % DAY;
            self.time += Duration::from_secs(u64::from(passed));
            self.second = Some(second);
        }
        let said = said.trim_end();
        if let Some((out, message_type)) = title(said) {
            let mut bytes = vec![0; HEADER_LEN];
            if let Some(first) = bytes.first_mut() {
                *first = message_type;
            }
            let told = Told { line: number, time: self.time, out, bytes };
            return Line::Own(self.current.replace(told));
        }
        if let Some(told) = &mut self.current {
            match said.trim_start().strip_prefix('[') {
                Some(dump) => told.dump(dump),
                None => told.field(said.trim_start()),
            };
        }
        Line::Own(None)
    }

    /// The last message.
    pub(super) fn end(&mut self) -> Option<Told> {
        self.current.take()
    }
}

impl Told {
    /// `0010]  00 A4 ...`: bytes from an offset on.
    fn dump(&mut self, text: &str) -> Option<()> {
        let (offset, data) = text.split_once(']')?;
        let offset: usize = offset.parse().ok()?;
        for (n, byte) in data.split_ascii_whitespace().map_while(byte).enumerate() {
            self.put(offset.checked_add(n)?, byte)?;
        }
        Some(())
    }

    /// `bSeq ..............: 9`.
    fn field(&mut self, text: &str) -> Option<()> {
        let (name, value) = text.split_once(": ").or_else(|| text.split_once(':'))?;
        let name = name.trim_end_matches([' ', '.']);
        let (_, offset, length, written) = FIELDS.into_iter().find(|field| field.0 == name)?;
        // Behind the value it may be explained.
        let value = value.split_ascii_whitespace().next()?;
        let value = match written {
            Decimal => value.parse().ok()?,
            Hexadecimal => u32::from_str_radix(value.trim_start_matches("0x"), 16).ok()?,
            Protocol => value.strip_prefix("T=")?.parse().ok()?,
        };
        for (n, byte) in value.to_le_bytes().into_iter().take(length).enumerate() {
            self.put(offset + n, byte)?;
        }
        Some(())
    }

    /// Nothing is left out between two bytes.
    fn put(&mut self, offset: usize, byte: u8) -> Option<()> {
        if offset == self.bytes.len() && offset < HEADER_LEN + MAX_DATA_LEN {
            self.bytes.push(byte);
        }
        *self.bytes.get_mut(offset)? = byte;
        Some(())
    }
}

/// Direction and bMessageType of a message's title.
fn title(text: &str) -> Option<(bool, u8)> {
    type NameOf = fn(u8) -> Option<&'static str>;
    let kinds: [(&str, bool, NameOf); 2] =
        [("PC_to_RDR_", true, Command::name_of), ("RDR_to_PC_", false, Response::name_of)];
    kinds.into_iter().find_map(|(direction, out, name_of)| {
        let name = text.strip_suffix(':')?.strip_prefix(direction)?;
        let is_it = |known: &str| known == name || known.strip_suffix(LEFT_OUT) == Some(name);
        let found = (0..=u8::MAX).find(|message_type| name_of(*message_type).is_some_and(is_it));
        found.map(|message_type| (out, message_type))
    })
}

fn byte(word: &str) -> Option<u8> {
    (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?
}

/// `17:00:03`.
fn second_of_day(word: &str) -> Option<u32> {
    let mut parts = word.split(':').map(|part| part.parse::<u32>().ok().filter(|n| *n < 60));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    (parts.next().is_none() && hour < 24).then_some((hour * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<Told> {
        let mut log = Log::default();
        let lines = text.lines().zip(1..);
        let mut told: Vec<_> = lines
            .filter_map(|(line, number)| match log.line(number, line) {
                Line::Own(told) => told,
                Line::OfOthers => panic!("{line}"),
            })
            .collect();
        told.extend(log.end());
        told
    }

    /// A log of that kind: each line with the usual beginning.
    fn log(lines: &[&str]) -> String {
        let with =
            |line: &&str| format!("2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver: {line}\n");
        lines.iter().map(with).collect()
    }

    #[test]
    fn header_fields_and_bytes_make_the_message() {
        let text = log(&[
            "PC_to_RDR_XfrBlock:",
            "  dwLength ..........: 17",
            "  bSlot .............: 1",
            "  bSeq ..............: 200",
            "  bBWI ..............: 0x04",
            "  wLevelParameter ...: 0x0103 (continues+continued)",
            "  [0010]  00 01 02 03 04 05",
            "  [0016]  06 07 08 09 0A 0B 0C 0D 0E 0F 10",
            "RDR_to_PC_DataBlock:",
            "  dwLength ..........: 0",
            "  bSlot .............: 1",
            "  bSeq ..............: 200",
            "  bStatus ...........: 64",
            "  bError ............: 254",
            "usb_bulk_read error: it goes on",
        ]);
        let told = told(&text);
        let mut sent = vec![0x6F, 17, 0, 0, 0, 1, 200, 4, 3, 1];
        sent.extend(0..17);
        assert_eq!((told[0].line, told[0].out, &told[0].bytes), (1, true, &sent));
        let received = vec![0x80, 0, 0, 0, 0, 1, 200, 0x40, 0xFE, 0];
        assert_eq!((told[1].line, told[1].out, &told[1].bytes), (9, false, &received));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn parameters_are_told_by_name() {
        let text = log(&[
            "RDR_to_PC_Parameters:",
            "  dwLength ..........: 7",
            "  bSlot .............: 0",
            "  bSeq ..............: 3",
            "  bStatus ...........: 0",
            "  protocol ..........: T=1",
            "  bmFindexDindex ....: 95",
            "  bmTCCKST1 .........: 10",
            "  bGuardTimeT1 ......: FF",
            "  bmWaitingIntegersT1: 4D",
            "  bClockStop ........: 00",
            "  bIFSC .............: 254",
            "  bNadValue .........: 0",
        ]);
        let bytes = &told(&text)[0].bytes;
        let expected = [0x82, 7, 0, 0, 0, 0, 3, 0, 0, 1, 0x95, 0x10, 0xFF, 0x4D, 0, 254, 0];
        assert_eq!(bytes[..], expected);
    }

    #[test]
    fn titles() {
        for (text, expected) in [
            ("PC_to_RDR_SetDataRate:", Some((true, 0x73))),
            ("RDR_to_PC_DataRate:", Some((false, 0x84))),
            ("PC_to_RDR_Escape:", Some((true, 0x6B))),
            ("RDR_to_PC_Escape:", Some((false, 0x83))),
            ("PC_to_RDR_DataBlock:", None),
            ("PC_to_RDR_Abort", None),
        ] {
            assert_eq!(title(text), expected, "{text}");
        }
    }

    #[test]
    fn time_passes_midnight() {
        let text = "23:59:58 DBG: ccid-driver: PC_to_RDR_IccPowerOff:\n\
                    00:00:01 DBG: ccid-driver: PC_to_RDR_Abort:\n";
        let told = told(text);
        assert_eq!(told[0].bytes, [0x63, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((told[0].time, told[1].time), (Duration::ZERO, Duration::from_secs(3)));
    }

    #[test]
    fn what_is_beyond_reason_adds_nothing() {
        let text = log(&[
            "PC_to_RDR_XfrBlock:",
            "  dwLength ..........: 4294967295",
            "  [0012]  00",
            "  [4294967295]  00",
            "  [99999999999999999999999]  00",
            "  bSlot .............: 9999999999",
            "PC_to_RDR_Nothing:",
            "RDR_to_PC_:",
        ]);
        assert_eq!(told(&text)[0].bytes, [0x6F, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0]);
    }
}
