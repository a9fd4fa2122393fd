//! PIN entry where the host speaks T=1: the command goes in a block that the reader completes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use ccid::error::CardFault;
use ccid::operation::PowerUp;
use ccid::pin::{Format, PinEntry, Verification};
use ccid::t1::Failure;
use ccid::wire::{
    ChainParameter, ClockStatus, Command, IccStatus, LevelParameter, Message, Response, Seq, Slot,
    SlotError, Status,
};
use ccid::{ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit};
use std::time::Duration;

const SLOT: Slot = Slot(0);
const APDU: [u8; 4] = [0x00, 0x20, 0x00, 0x81];
/// TPDU level, automatic everything but the IFSD exchange; and that, too.
const TPDU: u32 = 0x0001_00FE;
const AUTO_IFSD: u32 = 0x0001_04FE;

struct Script {
    reader: Reader,
    now: Instant,
}

impl Script {
    /// A T=1 card is there and has power; its IFSC is 32.
    fn new(features: u32) -> Self {
        let mut bytes = [0u8; 54];
        bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
        bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
        bytes[28..32].copy_from_slice(&254u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&features.to_le_bytes());
        bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
        bytes[53] = 1;
        let class = ClassDescriptor::parse(&bytes).unwrap();
        let now = Instant::from_millis(1000);
        let mut script = Self { reader: Reader::new(class, Options::default(), now), now };
        let (seq, _) = script.next();
        let status = Status::success(IccStatus::PresentInactive);
        let answer = Response::SlotStatus { status, clock_status: ClockStatus::Running };
        script.reader.handle_message(&answer.emit(SLOT, seq), now);
        assert!(matches!(script.reader.poll_event(), Some(Event::Presence { .. })));
        script.start(Operation::PowerOn(PowerUp::Warm));
        let (seq, _) = script.next();
        script.data(seq, &[0x3B, 0x80, 0x01, 0x81]);
        assert!(matches!(script.ended(), Ok(Output::Atr(_))));
        script
    }

    fn start(&mut self, operation: Operation) {
        self.reader.start(SLOT, operation, None, self.now);
    }

    fn verify(&mut self, apdu: &[u8]) {
        let entry = PinEntry::verification(&Verification {
            format: Format {
                time_out: 30,
                format_string: 0x82,
                pin_block_string: 0,
                pin_length_format: 0,
            },
            pin_max_extra_digit: 0x0408,
            entry_validation_condition: 2,
            number_message: 1,
            lang_id: 0x0409,
            msg_index: 0,
            teo_prologue: [0xAA; 3],
            apdu,
        });
        self.start(Operation::Secure { entry, timeout: Duration::from_secs(90) });
    }

    #[track_caller]
    fn next(&mut self) -> (Seq, Bytes) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent");
        };
        (Message::parse(&bytes).unwrap().seq, bytes)
    }

    /// PC_to_RDR_Secure is sent, with this PCB in bTeoPrologue.
    #[track_caller]
    fn secure(&mut self, pcb: u8) -> Seq {
        let (seq, bytes) = self.next();
        let Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data } =
            Command::parse(&Message::parse(&bytes).unwrap()).unwrap()
        else {
            panic!("{bytes:02X?}");
        };
        assert_eq!(data[12..], [&[0, pcb, APDU.len() as u8][..], &APDU].concat());
        assert_eq!(self.reader.poll_deadline(), Some(self.now + Duration::from_secs(90)));
        seq
    }

    /// A block is sent by PC_to_RDR_XfrBlock.
    #[track_caller]
    fn block(&mut self, bwi: u8, block: &[u8]) -> Seq {
        let (seq, bytes) = self.next();
        let level_parameter = LevelParameter::WHOLE;
        let data = &with_lrc(block)[..];
        let expected = Command::XfrBlock { bwi, level_parameter, data };
        assert_eq!(Command::parse(&Message::parse(&bytes).unwrap()).unwrap(), expected);
        seq
    }

    fn data(&mut self, seq: Seq, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        let response = Response::DataBlock { status, chain: ChainParameter::Whole, data };
        self.reader.handle_message(&response.emit(SLOT, seq), self.now);
    }

    fn failed(&mut self, seq: Seq, error: SlotError) {
        let status = Status::failed(IccStatus::PresentActive, error);
        let response = Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] };
        self.reader.handle_message(&response.emit(SLOT, seq), self.now);
    }

    #[track_caller]
    fn ended(&mut self) -> Result<Output, Error> {
        match self.reader.poll_event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn ended_with(&mut self, status: [u8; 2]) {
        assert_eq!(self.ended(), Ok(Output::Data(Bytes::copy_from_slice(&status))));
    }
}

