//! Readers coming and going on the machine's USB.
//!
//! Where udev runs, its messages wake the watch; elsewhere (containers, small systems) what is
//! listed is looked at once a second. Either way the list is what counts: a message that was lost
//! is made good by the next one.

use crate::transport::usb::{self, Candidate};
use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use futures_core::Stream;
use log::{debug, warn};
use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the list is looked at where nothing tells of changes.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// How often it is looked at where udev tells: a lost message must not hide a reader for ever.
const SAFETY_PERIOD: Duration = Duration::from_secs(30);

/// How long after a change the list is looked at again: permissions and the interfaces of a
/// composite device come in steps.
const SETTLE_TIME: Duration = Duration::from_millis(150);

/// A change of what is plugged in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A reader is there.
    Arrived(Candidate),
    /// The reader with this [`Candidate::key`] is no longer there.
    Left(Key),
}

/// What names a reader: [`Candidate::key`].
pub type Key = (String, u8, u8);

/// Watches for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    /// Readers to be forgotten; the thread ends with the channel.
    forget: Option<Sender<Key>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `changed` on a thread of the watch: for every reader there is, then for every change.
    /// The first list is complete when `start` returns.
    ///
    /// # Errors
    /// Those of starting a thread. A machine without USB is none: it has no readers.
    pub fn start(mut changed: impl FnMut(Change) + Send + 'static) -> std::io::Result<Self> {
        let (forget, forgotten) = unbounded();
        let (signal, woken) = bounded(1);
        // Watch first, then list: nothing falls between.
        let mut events = Events::new(signal);
        let mut known = HashMap::new();
        refresh(&mut known, &mut changed);
        let thread = std::thread::Builder::new()
            .name("scard hot-plug".into())
            .spawn(move || run(&mut events, &mut known, &mut changed, &forgotten, &woken))?;
        Ok(Self { forget: Some(forget), thread: Some(thread) })
    }

    /// Takes a reader that is still there for one that has just arrived: it is told again. Returns
    /// at once.
    pub fn forget(&self, key: Key) {
        if let Some(forget) = &self.forget {
            let _ = forget.send(key);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.forget.take());
        if let Some(thread) = self.thread.take() {
            // The callback may be what drops the watch.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                warn!("the hot-plug thread has panicked");
            }
        }
    }
}

fn run(
    events: &mut Events,
    known: &mut HashMap<Key, Candidate>,
    changed: &mut impl FnMut(Change),
    forgotten: &Receiver<Key>,
    woken: &Receiver<()>,
) {
    loop {
        let more = events.drain();
        let period = if more { SETTLE_TIME } else { events.period() };
        if more {
            refresh(known, changed);
        }
        select! {
            recv(forgotten) -> key => match key {
                Ok(key) => {
                    known.remove(&key);
                    refresh(known, changed);
                }
                Err(_) => return,
            },
            recv(woken) -> _ => {}
            default(period) => {
                if refresh(known, changed) && period == SAFETY_PERIOD {
                    // Not a word of it from udev: its daemon has ended, perhaps.
                    debug!("hot-plug messages are not relied upon any more");
                    events.watch = None;
                }
            }
        }
    }
}

/// Tells how the list differs from what was known; true if it does.
fn refresh(known: &mut HashMap<Key, Candidate>, changed: &mut impl FnMut(Change)) -> bool {
    let listed = match usb::readers() {
        Ok(listed) => listed,
        Err(error) => {
            debug!("{error}");
            Vec::new()
        }
    };
    let keys: Vec<_> = listed.iter().map(Candidate::key).collect();
    let mut any = false;
    known.retain(|key, _| {
        let stays = keys.contains(key);
        if !stays {
            any = true;
            changed(Change::Left(key.clone()));
        }
        stays
    });
    for (key, candidate) in keys.into_iter().zip(listed) {
        if let std::collections::hash_map::Entry::Vacant(entry) = known.entry(key) {
            entry.insert(candidate.clone());
            any = true;
            changed(Change::Arrived(candidate));
        }
    }
    any
}

/// udev's messages, where it runs.
struct Events {
    watch: Option<nusb::hotplug::HotplugWatch>,
    waker: Waker,
}

struct Signal(Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_send(());
    }
}

impl Events {
    fn new(signal: Sender<()>) -> Self {
        let watch = match nusb::watch_devices() {
            Ok(watch) if udev_runs() => Some(watch),
            Ok(_) => None,
            Err(error) => {
                debug!("no hot-plug messages: {error}");
                None
            }
        };
        Self { watch, waker: Waker::from(Arc::new(Signal(signal))) }
    }

    fn period(&self) -> Duration {
        if self.watch.is_some() { SAFETY_PERIOD } else { POLL_PERIOD }
    }

    /// Takes all messages; true if there were any. The waker is armed afterwards.
    fn drain(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        let mut cx = Context::from_waker(&self.waker);
        let mut any = false;
        loop {
            match Pin::new(&mut *watch).poll_next(&mut cx) {
                Poll::Ready(Some(_)) => any = true,
                Poll::Ready(None) | Poll::Pending => return any,
            }
        }
    }
}

/// On Linux the messages come from udev's daemon, if one runs.
fn udev_runs() -> bool {
    !cfg!(target_os = "linux") || Path::new("/run/udev/control").exists()
}
