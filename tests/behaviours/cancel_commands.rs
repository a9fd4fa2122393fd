//! Cases 54 to 65: cancel, and calls that wait for their turn or for the reader.

use crate::common::{Bench, run, until};
use crate::fixture::{
    ECHO, ECHOED, NEVER, PROMPT, SLOT, bench, both_devices, busy, connect, echo, exchange,
    instructions, no_violations, one, outstanding, slow, waiting,
};
use ifd::features::VERIFY_PIN_DIRECT;
use scard::{Card, Context, Disposition, Error, Protocols, ShareMode, State};
use sim::Reader;
use sim::card::FileCard;
use sim::reader::Key;
use std::time::Instant;

#[test]
fn case_054_a_queued_transaction_is_cancelled() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut held = bench.connect(&b);
    let mut queued = bench.connect(&a);
    let transaction = held.transaction().unwrap();
    for _ in 0..3 {
        let waiting = run(move || (queued.transaction().map(drop), queued));
        outstanding(&a, 1);
        a.cancel().unwrap();
        let (result, card) = waiting.join();
        assert_eq!(result, Err(Error::Cancelled));
        queued = card;
        assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED, "the other's is untouched");
    }
    // It can queue again, and gets its turn.
    let waiting = run(move || queued.transaction().map(drop));
    outstanding(&a, 1);
    transaction.end(Disposition::LeaveCard).unwrap();
    assert_eq!(waiting.join(), Ok(()));
}

#[test]
fn case_055_a_queued_connect_is_cancelled_and_leaves_no_handle() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut held = bench.connect(&b);
    let transaction = held.transaction().unwrap();
    let reader = bench.reader();
    let waiting = run({
        let (a, reader) = (a.clone(), reader.clone());
        move || connect(&a, &reader, ShareMode::Shared).map(drop)
    });
    outstanding(&a, 1);
    a.cancel().unwrap();
    assert_eq!(waiting.join(), Err(Error::Cancelled));
    transaction.end(Disposition::LeaveCard).unwrap();
    drop(held);
    assert!(connect(&b, &reader, ShareMode::Exclusive).is_ok(), "nobody else has a share");
}

#[test]
fn case_056_so_are_reconnect_status_and_transmit() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let held = bench.connect(&b);
    let mut card = bench.connect(&a);
    held.begin_transaction().unwrap();
    type Action = fn(&mut Card) -> Result<(), Error>;
    let actions: [Action; 4] = [
        |card| card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::ResetCard),
        |card| card.status2_owned().map(drop),
        |card| exchange(card, &echo(1).0).map(drop),
        |card| card.begin_transaction(),
    ];
    bench.port.with(Reader::forget);
    for action in actions {
        let waiting = run(move || (action(&mut card), card));
        outstanding(&a, 1);
        a.cancel().unwrap();
        let (result, back) = waiting.join();
        assert_eq!(result, Err(Error::Cancelled));
        card = back;
    }
    assert_eq!(exchange(&held, &ECHO).unwrap(), ECHOED, "and the card was not reset");
    held.end_transaction(Disposition::LeaveCard).unwrap();
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    assert_eq!(instructions(&bench), [0x10, 0x10], "nothing else was sent");
    no_violations(&bench);
}

#[test]
fn case_057_a_running_command_is_aborted() {
    for (name, bench) in both_devices() {
        let context = bench.context();
        let mut card = bench.connect(&context);
        for _ in 0..3 {
            bench.port.with(|device| device.forget());
            let transmit = run(move || (card.transmit_owned(&NEVER, None), card));
            until("the card has the command", || bench.port.with(|d| d.has_sent(NEVER[1])));
            let began = Instant::now();
            context.cancel().unwrap();
            let (result, back) = transmit.join();
            assert_eq!(result, Err(Error::Cancelled), "{name}");
            assert!(began.elapsed() < PROMPT, "{name}");
            let (requests, messages) = bench.port.with(|device| device.aborts());
            assert_eq!((requests.len(), &requests), (1, &messages), "{name}: same slot and bSeq");
            card = back;
            assert_eq!(exchange(&card, &ECHO), Err(Error::ResetCard), "{name}");
            card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
            assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED, "{name}");
        }
    }
}

