//! RESPONSECODE: what IFD handler functions return, and what failures are in these terms.

use ccid::Error;
use std::ffi::c_long;

/// What a function says (ifdhandler.h). What pcscd makes of it differs by function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub(crate) enum Code {
    /// IFD_SUCCESS; of presence: a card is there.
    Success = 0,
    /// IFD_ERROR_TAG: no such attribute.
    Tag = 600,
    /// IFD_ERROR_PTS_FAILURE: card and reader did not agree.
    PtsFailure = 605,
    /// IFD_ERROR_NOT_SUPPORTED: the control code.
    NotSupported = 606,
    /// IFD_PROTOCOL_NOT_SUPPORTED: pcscd may try the other one.
    ProtocolNotSupported = 607,
    /// IFD_ERROR_POWER_ACTION: the card does not answer to reset.
    PowerAction = 608,
    /// IFD_COMMUNICATION_ERROR: anything else.
    Communication = 612,
    /// IFD_RESPONSE_TIMEOUT.
    Timeout = 613,
    /// IFD_ICC_NOT_PRESENT.
    NoCard = 616,
    /// IFD_NO_SUCH_DEVICE: the reader is gone, or none of ours.
    NoSuchDevice = 617,
    /// IFD_ERROR_INSUFFICIENT_BUFFER.
    InsufficientBuffer = 618,
}

impl Code {
    /// The number.
    pub(crate) const fn number(self) -> c_long {
        self as i16 as c_long
    }
}

impl From<&Error> for Code {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCard => Self::NoCard,
            Error::Disconnected | Error::Unresponsive => Self::NoSuchDevice,
            Error::Timeout(_) => Self::Timeout,
            _ => Self::Communication,
        }
    }
}

/// Why a protocol could not be set.
pub(crate) fn of_protocol(error: &Error) -> Code {
    match error {
        Error::Unsupported(_) => Code::ProtocolNotSupported,
        Error::Failed { .. } | Error::Misbehaved { .. } => Code::PtsFailure,
        other => other.into(),
    }
}

/// Why a card could not be powered up.
pub(crate) fn of_power(error: &Error) -> Code {
    match error {
        Error::NoCard | Error::Disconnected | Error::Unresponsive => error.into(),
        _ => Code::PowerAction,
    }
}
