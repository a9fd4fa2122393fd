//! Transfers, on a device that plays a script.

use super::*;
use sim::Descriptors;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

/// A device whose packets the test puts there.
#[derive(Default)]
struct Script {
    descriptors: Option<Descriptors>,
    bulk: VecDeque<Bytes>,
    interrupt: VecDeque<Bytes>,
    received: Vec<Bytes>,
    deaf: bool,
    deadline: Option<Instant>,
    timeouts: Vec<Instant>,
    resets: Vec<Instant>,
    controls: Vec<SetupPacket>,
}

fn descriptors() -> Descriptors {
    let mut class = [0; 54];
    (class[0], class[1]) = (54, 0x21);
    let configuration = [
        &[9, 2, 93, 0, 1, 1, 0, 0x80, 50][..],
        &[9, 4, 0, 0, 3, 0x0B, 0, 0, 3],
        &class,
        &[7, 5, 0x01, 2, 64, 0, 0],
        &[7, 5, 0x82, 2, 64, 0, 0],
        &[7, 5, 0x83, 3, 8, 0, 16],
    ]
    .concat();
    Descriptors {
        device: Bytes::from_static(&[
            18, 1, 0, 2, 0, 0, 0, 64, 9, 0x12, 0xA0, 0x5C, 0, 1, 1, 2, 0, 1,
        ]),
        configuration: configuration.into(),
        strings: vec!["Maker".into(), "Reader".into(), "Interface".into()],
    }
}

impl Device for Script {
    fn descriptors(&self) -> &Descriptors {
        self.descriptors.as_ref().unwrap()
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], _now: Instant) -> ControlReply {
        self.controls.push(setup);
        match setup.request {
            1 => ControlReply::Data(Bytes::copy_from_slice(data)),
            2 => ControlReply::Data(Bytes::from_static(&[1, 2, 3, 4, 5, 6])),
            _ => ControlReply::Stall,
        }
    }

    fn accepts_bulk_out(&self) -> bool {
        !self.deaf
    }

    fn bulk_out(&mut self, data: &[u8], _now: Instant) {
        self.received.push(Bytes::copy_from_slice(data));
    }

    fn poll_bulk_in(&mut self, _now: Instant) -> Option<Bytes> {
        self.bulk.pop_front()
    }

    fn poll_interrupt(&mut self, _now: Instant) -> Option<Bytes> {
        self.interrupt.pop_front()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.timeouts.push(now);
        self.deadline = None;
    }

    fn reset(&mut self, now: Instant) {
        self.resets.push(now);
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Bench {
    port: Port<Script>,
    transport: SimTransport<Script>,
    wakes: Arc<Wakes>,
}

impl Bench {
    fn new() -> Self {
        let port = Port::new(Script { descriptors: Some(descriptors()), ..Script::default() });
        let transport = SimTransport::new(port.clone()).unwrap();
        Self { port, transport, wakes: Arc::default() }
    }

    fn poll_at(&mut self, millis: u64) -> Option<Completion> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut cx = Context::from_waker(&waker);
        match self.transport.poll(&mut cx, Instant::from_millis(millis)) {
            Poll::Ready(completion) => Some(completion),
            Poll::Pending => None,
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        self.poll_at(0)
    }

    fn woken(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    fn send(&self, packets: &[usize]) {
        self.port.with(|d| d.bulk.extend(packets.iter().map(|n| Bytes::from(vec![0xAA; *n]))));
    }
}

fn received(pipe: Pipe, length: usize, full: bool) -> Option<Completion> {
    Some(Completion { pipe, result: Ok(Bytes::from(vec![0xAA; length])), full })
}

fn failed(pipe: Pipe, error: TransferError) -> Option<Completion> {
    Some(Completion { pipe, result: Err(error), full: false })
}

#[test]
fn info_comes_from_the_descriptors() {
    let bench = Bench::new();
    let info = bench.transport.info();
    assert_eq!((info.vendor_id, info.product_id), (0x1209, 0x5CA0));
    assert_eq!(info.manufacturer.as_deref(), Some("Maker"));
    assert_eq!(info.interface_name.as_deref(), Some("Interface"));
    assert_eq!((info.bulk_in_packet, info.interrupt_packet), (64, Some(8)));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let open = |change: fn(&mut Descriptors)| {
        let mut descriptors = descriptors();
        change(&mut descriptors);
        let port = Port::new(Script { descriptors: Some(descriptors), ..Script::default() });
        SimTransport::new(port).unwrap_err()
    };
    assert_eq!(open(|d| d.device = Bytes::new()), OpenError::Descriptors(BadDescriptors::Device));
    assert_eq!(open(|d| d.configuration.truncate(9)), OpenError::NoReader);
    assert!(matches!(open(|d| d.configuration.truncate(18)), OpenError::Unusable(_)));
    let bench = Bench::new();
    bench.port.unplug();
    assert_eq!(SimTransport::new(bench.port).unwrap_err(), OpenError::Unplugged);
}

#[test]
fn a_short_packet_ends_a_transfer() {
    let mut bench = Bench::new();
    bench.send(&[64, 64, 10, 12]);
    bench.transport.submit_in(Pipe::BulkIn, 256);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 138, false));
    assert_eq!(bench.poll(), None);
    bench.transport.submit_in(Pipe::BulkIn, 256);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 12, false));
}