#[test]
fn case_058_an_answer_that_comes_with_the_cancel_is_nobody_elses() {
    for (name, bench) in both_devices() {
        let rounds = if name == "simulated" { 1000 } else { 200 };
        let context = bench.context();
        let mut card = bench.connect(&context);
        for round in 0..rounds {
            let (command, expected) = echo(round);
            let transmit = run(move || (exchange(&card, &command), card));
            while context.outstanding_calls() == Ok(0) && !transmit.is_finished() {
                std::hint::spin_loop();
            }
            context.cancel().unwrap();
            let (result, back) = transmit.join();
            card = back;
            match result {
                Ok(response) => assert_eq!(response, expected, "{name}, {round}"),
                Err(error) => assert_eq!(error, Error::Cancelled, "{name}, {round}"),
            }
            let (command, expected) = echo(round + 1_000_000);
            match exchange(&card, &command) {
                Err(Error::ResetCard) => {
                    let leave = Disposition::LeaveCard;
                    card.reconnect(ShareMode::Shared, Protocols::ANY, leave).unwrap();
                    assert_eq!(exchange(&card, &command).unwrap(), expected, "{name}, {round}");
                }
                result => assert_eq!(result.unwrap(), expected, "{name}, {round}"),
            }
        }
    }
}

#[test]
fn case_059_pin_entry_is_cancelled_by_program_and_by_user() {
    let bench = bench("pinpad-idle");
    let context = bench.context();
    let mut card = bench.connect(&context);
    let entry = |card: Card| {
        let control = run(move || {
            (card.control_owned(VERIFY_PIN_DIRECT, &crate::matrix::pin_structure(), None), card)
        });
        until("the reader waits", || bench.port.with(|reader| reader.awaits_pin(SLOT)));
        control
    };
    let control = entry(card);
    context.cancel().unwrap();
    let (result, back) = control.join();
    assert_eq!(result, Err(Error::Cancelled));
    assert!(!bench.port.with(|reader| reader.awaits_pin(SLOT)), "it has left PIN mode");
    card = back;
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    let control = entry(card);
    bench.port.with(|reader| reader.press(Key::Cancel));
    let (result, card) = control.join();
    assert_eq!(result.unwrap(), [0x64, 0x01][..], "the reader's answer");
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    no_violations(&bench);
}

#[test]
fn case_060_another_contexts_command_on_the_same_reader_goes_on() {
    for (name, bench) in both_devices() {
        let (a, b) = (bench.context(), bench.context());
        let (queued, running) = (bench.connect(&a), bench.connect(&b));
        let running = run(move || (running.transmit_owned(&slow(500), None), running));
        until("the card has the command", || bench.port.with(|d| d.has_sent(0x14)));
        let queued = run(move || exchange(&queued, &ECHO));
        outstanding(&a, 1);
        a.cancel().unwrap();
        assert_eq!(queued.join(), Err(Error::Cancelled), "{name}");
        let (result, _running) = running.join();
        assert_eq!(result.unwrap(), [0x90, 0x00][..], "{name}");
        bench.port.with(|device| {
            assert_eq!(device.aborts(), (vec![], vec![]), "{name}");
            assert!(!device.has_sent(ECHO[1]), "{name}: the queued command was not sent");
        });
    }
}

