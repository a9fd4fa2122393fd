//! A card as its contacts show it, character by character (ISO/IEC 7816-3 §7 to §11): what a reader
//! meets that leaves the protocol, or the characters, to the host.

use super::{Pace, Protocol};
use bytes::Bytes;
use std::fmt;

/// A card whose characters can be exchanged one by one. [`LineCard`](super::LineCard) is one around
/// any [`Card`](super::Card).
pub trait Contacts: Send {
    /// Fi and Di at which it sends and hears now, coded as TA1: those of a reset, of a specific mode,
    /// or of the last PPS exchange.
    fn fi_di(&self) -> u8;

    /// The protocol that it speaks now.
    fn protocol(&self) -> Protocol;

    /// Nothing has been exchanged since the reset: a PPS request may come.
    fn is_fresh(&self) -> bool;

    /// Characters from the reader, at the rate of [`fi_di`](Self::fi_di); none: the reader goes on
    /// listening, which has a meaning after a signal with `more`.
    fn hear(&mut self, characters: &[u8]) -> Signal;
}

/// What a card does with its I/O contact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// When it sends. One of [`Pace::After`], [`Pace::Never`] and [`Pace::Mute`].
    pub pace: Pace,
    /// The characters.
    pub characters: Bytes,
    /// One of them arrives with the wrong parity.
    pub parity_error: bool,
    /// It goes on by itself after these: they were NULL bytes of T=0.
    pub more: bool,
    /// They are S(WTX request) of T=1, with this multiplier.
    pub extension: Option<u8>,
    /// What the host has done wrong.
    pub misuse: Option<Misuse>,
}

impl Signal {
    /// Characters at once.
    pub fn at_once(characters: impl Into<Bytes>) -> Self {
        Self { pace: Pace::AT_ONCE, characters: characters.into(), ..Self::mute() }
    }

    /// Silence.
    pub const fn mute() -> Self {
        Self {
            pace: Pace::Mute,
            characters: Bytes::new(),
            parity_error: false,
            more: false,
            extension: None,
            misuse: None,
        }
    }
}

/// What a host has done wrong with the characters that it sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Misuse {
    /// A PPS request is FFh, PPS0, what it announces, and the right PCK, for a protocol that the
    /// card offers (ISO/IEC 7816-3 §9.2).
    Pps,
    /// A block's epilogue is right (§11.3.4).
    BlockCheck,
    /// LEN is the length of the information field, not FFh, and fits the kind of block (§11.3.2).
    BlockLength,
    /// The information field is no longer than IFSC (§11.4.2).
    BlockTooLong,
    /// N(S) of an I-block is the one expected (§11.6.2).
    BlockSequence,
    /// NAD is a pair of different addresses, or 00h (§11.3.2.1).
    Nad,
    /// PCB is one of the standard, and one that a host may send (§11.3.2.2).
    Pcb,
    /// The block that was due: the answer to the card's S-block before anything else, no I-block in
    /// the middle of the card's chain (§11.6.3).
    UnexpectedBlock,
    /// An S(response) has the information field of the request (§11.6.3.2).
    Response,
    /// S(IFS request) asks for 1 to 254 bytes (§11.4.2).
    IfsValue,
    /// What I-blocks bring is an APDU, of four bytes at least.
    NoApdu,
    /// INS of T=0 is neither 6Xh nor 9Xh (§10.3.2).
    Instruction,
    /// In T=0 the host sends what the procedure byte asks for, and nothing else (§10.3.3).
    UnexpectedCharacters,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pps => "bad PPS request",
            Self::BlockCheck => "block with a wrong LRC or CRC",
            Self::BlockLength => "block with a wrong LEN",
            Self::BlockTooLong => "block longer than IFSC",
            Self::BlockSequence => "I-block with a wrong N(S)",
            Self::Nad => "block with a bad NAD",
            Self::Pcb => "block with a bad PCB",
            Self::UnexpectedBlock => "a block that was not due",
            Self::Response => "S(response) that is not the request's",
            Self::IfsValue => "S(IFS request) for 0 or 255 bytes",
            Self::NoApdu => "I-blocks without an APDU",
            Self::Instruction => "INS 6Xh or 9Xh",
            Self::UnexpectedCharacters => "characters that no procedure byte has asked for",
        })
    }
}