fn with_lrc(block: &[u8]) -> Vec<u8> {
    [block, &[block.iter().fold(0, |sum, byte| sum ^ byte)]].concat()
}

/// The card's I-block with SW1 SW2.
fn answer(pcb: u8, status: [u8; 2]) -> Vec<u8> {
    with_lrc(&[0, pcb, 2, status[0], status[1]])
}

#[test]
fn numbers_go_on_over_entries_and_exchanges() {
    let mut script = Script::new(AUTO_IFSD);
    script.verify(&APDU);
    let seq = script.secure(0x00);
    script.data(seq, &answer(0x00, [0x90, 0x00]));
    script.ended_with([0x90, 0x00]);
    script.start(Operation::Exchange(Bytes::copy_from_slice(&APDU)));
    let seq = script.block(0, &[&[0, 0x40, 4][..], &APDU].concat());
    script.data(seq, &answer(0x40, [0x63, 0xC3]));
    script.ended_with([0x63, 0xC3]);
    script.verify(&APDU);
    script.secure(0x00);
}

#[test]
fn ifsd_is_agreed_first() {
    let mut script = Script::new(TPDU);
    script.verify(&APDU);
    let seq = script.block(0, &[0, 0xC1, 1, 254]);
    script.data(seq, &with_lrc(&[0, 0xE1, 1, 254]));
    let seq = script.secure(0x00);
    script.data(seq, &answer(0x00, [0x90, 0x00]));
    script.ended_with([0x90, 0x00]);
}

/// The card has seen nothing: its next block has the same number.
#[test]
fn an_entry_that_the_reader_ends_itself() {
    let mut script = Script::new(AUTO_IFSD);
    for error in [SlotError::PinCancelled, SlotError::PinTimeout, SlotError::Unknown(12)] {
        script.verify(&APDU);
        let seq = script.secure(0x00);
        script.failed(seq, error);
        match script.ended() {
            Err(Error::Failed { error: got, .. }) => assert_eq!(got, error),
            other => panic!("{other:?}"),
        }
    }
    script.verify(&APDU);
    let seq = script.secure(0x00);
    script.data(seq, &[0x64, 0x02]);
    script.ended_with([0x64, 0x02]);
    script.verify(&APDU);
    script.secure(0x00);
}

#[test]
fn the_card_asks_for_time_and_its_answer_is_garbled() {
    let mut script = Script::new(AUTO_IFSD);
    script.verify(&APDU);
    let seq = script.secure(0x00);
    script.data(seq, &with_lrc(&[0, 0xC3, 1, 2]));
    let seq = script.block(2, &[0, 0xE3, 1, 2]);
    script.failed(seq, SlotError::XfrParityError);
    let seq = script.block(0, &[0, 0x81, 0]);
    script.data(seq, &answer(0x00, [0x90, 0x00]));
    script.ended_with([0x90, 0x00]);
}

/// What was sent had the PIN in it; the template without it would cost the user a try.
#[test]
fn the_template_never_goes_to_the_card() {
    // Asked for by R(0); or to go again after S(RESYNCH).
    let mut script = Script::new(AUTO_IFSD);
    script.verify(&APDU);
    let seq = script.secure(0x00);
    script.data(seq, &with_lrc(&[0, 0x80, 0]));
    let out_of_step = Err(Error::Card(CardFault::T1(Failure::OutOfStep)));
    assert_eq!(script.ended(), out_of_step);
    assert_eq!(script.reader.poll_transmit(), None);
    // The next one begins anew.
    script.verify(&APDU);
    let seq = script.block(0, &[0, 0xC0, 0]);
    script.data(seq, &with_lrc(&[0, 0xE0, 0]));
    let mut seq = script.secure(0x00);
    loop {
        script.failed(seq, SlotError::IccMute);
        let Some(Transmit::BulkOut(bytes)) = script.reader.poll_transmit() else { break };
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.message_type, 0x6F);
        assert_ne!(message.data[1] & 0x80, 0, "an I-block: {bytes:02X?}");
        if message.data[1] == 0xC0 {
            // The card can do that much.
            script.data(message.seq, &with_lrc(&[0, 0xE0, 0]));
            break;
        }
        seq = message.seq;
    }
    assert_eq!(script.ended(), out_of_step);
    assert_eq!(script.reader.poll_transmit(), None);
}

#[test]
fn a_command_that_takes_more_than_one_block() {
    let mut script = Script::new(AUTO_IFSD);
    script.verify(&[0; 33]);
    assert_eq!(script.ended(), Err(Error::TooLong { length: 33, limit: 32 }));
    assert_eq!(script.reader.poll_transmit(), None);
}
