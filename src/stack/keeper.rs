//! The thread that opens a reader when it is needed, and closes it when it no longer is.
//!
//! Each such reader has its own, so that one which is slow to open or to close keeps nobody waiting
//! for another. It sleeps while the reader is closed, and while it is in use; only while it cannot
//! be opened, and in the moment between use and close, is there something to look at.

use super::Inner;
use super::device::Step;
use crate::sleep::sleep;
use crossbeam_channel::Receiver;
use ifd::source::{Rivals, Source};
use ifd::transport::usb::OpenError;
use ifd::{Clock, sync};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often an idle reader's keeper looks whether another program wants it.
const RIVALS_PERIOD: Duration = Duration::from_millis(20);

/// Starts the thread for the device `id`. It ends when the other end of `woken` is dropped.
pub(super) fn start(
    inner: &Arc<Inner>,
    id: u64,
    source: Arc<dyn Source>,
    woken: Receiver<()>,
) -> io::Result<()> {
    let stack = Arc::downgrade(inner);
    let thread = std::thread::Builder::new().name("scard keeper".into());
    thread.spawn(move || keep(&stack, id, &*source, &woken)).map(drop)
}

fn keep(stack: &Weak<Inner>, id: u64, source: &dyn Source, woken: &Receiver<()>) {
    let mut rivals: Option<Box<dyn Rivals>> = None;
    loop {
        let wanted = rivals.as_mut().is_some_and(|rivals| rivals.any());
        let Some(inner) = stack.upgrade() else { return };
        let step = inner.lock().next_step(id, sync::now(), wanted);
        if !matches!(step, Step::Linger(_)) {
            rivals = None;
        }
        let until = match step {
            Step::Open => {
                inner.open(id, source);
                continue;
            }
            Step::Close(reader) => {
                drop(inner);
                if let Some(reader) = reader {
                    reader.close();
                }
                let Some(inner) = stack.upgrade() else { return };
                inner.lock().closed(id);
                continue;
            }
            Step::Linger(until) => {
                rivals.get_or_insert_with(|| source.rivals());
                Some(until.min(sync::now() + RIVALS_PERIOD))
            }
            Step::Sleep(until) => until,
            Step::End => return,
        };
        drop(inner);
        if !sleep(woken, until) {
            return;
        }
    }
}

impl Inner {
    fn open(self: &Arc<Self>, id: u64, source: &dyn Source) {
        let opened = source.open().and_then(|transport| {
            let opening = self.lock().new_id();
            let spawned = self.spawn(opening, transport, Clock::monotonic());
            let spawned = spawned.map_err(|error| OpenError::System(error.to_string()))?;
            Ok((opening, spawned))
        });
        match opened {
            Ok((opening, (reader, early))) => {
                // One that was unplugged, or whose stack was shut down, is closed when dropped.
                if self.lock().opened(id, opening, &reader) {
                    self.tell_early(opening, &early);
                }
            }
            Err(reason) => self.lock().not_opened(id, reason, sync::now()),
        }
    }
}
