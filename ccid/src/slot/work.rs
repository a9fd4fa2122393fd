//! A machine at work, on whose behalf, and its command on the wire.

use super::restore::Restore;
use super::resynch::Resynch;
use crate::atr::Protocol;
use crate::completion::{Completion, Next};
use crate::error::{CardFault, Error, Sent};
use crate::machine::Machine;
use crate::operation::{Operation, OperationId, Output};
use crate::parameters::FiDi;
use crate::quirk::Question;
use crate::t1::Failure;
use crate::time::Instant;
use crate::wire::{MechanicalFunction, PowerSelect, Seq, Slot};
use bytes::Bytes;
use core::time::Duration;

/// What success or failure of an operation means for the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    None,
    /// With the voltage that the card was given, once known.
    PowerOn(Option<PowerSelect>),
    PowerOff,
    /// The reader gives the card out, or keeps it.
    HandOver,
    /// With Fi and Di agreed on, once known.
    Protocol(Protocol, Option<FiDi>),
}

impl Effect {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::PowerOn(_) => Self::PowerOn(None),
            Operation::PowerOff => Self::PowerOff,
            Operation::Mechanical(MechanicalFunction::Eject | MechanicalFunction::Capture) => {
                Self::HandOver
            }
            Operation::SetProtocol(protocol) => Self::Protocol(*protocol, None),
            _ => Self::None,
        }
    }
}

/// On whose behalf a machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The caller's.
    Operation(OperationId),
    /// Brings the card back after an aborted command.
    Restore(Restore),
    /// Sets the protocol again after that.
    RestoreProtocol(Restore),
    /// Gets T=1 back in step with the card after an aborted command.
    Resynch(Resynch),
    /// An exchange that tells whether the reader has let go of the aborted command.
    Probe(Restore),
    /// Looks whether a card is there.
    Poll,
    /// An escape command that the reader gets when it is opened.
    Opening(Question),
}

/// A machine at work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(super) purpose: Purpose,
    pub(super) effect: Effect,
    pub(super) machine: Machine,
    /// What follows from the response, if that is not left to the caller.
    pub(super) completion: Option<Completion>,
    /// It ends by then, whatever the reader asks for.
    pub(super) limit: Instant,
    /// To end as cancelled before its next command.
    pub(super) cancelled: bool,
    /// Commands sent so far.
    pub(super) commands: u32,
    /// The reader has said since then that the slot is busy.
    pub(super) busy_since: Option<Instant>,
}

impl Work {
    pub(super) fn new(purpose: Purpose, effect: Effect, machine: Machine, limit: Instant) -> Self {
        Self {
            purpose,
            effect,
            machine,
            completion: None,
            limit,
            cancelled: false,
            commands: 0,
            busy_since: None,
        }
    }

    /// What an output makes of the work.
    pub(super) fn after(&mut self, output: Output) -> After {
        match (&mut self.completion, output) {
            (Some(completion), Output::Data(_))
                if completion.is_fetching() && self.machine.is_repeated() =>
            {
                After::End(Err(Error::Card(CardFault::T1(Failure::PartLost))))
            }
            (Some(completion), Output::Data(response)) => match completion.answered(&response) {
                Next::Send(command) => After::Command(command),
                Next::Done(response) => After::End(Ok(Output::Data(response))),
            },
            (_, output) => After::End(Ok(output)),
        }
    }
}

/// What comes after the output of a machine.
pub(super) enum After {
    End(Result<Output, Error>),
    /// Another command to the card.
    Command(Bytes),
}

/// A command on the wire.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(super) seq: Seq,
    pub(super) message_type: u8,
    pub(super) expected: u8,
    pub(super) base: Duration,
    pub(super) deadline: Instant,
}

impl Flight {
    pub(super) fn sent(&self, slot: Slot) -> Sent {
        Sent { message_type: self.message_type, slot, seq: self.seq }
    }
}
