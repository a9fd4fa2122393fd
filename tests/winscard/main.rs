//! The library in libpcsclite's place, used by programs that know nothing of it. No USB, no daemon.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unreachable_pub)]

mod calls;
mod cards;
mod exports;
#[path = "../cards/gnupg.rs"]
mod gpg;
#[allow(dead_code)] // What the tests on pcscd alone need.
#[path = "../pcscd/harness.rs"]
mod harness;
mod library;
#[path = "../cards/opensc.rs"]
mod opensc;
#[path = "../cards/outside.rs"]
mod outside;
mod parity;
mod programs;
#[path = "../common/recordings.rs"]
mod recordings;
