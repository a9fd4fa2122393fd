//! What can go wrong with an operation, by who is to blame.

use crate::descriptor::ExchangeLevel;
use crate::wire::{Command, Seq, Slot, SlotError};
use core::fmt;

/// A command as errors name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sent {
    /// bMessageType.
    pub message_type: u8,
    /// bSlot.
    pub slot: Slot,
    /// bSeq.
    pub seq: Seq,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Command::name_of(self.message_type).unwrap_or("command");
        write!(f, "{name} ({}, {})", self.slot, self.seq)
    }
}

/// A rule of the protocol that a reader broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Breach {
    /// A successful answer of a type that does not answer the command.
    UnexpectedType {
        /// bMessageType of the answer.
        got: u8,
        /// bMessageType that answers the command.
        expected: u8,
    },
    /// Fields of the answer are not those of its type.
    Malformed(crate::wire::WireError),
    /// bmCommandStatus is the reserved 3.
    ReservedStatus,
    /// A successful RDR_to_PC_DataBlock ends an APDU and has no SW1 SW2.
    NoStatusWord,
    /// bChainParameter does not fit the place in the chain.
    BadChain(u8),
    /// A chained response is longer than any APDU.
    ResponseTooLong,
    /// A successful power-up without an ATR.
    NoAtr,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedType { got, expected } => {
                write!(f, "answered by message {got:02X}h instead of {expected:02X}h")
            }
            Self::Malformed(error) => write!(f, "malformed answer: {error}"),
            Self::ReservedStatus => f.write_str("bmCommandStatus is 3, which is reserved"),
            Self::NoStatusWord => f.write_str("success without SW1 SW2"),
            Self::BadChain(chain) => write!(f, "bChainParameter {chain:02X}h does not fit"),
            Self::ResponseTooLong => f.write_str("the chained response is longer than any APDU"),
            Self::NoAtr => f.write_str("powered up without an ATR"),
        }
    }
}

/// What a reader or this stack cannot do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsupported {
    /// Exchanges at this level with this protocol number.
    Level(ExchangeLevel, u8),
    /// The reader (dwProtocols) or the card (ATR) does not speak this protocol.
    Protocol(u8),
    /// The card would have to be switched to this protocol by PPS, which the reader leaves to the
    /// host.
    Pps(u8),
    /// The slot does not exist.
    Slot(Slot),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(level, protocol) => {
                write!(f, "T={protocol} on a reader of {level} level is not supported")
            }
            Self::Protocol(protocol) => write!(f, "reader or card does not speak T={protocol}"),
            Self::Pps(protocol) => {
                write!(f, "switching to T={protocol} by PPS of the host is not supported")
            }
            Self::Slot(slot) => write!(f, "the reader has no {slot}"),
        }
    }
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Cancelled by the caller: before it began, or by the CCID Abort sequence.
    Cancelled,
    /// No answer in time. The command was aborted.
    Timeout(Sent),
    /// No card, or it was taken out.
    NoCard,
    /// A card is there and does not answer.
    CardMute,
    /// The card is not powered.
    NotPowered,
    /// The reader reported that the command failed.
    Failed {
        /// The command.
        sent: Sent,
        /// bError.
        error: SlotError,
    },
    /// The reader broke a rule of the protocol.
    Misbehaved {
        /// The command.
        sent: Sent,
        /// The rule.
        breach: Breach,
    },
    /// The transfer of a command or an answer failed.
    Transfer,
    /// The reader no longer answers anything.
    Unresponsive,
    /// The reader is gone, or its driver has ended.
    Disconnected,
    /// Not possible with this reader, or not at all.
    Unsupported(Unsupported),
    /// The command does not fit into a message.
    TooLong {
        /// Bytes of the command.
        length: usize,
        /// Bytes that the reader takes.
        limit: usize,
    },
    /// Bytes that are no command APDU.
    InvalidCommand,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Timeout(sent) => write!(f, "{sent} was not answered in time"),
            Self::NoCard => f.write_str("no card"),
            Self::CardMute => f.write_str("the card does not answer"),
            Self::NotPowered => f.write_str("the card is not powered"),
            Self::Failed { sent, error } => write!(f, "{sent} failed: {error}"),
            Self::Misbehaved { sent, breach } => write!(f, "{sent}: reader misbehaved: {breach}"),
            Self::Transfer => f.write_str("transfer to or from the reader failed"),
            Self::Unresponsive => f.write_str("the reader does not answer any more"),
            Self::Disconnected => f.write_str("the reader is gone"),
            Self::Unsupported(what) => write!(f, "{what}"),
            Self::TooLong { length, limit } => {
                write!(f, "a command of {length} bytes; the reader takes {limit}")
            }
            Self::InvalidCommand => f.write_str("not a command APDU"),
        }
    }
}

impl core::error::Error for Error {}
