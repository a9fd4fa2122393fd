//! How threads sleep that look after something now and then.

use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::time::Instant;

/// Sleeps until woken, or until then; false if there is nobody left to be woken by.
pub(crate) fn sleep(woken: &Receiver<()>, until: Option<Instant>) -> bool {
    let result = match until {
        Some(until) => woken.recv_deadline(until),
        None => woken.recv().map_err(RecvTimeoutError::from),
    };
    result != Err(RecvTimeoutError::Disconnected)
}
