//! Transmission factors: Fi and Di as TA1 and PPS1 code them (ISO/IEC 7816-3 §8.3, tables 7 and 8).

use std::time::Duration;

/// Fi 372, Di 1: what holds after a reset.
pub const DEFAULT: u8 = 0x11;

/// F and D behind a byte coded as TA1; None: a code that is reserved.
pub const fn factors(fi_di: u8) -> Option<(u32, u32)> {
    let f = match fi_di >> 4 {
        0 | 1 => 372,
        2 => 558,
        3 => 744,
        4 => 1116,
        5 => 1488,
        6 => 1860,
        9 => 512,
        10 => 768,
        11 => 1024,
        12 => 1536,
        13 => 2048,
        _ => return None,
    };
    let d = match fi_di & 0x0F {
        1 => 1,
        2 => 2,
        3 => 4,
        4 => 8,
        5 => 16,
        6 => 32,
        7 => 64,
        8 => 12,
        9 => 20,
        _ => return None,
    };
    Some((f, d))
}

/// Bit/s at a clock in kHz; None: a code that is reserved.
pub fn bits_per_second(fi_di: u8, clock: u32) -> Option<u64> {
    let (f, d) = factors(fi_di)?;
    Some(u64::from(clock) * 1000 * u64::from(d) / u64::from(f))
}

/// Whether a card whose TA1 is `offered` agrees to `proposed`: F is its own or the default one, D is
/// a power of two up to its own, or its own (ISO/IEC 7816-3 §9.2 lets it choose from that range).
pub fn agrees(offered: u8, proposed: u8) -> bool {
    let (Some((_, most)), Some((_, d))) = (factors(offered), factors(proposed)) else {
        return false;
    };
    let f_code = proposed >> 4;
    proposed == offered
        || ((f_code == offered >> 4 || f_code == DEFAULT >> 4) && d.is_power_of_two() && d <= most)
}

/// The work waiting time of T=0 (ISO/IEC 7816-3 §10.2): `wi` is TC2, the clock is in kHz.
pub fn work_waiting_time(fi_di: u8, wi: u8, clock: u32) -> Duration {
    let (f, _) = factors(fi_di).unwrap_or((372, 1));
    let cycles = 960 * u64::from(wi.max(1)) * u64::from(f);
    Duration::from_micros(cycles * 1000 / u64::from(clock.max(1)))
}

/// The block waiting time of T=1 (ISO/IEC 7816-3 §11.4.3): `bwi_cwi` is TB3, the clock is in kHz.
pub fn block_waiting_time(fi_di: u8, bwi_cwi: u8, clock: u32) -> Duration {
    let (f, d) = factors(fi_di).unwrap_or((372, 1));
    let clock = u64::from(clock.max(1));
    // BWI above 9 is reserved.
    let waiting = (960 << (bwi_cwi >> 4).min(9)) * 372 * 1000 / clock;
    Duration::from_micros(11 * u64::from(f) * 1000 / (u64::from(d) * clock) + waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(bits_per_second(0x11, 4000), Some(10_752));
        assert_eq!(bits_per_second(0x95, 4000), Some(125_000));
        assert_eq!(bits_per_second(0x18, 4000), Some(129_032));
        assert_eq!(bits_per_second(0x70, 4000), None);
        assert_eq!(bits_per_second(0x1A, 4000), None);
    }

    #[test]
    fn a_card_agrees_up_to_its_own_rate() {
        for proposed in [0x95, 0x94, 0x91, 0x11, 0x15] {
            assert!(agrees(0x95, proposed), "{proposed:02X}");
        }
        for proposed in [0x96, 0x18, 0x85, 0x25, 0x16, 0x90] {
            assert!(!agrees(0x95, proposed), "{proposed:02X}");
        }
        assert!(agrees(0x18, 0x18));
    }

    #[test]
    fn waiting_times() {
        assert_eq!(work_waiting_time(0x11, 10, 4000), Duration::from_micros(892_800));
        // 11 etu of 93 microseconds, and 16 times 89.28 ms.
        assert_eq!(block_waiting_time(0x11, 0x45, 4000), Duration::from_micros(1_429_503));
        assert_eq!(block_waiting_time(0x11, 0xF5, 4000), block_waiting_time(0x11, 0x95, 4000));
    }
}
