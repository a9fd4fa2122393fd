//! What goes beyond the cases: locating cards, counting commands, causes.

use crate::common::run;
use crate::fixture::{ECHO, ECHOED, bench, busy, connect, echo, exchange, one};
use scard::{
    AtrMask, Cause, Disposition, Error, Failure, PNP_NOTIFICATION, Protocols, ReaderState,
    ShareMode, State, last_cause,
};
use std::error::Error as _;

#[test]
fn cards_are_located_by_their_atr() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    let mut states: Vec<_> =
        names.iter().map(|name| ReaderState::new(name.clone(), State::UNAWARE)).collect();
    states.push(ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE));
    let mut found = |atrs: &[AtrMask]| {
        context.locate_cards_by_atr(atrs, &mut states).unwrap();
        let matched = |state: &ReaderState| state.event_state().contains(State::ATRMATCH);
        (states.iter().map(matched).collect::<Vec<_>>(), states.clone())
    };
    let (none, seen) = found(&[]);
    assert_eq!(none, [false; 4]);
    assert!(seen[0].event_state().contains(State::PRESENT), "the states are told all the same");
    assert!(seen[2].event_state().contains(State::EMPTY));
    let [first, second] = [0, 1].map(|n| seen[n].atr().to_vec());
    assert_ne!(first, second);
    assert_eq!(found(&[AtrMask::exact(&first)]).0, [true, false, false, false]);
    assert_eq!(found(&[AtrMask::exact(&second)]).0, [false, true, false, false]);
    assert_eq!(
        found(&[AtrMask::exact(&first), AtrMask::exact(&second)]).0,
        [true, true, false, false]
    );
    // Only the bits of the mask matter, and the length.
    let (mut bent, mut mask) = (first.clone(), vec![0xFF; first.len()]);
    bent[4] ^= 0x0F;
    assert_eq!(found(&[AtrMask::exact(&bent)]).0, [false; 4]);
    mask[4] = 0xF0;
    let masked = AtrMask::new(&bent, &mask).unwrap();
    assert_eq!(found(&[masked]).0, [true, false, false, false]);
    let longer = [&first[..], &[0]].concat();
    let any = AtrMask::new(&longer, &vec![0; longer.len()]).unwrap();
    assert_eq!(found(&[any]).0, [false; 4]);
    assert_eq!(AtrMask::new(&first, &[0xFF]), Err(Error::InvalidParameter));
    assert!(!AtrMask::exact(&[]).matches(&[]), "no card is no match");
    let unknown = context.locate_cards_by_atr(&[], &mut one(&c"none".into(), State::UNAWARE));
    assert_eq!(unknown, Err(Error::UnknownReader));
}

#[test]
fn commands_are_counted_for_the_reader() {
    let bench = bench("three-slots");
    let (a, b) = (bench.context(), bench.context());
    let names = a.list_readers_owned().unwrap();
    let connect = |context, n: usize| connect(context, &names[n], ShareMode::Shared).unwrap();
    let (first, same, other) = (connect(&a, 0), connect(&b, 0), connect(&b, 1));
    assert_eq!(first.transmit_count(), Ok(0));
    for n in 1..=3 {
        exchange(&first, &echo(n).0).unwrap();
    }
    exchange(&same, &ECHO).unwrap();
    let limit = Some(std::time::Duration::from_millis(20));
    assert_eq!(same.transmit_owned(&crate::fixture::NEVER, limit), Err(Error::Timeout));
    assert_eq!((first.transmit_count(), same.transmit_count()), (Ok(4), Ok(4)), "answered ones");
    assert_eq!(other.transmit_count(), Ok(0));
    // It is the reader's, not the handle's.
    first.disconnect(Disposition::LeaveCard).unwrap();
    assert_eq!(connect(&a, 0).transmit_count(), Ok(4));
}

#[test]
fn what_stands_behind_a_code_is_told_to_its_thread() {
    let bench = bench("default");
    let mut card = bench.connect(&bench.context());
    assert_eq!(last_cause(), None);
    let error = exchange(&card, &[0x00, 0x1A, 0x00, 0x00]).unwrap_err();
    assert_eq!(error, Error::NotTransacted);
    assert_eq!(last_cause(), Some(Cause::CardMute));
    let failure = Failure::from(error);
    assert_eq!((failure.error(), failure.cause()), (error, Some(&Cause::CardMute)));
    assert_eq!(failure.to_string(), error.to_string());
    assert_eq!(failure.source().unwrap().to_string(), "the card does not answer");
    assert_eq!(run(last_cause).join(), None, "another thread's call");
    // The next call forgets it, whether it fails for a reason of the reader's or not.
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::ResetCard).unwrap();
    assert_eq!(last_cause(), None);
    exchange(&card, &[0x00, 0x1A, 0x00, 0x00]).unwrap_err();
    let t0 = card.reconnect(ShareMode::Shared, Protocols::T0, Disposition::LeaveCard);
    assert_eq!((t0, last_cause()), (Err(Error::ProtoMismatch), None));
    let failure = Failure::from(Error::ProtoMismatch);
    assert!(failure.source().is_none());
    let limit = Some(std::time::Duration::from_millis(20));
    let card = bench.connect(&bench.context());
    assert_eq!(card.transmit_owned(&crate::fixture::NEVER, limit), Err(Error::Timeout));
    assert!(matches!(last_cause(), Some(Cause::Timeout(sent)) if sent.message_type == 0x6F));
}

#[test]
fn the_cause_of_a_failed_connect() {
    let bench = bench("mute");
    let context = bench.context();
    let mute = connect(&context, &bench.reader(), ShareMode::Shared);
    assert_eq!(mute.unwrap_err(), Error::UnresponsiveCard);
    assert_eq!(last_cause(), Some(Cause::CardMute));
}

/// A card whose power was cut is powered up by the next who connects, for whom all is well then.
#[test]
fn connecting_powers_up_what_was_powered_off() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let other = bench.connect(&b);
    bench.connect(&a).disconnect(Disposition::UnpowerCard).unwrap();
    let card = bench.connect(&a);
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    assert_eq!(exchange(&other, &ECHO), Err(Error::ResetCard));
    assert!(!busy(&bench, 0));
}
