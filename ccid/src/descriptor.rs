//! The CCID class descriptor (CCID 1.1 §5.1) and what follows from it.

mod choices;

pub use choices::{Choices, Oddity};

use crate::atr::Protocol;
use crate::error::Unsupported;
use bitflags::bitflags;
use core::fmt;

/// Length in bytes of the class descriptor.
pub const DESCRIPTOR_LEN: usize = 54;

bitflags! {
    /// bVoltageSupport: the voltages a reader can give a card.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Voltages: u8 {
        /// 5 V.
        const V5 = 0x01;
        /// 3 V.
        const V3 = 0x02;
        /// 1.8 V.
        const V1_8 = 0x04;
        const _ = !0;
    }

    /// dwProtocols: the card protocols a reader knows.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct ReaderProtocols: u32 {
        /// T=0.
        const T0 = 0x0000_0001;
        /// T=1.
        const T1 = 0x0000_0002;
        const _ = !0;
    }

    /// dwFeatures: what a reader does by itself, and its exchange level.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Features: u32 {
        /// 0002h: automatic parameter configuration based on the ATR.
        const AUTO_PARAMETERS_FROM_ATR = 0x0000_0002;
        /// 0004h: automatic activation of the card on insertion.
        const AUTO_ACTIVATION = 0x0000_0004;
        /// 0008h: automatic choice of voltage.
        const AUTO_VOLTAGE = 0x0000_0008;
        /// 0010h: automatic change of clock frequency.
        const AUTO_CLOCK = 0x0000_0010;
        /// 0020h: automatic change of baud rate.
        const AUTO_BAUD_RATE = 0x0000_0020;
        /// 0040h: automatic parameter negotiation by the reader (its own PPS).
        const AUTO_PARAMETER_NEGOTIATION = 0x0000_0040;
        /// 0080h: automatic PPS according to the current parameters.
        const AUTO_PPS = 0x0000_0080;
        /// 0100h: the reader can stop the clock.
        const CLOCK_STOP = 0x0000_0100;
        /// 0200h: NAD values other than 00h are accepted (T=1).
        const NAD = 0x0000_0200;
        /// 0400h: automatic IFSD exchange as the first exchange (T=1).
        const AUTO_IFSD = 0x0000_0400;
        /// 0800h: required by ICCD devices.
        const ICCD = 0x0000_0800;
        /// 0001_0000h: exchanges TPDUs.
        const TPDU_LEVEL = 0x0001_0000;
        /// 0002_0000h: exchanges short APDUs.
        const SHORT_APDU_LEVEL = 0x0002_0000;
        /// 0004_0000h: exchanges short and extended APDUs.
        const EXTENDED_APDU_LEVEL = 0x0004_0000;
        /// 0010_0000h: wakes the host up on insertion and removal.
        const USB_WAKE_UP = 0x0010_0000;
        const _ = !0;
    }

    /// dwMechanical: what a reader can do with a card mechanically.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Mechanical: u32 {
        /// Accepts a card.
        const ACCEPT = 0x01;
        /// Ejects it.
        const EJECT = 0x02;
        /// Captures it.
        const CAPTURE = 0x04;
        /// Locks and unlocks it.
        const LOCK = 0x08;
        const _ = !0;
    }

    /// bPINSupport: PIN entry on the reader.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct PinSupport: u8 {
        /// Verification.
        const VERIFY = 0x01;
        /// Modification.
        const MODIFY = 0x02;
        const _ = !0;
    }
}

/// How much of the card protocol a reader does itself (dwFeatures, CCID 1.1 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExchangeLevel {
    /// Characters: the host does all of it.
    Character,
    /// TPDUs: T=0 TPDUs, T=1 blocks.
    Tpdu,
    /// APDUs of at most 261 bytes.
    ShortApdu,
    /// APDUs of any length, chained by wLevelParameter.
    ExtendedApdu,
}

impl fmt::Display for ExchangeLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Character => "character",
            Self::Tpdu => "TPDU",
            Self::ShortApdu => "short APDU",
            Self::ExtendedApdu => "short and extended APDU",
        })
    }
}

/// Why bytes are not a class descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Not 54 bytes.
    WrongLength(usize),
    /// bLength is not 54.
    BadLengthField(u8),
    /// bDescriptorType is neither 21h nor FFh.
    BadType(u8),
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength(n) => {
                write!(f, "a CCID class descriptor has {DESCRIPTOR_LEN} bytes, not {n}")
            }
            Self::BadLengthField(n) => {
                write!(f, "bLength of a CCID class descriptor is {DESCRIPTOR_LEN}, not {n}")
            }
            Self::BadType(n) => {
                write!(f, "bDescriptorType of a CCID class descriptor is 21h or FFh, not {n:02X}h")
            }
        }
    }
}

impl core::error::Error for DescriptorError {}

