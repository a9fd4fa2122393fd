//! What is made of a class descriptor: a safe choice for everything that has to be decided, and a
//! name for everything that is odd. Descriptors in the field declare slots that are never busy, no
//! voltage, swapped bytes, a card clock of 250 kHz, messages of half a megabyte.

use super::{ClassDescriptor, ExchangeLevel, Features, ReaderProtocols, Voltages};
use crate::wire::{HEADER_LEN, MAX_DATA_LEN, PowerSelect};
use alloc::vec::Vec;
use core::fmt;

/// The clocks that cards run at, in kHz: ISO/IEC 7816-3 §5.2.3 starts at 1 MHz; the upper end is
/// what Fi = 2048 allows.
const CARD_CLOCKS: core::ops::RangeInclusive<u32> = 1000..=20_000;

/// A clock that every card bears, in kHz.
const USUAL_CLOCK: u32 = 4000;

/// The greatest IFSD (ISO/IEC 7816-3 §11.4.2).
const MAX_IFSD: u8 = 254;

/// The data of a T=0 command TPDU of a header and 48 bytes, which every descriptor seen can carry.
const LEAST_DATA: usize = 54;

/// dwMaxCCIDMessageLength for a short APDU.
const SHORT: u32 = 261 + HEADER_LEN as u32;

/// dwMaxCCIDMessageLength for the longest message there is use for.
const LONGEST: u32 = (MAX_DATA_LEN + HEADER_LEN) as u32;

/// Something in a class descriptor that is not as the specification has it, and what is done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Oddity {
    /// bDescriptorType is FFh, as before the number 21h was given.
    OldType,
    /// dwProtocols has bits other than T=0's and T=1's, which are left out.
    UnknownProtocols(u32),
    /// dwProtocols names neither T=0 nor T=1 where it should; the second byte does.
    SwappedProtocols(u32),
    /// dwProtocols names neither T=0 nor T=1: the card decides.
    NoProtocols(u32),
    /// bVoltageSupport names no voltage: the reader is left to choose.
    NoVoltage,
    /// bVoltageSupport has reserved bits, which are left out.
    UnknownVoltages(u8),
    /// bMaxCCIDBusySlots is 0: taken as 1.
    NoBusySlots,
    /// bMaxCCIDBusySlots is greater than the number of slots: all may be busy.
    TooManyBusySlots {
        /// As declared.
        declared: u8,
        /// Number of slots.
        slots: usize,
    },
    /// dwMaxIFSD is 0 on a reader that leaves T=1 blocks to the host: taken as 254.
    NoIfsd,
    /// dwMaxIFSD is greater than 254: taken as 254.
    TooGreatIfsd(u32),
    /// dwMaxCCIDMessageLength is too short for a short APDU or a T=1 block with its header.
    ShortMessages(u32),
    /// dwMaxCCIDMessageLength is greater than any message there is use for.
    LongMessages(u32),
    /// dwDefaultClock in kHz is none that a card runs at.
    Clock {
        /// As declared.
        declared: u32,
        /// The clock reckoned with instead: the one that dwDataRate is the default rate of, if
        /// that makes sense.
        taken: u32,
    },
    /// dwMaxDataRate in bit/s is less than the default rate at the default clock: only the default
    /// is used.
    SlowMaxRate(u32),
    /// dwFeatures names more than one exchange level: the highest is used.
    SeveralLevels,
    /// dwFeatures names an APDU level but no automatic parameter negotiation and no automatic PPS:
    /// the card stays at its first protocol and the default rate.
    ApduWithoutPps,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldType => f.write_str("bDescriptorType is FFh"),
            Self::UnknownProtocols(n) => {
                write!(f, "dwProtocols {n:08X}h has unknown bits: they are left out")
            }
            Self::SwappedProtocols(n) => {
                write!(f, "dwProtocols {n:08X}h is taken as byte-swapped")
            }
            Self::NoProtocols(n) => {
                write!(f, "dwProtocols {n:08X}h names neither T=0 nor T=1: the card decides")
            }
            Self::NoVoltage => {
                f.write_str("bVoltageSupport names no voltage: the reader is left to choose")
            }
            Self::UnknownVoltages(n) => {
                write!(f, "bVoltageSupport {n:02X}h has reserved bits: they are left out")
            }
            Self::NoBusySlots => f.write_str("bMaxCCIDBusySlots is 0: taken as 1"),
            Self::TooManyBusySlots { declared, slots } => {
                write!(f, "bMaxCCIDBusySlots is {declared} of {slots}: all slots may be busy")
            }
            Self::NoIfsd => write!(f, "dwMaxIFSD is 0: taken as {MAX_IFSD}"),
            Self::TooGreatIfsd(n) => write!(f, "dwMaxIFSD is {n}: taken as {MAX_IFSD}"),
            Self::ShortMessages(n) => {
                write!(f, "dwMaxCCIDMessageLength is {n}: longer commands are chained or refused")
            }
            Self::LongMessages(n) => write!(
                f,
                "dwMaxCCIDMessageLength is {n}: no more than {} is used",
                MAX_DATA_LEN + HEADER_LEN
            ),
            Self::Clock { declared, taken } => write!(
                f,
                "dwDefaultClock is {declared} kHz, which no card runs at: taken as {taken} kHz"
            ),
            Self::SlowMaxRate(n) => {
                write!(f, "dwMaxDataRate is {n} bit/s: cards stay at the default rate")
            }
            Self::SeveralLevels => {
                f.write_str("dwFeatures names several exchange levels: the highest is used")
            }
            Self::ApduWithoutPps => f.write_str(
                "an APDU level without automatic PPS: cards stay at their first protocol and the \
                 default rate",
            ),
        }
    }
}

