//! One reader, open: its channel, its thread, its slots.

use crate::channel::Channel;
use crate::code::Code;
use crate::settings::Settings;
use crate::slot::Slot;
use ccid::{Error, Operation};
use ifd::{Done, Handle, ReaderEvent};
use log::{error, info, warn};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long opening waits until the reader says what is in its first slot.
const OPEN_TIME: Duration = Duration::from_secs(5);

/// How often a reader that is gone is looked for, if it may come back by itself.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// A reader that stops answering within this time of having been opened again is left alone.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// A reader.
#[derive(Debug)]
pub(crate) struct Device {
    name: String,
    channel: Channel,
    settings: Settings,
    slots: Arc<Slots>,
    reader: Mutex<Handle>,
    revival: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Slots(Mutex<BTreeMap<u8, Arc<Slot>>>);

impl Slots {
    fn get(&self, number: ccid::Slot) -> Arc<Slot> {
        let mut slots = lock(&self.0);
        Arc::clone(slots.entry(number.0).or_default())
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        lock(&self.0).values().cloned().collect()
    }

    /// On the reader's thread.
    fn event(&self, event: &ReaderEvent) {
        match event {
            ReaderEvent::Presence { slot, present } => {
                info!("{slot}: a card is {}", if *present { "there" } else { "not there" });
                self.get(*slot).see_presence(*present);
            }
            ReaderEvent::CardLost { slot, .. } => self.get(*slot).see_reset(None),
            ReaderEvent::CardReset { slot, result: Ok(atr) } => {
                info!("{slot}: the card was reset: {atr}");
                self.get(*slot).see_reset(Some(atr.clone()));
            }
            ReaderEvent::CardReset { slot, result: Err(error) } => {
                warn!("{slot}: the card was reset: {error}");
            }
            ReaderEvent::HardwareError { slot, code } => {
                warn!("{slot}: hardware error {code:02X}h");
            }
            ReaderEvent::Gone(error) => {
                info!("the reader is gone: {error}");
                for slot in self.all() {
                    slot.see_gone(error);
                }
            }
            _ => {}
        }
    }
}

impl Device {
    /// Opens the reader. Returns when it has said what is in its first slot, or after 5 seconds.
    pub(crate) fn open(name: &str, channel: Channel, settings: Settings) -> Result<Self, Code> {
        let slots = Arc::new(Slots::default());
        // Made before the reader can speak of it: events go to slots that are known.
        let first = slots.get(ccid::Slot(0));
        let reader = spawn(&channel, &settings, &slots)?;
        for number in 0..=reader.info().class.max_slot_index {
            slots.get(ccid::Slot(number));
        }
        first.settle(OPEN_TIME);
        if let Some(error) = first.gone() {
            error!("{name}: {error}");
            reader.close();
            return Err((&error).into());
        }
        let info = reader.info();
        info!(
            "{name}: {:04x}:{:04x}, {} slots, {}",
            info.vendor_id,
            info.product_id,
            info.class.slots(),
            info.class.exchange_level()
        );
        let (reader, revival) = (Mutex::new(reader), Mutex::new(None));
        Ok(Self { name: name.to_owned(), channel, settings, slots, reader, revival })
    }

    /// What pcscd calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What the driver was told when it was opened.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The reader at work.
    pub(crate) fn reader(&self) -> Handle {
        lock(&self.reader).clone()
    }

    /// A slot of it; none if it has no such slot.
    pub(crate) fn slot(&self, number: ccid::Slot) -> Option<Arc<Slot>> {
        let last = self.reader().info().class.max_slot_index;
        (number.0 <= last).then(|| self.slots.get(number))
    }

    /// If the reader is gone but may be back without pcscd hearing of it - it had stopped
    /// answering and was reset, or it is a simulated one - opens it again.
    pub(crate) fn revive(&self) {
        let Some(error) = self.slots.get(ccid::Slot(0)).gone() else {
            return;
        };
        let pause = match (&self.channel, error) {
            (_, Error::Unresponsive) => RETRY_TIME,
            (Channel::Named(named), _) if named.may_return() => LOOK_PERIOD,
            _ => return,
        };
        let mut last = lock(&self.revival);
        // Another slot's thread may have been here.
        let first = self.slots.get(ccid::Slot(0));
        if first.gone().is_none() || last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        *last = Some(Instant::now());
        lock(&self.reader).close();
        for slot in self.slots.all() {
            slot.revive();
        }
        match spawn(&self.channel, &self.settings, &self.slots) {
            Ok(reader) => {
                info!("{}: the reader is open again", self.name);
                *lock(&self.reader) = reader;
                first.settle(OPEN_TIME);
            }
            Err(_) => {
                for slot in self.slots.all() {
                    slot.see_gone(&Error::Disconnected);
                }
            }
        }
    }

    /// One slot is not used any more, others are: its card loses its power.
    pub(crate) fn close_slot(&self, number: ccid::Slot) {
        self.slots.get(number).close();
        self.reader().start(number, Operation::PowerOff, None, Done::new(|_| {}));
    }

    /// The end: what is under way is aborted, cards are powered off, no thread is left. Takes 3
    /// seconds at most.
    pub(crate) fn close(&self) {
        for slot in self.slots.all() {
            slot.close();
        }
        self.reader().close();
    }
}

fn spawn(channel: &Channel, settings: &Settings, slots: &Arc<Slots>) -> Result<Handle, Code> {
    let (transport, clock) = channel.open()?;
    let slots = Arc::clone(slots);
    let events = move |event: ReaderEvent| slots.event(&event);
    Handle::spawn(transport, settings.options(), clock, events).map_err(|error| {
        error!("no thread for a reader: {error}");
        Code::Communication
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
