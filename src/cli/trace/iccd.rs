//! What goes over an ICCD device's control pipe, told as the conversation with a CCID reader that it
//! stands for ([`ccid::iccd`] has the requests of both versions).

use super::conversation::{Conversation, Line};
use crate::cli::hex::Spaced;
use bytes::Bytes;
use ccid::iccd::Version;
use ccid::wire::{
    ChainParameter, Command, LevelParameter, PowerSelect, Response, Seq, SetupPacket, Slot, Status,
};
use ifd::trace::Event;
use ifd::trace::mask::Masker;
use ifd::transport::TransferError;

const IN: u8 = 0xA1;
const OUT: u8 = 0x21;

/// Its messages have neither slot nor sequence number.
const SLOT: Slot = Slot(0);
const SEQ: Seq = Seq(0);

/// What of an exchange comes next, as version A's status has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// A command, and the end of a response.
    #[default]
    Whole,
    /// The data of either.
    Data,
}

/// An ICCD device of a trace.
pub(super) struct Iccd {
    version: Version,
    phase: Phase,
}

/// One request and its end.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) setup: &'a SetupPacket,
    pub(super) data: &'a Bytes,
    pub(super) result: &'a Result<Bytes, TransferError>,
}

impl Iccd {
    pub(super) const fn new(version: Version) -> Self {
        Self { version, phase: Phase::Whole }
    }

    /// What a request of ICCD's says; none if it is another's.
    pub(super) fn lines(
        &mut self,
        talk: &mut Conversation,
        masker: &mut Masker,
        event: &Event,
        request: Request<'_>,
    ) -> Option<Vec<Line>> {
        let Request { setup, data, result } = request;
        let answer = result.as_deref().unwrap_or_default();
        let mut lines = match (self.version, setup.request_type, setup.request) {
            (Version::A, IN, 0x62) => {
                let mut lines =
                    sent(talk, event, Command::IccPowerOn { power_select: PowerSelect::Automatic });
                if result.is_ok() {
                    lines.extend(data_block(talk, event, ChainParameter::Whole, answer));
                }
                lines
            }
            (Version::B, OUT, 0x62) => {
                // Inferred: the only value declared is 1, 5 V.
                let [select, _] = setup.value.to_le_bytes();
                sent(talk, event, Command::IccPowerOn { power_select: select.into() })
            }
            (_, OUT, 0x63) => {
                let lines = sent(talk, event, Command::IccPowerOff);
                talk.done(SLOT, SEQ);
                lines
            }
            (_, OUT, 0x65) => {
                let masked = masker.request(setup, data);
                self.command(talk, event, setup, masked.as_deref().ok_or(data))
            }
            (Version::A, IN, 0x6F) => match std::mem::take(&mut self.phase) {
                Phase::Whole => data_block(talk, event, ChainParameter::Whole, answer),
                Phase::Data => {
                    vec![told(event, false, format!("DataBlock, data: {}", Spaced(answer)))]
                }
            },
            (Version::B, IN, 0x6F) => block(talk, event, answer),
            (Version::A, IN, 0xA0) => {
                talk.requested(false);
                vec![self.status(talk, event, answer)]
            }
            (Version::B, IN, 0x81) => {
                talk.requested(false);
                vec![slot_status(event, answer)]
            }
            _ => return None,
        };
        if let (Err(error), Some(line)) = (result, lines.first_mut()) {
            talk.mark(line, format!("the request failed: {error}"));
            talk.done(SLOT, SEQ);
        }
        for line in &mut lines {
            unnumbered(line);
        }
        Some(lines)
    }

    /// XFR_BLOCK. `data` are right if no PIN is in them, else they are masked.
    fn command(
        &mut self,
        talk: &mut Conversation,
        event: &Event,
        setup: &SetupPacket,
        data: Result<&[u8], &Bytes>,
    ) -> Vec<Line> {
        if std::mem::take(&mut self.phase) == Phase::Data {
            let text = match data {
                Ok(masked) => format!("XfrBlock, data ({} bytes, not shown)", masked.len()),
                Err(data) => format!("XfrBlock, data: {}", Spaced(data)),
            };
            return vec![told(event, true, text)];
        }
        let [_, level] = setup.value.to_le_bytes();
        let level_parameter = LevelParameter(u16::from(level));
        let data = data.unwrap_or_else(|data| data);
        sent(talk, event, Command::XfrBlock { bwi: 0, level_parameter, data })
    }

