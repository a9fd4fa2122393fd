//! What a caller gives for a control code: whatever it is, an answer or an error; and a PIN structure
//! that is taken becomes what CCID 1.1 §6.1.11 wants, read here by its own rules: the command comes
//! out unchanged, in either order of bytes, and what readers crash on never does.
//!
//! Input: the code's choice, two bytes of quirks, then the structure.

#![no_main]

use ccid::descriptor::PinSupport;
use ccid::quirk::{Behaviour, Flags};
use ccid::{ClassDescriptor, Operation};
use ifd::features::{
    Control, ControlError, ESCAPE, GET_FEATURE_REQUEST, GET_TLV_PROPERTIES, IFD_PIN_PROPERTIES,
    Kind, MCT_READER_DIRECT, MODIFY_PIN_DIRECT, ReaderFacts, Settings, VERIFY_PIN_DIRECT, control,
};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const CODES: [u32; 8] = [
    VERIFY_PIN_DIRECT,
    MODIFY_PIN_DIRECT,
    MCT_READER_DIRECT,
    IFD_PIN_PROPERTIES,
    GET_TLV_PROPERTIES,
    GET_FEATURE_REQUEST,
    ESCAPE,
    0,
];

/// The fields of the two structures up to ulDataLength.
const VERIFY_HEADER: usize = 15;
const MODIFY_HEADER: usize = 20;

fuzz_target!(|input: &[u8]| {
    let Some(([choice, low, high], structure)) = input.split_first_chunk() else { return };
    let code = CODES[usize::from(choice % 8)];
    // The bits that are about PINs.
    let flags = Flags::from_bits_truncate(u32::from(u16::from_le_bytes([*low, *high])) << 5);
    let behaviour = Behaviour { flags, ..Behaviour::default() };
    match ask(code, structure, &behaviour) {
        Ok(Control::Operation(Operation::Secure { entry, timeout }, Kind::Pin)) => {
            let seconds = u64::from(structure[0]);
            assert_eq!(timeout, Duration::from_secs((seconds + 10).max(90)));
            assert_eq!(entry.data()[1], structure[0], "bTimeOut");
            let header = if code == VERIFY_PIN_DIRECT { VERIFY_HEADER } else { MODIFY_HEADER };
            let apdu = &structure[header + 4..];
            assert_eq!(entry.apdu(), apdu);
            read(code, entry.data(), apdu, flags);
            let again = ask(code, &swapped(code, structure), &behaviour);
            let Ok(Control::Operation(Operation::Secure { entry: other, .. }, _)) = again else {
                panic!("the other byte order is refused: {again:?}");
            };
            assert_eq!(other, entry);
        }
        Ok(Control::Operation(Operation::Escape(data), Kind::Escape)) => {
            assert_eq!(data, structure);
            assert!(code == ESCAPE || matches!(data[..], [0x20, 0x70..=0x74, 0, 0, 0, ..]));
        }
        Ok(Control::Operation(other, _)) => panic!("{other:?}"),
        Ok(Control::Answer(answer)) => assert!(!answer.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn ask(code: u32, data: &[u8], behaviour: &Behaviour) -> Result<Control, ControlError> {
    let mut class = [0; 54];
    class[..2].copy_from_slice(&[54, 0x21]);
    class[52] = (PinSupport::VERIFY | PinSupport::MODIFY).bits();
    let class = ClassDescriptor::parse(&class).unwrap();
    let reader = ReaderFacts { class: &class, vendor_id: 1, product_id: 2, behaviour };
    control(code, data, &reader, Settings { escape: true })
}

/// Reads abPINOperationDataStructure field by field.
fn read(code: u32, data: &[u8], apdu: &[u8], flags: Flags) {
    let verification = code == VERIFY_PIN_DIRECT;
    assert_eq!(data[0], u8::from(!verification), "bPINOperation");
    let (digits, condition) = if verification { (5, 7) } else { (7, 10) };
    let (most, least) = (data[digits], data[digits + 1]);
    let swapped = verification && flags.contains(Flags::PIN_VERIFY_SWAPPED_DIGITS);
    assert!(if swapped { most <= least } else { least <= most }, "wPINMaxExtraDigit");
    assert!((1..=7).contains(&data[condition]), "bEntryValidationCondition");
    let prologue = if verification {
        12
    } else {
        assert!(data[9] <= 3, "bConfirmPIN");
        let messages = data[11];
        assert!(matches!(messages, 0..=3 | 0xFF), "bNumberMessage");
        let all = Flags::PIN_MODIFY_THREE_INDEXES | Flags::PIN_MODIFY_NO_MESSAGES;
        match messages {
            _ if flags.intersects(all) => 17,
            0 => 15,
            1 | 2 => 16,
            _ => 17,
        }
    };
    assert_eq!(&data[prologue + 3..], apdu, "abPINApdu");
}

/// The structure as a machine of the other byte order has it.
fn swapped(code: u32, structure: &[u8]) -> Vec<u8> {
    let mut out = structure.to_vec();
    let (digits, lang, length) =
        if code == VERIFY_PIN_DIRECT { (5, 9, VERIFY_HEADER) } else { (7, 12, MODIFY_HEADER) };
    for (at, size) in [(digits, 2), (lang, 2), (length, 4)] {
        out[at..at + size].reverse();
    }
    out
}
