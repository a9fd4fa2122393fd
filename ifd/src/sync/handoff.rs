//! How one thread waits for what another leaves it.
//!
//! A thread that waits here sleeps at once. A channel's receiver looks around for some microseconds
//! first, in case a message is about to come; what is waited for here takes a reader a hundred times
//! as long.

use super::{Condvar, Mutex, MutexGuard, PoisonError, now};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A mutex and the condition that one thread at most waits for; the others say nothing to nobody.
struct Watched<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    held: T,
    asleep: bool,
}

impl<T> Watched<T> {
    fn new(held: T) -> Self {
        Self { state: Mutex::new(State { held, asleep: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing is left half done by a panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is held, and wakes who sleeps.
    fn change<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state.held);
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.changed.notify_one();
        }
        result
    }

    /// Sleeps until `look` finds something. A deadline that has passed gives it one chance.
    fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state.held) {
                return Some(found);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state.asleep = true;
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.asleep = false;
        }
    }
}

/// Room for one thing that a thread leaves for another. Clones are the same room.
pub struct Handoff<T>(Arc<Watched<Option<T>>>);

impl<T> Clone for Handoff<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Handoff<T> {
    fn default() -> Self {
        Self(Arc::new(Watched::new(None)))
    }
}

impl<T> Handoff<T> {
    /// Leaves it there, unless something is there already: who takes that looks again anyway.
    pub fn put(&self, thing: T) {
        self.0.change(|held| {
            held.get_or_insert(thing);
        });
    }

    /// Takes what is there, or will be.
    pub fn take(&self) -> T {
        loop {
            if let Some(thing) = self.take_until(None) {
                return thing;
            }
        }
    }

    /// The same up to a time, if one is given; after it, what is there.
    pub fn take_until(&self, deadline: Option<Instant>) -> Option<T> {
        self.0.wait(deadline, Option::take)
    }
}

/// What a thread is sent, in order, until it looks no more. It may be rung for without being told
/// anything.
pub(crate) struct Mailbox<T>(Watched<Mail<T>>);

/// What comes of waiting at a mailbox.
pub(crate) enum Heard<T> {
    Sent(T),
    Ring,
}

struct Mail<T> {
    /// None once it is closed.
    queue: Option<VecDeque<T>>,
    rung: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Watched::new(Mail { queue: Some(VecDeque::new()), rung: false }))
    }
}

impl<T> Mailbox<T> {
    /// Sends something; gives it back if the box is closed.
    pub(crate) fn send(&self, thing: T) -> Result<(), T> {
        self.0.change(|mail| match &mut mail.queue {
            Some(queue) => {
                queue.push_back(thing);
                Ok(())
            }
            None => Err(thing),
        })
    }

    /// Has the thread look around.
    pub(crate) fn ring(&self) {
        self.0.change(|mail| mail.rung = true);
    }

    /// What has been sent first, if anything is there.
    pub(crate) fn look(&self) -> Option<T> {
        self.0.lock().held.queue.as_mut()?.pop_front()
    }

    /// Waits until something is sent or it is rung for; for a time at most, if one is given. What was
    /// rung for until then is done with.
    pub(crate) fn wait(&self, time: Option<Duration>) -> Option<Heard<T>> {
        // A time that the clock cannot hold is as good as none.
        let deadline = time.and_then(|time| now().checked_add(time));
        self.0.wait(deadline, |mail| {
            let rung = std::mem::take(&mut mail.rung).then_some(Heard::Ring);
            mail.queue.as_mut().and_then(VecDeque::pop_front).map(Heard::Sent).or(rung)
        })
    }

    /// Takes nothing more, and gives what is there.
    pub(crate) fn close(&self) -> VecDeque<T> {
        self.0.change(|mail| mail.queue.take()).unwrap_or_default()
    }
}
