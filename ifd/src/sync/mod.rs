//! What threads share things with: the standard library's, or, when built with `--cfg scard_loom`,
//! loom's, which tries every order in which they can run.
//!
//! For this workspace's crates only.

mod handoff;

pub use handoff::Handoff;
pub(crate) use handoff::{Heard, Mailbox};

#[cfg(scard_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(scard_loom)]
pub use loom::thread;

#[cfg(not(scard_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(scard_loom))]
pub use std::thread;

pub use std::sync::PoisonError;

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
