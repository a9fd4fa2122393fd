//! A status wait as a future: without a runtime, without a thread.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use ccid::Slot;
use common::Bench;
use scard::{Context, Error, PNP_NOTIFICATION, ReaderState, State, StatusChange};
use sim::card::FileCard;
use sim::{Reader, presets};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

fn bench(preset: &str) -> Bench<Reader> {
    Bench::new(presets::by_name(preset).unwrap())
}

fn empty(bench: &Bench<Reader>) -> Vec<ReaderState> {
    vec![ReaderState::new(bench.reader(), State::EMPTY)]
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Count {
    fn times(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

fn poll(wait: &mut StatusChange, waker: &Waker) -> Poll<Result<Vec<ReaderState>, Error>> {
    Pin::new(wait).poll(&mut TaskContext::from_waker(waker))
}

/// Runs a future as the smallest executor does.
fn block_on(mut wait: StatusChange) -> Result<Vec<ReaderState>, Error> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(result) = poll(&mut wait, &waker) {
            return result;
        }
        std::thread::park();
    }
}

fn outstanding(context: &Context) -> usize {
    context.outstanding_calls().unwrap()
}

#[test]
fn an_insertion_wakes_the_task_once_it_can_be_seen() {
    let bench = bench("empty");
    let context = bench.context();
    let (count, mut wait) = (Arc::new(Count::default()), context.status_change(empty(&bench)));
    let waker = Waker::from(count.clone());
    assert!(poll(&mut wait, &waker).is_pending());
    assert!(poll(&mut wait, &waker).is_pending());
    assert_eq!((count.times(), outstanding(&context)), (0, 1));
    bench.port.with(|reader| drop(reader.insert(Slot(0), FileCard::t1())));
    let states = block_on(wait).unwrap();
    assert!(states[0].event_state().contains(State::PRESENT | State::CHANGED));
    assert!(!states[0].atr().is_empty());
    assert_eq!(outstanding(&context), 0);
}

#[test]
fn only_the_latest_waker_is_woken() {
    let bench = bench("empty");
    let context = bench.context();
    let [first, second] = [(); 2].map(|()| Arc::new(Count::default()));
    let mut wait = context.status_change(empty(&bench));
    assert!(poll(&mut wait, &Waker::from(first.clone())).is_pending());
    assert!(poll(&mut wait, &Waker::from(second.clone())).is_pending());
    context.cancel().unwrap();
    assert_eq!((first.times(), second.times()), (0, 1));
    assert_eq!(block_on(wait), Err(Error::Cancelled));
}

#[test]
fn a_state_that_differs_is_told_at_once_and_an_unknown_reader_too() {
    let bench = bench("empty");
    let context = bench.context();
    let states = vec![ReaderState::new(bench.reader(), State::UNAWARE)];
    let states = block_on(context.status_change(states)).unwrap();
    assert!(states[0].event_state().contains(State::EMPTY | State::CHANGED));
    let unknown = vec![ReaderState::new(c"none", State::UNAWARE)];
    assert_eq!(block_on(context.status_change(unknown)), Err(Error::UnknownReader));
    assert_eq!(block_on(context.status_change(Vec::new())), Ok(Vec::new()));
}

#[test]
fn it_is_outstanding_from_when_it_is_made_until_it_is_dropped() {
    let bench = bench("empty");
    let context = bench.context();
    let wait = context.status_change(empty(&bench));
    assert_eq!(outstanding(&context), 1);
    // Before it was polled for the first time.
    context.cancel().unwrap();
    assert_eq!(block_on(wait), Err(Error::Cancelled));
    drop(context.status_change(empty(&bench)));
    assert_eq!(outstanding(&context), 0);
}

#[test]
fn a_wait_that_is_over_has_nothing_more_to_say() {
    let bench = bench("empty");
    let context = bench.context();
    let mut wait = context.status_change(vec![ReaderState::new(bench.reader(), State::UNAWARE)]);
    assert!(matches!(poll(&mut wait, Waker::noop()), Poll::Ready(Ok(_))));
    assert_eq!(poll(&mut wait, Waker::noop()), Poll::Ready(Err(Error::InvalidHandle)));
}

#[test]
fn unplugging_release_and_shutdown_end_it() {
    let bench = bench("empty");
    let context = bench.context();
    let (reader, other) = (bench.reader(), bench.context());
    let pnp = context.status_change(vec![ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)]);
    let gone = context.status_change(vec![ReaderState::new(reader, State::EMPTY)]);
    let released = other.status_change(empty(&bench));
    other.release().map_err(|(_, error)| error).unwrap();
    assert_eq!(block_on(released), Err(Error::Cancelled));
    bench.port.unplug();
    let states = block_on(gone).unwrap();
    assert!(states[0].event_state().contains(State::UNAVAILABLE | State::CHANGED));
    assert!(block_on(pnp).unwrap()[0].event_state().contains(State::CHANGED));
    let stopped = context.status_change(vec![ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)]);
    bench.stack.shutdown();
    assert_eq!(block_on(stopped), Err(Error::ServiceStopped));
}

/// What a waker does is its owner's business: here it polls, and cancels.
#[test]
fn a_waker_may_call_in() {
    struct Inline {
        wait: Mutex<Option<StatusChange>>,
        context: Context,
        told: Mutex<Option<Result<Vec<ReaderState>, Error>>>,
    }
    impl Wake for Inline {
        fn wake(self: Arc<Self>) {
            let Some(mut wait) = self.wait.lock().unwrap().take() else { return };
            match poll(&mut wait, &Waker::from(self.clone())) {
                Poll::Ready(result) => *self.told.lock().unwrap() = Some(result),
                Poll::Pending => *self.wait.lock().unwrap() = Some(wait),
            }
            self.context.cancel().unwrap();
        }
    }
    let bench = bench("empty");
    let context = bench.context();
    let wait = context.status_change(empty(&bench));
    let task = Arc::new(Inline { wait: Mutex::new(Some(wait)), context, told: Mutex::new(None) });
    // It polls, is pending, and its own cancel wakes it while it is being woken.
    task.clone().wake();
    assert_eq!(task.told.lock().unwrap().take(), Some(Err(Error::Cancelled)));
    assert_eq!(outstanding(&task.context), 0);
}
