//! Waiting for readers' states to change: SCardGetStatusChange.

use crate::call::{Call, Interest};
use crate::error::Error;
use crate::flags::State;
use crate::reader_state::{AtrMask, ReaderState};
use crate::stack::{FIRST_CHANGE, Inner, SlotId, StackState};
use std::sync::Arc;
use std::time::Duration;

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
    /// Readers coming and going; the count when the wait began.
    Pnp(u16),
    Slot(SlotId),
}

/// Waits until the state of one of `readers` differs from what its caller knew.
pub(crate) fn wait(
    inner: &Arc<Inner>,
    context: u64,
    timeout: Option<Duration>,
    readers: &mut [ReaderState],
) -> Result<(), Error> {
    let call = Call::begin(inner, context)?;
    let found = targets(&inner.lock(), readers);
    let targets = found.map_err(|error| call.error(error))?;
    if targets.iter().all(|target| matches!(target, Target::Ignored)) {
        for reader in readers {
            reader.set_event(State::IGNORE, 0, &[]);
        }
        return Ok(());
    }
    let slots = targets.iter().filter_map(|target| match target {
        Target::Slot(slot) => Some(*slot),
        _ => None,
    });
    let interest = if targets.iter().any(|target| matches!(target, Target::Pnp(_))) {
        Interest::Everything
    } else {
        Interest::Slots(slots.collect())
    };
    // A time that the clock cannot hold is as good as none.
    let deadline = timeout.and_then(|timeout| ifd::sync::now().checked_add(timeout));
    let zipped = |state: &mut StackState| look(state, &targets, readers).then_some(());
    let result = call.wait(interest, deadline, zipped);
    drop(call);
    result
}

/// Fills in what there is to see now, and which cards have one of these ATRs.
pub(crate) fn locate(
    inner: &Inner,
    atrs: &[AtrMask],
    readers: &mut [ReaderState],
) -> Result<(), Error> {
    let state = inner.lock();
    let targets = targets(&state, readers)?;
    look(&state, &targets, readers);
    for (target, reader) in targets.iter().zip(readers) {
        if matches!(target, Target::Slot(_)) && atrs.iter().any(|atr| atr.matches(reader.atr())) {
            reader.add_event(State::ATRMATCH);
        }
    }
    Ok(())
}

fn targets(state: &StackState, readers: &[ReaderState]) -> Result<Vec<Target>, Error> {
    readers
        .iter()
        .map(|reader| {
            if reader.current_state().contains(State::IGNORE) {
                return Ok(Target::Ignored);
            }
            if reader.is_pnp() {
                return Ok(Target::Pnp(state.changes));
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
