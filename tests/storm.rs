//! Cancels at random moments, 10,000 for each kind of call, by 32 threads on a reader with eight
//! slots: every call ends with its own answer or as cancelled, nothing is left over, and the device
//! sees no broken rule.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use ccid::Slot;
use common::{Bench, Running, run};
use scard::{
    Card, Context, Disposition, Error, Protocols, ReaderState, ShareMode, State, Transaction,
};
use sim::Reader;
use sim::card::{FileCard, Pace};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Threads that call; as many cancel.
const CALLERS: u32 = 16;

/// Cancels in all, for each kind of call.
const CANCELS: u32 = 10_000;

const SLOTS: u8 = 8;

/// A command that the card never answers.
const NEVER: &[u8] = &[0x00, 0x16, 0x00, 0x00];

/// How the calls of one kind ended.
type Ends = BTreeMap<&'static str, u32>;

/// SplitMix64: moments need no better chance, and a run can be had again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One thread that calls, with what it calls on.
struct Caller {
    number: u32,
    context: Context,
    reader: CString,
    ends: Ends,
}

impl Caller {
    fn count(&mut self, end: &'static str) {
        *self.ends.entry(end).or_default() += 1;
    }

    fn connect(&self) -> Card {
        loop {
            match self.context.connect(&self.reader, ShareMode::Shared, Protocols::ANY) {
                Ok(card) => return card,
                // The canceller does not know what it hits.
                Err(Error::Cancelled) => {}
                Err(error) => panic!("connect: {error:?}"),
            }
        }
    }

    /// Another caller's cancel may have had the card reset.
    fn after_reset(&mut self, card: &mut Card) {
        self.count("reset");
        loop {
            let leave = Disposition::LeaveCard;
            match card.reconnect(ShareMode::Shared, Protocols::ANY, leave) {
                Ok(()) => return,
                Err(Error::Cancelled) => {}
                Err(error) => panic!("reconnect: {error:?}"),
            }
        }
    }
}

/// Has each caller do `call` again and again, with a cancel at some moment of each. `call` tells
/// whether it needs a further cancel to end.
fn storm(call: impl Fn(&mut Caller, &mut Card, u32) + Send + Sync + 'static) -> Ends {
    let card = || FileCard::t1().pace(0x10, Pace::After(Duration::from_micros(100)));
    let reader = (0..SLOTS)
        .fold(Reader::builder().slots(SLOTS), |reader, slot| reader.card(Slot(slot), card()));
    let bench = Bench::new(reader.build());
    let names = bench.context().list_readers_owned().unwrap();
    assert_eq!(names.len(), usize::from(SLOTS));
    let call = Arc::new(call);
    let callers: Vec<Running<Ends>> = (0..CALLERS)
        .map(|number| {
            let reader = names[number as usize % names.len()].clone();
            let context = bench.context();
            let call = Arc::clone(&call);
            run(move || {
                let mut caller = Caller { number, context, reader, ends: Ends::new() };
                let mut card = caller.connect();
                let canceller = Cancels::start(&caller);
                for round in 0..CANCELS / CALLERS {
                    canceller.round.store(round + 1, Ordering::Release);
                    call(&mut caller, &mut card, round);
                    canceller.ended.store(round + 1, Ordering::Release);
                    while canceller.done.load(Ordering::Acquire) <= round {
                        std::thread::yield_now();
                    }
                }
                canceller.thread.join();
                caller.ends
            })
        })
        .collect();
    let mut ends = Ends::new();
    for caller in callers {
        for (end, count) in caller.join() {
            *ends.entry(end).or_default() += count;
        }
    }
    check(&bench, &names);
    ends
}

/// The thread that cancels one caller's calls.
struct Cancels {
    /// The round that the caller is in, from 1 on.
    round: Arc<AtomicU32>,
    /// The round that it has finished.
    ended: Arc<AtomicU32>,
    /// The round whose cancels are done.
    done: Arc<AtomicU32>,
    thread: Running<()>,
}

impl Cancels {
    fn start(caller: &Caller) -> Self {
        let [round, ended, done] = [(); 3].map(|()| Arc::new(AtomicU32::new(0)));
        let context = caller.context.clone();
        let mut chance = Chance(caller.number.into());
        let thread = run({
            let (round, ended, done) = (round.clone(), ended.clone(), done.clone());
            move || {
                for current in 1..=CANCELS / CALLERS {
                    while round.load(Ordering::Acquire) < current {
                        std::thread::yield_now();
                    }
                    for _ in 0..chance.below(20_000) {
                        std::hint::spin_loop();
                    }
                    context.cancel().unwrap();
                    // The first may have come before the call, which then waits without end.
                    while ended.load(Ordering::Acquire) < current {
                        std::thread::sleep(Duration::from_micros(200));
                        context.cancel().unwrap();
                    }
                    done.store(current, Ordering::Release);
                }
            }
        });
        Self { round, ended, done, thread }
    }
}

