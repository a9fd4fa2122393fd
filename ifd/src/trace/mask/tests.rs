//! No byte of a PIN gets into a trace, at any level, and what is there stays well formed.

use super::*;
use ccid::t1::Block as T1Block;
use ccid::t1::Pcb;
use ccid::wire::{Command, LevelParameter, Seq, Slot};

const PIN: &[u8] = b"123456";

fn masker(level: ExchangeLevel) -> Masker {
    Masker { level, slots: BTreeMap::new() }
}

fn xfr(level_parameter: u16, data: &[u8]) -> Vec<u8> {
    let level_parameter = LevelParameter(level_parameter);
    Command::XfrBlock { bwi: 0, level_parameter, data }.emit(Slot(0), Seq(1)).to_vec()
}

/// What is written of these messages: each as long as it was.
fn written(masker: &mut Masker, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let written = messages.iter().map(|message| {
        let masked = masker.message(message).unwrap_or_else(|| message.clone());
        assert_eq!(masked.len(), message.len());
        assert_eq!(masked[..HEADER_LEN], message[..HEADER_LEN]);
        masked
    });
    written.collect()
}

fn verify(lc: &[u8], pin: &[u8], le: &[u8]) -> Vec<u8> {
    [&[0x00, 0x20, 0x00, 0x81], lc, pin, le].concat()
}

#[test]
fn apdus_short_and_extended() {
    for ins in INSTRUCTIONS {
        for (mut apdu, at) in [
            (verify(&[6], PIN, &[]), 5),
            (verify(&[6], PIN, &[0]), 5),
            (verify(&[0, 0, 6], PIN, &[]), 7),
            (verify(&[0, 0, 6], PIN, &[0, 0]), 7),
        ] {
            apdu[1] = ins;
            let mut expected = apdu.clone();
            expected[at..at + 6].fill(MASK);
            for level in
                [ExchangeLevel::ShortApdu, ExchangeLevel::ExtendedApdu, ExchangeLevel::Tpdu]
            {
                let got = written(&mut masker(level), &[xfr(0, &apdu)]);
                assert_eq!(got, [xfr(0, &expected)], "{ins:02X} {level:?}");
            }
        }
    }
}

#[test]
fn what_is_no_pin_stays() {
    let mut masker = masker(ExchangeLevel::ExtendedApdu);
    for data in [&[0x00, 0xA4, 0x00, 0x00, 2, 0x3F, 0x00][..], &[0x00, 0x20, 0x00, 0x81], &[], &[0]]
    {
        assert_eq!(masker.message(&xfr(0, data)), None);
    }
    for bytes in [&[][..], &[0x6F; 9], &[0x65, 0, 0, 0, 0, 0, 1, 0, 0, 0]] {
        assert_eq!(masker.message(bytes), None);
    }
}

/// An extended APDU in parts: the PIN may be in any of them.
#[test]
fn parts_of_an_extended_apdu() {
    let apdu = verify(&[0, 0x01, 0x2C], &[0x39; 300], &[]);
    let parts = [xfr(1, &apdu[..100]), xfr(3, &apdu[100..200]), xfr(2, &apdu[200..])];
    let after = xfr(0, &[0x00, 0xA4, 0x00, 0x00, 2, 0x39, 0x39]);
    let mut masker = masker(ExchangeLevel::ExtendedApdu);
    for part in written(&mut masker, &parts) {
        assert!(!part[HEADER_LEN..].contains(&0x39), "{part:02X?}");
    }
    assert_eq!(masker.message(&after), None, "the next command is itself again");
}

fn block(ns: u8, more: bool, information: &[u8], check: CheckCode) -> Vec<u8> {
    xfr(0, &T1Block { nad: 0, pcb: Pcb::I { ns, more }, information }.emit(check))
}

