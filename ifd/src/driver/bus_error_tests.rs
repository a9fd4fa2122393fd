use super::*;
use crate::transport::DeviceInfo;
use crate::transport::descriptors::ccid_interfaces;
use ccid::operation::Output;
use ccid::wire::{IccStatus, SetupPacket};
use sim::{Device, presets};
use std::task::Waker;

/// Pipes by hand: what is submitted is counted, what completes is put in.
struct Pipes {
    info: DeviceInfo,
    done: VecDeque<Completion>,
    listening: usize,
    gone: bool,
}

impl Transport for Pipes {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn submit_control(&mut self, _: SetupPacket, _: Bytes, _: Duration) {}
    fn submit_out(&mut self, _: Bytes) {
        self.done.push_back(Completion {
            pipe: Pipe::BulkOut,
            result: Ok(Bytes::new()),
            full: false,
        });
    }
    fn submit_in(&mut self, pipe: Pipe, _: usize) {
        if self.gone {
            let result = Err(TransferError::Disconnected);
            self.done.push_back(Completion { pipe, result, full: false });
        } else if pipe == Pipe::BulkIn {
            self.listening += 1;
        }
    }
    fn poll(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<Completion> {
        self.done.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
    fn cancel(&mut self, pipe: Pipe) {
        if pipe == Pipe::BulkIn {
            for _ in 0..std::mem::take(&mut self.listening) {
                let result = Err(TransferError::Cancelled);
                self.done.push_back(Completion { pipe, result, full: false });
            }
        }
    }
    fn clear_halt(&mut self, _: Pipe) -> Result<(), TransferError> {
        Ok(())
    }
}

struct Bench {
    driver: Driver<Pipes>,
    now: Instant,
}

impl Bench {
    /// With a GetSlotStatus of the caller on the wire.
    fn new() -> Self {
        let device = presets::by_name("default").unwrap();
        let found = device.descriptors();
        let mut found = ccid_interfaces(&found.device, &found.configuration, |_| None).unwrap();
        let info = found.remove(0).unwrap().info;
        let pipes = Pipes { info, done: VecDeque::new(), listening: 0, gone: false };
        let now = Instant::from_millis(1);
        let mut bench = Self { driver: Driver::new(pipes, Options::default(), now), now };
        bench.turn();
        bench.receive(Ok(&[0x81, 0, 0, 0, 0, 0, 0, 1, 0, 0]));
        while bench.driver.poll_event().is_some() {}
        bench.driver.start(Slot(0), Operation::Status, None, now);
        bench.turn();
        bench
    }

    fn turn(&mut self) {
        while self.driver.turn(&mut Context::from_waker(Waker::noop()), self.now) == Turn::More {}
    }

    fn receive(&mut self, result: Result<&'static [u8], TransferError>) {
        let result = result.map(Bytes::from_static);
        self.driver.transport.listening -= 1;
        self.driver.transport.done.push_back(Completion {
            pipe: Pipe::BulkIn,
            result,
            full: false,
        });
        self.turn();
    }

    fn wait(&mut self) {
        self.now = self.driver.poll_deadline().unwrap();
        self.turn();
    }

    fn ended(&mut self) -> Option<Result<Output, Error>> {
        loop {
            if let Event::Completed { result, .. } = self.driver.poll_event()? {
                return Some(result);
            }
        }
    }
}

/// Seen on a UHCI controller: bulk-IN fails with a bus error, and 180 ms later the hub says that
/// the device is gone.
#[test]
fn a_bus_error_that_is_an_unplugging() {
    let mut bench = Bench::new();
    bench.receive(Err(TransferError::Fault));
    assert_eq!(bench.ended(), None, "it may be gone");
    bench.wait();
    bench.receive(Err(TransferError::Fault));
    assert_eq!(bench.ended(), None);
    bench.driver.transport.gone = true;
    bench.wait();
    assert_eq!(bench.ended(), Some(Err(Error::Disconnected)));
}

#[test]
fn a_bus_error_of_a_device_that_stays() {
    let mut bench = Bench::new();
    let began = bench.now;
    bench.receive(Err(TransferError::Fault));
    let ended = loop {
        bench.wait();
        if let Some(ended) = bench.ended() {
            break ended;
        }
        if bench.driver.transport.listening > 0 {
            bench.receive(Err(TransferError::Fault));
        }
    };
    assert_eq!(ended, Err(Error::Transfer));
    assert_eq!(bench.now - began, UNPLUG_TIME);
}

#[test]
fn a_bus_error_that_passes() {
    let mut bench = Bench::new();
    bench.receive(Err(TransferError::Fault));
    bench.wait();
    bench.receive(Ok(&[0x81, 0, 0, 0, 0, 0, 1, 1, 0, 0]));
    assert_eq!(bench.ended(), Some(Ok(Output::Status(IccStatus::PresentInactive))));
    assert_eq!(bench.driver.poll_deadline(), None);
}
