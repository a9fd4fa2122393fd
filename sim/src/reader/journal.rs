//! What a simulated reader has seen, and which rules the host has broken.

use crate::card::Misuse;
use bytes::Bytes;
use ccid::wire::{ClassRequest, SetupPacket, WireError, dissect};
use ccid::{Instant, Seq, Slot};
use std::collections::VecDeque;
use std::fmt;

/// So many entries are kept; older ones go.
const KEPT: usize = 10_000;

/// Something the reader has seen or done.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// The slot that it concerns, if it concerns one.
    pub slot: Option<Slot>,
    /// What.
    pub what: Event,
}

/// What the reader has seen or done.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was reset.
    Reset,
    /// A request on the control pipe.
    Setup(SetupPacket),
    /// A PC_to_RDR message came.
    Command(Bytes),
    /// A RDR_to_PC message was put on bulk-IN.
    Response(Bytes),
    /// A message was fetched from the interrupt pipe.
    Notification(Bytes),
    /// A card was inserted.
    Inserted,
    /// The card was removed.
    Removed,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("reset"),
            Self::Setup(setup) => write!(f, "> {}", describe_request(setup)),
            Self::Command(bytes) => write!(f, "> {}", dissect(bytes)),
            Self::Response(bytes) => write!(f, "< {}", dissect(bytes)),
            Self::Notification(bytes) => write!(f, "! {}", dissect(bytes)),
            Self::Inserted => f.write_str("card inserted"),
            Self::Removed => f.write_str("card removed"),
        }
    }
}

/// As [`Display`](fmt::Display): bytes may hold a PIN, which is not shown.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A control request in a line.
pub fn describe_request(setup: &SetupPacket) -> String {
    match ClassRequest::parse(setup) {
        Ok(ClassRequest::Abort { slot, seq }) => format!("ABORT request {slot} {seq}"),
        Ok(ClassRequest::GetClockFrequencies { .. }) => "GET_CLOCK_FREQUENCIES request".into(),
        Ok(ClassRequest::GetDataRates { .. }) => "GET_DATA_RATES request".into(),
        _ => match iccd_request(setup) {
            Some(name) => format!("{name} request"),
            None => format!("request {:02X?}", setup.to_bytes()),
        },
    }
}

/// The class requests of ICCD devices, which have nothing but the control pipe.
fn iccd_request(setup: &SetupPacket) -> Option<&'static str> {
    Some(match (setup.request_type, setup.request) {
        (0x21 | 0xA1, 0x62) => "ICC_POWER_ON",
        (0x21, 0x63) => "ICC_POWER_OFF",
        (0x21, 0x65) => "XFR_BLOCK",
        (0xA1, 0x6F) => "DATA_BLOCK",
        (0xA1, 0x81) => "SLOT_STATUS",
        (0xA1, 0xA0) => "GET_ICC_STATUS",
        _ => return None,
    })
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s ", self.at.since_epoch().as_secs_f64())?;
        match (&self.what, self.slot) {
            (Event::Inserted | Event::Removed, Some(slot)) => write!(f, "{slot}: {}", self.what),
            (what, _) => what.fmt(f),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule that the host has broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// The slot of the message that broke it, if it had one.
    pub slot: Option<Slot>,
    /// bSeq of that message.
    pub seq: Option<Seq>,
    /// The rule.
    pub rule: Rule,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s ", self.at.since_epoch().as_secs_f64())?;
        if let Some(slot) = self.slot {
            write!(f, "{slot} ")?;
        }
        if let Some(seq) = self.seq {
            write!(f, "{seq} ")?;
        }
        self.rule.fmt(f)
    }
}

