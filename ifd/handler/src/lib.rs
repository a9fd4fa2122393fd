//! The reader driver as an IFD handler 3.0: the shared library that pcscd loads in libccid's place.
//!
//! * `exports`: the C functions, which check pointers, catch panics and call the rest.
//! * `host`: what the program that loaded the library offers: its log, the library's own place.
//! * `registry`: which Lun is which slot of which reader.
//! * `channel`: what device names mean; `device`: an open reader; `slot`: what one slot is doing
//!   and what is in it, the waiting for cards included.
//! * `tags`, `control`: attributes and control codes.
//! * `settings`, `logger`, `code`: what it is told, what it tells, IFD_ codes.
//!
//! A call ends when the reader has answered; within two seconds after the attribute
//! SCARD_ATTR_ESC_CANCEL was set, or the channel closed; at once when the reader is unplugged or
//! the card taken out; and after the driver's total limit.

mod channel;
mod code;
mod control;
mod device;
pub mod exports;
mod host;
mod logger;
mod registry;
mod settings;
mod slot;
mod tags;
