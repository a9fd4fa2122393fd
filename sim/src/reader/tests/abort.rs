//! The Abort sequence, and every way in which it is misanswered.

use super::*;
use std::time::Duration;

const NEVER: [u8; 4] = [0x00, 0x16, 0, 0];
const ECHO: [u8; 4] = [0x00, 0x10, 0, 0];
const OK: ControlReply = ControlReply::Data(Bytes::new());
const SLOT_STATUS: u8 = 0x81;

/// bStatus and bError of a command that was aborted.
const ABORTED: [u8; 2] = [0x40, 0xFF];

/// A slot that is busy with a command; its sequence number, and one for the Abort.
fn busy(builder: ReaderBuilder, apdu: &[u8]) -> (Bench, u8, u8) {
    let mut bench = Bench::powered(builder);
    let seq = bench.send(xfr(apdu)).0;
    assert_eq!(bench.poll(), None);
    bench.seq += 1;
    (bench, seq, seq + 1)
}

fn short(got: &Got) -> (u8, u8, [u8; 2]) {
    (got.message_type, got.seq, [got.status[0], got.status[1]])
}

fn all(bench: &mut Bench) -> Vec<(u8, u8, [u8; 2])> {
    std::iter::from_fn(|| bench.poll()).map(|got| short(&got)).collect()
}

/// Request and message, in this order.
fn abort(bench: &mut Bench, seq: u8) {
    assert_eq!(bench.abort_request(seq), OK);
    bench.abort_message(seq);
}

#[test]
fn conforming() {
    let (mut bench, seq, fresh) = busy(t1(), &NEVER);
    assert_eq!(bench.abort_request(fresh), OK);
    assert_eq!(bench.poll(), None, "the pair is not complete");
    bench.abort_message(fresh);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
    assert_eq!(bench.rules(), []);
    // The slot takes commands; the card was in the middle of something and needs a reset.
    assert_eq!(bench.ask(Command::GetSlotStatus).status, [0, 0, 0]);
    bench.send(xfr(&ECHO));
    assert_eq!(bench.watch(1000)[0].1.status, [0x40, 0xFE, 0]);
    bench.ask(POWER_ON);
    assert_eq!(bench.apdu(&ECHO), [0x90, 0x00]);
}

#[test]
fn the_aborted_answer_never_comes_later() {
    let (mut bench, _, fresh) = busy(t1(), &[0x00, 0x14, 0x01, 0x00]);
    abort(&mut bench, fresh);
    assert_eq!(bench.watch(10_000).len(), 2);
    assert_eq!(bench.apdu(&ECHO), [0x90, 0x00], "this card had heard all of the command");
}

#[test]
fn the_message_may_come_first() {
    let (mut bench, seq, fresh) = busy(t1(), &NEVER);
    bench.abort_message(fresh);
    assert_eq!(bench.watch(10_000), [], "the answer is held back");
    assert_eq!(bench.abort_request(fresh), OK);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
    assert_eq!(bench.rules(), []);
}

#[test]
fn a_held_message_does_not_stop_the_command() {
    let (mut bench, seq, fresh) = busy(t1(), &[0x00, 0x14, 0x01, 0x00]);
    bench.abort_message(fresh);
    let got = bench.watch(300);
    assert_eq!(short(&got[0].1), (DATA_BLOCK, seq, [0, 0]));
    assert_eq!(bench.abort_request(fresh), OK);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, fresh, [0, 0])]);
}

#[test]
fn commands_in_between_fail() {
    for message_first in [false, true] {
        let (mut bench, seq, fresh) = busy(t1(), &NEVER);
        if message_first {
            bench.abort_message(fresh);
        } else {
            bench.abort_request(fresh);
        }
        let between = bench.send(Command::GetSlotStatus).0;
        assert_eq!(all(&mut bench), [(SLOT_STATUS, between, ABORTED)]);
        let between = bench.send(xfr(&ECHO)).0;
        assert_eq!(all(&mut bench), [(DATA_BLOCK, between, ABORTED)]);
        if message_first {
            bench.abort_request(fresh);
        } else {
            bench.abort_message(fresh);
        }
        assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
        assert_eq!(bench.rules(), [Rule::CommandWhileAborting; 2]);
    }
}

#[test]
fn nothing_to_abort() {
    let mut bench = Bench::powered(t1());
    abort(&mut bench, 77);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, 77, [0, 0])]);
    let mut empty = Bench::new(Reader::builder());
    abort(&mut empty, 77);
    assert_eq!(all(&mut empty), [(SLOT_STATUS, 77, [2, 0])]);
}

