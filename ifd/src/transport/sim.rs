//! The transport onto a simulated device, in process.
//!
//! Packets become transfers here exactly as on USB: a transfer ends at a short packet, at an empty
//! one, or when it is full; what the device has not been asked for stays in the device. The device
//! is driven from [`poll`](Transport::poll) alone and lives by the `now` given there.

mod source;

pub use source::SimSource;

use super::descriptors::{self, BadDescriptors, CcidInterface, UnusableInterface};
use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use bytes::{Bytes, BytesMut};
use ccid::Instant;
use ccid::wire::SetupPacket;
use sim::{Claim, ControlReply, Device, Port};
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What usbfs says of an endpoint that the interface does not have (ENOENT).
const NO_SUCH_ENDPOINT: TransferError = TransferError::System(2);

/// Why a simulated device cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is plugged into the port.
    Unplugged,
    /// The device's descriptors are none.
    Descriptors(BadDescriptors),
    /// Its CCID interface cannot be used.
    Unusable(UnusableInterface),
    /// It has no CCID interface.
    NoReader,
    /// Another has claimed the port.
    Busy,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplugged => f.write_str("nothing is plugged in"),
            Self::Descriptors(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
            Self::NoReader => f.write_str("no CCID interface"),
            Self::Busy => f.write_str("claimed by another"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A [`Transport`] onto the device in a [`Port`].
///
/// It belongs to one plug-in: after an unplug everything ends [`TransferError::Disconnected`], also
/// when the device has been plugged in again, which takes a new transport. One transport at a time
/// drives a port.
///
/// Control transfers are answered or stalled by the device at the next poll; their timeout never
/// comes to pass.
pub struct SimTransport<D: Device + ?Sized> {
    port: Port<D>,
    plugs: u64,
    wire: Wire,
    waker: Option<Waker>,
    /// How much later it is for the device than by the clock given here; none before it is known.
    ahead: Option<Duration>,
    /// The device's time.
    time: Instant,
    claim: Option<Claim>,
}

impl<D: Device + ?Sized> fmt::Debug for SimTransport<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTransport").field("plugs", &self.plugs).finish_non_exhaustive()
    }
}

impl<D: Device + ?Sized> SimTransport<D> {
    /// Opens the first CCID interface of the device in `port`. The device is reset at the first
    /// poll.
    ///
    /// # Errors
    /// [`OpenError`]: nothing plugged in, or no interface that can be used.
    pub fn new(port: Port<D>) -> Result<Self, OpenError> {
        let plugs = port.plugs();
        if plugs % 2 == 0 {
            return Err(OpenError::Unplugged);
        }
        let found = port.with(|device| {
            let found = device.descriptors();
            let string = |index: u8| {
                usize::from(index).checked_sub(1).and_then(|n| found.strings.get(n)).cloned()
            };
            descriptors::ccid_interfaces(&found.device, &found.configuration, string)
        });
        let found = found.map_err(OpenError::Descriptors)?;
        let interface = match found.into_iter().next() {
            Some(found) => found.map_err(OpenError::Unusable)?,
            None => return Err(OpenError::NoReader),
        };
        let (wire, time) = (Wire::new(interface), port.time());
        Ok(Self { port, plugs, wire, waker: None, ahead: None, time, claim: None })
    }

    /// The same, and claims the port for as long as it lives ([`Port::claim`]).
    ///
    /// # Errors
    /// As [`new`](Self::new); [`OpenError::Busy`] if another has claimed it.
    pub fn claiming(port: Port<D>) -> Result<Self, OpenError> {
        let claim = port.claim().ok_or(OpenError::Busy)?;
        let mut transport = Self::new(port)?;
        transport.claim = Some(claim);
        Ok(transport)
    }

    /// Whoever waits for the waker only must not miss what a submission or a cancel brings.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<D: Device + ?Sized> Drop for SimTransport<D> {
    fn drop(&mut self) {
        self.port.leave(self.time);
    }
}

impl<D: Device + ?Sized> Transport for SimTransport<D> {
    fn info(&self) -> &DeviceInfo {
        &self.wire.interface.info
    }

    fn interface(&self) -> Option<&CcidInterface> {
        Some(&self.wire.interface)
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, _timeout: Duration) {
        self.wire.submit(Outgoing::Control(setup, data));
        self.wake();
    }

