//! How long an exchange may take (ISO/IEC 7816-3 §10.2, §11.4.3).
//!
//! The reader watches the card's own waiting times; the host's guards against a reader that does
//! not answer at all, and must never cut off a card that keeps the rules. Two cases:
//!
//! * At character and TPDU level a command is one TPDU, and what one TPDU may take at worst is
//!   known: every character waited for as long as allowed.
//! * At the APDU levels that worst case is minutes to hours and means nothing: the reader asks for
//!   time extensions when the card does. What it may be silent for is the transmission of the
//!   whole command and response at the rate in force, and what the card may think at the turns.

use super::FiDi;
use crate::atr::{AtrInfo, Protocol};
use crate::descriptor::{ClassDescriptor, ExchangeLevel};
use core::time::Duration;

/// No exchange is given less.
const LEAST: Duration = Duration::from_secs(3);

/// The slowest a reserved code of Fi can mean.
const MOST_F: u32 = 2048;

/// A card's times on a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardTimes {
    /// The elementary time unit in nanoseconds.
    etu: u64,
    /// The card's clock in kHz.
    clock: u64,
    /// Extra guard time in etu.
    guard: u64,
    wi: u64,
    /// Fi as the card offers it, which WWT goes by.
    fi: u64,
    bwi: u8,
    cwi: u8,
}

impl CardTimes {
    /// The times of the card with `atr` when `fi_di` is in force; none if that is not known, as
    /// the reader has negotiated by itself: then the card's own or the default, whichever is
    /// slower.
    pub fn new(class: &ClassDescriptor, atr: &AtrInfo, fi_di: Option<FiDi>) -> Self {
        let clock = u64::from(class.clock());
        let etu_of = |fi_di: FiDi| {
            let (f, d) = (fi_di.f().unwrap_or(MOST_F), fi_di.d().unwrap_or(1));
            u64::from(f) * 1_000_000 / u64::from(d) / clock
        };
        let offered = FiDi(atr.ta1());
        let etu = match fi_di {
            Some(fi_di) => etu_of(fi_di),
            None => etu_of(offered).max(etu_of(FiDi::DEFAULT)),
        };
        let t1 = atr.t1_parameters();
        Self {
            etu,
            clock,
            guard: u64::from(atr.extra_guard_time() % 255),
            wi: u64::from(atr.waiting_integer()),
            fi: u64::from(offered.f().unwrap_or(MOST_F)),
            bwi: t1.bwi,
            cwi: t1.cwi,
        }
    }

    /// One character with its guard time.
    pub fn character(&self) -> Duration {
        Duration::from_nanos(self.etu * (12 + self.guard))
    }

    /// T=0's waiting time WT, formerly the work waiting time: 960 WI Fi/f.
    pub fn work_waiting(&self) -> Duration {
        Duration::from_nanos(960 * self.wi * self.fi * 1_000_000 / self.clock)
    }

    /// T=1's block waiting time: 11 etu and 2^BWI · 960 · 372/f.
    pub fn block_waiting(&self) -> Duration {
        let turn = (960u64 << self.bwi.min(9)) * 372 * 1_000_000 / self.clock;
        Duration::from_nanos(11 * self.etu + turn)
    }

    /// T=1's character waiting time: 11 + 2^CWI etu.
    pub fn character_waiting(&self) -> Duration {
        Duration::from_nanos((11 + (1u64 << self.cwi.min(15))) * self.etu)
    }
}

