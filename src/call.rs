//! An outstanding call of a context: what cancel ends.
//!
//! A call waits in three ways: for a state of the stack ([`Call::wait`]), for its turn at a slot
//! ([`Call::enter`]), and for a command that the reader executes ([`Call::command`]). Cancel marks
//! it under the stack's lock, where each of the three looks before it begins to wait, and wakes
//! it or has its command aborted: there is no moment in which a cancel is lost.

use crate::cause;
use crate::error::Error;
use crate::stack::{CardState, GRACE, Inner, SlotEntry, SlotId, StackState};
use ccid::{Operation, Output};
use crossbeam_channel::Sender as Wakes;
use ifd::Ticket;
use ifd::sync::Handoff;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Names an outstanding call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallId(pub(crate) u64);

/// What a call wants to be woken for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Nothing,
    Slots(Vec<SlotId>),
    /// All slots, and readers coming and going.
    Everything,
}

/// A call as the stack sees it.
pub(crate) struct CallEntry {
    /// Why it is to end, if it is.
    ended: Option<Error>,
    running: Option<(ifd::Handle, Ticket)>,
    interest: Interest,
    sleeper: Sleeper,
}

/// Who sleeps until the call is woken.
enum Sleeper {
    Thread(Handoff<()>),
    /// With where it is put, to be woken once the state is unlocked.
    Task(Waker, Wakes<Waker>),
}

impl CallEntry {
    /// Ends the call with `error`. A running command is aborted if `commands` says so, and left
    /// alone otherwise.
    pub(crate) fn end(&mut self, error: Error, commands: bool) {
        match &self.running {
            Some(_) if !commands => return,
            Some((handle, ticket)) => handle.cancel(*ticket),
            None => {}
        }
        self.ended = self.ended.or(Some(error));
        self.wake();
    }

    pub(crate) fn wants(&self, slot: Option<SlotId>) -> bool {
        match (&self.interest, slot) {
            (Interest::Everything, _) => true,
            (Interest::Slots(slots), Some(slot)) => slots.contains(&slot),
            (Interest::Slots(_), None) | (Interest::Nothing, _) => false,
        }
    }

    pub(crate) fn wake(&self) {
        match &self.sleeper {
            Sleeper::Thread(woken) => woken.put(()),
            Sleeper::Task(waker, woken) => drop(woken.send(waker.clone())),
        }
    }
}

/// A call under way; ends when dropped.
pub(crate) struct Call {
    inner: Arc<Inner>,
    context: u64,
    id: CallId,
    woken: Handoff<()>,
    /// The slot that is this call's turn, if any.
    turn: Option<SlotId>,
    /// Readers that stay open for it.
    needs: Vec<u64>,
}

impl Call {
    /// Registers a call of `context`.
    pub(crate) fn begin(inner: &Arc<Inner>, context: u64) -> Result<Self, Error> {
        let woken = Handoff::default();
        let sleeper = Sleeper::Thread(woken.clone());
        let mut state = inner.lock();
        if state.stopped {
            return Err(Error::ServiceStopped);
        }
        let id = CallId(state.new_id());
        let calls = &mut state.contexts.get_mut(&context).ok_or(Error::InvalidHandle)?.calls;
        let entry = CallEntry { ended: None, running: None, interest: Interest::Nothing, sleeper };
        calls.insert(id, entry);
        drop(state);
        Ok(Self { inner: Arc::clone(inner), context, id, woken, turn: None, needs: Vec::new() })
    }

