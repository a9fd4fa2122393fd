//! What follows an Abort where the host speaks T=1: S(RESYNCH), and a reset only if that fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "host/mod.rs"]
mod host;

use ccid::wire::{IccStatus, SlotError, Status};
use ccid::{Error, Event, Transmit};
use host::{A0, A1, APDU, CHARACTER, I0, I1, OK, RESYNCH, RESYNCHED, SLOT, Script, T1_ATR, TPDU};
use std::time::Duration;

/// After an aborted command the card answers S(RESYNCH): it keeps its state, and its handles.
#[test]
fn a_cancelled_command_leaves_the_card_as_it_was() {
    for features in [TPDU, CHARACTER] {
        let level = if features == TPDU { 0 } else { 3 };
        let mut script = Script::powered(features, &T1_ATR);
        let id = script.exchange(&APDU);
        script.sent(0, level, &I0);
        let waiting = script.exchange(&APDU);
        script.reader.cancel(id, script.now);
        script.aborts();
        assert_eq!(script.reader.poll_event(), None, "it ends when the card is back in step");
        script.sent(0, level, &RESYNCH);
        if features == CHARACTER {
            script.data(&RESYNCHED[..3]).sent(0, 1, &[]).data(&RESYNCHED[3..]);
        } else {
            script.data(&RESYNCHED);
        }
        assert_eq!(script.completed(), Err(Error::Cancelled));
        assert_eq!(script.reader.poll_event(), None, "no CardLost");
        // What waited goes on with the same card.
        script.sent(0, level, &I0).data(&A0);
        let event = script.reader.poll_event();
        assert!(
            matches!(event, Some(Event::Completed { id, result: Ok(_), .. }) if id == waiting),
            "{event:?}"
        );
        assert!(script.reader.is_powered(SLOT));
    }
}

/// The card does not answer S(RESYNCH): it is lost and reset, as told before the end.
#[test]
fn a_card_that_is_not_resynchronised_is_reset() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.aborts();
    for _ in 0..3 {
        script.sent(0, 0, &RESYNCH).mute();
    }
    let lost = Event::CardLost { slot: SLOT, reset_follows: true };
    assert_eq!(script.reader.poll_event(), Some(lost));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.reset();
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

/// Nor does the reader: the cancelled operation ends within the bound, the rest goes on behind it.
#[test]
fn a_reader_that_drops_the_resynchronisation_is_aborted_again() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    let began = script.now;
    script.reader.cancel(id, script.now);
    script.aborts();
    script.sent(0, 0, &RESYNCH);
    // It is still the caller's, and can be cancelled as often as he likes.
    script.reader.cancel(id, script.now);
    script.quiet();
    script.timeout();
    assert!(script.now - began <= Duration::from_secs(1));
    let lost = Event::CardLost { slot: SLOT, reset_follows: true };
    assert_eq!(script.reader.poll_event(), Some(lost));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.aborts();
    script.reset();
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

/// And if the second Abort is not answered either, recovery brings slot and card back.
#[test]
fn a_reader_that_answers_nothing_to_the_resynchronisation() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.aborts();
    script.sent(0, 0, &RESYNCH);
    script.timeout();
    assert!(matches!(script.reader.poll_event(), Some(Event::CardLost { .. })));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert!(matches!(script.reader.poll_transmit(), Some(Transmit::Control { .. })));
    script.timeout();
    assert_eq!(script.reader.poll_transmit(), Some(Transmit::Recover));
    script.reader.handle_recovered(script.now);
    script.command(0x65);
    script.status(Status::success(IccStatus::PresentActive));
    script.reset();
    script.quiet();
}

#[test]
fn a_transfer_error_in_the_resynchronisation_resets_the_card() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.aborts();
    script.sent(0, 0, &RESYNCH);
    script.reader.handle_transfer_error(script.now);
    let lost = Event::CardLost { slot: SLOT, reset_follows: true };
    assert_eq!(script.reader.poll_event(), Some(lost));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert_eq!(script.reader.poll_transmit(), Some(Transmit::Recover));
    script.reader.handle_recovered(script.now);
    script.command(0x65);
    script.status(Status::success(IccStatus::PresentActive));
    script.reset();
}

#[test]
fn a_card_taken_out_during_the_resynchronisation() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.aborts();
    script.sent(0, 0, &RESYNCH).failed(IccStatus::NotPresent, SlotError::IccMute);
    let gone = Event::Presence { slot: SLOT, present: false };
    assert_eq!(script.reader.poll_event(), Some(gone));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.quiet();
}

#[test]
fn a_reader_gone_during_the_resynchronisation() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.aborts();
    script.sent(0, 0, &RESYNCH);
    script.reader.handle_gone(&Error::Disconnected);
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.quiet();
}

/// CMD_ABORTED that nobody asked for: the same.
#[test]
fn a_command_aborted_by_the_reader_is_followed_by_a_resynchronisation() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).failed(IccStatus::PresentActive, SlotError::CmdAborted);
    script.sent(0, 0, &RESYNCH).data(&RESYNCHED);
    let error = script.completed();
    assert!(matches!(error, Err(Error::Failed { error: SlotError::CmdAborted, .. })), "{error:?}");
    script.quiet();
}

/// A command that never left needs no S(RESYNCH).
#[test]
fn a_command_withdrawn_in_time_leaves_the_numbers_alone() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
    let id = script.exchange(&APDU);
    script.reader.cancel(id, script.now);
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.quiet();
    script.exchange(&APDU);
    script.sent(0, 0, &I1).data(&A1).gives(&OK);
}

/// The answer beats the Abort: it is delivered, and no block is lost.
#[test]
fn an_answer_that_beats_the_abort_keeps_the_numbers() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let id = script.exchange(&APDU);
    script.sent(0, 0, &I0);
    script.reader.cancel(id, script.now);
    script.data(&A0);
    script.aborts();
    script.gives(&OK);
    script.exchange(&APDU);
    script.sent(0, 0, &I1).data(&A1).gives(&OK);
}
