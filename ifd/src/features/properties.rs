//! Which features of PC/SC part 10 a reader has, and what it tells of its keypad and display
//! (IFD_PIN_PROPERTIES, GET_TLV_PROPERTIES).

use super::{
    ESCAPE, GET_TLV_PROPERTIES, IFD_PIN_PROPERTIES, MCT_READER_DIRECT, MODIFY_PIN_DIRECT,
    ReaderFacts, Settings, VERIFY_PIN_DIRECT,
};
use bytes::{BufMut, Bytes, BytesMut};
use ccid::atr::Protocol;
use ccid::descriptor::ExchangeLevel;
use ccid::quirk::Behaviour;

/// Tags of features.
const FEATURE_VERIFY_PIN_DIRECT: u8 = 0x06;
const FEATURE_MODIFY_PIN_DIRECT: u8 = 0x07;
const FEATURE_MCT_READER_DIRECT: u8 = 0x08;
const FEATURE_IFD_PIN_PROPERTIES: u8 = 0x0A;
const FEATURE_GET_TLV_PROPERTIES: u8 = 0x12;
const FEATURE_CCID_ESC_COMMAND: u8 = 0x13;

/// Tags of properties.
const LCD_LAYOUT: u8 = 1;
const ENTRY_VALIDATION_CONDITION: u8 = 2;
const TIME_OUT_2: u8 = 3;
const LCD_MAX_CHARACTERS: u8 = 4;
const LCD_MAX_LINES: u8 = 5;
const MIN_PIN_SIZE: u8 = 6;
const MAX_PIN_SIZE: u8 = 7;
const FIRMWARE_ID: u8 = 8;
const PPDU_SUPPORT: u8 = 9;
const MAX_APDU_DATA_SIZE: u8 = 10;
const ID_VENDOR: u8 = 11;
const ID_PRODUCT: u8 = 12;

/// The longest value of a property.
const MAX_VALUE: usize = u8::MAX as usize;

/// bEntryValidationCondition: any combination of them.
const ANY_CONDITION: u8 = 0x07;

/// dwMaxAPDUDataSize of extended APDUs.
const EXTENDED_DATA_SIZE: u32 = 0x1_0000;

/// PCSC_TLV_STRUCTURE for each feature: tag, length 4, control code (big-endian).
pub(super) fn features(reader: &ReaderFacts<'_>, settings: Settings) -> Bytes {
    let pin = reader.verifies() || reader.modifies();
    let mut out = BytesMut::new();
    for (there, tag, code) in [
        (reader.verifies(), FEATURE_VERIFY_PIN_DIRECT, VERIFY_PIN_DIRECT),
        (reader.modifies(), FEATURE_MODIFY_PIN_DIRECT, MODIFY_PIN_DIRECT),
        (reader.has_mct(), FEATURE_MCT_READER_DIRECT, MCT_READER_DIRECT),
        (pin, FEATURE_IFD_PIN_PROPERTIES, IFD_PIN_PROPERTIES),
        (true, FEATURE_GET_TLV_PROPERTIES, GET_TLV_PROPERTIES),
        (settings.escape, FEATURE_CCID_ESC_COMMAND, ESCAPE),
    ] {
        if there {
            out.put_slice(&[tag, 4]);
            out.put_u32(code);
        }
    }
    out.freeze()
}

/// PIN_PROPERTIES_STRUCTURE: wLcdLayout in the machine's byte order, bEntryValidationCondition,
/// bTimeOut2, which no CCID reader has.
pub(super) fn pin_properties(reader: &ReaderFacts<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(4);
    out.put_slice(&reader.class.lcd_layout.to_ne_bytes());
    out.put_slice(&[condition(reader), 0]);
    out.freeze()
}

/// The properties that are known, as tag, length, value (little-endian).
pub(super) fn tlv_properties(reader: &ReaderFacts<'_>, settings: Settings) -> Bytes {
    let mut out = BytesMut::new();
    let mut put = |tag: u8, value: &[u8]| {
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        out.put_slice(&[tag, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        out.put_slice(value);
    };
    let layout = reader.class.lcd_layout;
    put(LCD_LAYOUT, &layout.to_le_bytes());
    if layout != 0 {
        put(LCD_MAX_CHARACTERS, &(layout & 0xFF).to_le_bytes());
        put(LCD_MAX_LINES, &(layout >> 8).to_le_bytes());
    }
    if reader.verifies() || reader.modifies() {
        put(ENTRY_VALIDATION_CONDITION, &[condition(reader)]);
        if let Some(lengths) = &reader.behaviour.pin_length {
            put(MIN_PIN_SIZE, &[*lengths.start()]);
            put(MAX_PIN_SIZE, &[*lengths.end()]);
        }
    }
    put(TIME_OUT_2, &[0]);
    if let Some(name) = &reader.behaviour.firmware_name {
        put(FIRMWARE_ID, name);
    }
    // Bit 0: pseudo-APDUs by the escape feature; bit 1, by SCardTransmit, none.
    put(PPDU_SUPPORT, &[u8::from(settings.escape)]);
    put(MAX_APDU_DATA_SIZE, &max_apdu_data_size(reader).to_le_bytes());
    put(ID_VENDOR, &reader.vendor_id.to_le_bytes());
    put(ID_PRODUCT, &reader.product_id.to_le_bytes());
    out.freeze()
}

fn condition(reader: &ReaderFacts<'_>) -> u8 {
    let Behaviour { pin_condition, pin_conditions, .. } = reader.behaviour;
    pin_condition.or(*pin_conditions).unwrap_or(ANY_CONDITION)
}

/// dwMaxAPDUDataSize: 0 stands for short APDUs only. Where the host speaks T=1, it chains.
fn max_apdu_data_size(reader: &ReaderFacts<'_>) -> u32 {
    match reader.class.exchange_level() {
        ExchangeLevel::ExtendedApdu => EXTENDED_DATA_SIZE,
        ExchangeLevel::Tpdu | ExchangeLevel::Character
            if reader.class.can_speak(Protocol::T1).is_ok() =>
        {
            EXTENDED_DATA_SIZE
        }
        _ => 0,
    }
}
