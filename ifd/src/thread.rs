//! A driver on a thread of its own, and the handle by which others have it work.
//!
//! The thread owns transport and state machines. Callers send it requests, in order, and hear of the
//! end of each operation once; a call blocks nobody but itself.

use crate::clock::Clock;
use crate::driver::{Driver, Turn};
use crate::quirks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Handoff, Heard, Mailbox, Mutex, PoisonError};
use crate::transport::iccd::Dialect;
use crate::transport::record::Record;
use crate::transport::{DeviceInfo, Transport};
use ccid::operation::{OperationId, Output};
use ccid::quirk::{Adjusted, Behaviour};
use ccid::{Atr, Error, Event, Instant, Operation, Options, Slot};
use log::{debug, error};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

/// How long closing waits for running commands to be aborted.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How long closing waits for the cards to be powered off.
const POWER_OFF_TIME: Duration = Duration::from_secs(1);

/// What virtual time at rest takes in real time before it goes on: a caller's time to do something.
const REST: Duration = Duration::from_millis(1);

/// What happens at a reader by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReaderEvent {
    /// A card has been put in or taken out; also told once when it is first known.
    Presence {
        /// The slot.
        slot: Slot,
        /// A card is there.
        present: bool,
    },
    /// What was agreed with the card no longer holds. Comes before the completion of the
    /// operation that caused it.
    CardLost {
        /// The slot.
        slot: Slot,
        /// It is being powered up again: [`ReaderEvent::CardReset`] follows, or the card or the
        /// reader goes.
        reset_follows: bool,
    },
    /// The card was powered up again after [`ReaderEvent::CardLost`], or could not be.
    CardReset {
        /// The slot.
        slot: Slot,
        /// Its ATR.
        result: Result<Atr, Error>,
    },
    /// The reader reported a hardware error.
    HardwareError {
        /// The slot.
        slot: Slot,
        /// bHardwareErrorCode.
        code: u8,
    },
    /// The reader is of no use any more: unplugged ([`Error::Disconnected`]) or not answering
    /// ([`Error::Unresponsive`]). The last event.
    Gone(Error),
}

/// How an operation's end is told: called once, on the driver's thread, so it must not block.
/// Dropped without having been called, it reports [`Error::Disconnected`].
pub struct Done(Option<Callback>);

type Callback = Box<dyn FnOnce(Result<Output, Error>) + Send>;

impl Done {
    /// Calls `f` with the result.
    pub fn new(f: impl FnOnce(Result<Output, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }

    fn call(mut self, result: Result<Output, Error>) {
        if let Some(f) = self.0.take() {
            f(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f(Err(Error::Disconnected));
        }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}

/// Names an operation started through a [`Handle`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

enum Request {
    Start { ticket: Ticket, slot: Slot, operation: Operation, limit: Option<Duration>, done: Done },
    Cancel(Ticket),
    Close,
}

/// A reader at work on its thread. Clones are the same reader; it is closed by
/// [`close`](Self::close) or when the last clone is dropped.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    requests: Arc<Requests>,
    tickets: AtomicU64,
    info: DeviceInfo,
    behaviour: Behaviour,
    /// The same, once the reader has told of itself.
    learned: Arc<OnceLock<Behaviour>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.requests.0.send(Request::Close);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

impl Handle {
    /// Starts the thread for a transport that nothing has been submitted to yet. `events` is
    /// called on it and must not block. An ICCD device is made to look like a bulk CCID reader
    /// ([`Dialect`]). It is recorded if that was asked for ([`Record::if_asked`]).
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn spawn<T: Transport + 'static>(
        transport: T,
        options: Options,
        clock: Clock,
        events: impl FnMut(ReaderEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let transport = Dialect::of(Record::if_asked(transport));
        let adjusted = quirks::of(transport.info());
        let info = DeviceInfo { class: adjusted.class, ..transport.info().clone() };
        let behaviour = adjusted.behaviour.clone();
        let learned = Arc::new(OnceLock::new());
        let requests = Arc::new(Requests(Mailbox::default()));
        let received = Received(Arc::clone(&requests));
        let name = format!("scard {:04x}:{:04x}", info.vendor_id, info.product_id);
        let mut events = LastEvent { events: Box::new(events), told: false };
        let told = Arc::clone(&learned);
        let run = move || {
            let mut worker = Worker::new(transport, adjusted, options, clock, received, told);
            let end = worker.run(&mut events);
            if end == Error::Unresponsive {
                worker.driver.reset_device();
            }
            let unfinished = worker.close();
            events.tell(ReaderEvent::Gone(end));
            // Whoever hears that an operation ended so finds the reader gone.
            drop(unfinished);
        };
        let thread = Mutex::new(Some(thread::Builder::new().name(name).spawn(run)?));
        let tickets = AtomicU64::new(0);
        let shared = Shared { requests, tickets, info, behaviour, learned, thread };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The device, its class descriptor corrected by what is known of the reader.
    pub fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// How the reader is treated besides: as the quirk table says, and from the end of its opening
    /// on with what it has told of itself ([`Event::Opened`]).
    pub fn behaviour(&self) -> &Behaviour {
        self.shared.learned.get().unwrap_or(&self.shared.behaviour)
    }

    /// Starts an operation (see [`ccid::Reader::start`]) and returns at once; `done` is called with
    /// its end, once.
    pub fn start(
        &self,
        slot: Slot,
        operation: Operation,
        limit: Option<Duration>,
        done: Done,
    ) -> Ticket {
        let ticket = Ticket(self.shared.tickets.fetch_add(1, Ordering::Relaxed));
        // If the thread has ended, the request is dropped, and `done` with it, which reports that.
        let request = Request::Start { ticket, slot, operation, limit, done };
        drop(self.shared.requests.0.send(request));
        ticket
    }

    /// Cancels an operation (see [`ccid::Reader::cancel`]) and returns at once. Never lost, if
    /// `start` has returned: it ends the operation, unless that has ended.
    pub fn cancel(&self, ticket: Ticket) {
        let _ = self.shared.requests.0.send(Request::Cancel(ticket));
    }

    /// Does an operation and waits for its end: as long as the reader takes, bounded by `limit`
    /// and the total limit of the options, plus two seconds for an Abort. An unplugged or closed
    /// reader ends it at once.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn call(
        &self,
        slot: Slot,
        operation: Operation,
        limit: Option<Duration>,
    ) -> Result<Output, Error> {
        let end = Handoff::default();
        let told = end.clone();
        self.start(slot, operation, limit, Done::new(move |result| told.put(result)));
        end.take()
    }

    /// Ends the reader's work: running commands are aborted, cards powered off, the transport
    /// closed. Returns when that is done, after 3 seconds at most.
    pub fn close(&self) {
        let _ = self.shared.requests.0.send(Request::Close);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                error!("a reader's thread has panicked");
            }
        }
    }
}

/// The event callback, which hears of the end even if the thread panics.
struct LastEvent {
    events: Box<dyn FnMut(ReaderEvent) + Send>,
    told: bool,
}

impl LastEvent {
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

/// Where the thread is told what to do; a transport that has something to say rings for it.
struct Requests(Mailbox<Request>);

impl Wake for Requests {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring();
    }
}

/// The thread's end of it. Dropped, it takes no more, and what was not begun ends as disconnected.
struct Received(Arc<Requests>);

impl Drop for Received {
    fn drop(&mut self) {
        self.0.0.close();
    }
}

/// Whether the thread takes requests or winds up.
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

struct Worker<T: Transport> {
    driver: Driver<T>,
    clock: Clock,
    requests: Received,
    waker: Waker,
    pending: BTreeMap<OperationId, (Ticket, Done)>,
    /// What the reader's going has ended.
    unfinished: Vec<Done>,
    tickets: BTreeMap<Ticket, OperationId>,
    phase: Phase,
    learned: Arc<OnceLock<Behaviour>>,
}

impl<T: Transport> Worker<T> {
    fn new(
        transport: T,
        adjusted: Adjusted,
        options: Options,
        clock: Clock,
        requests: Received,
        learned: Arc<OnceLock<Behaviour>>,
    ) -> Self {
        Self {
            driver: Driver::with_quirks(transport, adjusted, options, clock.now()),
            clock,
            waker: Waker::from(Arc::clone(&requests.0)),
            requests,
            pending: BTreeMap::new(),
            unfinished: Vec::new(),
            tickets: BTreeMap::new(),
            phase: Phase::Open,
            learned,
        }
    }

