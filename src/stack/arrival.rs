//! Readers coming and going, and what they tell of themselves.

use super::{Inner, SlotEntry, SlotId, StackState, Standing, UnusableReader, UsbKey};
use crate::error::Error;
use crate::naming;
use ccid::operation::PowerUp;
use ccid::{Operation, Output};
use ifd::hotplug::Change;
use ifd::sync::{Mutex, PoisonError};
use ifd::transport::Transport;
use ifd::transport::usb::{Candidate, OpenError};
use ifd::{Clock, Done, ReaderEvent};
use log::{debug, info, warn};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reader that stops answering within this time of having been reset and opened again is left
/// alone.
const RETRY_TIME: Duration = Duration::from_secs(60);

impl Inner {
    pub(super) fn add<T: Transport + 'static>(
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

    pub(super) fn usb_changed(self: &Arc<Self>, change: Change) {
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
}
