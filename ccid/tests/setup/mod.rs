//! A reader as a script, from its opening to the first exchange.

#![allow(dead_code, reason = "no one test file needs all of it")]

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::error::Unsupported;
use ccid::operation::PowerUp;
use ccid::quirk::{Adjusted, Identity, Table};
use ccid::wire::{
    ChainParameter, ClassRequest, ClockStatus, Command, IccStatus, LevelParameter, Message,
    PowerSelect, Response, Seq, Slot, SlotError, Status,
};
use ccid::{
    Atr, ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit,
};
use std::time::Duration;

pub(crate) const SLOT: Slot = Slot(0);

pub(crate) const TPDU: u32 = 0x0001_0000;
pub(crate) const SHORT: u32 = 0x0002_0000;
pub(crate) const FROM_ATR: u32 = 0x02;
pub(crate) const AUTO_VOLTAGE: u32 = 0x08;
pub(crate) const NEGOTIATES: u32 = 0x40;
pub(crate) const AUTO_PPS: u32 = 0x80;

/// T=0 alone, nothing said of speed.
pub(crate) const PLAIN: &[u8] = &[0x3B, 0x02, 0x41, 0x42];
/// T=0, TA(1) = 95h.
pub(crate) const FAST: &[u8] = &[0x3B, 0x10, 0x95];
/// T=0 and T=1, TA(1) = 95h.
pub(crate) const BOTH: &[u8] = &[0x3B, 0x90, 0x95, 0x80, 0x01, 0x84];
/// T=1 alone, IFSC 80h, TB(3) = 45h.
pub(crate) const T1: &[u8] = &[0x3B, 0x80, 0x81, 0x31, 0x80, 0x45, 0xF5];

/// T=0 parameters with this Fi and Di.
pub(crate) const fn t0(fi_di: u8) -> [u8; 5] {
    [fi_di, 0, 0, 10, 0]
}

/// T=1 parameters of a card that says nothing about T=1.
pub(crate) const fn t1(fi_di: u8) -> [u8; 7] {
    [fi_di, 0x10, 0, 0x4D, 0, 32, 0]
}

pub(crate) const PPS_T0_95: &[u8] = &[0xFF, 0x10, 0x95, 0x7A];
pub(crate) const PPS_T1_95: &[u8] = &[0xFF, 0x11, 0x95, 0x7B];
pub(crate) const PPS_T1: &[u8] = &[0xFF, 0x01, 0xFE];

