//! Cases 20 to 36: status waits.

use crate::common::{Bench, until};
use crate::fixture::{PROMPT, SLOT, bench, connect, now, one, outstanding, until_state, waiting};
use ifd::transport::sim::SimTransport;
use scard::{Disposition, Error, PNP_NOTIFICATION, ReaderState, ShareMode, State};
use sim::card::FileCard;
use sim::{Port, presets};
use std::time::{Duration, Instant};

fn pnp() -> ReaderState {
    ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)
}

#[test]
fn case_020_no_states_is_success_at_once() {
    let context = bench("default").context();
    assert_eq!(context.get_status_change(None, &mut []), Ok(()));
    assert_eq!(context.get_status_change(Duration::ZERO, &mut []), Ok(()));
}

#[test]
fn case_021_unaware_learns_the_state_at_once() {
    for (preset, wanted) in [("default", State::PRESENT), ("empty", State::EMPTY)] {
        let bench = bench(preset);
        let (result, states) =
            waiting(&bench.context(), None, one(&bench.reader(), State::UNAWARE)).join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), wanted | State::CHANGED);
    }
}

#[test]
fn case_022_a_known_state_without_time_is_a_timeout_at_once() {
    let bench = bench("default");
    let mut states = one(&bench.reader(), State::PRESENT);
    let result = bench.context().get_status_change(Duration::ZERO, &mut states);
    assert_eq!(result, Err(Error::Timeout));
    assert_eq!(states[0].event_state(), State::PRESENT, "told, without CHANGED");
    assert!(!states[0].atr().is_empty());
}

#[test]
fn case_023_the_timeout_is_kept_over_wake_ups_for_nothing() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let time = Duration::from_millis(300);
    // A wait for all that happens, while things happen that are no change of what it waits for.
    let states = vec![
        pnp(),
        ReaderState::new(names[0].clone(), State::PRESENT),
        ReaderState::new(names[2].clone(), State::IGNORE),
    ];
    let began = Instant::now();
    let wait = waiting(&context, time, states);
    outstanding(&context, 1);
    while began.elapsed() < time / 2 {
        bench.port.with(|reader| drop(reader.insert(ccid::Slot(2), FileCard::t1())));
        bench.port.with(|reader| drop(reader.remove(ccid::Slot(2))));
        std::thread::yield_now();
    }
    let (result, _) = wait.join();
    assert_eq!(result, Err(Error::Timeout));
    assert!(began.elapsed() >= time);
    assert!(began.elapsed() < time + PROMPT);
}

#[test]
fn case_024_an_insertion_is_told_with_the_atr() {
    let bench = bench("empty");
    let context = bench.context();
    let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    let (result, states) = wait.join();
    assert_eq!(result, Ok(()));
    assert_eq!(states[0].event_state(), State::PRESENT | State::CHANGED);
    let card = bench.connect(&context);
    assert_eq!(states[0].atr(), card.status2_owned().unwrap().atr());
    assert_eq!(states[0].atr()[0], 0x3B);
}

#[test]
fn case_025_a_removal_leaves_nothing_of_the_card() {
    let bench = bench("default");
    let context = bench.context();
    for share in [ShareMode::Shared, ShareMode::Exclusive] {
        let _card = connect(&context, &bench.reader(), share).unwrap();
        let known = now(&context, &bench.reader()).event_state() - State::CHANGED;
        let wait = waiting(&context, None, one(&bench.reader(), known));
        outstanding(&context, 1);
        bench.port.with(|reader| drop(reader.remove(SLOT)));
        let (result, states) = wait.join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), State::EMPTY | State::CHANGED);
        assert_eq!(states[0].atr(), []);
        bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
        until_state(&context, &bench.reader(), State::PRESENT);
    }
}

#[test]
fn case_026_it_is_the_same_whether_the_wait_or_the_card_was_first() {
    let mut seen = Vec::new();
    for card_first in [true, false] {
        let bench = bench("empty");
        let context = bench.context();
        let insert = || bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
        if card_first {
            insert();
        }
        let wait = waiting(&context, None, one(&bench.reader(), State::EMPTY));
        if !card_first {
            outstanding(&context, 1);
            insert();
        }
        let (result, states) = wait.join();
        seen.push((result, states[0].event_state(), states[0].atr().to_vec()));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn case_027_only_the_reader_that_changes_is_marked() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let known = [State::PRESENT, State::PRESENT, State::EMPTY];
    let states = names.iter().zip(known).map(|(name, known)| ReaderState::new(name.clone(), known));
    let wait = waiting(&context, None, states.collect());
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.insert(ccid::Slot(2), FileCard::t1())));
    let (result, states) = wait.join();
    assert_eq!(result, Ok(()));
    let events: Vec<_> = states.iter().map(ReaderState::event_state).collect();
    assert_eq!(events, [State::PRESENT, State::PRESENT, State::PRESENT | State::CHANGED]);
}

