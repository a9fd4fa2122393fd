//! Waiting for readers' states to change: SCardGetStatusChange.

use crate::call::{Call, Interest};
use crate::error::Error;
use crate::flags::State;
use crate::reader_state::{AtrMask, ReaderState};
use crate::stack::{FIRST_CHANGE, Inner, SlotId, StackState};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

/// How long a wait whose time is shorter goes on until it is known what is in readers that are
/// opened for it.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// The state bits that a caller's knowledge is compared by.
const COMPARED: State = State::UNKNOWN
    .union(State::UNAVAILABLE)
    .union(State::EMPTY)
    .union(State::PRESENT)
    .union(State::EXCLUSIVE)
    .union(State::INUSE)
    .union(State::MUTE)
    .union(State::UNPOWERED);

/// What one entry of the wait is about.
enum Target {
    Ignored,
    /// Readers coming and going; the count when the wait began, or when they were listed for it.
    Pnp(u16),
    Slot(SlotId),
}

/// A wait under way.
struct Wait {
    call: Call,
    targets: Vec<Target>,
    /// Readers had to be opened for it.
    opens: bool,
}

impl Wait {
    fn begin(inner: &Arc<Inner>, context: u64, readers: &[ReaderState]) -> Result<Self, Error> {
        let mut call = Call::begin(inner, context)?;
        let found = {
            let mut state = inner.lock();
            // Between the list and the wait readers may have come or gone: that is news.
            let pnp = readers.iter().any(ReaderState::is_pnp);
            let entry = state.contexts.get_mut(&context).filter(|_| pnp);
            let listed = entry.and_then(|entry| entry.listed.take());
            targets(&state, listed, readers).map(|targets| {
                call.need(&mut state, slots(&targets));
                let opens = !is_settled(&state, &targets);
                (targets, opens)
            })
        };
        let (targets, opens) = found.map_err(|error| call.error(error))?;
        let slots: Vec<_> = slots(&targets).collect();
        let pnp = targets.iter().any(|target| matches!(target, Target::Pnp(_)));
        call.watch(if pnp { Interest::Everything } else { Interest::Slots(slots) })?;
        Ok(Self { call, targets, opens })
    }

    /// Waits until readers that are opened for it have said what is in them, but not without end: a
    /// caller who does not want to wait for changes wants to know how things are, all the same.
    fn settle(&self) -> Result<(), Error> {
        if !self.opens {
            return Ok(());
        }
        let deadline = ifd::sync::now() + SETTLE_TIME;
        match self.call.wait(Some(deadline), |state| is_settled(state, &self.targets).then_some(()))
        {
            Ok(()) | Err(Error::Timeout) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fills in what there is to see; true if the wait is over.
    fn look(&self, state: &StackState, readers: &mut [ReaderState]) -> bool {
        let nothing = self.targets.iter().all(|target| matches!(target, Target::Ignored));
        look(state, &self.targets, readers) || nothing
    }
}

/// A wait for readers' states to change, as a future:
/// [`Context::status_change`](crate::Context::status_change). Begins when made, and ends when dropped.
#[must_use = "the wait ends when it is dropped"]
pub struct StatusChange {
    /// Why there is none, or that it is over.
    wait: Result<Wait, Error>,
    readers: Vec<ReaderState>,
}

impl StatusChange {
    pub(crate) fn begin(inner: &Arc<Inner>, context: u64, readers: Vec<ReaderState>) -> Self {
        Self { wait: Wait::begin(inner, context, &readers), readers }
    }
}

impl fmt::Debug for StatusChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusChange").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Future for StatusChange {
    type Output = Result<Vec<ReaderState>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Self { wait, readers } = &mut *self;
        let wait = match wait {
            Ok(wait) => wait,
            Err(error) => return Poll::Ready(Err(*error)),
        };
        let over = wait.call.poll(cx, |state| {
            (is_settled(state, &wait.targets) && wait.look(state, readers)).then_some(())
        });
        if over.is_ready() {
            // Asked again, it has nothing more to say.
            self.wait = Err(Error::InvalidHandle);
        }
        over.map_ok(|()| std::mem::take(&mut self.readers))
    }
}