/// What is made of a class descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choices {
    /// The exchange level.
    pub level: ExchangeLevel,
    /// The card protocols that are tried.
    pub protocols: ReaderProtocols,
    /// What a power-up tries, in order; never empty.
    pub voltages: Vec<PowerSelect>,
    /// Most data bytes of one message.
    pub chunk: usize,
    /// IFSD for T=1 in bytes, 1 to 254.
    pub ifsd: u8,
    /// Slots, 1 to 256.
    pub slots: usize,
    /// Slots that may be busy at once, 1 to all.
    pub busy_slots: usize,
    /// The card's clock in kHz.
    pub clock: u32,
    /// What is odd.
    pub oddities: Vec<Oddity>,
}

impl ClassDescriptor {
    /// What is made of the descriptor, where 5 V is to be tried first.
    pub fn choices(&self) -> Choices {
        Choices {
            level: self.exchange_level(),
            protocols: self.card_protocols(),
            voltages: self.power_selects(PowerSelect::V5),
            chunk: self.max_data(),
            ifsd: self.ifsd(),
            slots: self.slots(),
            busy_slots: self.busy_slots(),
            clock: self.clock(),
            oddities: self.oddities(),
        }
    }

    /// The card protocols of dwProtocols, made whole: T=0, T=1 or both.
    pub fn card_protocols(&self) -> ReaderProtocols {
        let both = ReaderProtocols::T0 | ReaderProtocols::T1;
        let swapped = ReaderProtocols::from_bits_retain(self.protocols.bits() >> 8);
        [self.protocols & both, swapped & both]
            .into_iter()
            .find(|protocols| !protocols.is_empty())
            .unwrap_or(both)
    }

    /// What a power-up tries, in order: the reader's own choice if it makes one or declares
    /// nothing; else `first`, if the reader has it, and then the others from the highest down.
    pub fn power_selects(&self, first: PowerSelect) -> Vec<PowerSelect> {
        if self.features.intersects(Features::AUTO_VOLTAGE | Features::AUTO_ACTIVATION) {
            return alloc::vec![PowerSelect::Automatic];
        }
        let mut selects: Vec<_> = [
            (Voltages::V5, PowerSelect::V5),
            (Voltages::V3, PowerSelect::V3),
            (Voltages::V1_8, PowerSelect::V1_8),
        ]
        .into_iter()
        .filter_map(|(bit, select)| self.voltage_support.contains(bit).then_some(select))
        .collect();
        if selects.is_empty() {
            return alloc::vec![PowerSelect::Automatic];
        }
        // Stable: the others keep their order.
        selects.sort_by_key(|select| *select != first);
        selects
    }

