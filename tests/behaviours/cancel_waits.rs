//! Cases 37 to 53: cancel, and calls that wait for a state or for another.

use crate::common::{run, until};
use crate::fixture::{
    ECHO, ECHOED, PROMPT, SLOT, bench, connect, exchange, instructions, no_violations, now, one,
    outstanding, until_state, waiting,
};
use scard::{Disposition, Error, PNP_NOTIFICATION, ReaderState, ShareMode, State};
use sim::card::FileCard;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

#[test]
fn case_037_cancel_ends_an_infinite_wait() {
    let bench = bench("empty");
    let context = bench.context();
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    let began = Instant::now();
    context.cancel().unwrap();
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    assert!(began.elapsed() < PROMPT);
}

#[test]
fn case_038_so_it_does_a_finite_one_and_those_for_readers() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let pnp = || ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE);
    let several = vec![
        pnp(),
        ReaderState::new(names[0].clone(), State::PRESENT),
        ReaderState::new(names[2].clone(), State::EMPTY),
    ];
    let long = Duration::from_secs(3600);
    for states in [one(&names[2], State::EMPTY), vec![pnp()], several] {
        for timeout in [Some(long), None] {
            let wait = waiting(&context, timeout, states.clone());
            outstanding(&context, 1);
            context.cancel().unwrap();
            assert_eq!(wait.join().0, Err(Error::Cancelled));
        }
    }
}

#[test]
fn case_039_cancel_of_an_idle_context_succeeds() {
    let bench = bench("default");
    let context = bench.context();
    assert_eq!(context.cancel(), Ok(()));
    let _card = bench.connect(&context);
    assert_eq!(context.cancel(), Ok(()));
    assert_eq!(context.canceller().cancel(), Ok(()));
}

#[test]
fn case_040_cancel_of_an_idle_context_is_not_remembered() {
    let bench = bench("default");
    let context = bench.context();
    context.cancel().unwrap();
    let wait = waiting(&context, Duration::from_millis(50), one(&bench.reader(), State::PRESENT));
    assert_eq!(wait.join().0, Err(Error::Timeout));
    // Nor by any other call.
    context.cancel().unwrap();
    let mut card = bench.connect(&context);
    context.cancel().unwrap();
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    context.cancel().unwrap();
    assert!(card.transaction().is_ok());
}

#[test]
fn case_041_the_next_wait_gets_the_next_event() {
    let bench = bench("empty");
    let context = bench.context();
    for round in 0..3 {
        let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
        outstanding(&context, 1);
        context.cancel().unwrap();
        assert_eq!(wait.join().0, Err(Error::Cancelled), "{round}");
    }
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    let (result, states) = wait.join();
    assert_eq!(result, Ok(()));
    assert!(states[0].event_state().contains(State::PRESENT | State::CHANGED));
}

#[test]
fn case_042_another_contexts_wait_goes_on() {
    let bench = bench("empty");
    let (a, b) = (bench.context(), bench.context());
    let ours = waiting(&a, None, one(&bench.reader(), State::EMPTY));
    let theirs = waiting(&b, None, one(&bench.reader(), State::EMPTY));
    outstanding(&a, 1);
    outstanding(&b, 1);
    a.cancel().unwrap();
    assert_eq!(ours.join().0, Err(Error::Cancelled));
    assert_eq!(b.outstanding_calls(), Ok(1));
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    let (result, states) = theirs.join();
    assert_eq!(result, Ok(()));
    assert!(states[0].event_state().contains(State::PRESENT));
}

#[test]
fn case_043_all_waits_of_a_context_end() {
    let bench = bench("empty");
    let context = bench.context();
    let waits: Vec<_> =
        (0..8).map(|_| waiting(&context, None, one(&bench.reader(), State::EMPTY))).collect();
    outstanding(&context, 8);
    context.cancel().unwrap();
    for wait in waits {
        assert_eq!(wait.join().0, Err(Error::Cancelled));
    }
}

#[test]
fn case_044_cancel_of_what_is_no_context_disturbs_nobody() {
    let bench = bench("empty");
    let (context, gone) = (bench.context(), bench.context());
    let canceller = gone.canceller();
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    gone.clone().release().unwrap();
    assert_eq!(gone.cancel(), Err(Error::InvalidHandle));
    assert_eq!(canceller.cancel(), Err(Error::InvalidHandle));
    assert_eq!(context.outstanding_calls(), Ok(1));
    context.cancel().unwrap();
    assert_eq!(wait.join().0, Err(Error::Cancelled));
}

#[test]
fn case_045_cancel_at_the_instant_of_the_timeout() {
    let bench = bench("empty");
    let context = bench.context();
    let barrier = Arc::new(Barrier::new(2));
    let cancelling = run({
        let (context, barrier) = (context.clone(), Arc::clone(&barrier));
        move || {
            for round in 0..1000 {
                barrier.wait();
                // Around the end of the wait, and not all at the same distance from it.
                let until = Instant::now() + Duration::from_micros(100 + round % 200);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                context.cancel().unwrap();
                barrier.wait();
            }
        }
    });
    for round in 0..1000 {
        let mut states = one(&bench.reader(), State::EMPTY);
        barrier.wait();
        let result = context.get_status_change(Duration::from_micros(200), &mut states);
        assert!(matches!(result, Err(Error::Timeout | Error::Cancelled)), "{round}: {result:?}");
        barrier.wait();
    }
    cancelling.join();
    assert_eq!(context.outstanding_calls(), Ok(0));
}

