//! What can run on a reader, at every exchange level, with both protocols, on readers of one slot
//! and of several: cancelled in the middle of it, and the next command gets its own answer.

use crate::common::{Bench, Running, run, until};
use crate::device::Watched;
use crate::fixture::{NEVER, PROMPT, echo, exchange, no_violations, slow};
use ccid::Slot;
use ccid::descriptor::PinSupport;
use ccid::wire::{ClassRequest, Message};
use ifd::features::VERIFY_PIN_DIRECT;
use scard::{CTL_ESCAPE, Card, Context, Disposition, Error, Protocols, ShareMode};
use sim::card::{FileCard, LineCard, Pace, Protocol, Reaction, Reset};
use sim::reader::{Event, Level, ReaderBuilder};
use sim::{Reader, presets};
use std::time::{Duration, Instant};

pub(crate) const LEVELS: [Level; 4] =
    [Level::Character, Level::Tpdu, Level::ShortApdu, Level::ExtendedApdu];
const PROTOCOLS: [Protocol; 2] = [Protocol::T0, Protocol::T1];

/// READ BINARY, to which a test gives a pace.
pub(crate) const READ: [u8; 5] = [0x00, 0xB0, 0x00, 0x00, 0x10];

/// What runs when it is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A command that the card never answers.
    Transmit,
    /// One for which it asks for more time, for ever.
    Extended,
    /// An escape command that the reader never answers.
    Control,
    PinEntry,
    /// A card that takes its time for the ATR.
    Reconnect(Disposition),
    /// The same, of a card whose power was cut.
    Connect,
}

use Kind::{Connect, Control, Extended, PinEntry, Reconnect, Transmit};

const KINDS: [Kind; 7] = [
    Transmit,
    Extended,
    Control,
    PinEntry,
    Reconnect(Disposition::ResetCard),
    Reconnect(Disposition::UnpowerCard),
    Connect,
];

/// A card whose second ATR takes a minute.
struct SlowSecondReset {
    card: FileCard,
    resets: u32,
}

impl sim::Card for SlowSecondReset {
    fn reset(&mut self, reset: Reset) -> Reaction {
        self.resets += 1;
        let reaction = self.card.reset(reset);
        match self.resets {
            2 => Reaction { pace: Pace::After(Duration::from_secs(60)), ..reaction },
            _ => reaction,
        }
    }

    fn power_off(&mut self) {
        self.card.power_off();
    }

    fn process(&mut self, command: &[u8]) -> Reaction {
        self.card.process(command)
    }

    fn interrupted(&mut self, pace: Pace) {
        self.card.interrupted(pace);
    }
}

fn put(
    reader: ReaderBuilder,
    slot: Slot,
    level: Level,
    protocol: Protocol,
    kind: Kind,
) -> ReaderBuilder {
    let period = Duration::from_millis(20);
    let card = FileCard::new(&[protocol]).pace(0xB0, Pace::ExtendForEver { period, multiplier: 1 });
    let slow = matches!(kind, Reconnect(_) | Connect);
    match (level_is_line(level), slow) {
        (true, true) => reader.card(slot, LineCard::new(SlowSecondReset { card, resets: 0 })),
        (true, false) => reader.card(slot, LineCard::new(card)),
        (false, true) => reader.card(slot, SlowSecondReset { card, resets: 0 }),
        (false, false) => reader.card(slot, card),
    }
}

fn level_is_line(level: Level) -> bool {
    matches!(level, Level::Character | Level::Tpdu)
}

/// A reader of so many slots; the last one's is what is cancelled.
pub(crate) fn reader(slots: u8, level: Level, protocol: Protocol, kind: Kind) -> ReaderBuilder {
    let reader = Reader::builder().level(level).slots(slots);
    let reader = reader.pin_support(PinSupport::VERIFY | PinSupport::MODIFY);
    let first = if slots > 1 { Some(FileCard::new(&[protocol])) } else { None };
    let reader = first.into_iter().fold(reader, |reader, card| match level {
        Level::Character | Level::Tpdu => reader.card(Slot(0), LineCard::new(card)),
        _ => reader.card(Slot(0), card),
    });
    put(reader, Slot(slots - 1), level, protocol, kind)
}

pub(crate) type Ended = (Result<(), Error>, Option<Card>);

