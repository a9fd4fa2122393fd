//! Real USB, by nusb.
//!
//! The interface is claimed as long as the transport lives; a kernel driver on it is detached and
//! comes back afterwards. Buffers are kept and used again: each is memory mapped from the kernel.

mod discover;
#[cfg(target_os = "linux")]
mod holder;
#[cfg(target_os = "linux")]
mod rivals;
mod source;

pub use discover::{Candidate, Holder, ListError, OpenError, readers};
pub use source::UsbSource;

use super::descriptors::CcidInterface;
use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use nusb::transfer::{
    Buffer, Bulk, BulkOrInterrupt, ControlIn, ControlOut, ControlType, EndpointDirection, In,
    Interrupt, Out, Recipient,
};
use nusb::{Endpoint, Interface, MaybeFuture};
use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Buffers kept for a pipe that queues one transfer at a time, and one to spare.
const SPARE_BUFFERS: usize = 2;

/// How long a bulk-OUT transfer that has failed may go unnoticed while bulk-IN is listened to.
const OUT_PERIOD: Duration = Duration::from_millis(50);

type ControlTransfer = Pin<Box<dyn Future<Output = Result<Bytes, TransferError>> + Send>>;

/// The four pipes of a CCID interface on real USB; an ICCD interface has the control pipe and
/// perhaps the interrupt pipe.
pub struct UsbTransport {
    found: CcidInterface,
    device: nusb::Device,
    interface: Interface,
    control: VecDeque<ControlTransfer>,
    /// None on ICCD interfaces, which have no bulk pipes.
    bulk_out: Option<Queue<Bulk, Out>>,
    bulk_in: Option<Queue<Bulk, In>>,
    interrupt: Option<Queue<Interrupt, In>>,
    /// When bulk-OUT is looked at again.
    out_look: Option<Instant>,
    /// Something has come over bulk-IN since the last command went out.
    answered: bool,
    /// Ended before they began.
    failed: VecDeque<Completion>,
}

impl UsbTransport {
    /// Takes the endpoints of a claimed interface.
    fn new(
        found: CcidInterface,
        device: nusb::Device,
        interface: Interface,
    ) -> Result<Self, nusb::Error> {
        let bulk_out = Queue::open(&interface, found.bulk_out)?;
        let bulk_in = Queue::open(&interface, found.bulk_in)?;
        let interrupt = Queue::open(&interface, found.interrupt)?;
        Ok(Self {
            found,
            device,
            interface,
            control: VecDeque::new(),
            bulk_out,
            bulk_in,
            interrupt,
            out_look: None,
            answered: false,
            failed: VecDeque::new(),
        })
    }
}

impl UsbTransport {
    /// As usbfs says it (ENOENT).
    fn no_such_endpoint(&mut self, pipe: Pipe) {
        let result = Err(TransferError::System(2));
        self.failed.push_back(Completion { pipe, result, full: false });
    }

    /// That a command has gone out is no news, and waking a thread for it would cost as much as its
    /// answer does: while bulk-IN, which brings that, is listened to, nothing is woken. Once an answer
    /// has come it is not looked for either, until there is something else to do.
    fn poll_out(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        let Some(bulk_out) = &mut self.bulk_out else {
            return Poll::Pending;
        };
        let listening = self.bulk_in.as_ref().is_some_and(|q| q.endpoint.pending() > 0);
        let mut asleep = Context::from_waker(Waker::noop());
        let polled = bulk_out.poll(Pipe::BulkOut, if listening { &mut asleep } else { cx });
        let waits = bulk_out.endpoint.pending() > 0 && listening && !self.answered;
        let look = self.out_look.filter(|look| *look > now).unwrap_or(now + OUT_PERIOD);
        self.out_look = waits.then_some(look);
        polled
    }
}

/// One endpoint's transfers, and buffers to use again.
struct Queue<T: BulkOrInterrupt, D: EndpointDirection> {
    endpoint: Endpoint<T, D>,
    spare: Vec<Buffer>,
}

impl<T: BulkOrInterrupt, D: EndpointDirection> Queue<T, D> {
    /// The endpoint at `address`, if there is one.
    fn open(interface: &Interface, address: Option<u8>) -> Result<Option<Self>, nusb::Error> {
        let open = |address| Ok(Self { endpoint: interface.endpoint(address)?, spare: Vec::new() });
        address.map(open).transpose()
    }

    /// A buffer of at least `capacity` bytes, empty.
    fn buffer(&mut self, capacity: usize) -> Buffer {
        match self.spare.pop() {
            Some(mut buffer) if buffer.capacity() >= capacity => {
                buffer.clear();
                buffer
            }
            _ => self.endpoint.allocate(capacity),
        }
    }

    fn poll(&mut self, pipe: Pipe, cx: &mut Context<'_>) -> Poll<Completion> {
        // nusb panics when asked for the completion of nothing.
        if self.endpoint.pending() == 0 {
            return Poll::Pending;
        }
        self.endpoint.poll_next_complete(cx).map(|done| self.completed(pipe, done))
    }

    fn completed(&mut self, pipe: Pipe, done: nusb::transfer::Completion) -> Completion {
        let is_in = pipe != Pipe::BulkOut;
        let data = if is_in { done.buffer.get(..done.actual_len) } else { None };
        let data = data.map(Bytes::copy_from_slice).unwrap_or_default();
        let full = is_in && done.actual_len == done.buffer.requested_len();
        let result = match done.status {
            Ok(()) => Ok(data),
            Err(nusb::transfer::TransferError::Cancelled) if !data.is_empty() => Ok(data),
            Err(error) => Err(error.into()),
        };
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(done.buffer);
        }
        Completion { pipe, result, full }
    }

    fn clear_halt(&mut self) -> Result<(), TransferError> {
        self.endpoint.clear_halt().wait().map_err(|error| match error.kind() {
            nusb::ErrorKind::Disconnected => TransferError::Disconnected,
            _ => TransferError::System(error.os_error().unwrap_or(0)),
        })
    }
}

