//! How long it takes until a blocked call has ended: by cancel, by a card being put in, with many
//! waiting and many readers. On the simulated reader; times of the whole stack, threads included.
//!
//! `cargo bench --bench latency`; `benches/pcsc/run` adds the same of pcscd, as far as it can do it.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use ccid::Slot;
use ifd::transport::sim::SimTransport;
use scard::{Context, Error, Protocols, ReaderState, ShareMode, Stack, State};
use sim::card::FileCard;
use sim::{Port, Reader};
use std::ffi::CString;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A command that the card never answers.
const NEVER: &[u8] = &[0x00, 0x16, 0x00, 0x00];

fn main() {
    // What cargo says to a benchmark is not for this one.
    println!("{:<44} {:>8} {:>10} {:>10} {:>10}", "us", "samples", "p50", "p99", "max");
    cancel_of_a_wait(2000, 0);
    cancel_of_a_wait(200, 1000);
    cancel_of_a_command(500);
    insertion(1000, 1);
    insertion(1000, 64);
    insertion_for_many(50, 1000);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    let us = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    let (p50, p99, max) = (us(at(50)), us(at(99)), us(at(100)));
    println!("{what:<44} {:>8} {p50:>10} {p99:>10} {max:>10}", times.len());
}

struct Bench {
    ports: Vec<Port<Reader>>,
    context: Context,
    names: Vec<CString>,
}

impl Bench {
    fn new(readers: usize) -> Self {
        let stack = Stack::empty();
        let ports: Vec<_> = (0..readers)
            .map(|_| Port::new(Reader::builder().card(Slot(0), FileCard::t1()).build()))
            .collect();
        for port in &ports {
            stack.attach(SimTransport::new(port.clone()).unwrap()).unwrap();
        }
        let context = Context::on(&stack).unwrap();
        let names = context.list_readers_owned().unwrap();
        Self { ports, context, names }
    }

    /// What a caller knows who has looked.
    fn states(&self) -> Vec<ReaderState> {
        let states = self.names.iter().map(|name| ReaderState::new(name.clone(), State::UNAWARE));
        let mut states: Vec<_> = states.collect();
        self.context.get_status_change(None, &mut states).unwrap();
        states.iter_mut().for_each(ReaderState::sync_current_state);
        states
    }

    fn until_outstanding(&self, calls: usize) {
        while self.context.outstanding_calls().unwrap() != calls {
            std::thread::yield_now();
        }
        // It is registered; let it go to sleep, too.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// From the cancel to the wait's end, with `others` of another context waiting, too.
fn cancel_of_a_wait(samples: usize, others: usize) {
    let bench = Bench::new(1);
    let other = Context::on(&bench.context.stack()).unwrap();
    let waiting: Vec<_> = (0..others)
        .map(|_| {
            let (other, mut states) = (other.clone(), bench.states());
            std::thread::spawn(move || other.get_status_change(None, &mut states))
        })
        .collect();
    let times = (0..samples).map(|_| {
        let (context, mut states) = (bench.context.clone(), bench.states());
        let waiter = std::thread::spawn(move || {
            let result = context.get_status_change(None, &mut states);
            (result, Instant::now())
        });
        bench.until_outstanding(1);
        let began = Instant::now();
        bench.context.cancel().unwrap();
        let (result, ended) = waiter.join().unwrap();
        assert_eq!(result, Err(Error::Cancelled));
        ended - began
    });
    print(&format!("cancel of a status wait, {others} more waiting"), times.collect());
    other.cancel().unwrap();
    for waiter in waiting {
        let _ = waiter.join();
    }
}

/// From the cancel to the end of a command that the reader is executing: ABORT, PC_to_RDR_Abort,
/// their answers.
fn cancel_of_a_command(samples: usize) {
    let bench = Bench::new(1);
    let times = (0..samples).map(|_| {
        let context = bench.context.clone();
        let card = context.connect(&bench.names[0], ShareMode::Shared, Protocols::ANY).unwrap();
        let transmit = std::thread::spawn(move || {
            let result = card.transmit_owned(NEVER, None);
            (result, Instant::now())
        });
        while !bench.ports[0].with(|reader| reader.is_busy(Slot(0))) {
            std::thread::yield_now();
        }
        let began = Instant::now();
        context.cancel().unwrap();
        let (result, ended) = transmit.join().unwrap();
        assert_eq!(result, Err(Error::Cancelled));
        ended - began
    });
    print("cancel of a running command", times.collect());
}

/// From a card's being put in to the end of the wait, ATR included, with a wait on so many readers.
fn insertion(samples: usize, readers: usize) {
    let bench = Bench::new(readers);
    let times = (0..samples).map(|_| {
        let port = &bench.ports[readers / 2];
        port.with(|reader| drop(reader.remove(Slot(0))));
        let (context, mut states) = (bench.context.clone(), bench.states());
        while states[readers / 2].current_state().contains(State::PRESENT) {
            states = bench.states();
        }
        let waiter = std::thread::spawn(move || {
            context.get_status_change(None, &mut states).map(|()| Instant::now())
        });
        bench.until_outstanding(1);
        let began = Instant::now();
        port.with(|reader| drop(reader.insert(Slot(0), FileCard::t1())));
        waiter.join().unwrap().unwrap() - began
    });
    print(&format!("card put in to wait's end, {readers} reader(s)"), times.collect());
}

/// From a card's being put in to the end of the last of many waits for it.
fn insertion_for_many(samples: usize, waiters: usize) {
    let bench = Bench::new(1);
    let times = (0..samples).map(|_| {
        bench.ports[0].with(|reader| drop(reader.remove(Slot(0))));
        let mut states = bench.states();
        while states[0].current_state().contains(State::PRESENT) {
            states = bench.states();
        }
        let (ends, ended) = mpsc::channel();
        for _ in 0..waiters {
            let (context, mut states) = (bench.context.clone(), states.clone());
            let ends = ends.clone();
            std::thread::spawn(move || {
                context.get_status_change(None, &mut states).unwrap();
                ends.send(Instant::now()).unwrap();
            });
        }
        drop(ends);
        bench.until_outstanding(waiters);
        let began = Instant::now();
        bench.ports[0].with(|reader| drop(reader.insert(Slot(0), FileCard::t1())));
        ended.iter().max().unwrap() - began
    });
    print(&format!("card put in to the end of the last of {waiters}"), times.collect());
}
