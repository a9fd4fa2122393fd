//! Transactions.

use crate::card::Card;
use crate::error::Error;
use crate::flags::{Disposition, Protocols, ShareMode};
use std::ops::Deref;

/// A transaction: others' calls wait until it ends, by [`end`](Self::end) or when dropped, also by
/// a panic of the thread that holds it. The card is used through it.
#[derive(Debug)]
pub struct Transaction<'card> {
    card: &'card mut Card,
    open: bool,
}

impl Card {
    /// Begins a transaction: others' calls wait until it ends. Waits for that of another, first
    /// come, first served. A handle may begin several; as many have to end.
    ///
    /// # Errors
    /// As [`status2_owned`](Self::status2_owned).
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin_transaction()?;
        Ok(Transaction { card: self, open: true })
    }

    /// The same for those who end it by [`end_transaction`](Self::end_transaction).
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub fn begin_transaction(&self) -> Result<(), Error> {
        let (_call, slot) = self.enter()?;
        let shared = self.shared();
        shared.inner.begin_transaction(shared.id, slot, self.handle())
    }

    /// Ends a transaction of this handle; what happens to the card says `disposition`. Others get
    /// it when that is done. [`Context::cancel`](crate::Context::cancel) ends the waiting for it,
    /// and nothing else.
    ///
    /// # Errors
    /// [`Error::NotTransacted`] without one; [`Error::RemovedCard`] and [`Error::ResetCard`] if it
    /// has ended because the card was taken out, or was reset because the transaction was idle
    /// ([`Context::set_transaction_limit`](crate::Context::set_transaction_limit));
    /// [`Error::SharingViolation`] if it is another's, [`Error::ReaderUnavailable`].
    pub fn end_transaction(&self, disposition: Disposition) -> Result<(), Error> {
        self.shared().inner.end_transaction(self.handle(), disposition)
    }
}

impl Transaction<'_> {
    /// Ends the transaction; what happens to the card says `disposition`.
    ///
    /// # Errors
    /// As [`Card::end_transaction`].
    pub fn end(mut self, disposition: Disposition) -> Result<(), Error> {
        self.open = false;
        self.card.end_transaction(disposition)
    }

    /// Begins another within this one: [`Card::transaction`].
    ///
    /// # Errors
    /// As [`Card::transaction`].
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.card.transaction()
    }

    /// [`Card::reconnect`], in which the transaction is kept.
    ///
    /// # Errors
    /// As [`Card::reconnect`].
    pub fn reconnect(
        &mut self,
        share_mode: ShareMode,
        preferred_protocols: Protocols,
        initialization: Disposition,
    ) -> Result<(), Error> {
        self.card.reconnect(share_mode, preferred_protocols, initialization)
    }
}

impl Deref for Transaction<'_> {
    type Target = Card;
    fn deref(&self) -> &Card {
        self.card
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            let _ = self.card.end_transaction(Disposition::LeaveCard);
        }
    }
}
