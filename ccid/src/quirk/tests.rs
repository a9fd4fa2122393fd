//! The table on readers that it names, and the text with errors in it.

use super::*;
use crate::wire::HEADER_LEN;
use alloc::string::ToString;
use alloc::vec;

fn class(features: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 1, 7, 3]);
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44] = HEADER_LEN as u8 + 100;
    bytes[52] = 3;
    let mut class = ClassDescriptor::parse(&bytes).unwrap();
    class.max_data_rate = 600_000;
    class
}

fn identity(vendor: u16, product: u16, firmware: u16) -> Identity {
    Identity { vendor, product, firmware }
}

fn built_in(vendor: u16, product: u16, firmware: u16, features: u32) -> Adjusted {
    Table::built_in().apply(identity(vendor, product, firmware), &class(features))
}

fn parsed(text: &str) -> Table {
    let mut table = Table(Vec::new());
    assert_eq!(table.extend(text), []);
    table
}

#[test]
fn the_built_in_table_is_sound() {
    let (rows, errors) = text::parse(include_str!("table.txt"));
    assert_eq!(errors, []);
    assert!(rows.len() > 60, "{}", rows.len());
    for row in rows {
        assert!(!row.evidence.is_empty(), "{row:?}");
    }
}

#[test]
fn a_reader_not_in_the_table_is_left_alone() {
    let class = class(0x0001_00BA);
    let adjusted = Table::built_in().apply(identity(0xFFFF, 0xFFFF, 0), &class);
    assert_eq!(adjusted, Adjusted { class, behaviour: Behaviour::default() });
}

#[test]
fn levels() {
    let level = |vendor, product, firmware, features| {
        built_in(vendor, product, firmware, features).class.exchange_level()
    };
    let (tpdu, short, extended) = (0x0001_0000, 0x0002_0000, 0x0004_0000);
    assert_eq!(level(0x076B, 0x3A21, 0x0100, tpdu), ExchangeLevel::ExtendedApdu);
    assert_eq!(level(0x0D46, 0x3010, 0x0100, extended), ExchangeLevel::ShortApdu);
    assert_eq!(level(0x046A, 0x00A1, 0x0100, short), ExchangeLevel::ExtendedApdu);
    assert_eq!(level(0x046A, 0x00A1, 0x0101, short), ExchangeLevel::ShortApdu);
    assert_eq!(level(0x046A, 0x00A1, 0x0100, tpdu), ExchangeLevel::Tpdu);
    // All other bits of dwFeatures stay.
    let features = built_in(0x0D46, 0x3010, 0, extended | 0xBA).class.features;
    assert_eq!(features.bits(), short | 0xBA);
}

#[test]
fn the_class_descriptor_is_corrected() {
    let pin = |vendor, product| built_in(vendor, product, 0, 0).class.pin_support;
    assert_eq!(pin(0x03F0, 0x1024), PinSupport::empty());
    assert_eq!(pin(0x03F0, 0x1025), PinSupport::VERIFY | PinSupport::MODIFY);
    assert_eq!(built_in(0x09BE, 0x0002, 0, 0).class.max_ifsd, 254);
    assert_eq!(built_in(0x0B97, 0x7762, 0, 0).class.max_data_rate, 9600);
    let ifsd = |firmware| {
        built_in(0x0529, 0x0620, firmware, 0).class.features.contains(Features::AUTO_IFSD)
    };
    assert_eq!([0x11, 0x12, 0x13, 0x14].map(ifsd), [false, true, true, false]);
}

#[test]
fn behaviour() {
    let of = |vendor, product, firmware| built_in(vendor, product, firmware, 0).behaviour;
    assert_eq!(of(0x0B81, 0x0200, 0).open_delay, Duration::from_secs(1));
    assert_eq!(of(0x0B81, 0x0200, 0).reader_time, Duration::from_secs(60));
    assert_eq!(of(0x08E6, 0x34D2, 0).extra_time, Duration::from_secs(300));
    assert_eq!(of(0x08E6, 0x4433, 0).flags & Flags::ISO_MODE, Flags::ISO_MODE);
    assert_eq!(of(0x0D46, 0x301D, 0).flags, Flags::OFF_BEFORE_ON);
    assert_eq!(of(0x08E6, 0x3480, 0).slot_rates, Some(vec![10_753, 21_505, 43_011, 125_000]));
    assert_eq!(of(0x04E6, 0xE001, 0x0515).flags, Flags::OLD_FIRMWARE);
    assert_eq!(of(0x04E6, 0xE001, 0x0516).flags, Flags::empty());
    // Every product of a vendor, and what is special about one.
    assert_eq!(of(0x08E6, 0x1234, 0).pin_condition, None);
    let pinpad = of(0x08E6, 0x3478, 0x0100);
    assert_eq!(
        (pinpad.pin_condition, pinpad.pin_length, pinpad.flags),
        (
            Some(2),
            Some(4..=8),
            Flags::PIN_FEATURE_BLOCK
                | Flags::FIRMWARE_NAME
                | Flags::PIN_STRINGS
                | Flags::PIN_MODIFY_THREE_INDEXES
                | Flags::PIN_VERIFY_ONE_MESSAGE
        )
    );
}

