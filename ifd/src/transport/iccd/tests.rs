//! The wrapper, on a device that answers requests as the test says.

use super::*;
use crate::driver::{Driver, Turn};
use crate::transport::descriptors::ccid_interfaces;
use ccid::operation::{Output, PowerUp};
use ccid::wire::{Command, IccStatus};
use ccid::{Error, Event, Operation, Options, Seq, Slot};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

const ATR: &[u8] = &[0x3B, 0x02, 0x14, 0x50];

/// The answer to a request; none: it is not answered.
type Answers = Box<dyn FnMut(SetupPacket, &[u8]) -> Option<Result<Vec<u8>, TransferError>> + Send>;

/// What the test and the device share.
#[derive(Default)]
struct Shared {
    unplugged: bool,
    requests: Vec<u8>,
}

/// Control and interrupt pipe of a device.
struct Fake {
    info: DeviceInfo,
    answers: Answers,
    shared: Arc<Mutex<Shared>>,
    done: VecDeque<Completion>,
    /// The request that is not answered, and its timeout.
    hanging: Option<Duration>,
    until: Option<Instant>,
    interrupts: usize,
}

fn info(protocol: u8, bulk: bool) -> DeviceInfo {
    let mut class = [0; 54];
    (class[0], class[1], class[6]) = (54, 0x21, 3);
    class[42] = 2;
    class[44..46].copy_from_slice(&271u16.to_le_bytes());
    let endpoints: &[u8] =
        if bulk { &[7, 5, 0x01, 2, 64, 0, 0, 7, 5, 0x82, 2, 64, 0, 0] } else { &[] };
    let configuration = [
        &[9, 2, 0, 0, 1, 1, 0, 0x80, 50][..],
        &[9, 4, 2, 0, 1, 0x0B, 0, protocol, 0],
        &class,
        endpoints,
        &[7, 5, 0x83, 3, 8, 0, 16],
    ]
    .concat();
    let device = [18, 1, 0, 2, 0, 0, 0, 64, 0x34, 0x12, 0x78, 0x56, 0, 1, 0, 0, 0, 1];
    let found = ccid_interfaces(&device, &configuration, |_| None).unwrap();
    found.into_iter().next().unwrap().unwrap().info
}

impl Fake {
    fn new(
        protocol: u8,
        answers: impl FnMut(SetupPacket, &[u8]) -> Option<Result<Vec<u8>, TransferError>>
        + Send
        + 'static,
    ) -> (Self, Arc<Mutex<Shared>>) {
        let shared = Arc::<Mutex<Shared>>::default();
        let fake = Self {
            info: info(protocol, false),
            answers: Box::new(answers),
            shared: Arc::clone(&shared),
            done: VecDeque::new(),
            hanging: None,
            until: None,
            interrupts: 0,
        };
        (fake, shared)
    }

    fn complete(&mut self, pipe: Pipe, result: Result<Bytes, TransferError>) {
        self.done.push_back(Completion { pipe, result, full: false });
    }
}

impl Transport for Fake {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        assert_eq!((self.hanging, setup.index), (None, 2));
        assert!(setup.is_in() || usize::from(setup.length) == data.len());
        self.shared.lock().unwrap().requests.push(setup.request);
        let unplugged = self.shared.lock().unwrap().unplugged;
        match (self.answers)(setup, &data) {
            _ if unplugged => self.complete(Pipe::Control, Err(TransferError::Disconnected)),
            Some(result) => self.complete(Pipe::Control, result.map(Bytes::from)),
            None => self.hanging = Some(timeout),
        }
    }

    fn submit_out(&mut self, _message: Bytes) {
        panic!("there is no bulk-OUT pipe");
    }

    fn submit_in(&mut self, pipe: Pipe, _length: usize) {
        assert_eq!(pipe, Pipe::Interrupt);
        self.interrupts += 1;
    }

    fn poll(&mut self, _cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        if let Some(timeout) = self.hanging {
            let until = *self.until.get_or_insert(now + timeout);
            if until <= now {
                (self.hanging, self.until) = (None, None);
                self.complete(Pipe::Control, Err(TransferError::Cancelled));
            }
        }
        if self.shared.lock().unwrap().unplugged {
            for _ in 0..std::mem::take(&mut self.interrupts) {
                self.complete(Pipe::Interrupt, Err(TransferError::Disconnected));
            }
        }
        self.done.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.until
    }

    fn cancel(&mut self, _pipe: Pipe) {
        // As on real USB: a control transfer ends by its timeout.
    }

    fn clear_halt(&mut self, _pipe: Pipe) -> Result<(), TransferError> {
        panic!("nothing has halted");
    }
}

