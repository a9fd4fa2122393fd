//! The driver under the real pcscd, used by programs that know nothing of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unreachable_pub)]

mod bundle;
mod cancel;
mod cards;
mod events;
#[path = "../cards/gnupg.rs"]
mod gpg;
mod harness;
#[path = "../cards/opensc.rs"]
mod opensc;
#[path = "../cards/outside.rs"]
mod outside;
mod pin;
mod programs;
#[path = "../common/recordings.rs"]
mod recordings;
mod robust;
mod session;
mod traces;
