//! PIN entry at the reader: PC_to_RDR_Secure and the keys (CCID 1.1 §6.1.11).

use super::Reader;
use super::commands::{Outcome, bad_field};
use super::config::Level;
use super::hardware::Key;
use super::journal::Rule;
use super::pin_block::{AT_KEY, AT_MAXIMUM, AT_TIMEOUT, PinOperation};
use super::slot::{Contents, SlotState, Work};
use crate::card::{Protocol, t1_block};
use ccid::descriptor::PinSupport;
use ccid::wire::{LevelParameter, SlotError};
use ccid::{Instant, Seq, Slot};

/// Offset in the message of wLevelParameter.
const LEVEL_PARAMETER: u8 = 8;
/// N(S) of an I-block's PCB, all else of which is 0 if the block is not chained.
const SEQUENCE_BIT: u8 = 0x40;

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
                let prologue = entry.operation.prologue;
                running.work = Work::Stopped;
                let outcome = match self.config.level {
                    Level::Tpdu => self.pin_tpdu(slot, seq, prologue, &apdu),
                    _ => self.exchange(slot, seq, &apdu),
                };
                self.goes_on(slot, seq, outcome);
            }
        }
    }

    /// The command with the PIN, where the host speaks the card's protocol: with T=1 in the block
    /// whose prologue the host has given, but for its length.
    fn pin_tpdu(&mut self, slot: Slot, seq: Seq, prologue: [u8; 3], apdu: &[u8]) -> Outcome {
        let activated = self.slot(slot).and_then(SlotState::activated);
        let crc = match activated.map(|activated| (activated.protocol, activated.parameters)) {
            Some((Some(Protocol::T1), parameters)) => parameters.crc(),
            _ => return self.exchange(slot, seq, apdu),
        };
        let [nad, pcb, _] = prologue;
        if pcb & !SEQUENCE_BIT != 0 {
            self.violation(Some((slot, seq)), Rule::PrologueOfPin);
        }
        let block = t1_block(nad, pcb, apdu, crc);
        self.block(slot, seq, 0, &block)
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

#[cfg(test)]
mod tests {
    use super::super::pin_block::{ASK_CURRENT, CONFIRM_NEW};
    use super::*;

    fn entry(validation: u8) -> PinEntry {
        let fields = [0, 10, 0x82, 0, 0, 6, 4, validation, 1, 9, 4, 0, 0, 0, 0];
        let data = [&fields[..], &[0, 0x20, 0, 0x81]].concat();
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
        let with_enter = [digits(5), vec![Key::Enter]].concat();
        assert!(matches!(press(&mut entry(AT_MAXIMUM), &with_enter), Entry::GoesOn));
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
