//! The devices of a stack: where they are, and for those that programs take turns at, whether they
//! are open and who needs them.

use super::{SlotEntry, SlotId, StackState, UnusableReader, UsbKey};
use crate::error::Error;
use crate::naming;
use crossbeam_channel::Sender;
use ifd::Source;
use ifd::transport::usb::OpenError;
use log::{info, warn};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a reader stays open that nobody needs any more, unless the user says otherwise: for
/// programs that connect and disconnect in turn.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(1);

/// How long another program that is told that its idle reader is wanted may take to let it go,
/// before calls hear that the reader is in use: it has to notice, and to power the card off.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// How long after an attempt the next one is made, during that time and afterwards. Nothing tells
/// that a reader has come free.
const RETRY_SOON: Duration = Duration::from_millis(100);
const RETRY_LATER: Duration = Duration::from_millis(250);

/// A device, one that cannot be used included.
#[derive(Default)]
pub(crate) struct Device {
    pub(super) key: Option<UsbKey>,
    /// Which opening of the device this is: of an earlier one nothing is listened to any more.
    pub(super) opening: u64,
    /// None: it is open for as long as it is there.
    pub(super) shared: Option<Shared>,
}

/// What there is to a device that is opened when it is needed.
pub(super) struct Shared {
    /// Names it for as long as it is there.
    id: u64,
    pub(super) source: Arc<dyn Source>,
    link: Link,
    /// Why it could not be opened, if it could not.
    trouble: Option<Trouble>,
    /// Calls that need it. Handles do, too: their slots count those.
    calls: u32,
    /// When it was last needed.
    last: Instant,
    /// Wakes the thread that opens and closes it, and ends it when dropped.
    wake: Sender<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Closed,
    Opening,
    Open,
    Closing,
}

/// Why a device cannot be opened.
struct Trouble {
    reason: OpenError,
    /// When that began.
    since: Instant,
    /// When to try again.
    retry: Instant,
}

/// What is to be done about a device next.
pub(super) enum Step {
    Open,
    /// If it is open: its reader is to be closed.
    Close(Option<ifd::Handle>),
    /// It is idle: closed then, or as soon as another program wants it.
    Linger(Instant),
    /// Nothing, until woken, or then.
    Sleep(Option<Instant>),
    /// The device is gone.
    End,
}

impl Shared {
    pub(super) fn new(id: u64, source: Arc<dyn Source>, wake: Sender<()>) -> Self {
        let (link, trouble) = (Link::Closed, None);
        Self { id, source, link, trouble, calls: 0, last: ifd::sync::now(), wake }
    }

