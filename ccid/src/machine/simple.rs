//! Operations of one command.

use super::{READER_TIME, Setting, Step, failure, misbehaved};
use crate::descriptor::{ExchangeLevel, Features, Mechanical};
use crate::error::{Breach, Error, Sent, Unsupported};
use crate::operation::{Operation, Output};
use crate::wire::{ClockCommand, Command, IccStatus, MechanicalFunction, Response};
use bytes::{BufMut, Bytes, BytesMut};
use core::time::Duration;

/// What an escape command may take: as long as libccid gives it.
const ESCAPE_TIME: Duration = Duration::from_secs(30);

/// What a card may take to come in or go out: a user may have to hand it over.
const MECHANICAL_TIME: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) enum Simple {
    PowerOff,
    Status,
    GetParameters,
    ResetParameters,
    SetRates { clock_frequency: u32, data_rate: u32 },
    Escape { data: Bytes },
    IccClock(ClockCommand),
    T0Apdu { get_response: Option<u8>, envelope: Option<u8> },
    Mechanical(MechanicalFunction),
}

impl Simple {
    pub(super) fn new(
        operation: &Operation,
        setting: &Setting<'_>,
    ) -> Result<Self, Result<Output, Error>> {
        let limit = setting.class.max_data();
        let fits = |data: &Bytes| {
            let length = data.len();
            if length > limit { Err(Err(Error::TooLong { length, limit })) } else { Ok(()) }
        };
        Ok(match operation {
            Operation::PowerOff => Self::PowerOff,
            Operation::Status => Self::Status,
            Operation::GetParameters => Self::GetParameters,
            Operation::ResetParameters => Self::ResetParameters,
            Operation::SetRates { clock_frequency, data_rate } => {
                Self::SetRates { clock_frequency: *clock_frequency, data_rate: *data_rate }
            }
            Operation::Escape(data) => {
                fits(data)?;
                Self::Escape { data: data.clone() }
            }
            Operation::IccClock(command) => {
                Self::IccClock(clock_command(*command, setting).map_err(Err)?)
            }
            Operation::T0Apdu { get_response, envelope } => {
                makes_t0_commands(setting).map_err(Err)?;
                Self::T0Apdu { get_response: *get_response, envelope: *envelope }
            }
            Operation::Mechanical(function) => {
                Self::Mechanical(mechanical(*function, setting).map_err(Err)?)
            }
            // These have machines of their own.
            Operation::PowerOn(_)
            | Operation::SetProtocol(_)
            | Operation::Exchange(_)
            | Operation::ExchangeComplete(_)
            | Operation::Secure { .. } => {
                return Err(Err(Error::InvalidCommand));
            }
        })
    }

