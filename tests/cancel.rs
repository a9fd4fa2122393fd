//! Cancel, through the whole stack on the simulated reader.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use bytes::Bytes;
use ccid::Slot;
use ccid::wire::{ClassRequest, Message};
use common::{Bench, run, until};
use scard::{Card, Context, Disposition, Error, Protocols, ReaderState, ShareMode, State};
use sim::card::FileCard;
use sim::reader::Event;
use sim::{Reader, presets};
use std::time::{Duration, Instant};

/// Answers nothing, ever.
const NEVER: &[u8] = &[0x00, 0x16, 0x00, 0x00];

/// DESIGN: an aborted command ends in two seconds at most; a loaded machine gets some more.
const BOUND: Duration = Duration::from_secs(5);

fn bench(preset: &str) -> Bench<Reader> {
    Bench::new(presets::by_name(preset).unwrap())
}

fn echo(n: u32) -> (Vec<u8>, Vec<u8>) {
    let data = n.to_be_bytes();
    let command = [&[0x00, 0x10, 0x00, 0x00, 4][..], &data].concat();
    (command, [&data[..], &[0x90, 0x00]].concat())
}

/// Exchanges an APDU; with T=0 at TPDU level the caller fetches what 61xx announces.
fn exchange(card: &Card, command: &[u8]) -> Result<Bytes, Error> {
    let response = card.transmit_owned(command, None)?;
    match response[..] {
        [0x61, length] => card.transmit_owned(&[0x00, 0xC0, 0x00, 0x00, length], None),
        _ => Ok(response),
    }
}

fn busy(bench: &Bench<Reader>, slot: u8) -> bool {
    bench.port.with(|reader| reader.is_busy(Slot(slot)))
}

#[track_caller]
fn no_violations(bench: &Bench<Reader>) {
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

/// Slots and bSeq of messages.
type Seqs = Vec<(u8, u8)>;

/// The ABORT requests and PC_to_RDR_Abort messages seen.
fn aborts(bench: &Bench<Reader>) -> (Seqs, Seqs) {
    let (mut requests, mut messages) = (Vec::new(), Vec::new());
    for seen in bench.port.with(|reader| reader.seen().to_vec()) {
        match &seen.what {
            Event::Setup(setup) => {
                if let Ok(ClassRequest::Abort { slot, seq }) = ClassRequest::parse(setup) {
                    requests.push((slot.0, seq.0));
                }
            }
            Event::Command(bytes) => {
                let message = Message::parse(bytes).unwrap();
                if message.message_type == 0x72 {
                    messages.push((message.slot.0, message.seq.0));
                }
            }
            _ => {}
        }
    }
    (requests, messages)
}

/// Transmits a command that is never answered, cancels it once the reader is at it, and gives how
/// it ended and how long that took.
fn cancel_transmit(bench: &Bench<Reader>, context: &Context, card: &Card) -> Result<Bytes, Error> {
    std::thread::scope(|scope| {
        let transmit = scope.spawn(|| card.transmit_owned(NEVER, None));
        until("the reader is at it", || busy(bench, 0));
        let began = Instant::now();
        context.cancel().unwrap();
        assert!(began.elapsed() < BOUND, "cancel returns at once");
        let ended = transmit.join().unwrap();
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        ended
    })
}

#[test]
fn a_running_command_is_aborted_as_the_specification_wants_it() {
    for preset in ["default", "t0-tpdu", "short", "extended", "no-interrupt"] {
        let bench = bench(preset);
        let context = bench.context();
        let mut card = bench.connect(&context);
        for round in 1..=3u32 {
            let ended = cancel_transmit(&bench, &context, &card);
            assert_eq!(ended, Err(Error::Cancelled), "{preset}");
            let (requests, messages) = aborts(&bench);
            assert_eq!(requests, messages, "{preset}: same slot, same bSeq");
            assert_eq!(requests.len(), round as usize, "{preset}");
            let (command, expected) = echo(round);
            assert_eq!(card.transmit_owned(&command, None), Err(Error::ResetCard), "{preset}");
            card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
            assert_eq!(exchange(&card, &command).unwrap(), expected, "{preset}");
        }
        no_violations(&bench);
    }
}

/// Every misanswer known from the field, and silence: the caller has CANCELLED in time, and the
/// next command its own answer, or the reader is clearly unavailable.
#[test]
fn readers_that_misanswer_the_abort() {
    let names = presets::names().map(|(name, _)| name).filter(|name| name.starts_with("abort-"));
    let names = names.filter(|name| *name != "abort-unasked");
    // All at once: they wait more than they work.
    let all: Vec<_> = names.map(|name| run(move || misanswers_the_abort(name))).collect();
    all.into_iter().for_each(common::Running::join);
}

fn misanswers_the_abort(preset: &str) {
    let bench = bench(preset);
    let context = bench.context();
    let mut card = bench.connect(&context);
    let ended = cancel_transmit(&bench, &context, &card);
    let (command, expected) = echo(7);
    if preset == "abort-completes" {
        // The answer came first: it is the caller's, and nothing was lost.
        assert_eq!(ended.unwrap(), [0x90, 0x00][..]);
        assert_eq!(card.transmit_owned(&command, None).unwrap(), expected);
        return;
    }
    assert_eq!(ended, Err(Error::Cancelled), "{preset}");
    let again = card.transmit_owned(&command, None);
    assert!(
        matches!(again, Err(Error::ResetCard | Error::ReaderUnavailable)),
        "{preset}: {again:?}"
    );
    match card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard) {
        Ok(()) => {
            assert_eq!(exchange(&card, &command).unwrap(), expected, "{preset}");
        }
        Err(error) => {
            // Nothing but a reset of the reader ends a command there that the card never answers.
            let goes_on = ["abort-stall", "abort-not-", "abort-busy", "abort-ignored"];
            let goes_on = goes_on.into_iter().any(|start| preset.starts_with(start));
            assert!(goes_on, "{preset}: {error:?}");
            assert_eq!(error, Error::ReaderUnavailable, "{preset}");
        }
    }
}

