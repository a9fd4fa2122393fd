//! One command as a sequence of requests: each dialogue is given the answer to its last request
//! and says what comes next. It knows no message and no time.

use super::request::{Failure, Request};
use super::{MAX_TRANSFER, Version};
use crate::wire::{ChainParameter, CommandStatus, IccStatus, MAX_DATA_LEN, SlotError, Status};
use bytes::{Bytes, BytesMut};
use core::time::Duration;

/// How long to wait where the host may choose.
const PAUSE: Duration = Duration::from_millis(10);

/// The unit of version B's waiting time.
const WAIT_UNIT: Duration = Duration::from_millis(10);

/// How often, at [`PAUSE`], ICC_POWER_OFF is waited for.
const MAX_OFF_POLLS: u16 = 300;

/// Data blocks of one response of version A, of which one is usual.
const MAX_BLOCKS: u8 = 64;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A request, at once.
    Ask(Request),
    /// The same after a pause, which the device has asked for or needs.
    AskAfter(Duration, Request),
    /// The end.
    End(End),
}

/// How a dialogue ends.
#[derive(Debug)]
pub(super) enum End {
    /// The card is without power, or in the state that the device says.
    Status(Option<IccStatus>),
    /// The ATR.
    PoweredUp(Bytes),
    /// Data, and their place in the response.
    Data(ChainParameter, Bytes),
    /// Failure, and the card's state if the device says it.
    Failed(SlotError, Option<IccStatus>),
}

#[derive(Debug)]
pub(super) enum Dialogue {
    Status,
    PowerOff {
        polls: u16,
    },
    PowerOn {
        polls: u16,
        /// No ATR came: the status is to tell why.
        failed: bool,
    },
    /// Version A's exchange.
    StepByStep {
        /// The command's data, until sent.
        rest: Bytes,
        response: BytesMut,
        blocks: u8,
        /// SW1 SW2, or what ends with them, have this length at most.
        end: u16,
        /// They were asked for.
        ending: bool,
    },
    /// Version B's exchange.
    Blocks,
}

impl Dialogue {
    /// A power-up; `off` if the card is known to be without power.
    pub(super) fn power_on(off: bool) -> (Self, Request) {
        let first = if off { Request::PowerOn } else { Request::PowerOff };
        (Self::PowerOn { polls: 0, failed: false }, first)
    }

    /// A power-off.
    pub(super) const fn power_off() -> (Self, Request) {
        (Self::PowerOff { polls: 0 }, Request::PowerOff)
    }

    /// The status.
    pub(super) const fn status() -> (Self, Request) {
        (Self::Status, Request::Status)
    }

    /// Version A's exchange of a T=0 command TPDU of at least 4 bytes: its header goes first, and
    /// SW1 SW2 come last.
    pub(super) fn character_level(tpdu: &[u8]) -> (Self, Request) {
        const HEADER: usize = 5;
        const STATUS_WORD: u16 = 2;
        let (header, rest) = tpdu.split_at(tpdu.len().min(HEADER));
        let mut header = BytesMut::from(header);
        header.resize(HEADER, 0);
        Self::step_by_step(header.freeze(), Bytes::copy_from_slice(rest), STATUS_WORD)
    }

    /// Version A's exchange of a TPDU or an APDU as a whole.
    pub(super) fn whole(command: &[u8]) -> (Self, Request) {
        Self::step_by_step(Bytes::copy_from_slice(command), Bytes::new(), MAX_TRANSFER)
    }

    fn step_by_step(first: Bytes, rest: Bytes, end: u16) -> (Self, Request) {
        let exchange =
            Self::StepByStep { rest, response: BytesMut::new(), blocks: 0, end, ending: false };
        (exchange, Request::XfrBlock { level: 0, data: first })
    }

    /// Version B's exchange of an APDU or a part of one.
    pub(super) fn block(level: u8, data: &[u8]) -> (Self, Request) {
        (Self::Blocks, Request::XfrBlock { level, data: Bytes::copy_from_slice(data) })
    }