#[test]
fn an_empty_packet_ends_a_transfer() {
    let mut bench = Bench::new();
    bench.send(&[64, 0, 0, 64]);
    bench.transport.submit_in(Pipe::BulkIn, 128);
    bench.transport.submit_in(Pipe::BulkIn, 128);
    bench.transport.submit_in(Pipe::BulkIn, 128);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 64, false));
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 0, false));
    // The last packet is not short: the transfer goes on.
    assert_eq!(bench.poll(), None);
    bench.send(&[1]);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 65, false));
}

#[test]
fn a_full_transfer_leaves_the_empty_packet_for_the_next() {
    let mut bench = Bench::new();
    bench.send(&[64, 64, 0]);
    // Rounded up to whole packets.
    bench.transport.submit_in(Pipe::BulkIn, 65);
    bench.transport.submit_in(Pipe::BulkIn, 1);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 128, true));
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 0, false));
}

#[test]
fn babble_is_a_fault() {
    let mut bench = Bench::new();
    bench.send(&[65]);
    bench.transport.submit_in(Pipe::BulkIn, 128);
    assert_eq!(bench.poll(), failed(Pipe::BulkIn, TransferError::Fault));
}

#[test]
fn what_nobody_asked_for_stays_in_the_device() {
    let mut bench = Bench::new();
    bench.send(&[10]);
    bench.port.with(|d| d.interrupt.push_back(Bytes::from_static(&[0x50, 3])));
    assert_eq!(bench.poll(), None);
    assert_eq!(bench.port.with(|d| (d.bulk.len(), d.interrupt.len())), (1, 1));
    bench.transport.submit_in(Pipe::Interrupt, 8);
    let completion = bench.poll().unwrap();
    assert_eq!(
        (completion.pipe, completion.result),
        (Pipe::Interrupt, Ok(Bytes::from_static(&[0x50, 3])))
    );
}

#[test]
fn cancel_gives_back_what_had_come() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.transport.submit_in(Pipe::BulkIn, 256);
    }
    bench.transport.submit_in(Pipe::Interrupt, 8);
    bench.send(&[64]);
    assert_eq!(bench.poll(), None);
    bench.transport.cancel(Pipe::BulkIn);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 64, false));
    assert_eq!(bench.poll(), failed(Pipe::BulkIn, TransferError::Cancelled));
    assert_eq!(bench.poll(), None, "the interrupt transfer goes on");
}

