//! One reader: its slots, the one sequence of numbers, what goes over the pipes.
//!
//! How it is driven, in any order of inputs:
//!
//! 1. Inputs: [`start`](Reader::start), [`cancel`](Reader::cancel), and what comes over the wire
//!    or does not: `handle_*`.
//! 2. After any input, until both give nothing: [`poll_transmit`](Reader::poll_transmit), whose
//!    results go over the pipes in the order they come, and [`poll_event`](Reader::poll_event).
//! 3. [`poll_deadline`](Reader::poll_deadline) says when
//!    [`handle_timeout`](Reader::handle_timeout) is due.
//!
//! Every started operation ends by exactly one [`Event::Completed`].

mod shared;

use crate::atr::Atr;
use crate::descriptor::ClassDescriptor;
use crate::error::{Error, Unsupported};
use crate::opening::{Opening, QUERY_TIME, clocks, data_rates};
use crate::operation::{Operation, OperationId, Output};
use crate::quirk::Behaviour;
use crate::slot::{Presence, SlotMachine};
use crate::t1::Nad;
use crate::time::Instant;
use crate::wire::{
    ClassRequest, HEADER_LEN, Message, Notification, PowerSelect, Seq, Slot, dissect,
};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use log::{debug, info, warn};
use shared::Recovery;
pub(crate) use shared::Shared;

/// How a reader is driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How often presence is asked for; none where an interrupt pipe tells.
    pub poll: Option<Duration>,
    /// No operation takes longer, whatever the reader asks for.
    pub total_limit: Duration,
    /// How long a reader has for the Abort sequence, and for GetSlotStatus after a recovery.
    pub abort_time: Duration,
    /// How long a command may stay unanswered after its card was taken out, before it is aborted.
    pub removal_grace: Duration,
    /// The voltage that a card is given first, where reader and host can choose.
    pub first_voltage: PowerSelect,
    /// The node addresses of T=1 that a card is spoken to by (ISO/IEC 7816-3 §11.3.2.1).
    pub nad: Nad,
}

impl Default for Options {
    /// With an interrupt pipe; 5 minutes, 1 second, 300 milliseconds; 5 V; no node addresses.
    fn default() -> Self {
        Self {
            poll: None,
            total_limit: Duration::from_secs(300),
            abort_time: Duration::from_secs(1),
            removal_grace: Duration::from_millis(300),
            first_voltage: PowerSelect::V5,
            nad: Nad::NONE,
        }
    }
}

/// Something to be done on the pipes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// A message for the bulk-OUT pipe.
    BulkOut(Bytes),
    /// A class request for the control pipe. When it has ended, well or not:
    /// [`Reader::handle_control`]. An ABORT goes before requests of other kinds that wait.
    Control {
        /// The request.
        request: ClassRequest,
        /// How long it may take.
        timeout: Duration,
    },
    /// Cancel the bulk transfers, wait until they are back, clear halts, queue bulk-IN anew; what
    /// had come goes to [`Reader::handle_message`] as ever. Then [`Reader::handle_recovered`].
    Recover,
}

/// Something that has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An operation has ended.
    Completed {
        /// The operation.
        id: OperationId,
        /// Its slot.
        slot: Slot,
        /// How.
        result: Result<Output, Error>,
    },
    /// A card has been put in or taken out; also told once when it is first known.
    Presence {
        /// The slot.
        slot: Slot,
        /// A card is there.
        present: bool,
    },
    /// The card's state is lost: what was agreed with it no longer holds. Comes before the
    /// completion of the operation that caused it.
    CardLost {
        /// The slot.
        slot: Slot,
        /// It is being powered up again: [`Event::CardReset`] follows, or the card or the reader
        /// goes.
        reset_follows: bool,
    },
    /// The card was powered up again after [`Event::CardLost`], or could not be.
    CardReset {
        /// The slot.
        slot: Slot,
        /// Its ATR.
        result: Result<Atr, Error>,
    },
    /// The reader has had the escape commands of its opening, and [`Reader::behaviour`] is what its
    /// answers have made it. Told once, if there were any.
    Opened,
    /// RDR_to_PC_HardwareError.
    HardwareError {
        /// The slot.
        slot: Slot,
        /// bHardwareErrorCode.
        code: u8,
    },
    /// The reader does not answer even GetSlotStatus after a recovery. Everything has ended and
    /// everything further ends at once, as [`Error::Unresponsive`].
    Unresponsive,
}

/// Transfer errors in a row, with no message in between, before a reader is given up.
const MAX_TRANSFER_ERRORS: u8 = 8;

/// One reader.
pub struct Reader {
    shared: Shared,
    slots: Vec<SlotMachine>,
    opening: Opening,
    /// The slot whose turn it is next, where not all can be busy at once.
    turn: usize,
    transfer_errors: u8,
    next_id: u64,
    gone: Option<Error>,
}

