//! Bulk-IN transfers: whatever comes, what is given out is a message made of the bytes that came,
//! nothing waits that is complete, and after an error or a reset the next message comes through.
//!
//! Input: two bytes of limit, then transfers: two bytes of which the top bit says that it came
//! full and the others how long it is, then so many bytes.

#![no_main]

use ccid::reassembly::Reassembler;
use ccid::wire::{HEADER_LEN, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([low, high], mut input)) = input.split_first_chunk() else { return };
    let limit = usize::from(u16::from_le_bytes([*low, *high]));
    let mut reassembler = Reassembler::new(limit);
    let mut waiting = Vec::new();
    while let Some((transfer, full)) = next_transfer(&mut input) {
        waiting.extend_from_slice(transfer);
        match reassembler.push(transfer, full) {
            Ok(Some(message)) => {
                assert!(waiting.starts_with(&message), "bytes that never came");
                let data = Message::parse(&message).unwrap().data.len();
                assert_eq!(message.len(), HEADER_LEN + data);
                assert!(data <= limit);
                waiting.clear();
            }
            Ok(None) => {
                assert!(full || waiting.is_empty(), "waits for what will not come");
                assert!(Message::parse(&waiting).is_err(), "a message is withheld");
                assert!(waiting.len() < HEADER_LEN + limit);
            }
            Err(error) => {
                assert!(!error.to_string().contains(char::is_control));
                waiting.clear();
            }
        }
    }
    assert_eq!(reassembler.reset(), waiting.len());
    survives(&mut reassembler, limit);
});

fn next_transfer<'a>(input: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let ([low, high], rest) = input.split_first_chunk()?;
    let head = u16::from_le_bytes([*low, *high]);
    let length = usize::from(head & 0x7FFF).min(rest.len());
    let (transfer, rest) = rest.split_at(length);
    *input = rest;
    Some((transfer, head & 0x8000 != 0))
}

/// A message of all the limit allows, in transfers of one packet each, comes out as it went in.
fn survives(reassembler: &mut Reassembler, limit: usize) {
    let data = vec![0xA5; limit];
    let message = Message {
        message_type: 0x80,
        slot: Default::default(),
        seq: Default::default(),
        specific: [0; 3],
        data: &data,
    }
    .emit();
    let mut packets = message.chunks(64).peekable();
    while let Some(packet) = packets.next() {
        let result = reassembler.push(packet, packet.len() == 64).unwrap();
        assert_eq!(result, packets.peek().is_none().then(|| message.clone()));
    }
}
