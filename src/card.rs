//! Connected cards.

use crate::attribute::{Attribute, attribute_of};
use crate::call::Call;
use crate::connect::{agree_on_protocol, ensure_powered, open_handle, power_up};
use crate::context::{Context, Shared};
use crate::error::Error;
use crate::flags::{Disposition, Protocol, Protocols, ShareMode, Status};
use crate::stack::{CardState, HandleEntry, Holder, SlotEntry, SlotId, StackState, Standing};
use crate::transaction::Transaction;
use bytes::Bytes;
use ccid::operation::PowerUp;
use ccid::{Operation, Output};
use ifd::features::{self, Control, ControlError, ReaderFacts, Settings};
use log::debug;
use std::ffi::{CStr, CString};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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

/// What [`Card::status2_owned`] tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardStatusOwned {
    reader_names: Vec<CString>,
    status: Status,
    event_count: u32,
    protocol: Option<Protocol>,
    atr: Vec<u8>,
}

impl CardStatusOwned {
    /// The reader's names; it has one.
    pub fn reader_names(&self) -> &[CString] {
        &self.reader_names
    }

    /// The card's state.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Insertions and removals so far; 16 bits.
    pub fn event_count(&self) -> u32 {
        self.event_count
    }

    /// The protocol in use; none for a direct connection before one was agreed on.
    pub fn protocol2(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The card's ATR; empty without a card.
    pub fn atr(&self) -> &[u8] {
        &self.atr
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
        let shared = &context.shared;
        let inner = &shared.inner;
        let mut call = Call::begin(inner, shared.id)?;
        let slot = {
            let state = inner.lock();
            let slot = state.slots.iter().find(|slot| slot.name.as_c_str() == reader);
            let slot = slot.ok_or(Error::UnknownReader)?;
            // Sharing that cannot be is told at once, not after the queue.
            slot.may_share(share).then_some(slot.id).ok_or(Error::SharingViolation)?
        };
        if share == ShareMode::Direct {
            let handle = open_handle(shared, slot, share)?;
            return Ok(Self { context: context.clone(), handle, open: true });
        }
        call.enter(slot, None)?;
        let handle = open_handle(shared, slot, share)?;
        // From here on an error drops the card, and with it the handle.
        let mut card = Self { context: context.clone(), handle, open: true };
        let ready = ensure_powered(inner, &call, slot)
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

    /// Sends a command APDU and receives the response into `receive_buffer`. Waits while another
    /// holds a transaction, and for the card to answer.
    ///
    /// # Errors
    /// [`Error::InsufficientBuffer`] if the response does not fit ([`transmit_owned`]
    /// (Self::transmit_owned) has no such limit), [`Error::ResetCard`], [`Error::RemovedCard`],
    /// [`Error::NoSmartcard`], [`Error::NotTransacted`], [`Error::Cancelled`], [`Error::Timeout`],
    /// [`Error::ReaderUnavailable`]. After the last four but one the card's state is unknown: it
    /// has been reset, and the next call says [`Error::ResetCard`].
    pub fn transmit<'buf>(
        &self,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        let response = self.transmit_owned(send_buffer, None)?;
        let room = receive_buffer.get_mut(..response.len()).ok_or(Error::InsufficientBuffer)?;
        room.copy_from_slice(&response);
        Ok(room)
    }

    /// The same without a buffer, and with a limit of its own: after `limit` the command is
    /// aborted.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn transmit_owned(&self, command: &[u8], limit: Option<Duration>) -> Result<Bytes, Error> {
        self.exchange(Operation::Exchange(Bytes::copy_from_slice(command)), limit)
    }

