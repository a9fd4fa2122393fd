//! What is known of particular readers: one table, applied once, when a reader is opened.
//!
//! The table is text, one row a line, in the built-in table (`quirk/table.txt`) as in a user's own
//! file, whose rows apply after the built-in ones:
//!
//! ```text
//! # A comment.
//! 08E6:3438 fw=0200 level=short open-escape=1F02   # evidence: where this is known from
//! ```
//!
//! A row is a device, `VID:PID` in hexadecimal with `*` for any product; perhaps `fw=`, the
//! bcdDevice it holds for, as one number or a range `0100-0515`, either end left out for an open
//! one; one effect or more; and behind `#` the evidence. All rows that fit a device apply, in
//! order; a later row wins over an earlier one.
//!
//! | effect | what it does |
//! |---|---|
//! | `forget` | all earlier rows for the device count for nothing |
//! | `level=L` | the exchange level is `character`, `tpdu`, `short` or `extended` |
//! | `short-is-extended` | a declared short APDU level is an extended one |
//! | `no-pin` | bPINSupport is 0 |
//! | `max-ifsd=N` | dwMaxIFSD, bytes |
//! | `max-data-rate=N` | dwMaxDataRate, bit/s |
//! | `slot-rates=N,N..` | the data rates of all slots but the first, bit/s |
//! | `auto-ifsd` | the reader does the IFSD exchange |
//! | `open-delay=MS` | nothing is sent for so many milliseconds after opening |
//! | `reader-time=MS` | any answer may take so many milliseconds, at least |
//! | `extra-time=MS` | added to the waiting time of every exchange: no time extensions are sent |
//! | `open-escape=HEX` | sent by PC_to_RDR_Escape to the first slot at opening; may stand twice |
//! | `allow-escape=HEX` | callers may send this escape command even where they may not send any; `..` stands for any one byte, `*` for any command; may stand twice |
//! | `pin-length=MIN-MAX` | the lengths of PIN that the reader takes |
//! | `pin-condition=HH` | bEntryValidationCondition, always |
//! | anything else | a [`Flags`] bit by its name, small, with `-` for `_` |

mod opening;
mod text;

pub(crate) use opening::Question;
pub use text::{TextError, TextErrorKind};

use crate::atr::{Atr, AtrInfo};
use crate::descriptor::{ClassDescriptor, ExchangeLevel, Features, PinSupport};
use alloc::string::String;
use alloc::vec::Vec;
use bitflags::bitflags;
use bytes::Bytes;
use core::ops::RangeInclusive;
use core::time::Duration;
use log::{info, warn};

bitflags! {
    /// Ways of a reader that need something done differently.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Flags: u32 {
        /// IccPowerOff comes before every IccPowerOn: there are no warm resets.
        const OFF_BEFORE_ON = 1 << 0;
        /// A power-up that fails with BBh is tried once more after escape 1F 01 (ISO mode).
        const ISO_MODE = 1 << 1;
        /// The host sends no PPS: cards stay at their first protocol and the default rate.
        const NO_PPS = 1 << 2;
        /// A SetParameters that fails even with the defaults counts as success.
        const ACCEPT_PARAMETERS = 1 << 3;
        /// Firmware with defects that the maker has fixed since: said in the log.
        const OLD_FIRMWARE = 1 << 4;
        /// Verification: bNumberMessage is 1.
        const PIN_VERIFY_ONE_MESSAGE = 1 << 5;
        /// Verification: bNumberMessage is 0.
        const PIN_VERIFY_NO_MESSAGE = 1 << 6;
        /// Verification: 250 ms before it, as the Enter key that started it is still down.
        const PIN_VERIFY_PAUSE = 1 << 7;
        /// Verification: the bytes of wPINMaxExtraDigit are swapped.
        const PIN_VERIFY_SWAPPED_DIGITS = 1 << 8;
        /// Verification: with bmPINBlockString 0 and an APDU of four bytes, escape 80 02 00 first.
        const PIN_VERIFY_ESCAPE = 1 << 9;
        /// Modification: all three message indexes are sent, whatever bNumberMessage.
        const PIN_MODIFY_THREE_INDEXES = 1 << 10;
        /// Modification: all three message indexes are sent as 0 and bNumberMessage as 0.
        const PIN_MODIFY_NO_MESSAGES = 1 << 11;
        /// Modification: bNumberMessage is 3.
        const PIN_MODIFY_THREE_MESSAGES = 1 << 12;
        /// Modification: bNumberMessage 0 is sent as FFh.
        const PIN_MODIFY_ZERO_IS_FF = 1 << 13;
        /// Escape 6A gives 21 bytes on display and PIN entry (Gemalto); old firmware has none.
        const PIN_FEATURE_BLOCK = 1 << 14;
        /// FEATURE_MCT_READER_DIRECT: secure PIN commands of the Secoder kind by escape.
        const MCT_READER_DIRECT = 1 << 15;
        /// Escape 02 gives the name of the firmware (Gemalto).
        const FIRMWARE_NAME = 1 << 16;
        /// Escape B2 A0 00 4D 4C loads the ten strings that the display shows (Gemalto).
        const PIN_STRINGS = 1 << 17;
        /// T=0 at character level: data whose message would fill its last packet are read in two.
        const SPLIT_FULL_PACKETS = 1 << 18;
    }
}

