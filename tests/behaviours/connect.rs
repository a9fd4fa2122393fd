//! Cases 66 to 81: connect, reconnect, disconnect, status.

use crate::common::{Bench, run, until};
use crate::fixture::{
    ECHO, ECHOED, POWER_OFF, POWER_ON, SLOT, bench, commands, connect, exchange, no_violations,
    outstanding, power, until_state,
};
use scard::{Disposition, Error, Protocol, Protocols, ShareMode, State, Status};
use sim::card::FileCard;
use sim::{Reader, presets};

#[test]
fn case_066_without_a_card_only_the_reader_itself_can_be_had() {
    let bench = bench("empty");
    let context = bench.context();
    let reader = bench.reader();
    for share in [ShareMode::Shared, ShareMode::Exclusive] {
        assert_eq!(connect(&context, &reader, share).unwrap_err(), Error::NoSmartcard);
    }
    let card = connect(&context, &reader, ShareMode::Direct).unwrap();
    let status = card.status2_owned().unwrap();
    assert_eq!(status.protocol2(), None);
    assert_eq!(status.status(), Status::ABSENT);
    assert_eq!(status.atr(), []);
}

#[test]
fn case_067_sharing_a_card_takes_a_protocol() {
    let bench = bench("default");
    let context = bench.context();
    for share in [ShareMode::Shared, ShareMode::Exclusive] {
        let none = context.connect(&bench.reader(), share, Protocols::UNDEFINED);
        assert_eq!(none.unwrap_err(), Error::ProtoMismatch);
        let mut card = bench.connect(&context);
        let none = card.reconnect(share, Protocols::UNDEFINED, Disposition::LeaveCard);
        assert_eq!(none, Err(Error::ProtoMismatch));
        assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
        card.disconnect(Disposition::LeaveCard).unwrap();
    }
}

#[test]
fn case_068_the_protocol_is_the_cards() {
    let bench = bench("default");
    let context = bench.context();
    let reader = bench.reader();
    let t0 = context.connect(&reader, ShareMode::Shared, Protocols::T0);
    assert_eq!(t0.unwrap_err(), Error::ProtoMismatch);
    let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap();
    assert_eq!(card.status2_owned().unwrap().protocol2(), Some(Protocol::T1));
    // And the mismatch has left no handle.
    drop(card);
    assert!(connect(&context, &reader, ShareMode::Exclusive).is_ok());
}

#[test]
fn case_069_exclusive_is_exclusive() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let reader = bench.reader();
    let violation = Error::SharingViolation;
    let alone = connect(&a, &reader, ShareMode::Exclusive).unwrap();
    for share in [ShareMode::Shared, ShareMode::Exclusive, ShareMode::Direct] {
        assert_eq!(connect(&b, &reader, share).unwrap_err(), violation);
        assert_eq!(connect(&a, &reader, share).unwrap_err(), violation, "nor for its own context");
    }
    drop(alone);
    let _shared = connect(&a, &reader, ShareMode::Shared).unwrap();
    assert_eq!(connect(&b, &reader, ShareMode::Exclusive).unwrap_err(), violation);
    assert!(connect(&b, &reader, ShareMode::Shared).is_ok());
}

/// Direct shares, as in pcsc-lite.
#[test]
fn case_070_direct_shares() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let reader = bench.reader();
    let direct = connect(&a, &reader, ShareMode::Direct).unwrap();
    let shared = connect(&b, &reader, ShareMode::Shared).unwrap();
    let second = connect(&b, &reader, ShareMode::Direct).unwrap();
    let alone = connect(&b, &reader, ShareMode::Exclusive);
    assert_eq!(alone.unwrap_err(), Error::SharingViolation);
    assert_eq!(exchange(&shared, &ECHO).unwrap(), ECHOED);
    drop((shared, second));
    assert_eq!(direct.status2_owned().unwrap_err(), Error::ResetCard, "by the shared handle's end");
    drop(direct);
    assert!(connect(&b, &reader, ShareMode::Exclusive).is_ok());
}

