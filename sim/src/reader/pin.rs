//! PIN entry at the reader: PC_to_RDR_Secure, the keys, and the command that carries the PIN
//! (CCID 1.1 §6.1.11).

use super::Reader;
use super::commands::{DW_LENGTH, Outcome, bad_field};
use super::hardware::Key;
use super::journal::Rule;
use super::slot::{Contents, Work};
use ccid::descriptor::PinSupport;
use ccid::wire::{LevelParameter, SlotError};
use ccid::{Instant, Seq, Slot};
use std::time::Duration;

/// Offset in the message of wLevelParameter.
const LEVEL_PARAMETER: u8 = 8;
/// Offset in the message of bPINOperation; the fields of the PIN data structure follow.
const PIN_OPERATION: u8 = 10;
/// Offset in the message of bmFormatString.
const FORMAT_STRING: u8 = 12;

/// When an entry is complete (bEntryValidationCondition).
const AT_MAXIMUM: u8 = 0x01;
const AT_KEY: u8 = 0x02;
const AT_TIMEOUT: u8 = 0x04;

/// bConfirmPIN.
const CONFIRM_NEW: u8 = 0x01;
const ASK_CURRENT: u8 = 0x02;

impl Reader {
    pub(super) fn secure(
        &mut self,
        slot: Slot,
        seq: Seq,
        level_parameter: LevelParameter,
        data: &[u8],
    ) -> Outcome {
        let needed = match data.first() {
            Some(0x00) => PinSupport::VERIFY,
            Some(0x01) => PinSupport::MODIFY,
            _ => PinSupport::all(),
        };
        if !self.config.class.pin_support.contains(needed) {
            return self.status_of(slot, SlotError::CmdNotSupported).into();
        }
        let active =
            self.slot(slot).is_some_and(|state| matches!(state.contents, Contents::Active(..)));
        if !active {
            return self.status_of(slot, SlotError::IccMute).into();
        }
        let parsed = match level_parameter {
            LevelParameter::WHOLE => PinOperation::parse(data),
            _ => Err(LEVEL_PARAMETER),
        };
        let operation = match parsed {
            Ok(operation) => operation,
            Err(offset) => {
                self.violation(Some((slot, seq)), Rule::BadContent);
                return self.status_of(slot, bad_field(offset)).into();
            }
        };
        // There is one PIN pad.
        if self.pin_slot().is_some() {
            return self.status_of(slot, SlotError::CmdSlotBusy).into();
        }
        let timeout = operation.timeout.unwrap_or(self.config.pin_timeout);
        let deadline = self.clock + timeout;
        let entry = PinEntry { operation, entered: Vec::new(), digits: Vec::new(), deadline };
        Outcome::Running(Work::Pin(entry))
    }

    /// The slot that a PIN is being entered for.
    fn pin_slot(&self) -> Option<Slot> {
        let slots = (0..=u8::MAX).map(Slot).take(self.slots.len());
        slots.into_iter().find(|slot| self.awaits_pin(*slot))
    }

    pub(super) fn press_now(&mut self, key: Key) {
        if let Some(slot) = self.pin_slot() {
            self.pin_event(slot, |entry| entry.key(key));
        }
    }

    pub(super) fn pin_timed_out(&mut self, slot: Slot) {
        self.pin_event(slot, PinEntry::timed_out);
    }

    fn pin_event(&mut self, slot: Slot, event: impl FnOnce(&mut PinEntry) -> Entry) {
        let running = self.slot(slot).and_then(|state| state.running.as_mut());
        let Some(running) = running else { return };
        let seq = running.seq;
        let Work::Pin(entry) = &mut running.work else { return };
        match event(entry) {
            Entry::GoesOn => {}
            Entry::Failed(error) => self.fail_running(slot, error),
            Entry::Complete(apdu) => {
                running.work = Work::Stopped;
                let outcome = self.exchange(slot, seq, &apdu);
                self.goes_on(slot, seq, outcome);
            }
        }
    }
}

/// What an event makes of an entry.
enum Entry {
    GoesOn,
    Complete(Vec<u8>),
    Failed(SlotError),
}

/// A PIN being entered.
#[derive(Clone)]
pub(super) struct PinEntry {
    operation: PinOperation,
    /// PINs that are complete, in the order they were asked for.
    entered: Vec<Vec<u8>>,
    digits: Vec<u8>,
    deadline: Instant,
}