#[test]
fn an_abort_that_nobody_asked_for_is_the_readers_failure() {
    let bench = bench("abort-unasked");
    let context = bench.context();
    let mut card = bench.connect(&context);
    assert_eq!(card.transmit_owned(NEVER, None), Err(Error::NotTransacted));
    let (command, expected) = echo(1);
    assert_eq!(card.transmit_owned(&command, None), Err(Error::ResetCard));
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert_eq!(card.transmit_owned(&command, None).unwrap(), expected);
}

/// They refuse the Abort, and the command ends by itself a little later: the reader is in step
/// again once it has.
#[test]
fn a_refused_abort_of_a_command_that_ends_later() {
    for preset in ["abort-stall", "abort-not-supported", "abort-not-aborted", "abort-ignored"] {
        let bench = bench(preset);
        let context = bench.context();
        let mut card = bench.connect(&context);
        // Answers after 2.5 seconds: later than the Abort is waited for.
        let slow = [0x00, 0x14, 0x09, 0xC4];
        let ended = std::thread::scope(|scope| {
            let transmit = scope.spawn(|| card.transmit_owned(&slow, None));
            until("the reader is at it", || busy(&bench, 0));
            context.cancel().unwrap();
            transmit.join().unwrap()
        });
        assert_eq!(ended, Err(Error::Cancelled), "{preset}");
        card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
        let (command, expected) = echo(3);
        assert_eq!(card.transmit_owned(&command, None).unwrap(), expected, "{preset}");
    }
}

#[test]
fn the_limit_of_a_call_aborts_it() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    let ended = card.transmit_owned(NEVER, Some(Duration::from_millis(50)));
    assert_eq!(ended, Err(Error::Timeout));
    let (requests, messages) = aborts(&bench);
    assert_eq!((requests.len(), requests), (1, messages));
    assert_eq!(card.transmit_owned(NEVER, None), Err(Error::ResetCard));
    no_violations(&bench);
}

