//! What a reader is told of a card (CCID 1.1 §6.1.7), and the waiting times that follow from the
//! card's ATR (ISO/IEC 7816-3 §10.2, §11.4.3).

use crate::atr::{AtrInfo, Convention, Protocol, baud_rate_adjustment, clock_rate_conversion};
use crate::descriptor::ClassDescriptor;
use bytes::Bytes;
use core::time::Duration;

/// abProtocolDataStructure of PC_to_RDR_SetParameters for `protocol`, as the card stands after its
/// reset without PPS: Fi and Di are the default ones, unless TA(2) says those of TA(1) hold.
pub fn protocol_data(atr: &AtrInfo, protocol: Protocol) -> Bytes {
    let explicit = atr.specific_mode().is_some_and(|ta2| ta2 & 0x10 == 0);
    let fi_di = if explicit { atr.ta1() } else { 0x11 };
    let inverse = u8::from(atr.convention == Convention::Inverse) << 1;
    let guard = atr.extra_guard_time();
    match protocol {
        Protocol::T0 => Bytes::copy_from_slice(&[
            fi_di,
            inverse,
            guard,
            atr.waiting_integer(),
            0, // bClockStop: not allowed
        ]),
        Protocol::T1 => {
            let t1 = atr.t1_parameters();
            Bytes::copy_from_slice(&[
                fi_di,
                0x10 | inverse | u8::from(t1.crc),
                guard,
                t1.bwi << 4 | t1.cwi,
                0, // bClockStop
                t1.ifsc,
                0, // bNadValue
            ])
        }
    }
}

/// The longest that an exchange of one short APDU or TPDU may keep still before the card must have
/// answered or asked for more time: what the ATR allows, at the slowest the card can be.
pub fn exchange_time(class: &ClassDescriptor, atr: &AtrInfo, protocol: Protocol) -> Duration {
    // An unknown clock or code is taken at its slowest.
    let clock = u64::from(class.default_clock.max(250));
    let ta1 = atr.ta1();
    let f = u64::from(clock_rate_conversion(ta1 >> 4).unwrap_or(2048));
    let d = u64::from(baud_rate_adjustment(ta1 & 0x0F).unwrap_or(1));
    // The card runs at TA(1) or at the default speed, whichever is slower; in microseconds.
    let etu = (f * 1000 / d).max(372_000) / clock;
    let guard = etu * (12 + u64::from(atr.extra_guard_time() % 255));
    let micros = match protocol {
        Protocol::T0 => {
            let wait = 960 * u64::from(atr.waiting_integer()) * f * 1000 / clock;
            (261 * guard + 6 * wait).max(5 * guard + 260 * wait)
        }
        Protocol::T1 => {
            let t1 = atr.t1_parameters();
            let block = 11 * etu + (960 << t1.bwi) * 372_000 / clock;
            let character = (11 + (1 << t1.cwi)) * etu;
            260 * guard + block + 260 * character + 1_000_000
        }
    };
    Duration::from_micros(micros).max(Duration::from_secs(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Atr;

    #[test]
    fn t0_defaults() {
        let atr = Atr::new(&[0x3B, 0x00]).parse().unwrap();
        assert_eq!(&protocol_data(&atr, Protocol::T0)[..], [0x11, 0x00, 0x00, 0x0A, 0x00]);
    }

    #[test]
    fn t1_takes_what_the_atr_says() {
        let atr = Atr::new(&[
            0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0,
            0x01, 0x00, 0x00, 0x90, 0x00, 0xB1,
        ])
        .parse()
        .unwrap();
        assert_eq!(
            &protocol_data(&atr, Protocol::T1)[..],
            [0x11, 0x10, 0xFF, 0x45, 0x00, 0x80, 0x00]
        );
    }
}