#[test]
fn bulk_out_waits_for_the_device_and_holds_up_nothing_else() {
    let mut bench = Bench::new();
    bench.port.with(|d| d.deaf = true);
    bench.transport.submit_out(Bytes::from_static(b"one"));
    bench.transport.submit_out(Bytes::from_static(b"two"));
    bench.transport.submit_control(setup(0x21, 1, 0), Bytes::new(), Duration::MAX);
    assert_eq!(bench.poll().unwrap().pipe, Pipe::Control);
    assert_eq!(bench.poll(), None);
    bench.port.with(|d| d.deaf = false);
    assert_eq!(bench.poll().unwrap().pipe, Pipe::BulkOut);
    assert_eq!(bench.poll().unwrap().pipe, Pipe::BulkOut);
    assert_eq!(bench.port.with(|d| d.received.clone()), ["one", "two"]);
    bench.port.with(|d| d.deaf = true);
    bench.transport.submit_out(Bytes::from_static(b"three"));
    assert_eq!(bench.poll(), None);
    bench.transport.cancel(Pipe::BulkOut);
    assert_eq!(bench.poll(), failed(Pipe::BulkOut, TransferError::Cancelled));
    bench.port.with(|d| d.deaf = false);
    assert_eq!(bench.poll(), None);
    assert_eq!(bench.port.with(|d| d.received.len()), 2);
}

fn setup(request_type: u8, request: u8, length: u16) -> SetupPacket {
    SetupPacket { request_type, request, value: 0, index: 0, length }
}

#[test]
fn control_transfers() {
    let mut bench = Bench::new();
    bench.transport.submit_control(setup(0x21, 1, 0), Bytes::new(), Duration::MAX);
    assert_eq!(bench.poll().unwrap().result, Ok(Bytes::new()));
    bench.transport.submit_control(setup(0xA1, 2, 4), Bytes::new(), Duration::MAX);
    assert_eq!(bench.poll().unwrap().result, Ok(Bytes::from_static(&[1, 2, 3, 4])));
    bench.transport.submit_control(setup(0xA1, 3, 4), Bytes::new(), Duration::MAX);
    assert_eq!(bench.poll(), failed(Pipe::Control, TransferError::Stall));
    bench.transport.submit_control(setup(0x21, 1, 0), Bytes::new(), Duration::MAX);
    bench.transport.cancel(Pipe::Control);
    assert_eq!(bench.poll(), failed(Pipe::Control, TransferError::Cancelled));
    assert_eq!(bench.port.with(|d| d.controls.len()), 3);
}

#[test]
fn unplug_ends_everything_for_good() {
    let mut bench = Bench::new();
    bench.port.with(|d| d.deaf = true);
    bench.transport.submit_in(Pipe::BulkIn, 128);
    bench.transport.submit_in(Pipe::Interrupt, 8);
    bench.transport.submit_out(Bytes::from_static(b"one"));
    bench.send(&[64]);
    assert_eq!(bench.poll(), None);
    let woken = bench.woken();
    bench.port.unplug();
    assert_eq!(bench.woken(), woken + 1);
    bench.port.plug();
    for pipe in [Pipe::BulkOut, Pipe::BulkIn, Pipe::Interrupt] {
        assert_eq!(bench.poll(), failed(pipe, TransferError::Disconnected));
    }
    assert_eq!(bench.poll(), None);
    bench.transport.submit_control(setup(0x21, 1, 0), Bytes::new(), Duration::MAX);
    bench.transport.submit_out(Bytes::new());
    bench.transport.submit_in(Pipe::BulkIn, 64);
    for pipe in [Pipe::Control, Pipe::BulkOut, Pipe::BulkIn] {
        assert_eq!(bench.poll(), failed(pipe, TransferError::Disconnected));
    }
    assert_eq!(bench.transport.clear_halt(Pipe::BulkIn), Err(TransferError::Disconnected));
    assert_eq!(bench.transport.poll_deadline(), None);
    assert!(SimTransport::new(bench.port).is_ok());
}

#[test]
fn completions_before_the_unplug_are_not_lost() {
    let mut bench = Bench::new();
    bench.send(&[10, 11]);
    bench.transport.submit_in(Pipe::BulkIn, 64);
    bench.transport.submit_in(Pipe::BulkIn, 64);
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 10, false));
    bench.port.unplug();
    assert_eq!(bench.poll(), received(Pipe::BulkIn, 11, false));
}