/// What a host must not do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// A message that is none.
    Malformed(Malformed),
    /// Reserved bytes are zero.
    ReservedBytes,
    /// A message of a type that has no data carries none.
    UnexpectedData,
    /// Nothing stands behind dwLength.
    BytesBehindMessage(usize),
    /// A message is no longer than dwMaxCCIDMessageLength.
    MessageTooLong,
    /// bSlot is a slot of the reader.
    UnknownSlot,
    /// One command at a time to a slot.
    SlotBusy,
    /// No more slots are busy than bMaxCCIDBusySlots.
    TooManyBusySlots,
    /// Consecutive messages have different sequence numbers.
    SeqRepeated,
    /// The message after an Abort has another sequence number than it.
    SeqOfAbortReused,
    /// A command that is running on another slot has the same sequence number.
    SeqInUse,
    /// A PC_to_RDR_Abort has the sequence number of the class request before it, and the other
    /// way round.
    AbortSeqMismatch,
    /// The Abort sequence has not the sequence number of the command that it aborts.
    AbortWithSeqOfCommand,
    /// Between class request and PC_to_RDR_Abort nothing is sent to the slot.
    CommandWhileAborting,
    /// A class request is made of the CCID interface, by its number.
    WrongInterface,
    /// A request that is none of CCID's.
    UnknownRequest,
    /// wLevelParameter is one that the exchange level has, and follows the chain's order.
    LevelParameter,
    /// Parameters, PIN operation or APDU are not laid out as they must be.
    BadContent,
    /// The card is spoken to at the Fi and Di that it speaks at: those of its reset, or those of the
    /// PPS exchange, which the reader has to be told.
    RateNeverAgreed,
    /// The card is spoken to by the protocol that it speaks: that of its ATR, or of the PPS exchange.
    ProtocolNeverAgreed,
    /// Fi and Di are no reserved codes, and their rate is not above dwMaxDataRate.
    RateOfReader,
    /// bBWI is the multiplier of the card's last S(WTX request) if it is being answered, else 0 or 1.
    BlockWaitingTime,
    /// bTeoPrologue of a PIN entry is that of an I-block that is not chained, where the host speaks T=1.
    PrologueOfPin,
    /// S(IFS request) asks for no more than dwMaxIFSD.
    IfsdOfReader,
    /// What went to the card was wrong.
    Contacts(Misuse),
    /// ICCD: wValue is what the request says.
    RequestValue,
    /// ICCD: the card is powered before a command is sent.
    NotPowered,
    /// ICCD: DATA_BLOCK is asked for when something can be fetched.
    NothingToFetch,
    /// ICCD: wLength is as much as there is to be fetched.
    FetchedTooLittle,
    /// ICCD version B: the host waits as long as it has been told before it asks again.
    PolledTooEarly,
}

/// [`WireError`] in short, as it can be compared and hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Malformed {
    /// No PC_to_RDR message.
    Type(u8),
    /// A field that does not fit the type.
    Field(&'static str),
    /// Too short for a message.
    Length,
}