impl PinEntry {
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn key(&mut self, key: Key) -> Entry {
        let operation = &self.operation;
        match key {
            Key::Cancel => Entry::Failed(SlotError::PinCancelled),
            Key::Clear => {
                self.digits.clear();
                Entry::GoesOn
            }
            Key::Digit(digit) if digit <= 9 && self.digits.len() < operation.maximum => {
                self.digits.push(digit);
                let full = self.digits.len() == operation.maximum;
                if full && operation.validation & AT_MAXIMUM != 0 {
                    self.complete()
                } else {
                    Entry::GoesOn
                }
            }
            Key::Enter if operation.validation & AT_KEY != 0 && self.is_long_enough() => {
                self.complete()
            }
            // The pad takes no more digits, or not yet an Enter.
            Key::Digit(_) | Key::Enter => Entry::GoesOn,
        }
    }

    fn timed_out(&mut self) -> Entry {
        let complete = self.operation.validation & AT_TIMEOUT != 0 && self.is_long_enough();
        match complete.then(|| self.complete()) {
            // What is still to be entered cannot be any more.
            None | Some(Entry::GoesOn) => Entry::Failed(SlotError::PinTimeout),
            Some(end) => end,
        }
    }

    fn is_long_enough(&self) -> bool {
        self.digits.len() >= self.operation.minimum
    }

    /// One PIN is complete.
    fn complete(&mut self) -> Entry {
        self.entered.push(std::mem::take(&mut self.digits));
        let operation = &self.operation;
        if self.entered.len() < operation.places.len() + usize::from(operation.confirm) {
            return Entry::GoesOn;
        }
        if operation.confirm {
            let again = self.entered.pop();
            if again.as_ref() != self.entered.last() {
                // The new PIN is asked for again.
                self.entered.pop();
                return Entry::GoesOn;
            }
        }
        Entry::Complete(operation.compose(&self.entered))
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
struct PinOperation {
    /// bTimeOut; None: the reader's own.
    timeout: Option<Duration>,
    format: Format,
    /// Where in its block the PIN begins.
    position: usize,
    right: bool,
    /// Length of the block; 0: that of the PIN.
    block: usize,
    /// Where the number of digits stands, and how wide; width 0: nowhere.
    length_position: usize,
    length_width: usize,
    minimum: usize,
    maximum: usize,
    validation: u8,
    /// Where the blocks begin, one for each PIN asked for.
    places: Vec<usize>,
    /// The last one is asked for twice.
    confirm: bool,
    header: [u8; 4],
    body: Vec<u8>,
}

impl PinOperation {
    /// Reads bPINOperation and the structure behind it. Err: the offset in the message of the
    /// field that is wrong.
    fn parse(data: &[u8]) -> Result<Self, u8> {
        let (&[operation, timeout, format, block, length_format], rest) =
            data.split_first_chunk().ok_or(DW_LENGTH)?;
        let common = |maximum: u8, minimum: u8, places, confirm, at: u8| {
            let bad_digits = minimum > maximum || maximum == 0;
            if bad_digits { Err(at) } else { Ok((minimum, maximum, places, confirm)) }
        };
        let (digits, validation, template) = match operation {
            0x00 => {
                let (&[maximum, minimum, validation, _messages, _, _, _, _, _, _], template) =
                    rest.split_first_chunk().ok_or(DW_LENGTH)?;
                let digits = common(maximum, minimum, vec![0], false, PIN_OPERATION + 5)?;
                (digits, (validation, PIN_OPERATION + 7), template)
            }
            0x01 => {
                let (&[old, new, maximum, minimum, confirm, validation, messages, _, _, _], rest) =
                    rest.split_first_chunk().ok_or(DW_LENGTH)?;
                // bMsgIndex2 and bMsgIndex3 are there if there are so many messages; then
                // bTeoPrologue, three bytes.
                let indexes = usize::from(messages.clamp(1, 3)) - 1;
                let indexes = if messages > 3 { 0 } else { indexes };
                let template = rest.get(indexes + 3..).ok_or(DW_LENGTH)?;
                let places = if confirm & ASK_CURRENT != 0 { vec![old, new] } else { vec![new] };
                let places = places.into_iter().map(|offset| 8 * usize::from(offset)).collect();
                let confirm = confirm & CONFIRM_NEW != 0;
                let digits = common(maximum, minimum, places, confirm, PIN_OPERATION + 7)?;
                (digits, (validation, PIN_OPERATION + 10), template)
            }
            _ => return Err(PIN_OPERATION),
        };
        let (minimum, maximum, places, confirm) = digits;
        let (validation, validation_offset) = validation;
        if validation == 0 || validation > 7 {
            return Err(validation_offset);
        }
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
            header,
            body,
        })
    }

