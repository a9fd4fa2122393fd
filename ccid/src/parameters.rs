//! What a reader is told of a card (CCID 1.1 §6.1.7), the data rates the two can have, and the
//! waiting times that follow.

mod speed;
mod waiting;

pub use speed::{FiDi, Speeds};
pub use waiting::{CardTimes, exchange_time};

use crate::atr::{AtrInfo, Convention, Protocol};
use crate::t1::Nad;
use bytes::Bytes;

/// abProtocolDataStructure of PC_to_RDR_SetParameters for `protocol` (CCID 1.1 §6.1.7) with a card
/// at `fi_di`: five bytes for T=0, seven for T=1, `nad` among them. The clock is never to be
/// stopped.
pub fn protocol_data(atr: &AtrInfo, protocol: Protocol, fi_di: FiDi, nad: Nad) -> Bytes {
    let fi_di = fi_di.0;
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
                nad.to_byte(), // bNadValue
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Atr;

    #[test]
    fn t0_defaults() {
        let atr = Atr::new(&[0x3B, 0x00]).parse().unwrap();
        assert_eq!(
            &protocol_data(&atr, Protocol::T0, FiDi::DEFAULT, Nad::NONE)[..],
            [0x11, 0x00, 0x00, 0x0A, 0x00]
        );
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
            &protocol_data(&atr, Protocol::T1, FiDi(0x13), Nad::from_byte(0x21))[..],
            [0x13, 0x10, 0xFF, 0x45, 0x00, 0x80, 0x21]
        );
    }
}
