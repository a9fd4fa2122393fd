//! What the tests of link and thread share: a device by script, and the kernel's end of USB/IP.

mod link;
mod socket;

use super::*;
use crate::{ControlReply, Descriptors};
use bytes::{Buf, BufMut, BytesMut};
use ccid::wire::SetupPacket;
use std::collections::VecDeque;

const OUT: u32 = 0;
const IN: u32 = 1;
const BULK_OUT: u32 = 1;
const BULK_IN: u32 = 2;
const INTERRUPT: u32 = 3;
const T0: Instant = Instant::ZERO;

/// A device whose packets the test puts there.
struct Script {
    descriptors: Descriptors,
    bulk: VecDeque<Bytes>,
    interrupt: VecDeque<Bytes>,
    received: Vec<Bytes>,
    controls: Vec<(SetupPacket, Vec<u8>)>,
    /// Takes no bulk-OUT while it has a packet to give.
    half_duplex: bool,
    deaf: bool,
    deadline: Option<Instant>,
    resets: usize,
}

impl Default for Script {
    fn default() -> Self {
        let configuration = [
            &[9, 2, 39, 0, 1, 1, 0, 0xA0, 50][..],
            &[9, 4, 0, 0, 3, 0x0B, 0, 0, 3],
            &[7, 5, 0x01, 2, 64, 0, 0],
            &[7, 5, 0x82, 2, 64, 0, 0],
            &[7, 5, 0x83, 3, 8, 0, 16],
        ]
        .concat();
        let device = [18, 1, 0, 2, 0, 0, 0, 64, 9, 0x12, 0xA0, 0x5C, 0, 1, 1, 2, 0, 1];
        let strings = vec!["Maker".into(), "Reäder \u{1F4B3}".into(), String::new()];
        Self {
            descriptors: Descriptors {
                device: Bytes::copy_from_slice(&device),
                configuration: configuration.into(),
                strings,
            },
            bulk: VecDeque::new(),
            interrupt: VecDeque::new(),
            received: Vec::new(),
            controls: Vec::new(),
            half_duplex: false,
            deaf: false,
            deadline: None,
            resets: 0,
        }
    }
}

impl Device for Script {
    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], _now: Instant) -> ControlReply {
        self.controls.push((setup, data.to_vec()));
        match setup.request {
            1 => ControlReply::Data(Bytes::new()),
            2 => ControlReply::Data(Bytes::from_static(&[1, 2, 3, 4, 5, 6])),
            _ => ControlReply::Stall,
        }
    }

    fn accepts_bulk_out(&self) -> bool {
        !self.deaf && (!self.half_duplex || self.bulk.is_empty())
    }

    fn bulk_out(&mut self, data: &[u8], _now: Instant) {
        self.received.push(Bytes::copy_from_slice(data));
    }

    fn poll_bulk_in(&mut self, _now: Instant) -> Option<Bytes> {
        self.bulk.pop_front()
    }

    fn poll_interrupt(&mut self, _now: Instant) -> Option<Bytes> {
        self.interrupt.pop_front()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives a packet of one byte.
    fn handle_timeout(&mut self, _now: Instant) {
        self.deadline = None;
        self.bulk.push_back(Bytes::from_static(&[0x77]));
    }

    fn reset(&mut self, _now: Instant) {
        self.resets += 1;
    }
}

fn submit(seqnum: u32, direction: u32, endpoint: u32, length: u32, flags: u32) -> BytesMut {
    let mut header = BytesMut::new();
    for word in [1, seqnum, 0x0001_0002, direction, endpoint, flags, length, 0, 0, 0] {
        header.put_u32(word);
    }
    header.put_bytes(0, 8);
    header
}

fn bulk_out(seqnum: u32, data: &[u8]) -> BytesMut {
    let mut command = submit(seqnum, OUT, BULK_OUT, data.len() as u32, 0);
    command.put_slice(data);
    command
}

fn bulk_in(seqnum: u32, length: u32) -> BytesMut {
    submit(seqnum, IN, BULK_IN, length, 0)
}

/// A control transfer; the data stage of an OUT request follows.
fn control(seqnum: u32, setup: [u8; 8], data: &[u8]) -> BytesMut {
    let length = u16::from_le_bytes([setup[6], setup[7]]);
    let direction = if setup[0] & 0x80 != 0 && length > 0 { IN } else { OUT };
    let mut command = submit(seqnum, direction, 0, length.into(), 0);
    command[40..48].copy_from_slice(&setup);
    command.put_slice(data);
    command
}

fn unlink(seqnum: u32, target: u32) -> BytesMut {
    let mut header = BytesMut::new();
    for word in [2, seqnum, 0x0001_0002, 0, 0, target] {
        header.put_u32(word);
    }
    header.put_bytes(0, 24);
    header
}

/// An answer: which it is, seqnum, status; and of RET_SUBMIT the length and the data.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Submitted(u32, i32, u32, Vec<u8>),
    Unlinked(u32, i32),
}
use Answer::{Submitted, Unlinked};

/// The answers in `bytes`. `is_in` says whether a transfer's data comes with the answer.
fn answers(mut bytes: Bytes, is_in: impl Fn(u32) -> bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        answers.push(answer(&mut bytes, &is_in));
    }
    answers
}

fn answer(bytes: &mut Bytes, is_in: impl Fn(u32) -> bool) -> Answer {
    let (command, seqnum) = (bytes.get_u32(), bytes.get_u32());
    bytes.advance(12);
    let status = bytes.get_i32();
    match command {
        3 => {
            let length = bytes.get_u32();
            assert_eq!(bytes.split_to(20)[..], [0; 20]);
            let data = if is_in(seqnum) { length } else { 0 };
            Submitted(seqnum, status, length, bytes.split_to(data as usize).to_vec())
        }
        4 => {
            bytes.advance(24);
            Unlinked(seqnum, status)
        }
        other => panic!("command {other}"),
    }
}

fn received(seqnum: u32, status: i32, length: usize) -> Answer {
    Submitted(seqnum, status, length as u32, vec![0xAA; length])
}

fn sent(seqnum: u32, length: u32) -> Answer {
    Submitted(seqnum, 0, length, vec![])
}