    pub(super) fn command(&self) -> Command<'_> {
        match self {
            Self::PowerOff => Command::IccPowerOff,
            Self::Status => Command::GetSlotStatus,
            Self::GetParameters => Command::GetParameters,
            Self::ResetParameters => Command::ResetParameters,
            Self::SetRates { clock_frequency, data_rate } => {
                let (clock_frequency, data_rate) = (*clock_frequency, *data_rate);
                Command::SetDataRateAndClockFrequency { clock_frequency, data_rate }
            }
            Self::Escape { data } => Command::Escape { data },
            Self::IccClock(clock_command) => Command::IccClock { clock_command: *clock_command },
            Self::T0Apdu { get_response, envelope } => Command::T0Apdu {
                changes: u8::from(get_response.is_some()) | u8::from(envelope.is_some()) << 1,
                class_get_response: get_response.unwrap_or(0),
                class_envelope: envelope.unwrap_or(0),
            },
            Self::Mechanical(function) => Command::Mechanical { function: *function },
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Escape { .. } => ESCAPE_TIME,
            Self::Mechanical(_) => MECHANICAL_TIME,
            _ => READER_TIME,
        }
    }

    pub(super) fn needs_card(&self) -> bool {
        matches!(self, Self::IccClock(_))
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        let icc = response.status().icc;
        match (&*self, failure(sent, response)) {
            // Readers in the field report failure just because there is no card.
            (Self::Status, Some(Error::NoCard)) => {
                Step::Done(Ok(Output::Status(IccStatus::NotPresent)))
            }
            (Self::PowerOff, Some(Error::NoCard)) => Step::Done(Ok(Output::Done)),
            (_, Some(error)) => Step::Done(Err(error)),
            (Self::Status, None) => Step::Done(Ok(Output::Status(icc))),
            (Self::PowerOff | Self::T0Apdu { .. } | Self::Mechanical(_), None) => {
                Step::Done(Ok(Output::Done))
            }
            (Self::IccClock(_), None) => match *response {
                Response::SlotStatus { clock_status, .. } => {
                    Step::Done(Ok(Output::Clock(clock_status)))
                }
                _ => self.unexpected(sent, response),
            },
            (Self::SetRates { .. }, None) => match *response {
                Response::DataRateAndClockFrequency { clock_frequency, data_rate, .. } => {
                    Step::Done(Ok(Output::Rates { clock_frequency, data_rate }))
                }
                _ => self.unexpected(sent, response),
            },
            (Self::GetParameters | Self::ResetParameters | Self::Escape { .. }, None) => {
                match output(response) {
                    Some(data) => Step::Done(Ok(Output::Data(data))),
                    None => self.unexpected(sent, response),
                }
            }
        }
    }

    fn unexpected(&self, sent: Sent, response: &Response<'_>) -> Step {
        let (got, expected) = (response.message_type(), self.command().answered_by());
        misbehaved(sent, Breach::UnexpectedType { got, expected })
    }
}

/// The clock command if the reader can stop the clock and there is one to be stopped.
fn clock_command(command: ClockCommand, setting: &Setting<'_>) -> Result<ClockCommand, Error> {
    let known = matches!(command, ClockCommand::Restart | ClockCommand::Stop);
    if !known || !setting.class.features.contains(Features::CLOCK_STOP) {
        return Err(unsupported(&Command::IccClock { clock_command: command }));
    }
    if setting.powered { Ok(command) } else { Err(Error::NotPowered) }
}

/// Whether the reader makes GET RESPONSE and ENVELOPE commands itself: below APDU level it does
/// not.
fn makes_t0_commands(setting: &Setting<'_>) -> Result<(), Error> {
    match setting.class.exchange_level() {
        ExchangeLevel::ShortApdu | ExchangeLevel::ExtendedApdu => Ok(()),
        ExchangeLevel::Character | ExchangeLevel::Tpdu => Err(unsupported(&Command::T0Apdu {
            changes: 0,
            class_get_response: 0,
            class_envelope: 0,
        })),
    }
}

/// The function if dwMechanical has it.
fn mechanical(
    function: MechanicalFunction,
    setting: &Setting<'_>,
) -> Result<MechanicalFunction, Error> {
    let needed = match function {
        MechanicalFunction::Accept => Mechanical::ACCEPT,
        MechanicalFunction::Eject => Mechanical::EJECT,
        MechanicalFunction::Capture => Mechanical::CAPTURE,
        MechanicalFunction::Lock | MechanicalFunction::Unlock => Mechanical::LOCK,
        MechanicalFunction::Unknown(_) => {
            return Err(Error::Unsupported(Unsupported::Mechanical(function)));
        }
    };
    if setting.class.mechanical.contains(needed) {
        Ok(function)
    } else {
        Err(Error::Unsupported(Unsupported::Mechanical(function)))
    }
}

fn unsupported(command: &Command<'_>) -> Error {
    Error::Unsupported(Unsupported::Command(command.message_type()))
}

/// The data that a successful answer gives the caller.
fn output(response: &Response<'_>) -> Option<Bytes> {
    match *response {
        Response::DataBlock { data, .. } | Response::Escape { data, .. } => {
            Some(Bytes::copy_from_slice(data))
        }
        Response::Parameters { protocol_num, data, .. } => {
            let mut out = BytesMut::with_capacity(1 + data.len());
            out.put_u8(protocol_num);
            out.put_slice(data);
            Some(out.freeze())
        }
        Response::SlotStatus { .. } | Response::DataRateAndClockFrequency { .. } => None,
    }
}
