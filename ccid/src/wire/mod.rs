//! CCID messages on the wire (CCID 1.1 §6).
//!
//! A [`Message`] is a borrowed view of one bulk message with its header fields read; [`Command`]
//! and [`Response`] are the plain values behind the two directions, each with `parse` and `emit`;
//! [`Notification`] is what the interrupt pipe carries, [`ClassRequest`] what the control pipe
//! carries. The contract of the whole layer: parsing never panics, on any bytes; emitting never
//! fails for a value whose data is shorter than 2^32 bytes, and truncates nothing.

mod command;
mod control;
mod dissect;
mod notify;
mod response;
mod status;

pub use command::{ClockCommand, Command, LevelParameter, MechanicalFunction, PowerSelect};
pub use control::{ClassRequest, SetupPacket};
pub use dissect::{Dissected, dissect};
pub use notify::{Notification, SlotChange};
pub use response::{ChainParameter, ClockStatus, Response};
pub use status::{CommandStatus, IccStatus, SlotError, Status};

use bytes::{BufMut, Bytes, BytesMut};
use core::fmt;

/// Length in bytes of the header that every bulk message starts with (CCID 1.1 §6.1, §6.2).
pub const HEADER_LEN: usize = 10;

/// The largest APDU or block that any message carries: an extended APDU (CCID 1.1 §5.1,
/// dwMaxCCIDMessageLength).
pub const MAX_DATA_LEN: usize = 65_544;

/// A slot's number (bSlot). Which slots exist, the class descriptor says (bMaxSlotIndex).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot(pub u8);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// A message's sequence number (bSeq): a response carries that of its command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seq(pub u8);

impl Seq {
    /// The number after this one; 255 is followed by 0.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

/// Why bytes are not a message of the kind asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than a header has (interrupt messages: than their kind needs).
    TooShort {
        /// Bytes that were there.
        got: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// dwLength says more than what came.
    Truncated {
        /// Data bytes that were there.
        got: usize,
        /// dwLength.
        length: u32,
    },
    /// The message type is none of this direction.
    UnknownType(u8),
    /// The fields after the header are not those of the message type.
    BadField {
        /// The message type.
        message_type: u8,
        /// The field's name in the specification.
        field: &'static str,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { got, needed } => {
                write!(f, "{got} bytes where a message needs at least {needed}")
            }
            Self::Truncated { got, length } => {
                write!(f, "dwLength is {length}, but {got} bytes follow the header")
            }
            Self::UnknownType(t) => write!(f, "unknown message type {t:02X}h"),
            Self::BadField { message_type, field } => {
                write!(f, "message {message_type:02X}h: bad {field}")
            }
        }
    }
}

impl core::error::Error for WireError {}

/// One bulk message, borrowed, its header read. Layout (CCID 1.1 §6.1):
/// bMessageType 0, dwLength 1..5 (little-endian), bSlot 5, bSeq 6, three bytes that depend on the
/// type 7..10, data from 10.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// bMessageType, offset 0.
    pub message_type: u8,
    /// bSlot, offset 5.
    pub slot: Slot,
    /// bSeq, offset 6.
    pub seq: Seq,
    /// The three message-specific header bytes, offset 7.
    pub specific: [u8; 3],
    /// dwLength bytes from offset 10.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the header of `bytes`. What stands behind dwLength is left out.
    ///
    /// # Errors
    /// [`WireError::TooShort`] below 10 bytes, [`WireError::Truncated`] if dwLength says more.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::TooShort { got: bytes.len(), needed: HEADER_LEN });
        };
        let [message_type, l0, l1, l2, l3, slot, seq, s0, s1, s2] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let data = usize::try_from(length)
            .ok()
            .and_then(|n| rest.get(..n))
            .ok_or(WireError::Truncated { got: rest.len(), length })?;
        let (slot, seq) = (Slot(slot), Seq(seq));
        Ok(Self { message_type, slot, seq, specific: [s0, s1, s2], data })
    }

    /// dwLength of a message whose first bytes are `bytes`, if they hold it.
    pub fn length_of(bytes: &[u8]) -> Option<u32> {
        let [_, l0, l1, l2, l3, ..] = *bytes.first_chunk::<HEADER_LEN>()?;
        Some(u32::from_le_bytes([l0, l1, l2, l3]))
    }

    /// The message's bytes.
    pub fn emit(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN.saturating_add(self.data.len()));
        out.put_u8(self.message_type);
        // usize is at most 64 bits and data that long cannot exist in memory.
        out.put_u32_le(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        out.put_u8(self.slot.0);
        out.put_u8(self.seq.0);
        out.put_slice(&self.specific);
        out.put_slice(self.data);
        out.freeze()
    }
}

/// A C-like enum over a byte, total in both directions: what is not named is `Unknown`.
macro_rules! code_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        $vis enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A value that the specification does not name.
            Unknown(u8),
        }

        impl From<u8> for $name {
            fn from(value: u8) -> Self {
                match value {
                    $($value => Self::$variant,)+
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> u8 {
                match value {
                    $($name::$variant => $value,)+
                    $name::Unknown(other) => other,
                }
            }
        }
    };
}
use code_enum;