impl Reader {
    /// A reader that has just been opened, without ways of its own.
    pub fn new(class: ClassDescriptor, options: Options, now: Instant) -> Self {
        Self::with_behaviour(class, Behaviour::default(), options, now)
    }

    /// A reader that has just been opened and is to be treated as
    /// [`quirk::Table::apply`](crate::quirk::Table::apply) says.
    pub fn with_behaviour(
        class: ClassDescriptor,
        behaviour: Behaviour,
        options: Options,
        now: Instant,
    ) -> Self {
        for oddity in class.oddities() {
            warn!("class descriptor: {oddity}");
        }
        let mut slots: Vec<_> =
            (0..=class.max_slot_index).map(|n| SlotMachine::new(Slot(n), now)).collect();
        if let Some(first) = slots.first_mut() {
            first.send_at_opening(behaviour.opening());
        }
        let opening = Opening::new(&behaviour, now);
        let shared = Shared {
            class,
            options,
            behaviour,
            data_rates: Vec::new(),
            seq: Seq(0),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            recovery: Recovery::None,
            resync_tries: 0,
            chained: Vec::new(),
        };
        let mut reader =
            Self { shared, slots, opening, turn: 0, transfer_errors: 0, next_id: 0, gone: None };
        reader.open(now);
        reader.schedule(now);
        reader
    }

    /// The class descriptor.
    pub fn class(&self) -> &ClassDescriptor {
        &self.shared.class
    }

    /// How it is treated. What it was asked at its opening is in it from [`Event::Opened`] on.
    pub fn behaviour(&self) -> &Behaviour {
        &self.shared.behaviour
    }

    /// The data rates of `slot` in bit/s, as the reader has told or is known to have; empty if all
    /// between dwDataRate and dwMaxDataRate can be had, or that is not known.
    pub fn data_rates(&self, slot: Slot) -> &[u32] {
        self.shared.rates(slot)
    }

    /// Whether a card is in `slot`; none if that is not known yet, or there is no such slot.
    pub fn is_card_present(&self, slot: Slot) -> Option<bool> {
        match self.slots.get(usize::from(slot.0))?.presence() {
            Presence::Unknown => None,
            Presence::Absent => Some(false),
            Presence::Present => Some(true),
        }
    }

    /// Whether the card in `slot` has power.
    pub fn is_powered(&self, slot: Slot) -> bool {
        self.slots.get(usize::from(slot.0)).is_some_and(SlotMachine::is_powered)
    }

    /// Has `operation` done by `slot`, after what was asked of it before. It ends within `limit`
    /// (by [`Error::Timeout`], once the running command is aborted) and within the total limit of
    /// the options, plus the time an Abort takes.
    pub fn start(
        &mut self,
        slot: Slot,
        operation: Operation,
        limit: Option<Duration>,
        now: Instant,
    ) -> OperationId {
        let id = OperationId(self.next_id);
        self.next_id += 1;
        let total = self.shared.options.total_limit;
        let limit = now + limit.map_or(total, |limit| limit.min(total));
        match (&self.gone, self.slots.get_mut(usize::from(slot.0))) {
            (Some(error), _) => {
                let result = Err(error.clone());
                self.shared.event(Event::Completed { id, slot, result });
            }
            (None, None) => {
                let result = Err(Error::Unsupported(Unsupported::Slot(slot)));
                self.shared.event(Event::Completed { id, slot, result });
            }
            (None, Some(machine)) => {
                machine.enqueue(id, operation, limit);
                self.schedule(now);
            }
        }
        id
    }

    /// Cancels an operation: one that waits ends at once; one whose command is on the wire ends by
    /// the Abort sequence, with its answer if that comes first. One that has ended is left alone.
    pub fn cancel(&mut self, id: OperationId, now: Instant) {
        for slot in &mut self.slots {
            if slot.cancel(id, &mut self.shared, now) {
                break;
            }
        }
        self.settle(now);
    }

