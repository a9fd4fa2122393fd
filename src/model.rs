//! Every order in which callers, cancellers and a reader's thread can run, tried one by one: what
//! they share is the real thing, down to the simulated reader; only time stands still.
//!
//! `tests/all` runs them, each with a limit to how often threads are interrupted.

use crate::{Card, Context, Disposition, Error, Protocols, ReaderState, ShareMode, Stack, State};
use ccid::wire::IccStatus;
use ccid::{Operation, Options, Output, Slot};
use ifd::Clock;
use ifd::transport::sim::SimTransport;
use loom::thread;
use sim::card::FileCard;
use sim::{Port, Reader};
use std::ffi::CString;

/// A command that the card never answers.
const NEVER: [u8; 4] = [0x00, 0x16, 0x00, 0x00];

/// The response holds the data.
fn echo(data: u8) -> [u8; 6] {
    [0x00, 0x10, 0x00, 0x00, 0x01, data]
}

struct World {
    port: Port<Reader>,
    stack: Stack,
}

impl World {
    /// A reader with a card in it.
    fn new() -> Self {
        let port = Port::new(Reader::builder().card(Slot(0), FileCard::t1()).build());
        let stack = Stack::empty();
        let transport = SimTransport::new(port.clone()).unwrap();
        stack.attach_with_clock(transport, Clock::monotonic()).unwrap();
        Self { port, stack }
    }

    fn context(&self) -> Context {
        Context::on(&self.stack).unwrap()
    }

    fn name(&self) -> CString {
        self.stack.readers()[0].name.clone()
    }

    fn connect(&self, context: &Context) -> Card {
        context.connect(&self.name(), ShareMode::Shared, Protocols::ANY).unwrap()
    }

    /// Waits until a call of the context is under way.
    fn until_calling(&self, context: &Context) {
        while self.calls(context) == 0 {
            thread::yield_now();
        }
    }

    fn calls(&self, context: &Context) -> usize {
        self.stack.inner.lock().contexts[&context.shared.id].calls.len()
    }

