//! Contexts.

use crate::card::Card;
use crate::error::Error;
use crate::flags::{Protocols, Scope, ShareMode};
use crate::reader_state::{AtrMask, ReaderState};
use crate::stack::{ContextEntry, Inner, Stack};
use crate::status_wait::{self, StatusChange};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The group that every reader is in: SCARD_DEFAULT_READERS.
pub const DEFAULT_READERS: &CStr = c"SCard$DefaultReaders";
/// What asks for the readers of all groups: SCARD_ALL_READERS.
pub const ALL_READERS: &CStr = c"SCard$AllReaders";

/// A context: what calls belong to, and what cancel ends. Clones are the same context; it is
/// released by [`release`](Self::release) or with its last clone and [`Card`].
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: u64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Already released is fine.
        let _ = self.inner.release_context(self.id);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.shared.id).finish()
    }
}

impl Context {
    /// A context on the readers of the machine's USB. None is opened before it is needed.
    ///
    /// # Errors
    /// [`Error::InternalError`] if no thread can be started.
    pub fn establish(_scope: Scope) -> Result<Self, Error> {
        Self::on(&Stack::global()?)
    }

    /// A context on the readers of `stack`.
    ///
    /// # Errors
    /// [`Error::ServiceStopped`] if it is shut down.
    pub fn on(stack: &Stack) -> Result<Self, Error> {
        let mut state = stack.inner.lock();
        if state.stopped {
            return Err(Error::ServiceStopped);
        }
        let id = state.new_id();
        let entry = ContextEntry {
            calls: BTreeMap::new(),
            cancels_commands: true,
            transaction_limit: None,
            listed: None,
        };
        state.contexts.insert(id, entry);
        drop(state);
        Ok(Self { shared: Arc::new(Shared { inner: Arc::clone(&stack.inner), id }) })
    }

    /// Releases the context, whoever else has a clone: its outstanding calls end with
    /// [`Error::Cancelled`], its cards are disconnected, and every further call fails with
    /// [`Error::InvalidHandle`]. Does not block.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if it has been released, with the context.
    pub fn release(self) -> Result<(), (Self, Error)> {
        let released = self.shared.inner.release_context(self.shared.id);
        released.map_err(|error| (self, error))
    }

    /// Whether the context has not been released.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if it has.
    pub fn is_valid(&self) -> Result<(), Error> {
        let state = self.shared.inner.lock();
        state.contexts.contains_key(&self.shared.id).then_some(()).ok_or(Error::InvalidHandle)
    }

    /// Ends every outstanding call of this context with [`Error::Cancelled`], from any thread:
    /// waits, calls that wait for their turn, and commands that a reader is executing, those by
    /// the CCID Abort sequence. Other contexts, open cards and held transactions are left alone.
    /// Returns at once. Without outstanding calls nothing happens, nor is it remembered.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the context has been released.
    pub fn cancel(&self) -> Result<(), Error> {
        self.shared.inner.cancel(self.shared.id)
    }

    /// How many calls of this context are outstanding: what [`cancel`](Self::cancel) would end now.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the context has been released.
    pub fn outstanding_calls(&self) -> Result<usize, Error> {
        let state = self.shared.inner.lock();
        let context = state.contexts.get(&self.shared.id).ok_or(Error::InvalidHandle)?;
        Ok(context.calls.len())
    }

    /// What cancels this context from elsewhere, without keeping it alive.
    pub fn canceller(&self) -> Canceller {
        Canceller { inner: Arc::downgrade(&self.shared.inner), id: self.shared.id }
    }

    /// Whether [`cancel`](Self::cancel) also ends commands that a reader is executing (as it does
    /// unless told otherwise), or waits and queued calls only: for programs that cancel while
    /// they transmit and do not expect that to matter.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the context has been released.
    pub fn set_cancel_commands(&self, commands: bool) -> Result<(), Error> {
        let mut state = self.shared.inner.lock();
        let context = state.contexts.get_mut(&self.shared.id).ok_or(Error::InvalidHandle)?;
        context.cancels_commands = commands;
        Ok(())
    }

    /// How long nothing may be done in a transaction that a card of this context begins from now
    /// on: after that the card is reset, the transaction is over, and its holder's next call fails
    /// with [`Error::ResetCard`]. Any call on the card counts, as long as it lasts. Windows has 5
    /// seconds; here there is no limit unless one is set.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the context has been released.
    pub fn set_transaction_limit(&self, limit: Option<Duration>) -> Result<(), Error> {
        let mut state = self.shared.inner.lock();
        let context = state.contexts.get_mut(&self.shared.id).ok_or(Error::InvalidHandle)?;
        context.transaction_limit = limit;
        Ok(())
    }

