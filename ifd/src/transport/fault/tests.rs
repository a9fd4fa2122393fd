//! What comes out of the wrapper when something goes wrong inside: by script, on an inner
//! transport that answers each message with itself.

use super::*;
use std::task::Waker;

/// Answers each message with itself, when there is a transfer for it.
struct Mirror {
    info: DeviceInfo,
    seen: Vec<Bytes>,
    answers: VecDeque<Bytes>,
    queued: usize,
    done: VecDeque<Completion>,
}

impl Mirror {
    fn complete(&mut self, pipe: Pipe, result: Result<Bytes, TransferError>) {
        self.done.push_back(Completion { pipe, result, full: false });
    }
}

impl Transport for Mirror {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn submit_control(&mut self, setup: SetupPacket, _: Bytes, _: Duration) {
        self.complete(Pipe::Control, Ok(Bytes::copy_from_slice(&setup.to_bytes())));
    }

    fn submit_out(&mut self, message: Bytes) {
        self.seen.push(message.clone());
        self.answers.push_back(message);
        self.complete(Pipe::BulkOut, Ok(Bytes::new()));
    }

    fn submit_in(&mut self, _: Pipe, _: usize) {
        self.queued += 1;
    }

    fn poll(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<Completion> {
        if self.queued > 0 {
            if let Some(answer) = self.answers.pop_front() {
                self.queued -= 1;
                self.complete(Pipe::BulkIn, Ok(answer));
            }
        }
        self.done.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn cancel(&mut self, pipe: Pipe) {
        if pipe == Pipe::BulkIn {
            for _ in 0..std::mem::take(&mut self.queued) {
                self.complete(pipe, Err(TransferError::Cancelled));
            }
        }
    }

    fn clear_halt(&mut self, _: Pipe) -> Result<(), TransferError> {
        Ok(())
    }
}

const MESSAGE: [u8; 12] = [0x6F, 2, 0, 0, 0, 1, 7, 0, 0, 0, 0xAA, 0xBB];

/// Sends one message and gives what came over bulk-IN at 0 and at one second, and what the device
/// has seen.
fn exchange(plan: Plan) -> (Vec<Result<Bytes, TransferError>>, Vec<Bytes>) {
    let mut faulty = mirror(plan);
    for _ in 0..3 {
        faulty.submit_in(Pipe::BulkIn, 64);
    }
    faulty.submit_out(Bytes::from_static(&MESSAGE));
    let mut came = Vec::new();
    let mut sent = 0;
    for now in [0, 1000].map(Instant::from_millis) {
        while let Poll::Ready(done) = faulty.poll(&mut Context::from_waker(Waker::noop()), now) {
            match done.pipe {
                Pipe::BulkIn => came.push(done.result),
                _ => sent += 1,
            }
        }
    }
    assert_eq!(sent, 1, "a message sent ends once");
    (came, faulty.inner.seen)
}

fn mirror(plan: Plan) -> Faulty<Mirror> {
    let port = sim::Port::new(sim::Reader::builder().build());
    let info = crate::transport::sim::SimTransport::new(port).unwrap().info().clone();
    let (seen, answers, done) = (Vec::new(), VecDeque::new(), VecDeque::new());
    Faulty::new(Mirror { info, seen, answers, queued: 0, done }, plan).0
}

fn bent(at: usize, value: u8) -> Vec<u8> {
    let mut bytes = MESSAGE.to_vec();
    bytes[at] = value;
    bytes
}

/// The same faults on the way there (step 0) and back (step 1).
#[test]
fn each_fault_in_both_directions() {
    let long = [&MESSAGE[..], &[0xA5; 3]].concat();
    for (fault, transfers) in [
        (Fault::Short, vec![MESSAGE[..11].to_vec()]),
        (Fault::Stump, vec![MESSAGE[..4].to_vec()]),
        (Fault::Long, vec![long]),
        (Fault::Split, vec![MESSAGE[..6].to_vec(), MESSAGE[6..].to_vec()]),
        (Fault::Duplicated, vec![MESSAGE.to_vec(); 2]),
        (Fault::Dropped, vec![]),
        (Fault::Delayed(Duration::from_millis(1000)), vec![MESSAGE.to_vec()]),
        (Fault::Delayed(Duration::from_millis(1001)), vec![]),
        (Fault::Flipped(8 * 10 + 4), vec![bent(10, 0xBA)]),
        (Fault::Flipped(8 * (12 + 10) + 4), vec![bent(10, 0xBA)]),
        (Fault::WrongSeq, vec![bent(6, 8)]),
        (Fault::WrongSlot, vec![bent(5, 2)]),
        (Fault::WrongType, vec![bent(0, 0xC3)]),
        (Fault::LengthTooLong, vec![bent(1, 3)]),
        (Fault::LengthTooShort, vec![bent(1, 1)]),
        (Fault::LengthBeyondReason, vec![bent(4, 0x7F)]),
    ] {
        let expected: Vec<_> = transfers.iter().cloned().map(Bytes::from).collect();
        if !matches!(fault, Fault::Delayed(delay) if delay > Duration::from_secs(1)) {
            let (_, seen) = exchange(Plan::once(fault, 0));
            assert_eq!(seen, expected, "{fault:?} on the way there");
        }
        let (came, _) = exchange(Plan::once(fault, 1));
        let came: Vec<_> = came.into_iter().map(Result::unwrap).collect();
        assert_eq!(came, expected, "{fault:?} on the way back");
    }
}

#[test]
fn errors_on_the_way_back() {
    for (fault, error) in
        [(Fault::Stalled, TransferError::Stall), (Fault::BusError, TransferError::Fault)]
    {
        assert_eq!(exchange(Plan::once(fault, 1)).0, [Err(error)]);
        assert_eq!(exchange(Plan::once(fault, 0)).1, [] as [Bytes; 0]);
    }
    let (came, _) = exchange(Plan::once(Fault::Disconnected, 1));
    assert_eq!(came, vec![Err(TransferError::Disconnected); 3]);
}

/// What comes late comes to the next transfer, though the one it was for was cancelled.
#[test]
fn a_cancel_does_not_stop_what_is_late() {
    let late = Fault::Delayed(Duration::from_millis(50));
    let mut faulty = mirror(Plan::once(late, 1));
    let poll = |faulty: &mut Faulty<Mirror>, millis| {
        let now = Instant::from_millis(millis);
        match faulty.poll(&mut Context::from_waker(Waker::noop()), now) {
            Poll::Ready(done) => Some((done.pipe, done.result)),
            Poll::Pending => None,
        }
    };
    faulty.submit_in(Pipe::BulkIn, 64);
    faulty.submit_out(Bytes::from_static(&MESSAGE));
    assert_eq!(poll(&mut faulty, 0), Some((Pipe::BulkOut, Ok(Bytes::new()))));
    assert_eq!(poll(&mut faulty, 0), None);
    assert_eq!(faulty.poll_deadline(), Some(Instant::from_millis(50)));
    faulty.cancel(Pipe::BulkIn);
    assert_eq!(poll(&mut faulty, 10), Some((Pipe::BulkIn, Err(TransferError::Cancelled))));
    assert_eq!(poll(&mut faulty, 60), None);
    faulty.submit_in(Pipe::BulkIn, 64);
    assert_eq!(poll(&mut faulty, 60), Some((Pipe::BulkIn, Ok(Bytes::from_static(&MESSAGE)))));
}

#[test]
fn requests_go_wrong_too() {
    let setup = SetupPacket { request_type: 0xA1, request: 3, value: 0x0502, index: 0, length: 8 };
    for (fault, at, result) in [
        (Fault::Stalled, 0, Err(TransferError::Stall)),
        (Fault::Dropped, 300, Err(TransferError::Cancelled)),
        (Fault::Delayed(Duration::from_millis(100)), 100, Ok(setup)),
        (Fault::Delayed(Duration::from_secs(1)), 300, Err(TransferError::Cancelled)),
        (Fault::WrongSeq, 0, Ok(SetupPacket { value: 0x0602, ..setup })),
        (Fault::WrongSlot, 0, Ok(SetupPacket { value: 0x0503, ..setup })),
        (Fault::Disconnected, 0, Err(TransferError::Disconnected)),
    ] {
        let mut faulty = mirror(Plan::once(fault, 0));
        faulty.submit_control(setup, Bytes::new(), Duration::from_millis(300));
        let mut cx = Context::from_waker(Waker::noop());
        let mut ended = faulty.poll(&mut cx, Instant::ZERO);
        if at > 0 {
            assert_eq!(ended, Poll::Pending);
            assert_eq!(faulty.poll_deadline(), Some(Instant::from_millis(at)));
            ended = faulty.poll(&mut cx, Instant::from_millis(at));
        }
        let Poll::Ready(ended) = ended else { panic!("{fault:?}: it does not end") };
        // The mirror's answer is what it was asked; bytes 5 and 6 are bent there again.
        let result =
            result.map(|setup| bend::bytes(fault, &Bytes::copy_from_slice(&setup.to_bytes())));
        assert_eq!((ended.pipe, ended.result), (Pipe::Control, result), "{fault:?}");
    }
}
