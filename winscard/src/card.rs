//! A handle: a card, and an answer that its caller had no room for.
//!
//! pcsc-lite executes a command, finds the buffer too small and drops the answer: with a command
//! that changes something it is lost. Here it is kept, and the same call, if that comes next on the
//! handle and nobody has sent the card anything since, gets it without the command being executed
//! again.

use crate::code::Code;
use bytes::Bytes;
use scard::{Card, Error};
use std::sync::{Mutex, PoisonError};

/// An open handle.
#[derive(Debug)]
pub(crate) struct OpenCard {
    /// The context it belongs to.
    pub(crate) context: u32,
    pub(crate) card: Card,
    kept: Mutex<Option<Kept>>,
}

/// What goes to the card, or by a control code to the reader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Transmit(&'a [u8]),
    Control(u32, &'a [u8]),
}

struct Kept {
    code: Option<u32>,
    bytes: Bytes,
    answer: Bytes,
    /// How many commands the card had answered by then.
    count: u32,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // There may be a PIN in it.
        f.debug_struct("Kept").field("answer", &self.answer.len()).finish_non_exhaustive()
    }
}

impl Request<'_> {
    fn parts(&self) -> (Option<u32>, &[u8]) {
        match self {
            Self::Transmit(bytes) => (None, bytes),
            Self::Control(code, bytes) => (Some(*code), bytes),
        }
    }

    fn execute(&self, card: &Card) -> Result<Bytes, Error> {
        match self {
            Self::Transmit(bytes) => card.transmit_owned(bytes, None),
            Self::Control(code, bytes) => card.control_owned(*code, bytes, None),
        }
    }
}

impl OpenCard {
    pub(crate) fn new(context: u32, card: Card) -> Self {
        Self { context, card, kept: Mutex::new(None) }
    }

    /// The answer to `request`, which `give` brings to its caller; if that has no room for it, it
    /// is kept.
    pub(crate) fn exchange(
        &self,
        request: Request<'_>,
        give: impl FnOnce(&[u8]) -> Result<(), Code>,
    ) -> Result<(), Code> {
        let answer = match self.kept_for(request) {
            Some(answer) => {
                // As if it were sent: not past others' transactions, nor to another card.
                if let Request::Transmit(_) = request {
                    self.card.status2_owned()?;
                }
                answer
            }
            None => request.execute(&self.card)?,
        };
        let given = give(&answer);
        if given == Err(Code::INSUFFICIENT_BUFFER) {
            let (code, bytes) = request.parts();
            let bytes = Bytes::copy_from_slice(bytes);
            let count = self.card.transmit_count().unwrap_or_default();
            *self.lock() = Some(Kept { code, bytes, answer, count });
        }
        given
    }

    /// Another call has come.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    fn kept_for(&self, request: Request<'_>) -> Option<Bytes> {
        let kept = self.lock().take()?;
        let same = request.parts() == (kept.code, &kept.bytes);
        let undisturbed = self.card.transmit_count() == Ok(kept.count);
        (same && undisturbed).then_some(kept.answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