/// The class descriptor, field by field, as it stands in the device; nothing corrected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClassDescriptor {
    /// bDescriptorType: 21h, or FFh on older devices.
    pub descriptor_type: u8,
    /// bcdCCID.
    pub bcd_ccid: u16,
    /// bMaxSlotIndex: slots less one.
    pub max_slot_index: u8,
    /// bVoltageSupport.
    pub voltage_support: Voltages,
    /// dwProtocols.
    pub protocols: ReaderProtocols,
    /// dwDefaultClock in kHz.
    pub default_clock: u32,
    /// dwMaximumClock in kHz.
    pub maximum_clock: u32,
    /// bNumClockSupported; 0: what lies between default and maximum.
    pub num_clock_supported: u8,
    /// dwDataRate in bit/s.
    pub data_rate: u32,
    /// dwMaxDataRate in bit/s.
    pub max_data_rate: u32,
    /// bNumDataRatesSupported; 0: what lies between default and maximum.
    pub num_data_rates_supported: u8,
    /// dwMaxIFSD in bytes (T=1).
    pub max_ifsd: u32,
    /// dwSynchProtocols.
    pub synch_protocols: u32,
    /// dwMechanical.
    pub mechanical: Mechanical,
    /// dwFeatures.
    pub features: Features,
    /// dwMaxCCIDMessageLength in bytes, header included.
    pub max_ccid_message_length: u32,
    /// bClassGetResponse: class byte of the reader's own GET RESPONSE; FFh: that of the command.
    pub class_get_response: u8,
    /// bClassEnvelope: likewise for ENVELOPE.
    pub class_envelope: u8,
    /// wLcdLayout: lines in the high byte, characters a line in the low one; 0: no display.
    pub lcd_layout: u16,
    /// bPINSupport.
    pub pin_support: PinSupport,
    /// bMaxCCIDBusySlots: slots that can be busy at the same time.
    pub max_ccid_busy_slots: u8,
}

impl ClassDescriptor {
    /// Reads the 54 bytes of a class descriptor.
    ///
    /// # Errors
    /// [`DescriptorError`] if length or type are not a class descriptor's.
    pub fn parse(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let bytes = <&[u8; DESCRIPTOR_LEN]>::try_from(bytes)
            .map_err(|_| DescriptorError::WrongLength(bytes.len()))?;
        let mut fields = Fields(bytes);
        let length = fields.u8();
        if usize::from(length) != DESCRIPTOR_LEN {
            return Err(DescriptorError::BadLengthField(length));
        }
        let descriptor_type = fields.u8();
        if !matches!(descriptor_type, 0x21 | 0xFF) {
            return Err(DescriptorError::BadType(descriptor_type));
        }
        Ok(Self {
            descriptor_type,
            bcd_ccid: fields.u16(),
            max_slot_index: fields.u8(),
            voltage_support: Voltages::from_bits_retain(fields.u8()),
            protocols: ReaderProtocols::from_bits_retain(fields.u32()),
            default_clock: fields.u32(),
            maximum_clock: fields.u32(),
            num_clock_supported: fields.u8(),
            data_rate: fields.u32(),
            max_data_rate: fields.u32(),
            num_data_rates_supported: fields.u8(),
            max_ifsd: fields.u32(),
            synch_protocols: fields.u32(),
            mechanical: Mechanical::from_bits_retain(fields.u32()),
            features: Features::from_bits_retain(fields.u32()),
            max_ccid_message_length: fields.u32(),
            class_get_response: fields.u8(),
            class_envelope: fields.u8(),
            lcd_layout: fields.u16(),
            pin_support: PinSupport::from_bits_retain(fields.u8()),
            max_ccid_busy_slots: fields.u8(),
        })
    }

    /// The descriptor's bytes.
    pub fn emit(&self) -> [u8; DESCRIPTOR_LEN] {
        let mut out = [0; DESCRIPTOR_LEN];
        let mut rest = out.iter_mut();
        let mut put = |bytes: &[u8]| bytes.iter().zip(&mut rest).for_each(|(b, slot)| *slot = *b);
        put(&[DESCRIPTOR_LEN as u8, self.descriptor_type]);
        put(&self.bcd_ccid.to_le_bytes());
        put(&[self.max_slot_index, self.voltage_support.bits()]);
        put(&self.protocols.bits().to_le_bytes());
        put(&self.default_clock.to_le_bytes());
        put(&self.maximum_clock.to_le_bytes());
        put(&[self.num_clock_supported]);
        put(&self.data_rate.to_le_bytes());
        put(&self.max_data_rate.to_le_bytes());
        put(&[self.num_data_rates_supported]);
        put(&self.max_ifsd.to_le_bytes());
        put(&self.synch_protocols.to_le_bytes());
        put(&self.mechanical.bits().to_le_bytes());
        put(&self.features.bits().to_le_bytes());
        put(&self.max_ccid_message_length.to_le_bytes());
        put(&[self.class_get_response, self.class_envelope]);
        put(&self.lcd_layout.to_le_bytes());
        put(&[self.pin_support.bits(), self.max_ccid_busy_slots]);
        out
    }