/// A version B token: the ATR after power-up, an echo of each block after that; for ever busy with
/// a block that begins with 99h, and not to be heard of again after one that begins with 98h.
fn token() -> (Fake, Arc<Mutex<Shared>>) {
    let mut block: Vec<u8> = Vec::new();
    Fake::new(2, move |setup, data| {
        if block.first() == Some(&0x98) && setup.request != 0x63 {
            return None;
        }
        Some(Ok(match setup.request {
            0x62 => {
                block = [&[0], ATR].concat();
                Vec::new()
            }
            0x63 => {
                block = Vec::new();
                Vec::new()
            }
            0x65 => {
                block = if data.first() > Some(&0x97) {
                    data.to_vec()
                } else {
                    [&[0], data, &[0x90, 0]].concat()
                };
                Vec::new()
            }
            0x6F if block.first() == Some(&0x99) => vec![0x80, 1, 0],
            0x6F => std::mem::take(&mut block),
            0x81 => vec![0x40, 1, 0],
            _ => return Some(Err(TransferError::Stall)),
        }))
    })
}

/// A driver in time that goes from deadline to deadline.
struct Bench {
    driver: Driver<Dialect<Fake>>,
    now: Instant,
}

impl Bench {
    fn new(fake: Fake) -> Self {
        let driver = Driver::new(Dialect::of(fake), Options::default(), Instant::ZERO);
        Self { driver, now: Instant::ZERO }
    }

    fn event(&mut self) -> Event {
        for _ in 0..100_000 {
            let turn = self.driver.turn(&mut Context::from_waker(Waker::noop()), self.now);
            if let Some(event) = self.driver.poll_event() {
                return event;
            }
            match (turn, self.driver.poll_deadline()) {
                (Turn::More, _) => {}
                (_, Some(deadline)) => self.now = self.now.max(deadline),
                (_, None) => panic!("it waits for ever"),
            }
        }
        panic!("time goes by, and nothing happens");
    }

    fn completed(&mut self) -> Result<Output, Error> {
        loop {
            if let Event::Completed { result, .. } = self.event() {
                return result;
            }
        }
    }

    fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.driver.start(Slot(0), operation, None, self.now)
    }

    fn call(&mut self, operation: Operation) -> Result<Output, Error> {
        self.start(operation);
        self.completed()
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Output, Error> {
        self.call(Operation::Exchange(Bytes::copy_from_slice(command)))
    }
}

#[test]
fn iccd_devices_are_told_by_protocol_and_pipes() {
    let of = |info| {
        let (mut fake, _) = token();
        fake.info = info;
        Dialect::of(fake)
    };
    assert!(matches!(of(info(0, true)), Dialect::Bulk(_)));
    assert!(matches!(of(info(1, true)), Dialect::Bulk(_)));
    let Dialect::Iccd(iccd) = of(info(2, false)) else { panic!("not translated") };
    assert_eq!((iccd.info().bulk_in_packet, iccd.info().interrupt_packet), (64, Some(8)));
    assert_eq!(iccd.info().class, Version::B.class(&info(2, false).class));
    assert!(matches!(of(info(1, false)), Dialect::Iccd(_)));
}