    /// A bulk-IN message has come.
    pub fn handle_message(&mut self, bytes: &[u8], now: Instant) {
        debug!("<- {}", dissect(bytes));
        self.transfer_errors = 0;
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return warn!("bulk-IN message dropped: {error}"),
        };
        match self.slots.get_mut(usize::from(message.slot.0)) {
            Some(slot) => slot.handle_response(&message, &mut self.shared, now),
            None => warn!("answer for a slot that does not exist: {}", dissect(bytes)),
        }
        self.settle(now);
    }

    /// An interrupt message has come.
    pub fn handle_interrupt(&mut self, bytes: &[u8], now: Instant) {
        debug!("<- {}", dissect(bytes));
        match Notification::parse(bytes) {
            Ok(Notification::HardwareError { slot, code, .. }) => {
                self.shared.event(Event::HardwareError { slot, code });
            }
            Ok(notification) => {
                for (slot, change) in self.slots.iter_mut().zip(notification.slots()) {
                    slot.handle_slot_change(change.present, change.changed, &mut self.shared, now);
                }
            }
            Err(error) => warn!("interrupt message dropped: {error}"),
        }
        self.settle(now);
    }

    /// The interrupt pipe is of no use any more: presence is polled from now on.
    pub fn handle_interrupt_lost(&mut self, period: Duration, now: Instant) {
        self.shared.options.poll = Some(period);
        for slot in &mut self.slots {
            slot.poll_at(now + period);
        }
        self.settle(now);
    }

    /// A control request has ended: with the data that came, if it was an IN request; with none if
    /// it failed, stalled or took too long.
    pub fn handle_control(&mut self, request: ClassRequest, data: Option<&[u8]>, now: Instant) {
        match request {
            ClassRequest::Abort { slot, seq } => {
                if let Some(machine) = self.slots.get_mut(usize::from(slot.0)) {
                    machine.abort_requested(seq, &mut self.shared);
                }
            }
            _ if self.opening.is_done() => debug!("{request:?} ended late"),
            ClassRequest::GetDataRates { .. } => self.shared.data_rates = data_rates(data),
            ClassRequest::GetClockFrequencies { .. } => {
                if let Some(clock) = clocks(data).first() {
                    self.shared.class.default_clock = *clock;
                }
            }
        }
        self.opening.ended(request);
        self.settle(now);
    }

    /// Takes the next step of the opening, if it is due.
    fn open(&mut self, now: Instant) {
        for request in self.opening.advance(&self.shared.class, now) {
            self.shared.transmit(Transmit::Control { request, timeout: QUERY_TIME });
        }
    }

    /// A bulk transfer failed, or what it brought was no message. Commands on the wire end, and
    /// the transfers are recovered.
    pub fn handle_transfer_error(&mut self, now: Instant) {
        if self.gone.is_some() {
            return;
        }
        self.transfer_errors = self.transfer_errors.saturating_add(1);
        if self.transfer_errors > MAX_TRANSFER_ERRORS {
            self.shared.give_up();
        }
        self.shared.request_recovery();
        for slot in &mut self.slots {
            slot.transfer_failed(&mut self.shared, now);
        }
        self.settle(now);
    }

    /// [`Transmit::Recover`] is done.
    pub fn handle_recovered(&mut self, now: Instant) {
        if self.shared.recovery == Recovery::Requested {
            self.shared.recovery = Recovery::None;
            let tries = core::mem::take(&mut self.shared.resync_tries);
            for slot in &mut self.slots {
                slot.recovered(tries, &mut self.shared, now);
            }
        }
        self.settle(now);
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.open(now);
        for slot in &mut self.slots {
            slot.handle_timeout(&mut self.shared, now);
        }
        self.settle(now);
    }

    /// The reader is gone: everything ends with `error`, and so does all that is started later.
    pub fn handle_gone(&mut self, error: &Error) {
        if self.gone.is_some() {
            return;
        }
        for slot in &mut self.slots {
            slot.fail_all(error, &mut self.shared);
        }
        self.shared.transmits.clear();
        self.opening = Opening::Done;
        self.gone = Some(error.clone());
    }

    /// The next thing to do on the pipes.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.shared.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_deadline(&self) -> Option<Instant> {
        if self.gone.is_some() {
            return None;
        }
        // A slot that has to wait for its turn is started by what ends the others' turn.
        let turn = self.turn_is_free();
        self.slots
            .iter()
            .flat_map(|slot| {
                let own = slot.deadline().filter(|_| turn || slot.is_busy());
                own.into_iter().chain(slot.queue_deadline())
            })
            .chain(self.opening.deadline())
            .min()
    }

    /// The most data bytes a bulk-IN message of this reader may have.
    pub fn max_message_data(&self) -> usize {
        let declared = usize::try_from(self.shared.class.max_ccid_message_length)
            .unwrap_or(usize::MAX)
            .saturating_sub(HEADER_LEN);
        declared.clamp(crate::wire::MAX_DATA_LEN, 0x10_0000)
    }

    fn settle(&mut self, now: Instant) {
        if self.shared.recovery == Recovery::Dead && self.gone.is_none() {
            info!("the reader does not answer any more");
            self.handle_gone(&Error::Unresponsive);
            self.shared.event(Event::Unresponsive);
        }
        self.schedule(now);
    }

    fn turn_is_free(&self) -> bool {
        self.opening.is_done()
            && self.shared.recovery == Recovery::None
            && self.slots.iter().filter(|slot| slot.is_busy()).count()
                < self.shared.class.busy_slots()
    }

    /// Starts what can be started: one command a slot, no more slots than can be busy at once.
    fn schedule(&mut self, now: Instant) {
        if self.gone.is_some() {
            return;
        }
        let count = self.slots.len();
        for _ in 0..count {
            if !self.turn_is_free() {
                break;
            }
            let turn = self.turn;
            self.turn = (turn + 1) % count;
            if let Some(slot) = self.slots.get_mut(turn) {
                slot.start_next(&mut self.shared, now);
            }
        }
    }
}
