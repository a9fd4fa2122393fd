//! What threads share things with: the standard library's, or, when built with `--cfg scard_loom`,
//! loom's, which tries every order in which they can run.
//!
//! For this workspace's crates only.

mod handoff;
mod mailbox;

pub use handoff::Handoff;
pub(crate) use mailbox::{Heard, Mailbox, Role};

#[cfg(scard_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(scard_loom)]
pub use loom::thread;

#[cfg(not(scard_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(scard_loom))]
pub use std::thread;

pub use std::sync::PoisonError;

/// What `act` gives; none if it panics. A model's panic is its verdict, and goes on.
pub(crate) fn unless_it_panics<R>(act: impl FnOnce() -> R) -> Option<R> {
    if cfg!(scard_loom) {
        return Some(act());
    }
    // What it leaves in the middle lies behind a lock, which is poisoned by it.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).ok()
}

/// The time.
#[cfg(not(scard_loom))]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The time: always the same, so that every run goes alike. What waits for a later time waits for
/// ever.
#[cfg(scard_loom)]
pub fn now() -> std::time::Instant {
    static NOW: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    *NOW.get_or_init(std::time::Instant::now)
}
