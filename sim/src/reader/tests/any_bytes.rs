//! Whatever is sent, in whatever order: no panic, no hang, and an answer of the right shape.

use super::*;
use crate::presets;
use ccid::wire::Response;

/// Xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.byte()).collect()
    }

    /// A message whose header is mostly right.
    fn message(&mut self) -> Vec<u8> {
        let data = match self.below(4) {
            0 => Vec::new(),
            1 => {
                [&[0x00, 0x10 + 2 * (self.byte() % 6), 0, self.byte()][..], &self.bytes(8)].concat()
            }
            2 => super::pin::fields(),
            _ => self.bytes(300),
        };
        let length = match self.below(16) {
            0 => self.next() as u32,
            _ => data.len() as u32,
        };
        let message_type = 0x61 + self.byte() % 0x14;
        let specific = if self.below(3) == 0 { self.byte() % 4 } else { 0 };
        let mut message = vec![message_type];
        message.extend(length.to_le_bytes());
        message.extend([self.byte() % 4, self.byte(), 0, specific, 0]);
        message.extend(data);
        message
    }
}

fn drive(mut reader: Reader, seed: u64, rounds: u32) {
    let mut random = Random(seed);
    let mut now = Instant::ZERO;
    reader.reset(now);
    for _ in 0..rounds {
        match random.below(12) {
            0 => reader.bulk_out(&random.bytes(100), now),
            1 => {
                let setup = SetupPacket::from_bytes(std::array::from_fn(|_| random.byte()));
                reader.control(setup, &[], now);
            }
            2 => {
                let (slot, seq) = (Slot(random.byte() % 4), Seq(random.byte() % 8));
                reader.control(ClassRequest::Abort { slot, seq }.setup(0), &[], now);
                reader.bulk_out(&Command::Abort.emit(slot, Seq(random.byte() % 8)), now);
            }
            3 => drop(reader.remove(Slot(random.byte() % 4))),
            4 => drop(reader.insert(Slot(random.byte() % 4), FileCard::t0())),
            5 => reader.enter_pin("123456"),
            6 => now = now + std::time::Duration::from_millis(random.below(20_000)),
            7 if random.below(50) == 0 => reader.reset(now),
            _ => reader.bulk_out(&random.message(), now),
        }
        let mut message = Vec::new();
        while let Some(packet) = reader.poll_bulk_in(now) {
            message.extend_from_slice(&packet);
            if packet.len() < 64 {
                let parsed = Message::parse(&message).unwrap();
                assert_eq!(parsed.data.len() + 10, message.len());
                // A misbehaviour that a preset has.
                assert!(parsed.message_type == 0x6C || Response::parse(&parsed).is_ok());
                message.clear();
            }
        }
        assert!(message.is_empty(), "a message ends with a short packet");
        reader.poll_interrupt(now);
        assert!(reader.poll_deadline().is_none_or(|at| at > now));
    }
}

#[test]
fn every_preset_stands_it() {
    for (n, preset) in presets::all().iter().enumerate() {
        drive(preset.builder().build(), 0x1234_5678_9ABC_DEF0 + n as u64, 1_500);
    }
}
