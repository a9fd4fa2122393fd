//! What the reader's thread does, and a caller in its stead: one turn of the driver after the other.

use super::{Done, ReaderEvent, Request, Ticket};
use crate::clock::Clock;
use crate::driver::{Driver, Turn};
use crate::sync::{Heard, Mailbox};
use crate::transport::Transport;
use ccid::operation::OperationId;
use ccid::quirk::{Adjusted, Behaviour};
use ccid::{Error, Event, Instant, Operation, Options, Slot};
use log::debug;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

/// How long closing waits for running commands to be aborted.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How long it waits, beyond that, for the cards to be powered off.
const POWER_OFF_TIME: Duration = Duration::from_secs(1);

/// What virtual time takes in real time where a caller may have been about to do something: before it
/// goes on at rest, and before the reader is given up waiting for.
const REST: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_millis(20);

/// What a turn left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There may be more to do at once.
    More,
    /// Nothing until something is heard, or for that time, if one is given: then it is `until`.
    Idle { time: Option<Duration>, until: Option<Instant> },
    /// The reader is closed or gone: [`finish`](Work::finish).
    Ended,
}

/// A [`Worker`], whatever its transport.
pub(super) trait Work: Send {
    /// Does what was heard in the waiting that was to last until `until`, and takes a turn.
    fn step(&mut self, heard: Heard<Request>, until: Option<Instant>) -> Step;

    /// The end: the device is free for the next one to open, and everybody hears of it.
    fn finish(self: Box<Self>);
}

/// Where work is asked for; a transport that has something to say rings there.
#[derive(Default)]
pub(super) struct Requests(pub(super) Mailbox<Request>);

impl Wake for Requests {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring();
    }
}

/// The event callback, which hears of the end even if the worker panics.
pub(super) struct LastEvent {
    events: Box<dyn FnMut(ReaderEvent) + Send>,
    told: bool,
}

impl LastEvent {
    pub(super) fn new(events: impl FnMut(ReaderEvent) + Send + 'static) -> Self {
        Self { events: Box::new(events), told: false }
    }

    fn tell(&mut self, event: ReaderEvent) {
        if !self.told {
            self.told = matches!(event, ReaderEvent::Gone(_));
            (self.events)(event);
        }
    }
}

impl Drop for LastEvent {
    fn drop(&mut self) {
        self.tell(ReaderEvent::Gone(Error::Disconnected));
    }
}

/// Whether requests are taken, or the work is wound up.
enum Phase {
    Open,
    /// Running operations are being cancelled.
    Cancelling {
        until: Instant,
    },
    /// Cards are being powered off.
    PoweringOff {
        until: Instant,
    },
}

/// The fields are dropped in this order: whoever hears that an operation ended so finds the reader
/// gone.
pub(super) struct Worker<T: Transport> {
    driver: Driver<T>,
    clock: Clock,
    events: LastEvent,
    requests: Arc<Requests>,
    waker: Waker,
    pending: BTreeMap<OperationId, (Ticket, Done)>,
    /// What the reader's going has ended.
    unfinished: Vec<Done>,
    tickets: BTreeMap<Ticket, OperationId>,
    phase: Phase,
    learned: Arc<OnceLock<Behaviour>>,
    /// Why there is no more to do.
    ended: Option<Error>,
}

impl<T: Transport> Worker<T> {
    pub(super) fn new(
        transport: T,
        adjusted: Adjusted,
        options: Options,
        clock: Clock,
        requests: &Arc<Requests>,
        events: LastEvent,
        learned: Arc<OnceLock<Behaviour>>,
    ) -> Self {
        Self {
            driver: Driver::with_quirks(transport, adjusted, options, clock.now()),
            clock,
            events,
            requests: Arc::clone(requests),
            waker: Waker::from(Arc::clone(requests)),
            pending: BTreeMap::new(),
            unfinished: Vec::new(),
            tickets: BTreeMap::new(),
            phase: Phase::Open,
            learned,
            ended: None,
        }
    }

    /// Passes events on; gives the reason if the reader is of no use any more.
    fn deliver(&mut self) -> Option<Error> {
        let mut end = None;
        while let Some(event) = self.driver.poll_event() {
            match event {
                Event::Completed { id, result, .. } => {
                    if let Some((ticket, done)) = self.pending.remove(&id) {
                        self.tickets.remove(&ticket);
                        match result {
                            Err(Error::Disconnected) => self.unfinished.push(done),
                            result => done.call(result),
                        }
                    }
                }
                Event::Presence { slot, present } => {
                    self.events.tell(ReaderEvent::Presence { slot, present });
                }
                Event::CardLost { slot, reset_follows } => {
                    self.events.tell(ReaderEvent::CardLost { slot, reset_follows });
                }
                Event::CardReset { slot, result } => {
                    self.events.tell(ReaderEvent::CardReset { slot, result });
                }
                Event::HardwareError { slot, code } => {
                    self.events.tell(ReaderEvent::HardwareError { slot, code });
                }
                Event::Opened => {
                    let _ = self.learned.set(self.driver.reader().behaviour().clone());
                }
                Event::Unresponsive => end = Some(Error::Unresponsive),
                other => debug!("{other:?}"),
            }
        }
        end
    }

