//! What the cases share.

use crate::common::{Bench, Running, run, until};
use crate::device::Watched;
use bytes::Bytes;
use ccid::Slot;
use peers::usbd::{Identity, UsbdCcid};
use scard::{Card, Context, Error, Protocols, ReaderState, ShareMode, State};
use sim::reader::Event;
use sim::{Reader, presets};
use std::ffi::CString;
use std::time::Duration;

pub(crate) const SLOT: Slot = Slot(0);

/// Echoes one byte.
pub(crate) const ECHO: [u8; 6] = [0x00, 0x10, 0x00, 0x00, 1, 5];
/// Its response.
pub(crate) const ECHOED: &[u8] = &[5, 0x90, 0x00];
/// Answers nothing, ever.
pub(crate) const NEVER: [u8; 4] = [0x00, 0x16, 0x00, 0x00];

/// "Promptly", on a loaded machine. What hangs does so for much longer.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);

/// Answers after so many milliseconds.
pub(crate) fn slow(milliseconds: u16) -> Vec<u8> {
    [&[0x00, 0x14][..], &milliseconds.to_be_bytes()].concat()
}

/// Echoes the number.
pub(crate) fn echo(n: u32) -> (Vec<u8>, Vec<u8>) {
    let data = n.to_be_bytes();
    let command = [&[0x00, 0x10, 0x00, 0x00, 4][..], &data].concat();
    (command, [&data[..], &[0x90, 0x00]].concat())
}

/// Exchanges an APDU; with T=0 at TPDU level the caller fetches what 61xx announces.
pub(crate) fn exchange(card: &Card, command: &[u8]) -> Result<Bytes, Error> {
    let response = card.transmit_owned(command, None)?;
    match response[..] {
        [0x61, length] => card.transmit_owned(&[0x00, 0xC0, 0x00, 0x00, length], None),
        _ => Ok(response),
    }
}

pub(crate) fn bench(preset: &str) -> Bench<Reader> {
    Bench::new(presets::by_name(preset).unwrap())
}

/// Both devices on which commands run: the simulated reader, and one that others wrote.
pub(crate) fn both_devices() -> Vec<(&'static str, Bench<Watched>)> {
    let peer = UsbdCcid::new(Identity::default()).unwrap();
    vec![
        ("simulated", Bench::new(Watched::new(presets::by_name("default").unwrap()))),
        ("usbd-ccid", Bench::new(Watched::new(peer))),
    ]
}

pub(crate) fn connect(
    context: &Context,
    reader: &CString,
    share: ShareMode,
) -> Result<Card, Error> {
    let protocols = match share {
        ShareMode::Direct => Protocols::UNDEFINED,
        _ => Protocols::ANY,
    };
    context.connect(reader, share, protocols)
}

/// A command to the slot has not been answered yet.
pub(crate) fn busy(bench: &Bench<Reader>, slot: u8) -> bool {
    bench.port.with(|reader| reader.is_busy(Slot(slot)))
}

/// Waits until `calls` calls of `context` are outstanding.
#[track_caller]
pub(crate) fn outstanding(context: &Context, calls: usize) {
    until("the calls are outstanding", || context.outstanding_calls() == Ok(calls));
}

/// bMessageType of the bulk-OUT messages that the reader has seen.
pub(crate) fn commands(bench: &Bench<Reader>) -> Vec<u8> {
    let seen = bench.port.with(|reader| reader.seen().to_vec());
    let commands = seen.into_iter().filter_map(|seen| match seen.what {
        Event::Command(bytes) => Some(bytes[0]),
        _ => None,
    });
    commands.collect()
}

/// The instructions of the APDUs that the reader has seen, T=1 at APDU level.
pub(crate) fn instructions(bench: &Bench<Reader>) -> Vec<u8> {
    let seen = bench.port.with(|reader| reader.seen().to_vec());
    let commands = seen.into_iter().filter_map(|seen| match seen.what {
        Event::Command(bytes) if bytes[0] == 0x6F => bytes.get(11).copied(),
        _ => None,
    });
    commands.collect()
}

pub(crate) const POWER_ON: u8 = 0x62;
pub(crate) const POWER_OFF: u8 = 0x63;

/// The power-ups and power-downs since the last call, once `wanted` of them have come.
pub(crate) fn power(bench: &Bench<Reader>, wanted: usize) -> Vec<u8> {
    let power = |bench| {
        let mut power = commands(bench);
        power.retain(|kind| [POWER_ON, POWER_OFF].contains(kind));
        power
    };
    until("the card's power was changed", || power(bench).len() >= wanted);
    let seen = power(bench);
    bench.port.with(Reader::forget);
    seen
}

#[track_caller]
pub(crate) fn no_violations(bench: &Bench<Reader>) {
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

/// One status wait, on a thread of its own: how it ended, and what it found.
pub(crate) fn waiting(
    context: &Context,
    timeout: impl Into<Option<Duration>>,
    mut states: Vec<ReaderState>,
) -> Running<(Result<(), Error>, Vec<ReaderState>)> {
    let (context, timeout) = (context.clone(), timeout.into());
    run(move || {
        let result = context.get_status_change(timeout, &mut states);
        (result, states)
    })
}

/// A wait for a change of `reader`, of which `known` is known.
pub(crate) fn one(reader: &CString, known: State) -> Vec<ReaderState> {
    vec![ReaderState::new(reader.clone(), known)]
}

/// The state of a reader as it is now.
pub(crate) fn now(context: &Context, reader: &CString) -> ReaderState {
    let mut states = one(reader, State::UNAWARE);
    context.get_status_change(PROMPT, &mut states).unwrap();
    states.remove(0)
}

/// Waits until the state of `reader` has all of `wanted`.
pub(crate) fn until_state(context: &Context, reader: &CString, wanted: State) -> ReaderState {
    let mut states = vec![now(context, reader)];
    while !states[0].event_state().contains(wanted) {
        states[0].sync_current_state();
        context.get_status_change(crate::common::WATCHDOG, &mut states).unwrap();
    }
    states.remove(0)
}
