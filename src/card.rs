//! Connected cards.

use crate::call::Call;
use crate::cause;
use crate::connect::{agree_on_protocol, ensure_powered, open_handle, power_up};
use crate::context::{Context, Shared};
use crate::error::Error;
use crate::flags::{Disposition, Protocol, Protocols, ShareMode};
use crate::stack::{HandleEntry, SlotEntry, SlotId, StackState, Standing};
use ccid::operation::PowerUp;
use std::ffi::CStr;
use std::fmt;

/// A connected card: SCARDHANDLE. May be used from several threads. Dropping it disconnects with
/// [`Disposition::ResetCard`].
pub struct Card {
    context: Context,
    handle: u64,
    open: bool,
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Card {
    pub(crate) fn connect(
        context: &Context,
        reader: &CStr,
        share: ShareMode,
        protocols: Protocols,
    ) -> Result<Self, Error> {
        if share != ShareMode::Direct && protocols.is_empty() {
            return Err(Error::ProtoMismatch);
        }
        cause::clear();
        let shared = &context.shared;
        let inner = &shared.inner;
        let mut call = Call::begin(inner, shared.id)?;
        let slot = {
            let mut state = inner.lock();
            let slot = state.slots.iter().find(|slot| slot.name.as_c_str() == reader);
            let slot = slot.ok_or(Error::UnknownReader)?;
            // Sharing that cannot be is told at once, not after the queue.
            let slot = slot.may_share(share).then_some(slot.id).ok_or(Error::SharingViolation)?;
            call.need(&mut state, [slot]);
            slot
        };
        if share == ShareMode::Direct {
            call.reach(slot)?;
            let handle = open_handle(shared, slot, share)?;
            return Ok(Self { context: context.clone(), handle, open: true });
        }
        call.enter(slot, None)?;
        let handle = open_handle(shared, slot, share)?;
        // From here on an error drops the card, and with it the handle.
        let mut card = Self { context: context.clone(), handle, open: true };
        let ready = ensure_powered(inner, &call, slot, handle)
            .and_then(|()| agree_on_protocol(inner, &call, slot, protocols));
        match ready {
            Ok(protocol) => {
                card.with_handle(|entry| entry.protocol = Some(protocol))?;
                Ok(card)
            }
            Err(error) => {
                card.open = false;
                inner.close_handle(handle);
                Err(call.error(error))
            }
        }
    }

    /// Connects anew, on the same handle: with another way of sharing, another protocol, after a
    /// reset. A transaction is kept. If it fails, the handle shares as before.
    ///
    /// # Errors
    /// As [`Context::connect`]: [`Error::SharingViolation`] at once if others have a share in what
    /// is to be exclusive. [`Error::InvalidValue`] for [`Disposition::EjectCard`].
    pub fn reconnect(
        &mut self,
        share_mode: ShareMode,
        preferred_protocols: Protocols,
        initialization: Disposition,
    ) -> Result<(), Error> {
        self.reconnect_shared(share_mode, preferred_protocols, initialization)
    }

    /// The same for those who use the card from several threads.
    ///
    /// # Errors
    /// As [`reconnect`](Self::reconnect).
    pub fn reconnect_shared(
        &self,
        share_mode: ShareMode,
        preferred_protocols: Protocols,
        initialization: Disposition,
    ) -> Result<(), Error> {
        let reset = match initialization {
            Disposition::LeaveCard => None,
            Disposition::ResetCard => Some(PowerUp::Warm),
            Disposition::UnpowerCard => Some(PowerUp::Cold),
            Disposition::EjectCard => return Err(Error::InvalidValue),
        };
        if share_mode != ShareMode::Direct && preferred_protocols.is_empty() {
            return Err(Error::ProtoMismatch);
        }
        cause::clear();
        let mut call = Call::begin(&self.shared().inner, self.shared().id)?;
        let (slot, before) = self.change_share(share_mode, false)?;
        call.enter(slot, Some(self.handle))?;
        // Whoever wants to be alone is so before the card is touched; whoever lets others in does
        // so when it has worked.
        let tightens = share_mode == ShareMode::Exclusive;
        if tightens {
            self.change_share(share_mode, true)?;
        }
        match self.make_ready(&call, slot, share_mode, preferred_protocols, reset) {
            Ok(protocol) => {
                if !tightens {
                    self.change_share(share_mode, true)?;
                }
                self.with_handle(|entry| {
                    entry.standing = Standing::Good;
                    entry.protocol = protocol;
                })
            }
            Err(error) => {
                if tightens {
                    // A reader that is gone has nothing to be shared.
                    let _ = self.change_share(before, true);
                }
                Err(call.error(error))
            }
        }
    }

    /// Resets the card if told to, and agrees with it on a protocol. The reader itself needs
    /// neither power nor protocol: what others have agreed on stays.
    fn make_ready(
        &self,
        call: &Call,
        slot: SlotId,
        share: ShareMode,
        protocols: Protocols,
        reset: Option<PowerUp>,
    ) -> Result<Option<Protocol>, Error> {
        let inner = &self.shared().inner;
        if let Some(how) = reset {
            power_up(inner, call, slot, how, self.handle)?;
        }
        if share == ShareMode::Direct {
            return Ok(inner.lock().slot(slot).and_then(|entry| entry.protocol));
        }
        ensure_powered(inner, call, slot, self.handle)?;
        agree_on_protocol(inner, call, slot, protocols).map(Some)
    }

    /// Closes the handle; what happens to the card says `disposition`. If another holds a
    /// transaction, it happens when that ends; this returns at once then. Otherwise waits for the
    /// reset: [`Context::cancel`] ends the waiting, and the reset goes on.
    ///
    /// [`Disposition::LeaveCard`] leaves the card powered, with the protocol that was agreed on,
    /// for whoever connects next. It stays so without any handle open, for as long as its reader
    /// does: one on USB is closed when it has been idle for a second
    /// ([`Stack::attach_shared`](crate::Stack::attach_shared)).
    ///
    /// # Errors
    /// [`Error::InvalidHandle`], with the card.
    pub fn disconnect(mut self, disposition: Disposition) -> Result<(), (Self, Error)> {
        self.open = false;
        self.disconnect_shared(disposition).map_err(|error| (self, error))
    }

    /// The same for those who use the card from several threads: every later call, and those that
    /// wait for their turn once they have it, fail with [`Error::InvalidHandle`].
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn disconnect_shared(&self, disposition: Disposition) -> Result<(), Error> {
        self.shared().inner.disconnect(self.handle, disposition)
    }

    /// The protocol in use; none for a direct connection before one was agreed on. Unlike
    /// [`status2_owned`](Self::status2_owned) it waits for nobody.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn protocol(&self) -> Result<Option<Protocol>, Error> {
        self.with_handle(|entry| entry.protocol)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.context.shared
    }

