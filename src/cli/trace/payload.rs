//! What an XfrBlock carries: APDUs, in T=1 blocks or as they are, and status words.

use crate::cli::status_word::StatusWord;
use ccid::t1::{Block, CheckCode, Pcb, Supervisory};

/// What a slot's T=1 chains have told so far.
#[derive(Default)]
pub(super) struct Blocks {
    /// The next block goes on with a command, or a response.
    command_goes_on: bool,
    response_goes_on: bool,
    /// INS of the command under way.
    ins: Option<u8>,
}

impl Blocks {
    /// INS of the command under way.
    pub(super) const fn ins(&self) -> Option<u8> {
        self.ins
    }
}

/// What the data of a command's XfrBlock are, and INS, if they begin a command APDU.
pub(super) fn command(data: &[u8], by_host: bool, known: &mut Blocks) -> (Vec<String>, Option<u8>) {
    match parse(data).filter(|_| by_host) {
        Some(block) => {
            let mut lines = vec![describe(&block)];
            if let Pcb::I { more, .. } = block.pcb {
                if !std::mem::replace(&mut known.command_goes_on, more) {
                    known.ins = block.information.get(1).copied();
                    lines.extend(apdu(block.information));
                }
            }
            (lines, known.ins)
        }
        None => {
            known.ins = data.get(1).copied().filter(|_| data.len() >= 4);
            (apdu(data).into_iter().collect(), known.ins)
        }
    }
}

/// What the data of the answer are.
pub(super) fn response(
    data: &[u8],
    by_host: bool,
    ins: Option<u8>,
    known: &mut Blocks,
) -> Vec<String> {
    match parse(data).filter(|_| by_host) {
        Some(block) => {
            let mut lines = vec![describe(&block)];
            if let Pcb::I { more, .. } = block.pcb {
                known.response_goes_on = more;
                if !more {
                    lines.extend(status_word(block.information, known.ins));
                }
            }
            lines
        }
        // No card's answer to a command begins so.
        None if by_host && data.first() == Some(&0xFF) => vec!["PPS response".into()],
        None => status_word(data, ins).into_iter().collect(),
    }
}

fn status_word(data: &[u8], ins: Option<u8>) -> Option<String> {
    let word = StatusWord::of(data)
        .filter(|word| matches!(word.bytes(), [0x60..=0x6F | 0x90..=0x9F, _]))?;
    let [sw1, sw2] = word.bytes();
    Some(format!("{sw1:02X} {sw2:02X}: {}", word.meaning(ins.unwrap_or_default())))
}

fn parse(data: &[u8]) -> Option<Block<'_>> {
    let nad = data.first().copied()?;
    [CheckCode::Lrc, CheckCode::Crc]
        .into_iter()
        .find_map(|check| Block::parse(data, check, nad).ok())
}

fn describe(block: &Block<'_>) -> String {
    let length = block.information.len();
    match block.pcb {
        Pcb::I { ns, more } => {
            let more = if more { ", more follows" } else { "" };
            format!("T=1 I-block N(S) {ns}, {length} bytes{more}")
        }
        Pcb::R { nr, error } => {
            let why = match error {
                0 => "",
                1 => ", check code or parity wrong",
                _ => ", other error",
            };
            format!("T=1 R-block N(R) {nr}{why}")
        }
        Pcb::Request(kind) => format!("T=1 S-block {} request{}", name(kind), value(block)),
        Pcb::Response(kind) => format!("T=1 S-block {} response{}", name(kind), value(block)),
    }
}

fn value(block: &Block<'_>) -> String {
    block.information.first().map(|value| format!(", {value}")).unwrap_or_default()
}

fn name(kind: Supervisory) -> &'static str {
    match kind {
        Supervisory::Resynch => "RESYNCH",
        Supervisory::Ifs => "IFS",
        Supervisory::Abort => "ABORT",
        Supervisory::Wtx => "WTX",
    }
}

/// The header of a command APDU in words.
fn apdu(data: &[u8]) -> Option<String> {
    let [cla, ins, p1, p2, rest @ ..] = data else { return None };
    if *cla == 0xFF && rest.len() < 3 {
        return Some("PPS request".into());
    }
    let chained = if cla & 0x10 != 0 && cla & 0x80 == 0 { ", chained" } else { "" };
    Some(format!("{} P1 {p1:02X} P2 {p2:02X}{chained}", instruction(*ins)))
}

/// Names of ISO/IEC 7816-4's instructions.
fn instruction(ins: u8) -> String {
    let name = match ins {
        0x04 => "DEACTIVATE FILE",
        0x0E => "ERASE BINARY",
        0x20 | 0x21 => "VERIFY",
        0x22 => "MANAGE SECURITY ENVIRONMENT",
        0x24 | 0x25 => "CHANGE REFERENCE DATA",
        0x2A | 0x2B => "PERFORM SECURITY OPERATION",
        0x2C | 0x2D => "RESET RETRY COUNTER",
        0x44 => "ACTIVATE FILE",
        0x46 | 0x47 => "GENERATE ASYMMETRIC KEY PAIR",
        0x70 => "MANAGE CHANNEL",
        0x82 => "EXTERNAL AUTHENTICATE",
        0x84 => "GET CHALLENGE",
        0x86 | 0x87 => "GENERAL AUTHENTICATE",
        0x88 => "INTERNAL AUTHENTICATE",
        0xA4 => "SELECT",
        0xB0 | 0xB1 => "READ BINARY",
        0xB2 | 0xB3 => "READ RECORD",
        0xC0 => "GET RESPONSE",
        0xC2 | 0xC3 => "ENVELOPE",
        0xCA | 0xCB => "GET DATA",
        0xD0 | 0xD1 => "WRITE BINARY",
        0xD2 => "WRITE RECORD",
        0xD6 | 0xD7 => "UPDATE BINARY",
        0xDA | 0xDB => "PUT DATA",
        0xDC | 0xDD => "UPDATE RECORD",
        0xE0 => "CREATE FILE",
        0xE2 => "APPEND RECORD",
        0xE4 => "DELETE FILE",
        other => return format!("INS {other:02X}"),
    };
    name.into()
}
