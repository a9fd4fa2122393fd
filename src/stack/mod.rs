//! The readers of a process, and all that its contexts share.
//!
//! One lock guards the state; nothing blocks while it is held, and no reader's thread waits for
//! anything but it. Callers wait on channels of their own ([`crate::call`]).

mod readers;
mod slot;
mod usb;

use crate::call::{CallEntry, CallId};
use crate::error::Error;
use crate::flags::{Protocol, ShareMode};
use crate::holder;
use crate::naming;
use ccid::operation::PowerUp;
use ccid::{Operation, Options, Output};
use ifd::hotplug::{Change, Watch};
use ifd::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use ifd::transport::Transport;
use ifd::transport::usb::{Candidate, OpenError};
use ifd::{Clock, Done, ReaderEvent};
use log::{debug, info, warn};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use readers::ReaderInfo;
pub(crate) use slot::{CardState, Holder, SlotEntry, SlotId};
pub use usb::UsbReader;

/// How long opening the stack waits until what is in the readers is known.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// A reader that stops answering within this time of having been reset and opened again is left
/// alone.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// A reader that is plugged in and cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnusableReader {
    /// What it would be called, without index and slot.
    pub name: String,
    /// idVendor and idProduct.
    pub ids: (u16, u16),
    /// Why.
    pub reason: OpenError,
}

