//! PIN entry at the reader (CCID 1.1 §6.1.11): perhaps an escape command, then PC_to_RDR_Secure.
//!
//! Where the host speaks T=1 itself, the command that the reader completes is an I-block, and the
//! card's answer to it another. What the two need besides, S- and R-blocks before and after, goes
//! by PC_to_RDR_XfrBlock. Only the reader knows the PIN: an I-block that does not come through
//! cannot be sent again, and must not be as the template it was made of.

use super::exchange::whole;
use super::{READER_TIME, Setting, Step, T1Exchange, failure, misbehaved};
use crate::atr::Protocol;
use crate::descriptor::ExchangeLevel;
use crate::error::{Breach, CardFault, Error, Sent, Unsupported};
use crate::pin::PinEntry;
use crate::t1::{self, Failure};
use crate::wire::{Command, LevelParameter, Response, SlotError};
use bytes::Bytes;
use core::time::Duration;

/// Offset of bPINOperation in the message: an error from here on is about the structure.
const PIN_OPERATION: u8 = 10;

#[derive(Debug)]
pub(crate) struct Secure {
    entry: PinEntry,
    timeout: Duration,
    stage: Stage,
    /// The exchange of blocks, where the host speaks T=1.
    t1: Option<T1Exchange>,
}

#[derive(Debug)]
enum Stage {
    /// The escape command that comes first.
    Escape,
    /// Blocks before the command.
    Before,
    /// PC_to_RDR_Secure with this data.
    Entry(SecretBytes),
    /// Blocks after the command.
    After,
}

/// Bytes that are not shown.
struct SecretBytes(Bytes);

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Secure {
    pub(super) fn new(
        entry: &PinEntry,
        timeout: Duration,
        setting: &Setting<'_>,
    ) -> Result<Self, Error> {
        if !setting.powered {
            return Err(Error::NotPowered);
        }
        let limit = setting.class.max_data();
        for data in entry.escape().into_iter().chain([entry.data()]) {
            let length = data.len();
            if length > limit {
                return Err(Error::TooLong { length, limit });
            }
        }
        let t1 = match (setting.class.exchange_level(), setting.protocol) {
            (level @ ExchangeLevel::Character, protocol) => {
                let protocol = protocol.unwrap_or(Protocol::T0);
                return Err(Error::Unsupported(Unsupported::PinEntry(level, protocol.number())));
            }
            (ExchangeLevel::Tpdu, Some(Protocol::T1)) => Some(blocks(entry, setting)?),
            _ => None,
        };
        let mut secure = Self { entry: entry.clone(), timeout, stage: Stage::Escape, t1 };
        if entry.escape().is_none() {
            secure.begin();
        }
        Ok(secure)
    }

    /// To the command, or to what must come before it.
    fn begin(&mut self) {
        let data = match &self.t1 {
            None => Some(self.entry.data().clone()),
            Some(t1) => t1.command_prologue().map(|prologue| self.entry.with_prologue(prologue)),
        };
        self.stage = data.map_or(Stage::Before, |data| Stage::Entry(SecretBytes(data)));
    }

    pub(super) fn command(&self) -> Command<'_> {
        match (&self.stage, self.entry.escape(), &self.t1) {
            (Stage::Escape, Some(data), _) => Command::Escape { data },
            (Stage::Before | Stage::After, _, Some(t1)) => t1.command(),
            (Stage::Entry(SecretBytes(data)), _, _) => secure(data),
            // Not reached: no such state is built.
            (Stage::Escape | Stage::Before | Stage::After, _, _) => secure(self.entry.data()),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match (&self.stage, &self.t1) {
            (Stage::Before | Stage::After, Some(t1)) => t1.timeout(),
            (Stage::Escape, _) => READER_TIME,
            _ => self.timeout,
        }
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        if let Stage::Escape = self.stage {
            // It prepares firmware that needs it; other firmware need not know it.
            self.begin();
            return Step::Send;
        }
        let asked = matches!(self.stage, Stage::Entry(_));
        let Some(t1) = &mut self.t1 else {
            return apdu_answer(sent, response);
        };
        if asked {
            if let Some(end) = readers_answer(sent, response) {
                t1.withdraw();
                return end;
            }
            self.stage = Stage::After;
        }
        match (t1.answer(sent, response), &self.stage) {
            (Step::Send, Stage::Before) => {
                self.begin();
                Step::Send
            }
            (Step::Send, _) if t1.command_prologue().is_some() => {
                Step::Done(Err(Error::Card(CardFault::T1(Failure::OutOfStep))))
            }
            (step, _) => step,
        }
    }

    /// The connection as the card has it now, where the host speaks T=1.
    pub(super) fn t1(&self) -> Option<t1::Connection> {
        self.t1.as_ref().map(T1Exchange::connection)
    }

    /// The same as it was before the first command.
    pub(super) fn t1_before(&self) -> Option<t1::Connection> {
        self.t1.as_ref().map(T1Exchange::connection_before)
    }
}

fn secure(data: &[u8]) -> Command<'_> {
    Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data }
}

/// The exchange of the command in one block: a chain of them the reader cannot complete.
fn blocks(entry: &PinEntry, setting: &Setting<'_>) -> Result<T1Exchange, Error> {
    let apdu = entry.apdu();
    let exchange = T1Exchange::new(&apdu, setting)?;
    let (length, limit) = (apdu.len(), usize::from(exchange.connection().ifsc()));
    if length > limit { Err(Error::TooLong { length, limit }) } else { Ok(exchange) }
}

/// The answer of a reader that speaks the card's protocol itself.
fn apdu_answer(sent: Sent, response: &Response<'_>) -> Step {
    match (failure(sent, response), *response) {
        (Some(error), _) => Step::Done(Err(error)),
        (None, Response::DataBlock { data, .. }) => whole(sent, data),
        (None, _) => {
            let (got, expected) = (response.message_type(), secure(&[]).answered_by());
            misbehaved(sent, Breach::UnexpectedType { got, expected })
        }
    }
}

/// The end of an entry that the card knows nothing of, if it is that: the reader has refused it,
/// there was no PIN, or the reader answers itself by SW1 SW2, which are no block.
fn readers_answer(sent: Sent, response: &Response<'_>) -> Option<Step> {
    match (response.status().slot_error(), response) {
        (
            Some(
                SlotError::PinCancelled
                | SlotError::PinTimeout
                | SlotError::CmdNotSupported
                | SlotError::Unknown(PIN_OPERATION..=0x7F),
            ),
            _,
        ) => Some(apdu_answer(sent, response)),
        (None, Response::DataBlock { data: [_, _], .. }) => Some(apdu_answer(sent, response)),
        _ => None,
    }
}
