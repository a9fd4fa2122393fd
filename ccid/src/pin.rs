//! PIN entry at the reader: abPINOperationDataStructure of PC_to_RDR_Secure (CCID 1.1 §6.1.11).
//!
//! The command APDU in it is a template: reader and user put the PIN where the other fields say.
//! It stays out of all logs nevertheless.

use bytes::{BufMut, Bytes, BytesMut};
use core::fmt;
use core::time::Duration;

/// bPINOperation.
const VERIFICATION: u8 = 0x00;
const MODIFICATION: u8 = 0x01;

/// Bytes of bTeoPrologue.
const TEO_PROLOGUE: usize = 3;

/// What verification and modification have in common: how long the user may take, and how a PIN is
/// written into the command (CCID 1.1 §6.1.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// bTimeOut in seconds; 0: the reader's own.
    pub time_out: u8,
    /// bmFormatString.
    pub format_string: u8,
    /// bmPINBlockString.
    pub pin_block_string: u8,
    /// bmPINLengthFormat.
    pub pin_length_format: u8,
}

/// The PIN verification data structure (CCID 1.1 §6.1.11).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verification<'a> {
    /// The first four fields.
    pub format: Format,
    /// wPINMaxExtraDigit: the least number of digits in the high byte, the greatest in the low one.
    pub pin_max_extra_digit: u16,
    /// bEntryValidationCondition: bit 0, at the greatest number of digits; bit 1, at the Enter key;
    /// bit 2, when time is up.
    pub entry_validation_condition: u8,
    /// bNumberMessage.
    pub number_message: u8,
    /// wLangId.
    pub lang_id: u16,
    /// bMsgIndex.
    pub msg_index: u8,
    /// bTeoPrologue.
    pub teo_prologue: [u8; TEO_PROLOGUE],
    /// abPINApdu.
    pub apdu: &'a [u8],
}

/// The PIN modification data structure (CCID 1.1 §6.1.11).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Modification<'a> {
    /// The first four fields.
    pub format: Format,
    /// bInsertionOffsetOld: where in the command's data the current PIN goes, in bytes.
    pub insertion_offset_old: u8,
    /// bInsertionOffsetNew: likewise the new one.
    pub insertion_offset_new: u8,
    /// wPINMaxExtraDigit: the least number of digits in the high byte, the greatest in the low one.
    pub pin_max_extra_digit: u16,
    /// bConfirmPIN: bit 0, the new PIN is asked for twice; bit 1, the current one is asked for.
    pub confirm_pin: u8,
    /// bEntryValidationCondition, as in [`Verification`].
    pub entry_validation_condition: u8,
    /// bNumberMessage.
    pub number_message: u8,
    /// wLangId.
    pub lang_id: u16,
    /// bMsgIndex1 to bMsgIndex3; which of them are there, [`indexes`](Self::indexes) says.
    pub msg_index: [u8; 3],
    /// All three are there whatever bNumberMessage, as some readers want it.
    pub all_indexes: bool,
    /// bTeoPrologue.
    pub teo_prologue: [u8; TEO_PROLOGUE],
    /// abPINApdu.
    pub apdu: &'a [u8],
}

impl Modification<'_> {
    /// How many message indexes the specification wants for a bNumberMessage; none if that is
    /// reserved. bMsgIndex1 is always there, bMsgIndex2 unless there is no message, bMsgIndex3 if
    /// there are three, or as many as the reader likes (FFh).
    pub const fn indexes(number_message: u8) -> Option<usize> {
        match number_message {
            0 => Some(1),
            1 | 2 => Some(2),
            3 | 0xFF => Some(3),
            _ => None,
        }
    }
}

/// A PIN entry, ready to be asked of a reader.
#[derive(Clone, PartialEq, Eq)]
pub struct PinEntry {
    data: Bytes,
    /// Where bTeoPrologue begins; the APDU is behind it.
    prologue: usize,
    escape: Option<Bytes>,
    pause: Duration,
}

/// Without the command.
impl fmt::Debug for PinEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinEntry({} bytes)", self.data.len())
    }
}

impl PinEntry {
    /// Verification of a PIN.
    pub fn verification(structure: &Verification<'_>) -> Self {
        let mut data = BytesMut::with_capacity(15 + structure.apdu.len());
        put_format(&mut data, VERIFICATION, structure.format);
        data.put_u16_le(structure.pin_max_extra_digit);
        data.put_u8(structure.entry_validation_condition);
        data.put_u8(structure.number_message);
        data.put_u16_le(structure.lang_id);
        data.put_u8(structure.msg_index);
        Self::finish(data, structure.teo_prologue, structure.apdu)
    }

    /// Modification of a PIN; none if bNumberMessage is reserved.
    pub fn modification(structure: &Modification<'_>) -> Option<Self> {
        let indexes = Modification::indexes(structure.number_message)?;
        let indexes = if structure.all_indexes { 3 } else { indexes };
        let mut data = BytesMut::with_capacity(20 + structure.apdu.len());
        put_format(&mut data, MODIFICATION, structure.format);
        data.put_u8(structure.insertion_offset_old);
        data.put_u8(structure.insertion_offset_new);
        data.put_u16_le(structure.pin_max_extra_digit);
        data.put_u8(structure.confirm_pin);
        data.put_u8(structure.entry_validation_condition);
        data.put_u8(structure.number_message);
        data.put_u16_le(structure.lang_id);
        data.extend(structure.msg_index.into_iter().take(indexes));
        Some(Self::finish(data, structure.teo_prologue, structure.apdu))
    }