/// Begins it, on a thread of its own.
pub(crate) fn begin(
    kind: Kind,
    context: &Context,
    card: Card,
    name: &std::ffi::CString,
) -> Running<Ended> {
    let (context, name) = (context.clone(), name.clone());
    run(move || {
        let mut card = card;
        let result = match kind {
            Transmit => card.transmit_owned(&NEVER, None).map(drop),
            Extended => card.transmit_owned(&READ, None).map(drop),
            Control => card.control_owned(CTL_ESCAPE, &[4], None).map(drop),
            PinEntry => card.control_owned(VERIFY_PIN_DIRECT, &pin_structure(), None).map(drop),
            Reconnect(how) => card.reconnect(ShareMode::Shared, Protocols::ANY, how),
            Connect => {
                card.disconnect(Disposition::UnpowerCard).unwrap();
                match context.connect(&name, ShareMode::Shared, Protocols::ANY) {
                    Ok(card) => return (Ok(()), Some(card)),
                    Err(error) => return (Err(error), None),
                }
            }
        };
        (result, Some(card))
    })
}

/// PIN entry of reference 81h, as PC/SC part 10 has it.
pub(crate) fn pin_structure() -> Vec<u8> {
    let apdu = [0x00, 0x20, 0x00, 0x81];
    let mut data = vec![30, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    data
}

/// The reader is in the middle of it.
fn is_at_it(kind: Kind, reader: &mut Reader, slot: Slot) -> bool {
    match kind {
        PinEntry => reader.awaits_pin(slot),
        // More than a few messages: time was asked for, by whichever means the level has.
        Extended => reader.seen().iter().filter(|seen| seen.slot == Some(slot)).count() > 8,
        Connect | Reconnect(_) => reader.is_busy(slot) && last_command(reader, slot) == Some(0x62),
        Transmit | Control => reader.is_busy(slot),
    }
}

fn last_command(reader: &mut Reader, slot: Slot) -> Option<u8> {
    reader.seen().iter().rev().find_map(|seen| match &seen.what {
        Event::Command(bytes) if bytes[5] == slot.0 => Some(bytes[0]),
        _ => None,
    })
}

/// bSlot and bSeq of ABORT requests and PC_to_RDR_Abort messages.
pub(crate) fn aborts(bench: &Bench<Reader>) -> [Vec<(u8, u8)>; 2] {
    let (mut requests, mut messages) = (Vec::new(), Vec::new());
    for seen in bench.port.with(|reader| reader.seen().to_vec()) {
        match &seen.what {
            Event::Setup(setup) => {
                if let Ok(ClassRequest::Abort { slot, seq }) = ClassRequest::parse(setup) {
                    requests.push((slot.0, seq.0));
                }
            }
            Event::Command(bytes) => {
                let message = Message::parse(bytes).unwrap();
                if message.message_type == 0x72 {
                    messages.push((message.slot.0, message.seq.0));
                }
            }
            _ => {}
        }
    }
    [requests, messages]
}

/// It goes on as if nothing had been, or after a reset that is told.
#[track_caller]
pub(crate) fn recovers(what: &str, context: &Context, name: &std::ffi::CStr, card: Option<Card>) {
    let (command, expected) = echo(0xCA7C_0001);
    let mut card = match card {
        Some(card) => card,
        None => context.connect(name, ShareMode::Shared, Protocols::ANY).unwrap(),
    };
    let response = match exchange(&card, &command) {
        Err(Error::ResetCard) => {
            card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
            exchange(&card, &command)
        }
        other => other,
    };
    assert_eq!(response, Ok(expected.into()), "{what}");
}

fn cancelled_in_the_middle(slots: u8, level: Level, protocol: Protocol, kind: Kind) {
    let what = &format!("{slots} slots, {level:?}, {protocol:?}, {kind:?}");
    let bench = Bench::new(reader(slots, level, protocol, kind).build());
    let (context, other) = (bench.context(), bench.context());
    let names = context.list_readers_owned().unwrap();
    let last = Slot(slots - 1);
    let name = &names[usize::from(last.0)];
    let card = context.connect(name, ShareMode::Shared, Protocols::ANY).unwrap();
    bench.port.with(Reader::forget);
    // On the first of several slots another context's command runs all the time.
    let bystander = (slots > 1).then(|| {
        let card = other.connect(&names[0], ShareMode::Shared, Protocols::ANY).unwrap();
        run(move || (exchange(&card, &slow(700)), card))
    });
    let running = begin(kind, &context, card, name);
    until(what, || {
        assert!(!running.is_finished(), "{what}: it did not run");
        bench.port.with(|reader| is_at_it(kind, reader, last))
    });
    let began = Instant::now();
    context.cancel().unwrap();
    let (result, card) = running.join();
    assert_eq!(result, Err(Error::Cancelled), "{what}");
    assert!(began.elapsed() < PROMPT, "{what}: {:?}", began.elapsed());
    let [requests, messages] = aborts(&bench);
    assert_eq!(requests, messages, "{what}: same slot, same bSeq");
    assert!(requests.iter().all(|(slot, _)| *slot == last.0), "{what}: no other slot");
    // A T=1 card that never answers does not answer S(RESYNCH) either: that is aborted in turn.
    let resynchronised = kind == Transmit && protocol == Protocol::T1 && level_is_line(level);
    assert_eq!(requests.len(), if resynchronised { 2 } else { 1 }, "{what}");
    recovers(what, &context, name, card);
    if let Some(bystander) = bystander {
        let (result, card) = bystander.join();
        assert_eq!(result.unwrap(), [0x90, 0x00][..], "{what}");
        let (command, expected) = echo(2);
        assert_eq!(exchange(&card, &command).unwrap(), expected, "{what}: not reset");
    }
    no_violations(&bench);
}

/// Runs several at a time: they wait more than they work.
pub(crate) fn all(rows: Vec<Box<dyn FnOnce() + Send>>) {
    let mut rows = rows.into_iter();
    loop {
        let batch: Vec<_> = rows.by_ref().take(128).map(run).collect();
        if batch.is_empty() {
            return;
        }
        batch.into_iter().for_each(Running::join);
    }
}

fn every_level(kinds: &[Kind]) {
    let mut rows: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for slots in [1, 3] {
        for level in LEVELS {
            for protocol in PROTOCOLS {
                for kind in kinds.iter().copied() {
                    rows.push(Box::new(move || {
                        cancelled_in_the_middle(slots, level, protocol, kind);
                    }));
                }
            }
        }
    }
    all(rows);
}

#[test]
fn commands_at_every_level() {
    every_level(&[Transmit]);
}

#[test]
fn time_extensions_at_every_level() {
    every_level(&[Extended]);
}

#[test]
fn control_at_every_level() {
    every_level(&[Control]);
}

/// At character level PIN entry is no business of the reader's.
#[test]
fn pin_entry_at_the_levels_that_have_it() {
    let mut rows: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for slots in [1, 3] {
        for level in [Level::Tpdu, Level::ShortApdu, Level::ExtendedApdu] {
            for protocol in PROTOCOLS {
                rows.push(Box::new(move || {
                    cancelled_in_the_middle(slots, level, protocol, PinEntry);
                }));
            }
        }
    }
    all(rows);
}

#[test]
fn power_up_at_every_level() {
    every_level(&[Connect, Reconnect(Disposition::ResetCard), Reconnect(Disposition::UnpowerCard)]);
}

/// In the middle of a chain, of APDU parts or of blocks, out or in: the reader has one message of it
/// that it does not answer.
#[test]
fn chains() {
    let long: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
    let extended = [&[0x00, 0x10, 0x00, 0x00, 0x00, 0x03, 0xE8][..], &long].concat();
    let short = [&[0x00, 0x10, 0x00, 0x00, 200][..], &long[..200]].concat();
    let many = [0x00, 0x12, 0x03, 0xE8, 0x00, 0x00, 0x00].to_vec();
    for (preset, command, parts) in [
        ("extended", &extended, 1..=4),
        ("extended", &many, 1..=4),
        ("t1-tpdu-short", &short, 1..=5),
        ("t1-tpdu-short", &many, 1..=4),
        ("t1-character", &short, 1..=2),
        ("t0-character", &short, 1..=2),
        ("t0-character-one", &short, 1..=3),
    ] {
        for part in parts {
            let what = &format!("{preset}, {} bytes, part {part}", command.len());
            let bench = Bench::new(Watched::new(presets::by_name(preset).unwrap()));
            let context = bench.context();
            let card = bench.connect(&context);
            bench.port.with(|device| device.forget());
            bench.port.with(|device| device.hold(part));
            let command = command.clone();
            let running = run(move || (exchange(&card, &command), card));
            until(what, || {
                assert!(!running.is_finished(), "{what}: it did not come so far");
                bench.port.with(|device| device.is_holding())
            });
            let began = Instant::now();
            context.cancel().unwrap();
            let (result, card) = running.join();
            assert_eq!(result, Err(Error::Cancelled), "{what}");
            assert!(began.elapsed() < PROMPT, "{what}: {:?}", began.elapsed());
            let (requests, messages) = bench.port.with(|device| device.aborts());
            assert_eq!((requests.len(), &requests), (1, &messages), "{what}");
            recovers(what, &context, &bench.reader(), Some(card));
        }
    }
}

/// A connect whose PPS request the reader does not answer. T=1's IFSD goes with the first exchange:
/// that is the first part of its chain above.
#[test]
fn negotiation() {
    for what in ["pps", "pps-character", "pps-too-fast", "pps-keeps-rate"] {
        let bench = Bench::new(Watched::new(presets::by_name(what).unwrap()));
        let context = bench.context();
        let name = bench.reader();
        bench.port.with(|device| device.hold(1));
        let connecting = run({
            let (context, name) = (context.clone(), name.clone());
            move || context.connect(&name, ShareMode::Shared, Protocols::T1).map(drop)
        });
        until(what, || {
            assert!(!connecting.is_finished(), "{what}: it did not come so far");
            bench.port.with(|device| device.is_holding())
        });
        context.cancel().unwrap();
        assert_eq!(connecting.join(), Err(Error::Cancelled), "{what}");
        let (requests, messages) = bench.port.with(|device| device.aborts());
        assert_eq!((requests.len(), &requests), (1, &messages), "{what}");
        // No handle is left, and the next one agrees on what it likes.
        let alone = context.connect(&name, ShareMode::Exclusive, Protocols::T1).unwrap();
        recovers(what, &context, &name, Some(alone));
    }
}

/// A command that the reader has not got yet, as another slot's keeps it busy: nothing of it is
/// sent, and nothing is aborted.
#[test]
fn a_command_that_waits_for_another_slot() {
    let bench = Bench::new(presets::by_name("one-at-a-time").unwrap());
    let (a, b) = (bench.context(), bench.context());
    let names = a.list_readers_owned().unwrap();
    let connect =
        |context: &Context, n: usize| context.connect(&names[n], ShareMode::Shared, Protocols::ANY);
    let (first, second) = (connect(&b, 0).unwrap(), connect(&a, 1).unwrap());
    let running = run(move || (exchange(&first, &slow(700)), first));
    until("the first slot is at it", || bench.port.with(|reader| reader.is_busy(Slot(0))));
    bench.port.with(Reader::forget);
    let queued = run(move || (second.transmit_owned(&NEVER, None), second));
    crate::fixture::outstanding(&a, 1);
    let cancelled = loop {
        // Whether the driver has it already makes no difference.
        a.cancel().unwrap();
        if queued.is_finished() {
            break queued.join();
        }
        std::thread::yield_now();
    };
    assert_eq!(cancelled.0, Err(Error::Cancelled));
    assert_eq!(aborts(&bench), [vec![], vec![]]);
    assert_eq!(bench.port.with(|reader| last_command(reader, Slot(1))), None);
    assert_eq!(running.join().0.unwrap(), [0x90, 0x00][..]);
    recovers("one at a time", &a, &names[1], Some(cancelled.1));
    no_violations(&bench);
}

/// Every known way to misanswer an Abort, whatever runs: the caller has its answer in time, and the
/// next command its own, or the reader is clearly unavailable.
#[test]
fn misanswers() {
    let names = presets::names().map(|(name, _)| name);
    let mut rows: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for preset in names.filter(|name| name.starts_with("abort-") && *name != "abort-unasked") {
        for kind in KINDS {
            for (level, protocol) in [
                (Level::ExtendedApdu, Protocol::T1),
                (Level::ShortApdu, Protocol::T0),
                (Level::Tpdu, Protocol::T1),
            ] {
                rows.push(Box::new(move || misanswered(preset, level, protocol, kind)));
            }
        }
    }
    all(rows);
}

fn misanswered(preset: &str, level: Level, protocol: Protocol, kind: Kind) {
    let what = &format!("{preset}, {level:?}, {protocol:?}, {kind:?}");
    let found = presets::all().iter().find(|row| row.name == preset).unwrap();
    let reader = found.builder().level(level).pin_support(PinSupport::VERIFY | PinSupport::MODIFY);
    let bench = Bench::new(put(reader, Slot(0), level, protocol, kind).build());
    let context = bench.context();
    let name = bench.reader();
    let card = bench.connect(&context);
    bench.port.with(Reader::forget);
    let running = begin(kind, &context, card, &name);
    until(what, || bench.port.with(|reader| is_at_it(kind, reader, Slot(0))));
    let began = Instant::now();
    context.cancel().unwrap();
    let (result, card) = running.join();
    assert!(began.elapsed() < PROMPT, "{what}: {:?}", began.elapsed());
    match result {
        Err(Error::Cancelled) => {}
        Ok(()) => assert_eq!(preset, "abort-completes", "{what}"),
        Err(error) => panic!("{what}: {error:?}"),
    }
    let (command, expected) = echo(0xCA7C_0002);
    let reconnect = |card: Option<Card>| match card {
        Some(mut card) => {
            let leave = Disposition::LeaveCard;
            card.reconnect(ShareMode::Shared, Protocols::ANY, leave).map(|()| card)
        }
        None => context.connect(&name, ShareMode::Shared, Protocols::ANY),
    };
    match reconnect(card) {
        Ok(card) => assert_eq!(exchange(&card, &command), Ok(expected.into()), "{what}"),
        Err(error) => {
            let gone = [Error::ReaderUnavailable, Error::UnknownReader];
            assert!(gone.contains(&error), "{what}: {error:?}");
        }
    }
}