    /// The readers' names, as a list that `buffer` holds.
    ///
    /// # Errors
    /// [`Error::InsufficientBuffer`] if it does not fit
    /// ([`list_readers_len`](Self::list_readers_len) tells), [`Error::InvalidHandle`].
    pub fn list_readers<'buf>(
        &self,
        buffer: &'buf mut [u8],
    ) -> Result<impl Iterator<Item = &'buf CStr> + use<'buf>, Error> {
        let names = self.list_readers_owned()?;
        let mut rest = &mut *buffer;
        let mut used = 0;
        for name in &names {
            let bytes = name.as_bytes_with_nul();
            let (room, behind) =
                rest.split_at_mut_checked(bytes.len()).ok_or(Error::InsufficientBuffer)?;
            room.copy_from_slice(bytes);
            rest = behind;
            used += bytes.len();
        }
        *rest.first_mut().ok_or(Error::InsufficientBuffer)? = 0;
        let list = buffer.get(..used).unwrap_or_default();
        Ok(list.split_inclusive(|byte| *byte == 0).flat_map(CStr::from_bytes_with_nul))
    }

    /// Bytes that [`list_readers`](Self::list_readers) needs now.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn list_readers_len(&self) -> Result<usize, Error> {
        let names = self.list_readers_owned()?;
        Ok(names.iter().map(|name| name.as_bytes_with_nul().len()).sum::<usize>() + 1)
    }

    /// The readers' names; empty without readers.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn list_readers_owned(&self) -> Result<Vec<CString>, Error> {
        let mut state = self.shared.inner.lock();
        let changes = state.changes;
        let entry = state.contexts.get_mut(&self.shared.id).ok_or(Error::InvalidHandle)?;
        entry.listed = Some(changes);
        Ok(state.slots.iter().map(|slot| slot.name.clone()).collect())
    }

    /// Connects to the card in `reader`, or with [`ShareMode::Direct`] to the reader itself. Waits
    /// while another holds a transaction, and for the card to be powered up. For another program to
    /// let go of the reader it waits about half a second, what one takes that no longer needs it.
    ///
    /// # Errors
    /// [`Error::UnknownReader`], [`Error::SharingViolation`] also if another program has the reader
    /// ([`Stack::unusable_readers`] tells which), [`Error::NoSmartcard`],
    /// [`Error::UnresponsiveCard`], [`Error::ProtoMismatch`], [`Error::Cancelled`].
    pub fn connect(
        &self,
        reader: &CStr,
        share_mode: ShareMode,
        preferred_protocols: Protocols,
    ) -> Result<Card, Error> {
        Card::connect(self, reader, share_mode, preferred_protocols)
    }

    /// Waits until the state of one of `readers` differs from what it says its caller knows, for
    /// at most `timeout` (without one, for ever). Costs nothing while nothing happens. Readers that
    /// are opened for it say first what is in them, which may take longer than `timeout`: the card
    /// has to be powered up. One that another program has is [`State::UNAVAILABLE`](crate::State),
    /// and tried again a few times a second.
    ///
    /// # Errors
    /// [`Error::Timeout`] if nothing changed, [`Error::Cancelled`], [`Error::UnknownReader`] at
    /// once for a name that is none.
    pub fn get_status_change<D>(&self, timeout: D, readers: &mut [ReaderState]) -> Result<(), Error>
    where
        D: Into<Option<Duration>>,
    {
        status_wait::wait(&self.shared.inner, self.shared.id, timeout.into(), readers)
    }

    /// The same wait as a future, for any executor: it needs no runtime and parks no thread. The
    /// wait begins now, and ends when the future is dropped; [`cancel`](Self::cancel) ends it. Gives
    /// the readers back, with what has changed. How long to wait at most is the executor's to say.
    ///
    /// # Errors
    /// As [`get_status_change`](Self::get_status_change), but for the timeout.
    pub fn status_change(&self, readers: Vec<ReaderState>) -> StatusChange {
        StatusChange::begin(&self.shared.inner, self.shared.id, readers)
    }

    /// Which of `readers` have a card with one of these ATRs: their event states have
    /// [`State::ATRMATCH`](crate::State::ATRMATCH). Waits for no change, and fills in the readers'
    /// states and ATRs as [`get_status_change`](Self::get_status_change) does:
    /// SCardLocateCardsByATR.
    ///
    /// # Errors
    /// [`Error::UnknownReader`], [`Error::InvalidHandle`], [`Error::Cancelled`].
    pub fn locate_cards_by_atr(
        &self,
        atrs: &[AtrMask],
        readers: &mut [ReaderState],
    ) -> Result<(), Error> {
        status_wait::locate(&self.shared.inner, self.shared.id, atrs, readers)
    }

    /// The groups of readers there are: [`DEFAULT_READERS`], with all of them; none without
    /// readers.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn list_reader_groups_owned(&self) -> Result<Vec<CString>, Error> {
        let any = !self.list_readers_owned()?.is_empty();
        Ok(any.then(|| DEFAULT_READERS.to_owned()).into_iter().collect())
    }

    /// The names of the readers in `groups`, each once. Groups that there are not are passed over.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`].
    pub fn list_readers_in_groups(&self, groups: &[&CStr]) -> Result<Vec<CString>, Error> {
        let names = self.list_readers_owned()?;
        let all = groups.iter().any(|group| [DEFAULT_READERS, ALL_READERS].contains(group));
        Ok(if all { names } else { Vec::new() })
    }

    /// The stack that the context works with.
    pub fn stack(&self) -> Stack {
        Stack { inner: Arc::clone(&self.shared.inner) }
    }
}

/// Cancels a context from anywhere: a signal handler's thread, a user interface.
#[derive(Clone, Debug)]
pub struct Canceller {
    inner: Weak<Inner>,
    id: u64,
}

impl Canceller {
    /// As [`Context::cancel`].
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the context is gone.
    pub fn cancel(&self) -> Result<(), Error> {
        self.inner.upgrade().ok_or(Error::InvalidHandle)?.cancel(self.id)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    fn cancel(&self, id: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let context = state.contexts.get_mut(&id).ok_or(Error::InvalidHandle)?;
        let commands = context.cancels_commands;
        for call in context.calls.values_mut() {
            call.end(Error::Cancelled, commands);
        }
        Ok(())
    }

    fn release_context(self: &Arc<Self>, id: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let mut context = state.contexts.remove(&id).ok_or(Error::InvalidHandle)?;
        for call in context.calls.values_mut() {
            call.end(Error::Cancelled, true);
        }
        let own = state.handles.iter().filter(|(_, handle)| handle.context == id);
        let handles: Vec<_> = own.map(|(handle, _)| *handle).collect();
        drop(state);
        for handle in handles {
            self.abandon(handle);
        }
        Ok(())
    }
}
