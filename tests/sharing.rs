//! Two stacks at one reader, as two programs on USB: whose it is, and how they take turns.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use ccid::Slot;
use common::{Running, WATCHDOG, run, until};
use ifd::transport::sim::SimSource;
use ifd::transport::usb::OpenError;
use scard::{
    Card, Context, Disposition, Error, PNP_NOTIFICATION, Protocols, ReaderState, ShareMode, Stack,
    State,
};
use sim::reader::Event;
use sim::{FileCard, Port, Reader, presets};
use std::ffi::CString;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Longer than any test: what comes to pass does so for another reason.
const LONG: Duration = Duration::from_secs(3600);

/// Echoes one byte.
const ECHO: [u8; 6] = [0x00, 0x10, 0x00, 0x00, 1, 5];
const ECHOED: &[u8] = &[5, 0x90, 0x00];

const POWER_ON: u8 = 0x62;
const POWER_OFF: u8 = 0x63;

fn port(preset: &str) -> Port<Reader> {
    Port::new(presets::by_name(preset).unwrap())
}

/// A program that can have the reader.
struct Program {
    stack: Stack,
    context: Context,
    reader: CString,
}

impl Program {
    /// One that keeps the reader until another wants it.
    fn on(port: &Port<Reader>) -> Self {
        let stack = Stack::empty();
        stack.set_idle_time(LONG);
        stack.attach_shared(SimSource::new(port.clone()).unwrap()).unwrap();
        let context = Context::on(&stack).unwrap();
        let reader = context.list_readers_owned().unwrap().remove(0);
        Self { stack, context, reader }
    }

    fn connect(&self) -> Result<Card, Error> {
        self.context.connect(&self.reader, ShareMode::Shared, Protocols::ANY)
    }

    /// Connects, as soon as the reader is to be had: on a busy machine another may need longer to
    /// let go of it than a call waits.
    fn connect_soon(&self) -> Card {
        let mut connected = None;
        until("the reader is let go", || match self.connect() {
            Ok(card) => {
                connected = Some(card);
                true
            }
            Err(Error::SharingViolation) => false,
            Err(error) => panic!("{error:?}"),
        });
        connected.unwrap()
    }

    fn echo(&self) {
        let card = self.connect_soon();
        assert_eq!(&card.transmit_owned(&ECHO, None).unwrap()[..], ECHOED);
        card.disconnect(Disposition::LeaveCard).map_err(|(_, error)| error).unwrap();
    }

    fn state(&self) -> ReaderState {
        self.change(ReaderState::new(self.reader.clone(), State::UNAWARE), Duration::ZERO).1
    }

    fn change(
        &self,
        known: ReaderState,
        timeout: impl Into<Option<Duration>>,
    ) -> (Result<(), Error>, ReaderState) {
        let mut states = [known];
        let result = self.context.get_status_change(timeout, &mut states);
        let [state] = states;
        (result, state)
    }

    /// How it is now, once the reader is to be had.
    fn reached(&self, known: &ReaderState) -> (Result<(), Error>, ReaderState) {
        let mut found = self.change(known.clone(), Duration::ZERO);
        until("the reader is let go", || {
            let reached = !found.1.event_state().contains(State::UNAVAILABLE);
            if !reached {
                found = self.change(known.clone(), Duration::ZERO);
            }
            reached
        });
        found
    }

    /// A wait without end, under way.
    fn waiting(&self, known: ReaderState) -> Running<(Result<(), Error>, ReaderState)> {
        let (context, before) = (self.context.clone(), self.context.outstanding_calls().unwrap());
        let waiting = run(move || {
            let mut states = [known];
            let result = context.get_status_change(None, &mut states);
            let [state] = states;
            (result, state)
        });
        until("the wait is under way", || {
            self.context.outstanding_calls().unwrap() > before || waiting.is_finished()
        });
        waiting
    }
}

fn known(mut state: ReaderState) -> ReaderState {
    state.sync_current_state();
    state
}

/// bMessageType of the bulk-OUT messages that the reader has seen.
fn commands(port: &Port<Reader>) -> Vec<u8> {
    let seen = port.with(|reader| reader.seen().to_vec());
    let commands = seen.into_iter().filter_map(|seen| match seen.what {
        Event::Command(bytes) => bytes.first().copied(),
        _ => None,
    });
    commands.collect()
}