#[test]
fn a_driver_works_with_it() {
    let (fake, shared) = token();
    let mut bench = Bench::new(fake);
    assert_eq!(bench.event(), Event::Presence { slot: Slot(0), present: true });
    // The power cycle came first.
    let cycle = [0x63, 0x81, 0x62, 0x6F, 0x63, 0x81, 0x81];
    assert_eq!(shared.lock().unwrap().requests, cycle);
    let Ok(Output::Atr(atr)) = bench.call(Operation::PowerOn(PowerUp::Cold)) else {
        panic!("no ATR")
    };
    assert_eq!(atr.as_bytes(), ATR);
    let echo = bench.exchange(&[0, 1, 2, 3, 4]);
    assert_eq!(echo, Ok(Output::Data(Bytes::from_static(&[0, 1, 2, 3, 4, 0x90, 0]))));
    assert_eq!(bench.call(Operation::Status), Ok(Output::Status(IccStatus::PresentInactive)));
    let escape = bench.call(Operation::Escape(Bytes::from_static(&[1])));
    assert!(matches!(escape, Err(Error::Failed { .. })), "{escape:?}");
}

#[test]
fn a_command_that_is_never_answered_is_cancelled() {
    for command in [[0x99, 0, 0, 0], [0x98, 0, 0, 0]] {
        let (fake, _) = token();
        let mut bench = Bench::new(fake);
        bench.call(Operation::PowerOn(PowerUp::Warm)).unwrap();
        let id = bench.start(Operation::Exchange(Bytes::copy_from_slice(&command)));
        // Under way.
        let cancel_at = bench.now + Duration::from_millis(500);
        while bench.now < cancel_at {
            bench.driver.turn(&mut Context::from_waker(Waker::noop()), bench.now);
            assert_eq!(bench.driver.poll_event(), None);
            let deadline = bench.driver.poll_deadline().unwrap();
            bench.now = bench.now.max(deadline).min(cancel_at);
        }
        bench.driver.cancel(id, bench.now);
        let lost = Event::CardLost { slot: Slot(0), reset_follows: true };
        assert_eq!(bench.event(), lost);
        assert_eq!(bench.completed(), Err(Error::Cancelled));
        assert!(bench.now - cancel_at < Duration::from_millis(20), "{:?}", bench.now - cancel_at);
        let Event::CardReset { result: Ok(_), .. } = bench.event() else { panic!("no reset") };
        assert!(bench.now - cancel_at < Duration::from_secs(2), "{:?}", bench.now - cancel_at);
        assert!(bench.exchange(&[0, 1, 2, 3]).is_ok());
    }
}

