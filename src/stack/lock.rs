//! The stack's lock.

use super::{Inner, StackState};
use crossbeam_channel::{Receiver, Sender, unbounded};
use ifd::sync::{MutexGuard, PoisonError};
use std::ops::{Deref, DerefMut};
use std::task::Waker;

/// Tasks to be woken once the state is unlocked: what a waker does is its owner's business, and may
/// be to call in here.
pub(super) struct Woken {
    sender: Sender<Waker>,
    receiver: Receiver<Waker>,
}

impl Woken {
    pub(super) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

/// The state, locked. The fields are dropped in this order: unlocked first, then tasks are woken.
pub(crate) struct Locked<'inner> {
    state: MutexGuard<'inner, StackState>,
    _after: Wakes<'inner>,
}

struct Wakes<'inner>(&'inner Receiver<Waker>);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        for waker in self.0.try_iter() {
            waker.wake();
        }
    }
}

impl Deref for Locked<'_> {
    type Target = StackState;
    fn deref(&self) -> &StackState {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut StackState {
        &mut self.state
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> Locked<'_> {
        // Nothing is left half done by a panic while it is held.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, _after: Wakes(&self.woken.receiver) }
    }

    /// Takes the tasks that are to be woken once the state is unlocked.
    pub(crate) fn woken(&self) -> Sender<Waker> {
        self.woken.sender.clone()
    }
}
