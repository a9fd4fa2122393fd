//! Recorded traces through the C functions, strictly: what the driver sends when pcscd calls it is
//! what this stack sent when the fixture was recorded. In a process of their own: what the replays
//! log is looked at.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unsafe_code)]

mod driver;
#[path = "../../../tests/common/recordings.rs"]
mod recordings;

use driver::*;
use ifdscard::exports::Dword;
use log::{LevelFilter, Log, Metadata, Record};
use recordings::{T0, T1};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const VERIFY_PIN_DIRECT: Dword = 0x4233_0006;

/// What replays say: where they differ, and what of them was not reached.
struct Said(Mutex<Vec<String>>);

static SAID: Said = Said(Mutex::new(Vec::new()));

impl Log for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        if text.starts_with("replay: ") {
            lock(&self.0).push(text);
        }
    }

    fn flush(&self) {}
}

/// One replay at a time, as they have one log.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = lock(&ALONE);
    // Set by another test already is fine; the driver leaves it alone.
    let _ = log::set_logger(&SAID);
    log::set_max_level(LevelFilter::Info);
    lock(&SAID.0).clear();
    guard
}

/// Another test that fails has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fixture(name: &str, manner: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    format!("trace:{manner}{}", path.display())
}

/// A card's session as pcscd has it.
fn ready(slot: Slot, protocol: u32) {
    assert_eq!(slot.presence(), SUCCESS);
    let (code, atr) = slot.power(UP);
    assert_eq!(code, SUCCESS);
    assert_eq!(slot.tag(0x0303, 33), (SUCCESS, atr));
    assert_eq!(slot.protocol(protocol.into()), SUCCESS);
}

/// The end: all of the recording was replayed, and nothing else was sent.
#[track_caller]
fn end(slots: &[Slot], name: &str) {
    for slot in slots {
        assert_eq!(slot.close(), SUCCESS, "{name}");
    }
    let said = lock(&SAID.0);
    assert_eq!(said[..], [""; 0], "{name}");
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
    }
}

/// An exchange as programs have it: they do for themselves what a card asks for (T=0).
fn exchange(slot: Slot, command: &[u8]) -> Vec<u8> {
    let (mut code, mut response) = slot.transmit(command, 1100);
    if let (SUCCESS, [0x6C, length]) = (code, &response[..]) {
        let again = [&command[..4], &[*length]].concat();
        (code, response) = slot.transmit(&again, 300);
    }
    if let (SUCCESS, [0x61, more]) = (code, &response[..]) {
        (code, response) = slot.transmit(&[0x00, 0xC0, 0, 0, *more], 300);
    }
    assert_eq!(code, SUCCESS, "{command:02X?}");
    response
}

#[test]
fn conversations() {
    let _alone = alone();
    for recording in recordings::all() {
        let name = recording.file;
        let slot = open(&fixture(name, recording.manner()));
        ready(slot, recording.protocol);
        for (command, response) in recording.exchanges {
            assert_eq!(exchange(slot, &command), response, "{name}");
        }
        if !recording.again.is_empty() {
            for (what, code) in [("the card is out", NO_CARD), ("it is in", SUCCESS)] {
                until(what, || slot.poll(10) == SUCCESS && slot.presence() == code);
            }
            ready(slot, recording.protocol);
        }
        for (command, response) in recording.again {
            assert_eq!(exchange(slot, &command), response, "{name}");
        }
        if recording.lenient {
            assert_eq!(slot.close(), SUCCESS, "{name}");
            // Passed over is what is not sent; the end may be.
            let said = std::mem::take(&mut *lock(&SAID.0));
            assert!(said.iter().all(|line| line.contains("were not sent")), "{name}: {said:?}");
        } else {
            end(&[slot], name);
        }
    }
}

#[test]
fn a_command_that_never_ends_is_aborted() {
    let _alone = alone();
    let slot = open(&fixture("sim-abort.pcapng", "fast:"));
    ready(slot, T1);
    // In virtual time its limit comes at once.
    assert_eq!(slot.transmit(&[0x00, 0x16, 0, 0], 300).0, RESPONSE_TIMEOUT);
    assert_eq!(exchange(slot, &[0x00, 0x10, 0, 0, 1, 2]), [2, 0x90, 0x00]);
    end(&[slot], "sim-abort");
}

#[test]
fn three_slots() {
    let _alone = alone();
    let name = fixture("sim-three-slots.pcapng", "fast:");
    let first = open(&name);
    let [second, third] = [1, 2].map(|number| Slot(first.0 + number));
    for slot in [second, third] {
        assert_eq!(slot.open(&name), SUCCESS);
    }
    ready(first, T1);
    ready(second, T0);
    assert_eq!(third.presence(), NO_CARD);
    assert_eq!(exchange(first, &[0x00, 0x10, 0, 0, 2, 0x50, 0]), [0x50, 0, 0x90, 0x00]);
    assert_eq!(exchange(second, &[0x00, 0x10, 0, 0, 2, 0x50, 1]), [0x50, 1, 0x90, 0x00]);
    end(&[first, second, third], "sim-three-slots");
}

#[test]
fn a_pin_is_entered_at_the_reader() {
    let _alone = alone();
    let slot = open(&fixture("sim-pin-pad.pcapng", "fast:"));
    ready(slot, T1);
    let mut data = vec![30, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0, 4, 0, 0, 0];
    data.extend([0x00, 0x20, 0x00, 0x81]);
    assert_eq!(slot.control(VERIFY_PIN_DIRECT, &data, 300), (SUCCESS, vec![0x90, 0x00]));
    end(&[slot], "sim-pin-pad");
}

/// A command that is not in it ends the replay there, and that is said.
#[test]
fn what_differs_is_told() {
    let _alone = alone();
    let slot = open(&fixture("sim-apdu.pcapng", "fast:"));
    ready(slot, T1);
    assert_eq!(slot.transmit(&[0x00, 0xA4, 0, 0], 300).0, NO_CARD);
    slot.close();
    let said = lock(&SAID.0);
    assert!(said[0].contains("sent XfrBlock slot 0 seq 2: 00 A4 00 00"), "{said:?}");
    assert!(said[1].contains("of the recording's messages were not sent"), "{said:?}");
}
