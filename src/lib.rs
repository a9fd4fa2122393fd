//! PC/SC on USB CCID readers, in process, without a daemon.
//!
//! ```no_run
//! use scard::{Context, Protocols, Scope, ShareMode};
//!
//! let context = Context::establish(Scope::User)?;
//! let reader = context.list_readers_owned()?.remove(0);
//! let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY)?;
//! let mut buffer = [0; scard::MAX_BUFFER_SIZE];
//! let response = card.transmit(b"\x00\xa4\x04\x00\x00", &mut buffer)?;
//! println!("{response:02X?}");
//! # Ok::<(), scard::Error>(())
//! ```
//!
//! Names and meanings are those of the `pcsc` crate. What that cannot give: [`Context::cancel`]
//! ends *every* outstanding call of its context, a running command by the CCID Abort sequence;
//! [`Context::on`] chooses the readers, simulated ones among them.
//!
//! # Blocking
//!
//! Every call that waits for a card, a user or another program can be ended from another thread by
//! [`Context::cancel`] (or a [`Canceller`]), and fails with [`Error::Cancelled`] then: a wait or a
//! queued call within milliseconds, a running command in the time the reader takes to abort it,
//! at most two seconds. Unplugging the reader ends it at once. No call takes longer than five
//! minutes without the card having been answered.
//!
//! # Sharing and transactions
//!
//! As in pcsc-lite, where that and Windows differ: [`ShareMode::Direct`] shares; transactions of a
//! handle are counted, and [`Card::reconnect`] keeps them; [`Card::control`] is for the reader and
//! works after the card was taken out; a wait for [`PNP_NOTIFICATION`] never ends at once for want
//! of knowledge, but if readers have come or gone since its context has listed them. As on Windows:
//! others' handles coming and going end a status wait, and a transaction in which nothing is done
//! may have a limit ([`Context::set_transaction_limit`]).
//!
//! Unlike either: whoever waits for a transaction gets it first come, first served; releasing a
//! context ends its waits; what cannot be shared is refused at once; an event counter is never 0,
//! so that no insertion or removal between two waits is missed; what a closed handle wishes for its
//! card while another holds a transaction is done when that ends.
//!
//! A card keeps its power while any handle is open, and after the last was closed with
//! [`Disposition::LeaveCard`] for as long as its reader stays open.
//!
//! A reader on USB is one program's at a time. It is opened when a connection or a wait needs it,
//! and closed, its card powered off, when nobody has needed it for a second, or as soon as another
//! program wants it then ([`Stack::attach_shared`]). While another program has it, it is listed,
//! connecting fails with [`Error::SharingViolation`], and waits go on: they show
//! [`State::UNAVAILABLE`], and end when the reader has come free. Those who need one reader at the
//! same time use pcscd, which this stack can drive readers for.
//!
//! # Errors
//!
//! [`Error`] is PC/SC's code and no more. What stands behind it - which command failed, what the
//! reader said, which rule the card broke - tells [`last_cause`], or a [`Failure`] made of it.

mod attribute;
mod call;
mod card;
mod cause;
mod connect;
mod context;
mod disposal;
mod error;
mod exchange;
mod flags;
mod holder;
#[cfg(all(test, scard_loom))]
mod model;
mod naming;
mod reader_state;
mod sleep;
mod stack;
mod status;
mod status_wait;
mod transaction;

pub use attribute::Attribute;
pub use card::Card;
pub use cause::{Cause, Failure, last_cause};
pub use context::{ALL_READERS, Canceller, Context, DEFAULT_READERS};
pub use error::Error;
pub use flags::{Disposition, Protocol, Protocols, Scope, ShareMode, State, Status};
pub use reader_state::{AtrMask, PNP_NOTIFICATION, ReaderState};
pub use stack::{ReaderInfo, Stack, UnusableReader, UsbReader};
pub use status::{CardStatus, CardStatusOwned};
pub use status_wait::StatusChange;
pub use transaction::Transaction;

/// Code of an escape command to the reader: SCARD_CTL_CODE(1).
pub const CTL_ESCAPE: u32 = ctl_code(1);

/// The longest ATR in bytes, with the room that PC/SC's callers give it.
pub const MAX_ATR_SIZE: usize = 33;
/// The longest short APDU or response in bytes.
pub const MAX_BUFFER_SIZE: usize = 264;
/// The longest extended APDU or response in bytes.
pub const MAX_BUFFER_SIZE_EXTENDED: usize = 65_548;

/// SCARD_CTL_CODE: the control code of function `code`, as pcsc-lite counts them.
pub const fn ctl_code(code: u32) -> u32 {
    0x4200_0000 + code
}
