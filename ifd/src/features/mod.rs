//! Control codes: escape, and the features of PC/SC specification part 10 v2.02.09. In one place
//! for all that take control codes from a caller.
//!
//! * [`control`] says what a code asks of a reader: an answer that is known at once, or an
//!   operation whose end [`Kind::answer`] puts into the caller's terms.
//! * `pin`: the structures of PIN verification and modification.
//! * `properties`: which features a reader has, and what it tells of its keypad and display.
//!
//! Not offered: PIN entry in two steps (START, FINISH, GET_KEY_PRESSED, ABORT). It is there for
//! callers that must not block; here the one call can be cancelled.

mod pin;
mod properties;

use bytes::Bytes;
use ccid::descriptor::{ClassDescriptor, PinSupport};
use ccid::quirk::{Behaviour, Flags};
use ccid::wire::SlotError;
use ccid::{Error, Operation, Output};
use std::fmt;

/// SCARD_CTL_CODE(1): an escape command to the reader, as libccid has it.
pub const ESCAPE: u32 = 0x4200_0001;
/// CM_IOCTL_GET_FEATURE_REQUEST as pcsc-lite counts it.
pub const GET_FEATURE_REQUEST: u32 = 0x4200_0D48;
/// CM_IOCTL_GET_FEATURE_REQUEST as Windows counts it; remote desktops pass it on.
pub const GET_FEATURE_REQUEST_WINDOWS: u32 = 0x0031_3520;
/// The control code that [`GET_FEATURE_REQUEST`] names for FEATURE_VERIFY_PIN_DIRECT.
pub const VERIFY_PIN_DIRECT: u32 = 0x4233_0006;
/// Likewise for FEATURE_MODIFY_PIN_DIRECT.
pub const MODIFY_PIN_DIRECT: u32 = 0x4233_0007;
/// Likewise for FEATURE_MCT_READER_DIRECT.
pub const MCT_READER_DIRECT: u32 = 0x4233_0008;
/// Likewise for FEATURE_IFD_PIN_PROPERTIES.
pub const IFD_PIN_PROPERTIES: u32 = 0x4233_000A;
/// Likewise for FEATURE_GET_TLV_PROPERTIES.
pub const GET_TLV_PROPERTIES: u32 = 0x4233_0012;

/// What is allowed to callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Escape commands: they can do anything to a reader, up to a change of its firmware. Without,
    /// those that are known to do no harm ([`Behaviour::allows_escape`]).
    pub escape: bool,
}

/// What is known of the reader.
#[derive(Clone, Copy, Debug)]
pub struct ReaderFacts<'a> {
    /// The class descriptor, corrected.
    pub class: &'a ClassDescriptor,
    /// idVendor.
    pub vendor_id: u16,
    /// idProduct.
    pub product_id: u16,
    /// Its ways.
    pub behaviour: &'a Behaviour,
}

impl ReaderFacts<'_> {
    fn verifies(&self) -> bool {
        self.class.pin_support.contains(PinSupport::VERIFY)
    }

    fn modifies(&self) -> bool {
        self.class.pin_support.contains(PinSupport::MODIFY)
    }

    fn has_mct(&self) -> bool {
        self.behaviour.flags.contains(Flags::MCT_READER_DIRECT)
    }
}

/// What a control code asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// The reader has to do something; [`Kind::answer`] says what its end means.
    Operation(Operation, Kind),
    /// This is the answer.
    Answer(Bytes),
}

/// What kind of operation a control code has started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A command to the reader.
    Escape,
    /// PIN entry.
    Pin,
}

impl Kind {
    /// The caller's answer. The end of a PIN entry that part 10 has a status word for is
    /// one: 6400h, the user took too long; 6401h, the user pressed the cancel key; 6B80h, the
    /// reader does not like a field of the structure. What the reader finds wrong with PINs itself
    /// (6402h, 6403h) comes as its answer, as the card's status words do.
    ///
    /// # Errors
    /// All other failures of the operation; [`Error::Cancelled`] among them, which is the host's
    /// doing and not the user's.
    pub fn answer(self, result: Result<Output, Error>) -> Result<Bytes, Error> {
        match (self, result) {
            (_, Ok(Output::Data(data))) => Ok(data),
            (_, Ok(_)) => Ok(Bytes::new()),
            (Self::Pin, Err(Error::Failed { sent, error })) => match status_word(error) {
                Some(status) if sent.message_type == SECURE => Ok(Bytes::from_static(status)),
                _ => Err(Error::Failed { sent, error }),
            },
            (_, Err(error)) => Err(error),
        }
    }
}

