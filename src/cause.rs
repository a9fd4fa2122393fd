//! What stands behind the code of a failed call.

use std::cell::RefCell;
use std::fmt;

/// Why an exchange, a power-up or another operation of a reader failed, in full: which command,
/// what the reader or the card did.
pub use ccid::Error as Cause;

use crate::error::Error;

thread_local! {
    static LAST: RefCell<Option<Cause>> = const { RefCell::new(None) };
}

/// Why the last call of this thread that had a reader do something failed: connect, reconnect,
/// transmit, control, status, or the beginning of a transaction. None if it succeeded, or failed
/// before it came to the reader: the code says all then.
///
/// PC/SC has a few codes for many causes; this is what they leave out. [`Failure`] has both.
pub fn last_cause() -> Option<Cause> {
    LAST.try_with(|last| last.borrow().clone()).ok().flatten()
}

/// A failed call as an error with its source: `card.transmit(..).map_err(Failure::from)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    error: Error,
    cause: Option<Cause>,
}

impl Failure {
    /// PC/SC's code.
    pub fn error(&self) -> Error {
        self.error
    }

    /// What stands behind it, if a reader was involved.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }
}

impl From<Error> for Failure {
    /// On the thread of the call, before its next one.
    fn from(error: Error) -> Self {
        Self { error, cause: last_cause() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// A call begins, or part of it has succeeded.
pub(crate) fn clear() {
    set(None);
}

/// Part of a call has failed.
pub(crate) fn note(cause: &Cause) {
    set(Some(cause.clone()));
}

fn set(cause: Option<Cause>) {
    // A thread that is ending has nobody who asks any more.
    let _ = LAST.try_with(|last| last.replace(cause));
}