/// DESIGN of cancel: transactions that are held stay held, the reset after an Abort included.
#[test]
fn a_transaction_outlives_the_cancel_of_its_command() {
    let bench = bench("default");
    let (context, other) = (bench.context(), bench.context());
    let mut card = bench.connect(&context);
    let waiting = bench.connect(&other);
    let transaction = card.transaction().unwrap();
    assert_eq!(cancel_transmit(&bench, &context, &transaction), Err(Error::Cancelled));
    let escape = waiting.control_owned(scard::CTL_ESCAPE, &[2], None);
    assert_eq!(escape, Err(Error::SharingViolation), "others are still kept out");
    assert_eq!(transaction.transmit_owned(&echo(2).0, None), Err(Error::ResetCard));
    transaction.end(Disposition::LeaveCard).unwrap();
}

#[test]
fn time_extensions_do_not_keep_a_command_from_being_cancelled() {
    let bench = bench("slow");
    let context = bench.context();
    let card = bench.connect(&context);
    std::thread::scope(|scope| {
        let transmit = scope.spawn(|| card.transmit_owned(&[0, 0xB0, 0, 0, 0], None));
        until("the reader has asked for time", || {
            bench.port.with(|reader| {
                reader.seen().iter().any(|seen| match &seen.what {
                    Event::Response(bytes) => bytes[7] >> 6 == 2,
                    _ => false,
                })
            })
        });
        context.cancel().unwrap();
        assert_eq!(transmit.join().unwrap(), Err(Error::Cancelled));
    });
    no_violations(&bench);
}

#[test]
fn pin_entry_is_cancelled() {
    const VERIFY_PIN_DIRECT: u32 = 0x4233_0006;
    let bench = bench("pinpad-idle");
    let context = bench.context();
    let card = bench.connect(&context);
    let mut structure = vec![30, 0, 0x82, 0x08, 0x04, 12, 4, 2, 1, 9, 4, 0, 0, 0, 0];
    let apdu = [0x00, 0x20, 0x00, 0x81, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    structure.extend((apdu.len() as u32).to_le_bytes());
    structure.extend(apdu);
    std::thread::scope(|scope| {
        let control = scope.spawn(|| card.control_owned(VERIFY_PIN_DIRECT, &structure, None));
        until("the reader waits for the PIN", || {
            bench.port.with(|reader| reader.awaits_pin(Slot(0)))
        });
        context.cancel().unwrap();
        assert_eq!(control.join().unwrap(), Err(Error::Cancelled));
    });
    assert!(!bench.port.with(|reader| reader.awaits_pin(Slot(0))), "it has left PIN mode");
    no_violations(&bench);
}

#[test]
fn only_the_slot_of_the_cancelled_context_is_aborted() {
    let bench = bench("three-slots");
    let (a, b) = (bench.context(), bench.context());
    let readers = a.list_readers_owned().unwrap();
    assert_eq!(readers.len(), 3);
    let card = a.connect(&readers[0], ShareMode::Shared, Protocols::ANY).unwrap();
    let other = b.connect(&readers[1], ShareMode::Shared, Protocols::ANY).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| card.transmit_owned(NEVER, None));
        // Answers after a second.
        let second = scope.spawn(|| other.transmit_owned(&[0, 0x14, 0x03, 0xE8], None));
        until("both slots are at it", || busy(&bench, 0) && busy(&bench, 1));
        a.cancel().unwrap();
        assert_eq!(first.join().unwrap(), Err(Error::Cancelled));
        assert_eq!(second.join().unwrap().unwrap(), [0x90, 0x00][..]);
    });
    assert!(aborts(&bench).0.iter().all(|(slot, _)| *slot == 0));
    no_violations(&bench);
}

#[test]
fn another_contexts_command_on_the_same_reader_is_left_alone() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let card = bench.connect(&b);
    let queued = bench.connect(&a);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| card.transmit_owned(&[0, 0x14, 0x03, 0xE8], None));
        until("the reader is at it", || busy(&bench, 0));
        let (command, _) = echo(9);
        let queued = scope.spawn({
            let queued = &queued;
            move || queued.transmit_owned(&command, None)
        });
        let cancelled = loop {
            a.cancel().unwrap();
            if queued.is_finished() {
                break queued.join().unwrap();
            }
            std::thread::yield_now();
        };
        assert_eq!(cancelled, Err(Error::Cancelled));
        assert_eq!(running.join().unwrap().unwrap(), [0x90, 0x00][..]);
    });
    assert_eq!(aborts(&bench), (vec![], vec![]));
    let echoed = bench.port.with(|reader| {
        reader.seen().iter().any(|seen| match &seen.what {
            Event::Command(bytes) => bytes.get(11) == Some(&0x10),
            _ => false,
        })
    });
    assert!(!echoed, "the queued command never reached the card");
}