    fn finish(mut data: BytesMut, teo_prologue: [u8; TEO_PROLOGUE], apdu: &[u8]) -> Self {
        let prologue = data.len();
        data.put_slice(&teo_prologue);
        data.put_slice(apdu);
        Self { data: data.freeze(), prologue, escape: None, pause: Duration::ZERO }
    }

    /// The same after this escape command, whatever its answer.
    #[must_use]
    pub fn after_escape(self, data: Bytes) -> Self {
        Self { escape: Some(data), ..self }
    }

    /// The same after so long a time.
    #[must_use]
    pub fn after_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// bPINOperation and the structure.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// abPINApdu.
    pub fn apdu(&self) -> Bytes {
        self.data.slice(self.prologue + TEO_PROLOGUE..)
    }

    /// [`data`](Self::data) with another bTeoPrologue: NAD, PCB and LEN of the T=1 block that the
    /// command goes in, where the host speaks T=1.
    pub fn with_prologue(&self, teo_prologue: [u8; TEO_PROLOGUE]) -> Bytes {
        let mut data = BytesMut::from(&self.data[..]);
        let field = data.iter_mut().skip(self.prologue);
        field.zip(teo_prologue).for_each(|(old, new)| *old = new);
        data.freeze()
    }

    /// The escape command that comes first.
    pub fn escape(&self) -> Option<&Bytes> {
        self.escape.as_ref()
    }

    /// How long to wait before anything is sent.
    pub fn pause(&self) -> Duration {
        self.pause
    }
}

fn put_format(data: &mut BytesMut, operation: u8, format: Format) {
    let Format { time_out, format_string, pin_block_string, pin_length_format } = format;
    data.put_slice(&[operation, time_out, format_string, pin_block_string, pin_length_format]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const FORMAT: Format = Format {
        time_out: 30,
        format_string: 0x82,
        pin_block_string: 0x08,
        pin_length_format: 0x04,
    };
    const APDU: [u8; 5] = [0, 0x24, 0, 0x81, 0];

    fn modification(number_message: u8, all_indexes: bool) -> Option<PinEntry> {
        PinEntry::modification(&Modification {
            format: FORMAT,
            insertion_offset_old: 1,
            insertion_offset_new: 9,
            pin_max_extra_digit: 0x0408,
            confirm_pin: 3,
            entry_validation_condition: 2,
            number_message,
            lang_id: 0x0409,
            msg_index: [7, 8, 9],
            all_indexes,
            teo_prologue: [0xA, 0xB, 0xC],
            apdu: &APDU,
        })
    }

    /// The layout of CCID 1.1 §6.1.11.
    #[test]
    fn verification_layout() {
        let entry = PinEntry::verification(&Verification {
            format: FORMAT,
            pin_max_extra_digit: 0x0408,
            entry_validation_condition: 2,
            number_message: 1,
            lang_id: 0x0409,
            msg_index: 7,
            teo_prologue: [0xA, 0xB, 0xC],
            apdu: &APDU,
        });
        let fields = [0, 30, 0x82, 0x08, 0x04, 8, 4, 2, 1, 9, 4, 7, 0xA, 0xB, 0xC];
        assert_eq!(&entry.data()[..], [&fields[..], &APDU].concat());
        assert_eq!(&entry.apdu()[..], APDU);
        let fields = [0, 30, 0x82, 0x08, 0x04, 8, 4, 2, 1, 9, 4, 7, 1, 2, 3];
        assert_eq!(&entry.with_prologue([1, 2, 3])[..], [&fields[..], &APDU].concat());
    }

    /// The layout of CCID 1.1 §6.1.11, for every bNumberMessage.
    #[test]
    fn modification_layout() {
        for number_message in 0..=255 {
            for all in [false, true] {
                let there: &[u8] = match (number_message, all) {
                    (0 | 1 | 2 | 3 | 0xFF, true) | (3 | 0xFF, false) => &[7, 8, 9],
                    (0, false) => &[7],
                    (1 | 2, false) => &[7, 8],
                    _ => {
                        assert_eq!(modification(number_message, all), None);
                        continue;
                    }
                };
                let entry = modification(number_message, all).unwrap();
                let fields = [1, 30, 0x82, 0x08, 0x04, 1, 9, 8, 4, 3, 2, number_message, 9, 4];
                let expected = [&fields[..], there, &[0xA, 0xB, 0xC], &APDU].concat();
                assert_eq!(&entry.data()[..], expected);
                assert_eq!(&entry.apdu()[..], APDU);
            }
        }
    }

    #[test]
    fn nothing_of_the_command_is_shown() {
        let entry = modification(0, false).unwrap().after_escape(Bytes::from_static(b"secret"));
        assert_eq!(format!("{entry:?}"), "PinEntry(23 bytes)");
    }
}
