//! T=1, the block protocol (ISO/IEC 7816-3 §11): the host's side of it, for readers that leave it
//! to the host (TPDU and character level).
//!
//! Pure: blocks go in and out, and nothing here knows what carries them. What the reader or the
//! card's silence makes of a block comes in as [`Received`].
//!
//! * [`block`]: the block as bytes: prologue, information field, LRC or CRC.
//! * [`Connection`]: what holds from one exchange to the next until the card is reset.
//! * [`Exchange`]: one command for its response, or a resynchronisation alone.

pub mod block;
mod connection;
mod exchange;
mod failure;

pub use block::{Block, BlockError, CheckCode, Nad, Pcb, Supervisory};
pub use connection::Connection;
pub use exchange::{Exchange, MAX_BLOCKS, MAX_REQUESTS, Progress, Received};
pub use failure::Failure;
