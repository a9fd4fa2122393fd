//! A reader as a script: what it sends is asked for, what it gets and the time are given.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

use bytes::Bytes;
use ccid::operation::PowerUp;
use ccid::wire::{
    ChainParameter, ClassRequest, ClockStatus, Command, IccStatus, LevelParameter, Message,
    PowerSelect, Response, Seq, Slot, SlotError, Status,
};
use ccid::{ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit};
use std::time::Duration;

pub const SLOT: Slot = Slot(0);
pub const ATR: [u8; 4] = [0x3B, 0x02, 0x41, 0x42];

pub fn class(slots: u8, features: u32, max_message: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, slots - 1, 7, 3]);
    bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44..48].copy_from_slice(&max_message.to_le_bytes());
    bytes[53] = slots;
    ClassDescriptor::parse(&bytes).unwrap()
}

/// Automatic everything, TPDU level, as QEMU's reader.
pub const TPDU: u32 = 0x0001_04FE;
pub const EXTENDED: u32 = 0x0004_04FE;

pub struct Script {
    pub reader: Reader,
    pub now: Instant,
}

impl Script {
    pub fn new(class: ClassDescriptor) -> Self {
        let now = Instant::from_millis(1000);
        Self { reader: Reader::new(class, Options::default(), now), now }
    }

    /// With a card in slot 0, known and powered.
    pub fn powered(class: ClassDescriptor) -> Self {
        let mut script = Self::new(class);
        for _ in 0..class.slots() {
            let (slot, seq) = script.sent(Command::GetSlotStatus);
            script.status(slot, seq, Status::success(IccStatus::PresentInactive));
            assert_eq!(script.event(), Some(Event::Presence { slot, present: true }));
        }
        script.start(Operation::PowerOn(PowerUp::Warm));
        let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
        script.data(seq, &ATR);
        let atr = ccid::Atr::new(&ATR);
        assert_eq!(script.completed(), Ok(Output::Atr(atr)));
        // What readers send right after they were opened.
        let all_present = [&[0x50][..], &[0xFF; 2]].concat();
        script.reader.handle_interrupt(&all_present, script.now);
        script.quiet();
        script
    }

    pub fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.reader.start(SLOT, operation, None, self.now)
    }

    pub fn exchange(&mut self) -> (ccid::OperationId, Seq) {
        let id = self.start(Operation::Exchange(Bytes::from_static(&[0, 0xB0, 0, 0, 0])));
        let data = &[0, 0xB0, 0, 0, 0];
        let level_parameter = LevelParameter::WHOLE;
        let (_, seq) = self.sent(Command::XfrBlock { bwi: 0, level_parameter, data });
        (id, seq)
    }

    /// The next thing on the pipes is `command`.
    #[track_caller]
    pub fn sent(&mut self, command: Command<'_>) -> (Slot, Seq) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent");
        };
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(Command::parse(&message).unwrap(), command);
        (message.slot, message.seq)
    }

    /// ABORT on the control pipe, then PC_to_RDR_Abort once it has ended.
    #[track_caller]
    pub fn abort_sent(&mut self) -> Seq {
        let Some(Transmit::Control { request, .. }) = self.reader.poll_transmit() else {
            panic!("no control request");
        };
        let ClassRequest::Abort { slot, seq } = request else { panic!("{request:?}") };
        assert_eq!(slot, SLOT);
        assert_eq!(self.reader.poll_transmit(), None, "the message waits for the request");
        self.reader.handle_control(request, Some(&[]), self.now);
        assert_eq!(self.sent(Command::Abort), (slot, seq));
        seq
    }

    pub fn answer(&mut self, slot: Slot, seq: Seq, response: Response<'_>) {
        self.reader.handle_message(&response.emit(slot, seq), self.now);
    }

    pub fn status(&mut self, slot: Slot, seq: Seq, status: Status) {
        self.answer(slot, seq, Response::SlotStatus { status, clock_status: ClockStatus::Running });
    }

    pub fn data(&mut self, seq: Seq, data: &[u8]) {
        self.chained(seq, ChainParameter::Whole, data);
    }

    pub fn chained(&mut self, seq: Seq, chain: ChainParameter, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        self.answer(SLOT, seq, Response::DataBlock { status, chain, data });
    }

    pub fn failed(&mut self, seq: Seq, icc: IccStatus, error: SlotError) {
        let status = Status::failed(icc, error);
        let chain = ChainParameter::Whole;
        self.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
    }

    pub fn event(&mut self) -> Option<Event> {
        self.reader.poll_event()
    }

    #[track_caller]
    pub fn completed(&mut self) -> Result<Output, Error> {
        match self.event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn quiet(&mut self) {
        assert_eq!(self.reader.poll_transmit(), None);
        assert_eq!(self.event(), None);
    }

    /// Time passes to the deadline.
    #[track_caller]
    pub fn timeout(&mut self) -> Duration {
        let deadline = self.reader.poll_deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        self.reader.handle_timeout(self.now);
        waited
    }
}
