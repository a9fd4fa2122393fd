use super::*;
use ccid::descriptor::DESCRIPTOR_LEN;

/// An Atmel "USB Smart Card Reader" (03EB:6010).
fn atmel() -> ClassDescriptor {
    let text = "36 21 00 01 00 07 03 00 00 00 A0 0F 00 00 A0 0F 00 00 00 00 2A 00 00 00 40 05 00 00 \
                FE 00 00 00 00 00 00 00 00 00 00 00 30 02 01 00 0F 01 00 00 00 00 00 00 00 01";
    ClassDescriptor::parse(&crate::cli::hex::parse(text).unwrap()).unwrap()
}

fn row(class: &ClassDescriptor, name: &str) -> Row {
    explain(class).into_iter().find(|row| row.name == name).unwrap()
}

fn conclusion(class: &ClassDescriptor, of: &str) -> String {
    conclusions(class).into_iter().find(|(name, _)| *name == of).unwrap().1
}

#[test]
fn every_byte_is_explained_once() {
    let rows = explain(&atmel());
    let bytes: Vec<u8> = rows.iter().flat_map(|row| row.bytes.clone()).collect();
    assert_eq!(bytes, atmel().emit());
    assert_eq!(bytes.len(), DESCRIPTOR_LEN);
    assert!(rows.iter().all(|row| row.odd.is_none()), "{rows:?}");
}

#[test]
fn values_and_meanings() {
    let class = atmel();
    for (name, value, meaning) in [
        ("bcdCCID", "0100h", "CCID 1.00"),
        ("bMaxSlotIndex", "00h", "one slot"),
        ("bVoltageSupport", "07h", "5 V, 3 V and 1.8 V"),
        ("dwProtocols", "00000003h", "T=0 and T=1"),
        ("dwDefaultClock", "00000FA0h", "4 MHz"),
        ("bNumClockSupported", "00h", "any clock between the two"),
        ("dwMaxDataRate", "00054000h", "344064 bit/s"),
        ("dwMaxCCIDMessageLength", "0000010Fh", "messages of up to 271 bytes"),
        ("wLcdLayout", "0000h", "no display"),
        ("bPINSupport", "00h", "no PIN pad"),
    ] {
        let row = row(&class, name);
        assert_eq!((row.value.as_deref(), row.meaning.as_str()), (Some(value), meaning), "{name}");
    }
    let features: Vec<_> = explain(&class)
        .into_iter()
        .skip_while(|row| row.name != "dwFeatures")
        .take_while(|row| row.name != "dwMaxCCIDMessageLength")
        .map(|row| row.value.unwrap())
        .collect();
    assert_eq!(features, ["00010230h", "00000010h", "00000020h", "00000200h", "00010000h"]);
}

#[test]
fn oddities_are_marked() {
    let good = atmel();
    for (class, name, odd) in [
        (ClassDescriptor { descriptor_type: 0xFF, ..good }, "bDescriptorType", "21h"),
        (ClassDescriptor { bcd_ccid: 0x0001, ..good }, "bcdCCID", "1.00 and 1.10"),
        (ClassDescriptor { voltage_support: Voltages::empty(), ..good }, "bVoltageSupport", "one"),
        (
            ClassDescriptor { protocols: ReaderProtocols::from_bits_retain(0x0300), ..good },
            "dwProtocols",
            "wrong order",
        ),
        (ClassDescriptor { default_clock: 0, ..good }, "dwDefaultClock", "kHz"),
        (ClassDescriptor { maximum_clock: 1, ..good }, "dwMaximumClock", "lower"),
        (ClassDescriptor { max_data_rate: 1, ..good }, "dwMaxDataRate", "lower"),
        (ClassDescriptor { max_ifsd: 0, ..good }, "dwMaxIFSD", "T=1"),
        (ClassDescriptor { max_ifsd: 256, ..good }, "dwMaxIFSD", "254"),
        (ClassDescriptor { synch_protocols: 1, ..good }, "dwSynchProtocols", "reserved"),
        (
            ClassDescriptor { max_ccid_message_length: 64, ..good },
            "dwMaxCCIDMessageLength",
            "shorter",
        ),
        (
            ClassDescriptor { max_ccid_message_length: u32::MAX, ..good },
            "dwMaxCCIDMessageLength",
            "longer",
        ),
        (ClassDescriptor { lcd_layout: 0x0200, ..good }, "wLcdLayout", "without"),
        (ClassDescriptor { max_ccid_busy_slots: 0, ..good }, "bMaxCCIDBusySlots", "as 1"),
        (ClassDescriptor { max_ccid_busy_slots: 2, ..good }, "bMaxCCIDBusySlots", "more than"),
    ] {
        let found = row(&class, name).odd.unwrap_or_default();
        assert!(found.contains(odd), "{name}: {found:?}");
    }
    let levels = Features::TPDU_LEVEL | Features::SHORT_APDU_LEVEL;
    let features = levels | Features::from_bits_retain(0x8000_0000);
    let class = ClassDescriptor { features, ..good };
    assert!(row(&class, "dwFeatures").odd.unwrap().contains("more than one"));
    let reserved = explain(&class).into_iter().find(|row| row.meaning == "reserved bits").unwrap();
    assert_eq!(reserved.value.as_deref(), Some("80000000h"));
}

#[test]
fn conclusions_follow_from_the_fields() {
    let class = atmel();
    assert_eq!(conclusion(&class, "exchange level"), "TPDU: the host makes TPDUs of APDUs");
    assert_eq!(conclusion(&class, "voltage"), "5 V, 3 V, 1.8 V, one after the other");
    assert_eq!(conclusion(&class, "data in a message"), "261 bytes");
    assert!(conclusion(&class, "protocols").starts_with("T=0"));
    let several = ClassDescriptor {
        max_slot_index: 7,
        max_ccid_busy_slots: 20,
        pin_support: PinSupport::VERIFY,
        features: Features::EXTENDED_APDU_LEVEL | Features::AUTO_VOLTAGE,
        ..class
    };
    assert_eq!(conclusion(&several, "slots"), "8 slots, of which 8 may be busy at once");
    assert_eq!(conclusion(&several, "PIN entry"), "VERIFY on the reader");
    assert_eq!(conclusion(&several, "protocols"), "T=0 and T=1");
    assert_eq!(conclusion(&several, "voltage"), "left to the reader");
    assert!(conclusion(&several, "data in a message").contains("several"));
}