#[test]
fn case_071_an_unknown_reader() {
    let context = bench("default").context();
    for share in [ShareMode::Shared, ShareMode::Exclusive, ShareMode::Direct] {
        let unknown = connect(&context, &c"No such reader 00 00".into(), share);
        assert_eq!(unknown.unwrap_err(), Error::UnknownReader);
    }
}

#[test]
fn case_072_a_mute_card() {
    let bench = bench("mute");
    let context = bench.context();
    for share in [ShareMode::Shared, ShareMode::Exclusive] {
        let mute = connect(&context, &bench.reader(), share);
        assert_eq!(mute.unwrap_err(), Error::UnresponsiveCard);
    }
    let direct = connect(&context, &bench.reader(), ShareMode::Direct).unwrap();
    let status = direct.status2_owned().unwrap().status();
    assert_eq!(status, Status::PRESENT | Status::SWALLOWED);
}

#[test]
fn case_073_who_was_reset_by_another_is_told_until_it_reconnects() {
    for disposition in [Disposition::ResetCard, Disposition::UnpowerCard, Disposition::EjectCard] {
        let bench = bench("default");
        let (a, b) = (bench.context(), bench.context());
        let card = bench.connect(&a);
        let mut other = bench.connect(&b);
        card.disconnect(disposition).unwrap();
        for _ in 0..2 {
            assert_eq!(other.status2_owned().unwrap_err(), Error::ResetCard);
            assert_eq!(exchange(&other, &ECHO), Err(Error::ResetCard));
            assert_eq!(other.transaction().map(drop), Err(Error::ResetCard));
        }
        other.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
        assert_eq!(exchange(&other, &ECHO).unwrap(), ECHOED, "{disposition:?}");
        no_violations(&bench);
    }
}

/// Control is for the reader, which is still there, as in pcsc-lite.
#[test]
fn case_074_who_lost_its_card_is_told_until_it_reconnects() {
    let bench = bench("default");
    let context = bench.context();
    let reader = bench.reader();
    let mut card = bench.connect(&context);
    bench.port.with(|reader| drop(reader.remove(SLOT)));
    until_state(&context, &reader, State::EMPTY);
    let told = |card: &scard::Card| {
        assert_eq!(card.status2_owned().unwrap_err(), Error::RemovedCard);
        assert_eq!(exchange(card, &ECHO), Err(Error::RemovedCard));
        assert_eq!(card.begin_transaction(), Err(Error::RemovedCard));
        assert_eq!(card.end_transaction(Disposition::LeaveCard), Err(Error::RemovedCard));
        let features = card.control_owned(ifd::features::GET_FEATURE_REQUEST, &[], None);
        assert!(!features.unwrap().is_empty());
    };
    told(&card);
    // A reconnect that fails takes nothing back, with or without a reset.
    for initialization in [Disposition::LeaveCard, Disposition::ResetCard] {
        let failed = card.reconnect(ShareMode::Shared, Protocols::ANY, initialization);
        assert_eq!(failed, Err(Error::NoSmartcard));
        told(&card);
    }
    bench.port.with(|reader| drop(reader.insert(SLOT, FileCard::t1())));
    until_state(&context, &reader, State::PRESENT);
    told(&card);
    // That somebody resets the new card is nothing to who had the old one.
    connect(&context, &reader, ShareMode::Shared)
        .unwrap()
        .disconnect(Disposition::ResetCard)
        .unwrap();
    told(&card);
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
}

