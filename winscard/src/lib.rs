//! libpcsclite.so.1 without pcscd: the functions of winscard.h, as pcsc-lite has them, on the
//! context layer in the program's own process.
//!
//! * `exports`: the C functions, which check pointers, catch panics and call the rest.
//! * `memory`: what goes to the caller and comes from it; `types`: the structures' layout.
//! * `process`: which number is which context or card, and what a fork means for them.
//! * `readers`: where the readers come from; `settings`: what the environment says.
//! * `card`: a handle, with an answer that its caller had no room for.
//! * `interrupted`: cancel from a signal handler.
//! * `code`: return codes and their texts; `logger`: what is told on stderr.
//!
//! # What a program finds
//!
//! Types, sizes, constants and return codes are those of pcsc-lite (winscard.h, pcsclite.h); a
//! code is not sign-extended. Handles are positive numbers of 31 bits, counted from a random one,
//! and contexts and cards never share one.
//!
//! What differs, and is meant to: `SCardCancel` ends every outstanding call of its context; a call
//! on one context keeps none on another waiting; the answer to a command that the caller had no
//! room for is kept, and given to the same call if that comes next on the handle, without the
//! command being executed again; [`exports`] names the functions beyond pcsc-lite's.
//!
//! # Processes
//!
//! After fork the child has no context and no handle: all numbers are unknown to it, the parent's
//! go on. The child may establish contexts of its own on readers that [the
//! environment](settings) names; where the parent had opened USB, it gets SCARD_E_NO_SERVICE, until
//! it executes a program: the thread that serves USB stayed behind. Readers on USB are held by this
//! process from its first context until a second after its last was released.

mod card;
mod code;
pub mod exports;
mod interrupted;
mod logger;
mod memory;
mod process;
mod readers;
pub mod settings;
pub mod types;
