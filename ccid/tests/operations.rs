//! PIN entry, clock, GET RESPONSE classes, mechanics: each operation as a script of bytes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use ccid::descriptor::{Features, Mechanical};
use ccid::error::Unsupported;
use ccid::operation::PowerUp;
use ccid::pin::{Format, PinEntry, Verification};
use ccid::wire::{
    ChainParameter, ClockCommand, ClockStatus, Command, IccStatus, LevelParameter,
    MechanicalFunction, Message, Response, Seq, Slot, SlotError, Status,
};
use ccid::{ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit};
use std::time::Duration;

const SLOT: Slot = Slot(0);

/// Automatic everything but clock stop, extended APDU level.
const EXTENDED: u32 = 0x0004_04FE;
const TPDU: u32 = 0x0001_04FE;

fn class(features: u32, mechanical: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
    bytes[36..40].copy_from_slice(&mechanical.to_le_bytes());
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
    bytes[53] = 1;
    ClassDescriptor::parse(&bytes).unwrap()
}

struct Script {
    reader: Reader,
    now: Instant,
}

impl Script {
    /// A card is there, without power.
    fn new(class: ClassDescriptor) -> Self {
        let now = Instant::from_millis(1000);
        let mut script = Self { reader: Reader::new(class, Options::default(), now), now };
        let seq = script.sent(Command::GetSlotStatus);
        script.status(seq, Status::success(IccStatus::PresentInactive));
        assert!(matches!(script.reader.poll_event(), Some(Event::Presence { .. })));
        script
    }

    fn powered(class: ClassDescriptor) -> Self {
        let mut script = Self::new(class);
        script.start(Operation::PowerOn(PowerUp::Warm));
        let (seq, _) = script.next();
        script.data(seq, &[0x3B, 0x02, 0x41, 0x42]);
        assert!(matches!(script.ended(), Ok(Output::Atr(_))));
        script
    }

    fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.reader.start(SLOT, operation, None, self.now)
    }

    #[track_caller]
    fn next(&mut self) -> (Seq, Bytes) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent");
        };
        (Message::parse(&bytes).unwrap().seq, bytes)
    }

    #[track_caller]
    fn sent(&mut self, command: Command<'_>) -> Seq {
        let (seq, bytes) = self.next();
        assert_eq!(Command::parse(&Message::parse(&bytes).unwrap()).unwrap(), command);
        seq
    }

    fn status(&mut self, seq: Seq, status: Status) {
        let response = Response::SlotStatus { status, clock_status: ClockStatus::StoppedLow };
        self.reader.handle_message(&response.emit(SLOT, seq), self.now);
    }

    fn data(&mut self, seq: Seq, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        let response = Response::DataBlock { status, chain: ChainParameter::Whole, data };
        self.reader.handle_message(&response.emit(SLOT, seq), self.now);
    }

    #[track_caller]
    fn ended(&mut self) -> Result<Output, Error> {
        match self.reader.poll_event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Ends without a command.
    #[track_caller]
    fn refused(&mut self, operation: Operation) -> Error {
        self.start(operation);
        assert_eq!(self.reader.poll_transmit(), None);
        self.ended().unwrap_err()
    }

    /// Time passes to the deadline.
    fn wait(&mut self) -> Duration {
        let deadline = self.reader.poll_deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        self.reader.handle_timeout(self.now);
        waited
    }
}

fn entry() -> PinEntry {
    PinEntry::verification(&Verification {
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
        teo_prologue: [0; 3],
        apdu: &[0x00, 0x20, 0x00, 0x81],
    })
}

fn secure(entry: PinEntry) -> Operation {
    Operation::Secure { entry, timeout: Duration::from_secs(90) }
}

fn secure_command(data: &[u8]) -> Command<'_> {
    Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data }
}

#[test]
fn a_pin_entry_gives_the_cards_answer() {
    let mut script = Script::powered(class(EXTENDED, 0));
    script.start(secure(entry()));
    let seq = script.sent(secure_command(entry().data()));
    assert_eq!(script.reader.poll_deadline(), Some(script.now + Duration::from_secs(90)));
    script.data(seq, &[0x63, 0xC2]);
    assert_eq!(script.ended(), Ok(Output::Data(Bytes::from_static(&[0x63, 0xC2]))));
    // An answer without SW1 SW2 is none.
    script.start(secure(entry()));
    let seq = script.sent(secure_command(entry().data()));
    script.data(seq, &[0x90]);
    assert!(matches!(script.ended(), Err(Error::Misbehaved { .. })));
}

#[test]
fn an_escape_command_comes_first_and_its_answer_does_not_matter() {
    let escape: &[u8] = &[0x80, 0x02, 0x00];
    let status = Status::failed(IccStatus::PresentActive, SlotError::CmdNotSupported);
    for answer in [
        Response::Escape { status, data: &[] },
        Response::Escape { status: Status::success(IccStatus::PresentActive), data: &[1] },
    ] {
        let mut script = Script::powered(class(EXTENDED, 0));
        script.start(secure(entry().after_escape(Bytes::from_static(escape))));
        let first = script.sent(Command::Escape { data: escape });
        script.reader.handle_message(&answer.emit(SLOT, first), script.now);
        let seq = script.sent(secure_command(entry().data()));
        assert_ne!(seq, first);
        script.data(seq, &[0x90, 0x00]);
        assert!(script.ended().is_ok());
    }
}

