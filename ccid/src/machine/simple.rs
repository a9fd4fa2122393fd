//! Operations of one command.

use super::{READER_TIME, Setting, Step, failure, misbehaved};
use crate::error::{Breach, Error, Sent};
use crate::operation::{Operation, Output};
use crate::wire::{Command, IccStatus, LevelParameter, Response};
use bytes::{BufMut, Bytes, BytesMut};
use core::time::Duration;

/// What an escape command may take: as long as libccid gives it.
const ESCAPE_TIME: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) enum Simple {
    PowerOff,
    Status,
    GetParameters,
    ResetParameters,
    SetRates { clock_frequency: u32, data_rate: u32 },
    Escape { data: Bytes },
    Secure { data: Bytes, timeout: Duration },
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
            Operation::Secure { data, timeout } => {
                fits(data)?;
                if !setting.powered {
                    return Err(Err(Error::NotPowered));
                }
                Self::Secure { data: data.clone(), timeout: *timeout }
            }
            // These have machines of their own.
            Operation::PowerOn(_) | Operation::SetProtocol(_) | Operation::Exchange(_) => {
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
            Self::Secure { data, .. } => {
                Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data }
            }
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Escape { .. } => ESCAPE_TIME,
            Self::Secure { timeout, .. } => *timeout,
            _ => READER_TIME,
        }
    }

    pub(super) fn needs_card(&self) -> bool {
        matches!(self, Self::Secure { .. })
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
            (Self::PowerOff, None) => Step::Done(Ok(Output::Done)),
            (Self::SetRates { .. }, None) => match *response {
                Response::DataRateAndClockFrequency { clock_frequency, data_rate, .. } => {
                    Step::Done(Ok(Output::Rates { clock_frequency, data_rate }))
                }
                _ => self.unexpected(sent, response),
            },
            (
                Self::GetParameters
                | Self::ResetParameters
                | Self::Escape { .. }
                | Self::Secure { .. },
                None,
            ) => match output(response) {
                Some(data) => Step::Done(Ok(Output::Data(data))),
                None => self.unexpected(sent, response),
            },
        }
    }

    fn unexpected(&self, sent: Sent, response: &Response<'_>) -> Step {
        let (got, expected) = (response.message_type(), self.command().answered_by());
        misbehaved(sent, Breach::UnexpectedType { got, expected })
    }
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