    /// Nothing is under way any more, and the next command gets its own answer.
    fn check(&self) {
        assert!(self.stack.inner.lock().handles.is_empty());
        if !self.port.is_plugged() {
            assert!(self.stack.readers().is_empty());
            return;
        }
        let context = self.context();
        let card = self.connect(&context);
        assert_eq!(card.transmit_owned(&echo(0x77), None).unwrap()[..], [0x77, 0x90, 0x00]);
        drop((card, context));
        let state = self.stack.inner.lock();
        assert!(state.contexts.values().all(|context| context.calls.is_empty()));
        assert!(state.slots[0].is_free());
        drop(state);
        let violations = self.port.with(|reader| reader.violations().to_vec());
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// Tries `scenario` in every order from where it says so. What it gives back is dropped, and the
/// reader looked at, in one order only.
///
/// LOOM_MAX_PREEMPTIONS says how often at most a thread may be interrupted where it could have
/// gone on; without it there is no limit, which takes hours for some.
fn model<R>(scenario: impl Fn(&World) -> R + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.expect_explicit_explore = true;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let world = World::new();
        let rest = scenario(&world);
        loom::stop_exploring();
        drop(rest);
        world.check();
    });
    println!("{} orders", runs.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn a_cancel_of_a_wait_is_never_lost() {
    model(|world| {
        let context = world.context();
        let waiter = context.clone();
        let mut states = [ReaderState::new(world.name(), State::PRESENT)];
        loom::explore();
        let wait = thread::spawn(move || waiter.get_status_change(None, &mut states));
        world.until_calling(&context);
        context.cancel().unwrap();
        assert_eq!(wait.join().unwrap(), Err(Error::Cancelled));
    });
}

#[test]
fn a_wait_that_is_cancelled_loses_no_event() {
    model(|world| {
        let context = world.context();
        let (waiter, canceller) = (context.clone(), context.canceller());
        let mut states = [ReaderState::new(world.name(), State::PRESENT)];
        loom::explore();
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        let wait = thread::spawn(move || {
            let result = waiter.get_status_change(None, &mut states);
            (result, states)
        });
        world.port.with(|reader| drop(reader.remove(Slot(0))));
        let (result, mut states) = wait.join().unwrap();
        if result == Err(Error::Cancelled) {
            context.get_status_change(None, &mut states).unwrap();
        } else {
            assert_eq!(result, Ok(()));
        }
        assert!(states[0].event_state().contains(State::EMPTY | State::CHANGED));
        cancel.join().unwrap();
        drop(world.port.with(|reader| reader.insert(Slot(0), FileCard::t1())));
        states[0].sync_current_state();
        context.get_status_change(None, &mut states).unwrap();
    });
}

#[test]
fn a_cancel_of_a_running_command_is_never_lost() {
    model(|world| {
        let context = world.context();
        let card = world.connect(&context);
        loom::explore();
        let transmit = thread::spawn(move || (card.transmit_owned(&NEVER, None), card));
        world.until_calling(&context);
        context.cancel().unwrap();
        let (result, card) = transmit.join().unwrap();
        assert_eq!(result, Err(Error::Cancelled));
        card
    });
}

#[test]
fn an_answer_or_a_cancel_is_told_once_and_whole() {
    model(|world| {
        let context = world.context();
        let card = world.connect(&context);
        loom::explore();
        let canceller = context.canceller();
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        match card.transmit_owned(&echo(0x55), None) {
            Ok(response) => assert_eq!(response[..], [0x55, 0x90, 0x00]),
            Err(error) => assert_eq!(error, Error::Cancelled),
        }
        cancel.join().unwrap();
        card
    });
}

#[test]
fn two_cancels_end_one_command_once() {
    model(|world| {
        let context = world.context();
        let card = world.connect(&context);
        let canceller = context.canceller();
        loom::explore();
        let transmit = thread::spawn(move || (card.transmit_owned(&NEVER, None), card));
        world.until_calling(&context);
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        context.cancel().unwrap();
        cancel.join().unwrap();
        let (result, card) = transmit.join().unwrap();
        assert_eq!(result, Err(Error::Cancelled));
        card
    });
}

#[test]
fn a_connect_that_is_cancelled_leaves_no_handle() {
    model(|world| {
        let other = world.context();
        let card = world.connect(&other);
        // The next one has to power it up.
        card.disconnect(Disposition::UnpowerCard).map_err(|(_, error)| error).unwrap();
        let context = world.context();
        let (canceller, name) = (context.canceller(), world.name());
        loom::explore();
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        let card = context.connect(&name, ShareMode::Shared, Protocols::ANY);
        cancel.join().unwrap();
        if let Err(error) = &card {
            assert_eq!(*error, Error::Cancelled);
            assert!(world.stack.inner.lock().handles.is_empty());
        }
        (card, context, other)
    });
}

#[test]
fn a_queued_transaction_is_begun_or_cancelled() {
    model(|world| {
        let (first, second) = (world.context(), world.context());
        let (mut holder, mut queued) = (world.connect(&first), world.connect(&second));
        let transaction = holder.transaction().unwrap();
        let canceller = second.canceller();
        loom::explore();
        let begin = thread::spawn(move || {
            let result = queued.transaction().map(|transaction| {
                transaction.end(Disposition::LeaveCard).unwrap();
            });
            (result, queued)
        });
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        transaction.end(Disposition::LeaveCard).unwrap();
        let (result, queued) = begin.join().unwrap();
        assert!(matches!(result, Ok(()) | Err(Error::Cancelled)), "{result:?}");
        cancel.join().unwrap();
        // Whoever had it has it no longer.
        drop(holder.transaction().unwrap());
        (holder, queued, first, second)
    });
}

#[test]
fn a_cancel_hits_no_other_context() {
    model(|world| {
        let (first, second) = (world.context(), world.context());
        let (stuck, other) = (world.connect(&first), world.connect(&second));
        loom::explore();
        let stuck = thread::spawn(move || (stuck.transmit_owned(&NEVER, None), stuck));
        world.until_calling(&first);
        let other = thread::spawn(move || (other.transmit_owned(&echo(0x33), None), other));
        first.cancel().unwrap();
        let (result, stuck) = stuck.join().unwrap();
        assert_eq!(result, Err(Error::Cancelled));
        let (result, other) = other.join().unwrap();
        match result {
            Ok(response) => assert_eq!(response[..], [0x33, 0x90, 0x00]),
            Err(error) => assert_eq!(error, Error::ResetCard),
        }
        (stuck, other, first, second)
    });
}

#[test]
fn a_release_ends_a_running_command() {
    model(|world| {
        let context = world.context();
        let card = world.connect(&context);
        loom::explore();
        let transmit = thread::spawn(move || (card.transmit_owned(&NEVER, None), card));
        world.until_calling(&context);
        context.release().map_err(|(_, error)| error).unwrap();
        let (result, card) = transmit.join().unwrap();
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Cancelled | Error::InvalidHandle), "{error:?}");
        card
    });
}