    /// Its pauses are the device's wish, and the sender of the command is to know of them.
    pub(super) const fn extends(&self, asked: &Request) -> bool {
        match self {
            Self::StepByStep { .. } | Self::Blocks => true,
            Self::PowerOn { .. } => matches!(asked, Request::DataBlock { .. }),
            Self::Status | Self::PowerOff { .. } => false,
        }
    }

    /// Takes the answer to `asked`.
    pub(super) fn answered(
        &mut self,
        version: Version,
        asked: &Request,
        answer: Result<&[u8], Failure>,
    ) -> Next {
        match self {
            Self::Status => match (version, answer) {
                (Version::B, Ok([0x80, ..])) => Next::AskAfter(PAUSE, Request::Status),
                _ => status(version, answer),
            },
            Self::PowerOff { polls } => match (asked, answer) {
                (Request::PowerOff, Ok(_)) => Next::Ask(Request::Status),
                (Request::PowerOff, Err(_)) => hardware(),
                _ => match wait_until_off(version, polls, answer) {
                    Some(pause) => Next::AskAfter(pause, Request::Status),
                    None => status(version, answer),
                },
            },
            Self::PowerOn { polls, failed } => power_on(version, polls, failed, asked, answer),
            Self::StepByStep { .. } => self.step(asked, answer),
            Self::Blocks => match (asked, answer) {
                (Request::XfrBlock { .. }, Ok(_)) => Next::Ask(Request::DATA),
                (_, Ok(block)) => data_block(block, asked),
                (_, Err(_)) => hardware(),
            },
        }
    }

    fn step(&mut self, asked: &Request, answer: Result<&[u8], Failure>) -> Next {
        let Self::StepByStep { rest, response, blocks, end, ending } = self else {
            return hardware();
        };
        let Ok(answer) = answer else {
            return hardware();
        };
        match asked {
            Request::DataBlock { .. } if *ending && answer.len() >= 2 => {
                response.extend_from_slice(answer);
                whole(response)
            }
            Request::DataBlock { .. } if *ending => hardware(),
            Request::DataBlock { .. } => {
                *blocks += 1;
                response.extend_from_slice(answer);
                if answer.is_empty() || *blocks >= MAX_BLOCKS || response.len() > MAX_DATA_LEN - 2 {
                    return hardware();
                }
                Next::Ask(Request::Status)
            }
            Request::Status => match *answer {
                [busy] if busy & 0x40 != 0 => Next::AskAfter(PAUSE, Request::Status),
                [0x80] => {
                    Next::End(End::Failed(SlotError::IccMute, Some(IccStatus::PresentInactive)))
                }
                [0x10] if !rest.is_empty() => {
                    Next::Ask(Request::XfrBlock { level: 0, data: core::mem::take(rest) })
                }
                [0x10] => Next::Ask(Request::DATA),
                [0x20] => {
                    *ending = true;
                    Next::Ask(Request::DataBlock { length: *end })
                }
                // Some devices hand SW1 SW2 out with the data.
                [0x00] if response.len() >= 2 => whole(response),
                _ => hardware(),
            },
            _ => Next::Ask(Request::Status),
        }
    }
}

fn whole(response: &mut BytesMut) -> Next {
    Next::End(End::Data(ChainParameter::Whole, response.split().freeze()))
}

/// The device does not do as ICCD has it, and where it stands is unknown.
const fn hardware() -> Next {
    Next::End(End::Failed(SlotError::HwError, None))
}

/// The end of a question for the status.
fn status(version: Version, answer: Result<&[u8], Failure>) -> Next {
    let icc = match (version, answer) {
        (Version::A, Ok([0x80])) => Some(IccStatus::PresentInactive),
        (Version::A, Ok([_])) => None,
        (Version::B, Ok(bytes)) => match slot_status(bytes) {
            Some(status) => Some(icc_of(status)),
            None => return hardware(),
        },
        _ => return hardware(),
    };
    Next::End(End::Status(icc))
}