    /// The APDU with the PINs in their places.
    fn compose(&self, pins: &[Vec<u8>]) -> Vec<u8> {
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

    fn entry(validation: u8) -> PinEntry {
        let mut data = verify(0x82, 0x00, 0x00, &[0, 0x20, 0, 0x81]);
        (data[5], data[7]) = (6, validation);
        let operation = PinOperation::parse(&data).unwrap_or_else(|_| panic!());
        let deadline = Instant::from_millis(10_000);
        PinEntry { operation, entered: Vec::new(), digits: Vec::new(), deadline }
    }

    fn press(entry: &mut PinEntry, keys: &[Key]) -> Entry {
        let mut last = Entry::GoesOn;
        for key in keys {
            last = entry.key(*key);
        }
        last
    }

    fn digits(count: usize) -> Vec<Key> {
        (1..=9).cycle().take(count).map(Key::Digit).collect()
    }

    #[test]
    fn enter_ends_an_entry_that_is_long_enough() {
        let mut entry = entry(AT_KEY);
        press(&mut entry, &digits(3));
        assert!(matches!(entry.key(Key::Enter), Entry::GoesOn));
        press(&mut entry, &[Key::Clear]);
        press(&mut entry, &digits(9));
        let Entry::Complete(apdu) = entry.key(Key::Enter) else { panic!() };
        assert_eq!(&apdu[4..], b"\x06123456", "no more than the maximum");
    }

    #[test]
    fn the_last_digit_may_end_it_too() {
        assert!(matches!(press(&mut entry(AT_MAXIMUM), &digits(5)), Entry::GoesOn));
        assert!(matches!(press(&mut entry(AT_MAXIMUM), &digits(6)), Entry::Complete(_)));
    }

    #[test]
    fn time_and_cancel_end_it() {
        let mut timed = entry(AT_TIMEOUT);
        press(&mut timed, &digits(4));
        assert!(matches!(timed.timed_out(), Entry::Complete(_)));
        let failed = |end| matches!(end, Entry::Failed(SlotError::PinTimeout));
        assert!(failed(entry(AT_TIMEOUT).timed_out()));
        assert!(failed(entry(AT_KEY).timed_out()));
        assert!(matches!(entry(AT_KEY).key(Key::Cancel), Entry::Failed(SlotError::PinCancelled)));
    }

    #[test]
    fn modification_asks_for_old_new_and_new_again() {
        let fields = [
            1,
            10,
            0x82,
            0x08,
            0,
            0,
            8,
            8,
            4,
            CONFIRM_NEW | ASK_CURRENT,
            AT_KEY,
            3,
            9,
            4,
            0,
            1,
            2,
            0,
            0,
            0,
        ];
        let data = [&fields[..], &[0, 0x24, 0, 0x81]].concat();
        let operation = PinOperation::parse(&data).unwrap_or_else(|_| panic!());
        let deadline = Instant::from_millis(10_000);
        let mut entry = PinEntry { operation, entered: Vec::new(), digits: Vec::new(), deadline };
        let pin =
            |first: u8| [[first, 2, 3, 4].map(Key::Digit).to_vec(), vec![Key::Enter]].concat();
        assert!(matches!(press(&mut entry, &pin(1)), Entry::GoesOn));
        assert!(matches!(press(&mut entry, &pin(5)), Entry::GoesOn));
        assert!(matches!(press(&mut entry, &pin(6)), Entry::GoesOn), "not the same");
        assert!(matches!(press(&mut entry, &pin(7)), Entry::GoesOn));
        let Entry::Complete(apdu) = press(&mut entry, &pin(7)) else { panic!() };
        assert_eq!(apdu[..5], [0, 0x24, 0, 0x81, 16]);
        assert_eq!(&apdu[5..], b"1234\xFF\xFF\xFF\xFF7234\xFF\xFF\xFF\xFF");
    }
}