#[test]
fn an_unplugged_reader_ends_a_command_that_is_being_cancelled() {
    model(|world| {
        let context = world.context();
        let card = world.connect(&context);
        let canceller = context.canceller();
        loom::explore();
        let cancel = thread::spawn(move || canceller.cancel().unwrap());
        let transmit = thread::spawn(move || (card.transmit_owned(&NEVER, None), card));
        world.port.unplug();
        let (result, card) = transmit.join().unwrap();
        let error = result.unwrap_err();
        let expected = [Error::Cancelled, Error::ReaderUnavailable, Error::RemovedCard];
        assert!(expected.contains(&error), "{error:?}");
        cancel.join().unwrap();
        while !world.stack.readers().is_empty() {
            thread::yield_now();
        }
        card
    });
}

#[test]
fn a_shutdown_ends_a_wait_as_such() {
    model(|world| {
        let context = world.context();
        let waiter = context.clone();
        let mut states = [ReaderState::new(world.name(), State::PRESENT)];
        loom::explore();
        let wait = thread::spawn(move || waiter.get_status_change(None, &mut states));
        world.until_calling(&context);
        world.stack.shutdown();
        assert_eq!(wait.join().unwrap(), Err(Error::ServiceStopped));
        world.port.unplug();
    });
}

/// One of them does the reader's work for both, or its thread does.
#[test]
fn two_commands_of_one_reader_both_end() {
    model(|world| {
        let (first, second) = (world.context(), world.context());
        let (one, other) = (world.connect(&first), world.connect(&second));
        loom::explore();
        let one = thread::spawn(move || (one.transmit_owned(&echo(0x11), None), one));
        let (answer, other) = (other.transmit_owned(&echo(0x22), None), other);
        assert_eq!(answer.unwrap()[..], [0x22, 0x90, 0x00]);
        let (answer, one) = one.join().unwrap();
        assert_eq!(answer.unwrap()[..], [0x11, 0x90, 0x00]);
        (one, other, first, second)
    });
}

/// Neither slot waits for the other's: whoever does the work leaves it when its own is done.
#[test]
fn two_slots_at_once() {
    model(|world| {
        let reader = Reader::builder().slots(2).busy_slots(2).card(Slot(1), FileCard::t1());
        let transport = SimTransport::new(Port::new(reader.build())).unwrap();
        let reader =
            ifd::Handle::spawn(transport, Options::default(), Clock::monotonic(), |_| {}).unwrap();
        reader.call(Slot(0), Operation::Status, None).unwrap();
        let other = reader.clone();
        loom::explore();
        let other = thread::spawn(move || other.call(Slot(1), Operation::Status, None));
        let one = reader.call(Slot(0), Operation::Status, None).unwrap();
        assert_eq!(one, Output::Status(IccStatus::NotPresent));
        let other = other.join().unwrap().unwrap();
        assert_eq!(other, Output::Status(IccStatus::PresentInactive));
        (reader, world.context())
    });
}