    fn submit_out(&mut self, message: Bytes) {
        self.wire.submit(Outgoing::Message(message));
        self.wake();
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        self.wire.submit_in(pipe, length);
        self.wake();
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        if self.wire.done.is_empty() {
            let Self { port, plugs, wire, time, .. } = self;
            *time = now + *self.ahead.get_or_insert_with(|| time.saturating_since(now));
            if port.drive(*plugs, cx.waker(), |device| wire.run(device, *time)).is_none() {
                wire.disconnect();
            }
        }
        match self.wire.done.pop_front() {
            Some(completion) => Poll::Ready(completion),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let deadline = self.wire.deadline?.since_epoch();
        Some(Instant::from_duration(deadline.saturating_sub(self.ahead.unwrap_or_default())))
    }

    fn cancel(&mut self, pipe: Pipe) {
        self.wire.cancel(pipe);
        self.wake();
    }

    fn clear_halt(&mut self, _pipe: Pipe) -> Result<(), TransferError> {
        // Simulated bulk and interrupt pipes do not halt: there is nothing to clear.
        match self.port.plugs() == self.plugs {
            true => Ok(()),
            false => Err(TransferError::Disconnected),
        }
    }
}

/// A transfer towards the device.
#[derive(Debug)]
enum Outgoing {
    Control(SetupPacket, Bytes),
    Message(Bytes),
}

impl Outgoing {
    const fn pipe(&self) -> Pipe {
        match self {
            Self::Control(..) => Pipe::Control,
            Self::Message(_) => Pipe::BulkOut,
        }
    }
}

/// Where the connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Opened; the device has not been reset yet, as no time has been given.
    Fresh,
    Running,
    Gone,
}

/// The four pipes, without the device at their end.
struct Wire {
    interface: CcidInterface,
    life: Life,
    /// Control and bulk-OUT transfers in the order they were submitted.
    outgoing: VecDeque<Outgoing>,
    bulk_in: Incoming,
    interrupt: Option<Incoming>,
    done: VecDeque<Completion>,
    deadline: Option<Instant>,
}

impl Wire {
    fn new(interface: CcidInterface) -> Self {
        let info = &interface.info;
        Self {
            life: Life::Fresh,
            outgoing: VecDeque::new(),
            bulk_in: Incoming::new(Pipe::BulkIn, info.bulk_in_packet),
            interrupt: info.interrupt_packet.map(|n| Incoming::new(Pipe::Interrupt, n)),
            done: VecDeque::new(),
            // Polled at once, so that the device's own time begins.
            deadline: Some(Instant::ZERO),
            interface,
        }
    }

    fn submit(&mut self, transfer: Outgoing) {
        if self.life == Life::Gone {
            self.fail(transfer.pipe(), TransferError::Disconnected);
        } else {
            self.outgoing.push_back(transfer);
        }
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        if self.life == Life::Gone {
            return self.fail(pipe, TransferError::Disconnected);
        }
        match self.incoming(pipe) {
            Some(incoming) => incoming.submit(length),
            None => self.fail(pipe, NO_SUCH_ENDPOINT),
        }
    }

    fn incoming(&mut self, pipe: Pipe) -> Option<&mut Incoming> {
        match pipe {
            Pipe::BulkIn => Some(&mut self.bulk_in),
            Pipe::Interrupt => self.interrupt.as_mut(),
            Pipe::Control | Pipe::BulkOut => None,
        }
    }

    fn fail(&mut self, pipe: Pipe, error: TransferError) {
        self.done.push_back(Completion { pipe, result: Err(error), full: false });
    }

    /// Moves everything that can move.
    fn run<D: Device + ?Sized>(&mut self, device: &mut D, now: Instant) {
        if self.life == Life::Fresh {
            device.reset(now);
            self.life = Life::Running;
        }
        if device.poll_deadline().is_some_and(|deadline| deadline <= now) {
            device.handle_timeout(now);
        }
        self.run_outgoing(device, now);
        self.bulk_in.run(&mut self.done, || device.poll_bulk_in(now));
        if let Some(interrupt) = &mut self.interrupt {
            interrupt.run(&mut self.done, || device.poll_interrupt(now));
        }
        self.deadline = device.poll_deadline();
    }