    /// IFSD for T=1 in bytes, 1 to 254: dwMaxIFSD, and 254 for what cannot be one.
    pub fn ifsd(&self) -> u8 {
        match u8::try_from(self.max_ifsd) {
            Ok(ifsd @ 1..=MAX_IFSD) => ifsd,
            _ => MAX_IFSD,
        }
    }

    /// The card's clock in kHz: dwDefaultClock; if no card runs at that, the clock of which
    /// dwDataRate is the default rate; else 4 MHz.
    pub fn clock(&self) -> u32 {
        let implied = self.data_rate.saturating_mul(372) / 1000;
        [self.default_clock, implied]
            .into_iter()
            .find(|clock| CARD_CLOCKS.contains(clock))
            .unwrap_or(USUAL_CLOCK)
    }

    /// What is odd about the descriptor.
    pub fn oddities(&self) -> Vec<Oddity> {
        let Self { default_clock, max_ifsd, max_ccid_message_length: message, features, .. } =
            *self;
        let (protocols, voltages) = (self.protocols.bits(), self.voltage_support.bits());
        let (busy, slots, level) = (self.max_ccid_busy_slots, self.slots(), self.exchange_level());
        let clock = self.clock();
        let apdu = matches!(level, ExchangeLevel::ShortApdu | ExchangeLevel::ExtendedApdu);
        // Who exchanges blocks needs one to fit, who exchanges short APDUs one of them.
        let short = message < SHORT && level != ExchangeLevel::Character;
        let negotiates = Features::AUTO_PARAMETER_NEGOTIATION | Features::AUTO_PPS;
        let default_rate = clock.saturating_mul(1000) / 372;
        [
            (self.descriptor_type == 0xFF, Oddity::OldType),
            (protocols & 3 != 0 && protocols & !3 != 0, Oddity::UnknownProtocols(protocols)),
            (protocols & 3 == 0 && protocols >> 8 & 3 != 0, Oddity::SwappedProtocols(protocols)),
            (protocols & 0x0303 == 0, Oddity::NoProtocols(protocols)),
            (voltages & 7 == 0, Oddity::NoVoltage),
            (voltages & !7 != 0, Oddity::UnknownVoltages(voltages)),
            (busy == 0, Oddity::NoBusySlots),
            (usize::from(busy) > slots, Oddity::TooManyBusySlots { declared: busy, slots }),
            (max_ifsd == 0 && !apdu, Oddity::NoIfsd),
            (max_ifsd > u32::from(MAX_IFSD), Oddity::TooGreatIfsd(max_ifsd)),
            (short, Oddity::ShortMessages(message)),
            (message > LONGEST, Oddity::LongMessages(message)),
            (clock != default_clock, Oddity::Clock { declared: default_clock, taken: clock }),
            // A tenth for rounding and for readers that state 9600 for whatever is near.
            (self.max_data_rate < default_rate / 10 * 9, Oddity::SlowMaxRate(self.max_data_rate)),
            ((features.bits() & 0x0007_0000).count_ones() > 1, Oddity::SeveralLevels),
            (apdu && !features.intersects(negotiates), Oddity::ApduWithoutPps),
        ]
        .into_iter()
        .filter_map(|(odd, oddity)| odd.then_some(oddity))
        .collect()
    }