#[test]
fn other_slots_are_not_touched() {
    let builder = t1().slots(2).card(Slot(1), FileCard::t1());
    let mut bench = Bench::powered(builder);
    bench.ask_at(Slot(1), POWER_ON);
    let other = bench.send_to(Slot(1), xfr(&[0x00, 0x14, 0x01, 0x00])).0;
    let seq = bench.send(xfr(&NEVER)).0;
    abort(&mut bench, 99);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, 99, [0, 0])]);
    let got = bench.watch(1000);
    assert_eq!((got.len(), got[0].1.slot), (1, 1));
    assert_eq!(short(&got[0].1), (DATA_BLOCK, other, [0, 0]));
}

#[test]
fn every_command_that_takes_time_can_be_aborted() {
    // Power-up.
    let card = FileCard::t1().power_up(crate::card::Pace::Never);
    let mut bench = Bench::new(Reader::builder().card(SLOT, card));
    let seq = bench.send(POWER_ON).0;
    abort(&mut bench, 50);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, [0x41, 0xFF]), (SLOT_STATUS, 50, [1, 0])]);
    // Escape.
    let mut bench = Bench::powered(t1());
    let seq = bench.send(Command::Escape { data: &[0x04] }).0;
    abort(&mut bench, 50);
    assert_eq!(all(&mut bench), [(ESCAPE, seq, ABORTED), (SLOT_STATUS, 50, [0, 0])]);
    // Half an APDU.
    bench.ask(xfr_part(LevelParameter::BEGIN, &[0x00]));
    abort(&mut bench, 51);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, 51, [0, 0])]);
    assert_eq!(bench.apdu(&ECHO), [0x90, 0x00]);
}

#[test]
fn an_aborted_command_asks_for_no_more_time() {
    let builder = t1().busy_extension(Duration::from_millis(10), 1);
    let (mut bench, _, fresh) = busy(builder, &[0x00, 0x18, 9, 1]);
    assert_eq!(bench.abort_request(fresh), OK);
    assert_eq!(bench.watch(1000), []);
    assert_eq!(bench.reader.poll_deadline(), None);
}

#[test]
fn when_the_aborted_command_is_answered() {
    let (mut bench, seq, fresh) = busy(t1().pending_answer(PendingAnswer::AtRequest), &NEVER);
    bench.abort_request(fresh);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED)]);
    bench.abort_message(fresh);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, fresh, [0, 0])]);
    let (mut bench, _, fresh) = busy(t1().pending_answer(PendingAnswer::Never), &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, fresh, [0, 0])]);
    assert!(!bench.reader.is_busy(SLOT));
}

/// The behaviours under which the command goes on: what the request and the message get.
#[test]
fn aborts_that_change_nothing() {
    for (behaviour, request, message) in [
        (AbortBehaviour::StallsRequest, ControlReply::Stall, Some([0x40, 0x00])),
        (AbortBehaviour::NotSupported, OK, Some([0x40, 0x00])),
        (AbortBehaviour::NotAborted(0xC0), OK, Some([0x40, 0xC0])),
        (AbortBehaviour::Ignored, OK, None),
    ] {
        let builder = t1().abort(behaviour);
        let (mut bench, seq, fresh) = busy(builder, &[0x00, 0x14, 0x01, 0x00]);
        assert_eq!(bench.abort_request(fresh), request, "{behaviour:?}");
        bench.abort_message(fresh);
        let expected: Vec<_> =
            message.map(|status| (SLOT_STATUS, fresh, status)).into_iter().collect();
        assert_eq!(all(&mut bench), expected, "{behaviour:?}");
        assert!(bench.reader.is_busy(SLOT));
        let late = bench.watch(1000);
        assert_eq!(short(&late[0].1), (DATA_BLOCK, seq, [0, 0]), "{behaviour:?}");
    }
}

#[test]
fn abort_without_an_answer() {
    let (mut bench, seq, fresh) = busy(t1().abort(AbortBehaviour::NoSlotStatus), &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED)]);
    assert_eq!(bench.watch(10_000), []);
    assert_eq!(bench.ask(Command::GetSlotStatus).status, [0, 0, 0]);
    let (mut bench, _, fresh) = busy(t1().abort(AbortBehaviour::Silent), &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(bench.watch(10_000), []);
    assert_eq!(bench.ask(Command::GetSlotStatus).status, [0, 0, 0]);
}