/// How a reader is to be treated, besides what its class descriptor says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Behaviour {
    /// Its ways.
    pub flags: Flags,
    /// Nothing is sent for so long after opening.
    pub open_delay: Duration,
    /// Any answer may take so long, at least.
    pub reader_time: Duration,
    /// Added to the waiting time of every exchange.
    pub extra_time: Duration,
    /// Data of escape commands for the first slot at opening.
    pub open_escapes: Vec<Bytes>,
    /// Data rates in bit/s of all slots but the first; none: as the first.
    pub slot_rates: Option<Vec<u32>>,
    /// The lengths of PIN that the reader takes.
    pub pin_length: Option<RangeInclusive<u8>>,
    /// bEntryValidationCondition, always.
    pub pin_condition: Option<u8>,
    /// The bits of bEntryValidationCondition that the reader has told it knows.
    pub pin_conditions: Option<u8>,
    /// The name of its firmware, as it has told.
    pub firmware_name: Option<Bytes>,
    /// Escape commands that any caller may send.
    pub allowed_escapes: Vec<EscapePattern>,
}

impl Behaviour {
    /// Whether any caller may send this escape command: it is known to do no harm.
    pub fn allows_escape(&self, data: &[u8]) -> bool {
        self.allowed_escapes.iter().any(|pattern| pattern.fits(data))
    }
}

/// Escape commands of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EscapePattern {
    /// All.
    Any,
    /// These bytes; none: any byte in its place.
    Bytes(Vec<Option<u8>>),
}

impl EscapePattern {
    fn fits(&self, data: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Bytes(bytes) => {
                let fits =
                    |(known, byte): (&Option<u8>, &u8)| known.is_none_or(|known| known == *byte);
                bytes.len() == data.len() && bytes.iter().zip(data).all(fits)
            }
        }
    }
}

/// What a row does.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Effect {
    Forget,
    Level(ExchangeLevel),
    ShortIsExtended,
    NoPin,
    MaxIfsd(u32),
    MaxDataRate(u32),
    SlotRates(Vec<u32>),
    AutoIfsd,
    OpenDelay(Duration),
    ReaderTime(Duration),
    ExtraTime(Duration),
    OpenEscape(Bytes),
    AllowEscape(EscapePattern),
    PinLength(RangeInclusive<u8>),
    PinCondition(u8),
    Flag(Flags),
}

/// One row: which readers, and what about them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    vendor: u16,
    /// None: any.
    product: Option<u16>,
    firmware: RangeInclusive<u16>,
    effects: Vec<Effect>,
    evidence: String,
}

/// What a reader is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// bcdDevice.
    pub firmware: u16,
}

/// A reader as it is to be treated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adjusted {
    /// The class descriptor, corrected.
    pub class: ClassDescriptor,
    /// All else.
    pub behaviour: Behaviour,
}

/// The table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table(Vec<Row>);

impl Table {
    /// The built-in rows.
    pub fn built_in() -> Self {
        let (rows, errors) = text::parse(include_str!("quirk/table.txt"));
        for error in errors {
            warn!("built-in quirk table: {error}");
        }
        Self(rows)
    }

