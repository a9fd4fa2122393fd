//! A host and a reader that leaves T=0 and T=1 to it, as a script: messages out, messages in.

#![allow(dead_code, reason = "no one test file needs all of it")]

use bytes::Bytes;
use ccid::operation::PowerUp;
use ccid::wire::{
    ChainParameter, ClassRequest, ClockStatus, IccStatus, Message, Response, Seq, Slot, SlotError,
    Status,
};
use ccid::{ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit};
use std::time::Duration;

pub(crate) const SLOT: Slot = Slot(0);
/// T=1, IFSC 32, LRC.
pub(crate) const T1_ATR: [u8; 6] = [0x3B, 0x80, 0x81, 0x11, 0x20, 0x30];
/// T=0.
pub(crate) const T0_ATR: [u8; 4] = [0x3B, 0x02, 0x41, 0x42];

/// Automatic everything, IFSD too.
pub(crate) const AUTO: u32 = 0x0000_04FE;
pub(crate) const TPDU: u32 = 0x0001_0000 | AUTO;
pub(crate) const CHARACTER: u32 = AUTO;

pub(crate) const OK: [u8; 2] = [0x90, 0x00];
pub(crate) const APDU: [u8; 5] = [0x00, 0xB0, 0x00, 0x00, 0x00];
/// It in an I-block, N(S) 0 and 1, and the answers.
pub(crate) const I0: [u8; 9] = [0x00, 0x00, 0x05, 0x00, 0xB0, 0x00, 0x00, 0x00, 0xB5];
pub(crate) const I1: [u8; 9] = [0x00, 0x40, 0x05, 0x00, 0xB0, 0x00, 0x00, 0x00, 0xF5];
pub(crate) const A0: [u8; 6] = [0x00, 0x00, 0x02, 0x90, 0x00, 0x92];
pub(crate) const A1: [u8; 6] = [0x00, 0x40, 0x02, 0x90, 0x00, 0xD2];
pub(crate) const R0: [u8; 4] = [0x00, 0x82, 0x00, 0x82];
pub(crate) const RESYNCH: [u8; 4] = [0x00, 0xC0, 0x00, 0xC0];
pub(crate) const RESYNCHED: [u8; 4] = [0x00, 0xE0, 0x00, 0xE0];

pub(crate) fn class(features: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&254u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
    bytes[53] = 1;
    ClassDescriptor::parse(&bytes).unwrap()
}

pub(crate) struct Script {
    pub(crate) reader: Reader,
    pub(crate) now: Instant,
    pub(crate) atr: Vec<u8>,
    /// bSeq of the last command.
    seq: Seq,
}

impl Script {
    /// With a card, known and powered.
    pub(crate) fn powered(features: u32, atr: &[u8]) -> Self {
        Self::with_options(features, atr, Options::default())
    }

    pub(crate) fn with_options(features: u32, atr: &[u8], options: Options) -> Self {
        let now = Instant::from_millis(1000);
        let reader = Reader::new(class(features), options, now);
        let mut script = Self { reader, now, atr: atr.to_vec(), seq: Seq(0) };
        script.command(0x65);
        script.status(Status::success(IccStatus::PresentInactive));
        assert!(matches!(script.reader.poll_event(), Some(Event::Presence { .. })));
        script.start(Operation::PowerOn(PowerUp::Warm));
        script.command(0x62);
        let atr = script.atr.clone();
        script.data(&atr);
        assert!(matches!(script.completed(), Ok(Output::Atr(_))));
        script
    }

    pub(crate) fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.reader.start(SLOT, operation, None, self.now)
    }

    pub(crate) fn exchange(&mut self, apdu: &[u8]) -> ccid::OperationId {
        self.start(Operation::Exchange(Bytes::copy_from_slice(apdu)))
    }

    /// Its type, bytes 7 to 9, and data.
    pub(crate) fn next_message(&mut self) -> (u8, [u8; 3], Vec<u8>) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent: {:?}", self.reader.poll_event());
        };
        let message = Message::parse(&bytes).unwrap();
        self.seq = message.seq;
        (message.message_type, message.specific, message.data.to_vec())
    }

    /// The next message is of this type.
    #[track_caller]
    pub(crate) fn command(&mut self, message_type: u8) {
        let (got, _, _) = self.next_message();
        assert_eq!(got, message_type);
    }

    /// The next message is an XfrBlock with these.
    #[track_caller]
    pub(crate) fn sent(&mut self, bwi: u8, level: u16, data: &[u8]) -> &mut Self {
        let (message_type, specific, got) = self.next_message();
        let [low, high] = level.to_le_bytes();
        assert_eq!((message_type, specific, &got[..]), (0x6F, [bwi, low, high], data));
        self
    }

    pub(crate) fn answer(&mut self, response: Response<'_>) {
        self.reader.handle_message(&response.emit(SLOT, self.seq), self.now);
    }

    pub(crate) fn status(&mut self, status: Status) {
        self.answer(Response::SlotStatus { status, clock_status: ClockStatus::Running });
    }

    pub(crate) fn data(&mut self, data: &[u8]) -> &mut Self {
        let status = Status::success(IccStatus::PresentActive);
        self.answer(Response::DataBlock { status, chain: ChainParameter::Whole, data });
        self
    }

    pub(crate) fn failed(&mut self, icc: IccStatus, error: SlotError) -> &mut Self {
        let status = Status::failed(icc, error);
        self.answer(Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] });
        self
    }

    pub(crate) fn mute(&mut self) -> &mut Self {
        self.failed(IccStatus::PresentActive, SlotError::IccMute)
    }

    #[track_caller]
    pub(crate) fn completed(&mut self) -> Result<Output, Error> {
        match self.reader.poll_event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn gives(&mut self, response: &[u8]) {
        assert_eq!(self.completed(), Ok(Output::Data(Bytes::copy_from_slice(response))));
        self.quiet();
    }

    #[track_caller]
    pub(crate) fn quiet(&mut self) {
        assert_eq!(self.reader.poll_transmit(), None);
        assert_eq!(self.reader.poll_event(), None);
    }

    /// ABORT, PC_to_RDR_Abort, and the reader's success.
    #[track_caller]
    pub(crate) fn aborts(&mut self) {
        let Some(Transmit::Control { request, .. }) = self.reader.poll_transmit() else {
            panic!("no control request");
        };
        assert!(matches!(request, ClassRequest::Abort { slot: SLOT, .. }));
        self.reader.handle_control(request, None, self.now);
        self.command(0x72);
        self.status(Status::success(IccStatus::PresentActive));
    }

    #[track_caller]
    pub(crate) fn timeout(&mut self) -> Duration {
        let deadline = self.reader.poll_deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        self.reader.handle_timeout(self.now);
        waited
    }

    /// The card is powered up again.
    #[track_caller]
    pub(crate) fn reset(&mut self) {
        self.command(0x63);
        self.status(Status::success(IccStatus::PresentInactive));
        self.command(0x62);
        let atr = self.atr.clone();
        self.data(&atr);
        assert!(matches!(self.reader.poll_event(), Some(Event::CardReset { result: Ok(_), .. })));
    }
}