    pub(crate) fn handle(&self) -> u64 {
        self.handle
    }

    /// A call of this handle that has its turn at the slot, the card being what the handle's user
    /// takes it for.
    pub(crate) fn enter(&self) -> Result<(Call, SlotId), Error> {
        cause::clear();
        let shared = self.shared();
        let mut call = Call::begin(&shared.inner, shared.id)?;
        let slot = good(&shared.inner.lock(), self.handle)?;
        call.enter(slot, Some(self.handle))?;
        // It may have changed while waiting.
        good(&shared.inner.lock(), self.handle)?;
        Ok((call, slot))
    }

    fn with_handle<R>(&self, act: impl FnOnce(&mut HandleEntry) -> R) -> Result<R, Error> {
        let mut state = self.shared().inner.lock();
        state.handles.get_mut(&self.handle).map(act).ok_or(Error::InvalidHandle)
    }

    /// Checks whether this handle may share so, and with `commit` does. Gives its slot, and how it
    /// shared before.
    fn change_share(&self, share: ShareMode, commit: bool) -> Result<(SlotId, ShareMode), Error> {
        let mut state = self.shared().inner.lock();
        let (old, slot) = {
            let (handle, slot) = find(&state, self.handle)?;
            (handle.share, slot.id)
        };
        let entry = state.slot_mut(slot).ok_or(Error::ReaderUnavailable)?;
        entry.remove_handle(old);
        let allowed = entry.may_share(share);
        entry.add_handle(if allowed && commit { share } else { old });
        if !allowed {
            return Err(Error::SharingViolation);
        }
        if commit {
            if let Some(handle) = state.handles.get_mut(&self.handle) {
                handle.share = share;
            }
            state.notify(Some(slot));
        }
        Ok((slot, old))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.open {
            // As the `pcsc` crate does; a handle that is gone needs nothing.
            let _ = self.shared().inner.disconnect(self.handle, Disposition::ResetCard);
        }
    }
}

/// A handle and its slot.
pub(crate) fn find(state: &StackState, handle: u64) -> Result<(&HandleEntry, &SlotEntry), Error> {
    let entry = state.handles.get(&handle).ok_or(Error::InvalidHandle)?;
    let slot = state.slot(entry.slot).ok_or(Error::ReaderUnavailable)?;
    Ok((entry, slot))
}

/// The slot of a handle whose card is the one it was connected to.
fn good(state: &StackState, handle: u64) -> Result<SlotId, Error> {
    let (entry, slot) = find(state, handle)?;
    match entry.standing {
        Standing::Good => Ok(slot.id),
        Standing::Reset => Err(Error::ResetCard),
        Standing::Removed => Err(Error::RemovedCard),
    }
}
