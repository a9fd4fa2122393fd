//! The end of handles and transactions, and what becomes of the card then.

use crate::call::{Call, Interest};
use crate::error::Error;
use crate::flags::Disposition;
use crate::stack::{CardState, Inner, SlotEntry, SlotId, StackState, Standing};
use ccid::operation::PowerUp;
use ccid::{Operation, Output, Slot};
use ifd::Done;
use log::debug;
use std::sync::Arc;

/// What is done to the card, if anything. No reader known can eject by CCID: as unpowering.
fn operation_of(disposition: Disposition) -> Option<Operation> {
    match disposition {
        Disposition::LeaveCard => None,
        Disposition::ResetCard => Some(Operation::PowerOn(PowerUp::Warm)),
        Disposition::UnpowerCard | Disposition::EjectCard => Some(Operation::PowerOff),
    }
}

impl Inner {
    /// The handle is no more; its transaction ends. `wish` is done to its card, or to that of its
    /// transaction. Gives the slot if something is being done there, or will be after the call that
    /// is at it.
    fn close(
        self: &Arc<Self>,
        handle: u64,
        wish: impl FnOnce(Standing, bool) -> Option<Operation>,
    ) -> Option<SlotId> {
        let mut state = self.lock();
        let entry = state.handles.remove(&handle)?;
        let id = entry.slot;
        let slot = state.slot_mut(id)?;
        slot.remove_handle(entry.share);
        let held = slot.transaction.is_some_and(|holder| holder.handle == handle);
        let wish = wish(entry.standing, held);
        state.handle_closed(id);
        let slot = state.slot_mut(id)?;
        if slot.transaction.is_some() && !held {
            // The holder's work is not disturbed.
            slot.owed = wish.or(slot.owed.take());
            state.notify(Some(id));
            return None;
        }
        slot.owed = wish.or(slot.owed.take());
        slot.transaction = None;
        let awaited = slot.owed.is_some();
        let disposal = state.take_owed(id);
        state.notify(Some(id));
        drop(state);
        if let Some(disposal) = disposal {
            self.dispose(disposal);
        }
        awaited.then_some(id)
    }

    /// The handle is no more; the card is left as it is.
    pub(crate) fn close_handle(self: &Arc<Self>, handle: u64) {
        self.close(handle, |_, _| None);
    }

    pub(crate) fn disconnect(
        self: &Arc<Self>,
        handle: u64,
        disposition: Disposition,
    ) -> Result<(), Error> {
        let context = self.lock().handles.get(&handle).ok_or(Error::InvalidHandle)?.context;
        let call = Call::begin(self, context);
        // A card that is another's now is left alone.
        let wish = |standing, _| operation_of(disposition).filter(|_| standing == Standing::Good);
        if let Some(slot) = self.close(handle, wish) {
            await_disposal(call, slot);
        }
        Ok(())
    }

    /// The context of the handle is gone: as if its owner had died. A transaction it held leaves
    /// the card reset. Does not block.
    pub(crate) fn abandon(self: &Arc<Self>, handle: u64) {
        self.close(handle, |_, held| held.then_some(Operation::PowerOn(PowerUp::Warm)));
    }

    pub(crate) fn end_transaction(
        self: &Arc<Self>,
        handle: u64,
        disposition: Disposition,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        state.touch(handle);
        let entry = state.handles.get(&handle).ok_or(Error::InvalidHandle)?;
        let (context, id, standing) = (entry.context, entry.slot, entry.standing);
        let slot = state.slot_mut(id).ok_or(Error::ReaderUnavailable)?;
        match (&mut slot.transaction, standing) {
            (Some(holder), _) if holder.handle == handle && holder.depth > 1 => {
                holder.depth -= 1;
                return Ok(());
            }
            (Some(holder), _) if holder.handle == handle => {}
            (_, Standing::Removed) => return Err(Error::RemovedCard),
            (_, Standing::Reset) => return Err(Error::ResetCard),
            (Some(_), Standing::Good) => return Err(Error::SharingViolation),
            (None, Standing::Good) => return Err(Error::NotTransacted),
        }
        slot.owed = operation_of(disposition).or(slot.owed.take());
        slot.transaction = None;
        let awaited = slot.owed.is_some();
        let disposal = state.take_owed(id);
        state.notify(Some(id));
        drop(state);
        let call = Call::begin(self, context);
        if let Some(disposal) = disposal {
            self.dispose(disposal);
        }
        if awaited {
            await_disposal(call, id);
        }
        Ok(())
    }