fn no_violations(port: &Port<Reader>) {
    let violations = port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn listing_and_waiting_for_readers_leave_the_reader_alone() {
    let port = port("default");
    let program = Program::on(&port);
    assert!(program.reader.to_str().unwrap().ends_with(" 00 00"), "{:?}", program.reader);
    let pnp = ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE);
    let (result, _) = program.change(pnp, Duration::from_millis(10));
    assert_eq!(result, Err(Error::Timeout));
    let ignored = ReaderState::new(program.reader.clone(), State::IGNORE);
    assert_eq!(program.change(ignored, None).0, Ok(()));
    assert_eq!(program.stack.readers().len(), 1);
    assert!(program.stack.unusable_readers().is_empty());
    assert!(!port.is_claimed());
    assert!(commands(&port).is_empty());
}

#[test]
fn a_reader_is_open_while_it_is_needed_and_its_card_is_off_afterwards() {
    let port = port("default");
    let program = Program::on(&port);
    program.stack.set_idle_time(Duration::ZERO);
    for _ in 0..3 {
        let card = program.connect().unwrap();
        assert!(port.is_claimed());
        card.transmit_owned(&ECHO, None).unwrap();
        card.disconnect(Disposition::LeaveCard).map_err(|(_, error)| error).unwrap();
        until("the reader is closed", || !port.is_claimed());
        assert_eq!(commands(&port).last(), Some(&POWER_OFF));
    }
    no_violations(&port);
}

#[test]
fn a_second_of_idleness_closes_it() {
    let port = port("default");
    let program = Program::on(&port);
    program.stack.set_idle_time(Duration::from_millis(300));
    let began = Instant::now();
    program.echo();
    let done = began.elapsed();
    until("the reader is closed", || !port.is_claimed());
    assert!(began.elapsed() >= Duration::from_millis(300), "{done:?} {:?}", began.elapsed());
}

/// Whoever waits for the reset is not left waiting when the reader is closed in the middle of it.
#[test]
fn a_reset_that_was_wished_for_ends_with_the_reader_at_the_latest() {
    let slow = Reader::builder().card(Slot(0), FileCard::t1()).power_up(Duration::from_millis(200));
    let port = Port::new(slow.build());
    let program = Program::on(&port);
    program.stack.set_idle_time(Duration::ZERO);
    let card = program.connect().unwrap();
    let disconnected = run(move || {
        card.disconnect(Disposition::ResetCard).map_err(|(_, error)| error).unwrap();
    });
    disconnected.join();
    until("the reader is closed", || !port.is_claimed());
    program.echo();
}

#[test]
fn what_is_connected_in_between_finds_its_card_as_it_was() {
    let port = port("default");
    let program = Program::on(&port);
    program.echo();
    let events = program.state().event_count();
    port.with(Reader::forget);
    program.echo();
    assert!(!commands(&port).iter().any(|kind| [POWER_ON, POWER_OFF].contains(kind)));
    assert_eq!(program.state().event_count(), events);
}

#[test]
fn an_idle_reader_is_let_go_for_who_wants_it() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    for _ in 0..3 {
        first.echo();
        assert!(port.is_claimed());
        second.echo();
    }
    no_violations(&port);
}

#[test]
fn a_reader_in_use_is_refused_with_the_reason() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let card = first.connect().unwrap();
    for share in [ShareMode::Shared, ShareMode::Exclusive, ShareMode::Direct] {
        let refused = second.context.connect(&second.reader, share, Protocols::ANY).unwrap_err();
        assert_eq!(refused, Error::SharingViolation, "{share:?}");
    }
    let unusable = second.stack.unusable_readers();
    assert_eq!(unusable.len(), 1);
    assert_eq!(unusable[0].reason, OpenError::Busy { holders: Vec::new() });
    assert_eq!(second.context.list_readers_owned().unwrap(), std::slice::from_ref(&second.reader));
    // The one that has it is not disturbed.
    assert_eq!(&card.transmit_owned(&ECHO, None).unwrap()[..], ECHOED);
    drop(card);
    second.echo();
    assert!(second.stack.unusable_readers().is_empty());
    no_violations(&port);
}

#[test]
fn direct_needs_the_reader_and_no_card() {
    let port = port("empty");
    let program = Program::on(&port);
    let direct = || program.context.connect(&program.reader, ShareMode::Direct, Protocols::empty());
    let card = direct().unwrap();
    assert!(port.is_claimed());
    assert_eq!(card.protocol(), Ok(None));
    assert_eq!(program.connect().unwrap_err(), Error::NoSmartcard);
}