    /// How long there is nothing to do but what is asked for or rung for.
    fn idle(&self) -> Step {
        let phase = match self.phase {
            Phase::Open => None,
            Phase::Cancelling { until } | Phase::PoweringOff { until } => Some(until),
        };
        // In virtual time a reader at rest would be asked for its card for ever without a pause:
        // only what the transport has to say makes time pass then.
        let at_rest = self.pending.is_empty() && phase.is_none();
        let next = self.driver.transport().poll_deadline();
        let until = self.driver.poll_deadline().into_iter().chain(phase).min();
        let (until, pause) = match self.clock {
            Clock::Monotonic(_) => (until, Duration::ZERO),
            Clock::Virtual(_) if at_rest => (next, REST),
            Clock::Virtual(_) if until == next => (until, Duration::ZERO),
            Clock::Virtual(_) => (until, PATIENCE),
        };
        let time = until.map(|until| self.clock.until(until).max(pause));
        Step::Idle { time, until }
    }

    fn handle(&mut self, request: Request) {
        let now = self.clock.now();
        match (request, &self.phase) {
            (Request::Start { ticket, slot, operation, limit, done }, Phase::Open) => {
                let id = self.driver.start(slot, operation, limit, now);
                self.tickets.insert(ticket, id);
                self.pending.insert(id, (ticket, done));
            }
            // Dropped: it ends as disconnected.
            (Request::Start { .. }, _) => {}
            (Request::Cancel(ticket), _) => {
                if let Some(id) = self.tickets.get(&ticket) {
                    self.driver.cancel(*id, now);
                }
            }
            (Request::Close, Phase::Open) => {
                self.phase = Phase::Cancelling { until: now + CLOSE_TIME };
                let running: Vec<_> = self.pending.keys().copied().collect();
                for id in running {
                    self.driver.cancel(id, now);
                }
            }
            (Request::Close, _) => {}
        }
    }

    /// One step towards the end, if closing; true once everything is done.
    fn wind_up(&mut self) -> bool {
        let now = self.clock.now();
        match self.phase {
            Phase::Open => false,
            Phase::Cancelling { until } => {
                if !self.pending.is_empty() && now < until {
                    return false;
                }
                // After a cancel the driver may still be asking whether the reader is in step. If there
                // is no answer, it aborts that after a second, and an Abort is not to be cut off.
                self.phase = Phase::PoweringOff { until: until + POWER_OFF_TIME };
                for slot in 0..=self.driver.reader().class().max_slot_index {
                    let slot = Slot(slot);
                    if self.driver.reader().is_powered(slot) {
                        let id = self.driver.start(slot, Operation::PowerOff, None, now);
                        let done = Done::new(|_| {});
                        self.pending.insert(id, (Ticket(u64::MAX), done));
                    }
                }
                // What was started goes out with the next turn.
                self.waker.wake_by_ref();
                false
            }
            Phase::PoweringOff { until } => self.pending.is_empty() || now >= until,
        }
    }
}

impl<T: Transport> Work for Worker<T> {
    fn step(&mut self, heard: Heard<Request>, until: Option<Instant>) -> Step {
        match (heard, until) {
            (Heard::Sent(request), _) => self.handle(request),
            (Heard::Nothing, Some(until)) => self.clock.advance(until),
            // The transport is asked next.
            (Heard::Ring, _) | (Heard::Nothing, None) => {}
        }
        if self.ended.is_some() {
            return Step::Ended;
        }
        let now = self.clock.now();
        let turn = self.driver.turn(&mut Context::from_waker(&self.waker), now);
        self.ended = self.deliver();
        if self.ended.is_none() && (turn == Turn::Gone || self.wind_up()) {
            self.ended = Some(Error::Disconnected);
        }
        match (&self.ended, turn) {
            (Some(_), _) => Step::Ended,
            (None, Turn::More) => Step::More,
            (None, _) => self.idle(),
        }
    }

    fn finish(mut self: Box<Self>) {
        let end = self.ended.take().unwrap_or(Error::Disconnected);
        if end == Error::Unresponsive {
            self.driver.reset_device();
        }
        let Self { driver, mut events, requests, pending, mut unfinished, .. } = *self;
        // Frees the device for the next one to open.
        drop(driver);
        unfinished.extend(pending.into_values().map(|(_, done)| done));
        for request in requests.0.close() {
            if let Request::Start { done, .. } = request {
                unfinished.push(done);
            }
        }
        events.tell(ReaderEvent::Gone(end));
        // Whoever hears that an operation ended so finds the reader gone.
        drop(unfinished);
    }
}