    /// The most data bytes one message carries: dwMaxCCIDMessageLength less the header, held
    /// between what a GET RESPONSE needs and the longest APDU there is.
    pub fn max_data(&self) -> usize {
        let length = usize::try_from(self.max_ccid_message_length).unwrap_or(usize::MAX);
        length.saturating_sub(HEADER_LEN).clamp(LEAST_DATA, MAX_DATA_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ClassDescriptor {
        let mut bytes = [0u8; 54];
        bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
        let mut class = ClassDescriptor::parse(&bytes).unwrap();
        class.default_clock = 4000;
        class.data_rate = 10_752;
        class.max_data_rate = 344_086;
        class.max_ifsd = 254;
        class.features = Features::TPDU_LEVEL;
        class.max_ccid_message_length = 271;
        class.max_ccid_busy_slots = 1;
        class
    }

    #[test]
    fn a_plain_descriptor_has_no_oddities() {
        let choices = plain().choices();
        assert_eq!(choices.oddities, []);
        assert_eq!(choices.voltages, [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8]);
        assert_eq!((choices.ifsd, choices.chunk, choices.clock), (254, 261, 4000));
    }

    /// Each odd value seen in the field, what is made of it, and its name.
    #[test]
    fn odd_values_get_a_safe_choice_and_a_name() {
        let good = plain();
        let of = |class: ClassDescriptor| (class.choices().oddities, class.choices());
        let both = ReaderProtocols::T0 | ReaderProtocols::T1;
        for (declared, oddity, taken) in [
            (0x0002_0003, Oddity::UnknownProtocols(0x0002_0003), both),
            (0x0300, Oddity::SwappedProtocols(0x0300), both),
            (0x0100, Oddity::SwappedProtocols(0x0100), ReaderProtocols::T0),
            (0, Oddity::NoProtocols(0), both),
        ] {
            let protocols = ReaderProtocols::from_bits_retain(declared);
            let (oddities, choices) = of(ClassDescriptor { protocols, ..good });
            assert_eq!((oddities, choices.protocols), (alloc::vec![oddity], taken));
        }
        for (max_ifsd, oddity) in [(0, Oddity::NoIfsd), (256, Oddity::TooGreatIfsd(256))] {
            let (oddities, choices) = of(ClassDescriptor { max_ifsd, ..good });
            assert_eq!((oddities, choices.ifsd), (alloc::vec![oddity], 254));
        }
        for (max_ccid_busy_slots, oddity) in
            [(0, Oddity::NoBusySlots), (5, Oddity::TooManyBusySlots { declared: 5, slots: 1 })]
        {
            let (oddities, choices) = of(ClassDescriptor { max_ccid_busy_slots, ..good });
            assert_eq!((oddities, choices.busy_slots), (alloc::vec![oddity], 1));
        }
        for (length, oddity, chunk) in [
            (64, Oddity::ShortMessages(64), 54),
            (524_288, Oddity::LongMessages(524_288), MAX_DATA_LEN),
        ] {
            let class = ClassDescriptor { max_ccid_message_length: length, ..good };
            assert_eq!((of(class).0, class.max_data()), (alloc::vec![oddity], chunk));
        }
        for (default_clock, data_rate, taken) in
            [(250, 10_752, 3999), (1_024_000, 10_752, 3999), (0, 0, 4000)]
        {
            let (oddities, choices) = of(ClassDescriptor { default_clock, data_rate, ..good });
            let oddity = Oddity::Clock { declared: default_clock, taken };
            assert_eq!((oddities, choices.clock), (alloc::vec![oddity], taken));
        }
        let (oddities, choices) =
            of(ClassDescriptor { voltage_support: Voltages::empty(), ..good });
        assert_eq!(oddities, [Oddity::NoVoltage]);
        assert_eq!(choices.voltages, [PowerSelect::Automatic]);
    }

    #[test]
    fn the_first_voltage_can_be_chosen() {
        let class = plain();
        use PowerSelect::{Automatic, V1_8, V3, V5};
        assert_eq!(class.power_selects(V3), [V3, V5, V1_8]);
        assert_eq!(class.power_selects(V1_8), [V1_8, V5, V3]);
        let three = ClassDescriptor { voltage_support: Voltages::V3, ..class };
        assert_eq!(three.power_selects(V5), [V3]);
        for auto in [Features::AUTO_VOLTAGE, Features::AUTO_ACTIVATION] {
            let class = ClassDescriptor { features: class.features | auto, ..class };
            assert_eq!(class.power_selects(V5), [Automatic]);
        }
    }
}
