//! Attributes of readers and cards: SCARD_ATTR_*.

use crate::flags::Protocol;
use crate::stack::{HandleEntry, SlotEntry};

macro_rules! attributes {
    ($($(#[$meta:meta])* $name:ident = $code:literal,)+) => {
        /// An attribute, named as in the `pcsc` crate. No reader has all of them: asking for one
        /// that is not there ends as [`Error::UnsupportedFeature`](crate::Error).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum Attribute {
            $($(#[$meta])* $name = $code,)+
        }

        impl Attribute {
            /// The attribute with this number.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Every attribute known.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

attributes! {
    /// Manufacturer's name, text.
    VendorName = 0x0001_0100,
    /// Product's name, text.
    VendorIfdType = 0x0001_0101,
    /// Version: bcdDevice in the upper half of a little-endian u32.
    VendorIfdVersion = 0x0001_0102,
    /// Serial number, text.
    VendorIfdSerialNo = 0x0001_0103,
    /// Where it is connected: 0020h, bus, address in a little-endian u32.
    ChannelId = 0x0002_0110,
    /// Protocols: bit 0 for T=0, bit 1 for T=1, little-endian u32.
    AsyncProtocolTypes = 0x0003_0120,
    /// dwDefaultClock in kHz, little-endian u32.
    DefaultClk = 0x0003_0121,
    /// dwMaximumClock in kHz, little-endian u32.
    MaxClk = 0x0003_0122,
    /// dwDataRate in bit/s, little-endian u32.
    DefaultDataRate = 0x0003_0123,
    /// dwMaxDataRate in bit/s, little-endian u32.
    MaxDataRate = 0x0003_0124,
    /// dwMaxIFSD in bytes, little-endian u32.
    MaxIfsd = 0x0003_0125,
    /// Not known of any reader here.
    SyncProtocolTypes = 0x0003_0126,
    /// Not known of any reader here.
    PowerMgmtSupport = 0x0004_0131,
    /// Not known of any reader here.
    UserToCardAuthDevice = 0x0005_0140,
    /// Not known of any reader here.
    UserAuthInputDevice = 0x0005_0142,
    /// What the reader can do mechanically: bit 0 takes the card in, bit 1 ejects, bit 2 captures
    /// it, little-endian u32.
    Characteristics = 0x0006_0150,
    /// Protocol in use: 1 for T=0, 2 for T=1, little-endian u32.
    CurrentProtocolType = 0x0008_0201,
    /// Not told.
    CurrentClk = 0x0008_0202,
    /// Not told.
    CurrentF = 0x0008_0203,
    /// Not told.
    CurrentD = 0x0008_0204,
    /// Not told.
    CurrentN = 0x0008_0205,
    /// Not told.
    CurrentW = 0x0008_0206,
    /// Not told.
    CurrentIfsc = 0x0008_0207,
    /// Not told.
    CurrentIfsd = 0x0008_0208,
    /// Not told.
    CurrentBwt = 0x0008_0209,
    /// Not told.
    CurrentCwt = 0x0008_020A,
    /// Not told.
    CurrentEbcEncoding = 0x0008_020B,
    /// Not told.
    ExtendedBwt = 0x0008_020C,
    /// One byte: 2 with a card, 0 without.
    IccPresence = 0x0009_0300,
    /// One byte: 1 with a card, 0 without.
    IccInterfaceStatus = 0x0009_0301,
    /// Not told.
    CurrentIoState = 0x0009_0302,
    /// The card's ATR.
    AtrString = 0x0009_0303,
    /// One byte: 1, a card of ISO 7816-3; not without a card.
    IccTypePerAtr = 0x0009_0304,
    /// Not told.
    EscReset = 0x0007_A000,
    /// Set, it ends the command that the reader executes; not told.
    EscCancel = 0x0007_A003,
    /// Not told.
    EscAuthrequest = 0x0007_A005,
    /// The longest command in bytes, little-endian u32.
    Maxinput = 0x0007_A007,
    /// The slot's number, little-endian u32.
    DeviceUnit = 0x7FFF_0001,
    /// Not told.
    DeviceInUse = 0x7FFF_0002,
    /// The reader's name, text.
    DeviceFriendlyName = 0x7FFF_0003,
    /// The reader's name, text.
    DeviceSystemName = 0x7FFF_0004,
    /// Not told.
    SupressT1IfsRequest = 0x7FFF_0007,
}

/// The value of an attribute, if reader and card have it.
pub(crate) fn attribute_of(
    attribute: Attribute,
    handle: &HandleEntry,
    slot: &SlotEntry,
) -> Option<Vec<u8>> {
    let info = &slot.info;
    let number = |value: u32| Some(value.to_le_bytes().to_vec());
    let text = |value: &Option<String>| {
        // Texts end with a NUL, as pcsc-lite's do.
        value.as_ref().map(|text| [text.as_bytes(), &[0]].concat())
    };
    match attribute {
        Attribute::VendorName => text(&info.manufacturer),
        Attribute::VendorIfdType => text(&info.product),
        Attribute::VendorIfdVersion => number(u32::from(info.bcd_device) << 16),
        Attribute::VendorIfdSerialNo => text(&info.serial_number),
        Attribute::ChannelId => {
            number(0x0020 << 16 | u32::from(info.bus) << 8 | u32::from(info.address))
        }
        Attribute::AsyncProtocolTypes => number(info.class.protocols.bits()),
        Attribute::DefaultClk => number(info.class.default_clock),
        Attribute::MaxClk => number(info.class.maximum_clock),
        Attribute::DefaultDataRate => number(info.class.data_rate),
        Attribute::MaxDataRate => number(info.class.max_data_rate),
        Attribute::MaxIfsd => number(info.class.max_ifsd),
        Attribute::CurrentProtocolType => match handle.protocol? {
            Protocol::T0 => number(1),
            Protocol::T1 => number(2),
            Protocol::RAW => number(4),
        },
        Attribute::Characteristics => number(info.class.mechanical.bits() & 7),
        Attribute::IccPresence => Some(vec![if slot.is_present() { 2 } else { 0 }]),
        Attribute::IccInterfaceStatus => Some(vec![u8::from(slot.is_present())]),
        Attribute::AtrString => (!slot.atr().is_empty()).then(|| slot.atr().to_vec()),
        Attribute::IccTypePerAtr => (!slot.atr().is_empty()).then(|| vec![1]),
        Attribute::Maxinput => number(u32::try_from(info.class.max_data()).unwrap_or(u32::MAX)),
        Attribute::DeviceUnit => number(u32::from(slot.number.0)),
        Attribute::DeviceFriendlyName | Attribute::DeviceSystemName => {
            Some(slot.name.as_bytes_with_nul().to_vec())
        }
        _ => None,
    }
}