    /// Hands over control and bulk-OUT transfers in their order; what bulk-OUT does not take holds
    /// up bulk-OUT only.
    fn run_outgoing<D: Device + ?Sized>(&mut self, device: &mut D, now: Instant) {
        let mut held = VecDeque::new();
        while let Some(transfer) = self.outgoing.pop_front() {
            let (pipe, result) = match transfer {
                Outgoing::Control(setup, data) => {
                    let result = match device.control(setup, &data, now) {
                        ControlReply::Data(mut data) => {
                            // The host takes no more than it has asked for.
                            data.truncate(usize::from(setup.length));
                            Ok(if setup.is_in() { data } else { Bytes::new() })
                        }
                        ControlReply::Stall => Err(TransferError::Stall),
                    };
                    (Pipe::Control, result)
                }
                Outgoing::Message(message) if held.is_empty() && device.accepts_bulk_out() => {
                    device.bulk_out(&message, now);
                    (Pipe::BulkOut, Ok(Bytes::new()))
                }
                message @ Outgoing::Message(_) => {
                    held.push_back(message);
                    continue;
                }
            };
            self.done.push_back(Completion { pipe, result, full: false });
        }
        self.outgoing = held;
    }

    fn cancel(&mut self, pipe: Pipe) {
        for transfer in std::mem::take(&mut self.outgoing) {
            if transfer.pipe() == pipe {
                self.fail(pipe, TransferError::Cancelled);
            } else {
                self.outgoing.push_back(transfer);
            }
        }
        let mut done = std::mem::take(&mut self.done);
        if let Some(incoming) = self.incoming(pipe) {
            incoming.end(&mut done, TransferError::Cancelled);
        }
        self.done = done;
    }

    /// The plug was pulled.
    fn disconnect(&mut self) {
        self.life = Life::Gone;
        self.deadline = None;
        for transfer in std::mem::take(&mut self.outgoing) {
            self.fail(transfer.pipe(), TransferError::Disconnected);
        }
        for incoming in std::iter::once(&mut self.bulk_in).chain(&mut self.interrupt) {
            incoming.received.clear();
            incoming.end(&mut self.done, TransferError::Disconnected);
        }
    }
}

/// An IN pipe: transfers that wait for packets.
struct Incoming {
    pipe: Pipe,
    packet: usize,
    /// Length of each transfer, whole packets.
    queued: VecDeque<usize>,
    /// What the first of them has received.
    received: BytesMut,
}

impl Incoming {
    fn new(pipe: Pipe, packet: usize) -> Self {
        Self { pipe, packet, queued: VecDeque::new(), received: BytesMut::new() }
    }

    fn submit(&mut self, length: usize) {
        let packet = self.packet.max(1);
        self.queued.push_back(length.max(1).next_multiple_of(packet));
    }

    /// Takes packets while someone waits for them.
    fn run(
        &mut self,
        done: &mut VecDeque<Completion>,
        mut next_packet: impl FnMut() -> Option<Bytes>,
    ) {
        while let Some(&length) = self.queued.front() {
            let Some(packet) = next_packet() else { return };
            // More than the endpoint may send: USB calls it babble, and the host drops it.
            let babble = packet.len() > self.packet;
            self.received.extend_from_slice(&packet);
            let full = self.received.len() >= length;
            if !(babble || full || packet.len() < self.packet) {
                continue;
            }
            let received = self.received.split().freeze();
            let result = if babble { Err(TransferError::Fault) } else { Ok(received) };
            self.queued.pop_front();
            done.push_back(Completion { pipe: self.pipe, full: full && !babble, result });
        }
    }

    /// Ends all transfers: the first with what it has received, if that is something.
    fn end(&mut self, done: &mut VecDeque<Completion>, error: TransferError) {
        let mut received = self.received.split().freeze();
        for _ in self.queued.drain(..) {
            let result = match std::mem::take(&mut received) {
                data if data.is_empty() => Err(error),
                data => Ok(data),
            };
            done.push_back(Completion { pipe: self.pipe, result, full: false });
        }
    }
}

#[cfg(test)]
mod tests;
