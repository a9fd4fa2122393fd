//! A driver on a thread of its own, and the handle by which others have it work.
//!
//! Transport and state machines are the thread's. Callers send it requests, in order, and hear of the
//! end of each operation once; a call blocks nobody but itself.
//!
//! A caller that waits for its operation does the thread's work meanwhile, if the thread rests: to wake
//! the thread for a command, and to be woken by it with the answer, costs more than both.

mod worker;

use crate::clock::Clock;
use crate::quirks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Handoff, Heard, Mutex, MutexGuard, PoisonError, Role, unless_it_panics};
use crate::transport::iccd::Dialect;
use crate::transport::record::Record;
use crate::transport::{DeviceInfo, Transport};
use ccid::operation::Output;
use ccid::quirk::Behaviour;
use ccid::{Atr, Error, Instant, Operation, Options, Slot};
use log::error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use worker::{LastEvent, Requests, Step, Work, Worker};

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
    desk: Arc<Desk>,
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
        let _ = self.desk.requests.0.send(Request::Close);
    }
}

/// Where the reader's work is done, by its thread or by who stands in for it.
struct Desk {
    requests: Arc<Requests>,
    /// Locked by whose turn it is, so that there is nothing to wait for. None at the end.
    work: Mutex<Option<Box<dyn Work>>>,
}

impl Desk {
    /// Works until the reader's end, or until there is something in `end`; tells what is left to do.
    fn attend(&self, role: Role, mut heard: Heard<Request>, end: impl Fn() -> bool) -> Step {
        let mut until = None;
        loop {
            let step = self.step(heard, until);
            if step == Step::Ended || end() {
                return step;
            }
            (heard, until) = match step {
                // Requests get their chance between turns.
                Step::More => (self.requests.0.look().map_or(Heard::Ring, Heard::Sent), None),
                Step::Idle { time, until } => (self.requests.0.wait(role, time), until),
                Step::Ended => return step,
            };
        }
    }

    /// A panic is the reader's end, not that of whoever stands in.
    fn step(&self, heard: Heard<Request>, until: Option<Instant>) -> Step {
        let step = unless_it_panics(|| {
            // It is poisoned if who was there before has panicked.
            let mut work = self.work.lock().ok()?;
            Some(work.as_mut()?.step(heard, until))
        });
        if step.is_none() {
            error!("the driver of a reader has panicked");
        }
        step.flatten().unwrap_or(Step::Ended)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Work>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread at its desk. When it leaves, even by a panic, nothing stays there and nothing more is
/// taken; what was not begun ends as disconnected.
struct Attendant(Arc<Desk>);

impl Drop for Attendant {
    fn drop(&mut self) {
        let left = self.0.lock().take();
        drop(left);
        drop(self.0.requests.0.close());
    }
}

/// Who stands in for the thread. When it leaves, the thread is called if there is more to do.
struct Deputy<'a> {
    desk: &'a Desk,
    left: Step,
}

impl Drop for Deputy<'_> {
    fn drop(&mut self) {
        let (more, time) = match self.left {
            Step::Idle { time, .. } => (false, time),
            Step::More | Step::Ended => (true, None),
        };
        self.desk.requests.0.step_back(more, time);
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
        let requests = Arc::<Requests>::default();
        let desk = Arc::new(Desk { requests: Arc::clone(&requests), work: Mutex::new(None) });
        let name = format!("scard {:04x}:{:04x}", info.vendor_id, info.product_id);
        let attendant = Attendant(Arc::clone(&desk));
        let (events, told) = (LastEvent::new(events), Arc::clone(&learned));
        let run = move || {
            let desk = &attendant.0;
            let worker = Worker::new(transport, adjusted, options, clock, &requests, events, told);
            *desk.lock() = Some(Box::new(worker));
            desk.attend(Role::Thread, Heard::Ring, || false);
            // After a panic there is nothing but to drop it.
            let work = desk.work.lock().ok().and_then(|mut work| work.take());
            if let Some(work) = work {
                work.finish();
            }
        };
        let thread = Mutex::new(Some(thread::Builder::new().name(name).spawn(run)?));
        let tickets = AtomicU64::new(0);
        let shared = Shared { desk, tickets, info, behaviour, learned, thread };
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
        let ticket = self.ticket();
        // If the thread has ended, the request is given back and dropped, and `done` with it, which
        // reports that.
        let request = Request::Start { ticket, slot, operation, limit, done };
        drop(self.shared.desk.requests.0.send(request));
        ticket
    }

    /// Starts an operation whose end the caller waits for next, and returns at once.
    pub fn begin(&self, slot: Slot, operation: Operation, limit: Option<Duration>) -> Begun {
        let (ticket, end) = (self.ticket(), Handoff::default());
        let told = end.clone();
        let done = Done::new(move |result| told.put(result));
        let request = Request::Start { ticket, slot, operation, limit, done };
        drop(self.shared.desk.requests.0.leave(request));
        Begun { reader: self.clone(), ticket, end, waited: false }
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.shared.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Cancels an operation (see [`ccid::Reader::cancel`]) and returns at once. Never lost, if
    /// `start` has returned: it ends the operation, unless that has ended.
    pub fn cancel(&self, ticket: Ticket) {
        let _ = self.shared.desk.requests.0.send(Request::Cancel(ticket));
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
        self.begin(slot, operation, limit).wait()
    }

    /// Ends the reader's work: running commands are aborted, cards powered off, the transport
    /// closed. Returns when that is done, after 3 seconds at most.
    pub fn close(&self) {
        let _ = self.shared.desk.requests.0.send(Request::Close);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let own = thread.thread().id() == thread::current().id();
            // From a callback, which the end waits for, it cannot be awaited.
            if !own && !self.shared.desk.requests.0.is_deputy() && thread.join().is_err() {
                error!("a reader's thread has panicked at its end");
            }
        }
    }
}

/// An operation that its caller waits for.
#[derive(Debug)]
#[must_use = "it is begun for certain only when waited for"]
pub struct Begun {
    reader: Handle,
    ticket: Ticket,
    end: Handoff<Result<Output, Error>>,
    waited: bool,
}

impl Begun {
    /// Names it, to be [cancelled](Handle::cancel).
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for its end, as [`Handle::call`] does. Callbacks of the reader may be called meanwhile,
    /// here: no lock may be held that they take.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn wait(mut self) -> Result<Output, Error> {
        self.waited = true;
        let desk = &*self.reader.shared.desk;
        if desk.requests.0.stand_in() {
            let mut deputy = Deputy { desk, left: Step::More };
            let first = desk.requests.0.look().map_or(Heard::Ring, Heard::Sent);
            deputy.left = desk.attend(Role::Deputy, first, || self.end.is_there());
        }
        self.end.take()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // The thread may still be asleep.
        if !self.waited {
            self.reader.shared.desk.requests.0.ring();
        }
    }
}

#[cfg(all(test, not(scard_loom)))]
mod tests;
