//! A CCID reader in software: the device side of CCID 1.1 as a state machine of its own.
//!
//! [`ReaderBuilder`] says what it is and how it behaves where real readers differ; as a
//! [`Device`] it is driven over the four pipes; the other methods are the hands of the user: cards
//! in and out, keys, and a look at what the reader has seen.

mod abort;
mod behaviour;
mod commands;
mod config;
mod describe;
mod exchange;
mod hardware;
pub(crate) mod journal;
mod line;
mod mechanical;
mod parameters;
mod pin;
mod pin_block;
mod pipes;
mod receive;
mod running;
mod slot;
mod t0;
#[cfg(test)]
mod tests;

pub use behaviour::{AbortBehaviour, FailureMessage, OnRemoval, PendingAnswer};
pub use config::{Level, ReaderBuilder};
pub use hardware::Key;
pub use journal::{Event, Malformed, Rule, Seen, Violation, describe_request};

use crate::card::LineCard;
use crate::{Card, ControlReply, Descriptors, Device};
use bytes::Bytes;
use ccid::wire::{ClassRequest, Notification, SetupPacket, SlotError};
use ccid::{Instant, Seq, Slot};
use config::Config;
use hardware::{Action, Timeline};
use journal::Journal;
use pipes::{Arrival, Inlet, Outlet};
use slot::{Contents, SlotState, Work};
use std::collections::VecDeque;
use std::fmt;

/// bInterfaceNumber.
const INTERFACE: u16 = 0;

