//! Cancel at the very moment of something else, a thousand times each: exactly one outcome,
//! nothing lost, nothing stale, no hang.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use ccid::Slot;
use common::{Bench, run};
use scard::{Context, Disposition, Error, Protocols, ReaderState, ShareMode, State};
use sim::card::{FileCard, Pace};
use sim::{Reader, presets};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 1000;

fn bench(preset: &str) -> Bench<Reader> {
    Bench::new(presets::by_name(preset).unwrap())
}

/// Spins: a sleep is too coarse to hit the moment.
fn pause(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// A cancel for every round, at a moment that wanders over the first `spread` of it.
fn canceller(context: &Context, spread: Duration) -> (Arc<Barrier>, common::Running<()>) {
    let barrier = Arc::new(Barrier::new(2));
    let (context, other) = (context.clone(), Arc::clone(&barrier));
    let running = run(move || {
        for round in 0..ROUNDS {
            other.wait();
            pause(spread * (round * 37 % 100) / 100);
            context.cancel().unwrap();
            other.wait();
        }
    });
    (barrier, running)
}

#[test]
fn cancel_against_answer() {
    let card = FileCard::t1().pace(0x10, Pace::After(Duration::from_micros(500)));
    let bench = Bench::new(Reader::builder().card(Slot(0), card).build());
    let context = bench.context();
    let mut card = bench.connect(&context);
    // How long an exchange takes here, so that the cancels fall around its end.
    let began = Instant::now();
    for _ in 0..20 {
        card.transmit_owned(&[0, 0x10, 0, 0, 1, 0], None).unwrap();
    }
    let typical = began.elapsed() / 20;
    let (barrier, running) = canceller(&context, typical * 2);
    let (mut answered, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let data = round.to_be_bytes();
        let command = [&[0x00, 0x10, 0x00, 0x00, 4][..], &data].concat();
        barrier.wait();
        let result = card.transmit_owned(&command, None);
        barrier.wait();
        match result {
            Ok(response) => {
                assert_eq!(response, [&data[..], &[0x90, 0x00]].concat(), "round {round}");
                answered += 1;
            }
            Err(Error::Cancelled) => {
                cancelled += 1;
                // Reset if the command was on the wire, as before if it was not.
                match card.transmit_owned(&[0, 0x10, 0, 0, 1, 0], None) {
                    Ok(response) => assert_eq!(response, [0, 0x90, 0x00][..]),
                    Err(Error::ResetCard) => {
                        let leave = Disposition::LeaveCard;
                        card.reconnect(ShareMode::Shared, Protocols::ANY, leave).unwrap();
                    }
                    Err(error) => panic!("round {round}: {error:?}"),
                }
            }
            Err(error) => panic!("round {round}: {error:?}"),
        }
    }
    running.join();
    println!("{answered} answered, {cancelled} cancelled");
    assert_eq!(answered + cancelled, ROUNDS);
    assert!(cancelled > 0 && answered > 0, "no race was run");
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn cancel_against_insertion() {
    let bench = bench("empty");
    let context = bench.context();
    let reader = bench.reader();
    let (barrier, running) = canceller(&context, Duration::from_micros(300));
    let mut states = [ReaderState::new(reader, State::UNAWARE)];
    context.get_status_change(None, &mut states).unwrap();
    let (mut seen, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        states[0].sync_current_state();
        let inserted = round % 2 == 0;
        barrier.wait();
        bench.port.with(|reader| {
            if inserted {
                drop(reader.insert(Slot(0), FileCard::t1()));
            } else {
                drop(reader.remove(Slot(0)));
            }
        });
        match context.get_status_change(None, &mut states) {
            Ok(()) => seen += 1,
            Err(Error::Cancelled) => {
                cancelled += 1;
                barrier.wait();
                // The event is not lost: whoever asks again with what he knew hears of it.
                context.get_status_change(Duration::from_secs(30), &mut states).unwrap();
                check(&states[0], inserted, round);
                continue;
            }
            Err(error) => panic!("round {round}: {error:?}"),
        }
        barrier.wait();
        check(&states[0], inserted, round);
    }
    running.join();
    println!("{seen} seen at once, {cancelled} cancelled");
    assert!(cancelled > 0, "no race was run");
}

#[track_caller]
fn check(state: &ReaderState, inserted: bool, round: u32) {
    let wanted = if inserted { State::PRESENT } else { State::EMPTY };
    assert!(state.event_state().contains(wanted | State::CHANGED), "round {round}: {state:?}");
    assert_eq!(!state.atr().is_empty(), inserted, "round {round}");
}

#[test]
fn cancel_against_timeout() {
    let bench = bench("empty");
    let context = bench.context();
    let reader = bench.reader();
    let wait = Duration::from_micros(400);
    let (barrier, running) = canceller(&context, wait * 2);
    let (mut timed_out, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let mut states = [ReaderState::new(reader.clone(), State::EMPTY)];
        barrier.wait();
        match context.get_status_change(wait, &mut states) {
            Err(Error::Timeout) => timed_out += 1,
            Err(Error::Cancelled) => cancelled += 1,
            other => panic!("round {round}: {other:?}"),
        }
        barrier.wait();
    }
    running.join();
    println!("{timed_out} timed out, {cancelled} cancelled");
    assert!(cancelled > 0 && timed_out > 0, "no race was run");
}

#[test]
fn cancel_against_unplugging() {
    let bench = bench("default");
    let context = bench.context();
    for round in 0..100 {
        let card = bench.connect(&context);
        let transmit = run(move || card.transmit_owned(&[0, 0x16, 0, 0], None));
        common::until("the reader is at it", || bench.port.with(|r| r.is_busy(Slot(0))));
        let unplug = run({
            let port = bench.port.clone();
            move || {
                pause(Duration::from_micros(3 * round));
                port.unplug();
            }
        });
        context.cancel().unwrap();
        let ended = transmit.join().unwrap_err();
        assert!(matches!(ended, Error::Cancelled | Error::ReaderUnavailable), "{ended:?}");
        unplug.join();
        common::until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
        bench.port.plug();
        bench.attach();
    }
}
