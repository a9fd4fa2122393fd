//! Cases 1 to 10: contexts.

use crate::common::{Bench, run, until};
use crate::fixture::{
    ECHO, ECHOED, NEVER, SLOT, bench, busy, connect, exchange, now, outstanding, power,
};
use scard::{Context, Disposition, Error, Protocols, ReaderState, ShareMode, Stack, State};
use sim::{Reader, presets};

// For a NULL output pointer: a context is a value, so there is none to be missing; what keeps one
// from coming into being is told instead of it.
#[test]
fn case_001_establish_gives_a_context_or_says_why_not() {
    let stack = Stack::empty();
    assert!(Context::on(&stack).is_ok());
    stack.shutdown();
    assert_eq!(Context::on(&stack).unwrap_err(), Error::ServiceStopped);
}

// The scope makes no difference; establishing needs the machine's USB, which no test touches.
#[test]
fn case_002_two_contexts_differ_and_are_both_valid() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    assert_ne!(format!("{a:?}"), format!("{b:?}"));
    assert_eq!((a.is_valid(), b.is_valid()), (Ok(()), Ok(())));
    a.release().unwrap();
    assert_eq!(b.is_valid(), Ok(()));
    assert_eq!(b.list_readers_owned().unwrap().len(), 1);
}

// Released through one of its clones, as a handle's value would be known elsewhere.
#[test]
fn case_003_a_context_is_valid_until_it_is_released() {
    let context = bench("default").context();
    let clone = context.clone();
    assert_eq!(clone.is_valid(), Ok(()));
    context.release().unwrap();
    assert_eq!(clone.is_valid(), Err(Error::InvalidHandle));
}

// For a value that was never issued: a canceller whose stack is gone, and a released context.
#[test]
fn case_004_what_is_no_context_is_refused_by_every_call() {
    let canceller = bench("default").context().canceller();
    assert_eq!(canceller.cancel(), Err(Error::InvalidHandle));
    let bench = bench("default");
    let (context, reader) = (bench.context(), bench.reader());
    let released = context.clone();
    context.release().unwrap();
    let invalid = Error::InvalidHandle;
    assert_eq!(released.is_valid(), Err(invalid));
    assert_eq!(released.cancel(), Err(invalid));
    assert_eq!(released.canceller().cancel(), Err(invalid));
    assert_eq!(released.outstanding_calls(), Err(invalid));
    assert_eq!(released.list_readers_owned(), Err(invalid));
    assert_eq!(released.list_readers_len(), Err(invalid));
    assert_eq!(released.list_readers(&mut [0; 256]).map(|_| ()), Err(invalid));
    assert_eq!(released.list_reader_groups_owned(), Err(invalid));
    assert_eq!(connect(&released, &reader, ShareMode::Shared).unwrap_err(), invalid);
    let mut states = [ReaderState::new(reader, State::UNAWARE)];
    assert_eq!(released.get_status_change(None, &mut states), Err(invalid));
    assert_eq!(released.locate_cards_by_atr(&[], &mut states), Err(invalid));
    assert_eq!(released.set_cancel_commands(true), Err(invalid));
    assert_eq!(released.set_transaction_limit(None), Err(invalid));
    assert_eq!(released.release().unwrap_err().1, invalid);
}

#[test]
fn case_005_a_context_is_released_once() {
    let bench = bench("default");
    let context = bench.context();
    let (first, second) = (context.clone(), context);
    first.release().unwrap();
    let (again, error) = second.release().unwrap_err();
    assert_eq!(error, Error::InvalidHandle);
    // And that it was tried does not make it less released.
    assert_eq!(again.release().unwrap_err().1, Error::InvalidHandle);
}

#[test]
fn case_006_release_closes_the_handles() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let card = bench.connect(&a);
    a.release().unwrap();
    assert_eq!(exchange(&card, &ECHO), Err(Error::InvalidHandle));
    assert_eq!(card.status2_owned().unwrap_err(), Error::InvalidHandle);
    let alone = connect(&b, &bench.reader(), ShareMode::Exclusive).unwrap();
    assert_eq!(exchange(&alone, &ECHO).unwrap(), ECHOED);
    let (_, error) = card.disconnect(Disposition::LeaveCard).unwrap_err();
    assert_eq!(error, Error::InvalidHandle);
    // That the handle was gone took nothing from the one that is open.
    assert_eq!(exchange(&alone, &ECHO).unwrap(), ECHOED);
}

// For another client process: another stack, whose contexts have the same numbers.
#[test]
fn case_007_a_context_is_nothing_to_others() {
    let (ours, theirs) = (bench("default"), bench("default"));
    let (a, b) = (ours.context(), theirs.context());
    let card = theirs.connect(&b);
    let command = run(move || card.transmit_owned(&NEVER, None));
    until("the reader is at it", || busy(&theirs, 0));
    let canceller = a.canceller();
    a.cancel().unwrap();
    a.release().unwrap();
    drop(ours);
    assert_eq!(canceller.cancel(), Err(Error::InvalidHandle));
    assert_eq!(b.outstanding_calls(), Ok(1), "theirs goes on");
    b.cancel().unwrap();
    assert_eq!(command.join(), Err(Error::Cancelled));
}

