//! The driver on a transport that does what the test says.

use super::*;
use crate::transport::DeviceInfo;
use ccid::ClassDescriptor;
use ccid::operation::PowerUp;
use ccid::quirk::Behaviour;
use ccid::wire::{
    ChainParameter, ClockStatus, Command, IccStatus, Message, Response, SetupPacket, Status,
};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// What was submitted, and what is to be completed.
#[derive(Default)]
struct Pipes {
    control: Vec<SetupPacket>,
    out: Vec<Bytes>,
    /// The lengths of the IN transfers.
    queued_in: Vec<usize>,
    completions: VecDeque<Completion>,
}

struct Fake {
    info: DeviceInfo,
    pipes: Arc<Mutex<Pipes>>,
}

impl Transport for Fake {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn submit_control(&mut self, setup: SetupPacket, _data: Bytes, _timeout: Duration) {
        self.pipes.lock().unwrap().control.push(setup);
    }

    fn submit_out(&mut self, message: Bytes) {
        let mut pipes = self.pipes.lock().unwrap();
        pipes.out.push(message);
        let result = Ok(Bytes::new());
        pipes.completions.push_back(Completion { pipe: Pipe::BulkOut, result, full: false });
    }

    fn submit_in(&mut self, _pipe: Pipe, length: usize) {
        self.pipes.lock().unwrap().queued_in.push(length);
    }

    fn poll(&mut self, _cx: &mut Context<'_>, _now: Instant) -> Poll<Completion> {
        match self.pipes.lock().unwrap().completions.pop_front() {
            Some(completion) => Poll::Ready(completion),
            None => Poll::Pending,
        }
    }

    fn cancel(&mut self, _pipe: Pipe) {}

    fn clear_halt(&mut self, _pipe: Pipe) -> Result<(), TransferError> {
        Ok(())
    }
}

/// A TPDU reader that leaves parameters to the host, with a table of data rates and a clock that
/// makes no sense: it is asked for both.
fn class() -> ClassDescriptor {
    with_messages_of(271)
}

/// The same with that dwMaxCCIDMessageLength.
fn with_messages_of(length: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[18] = 1;
    bytes[27] = 1;
    bytes[42] = 1;
    bytes[44..48].copy_from_slice(&length.to_le_bytes());
    bytes[53] = 1;
    ClassDescriptor::parse(&bytes).unwrap()
}

struct Bench {
    driver: Driver<Fake>,
    pipes: Arc<Mutex<Pipes>>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::of(class())
    }

    fn of(class: ClassDescriptor) -> Self {
        let pipes = Arc::<Mutex<Pipes>>::default();
        let info = DeviceInfo { interface: 4, ..DeviceInfo::of_class(class) };
        let transport = Fake { info, pipes: Arc::clone(&pipes) };
        let now = Instant::from_millis(1);
        let adjusted = Adjusted { class, behaviour: Behaviour::default() };
        let driver = Driver::with_quirks(transport, adjusted, Options::default(), now);
        let mut bench = Self { driver, pipes, now };
        bench.turn();
        bench
    }

    fn turn(&mut self) {
        self.driver.turn(&mut Context::from_waker(Waker::noop()), self.now);
    }

    fn complete(&mut self, pipe: Pipe, result: Result<Bytes, TransferError>) {
        self.push(Completion { pipe, result, full: false });
    }

    fn push(&mut self, completion: Completion) {
        self.pipes.lock().unwrap().completions.push_back(completion);
        self.turn();
    }

    fn requests(&self) -> Vec<(u8, u8)> {
        let pipes = self.pipes.lock().unwrap();
        assert!(pipes.control.iter().all(|setup| setup.index == 4));
        pipes.control.iter().map(|setup| (setup.request_type, setup.request)).collect()
    }

    /// The last message sent is answered by what `response` makes of its command.
    fn answer<'a>(&mut self, response: impl FnOnce(Command<'_>) -> Response<'a>) {
        let sent = self.pipes.lock().unwrap().out.last().cloned().unwrap();
        let message = Message::parse(&sent).unwrap();
        let response = response(Command::parse(&message).unwrap());
        self.complete(Pipe::BulkIn, Ok(response.emit(message.slot, message.seq)));
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.driver.poll_event()).collect()
    }
}