// usbd-ccid has one slot; there this is case 60.
#[test]
fn case_061_only_the_slot_of_the_cancelled_context_is_aborted() {
    let bench = bench("three-slots");
    let (a, b) = (bench.context(), bench.context());
    let names = a.list_readers_owned().unwrap();
    let first = connect(&a, &names[0], ShareMode::Shared).unwrap();
    let second = connect(&b, &names[1], ShareMode::Shared).unwrap();
    let never = run(move || first.transmit_owned(&NEVER, None));
    let slow = run(move || (second.transmit_owned(&slow(500), None), second));
    until("both slots are at it", || busy(&bench, 0) && busy(&bench, 1));
    a.cancel().unwrap();
    assert_eq!(never.join(), Err(Error::Cancelled));
    let (result, second) = slow.join();
    assert_eq!(result.unwrap(), [0x90, 0x00][..]);
    assert_eq!(exchange(&second, &ECHO).unwrap(), ECHOED, "it was not reset either");
    no_violations(&bench);
}

#[test]
fn case_062_unplugged_while_the_abort_is_under_way() {
    let plain = both_devices();
    // One that is asked to abort and says nothing, so that it is unplugged in the middle of it.
    let silent = sim::presets::by_name("abort-silent").unwrap();
    let silent = [("abort-silent", Bench::new(crate::device::Watched::new(silent)))];
    for (name, bench) in plain.into_iter().chain(silent) {
        let context = bench.context();
        let card = bench.connect(&context);
        let transmit = run(move || card.transmit_owned(&NEVER, None));
        until("the card has the command", || bench.port.with(|d| d.has_sent(NEVER[1])));
        context.cancel().unwrap();
        if name == "abort-silent" {
            until("it is being aborted", || bench.port.with(|d| !d.aborts().1.is_empty()));
        }
        bench.port.unplug();
        let ended = transmit.join().unwrap_err();
        let wanted = [Error::Cancelled, Error::ReaderUnavailable];
        assert!(wanted.contains(&ended), "{name}: {ended:?}");
        until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
        assert_eq!(context.outstanding_calls(), Ok(0), "{name}");
    }
}

#[test]
fn case_063_shutting_down_is_not_cancelling() {
    let bench = bench("default");
    let context = bench.context();
    let (held, queued) = (bench.connect(&context), bench.connect(&context));
    held.begin_transaction().unwrap();
    let known = State::PRESENT | State::INUSE;
    let wait = waiting(&context, None, one(&bench.reader(), known));
    let queued = run(move || exchange(&queued, &ECHO));
    let command = run(move || held.transmit_owned(&NEVER, None));
    until("the reader is at it", || busy(&bench, 0));
    outstanding(&context, 3);
    bench.stack.shutdown();
    assert_eq!(wait.join().0, Err(Error::ServiceStopped));
    assert_eq!(queued.join(), Err(Error::ServiceStopped));
    assert_eq!(command.join(), Err(Error::ServiceStopped));
    let after = context.get_status_change(None, &mut one(&c"any".into(), State::UNAWARE));
    assert_eq!(after, Err(Error::ServiceStopped));
}

// The driver's edge is not seen from here: a context that waits, is cancelled and waits again on
// the same slot stands for it.
#[test]
fn case_064_a_new_wait_is_accepted_at_once() {
    let bench = bench("empty");
    let context = bench.context();
    let wait_and_cancel = |context: &Context| {
        let wait = waiting(context, None, one(&bench.reader(), State::EMPTY));
        outstanding(context, 1);
        context.cancel().unwrap();
        assert_eq!(wait.join().0, Err(Error::Cancelled));
    };
    wait_and_cancel(&context);
    wait_and_cancel(&context);
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    assert_eq!(wait.join().0, Ok(()));
}

// And so do two of them on the same slot, none of which is too many.
#[test]
fn case_065_two_waits_on_one_slot_both_get_the_event() {
    let bench = bench("empty");
    let context = bench.context();
    let waits: Vec<_> =
        (0..2).map(|_| waiting(&context, None, one(&bench.reader(), State::EMPTY))).collect();
    outstanding(&context, 2);
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    for wait in waits {
        let (result, states) = wait.join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), State::PRESENT | State::CHANGED);
    }
}