impl UnusableReader {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match &self.reason {
            OpenError::PermissionDenied { .. } => format!(
                "allow it by a udev rule: SUBSYSTEM==\"usb\", ATTR{{idVendor}}==\"{:04x}\", \
                 ATTR{{idProduct}}==\"{:04x}\", TAG+=\"uaccess\"; or run as root",
                self.ids.0, self.ids.1
            ),
            OpenError::Busy { holders } if holders.iter().any(|h| h.name == "pcscd") => {
                "stop pcscd (systemctl stop pcscd.socket pcscd.service)".into()
            }
            OpenError::Busy { holders } if holders.iter().any(|h| h.name == "scdaemon") => {
                "stop scdaemon (gpgconf --kill scdaemon)".into()
            }
            OpenError::Busy { .. } => "end the program that uses it".into(),
            OpenError::Disconnected => "plug it in again".into(),
            _ => "report it with the output of `scard descriptor`".into(),
        }
    }
}

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
        Self::new(options, None)
    }

    fn new(options: Options, only: Option<Vec<UsbKey>>) -> Self {
        let inner = Inner {
            state: Mutex::new(StackState::new()),
            settled: Condvar::new(),
            idle: Mutex::new(None),
            options,
            only,
            watch: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The readers on the machine's USB, now and as they come and go. Returns once what is in them
    /// is known, or after 5 seconds.
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
        Self::open_usb(options, None)
    }

    fn open_usb(options: Options, only: Option<Vec<UsbKey>>) -> Result<Self, Error> {
        let stack = Self::new(options, only);
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
        stack.settle();
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
        self.inner.add(transport, clock, None)?;
        self.settle();
        Ok(())
    }

    /// Readers that are plugged in and cannot be used, and why.
    pub fn unusable_readers(&self) -> Vec<UnusableReader> {
        self.inner.lock().unusable.values().cloned().collect()
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
        let mut state = self.inner.lock();
        while !state.slots.iter().all(SlotEntry::is_settled) {
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
    /// A slot may have settled.
    pub(crate) settled: Condvar,
    /// Wakes the thread that looks after idle transactions, if there is one.
    pub(crate) idle: Mutex<Option<holder::Waker>>,
    options: Options,
    /// The readers on USB that may be opened; None: all.
    only: Option<Vec<UsbKey>>,
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

/// A context, as far as the stack knows it.
pub(crate) struct ContextEntry {
    pub(crate) calls: BTreeMap<CallId, CallEntry>,
    /// Cancel aborts running commands, too.
    pub(crate) cancels_commands: bool,
    /// How long nothing may be done in a transaction.
    pub(crate) transaction_limit: Option<Duration>,
}

/// How a handle stands to its card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Good,
    /// Somebody reset the card.
    Reset,
    Removed,
}

/// An open handle.
pub(crate) struct HandleEntry {
    pub(crate) context: u64,
    pub(crate) slot: SlotId,
    pub(crate) share: ShareMode,
    pub(crate) standing: Standing,
    pub(crate) protocol: Option<Protocol>,
}

/// Where the count of readers that came or went starts, and starts again. On Windows a waiting
/// caller tells how many readers it knows, on pcsc-lite this count: as no stack has so many readers,
/// it is clear which of the two is meant.
pub(crate) const FIRST_CHANGE: u16 = 0x4000;

/// bus, address, interface
type UsbKey = (String, u8, u8);

pub(crate) struct StackState {
    pub(crate) slots: Vec<SlotEntry>,
    /// Index numbers of devices in use, and where on USB they are. Readers that cannot be used, or
    /// are not to be, have theirs, too: names depend on nobody else.
    devices: BTreeMap<usize, Option<UsbKey>>,
    unusable: BTreeMap<UsbKey, UnusableReader>,
    /// Readers that stopped answering and were opened again, and when.
    retried: BTreeMap<UsbKey, Instant>,
    pub(crate) contexts: BTreeMap<u64, ContextEntry>,
    pub(crate) handles: BTreeMap<u64, HandleEntry>,
    /// Readers that came or went, for the PnP name.
    pub(crate) changes: u16,
    pub(crate) stopped: bool,
    next_id: u64,
}

impl StackState {
    fn new() -> Self {
        Self {
            slots: Vec::new(),
            devices: BTreeMap::new(),
            unusable: BTreeMap::new(),
            retried: BTreeMap::new(),
            contexts: BTreeMap::new(),
            handles: BTreeMap::new(),
            changes: FIRST_CHANGE,
            stopped: false,
            next_id: 1,
        }
    }

    /// A number never given before.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn slot(&self, id: SlotId) -> Option<&SlotEntry> {
        self.slots.iter().find(|slot| slot.id == id)
    }

    pub(crate) fn slot_mut(&mut self, id: SlotId) -> Option<&mut SlotEntry> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }

    pub(crate) fn call(&mut self, context: u64, id: CallId) -> Option<&mut CallEntry> {
        self.contexts.get_mut(&context)?.calls.get_mut(&id)
    }

    /// A reader has come or gone, one that cannot be used included.
    fn count_change(&mut self) {
        self.changes = self.changes.wrapping_add(1).max(FIRST_CHANGE);
        self.notify(None);
    }

    /// Wakes the calls that want to know of a change at `slot`, or of readers coming and going.
    pub(crate) fn notify(&self, slot: Option<SlotId>) {
        for call in self.contexts.values().flat_map(|context| context.calls.values()) {
            if call.wants(slot) {
                call.wake();
            }
        }
    }

    /// How the handles of `slot` other than `except` stand now.
    pub(crate) fn mark_handles(&mut self, slot: SlotId, standing: Standing, except: Option<u64>) {
        for (id, handle) in &mut self.handles {
            let stays = handle.standing == Standing::Removed && standing == Standing::Reset;
            if handle.slot == slot && Some(*id) != except && !stays {
                handle.standing = standing;
            }
        }
    }

    fn readers(&self) -> Vec<ifd::Handle> {
        // The slots of a device share its handle; closing it twice does no harm.
        self.slots.iter().map(|slot| slot.reader.clone()).collect()
    }

    /// The index of a device: the one it has, or the first that is free.
    fn index_for(&mut self, key: Option<UsbKey>) -> usize {
        let mut own = self.devices.iter().filter(|(_, other)| key.is_some() && **other == key);
        if let Some((index, _)) = own.next() {
            return *index;
        }
        let index = (0..).find(|index| !self.devices.contains_key(index)).unwrap_or_default();
        self.devices.insert(index, key);
        index
    }

    /// The device there has been unplugged. The index of one that is open goes with its slots.
    fn usb_left(&mut self, key: &UsbKey) {
        if self.unusable.remove(key).is_some() {
            self.count_change();
        }
        let Self { slots, devices, .. } = self;
        let open = |index| slots.iter().any(|slot| slot.index == index);
        devices.retain(|index, other| other.as_ref() != Some(key) || open(*index));
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StackState> {
        // Nothing is left half done by a panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_watching(&self) {
        // Not while it is locked: the watch's thread is waited for.
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(watch);
    }

    fn add<T: Transport + 'static>(
        self: &Arc<Self>,
        transport: T,
        clock: Clock,
        key: Option<UsbKey>,
    ) -> Result<(), Error> {
        let index = {
            let mut state = self.lock();
            if state.stopped {
                return Err(Error::ServiceStopped);
            }
            state.index_for(key)
        };
        let weak = Arc::downgrade(self);
        // Events that come before the slots are known here are told again below.
        let early = Arc::new(Mutex::new(Some(Vec::new())));
        let held = Arc::clone(&early);
        let events = move |event: ReaderEvent| {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *held, weak.upgrade()) {
                (Some(held), _) => held.push(event),
                (None, Some(inner)) => {
                    drop(held);
                    inner.reader_event(index, event);
                }
                (None, None) => {}
            }
        };
        let spawned = ifd::Handle::spawn(transport, self.options, clock, events);
        let reader = spawned.map_err(|error| {
            warn!("no thread for a reader: {error}");
            self.lock().devices.remove(&index);
            Error::InternalError
        })?;
        self.add_slots(index, &reader);
        loop {
            let mut held = early.lock().unwrap_or_else(PoisonError::into_inner);
            let events = held.as_mut().map(std::mem::take).unwrap_or_default();
            if events.is_empty() {
                *held = None;
                return Ok(());
            }
            drop(held);
            for event in events {
                self.reader_event(index, event);
            }
        }
    }

    fn add_slots(&self, index: usize, reader: &ifd::Handle) {
        let mut state = self.lock();
        let friendly = naming::friendly(reader.info());
        for number in 0..=reader.info().class.max_slot_index {
            let id = SlotId(state.new_id());
            let name = naming::full(&friendly, index, number);
            info!("reader {}", name.to_string_lossy());
            state.slots.push(SlotEntry::new(id, name, index, number, reader.clone()));
        }
        state.count_change();
    }

    fn usb_changed(self: &Arc<Self>, change: Change) {
        match change {
            Change::Arrived(candidate) => self.usb_arrived(&candidate),
            Change::Left(key) => self.lock().usb_left(&key),
            _ => {}
        }
    }

    fn usb_arrived(self: &Arc<Self>, candidate: &Candidate) {
        let key = candidate.key();
        self.lock().index_for(Some(key.clone()));
        if self.only.as_ref().is_some_and(|only| !only.contains(&key)) {
            return;
        }
        match candidate.open() {
            Ok(transport) => {
                if let Err(error) = self.add(transport, Clock::monotonic(), Some(key)) {
                    warn!("{error}");
                }
            }
            Err(reason) => {
                let name = naming::of_candidate(candidate);
                let ids = (candidate.vendor_id(), candidate.product_id());
                warn!("{name}: {reason}");
                self.lock().cannot_use(key, UnusableReader { name, ids, reason });
            }
        }
    }

    /// On the reader's thread. Operations are started without the lock, as a reader that is gone
    /// ends them at once, here.
    fn reader_event(self: &Arc<Self>, index: usize, event: ReaderEvent) {
        debug!("reader {index}: {event:?}");
        let (mut to_power, mut retry) = (None, None);
        let mut state = self.lock();
        match event {
            ReaderEvent::Presence { slot, present } => {
                if let Some(entry) = state.at_mut(index, slot.0) {
                    let id = entry.id;
                    if entry.see_presence(present) {
                        to_power = Some((id, entry.reader.clone(), slot));
                    }
                    if !present {
                        state.mark_handles(id, Standing::Removed, None);
                        state.release_transaction(id);
                    }
                    state.notify(Some(id));
                }
            }
            ReaderEvent::CardLost { slot, reset_follows } => {
                if let Some(entry) = state.at_mut(index, slot.0) {
                    let id = entry.id;
                    entry.lost(reset_follows);
                    // A transaction is kept: others wait until its holder has ended it.
                    state.mark_handles(id, Standing::Reset, None);
                }
            }
            ReaderEvent::CardReset { slot, result } => {
                if let Some(entry) = state.at_mut(index, slot.0) {
                    let id = entry.id;
                    entry.reset_ended(&result);
                    state.notify(Some(id));
                }
            }
            ReaderEvent::HardwareError { slot, code } => {
                warn!("reader {index}, {slot}: hardware error {code:02X}h");
            }
            ReaderEvent::Gone(error) => retry = state.remove_device(index, &error),
            _ => {}
        }
        drop(state);
        if let Some(key) = retry {
            if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
                watch.forget(key);
            }
        }
        self.settled.notify_all();
        if let Some((id, reader, slot)) = to_power {
            self.power_up(id, &reader, slot);
        }
    }

    /// Reads the ATR of a card that was put in.
    fn power_up(self: &Arc<Self>, id: SlotId, reader: &ifd::Handle, slot: ccid::Slot) {
        let weak = Arc::downgrade(self);
        let done = Done::new(move |result| {
            let Some(inner) = weak.upgrade() else {
                return;
            };
            let result = result.and_then(|output| match output {
                Output::Atr(atr) => Ok(atr),
                _ => Err(ccid::Error::CardMute),
            });
            let mut state = inner.lock();
            if let Some(entry) = state.slot_mut(id) {
                entry.powered_up(&result);
            }
            state.notify(Some(id));
            drop(state);
            inner.settled.notify_all();
        });
        reader.start(slot, Operation::PowerOn(PowerUp::Warm), None, done);
    }
}