#[test]
fn a_wait_for_a_reader_in_use_goes_on_until_it_is_free() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let card = first.connect().unwrap();
    let taken = second.state();
    assert_eq!(taken.event_state(), State::UNAVAILABLE | State::CHANGED);
    assert!(taken.atr().is_empty());
    let waiting = second.waiting(known(taken));
    assert_eq!(&card.transmit_owned(&ECHO, None).unwrap()[..], ECHOED);
    assert!(!waiting.is_finished());
    drop(card);
    let (result, found) = waiting.join();
    assert_eq!(result, Ok(()));
    assert_eq!(found.event_state(), State::PRESENT | State::CHANGED);
    assert!(!found.atr().is_empty());
    no_violations(&port);
}

#[test]
fn a_wait_for_a_reader_in_use_is_cancelled_and_has_its_timeout() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let _card = first.connect().unwrap();
    let taken = known(second.state());
    let (result, same) = second.change(taken.clone(), Duration::from_millis(50));
    assert_eq!((result, same.event_state()), (Err(Error::Timeout), State::UNAVAILABLE));
    let waiting = second.waiting(taken);
    second.context.cancel().unwrap();
    assert_eq!(waiting.join().0, Err(Error::Cancelled));
    // Before it is known that the reader is in use, too.
    let third = Program::on(&port);
    let waiting = third.waiting(ReaderState::new(third.reader.clone(), State::UNAWARE));
    third.context.cancel().unwrap();
    assert!(matches!(waiting.join().0, Err(Error::Cancelled) | Ok(())));
    let connecting = {
        let (context, reader) = (third.context.clone(), third.reader.clone());
        run(move || context.connect(&reader, ShareMode::Shared, Protocols::ANY).map(drop))
    };
    until("it is cancelled, or refused", || {
        third.context.cancel().unwrap();
        connecting.is_finished()
    });
    let refused = connecting.join().unwrap_err();
    assert!(matches!(refused, Error::Cancelled | Error::SharingViolation), "{refused:?}");
}

#[test]
fn who_asks_again_and_again_is_told_at_once() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let card = first.connect().unwrap();
    assert_eq!(second.state().event_state(), State::UNAVAILABLE | State::CHANGED);
    // Each of them tries, and none waits for the other program to let go.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(second.state().event_state(), State::UNAVAILABLE | State::CHANGED);
    }
    assert!(began.elapsed() < WATCHDOG / 2, "{:?}", began.elapsed());
    drop(card);
    until("it is free", || second.state().event_state().contains(State::PRESENT));
}

#[test]
fn a_wait_holds_the_reader_until_it_ends() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let waiting = first.waiting(known(first.state()));
    assert_eq!(second.connect().unwrap_err(), Error::SharingViolation);
    assert!(!waiting.is_finished());
    first.context.cancel().unwrap();
    assert_eq!(waiting.join().0, Err(Error::Cancelled));
    second.echo();
}

#[test]
fn releasing_the_context_or_the_stack_frees_the_reader() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let _open = first.connect().unwrap();
    let waiting = first.waiting(known(first.state()));
    first.context.clone().release().map_err(|(_, error)| error).unwrap();
    assert_eq!(waiting.join().0, Err(Error::Cancelled));
    second.echo();
    let third = Program::on(&port);
    third.echo();
    let card = third.connect().unwrap();
    assert_eq!(second.connect().unwrap_err(), Error::SharingViolation);
    drop((card, third));
    // Whoever looks after the reader may be the last to let go of the stack.
    until("it is closed with its stack", || !port.is_claimed());
    second.echo();
}

/// What has happened to the card while the reader was another's is not known: it counts as having
/// been taken out and put in.
#[test]
fn a_card_may_be_another_after_the_reader_was_anothers() {
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let before = known(first.state());
    second.echo();
    let (result, after) = first.reached(&before);
    assert_eq!((result, after.event_state()), (Ok(()), State::PRESENT | State::CHANGED));
    assert_eq!(after.event_count(), before.event_count() + 2);
    // Taken out meanwhile, it counts once, and so when it is put in.
    second.echo();
    let card = port.with(|reader| reader.remove(Slot(0))).unwrap();
    let empty = first.reached(&known(after.clone())).1;
    assert_eq!(empty.event_state(), State::EMPTY | State::CHANGED);
    assert_eq!(empty.event_count(), after.event_count() + 1);
    // An empty reader that stays so has nothing to tell.
    let unaware = ReaderState::new(second.reader.clone(), State::UNAWARE);
    assert_eq!(second.reached(&unaware).1.event_state(), State::EMPTY | State::CHANGED);
    assert_eq!(first.reached(&known(empty.clone())).0, Err(Error::Timeout));
    port.with(|reader| drop(reader.insert(Slot(0), card)));
    let back = first.change(known(empty.clone()), None).1;
    assert_eq!(back.event_state(), State::PRESENT | State::CHANGED);
    assert_eq!(back.event_count(), empty.event_count() + 1);
}