#[test]
fn case_028_an_ignored_reader_wakes_nobody() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let states = vec![
        ReaderState::new(names[2].clone(), State::IGNORE),
        ReaderState::new(names[0].clone(), State::PRESENT),
    ];
    let wait = waiting(&context, None, states);
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.insert(ccid::Slot(2), FileCard::t1())));
    until_state(&bench.context(), &names[2], State::PRESENT);
    assert_eq!(context.outstanding_calls(), Ok(1), "it waits on");
    bench.port.with(|reader| drop(reader.remove(SLOT)));
    let (result, states) = wait.join();
    assert_eq!(result, Ok(()));
    assert_eq!(states[0].event_state(), State::IGNORE);
    assert_eq!(states[1].event_state(), State::EMPTY | State::CHANGED);
    // Nothing but ignored readers is nothing to wait for.
    let all = waiting(&context, None, one(&names[2], State::IGNORE));
    assert_eq!(all.join().0, Ok(()));
}

#[test]
fn case_029_an_unknown_reader_is_told_at_once() {
    let bench = bench("default");
    let unknown = ReaderState::new(c"No such reader 00 00", State::UNAWARE);
    let known = ReaderState::new(bench.reader(), State::PRESENT);
    for states in
        [vec![unknown.clone()], vec![known.clone(), unknown.clone()], vec![unknown, pnp()]]
    {
        let (result, _) = waiting(&bench.context(), None, states).join();
        assert_eq!(result, Err(Error::UnknownReader));
    }
}

#[test]
fn case_030_a_reader_that_is_unplugged_ends_the_wait() {
    let bench = bench("default");
    let context = bench.context();
    let wait = waiting(&context, None, one(&bench.reader(), State::PRESENT));
    outstanding(&context, 1);
    bench.port.unplug();
    let (result, states) = wait.join();
    match result {
        Ok(()) => {
            let wanted = State::CHANGED | State::UNAVAILABLE | State::UNKNOWN;
            assert_eq!(states[0].event_state(), wanted);
            assert_eq!(states[0].atr(), []);
        }
        // It was outstanding, and had not looked for the reader yet.
        result => assert_eq!(result, Err(Error::UnknownReader)),
    }
}

/// The name for readers, as pcsc-lite has it: the counter of the last wait.
#[test]
fn case_031_readers_coming_and_going_end_a_wait_for_them() {
    let bench = bench("default");
    let context = bench.context();
    let mut states = vec![pnp()];
    // Unaware, it waits: there is nothing that it could be unaware of.
    let first = context.get_status_change(Duration::ZERO, &mut states);
    assert_eq!((first, states[0].event_state()), (Err(Error::Timeout), State::empty()));
    states[0].sync_current_state();
    bench.port.unplug();
    let (result, mut states) = waiting(&context, None, states).join();
    assert_eq!((result, states[0].event_state()), (Ok(()), State::CHANGED));
    states[0].sync_current_state();
    let again = context.get_status_change(Duration::ZERO, &mut states);
    assert_eq!(again, Err(Error::Timeout), "it has been told");
    bench.port.plug();
    bench.attach();
    assert_eq!(context.get_status_change(None, &mut states), Ok(()));
    // And without any counter: a change after the wait has begun.
    let wait = waiting(&context, None, vec![pnp()]);
    outstanding(&context, 1);
    // Whether it looks already cannot be seen: readers come until it has ended.
    for _ in 0..1000 {
        if context.outstanding_calls() == Ok(0) {
            break;
        }
        let twin = Port::new(presets::by_name("empty").unwrap());
        bench.stack.attach(SimTransport::new(twin).unwrap()).unwrap();
    }
    assert_eq!(wait.join().0, Ok(()));
}

/// A program lists the readers, finds none, and waits for one: it may come in between.
#[test]
fn case_031_a_reader_that_comes_between_list_and_wait_is_not_missed() {
    let bench = bench("default");
    let context = bench.context();
    bench.port.unplug();
    until("it is gone", || context.list_readers_owned() == Ok(Vec::new()));
    bench.port.plug();
    bench.attach();
    let mut states = vec![pnp()];
    assert_eq!(context.get_status_change(None, &mut states), Ok(()));
    assert_eq!(states[0].event_state(), State::CHANGED);
    // It has been told, whether it lists them now or not.
    let again = context.get_status_change(Duration::ZERO, &mut [pnp()]);
    assert_eq!(again, Err(Error::Timeout));
    // What it knows of the count it knows better.
    context.list_readers_owned().unwrap();
    bench.port.unplug();
    until("it is gone", || bench.context().list_readers_len() == Ok(1));
    let mut known = vec![pnp()];
    bench.context().get_status_change(Duration::ZERO, &mut known).unwrap_err();
    known[0].sync_current_state();
    assert_eq!(context.get_status_change(Duration::ZERO, &mut known), Err(Error::Timeout));
}

