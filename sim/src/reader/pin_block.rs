//! PIN data structures, and the command that carries the PINs (CCID 1.1 §6.1.11).

use super::commands::DW_LENGTH;
use std::time::Duration;

/// Offset in the message of bPINOperation; the fields of the PIN data structure follow.
const PIN_OPERATION: u8 = 10;
/// Offset in the message of bmFormatString.
const FORMAT_STRING: u8 = 12;

const VERIFICATION: u8 = 0;
const MODIFICATION: u8 = 1;

/// When an entry is complete (bEntryValidationCondition).
pub(super) const AT_MAXIMUM: u8 = 0x01;
pub(super) const AT_KEY: u8 = 0x02;
pub(super) const AT_TIMEOUT: u8 = 0x04;

/// bConfirmPIN.
pub(super) const CONFIRM_NEW: u8 = 0x01;
pub(super) const ASK_CURRENT: u8 = 0x02;

/// The fields in which the structures of verification and modification differ.
struct Entries<'a> {
    maximum: u8,
    minimum: u8,
    validation: u8,
    places: Vec<usize>,
    confirm: bool,
    /// bTeoPrologue.
    prologue: [u8; 3],
    /// abPINApdu.
    template: &'a [u8],
}

impl<'a> Entries<'a> {
    /// From wPINMaxExtraDigit on.
    fn verification(fields: &'a [u8]) -> Result<Self, u8> {
        // bNumberMessage, wLangId and bMsgIndex are for a display.
        let (&[maximum, minimum, validation, _, _, _, _, nad, pcb, len], template) =
            fields.split_first_chunk().ok_or(DW_LENGTH)?;
        let (places, prologue) = (vec![0], [nad, pcb, len]);
        let confirm = false;
        let entries = Self { maximum, minimum, validation, places, confirm, prologue, template };
        entries.checked(PIN_OPERATION + 5, PIN_OPERATION + 7)
    }

    /// From bInsertionOffsetOld on.
    fn modification(fields: &'a [u8]) -> Result<Self, u8> {
        let (&[old, new, maximum, minimum, confirm, validation, messages, _, _, _], rest) =
            fields.split_first_chunk().ok_or(DW_LENGTH)?;
        // bMsgIndex2 is there unless there is no message, bMsgIndex3 if there are three or as many
        // as the reader likes; then bTeoPrologue.
        let indexes = match messages {
            0 => 0,
            1 | 2 => 1,
            3 | 0xFF => 2,
            _ => return Err(PIN_OPERATION + 11),
        };
        let rest = rest.get(indexes..).ok_or(DW_LENGTH)?;
        let (&prologue, template) = rest.split_first_chunk().ok_or(DW_LENGTH)?;
        let places = if confirm & ASK_CURRENT != 0 { vec![old, new] } else { vec![new] };
        let places = places.into_iter().map(|offset| 8 * usize::from(offset)).collect();
        let confirm = confirm & CONFIRM_NEW != 0;
        let entries = Self { maximum, minimum, validation, places, confirm, prologue, template };
        entries.checked(PIN_OPERATION + 7, PIN_OPERATION + 10)
    }

    /// With the offsets of wPINMaxExtraDigit and bEntryValidationCondition.
    fn checked(self, digits: u8, validation: u8) -> Result<Self, u8> {
        match self {
            Self { maximum, minimum, .. } if minimum > maximum || maximum == 0 => Err(digits),
            Self { validation: 0 | 8.., .. } => Err(validation),
            good => Ok(good),
        }
    }
}

/// How a digit is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Binary,
    Bcd,
    Ascii,
}

impl Format {
    const fn bits(self) -> usize {
        match self {
            Self::Bcd => 4,
            Self::Binary | Self::Ascii => 8,
        }
    }

    const fn encode(self, digit: u8) -> u8 {
        match self {
            Self::Ascii => b'0' + digit,
            Self::Binary | Self::Bcd => digit,
        }
    }
}

