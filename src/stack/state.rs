//! What all contexts of a stack share.

use super::device::{Device, IDLE_TIME};
use super::slot::{SlotEntry, SlotId};
use super::{UnusableReader, UsbKey};
use crate::call::{CallEntry, CallId};
use crate::flags::{Protocol, ShareMode};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A context, as far as the stack knows it.
pub(crate) struct ContextEntry {
    pub(crate) calls: BTreeMap<CallId, CallEntry>,
    /// Cancel aborts running commands, too.
    pub(crate) cancels_commands: bool,
    /// How long nothing may be done in a transaction.
    pub(crate) transaction_limit: Option<Duration>,
    /// `changes` when it last listed the readers, until it next waits for a change of them.
    pub(crate) listed: Option<u16>,
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

pub(crate) struct StackState {
    pub(crate) slots: Vec<SlotEntry>,
    /// Devices by their index. Readers that cannot be used have theirs, too: names depend on
    /// nobody else.
    pub(super) devices: BTreeMap<usize, Device>,
    pub(super) unusable: BTreeMap<UsbKey, UnusableReader>,
    /// Readers that stopped answering and were opened again, and when.
    pub(super) retried: BTreeMap<UsbKey, Instant>,
    pub(crate) contexts: BTreeMap<u64, ContextEntry>,
    pub(crate) handles: BTreeMap<u64, HandleEntry>,
    /// Readers that came or went, for the PnP name.
    pub(crate) changes: u16,
    pub(crate) stopped: bool,
    /// How long a reader stays open that nobody needs.
    pub(super) idle_time: Duration,
    next_id: u64,
}

impl StackState {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            devices: BTreeMap::new(),
            unusable: BTreeMap::new(),
            retried: BTreeMap::new(),
            contexts: BTreeMap::new(),
            handles: BTreeMap::new(),
            changes: FIRST_CHANGE,
            stopped: false,
            idle_time: IDLE_TIME,
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
    pub(super) fn count_change(&mut self) {
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

    pub(super) fn readers(&self) -> Vec<ifd::Handle> {
        // The slots of a device share its handle; closing it twice does no harm.
        self.slots.iter().filter_map(|slot| slot.reader.clone()).collect()
    }

    /// The index of a device: the one it has, or the first that is free.
    pub(super) fn index_for(&mut self, key: Option<UsbKey>) -> usize {
        let mut devices = self.devices.iter();
        let own = devices.find(|(_, other)| key.is_some() && other.key == key);
        if let Some((index, _)) = own {
            return *index;
        }
        let index = (0..).find(|index| !self.devices.contains_key(index)).unwrap_or_default();
        self.devices.insert(index, Device { key, ..Device::default() });
        index
    }

    /// The device there has been unplugged. One that is open tells so itself, and its index goes
    /// with its slots.
    pub(super) fn usb_left(&mut self, key: &UsbKey) {
        if self.unusable.remove(key).is_some() {
            self.count_change();
        }
        let mut devices = self.devices.iter();
        let found = devices.find(|(_, device)| device.key.as_ref() == Some(key));
        let Some(index) = found.map(|(index, _)| *index) else { return };
        let mut slots = self.slots.iter().filter(|slot| slot.index == index);
        if slots.any(|slot| slot.reader.is_some()) {
            return;
        }
        self.devices.remove(&index);
        if self.slots.iter().any(|slot| slot.index == index) {
            self.remove_slots(index);
        }
    }

    /// The device's slots are no more.
    pub(super) fn remove_slots(&mut self, index: usize) {
        let slots = self.slots.iter().filter(|slot| slot.index == index);
        let gone: Vec<_> = slots.map(|slot| slot.id).collect();
        self.slots.retain(|slot| slot.index != index);
        for id in gone {
            self.mark_handles(id, Standing::Removed, None);
            self.notify(Some(id));
        }
        self.count_change();
    }
}

impl StackState {
    /// Which device was opened with that number, if it still is.
    pub(super) fn index_of(&self, opening: u64) -> Option<usize> {
        let mut devices = self.devices.iter();
        devices.find(|(_, device)| device.opening == opening).map(|(index, _)| *index)
    }

    pub(super) fn at_mut(&mut self, index: usize, number: u8) -> Option<&mut SlotEntry> {
        self.slots.iter_mut().find(|slot| slot.index == index && slot.number.0 == number)
    }

    /// A reader is plugged in and cannot be used: whoever waits for readers hears of it.
    pub(super) fn cannot_use(&mut self, key: UsbKey, reader: UnusableReader) {
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
