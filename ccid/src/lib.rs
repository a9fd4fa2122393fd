//! The USB CCID protocol, sans-IO.
//!
//! Bytes and a given `now` go in (`handle_*`); bytes to send, events and the next deadline come
//! out (`poll_*`). Nothing here knows a thread, a clock, USB, a file or the environment.
//!
//! * [`wire`]: every message and class request as a borrowed view and a plain value.
//! * [`reassembly`]: messages from bulk-IN transfers.
//! * [`descriptor`]: the class descriptor and what follows from it.
//! * [`atr`], [`parameters`]: what a card says of itself, and what a reader is told of it.
//! * [`t1`]: T=1, for readers that leave it to the host.
//! * [`completion`]: what status words 61xx and 6Cxx ask for.
//! * [`pin`]: PIN entry at the reader.
//! * [`quirk`]: what is known of particular readers.
//! * [`iccd`]: smart-card chips with USB of their own, made to look like readers.
//! * [`reader`]: one reader: sequence numbers, slots, operations, abort and recovery.
//!
//! Source of all section numbers: "Specification for Integrated Circuit(s) Cards Interface
//! Devices", revision 1.1 (CCID 1.1), and ISO/IEC 7816-3:2006.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod atr;
pub mod completion;
pub mod descriptor;
pub mod error;
pub mod iccd;
mod machine;
mod opening;
pub mod operation;
pub mod parameters;
pub mod pin;
pub mod quirk;
pub mod reader;
pub mod reassembly;
mod slot;
pub mod t1;
pub mod time;
pub mod wire;

pub use atr::Atr;
pub use descriptor::ClassDescriptor;
pub use error::Error;
pub use operation::{Operation, OperationId, Output};
pub use reader::{Event, Options, Reader, Transmit};
pub use time::Instant;
pub use wire::{Seq, Slot};
