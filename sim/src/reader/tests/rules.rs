//! What the reader answers to a host that breaks rules, and that it notes it.

use super::*;

const STATUS: Command<'static> = Command::GetSlotStatus;

#[test]
fn a_good_host_breaks_none() {
    let mut bench = Bench::powered(t1());
    bench.apdu(&[0x00, 0x10, 0, 0]);
    bench.ask(STATUS);
    bench.ask(Command::IccPowerOff);
    assert_eq!(bench.rules(), []);
}

#[test]
fn a_slot_that_does_not_exist() {
    let mut bench = Bench::new(t1().slots(2));
    let got = bench.ask_at(Slot(2), STATUS);
    assert_eq!((got.message_type, got.status), (0x81, [0x42, 0x05, 0]));
    let got = bench.ask_at(Slot(255), xfr(&[0; 4]));
    assert_eq!((got.message_type, got.status), (DATA_BLOCK, [0x42, 0x05, 0]));
    assert_eq!(bench.rules(), [Rule::UnknownSlot; 2]);
}

#[test]
fn a_busy_slot() {
    let mut bench = Bench::powered(t1());
    bench.send(xfr(&[0x00, 0x14, 0, 100]));
    let got = bench.ask(xfr(&[0x00, 0x10, 0, 0]));
    assert_eq!((got.message_type, got.status), (DATA_BLOCK, [0x40, 0xE0, 0]));
    assert_eq!(bench.ask(STATUS).status, [0x40, 0xE0, 0]);
    assert_eq!(bench.rules(), [Rule::SlotBusy; 2]);
    assert_eq!(bench.watch(200).len(), 1, "the command is not disturbed");
}

#[test]
fn more_busy_slots_than_the_reader_can() {
    let builder = t1().slots(3).busy_slots(1);
    let mut bench = Bench::powered(builder);
    bench.send(xfr(&[0x00, 0x14, 0, 100]));
    assert_eq!(bench.ask_at(Slot(1), STATUS).status, [0x42, 0xE0, 0]);
    assert_eq!(bench.rules(), [Rule::TooManyBusySlots]);
    bench.watch(200);
    assert_eq!(bench.ask_at(Slot(1), STATUS).status[0], 0x02);
}

