//! What the reader does with a card by itself.

use super::*;
use ccid::descriptor::Mechanical;
use ccid::wire::MechanicalFunction;

fn all() -> ReaderBuilder {
    t1().mechanical(Mechanical::ACCEPT | Mechanical::EJECT | Mechanical::CAPTURE | Mechanical::LOCK)
}

const fn by(function: MechanicalFunction) -> Command<'static> {
    Command::Mechanical { function }
}

/// bmICCStatus 2; the clock is stopped low.
const DONE_EMPTY: [u8; 3] = [2, 0, 1];
const NO_CARD: [u8; 3] = [0x42, 0xFE, 0];

#[test]
fn eject_and_accept() {
    let mut bench = Bench::powered(all());
    bench.notification();
    assert_eq!(bench.ask(by(MechanicalFunction::Eject)).status, DONE_EMPTY);
    assert_eq!(bench.notification(), Some(vec![0x50, 0b10]));
    assert_eq!(bench.ask(by(MechanicalFunction::Eject)).status, NO_CARD);
    // Back in, without power.
    assert_eq!(bench.ask(by(MechanicalFunction::Accept)).status[0], 1);
    assert_eq!(bench.notification(), Some(vec![0x50, 0b11]));
    assert_eq!(bench.ask(POWER_ON).status, [0, 0, 0]);
    assert_eq!(bench.apdu(&[0x00, 0x10, 0, 0, 1, 7, 0]), [7, 0x90, 0x00]);
    // It is there already.
    assert_eq!(bench.ask(by(MechanicalFunction::Accept)).status[0], 0);
    // Taken out of the mouth, it cannot be accepted.
    bench.ask(by(MechanicalFunction::Eject));
    assert!(bench.reader.take_ejected(SLOT).is_some());
    assert!(bench.reader.take_ejected(SLOT).is_none());
    assert_eq!(bench.ask(by(MechanicalFunction::Accept)).status, NO_CARD);
    assert_eq!(bench.rules(), []);
}

#[test]
fn a_captured_card_is_gone() {
    let mut bench = Bench::powered(all());
    assert_eq!(bench.ask(by(MechanicalFunction::Capture)).status, DONE_EMPTY);
    assert!(bench.reader.take_ejected(SLOT).is_none() && !bench.reader.has_card(SLOT));
    assert_eq!(bench.ask(by(MechanicalFunction::Accept)).status, NO_CARD);
    assert_eq!(bench.ask(by(MechanicalFunction::Capture)).status, NO_CARD);
}

#[test]
fn a_locked_card_stays() {
    let mut bench = Bench::powered(all());
    assert_eq!(bench.ask(by(MechanicalFunction::Lock)).status, [0, 0, 0]);
    assert!(bench.reader.remove(SLOT).is_none() && bench.reader.has_card(SLOT));
    assert!(bench.reader.insert(SLOT, FileCard::t1()).is_some(), "there is no room");
    assert_eq!(bench.apdu(&[0x00, 0x10, 0, 0, 1, 7, 0]), [7, 0x90, 0x00]);
    assert_eq!(bench.ask(by(MechanicalFunction::Unlock)).status, [0, 0, 0]);
    assert!(bench.reader.remove(SLOT).is_some());
    assert_eq!(bench.ask(by(MechanicalFunction::Lock)).status, NO_CARD);
    // The reader itself can still eject it; another card is free.
    bench.reader.insert(SLOT, FileCard::t1());
    bench.ask(by(MechanicalFunction::Lock));
    assert_eq!(bench.ask(by(MechanicalFunction::Eject)).status, DONE_EMPTY);
    assert!(bench.reader.insert(SLOT, FileCard::t1()).is_some(), "the one in the mouth");
    assert!(bench.reader.remove(SLOT).is_some());
    // A host that has just come has locked nothing.
    bench.reader.insert(SLOT, FileCard::t1());
    bench.ask(by(MechanicalFunction::Lock));
    let now = bench.now();
    bench.reader.reset(now);
    assert!(bench.reader.remove(SLOT).is_some());
}

#[test]
fn functions_are_those_of_the_descriptor() {
    let functions = [
        (MechanicalFunction::Accept, Mechanical::ACCEPT),
        (MechanicalFunction::Eject, Mechanical::EJECT),
        (MechanicalFunction::Capture, Mechanical::CAPTURE),
        (MechanicalFunction::Lock, Mechanical::LOCK),
        (MechanicalFunction::Unlock, Mechanical::LOCK),
    ];
    for (function, needed) in functions {
        let mut with = Bench::powered(t1().mechanical(needed));
        assert_eq!(with.ask(by(function)).status[0] & 0x40, 0, "{function:?}");
        let mut without = Bench::powered(all().mechanical(needed.complement()));
        assert_eq!(without.ask(by(function)).status, [0x40, 0, 0], "{function:?}");
    }
    let mut bench = Bench::powered(all());
    assert_eq!(bench.ask(by(MechanicalFunction::Unknown(6))).status, [0x40, 7, 0]);
}