/// T=1 blocks: their check codes are right, before and after.
#[test]
fn blocks_and_chains_of_blocks() {
    for check in [CheckCode::Lrc, CheckCode::Crc] {
        for level in [ExchangeLevel::Tpdu, ExchangeLevel::Character] {
            let mut masker = masker(level);
            let apdu = verify(&[6], PIN, &[]);
            let r_block = xfr(
                0,
                &T1Block { nad: 0, pcb: Pcb::R { nr: 1, error: 0 }, information: &[] }.emit(check),
            );
            let messages = [
                block(0, false, &apdu, check),
                block(1, true, &apdu[..8], check),
                r_block,
                block(0, false, &apdu[8..], check),
                block(1, false, &[0x00, 0xA4, 0x00, 0x00, 2, 0x31, 0x32], check),
            ];
            let got = written(&mut masker, &messages);
            let masked = [&apdu[..5], &[MASK; 6]].concat();
            assert_eq!(got[0], block(0, false, &masked, check));
            assert_eq!(got[1], block(1, true, &masked[..8], check));
            assert_eq!(got[2], messages[2]);
            assert_eq!(got[3], block(0, false, &masked[8..], check));
            assert_eq!(got[4], messages[4]);
        }
    }
}

/// T=0 at character level: the header, then the data in one piece or byte by byte.
#[test]
fn phases_of_t0() {
    for pieces in [vec![PIN], PIN.chunks(1).collect()] {
        let mut masker = masker(ExchangeLevel::Character);
        let mut messages = vec![xfr(0, &[0x00, 0x20, 0x00, 0x81, 6])];
        messages.extend(pieces.iter().map(|piece| xfr(0, piece)));
        messages.push(xfr(2, &[]));
        messages.push(xfr(0, &[0x00, 0xA4, 0x00, 0x00, 2]));
        let got = written(&mut masker, &messages);
        assert_eq!(got[0], messages[0]);
        for (piece, got) in pieces.iter().zip(&got[1..]) {
            assert_eq!(got[HEADER_LEN..], vec![MASK; piece.len()]);
        }
        assert_eq!(got[got.len() - 2..], messages[messages.len() - 2..]);
    }
}

#[test]
fn pin_entry_at_the_reader() {
    let apdu = verify(&[8], b"1234\xFF\xFF\xFF\xFF", &[]);
    let verification = [&[0, 30, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0][..], &apdu].concat();
    for (number, indexes) in [(0, 1), (1, 2), (2, 2), (3, 3), (0xFF, 3)] {
        let head = [1, 30, 0x82, 0, 0, 0, 8, 8, 4, 3, 2, number, 9, 4];
        let modification = [&head[..], &vec![0; indexes], &[0; 3], &apdu].concat();
        for data in [&verification, &modification] {
            let message = Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data };
            let message = message.emit(Slot(0), Seq(9)).to_vec();
            let got =
                written(&mut masker(ExchangeLevel::ShortApdu), std::slice::from_ref(&message));
            let at = message.len() - 8;
            assert_eq!(got[0][..at], message[..at], "{number}");
            assert_eq!(got[0][at..], [MASK; 8], "{number}");
        }
    }
}

/// XFR_BLOCK with that in the high byte of wValue.
fn xfr_request(parameter: u8) -> SetupPacket {
    let value = u16::from_le_bytes([0, parameter]);
    SetupPacket { request_type: 0x21, request: 0x65, value, index: 0, length: 0 }
}

/// Version A of ICCD: header and data of a T=0 command are requests of their own.
#[test]
fn iccd_requests() {
    let mut masker = masker(ExchangeLevel::Character);
    let mut request = |data| masker.request(&xfr_request(0), data);
    assert_eq!(request(&[0x00, 0x20, 0x00, 0x81, 6]), None);
    assert_eq!(request(PIN), Some(vec![MASK; 6]));
    assert_eq!(request(&verify(&[6], PIN, &[])), Some(verify(&[6], &[MASK; 6], &[])));
}

/// Version B: APDUs, in parts by wValue.
#[test]
fn iccd_requests_in_parts() {
    let apdu = verify(&[0, 0x01, 0x2C], &[0x39; 300], &[]);
    let mut masker = masker(ExchangeLevel::ExtendedApdu);
    for (parameter, part) in [(1, &apdu[..100]), (3, &apdu[100..200]), (2, &apdu[200..])] {
        let masked = masker.request(&xfr_request(parameter), part).unwrap();
        assert!(!masked.contains(&0x39), "{masked:02X?}");
    }
    let select = [0x00, 0xA4, 0x00, 0x00, 2, 0x39, 0x39];
    assert_eq!(masker.request(&xfr_request(0), &select), None);
    let status = SetupPacket { request_type: 0xA1, request: 0x81, ..xfr_request(0) };
    assert_eq!(masker.request(&status, &apdu), None);
}