#[test]
fn a_pause_comes_first_and_can_be_cancelled() {
    let pause = Duration::from_millis(250);
    let mut script = Script::powered(class(EXTENDED, 0));
    script.start(secure(entry().after_pause(pause)));
    assert_eq!(script.reader.poll_transmit(), None);
    assert_eq!(script.wait(), pause);
    let seq = script.sent(secure_command(entry().data()));
    script.data(seq, &[0x90, 0x00]);
    assert!(script.ended().is_ok());
    let id = script.start(secure(entry().after_pause(pause)));
    script.reader.cancel(id, script.now);
    assert_eq!(script.ended(), Err(Error::Cancelled));
    assert_eq!(script.reader.poll_transmit(), None);
    // The card is what it was.
    assert!(script.reader.is_powered(SLOT));
}

#[test]
fn a_pin_entry_needs_power_and_room() {
    let mut script = Script::new(class(EXTENDED, 0));
    assert_eq!(script.refused(secure(entry())), Error::NotPowered);
    let mut script = Script::powered(class(EXTENDED, 0));
    let long = entry().after_escape(Bytes::from(vec![0; 262]));
    assert_eq!(script.refused(secure(long)), Error::TooLong { length: 262, limit: 261 });
}

#[test]
fn the_clock_is_stopped_where_the_reader_can() {
    let mut script = Script::powered(class(EXTENDED | Features::CLOCK_STOP.bits(), 0));
    script.start(Operation::IccClock(ClockCommand::Stop));
    let seq = script.sent(Command::IccClock { clock_command: ClockCommand::Stop });
    script.status(seq, Status::success(IccStatus::PresentActive));
    assert_eq!(script.ended(), Ok(Output::Clock(ClockStatus::StoppedLow)));
    let unknown = Operation::IccClock(ClockCommand::Unknown(2));
    let unsupported = Error::Unsupported(Unsupported::Command(0x6E));
    assert_eq!(script.refused(unknown), unsupported);
    let mut script = Script::powered(class(EXTENDED, 0));
    assert_eq!(script.refused(Operation::IccClock(ClockCommand::Stop)), unsupported);
    let mut script = Script::new(class(EXTENDED | Features::CLOCK_STOP.bits(), 0));
    assert_eq!(script.refused(Operation::IccClock(ClockCommand::Restart)), Error::NotPowered);
}

#[test]
fn classes_of_get_response_and_envelope() {
    let mut script = Script::powered(class(EXTENDED, 0));
    for (get_response, envelope, changes) in
        [(None, None, 0), (Some(0xC0), None, 1), (None, Some(0xC2), 2), (Some(1), Some(2), 3)]
    {
        script.start(Operation::T0Apdu { get_response, envelope });
        let seq = script.sent(Command::T0Apdu {
            changes,
            class_get_response: get_response.unwrap_or(0),
            class_envelope: envelope.unwrap_or(0),
        });
        script.status(seq, Status::success(IccStatus::PresentActive));
        assert_eq!(script.ended(), Ok(Output::Done));
    }
    let mut script = Script::powered(class(TPDU, 0));
    let operation = Operation::T0Apdu { get_response: None, envelope: None };
    assert_eq!(script.refused(operation), Error::Unsupported(Unsupported::Command(0x6A)));
}

#[test]
fn mechanical_functions_are_those_of_the_descriptor() {
    use MechanicalFunction::{Accept, Capture, Eject, Lock, Unknown, Unlock};
    let all = [
        (Accept, Mechanical::ACCEPT),
        (Eject, Mechanical::EJECT),
        (Capture, Mechanical::CAPTURE),
        (Lock, Mechanical::LOCK),
        (Unlock, Mechanical::LOCK),
    ];
    for (function, bit) in all {
        let mut script = Script::powered(class(EXTENDED, bit.bits()));
        script.start(Operation::Mechanical(function));
        let seq = script.sent(Command::Mechanical { function });
        script.status(seq, Status::success(IccStatus::PresentActive));
        assert_eq!(script.ended(), Ok(Output::Done));
        let has_power = !matches!(function, Eject | Capture);
        assert_eq!(script.reader.is_powered(SLOT), has_power, "{function:?}");
        let others = Mechanical::all().difference(bit).bits() & 0x0F;
        let mut script = Script::powered(class(EXTENDED, others));
        let unsupported = Error::Unsupported(Unsupported::Mechanical(function));
        assert_eq!(script.refused(Operation::Mechanical(function)), unsupported);
    }
    let mut script = Script::powered(class(EXTENDED, 0x0F));
    let unsupported = Error::Unsupported(Unsupported::Mechanical(Unknown(6)));
    assert_eq!(script.refused(Operation::Mechanical(Unknown(6))), unsupported);
}

/// The card goes while the reader hands it out: that is what was asked for.
#[test]
fn an_ejected_card_may_go() {
    let mut script = Script::powered(class(EXTENDED, 0x02));
    script.start(Operation::Mechanical(MechanicalFunction::Eject));
    let (seq, _) = script.next();
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    assert!(matches!(script.reader.poll_event(), Some(Event::Presence { present: false, .. })));
    assert_eq!(script.reader.poll_event(), None);
    script.status(seq, Status::success(IccStatus::NotPresent));
    assert_eq!(script.ended(), Ok(Output::Done));
}

#[test]
fn nothing_of_the_data_is_shown() {
    let operation = secure(entry());
    assert_eq!(format!("{operation:?}"), "Secure(PinEntry(19 bytes))");
}
