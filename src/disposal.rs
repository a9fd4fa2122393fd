//! The end of handles and transactions, and what becomes of the card then.

use crate::card::find;
use crate::error::Error;
use crate::flags::Disposition;
use crate::stack::{CardState, Inner, SlotId, Standing};
use ccid::operation::PowerUp;
use ccid::{Operation, Output};
use ifd::Done;
use log::debug;

impl Inner {
    /// The handle is no more; its transaction ends.
    pub(crate) fn close_handle(&self, handle: u64) -> Option<(SlotId, bool)> {
        let mut state = self.lock();
        let entry = state.handles.remove(&handle)?;
        let slot = state.slot_mut(entry.slot)?;
        slot.remove_handle(entry.share);
        let held = slot.transaction.is_some_and(|holder| holder.handle == handle);
        if held {
            slot.transaction = None;
        }
        state.notify(Some(entry.slot));
        Some((entry.slot, held))
    }

    pub(crate) fn disconnect(&self, handle: u64, disposition: Disposition) -> Result<(), Error> {
        let standing = {
            let state = self.lock();
            state.handles.get(&handle).ok_or(Error::InvalidHandle)?.standing
        };
        // A reader that is gone, or a card that is another's now, is left alone.
        if let (Some((slot, _)), Standing::Good) = (self.close_handle(handle), standing) {
            self.dispose(slot, None, disposition);
        }
        Ok(())
    }

    /// The context of the handle is gone: as if its owner had died. A transaction it held leaves
    /// the card reset. Does not block.
    pub(crate) fn abandon(&self, handle: u64) {
        if let Some((slot, true)) = self.close_handle(handle) {
            let mut state = self.lock();
            state.mark_handles(slot, Standing::Reset, None);
            let Some(entry) = state.slot_mut(slot) else {
                return;
            };
            entry.protocol = None;
            let (reader, number) = (entry.reader.clone(), entry.number);
            drop(state);
            reader.start(number, Operation::PowerOn(PowerUp::Warm), None, Done::new(|_| {}));
        }
    }

    pub(crate) fn end_transaction(
        &self,
        handle: u64,
        disposition: Disposition,
    ) -> Result<(), Error> {
        let slot = {
            let mut state = self.lock();
            let id = find(&state, handle)?.1.id;
            let entry = state.slot_mut(id).ok_or(Error::ReaderUnavailable)?;
            match &mut entry.transaction {
                Some(holder) if holder.handle == handle && holder.depth > 1 => {
                    holder.depth -= 1;
                    return Ok(());
                }
                Some(holder) if holder.handle == handle => id,
                Some(_) => return Err(Error::SharingViolation),
                None => return Err(Error::NotTransacted),
            }
        };
        // The card is reset before the next one gets it.
        self.dispose(slot, Some(handle), disposition);
        self.lock().release_transaction(slot);
        Ok(())
    }

    /// Does to the card what `disposition` says, unless another than `own` holds a transaction.
    fn dispose(&self, slot: SlotId, own: Option<u64>, disposition: Disposition) {
        let operation = match disposition {
            Disposition::LeaveCard => return,
            Disposition::ResetCard => Operation::PowerOn(PowerUp::Warm),
            Disposition::UnpowerCard | Disposition::EjectCard => Operation::PowerOff,
        };
        let mut state = self.lock();
        let Some(entry) = state.slot_mut(slot) else {
            return;
        };
        let foreign = entry.transaction.is_some_and(|holder| Some(holder.handle) != own);
        if foreign || !matches!(entry.card, CardState::Powered(_)) {
            return;
        }
        entry.protocol = None;
        let (reader, number) = (entry.reader.clone(), entry.number);
        state.mark_handles(slot, Standing::Reset, own);
        drop(state);
        let result = reader.call(number, operation, None);
        let mut state = self.lock();
        if let Some(entry) = state.slot_mut(slot) {
            match result {
                Ok(Output::Atr(atr)) => entry.powered_up(&Ok(atr)),
                Ok(_) => entry.powered_off(),
                Err(error) => {
                    debug!("card not disposed of: {error}");
                    entry.powered_up(&Err(error));
                }
            }
        }
        // Its own protocol is agreed on anew before it is used again.
        if let Some(handle) = own.and_then(|own| state.handles.get_mut(&own)) {
            handle.standing = Standing::Reset;
        }
        state.notify(Some(slot));
    }
}