impl From<WireError> for Malformed {
    fn from(error: WireError) -> Self {
        match error {
            WireError::UnknownType(message_type) => Self::Type(message_type),
            WireError::BadField { field, .. } => Self::Field(field),
            _ => Self::Length,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed(Malformed::Type(message_type)) => {
                return write!(f, "unknown message type {message_type:02X}h");
            }
            Self::Malformed(Malformed::Field(field)) => return write!(f, "bad {field}"),
            Self::BytesBehindMessage(bytes) => {
                return write!(f, "{bytes} bytes behind the end of a message");
            }
            Self::Malformed(Malformed::Length) => "no message",
            Self::ReservedBytes => "reserved bytes are not zero",
            Self::UnexpectedData => "data in a message that has none",
            Self::MessageTooLong => "message longer than dwMaxCCIDMessageLength",
            Self::UnknownSlot => "no such slot",
            Self::SlotBusy => "a second command to a slot that is busy",
            Self::TooManyBusySlots => "more slots busy than bMaxCCIDBusySlots",
            Self::SeqRepeated => "bSeq of the message before",
            Self::SeqOfAbortReused => "bSeq of the Abort before",
            Self::SeqInUse => "bSeq of a command that is running",
            Self::AbortSeqMismatch => "bSeq differs between ABORT request and PC_to_RDR_Abort",
            Self::AbortWithSeqOfCommand => "Abort with the bSeq of the command to be aborted",
            Self::CommandWhileAborting => "command between ABORT request and PC_to_RDR_Abort",
            Self::WrongInterface => "wIndex is not the interface",
            Self::UnknownRequest => "unknown class request",
            Self::LevelParameter => "bad wLevelParameter",
            Self::BadContent => "bad content",
            Self::RateNeverAgreed => "Fi and Di are not those that the card speaks at",
            Self::ProtocolNeverAgreed => "the protocol is not the one that the card speaks",
            Self::RateOfReader => "Fi and Di that the reader cannot do",
            Self::BlockWaitingTime => "bBWI is not what the card has asked for",
            Self::PrologueOfPin => "bTeoPrologue of no unchained I-block",
            Self::IfsdOfReader => "S(IFS request) for more than dwMaxIFSD",
            Self::Contacts(misuse) => return misuse.fmt(f),
            Self::RequestValue => "bad wValue",
            Self::NotPowered => "a command to a card without power",
            Self::NothingToFetch => "DATA_BLOCK when there is nothing to be fetched",
            Self::FetchedTooLittle => "wLength is less than there is to be fetched",
            Self::PolledTooEarly => "DATA_BLOCK before the polling delay is over",
        };
        f.write_str(text)
    }
}

/// The log and the list of violations.
#[derive(Default, Debug)]
pub(crate) struct Journal {
    seen: VecDeque<Seen>,
    violations: VecDeque<Violation>,
}

impl Journal {
    pub(crate) fn note(&mut self, at: Instant, slot: Option<Slot>, what: Event) {
        push(&mut self.seen, Seen { at, slot, what });
    }

    pub(crate) fn violation(&mut self, at: Instant, who: Option<(Slot, Seq)>, rule: Rule) {
        let (slot, seq) = who.unzip();
        push(&mut self.violations, Violation { at, slot, seq, rule });
    }

    pub(crate) fn seen(&mut self) -> &[Seen] {
        self.seen.make_contiguous()
    }

    pub(crate) fn violations(&mut self) -> &[Violation] {
        self.violations.make_contiguous()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn push<T>(list: &mut VecDeque<T>, entry: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest() {
        let mut journal = Journal::default();
        for millis in 0..=KEPT as u64 {
            journal.note(Instant::from_millis(millis), None, Event::Reset);
        }
        assert_eq!(journal.seen().len(), KEPT);
        assert_eq!(journal.seen()[0].at, Instant::from_millis(1));
    }

    #[test]
    fn no_pin_is_shown() {
        let secure = [0x69, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0x31, 0x32, 0x33, 0x34];
        let seen = Seen {
            at: Instant::from_millis(1500),
            slot: Some(Slot(0)),
            what: Event::Command(Bytes::copy_from_slice(&secure)),
        };
        assert_eq!(format!("{seen:?}"), "1.500 s > Secure slot 0 seq 1 (4 bytes, not shown)");
    }

    #[test]
    fn requests_are_named() {
        let setup = SetupPacket::from_bytes([0x21, 1, 2, 0x35, 0, 0, 0, 0]);
        assert_eq!(describe_request(&setup), "ABORT request slot 2 seq 53");
        let setup = SetupPacket::from_bytes([0x21, 0x65, 0, 0, 0, 0, 5, 0]);
        assert_eq!(describe_request(&setup), "XFR_BLOCK request");
        let setup = SetupPacket::from_bytes([0x80, 6, 0, 1, 0, 0, 18, 0]);
        assert_eq!(describe_request(&setup), "request [80, 06, 00, 01, 00, 00, 12, 00]");
    }
}
