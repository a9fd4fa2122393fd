//! Bulk messages from bulk-IN transfers.
//!
//! A message may take several transfers: as long as they come full, it goes on; the short packet
//! that ends a transfer also ends the message (CCID 1.1 §6). Real devices bend that: some send a
//! zero-length packet as a transfer of its own, some send bytes behind dwLength.

use crate::wire::{HEADER_LEN, Message};
use bytes::{Bytes, BytesMut};
use core::fmt;
use log::{debug, warn};

/// Why a transfer did not give a message. What had come of it is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReassemblyError {
    /// The transfers ended before the header was complete.
    NoHeader {
        /// Bytes that had come.
        got: usize,
    },
    /// The transfers ended before dwLength bytes had come.
    Truncated {
        /// Message bytes that had come, header included.
        got: usize,
        /// Message bytes that dwLength makes, header included.
        expected: usize,
    },
    /// dwLength is beyond what any message may have.
    TooLong {
        /// dwLength.
        length: u32,
        /// The most that is taken.
        limit: usize,
    },
}

impl fmt::Display for ReassemblyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader { got } => write!(f, "a message of {got} bytes has no header"),
            Self::Truncated { got, expected } => {
                write!(f, "a message ended after {got} of {expected} bytes")
            }
            Self::TooLong { length, limit } => {
                write!(f, "dwLength {length} is beyond the limit of {limit}")
            }
        }
    }
}

impl core::error::Error for ReassemblyError {}

/// Puts messages together.
#[derive(Debug)]
pub struct Reassembler {
    partial: BytesMut,
    limit: usize,
}

impl Reassembler {
    /// For messages with at most `limit` data bytes.
    pub fn new(limit: usize) -> Self {
        Self { partial: BytesMut::new(), limit }
    }

    /// Takes the bytes of one bulk-IN transfer; `full` if it ended because all that was asked for
    /// had come, so that the message may go on. Gives a message once it is complete: exactly
    /// header and dwLength bytes.
    ///
    /// An empty transfer is never a message: it only follows one that filled its last packet.
    ///
    /// # Errors
    /// [`ReassemblyError`]; the next transfer starts a new message.
    pub fn push(&mut self, transfer: &[u8], full: bool) -> Result<Option<Bytes>, ReassemblyError> {
        if transfer.is_empty() && self.partial.is_empty() {
            debug!("empty bulk-IN transfer ignored");
            return Ok(None);
        }
        self.partial.extend_from_slice(transfer);
        let got = self.partial.len();
        let Some(length) = Message::length_of(&self.partial) else {
            return self.incomplete(full, ReassemblyError::NoHeader { got });
        };
        let data = usize::try_from(length).unwrap_or(usize::MAX);
        if data > self.limit {
            self.partial.clear();
            return Err(ReassemblyError::TooLong { length, limit: self.limit });
        }
        let expected = HEADER_LEN + data;
        if got < expected {
            return self.incomplete(full, ReassemblyError::Truncated { got, expected });
        }
        if got > expected {
            warn!("{} bytes behind dwLength dropped", got - expected);
        }
        let message = Bytes::copy_from_slice(self.partial.get(..expected).unwrap_or_default());
        self.partial.clear();
        Ok(Some(message))
    }

    /// Bytes that the message still lacks of which the header and more has come; none if there is no
    /// such message.
    pub fn missing(&self) -> Option<usize> {
        let length = usize::try_from(Message::length_of(&self.partial)?).ok()?;
        HEADER_LEN.checked_add(length)?.checked_sub(self.partial.len())
    }

    /// Forgets what has come of a message, and says how many bytes that was.
    pub fn reset(&mut self) -> usize {
        let had = self.partial.len();
        self.partial.clear();
        had
    }

    fn incomplete(
        &mut self,
        full: bool,
        error: ReassemblyError,
    ) -> Result<Option<Bytes>, ReassemblyError> {
        if full {
            return Ok(None);
        }
        self.partial.clear();
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        bytes[1..5].copy_from_slice(&u32::try_from(data).unwrap().to_le_bytes());
        bytes.extend((0..data).map(|n| n as u8));
        bytes
    }

    use alloc::vec::Vec;

    #[test]
    fn whole_and_split() {
        let mut reassembler = Reassembler::new(300);
        let whole = message(267);
        assert_eq!(reassembler.push(&whole, false).unwrap().unwrap(), whole);
        assert_eq!(reassembler.missing(), None);
        assert_eq!(reassembler.push(&whole[..64], true), Ok(None));
        assert_eq!(reassembler.missing(), Some(213));
        assert_eq!(reassembler.push(&whole[64..128], true), Ok(None));
        assert_eq!(reassembler.missing(), Some(149));
        assert_eq!(reassembler.push(&whole[128..], false).unwrap().unwrap(), whole);
    }

    #[test]
    fn a_header_may_be_split() {
        let mut reassembler = Reassembler::new(300);
        let whole = message(2);
        assert_eq!(reassembler.push(&whole[..8], true), Ok(None));
        assert_eq!(reassembler.missing(), None);
        assert_eq!(reassembler.push(&whole[8..], false).unwrap().unwrap(), whole);
    }

    #[test]
    fn empty_transfers_are_no_messages() {
        let mut reassembler = Reassembler::new(300);
        let whole = message(54);
        assert_eq!(reassembler.push(&whole, true).unwrap().unwrap(), whole);
        assert_eq!(reassembler.push(&[], false), Ok(None));
        assert_eq!(reassembler.push(&whole, false).unwrap().unwrap(), whole);
    }

    #[test]
    fn bytes_behind_dw_length_are_dropped() {
        let mut reassembler = Reassembler::new(300);
        let mut bytes = message(0);
        bytes.extend([1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(reassembler.push(&bytes, false).unwrap().unwrap(), message(0));
    }

    #[test]
    fn a_truncated_message_does_not_shift_the_next() {
        let mut reassembler = Reassembler::new(300);
        let whole = message(20);
        assert_eq!(
            reassembler.push(&whole[..12], false),
            Err(ReassemblyError::Truncated { got: 12, expected: 30 })
        );
        assert_eq!(reassembler.push(&[1, 2, 3], false), Err(ReassemblyError::NoHeader { got: 3 }));
        assert_eq!(reassembler.push(&whole, false).unwrap().unwrap(), whole);
    }

    #[test]
    fn a_length_beyond_reason_is_refused_at_once() {
        let mut reassembler = Reassembler::new(300);
        let error = ReassemblyError::TooLong { length: 301, limit: 300 };
        assert_eq!(reassembler.push(&message(301), true), Err(error));
        assert_eq!(reassembler.push(&message(1), false).unwrap().unwrap(), message(1));
    }
}