/// The transfer that stalled was the only one: there is none left whose end could be waited for.
#[test]
fn a_stall_of_the_only_transfer_is_recovered_from() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.complete(Pipe::Control, Err(TransferError::Stall));
    }
    assert_eq!(bench.pipes.lock().unwrap().out.len(), 1);
    bench.complete(Pipe::BulkIn, Err(TransferError::Stall));
    assert_eq!(bench.pipes.lock().unwrap().out.len(), 2, "it is asked for its status anew");
    assert_eq!(bench.pipes.lock().unwrap().queued_in.len(), 2, "and its answer is listened for");
}

/// Room for what is usual is asked for first, and then for the rest of a message that is longer.
#[test]
fn a_long_message_takes_two_transfers() {
    let mut bench = Bench::of(with_messages_of(65_554));
    let status = Status::success(IccStatus::PresentActive);
    let message = Response::DataBlock { status, chain: ChainParameter::Whole, data: &[7; 1190] };
    let message = message.emit(Slot(0), ccid::wire::Seq(0));
    assert_eq!(message.len(), 1200);
    for (part, full) in [(message.slice(..512), true), (message.slice(512..), true)] {
        bench.push(Completion { pipe: Pipe::BulkIn, result: Ok(part), full });
    }
    // The zero-length packet behind it, if there is one.
    bench.complete(Pipe::BulkIn, Ok(Bytes::new()));
    assert_eq!(bench.pipes.lock().unwrap().queued_in, [512, 688, 512, 512]);
    // Shorter messages are asked for whole, with the zero-length packet.
    assert_eq!(Bench::new().pipes.lock().unwrap().queued_in, [384]);
}

const ABORT: (u8, u8) = (0x21, 0x01);
const CLOCKS: (u8, u8) = (0xA1, 0x02);
const RATES: (u8, u8) = (0xA1, 0x03);

#[test]
fn the_reader_is_asked_one_thing_after_the_other_and_hears_the_answers() {
    let mut bench = Bench::new();
    assert_eq!(bench.requests(), [RATES]);
    let rate = Bytes::copy_from_slice(&62_500u32.to_le_bytes());
    bench.complete(Pipe::Control, Ok(rate));
    assert_eq!(bench.requests(), [RATES, CLOCKS]);
    assert_eq!(bench.pipes.lock().unwrap().out.len(), 0, "the slots wait");
    bench.complete(Pipe::Control, Err(TransferError::Stall));
    assert_eq!(bench.driver.reader().data_rates(Slot(0)), [62_500]);
    assert_eq!(bench.pipes.lock().unwrap().out.len(), 1);
}

/// Queries that do not end in the time they are given; then somebody cancels.
#[test]
fn an_abort_goes_before_a_query_that_waits() {
    let mut bench = Bench::new();
    bench.now = bench.driver.poll_deadline().unwrap();
    bench.turn();
    bench.answer(|command| {
        assert_eq!(command, Command::GetSlotStatus);
        let status = Status::success(IccStatus::PresentInactive);
        Response::SlotStatus { status, clock_status: ClockStatus::Running }
    });
    let operation = Operation::PowerOn(PowerUp::Warm);
    let id = bench.driver.start(Slot(0), operation, None, bench.now);
    bench.turn();
    bench.driver.cancel(id, bench.now);
    bench.turn();
    assert_eq!(bench.requests(), [RATES], "one at a time");
    bench.complete(Pipe::Control, Err(TransferError::Cancelled));
    assert_eq!(bench.requests(), [RATES, ABORT]);
    bench.complete(Pipe::Control, Ok(Bytes::new()));
    assert_eq!(bench.requests(), [RATES, ABORT, CLOCKS]);
    // The answers went to the right ones: the message follows its request.
    bench.answer(|command| {
        assert_eq!(command, Command::Abort);
        let status = Status::success(IccStatus::PresentInactive);
        Response::SlotStatus { status, clock_status: ClockStatus::Running }
    });
    let ended = Event::Completed { id, slot: Slot(0), result: Err(Error::Cancelled) };
    assert!(bench.events().contains(&ended));
    bench.complete(Pipe::Control, Ok(Bytes::new()));
    let operation = Operation::PowerOn(PowerUp::Warm);
    let id = bench.driver.start(Slot(0), operation, None, bench.now);
    bench.turn();
    bench.answer(|_| {
        let status = Status::success(IccStatus::PresentActive);
        Response::DataBlock { status, chain: ChainParameter::Whole, data: &[0x3B, 0] }
    });
    assert!(
        matches!(bench.events()[..], [Event::Completed { id: done, result: Ok(_), .. }] if done == id)
    );
}
