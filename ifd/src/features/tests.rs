//! Structures in, operations out; what readers tell of themselves.

use super::*;
use ccid::descriptor::Features;
use ccid::error::Sent;
use ccid::wire::{Seq, Slot};
use std::time::Duration;

const APDU: [u8; 5] = [0, 0x20, 0, 0x81, 0];
const ESCAPES: Settings = Settings { escape: true };
const NO_ESCAPES: Settings = Settings { escape: false };

fn class() -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[40..44].copy_from_slice(&Features::EXTENDED_APDU_LEVEL.bits().to_le_bytes());
    bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
    bytes[52] = 3;
    ClassDescriptor::parse(&bytes).unwrap()
}

fn with(flags: Flags) -> Behaviour {
    Behaviour { flags, ..Behaviour::default() }
}

fn ask(
    code: u32,
    data: &[u8],
    class: &ClassDescriptor,
    behaviour: &Behaviour,
    settings: Settings,
) -> Result<Control, ControlError> {
    let reader = ReaderFacts { class, vendor_id: 0x0CA5, product_id: 0x1234, behaviour };
    control(code, data, &reader, settings)
}

#[track_caller]
fn answer(code: u32, class: &ClassDescriptor, behaviour: &Behaviour, settings: Settings) -> Bytes {
    match ask(code, &[], class, behaviour, settings) {
        Ok(Control::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// abPINOperationDataStructure and the time, of a structure for a reader of these ways.
#[track_caller]
fn secure(code: u32, data: &[u8], behaviour: &Behaviour) -> (ccid::pin::PinEntry, Duration) {
    match ask(code, data, &class(), behaviour, NO_ESCAPES) {
        Ok(Control::Operation(Operation::Secure { entry, timeout }, Kind::Pin)) => (entry, timeout),
        other => panic!("{other:?}"),
    }
}

/// PIN_VERIFY_STRUCTURE of a little-endian machine.
fn verify() -> Vec<u8> {
    let mut data = vec![30, 15, 0x82, 0x04, 0, 8, 4, 2, 1, 9, 4, 7, 0xA, 0xB, 0xC];
    data.extend([5, 0, 0, 0]);
    data.extend(APDU);
    data
}

/// PIN_MODIFY_STRUCTURE of a little-endian machine.
fn modify() -> Vec<u8> {
    let mut data = vec![30, 15, 0x82, 0x08, 0, 1, 9, 8, 4, 3, 2, 3, 9, 4, 5, 6, 7, 0xA, 0xB, 0xC];
    data.extend([21, 0, 0, 0]);
    data.extend([0, 0x24, 0, 0x81, 16]);
    data.extend([0xFF; 16]);
    data
}

#[test]
fn a_verification_in_both_byte_orders() {
    let mut big_endian = verify();
    big_endian[5..7].copy_from_slice(&[4, 8]);
    big_endian[9..11].copy_from_slice(&[4, 9]);
    big_endian[15..19].copy_from_slice(&[0, 0, 0, 5]);
    let fields = [0, 30, 0x82, 0x04, 0, 8, 4, 2, 1, 9, 4, 7, 0xA, 0xB, 0xC];
    for data in [verify(), big_endian] {
        let (entry, _) = secure(VERIFY_PIN_DIRECT, &data, &Behaviour::default());
        assert_eq!(&entry.data()[..], [&fields[..], &APDU].concat());
        assert_eq!((entry.escape(), entry.pause()), (None, Duration::ZERO));
    }
}

#[test]
fn a_modification_in_both_byte_orders() {
    let mut big_endian = modify();
    big_endian[7..9].copy_from_slice(&[4, 8]);
    big_endian[12..14].copy_from_slice(&[4, 9]);
    big_endian[20..24].copy_from_slice(&[0, 0, 0, 21]);
    let fields = [1, 30, 0x82, 0x08, 0, 1, 9, 8, 4, 3, 2, 3, 9, 4, 5, 6, 7, 0xA, 0xB, 0xC];
    for data in [modify(), big_endian] {
        let (entry, _) = secure(MODIFY_PIN_DIRECT, &data, &Behaviour::default());
        assert_eq!(&entry.data()[..], [&fields[..], &modify()[24..]].concat());
    }
}

#[test]
fn message_indexes_follow_the_number_of_messages() {
    for (messages, indexes) in
        [(0, &[5][..]), (1, &[5, 6]), (2, &[5, 6]), (3, &[5, 6, 7]), (0xFF, &[5, 6, 7])]
    {
        let mut data = modify();
        data[11] = messages;
        let (entry, _) = secure(MODIFY_PIN_DIRECT, &data, &Behaviour::default());
        let expected = [&[messages, 9, 4][..], indexes, &[0xA, 0xB, 0xC, 0, 0x24]].concat();
        assert_eq!(entry.data()[11..11 + expected.len()], expected);
    }
}

#[test]
fn the_user_has_at_least_90_seconds() {
    for (time_out, seconds) in [(0, 90), (30, 90), (80, 90), (81, 91), (255, 265)] {
        let (mut verify, mut modify) = (verify(), modify());
        (verify[0], modify[0]) = (time_out, time_out);
        let time = Duration::from_secs(seconds);
        assert_eq!(secure(VERIFY_PIN_DIRECT, &verify, &Behaviour::default()).1, time);
        assert_eq!(secure(MODIFY_PIN_DIRECT, &modify, &Behaviour::default()).1, time);
    }
}

#[test]
fn a_condition_that_is_none_is_the_enter_key() {
    for condition in 0..=255u8 {
        let expected = if (1..=7).contains(&condition) { condition } else { 2 };
        let (mut verify, mut modify) = (verify(), modify());
        (verify[7], modify[10]) = (condition, condition);
        let verified = secure(VERIFY_PIN_DIRECT, &verify, &Behaviour::default()).0;
        let modified = secure(MODIFY_PIN_DIRECT, &modify, &Behaviour::default()).0;
        assert_eq!((verified.data()[7], modified.data()[10]), (expected, expected));
    }
    let always = Behaviour { pin_condition: Some(4), ..Behaviour::default() };
    assert_eq!(secure(VERIFY_PIN_DIRECT, &verify(), &always).0.data()[7], 4);
    assert_eq!(secure(MODIFY_PIN_DIRECT, &modify(), &always).0.data()[10], 4);
}

#[test]
fn what_is_wrong_is_named() {
    let refused =
        |code, data: &[u8]| ask(code, data, &class(), &Behaviour::default(), ESCAPES).unwrap_err();
    for (code, structure, good, least) in [
        (VERIFY_PIN_DIRECT, "PIN_VERIFY_STRUCTURE", verify(), 23),
        (MODIFY_PIN_DIRECT, "PIN_MODIFY_STRUCTURE", modify(), 28),
    ] {
        for length in 0..good.len() {
            let expected = if length < least {
                ControlError::TooShort { structure, least, length }
            } else {
                let header = least - 4;
                let declared = (good.len() - header) as u32;
                ControlError::DataLength { declared, length: length - header }
            };
            assert_eq!(refused(code, &good[..length]), expected);
        }
    }
    for (at, value, field, shown) in [
        (9, 4, "bConfirmPIN", 4),
        (5, 17, "bInsertionOffsetOld", 17),
        (6, 17, "bInsertionOffsetNew", 17),
        (11, 4, "bNumberMessage", 4),
        (11, 0xFE, "bNumberMessage", 0xFE),
        (8, 9, "wPINMaxExtraDigit", 0x0908),
    ] {
        let mut data = modify();
        data[at] = value;
        let error = ControlError::Field { field, value: shown };
        assert_eq!(refused(MODIFY_PIN_DIRECT, &data), error);
        assert!(error.to_string().contains(field));
    }
    let mut data = verify();
    data[6] = 9;
    let error = ControlError::Field { field: "wPINMaxExtraDigit", value: 0x0908 };
    assert_eq!(refused(VERIFY_PIN_DIRECT, &data), error);
}

#[test]
fn offsets_that_do_not_count_are_not_looked_at() {
    let mut data = modify();
    // The current PIN is not asked for.
    (data[5], data[9]) = (200, 1);
    secure(MODIFY_PIN_DIRECT, &data, &Behaviour::default());
    // The reader makes the data field.
    let mut data = modify()[..29].to_vec();
    (data[5], data[6], data[20], data[28]) = (0, 200, 5, 0);
    secure(MODIFY_PIN_DIRECT, &data, &Behaviour::default());
}

#[test]
fn readers_with_ways_of_their_own_at_verification() {
    let plain = secure(VERIFY_PIN_DIRECT, &verify(), &Behaviour::default()).0;
    let of = |data: &[u8], flags| secure(VERIFY_PIN_DIRECT, data, &with(flags)).0;
    let mut data = verify();
    data[8] = 0xFF;
    assert_eq!(of(&data, Flags::PIN_VERIFY_ONE_MESSAGE).data()[8], 1);
    assert_eq!(of(&data, Flags::PIN_VERIFY_NO_MESSAGE).data()[8], 0);
    assert_eq!(of(&verify(), Flags::PIN_VERIFY_SWAPPED_DIGITS).data()[5..7], [4, 8]);
    let paused = of(&verify(), Flags::PIN_VERIFY_PAUSE);
    assert_eq!((paused.data(), paused.pause()), (plain.data(), Duration::from_millis(250)));
    // The escape command is for a block of no fixed size and an APDU without Lc.
    let escape = |block, apdu: &[u8]| {
        let mut data = verify();
        data[3] = block;
        data.truncate(19);
        data[15] = apdu.len() as u8;
        data.extend(apdu);
        of(&data, Flags::PIN_VERIFY_ESCAPE).escape().cloned()
    };
    assert_eq!(escape(0, &APDU[..4]), Some(Bytes::from_static(&[0x80, 2, 0])));
    assert_eq!(escape(8, &APDU[..4]), None);
    assert_eq!(escape(0, &APDU), None);
}

#[test]
fn readers_with_ways_of_their_own_at_modification() {
    let of = |messages, flags| {
        let mut data = modify();
        data[11] = messages;
        let (entry, _) = secure(MODIFY_PIN_DIRECT, &data, &with(flags));
        assert_eq!(&entry.apdu()[..], &modify()[24..]);
        // bNumberMessage, and what is between wLangId and bTeoPrologue.
        let end = entry.data().len() - 3 - entry.apdu().len();
        (entry.data()[11], entry.data()[14..end].to_vec())
    };
    assert_eq!(of(1, Flags::PIN_MODIFY_THREE_INDEXES), (1, vec![5, 6, 7]));
    assert_eq!(of(1, Flags::PIN_MODIFY_NO_MESSAGES), (0, vec![0, 0, 0]));
    assert_eq!(of(1, Flags::PIN_MODIFY_THREE_MESSAGES), (3, vec![5, 6, 7]));
    assert_eq!(of(0, Flags::PIN_MODIFY_ZERO_IS_FF), (0xFF, vec![5, 6, 7]));
    assert_eq!(of(1, Flags::PIN_MODIFY_ZERO_IS_FF), (1, vec![5, 6]));
    // They are no help against a number that is reserved.
    for flags in [Flags::PIN_MODIFY_NO_MESSAGES, Flags::PIN_MODIFY_THREE_MESSAGES] {
        let mut data = modify();
        data[11] = 4;
        assert!(ask(MODIFY_PIN_DIRECT, &data, &class(), &with(flags), ESCAPES).is_err());
    }
}

#[test]
fn features_are_those_of_the_reader() {
    let tags = |class: &ClassDescriptor, behaviour: &Behaviour, settings| {
        let list = answer(GET_FEATURE_REQUEST, class, behaviour, settings);
        assert_eq!(list, answer(GET_FEATURE_REQUEST_WINDOWS, class, behaviour, settings));
        let records = list.chunks_exact(6);
        assert!(records.remainder().is_empty());
        records
            .map(|record| {
                assert_eq!(record[1], 4);
                let code = u32::from_be_bytes(record[2..].try_into().unwrap());
                // What is offered is there, and nothing else.
                let error = ControlError::Unsupported(code);
                assert_ne!(ask(code, &[], class, behaviour, settings), Err(error));
                record[0]
            })
            .collect::<Vec<_>>()
    };
    let none = Behaviour::default();
    let bare = ClassDescriptor { pin_support: PinSupport::empty(), ..class() };
    let verify_only = ClassDescriptor { pin_support: PinSupport::VERIFY, ..class() };
    assert_eq!(tags(&class(), &none, ESCAPES), [0x06, 0x07, 0x0A, 0x12, 0x13]);
    assert_eq!(tags(&class(), &none, NO_ESCAPES), [0x06, 0x07, 0x0A, 0x12]);
    assert_eq!(tags(&verify_only, &none, NO_ESCAPES), [0x06, 0x0A, 0x12]);
    assert_eq!(tags(&bare, &none, NO_ESCAPES), [0x12]);
    assert_eq!(tags(&bare, &with(Flags::MCT_READER_DIRECT), NO_ESCAPES), [0x08, 0x12]);
    for code in [VERIFY_PIN_DIRECT, MODIFY_PIN_DIRECT, IFD_PIN_PROPERTIES, MCT_READER_DIRECT, 0] {
        let refused = ask(code, &verify(), &bare, &none, ESCAPES);
        assert_eq!(refused, Err(ControlError::Unsupported(code)));
    }
}

#[test]
fn escape_commands_where_they_are_allowed() {
    let none = Behaviour::default();
    let expected = Control::Operation(Operation::Escape(Bytes::from_static(&[2])), Kind::Escape);
    assert_eq!(ask(ESCAPE, &[2], &class(), &none, ESCAPES), Ok(expected));
    let refused = ask(ESCAPE, &[2], &class(), &none, NO_ESCAPES);
    assert_eq!(refused, Err(ControlError::EscapeNotAllowed));
    // A reader's own commands that do no harm are anybody's.
    let class_of = class();
    let table = ccid::quirk::Table::built_in();
    let identity = ccid::quirk::Identity { vendor: 0x08E6, product: 0x3437, firmware: 0x0200 };
    let gemalto = table.apply(identity, &class_of).behaviour;
    assert!(ask(ESCAPE, &[2], &class_of, &gemalto, NO_ESCAPES).is_ok());
    let refused = ask(ESCAPE, &[1], &class_of, &gemalto, NO_ESCAPES);
    assert_eq!(refused, Err(ControlError::EscapeNotAllowed));
}

/// A reader that has told which ends of an entry it knows.
#[test]
fn conditions_are_those_that_the_reader_knows() {
    for (known, wanted, sent) in [(7, 3, 3), (2, 3, 2), (2, 0, 2), (5, 2, 5), (1, 0xFF, 1)] {
        let knows = Behaviour { pin_conditions: Some(known), ..Behaviour::default() };
        let mut structure = verify();
        structure[7] = wanted;
        let (entry, _) = secure(VERIFY_PIN_DIRECT, &structure, &knows);
        assert_eq!(entry.data()[7], sent, "{wanted} of {known}");
        assert_eq!(answer(IFD_PIN_PROPERTIES, &class(), &knows, NO_ESCAPES)[2], known);
    }
}

#[test]
fn the_firmware_is_named() {
    let name = Bytes::from_static(b"GemPC");
    let told = Behaviour { firmware_name: Some(name), ..Behaviour::default() };
    let properties = answer(GET_TLV_PROPERTIES, &class(), &told, NO_ESCAPES);
    let expected = [&[8, 5][..], b"GemPC"].concat();
    assert!(properties.windows(7).any(|part| part == expected), "{properties:02X?}");
}

#[test]
fn commands_of_the_secoder_kind_and_no_others() {
    let mct = with(Flags::MCT_READER_DIRECT);
    let of = |data: &[u8]| ask(MCT_READER_DIRECT, data, &class(), &mct, NO_ESCAPES);
    for ins in 0x70..=0x74 {
        let data = [0x20, ins, 0, 0, 0, 0, 1, 0xAA];
        let escape = Operation::Escape(Bytes::copy_from_slice(&data));
        assert_eq!(of(&data), Ok(Control::Operation(escape, Kind::Escape)));
    }
    for data in [
        &[0x20, 0x75, 0, 0, 0][..],
        &[0x20, 0x6F, 0, 0, 0],
        &[0x21, 0x70, 0, 0, 0],
        &[0x20, 0x70, 1, 0, 0],
        &[0x20, 0x70, 0, 1, 0],
        &[0x20, 0x70, 0, 0, 1],
        &[0x20, 0x70, 0, 0],
    ] {
        assert_eq!(of(data), Err(ControlError::NotSecoder), "{data:02X?}");
    }
}

#[test]
fn pin_properties() {
    let layout = ClassDescriptor { lcd_layout: 0x0210, ..class() };
    let expected = [&0x0210u16.to_ne_bytes()[..], &[7, 0]].concat();
    let none = Behaviour::default();
    assert_eq!(answer(IFD_PIN_PROPERTIES, &layout, &none, NO_ESCAPES), expected);
    let key_only = Behaviour { pin_condition: Some(2), ..Behaviour::default() };
    assert_eq!(answer(IFD_PIN_PROPERTIES, &layout, &key_only, NO_ESCAPES)[2], 2);
}

#[test]
fn tlv_properties() {
    let bare = ClassDescriptor {
        pin_support: PinSupport::empty(),
        features: Features::SHORT_APDU_LEVEL,
        ..class()
    };
    let identity = [11, 2, 0xA5, 0x0C, 12, 2, 0x34, 0x12];
    let short = [10, 4, 0, 0, 0, 0];
    assert_eq!(
        answer(GET_TLV_PROPERTIES, &bare, &Behaviour::default(), NO_ESCAPES),
        [&[1, 2, 0, 0, 3, 1, 0, 9, 1, 0][..], &short, &identity].concat()
    );
    let display = ClassDescriptor { lcd_layout: 0x0210, ..class() };
    let known =
        Behaviour { pin_length: Some(4..=8), pin_condition: Some(2), ..Behaviour::default() };
    let keypad = [1, 2, 0x10, 2, 4, 2, 0x10, 0, 5, 2, 2, 0, 2, 1, 2, 6, 1, 4, 7, 1, 8];
    let rest = [3, 1, 0, 9, 1, 1, 10, 4, 0, 0, 1, 0];
    assert_eq!(
        answer(GET_TLV_PROPERTIES, &display, &known, ESCAPES),
        [&keypad[..], &rest, &identity].concat()
    );
}

#[test]
fn ends_of_a_pin_entry_as_status_words() {
    let failed = |message_type, error| {
        let sent = Sent { message_type, slot: Slot(0), seq: Seq(1) };
        Err(Error::Failed { sent, error })
    };
    for (error, status) in [
        (SlotError::PinTimeout, [0x64, 0x00]),
        (SlotError::PinCancelled, [0x64, 0x01]),
        (SlotError::Unknown(10), [0x6B, 0x80]),
        (SlotError::Unknown(0x7F), [0x6B, 0x80]),
    ] {
        assert_eq!(Kind::Pin.answer(failed(SECURE, error)), Ok(Bytes::copy_from_slice(&status)));
        // Elsewhere the same codes are failures.
        assert!(Kind::Escape.answer(failed(0x6B, error)).is_err());
        assert!(Kind::Pin.answer(failed(0x6B, error)).is_err());
    }
    for error in [SlotError::CmdNotSupported, SlotError::BadSlot, SlotError::Unknown(9)] {
        assert!(Kind::Pin.answer(failed(SECURE, error)).is_err());
    }
    assert_eq!(Kind::Pin.answer(Err(Error::Cancelled)), Err(Error::Cancelled));
    let data = Bytes::from_static(&[0x64, 0x02]);
    assert_eq!(Kind::Pin.answer(Ok(Output::Data(data.clone()))), Ok(data));
    assert_eq!(Kind::Escape.answer(Ok(Output::Done)), Ok(Bytes::new()));
}
