//! The library in libpcsclite's place, used by programs that know nothing of it. No USB, no daemon.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unreachable_pub)]

mod calls;
mod exports;
#[allow(dead_code)] // What the tests on pcscd alone need.
#[path = "../pcscd/harness.rs"]
mod harness;
mod library;
mod parity;
mod programs;
