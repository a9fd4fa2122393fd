//! A reader that is unplugged in any state: every call ends promptly with a definite error, and
//! the reader is usable again once it is plugged in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use ccid::Slot;
use common::{Bench, run, until};
use scard::{
    Context, Disposition, Error, PNP_NOTIFICATION, Protocols, ReaderState, ShareMode, State,
};
use sim::card::{FileCard, Pace};
use sim::{Reader, presets};
use std::time::{Duration, Instant};

const NEVER: &[u8] = &[0x00, 0x16, 0x00, 0x00];

/// What "promptly" may take on a loaded machine.
const PROMPT: Duration = Duration::from_secs(5);

fn bench(preset: &str) -> Bench<Reader> {
    Bench::new(presets::by_name(preset).unwrap())
}

fn busy(bench: &Bench<Reader>) -> bool {
    bench.port.with(|reader| reader.is_busy(Slot(0)))
}

/// Plugged in again, it works.
#[track_caller]
fn works_again(bench: &Bench<Reader>, context: &Context) {
    until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
    bench.port.plug();
    bench.attach();
    let card = bench.connect(context);
    let response = card.transmit_owned(&[0, 0x10, 0, 0, 1, 5], None).unwrap();
    assert_eq!(response, [5, 0x90, 0x00][..]);
}

#[test]
fn while_a_command_runs() {
    for preset in ["default", "t0-tpdu", "no-interrupt"] {
        let bench = bench(preset);
        let context = bench.context();
        let card = bench.connect(&context);
        let transmit = run(move || (card.transmit_owned(NEVER, None), card));
        until("the reader is at it", || busy(&bench));
        let began = Instant::now();
        bench.port.unplug();
        let (result, card) = transmit.join();
        assert_eq!(result, Err(Error::ReaderUnavailable), "{preset}");
        assert!(began.elapsed() < PROMPT, "{preset}: {:?}", began.elapsed());
        assert_eq!(card.status2_owned().unwrap_err(), Error::ReaderUnavailable, "{preset}");
        card.disconnect(Disposition::ResetCard).unwrap();
        if preset != "t0-tpdu" {
            works_again(&bench, &context);
        }
    }
}

#[test]
fn while_an_abort_is_under_way() {
    let bench = bench("abort-silent");
    let context = bench.context();
    let card = bench.connect(&context);
    let transmit = run(move || card.transmit_owned(NEVER, None));
    until("the reader is at it", || busy(&bench));
    context.cancel().unwrap();
    until("the reader has the Abort", || {
        bench.port.with(|reader| {
            reader.seen().iter().any(|seen| match &seen.what {
                sim::reader::Event::Command(bytes) => bytes[0] == 0x72,
                _ => false,
            })
        })
    });
    bench.port.unplug();
    let ended = transmit.join().unwrap_err();
    assert!(matches!(ended, Error::Cancelled | Error::ReaderUnavailable), "{ended:?}");
    works_again(&bench, &context);
}

#[test]
fn while_calls_wait_for_their_turn() {
    let bench = bench("default");
    let (context, other) = (bench.context(), bench.context());
    let mut holder = bench.connect(&context);
    let waiting = bench.connect(&other);
    let transaction = holder.transaction().unwrap();
    let reader = bench.reader();
    let queued = run(move || waiting.transmit_owned(&[0, 0x10, 0, 0, 1, 5], None));
    let connect = run({
        let other = other.clone();
        move || other.connect(&reader, ShareMode::Shared, Protocols::ANY).map(drop)
    });
    // Neither can get on while the transaction is held.
    assert_eq!(transaction.transmit_owned(&[0, 0x10, 0, 0, 1, 6], None).unwrap()[0], 6);
    bench.port.unplug();
    assert!(matches!(queued.join(), Err(Error::ReaderUnavailable | Error::RemovedCard)));
    assert!(matches!(connect.join(), Err(Error::ReaderUnavailable | Error::UnknownReader)));
    assert_eq!(transaction.end(Disposition::LeaveCard), Err(Error::ReaderUnavailable));
    drop(holder);
    works_again(&bench, &context);
}