#[test]
fn ignored_the_slot_stays_busy() {
    let (mut bench, _, fresh) = busy(t1().abort(AbortBehaviour::Ignored), &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(bench.ask(Command::GetSlotStatus).status, [0x40, 0xE0, 0]);
}

#[test]
fn completes_normally() {
    // On T=0 the real answer takes several TPDUs, each of them slow.
    let slow = crate::card::Pace::After(Duration::from_secs(5));
    let card = FileCard::t0().pace(0xB0, slow);
    let builder = Reader::builder().card(SLOT, card);
    let mut bench = Bench::powered(builder.abort(AbortBehaviour::CompletesNormally));
    bench.apdu(&[0x00, 0xA4, 0, 0x0C, 2, 0x2F, 0x00]);
    let seq = bench.send(xfr(&[0x00, 0xB0, 0, 0, 0])).0;
    assert_eq!(bench.poll(), None);
    abort(&mut bench, 99);
    let real = bench.get();
    assert_eq!(short(&real), (DATA_BLOCK, seq, [0, 0]));
    assert_eq!((real.data.len(), &real.data[18..]), (20, &[0x90, 0x00][..]));
    assert_eq!(all(&mut bench), [(SLOT_STATUS, 99, [0, 0])]);
    assert_eq!(bench.watch(20_000), []);
}

#[test]
fn a_pin_entry_has_no_answer_to_complete_with() {
    let builder = super::pin::pinpad().abort(AbortBehaviour::CompletesNormally);
    let mut bench = Bench::powered(builder);
    let seq = bench.send(super::pin::verify(&super::pin::fields())).0;
    abort(&mut bench, 99);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, 99, [0, 0])]);
    assert!(!bench.reader.awaits_pin(SLOT));
}

#[test]
fn late_answers() {
    let delay = Duration::from_millis(50);
    for (behaviour, late) in
        [(AbortBehaviour::LateFailure(delay), ABORTED), (AbortBehaviour::LateAnswer(delay), [0, 0])]
    {
        let (mut bench, seq, fresh) = busy(t1().abort(behaviour), &[0x00, 0x14, 0x40, 0x00]);
        abort(&mut bench, fresh);
        assert_eq!(all(&mut bench), [(SLOT_STATUS, fresh, [0, 0])]);
        // The next command has its answer before the late one comes.
        assert_eq!(bench.apdu(&ECHO), [0x90, 0x00]);
        let got = bench.watch(1000);
        assert_eq!((got.len(), got[0].0), (1, 50));
        assert_eq!(short(&got[0].1), (DATA_BLOCK, seq, late));
    }
}

#[test]
fn unasked() {
    let behaviour = AbortBehaviour::Unasked(Duration::from_millis(200));
    let (mut bench, seq, _) = busy(t1().abort(behaviour), &NEVER);
    let got = bench.watch(1000);
    assert_eq!((got.len(), got[0].0), (1, 200));
    assert_eq!(short(&got[0].1), (DATA_BLOCK, seq, ABORTED));
    let (mut bench, seq, fresh) = busy(t1().abort(behaviour), &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
}

#[test]
fn a_held_abort_may_be_dropped() {
    let mut bench = Bench::powered(t1().abort(AbortBehaviour::DropsHeldAbort));
    bench.abort_message(50);
    assert_eq!(bench.ask(Command::GetSlotStatus).status, [0, 0, 0]);
    assert_eq!(bench.abort_request(50), OK);
    assert_eq!(all(&mut bench), []);
    bench.abort_message(50);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, 50, [0, 0])]);
}

#[test]
fn failures_as_slot_status() {
    let builder = t1().failure_message(FailureMessage::SlotStatus);
    let (mut bench, seq, fresh) = busy(builder, &NEVER);
    abort(&mut bench, fresh);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
}

#[test]
fn numbers_that_do_not_match() {
    let (mut bench, seq, fresh) = busy(t1(), &NEVER);
    bench.abort_request(fresh);
    bench.abort_message(fresh + 1);
    assert_eq!(all(&mut bench), [(SLOT_STATUS, fresh + 1, ABORTED)]);
    bench.abort_message(fresh);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh, [0, 0])]);
    assert_eq!(bench.rules(), [Rule::AbortSeqMismatch]);
    // The other way round: the held one is lost, the newer request waits for its message.
    let (mut bench, seq, fresh) = busy(t1(), &NEVER);
    bench.abort_message(fresh);
    bench.abort_request(fresh + 1);
    assert_eq!(all(&mut bench), []);
    bench.abort_message(fresh + 1);
    assert_eq!(all(&mut bench), [(DATA_BLOCK, seq, ABORTED), (SLOT_STATUS, fresh + 1, [0, 0])]);
    assert_eq!(bench.rules(), [Rule::AbortSeqMismatch]);
}

#[test]
fn a_slot_that_does_not_exist() {
    let mut bench = Bench::new(t1());
    let request = ClassRequest::Abort { slot: Slot(3), seq: Seq(1) };
    assert_eq!(bench.control(request), ControlReply::Stall);
    bench.raw(&Command::Abort.emit(Slot(3), Seq(1)));
    assert_eq!(all(&mut bench), [(SLOT_STATUS, 1, [0x42, 0x05])]);
    assert_eq!(bench.rules(), [Rule::UnknownSlot; 2]);
}

#[test]
fn a_reset_forgets_an_abort() {
    let (mut bench, _, fresh) = busy(t1(), &NEVER);
    bench.abort_request(fresh);
    let now = bench.now();
    bench.reader.reset(now);
    assert_eq!(bench.ask(POWER_ON).status, [0, 0, 0]);
}