    /// Number of slots, 1 to 256.
    pub fn slots(&self) -> usize {
        usize::from(self.max_slot_index) + 1
    }

    /// Slots that may be busy at once: bMaxCCIDBusySlots, at least one and at most all. Readers
    /// in the field declare 0, and more than they have.
    pub fn busy_slots(&self) -> usize {
        usize::from(self.max_ccid_busy_slots).clamp(1, self.slots())
    }

    /// The exchange level: the highest one declared.
    pub fn exchange_level(&self) -> ExchangeLevel {
        if self.features.contains(Features::EXTENDED_APDU_LEVEL) {
            ExchangeLevel::ExtendedApdu
        } else if self.features.contains(Features::SHORT_APDU_LEVEL) {
            ExchangeLevel::ShortApdu
        } else if self.features.contains(Features::TPDU_LEVEL) {
            ExchangeLevel::Tpdu
        } else {
            ExchangeLevel::Character
        }
    }

    /// Whether this stack can exchange APDUs on the reader with a card that speaks `protocol`.
    ///
    /// # Errors
    /// What stands against it: the reader does not know the protocol.
    pub fn can_speak(&self, protocol: Protocol) -> Result<(), Unsupported> {
        let known = match protocol {
            Protocol::T0 => ReaderProtocols::T0,
            Protocol::T1 => ReaderProtocols::T1,
        };
        match self.card_protocols().contains(known) {
            true => Ok(()),
            false => Err(Unsupported::Protocol(protocol.number())),
        }
    }
}

/// Reads fields one after the other; zero where the bytes end, which `parse` rules out.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptor of an Atmel "USB Smart Card Reader" (03EB:6010), as its device gives it.
    const ATMEL: [u8; 54] = [
        0x36, 0x21, 0x00, 0x01, 0x00, 0x07, 0x03, 0x00, 0x00, 0x00, 0xA0, 0x0F, 0x00, 0x00, 0xA0,
        0x0F, 0x00, 0x00, 0x00, 0x00, 0x2A, 0x00, 0x00, 0x00, 0x40, 0x05, 0x00, 0x00, 0xFE, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x02, 0x01, 0x00, 0x0F,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
    ];

    #[test]
    fn fields_and_back() {
        let descriptor = ClassDescriptor::parse(&ATMEL).unwrap();
        assert_eq!(descriptor.bcd_ccid, 0x0100);
        assert_eq!(descriptor.voltage_support, Voltages::V5 | Voltages::V3 | Voltages::V1_8);
        assert_eq!(descriptor.protocols, ReaderProtocols::T0 | ReaderProtocols::T1);
        assert_eq!(descriptor.default_clock, 4000);
        assert_eq!(descriptor.data_rate, 10752);
        assert_eq!(descriptor.max_data_rate, 344_064);
        assert_eq!(descriptor.max_ifsd, 254);
        assert_eq!(descriptor.exchange_level(), ExchangeLevel::Tpdu);
        assert_eq!(descriptor.max_ccid_message_length, 271);
        assert_eq!(descriptor.max_data(), 261);
        assert_eq!(descriptor.busy_slots(), 1);
        assert_eq!(descriptor.emit(), ATMEL);
    }

    #[test]
    fn protocols_depend_on_the_declaration() {
        let both = ClassDescriptor::parse(&ATMEL).unwrap();
        assert_eq!(both.can_speak(Protocol::T0), Ok(()));
        assert_eq!(both.can_speak(Protocol::T1), Ok(()));
        let t0_only = ClassDescriptor { protocols: ReaderProtocols::T0, ..both };
        assert_eq!(t0_only.can_speak(Protocol::T1), Err(Unsupported::Protocol(1)));
        let swapped = ReaderProtocols::from_bits_retain(0x0300);
        let swapped = ClassDescriptor { protocols: swapped, ..both };
        assert_eq!(swapped.can_speak(Protocol::T1), Ok(()));
    }

    #[test]
    fn anything_else_is_an_error() {
        assert_eq!(ClassDescriptor::parse(&[]), Err(DescriptorError::WrongLength(0)));
        assert_eq!(ClassDescriptor::parse(&[0; 55]), Err(DescriptorError::WrongLength(55)));
        let mut bad = ATMEL;
        bad[0] = 53;
        assert_eq!(ClassDescriptor::parse(&bad), Err(DescriptorError::BadLengthField(53)));
        let mut bad = ATMEL;
        bad[1] = 0x24;
        assert_eq!(ClassDescriptor::parse(&bad), Err(DescriptorError::BadType(0x24)));
    }
}
