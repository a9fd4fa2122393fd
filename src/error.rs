//! PC/SC's return codes.

use ccid::wire::SlotError;
use std::fmt;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $constant:literal;)+) => {
        /// Why a call failed: PC/SC's codes, named as in the `pcsc` crate.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum Error {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Error {
            /// PC/SC's name of the code, as in winscard.h.
            pub const fn constant(self) -> &'static str {
                match self {
                    $(Self::$name => $constant,)+
                }
            }

            const fn description(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

errors! {
    /// Internal error
    InternalError = 0x8010_0001, "SCARD_F_INTERNAL_ERROR";
    /// Cancelled
    Cancelled = 0x8010_0002, "SCARD_E_CANCELLED";
    /// The handle or context is not valid
    InvalidHandle = 0x8010_0003, "SCARD_E_INVALID_HANDLE";
    /// A parameter is not valid
    InvalidParameter = 0x8010_0004, "SCARD_E_INVALID_PARAMETER";
    /// The buffer is too small
    InsufficientBuffer = 0x8010_0008, "SCARD_E_INSUFFICIENT_BUFFER";
    /// There is no reader of this name
    UnknownReader = 0x8010_0009, "SCARD_E_UNKNOWN_READER";
    /// It took too long
    Timeout = 0x8010_000A, "SCARD_E_TIMEOUT";
    /// The card is in use by others, in a way that excludes this
    SharingViolation = 0x8010_000B, "SCARD_E_SHARING_VIOLATION";
    /// There is no card in the reader
    NoSmartcard = 0x8010_000C, "SCARD_E_NO_SMARTCARD";
    /// Card or reader do not speak a protocol that was asked for
    ProtoMismatch = 0x8010_000F, "SCARD_E_PROTO_MISMATCH";
    /// A value is not one of those allowed
    InvalidValue = 0x8010_0011, "SCARD_E_INVALID_VALUE";
    /// Communication with the reader failed
    CommError = 0x8010_0013, "SCARD_F_COMM_ERROR";
    /// The exchange with the card failed, or there is no transaction to end
    NotTransacted = 0x8010_0016, "SCARD_E_NOT_TRANSACTED";
    /// The reader is not, or no longer, available
    ReaderUnavailable = 0x8010_0017, "SCARD_E_READER_UNAVAILABLE";
    /// The stack is being shut down
    ServiceStopped = 0x8010_001E, "SCARD_E_SERVICE_STOPPED";
    /// Not supported
    UnsupportedFeature = 0x8010_001F, "SCARD_E_UNSUPPORTED_FEATURE";
    /// There is no reader
    NoReadersAvailable = 0x8010_002E, "SCARD_E_NO_READERS_AVAILABLE";
    /// The card does not answer
    UnresponsiveCard = 0x8010_0066, "SCARD_W_UNRESPONSIVE_CARD";
    /// The card has no power
    UnpoweredCard = 0x8010_0067, "SCARD_W_UNPOWERED_CARD";
    /// The card was reset: what was agreed with it no longer holds
    ResetCard = 0x8010_0068, "SCARD_W_RESET_CARD";
    /// The card was taken out
    RemovedCard = 0x8010_0069, "SCARD_W_REMOVED_CARD";
}

impl Error {
    /// The code.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The code of a failed exchange with a card.
    pub(crate) fn of_exchange(error: &ccid::Error) -> Self {
        use ccid::Error as E;
        match error {
            E::Cancelled => Self::Cancelled,
            E::Timeout(_) => Self::Timeout,
            E::NoCard => Self::NoSmartcard,
            E::NotPowered => Self::UnpoweredCard,
            E::CardMute | E::Card(_) | E::Failed { .. } => Self::NotTransacted,
            E::Misbehaved { .. } | E::Transfer => Self::CommError,
            E::Unresponsive | E::Disconnected => Self::ReaderUnavailable,
            E::Unsupported(_) => Self::UnsupportedFeature,
            E::TooLong { .. } | E::InvalidCommand => Self::InvalidParameter,
            _ => Self::InternalError,
        }
    }

    /// The code of a failed power-up.
    pub(crate) fn of_power_up(error: &ccid::Error) -> Self {
        match error {
            // The reader is still at a command that it would not let go of.
            ccid::Error::Failed { error: SlotError::CmdSlotBusy, .. } => Self::ReaderUnavailable,
            ccid::Error::CardMute | ccid::Error::Failed { .. } => Self::UnresponsiveCard,
            other => Self::of_exchange(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

impl std::error::Error for Error {}