impl<T: BulkOrInterrupt> Queue<T, In> {
    fn submit_in(&mut self, length: usize) {
        let packet = self.endpoint.max_packet_size().max(1);
        let length = length.max(1).div_ceil(packet).saturating_mul(packet);
        let mut buffer = self.buffer(length);
        buffer.set_requested_len(length);
        self.endpoint.submit(buffer);
    }
}

impl From<nusb::transfer::TransferError> for TransferError {
    fn from(error: nusb::transfer::TransferError) -> Self {
        use nusb::transfer::TransferError as Nusb;
        match error {
            Nusb::Cancelled => Self::Cancelled,
            Nusb::Stall => Self::Stall,
            Nusb::Disconnected => Self::Disconnected,
            Nusb::Fault => Self::Fault,
            Nusb::InvalidArgument => Self::System(22),
            Nusb::Unknown(code) => Self::System(code),
        }
    }
}

impl Transport for UsbTransport {
    fn info(&self) -> &DeviceInfo {
        &self.found.info
    }

    fn interface(&self) -> Option<&CcidInterface> {
        Some(&self.found)
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        let control_type = match setup.request_type >> 5 & 0b11 {
            0 => ControlType::Standard,
            1 => ControlType::Class,
            _ => ControlType::Vendor,
        };
        let recipient = match setup.request_type & 0x1F {
            0 => Recipient::Device,
            1 => Recipient::Interface,
            2 => Recipient::Endpoint,
            _ => Recipient::Other,
        };
        let SetupPacket { request, value, index, length, .. } = setup;
        let transfer: ControlTransfer = if setup.is_in() {
            let request = ControlIn { control_type, recipient, request, value, index, length };
            let future = self.interface.control_in(request, timeout).into_future();
            Box::pin(async move { future.await.map(Bytes::from).map_err(Into::into) })
        } else {
            let data = &data[..];
            let request = ControlOut { control_type, recipient, request, value, index, data };
            let future = self.interface.control_out(request, timeout).into_future();
            Box::pin(async move { future.await.map(|()| Bytes::new()).map_err(Into::into) })
        };
        self.control.push_back(transfer);
    }

    fn submit_out(&mut self, message: Bytes) {
        let Some(bulk_out) = &mut self.bulk_out else {
            return self.no_such_endpoint(Pipe::BulkOut);
        };
        let mut buffer = bulk_out.buffer(message.len());
        buffer.extend_from_slice(&message);
        bulk_out.endpoint.submit(buffer);
        self.answered = false;
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        match (pipe, &mut self.bulk_in, &mut self.interrupt) {
            (Pipe::BulkIn, Some(bulk_in), _) => bulk_in.submit_in(length),
            (Pipe::Interrupt, _, Some(interrupt)) => interrupt.submit_in(length),
            _ => self.no_such_endpoint(pipe),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        if let Some(completion) = self.failed.pop_front() {
            return Poll::Ready(completion);
        }
        // Card movement first: it may be all that is ever heard of a command whose card is gone.
        if let Some(interrupt) = &mut self.interrupt {
            if let Poll::Ready(completion) = interrupt.poll(Pipe::Interrupt, cx) {
                return Poll::Ready(completion);
            }
        }
        if let Some(bulk_in) = &mut self.bulk_in {
            if let Poll::Ready(completion) = bulk_in.poll(Pipe::BulkIn, cx) {
                self.answered = completion.result.is_ok();
                return Poll::Ready(completion);
            }
        }
        if let Poll::Ready(completion) = self.poll_out(cx, now) {
            return Poll::Ready(completion);
        }
        if let Some(transfer) = self.control.front_mut() {
            if let Poll::Ready(result) = transfer.as_mut().poll(cx) {
                self.control.pop_front();
                return Poll::Ready(Completion { pipe: Pipe::Control, result, full: false });
            }
        }
        Poll::Pending
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.out_look
    }

    fn cancel(&mut self, pipe: Pipe) {
        let cancel_all = match pipe {
            Pipe::BulkIn => self.bulk_in.as_mut().map(|q| q.endpoint.cancel_all()),
            Pipe::BulkOut => self.bulk_out.as_mut().map(|q| q.endpoint.cancel_all()),
            Pipe::Interrupt => self.interrupt.as_mut().map(|q| q.endpoint.cancel_all()),
            // A control transfer ends by its timeout.
            Pipe::Control => None,
        };
        cancel_all.unwrap_or_default();
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        let cleared = match pipe {
            Pipe::BulkIn => self.bulk_in.as_mut().map(Queue::clear_halt),
            Pipe::BulkOut => self.bulk_out.as_mut().map(Queue::clear_halt),
            Pipe::Interrupt => self.interrupt.as_mut().map(Queue::clear_halt),
            Pipe::Control => None,
        };
        cleared.unwrap_or(Ok(()))
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        self.device.reset().wait().map_err(|error| match error.kind() {
            nusb::ErrorKind::Disconnected => TransferError::Disconnected,
            _ => TransferError::System(error.os_error().unwrap_or(0)),
        })
    }
}