#[test]
fn a_device_that_is_busy_for_ever_meets_the_total_limit() {
    let (fake, _) = token();
    let mut bench = Bench::new(fake);
    bench.call(Operation::PowerOn(PowerUp::Warm)).unwrap();
    let began = bench.now;
    let ended = bench.exchange(&[0x99, 0, 0, 0]);
    assert!(matches!(ended, Err(Error::Timeout(_))), "{ended:?}");
    let total = Options::default().total_limit;
    let took = bench.now - began;
    assert!(took >= total && took < total + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_device_that_answers_nothing_is_given_up() {
    let (fake, _) = Fake::new(1, |_, _| None);
    let mut bench = Bench::new(fake);
    assert_eq!(bench.event(), Event::Unresponsive);
    assert!(bench.now < Instant::from_millis(15_000), "{:?}", bench.now);
}

#[test]
fn unplugged() {
    let (fake, shared) = token();
    let mut bench = Bench::new(fake);
    bench.call(Operation::PowerOn(PowerUp::Warm)).unwrap();
    bench.start(Operation::Exchange(Bytes::from_static(&[0x99, 0, 0, 0])));
    bench.driver.turn(&mut Context::from_waker(Waker::noop()), bench.now);
    shared.lock().unwrap().unplugged = true;
    assert_eq!(bench.completed(), Err(Error::Disconnected));
    let turn = bench.driver.turn(&mut Context::from_waker(Waker::noop()), bench.now);
    assert_eq!(turn, Turn::Gone);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The wrapper alone.
struct Pipes {
    iccd: Iccd<Fake>,
    wakes: Arc<Wakes>,
}

impl Pipes {
    fn new() -> Self {
        Self { iccd: Iccd::new(token().0, Version::B), wakes: Arc::default() }
    }

    fn poll(&mut self) -> Option<Completion> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match self.iccd.poll(&mut Context::from_waker(&waker), Instant::ZERO) {
            Poll::Ready(completion) => Some(completion),
            Poll::Pending => None,
        }
    }

    fn sends(&mut self, command: Command<'_>) {
        self.iccd.submit_out(command.emit(Slot(0), Seq(7)));
        assert_eq!(self.poll(), ended(Pipe::BulkOut, Ok(&[]), false));
    }
}

fn ended(pipe: Pipe, result: Result<&[u8], TransferError>, full: bool) -> Option<Completion> {
    Some(Completion { pipe, result: result.map(Bytes::copy_from_slice), full })
}

#[test]
fn messages_end_transfers_and_long_ones_take_several() {
    let mut pipes = Pipes::new();
    assert_eq!(pipes.poll(), None);
    pipes.iccd.submit_in(Pipe::BulkIn, 300);
    assert_eq!(pipes.wakes.0.load(Ordering::SeqCst), 1);
    pipes.sends(Command::IccPowerOn { power_select: ccid::wire::PowerSelect::Automatic });
    let atr = [&[0x80, 4, 0, 0, 0, 0, 7, 0, 0, 0], ATR].concat();
    assert_eq!(pipes.poll(), ended(Pipe::BulkIn, Ok(&atr), false));
    let data = [5; 100];
    let level_parameter = ccid::wire::LevelParameter::WHOLE;
    pipes.sends(Command::XfrBlock { bwi: 0, level_parameter, data: &data });
    assert_eq!(pipes.poll(), None, "nobody listens");
    let message = [&[0x80, 102, 0, 0, 0, 0, 7, 0, 0, 0][..], &data, &[0x90, 0]].concat();
    pipes.iccd.submit_in(Pipe::BulkIn, 1);
    assert_eq!(pipes.poll(), ended(Pipe::BulkIn, Ok(&message[..64]), true));
    assert_eq!(pipes.poll(), None);
    pipes.iccd.submit_in(Pipe::BulkIn, 64);
    assert_eq!(pipes.poll(), ended(Pipe::BulkIn, Ok(&message[64..]), false));
}

#[test]
fn transfers_that_are_cancelled_and_requests_that_are_none() {
    let mut pipes = Pipes::new();
    pipes.iccd.submit_in(Pipe::BulkIn, 64);
    pipes.iccd.submit_out(Command::GetSlotStatus.emit(Slot(0), Seq(1)));
    pipes.iccd.cancel(Pipe::BulkOut);
    pipes.iccd.cancel(Pipe::BulkIn);
    assert_eq!(pipes.poll(), ended(Pipe::BulkOut, Err(TransferError::Cancelled), false));
    assert_eq!(pipes.poll(), ended(Pipe::BulkIn, Err(TransferError::Cancelled), false));
    assert_eq!(pipes.poll(), None);
    let abort = ccid::wire::ClassRequest::Abort { slot: Slot(0), seq: Seq(1) }.setup(2);
    let requests = pipes.iccd.transport.shared.lock().unwrap().requests.len();
    pipes.iccd.submit_control(abort, Bytes::new(), Duration::from_secs(1));
    assert_eq!(pipes.poll(), ended(Pipe::Control, Err(TransferError::Stall), false));
    assert_eq!(pipes.iccd.transport.shared.lock().unwrap().requests.len(), requests);
    pipes.iccd.submit_in(Pipe::Interrupt, 8);
    pipes.iccd.transport.complete(Pipe::Interrupt, Ok(Bytes::from_static(&[0x50, 3])));
    assert_eq!(pipes.poll(), ended(Pipe::Interrupt, Ok(&[0x50, 3]), false));
    assert_eq!(pipes.iccd.clear_halt(Pipe::BulkIn), Ok(()));
    // Gone: everything ends so from then on.
    pipes.iccd.submit_in(Pipe::BulkIn, 64);
    pipes.iccd.transport.shared.lock().unwrap().unplugged = true;
    pipes.iccd.submit_in(Pipe::Interrupt, 8);
    for pipe in [Pipe::Interrupt, Pipe::BulkIn] {
        assert_eq!(pipes.poll(), ended(pipe, Err(TransferError::Disconnected), false));
    }
    pipes.iccd.submit_out(Bytes::new());
    assert_eq!(pipes.poll(), ended(Pipe::BulkOut, Err(TransferError::Disconnected), false));
    assert_eq!(pipes.iccd.clear_halt(Pipe::BulkIn), Err(TransferError::Disconnected));
}
