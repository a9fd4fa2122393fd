//! ICCD devices as bulk CCID readers: a wrapper around a transport that has no bulk pipes.
//!
//! What is submitted on bulk-OUT becomes class requests on the control pipe, and what they bring
//! comes up on bulk-IN; see [`ccid::iccd`]. The interrupt pipe, if there is one, is passed through:
//! its messages are CCID's. There are no class requests for those above: ABORT and the others are
//! answered with STALL and do not reach the device.

use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use bytes::Bytes;
use ccid::Instant;
use ccid::iccd::{Failure, Translator, Version};
use ccid::wire::SetupPacket;
use log::{debug, info, warn};
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// wMaxPacketSize of the bulk-IN pipe that is not there.
const PACKET: usize = 64;

/// After so many control requests in a row that failed on the bus, the device is given up.
const MAX_BROKEN: u32 = 16;

/// What usbfs says of an endpoint that the interface does not have (ENOENT).
const NO_SUCH_ENDPOINT: TransferError = TransferError::System(2);

/// A transport whose device speaks bulk CCID, by itself or translated.
#[derive(Debug)]
pub enum Dialect<T> {
    /// As the device is.
    Bulk(T),
    /// An ICCD device.
    Iccd(Box<Iccd<T>>),
}

impl<T: Transport> Dialect<T> {
    /// Wraps `transport`, to which nothing has been submitted yet, if its device speaks ICCD:
    /// bInterfaceProtocol 1 or 2, and no bulk pipes. (A reader in the field declares 1 and has
    /// them.)
    pub fn of(transport: T) -> Self {
        let info = transport.info();
        match Version::of(info.interface_protocol) {
            Some(version) if info.bulk_in_packet == 0 => {
                info!("{:04x}:{:04x}: ICCD version {version:?}", info.vendor_id, info.product_id);
                Self::Iccd(Box::new(Iccd::new(transport, version)))
            }
            _ => Self::Bulk(transport),
        }
    }