/// bMessageType of PC_to_RDR_Secure.
const SECURE: u8 = 0x69;

/// Offset of bPINOperation in PC_to_RDR_Secure: what is wrong from here on is the structure.
const PIN_OPERATION: u8 = 10;

fn status_word(error: SlotError) -> Option<&'static [u8]> {
    match error {
        SlotError::PinTimeout => Some(&[0x64, 0x00]),
        SlotError::PinCancelled => Some(&[0x64, 0x01]),
        SlotError::Unknown(PIN_OPERATION..=0x7F) => Some(&[0x6B, 0x80]),
        _ => None,
    }
}

/// Why a control code cannot be carried out. Nothing has been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// The code is not known, or the reader has not what it takes.
    Unsupported(u32),
    /// Escape commands are not allowed.
    EscapeNotAllowed,
    /// What came with the code is too short.
    TooShort {
        /// The structure.
        structure: &'static str,
        /// Its least length in bytes.
        least: usize,
        /// Bytes that came.
        length: usize,
    },
    /// ulDataLength is not the length of abData, in either order of bytes.
    DataLength {
        /// As declared, little-endian.
        declared: u32,
        /// Bytes that came.
        length: usize,
    },
    /// A field has a value that is none of its values.
    Field {
        /// The field, as part 10 calls it.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// Not a command of the Secoder kind.
    NotSecoder,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(code) => write!(f, "control code {code:08X}h is not supported"),
            Self::EscapeNotAllowed => f.write_str("escape commands are not allowed"),
            Self::TooShort { structure, least, length } => {
                write!(f, "{structure} has at least {least} bytes, not {length}")
            }
            Self::DataLength { declared, length } => {
                write!(f, "ulDataLength is {declared:08X}h, and abData has {length} bytes")
            }
            Self::Field { field, value } => write!(f, "{field} must not be {value:02X}h"),
            Self::NotSecoder => f.write_str(
                "FEATURE_MCT_READER_DIRECT takes CLA 20h, INS 70h to 74h, P1, P2 and Lind 0",
            ),
        }
    }
}

impl std::error::Error for ControlError {}

/// What `code` with `data` asks of a reader.
///
/// # Errors
/// [`ControlError`].
pub fn control(
    code: u32,
    data: &[u8],
    reader: &ReaderFacts<'_>,
    settings: Settings,
) -> Result<Control, ControlError> {
    match code {
        ESCAPE if settings.escape || reader.behaviour.allows_escape(data) => Ok(escape(data)),
        ESCAPE => Err(ControlError::EscapeNotAllowed),
        GET_FEATURE_REQUEST | GET_FEATURE_REQUEST_WINDOWS => {
            Ok(Control::Answer(properties::features(reader, settings)))
        }
        VERIFY_PIN_DIRECT if reader.verifies() => {
            pin::verify(data, reader.behaviour).map(|pin| Control::Operation(pin, Kind::Pin))
        }
        MODIFY_PIN_DIRECT if reader.modifies() => {
            pin::modify(data, reader.behaviour).map(|pin| Control::Operation(pin, Kind::Pin))
        }
        MCT_READER_DIRECT if reader.has_mct() => match data {
            [0x20, 0x70..=0x74, 0x00, 0x00, 0x00, ..] => Ok(escape(data)),
            _ => Err(ControlError::NotSecoder),
        },
        IFD_PIN_PROPERTIES if reader.verifies() || reader.modifies() => {
            Ok(Control::Answer(properties::pin_properties(reader)))
        }
        GET_TLV_PROPERTIES => Ok(Control::Answer(properties::tlv_properties(reader, settings))),
        other => Err(ControlError::Unsupported(other)),
    }
}

fn escape(data: &[u8]) -> Control {
    Control::Operation(Operation::Escape(Bytes::copy_from_slice(data)), Kind::Escape)
}

#[cfg(test)]
mod tests;
