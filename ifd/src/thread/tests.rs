//! Who does the work.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::Clock;
use crate::transport::sim::SimTransport;
use crate::transport::{Completion, Pipe, TransferError};
use bytes::Bytes;
use ccid::operation::PowerUp;
use ccid::wire::SetupPacket;
use sim::card::FileCard;
use sim::{Port, Reader};
use std::sync::mpsc;
use std::task::{Context, Poll};

fn port() -> Port<Reader> {
    Port::new(Reader::builder().card(Slot(0), FileCard::t1()).build())
}

fn open(port: &Port<Reader>, events: impl FnMut(ReaderEvent) + Send + 'static) -> Handle {
    let transport = SimTransport::new(port.clone()).unwrap();
    Handle::spawn(transport, Options::default(), Clock::monotonic(), events).unwrap()
}

/// Until the thread rests.
fn settle(reader: &Handle) {
    let requests = &reader.shared.desk.requests.0;
    while !requests.stand_in() {
        std::thread::yield_now();
    }
    requests.step_back(false, None);
}

#[test]
fn what_nobody_waits_for_is_done_all_the_same() {
    let port = port();
    let reader = open(&port, |_| {});
    reader.call(Slot(0), Operation::Status, None).unwrap();
    for _ in 0..20 {
        settle(&reader);
        let begun = reader.begin(Slot(0), Operation::PowerOn(PowerUp::Warm), None);
        let end = begun.end.clone();
        drop(begun);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        assert!(matches!(end.take_until(Some(deadline)), Some(Ok(Output::Atr(_)))));
    }
    reader.close();
}

/// The caller does the work, and its callbacks are called where it waits: closing from there does not
/// wait for itself.
#[test]
fn a_callback_may_close_the_reader() {
    let port = port();
    let own = Arc::<Mutex<Option<Handle>>>::default();
    let (held, hand) = (Arc::clone(&own), port.clone());
    let reader = open(&port, move |event| {
        if event == (ReaderEvent::Presence { slot: Slot(0), present: false }) {
            let reader = held.lock().unwrap().take();
            reader.unwrap().close();
        }
    });
    *own.lock().unwrap() = Some(reader.clone());
    reader.call(Slot(0), Operation::PowerOn(PowerUp::Warm), None).unwrap();
    let never = Operation::Exchange(Bytes::from_static(&[0x00, 0x16, 0x00, 0x00]));
    let hands = std::thread::spawn(move || {
        while !hand.with(|reader| reader.is_busy(Slot(0))) {
            std::thread::yield_now();
        }
        hand.with(|reader| drop(reader.remove(Slot(0))));
    });
    assert!(reader.call(Slot(0), never, None).is_err());
    hands.join().unwrap();
    assert_eq!(reader.call(Slot(0), Operation::Status, None), Err(Error::Disconnected));
}

/// One caller after the other and several at once, with threads in between that only start something:
/// nobody waits for ever, and everybody has his own answer.
#[test]
fn many_callers() {
    let port = port();
    let reader = open(&port, |_| {});
    reader.call(Slot(0), Operation::PowerOn(PowerUp::Warm), None).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let reader = reader.clone();
            scope.spawn(move || {
                for round in 0..500u16 {
                    let data = round.to_be_bytes()[1] ^ thread.rotate_right(2);
                    let command = [0x00, 0x10, 0x00, 0x00, 1, data];
                    let command = Operation::Exchange(Bytes::copy_from_slice(&command));
                    let (done, ended) = mpsc::channel();
                    let answer = match (round + u16::from(thread)) % 3 {
                        0 => {
                            let done = Done::new(move |end| drop(done.send(end)));
                            reader.start(Slot(0), command, None, done);
                            ended.recv().unwrap()
                        }
                        _ => reader.call(Slot(0), command, None),
                    };
                    let Ok(Output::Data(answer)) = answer else { panic!("{answer:?}") };
                    assert_eq!(answer[..], [data, 0x90, 0x00]);
                }
            });
        }
    });
    assert!(port.with(|reader| reader.violations().is_empty()));
    reader.close();
}

/// A transport that panics when it is first used, or when a command goes out.
struct Panics {
    inner: SimTransport<Reader>,
    at_once: bool,
}

impl Transport for Panics {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        self.inner.submit_control(setup, data, timeout);
    }

    fn submit_out(&mut self, message: Bytes) {
        // PC_to_RDR_IccPowerOn
        assert!(message[0] != 0x62, "as it is to");
        self.inner.submit_out(message);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        assert!(!self.at_once, "as it is to");
        self.inner.submit_in(pipe, length);
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        self.inner.poll(cx, now)
    }

    fn cancel(&mut self, pipe: Pipe) {
        self.inner.cancel(pipe);
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        self.inner.clear_halt(pipe)
    }
}

/// Wherever a driver panics: its reader is gone, and whoever calls, or waits, hears of it.
#[test]
fn a_panic_is_the_readers_end() {
    for at_once in [true, false] {
        let inner = SimTransport::new(port()).unwrap();
        let (told, events) = mpsc::channel();
        let events_of = move |event| drop(told.send(event));
        let transport = Panics { inner, at_once };
        let reader =
            Handle::spawn(transport, Options::default(), Clock::monotonic(), events_of).unwrap();
        if !at_once {
            reader.call(Slot(0), Operation::Status, None).unwrap();
        }
        for _ in 0..3 {
            let powered = reader.call(Slot(0), Operation::PowerOn(PowerUp::Warm), None);
            assert_eq!(powered, Err(Error::Disconnected));
        }
        reader.close();
        assert_eq!(events.iter().last(), Some(ReaderEvent::Gone(Error::Disconnected)));
    }
}