/// A simulated CCID reader.
pub struct Reader {
    config: Config,
    descriptors: Descriptors,
    slots: Vec<SlotState>,
    inlet: Inlet,
    outlet: Outlet,
    /// Messages that leave later.
    late: Vec<(Instant, Slot, Bytes)>,
    /// Keys pressed since time was last given.
    keys: VecDeque<Key>,
    timeline: Timeline,
    /// When the reader was first plugged in.
    epoch: Option<Instant>,
    /// The time of what is being done.
    clock: Instant,
    /// The latest time given: where what is being done leads to.
    horizon: Instant,
    /// Hardware errors to be told on the interrupt pipe.
    hardware_errors: VecDeque<Bytes>,
    journal: Journal,
    /// bSeq of the last message, and whether it was an Abort.
    last_seq: Option<(Seq, bool)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reader {
    /// Describes a reader before it is made.
    pub fn builder() -> ReaderBuilder {
        ReaderBuilder::new()
    }

    fn new(config: Config, descriptors: Descriptors, mut timeline: Timeline) -> Self {
        let slots = (0..config.class.slots()).map(|_| SlotState::default()).collect();
        let outlet = Outlet::new(config.max_packet, config.zero_length_packets);
        let mut from_start = Vec::new();
        while let Some(action) = timeline.pop_at_start() {
            from_start.push(action);
        }
        let mut reader = Self {
            config,
            descriptors,
            slots,
            inlet: Inlet::default(),
            outlet,
            late: Vec::new(),
            keys: VecDeque::new(),
            timeline,
            epoch: None,
            clock: Instant::ZERO,
            horizon: Instant::ZERO,
            hardware_errors: VecDeque::new(),
            journal: Journal::default(),
            last_seq: None,
        };
        from_start.into_iter().for_each(|action| reader.act(action));
        reader
    }

    /// Puts a card into a slot; the one that was in it, or has been ejected and not taken, is taken
    /// out first and given back. A slot that does not exist, or whose card is locked, gives `card`
    /// back.
    pub fn insert(&mut self, slot: Slot, card: impl Card + 'static) -> Option<Box<dyn Card>> {
        self.insert_boxed(slot, Box::new(card))
    }

    fn insert_boxed(&mut self, slot: Slot, mut card: Box<dyn Card>) -> Option<Box<dyn Card>> {
        let ejected = self.take_ejected(slot);
        let before = ejected.or_else(|| self.remove(slot));
        if self.has_card(slot) {
            return Some(card);
        }
        if self.config.level.is_line() && card.contacts().is_none() {
            card = Box::new(LineCard::new(card));
        }
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else { return Some(card) };
        state.contents = Contents::Inactive(card);
        state.changed = true;
        self.journal.note(self.clock, Some(slot), Event::Inserted);
        before
    }

    /// Takes the card out of a slot, unless the host has locked it. A command it is working on fails
    /// or is lost, as the reader is made.
    pub fn remove(&mut self, slot: Slot) -> Option<Box<dyn Card>> {
        let state = self.slots.get_mut(usize::from(slot.0))?;
        if state.settings.locked {
            return None;
        }
        let mut card = state.take_card()?;
        card.power_off();
        state.changed = true;
        let needs_card = |work: &Work| matches!(work, Work::Card(_) | Work::Pin(_) | Work::Stopped);
        if state.running.as_ref().is_some_and(|running| needs_card(&running.work)) {
            match self.config.on_removal {
                OnRemoval::Answers => self.fail_running(slot, SlotError::IccMute),
                OnRemoval::NeverAnswers => state.running = None,
            }
        }
        self.journal.note(self.clock, Some(slot), Event::Removed);
        Some(card)
    }

    /// A card is in the slot.
    pub fn has_card(&self, slot: Slot) -> bool {
        self.slots.get(usize::from(slot.0)).is_some_and(SlotState::is_present)
    }

    /// A command to the slot has not been answered yet.
    pub fn is_busy(&self, slot: Slot) -> bool {
        self.slots.get(usize::from(slot.0)).is_some_and(|state| state.running.is_some())
    }

    /// The reader waits for a PIN to be entered for this slot.
    pub fn awaits_pin(&self, slot: Slot) -> bool {
        let state = self.slots.get(usize::from(slot.0));
        let running = state.and_then(|state| state.running.as_ref());
        running.is_some_and(|running| matches!(running.work, Work::Pin(_)))
    }

    /// Presses a key. Without a PIN entry that waits for one, nothing happens.
    pub fn press(&mut self, key: Key) {
        self.keys.push_back(key);
    }

    /// Presses the digits of `pin`, and Enter. What is no digit is left out.
    pub fn enter_pin(&mut self, pin: &str) {
        self.keys.extend(hardware::keys_of(pin));
    }

    /// Something is wrong with the hardware of a slot: bHardwareErrorCode, 01h is overcurrent. The
    /// interrupt pipe tells it, with bSeq of the command that is running.
    pub fn hardware_error(&mut self, slot: Slot, code: u8) {
        let state = self.slots.get(usize::from(slot.0));
        let running = state.and_then(|state| state.running.as_ref());
        let seq = running.map_or_else(|| self.last_seq.map_or(Seq(0), |(seq, _)| seq), |r| r.seq);
        self.hardware_errors.push_back(Notification::HardwareError { slot, seq, code }.emit());
    }

    /// What it has seen and done, oldest first; the last 10 000 entries.
    pub fn seen(&mut self) -> &[Seen] {
        self.journal.seen()
    }

    /// The rules that the host has broken, oldest first.
    pub fn violations(&mut self) -> &[Violation] {
        self.journal.violations()
    }

    /// Empties log and list of violations.
    pub fn forget(&mut self) {
        self.journal.clear();
    }

    /// Changes what it does about Abort.
    pub fn set_abort(&mut self, behaviour: AbortBehaviour) {
        self.config.abort = behaviour;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Insert(slot, card) => drop(self.insert_boxed(slot, card)),
            Action::Remove(slot) => drop(self.remove(slot)),
            Action::Press(key) => self.press(key),
        }
    }

    /// When something happens by itself.
    fn due(&self) -> Option<Instant> {
        let timeline =
            self.epoch.zip(self.timeline.next_after()).map(|(epoch, after)| epoch + after);
        let late = self.late.iter().map(|(at, ..)| *at);
        let slots = self.slots.iter().filter_map(|slot| self.slot_due(slot));
        timeline.into_iter().chain(late).chain(slots).min()
    }

    /// Lives until `now`, one event after the other.
    fn advance(&mut self, now: Instant) {
        self.epoch.get_or_insert(now);
        self.horizon = self.horizon.max(now);
        loop {
            while let Some(at) = self.due().filter(|at| *at <= now) {
                self.clock = self.clock.max(at);
                self.fire();
            }
            self.clock = self.clock.max(now);
            let Some(key) = self.keys.pop_front() else { break };
            self.press_now(key);
        }
    }