// A handle that was closed cannot be used again: it has been moved.
#[test]
fn case_008_handle_and_context_are_closed_after_the_reader_has_gone() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    bench.port.unplug();
    until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
    card.disconnect(Disposition::ResetCard).unwrap();
    let clone = context.clone();
    context.release().unwrap();
    assert_eq!(clone.release().unwrap_err().1, Error::InvalidHandle);
}

#[test]
fn case_009_a_context_outlives_its_last_reader() {
    let bench = bench("default");
    let context = bench.context();
    bench.port.unplug();
    until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
    assert_eq!(context.is_valid(), Ok(()));
    bench.port.plug();
    bench.attach();
    assert_eq!(context.list_readers_owned().unwrap().len(), 1);
    assert_eq!(exchange(&bench.connect(&context), &ECHO).unwrap(), ECHOED);
}

// For a client that dies: a thread that panics with all it has.
#[test]
fn case_010_who_dies_leaves_the_card_reset_and_free() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let other = bench.connect(&b);
    let mut card = bench.connect(&a);
    bench.port.with(Reader::forget);
    let died = std::thread::spawn(move || {
        let _context = a;
        let _transaction = card.transaction().unwrap();
        panic!("the client dies");
    })
    .join();
    assert!(died.is_err());
    assert_eq!(power(&bench, 1), [crate::fixture::POWER_ON], "a reset");
    assert_eq!(exchange(&other, &ECHO), Err(Error::ResetCard));
    drop(other);
    let alone = connect(&b, &bench.reader(), ShareMode::Exclusive).unwrap();
    assert_eq!(exchange(&alone, &ECHO).unwrap(), ECHOED);
}

/// A context that is released with its transaction held is one whose owner has died.
#[test]
fn case_010_release_in_a_transaction_resets_the_card() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let card = bench.connect(&a);
    let mut other = bench.connect(&b);
    card.begin_transaction().unwrap();
    let queued = run({
        let b = b.clone();
        move || (other.transaction().map(drop), other, b)
    });
    outstanding(&b, 1);
    bench.port.with(Reader::forget);
    a.release().unwrap();
    let (result, mut other, _) = queued.join();
    assert_eq!(result, Err(Error::ResetCard));
    assert_eq!(power(&bench, 1), [crate::fixture::POWER_ON]);
    other.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert_eq!(exchange(&other, &ECHO).unwrap(), ECHOED);
}

/// Whatever is outstanding when a context goes, or a handle, ends, and the slot is free.
#[test]
fn case_010_nothing_is_left_behind_in_any_state() {
    let reader = presets::all().iter().find(|preset| preset.name == "three-slots").unwrap();
    let bench = Bench::new(reader.builder().build());
    let (a, b) = (bench.context(), bench.context());
    let names = a.list_readers_owned().unwrap();
    let keeper = connect(&b, &names[1], ShareMode::Shared).unwrap();
    keeper.begin_transaction().unwrap();
    // One runs a command, one waits for its turn, two wait for the other's transaction, one for a
    // card, and one has just a transaction.
    let running = connect(&a, &names[0], ShareMode::Shared).unwrap();
    let behind = connect(&a, &names[0], ShareMode::Shared).unwrap();
    let idle = connect(&a, &names[0], ShareMode::Direct).unwrap();
    let never = run(move || running.transmit_owned(&NEVER, None).map(drop));
    until("the reader is at it", || busy(&bench, 0));
    let mut calls = vec![never, run(move || behind.transmit_owned(&ECHO, None).map(drop))];
    calls.push(run({
        let (a, name) = (a.clone(), names[1].clone());
        move || connect(&a, &name, ShareMode::Shared).map(drop)
    }));
    let states = crate::fixture::waiting(&a, None, crate::fixture::one(&names[2], State::EMPTY));
    outstanding(&a, 4);
    a.clone().release().unwrap();
    for call in calls {
        assert_eq!(call.join(), Err(Error::Cancelled));
    }
    assert_eq!(states.join().0, Err(Error::Cancelled));
    drop((idle, a));
    assert_eq!(exchange(&keeper, &ECHO).unwrap(), ECHOED, "another's handle is left alone");
    keeper.end_transaction(Disposition::LeaveCard).unwrap();
    drop(keeper);
    for name in &names[..2] {
        let alone = connect(&b, name, ShareMode::Exclusive).unwrap();
        let (command, expected) = crate::fixture::echo(3);
        assert_eq!(exchange(&alone, &command).unwrap(), expected);
        assert!(now(&b, name).event_state().contains(State::EXCLUSIVE));
        drop(alone);
        let free = now(&b, name).event_state();
        assert!(!free.intersects(State::EXCLUSIVE | State::INUSE), "{free:?}");
    }
    assert_eq!(b.outstanding_calls(), Ok(0));
    assert!(bench.port.with(|reader| reader.has_card(SLOT)));
}
