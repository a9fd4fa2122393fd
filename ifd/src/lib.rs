//! The reader driver: one reader is one transport and its slots.
//!
//! * [`transport`]: the four pipes of a CCID interface, and what stands behind them.
//! * [`driver`]: one reader on one transport, without a thread.
//! * [`source`]: where a reader can be opened, and opened again.
//! * [`thread`]: the same on a thread of its own, for many callers.
//! * [`trace`]: recorded USB traffic.
//! * [`quirks`]: what is known of particular readers, the user's own rows included.
//! * [`named`]: simulated readers and recorded traces, by what a user calls them.
//! * [`bundle`]: what a driver bundle for pcscd says of itself.
//! * [`environment`]: variables that may be heeded.
//! * [`hotplug`]: readers coming and going on the machine's USB.

pub mod bundle;
pub mod clock;
pub mod driver;
pub mod environment;
pub mod features;
pub mod hotplug;
pub mod named;
pub mod quirks;
pub mod source;
#[doc(hidden)]
pub mod sync;
pub mod thread;
pub mod trace;
pub mod transport;

pub use clock::Clock;
pub use source::Source;
pub use thread::{Begun, Done, Handle, ReaderEvent, Ticket};