#[test]
fn a_context_may_limit_cancel_to_waits() {
    let bench = bench("default");
    let context = bench.context();
    context.set_cancel_commands(false).unwrap();
    let card = bench.connect(&context);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| card.transmit_owned(&[0, 0x14, 0x01, 0xF4], None));
        until("the reader is at it", || busy(&bench, 0));
        context.cancel().unwrap();
        assert_eq!(running.join().unwrap().unwrap(), [0x90, 0x00][..]);
    });
    assert_eq!(aborts(&bench), (vec![], vec![]));
}

#[test]
fn a_status_wait_is_cancelled_and_the_next_one_works() {
    let bench = bench("empty");
    let (context, other) = (bench.context(), bench.context());
    let reader = bench.reader();
    let wait = |context: &Context, timeout: Option<Duration>| {
        let (context, reader) = (context.clone(), reader.clone());
        run(move || {
            let mut states = [ReaderState::new(reader, State::EMPTY)];
            let result = context.get_status_change(timeout, &mut states);
            (result, states[0].event_state())
        })
    };
    // Idle: nothing to cancel, and nothing kept for later.
    context.cancel().unwrap();
    let timed_out = wait(&context, Some(Duration::from_millis(50)));
    assert_eq!(timed_out.join().0, Err(Error::Timeout));
    // Two waits of the context end, the other context's goes on.
    let (first, second) = (wait(&context, None), wait(&context, None));
    let bystander = wait(&other, None);
    let canceller = context.canceller();
    let cancelling = run(move || {
        // Until both have begun to wait and were ended: cancel is not remembered.
        for _ in 0..10_000 {
            canceller.cancel().unwrap();
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    assert_eq!(first.join().0, Err(Error::Cancelled));
    assert_eq!(second.join().0, Err(Error::Cancelled));
    cancelling.join();
    let next = wait(&context, None);
    bench.port.with(|reader| reader.insert(Slot(0), FileCard::t1()));
    for wait in [next, bystander] {
        let (result, state) = wait.join();
        assert_eq!(result, Ok(()));
        assert!(state.contains(State::PRESENT | State::CHANGED), "{state:?}");
    }
}

#[test]
fn shutting_down_is_not_cancelling() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    let reader = bench.reader();
    let waiting = run({
        let context = context.clone();
        move || {
            let mut states = [ReaderState::new(reader, State::PRESENT | State::INUSE)];
            context.get_status_change(None, &mut states)
        }
    });
    let transmit = run(move || card.transmit_owned(NEVER, None));
    until("the reader is at it", || busy(&bench, 0));
    bench.stack.shutdown();
    assert_eq!(waiting.join(), Err(Error::ServiceStopped));
    assert_eq!(transmit.join(), Err(Error::ServiceStopped));
    assert_eq!(Context::on(&bench.stack).unwrap_err(), Error::ServiceStopped);
}

#[test]
fn release_ends_the_contexts_calls() {
    let bench = bench("empty");
    let context = bench.context();
    let reader = bench.reader();
    let waiting = run({
        let context = context.clone();
        move || {
            let mut states = [ReaderState::new(reader, State::EMPTY)];
            context.get_status_change(None, &mut states)
        }
    });
    let clone = context.clone();
    context.release().unwrap();
    assert!(matches!(waiting.join(), Err(Error::Cancelled | Error::InvalidHandle)));
    assert_eq!(clone.is_valid(), Err(Error::InvalidHandle));
    assert_eq!(clone.cancel(), Err(Error::InvalidHandle));
    assert_eq!(clone.release().unwrap_err().1, Error::InvalidHandle);
}
