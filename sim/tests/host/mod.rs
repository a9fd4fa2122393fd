//! A host and a simulated reader, the two state machines face to face in time of their own.

#![allow(dead_code, reason = "no one test file needs all of it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use ccid::operation::PowerUp;
use ccid::reassembly::Reassembler;
use ccid::{Error, Event, Instant, Operation, Options, Output, Slot, Transmit, atr::Protocol};
use sim::{ControlReply, Device};
use std::time::Duration;

pub(crate) const SLOT: Slot = Slot(0);

/// More than any operation here takes.
const MANY: usize = 2_000_000;

pub(crate) struct Bench {
    host: ccid::Reader,
    pub(crate) device: sim::Reader,
    reassembler: Reassembler,
    now: Instant,
    /// Operations that end, each once.
    ended: Vec<ccid::OperationId>,
}

impl Bench {
    pub(crate) fn new(device: sim::Reader) -> Self {
        Self::with_options(device, Options::default())
    }

    pub(crate) fn with_options(mut device: sim::Reader, options: Options) -> Self {
        let now = Instant::ZERO;
        device.reset(now);
        let configuration = &device.descriptors().configuration;
        let at = configuration.windows(2).position(|start| start == [54, 0x21]).unwrap();
        let class = ccid::ClassDescriptor::parse(&configuration[at..at + 54]).unwrap();
        let host = ccid::Reader::new(class, options, now);
        let reassembler = Reassembler::new(host.max_message_data());
        Self { host, device, reassembler, now, ended: Vec::new() }
    }

    /// Powers the card up and agrees on a protocol.
    pub(crate) fn connect(&mut self, protocol: Protocol) -> Result<Output, Error> {
        self.run(Operation::PowerOn(PowerUp::Cold), None)?;
        self.run(Operation::SetProtocol(protocol), None)
    }

    /// The end of an operation.
    pub(crate) fn run(
        &mut self,
        operation: Operation,
        limit: Option<Duration>,
    ) -> Result<Output, Error> {
        let id = self.host.start(SLOT, operation, limit, self.now);
        for _ in 0..MANY {
            while let Some(event) = self.host.poll_event() {
                if let Event::Completed { id: ended, result, .. } = event {
                    assert!(!self.ended.contains(&ended), "{ended:?} ended twice");
                    self.ended.push(ended);
                    assert_eq!(ended, id);
                    self.settle();
                    return result;
                }
            }
            if !self.turn() {
                self.pass();
            }
        }
        panic!("without end");
    }

    /// What is left of the operation, a card's reset perhaps, comes to its end.
    fn settle(&mut self) {
        for _ in 0..MANY {
            if !self.turn() {
                return;
            }
        }
        panic!("never at rest");
    }

    /// Carries what there is to be carried; false if there is nothing.
    fn turn(&mut self) -> bool {
        let now = self.now;
        match self.host.poll_transmit() {
            Some(Transmit::BulkOut(bytes)) => self.device.bulk_out(&bytes, now),
            Some(Transmit::Control { request, .. }) => {
                match self.device.control(request.setup(0), &[], now) {
                    ControlReply::Data(data) => {
                        self.host.handle_control(request, Some(&data), now);
                    }
                    ControlReply::Stall => self.host.handle_control(request, None, now),
                }
            }
            Some(Transmit::Recover) => {
                self.reassembler.reset();
                self.host.handle_recovered(now);
            }
            None => {
                if let Some(packet) = self.device.poll_bulk_in(now) {
                    if let Some(message) =
                        self.reassembler.push(&packet, packet.len() == 64).unwrap()
                    {
                        self.host.handle_message(&message, now);
                    }
                } else if let Some(packet) = self.device.poll_interrupt(now) {
                    self.host.handle_interrupt(&packet, now);
                } else {
                    return false;
                }
            }
        }
        true
    }

    /// Time passes to what is due next.
    fn pass(&mut self) {
        let next = [self.host.poll_deadline(), self.device.poll_deadline()];
        let next = next.into_iter().flatten().min().unwrap();
        self.now = self.now.max(next);
        self.device.handle_timeout(self.now);
        // What the device has to say by now comes before the host's patience ends.
        if !self.turn() {
            self.host.handle_timeout(self.now);
        }
    }
}
