//! How fast reader and card may talk: Fi, Di and the data rates that follow (ISO/IEC 7816-3 §7,
//! §8.3; CCID 1.1 §5.1 dwDefaultClock, dwMaxDataRate).

use crate::atr::{baud_rate_adjustment, clock_rate_conversion};
use core::fmt;

/// Data rates this far apart, in bit/s, are the same one: readers round each in their own way.
const TOLERANCE: u32 = 2;

/// The codes of Di, by their value, the greatest first (ISO/IEC 7816-3 table 8).
const DI_DESCENDING: [u8; 9] = [7, 6, 9, 5, 8, 4, 3, 2, 1];

/// Fi and Di, coded as in TA(1), PPS1 and bmFindexDindex: Fi in the high nibble, Di in the low.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FiDi(pub u8);

impl FiDi {
    /// 11h: 372 and 1, with which every card starts that is not in specific mode.
    pub const DEFAULT: Self = Self(0x11);

    /// The clock rate conversion integer; none if the code is reserved.
    pub const fn f(self) -> Option<u32> {
        clock_rate_conversion(self.0 >> 4)
    }

    /// The baud rate adjustment integer; none if the code is reserved.
    pub const fn d(self) -> Option<u32> {
        baud_rate_adjustment(self.0 & 0x0F)
    }

    /// The data rate in bit/s at a clock of `clock` kHz; none if a code is reserved.
    pub fn rate(self, clock: u32) -> Option<u32> {
        let (f, d) = (u64::from(self.f()?), u64::from(self.d()?));
        u32::try_from(u64::from(clock) * 1000 * d / f).ok()
    }
}

impl fmt::Display for FiDi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}h", self.0)
    }
}

/// The data rates a slot can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speeds<'a> {
    /// The card's clock in kHz.
    pub clock: u32,
    /// dwMaxDataRate in bit/s.
    pub max: u32,
    /// The rates that the reader has, in bit/s; empty: all up to the greatest.
    pub table: &'a [u32],
}

impl Speeds<'_> {
    /// Whether the reader can do `fi_di`. It can always do the default: it has read the ATR.
    pub fn takes(&self, fi_di: FiDi) -> bool {
        if fi_di == FiDi::DEFAULT {
            return true;
        }
        let Some(rate) = fi_di.rate(self.clock) else {
            return false;
        };
        rate <= self.max.saturating_add(TOLERANCE)
            && (self.table.is_empty() || self.table.iter().any(|r| r.abs_diff(rate) <= TOLERANCE))
    }

    /// The fastest that a card offering `offered` by TA(1) and the reader can both do: its Fi, and
    /// its Di or a smaller one (ISO/IEC 7816-3 §9.2); the default if that is no slower.
    pub fn best(&self, offered: FiDi) -> FiDi {
        let (Some(_), Some(most)) = (offered.f(), offered.d()) else {
            return FiDi::DEFAULT;
        };
        let slowest = FiDi::DEFAULT.rate(self.clock);
        DI_DESCENDING
            .into_iter()
            .filter(|code| baud_rate_adjustment(*code).is_some_and(|d| d <= most))
            .map(|code| FiDi(offered.0 & 0xF0 | code))
            .find(|fi_di| fi_di.rate(self.clock) > slowest && self.takes(*fi_di))
            .unwrap_or(FiDi::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speeds<'a>(max: u32, table: &'a [u32]) -> Speeds<'a> {
        Speeds { clock: 4000, max, table }
    }

    #[test]
    fn rates_are_those_of_the_formula() {
        assert_eq!(FiDi::DEFAULT.rate(4000), Some(10_752));
        assert_eq!(FiDi(0x95).rate(4000), Some(125_000));
        assert_eq!(FiDi(0x97).rate(4000), Some(500_000));
        assert_eq!(FiDi(0x70).rate(4000), None);
        assert_eq!(FiDi(0x97).rate(u32::MAX), None, "more than a rate can be");
    }

    #[test]
    fn never_faster_than_both_can() {
        for (ta1, max, table, best) in [
            (0x95, 344_086, &[][..], 0x95),
            (0x97, 344_086, &[], 0x96),
            // The card's maximum, however much the reader could do.
            (0x94, 1_000_000, &[], 0x94),
            (0x95, 124_999, &[], 0x95),
            (0x95, 124_997, &[], 0x98),
            (0x95, 115_200, &[], 0x98),
            (0x95, 344_086, &[62_500, 10_753], 0x94),
            (0x95, 344_086, &[125_001], 0x95),
            (0x95, 344_086, &[9600], 0x11),
            (0x18, 9600, &[], 0x11),
            // A reserved code tells nothing.
            (0x70, 344_086, &[], 0x11),
            (0x1F, 344_086, &[], 0x11),
            // Slower than the default: not worth it.
            (0x21, 344_086, &[], 0x11),
            (0x11, 0, &[], 0x11),
        ] {
            let best = FiDi(best);
            assert_eq!(speeds(max, table).best(FiDi(ta1)), best, "{ta1:02X} {max} {table:?}");
            assert!(speeds(max, table).takes(best));
        }
    }
}