/// 4 MHz, up to 344,086 bit/s, T=0 and T=1, all voltages, messages of 271 bytes.
pub(crate) fn class(features: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
    bytes[19..23].copy_from_slice(&10_752u32.to_le_bytes());
    bytes[23..27].copy_from_slice(&344_086u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&254u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
    bytes[53] = 1;
    ClassDescriptor::parse(&bytes).unwrap()
}

pub(crate) struct Script {
    pub(crate) reader: Reader,
    pub(crate) now: Instant,
}

impl Script {
    pub(crate) fn opened(class: ClassDescriptor, row: &str, options: Options) -> Self {
        let mut table = Table::built_in();
        assert_eq!(table.extend(row), []);
        let identity = Identity { vendor: 0xFFFF, product: 0xFFFF, firmware: 0x0100 };
        let Adjusted { class, behaviour } = table.apply(identity, &class);
        let now = Instant::from_millis(1000);
        Self { reader: Reader::with_behaviour(class, behaviour, options, now), now }
    }

    /// With a card in slot 0, known, without power.
    pub(crate) fn with_row(class: ClassDescriptor, row: &str) -> Self {
        let mut script = Self::opened(class, row, Options::default());
        script.meet_card();
        script
    }

    pub(crate) fn new(features: u32) -> Self {
        Self::with_row(class(features), "")
    }

    /// With the card powered.
    pub(crate) fn powered(features: u32, atr: &[u8]) -> Self {
        let mut script = Self::new(features);
        script.power(PowerSelect::V5, atr);
        script
    }

    pub(crate) fn meet_card(&mut self) {
        let (slot, seq) = self.sent(Command::GetSlotStatus);
        self.status(slot, seq, Status::success(IccStatus::PresentInactive));
        assert_eq!(self.event(), Some(Event::Presence { slot, present: true }));
    }

    pub(crate) fn power(&mut self, power_select: PowerSelect, atr: &[u8]) {
        self.start(Operation::PowerOn(PowerUp::Warm));
        self.on(power_select, atr);
        assert_eq!(self.completed(), Ok(Output::Atr(Atr::new(atr))));
    }

    pub(crate) fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.reader.start(SLOT, operation, None, self.now)
    }

    pub(crate) fn set(&mut self, protocol: Protocol) -> ccid::OperationId {
        self.start(Operation::SetProtocol(protocol))
    }

    #[track_caller]
    pub(crate) fn sent(&mut self, command: Command<'_>) -> (Slot, Seq) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent, but {:?}", self.event());
        };
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(Command::parse(&message).unwrap(), command);
        (message.slot, message.seq)
    }

    #[track_caller]
    pub(crate) fn block_sent(&mut self, data: &[u8]) -> Seq {
        let level_parameter = LevelParameter::WHOLE;
        self.sent(Command::XfrBlock { bwi: 0, level_parameter, data }).1
    }

    /// A PPS request is answered.
    #[track_caller]
    pub(crate) fn pps(&mut self, request: &[u8], response: &[u8]) {
        let seq = self.block_sent(request);
        self.data(seq, response);
    }

    #[track_caller]
    pub(crate) fn parameters_sent(&mut self, data: &[u8]) -> Seq {
        let protocol_num = u8::from(data.len() == 7);
        self.sent(Command::SetParameters { protocol_num, data }).1
    }

    /// SetParameters is answered with success, by `answer`.
    #[track_caller]
    pub(crate) fn parameters(&mut self, data: &[u8], answer: &[u8]) {
        let seq = self.parameters_sent(data);
        let status = Status::success(IccStatus::PresentActive);
        let protocol_num = u8::from(data.len() == 7);
        self.answer(SLOT, seq, Response::Parameters { status, protocol_num, data: answer });
    }

    #[track_caller]
    pub(crate) fn parameters_refused(&mut self, data: &[u8], error: SlotError) {
        let seq = self.parameters_sent(data);
        let status = Status::failed(IccStatus::PresentActive, error);
        self.answer(SLOT, seq, Response::Parameters { status, protocol_num: 0, data: &[] });
    }

    #[track_caller]
    pub(crate) fn off(&mut self) {
        let (_, seq) = self.sent(Command::IccPowerOff);
        self.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
    }

    #[track_caller]
    pub(crate) fn on(&mut self, power_select: PowerSelect, atr: &[u8]) {
        let (_, seq) = self.sent(Command::IccPowerOn { power_select });
        self.data(seq, atr);
    }

    /// A cold reset at 5 V.
    #[track_caller]
    pub(crate) fn reset(&mut self, atr: &[u8]) {
        self.off();
        self.on(PowerSelect::V5, atr);
    }

    pub(crate) fn answer(&mut self, slot: Slot, seq: Seq, response: Response<'_>) {
        self.reader.handle_message(&response.emit(slot, seq), self.now);
    }

    pub(crate) fn status(&mut self, slot: Slot, seq: Seq, status: Status) {
        self.answer(slot, seq, Response::SlotStatus { status, clock_status: ClockStatus::Running });
    }

    pub(crate) fn data(&mut self, seq: Seq, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        self.answer(SLOT, seq, Response::DataBlock { status, chain: ChainParameter::Whole, data });
    }

    pub(crate) fn failed(&mut self, seq: Seq, error: SlotError) {
        let status = Status::failed(IccStatus::PresentActive, error);
        let chain = ChainParameter::Whole;
        self.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
    }

    pub(crate) fn event(&mut self) -> Option<Event> {
        self.reader.poll_event()
    }

    #[track_caller]
    pub(crate) fn completed(&mut self) -> Result<Output, Error> {
        match self.event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The operation is over, and nothing else is going on.
    #[track_caller]
    pub(crate) fn done(&mut self) {
        assert_eq!(self.completed(), Ok(Output::Done));
        self.quiet();
    }

    #[track_caller]
    pub(crate) fn unsupported(&mut self, what: Unsupported) {
        assert_eq!(self.completed(), Err(Error::Unsupported(what)));
        self.quiet();
    }

    #[track_caller]
    pub(crate) fn quiet(&mut self) {
        assert_eq!(self.reader.poll_transmit(), None);
        assert_eq!(self.event(), None);
    }

    /// An exchange; how long the reader may take over it.
    #[track_caller]
    pub(crate) fn exchange(&mut self) -> Duration {
        let data = &[0, 0xB0, 0, 0, 0];
        self.start(Operation::Exchange(Bytes::from_static(data)));
        let seq = self.block_sent(data);
        let time = self.reader.poll_deadline().unwrap() - self.now;
        self.data(seq, &[0x90, 0]);
        assert!(self.completed().is_ok());
        time
    }

    #[track_caller]
    pub(crate) fn timeout(&mut self) -> Duration {
        let deadline = self.reader.poll_deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        self.reader.handle_timeout(self.now);
        waited
    }

    #[track_caller]
    pub(crate) fn request(&mut self) -> ClassRequest {
        match self.reader.poll_transmit() {
            Some(Transmit::Control { request, .. }) => request,
            other => panic!("{other:?}"),
        }
    }
}