/// How long the exchange of the command APDU or TPDU `command` may keep still before reader or
/// card must have answered or asked for more time. `fi_di` as for [`CardTimes::new`].
pub fn exchange_time(
    class: &ClassDescriptor,
    atr: &AtrInfo,
    protocol: Protocol,
    fi_di: Option<FiDi>,
    command: &[u8],
) -> Duration {
    let times = CardTimes::new(class, atr, fi_di);
    let (character, work) = (times.character(), times.work_waiting());
    let second = Duration::from_secs(1);
    let time = match (class.exchange_level(), protocol) {
        (ExchangeLevel::Character | ExchangeLevel::Tpdu, Protocol::T0) => {
            // Data with six turns, or every character as late as it may be.
            (character * 261 + work * 6).max(character * 5 + work * 260)
        }
        (ExchangeLevel::Character | ExchangeLevel::Tpdu, Protocol::T1) => {
            let (block, gap) = (times.block_waiting(), times.character_waiting());
            character * 260 + block + gap * 260 + second
        }
        (_, Protocol::T0) => character * longest(command) + work * 6 + second,
        (_, Protocol::T1) => character * longest(command) + times.block_waiting() * 2 + second,
    };
    time.max(LEAST)
}

/// Most characters that go over the contacts for `command` and its response, frames left out.
fn longest(command: &[u8]) -> u32 {
    let le = match command {
        [_, _, _, _, 0, rest @ ..] if rest.len() >= 2 => match rest {
            // Lc is extended; so is Le, if it is there at all.
            [le1, le0] => u16::from_be_bytes([*le1, *le0]),
            [lc1, lc0, data @ ..] => {
                let lc = usize::from(u16::from_be_bytes([*lc1, *lc0]));
                match data.get(lc..) {
                    Some([le1, le0]) => u16::from_be_bytes([*le1, *le0]),
                    _ => 1,
                }
            }
            _ => 1,
        },
        _ => 256,
    };
    let response = if le == 0 { 0x1_0000 } else { u32::from(le) };
    u32::try_from(command.len()).unwrap_or(u32::MAX).saturating_add(response + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Atr;
    use alloc::vec;

    fn class(clock: u32, features: u32) -> ClassDescriptor {
        let mut bytes = [0u8; 54];
        bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
        bytes[10..14].copy_from_slice(&clock.to_le_bytes());
        bytes[40..44].copy_from_slice(&features.to_le_bytes());
        ClassDescriptor::parse(&bytes).unwrap()
    }

    const TPDU: u32 = 0x0001_0000;
    const EXTENDED: u32 = 0x0004_0000;
    const SELECT: &[u8] = &[0, 0xA4, 4, 0, 2, 0x3F, 0, 0];

    fn seconds(
        class: &ClassDescriptor,
        atr: &[u8],
        protocol: Protocol,
        fi_di: Option<u8>,
        command: &[u8],
    ) -> u64 {
        let atr = Atr::new(atr).parse().unwrap();
        exchange_time(class, &atr, protocol, fi_di.map(FiDi), command).as_secs()
    }

    /// The times of a card that says nothing, at 4 MHz: an etu of 93 us.
    #[test]
    fn times_are_those_of_the_standard() {
        let atr = Atr::new(&[0x3B, 0x80, 0x01, 0x81]).parse().unwrap();
        let times = CardTimes::new(&class(4000, TPDU), &atr, Some(FiDi::DEFAULT));
        assert_eq!(times.character().as_micros(), 1116);
        // 960 * 10 * 372 / 4 MHz; 11 etu + 16 * 960 * 372 / 4 MHz; (11 + 8192) etu.
        assert_eq!(times.work_waiting().as_micros(), 892_800);
        assert_eq!(times.block_waiting().as_micros(), 1023 + 1_428_480);
        assert_eq!(times.character_waiting().as_micros(), 762_879);
        let fast = CardTimes::new(&class(4000, TPDU), &atr, Some(FiDi(0x95)));
        assert_eq!(fast.character().as_micros(), 96);
        // The card's thinking does not get faster with the line.
        assert_eq!(fast.block_waiting().as_micros(), 88 + 1_428_480);
    }

    /// What libccid waits at most, in seconds, where the host exchanges TPDUs.
    #[test]
    fn a_tpdu_may_take_all_that_its_characters_may() {
        let (t0, t1) = (&[0x3B, 0x00][..], &[0x3B, 0x80, 0x01, 0x81][..]);
        for (clock, atr, protocol, expected) in [
            (4000, t0, Protocol::T0, 232),
            (1000, t0, Protocol::T0, 928),
            (4000, t1, Protocol::T1, 201),
            (5000, t1, Protocol::T1, 161),
            (1000, t1, Protocol::T1, 801),
        ] {
            let time = seconds(&class(clock, TPDU), atr, protocol, Some(0x11), SELECT);
            assert_eq!(time, expected, "{clock} {protocol}");
        }
        // TB(3) = 45h at the rate of TA(1) = 95h: a card that knows what it can do.
        let modern = [0x3B, 0x90, 0x95, 0x81, 0x21, 0x45, 0x60];
        assert_eq!(seconds(&class(4000, TPDU), &modern, Protocol::T1, Some(0x95), SELECT), 3);
    }

    /// The rate in force counts, not the one that the card offers.
    #[test]
    fn an_apdu_may_take_its_transmission_and_the_cards_thought() {
        let class = class(4000, EXTENDED);
        let fast = [0x3B, 0x90, 0x95, 0x01, 0x14];
        let read_all = [0, 0xB0, 0, 0, 0, 0, 0];
        let of = |fi_di, command| seconds(&class, &fast, Protocol::T1, fi_di, command);
        assert_eq!(of(Some(0x95), SELECT), 3);
        assert_eq!(of(Some(0x11), SELECT), 4);
        assert_eq!(of(None, SELECT), 4);
        // 65,536 bytes at 10,752 and at 125,000 bit/s, 12 etu each.
        assert_eq!(of(Some(0x11), &read_all), 77);
        assert_eq!(of(Some(0x95), &read_all), 10);
        // Block and work waiting times that the card asks for are granted: BWI 9, WI 255.
        let slow = [0x3B, 0x80, 0x81, 0x21, 0x95, 0xB5];
        assert!(seconds(&class, &slow, Protocol::T1, Some(0x11), SELECT) >= 2 * 45);
        let slow = [0x3B, 0x80, 0x40, 0xFF];
        assert!(seconds(&class, &slow, Protocol::T0, Some(0x11), SELECT) >= 6 * 22);
    }

    #[test]
    fn the_response_that_a_command_asks_for_counts() {
        let mut extended = vec![0, 0xDA, 0, 0, 0, 0, 3, 1, 2, 3];
        assert_eq!(longest(&extended), 10 + 3);
        extended.extend([0, 0]);
        assert_eq!(longest(&extended), 12 + 0x1_0000 + 2);
        for (command, response) in [
            (&[0, 0xB0, 0, 0][..], 256),
            (&[0, 0xB0, 0, 0, 0], 256),
            (&[0, 0xB0, 0, 0, 0, 1, 0], 256),
            (&[0, 0xB0, 0, 0, 0, 0, 0], 0x1_0000),
            (&[], 256),
            (&[0, 0xB0, 0, 0, 0, 9], 256),
            (&[0, 0xB0, 0, 0, 0, 0xFF, 0xFF, 0], 1),
        ] {
            assert_eq!(longest(command), command.len() as u32 + response + 2, "{command:02X?}");
        }
    }

    /// No ATR and no descriptor leads to a division by zero, an overflow or less than the least.
    #[test]
    fn any_codes_give_a_time() {
        for clock in [0, 1, 250, 4000, u32::MAX] {
            for ta1 in 0..=255 {
                for features in [0, TPDU, EXTENDED] {
                    let (class, atr) = (class(clock, features), [0x3B, 0x90, ta1, 0x01, 0]);
                    for protocol in [Protocol::T0, Protocol::T1] {
                        for fi_di in [None, Some(ta1)] {
                            assert!(seconds(&class, &atr, protocol, fi_di, &[0; 300]) >= 3);
                        }
                    }
                }
            }
        }
    }
}
