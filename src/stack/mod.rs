//! The readers of a process, and all that its contexts share.
//!
//! One lock guards the state; nothing blocks while it is held, and no reader's thread waits for
//! anything but it. Each caller waits on a handoff of its own ([`crate::call`]).

mod arrival;
mod device;
mod keeper;
mod lock;
mod readers;
mod slot;
mod state;
mod unusable;
mod usb;

use crate::error::Error;
use crate::holder;
use ccid::Options;
use ifd::hotplug::Watch;
use ifd::sync::{Condvar, Mutex, PoisonError};
use ifd::transport::Transport;
use ifd::{Clock, Source};
use lock::Woken;
use log::warn;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub(crate) use device::GRACE;
pub use readers::ReaderInfo;
pub(crate) use slot::{CardState, Holder, SlotEntry, SlotId};
pub(crate) use state::{ContextEntry, FIRST_CHANGE, HandleEntry, StackState, Standing};
pub use unusable::UnusableReader;
pub use usb::UsbReader;

/// How long opening the stack waits until what is in the readers is known.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// Where a reader is on USB: bus, address, interface.
type UsbKey = (String, u8, u8);

/// A set of readers that contexts work with. Clones are the same stack; the readers are closed
/// when the last clone and the last context are gone.
#[derive(Clone)]
pub struct Stack {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl Stack {
    /// No readers yet; [`attach`](Self::attach) adds them.
    pub fn empty() -> Self {
        Self::with_options(Options::default())
    }

    /// The same, with limits of the caller's choice for the readers attached.
    pub fn with_options(options: Options) -> Self {
        Self::new(options)
    }

    fn new(options: Options) -> Self {
        let inner = Inner {
            state: Mutex::new(StackState::new()),
            woken: Woken::new(),
            settled: Condvar::new(),
            idle: Mutex::new(None),
            options,
            watch: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The readers on the machine's USB, now and as they come and go. None is opened before it is
    /// needed, nor stays open when it is not: see [`attach_shared`](Self::attach_shared).
    ///
    /// # Errors
    /// [`Error::InternalError`] if no thread can be started. No USB is no error: no readers.
    pub fn usb() -> Result<Self, Error> {
        Self::usb_with_options(Options::default())
    }

    /// The same, with limits of the caller's choice.
    ///
    /// # Errors
    /// As [`usb`](Self::usb).
    pub fn usb_with_options(options: Options) -> Result<Self, Error> {
        let stack = Self::new(options);
        let weak = Arc::downgrade(&stack.inner);
        let watch = Watch::start(move |change| {
            if let Some(inner) = weak.upgrade() {
                inner.usb_changed(change);
            }
        });
        let watch = watch.map_err(|error| {
            warn!("no hot-plug: {error}");
            Error::InternalError
        })?;
        *stack.inner.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        Ok(stack)
    }

    /// The stack of the process: that of [`Context::establish`](crate::Context::establish), on
    /// USB, opened when first used and closed with its last user.
    ///
    /// # Errors
    /// As [`usb`](Self::usb).
    pub fn global() -> Result<Self, Error> {
        static GLOBAL: std::sync::Mutex<Weak<Inner>> = std::sync::Mutex::new(Weak::new());
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = global.upgrade() {
            return Ok(Self { inner });
        }
        let stack = Self::usb()?;
        *global = Arc::downgrade(&stack.inner);
        Ok(stack)
    }

    /// Adds the reader at the other end of `transport`; its slots become readers of this stack.
    /// It goes when the transport says that it is gone. Returns once what is in it is known, or
    /// after 5 seconds.
    ///
    /// # Errors
    /// [`Error::ServiceStopped`] after [`shutdown`](Self::shutdown), [`Error::InternalError`] if
    /// no thread can be started.
    pub fn attach<T: Transport + 'static>(&self, transport: T) -> Result<(), Error> {
        self.attach_with_clock(transport, Clock::monotonic())
    }

    /// The same with a clock of the caller's choice, for transports without real time.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_with_clock<T: Transport + 'static>(
        &self,
        transport: T,
        clock: Clock,
    ) -> Result<(), Error> {
        self.inner.add(transport, clock)?;
        self.settle();
        Ok(())
    }

    /// Adds a reader that is opened when a call needs it: a connection, which it stays open for,
    /// or a wait for what is in it. When nobody has needed it for a second it is closed, and its
    /// card powered off; at once, if another program wants it. A reader that another program has
    /// open is listed, and calls that need it fail with [`Error::SharingViolation`] half a second
    /// later if it is not free by then; waits show [`State::UNAVAILABLE`](crate::State) and go on.
    ///
    /// As nobody knows what has happened to the card while the reader was closed, one that was
    /// there before and is there again counts as taken out and put in.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_shared<S: Source + 'static>(&self, source: S) -> Result<(), Error> {
        self.inner.add_shared(Arc::new(source), None)
    }

    /// How long readers that are opened when needed stay open when they are not needed any more:
    /// one second, unless set.
    pub fn set_idle_time(&self, time: Duration) {
        self.inner.lock().idle_time = time;
    }

    /// Readers that are plugged in and cannot be used, and why; of those that are opened when
    /// needed, the ones that are needed now, or were a moment ago.
    pub fn unusable_readers(&self) -> Vec<UnusableReader> {
        let state = self.inner.lock();
        state.unusable.values().cloned().chain(state.in_trouble()).collect()
    }

    /// Ends all outstanding calls of all contexts with [`Error::ServiceStopped`] and closes the
    /// readers: running commands are aborted, cards powered off. Takes up to three seconds.
    pub fn shutdown(&self) {
        let readers = {
            let mut state = self.inner.lock();
            state.stopped = true;
            for context in state.contexts.values_mut() {
                for call in context.calls.values_mut() {
                    call.end(Error::ServiceStopped, true);
                }
            }
            state.readers()
        };
        self.inner.stop_watching();
        for reader in readers {
            reader.close();
        }
    }

    fn settle(&self) {
        let deadline = Instant::now() + SETTLE_TIME;
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is opened when needed is not waited for.
        while state.slots.iter().any(|slot| slot.reader.is_some() && !slot.is_settled()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return warn!("a reader has not said yet what is in it");
            }
            let (next, _) = self
                .inner
                .settled
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }
}

pub(crate) struct Inner {
    state: Mutex<StackState>,
    woken: Woken,
    /// A slot may have settled.
    pub(crate) settled: Condvar,
    /// Wakes the thread that looks after idle transactions, if there is one.
    pub(crate) idle: Mutex<Option<holder::Waker>>,
    options: Options,
    watch: Mutex<Option<Watch>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_watching();
        let readers = self.lock().readers();
        for reader in readers {
            reader.close();
        }
    }
}

impl Inner {
    fn stop_watching(&self) {
        // Not while it is locked: the watch's thread is waited for.
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(watch);
    }
}
