//! The reader driver: one reader is one transport and its slots.
//!
//! * [`transport`]: the four pipes of a CCID interface, and what stands behind them.

pub mod transport;