#[test]
fn while_the_card_is_powered_up() {
    let slow = Pace::After(Duration::from_secs(20));
    let bench = Bench::new(Reader::builder().build());
    let context = bench.context();
    let reader = bench.reader();
    bench.port.with(|r| drop(r.insert(Slot(0), FileCard::t1().power_up(slow))));
    until("the power-up is under way", || busy(&bench));
    let connect = run({
        let context = context.clone();
        move || context.connect(&reader, ShareMode::Shared, Protocols::ANY).map(drop)
    });
    let began = Instant::now();
    bench.port.unplug();
    assert!(matches!(connect.join(), Err(Error::ReaderUnavailable | Error::UnknownReader)));
    assert!(began.elapsed() < PROMPT);
    bench.port.with(|r| drop(r.insert(Slot(0), FileCard::t1())));
    works_again(&bench, &context);
}

#[test]
fn status_waits_hear_of_readers_coming_and_going() {
    let bench = bench("default");
    let context = bench.context();
    // The counter of the PnP name says what has been seen, so that no change falls between waits.
    let mut pnp = [ReaderState::new(PNP_NOTIFICATION().to_owned(), State::UNAWARE)];
    assert_eq!(context.get_status_change(Duration::ZERO, &mut pnp), Err(Error::Timeout));
    pnp[0].sync_current_state();
    let gone = run({
        let (context, reader) = (context.clone(), bench.reader());
        move || {
            let mut states = [ReaderState::new(reader, State::PRESENT)];
            let result = context.get_status_change(None, &mut states);
            (result, states[0].event_state())
        }
    });
    bench.port.unplug();
    match gone.join() {
        (Ok(()), state) => {
            let expected = State::CHANGED | State::UNAVAILABLE | State::UNKNOWN;
            assert!(state.contains(expected), "{state:?}");
        }
        // It began after the reader had gone.
        (result, _) => assert_eq!(result, Err(Error::UnknownReader)),
    }
    for plugged in [false, true, false] {
        if plugged {
            bench.port.plug();
            bench.attach();
        } else {
            bench.port.unplug();
        }
        context.get_status_change(Duration::from_secs(30), &mut pnp).unwrap();
        assert!(pnp[0].event_state().contains(State::CHANGED));
        pnp[0].sync_current_state();
        assert_eq!(context.list_readers_owned().unwrap().len(), usize::from(plugged));
    }
    assert!(context.is_valid().is_ok(), "the context outlives its last reader");
}

#[test]
fn a_reader_without_a_card_and_a_mute_one() {
    let empty = bench("empty");
    let context = empty.context();
    let connect = |share| context.connect(&empty.reader(), share, Protocols::ANY).map(drop);
    assert_eq!(connect(ShareMode::Shared), Err(Error::NoSmartcard));
    assert_eq!(connect(ShareMode::Direct), Ok(()));
    let mute = bench("mute");
    let context = mute.context();
    let shared = context.connect(&mute.reader(), ShareMode::Shared, Protocols::ANY);
    assert_eq!(shared.map(drop), Err(Error::UnresponsiveCard));
    let mut states = [ReaderState::new(mute.reader(), State::UNAWARE)];
    context.get_status_change(None, &mut states).unwrap();
    assert!(states[0].event_state().contains(State::PRESENT | State::MUTE));
}

#[test]
fn a_card_taken_out_during_its_command() {
    // The reader answers by itself, or never (as QEMU's).
    for preset in ["default", "lost-on-removal"] {
        let bench = bench(preset);
        let context = bench.context();
        let card = bench.connect(&context);
        let transmit = run(move || (card.transmit_owned(NEVER, None), card));
        until("the reader is at it", || busy(&bench));
        let began = Instant::now();
        bench.port.with(|reader| drop(reader.remove(Slot(0))));
        let (result, card) = transmit.join();
        assert_eq!(result, Err(Error::NoSmartcard), "{preset}");
        assert!(began.elapsed() < PROMPT, "{preset}: {:?}", began.elapsed());
        assert_eq!(card.transmit_owned(NEVER, None), Err(Error::RemovedCard), "{preset}");
        bench.port.with(|reader| drop(reader.insert(Slot(0), FileCard::t1())));
        assert_eq!(card.transmit_owned(NEVER, None), Err(Error::RemovedCard), "{preset}");
        let card = {
            let mut states = [ReaderState::new(bench.reader(), State::EMPTY)];
            context.get_status_change(None, &mut states).unwrap();
            bench.connect(&context)
        };
        let response = card.transmit_owned(&[0, 0x10, 0, 0, 1, 5], None).unwrap();
        assert_eq!(response, [5, 0x90, 0x00][..], "{preset}");
    }
}
