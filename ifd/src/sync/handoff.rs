//! How one thread waits for what another leaves it.

use super::{Condvar, Mutex, MutexGuard, PoisonError, now};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Room for one thing that a thread leaves for another. Clones are the same room.
///
/// Who waits sleeps at once. A channel's receiver looks around for some microseconds first, in case a
/// message is about to come; what is waited for here takes a reader a hundred times as long.
pub struct Handoff<T>(Arc<Room<T>>);

struct Room<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    held: Option<T>,
    asleep: bool,
}

impl<T> Clone for Handoff<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Handoff<T> {
    fn default() -> Self {
        let state = Mutex::new(State { held: None, asleep: false });
        Self(Arc::new(Room { state, changed: Condvar::new() }))
    }
}

impl<T> fmt::Debug for Handoff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handoff")
    }
}

impl<T> Handoff<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing is left half done by a panic while it is held.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves it there, unless something is there already: who takes that looks again anyway.
    pub fn put(&self, thing: T) {
        let mut state = self.lock();
        state.held.get_or_insert(thing);
        let asleep = state.asleep;
        drop(state);
        if asleep {
            self.0.changed.notify_one();
        }
    }

    /// Whether something is there.
    pub fn is_there(&self) -> bool {
        self.lock().held.is_some()
    }

    /// Takes what is there, or will be. One thread at a time.
    pub fn take(&self) -> T {
        loop {
            if let Some(thing) = self.take_until(None) {
                return thing;
            }
        }
    }

    /// The same up to a time, if one is given; after it, what is there.
    pub fn take_until(&self, deadline: Option<Instant>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(thing) = state.held.take() {
                return Some(thing);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state.asleep = true;
            state = sleep(&self.0.changed, state, left);
            state.asleep = false;
        }
    }
}

/// Sleeps until called, or for a time; or less.
pub(super) fn sleep<'a, T>(
    changed: &Condvar,
    state: MutexGuard<'a, T>,
    time: Option<Duration>,
) -> MutexGuard<'a, T> {
    match time {
        None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(time) => changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
    }
}
