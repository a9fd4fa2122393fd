//! Who holds a transaction, and for how long without doing anything.
//!
//! Windows resets the card of a transaction in which nothing has been done for five seconds, and
//! gives it to the next. Here that is a setting of the context, off by default. A thread looks at
//! it, once there is such a transaction: it sleeps until the first of them may be over.

use crate::error::Error;
use crate::sleep::sleep;
use crate::stack::{Holder, Inner, SlotId, StackState, Standing};
use ccid::Operation;
use ccid::operation::PowerUp;
use crossbeam_channel::{Receiver, Sender, bounded};
use log::{info, warn};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

impl Holder {
    /// When the transaction is over, if nothing is done in it until then.
    fn deadline(&self) -> Option<Instant> {
        // A time that the clock cannot hold is as good as none.
        self.since.checked_add(self.limit?)
    }
}

impl StackState {
    /// The holder of a transaction does something in it.
    pub(crate) fn touch(&mut self, handle: u64) {
        let Some(slot) = self.handles.get(&handle).map(|entry| entry.slot) else {
            return;
        };
        let holder = self.slot_mut(slot).and_then(|slot| slot.transaction.as_mut());
        if let Some(holder) = holder.filter(|holder| holder.handle == handle) {
            holder.since = ifd::sync::now();
        }
    }

    /// The slot of `handle`, unless another's transaction keeps it out: for calls that do not wait
    /// for that to end.
    pub(crate) fn not_kept_out(&mut self, handle: u64) -> Result<SlotId, Error> {
        self.touch(handle);
        let entry = self.handles.get(&handle).ok_or(Error::InvalidHandle)?;
        let slot = self.slot(entry.slot).ok_or(Error::ReaderUnavailable)?;
        match slot.transaction {
            Some(holder) if holder.handle != handle => Err(Error::SharingViolation),
            _ => Ok(slot.id),
        }
    }
}

impl Inner {
    /// A transaction of `handle`, or another level of it. It is its turn at the slot.
    pub(crate) fn begin_transaction(
        self: &Arc<Self>,
        context: u64,
        slot: SlotId,
        handle: u64,
    ) -> Result<(), Error> {
        let limit = {
            let mut state = self.lock();
            let context = state.contexts.get(&context).ok_or(Error::InvalidHandle)?;
            let limit = context.transaction_limit;
            // It may have been closed meanwhile, with all that it held.
            if !state.handles.contains_key(&handle) {
                return Err(Error::InvalidHandle);
            }
            let entry = state.slot_mut(slot).ok_or(Error::ReaderUnavailable)?;
            let depth = entry.transaction.map_or(0, |holder| holder.depth);
            let holder = Holder { handle, depth: depth + 1, since: ifd::sync::now(), limit };
            entry.transaction = Some(holder);
            limit
        };
        if limit.is_some() {
            self.watch_idleness();
        }
        Ok(())
    }

    /// Has the thread look again, and starts it if there is none.
    fn watch_idleness(self: &Arc<Self>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = &*idle {
            // Full: it is about to look anyway.
            let _ = wake.try_send(());
            return;
        }
        let (wake, woken) = bounded(1);
        let weak = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("scard idle".into());
        match thread.spawn(move || watch(&weak, &woken)) {
            Ok(_) => *idle = Some(wake),
            // The transaction works without its limit.
            Err(error) => warn!("no limit to idle transactions: {error}"),
        }
    }

    /// Ends the transactions in which nothing has been done for too long; says when to look again.
    fn end_idle_transactions(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let mut over = Vec::new();
        let mut next: Option<Instant> = None;
        for slot in &mut state.slots {
            let busy = slot.is_taken();
            let Some(holder) = &mut slot.transaction else { continue };
            if busy {
                holder.since = now;
            }
            match holder.deadline() {
                Some(deadline) if deadline <= now => over.push(slot.id),
                deadline => next = next.into_iter().chain(deadline).min(),
            }
        }
        let mut disposals = Vec::new();
        for slot in over {
            info!("a transaction has been idle for too long: the card is reset");
            disposals.extend(state.take_card(slot, Operation::PowerOn(PowerUp::Warm)));
            // A card without power need not be reset, but the holder is told all the same.
            state.mark_handles(slot, Standing::Reset, None);
            state.release_transaction(slot);
        }
        drop(state);
        for disposal in disposals {
            self.dispose(disposal);
        }
        next
    }
}

/// The thread. It ends with the stack, which has the other end of the channel.
fn watch(stack: &Weak<Inner>, woken: &Receiver<()>) {
    loop {
        let Some(inner) = stack.upgrade() else { return };
        let next = inner.end_idle_transactions(ifd::sync::now());
        drop(inner);
        if !sleep(woken, next) {
            return;
        }
    }
}

/// Wakes the thread.
pub(crate) type Waker = Sender<()>;