/// The same as Windows has it: the number of readers that the caller knows.
#[test]
fn case_031_the_number_of_readers_may_be_told_instead() {
    let bench = bench("three-slots");
    let context = bench.context();
    let with = |count| vec![pnp().with_event_count(count)];
    let known = context.get_status_change(Duration::ZERO, &mut with(3));
    assert_eq!(known, Err(Error::Timeout), "it knows all three");
    for missed in [2, 4] {
        assert_eq!(context.get_status_change(None, &mut with(missed)), Ok(()), "{missed}");
    }
    let wait = waiting(&context, None, with(3));
    outstanding(&context, 1);
    bench.port.unplug();
    let (result, states) = wait.join();
    assert_eq!((result, states[0].event_state()), (Ok(()), State::CHANGED));
    let none = waiting(&context, None, with(3));
    assert_eq!(none.join().0, Ok(()), "missed");
}

#[test]
fn case_032_others_handles_are_seen() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let reader = bench.reader();
    for (share, wanted) in [
        (ShareMode::Shared, State::INUSE),
        (ShareMode::Direct, State::INUSE),
        (ShareMode::Exclusive, State::EXCLUSIVE),
    ] {
        // That they come and go are changes, too.
        let wait = waiting(&a, None, one(&reader, State::PRESENT));
        outstanding(&a, 1);
        let card = connect(&b, &reader, share).unwrap();
        let (result, mut states) = wait.join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), State::PRESENT | wanted | State::CHANGED);
        assert_eq!(now(&a, &reader).event_state(), State::PRESENT | wanted | State::CHANGED);
        states[0].sync_current_state();
        let wait = waiting(&a, None, states);
        outstanding(&a, 1);
        card.disconnect(Disposition::LeaveCard).unwrap();
        let (result, states) = wait.join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), State::PRESENT | State::CHANGED);
    }
}

#[test]
fn case_033_a_mute_card_is_present_and_mute() {
    let bench = bench("mute");
    let state = now(&bench.context(), &bench.reader());
    assert_eq!(state.event_state(), State::PRESENT | State::MUTE | State::CHANGED);
    assert_eq!(state.atr(), []);
}

#[test]
fn case_034_what_happened_between_two_waits_is_told_by_the_counter() {
    for (preset, known) in [("default", State::PRESENT), ("empty", State::EMPTY)] {
        let bench = bench(preset);
        let context = bench.context();
        let before = now(&context, &bench.reader());
        assert_ne!(before.event_count(), 0, "0 is for those who do not count");
        // Out and in, or in and out: the state is the same again.
        for step in 0..2 {
            let inserts = (known == State::PRESENT) == (step == 1);
            bench.port.with(|reader| match inserts {
                true => drop(reader.insert(SLOT, FileCard::t1())),
                false => drop(reader.remove(SLOT)),
            });
            let there = if inserts { State::PRESENT } else { State::EMPTY };
            until_state(&context, &bench.reader(), there);
        }
        let mut states = vec![before.clone()];
        states[0].sync_current_state();
        let (result, states) = waiting(&context, None, states).join();
        assert_eq!(result, Ok(()));
        assert_eq!(states[0].event_state(), known | State::CHANGED);
        assert_eq!(states[0].event_count(), before.event_count() + 2);
        // Who does not count is not told.
        let mut uncounted = one(&bench.reader(), known);
        let told = context.get_status_change(Duration::ZERO, &mut uncounted);
        assert_eq!(told, Err(Error::Timeout));
    }
}

// For pvUserData: the name and the place of an entry. An ATR has its own length.
#[test]
fn case_035_entries_keep_name_and_place() {
    let bench = bench("three-slots");
    let context = bench.context();
    let mut names = context.list_readers_owned().unwrap();
    names.reverse();
    let mut states: Vec<_> =
        names.iter().map(|name| ReaderState::new(name.clone(), State::UNAWARE)).collect();
    for _ in 0..2 {
        context.get_status_change(None, &mut states).unwrap();
        let same: Vec<_> = states.iter().map(|state| state.name().to_owned()).collect();
        assert_eq!(same, names);
        let lengths = states.iter().map(|state| state.atr().len());
        assert!(lengths.clone().all(|length| length <= scard::MAX_ATR_SIZE), "{states:?}");
        assert_eq!(lengths.filter(|length| *length > 0).count(), 2);
        assert!(states.iter().all(|state| state.current_state() == State::UNAWARE));
    }
}

// A NULL array with a length cannot be; many entries, the same reader among them more than once.
#[test]
fn case_036_more_than_ten_entries() {
    let bench = Bench::new(presets::by_name("eight-slots").unwrap());
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let known = State::PRESENT;
    let mut states: Vec<_> = names
        .iter()
        .chain(&names)
        .map(|name| ReaderState::new(name.clone(), known))
        .chain([pnp()])
        .collect();
    assert_eq!(states.len(), 17);
    assert_eq!(context.get_status_change(Duration::ZERO, &mut states), Err(Error::Timeout));
    let wait = waiting(&context, None, states);
    outstanding(&context, 1);
    bench.port.with(|reader| drop(reader.remove(ccid::Slot(5))));
    let (result, states) = wait.join();
    assert_eq!(result, Ok(()));
    let changed = |state: &ReaderState| state.event_state().contains(State::CHANGED);
    let changed: Vec<_> = (0..17).filter(|n| changed(&states[*n])).collect();
    assert_eq!(changed, [5, 13]);
    until("nothing is left of it", || context.outstanding_calls() == Ok(0));
}