    /// Does one thing that is due.
    fn fire(&mut self) {
        let now = self.clock;
        let timeline = self.epoch.zip(self.timeline.next_after());
        if timeline.is_some_and(|(epoch, after)| epoch + after <= now) {
            if let Some(action) = self.timeline.pop() {
                self.act(action);
            }
            return;
        }
        if let Some(at) = self.late.iter().position(|(at, ..)| *at <= now) {
            let (_, slot, message) = self.late.remove(at);
            self.send(slot, message);
            return;
        }
        let due = |state: &SlotState| self.slot_due(state).is_some_and(|at| at <= now);
        if let Some(slot) = self.slots.iter().position(due) {
            self.fire_slot(Slot(u8::try_from(slot).unwrap_or(u8::MAX)));
        }
    }

    /// Puts a message on bulk-IN.
    fn send(&mut self, slot: Slot, message: Bytes) {
        self.journal.note(self.clock, Some(slot), Event::Response(message.clone()));
        self.outlet.push(message);
    }

    fn violation(&mut self, who: Option<(Slot, Seq)>, rule: Rule) {
        self.journal.violation(self.clock, who, rule);
    }

    /// GET_CLOCK_FREQUENCIES and GET_DATA_RATES (CCID 1.1 §5.3.2, §5.3.3).
    fn numbers(&self, numbers: &[u32], length: u16) -> ControlReply {
        if numbers.is_empty() {
            return ControlReply::Stall;
        }
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        ControlReply::Data(bytes.take(length.into()).collect())
    }
}

impl Device for Reader {
    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn control(&mut self, setup: SetupPacket, _data: &[u8], now: Instant) -> ControlReply {
        self.advance(now);
        let request = ClassRequest::parse(&setup);
        let slot = match request {
            Ok(ClassRequest::Abort { slot, .. }) => Some(slot),
            _ => None,
        };
        self.journal.note(self.clock, slot, Event::Setup(setup));
        if setup.index != INTERFACE {
            self.violation(None, Rule::WrongInterface);
            return ControlReply::Stall;
        }
        let reply = match request {
            Ok(ClassRequest::Abort { slot, seq }) => self.abort_request(slot, seq),
            Ok(ClassRequest::GetClockFrequencies { length }) => {
                self.numbers(&self.config.clock_frequencies, length)
            }
            Ok(ClassRequest::GetDataRates { length }) => {
                self.numbers(&self.config.data_rates, length)
            }
            _ => {
                self.violation(None, Rule::UnknownRequest);
                ControlReply::Stall
            }
        };
        self.advance(now);
        reply
    }

    fn bulk_out(&mut self, data: &[u8], now: Instant) {
        self.advance(now);
        for arrival in self.inlet.push(data, self.config.max_data()) {
            match arrival {
                Arrival::Message(message) => self.receive(message),
                Arrival::TooLong(start) => self.receive_too_long(start),
                Arrival::Excess(bytes) => self.violation(None, Rule::BytesBehindMessage(bytes)),
            }
        }
        self.advance(now);
    }

    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes> {
        self.advance(now);
        self.outlet.pop()
    }

    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes> {
        self.advance(now);
        if !self.config.interrupt {
            return None;
        }
        if let Some(message) = self.hardware_errors.pop_front() {
            self.journal.note(self.clock, None, Event::Notification(message.clone()));
            return Some(message);
        }
        if !self.slots.iter().any(|slot| slot.changed) {
            return None;
        }
        let mut state = vec![0u8; self.slots.len().div_ceil(4)];
        for (n, slot) in self.slots.iter_mut().enumerate() {
            let bits = u8::from(slot.is_present()) | u8::from(slot.changed) << 1;
            slot.changed = false;
            if let Some(byte) = state.get_mut(n / 4) {
                *byte |= bits << (2 * (n % 4));
            }
        }
        let message = Notification::SlotChange { state: &state }.emit();
        self.journal.note(self.clock, None, Event::Notification(message.clone()));
        Some(message)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        if self.keys.is_empty() { self.due() } else { Some(self.clock) }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    fn reset(&mut self, now: Instant) {
        self.advance(now);
        self.inlet = Inlet::default();
        self.outlet.clear();
        self.late.clear();
        self.keys.clear();
        self.hardware_errors.clear();
        self.last_seq = None;
        for slot in &mut self.slots {
            slot.power_off();
            slot.running = None;
            slot.abort = slot::AbortStage::None;
            slot.settings = slot::Settings::default();
            // What is there is news to a host that has just come.
            slot.changed = slot.is_present();
        }
        self.journal.note(self.clock, None, Event::Reset);
    }
}
