//! Readers coming and going, and what they tell of themselves.

use super::device::Shared;
use super::keeper;
use super::{Inner, SlotEntry, SlotId, StackState, Standing, UnusableReader, UsbKey};
use crate::error::Error;
use crate::naming;
use ccid::operation::PowerUp;
use ccid::{Operation, Output};
use crossbeam_channel::bounded;
use ifd::hotplug::Change;
use ifd::sync::{Mutex, PoisonError};
use ifd::transport::usb::{Candidate, OpenError, UsbSource};
use ifd::transport::{DeviceInfo, Transport};
use ifd::{Clock, Done, ReaderEvent, Source};
use log::{debug, info, warn};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reader that stops answering within this time of having been reset and opened again is left
/// alone.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// Events that came before the slots are known here; none once they are.
pub(super) type Early = Arc<Mutex<Option<Vec<ReaderEvent>>>>;

impl Inner {
    /// A device that is open for as long as it is there.
    pub(super) fn add<T: Transport + 'static>(
        self: &Arc<Self>,
        transport: T,
        clock: Clock,
    ) -> Result<(), Error> {
        let opening = self.lock().new_id();
        let (reader, early) = self.spawn(opening, transport, clock).map_err(|error| {
            warn!("no thread for a reader: {error}");
            Error::InternalError
        })?;
        let mut state = self.lock();
        if state.stopped {
            return Err(Error::ServiceStopped);
        }
        let index = state.index_for(None);
        if let Some(device) = state.devices.get_mut(&index) {
            device.opening = opening;
        }
        state.add_slots(index, &Arc::new(reader.info().clone()));
        state.slots.iter_mut().filter(|slot| slot.index == index).for_each(|slot| {
            slot.open(reader.clone());
        });
        state.count_change();
        drop(state);
        self.tell_early(opening, &early);
        Ok(())
    }

    /// A device that is opened when it is needed.
    pub(super) fn add_shared(
        self: &Arc<Self>,
        source: Arc<dyn Source>,
        key: Option<UsbKey>,
    ) -> Result<(), Error> {
        let (wake, woken) = bounded(1);
        let id = {
            let mut state = self.lock();
            if state.stopped {
                return Err(Error::ServiceStopped);
            }
            let (id, index) = (state.new_id(), state.index_for(key));
            if let Some(device) = state.devices.get_mut(&index) {
                device.shared = Some(Shared::new(id, Arc::clone(&source), wake));
            }
            state.add_slots(index, &Arc::new(source.info().clone()));
            state.count_change();
            id
        };
        keeper::start(self, id, source, woken).map_err(|error| {
            warn!("no thread for a reader: {error}");
            Error::InternalError
        })
    }

    /// Starts the thread of a reader that has been opened. Its events are told from
    /// [`tell_early`](Self::tell_early) on.
    pub(super) fn spawn<T: Transport + 'static>(
        self: &Arc<Self>,
        opening: u64,
        transport: T,
        clock: Clock,
    ) -> std::io::Result<(ifd::Handle, Early)> {
        let weak = Arc::downgrade(self);
        let early = Arc::new(Mutex::new(Some(Vec::new())));
        let held = Arc::clone(&early);
        let events = move |event: ReaderEvent| {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *held, weak.upgrade()) {
                (Some(held), _) => held.push(event),
                (None, Some(inner)) => {
                    drop(held);
                    inner.reader_event(opening, event);
                }
                (None, None) => {}
            }
        };
        let reader = ifd::Handle::spawn(transport, self.options, clock, events)?;
        Ok((reader, early))
    }

    /// Tells the events that came before the slots were known.
    pub(super) fn tell_early(self: &Arc<Self>, opening: u64, early: &Early) {
        loop {
            let mut held = early.lock().unwrap_or_else(PoisonError::into_inner);
            let events = held.as_mut().map(std::mem::take).unwrap_or_default();
            if events.is_empty() {
                *held = None;
                return;
            }
            drop(held);
            for event in events {
                self.reader_event(opening, event);
            }
        }
    }

    pub(super) fn usb_changed(self: &Arc<Self>, change: Change) {
        match change {
            Change::Arrived(candidate) => self.usb_arrived(&candidate),
            Change::Left(key) => self.lock().usb_left(&key),
            _ => {}
        }
    }

    fn usb_arrived(self: &Arc<Self>, candidate: &Candidate) {
        let key = candidate.key();
        match UsbSource::new(candidate.clone()) {
            Ok(source) => {
                if let Err(error) = self.add_shared(Arc::new(source), Some(key)) {
                    warn!("{error}");
                }
            }
            Err(reason) => {
                let name = naming::of_candidate(candidate);
                let ids = (candidate.vendor_id(), candidate.product_id());
                warn!("{name}: {reason}");
                let mut state = self.lock();
                state.index_for(Some(key.clone()));
                state.cannot_use(key, UnusableReader { name, ids, reason });
            }
        }
    }

    /// On the reader's thread. Operations are started without the lock, as a reader that is gone
    /// ends them at once, here.
    fn reader_event(self: &Arc<Self>, opening: u64, event: ReaderEvent) {
        let (mut to_power, mut retry) = (None, None);
        let mut state = self.lock();
        let Some(index) = state.index_of(opening) else { return };
        debug!("reader {index}: {event:?}");
        match event {
            ReaderEvent::Presence { slot, present } => {
                if let Some(entry) = state.at_mut(index, slot.0) {
                    let id = entry.id;
                    if entry.see_presence(present) {
                        to_power = entry.reader.clone().map(|reader| (id, reader, slot));
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
    fn add_slots(&mut self, index: usize, info: &Arc<DeviceInfo>) {
        let friendly = naming::friendly(info);
        for number in 0..=info.class.max_slot_index {
            let id = SlotId(self.new_id());
            let name = naming::full(&friendly, index, number);
            info!("reader {}", name.to_string_lossy());
            self.slots.push(SlotEntry::new(id, name, index, number, Arc::clone(info)));
        }
    }

    /// Removes a device and its slots. Gives its key if it is to be opened again: it had stopped
    /// answering, has been reset, and this is not the second time in short.
    fn remove_device(&mut self, index: usize, error: &ccid::Error) -> Option<UsbKey> {
        info!("reader {index} is gone: {error}");
        let key = self.devices.remove(&index).and_then(|device| device.key);
        let info = self.slots.iter().find(|slot| slot.index == index);
        let info = info.map(|slot| Arc::clone(&slot.info));
        self.remove_slots(index);
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
}