    /// Works until closed or gone, and says which.
    fn run(&mut self, events: &mut LastEvent) -> Error {
        loop {
            let now = self.clock.now();
            let turn = self.driver.turn(&mut Context::from_waker(&self.waker), now);
            let end = self.deliver(events);
            match (turn, end) {
                (_, Some(error)) => return error,
                (Turn::Gone, None) => return Error::Disconnected,
                (_, None) if self.wind_up() => return Error::Disconnected,
                (Turn::More, None) => {
                    // Requests get their chance between turns.
                    if let Some(request) = self.requests.0.0.look() {
                        self.handle(request);
                    }
                }
                (Turn::Idle, None) => self.wait(),
            }
        }
    }

    /// Frees the device for the next one to open. Gives back what reports, when dropped, that the
    /// reader is gone.
    fn close(mut self) -> Vec<Done> {
        let pending = std::mem::take(&mut self.pending);
        self.unfinished.extend(pending.into_values().map(|(_, done)| done));
        for request in self.requests.0.0.close() {
            if let Request::Start { done, .. } = request {
                self.unfinished.push(done);
            }
        }
        self.unfinished
    }

    /// Passes events on; gives the reason if the reader is of no use any more.
    fn deliver(&mut self, events: &mut LastEvent) -> Option<Error> {
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
                    events.tell(ReaderEvent::Presence { slot, present });
                }
                Event::CardLost { slot, reset_follows } => {
                    events.tell(ReaderEvent::CardLost { slot, reset_follows });
                }
                Event::CardReset { slot, result } => {
                    events.tell(ReaderEvent::CardReset { slot, result });
                }
                Event::HardwareError { slot, code } => {
                    events.tell(ReaderEvent::HardwareError { slot, code });
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

    /// Waits for a request, a wake-up or the deadline.
    fn wait(&mut self) {
        let phase = match self.phase {
            Phase::Open => None,
            Phase::Cancelling { until } | Phase::PoweringOff { until } => Some(until),
        };
        // In virtual time a reader at rest would be asked for its card for ever without a pause:
        // only what the transport has to say makes time pass then.
        let at_rest = self.pending.is_empty() && phase.is_none();
        let (deadline, pause) = match self.clock {
            Clock::Virtual(_) if at_rest => (self.driver.transport().poll_deadline(), REST),
            _ => (self.driver.poll_deadline().into_iter().chain(phase).min(), Duration::ZERO),
        };
        let time = deadline.map(|deadline| self.clock.until(deadline).max(pause));
        match (self.requests.0.0.wait(time), deadline) {
            (Some(Heard::Sent(request)), _) => self.handle(request),
            // The transport is asked next.
            (Some(Heard::Ring), _) | (None, None) => {}
            (None, Some(deadline)) => self.clock.advance(deadline),
        }
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
                self.phase = Phase::PoweringOff { until: now + POWER_OFF_TIME };
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
