//! Devices that no host should be brought down by: one that answers rubbish, and two whose own
//! software fails.

use crate::hands::Hardware;
use crate::reader::{Key, Seen, Violation};
use crate::{Card, ControlReply, Descriptors, Device, Reader, presets};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use std::collections::VecDeque;

/// What is wrong with a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Whatever comes is answered by bytes at random, on all pipes.
    Garbage,
    /// It panics when it is sent an escape command (PC_to_RDR_Escape), on the thread that drives
    /// it.
    PanicsOnEscape,
    /// It panics when its descriptors are read.
    PanicsWhenOpened,
}

/// Name, description and defect of each.
const DEFECTS: &[(&str, &str, Defect)] = &[
    ("garbage", "answers everything with bytes at random", Defect::Garbage),
    (
        "panics-on-escape",
        "its software fails at an escape command; for tests",
        Defect::PanicsOnEscape,
    ),
    (
        "panics-when-opened",
        "its software fails when it is opened; for tests",
        Defect::PanicsWhenOpened,
    ),
];

/// bMessageType of PC_to_RDR_Escape.
const ESCAPE: u8 = 0x6B;

/// Longest packet of rubbish.
const MAX_RUBBISH: u64 = 64;

/// A reader with a defect.
#[derive(Debug)]
pub struct Faulty {
    inner: Reader,
    defect: Defect,
    /// State of the random numbers.
    random: u64,
    bulk_in: VecDeque<Bytes>,
    interrupt: VecDeque<Bytes>,
}

impl Faulty {
    /// The usual reader, with `defect`.
    pub fn new(defect: Defect) -> Self {
        let inner = presets::by_name("default").unwrap_or_else(|| Reader::builder().build());
        let random = 0x9E37_79B9_7F4A_7C15;
        Self { inner, defect, random, bulk_in: VecDeque::new(), interrupt: VecDeque::new() }
    }

    /// That of this name; none if there is none.
    pub fn by_name(name: &str) -> Option<Self> {
        let found = DEFECTS.iter().find(|(own, ..)| *own == name)?;
        Some(Self::new(found.2))
    }

    /// Name and description of each.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        DEFECTS.iter().map(|(name, description, _)| (*name, *description))
    }

    /// xorshift64.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn rubbish(&mut self) -> Bytes {
        let length = self.next_random() % (MAX_RUBBISH + 1);
        (0..length).map(|_| self.next_random().to_le_bytes()[0]).collect()
    }

    fn throw(&mut self) {
        for _ in 0..=self.next_random() % 3 {
            let packet = self.rubbish();
            self.bulk_in.push_back(packet);
        }
        let mut packet = self.rubbish();
        packet.truncate(8);
        self.interrupt.push_back(packet);
    }

    fn is_garbage(&self) -> bool {
        self.defect == Defect::Garbage
    }
}

impl Device for Faulty {
    #[allow(clippy::panic)] // It is what this device is for.
    fn descriptors(&self) -> &Descriptors {
        if self.defect == Defect::PanicsWhenOpened {
            panic!("a simulated device fails when it is opened, as it is to");
        }
        self.inner.descriptors()
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        if self.is_garbage() {
            self.throw();
            return ControlReply::Data(self.rubbish());
        }
        self.inner.control(setup, data, now)
    }

    #[allow(clippy::panic)] // It is what this device is for.
    fn bulk_out(&mut self, data: &[u8], now: Instant) {
        match self.defect {
            Defect::Garbage => self.throw(),
            Defect::PanicsOnEscape if data.first() == Some(&ESCAPE) => {
                panic!("a simulated device fails at an escape command, as it is to");
            }
            _ => self.inner.bulk_out(data, now),
        }
    }

    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes> {
        match self.bulk_in.pop_front() {
            None if !self.is_garbage() => self.inner.poll_bulk_in(now),
            packet => packet,
        }
    }

    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes> {
        match self.interrupt.pop_front() {
            None if !self.is_garbage() => self.inner.poll_interrupt(now),
            packet => packet,
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.inner.poll_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn reset(&mut self, now: Instant) {
        self.bulk_in.clear();
        self.interrupt.clear();
        self.inner.reset(now);
    }
}

impl Hardware for Faulty {
    fn insert(&mut self, slot: u8, card: Option<Box<dyn Card>>) -> Result<(), String> {
        Hardware::insert(&mut self.inner, slot, card)
    }

    fn remove(&mut self, slot: u8) -> Result<Option<Box<dyn Card>>, String> {
        Hardware::remove(&mut self.inner, slot)
    }

    fn press(&mut self, keys: Vec<Key>) -> Result<(), String> {
        Hardware::press(&mut self.inner, keys)
    }

    fn forget(&mut self) {
        Hardware::forget(&mut self.inner);
    }

    fn seen(&mut self) -> &[Seen] {
        Hardware::seen(&mut self.inner)
    }

    fn violations(&mut self) -> &[Violation] {
        Hardware::violations(&mut self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_answer_and_no_flood() {
        let mut device = Faulty::by_name("garbage").unwrap();
        let now = Instant::ZERO;
        device.reset(now);
        assert_eq!(device.poll_bulk_in(now), None, "nothing unasked");
        device.bulk_out(&[0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0], now);
        let packets = std::iter::from_fn(|| device.poll_bulk_in(now)).count();
        assert!((1..=3).contains(&packets));
    }

    #[test]
    fn a_defect_shows_only_when_it_is_met() {
        let mut device = Faulty::by_name("panics-on-escape").unwrap();
        device.reset(Instant::ZERO);
        device.bulk_out(&[0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0], Instant::ZERO);
        assert_eq!(device.poll_bulk_in(Instant::ZERO).unwrap()[0], 0x81);
        let escape = move || device.bulk_out(&[0x6B, 0, 0, 0, 0, 0, 1, 0, 0, 0], Instant::ZERO);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(escape)).is_err());
        assert!(Faulty::by_name("default").is_none());
        assert!(Faulty::names().all(|(name, _)| Faulty::by_name(name).is_some()));
    }
}