#[test]
fn case_075_who_lost_its_reader_is_told() {
    let bench = bench("default");
    let context = bench.context();
    let mut card = bench.connect(&context);
    bench.port.unplug();
    until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
    let gone = Error::ReaderUnavailable;
    assert_eq!(card.status2_owned().unwrap_err(), gone);
    assert_eq!(exchange(&card, &ECHO), Err(gone));
    assert_eq!(card.control_owned(scard::CTL_ESCAPE, &[1], None), Err(gone));
    assert_eq!(card.begin_transaction(), Err(gone));
    assert_eq!(card.end_transaction(Disposition::LeaveCard), Err(gone));
    assert_eq!(card.get_attribute_owned(scard::Attribute::AtrString), Err(gone));
    assert_eq!(card.transmit_count(), Err(gone));
    let again = card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard);
    assert_eq!(again, Err(gone));
    // Its name is somebody else's when it is back.
    bench.port.plug();
    bench.attach();
    assert_eq!(card.status2_owned().unwrap_err(), gone);
}

#[test]
fn case_076_reconnect_resets_as_it_is_told() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let mut card = bench.connect(&a);
    for (initialization, wanted) in [
        (Disposition::LeaveCard, vec![]),
        (Disposition::ResetCard, vec![POWER_ON]),
        (Disposition::UnpowerCard, vec![POWER_OFF, POWER_ON]),
    ] {
        let other = bench.connect(&b);
        bench.port.with(Reader::forget);
        card.reconnect(ShareMode::Shared, Protocols::ANY, initialization).unwrap();
        assert_eq!(power(&bench, wanted.len()), wanted, "{initialization:?}");
        assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED, "its own handle is in step");
        let told = exchange(&other, &ECHO);
        match initialization {
            Disposition::LeaveCard => assert_eq!(told.unwrap(), ECHOED),
            _ => assert_eq!(told, Err(Error::ResetCard)),
        }
        other.disconnect(Disposition::LeaveCard).unwrap();
    }
    let eject = card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::EjectCard);
    assert_eq!(eject, Err(Error::InvalidValue));
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    no_violations(&bench);
}

#[test]
fn case_077_the_protocol_in_use_must_be_among_those_asked_for() {
    let bench = bench("both");
    let context = bench.context();
    let reader = bench.reader();
    let mut card = context.connect(&reader, ShareMode::Shared, Protocols::T0).unwrap();
    let before = card.status2_owned().unwrap();
    assert_eq!(before.protocol2(), Some(Protocol::T0));
    let mismatch = card.reconnect(ShareMode::Exclusive, Protocols::T1, Disposition::LeaveCard);
    assert_eq!(mismatch, Err(Error::ProtoMismatch));
    assert_eq!(card.status2_owned(), Ok(before), "all is as it was");
    assert!(connect(&context, &reader, ShareMode::Shared).is_ok(), "sharing, too");
    // With a reset it is another matter.
    card.reconnect(ShareMode::Shared, Protocols::T1, Disposition::ResetCard).unwrap();
    assert_eq!(card.status2_owned().unwrap().protocol2(), Some(Protocol::T1));
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
}

#[test]
fn case_078_who_is_alone_may_become_exclusive() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let reader = bench.reader();
    let mut card = bench.connect(&a);
    let other = bench.connect(&b);
    let exclusive = |card: &mut scard::Card| {
        card.reconnect(ShareMode::Exclusive, Protocols::ANY, Disposition::LeaveCard)
    };
    assert_eq!(exclusive(&mut card), Err(Error::SharingViolation));
    drop(other);
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert_eq!(exclusive(&mut card), Ok(()));
    assert_eq!(connect(&b, &reader, ShareMode::Shared).unwrap_err(), Error::SharingViolation);
    // And back again.
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert!(connect(&b, &reader, ShareMode::Shared).is_ok());
}

#[test]
fn case_079_a_card_that_is_left_is_found_as_it_was() {
    let bench = Bench::new(presets::by_name("t1-tpdu").unwrap());
    let context = bench.context();
    bench.connect(&context).disconnect(Disposition::LeaveCard).unwrap();
    bench.port.with(Reader::forget);
    let card = bench.connect(&context);
    assert_eq!(commands(&bench), [0; 0], "no reset, no negotiation");
    let direct = connect(&context, &bench.reader(), ShareMode::Direct).unwrap();
    assert_eq!(direct.status2_owned().unwrap().protocol2(), Some(Protocol::T1));
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    no_violations(&bench);
}

