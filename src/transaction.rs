//! Transactions.

use crate::card::Card;
use crate::error::Error;
use crate::flags::Disposition;
use std::ops::Deref;

/// A transaction: others' calls wait until it ends, by [`end`](Self::end) or when dropped. The
/// card is used through it.
#[derive(Debug)]
pub struct Transaction<'card> {
    card: &'card mut Card,
    open: bool,
}

impl<'card> Transaction<'card> {
    pub(crate) fn new(card: &'card mut Card) -> Self {
        Self { card, open: true }
    }

    /// Ends the transaction; what happens to the card says `disposition`.
    ///
    /// # Errors
    /// [`Error::NotTransacted`] if it has ended because the card was taken out.
    pub fn end(mut self, disposition: Disposition) -> Result<(), Error> {
        self.open = false;
        self.card.shared().inner.end_transaction(self.card.handle(), disposition)
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
            let inner = &self.card.shared().inner;
            let _ = inner.end_transaction(self.card.handle(), Disposition::LeaveCard);
        }
    }
}