#[test]
fn the_device_lives_by_the_time_of_the_polls() {
    let mut bench = Bench::new();
    assert_eq!(bench.transport.poll_deadline(), Some(Instant::ZERO));
    assert_eq!(bench.poll_at(500), None);
    assert_eq!(bench.port.with(|d| d.resets.clone()), [Instant::from_millis(500)]);
    bench.port.with(|d| d.deadline = Some(Instant::from_millis(800)));
    assert_eq!(bench.poll_at(600), None);
    assert_eq!(bench.transport.poll_deadline(), Some(Instant::from_millis(800)));
    assert_eq!(bench.poll_at(799), None);
    assert!(bench.port.with(|d| d.timeouts.is_empty()));
    assert_eq!(bench.poll_at(801), None);
    assert_eq!(bench.port.with(|d| d.timeouts.clone()), [Instant::from_millis(801)]);
    assert_eq!(bench.transport.poll_deadline(), None);
    assert_eq!(bench.port.with(|d| d.resets.len()), 1);
}

#[test]
fn no_wake_up_is_lost() {
    let mut bench = Bench::new();
    assert_eq!(bench.poll(), None);
    let changes: [fn(&mut Bench); 4] = [
        |bench| bench.transport.submit_in(Pipe::BulkIn, 64),
        |bench| bench.send(&[10]),
        |bench| bench.transport.submit_out(Bytes::new()),
        |bench| bench.transport.cancel(Pipe::BulkIn),
    ];
    for change in changes {
        while bench.poll().is_some() {}
        let woken = bench.woken();
        change(&mut bench);
        assert!(bench.woken() > woken);
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_refused() {
    let mut described = descriptors();
    described.configuration.truncate(described.configuration.len() - 7);
    let port = Port::new(Script { descriptors: Some(described), ..Script::default() });
    let transport = SimTransport::new(port.clone()).unwrap();
    let mut bench = Bench { port, transport, wakes: Arc::default() };
    bench.transport.submit_in(Pipe::Interrupt, 8);
    assert_eq!(bench.poll(), failed(Pipe::Interrupt, NO_SUCH_ENDPOINT));
}

#[test]
fn the_simulated_reader_at_the_other_end() {
    let card = ::sim::FileCard::t1();
    let port = Port::new(::sim::Reader::builder().card(ccid::Slot(0), card).build());
    let mut transport = SimTransport::new(port.clone()).unwrap();
    assert_eq!(transport.info().class.slots(), 1);
    let poll = |transport: &mut SimTransport<::sim::Reader>| {
        let mut cx = Context::from_waker(Waker::noop());
        match transport.poll(&mut cx, Instant::ZERO) {
            Poll::Ready(completion) => Some((completion.pipe, completion.result.unwrap())),
            Poll::Pending => None,
        }
    };
    transport.submit_in(Pipe::Interrupt, 8);
    assert_eq!(poll(&mut transport), Some((Pipe::Interrupt, Bytes::from_static(&[0x50, 3]))));
    let sent = [
        &[0x62, 0, 0, 0, 0, 0, 1, 0, 0, 0][..],
        // 52 bytes and SW: a message of exactly one packet.
        &[0x6F, 5, 0, 0, 0, 0, 2, 0, 0, 0, 0x00, 0x12, 0, 52, 0],
    ];
    for (command, length) in sent.into_iter().zip([None, Some(64)]) {
        transport.submit_in(Pipe::BulkIn, 512);
        transport.submit_out(Bytes::copy_from_slice(command));
        assert_eq!(poll(&mut transport), Some((Pipe::BulkOut, Bytes::new())));
        let (pipe, answer) = poll(&mut transport).unwrap();
        assert_eq!((pipe, answer[0], answer[6], answer[7]), (Pipe::BulkIn, 0x80, command[6], 0));
        assert!(length.is_none_or(|length| answer.len() == length));
    }
    assert_eq!(poll(&mut transport), None);
    assert!(port.with(|reader| reader.violations().is_empty()));
}

#[test]
fn a_boxed_device_is_one_too() {
    let script = Script { descriptors: Some(descriptors()), ..Script::default() };
    let port: Port<Box<dyn Device>> = Port::new(Box::new(script));
    let mut transport = SimTransport::new(port).unwrap();
    transport.submit_control(setup(0xA1, 2, 4), Bytes::new(), Duration::MAX);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(transport.poll(&mut cx, Instant::ZERO).is_ready());
}