#[test]
fn case_046_cancel_at_the_instant_of_an_insertion_loses_no_event() {
    let bench = bench("empty");
    let context = bench.context();
    let mut states = vec![now(&context, &bench.reader())];
    for round in 0..1000 {
        states[0].sync_current_state();
        let wait = waiting(&context, None, states);
        outstanding(&context, 1);
        let inserted = round % 2 == 0;
        let cancelling = run({
            let context = context.clone();
            move || context.cancel().unwrap()
        });
        bench.port.with(|reader| match inserted {
            true => drop(reader.insert(SLOT, FileCard::t1())),
            false => drop(reader.remove(SLOT)),
        });
        let (result, seen) = wait.join();
        cancelling.join();
        states = seen;
        if result.is_err() {
            assert_eq!(result, Err(Error::Cancelled), "{round}");
            context.get_status_change(crate::common::WATCHDOG, &mut states).unwrap();
        }
        let wanted = if inserted { State::PRESENT } else { State::EMPTY };
        assert_eq!(states[0].event_state(), wanted | State::CHANGED, "{round}");
    }
}

/// No cancel that is issued once the call is outstanding is lost: one is enough, at any moment.
#[test]
fn case_047_a_cancel_right_after_the_wait_has_begun_is_not_lost() {
    let bench = bench("empty");
    let context = bench.context();
    for round in 0..1000 {
        let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
        while context.outstanding_calls() == Ok(0) {
            std::hint::spin_loop();
        }
        context.cancel().unwrap();
        assert_eq!(wait.join().0, Err(Error::Cancelled), "{round}");
    }
}

#[test]
fn case_048_many_cancels_end_one_wait_once() {
    let bench = bench("empty");
    let context = bench.context();
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    let barrier = Arc::new(Barrier::new(10));
    let cancels: Vec<_> = (0..10)
        .map(|_| {
            let (context, barrier) = (context.clone(), Arc::clone(&barrier));
            run(move || {
                barrier.wait();
                context.cancel()
            })
        })
        .collect();
    for cancel in cancels {
        assert_eq!(cancel.join(), Ok(()));
    }
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    let next = waiting(&context, Duration::from_millis(20), one(&bench.reader(), State::EMPTY));
    assert_eq!(next.join().0, Err(Error::Timeout), "none is left over");
}

#[test]
fn case_049_cancel_does_not_wait_for_the_wait() {
    let bench = bench("empty");
    let context = bench.context();
    let hour = Duration::from_secs(3600);
    let wait = waiting(&context, hour, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    let cancel = run({
        let context = context.clone();
        move || {
            let began = Instant::now();
            context.cancel().unwrap();
            began.elapsed()
        }
    });
    assert!(cancel.join() < PROMPT);
    assert_eq!(wait.join().0, Err(Error::Cancelled));
}

#[test]
fn case_050_a_removal_after_a_cancelled_wait_is_a_removal() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    let known = State::PRESENT | State::INUSE;
    let wait = waiting(&context, None, one(&bench.reader(), known));
    outstanding(&context, 1);
    context.cancel().unwrap();
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    bench.port.with(|reader| drop(reader.remove(SLOT)));
    until_state(&context, &bench.reader(), State::EMPTY);
    assert_eq!(card.status2_owned().unwrap_err(), Error::RemovedCard);
}

#[test]
fn case_051_cancel_join_release_a_thousand_times() {
    let bench = bench("empty");
    for _ in 0..1000 {
        let context = bench.context();
        let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
        while context.outstanding_calls() == Ok(0) {
            std::hint::spin_loop();
        }
        context.cancel().unwrap();
        assert_eq!(wait.join().0, Err(Error::Cancelled));
        context.release().unwrap();
    }
    let context = bench.context();
    assert!(connect(&context, &bench.reader(), ShareMode::Direct).is_ok());
}

#[test]
fn case_052_release_ends_the_contexts_wait() {
    let bench = bench("empty");
    let context = bench.context();
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    let began = Instant::now();
    context.release().unwrap();
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    assert!(began.elapsed() < PROMPT);
}

#[test]
fn case_053_handles_and_transactions_outlive_a_cancel() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut card = bench.connect(&a);
    let other = bench.connect(&b);
    let transaction = card.transaction().unwrap();
    let wait = waiting(&a, None, one(&bench.reader(), State::PRESENT | State::INUSE));
    outstanding(&a, 1);
    bench.port.with(sim::Reader::forget);
    a.cancel().unwrap();
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED, "the card was not reset");
    let kept_out = run(move || (exchange(&other, &ECHO), other));
    outstanding(&b, 1);
    assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED);
    assert_eq!(instructions(&bench), [0x10, 0x10], "the other's has to wait");
    transaction.end(Disposition::LeaveCard).unwrap();
    assert_eq!(kept_out.join().0.unwrap(), ECHOED);
    until("the other's was sent", || instructions(&bench).len() == 3);
    no_violations(&bench);
}
