//! One operation as a sequence of commands: each machine names its next command and is given the
//! answer. It knows no sequence numbers and no time.

mod exchange;
mod power;
mod pps;
mod protocol;
mod secure;
mod simple;
mod t0_character;
mod t1_exchange;

use crate::atr::{AtrInfo, Protocol};
use crate::completion::Completion;
use crate::descriptor::{ClassDescriptor, ExchangeLevel};
use crate::error::{Breach, Error, Sent};
use crate::operation::{Operation, Output};
use crate::parameters::FiDi;
use crate::quirk::Behaviour;
use crate::reader::Options;
use crate::t1;
use crate::wire::{Command, IccStatus, PowerSelect, Response, SlotError};
use bytes::Bytes;
use core::time::Duration;

use exchange::Exchange;
pub(crate) use power::Power;
use power::PowerPlan;
pub(crate) use protocol::{CardAfter, Negotiation};
use secure::Secure;
use simple::Simple;
use t0_character::T0Character;
pub(crate) use t1_exchange::T1Exchange;

/// The waiting time for commands that involve no card, and the least for those that do.
pub(crate) const READER_TIME: Duration = Duration::from_secs(3);

/// The waiting time for a power-up: some readers take long over several voltages and classes.
pub(crate) const POWER_TIME: Duration = Duration::from_secs(30);

/// The waiting time for an exchange with a card whose ATR tells nothing.
pub(crate) const UNKNOWN_CARD_TIME: Duration = Duration::from_secs(60);

/// What a machine wants next.
pub(crate) enum Step {
    /// [`Machine::command`] is to be sent.
    Send,
    /// The operation has ended.
    Done(Result<Output, Error>),
}

/// What a machine may know of slot and reader when it starts.
pub(crate) struct Setting<'a> {
    pub(crate) class: &'a ClassDescriptor,
    pub(crate) options: &'a Options,
    pub(crate) behaviour: &'a Behaviour,
    /// The slot's data rates in bit/s; none: all up to the greatest.
    pub(crate) rates: &'a [u32],
    /// The ATR of the powered card, read; none if it cannot be read.
    pub(crate) atr: Option<&'a AtrInfo>,
    pub(crate) powered: bool,
    /// The protocol set, or else the one the card starts with.
    pub(crate) protocol: Option<Protocol>,
    /// The protocol that was set, if one was.
    pub(crate) settled: Option<Protocol>,
    /// The card has been asked nothing since its power-up.
    pub(crate) fresh: bool,
    /// Fi and Di in force, if known.
    pub(crate) fi_di: Option<FiDi>,
    /// The voltage that the powered card was given, if known.
    pub(crate) voltage: Option<PowerSelect>,
    /// The state of T=1 with the card, once there has been an exchange.
    pub(crate) t1: Option<t1::Connection>,
}

/// The machine of an operation.
#[derive(Debug)]
pub(crate) enum Machine {
    Power(Power),
    Negotiation(Negotiation),
    Exchange(Exchange),
    T0Character(T0Character),
    T1(T1Exchange),
    Secure(Secure),
    Simple(Simple),
}

impl Machine {
    /// The machine of `operation`, or its end if no command is needed or none possible.
    pub(crate) fn new(
        operation: &Operation,
        setting: &Setting<'_>,
    ) -> Result<Self, Result<Output, Error>> {
        match operation {
            Operation::PowerOn(how) => Ok(Self::Power(Power::new(*how, &PowerPlan::new(setting)))),
            Operation::SetProtocol(protocol) => {
                Negotiation::new(*protocol, setting).map(Self::Negotiation)
            }
            Operation::Exchange(command) => exchange::machine(command, setting).map_err(Err),
            Operation::Secure { entry, timeout } => {
                Secure::new(entry, *timeout, setting).map(Self::Secure).map_err(Err)
            }
            other => Simple::new(other, setting).map(Self::Simple),
        }
    }

