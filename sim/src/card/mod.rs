//! Smart cards: the device side of ISO/IEC 7816-3, one command at a time.
//!
//! A [`Card`] is reset, gives its ATR, and reacts to commands; when it does so is part of the
//! [`Reaction`]. Time itself is the reader's.

pub mod apdu;
pub mod atr;
mod contacts;
mod file_card;
mod files;
mod instructions;
mod line_card;
pub mod rate;
mod response;
mod t0;
mod t1;

pub use contacts::{Contacts, Misuse, Signal};
pub use file_card::{APPLICATION, FileCard};
pub use files::FileSystem;
pub(crate) use line_card::TAKES_DATA;
pub use line_card::{LineCard, PpsBehaviour};
pub use t0::Acknowledge;
pub use t1::{Fault, Faults};
pub(crate) use t1::{ifs_request, t1_block};

use bytes::Bytes;
use ccid::descriptor::Voltages;
use std::time::Duration;

/// A transmission protocol (ISO/IEC 7816-3 §10, §11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// T=0.
    T0,
    /// T=1.
    T1,
}

impl Protocol {
    /// The number behind "T=".
    pub const fn number(self) -> u8 {
        match self {
            Self::T0 => 0,
            Self::T1 => 1,
        }
    }

    /// The protocol of that number, if it is one of the two.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::T0),
            1 => Some(Self::T1),
            _ => None,
        }
    }
}

/// How a card is reset (ISO/IEC 7816-3 §6.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reset {
    /// It has just been given power.
    Cold,
    /// It had power already.
    Warm,
}

/// How a card passes the time until it answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pace {
    /// Works for so long, within its waiting time, and answers.
    After(Duration),
    /// Asks for more time `periods` times, once a `period`, and answers one `period` later: what
    /// T=0 does with NULL bytes and T=1 with S(WTX request).
    Extend {
        /// How often it asks.
        periods: u32,
        /// How long each time.
        period: Duration,
        /// By how much the waiting time is multiplied (INF of S(WTX request)).
        multiplier: u8,
    },
    /// Asks for more time for ever.
    ExtendForEver {
        /// How often it asks.
        period: Duration,
        /// By how much the waiting time is multiplied.
        multiplier: u8,
    },
    /// Never answers, and the reader waits on: what a reader does that keeps no waiting time.
    Never,
    /// Falls silent; the reader gives up when the waiting time is over.
    Mute,
}

impl Pace {
    /// Answers at once.
    pub const AT_ONCE: Self = Self::After(Duration::ZERO);
}

/// What a card does about a reset or a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// When it answers.
    pub pace: Pace,
    /// What it answers. With [`Pace::Never`] and [`Pace::Mute`] this does not leave the card.
    pub response: Bytes,
}

impl Reaction {
    /// Answers `response` at once.
    pub fn at_once(response: impl Into<Bytes>) -> Self {
        Self { pace: Pace::AT_ONCE, response: response.into() }
    }

    /// Says nothing until the reader gives up.
    pub const fn mute() -> Self {
        Self { pace: Pace::Mute, response: Bytes::new() }
    }
}

/// A card as the contacts of a reader meet it.
pub trait Card: Send {
    /// Power and reset. The response is the ATR; a mute card has none. What was selected,
    /// negotiated and verified is forgotten.
    fn reset(&mut self, reset: Reset) -> Reaction;

    /// Power is taken away.
    fn power_off(&mut self) {}

    /// One command. A PPS request, if it begins with FFh and is the first after a reset; else, in
    /// T=0, a command TPDU (five bytes of header, and P3 bytes of data if they go to the card); in
    /// T=1, the APDU that the blocks carry. The response is the PPS response, or data and SW.
    fn process(&mut self, command: &[u8]) -> Reaction;

    /// The reader has stopped listening before the card had answered.
    fn interrupted(&mut self, pace: Pace) {
        let _ = pace;
    }

    /// The voltages the card works at; with any other it is mute.
    fn voltages(&self) -> Voltages {
        Voltages::V5 | Voltages::V3 | Voltages::V1_8
    }

    /// At APDU level it takes whole APDUs, though its ATR says T=0: it is no card but stands for one,
    /// and what would make TPDUs of them is on its side.
    fn takes_apdus(&self) -> bool {
        false
    }

    /// The card as its contacts show it, character by character. None: it knows commands only; a
    /// reader that deals in characters or blocks puts it into a [`LineCard`].
    fn contacts(&mut self) -> Option<&mut dyn Contacts> {
        None
    }
}

impl<C: Card + ?Sized> Card for Box<C> {
    fn reset(&mut self, reset: Reset) -> Reaction {
        (**self).reset(reset)
    }

    fn power_off(&mut self) {
        (**self).power_off();
    }

    fn process(&mut self, command: &[u8]) -> Reaction {
        (**self).process(command)
    }

    fn interrupted(&mut self, pace: Pace) {
        (**self).interrupted(pace);
    }

    fn voltages(&self) -> Voltages {
        (**self).voltages()
    }

    fn takes_apdus(&self) -> bool {
        (**self).takes_apdus()
    }

    fn contacts(&mut self) -> Option<&mut dyn Contacts> {
        (**self).contacts()
    }
}