    /// Waits until `check` gives something; it is asked now and after every change that the call
    /// [watches](Self::watch). A deadline that has passed gives it one chance.
    pub(crate) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut StackState) -> Option<R>,
    ) -> Result<R, Error> {
        loop {
            if let Some(result) = self.look(&mut self.inner.lock(), &mut check) {
                return result;
            }
            if self.woken.take_until(deadline).is_none() {
                return Err(Error::Timeout);
            }
        }
    }

    /// The same for a task, which is woken after every such change. What it is interested in,
    /// [`watch`](Self::watch) has said.
    pub(crate) fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        check: impl FnOnce(&mut StackState) -> Option<R>,
    ) -> Poll<Result<R, Error>> {
        let mut state = self.inner.lock();
        if let Some(result) = self.look(&mut state, check) {
            return Poll::Ready(result);
        }
        if let Some(entry) = state.call(self.context, self.id) {
            entry.sleeper = Sleeper::Task(cx.waker().clone(), self.inner.woken());
        }
        Poll::Pending
    }

    /// What the call wants to be woken for.
    pub(crate) fn watch(&self, interest: Interest) -> Result<(), Error> {
        self.entry(|entry| entry.interest = interest)
    }

    /// What `check` gives, unless the call is to end.
    fn look<R>(
        &self,
        state: &mut StackState,
        check: impl FnOnce(&mut StackState) -> Option<R>,
    ) -> Option<Result<R, Error>> {
        match state.call(self.context, self.id) {
            None => Some(Err(Error::Cancelled)),
            Some(CallEntry { ended: Some(error), .. }) => Some(Err(*error)),
            Some(_) => check(state).map(Ok),
        }
    }

    /// Has the readers of `slots` opened where they are not, and kept open until the call ends.
    pub(crate) fn need(&mut self, state: &mut StackState, slots: impl IntoIterator<Item = SlotId>) {
        self.needs.extend(slots.into_iter().filter_map(|slot| state.need(slot)));
    }

    /// Waits until the reader of `slot` is open and what is in it is known.
    pub(crate) fn reach(&self, slot: SlotId) -> Result<(), Error> {
        self.wait_at(slot, |entry| (entry.reader.is_some() && !entry.fresh).then_some(()))
    }

    /// Waits for the turn at `slot`: first come, first served among those whose handle may use the
    /// card. It is kept until the call ends.
    pub(crate) fn enter(&mut self, slot: SlotId, handle: Option<u64>) -> Result<(), Error> {
        let id = self.id;
        self.inner.lock().slot_mut(slot).ok_or(Error::ReaderUnavailable)?.queue(id, handle);
        // From here on, dropping the call takes it out of the queue.
        self.turn = Some(slot);
        self.wait_at(slot, |entry| entry.take_turn(id).then_some(()))
    }

    /// Waits until `check` gives something for `slot`. That another program has the reader is the
    /// end of it once that program has had its time to let an idle reader go.
    fn wait_at<R>(
        &self,
        slot: SlotId,
        check: impl Fn(&mut SlotEntry) -> Option<R>,
    ) -> Result<R, Error> {
        let patience = ifd::sync::now() + GRACE;
        self.watch(Interest::Slots(vec![slot]))?;
        self.wait(None, |state| {
            let Some(entry) = state.slot_mut(slot) else {
                return Some(Err(Error::ReaderUnavailable));
            };
            match entry.card {
                CardState::OutOfReach(Error::SharingViolation) if ifd::sync::now() < patience => {
                    None
                }
                CardState::OutOfReach(error) => Some(Err(error)),
                _ => check(entry).map(Ok),
            }
        })?
    }

    /// Has a slot do something and waits for its end.
    pub(crate) fn command(
        &self,
        slot: SlotId,
        operation: Operation,
        limit: Option<Duration>,
    ) -> Result<Output, ccid::Error> {
        let begun = {
            let mut state = self.inner.lock();
            let Some(entry) = state.slot(slot) else {
                return Err(ccid::Error::Disconnected);
            };
            let Some(reader) = entry.reader.clone() else {
                return Err(ccid::Error::Disconnected);
            };
            let number = entry.number;
            match state.call(self.context, self.id) {
                Some(CallEntry { ended: None, running, .. }) => {
                    let begun = reader.begin(number, operation, limit);
                    *running = Some((reader, begun.ticket()));
                    begun
                }
                _ => return Err(ccid::Error::Cancelled),
            }
        };
        let result = begun.wait();
        let _ = self.entry(|entry| entry.running = None);
        match &result {
            Ok(_) => cause::clear(),
            Err(error) => cause::note(error),
        }
        result
    }

    /// Fails if the call is to end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.entry(|entry| entry.ended)?.map_or(Ok(()), Err)
    }

    /// What ended the call, if something has: what came of it then is no news.
    pub(crate) fn error(&self, error: Error) -> Error {
        self.entry(|entry| entry.ended).ok().flatten().unwrap_or(error)
    }

    fn entry<R>(&self, act: impl FnOnce(&mut CallEntry) -> R) -> Result<R, Error> {
        let mut state = self.inner.lock();
        state.call(self.context, self.id).map(act).ok_or(Error::Cancelled)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        if let Some(context) = state.contexts.get_mut(&self.context) {
            context.calls.remove(&self.id);
        }
        for id in self.needs.drain(..) {
            state.unneed(id);
        }
        if let Some(slot) = self.turn {
            if let Some(entry) = state.slot_mut(slot) {
                entry.leave(self.id);
            }
            let disposal = state.take_owed(slot);
            state.notify(Some(slot));
            drop(state);
            if let Some(disposal) = disposal {
                self.inner.dispose(disposal);
            }
        }
    }
}