/// bStatus and bError in the answer to SLOT_STATUS: they are all there is, before bClockStatus, or
/// come behind bResponseType 40h.
fn slot_status(bytes: &[u8]) -> Option<Status> {
    const RESERVED: u8 = 0x3C;
    match *bytes {
        [0x80, ..] => None,
        [0x40, status, error, ..] if status & RESERVED == 0 => {
            Some(Status::from_bytes(status, error))
        }
        [status, error, ..] => Some(Status::from_bytes(status, error)),
        _ => None,
    }
}

/// bmICCStatus; its reserved value is no card, as other drivers have it.
const fn icc_of(status: Status) -> IccStatus {
    match status.icc {
        IccStatus::Reserved => IccStatus::NotPresent,
        known => known,
    }
}

/// How long to wait before the status is asked for again after ICC_POWER_OFF; none if the device
/// is ready, or has been waited for long enough.
fn wait_until_off(
    version: Version,
    polls: &mut u16,
    answer: Result<&[u8], Failure>,
) -> Option<Duration> {
    *polls += 1;
    let busy = match (version, answer) {
        (Version::A, Ok([status])) => status & 0x40 != 0,
        (Version::B, Ok([kind, ..])) => *kind == 0x80,
        _ => false,
    };
    (busy && *polls <= MAX_OFF_POLLS).then_some(PAUSE)
}

fn power_on(
    version: Version,
    polls: &mut u16,
    failed: &mut bool,
    asked: &Request,
    answer: Result<&[u8], Failure>,
) -> Next {
    match (asked, version) {
        // A device that refuses may be without power already.
        (Request::PowerOff, _) => Next::Ask(Request::Status),
        (Request::Status, _) if *failed => Next::End(match (version, answer) {
            (Version::A, Ok([0x80])) => {
                End::Failed(SlotError::IccMute, Some(IccStatus::PresentInactive))
            }
            (Version::B, Ok(bytes)) => {
                let status = slot_status(bytes);
                let error = status.and_then(Status::slot_error).unwrap_or(SlotError::HwError);
                End::Failed(error, status.map(icc_of))
            }
            _ => End::Failed(SlotError::HwError, None),
        }),
        (Request::Status, _) => match wait_until_off(version, polls, answer) {
            Some(pause) => Next::AskAfter(pause, Request::Status),
            None => Next::Ask(Request::PowerOn),
        },
        (Request::PowerOn, Version::A) => match answer {
            Ok(atr) if !atr.is_empty() => Next::End(End::PoweredUp(Bytes::copy_from_slice(atr))),
            _ => {
                *failed = true;
                Next::Ask(Request::Status)
            }
        },
        (Request::PowerOn, Version::B) if answer.is_ok() => Next::Ask(Request::ATR),
        (Request::DataBlock { .. }, _) => match answer {
            Ok([0x00, atr @ ..]) if !atr.is_empty() => {
                Next::End(End::PoweredUp(Bytes::copy_from_slice(atr)))
            }
            Ok(block @ [0x40 | 0x80, ..]) => data_block(block, asked),
            _ => hardware(),
        },
        _ => {
            *failed = true;
            Next::Ask(Request::Status)
        }
    }
}

/// A data block of version B, which came when `asked` was asked for.
fn data_block(block: &[u8], asked: &Request) -> Next {
    match *block {
        [kind @ (0x00..=0x03 | 0x10), ref data @ ..] => {
            Next::End(End::Data(kind.into(), Bytes::copy_from_slice(data)))
        }
        [0x40, status, error, ..] => {
            let status = Status::from_bytes(status, error);
            let icc = Some(icc_of(status));
            match (status.command, status.slot_error()) {
                (CommandStatus::TimeExtension, _) => Next::AskAfter(PAUSE, asked.clone()),
                (_, Some(error)) => Next::End(End::Failed(error, icc)),
                // Success, with nothing of what was asked for.
                _ => Next::End(End::Failed(SlotError::HwError, icc)),
            }
        }
        [0x80, low, high, ..] => {
            let pause = match u16::from_le_bytes([low, high]) {
                0 => PAUSE,
                units => WAIT_UNIT * u32::from(units),
            };
            Next::AskAfter(pause, asked.clone())
        }
        _ => hardware(),
    }
}