/// A PIN verification or modification data structure. Places and lengths in bits of the APDU's
/// data field.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PinOperation {
    /// bTimeOut; None: the reader's own.
    pub(super) timeout: Option<Duration>,
    format: Format,
    /// Where in its block the PIN begins.
    position: usize,
    right: bool,
    /// Length of the block; 0: that of the PIN.
    block: usize,
    /// Where the number of digits stands, and how wide; width 0: nowhere.
    length_position: usize,
    length_width: usize,
    pub(super) minimum: usize,
    pub(super) maximum: usize,
    pub(super) validation: u8,
    /// Where the blocks begin, one for each PIN asked for.
    pub(super) places: Vec<usize>,
    /// The last one is asked for twice.
    pub(super) confirm: bool,
    /// bTeoPrologue: NAD, PCB and LEN of the block that the command goes in, where the host speaks
    /// T=1; LEN is that of the template.
    pub(super) prologue: [u8; 3],
    header: [u8; 4],
    body: Vec<u8>,
}

impl PinOperation {
    /// Reads bPINOperation and the structure behind it. Err: the offset in the message of the
    /// field that is wrong.
    pub(super) fn parse(data: &[u8]) -> Result<Self, u8> {
        let (&[operation, timeout, format, block, length_format], rest) =
            data.split_first_chunk().ok_or(DW_LENGTH)?;
        let entries = match operation {
            VERIFICATION => Entries::verification(rest)?,
            MODIFICATION => Entries::modification(rest)?,
            _ => return Err(PIN_OPERATION),
        };
        let Entries { maximum, minimum, validation, places, confirm, prologue, template } = entries;
        let parsed_format = match format & 0b11 {
            0 => Format::Binary,
            1 => Format::Bcd,
            2 => Format::Ascii,
            _ => return Err(FORMAT_STRING),
        };
        let (header, body) = match *template {
            [cla, ins, p1, p2] => ([cla, ins, p1, p2], Vec::new()),
            [cla, ins, p1, p2, lc, ref body @ ..]
                if body.is_empty() || body.len() == usize::from(lc) =>
            {
                ([cla, ins, p1, p2], body.to_vec())
            }
            _ => return Err(DW_LENGTH),
        };
        let unit = |bytes: bool| if bytes { 8 } else { 1 };
        let block_bits = 8 * usize::from(block & 0x0F);
        let room = if block_bits == 0 { usize::MAX } else { block_bits / parsed_format.bits() };
        Ok(Self {
            timeout: (timeout > 0).then(|| Duration::from_secs(timeout.into())),
            format: parsed_format,
            position: usize::from(format >> 3 & 0x0F) * unit(format & 0x80 != 0),
            right: format & 0x04 != 0,
            block: block_bits,
            length_position: usize::from(length_format & 0x0F) * unit(length_format & 0x10 != 0),
            length_width: usize::from(block >> 4),
            minimum: minimum.into(),
            maximum: usize::from(maximum).min(room),
            validation,
            places,
            confirm,
            prologue,
            header,
            body,
        })
    }

    /// The APDU with the PINs in their places.
    pub(super) fn compose(&self, pins: &[Vec<u8>]) -> Vec<u8> {
        let mut body = self.body.clone();
        for (pin, place) in pins.iter().zip(&self.places) {
            self.put(&mut body, *place, pin);
        }
        let lc = u8::try_from(body.len()).unwrap_or(u8::MAX);
        [&self.header[..], &[lc], &body].concat()
    }

    fn put(&self, body: &mut Vec<u8>, place: usize, pin: &[u8]) {
        let width = self.format.bits();
        let length = pin.len() * width;
        let block = if self.block == 0 { length } else { self.block };
        let start = place + self.position;
        let needed = (start + block).div_ceil(8);
        if body.len() < needed {
            body.resize(needed, 0xFF);
        }
        let before = if self.right { block.saturating_sub(length) } else { 0 };
        for (n, digit) in pin.iter().enumerate() {
            put_bits(body, start + before + n * width, width, self.format.encode(*digit));
        }
        let count = u8::try_from(pin.len()).unwrap_or(u8::MAX);
        put_bits(body, place + self.length_position, self.length_width, count);
    }
}