    /// Does to a card that was taken what was to be done, and lets the others have it then. Does
    /// not wait for that.
    pub(crate) fn dispose(self: &Arc<Self>, disposal: Disposal) {
        let Disposal { slot: id, reader, number, operation } = disposal;
        let weak = Arc::downgrade(self);
        let done = Done::new(move |result| {
            let Some(inner) = weak.upgrade() else {
                return;
            };
            let mut state = inner.lock();
            if let Some(slot) = state.slot_mut(id) {
                slot.disposed(result);
            }
            state.notify(Some(id));
            drop(state);
            inner.settled.notify_all();
        });
        reader.start(number, operation, None, done);
    }
}

impl StackState {
    /// Takes the card for what is still to be done to it, unless somebody is at it or has it in a
    /// transaction: then it is done after that.
    pub(crate) fn take_owed(&mut self, id: SlotId) -> Option<Disposal> {
        let slot = self.slot_mut(id)?;
        if slot.transaction.is_some() || slot.is_taken() {
            return None;
        }
        let operation = slot.owed.take()?;
        self.take_card(id, operation)
    }

    /// Takes the card of a slot, for its power to be cut or renewed: nobody gets his turn there
    /// until [`dispose`](Inner::dispose) has done it, and all handles are told. None if the card
    /// has no power.
    pub(crate) fn take_card(&mut self, id: SlotId, operation: Operation) -> Option<Disposal> {
        let slot = self.slot_mut(id)?;
        let CardState::Powered(atr) = &slot.card else {
            return None;
        };
        let (reader, number) = (slot.reader.clone()?, slot.number);
        slot.card = CardState::Resetting(atr.clone());
        slot.protocol = None;
        self.mark_handles(id, Standing::Reset, None);
        Some(Disposal { slot: id, reader, number, operation })
    }
}

/// A card that was taken, and what is to be done to it.
#[must_use = "nobody gets the card before it is done"]
pub(crate) struct Disposal {
    slot: SlotId,
    reader: ifd::Handle,
    number: Slot,
    operation: Operation,
}

/// Waits until a card that is to be reset or powered off is, unless the call is cancelled, or
/// another begins a transaction before.
fn await_disposal(call: Result<Call, Error>, slot: SlotId) {
    let Ok(call) = call else {
        // The stack is being shut down.
        return;
    };
    let waited = call.watch(Interest::Slots(vec![slot])).and_then(|()| {
        call.wait(None, |state| state.slot(slot).is_none_or(SlotEntry::is_disposed).then_some(()))
    });
    if let Err(error) = waited {
        debug!("not waited for the card: {error}");
    }
}

impl SlotEntry {
    /// Nothing is to be done to the card, or not before a transaction has ended. When the reader was
    /// closed, the card has no power.
    fn is_disposed(&self) -> bool {
        self.reader.is_none()
            || self.is_settled() && (self.owed.is_none() || self.transaction.is_some())
    }

    /// What was to be done to the card before another gets it has ended.
    fn disposed(&mut self, result: Result<Output, ccid::Error>) {
        // It may have been taken out meanwhile, or another put in.
        if !matches!(self.card, CardState::Resetting(_)) {
            return;
        }
        match result {
            Ok(Output::Atr(atr)) => self.reset_ended(&Ok(atr)),
            Ok(_) => self.powered_off(),
            Err(error) => {
                debug!("card not disposed of: {error}");
                self.reset_ended(&Err(error));
            }
        }
    }
}