    /// Adds the rows of a user's text, to apply after those that are there. A line with an error is
    /// left out as a whole; the others count.
    pub fn extend(&mut self, text: &str) -> Vec<TextError> {
        let (rows, errors) = text::parse(text);
        self.0.extend(rows);
        errors
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are no rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The readers of which one row or more speaks by idVendor and idProduct, with what the first
    /// calls them.
    pub fn products(&self) -> impl Iterator<Item = (u16, u16, &str)> {
        let mut told = Vec::new();
        self.0.iter().filter_map(move |row| {
            let ids = (row.vendor, row.product?);
            if told.contains(&ids) {
                return None;
            }
            told.push(ids);
            let name = row.evidence.split(':').next().unwrap_or_default();
            Some((ids.0, ids.1, name.trim()))
        })
    }

    /// The reader `identity` with the class descriptor `class`, as it is to be treated. Every row
    /// that applies is told in the log.
    pub fn apply(&self, identity: Identity, class: &ClassDescriptor) -> Adjusted {
        let Identity { vendor, product, firmware } = identity;
        let mut adjusted = Adjusted { class: *class, behaviour: Behaviour::default() };
        for row in &self.0 {
            if row.vendor != vendor
                || row.product.is_some_and(|p| p != product)
                || !row.firmware.contains(&firmware)
            {
                continue;
            }
            info!("{vendor:04X}:{product:04X} fw={firmware:04X}: {}", row.evidence);
            for effect in &row.effects {
                if *effect == Effect::Forget {
                    adjusted = Adjusted { class: *class, behaviour: Behaviour::default() };
                } else {
                    effect.apply(&mut adjusted);
                }
            }
        }
        if adjusted.behaviour.flags.contains(Flags::OLD_FIRMWARE) {
            warn!(
                "{vendor:04X}:{product:04X}: firmware {firmware:04X} is known to be defective: \
                 ask the maker for a newer one"
            );
        }
        adjusted
    }
}

impl Default for Table {
    /// The built-in rows.
    fn default() -> Self {
        Self::built_in()
    }
}

impl Effect {
    fn apply(&self, adjusted: &mut Adjusted) {
        let Adjusted { class, behaviour } = adjusted;
        match self {
            Self::Forget => {}
            Self::Level(level) => set_level(class, *level),
            Self::ShortIsExtended => {
                if class.exchange_level() == ExchangeLevel::ShortApdu {
                    set_level(class, ExchangeLevel::ExtendedApdu);
                }
            }
            Self::NoPin => class.pin_support = PinSupport::empty(),
            Self::MaxIfsd(ifsd) => class.max_ifsd = *ifsd,
            Self::MaxDataRate(rate) => class.max_data_rate = *rate,
            Self::SlotRates(rates) => behaviour.slot_rates = Some(rates.clone()),
            Self::AutoIfsd => class.features |= Features::AUTO_IFSD,
            Self::OpenDelay(time) => behaviour.open_delay = *time,
            Self::ReaderTime(time) => behaviour.reader_time = *time,
            Self::ExtraTime(time) => behaviour.extra_time = *time,
            Self::OpenEscape(data) => behaviour.open_escapes.push(data.clone()),
            Self::AllowEscape(pattern) => behaviour.allowed_escapes.push(pattern.clone()),
            Self::PinLength(range) => behaviour.pin_length = Some(range.clone()),
            Self::PinCondition(condition) => behaviour.pin_condition = Some(*condition),
            Self::Flag(flag) => behaviour.flags |= *flag,
        }
    }
}

fn set_level(class: &mut ClassDescriptor, level: ExchangeLevel) {
    let all = Features::TPDU_LEVEL | Features::SHORT_APDU_LEVEL | Features::EXTENDED_APDU_LEVEL;
    class.features.remove(all);
    class.features.insert(match level {
        ExchangeLevel::Character => Features::empty(),
        ExchangeLevel::Tpdu => Features::TPDU_LEVEL,
        ExchangeLevel::ShortApdu => Features::SHORT_APDU_LEVEL,
        ExchangeLevel::ExtendedApdu => Features::EXTENDED_APDU_LEVEL,
    });
}

/// The OpenPGP card 1.x says in its ATR that it answers within BWI 4, and does not.
const OPENPGP_1: [u8; 20] = [
    0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0, 0x01, 0x00,
    0x00, 0x90, 0x00, 0xB1,
];

/// Corrects what a card is known to say wrongly of itself.
pub fn correct_card(atr: &Atr, info: &mut AtrInfo) {
    if atr.as_bytes() == OPENPGP_1 {
        if let Some(round) = info.interface.get_mut(2) {
            round.tb = Some(0x75);
        }
    }
}

#[cfg(test)]
mod tests;
