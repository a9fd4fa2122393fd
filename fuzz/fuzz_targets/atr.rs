//! The answer to reset: what is read of it are its bytes, each once, and what follows from it keeps
//! the bounds of ISO/IEC 7816-3.
//!
//! Input: 54 bytes of a class descriptor, if they are one, then the ATR; else all of it the ATR.

#![no_main]

use ccid::atr::{AtrInfo, Check, Convention, InterfaceBytes, MAX_ATR_LEN, Protocol};
use ccid::descriptor::DESCRIPTOR_LEN;
use ccid::parameters::{FiDi, exchange_time, protocol_data};
use ccid::t1::Nad;
use ccid::{Atr, ClassDescriptor};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let class = input
        .split_at_checked(DESCRIPTOR_LEN)
        .and_then(|(class, rest)| ClassDescriptor::parse(class).ok().map(|class| (class, rest)));
    let bytes = class.as_ref().map_or(input, |(_, rest)| rest);
    let atr = Atr::new(bytes);
    assert_eq!(atr.as_bytes(), &bytes[..bytes.len().min(MAX_ATR_LEN)]);
    assert!(!atr.to_string().contains(char::is_control));
    let info = match atr.parse() {
        Ok(info) => info,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control));
            return;
        }
    };
    every_byte_once(&info, atr.as_bytes());
    bounds(&info);
    if let Some((class, _)) = class {
        for protocol in [Protocol::T0, Protocol::T1] {
            assert!(
                exchange_time(&class, &info, protocol, None, atr.as_bytes())
                    >= Duration::from_secs(3)
            );
        }
    }
});

/// What was read, written again, gives the bytes that were there.
fn every_byte_once(info: &AtrInfo, bytes: &[u8]) {
    let presence = |round: &InterfaceBytes| {
        let InterfaceBytes { ta, tb, tc, td } = round;
        [ta, tb, tc, td]
            .iter()
            .zip([0x10, 0x20, 0x40, 0x80])
            .filter(|(byte, _)| byte.is_some())
            .fold(0, |y, (_, bit)| y | bit)
    };
    let first = info.interface.first().map_or(0, presence);
    let historical = u8::try_from(info.historical.len()).unwrap();
    assert!(historical <= 15);
    let mut again = vec![bytes[0], first | historical];
    match info.convention {
        Convention::Direct => assert_eq!(bytes[0], 0x3B),
        Convention::Inverse => assert!(matches!(bytes[0], 0x3F | 0x03)),
    }
    for (n, round) in info.interface.iter().enumerate() {
        let announced = round.td.map_or(0, |td| td & 0xF0);
        let next = info.interface.get(n + 1).map_or(0, presence);
        assert_eq!(announced, next, "TD({}) says what follows", n + 1);
        again.extend([round.ta, round.tb, round.tc, round.td].into_iter().flatten());
    }
    again.extend_from_slice(&info.historical);
    let check = bytes[1..].iter().take(again.len()).fold(0, |sum, byte| sum ^ byte);
    match info.check {
        Check::NotDue | Check::Missing => {}
        Check::Right => assert_eq!(check, 0),
        Check::Wrong => assert_ne!(check, 0),
    }
    if matches!(info.check, Check::Right | Check::Wrong) {
        again.push(bytes[again.len()]);
    }
    assert!(info.check != Check::Missing || info.trailing == 0);
    assert_eq!(again, bytes[..bytes.len() - info.trailing]);
}

fn bounds(info: &AtrInfo) {
    let protocols: Vec<_> = info.protocols().collect();
    assert!(protocols.len() <= 2);
    assert!(protocols.len() < 2 || protocols[0] != protocols[1]);
    let t1 = info.t1_parameters();
    assert!((1..=254).contains(&t1.ifsc) && t1.bwi <= 9 && t1.cwi <= 15);
    assert_ne!(info.waiting_integer(), 0);
    if info.specific_mode().is_none() {
        assert_eq!(info.default_protocol(), protocols.first().copied());
    }
    // CCID 1.1 §6.1.7: five bytes for T=0, seven for T=1.
    assert_eq!(protocol_data(info, Protocol::T0, FiDi::DEFAULT, Nad::NONE).len(), 5);
    let data = protocol_data(info, Protocol::T1, FiDi(info.ta1()), Nad::NONE);
    assert_eq!((data.len(), data[5]), (7, t1.ifsc));
}
