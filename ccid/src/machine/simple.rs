//! Operations of one command.

use super::{READER_TIME, Setting, Step, failure, misbehaved};
use crate::atr::Protocol;
use crate::descriptor::Features;
use crate::error::{Breach, Error, Sent, Unsupported};
use crate::operation::{Operation, Output};
use crate::parameters::protocol_data;
use crate::wire::{Command, IccStatus, LevelParameter, Response, SlotError};
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
    SetParameters { protocol: Protocol, data: Bytes },
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
            Operation::SetProtocol(protocol) => return set_protocol(*protocol, setting),
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
            Operation::PowerOn(_) | Operation::Exchange(_) => {
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
            Self::SetParameters { protocol, data } => {
                Command::SetParameters { protocol_num: protocol.number(), data }
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
        matches!(self, Self::Secure { .. } | Self::SetParameters { .. })
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        let icc = response.status().icc;
        match (&*self, failure(sent, response)) {
            // Readers in the field report failure just because there is no card.
            (Self::Status, Some(Error::NoCard)) => {
                Step::Done(Ok(Output::Status(IccStatus::NotPresent)))
            }
            (Self::PowerOff, Some(Error::NoCard)) => Step::Done(Ok(Output::Done)),
            // A reader that sets parameters itself need not know the command.
            (
                Self::SetParameters { .. },
                Some(Error::Failed { error: SlotError::CmdNotSupported, .. }),
            ) => Step::Done(Ok(Output::Done)),
            (_, Some(error)) => Step::Done(Err(error)),
            (Self::Status, None) => Step::Done(Ok(Output::Status(icc))),
            (Self::PowerOff | Self::SetParameters { .. }, None) => Step::Done(Ok(Output::Done)),
            (
                Self::GetParameters
                | Self::ResetParameters
                | Self::Escape { .. }
                | Self::Secure { .. },
                None,
            ) => match output(response) {
                Some(data) => Step::Done(Ok(Output::Data(data))),
                None => misbehaved(
                    sent,
                    Breach::UnexpectedType {
                        got: response.message_type(),
                        expected: self.command().answered_by(),
                    },
                ),
            },
        }
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

/// What it takes to make reader and card speak `protocol`.
fn set_protocol(
    protocol: Protocol,
    setting: &Setting<'_>,
) -> Result<Simple, Result<Output, Error>> {
    let unsupported = |what| Err(Err(Error::Unsupported(what)));
    if !setting.powered {
        return Err(Err(Error::NotPowered));
    }
    let class = setting.class;
    if let Err(what) = class.can_speak(protocol) {
        return unsupported(what);
    }
    let Some(atr) = setting.atr else {
        // Nothing is known of the card; the reader has taken its ATR, so it may know better.
        return Err(Ok(Output::Done));
    };
    if !atr.protocols().any(|offered| offered == protocol) {
        return unsupported(Unsupported::Protocol(protocol.number()));
    }
    if class.features.contains(Features::AUTO_PARAMETER_NEGOTIATION) {
        return Err(Ok(Output::Done));
    }
    if !class.features.contains(Features::AUTO_PPS) && atr.default_protocol() != Some(protocol) {
        return unsupported(Unsupported::Pps(protocol.number()));
    }
    Ok(Simple::SetParameters { protocol, data: protocol_data(atr, protocol) })
}
