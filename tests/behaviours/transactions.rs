//! Cases 82 to 92: transactions.

use crate::common::run;
use crate::fixture::{
    ECHO, ECHOED, POWER_ON, bench, connect, exchange, no_violations, outstanding, power, slow,
};
use scard::{Attribute, Card, Disposition, Error, Protocols, ShareMode};
use sim::Reader;
use std::time::{Duration, Instant};

#[test]
fn case_082_a_transaction_keeps_others_out_until_it_ends() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut card = bench.connect(&a);
    let mut other = bench.connect(&b);
    let transaction = card.transaction().unwrap();
    let queued = run(move || {
        let result = other.transaction().map(drop);
        (result, Instant::now(), other)
    });
    outstanding(&b, 1);
    assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED);
    assert_eq!(b.outstanding_calls(), Ok(1), "it waits");
    let ended = Instant::now();
    transaction.end(Disposition::LeaveCard).unwrap();
    let (result, began, _other) = queued.join();
    assert_eq!(result, Ok(()));
    assert!(began >= ended && began - ended < crate::fixture::PROMPT);
}

/// Attributes are told and control is refused at once; the rest waits.
#[test]
fn case_083_what_waits_for_the_end_of_anothers_transaction() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let held = bench.connect(&a);
    held.begin_transaction().unwrap();
    let reader = bench.reader();
    type Action = fn(&mut Card) -> Result<(), Error>;
    let waits: [Action; 3] = [
        |card| card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard),
        |card| exchange(card, &ECHO).map(drop),
        |card| card.status2_owned().map(drop),
    ];
    let others: Vec<_> = waits
        .into_iter()
        .map(|action| {
            let direct = connect(&b, &reader, ShareMode::Direct);
            (action, direct.expect("the reader itself can be had at once"))
        })
        .collect();
    let at_once = &others[0].1;
    assert!(at_once.get_attribute_owned(Attribute::AtrString).is_ok());
    let control = at_once.control_owned(scard::CTL_ESCAPE, &[1], None);
    assert_eq!(control, Err(Error::SharingViolation));
    let set = at_once.set_attribute(Attribute::AtrString, &[1]);
    assert_eq!(set, Err(Error::SharingViolation));
    let mut queued: Vec<_> = others
        .into_iter()
        .map(|(action, mut card)| run(move || (action(&mut card), Some(card))))
        .collect();
    queued.push(run({
        let (b, reader) = (b.clone(), reader.clone());
        move || match connect(&b, &reader, ShareMode::Shared) {
            Ok(card) => (Ok(()), Some(card)),
            Err(error) => (Err(error), None),
        }
    }));
    outstanding(&b, 4);
    assert_eq!(exchange(&held, &ECHO).unwrap(), ECHOED);
    assert_eq!(b.outstanding_calls(), Ok(4), "all wait");
    held.end_transaction(Disposition::LeaveCard).unwrap();
    let ended: Vec<_> = queued.into_iter().map(crate::common::Running::join).collect();
    assert!(ended.iter().all(|(result, _)| *result == Ok(())));
    no_violations(&bench);
}

#[test]
fn case_084_exclusive_is_refused_at_once_during_a_transaction() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let held = bench.connect(&a);
    let mut shared = bench.connect(&b);
    held.begin_transaction().unwrap();
    let alone = connect(&b, &bench.reader(), ShareMode::Exclusive);
    assert_eq!(alone.unwrap_err(), Error::SharingViolation);
    let alone = shared.reconnect(ShareMode::Exclusive, Protocols::ANY, Disposition::LeaveCard);
    assert_eq!(alone, Err(Error::SharingViolation));
}

#[test]
fn case_085_what_has_not_begun_does_not_end() {
    let bench = bench("default");
    let card = bench.connect(&bench.context());
    let end = |card: &Card| card.end_transaction(Disposition::ResetCard);
    bench.port.with(Reader::forget);
    assert_eq!(end(&card), Err(Error::NotTransacted));
    card.begin_transaction().unwrap();
    card.end_transaction(Disposition::LeaveCard).unwrap();
    assert_eq!(end(&card), Err(Error::NotTransacted));
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED, "the card was not reset");
    let alone = {
        drop(card);
        connect(&bench.context(), &bench.reader(), ShareMode::Exclusive).unwrap()
    };
    assert_eq!(end(&alone), Err(Error::NotTransacted), "exclusive is no transaction");
}

#[test]
fn case_086_nobody_ends_anothers_transaction() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let held = bench.connect(&a);
    let other = bench.connect(&b);
    held.begin_transaction().unwrap();
    bench.port.with(Reader::forget);
    for disposition in [Disposition::LeaveCard, Disposition::UnpowerCard] {
        assert_eq!(other.end_transaction(disposition), Err(Error::SharingViolation));
    }
    assert_eq!(exchange(&held, &ECHO).unwrap(), ECHOED, "the card was not reset");
    assert_eq!(held.end_transaction(Disposition::LeaveCard), Ok(()));
    assert_eq!(crate::fixture::commands(&bench), [0x6F]);
}