impl StackState {
    fn at_mut(&mut self, index: usize, number: u8) -> Option<&mut SlotEntry> {
        self.slots.iter_mut().find(|slot| slot.index == index && slot.number.0 == number)
    }

    /// Removes a device and its slots. Gives its key if it is to be opened again: it had stopped
    /// answering, has been reset, and this is not the second time in short.
    fn remove_device(&mut self, index: usize, error: &ccid::Error) -> Option<UsbKey> {
        info!("reader {index} is gone: {error}");
        let key = self.devices.remove(&index).flatten();
        let slots = self.slots.iter().filter(|slot| slot.index == index);
        let gone: Vec<_> = slots.map(|slot| slot.id).collect();
        let info = self.slots.iter().find(|slot| slot.index == index);
        let info = info.map(|slot| slot.reader.info().clone());
        self.slots.retain(|slot| slot.index != index);
        for id in gone {
            self.mark_handles(id, Standing::Removed, None);
            self.notify(Some(id));
        }
        self.count_change();
        if *error != ccid::Error::Unresponsive {
            return None;
        }
        let (key, info) = (key?, info?);
        let now = Instant::now();
        let last = self.retried.insert(key.clone(), now);
        if last.is_none_or(|last| now - last > RETRY_TIME) {
            return Some(key);
        }
        let name = naming::friendly(&info);
        let ids = (info.vendor_id, info.product_id);
        let reason = OpenError::System("it does not answer any more: plug it in again".into());
        self.cannot_use(key, UnusableReader { name, ids, reason });
        None
    }

    /// A reader is plugged in and cannot be used: whoever waits for readers hears of it.
    fn cannot_use(&mut self, key: UsbKey, reader: UnusableReader) {
        self.unusable.insert(key, reader);
        self.count_change();
    }

    /// The transaction at `slot` ends, whoever holds it.
    pub(crate) fn release_transaction(&mut self, slot: SlotId) {
        if let Some(entry) = self.slot_mut(slot) {
            entry.transaction = None;
            entry.owed = None;
        }
        self.notify(Some(slot));
    }
}