    fn wake(&self) {
        // Full: it is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

impl StackState {
    fn shared_mut(&mut self, id: u64) -> Option<(usize, &mut Device)> {
        let mut devices = self.devices.iter_mut();
        let found = devices.find(|(_, device)| device.shared.as_ref().is_some_and(|s| s.id == id));
        found.map(|(index, device)| (*index, device))
    }

    fn slots_of(&mut self, index: usize) -> impl Iterator<Item = &mut SlotEntry> {
        self.slots.iter_mut().filter(move |slot| slot.index == index)
    }

    /// A call needs the reader of `slot` from now on; what [`unneed`](Self::unneed) takes, if it is
    /// one that is opened when needed.
    pub(crate) fn need(&mut self, slot: SlotId) -> Option<u64> {
        let index = self.slot(slot)?.index;
        let handles = self.slots.iter().any(|slot| slot.index == index && slot.has_handles());
        let shared = self.devices.get_mut(&index)?.shared.as_mut()?;
        let anew = shared.calls == 0 && !handles;
        shared.calls += 1;
        if shared.link == Link::Open {
            return Some(shared.id);
        }
        let (id, now) = (shared.id, ifd::sync::now());
        shared.wake();
        if let (true, Some(trouble)) = (anew, &mut shared.trouble) {
            // What was found when somebody last needed it need not be so any more.
            trouble.retry = now;
            self.slots_of(index).for_each(SlotEntry::close);
        }
        Some(id)
    }

    pub(crate) fn unneed(&mut self, id: u64) {
        if let Some(shared) = self.shared_mut(id).and_then(|(_, device)| device.shared.as_mut()) {
            shared.calls = shared.calls.saturating_sub(1);
            if shared.calls == 0 {
                shared.last = ifd::sync::now();
                shared.wake();
            }
        }
    }

    /// A handle at `slot` was closed: perhaps nobody needs the reader any more.
    pub(crate) fn handle_closed(&mut self, slot: SlotId) {
        let index = self.slot(slot).map(|slot| slot.index);
        let device = index.and_then(|index| self.devices.get_mut(&index));
        if let Some(shared) = device.and_then(|device| device.shared.as_mut()) {
            shared.last = ifd::sync::now();
            shared.wake();
        }
    }

    /// What to do next about a device, by the thread that looks after it; `wanted`: by another
    /// program.
    pub(super) fn next_step(&mut self, id: u64, now: Instant, wanted: bool) -> Step {
        let Self { devices, slots, idle_time, stopped, .. } = self;
        let mut all = devices.iter_mut().filter_map(|(index, device)| {
            let Device { opening, shared, .. } = device;
            Some((*index, opening, shared.as_mut()?))
        });
        let found = all.find(|(_, _, shared)| shared.id == id);
        let (Some((index, opening, shared)), false) = (found, *stopped) else {
            return Step::End;
        };
        let mut slots = slots.iter().filter(|slot| slot.index == index);
        let needed = shared.calls > 0 || slots.any(SlotEntry::has_handles);
        // A time that the clock cannot hold is as good as none.
        let idle = shared.last.checked_add(*idle_time);
        let over = idle.is_some_and(|idle| now >= idle);
        match (shared.link, &shared.trouble) {
            (Link::Closed, Some(_)) if !needed && over => {
                shared.trouble = None;
                self.slots_of(index).for_each(SlotEntry::close);
                Step::Sleep(None)
            }
            (Link::Closed, Some(_)) if !needed => Step::Sleep(idle),
            (Link::Closed, Some(trouble)) if now < trouble.retry => {
                Step::Sleep(Some(trouble.retry))
            }
            (Link::Closed, _) if needed => {
                shared.link = Link::Opening;
                Step::Open
            }
            (Link::Open, _) if !needed && (over || wanted) => {
                shared.link = Link::Closing;
                *opening = 0;
                self.close_reader(index)
            }
            (Link::Open, _) if !needed => idle.map_or(Step::Sleep(None), Step::Linger),
            _ => Step::Sleep(None),
        }
    }

    fn close_reader(&mut self, index: usize) -> Step {
        let (mut reader, mut ids) = (None, Vec::new());
        for slot in self.slots_of(index) {
            reader = slot.reader.take();
            slot.close();
            ids.push(slot.id);
        }
        // Whoever waits for what becomes of a card knows it now.
        self.notify_all(ids);
        Step::Close(reader)
    }

    fn notify_all(&self, slots: Vec<SlotId>) {
        slots.into_iter().for_each(|slot| self.notify(Some(slot)));
    }

    /// A device was opened; false if it is gone already.
    pub(super) fn opened(&mut self, id: u64, opening: u64, reader: &ifd::Handle) -> bool {
        let stopped = self.stopped;
        let Some((index, device)) = self.shared_mut(id).filter(|_| !stopped) else {
            return false;
        };
        device.opening = opening;
        if let Some(shared) = &mut device.shared {
            shared.link = Link::Open;
            shared.trouble = None;
        }
        for slot in self.slots_of(index) {
            slot.open(reader.clone());
        }
        true
    }

    pub(super) fn closed(&mut self, id: u64) {
        if let Some(shared) = self.shared_mut(id).and_then(|(_, device)| device.shared.as_mut()) {
            shared.link = Link::Closed;
        }
    }

    /// A device could not be opened. That another program has it is told once that has had its
    /// time to let it go; everything else at once.
    pub(super) fn not_opened(&mut self, id: u64, reason: OpenError, now: Instant) {
        let Some((index, device)) = self.shared_mut(id) else { return };
        let Some(shared) = &mut device.shared else { return };
        let before = shared.trouble.take();
        let since = before.as_ref().map_or(now, |trouble| trouble.since);
        let busy = matches!(reason, OpenError::Busy { .. });
        let hope = busy && now.saturating_duration_since(since) < GRACE;
        let name = naming::friendly(shared.source.info());
        match before.is_none_or(|before| before.reason != reason) {
            true if busy => info!("{name}: {reason}"),
            true => warn!("{name}: {reason}"),
            false => {}
        }
        let retry = now + if hope { RETRY_SOON } else { RETRY_LATER };
        shared.link = Link::Closed;
        shared.trouble = Some(Trouble { reason, since, retry });
        if hope {
            return;
        }
        let error = if busy { Error::SharingViolation } else { Error::ReaderUnavailable };
        let mut ids = Vec::new();
        for slot in self.slots_of(index) {
            slot.out_of_reach(error);
            ids.push(slot.id);
        }
        self.notify_all(ids);
    }

    /// The devices that are needed and cannot be opened.
    pub(super) fn in_trouble(&self) -> impl Iterator<Item = UnusableReader> {
        self.devices.iter().filter_map(|(index, device)| {
            let shared = device.shared.as_ref()?;
            let trouble = shared.trouble.as_ref()?;
            let mut slots = self.slots.iter().filter(|slot| slot.index == *index);
            slots.any(SlotEntry::is_out_of_reach).then(|| {
                let info = shared.source.info();
                UnusableReader {
                    name: naming::friendly(info),
                    ids: (info.vendor_id, info.product_id),
                    reason: trouble.reason.clone(),
                }
            })
        })
    }
}
