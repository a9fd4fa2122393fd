//! Nothing runs longer than its limit, whatever reader and card ask for: the command is aborted, and
//! the call says that it took too long.

use crate::common::{Bench, run, until};
use crate::fixture::{ECHO, ECHOED, NEVER, bench, busy, exchange, no_violations, outstanding};
use crate::matrix::{Kind, LEVELS, READ, aborts, all, begin, pin_structure, reader, recovers};
use ccid::Options;
use ifd::features::VERIFY_PIN_DIRECT;
use scard::{CTL_ESCAPE, Disposition, Error, last_cause};
use sim::Reader;
use sim::card::Protocol;
use sim::reader::Level;
use std::time::Duration;

/// The stack's own, for calls that have none: five minutes unless told otherwise.
#[test]
fn the_total_limit_ends_whatever_runs() {
    let total_limit = Duration::from_millis(400);
    let mut rows: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for level in LEVELS {
        for kind in [
            Kind::Transmit,
            Kind::Extended,
            Kind::Control,
            Kind::Reconnect(Disposition::ResetCard),
            Kind::Connect,
        ] {
            rows.push(Box::new(move || {
                let what = &format!("{level:?}, {kind:?}");
                let options = Options { total_limit, ..Options::default() };
                let reader = reader(1, level, Protocol::T0, kind).build();
                let bench = Bench::with_options(reader, options);
                let context = bench.context();
                let card = bench.connect(&context);
                bench.port.with(Reader::forget);
                let (result, card) = begin(kind, &context, card, &bench.reader()).join();
                assert_eq!(result, Err(Error::Timeout), "{what}");
                let [requests, messages] = aborts(&bench);
                assert_eq!((requests.len(), &requests), (1, &messages), "{what}");
                recovers(what, &context, &bench.reader(), card);
                no_violations(&bench);
            }));
        }
    }
    all(rows);
}

/// A call's own.
#[test]
fn a_calls_limit_ends_it() {
    let limit = Some(Duration::from_millis(100));
    for kind in [Kind::Transmit, Kind::Extended, Kind::Control, Kind::PinEntry] {
        let what = &format!("{kind:?}");
        let bench = Bench::new(reader(1, Level::ExtendedApdu, Protocol::T1, kind).build());
        let context = bench.context();
        let card = bench.connect(&context);
        bench.port.with(Reader::forget);
        let ended = match kind {
            Kind::Transmit => card.transmit_owned(&NEVER, limit),
            Kind::Control => card.control_owned(CTL_ESCAPE, &[4], limit),
            Kind::PinEntry => card.control_owned(VERIFY_PIN_DIRECT, &pin_structure(), limit),
            _ => card.transmit_owned(&READ, limit),
        };
        assert_eq!(ended, Err(Error::Timeout), "{what}");
        assert!(last_cause().is_some(), "{what}");
        let [requests, messages] = aborts(&bench);
        assert_eq!((requests.len(), &requests), (1, &messages), "{what}");
        recovers(what, &context, &bench.reader(), Some(card));
        no_violations(&bench);
    }
}

/// Cancel can be limited to waits and queued calls: it is not to what a reader executes then.
#[test]
fn a_context_may_limit_cancel_to_waits_and_queued_calls() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    a.set_cancel_commands(false).unwrap();
    let (first, second) = (bench.connect(&a), bench.connect(&a));
    let running = run(move || (exchange(&first, &crate::fixture::slow(700)), first));
    until("the reader is at it", || busy(&bench, 0));
    let queued = run(move || (exchange(&second, &ECHO), second));
    outstanding(&a, 2);
    a.cancel().unwrap();
    let (result, second) = queued.join();
    assert_eq!(result, Err(Error::Cancelled));
    assert_eq!(running.join().0.unwrap(), [0x90, 0x00][..]);
    assert_eq!(aborts(&bench), [vec![], vec![]]);
    // It is that context's setting.
    let card = bench.connect(&b);
    let running = run(move || card.transmit_owned(&NEVER, None));
    until("the reader is at it", || busy(&bench, 0));
    b.cancel().unwrap();
    assert_eq!(running.join(), Err(Error::Cancelled));
    // And it can be taken back. The other's Abort has reset the card, and so has the first's end.
    a.set_cancel_commands(true).unwrap();
    drop(second);
    let card = bench.connect(&a);
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
    let running = run(move || card.transmit_owned(&NEVER, None));
    until("the reader is at it", || busy(&bench, 0));
    a.cancel().unwrap();
    assert_eq!(running.join(), Err(Error::Cancelled));
}
