//! Every exchange level, protocol and dialect through the whole stack, on readers and cards that
//! make the errors the standard lets one recover from: each answer is the card's own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{Bench, run};
use scard::{Card, Disposition, Error, Protocols, ShareMode};
use sim::card::{Faults, FileCard, LineCard, Protocol};
use sim::reader::Level;
use sim::{Device, Reader, presets};

fn echo(length: usize, first: u8) -> (Vec<u8>, Vec<u8>) {
    let data: Vec<u8> = (0..length).map(|n| first.wrapping_add(n as u8)).collect();
    let command = [&[0x00, 0x10, 0x00, 0x00, length as u8][..], &data].concat();
    (command, [&data[..], &[0x90, 0x00]].concat())
}

/// Exchanges an APDU; at the levels where T=0's TPDUs show, with what they ask for.
fn exchange(card: &Card, command: &[u8]) -> Result<Bytes, Error> {
    card.transmit_complete(command, None)
}

/// Names of presets that begin so.
fn named<'a>(prefixes: &'a [&'a str]) -> impl Iterator<Item = &'static str> + 'a {
    let all = presets::names().map(|(name, _)| name);
    all.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

fn reads_right<D: Device + 'static>(bench: &Bench<D>, name: &str) {
    let context = bench.context();
    let card = bench.connect(&context);
    for (n, length) in [1, 5, 32, 100, 200, 255].into_iter().enumerate() {
        let (command, expected) = echo(length, n as u8);
        let response = exchange(&card, &command);
        assert_eq!(response, Ok(expected.into()), "{name}: {length} bytes");
    }
    card.disconnect(Disposition::LeaveCard).unwrap();
}

/// Presets whose card or reader cannot be lived with.
const FATAL: [&str; 7] = [
    "t1-faults-mute-for-good",
    "t1-faults-always",
    "t1-faults-abort",
    "t1-wtx-storm",
    "t1-silent",
    "pps-mute",
    "pps-wrong",
];

#[test]
fn every_level_and_every_recoverable_fault() {
    let names = ["default", "short", "extended", "both"];
    let others = named(&["t0", "t1", "pps"]);
    for name in names.into_iter().chain(others).filter(|name| !FATAL.contains(name)) {
        let bench = Bench::new(presets::by_name(name).unwrap());
        run(move || {
            reads_right(&bench, name);
            let violations = bench.port.with(|reader| reader.violations().to_vec());
            // It sends a PCB that the standard reserves, and has its own view of the answer.
            if name != "t1-faults-pcb" {
                assert!(violations.is_empty(), "{name}: {violations:?}");
            }
        })
        .join();
    }
}

/// What cannot be recovered from ends in a definite error, and the slot can be used again.
#[test]
fn faults_that_are_fatal() {
    for name in ["t1-faults-mute-for-good", "t1-faults-always"] {
        let bench = Bench::new(presets::by_name(name).unwrap());
        run(move || {
            let context = bench.context();
            let (command, _) = echo(100, 1);
            let error = match context.connect(&bench.reader(), ShareMode::Shared, Protocols::ANY) {
                Ok(card) => (0..3).find_map(|_| exchange(&card, &command).err()),
                Err(error) => Some(error),
            };
            assert!(error.is_some(), "{name}");
            // A card without faults, in its place.
            bench.port.with(|reader| drop(reader.insert(ccid::Slot(0), FileCard::t1())));
            let mut states = [scard::ReaderState::new(bench.reader(), scard::State::UNAWARE)];
            common::until("the new card is there", || {
                context.get_status_change(None, &mut states).unwrap();
                states[0].event_count() >= 3
            });
            reads_right(&bench, name);
        })
        .join();
    }
}

/// A card that breaks off or does not keep to what was negotiated: a definite error or its own
/// answer, in bounded time, and no other's.
#[test]
fn cards_that_break_off() {
    for name in ["t1-faults-abort", "pps-mute", "pps-wrong"] {
        let bench = Bench::new(presets::by_name(name).unwrap());
        run(move || {
            let context = bench.context();
            let connected = context.connect(&bench.reader(), ShareMode::Shared, Protocols::ANY);
            let Ok(card) = connected else { return };
            for n in 0..4 {
                let (command, expected) = echo(100, n);
                if let Ok(response) = exchange(&card, &command) {
                    assert_eq!(response, expected, "{name}");
                }
            }
        })
        .join();
    }
}

/// Its card never answers READ BINARY.
#[test]
fn a_silent_card_at_tpdu_level_ends_by_the_limit() {
    let bench = Bench::new(presets::by_name("t1-silent").unwrap());
    let context = bench.context();
    let card = bench.connect(&context);
    let limit = Some(std::time::Duration::from_millis(300));
    let result = run(move || card.transmit_owned(&[0x00, 0xB0, 0x00, 0x00, 0x10], limit)).join();
    assert_eq!(result, Err(Error::Timeout));
}

#[test]
fn a_storm_of_waiting_time_requests_is_ended_by_the_limit() {
    let bench = Bench::new(presets::by_name("t1-wtx-storm").unwrap());
    let context = bench.context();
    let card = bench.connect(&context);
    let result = run(move || {
        let limit = std::time::Duration::from_millis(500);
        card.transmit_owned(&[0x00, 0xB0, 0x00, 0x00, 0x10], Some(limit))
    })
    .join();
    assert!(matches!(result, Err(Error::Timeout | Error::NotTransacted)), "{result:?}");
}

/// One block in twelve is damaged, at random, at both levels at which the host speaks T=1.
#[test]
fn a_bad_line() {
    for seed in 0..8u64 {
        let level = if seed % 2 == 0 { Level::Tpdu } else { Level::Character };
        run(move || {
            let card =
                LineCard::new(FileCard::new(&[Protocol::T1])).faults(Faults::random(seed, 12));
            let reader = Reader::builder().level(level).card(ccid::Slot(0), card).build();
            let bench = Bench::new(reader);
            let context = bench.context();
            let card = bench.connect(&context);
            for n in 0..40u8 {
                let (command, expected) = echo(1 + usize::from(n) * 6, n);
                assert_eq!(exchange(&card, &command), Ok(expected.into()), "seed {seed}, {n}");
            }
        })
        .join();
    }
}

#[test]
fn eight_slots_at_once() {
    let bench = Bench::new(presets::by_name("eight-slots").unwrap());
    let context = bench.context();
    let readers = context.list_readers_owned().unwrap();
    assert_eq!(readers.len(), 8);
    let calls: Vec<_> = readers
        .into_iter()
        .enumerate()
        .map(|(n, reader)| {
            let context = context.clone();
            run(move || {
                let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY)?;
                for round in 0..20 {
                    let (command, expected) = echo(16, n as u8 * 20 + round);
                    assert_eq!(exchange(&card, &command)?, expected, "slot {n}");
                }
                Ok(())
            })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let result: Result<(), Error> = call.join();
        assert_eq!(result, Ok(()), "slot {n}");
    }
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}
