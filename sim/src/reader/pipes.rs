//! The bulk pipes: messages from transfers, packets from messages.

use bytes::{Bytes, BytesMut};
use ccid::wire::{HEADER_LEN, Message};
use std::collections::VecDeque;

/// What a bulk-OUT transfer brought.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// A whole message.
    Message(Bytes),
    /// A message that announces more than the reader takes; its header and what came of its data.
    /// The rest of the transfer is gone.
    TooLong(Bytes),
    /// Bytes behind the end of a message, in the same transfer.
    Excess(usize),
}

/// Bulk-OUT: one message at a time, in as many transfers as the host likes (CCID 1.1 §3.1).
#[derive(Default, Debug)]
pub(super) struct Inlet(BytesMut);

impl Inlet {
    /// Takes a transfer. Messages have at most `max_data` bytes of data.
    pub(super) fn push(&mut self, data: &[u8], max_data: usize) -> Vec<Arrival> {
        self.0.extend_from_slice(data);
        let Some(length) = Message::length_of(&self.0) else { return Vec::new() };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > max_data {
            return vec![Arrival::TooLong(self.0.split().freeze())];
        }
        let whole = length + HEADER_LEN;
        if self.0.len() < whole {
            return Vec::new();
        }
        let mut received = self.0.split();
        let excess = received.split_off(whole).len();
        let mut arrivals = vec![Arrival::Message(received.freeze())];
        if excess > 0 {
            arrivals.push(Arrival::Excess(excess));
        }
        arrivals
    }
}

/// Bulk-IN: messages that leave packet by packet.
#[derive(Debug)]
pub(super) struct Outlet {
    max_packet: usize,
    zero_length_packets: bool,
    /// The packets of the message that is leaving, and of those behind it.
    packets: VecDeque<Bytes>,
}

impl Outlet {
    pub(super) fn new(max_packet: u16, zero_length_packets: bool) -> Self {
        Self { max_packet: max_packet.into(), zero_length_packets, packets: VecDeque::new() }
    }

    pub(super) fn push(&mut self, mut message: Bytes) {
        while message.len() >= self.max_packet {
            self.packets.push_back(message.split_to(self.max_packet));
        }
        if !message.is_empty() || self.zero_length_packets {
            self.packets.push_back(message);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.packets.pop_front()
    }

    /// Nothing waits to be fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.packets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: usize) -> Bytes {
        let mut bytes = vec![7; HEADER_LEN + data];
        bytes[1..5].copy_from_slice(&(data as u32).to_le_bytes());
        bytes.into()
    }

    #[test]
    fn a_message_in_any_parts() {
        for cut in 0..message(20).len() {
            let mut inlet = Inlet::default();
            assert_eq!(inlet.push(&message(20)[..cut], 261), []);
            assert_eq!(inlet.push(&message(20)[cut..], 261), [Arrival::Message(message(20))]);
            assert_eq!(inlet.push(&message(0), 261), [Arrival::Message(message(0))]);
        }
    }

    #[test]
    fn excess_is_not_the_next_message() {
        let mut inlet = Inlet::default();
        let sent = [&message(1)[..], &[1, 2, 3]].concat();
        assert_eq!(inlet.push(&sent, 261), [Arrival::Message(message(1)), Arrival::Excess(3)]);
        assert_eq!(inlet.push(&message(0), 261), [Arrival::Message(message(0))]);
    }

    #[test]
    fn too_long_a_message_does_not_block_the_pipe() {
        let mut inlet = Inlet::default();
        assert_eq!(inlet.push(&message(262), 261), [Arrival::TooLong(message(262))]);
        let mut endless = message(0).to_vec();
        endless[1..5].fill(0xFF);
        assert_eq!(inlet.push(&endless, 261), [Arrival::TooLong(endless.into())]);
        assert_eq!(inlet.push(&message(261), 261), [Arrival::Message(message(261))]);
    }

    fn packets(message: Bytes, zero_length_packets: bool) -> Vec<usize> {
        let mut outlet = Outlet::new(64, zero_length_packets);
        outlet.push(message);
        std::iter::from_fn(|| outlet.pop()).map(|packet| packet.len()).collect()
    }

    #[test]
    fn a_full_last_packet_is_followed_by_an_empty_one() {
        assert_eq!(packets(message(0), true), [10]);
        assert_eq!(packets(message(54), true), [64, 0]);
        assert_eq!(packets(message(54), false), [64]);
        assert_eq!(packets(message(55), true), [64, 1]);
        assert_eq!(packets(message(118), true), [64, 64, 0]);
    }
}