/// Writes the low `width` bits of `value` at bit `at`, bit 0 being the highest of the first byte.
/// What does not fit is left out; bits above the eighth are zero.
fn put_bits(bytes: &mut [u8], at: usize, width: usize, value: u8) {
    for n in 0..width {
        let below = width - 1 - n;
        let bit = below < 8 && value >> below & 1 != 0;
        if let Some(byte) = bytes.get_mut((at + n) / 8) {
            let mask = 0x80 >> ((at + n) % 8);
            *byte = if bit { *byte | mask } else { *byte & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bPINOperation 0 with fields that most tests share.
    fn verify(format: u8, block: u8, length_format: u8, template: &[u8]) -> Vec<u8> {
        let fields = [0, 10, format, block, length_format, 8, 4, AT_KEY, 1, 9, 4, 0, 0, 0, 0];
        [&fields, template].concat()
    }

    fn composed(data: &[u8], pin: &[u8]) -> Vec<u8> {
        let operation = PinOperation::parse(data).map_err(|offset| offset.to_string()).ok();
        operation.unwrap().compose(&[pin.to_vec()])
    }

    #[test]
    fn ascii_of_any_length() {
        let data = verify(0x82, 0x00, 0x00, &[0, 0x20, 0, 0x81]);
        assert_eq!(composed(&data, &[1, 2, 3, 4]), b"\x00\x20\x00\x81\x041234");
    }

    #[test]
    fn ascii_in_a_padded_block() {
        let template = [&[0, 0x20, 0, 0x81, 8][..], &[0xFF; 8]].concat();
        let data = verify(0x82, 0x08, 0x00, &template);
        assert_eq!(composed(&data, &[1, 2, 3, 4]), b"\x00\x20\x00\x81\x081234\xFF\xFF\xFF\xFF");
        // Justified to the right, no template.
        let data = verify(0x86, 0x06, 0x00, &[0, 0x20, 0, 0x81, 0]);
        assert_eq!(composed(&data, &[1, 2, 3, 4]), b"\x00\x20\x00\x81\x06\xFF\xFF1234");
    }

    /// The block of ISO 9564 format 2: 2h, the length, digits, Fh.
    #[test]
    fn bcd_with_its_length() {
        let template = [&[0, 0x20, 0, 1, 8][..], &[0x20], &[0xFF; 7]].concat();
        let data = verify(0x89, 0x47, 0x04, &template);
        let apdu = composed(&data, &[1, 2, 3, 4, 5]);
        assert_eq!(apdu[5..], [0x25, 0x12, 0x34, 0x5F, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn binary_at_a_position() {
        let data = verify(0x80 | 2 << 3, 0x00, 0x00, &[0, 0x20, 0, 1, 2, 0xAA, 0xBB]);
        assert_eq!(composed(&data, &[9, 8, 7, 6])[4..], [6, 0xAA, 0xBB, 9, 8, 7, 6]);
    }

    #[test]
    fn bad_fields_are_named_by_their_offset() {
        let good = verify(0x82, 0x00, 0x00, &[0, 0x20, 0, 0x81]);
        let with = |at: usize, value: u8| {
            let mut data = good.clone();
            data[at] = value;
            PinOperation::parse(&data).err()
        };
        assert_eq!(with(0, 0), None);
        assert_eq!(with(0, 2), Some(10));
        assert_eq!(with(2, 0x83), Some(12));
        assert_eq!(with(5, 3), Some(15), "minimum over maximum");
        assert_eq!(with(7, 0), Some(17));
        assert_eq!(with(7, 8), Some(17));
        for length in 0..good.len() {
            assert_eq!(PinOperation::parse(&good[..length]).err(), Some(DW_LENGTH));
        }
    }

    #[test]
    fn message_indexes_of_a_modification() {
        for (messages, indexes) in [(0, 0), (1, 1), (2, 1), (3, 2), (0xFF, 2)] {
            let fields = [1, 10, 0x82, 0, 0, 0, 8, 8, 4, 0, AT_KEY, messages, 9, 4, 0];
            let data = [&fields[..], &vec![0; indexes + 3], &[0, 0x24, 0, 0x81]].concat();
            assert_eq!(composed(&data, &[1, 2, 3, 4])[..4], [0, 0x24, 0, 0x81], "{messages}");
        }
        let fields = [1, 10, 0x82, 0, 0, 0, 8, 8, 4, 0, AT_KEY, 4, 9, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(PinOperation::parse(&fields).err(), Some(21));
    }
}