    /// The same to the whole response: what 61xx and 6Cxx ask for is done, and with T=0 an APDU of
    /// any case goes as the TPDUs it takes, but for those of more than 255 bytes of data (see
    /// [`ccid::completion`]). PC/SC leaves that to its callers; so does [`transmit`](Self::transmit).
    /// `limit` is for all commands together.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn transmit_complete(
        &self,
        command: &[u8],
        limit: Option<Duration>,
    ) -> Result<Bytes, Error> {
        self.exchange(Operation::ExchangeComplete(Bytes::copy_from_slice(command)), limit)
    }

    fn exchange(&self, operation: Operation, limit: Option<Duration>) -> Result<Bytes, Error> {
        let (call, slot) = self.enter()?;
        match call.command(slot, operation, limit) {
            Ok(Output::Data(data)) => Ok(data),
            Ok(_) => Err(Error::InternalError),
            Err(error) => {
                debug!("transmit: {error}");
                Err(call.error(Error::of_exchange(&error)))
            }
        }
    }

    /// Has the reader do something by a control code: [`CTL_ESCAPE`](crate::CTL_ESCAPE), or the
    /// features of PC/SC part 10. Works without a card on a [`ShareMode::Direct`] connection.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`], [`Error::InvalidParameter`] for a structure that is none,
    /// [`Error::InsufficientBuffer`], [`Error::SharingViolation`] while another holds a
    /// transaction; else as [`transmit`](Self::transmit).
    pub fn control<'buf>(
        &self,
        code: u32,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        let response = self.control_owned(code, send_buffer, None)?;
        let room = receive_buffer.get_mut(..response.len()).ok_or(Error::InsufficientBuffer)?;
        room.copy_from_slice(&response);
        Ok(room)
    }

    /// The same without a buffer, and with a limit of its own: after `limit` the command is
    /// aborted.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub fn control_owned(
        &self,
        code: u32,
        data: &[u8],
        limit: Option<Duration>,
    ) -> Result<Bytes, Error> {
        let inner = &self.shared().inner;
        let mut call = Call::begin(inner, self.shared().id)?;
        let (slot, reader) = {
            let state = inner.lock();
            let (_, slot) = find(&state, self.handle)?;
            if slot.transaction.is_some_and(|holder| holder.handle != self.handle) {
                return Err(Error::SharingViolation);
            }
            (slot.id, slot.reader.clone())
        };
        let facts = ReaderFacts {
            class: &reader.info().class,
            vendor_id: reader.info().vendor_id,
            product_id: reader.info().product_id,
            behaviour: reader.behaviour(),
        };
        // Who may open the reader may do with it what it can.
        let settings = Settings { escape: true };
        let control = features::control(code, data, &facts, settings).map_err(|error| {
            debug!("control: {error}");
            match error {
                ControlError::Unsupported(_) | ControlError::EscapeNotAllowed => {
                    Error::UnsupportedFeature
                }
                _ => Error::InvalidParameter,
            }
        })?;
        let (operation, kind) = match control {
            Control::Answer(answer) => return Ok(answer),
            Control::Operation(operation, kind) => (operation, kind),
        };
        call.enter(slot, Some(self.handle))?;
        kind.answer(call.command(slot, operation, limit)).map_err(|error| {
            debug!("control: {error}");
            call.error(Error::of_exchange(&error))
        })
    }

    /// State, protocol and ATR. Waits while another holds a transaction.
    ///
    /// # Errors
    /// [`Error::ResetCard`], [`Error::RemovedCard`], [`Error::ReaderUnavailable`],
    /// [`Error::Cancelled`].
    pub fn status2_owned(&self) -> Result<CardStatusOwned, Error> {
        let (_call, _slot) = self.enter()?;
        let state = self.shared().inner.lock();
        let (handle, slot) = find(&state, self.handle)?;
        let status = match &slot.card {
            CardState::Unknown => Status::UNKNOWN,
            CardState::Absent => Status::ABSENT,
            CardState::Powering
            | CardState::Resetting(_)
            | CardState::Mute
            | CardState::Unpowered(_) => Status::PRESENT | Status::SWALLOWED,
            CardState::Powered(_) => Status::PRESENT | Status::POWERED | Status::NEGOTIABLE,
        };
        Ok(CardStatusOwned {
            reader_names: vec![slot.name.clone()],
            status,
            event_count: u32::from(slot.events),
            protocol: handle.protocol,
            atr: slot.atr().to_vec(),
        })
    }

    /// Connects anew, on the same handle: with another way of sharing, another protocol, after a
    /// reset. A transaction is kept.
    ///
    /// # Errors
    /// As [`Context::connect`].
    pub fn reconnect(
        &mut self,
        share_mode: ShareMode,
        preferred_protocols: Protocols,
        initialization: Disposition,
    ) -> Result<(), Error> {
        if share_mode != ShareMode::Direct && preferred_protocols.is_empty() {
            return Err(Error::ProtoMismatch);
        }
        let inner = Arc::clone(&self.shared().inner);
        let mut call = Call::begin(&inner, self.shared().id)?;
        let slot = self.change_share(share_mode, false)?;
        call.enter(slot, Some(self.handle))?;
        self.change_share(share_mode, true)?;
        let handle = self.handle;
        let reset = match initialization {
            Disposition::LeaveCard => None,
            Disposition::ResetCard => Some(PowerUp::Warm),
            Disposition::UnpowerCard | Disposition::EjectCard => Some(PowerUp::Cold),
        };
        let ready = match reset {
            Some(how) => power_up(&inner, &call, slot, how, Some(handle)),
            None if share_mode == ShareMode::Direct => Ok(()),
            None => ensure_powered(&inner, &call, slot),
        };
        let protocol = ready.and_then(|()| {
            if preferred_protocols.is_empty() {
                return Ok(None);
            }
            agree_on_protocol(&inner, &call, slot, preferred_protocols).map(Some)
        });
        match protocol {
            Ok(protocol) => self.with_handle(|entry| {
                entry.standing = Standing::Good;
                entry.protocol = protocol;
            }),
            Err(error) => Err(call.error(error)),
        }
    }

    /// Closes the handle; what happens to the card says `disposition`, unless another holds a
    /// transaction: then the card is left alone.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`], with the card.
    pub fn disconnect(mut self, disposition: Disposition) -> Result<(), (Self, Error)> {
        self.open = false;
        match self.shared().inner.disconnect(self.handle, disposition) {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error)),
        }
    }

    /// Begins a transaction: others' calls wait until it ends. Waits for that of another, first
    /// come, first served. A handle may begin several; as many have to end.
    ///
    /// # Errors
    /// As [`status2_owned`](Self::status2_owned).
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let (_call, slot) = self.enter()?;
        let mut state = self.shared().inner.lock();
        let handle = self.handle;
        let entry = state.slot_mut(slot).ok_or(Error::ReaderUnavailable)?;
        let depth = entry.transaction.map_or(0, |holder| holder.depth);
        entry.transaction = Some(Holder { handle, depth: depth + 1 });
        drop(state);
        drop(_call);
        Ok(Transaction::new(self))
    }

    /// An attribute of reader or card.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`] if there is none, [`Error::ReaderUnavailable`].
    pub fn get_attribute_owned(&self, attribute: Attribute) -> Result<Vec<u8>, Error> {
        let state = self.shared().inner.lock();
        let (handle, slot) = find(&state, self.handle)?;
        attribute_of(attribute, handle, slot).ok_or(Error::UnsupportedFeature)
    }

    /// The same, into a buffer.
    ///
    /// # Errors
    /// As [`get_attribute_owned`](Self::get_attribute_owned), and [`Error::InsufficientBuffer`].
    pub fn get_attribute<'buf>(
        &self,
        attribute: Attribute,
        buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        let value = self.get_attribute_owned(attribute)?;
        let room = buffer.get_mut(..value.len()).ok_or(Error::InsufficientBuffer)?;
        room.copy_from_slice(&value);
        Ok(room)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.context.shared
    }

    pub(crate) fn handle(&self) -> u64 {
        self.handle
    }

    /// A call of this handle that has its turn at the slot, the card being what the handle's user
    /// takes it for.
    fn enter(&self) -> Result<(Call, SlotId), Error> {
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

    /// Checks whether this handle may share so, and with `commit` does.
    fn change_share(&self, share: ShareMode, commit: bool) -> Result<SlotId, Error> {
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
        Ok(slot)
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
