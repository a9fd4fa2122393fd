//! What can go wrong with an operation, by who is to blame.

use crate::descriptor::ExchangeLevel;
use crate::t1::Failure;
use crate::wire::{Command, MechanicalFunction, Seq, Slot, SlotError};
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
    /// A successful answer to a PPS request that is no PPS response to it.
    BadPps,
    /// Success at character level, without a character.
    NoCharacter,
    /// More characters than asked for, behind the place where the card must stop.
    TooManyCharacters,
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
            Self::BadPps => f.write_str("no PPS response to the request"),
            Self::NoCharacter => f.write_str("success without a character"),
            Self::TooManyCharacters => f.write_str("more characters than asked for"),
        }
    }
}

/// A rule of T=0 or T=1 that a card broke, where the host speaks them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CardFault {
    /// T=1 has failed.
    T1(Failure),
    /// A response without SW1 SW2.
    NoStatusWord,
    /// T=0: not a procedure byte, or not one for this place.
    ProcedureByte(u8),
    /// T=0: NULL without end.
    TooManyNulls,
}

impl fmt::Display for CardFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::T1(failure) => write!(f, "T=1: {failure}"),
            Self::NoStatusWord => f.write_str("a response without SW1 SW2"),
            Self::ProcedureByte(byte) => write!(f, "T=0: {byte:02X}h is no procedure byte here"),
            Self::TooManyNulls => f.write_str("T=0: NULL without end"),
        }
    }
}

/// What a reader or this stack cannot do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsupported {
    /// The reader (dwProtocols) or the card (ATR) does not speak this protocol.
    Protocol(u8),
    /// The card would have to be switched to this protocol by PPS, which this reader neither does
    /// nor lets the host do.
    Pps(u8),
    /// The card's own rate, of which it does not let go: Fi and Di as in TA(1).
    Rate(u8),
    /// The card's own parameters, which it does not tell, TA(2), and of which it does not let go.
    ImplicitParameters(u8),
    /// PIN entry at this level with this protocol number.
    PinEntry(ExchangeLevel, u8),
    /// The reader has no use for the command of this bMessageType, by its class descriptor.
    Command(u8),
    /// The reader cannot do this with a card (dwMechanical).
    Mechanical(MechanicalFunction),
    /// The slot does not exist.
    Slot(Slot),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol) => write!(f, "reader or card does not speak T={protocol}"),
            Self::Pps(protocol) => {
                write!(f, "the reader cannot switch the card to T={protocol} (PPS)")
            }
            Self::Rate(ta1) => {
                write!(f, "the card insists on Fi and Di of {ta1:02X}h, which the reader has not")
            }
            Self::ImplicitParameters(ta2) => {
                write!(f, "the card insists on parameters that it does not tell (TA(2) {ta2:02X}h)")
            }
            Self::PinEntry(level, protocol) => {
                write!(f, "no PIN entry with T={protocol} on a reader of {level} level")
            }
            Self::Command(message_type) => {
                let name = Command::name_of(*message_type).unwrap_or("this command");
                write!(f, "the reader does not do {name}")
            }
            Self::Mechanical(function) => {
                write!(f, "the reader cannot do this with a card: {function:?}")
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
    /// The card broke a rule of its protocol.
    Card(CardFault),
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
            Self::Card(fault) => write!(f, "card misbehaved: {fault}"),
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
