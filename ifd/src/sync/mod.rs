//! What threads share things with: the standard library's and crossbeam's, or, when built with
//! `--cfg scard_loom`, loom's, which tries every order in which they can run.
//!
//! For this workspace's crates only.

#[cfg(scard_loom)]
mod model;

#[cfg(scard_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(scard_loom)]
pub use loom::thread;
#[cfg(scard_loom)]
pub use model::{channel, now};

#[cfg(not(scard_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(scard_loom))]
pub use std::thread;

pub use std::sync::PoisonError;

/// Channels, as crossbeam has them.
#[cfg(not(scard_loom))]
pub mod channel {
    pub use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
}

/// The time. It stands still where every order is tried.
#[cfg(not(scard_loom))]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