#[test]
fn a_future_waits_for_a_reader_in_use() {
    struct Counter(std::sync::mpsc::Sender<()>);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let port = port("default");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let card = first.connect().unwrap();
    let unaware = ReaderState::new(second.reader.clone(), State::UNAWARE);
    let (sender, woken) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(Counter(sender)));
    let next = |states| {
        let mut wait = std::pin::pin!(second.context.status_change(states));
        loop {
            match wait.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
                Poll::Ready(states) => return states.unwrap(),
                Poll::Pending => woken.recv_timeout(WATCHDOG).unwrap(),
            }
        }
    };
    let taken = next(vec![unaware]);
    assert_eq!(taken[0].event_state(), State::UNAVAILABLE | State::CHANGED);
    drop(card);
    let free = next(taken.into_iter().map(known).collect());
    assert_eq!(free[0].event_state(), State::PRESENT | State::CHANGED);
}

/// What is unplugged while it is open is gone, as is what waits for it.
#[test]
fn an_open_reader_is_unplugged() {
    let port = port("default");
    let program = Program::on(&port);
    let card = program.connect().unwrap();
    let waiting = program.waiting(known(program.state()));
    port.unplug();
    let (result, gone) = waiting.join();
    assert_eq!(result, Ok(()));
    assert!(gone.event_state().contains(State::UNKNOWN | State::UNAVAILABLE));
    assert_eq!(card.transmit_owned(&ECHO, None).unwrap_err(), Error::ReaderUnavailable);
    assert!(program.context.list_readers_owned().unwrap().is_empty());
    assert!(!port.is_claimed());
}

#[test]
fn every_slot_of_a_reader_is_anothers_with_it() {
    let port = port("three-slots");
    let (first, second) = (Program::on(&port), Program::on(&port));
    let names = second.context.list_readers_owned().unwrap();
    assert!(names.len() > 1);
    let _card = first.connect().unwrap();
    for name in &names {
        let refused = second.context.connect(name, ShareMode::Direct, Protocols::empty());
        assert_eq!(refused.unwrap_err(), Error::SharingViolation);
    }
    assert_eq!(second.stack.unusable_readers().len(), 1);
}

/// Several threads each of several programs: whoever gets the reader gets answers of his own.
#[test]
fn many_take_turns() {
    const PROGRAMS: u8 = 3;
    const THREADS: u8 = 2;
    const TURNS: u8 = 8;
    let port = port("default");
    let threads: Vec<_> = (0..PROGRAMS)
        .flat_map(|program| {
            let on = Arc::new(Program::on(&port));
            on.stack.set_idle_time(Duration::from_millis(u64::from(program) * 10));
            (0..THREADS).map(move |thread| {
                let on = Arc::clone(&on);
                run(move || {
                    for turn in 0..TURNS {
                        let data = program << 6 | thread << 5 | turn;
                        let card = loop {
                            match on.connect() {
                                Ok(card) => break card,
                                Err(Error::SharingViolation) => std::thread::yield_now(),
                                Err(error) => panic!("{error:?}"),
                            }
                        };
                        match card.transmit_owned(&[0x00, 0x10, 0x00, 0x00, 1, data], None) {
                            Ok(answer) => assert_eq!(answer[..], [data, 0x90, 0x00]),
                            // The other thread's card was dropped.
                            Err(error) => assert_eq!(error, Error::ResetCard),
                        }
                        if turn % 2 == 0 {
                            let left = card.disconnect(Disposition::LeaveCard);
                            left.map_err(|(_, error)| error).unwrap();
                        }
                    }
                })
            })
        })
        .collect();
    threads.into_iter().for_each(Running::join);
    until("all have let go of it", || !port.is_claimed());
    no_violations(&port);
}