// A closed handle has been moved; one that its context's release has closed stands for it. There
// are no other dispositions than those of the type.
#[test]
fn case_080_a_handle_is_closed_once_whatever_becomes_of_the_card() {
    for disposition in [
        Disposition::LeaveCard,
        Disposition::ResetCard,
        Disposition::UnpowerCard,
        Disposition::EjectCard,
    ] {
        let bench = bench("default");
        let (a, b) = (bench.context(), bench.context());
        bench.connect(&a).disconnect(disposition).unwrap();
        assert!(connect(&b, &bench.reader(), ShareMode::Exclusive).is_ok(), "it is closed");
        let card = bench.connect(&a);
        a.release().unwrap();
        let (card, error) = card.disconnect(disposition).unwrap_err();
        assert_eq!(error, Error::InvalidHandle);
        let (_, error) = card.disconnect(disposition).unwrap_err();
        assert_eq!(error, Error::InvalidHandle);
    }
}

// For NULL pointers: the parts of a status are asked for as one. For AUTOALLOCATE: the owned form.
#[test]
fn case_081_status_and_its_lengths() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    let status = card.status2_owned().unwrap();
    assert_eq!(status.reader_names(), [bench.reader()]);
    assert_eq!(status.status(), Status::PRESENT | Status::POWERED | Status::NEGOTIABLE);
    assert_eq!(status.protocol2(), Some(Protocol::T1));
    assert_eq!(status.event_count(), 1);
    let (names_length, atr_length) = card.status2_len().unwrap();
    assert_eq!(names_length, bench.reader().count_bytes() + 2);
    assert_eq!(atr_length, status.atr().len());
    let (mut names, mut atr) = (vec![0xAA; names_length], vec![0xAA; atr_length]);
    for (names_room, atr_room) in [(names_length - 1, atr_length), (names_length, atr_length - 1)] {
        let short = card.status2(&mut names[..names_room], &mut atr[..atr_room]);
        assert_eq!(short, Err(Error::InsufficientBuffer));
    }
    let borrowed = card.status2(&mut names, &mut atr).unwrap();
    assert_eq!(borrowed.reader_names().collect::<Vec<_>>(), [bench.reader().as_c_str()]);
    assert_eq!(borrowed.atr(), status.atr());
    assert_eq!(borrowed.status(), status.status());
    assert_eq!(borrowed.event_count(), status.event_count());
    assert_eq!(borrowed.protocol2(), status.protocol2());
}

/// Disconnecting waits for its reset, and what the reset waits for is not waited for any longer.
#[test]
fn case_080_a_disconnect_that_is_cancelled_has_closed_the_handle() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let (card, running) = (bench.connect(&a), bench.connect(&b));
    let command = run(move || (running.transmit_owned(&crate::fixture::NEVER, None), running));
    until("the reader is at it", || crate::fixture::busy(&bench, 0));
    let disconnect = run(move || card.disconnect(Disposition::ResetCard).map_err(|(_, e)| e));
    outstanding(&a, 1);
    a.cancel().unwrap();
    assert_eq!(disconnect.join(), Ok(()));
    assert_eq!(b.outstanding_calls(), Ok(1), "the other's command goes on");
    b.cancel().unwrap();
    let (result, running) = command.join();
    assert_eq!(result, Err(Error::Cancelled));
    assert_eq!(exchange(&running, &ECHO), Err(Error::ResetCard));
    drop(running);
    let alone = connect(&b, &bench.reader(), ShareMode::Exclusive).unwrap();
    assert_eq!(exchange(&alone, &ECHO).unwrap(), ECHOED);
}