#[test]
fn escapes_that_are_allowed_to_all() {
    let allows = |vendor, product, data: &[u8]| {
        built_in(vendor, product, 0x0100, 0).behaviour.allows_escape(data)
    };
    assert!(allows(0x08E6, 0x1234, &[0x02]));
    let qemu = built_in(0x08E6, 0x4433, 0, 0).behaviour;
    assert!(!qemu.allows_escape(&[0x02]) && !qemu.flags.contains(Flags::FIRMWARE_NAME));
    for other in [&[][..], &[0x03], &[0x02, 0x02]] {
        assert!(!allows(0x08E6, 0x1234, other));
    }
    assert!(allows(0x08E6, 0x5503, &[0x52, 0xF8, 0x04, 0x01, 0x00, 0x02]));
    assert!(allows(0x08E6, 0x5503, &[0x02]));
    assert!(!allows(0x08E6, 0x5503, &[0x52, 0xF8, 0x04, 0x01, 0x00]));
    assert!(!allows(0x08E6, 0x5503, &[0x52, 0xF8, 0x04, 0x01, 0x01, 0x02]));
    assert!(allows(0x076B, 0x5427, &[0xAA, 0xBB]) && allows(0x076B, 0x5427, &[]));
    assert!(!allows(0x076B, 0x5428, &[0x02]));
}

#[test]
fn the_users_rows_come_last() {
    let mut table = Table::built_in();
    let before = table.len();
    let errors = table.extend(
        "# mine\n\n0D46:301D forget level=tpdu # is mended\n\
         08e6:3438 fw=0200- open-escape=1F02 open-escape=aabb level=short",
    );
    assert_eq!((errors, table.len()), (vec![], before + 2));
    let mine = table.apply(identity(0x0D46, 0x301D, 0), &class(0));
    assert_eq!(mine.behaviour, Behaviour::default());
    assert_eq!(mine.class.exchange_level(), ExchangeLevel::Tpdu);
    let escapes = |firmware| {
        table.apply(identity(0x08E6, 0x3438, firmware), &class(0)).behaviour.open_escapes
    };
    assert_eq!(
        escapes(0x0200),
        [Bytes::from_static(&[0x1F, 2]), Bytes::from_static(&[0xAA, 0xBB])]
    );
    assert_eq!(escapes(0x01FF), Vec::<Bytes>::new());
}

#[test]
fn a_bad_line_is_named_and_the_rest_counts() {
    let mut table = Table(Vec::new());
    let errors = table.extend(
        "08E6:3438 level=short\n  nonsense level=short\n08E6:3438 fw=12 no-pin\n\
         08E6:3438  no-pin  sing # loudly\n08E6:3438 max-ifsd=255\n08E6:3438 fw=0100 # and?\n\
         08E6:3438 no-pin=yes\n08E6:3438 fw=0200-0100 no-pin\n08E6:é no-pin\n\
         08E6:* open-escape=1F0\n08E6:* pin-length=8-4\n08E6:* slot-rates=1,,2\n\
         08E6:* open-delay=600001\n08E6:* allow-escape=.\n08E6:* allow-escape=0.\n\
         08E6:* allow-escape=\n0D46:* no-pin",
    );
    let told: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
    assert_eq!(
        told,
        [
            (2, 3),
            (3, 11),
            (4, 20),
            (5, 11),
            (6, 1),
            (7, 11),
            (8, 11),
            (9, 1),
            (10, 8),
            (11, 8),
            (12, 8),
            (13, 8),
            (14, 8),
            (15, 8),
            (16, 8)
        ]
    );
    assert_eq!(errors[2].to_string(), "line 4, column 20: \"sing\" is no known effect");
    assert_eq!(errors[4].kind, TextErrorKind::NoEffect);
    assert_eq!(table.len(), 2);
}

#[test]
fn every_flag_has_a_name_in_the_text() {
    for (name, flag) in Flags::all().iter_names() {
        let text = name.to_ascii_lowercase().replace('_', "-");
        let table = parsed(&alloc::format!("1234:5678 {text}"));
        let behaviour = table.apply(identity(0x1234, 0x5678, 0), &class(0)).behaviour;
        assert_eq!(behaviour.flags, flag);
    }
}

#[test]
fn the_openpgp_card_gets_its_time() {
    let atr = Atr::new(&OPENPGP_1);
    let mut info = atr.parse().unwrap();
    correct_card(&atr, &mut info);
    assert_eq!(info.t1_parameters().bwi, 7);
    let other = Atr::new(&[0x3B, 0x80, 0x81, 0x21, 0x45, 0x65]);
    let mut info = other.parse().unwrap();
    correct_card(&other, &mut info);
    assert_eq!(info.t1_parameters().bwi, 4);
}

#[test]
fn products_are_named_once() {
    let table = Table::built_in();
    let products: Vec<_> = table.products().collect();
    assert!(products.contains(&(0x08E6, 0x3478, "GemPC Pinpad")), "{products:?}");
    for (at, (vendor, product, name)) in products.iter().enumerate() {
        assert!(!name.is_empty(), "{vendor:04X}:{product:04X}");
        let again = products.iter().skip(at + 1).any(|p| (p.0, p.1) == (*vendor, *product));
        assert!(!again, "{vendor:04X}:{product:04X}");
    }
}