    fn inner(&self) -> &dyn Transport
    where
        T: 'static,
    {
        match self {
            Self::Bulk(transport) => transport,
            Self::Iccd(iccd) => &**iccd,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Transport
    where
        T: 'static,
    {
        match self {
            Self::Bulk(transport) => transport,
            Self::Iccd(iccd) => &mut **iccd,
        }
    }
}

impl<T: Transport + 'static> Transport for Dialect<T> {
    fn info(&self) -> &DeviceInfo {
        self.inner().info()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        self.inner_mut().submit_control(setup, data, timeout);
    }

    fn submit_out(&mut self, message: Bytes) {
        self.inner_mut().submit_out(message);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        self.inner_mut().submit_in(pipe, length);
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        self.inner_mut().poll(cx, now)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.inner().poll_deadline()
    }

    fn cancel(&mut self, pipe: Pipe) {
        self.inner_mut().cancel(pipe);
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        self.inner_mut().clear_halt(pipe)
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        self.inner_mut().reset()
    }
}

/// An ICCD device as a bulk CCID reader. Requests run one at a time, none longer than 3 seconds;
/// cancelling a bulk pipe ends what the device is asked for.
pub struct Iccd<T> {
    transport: T,
    /// The reader's, not the device's: its class descriptor is [`Version::class`].
    info: DeviceInfo,
    translator: Translator,
    /// Messages whose time has not been told yet.
    outgoing: VecDeque<Bytes>,
    /// The lengths of the bulk-IN transfers that are queued.
    queued: VecDeque<usize>,
    /// The message that is being received.
    incoming: Bytes,
    done: VecDeque<Completion>,
    /// The control transfer under way has been cancelled.
    cancelled: bool,
    gone: bool,
    /// Control requests in a row that failed on the bus; a stall is an answer.
    broken: u32,
    waker: Option<Waker>,
}

impl<T> fmt::Debug for Iccd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iccd")
            .field("version", &self.translator.version())
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Iccd<T> {
    /// A reader on `transport`, to which nothing has been submitted yet and whose device speaks
    /// this version of ICCD. Its card is power-cycled first.
    pub fn new(transport: T, version: Version) -> Self {
        let device = transport.info();
        let class = version.class(&device.class);
        let info = DeviceInfo { class, bulk_in_packet: PACKET, ..device.clone() };
        Self {
            translator: Translator::new(version, &device.class, info.interface),
            transport,
            info,
            outgoing: VecDeque::new(),
            queued: VecDeque::new(),
            incoming: Bytes::new(),
            done: VecDeque::new(),
            cancelled: false,
            gone: false,
            broken: 0,
            waker: None,
        }
    }

    fn complete(&mut self, pipe: Pipe, result: Result<Bytes, TransferError>) {
        self.done.push_back(Completion { pipe, result, full: false });
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Moves everything that can move without the device.
    fn run(&mut self, now: Instant) {
        while let Some(message) = self.outgoing.pop_front() {
            self.translator.handle_message(&message, now);
            let result = Ok(Bytes::new());
            self.done.push_back(Completion { pipe: Pipe::BulkOut, result, full: false });
        }
        if self.translator.poll_deadline().is_some_and(|deadline| deadline <= now) {
            self.translator.handle_timeout(now);
        }
        if let Some(control) = self.translator.poll_control(now) {
            self.transport.submit_control(control.setup, control.data, control.timeout);
            self.cancelled = false;
        }
        if self.translator.is_abandoned() && !self.cancelled {
            self.cancelled = true;
            self.transport.cancel(Pipe::Control);
        }
        self.deliver();
    }

    /// Gives messages to the bulk-IN transfers that are queued.
    fn deliver(&mut self) {
        while let Some(&length) = self.queued.front() {
            if self.incoming.is_empty() {
                match self.translator.poll_message() {
                    Some(message) => self.incoming = message,
                    None => return,
                }
            }
            self.queued.pop_front();
            let part = self.incoming.split_to(length.min(self.incoming.len()));
            let full = part.len() == length;
            self.done.push_back(Completion { pipe: Pipe::BulkIn, result: Ok(part), full });
        }
    }

    fn control_ended(&mut self, result: Result<Bytes, TransferError>, now: Instant) {
        let before = std::mem::take(&mut self.broken);
        let failure = match &result {
            Ok(bytes) => return self.translator.handle_control(Ok(bytes), now),
            Err(TransferError::Disconnected) => return self.end(),
            Err(TransferError::Stall) => Failure::Stall,
            Err(TransferError::Cancelled) => Failure::TimedOut,
            Err(error) => {
                debug!("control request: {error}");
                self.broken = before + 1;
                if self.broken >= MAX_BROKEN {
                    warn!("{} control requests have failed in a row: {error}", self.broken);
                    return self.end();
                }
                Failure::Broken
            }
        };
        self.translator.handle_control(Err(failure), now);
    }

    /// The device is gone.
    fn end(&mut self) {
        self.gone = true;
        self.translator.stop();
        self.end_all(Pipe::BulkOut, TransferError::Disconnected);
        self.end_all(Pipe::BulkIn, TransferError::Disconnected);
    }

    fn end_all(&mut self, pipe: Pipe, error: TransferError) {
        let count = match pipe {
            Pipe::BulkOut => std::mem::take(&mut self.outgoing).len(),
            Pipe::BulkIn => std::mem::take(&mut self.queued).len(),
            Pipe::Control | Pipe::Interrupt => 0,
        };
        for _ in 0..count {
            self.complete(pipe, Err(error));
        }
    }
}

impl<T: Transport> Transport for Iccd<T> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn submit_control(&mut self, setup: SetupPacket, _data: Bytes, _timeout: Duration) {
        debug!("class request {:02X}h: ICCD has none such", setup.request);
        let error = if self.gone { TransferError::Disconnected } else { TransferError::Stall };
        self.complete(Pipe::Control, Err(error));
    }

    fn submit_out(&mut self, message: Bytes) {
        if self.gone {
            return self.complete(Pipe::BulkOut, Err(TransferError::Disconnected));
        }
        self.outgoing.push_back(message);
        self.wake();
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        match pipe {
            Pipe::BulkIn if self.gone => {
                self.complete(Pipe::BulkIn, Err(TransferError::Disconnected));
            }
            Pipe::BulkIn => {
                self.queued.push_back(length.max(1).next_multiple_of(PACKET));
                self.wake();
            }
            Pipe::Interrupt => self.transport.submit_in(pipe, length),
            Pipe::Control | Pipe::BulkOut => self.complete(pipe, Err(NO_SUCH_ENDPOINT)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                return Poll::Ready(completion);
            }
            if !self.gone {
                self.run(now);
            }
            if !self.done.is_empty() {
                continue;
            }
            match self.transport.poll(cx, now) {
                Poll::Ready(Completion { pipe: Pipe::Control, result, .. }) => {
                    self.control_ended(result, now);
                }
                Poll::Ready(completion @ Completion { pipe: Pipe::Interrupt, .. }) => {
                    if completion.result == Err(TransferError::Disconnected) && !self.gone {
                        self.end();
                    }
                    return Poll::Ready(completion);
                }
                Poll::Ready(Completion { pipe, .. }) => warn!("{pipe} ended, which is not there"),
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let own = self.translator.poll_deadline().filter(|_| !self.gone);
        own.into_iter().chain(self.transport.poll_deadline()).min()
    }

    fn cancel(&mut self, pipe: Pipe) {
        match pipe {
            Pipe::BulkOut | Pipe::BulkIn => {
                self.translator.stop();
                self.incoming.clear();
                self.end_all(pipe, TransferError::Cancelled);
                self.wake();
            }
            Pipe::Interrupt => self.transport.cancel(pipe),
            // Control transfers from above are answered at once.
            Pipe::Control => {}
        }
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        match pipe {
            Pipe::Interrupt => self.transport.clear_halt(pipe),
            _ if self.gone => Err(TransferError::Disconnected),
            Pipe::Control | Pipe::BulkOut | Pipe::BulkIn => Ok(()),
        }
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        self.transport.reset()
    }
}

#[cfg(test)]
mod tests;