#[test]
fn unknown_messages() {
    let mut bench = Bench::new(t1());
    bench.raw(&[0x60, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
    let got = bench.get();
    assert_eq!((got.message_type, got.seq, got.status), (0x81, 9, [0x41, 0x00, 0]));
    assert_eq!(bench.rules(), [Rule::Malformed(Malformed::Type(0x60))]);
}

#[test]
fn commands_that_this_reader_does_not_have() {
    let mut bench = Bench::powered(t1());
    let mechanical = Command::Mechanical { function: ccid::wire::MechanicalFunction::Eject };
    let clock = Command::IccClock { clock_command: ccid::wire::ClockCommand::Stop };
    for command in [mechanical, clock] {
        assert_eq!(bench.ask(command).status, [0x40, 0x00, 0]);
    }
    assert_eq!(bench.rules(), []);
}

#[test]
fn lengths() {
    let mut bench = Bench::powered(t1().max_message_length(271));
    // dwLength does not fit the type.
    bench.raw(&[0x73, 1, 0, 0, 0, 0, 90, 0, 0, 0, 5]);
    assert_eq!(bench.get().status, [0x40, 0x01, 0]);
    // Data where there is none: done nevertheless.
    bench.raw(&[0x65, 1, 0, 0, 0, 0, 91, 0, 0, 0, 5]);
    assert_eq!(bench.get().status, [0, 0, 0]);
    // Bytes behind the message.
    bench.raw(&[0x65, 0, 0, 0, 0, 0, 92, 0, 0, 0, 5, 6]);
    assert_eq!(bench.get().status, [0, 0, 0]);
    // Longer than the reader takes; the next message is understood.
    let long = [&[0x6F, 6, 1, 0, 0, 0, 93, 0, 0, 0][..], &[0; 262]].concat();
    bench.raw(&long);
    let got = bench.get();
    assert_eq!((got.message_type, got.seq, got.status), (DATA_BLOCK, 93, [0x40, 0x01, 0]));
    assert_eq!(bench.ask(STATUS).status, [0, 0, 0]);
    assert_eq!(
        bench.rules(),
        [
            Rule::Malformed(Malformed::Field("dwLength")),
            Rule::UnexpectedData,
            Rule::BytesBehindMessage(2),
            Rule::MessageTooLong,
        ]
    );
}

#[test]
fn reserved_bytes() {
    let mut bench = Bench::powered(t1());
    for (message_type, reserved) in [(0x65, 7), (0x62, 8), (0x6C, 9), (0x63, 9)] {
        let mut bytes = [message_type, 0, 0, 0, 0, 0, 100 + message_type, 0, 0, 0];
        bytes[reserved] = 1;
        bench.raw(&bytes);
        assert_eq!(bench.get().status[0] & 0xC0, 0);
    }
    assert_eq!(bench.rules(), [Rule::ReservedBytes; 4]);
    // wLevelParameter and bBWI are none.
    bench.reader.forget();
    bench.ask(Command::T0Apdu { changes: 3, class_get_response: 0x00, class_envelope: 0x80 });
    assert_eq!(bench.rules(), []);
}

#[test]
fn sequence_numbers() {
    let mut bench = Bench::new(t1().slots(2));
    let status = |bench: &mut Bench, slot, seq| {
        bench.raw(&STATUS.emit(Slot(slot), Seq(seq)));
        bench.get();
    };
    status(&mut bench, 0, 5);
    status(&mut bench, 1, 5);
    assert_eq!(bench.rules(), [Rule::SeqRepeated], "whatever the slot");
    bench.reader.forget();
    bench.abort_request(6);
    bench.abort_message(6);
    bench.get();
    status(&mut bench, 0, 6);
    assert_eq!(bench.rules(), [Rule::SeqOfAbortReused]);
    // A reset begins anew.
    bench.reader.forget();
    let now = bench.now();
    bench.reader.reset(now);
    status(&mut bench, 0, 6);
    assert_eq!(bench.rules(), []);
}

#[test]
fn sequence_numbers_of_running_commands() {
    let mut bench = Bench::powered(t1().slots(2));
    bench.seq = 20;
    let seq = bench.send(xfr(&[0x00, 0x14, 0, 100])).0;
    bench.ask_at(Slot(1), STATUS);
    bench.raw(&STATUS.emit(Slot(1), Seq(seq)));
    bench.get();
    assert_eq!(bench.rules(), [Rule::SeqInUse]);
    bench.reader.forget();
    bench.abort_request(seq);
    bench.abort_message(seq);
    assert_eq!(bench.get().seq, seq);
    assert_eq!(bench.rules(), [Rule::AbortWithSeqOfCommand]);
    let violation = bench.reader.violations()[0].clone();
    assert_eq!((violation.slot, violation.seq), (Some(SLOT), Some(Seq(seq))));
}

#[test]
fn requests_that_are_none() {
    let mut bench = Bench::new(t1());
    let now = bench.now();
    let mut setup = ClassRequest::Abort { slot: SLOT, seq: Seq(1) }.setup(1);
    assert_eq!(bench.reader.control(setup, &[], now), ControlReply::Stall);
    (setup.index, setup.request) = (0, 9);
    assert_eq!(bench.reader.control(setup, &[], now), ControlReply::Stall);
    assert_eq!(bench.rules(), [Rule::WrongInterface, Rule::UnknownRequest]);
}

#[test]
fn the_log() {
    let mut bench = Bench::new(t1());
    bench.wait(1500);
    bench.ask(STATUS);
    bench.abort_request(9);
    bench.reader.remove(SLOT);
    bench.notification();
    let lines: Vec<_> = bench.reader.seen().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "0.000 s slot 0: card inserted",
            "0.000 s reset",
            "1.500 s > GetSlotStatus slot 0 seq 0",
            "1.500 s < SlotStatus slot 0 seq 0 ok, card inactive, clock StoppedLow",
            "1.500 s > ABORT request slot 0 seq 9",
            "1.500 s slot 0: card removed",
            "1.500 s ! NotifySlotChange, slot 0: no card (changed)",
        ]
    );
    assert_eq!(bench.reader.seen()[2].slot, Some(SLOT));
}