    /// The machine of the first command of `command`, and what comes after that.
    pub(crate) fn completing(
        command: &Bytes,
        setting: &Setting<'_>,
    ) -> Result<(Self, Completion), Error> {
        let level = setting.class.exchange_level();
        let apdu = matches!(level, ExchangeLevel::ShortApdu | ExchangeLevel::ExtendedApdu);
        let completion = match setting.protocol.unwrap_or(Protocol::T0) {
            Protocol::T0 if !apdu => Completion::over_t0(command.clone())?,
            _ => Completion::new(command.clone()),
        };
        let machine = exchange::machine(completion.command(), setting)?;
        Ok((machine, completion))
    }

    /// The command to be sent now.
    pub(crate) fn command(&self) -> Command<'_> {
        match self {
            Self::Power(machine) => machine.command(),
            Self::Negotiation(machine) => machine.command(),
            Self::Exchange(machine) => machine.command(),
            Self::T0Character(machine) => machine.command(),
            Self::T1(machine) => machine.command(),
            Self::Secure(machine) => machine.command(),
            Self::Simple(machine) => machine.command(),
        }
    }

    /// How long its answer may take before a time extension.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Power(machine) => machine.timeout(),
            Self::Negotiation(machine) => machine.timeout(),
            Self::Exchange(machine) => machine.timeout(),
            Self::T0Character(machine) => machine.timeout(),
            Self::T1(machine) => machine.timeout(),
            Self::Secure(machine) => machine.timeout(),
            Self::Simple(machine) => machine.timeout(),
        }
    }

    /// The final answer to `sent`: of the right type if it reports success.
    pub(crate) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        match self {
            Self::Power(machine) => machine.answer(sent, response),
            Self::Negotiation(machine) => machine.answer(sent, response),
            Self::Exchange(machine) => machine.answer(sent, response),
            Self::T0Character(machine) => machine.answer(sent, response),
            Self::T1(machine) => machine.answer(sent, response),
            Self::Secure(machine) => machine.answer(sent, response),
            Self::Simple(machine) => machine.answer(sent, response),
        }
    }

    /// Without a card it cannot go on.
    pub(crate) fn needs_card(&self) -> bool {
        match self {
            Self::Power(_)
            | Self::Negotiation(_)
            | Self::Exchange(_)
            | Self::T0Character(_)
            | Self::T1(_)
            | Self::Secure(_) => true,
            Self::Simple(machine) => machine.needs_card(),
        }
    }

    /// The state of T=1 with the card as this machine has it now; none if it does not speak T=1.
    pub(crate) fn t1(&self) -> Option<t1::Connection> {
        match self {
            Self::T1(machine) => Some(machine.connection()),
            Self::Secure(machine) => machine.t1(),
            _ => None,
        }
    }

    /// The same as it was before the machine's first command.
    pub(crate) fn t1_before(&self) -> Option<t1::Connection> {
        match self {
            Self::T1(machine) => Some(machine.connection_before()),
            Self::Secure(machine) => machine.t1_before(),
            _ => None,
        }
    }

    /// The card may have carried the command out twice.
    pub(crate) fn is_repeated(&self) -> bool {
        match self {
            Self::T1(machine) => machine.is_repeated(),
            _ => false,
        }
    }

    /// It exchanges data with the card, after which no PPS is possible.
    pub(crate) fn is_exchange(&self) -> bool {
        match self {
            Self::Exchange(_) | Self::T0Character(_) | Self::T1(_) | Self::Secure(_) => true,
            Self::Power(_) | Self::Negotiation(_) | Self::Simple(_) => false,
        }
    }

    /// The operation is a power-up: when it fails, the card has no power.
    pub(crate) fn is_power_up(&self) -> bool {
        matches!(self, Self::Power(_))
    }
}

/// The error behind a failed answer.
pub(crate) fn failure(sent: Sent, response: &Response<'_>) -> Option<Error> {
    let status = response.status();
    let error = status.slot_error()?;
    Some(match (status.icc, error) {
        (IccStatus::NotPresent, _) => Error::NoCard,
        (_, SlotError::IccMute) => Error::CardMute,
        (_, error) => Error::Failed { sent, error },
    })
}

/// An answer that the reader should not have given.
pub(crate) fn misbehaved(sent: Sent, breach: Breach) -> Step {
    Step::Done(Err(Error::Misbehaved { sent, breach }))
}
