//! T=1 over PC_to_RDR_XfrBlock, for readers that leave it to the host: a block in one message at
//! TPDU level; at character level its prologue first, then as much as LEN says (CCID 1.1 §6.1.4).

use super::exchange::waiting_time;
use super::{Setting, Step, failure, misbehaved};
use crate::atr::{AtrInfo, Protocol, T1Parameters};
use crate::descriptor::ExchangeLevel;
use crate::error::{Breach, CardFault, Error, Sent};
use crate::operation::Output;
use crate::t1::block::{MAX_INFORMATION, PROLOGUE_LEN, Pcb};
use crate::t1::{Connection, Exchange, Failure, Progress, Received};
use crate::wire::{Command, IccStatus, LevelParameter, MAX_DATA_LEN, Response, SlotError};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

#[derive(Debug)]
pub(crate) struct T1Exchange {
    exchange: Exchange,
    /// The connection as it was before the first block.
    before: Connection,
    reading: Reading,
    /// The response is an APDU's.
    apdu: bool,
    timeout: Duration,
}

/// How the card's block comes in.
#[derive(Debug)]
enum Reading {
    /// TPDU level: in one message.
    Whole,
    /// Character level: the block goes out, its answer's prologue comes in.
    Prologue,
    /// Character level: `missing` bytes behind those.
    Rest { begun: Vec<u8>, missing: u16 },
}

impl T1Exchange {
    pub(super) fn new(command: &Bytes, setting: &Setting<'_>) -> Result<Self, Error> {
        if command.len() > MAX_DATA_LEN {
            return Err(Error::TooLong { length: command.len(), limit: MAX_DATA_LEN });
        }
        let before = connection(setting);
        let exchange = Exchange::new(before, command.clone()).map_err(fault)?;
        Ok(Self::over(exchange, before, true, setting))
    }

    /// S(RESYNCH) alone. It gives [`Output::Done`].
    pub(crate) fn resynchronise(setting: &Setting<'_>) -> Result<Self, Error> {
        let before = connection(setting);
        let exchange = Exchange::resynchronise(before).map_err(fault)?;
        Ok(Self::over(exchange, before, false, setting))
    }

    fn over(exchange: Exchange, before: Connection, apdu: bool, setting: &Setting<'_>) -> Self {
        let reading = match setting.class.exchange_level() {
            ExchangeLevel::Character => Reading::Prologue,
            _ => Reading::Whole,
        };
        let timeout = waiting_time(setting, Protocol::T1, &[]);
        Self { exchange, before, reading, apdu, timeout }
    }

    /// The card may have carried the command out twice.
    pub(crate) fn is_repeated(&self) -> bool {
        self.exchange.is_repeated()
    }

    /// The connection as the card has it now.
    pub(crate) fn connection(&self) -> Connection {
        self.exchange.connection()
    }

    /// The connection if nothing of the exchange has reached the card.
    pub(crate) fn connection_before(&self) -> Connection {
        self.before
    }

    /// NAD, PCB and LEN, if the block to be sent carries (a part of) the command.
    pub(super) fn command_prologue(&self) -> Option<[u8; PROLOGUE_LEN]> {
        let prologue = *self.exchange.block().first_chunk()?;
        let [_, pcb, _] = prologue;
        matches!(Pcb::from_byte(pcb), Some(Pcb::I { .. })).then_some(prologue)
    }

    /// The command was not sent after all (see [`Exchange::withdraw`]).
    pub(super) fn withdraw(&mut self) {
        self.exchange.withdraw();
    }

    pub(super) fn command(&self) -> Command<'_> {
        let (bwi, data) = match self.reading {
            Reading::Rest { .. } => (0, &[][..]),
            _ => (self.exchange.multiplier(), self.exchange.block()),
        };
        let level_parameter = match self.reading {
            Reading::Whole => LevelParameter::WHOLE,
            Reading::Prologue => LevelParameter(PROLOGUE_LEN as u16),
            Reading::Rest { missing, .. } => LevelParameter(missing),
        };
        Command::XfrBlock { bwi, level_parameter, data }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self.reading {
            Reading::Rest { .. } => self.timeout,
            _ => self.timeout * u32::from(self.exchange.multiplier().max(1)),
        }
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        let status = response.status();
        match (failure(sent, response), status.slot_error(), response) {
            // The card has lost its power; T=1 has no cure for that.
            (Some(error), _, _) if status.icc == IccStatus::PresentInactive => {
                Step::Done(Err(error))
            }
            (Some(Error::NoCard), _, _) => Step::Done(Err(Error::NoCard)),
            (_, Some(SlotError::IccMute), _) => self.received(Received::Nothing),
            (_, Some(SlotError::XfrParityError | SlotError::XfrOverrun), _) => {
                self.received(Received::Garbled)
            }
            (Some(error), _, _) => Step::Done(Err(error)),
            (None, _, Response::DataBlock { data, .. }) => self.read(data),
            (None, _, other) => {
                let got = other.message_type();
                misbehaved(sent, Breach::UnexpectedType { got, expected: 0x80 })
            }
        }
    }

    /// Bytes of a block.
    fn read(&mut self, data: &[u8]) -> Step {
        let mut block = match &mut self.reading {
            Reading::Whole => return self.received(Received::Block(data)),
            Reading::Prologue => Vec::new(),
            Reading::Rest { begun, .. } => core::mem::take(begun),
        };
        let first = block.is_empty();
        block.extend_from_slice(data);
        if let ([_, _, length], true) = (&block[..], first) {
            let length = usize::from(*length);
            if length <= MAX_INFORMATION {
                let missing = length + self.exchange.connection().check_code().size();
                // It fits: at most 254 and 2.
                self.reading = Reading::Rest { begun: block, missing: missing as u16 };
                return Step::Send;
            }
        }
        // All of it, or something that is no prologue, which the rules of T=1 are to see.
        self.received(Received::Block(&block))
    }

    fn received(&mut self, received: Received<'_>) -> Step {
        if let Reading::Rest { .. } = self.reading {
            self.reading = Reading::Prologue;
        }
        match self.exchange.received(received) {
            Progress::Send => Step::Send,
            Progress::Done(Ok(_)) if !self.apdu => Step::Done(Ok(Output::Done)),
            Progress::Done(Ok(response)) if response.len() < 2 => {
                Step::Done(Err(Error::Card(CardFault::NoStatusWord)))
            }
            Progress::Done(Ok(response)) => Step::Done(Ok(Output::Data(response))),
            Progress::Done(Err(failure)) => Step::Done(Err(fault(failure))),
        }
    }
}

/// The card's connection, or that of a card that has just been reset.
fn connection(setting: &Setting<'_>) -> Connection {
    setting.t1.unwrap_or_else(|| {
        let default = T1Parameters { ifsc: 32, bwi: 4, cwi: 13, crc: false };
        let parameters = setting.atr.map_or(default, AtrInfo::t1_parameters);
        Connection::new(parameters, setting.class).with_nad(setting.options.nad)
    })
}

fn fault(failure: Failure) -> Error {
    match failure {
        Failure::Mute => Error::CardMute,
        failure => Error::Card(CardFault::T1(failure)),
    }
}
