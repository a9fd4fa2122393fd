//! The PPS request and what its response means (ISO/IEC 7816-3 §9.2, §9.3).

use crate::atr::Protocol;
use crate::parameters::FiDi;
use bytes::Bytes;

const PPSS: u8 = 0xFF;

/// PPS0: PPS1 is present.
const HAS_PPS1: u8 = 0x10;

/// PPS0: PPS1, PPS2 or PPS3 is present.
const HAS_ANY: u8 = 0x70;

/// PPSS, PPS0, PPS1 unless the rate is the default one, PCK.
pub(super) fn request(protocol: Protocol, fi_di: FiDi) -> Bytes {
    let t = protocol.number();
    if fi_di == FiDi::DEFAULT {
        Bytes::copy_from_slice(&[PPSS, t, PPSS ^ t])
    } else {
        let pps0 = HAS_PPS1 | t;
        Bytes::copy_from_slice(&[PPSS, pps0, fi_di.0, PPSS ^ pps0 ^ fi_di.0])
    }
}

/// What the card agrees to by `response`; none if it is no successful PPS. The whole request come
/// back is a yes; without PPS1, a yes to the protocol at the default rate.
pub(super) fn agreed(request: &[u8], response: &[u8]) -> Option<FiDi> {
    let (&[_, asked, ref values @ .., _], &[ppss, pps0, ref given @ .., _]) = (request, response)
    else {
        return None;
    };
    let sum = response.iter().fold(0, |sum, byte| sum ^ byte);
    // b8 of PPS0 is reserved and may be anything.
    if ppss != PPSS || sum != 0 || (pps0 ^ asked) & 0x0F != 0 {
        return None;
    }
    match (pps0 & HAS_ANY, given) {
        (0, []) => Some(FiDi::DEFAULT),
        (HAS_PPS1, [pps1]) if values == [*pps1] => Some(FiDi(*pps1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(&request(Protocol::T0, FiDi::DEFAULT)[..], [0xFF, 0x00, 0xFF]);
        assert_eq!(&request(Protocol::T1, FiDi::DEFAULT)[..], [0xFF, 0x01, 0xFE]);
        assert_eq!(&request(Protocol::T1, FiDi(0x95))[..], [0xFF, 0x11, 0x95, 0x7B]);
    }

    #[test]
    fn responses() {
        let request = request(Protocol::T1, FiDi(0x95));
        for (response, means) in [
            (&[0xFF, 0x11, 0x95, 0x7B][..], Some(0x95)),
            // PPS1 refused.
            (&[0xFF, 0x01, 0xFE], Some(0x11)),
            // Reserved bit of PPS0.
            (&[0xFF, 0x81, 0x7E], Some(0x11)),
            // Wrong PCK, protocol, value, PPSS; PPS2 unasked; too short; too long; nothing.
            (&[0xFF, 0x11, 0x95, 0x7C], None),
            (&[0xFF, 0x00, 0xFF], None),
            (&[0xFF, 0x11, 0x94, 0x7A], None),
            (&[0xFE, 0x01, 0xFF], None),
            (&[0xFF, 0x21, 0x95, 0x4B], None),
            (&[0xFF, 0x11, 0xEE], None),
            (&[0xFF, 0x01, 0x00, 0xFE], None),
            (&[0xFF, 0x01], None),
            (&[], None),
        ] {
            assert_eq!(agreed(&request, response), means.map(FiDi), "{response:02X?}");
        }
        // A rate that was not asked for.
        let plain = super::request(Protocol::T1, FiDi::DEFAULT);
        assert_eq!(agreed(&plain, &[0xFF, 0x11, 0x95, 0x7B]), None);
    }
}