/// A reset that is wished for meanwhile is done when the transaction ends, and not lost.
#[test]
fn case_087_a_disconnect_does_not_wait_for_anothers_transaction() {
    for disposition in [Disposition::LeaveCard, Disposition::ResetCard] {
        let bench = bench("default");
        let (a, b) = (bench.context(), bench.context());
        let held = bench.connect(&a);
        let other = bench.connect(&b);
        held.begin_transaction().unwrap();
        bench.port.with(Reader::forget);
        other.disconnect(disposition).unwrap();
        assert_eq!(exchange(&held, &ECHO).unwrap(), ECHOED, "{disposition:?}: it is kept");
        held.end_transaction(Disposition::LeaveCard).unwrap();
        match disposition {
            Disposition::LeaveCard => assert_eq!(exchange(&held, &ECHO).unwrap(), ECHOED),
            _ => {
                assert_eq!(power(&bench, 1), [POWER_ON]);
                assert_eq!(exchange(&held, &ECHO), Err(Error::ResetCard));
            }
        }
        no_violations(&bench);
    }
}

#[test]
fn case_088_who_waits_while_the_card_is_reset_is_told() {
    for disposition in [Disposition::ResetCard, Disposition::UnpowerCard, Disposition::EjectCard] {
        let bench = bench("default");
        let (a, b) = (bench.context(), bench.context());
        let held = bench.connect(&a);
        let mut other = bench.connect(&b);
        held.begin_transaction().unwrap();
        let queued = run(move || (other.transaction().map(drop), other));
        outstanding(&b, 1);
        held.end_transaction(disposition).unwrap();
        let (result, mut other) = queued.join();
        assert_eq!(result, Err(Error::ResetCard), "{disposition:?}");
        assert_eq!(exchange(&held, &ECHO), Err(Error::ResetCard), "its own handle as well");
        other.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
        assert!(other.transaction().is_ok(), "nobody has it");
        assert_eq!(exchange(&other, &ECHO).unwrap(), ECHOED);
        no_violations(&bench);
    }
}

/// Kept, as in pcsc-lite.
#[test]
fn case_089_reconnect_keeps_the_transaction() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut card = bench.connect(&a);
    let other = bench.connect(&b);
    let mut transaction = card.transaction().unwrap();
    for initialization in [Disposition::LeaveCard, Disposition::ResetCard] {
        transaction.reconnect(ShareMode::Shared, Protocols::ANY, initialization).unwrap();
        let control = other.control_owned(scard::CTL_ESCAPE, &[1], None);
        assert_eq!(control, Err(Error::SharingViolation), "others are kept out");
        assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED);
    }
    transaction.end(Disposition::LeaveCard).unwrap();
    assert_eq!(exchange(&other, &ECHO), Err(Error::ResetCard));
}

#[test]
fn case_090_an_idle_transaction_ends_if_there_is_a_limit() {
    let limit = Duration::from_millis(1500);
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    a.set_transaction_limit(Some(limit)).unwrap();
    let card = bench.connect(&a);
    let mut other = bench.connect(&b);
    card.begin_transaction().unwrap();
    let queued = run(move || (other.transaction().map(drop), Instant::now(), other));
    outstanding(&b, 1);
    // Whatever is done in it, a command that takes longer than the limit included, begins it anew.
    assert_eq!(exchange(&card, &slow(2000)).unwrap(), [0x90, 0x00][..]);
    let began = Instant::now();
    while began.elapsed() < limit * 3 / 2 {
        assert!(card.get_attribute_owned(Attribute::AtrString).is_ok());
        assert!(card.status2_owned().is_ok());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(b.outstanding_calls(), Ok(1), "it is still held");
    bench.port.with(Reader::forget);
    let last = Instant::now();
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    let (result, ended, mut other) = queued.join();
    assert_eq!(result, Err(Error::ResetCard), "the next is told of the reset");
    assert!(ended - last >= limit);
    assert_eq!(power(&bench, 1), [POWER_ON]);
    assert_eq!(exchange(&card, &ECHO), Err(Error::ResetCard));
    assert_eq!(card.end_transaction(Disposition::LeaveCard), Err(Error::ResetCard));
    other.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    let transaction = other.transaction().unwrap();
    assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED);
    no_violations(&bench);
}

#[test]
fn case_091_who_closes_its_handle_frees_the_card() {
    for dies in [false, true] {
        let bench = bench("default");
        let (a, b) = (bench.context(), bench.context());
        let held = bench.connect(&a);
        let other = bench.connect(&b);
        held.begin_transaction().unwrap();
        held.begin_transaction().unwrap();
        let queued = run(move || (exchange(&other, &ECHO), other));
        outstanding(&b, 1);
        if dies {
            let died = std::thread::spawn(move || {
                let _held = held;
                panic!("the holder dies");
            });
            assert!(died.join().is_err());
            assert_eq!(queued.join().0, Err(Error::ResetCard));
        } else {
            held.disconnect(Disposition::LeaveCard).unwrap();
            assert_eq!(queued.join().0.unwrap(), ECHOED);
        }
    }
}

/// Counted, as in pcsc-lite.
#[test]
fn case_092_as_many_ends_as_begins() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut card = bench.connect(&a);
    let other = bench.connect(&b);
    let queued = {
        let mut outer = card.transaction().unwrap();
        let queued = run(move || (exchange(&other, &ECHO), other));
        outstanding(&b, 1);
        // What an inner end says of the card is nothing: it is not the end.
        bench.port.with(Reader::forget);
        outer.transaction().unwrap().end(Disposition::ResetCard).unwrap();
        assert_eq!(exchange(&outer, &ECHO).unwrap(), ECHOED);
        drop(outer.transaction().unwrap());
        assert_eq!(b.outstanding_calls(), Ok(1), "the outer one goes on");
        outer.end(Disposition::LeaveCard).unwrap();
        queued
    };
    let (result, _other) = queued.join();
    assert_eq!(result.unwrap(), ECHOED);
    assert_eq!(card.end_transaction(Disposition::LeaveCard), Err(Error::NotTransacted));
}