/// Waits until the state of one of `readers` differs from what its caller knew.
pub(crate) fn wait(
    inner: &Arc<Inner>,
    context: u64,
    timeout: Option<Duration>,
    readers: &mut [ReaderState],
) -> Result<(), Error> {
    let wait = Wait::begin(inner, context, readers)?;
    // A time that the clock cannot hold is as good as none.
    let deadline = timeout.and_then(|timeout| ifd::sync::now().checked_add(timeout));
    wait.settle()?;
    wait.call.wait(deadline, |state| wait.look(state, readers).then_some(()))
}

/// Fills in what there is to see now, and which cards have one of these ATRs.
pub(crate) fn locate(
    inner: &Arc<Inner>,
    context: u64,
    atrs: &[AtrMask],
    readers: &mut [ReaderState],
) -> Result<(), Error> {
    let wait = Wait::begin(inner, context, readers)?;
    wait.settle()?;
    wait.look(&inner.lock(), readers);
    for (target, reader) in wait.targets.iter().zip(readers) {
        if matches!(target, Target::Slot(_)) && atrs.iter().any(|atr| atr.matches(reader.atr())) {
            reader.add_event(State::ATRMATCH);
        }
    }
    Ok(())
}

/// All readers have said what is in them since they were opened, or cannot be opened.
fn is_settled(state: &StackState, targets: &[Target]) -> bool {
    slots(targets).all(|slot| state.slot(slot).is_none_or(|entry| !entry.fresh))
}

fn slots(targets: &[Target]) -> impl Iterator<Item = SlotId> {
    targets.iter().filter_map(|target| match target {
        Target::Slot(slot) => Some(*slot),
        _ => None,
    })
}

/// `listed` is the count when the context listed the readers.
fn targets(
    state: &StackState,
    listed: Option<u16>,
    readers: &[ReaderState],
) -> Result<Vec<Target>, Error> {
    readers
        .iter()
        .map(|reader| {
            if reader.current_state().contains(State::IGNORE) {
                return Ok(Target::Ignored);
            }
            if reader.is_pnp() {
                // Who tells a count knows better.
                let listed = listed.filter(|_| reader.current_bits() >> 16 == 0);
                return Ok(Target::Pnp(listed.unwrap_or(state.changes)));
            }
            let slot = state.slots.iter().find(|slot| slot.name.as_c_str() == reader.name());
            slot.map(|slot| Target::Slot(slot.id)).ok_or(Error::UnknownReader)
        })
        .collect()
}

/// Fills in what there is to see; true if something has changed.
fn look(state: &StackState, targets: &[Target], readers: &mut [ReaderState]) -> bool {
    let mut any = false;
    for (target, reader) in targets.iter().zip(readers) {
        any |= match target {
            Target::Ignored => {
                reader.set_event(State::IGNORE, 0, &[]);
                false
            }
            Target::Pnp(began) => {
                let known = (reader.current_bits() >> 16) as u16;
                let changed = state.changes != *began
                    || match known {
                        0 => false,
                        1..FIRST_CHANGE => usize::from(known) != state.slots.len(),
                        FIRST_CHANGE.. => known != state.changes,
                    };
                let event = if changed { State::CHANGED } else { State::empty() };
                reader.set_event(event, state.changes, &[]);
                changed
            }
            Target::Slot(slot) => look_at_slot(state, *slot, reader),
        };
    }
    any
}

fn look_at_slot(state: &StackState, slot: SlotId, reader: &mut ReaderState) -> bool {
    let Some(entry) = state.slot(slot) else {
        let gone = State::UNKNOWN | State::UNAVAILABLE | State::CHANGED;
        reader.set_event(gone, 0, &[]);
        return true;
    };
    let Some(found) = entry.state() else {
        // Not known yet: whoever waits hears of it once it is.
        reader.set_event(State::UNKNOWN, 0, &[]);
        return false;
    };
    let known = reader.current_state();
    let count = (reader.current_bits() >> 16) as u16;
    let changed = (known & COMPARED) != (found & COMPARED) || (count != 0 && count != entry.events);
    let event = if changed { found | State::CHANGED } else { found };
    reader.set_event(event, entry.events, entry.atr());
    changed
}
