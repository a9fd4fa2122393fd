//! Where a reader's thread, or a caller that does its work meanwhile, is told what there is to do.

use super::handoff::sleep;
use super::thread::{self, ThreadId};
use super::{Condvar, Mutex, MutexGuard, PoisonError, now};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a thread is sent, in order, until it looks no more. It may be rung for without being told
/// anything.
///
/// While the thread rests, another may stand in for it, the deputy: what comes then goes to that one
/// and leaves the thread asleep. One of the two works at a time.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    for_thread: Condvar,
    for_deputy: Condvar,
}

struct State<T> {
    /// None once it is closed.
    queue: Option<VecDeque<T>>,
    rung: bool,
    /// The thread sleeps, and nobody has called it.
    resting: bool,
    /// It wakes by itself then.
    until: Option<Instant>,
    deputy: Option<ThreadId>,
    deputy_asleep: bool,
}

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Thread,
    Deputy,
}

/// What comes of waiting.
#[derive(Debug)]
pub(crate) enum Heard<T> {
    Sent(T),
    Ring,
    /// The time has passed.
    Nothing,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let state = State {
            queue: Some(VecDeque::new()),
            rung: false,
            resting: false,
            until: None,
            deputy: None,
            deputy_asleep: false,
        };
        Self { state: Mutex::new(state), for_thread: Condvar::new(), for_deputy: Condvar::new() }
    }
}

impl<T> State<T> {
    fn next(&mut self) -> Option<T> {
        self.queue.as_mut()?.pop_front()
    }

    /// What there is. What was rung for until then is done with.
    fn hear(&mut self) -> Option<Heard<T>> {
        let rung = std::mem::take(&mut self.rung).then_some(Heard::Ring);
        self.next().map(Heard::Sent).or(rung)
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing is left half done by a panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls who is to look, if that one sleeps.
    fn call(&self, mut state: MutexGuard<'_, State<T>>) {
        let State { resting, deputy, deputy_asleep, .. } = &mut *state;
        let (asleep, condition) = match deputy {
            Some(_) => (deputy_asleep, &self.for_deputy),
            None => (resting, &self.for_thread),
        };
        if std::mem::take(asleep) {
            drop(state);
            condition.notify_one();
        }
    }

    /// Sends something; gives it back if the box is closed.
    pub(crate) fn send(&self, thing: T) -> Result<(), T> {
        let mut state = self.lock();
        match &mut state.queue {
            Some(queue) => queue.push_back(thing),
            None => return Err(thing),
        }
        self.call(state);
        Ok(())
    }

    /// The same, but leaves a resting thread asleep: the sender means to [stand in](Self::stand_in)
    /// for it, or to [ring](Self::ring).
    pub(crate) fn leave(&self, thing: T) -> Result<(), T> {
        let mut state = self.lock();
        match &mut state.queue {
            Some(queue) => queue.push_back(thing),
            None => return Err(thing),
        }
        if state.deputy.is_some() {
            self.call(state);
        }
        Ok(())
    }

    /// Has the thread look around.
    pub(crate) fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        self.call(state);
    }

    /// What has been sent first, if anything is there.
    pub(crate) fn look(&self) -> Option<T> {
        self.lock().next()
    }

    /// Waits until something is sent or it is rung for; for a time at most, if one is given.
    pub(crate) fn wait(&self, role: Role, time: Option<Duration>) -> Heard<T> {
        // A time that the clock cannot hold is as good as none.
        let deadline = time.and_then(|time| now().checked_add(time));
        let mut state = self.lock();
        loop {
            // The deputy sees to what comes, and to the time.
            let replaced = role == Role::Thread && state.deputy.is_some();
            let deadline = deadline.filter(|_| !replaced);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
            if !replaced {
                let heard = state.hear();
                if heard.is_some() || left.is_some_and(|left| left.is_zero()) {
                    if role == Role::Thread {
                        state.resting = false;
                    }
                    return heard.unwrap_or(Heard::Nothing);
                }
            }
            state = match role {
                Role::Thread => {
                    (state.resting, state.until) = (true, deadline);
                    sleep(&self.for_thread, state, left)
                }
                Role::Deputy => {
                    state.deputy_asleep = true;
                    sleep(&self.for_deputy, state, left)
                }
            };
        }
    }

    /// Stands in for the thread from now on, if it rests and nobody else does.
    pub(crate) fn stand_in(&self) -> bool {
        let mut state = self.lock();
        let may = state.resting && state.deputy.is_none();
        if may {
            state.deputy = Some(thread::current().id());
        }
        may
    }

    /// Stands in no more. The thread is called if there is `more` to do, or will be before it wakes by
    /// itself: in that `time`, if one is given.
    pub(crate) fn step_back(&self, more: bool, time: Option<Duration>) {
        let next = time.and_then(|time| now().checked_add(time));
        let mut state = self.lock();
        state.deputy = None;
        state.deputy_asleep = false;
        let sooner = next.is_some_and(|next| state.until.is_none_or(|until| next < until));
        if more || sooner {
            state.rung = true;
        }
        if state.rung || state.queue.as_ref().is_some_and(|queue| !queue.is_empty()) {
            self.call(state);
        }
    }

    /// Whether this very thread stands in.
    pub(crate) fn is_deputy(&self) -> bool {
        self.lock().deputy == Some(thread::current().id())
    }

    /// Takes nothing more, and gives what is there.
    pub(crate) fn close(&self) -> VecDeque<T> {
        self.lock().queue.take().unwrap_or_default()
    }
}
