//! ICCD devices, through the whole stack: connect, exchanges of every length, cancel, unplug, a
//! mute card, and what the simulated device has seen of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Bench, run, until};
use scard::{Card, Context, Disposition, Error, Protocols, ReaderState, ShareMode, State};
use sim::card::{FileCard, Pace};
use sim::iccd::{Iccd, Version};
use sim::presets;
use sim::reader::{Event, Level};
use std::time::{Duration, Instant};

/// Answers nothing, ever.
const NEVER: &[u8] = &[0x00, 0x16, 0x00, 0x00];

/// Two seconds at most; a loaded machine gets some more.
const BOUND: Duration = Duration::from_secs(5);

fn bench(preset: &str) -> Bench<Iccd> {
    let preset = presets::iccd().iter().find(|p| p.name == preset).unwrap();
    Bench::new(preset.builder().build())
}

#[track_caller]
fn no_violations(bench: &Bench<Iccd>) {
    let violations = bench.port.with(|device| device.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

/// The requests seen, by bRequest.
fn requests(bench: &Bench<Iccd>) -> Vec<u8> {
    let seen = bench.port.with(|device| device.seen().to_vec());
    let setup = |what: &Event| match what {
        Event::Setup(setup) => Some(setup.request),
        _ => None,
    };
    seen.iter().filter_map(|seen| setup(&seen.what)).collect()
}

/// ECHO of `data`, as long a command as it takes.
fn echo(data: &[u8]) -> Vec<u8> {
    let header = [0x00, 0x10, 0x00, 0x00];
    match u8::try_from(data.len()) {
        Ok(lc) => [&header[..], &[lc], data].concat(),
        Err(_) => {
            let [l1, l0] = u16::try_from(data.len()).unwrap().to_be_bytes();
            [&header[..], &[0, l1, l0], data].concat()
        }
    }
}

/// Exchanges an APDU; with T=0 the caller fetches what 61xx announces.
fn exchange(card: &Card, command: &[u8]) -> Result<Vec<u8>, Error> {
    let response = card.transmit_owned(command, None)?;
    match response[..] {
        [0x61, length] => {
            Ok(card.transmit_owned(&[0x00, 0xC0, 0x00, 0x00, length], None)?.to_vec())
        }
        _ => Ok(response.to_vec()),
    }
}

#[track_caller]
fn echoes(card: &Card, length: usize) {
    let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
    let expected = [&data[..], &[0x90, 0x00]].concat();
    assert_eq!(exchange(card, &echo(&data)), Ok(expected), "{length} bytes");
}

fn all() -> impl Iterator<Item = &'static str> {
    presets::iccd().iter().map(|preset| preset.name)
}

#[test]
fn short_commands_and_responses() {
    for preset in all() {
        let bench = bench(preset);
        let context = bench.context();
        let card = bench.connect(&context);
        for length in [1, 2, 16, 63, 64, 128, 200, 250, 255] {
            echoes(&card, length);
        }
        drop(card);
        let mut states = [ReaderState::new(bench.reader(), State::UNAWARE)];
        context.get_status_change(None, &mut states).unwrap();
        assert!(states[0].event_state().contains(State::PRESENT), "{preset}");
        no_violations(&bench);
    }
}

#[test]
fn long_commands_and_responses_in_parts() {
    for preset in ["iccd-b", "iccd-b-interrupt"] {
        let bench = bench(preset);
        let context = bench.context();
        let card = bench.connect(&context);
        for length in [256, 260, 261, 262, 500, 521, 522, 523, 1000, 3000] {
            echoes(&card, length);
        }
        no_violations(&bench);
    }
}

/// The device is asked while it works, as often as it wants, and the answer comes all the same.
#[test]
fn a_device_that_takes_its_time() {
    for version in [Version::A, Version::B] {
        let card = FileCard::t1().pace(0x10, Pace::After(Duration::from_millis(2500)));
        let device = Iccd::builder(version, card).polling_delay(20).build();
        let bench = Bench::new(device);
        let context = bench.context();
        let card = bench.connect(&context);
        echoes(&card, 5);
        no_violations(&bench);
    }
}

#[test]
fn cancel_ends_a_command_that_is_never_answered() {
    for preset in all() {
        let bench = bench(preset);
        let context = bench.context();
        let mut card = bench.connect(&context);
        for _ in 0..2 {
            let asked = |request| requests(&bench).iter().filter(|r| **r == request).count();
            let before = asked(0x65);
            let began = std::thread::scope(|scope| {
                let transmit = scope.spawn(|| card.transmit_owned(NEVER, None));
                until("the device is at it", || asked(0x65) > before);
                let began = Instant::now();
                context.cancel().unwrap();
                assert_eq!(transmit.join().unwrap(), Err(Error::Cancelled), "{preset}");
                began
            });
            assert!(began.elapsed() < BOUND, "{preset}: {:?}", began.elapsed());
            let again = card.transmit_owned(&echo(&[1]), None);
            assert_eq!(again, Err(Error::ResetCard), "{preset}");
            card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
            echoes(&card, 3);
        }
        assert!(!requests(&bench).contains(&0x01), "{preset}: ICCD has no ABORT request");
        no_violations(&bench);
    }
}

#[test]
fn unplugged_while_a_command_runs() {
    for preset in ["iccd-a", "iccd-b", "iccd-b-interrupt"] {
        let bench = bench(preset);
        let context = bench.context();
        let card = bench.connect(&context);
        let before = requests(&bench).len();
        let transmit = run(move || card.transmit_owned(NEVER, None));
        until("the device is at it", || requests(&bench)[before..].contains(&0x65));
        let began = Instant::now();
        bench.port.unplug();
        assert_eq!(transmit.join(), Err(Error::ReaderUnavailable), "{preset}");
        assert!(began.elapsed() < BOUND, "{preset}: {:?}", began.elapsed());
        until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
        bench.port.plug();
        bench.attach();
        echoes(&bench.connect(&context), 4);
    }
}

fn connect(bench: &Bench<Iccd>, context: &Context) -> Result<(), Error> {
    context.connect(&bench.reader(), ShareMode::Shared, Protocols::ANY).map(drop)
}

#[test]
fn a_mute_card() {
    for version in [Version::A, Version::B] {
        let card = FileCard::t1().power_up(Pace::Mute);
        let waiting = Duration::from_millis(50);
        let bench = Bench::new(Iccd::builder(version, card).waiting_time(waiting).build());
        let context = bench.context();
        assert_eq!(connect(&bench, &context), Err(Error::UnresponsiveCard), "{version:?}");
        let mut states = [ReaderState::new(bench.reader(), State::UNAWARE)];
        context.get_status_change(None, &mut states).unwrap();
        let state = states[0].event_state();
        assert!(state.contains(State::PRESENT | State::MUTE), "{version:?}: {state:?}");
        no_violations(&bench);
    }
}

/// The card falls silent in the middle of a command.
#[test]
fn a_card_that_falls_silent() {
    for version in [Version::A, Version::B] {
        let card = FileCard::t1().pace(0xB0, Pace::Mute);
        let waiting = Duration::from_millis(50);
        let bench = Bench::new(Iccd::builder(version, card).waiting_time(waiting).build());
        let context = bench.context();
        let mut card = bench.connect(&context);
        let read = card.transmit_owned(&[0x00, 0xB0, 0x00, 0x00, 0x01], None);
        assert!(read.is_err(), "{version:?}: {read:?}");
        card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::ResetCard).unwrap();
        echoes(&card, 5);
        no_violations(&bench);
    }
}

#[test]
fn virtual_removal_is_seen() {
    for preset in ["iccd-b", "iccd-b-interrupt"] {
        let bench = bench(preset);
        let context = bench.context();
        echoes(&bench.connect(&context), 1);
        for present in [false, true] {
            bench.port.with(|device| device.set_present(present));
            let expected = if present { State::PRESENT } else { State::EMPTY };
            let mut states = [ReaderState::new(bench.reader(), State::UNAWARE)];
            until(preset, || {
                context.get_status_change(Duration::ZERO, &mut states).unwrap();
                states[0].event_state().contains(expected)
            });
        }
        echoes(&bench.connect(&context), 1);
    }
}

/// Version A's T=0 at the level that real devices declare.
#[test]
fn what_the_reader_is_said_to_be() {
    let device = Iccd::builder(Version::A, FileCard::t0()).level(Level::Character).build();
    let bench = Bench::new(device);
    let context = bench.context();
    let card = context.connect(&bench.reader(), ShareMode::Shared, Protocols::T0).unwrap();
    assert_eq!(exchange(&card, &echo(&[9])), Ok(vec![9, 0x90, 0x00]));
    let other = context.connect(&bench.reader(), ShareMode::Shared, Protocols::T1);
    assert!(other.is_err());
}