    /// GET_ICC_STATUS.
    fn status(&mut self, talk: &mut Conversation, event: &Event, answer: &[u8]) -> Line {
        let Some(status) = answer.first().copied() else {
            return told(event, false, "IccStatus".to_owned());
        };
        self.phase = if status == 0x10 { Phase::Data } else { Phase::Whole };
        let mut line = told(event, false, format!("IccStatus {status:02X}h"));
        let meaning = match status {
            0x00 => "nothing to do",
            0x10 => "data are wanted, or there",
            0x20 => "the end of the response is there",
            0x80 => "the card is mute",
            busy if busy & 0x40 != 0 => {
                talk.extended();
                "busy"
            }
            _ => {
                talk.mark(&mut line, "not known".to_owned());
                return line;
            }
        };
        line.meaning.push(meaning.to_owned());
        line
    }
}

fn told(event: &Event, out: bool, text: String) -> Line {
    Line::plain(event, out, text)
}

fn sent(talk: &mut Conversation, event: &Event, command: Command<'_>) -> Vec<Line> {
    talk.sent(event, &command.emit(SLOT, SEQ))
}

fn data_block(
    talk: &mut Conversation,
    event: &Event,
    chain: ChainParameter,
    data: &[u8],
) -> Vec<Line> {
    let response = Response::DataBlock { status: Status::from_bytes(0, 0), chain, data };
    talk.received(event, &response.emit(SLOT, SEQ))
}

/// Version B's DATA_BLOCK: bResponseType says what follows.
fn block(talk: &mut Conversation, event: &Event, answer: &[u8]) -> Vec<Line> {
    match *answer {
        [kind @ (0x00..=0x03 | 0x10), ref data @ ..] => data_block(talk, event, kind.into(), data),
        [0x40, status, error, ..] => {
            let status = Status::from_bytes(status, error);
            let response = Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] };
            talk.received(event, &response.emit(SLOT, SEQ))
        }
        [0x80, low, high, ..] => {
            let mut line = told(event, false, "DataBlock, not yet".to_owned());
            line.meaning.push(match u32::from(u16::from_le_bytes([low, high])) * 10 {
                0 => "asks to be asked again".to_owned(),
                pause => format!("asks to be asked again in {pause} ms"),
            });
            talk.extended();
            vec![line]
        }
        _ => {
            let mut line = told(event, false, format!("DataBlock {}", Spaced(answer)));
            if !answer.is_empty() {
                talk.mark(&mut line, "bResponseType is not known".to_owned());
            }
            vec![line]
        }
    }
}

/// SLOT_STATUS: bStatus, bError and bClockStatus, with bResponseType 40h before them or without.
fn slot_status(event: &Event, answer: &[u8]) -> Line {
    /// No bStatus has these bits.
    const RESERVED: u8 = 0x3C;
    let (status, rest) = match *answer {
        [0x80, ..] => return told(event, false, "SlotStatus, busy".to_owned()),
        [0x40, status, error, ref rest @ ..] if status & RESERVED == 0 => {
            (Status::from_bytes(status, error), rest)
        }
        [status, error, ref rest @ ..] => (Status::from_bytes(status, error), rest),
        _ => return told(event, false, "SlotStatus".to_owned()),
    };
    let clock_status = rest.first().copied().unwrap_or_default().into();
    let response = Response::SlotStatus { status, clock_status };
    told(event, false, ccid::wire::dissect(&response.emit(SLOT, SEQ)).to_string())
}

/// Takes out what such a device's messages do not have.
fn unnumbered(line: &mut Line) {
    (line.slot, line.seq) = (None, None);
    line.text = line.text.replacen(&format!(" {SLOT} {SEQ}"), "", 1);
    for mark in &mut line.marks {
        *mark = mark.replacen(&format!(" {SEQ}"), "", 1).replacen("wrong sequence number: ", "", 1);
    }
}