/// No handle is left, every slot answers, and the device has nothing to complain of.
fn check(bench: &Bench<Reader>, names: &[CString]) {
    let context = bench.context();
    for name in names {
        let card = context.connect(name, ShareMode::Exclusive, Protocols::ANY).unwrap();
        let response = card.transmit_owned(&[0, 0x10, 0, 0, 1, 0x42], None).unwrap();
        assert_eq!(response, [0x42, 0x90, 0x00][..]);
    }
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

/// The kind of call was hit, and also got through.
fn both(ends: &Ends, through: &'static str) {
    println!("{ends:?}");
    assert!(ends.get(through).is_some_and(|count| *count > 0), "{ends:?}");
    assert!(ends.get("cancelled").is_some_and(|count| *count > 0), "{ends:?}");
}

#[test]
fn transmit() {
    let ends = storm(|caller, card, round| {
        let data = [&caller.number.to_be_bytes()[..], &round.to_be_bytes()].concat();
        let echo = [&[0x00, 0x10, 0x00, 0x00, 8][..], &data].concat();
        // Some wait for an answer that never comes.
        let command = if round % 4 == 3 { NEVER } else { &echo };
        match card.transmit_owned(command, None) {
            Ok(response) => {
                assert_eq!(response, [&data[..], &[0x90, 0x00]].concat());
                caller.count("answered");
            }
            Err(Error::Cancelled) => caller.count("cancelled"),
            Err(Error::ResetCard) => caller.after_reset(card),
            Err(error) => panic!("{error:?}"),
        }
    });
    both(&ends, "answered");
}

#[test]
fn wait() {
    let ends = storm(|caller, _, round| {
        let mut states = [ReaderState::new(caller.reader.clone(), State::EMPTY)];
        if round % 2 == 0 {
            // Nothing changes any more.
            states[0] = ReaderState::new(caller.reader.clone(), State::UNAWARE);
            match caller.context.get_status_change(None, &mut states) {
                Ok(()) => states[0].sync_current_state(),
                Err(Error::Cancelled) => return caller.count("cancelled"),
                Err(error) => panic!("{error:?}"),
            }
        }
        match caller.context.get_status_change(None, &mut states) {
            Ok(()) => caller.count("changed"),
            Err(Error::Cancelled) => caller.count("cancelled"),
            Err(error) => panic!("{error:?}"),
        }
    });
    both(&ends, "changed");
}

#[test]
fn connect() {
    let ends = storm(|caller, _, _| {
        match caller.context.connect(&caller.reader, ShareMode::Shared, Protocols::ANY) {
            Ok(card) => {
                // The next one has to power it up, if no other has it.
                card.disconnect(Disposition::UnpowerCard).map_err(|(_, error)| error).unwrap();
                caller.count("connected");
            }
            Err(Error::Cancelled) => caller.count("cancelled"),
            Err(error) => panic!("{error:?}"),
        }
    });
    both(&ends, "connected");
}

#[test]
fn begin_transaction() {
    /// At most one at a time.
    static HELD: [AtomicBool; SLOTS as usize] = [const { AtomicBool::new(false) }; SLOTS as usize];
    let ends = storm(|caller, card, _| {
        let held = &HELD[caller.number as usize % HELD.len()];
        let end = |transaction: Transaction<'_>| {
            assert!(!held.swap(true, Ordering::AcqRel), "two hold it");
            std::thread::yield_now();
            held.store(false, Ordering::Release);
            transaction.end(Disposition::LeaveCard)
        };
        match card.transaction().map(end) {
            Ok(ended) => {
                ended.unwrap();
                caller.count("begun");
            }
            Err(Error::Cancelled) => caller.count("cancelled"),
            // One that has finished resets the card when it closes its handle.
            Err(Error::ResetCard) => caller.after_reset(card),
            Err(error) => panic!("{error:?}"),
        }
    });
    both(&ends, "begun");
}

#[test]
fn power_up() {
    let ends = storm(|caller, card, round| {
        let how = if round % 2 == 0 { Disposition::ResetCard } else { Disposition::UnpowerCard };
        match card.reconnect(ShareMode::Shared, Protocols::ANY, how) {
            Ok(()) => caller.count("powered"),
            Err(Error::Cancelled) => caller.count("cancelled"),
            Err(error) => panic!("{error:?}"),
        }
    });
    both(&ends, "powered");
}
