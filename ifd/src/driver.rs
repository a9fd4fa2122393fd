//! One reader on one transport, without a thread: carries between the pipes and the protocol's
//! state machines.

use crate::quirks;
use crate::transport::{Completion, Pipe, TransferError, Transport};
use bytes::Bytes;
use ccid::quirk::Adjusted;
use ccid::reassembly::Reassembler;
use ccid::wire::ClassRequest;
use ccid::{Error, Event, Instant, Operation, OperationId, Options, Reader, Slot, Transmit};
use log::{debug, info, warn};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often presence is asked for where no interrupt pipe tells.
const POLL_PERIOD: Duration = Duration::from_millis(400);

/// Interrupt transfers that may fail in a row before the pipe is given up.
const MAX_INTERRUPT_ERRORS: u8 = 8;

/// How long after a bus error the device may turn out to be unplugged: transfers fail as soon as
/// the plug is out, and the hub tells of it up to a quarter of a second later.
const UNPLUG_TIME: Duration = Duration::from_millis(600);

/// How often the pipes are tried meanwhile.
const RETRY_PERIOD: Duration = Duration::from_millis(100);

/// Completions handled in one turn, so that a device that floods the host cannot keep it from
/// its commands.
const MAX_COMPLETIONS: usize = 64;

/// What the first bulk-IN transfer of a message asks for, if its messages may be that long: room
/// for any short APDU's response. The second asks for the rest. A host controller may have work to
/// do for each packet asked for, whether it comes or not (UHCI, OHCI and EHCI do).
const FIRST_TRANSFER: usize = 512;

/// One reader on one transport. Bulk-IN and interrupt transfers are queued at all times.
pub struct Driver<T: Transport> {
    transport: T,
    reader: Reader,
    reassembler: Reassembler,
    /// Bytes asked for by the first bulk-IN transfer of a message.
    bulk_in_length: usize,
    /// Bulk transfers that are not back yet.
    outstanding_in: usize,
    outstanding_out: usize,
    recovering: bool,
    /// Bulk pipes that stalled since the last recovery.
    halted: Vec<Pipe>,
    interrupt_errors: u8,
    /// When the interrupt pipe is tried again after a bus error.
    interrupt_retry: Option<Instant>,
    /// There was a bus error.
    suspicion: Option<Suspicion>,
    /// Control requests that wait for the one on its way; ABORTs first.
    requests: VecDeque<(ClassRequest, Duration)>,
    /// The one on its way.
    running: Option<ClassRequest>,
    gone: bool,
}

/// A bulk transfer failed on the bus: is the device gone?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Suspicion {
    /// Where.
    pipe: Pipe,
    /// When bulk-IN is tried again.
    retry: Instant,
    /// When the error is told, if the device is still there.
    until: Instant,
}

/// What a turn left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing to do until the waker is woken or the deadline passes.
    Idle,
    /// There may be more: take another turn.
    More,
    /// The device is gone: everything has ended.
    Gone,
}

impl<T: Transport> Driver<T> {
    /// A driver for a transport that nothing has been submitted to yet. `options.poll` is set here:
    /// by whether there is an interrupt pipe. The reader is treated as [`quirks::of`] says.
    pub fn new(transport: T, options: Options, now: Instant) -> Self {
        let adjusted = quirks::of(transport.info());
        Self::with_quirks(transport, adjusted, options, now)
    }

    /// The same for a reader that is to be treated as `adjusted` says.
    pub fn with_quirks(
        mut transport: T,
        adjusted: Adjusted,
        mut options: Options,
        now: Instant,
    ) -> Self {
        let Adjusted { class, behaviour } = adjusted;
        let info = transport.info();
        let packet = info.bulk_in_packet.max(1);
        let interrupt = info.interrupt_packet;
        options.poll = interrupt.is_none().then_some(POLL_PERIOD);
        let reader = Reader::with_behaviour(class, behaviour, options, now);
        // One packet more than the longest message, so that the zero-length packet behind a
        // message of whole packets ends its transfer, too.
        let longest = class.max_data() + ccid::wire::HEADER_LEN;
        let bulk_in_length = longest.next_multiple_of(packet).saturating_add(packet);
        let bulk_in_length = bulk_in_length.min(FIRST_TRANSFER.next_multiple_of(packet));
        if let Some(length) = interrupt {
            transport.submit_in(Pipe::Interrupt, length);
        }
        let mut driver = Self {
            reassembler: Reassembler::new(reader.max_message_data()),
            transport,
            reader,
            bulk_in_length,
            outstanding_in: 0,
            outstanding_out: 0,
            recovering: false,
            halted: Vec::new(),
            interrupt_errors: 0,
            interrupt_retry: None,
            suspicion: None,
            requests: VecDeque::new(),
            running: None,
            gone: false,
        };
        driver.listen();
        driver
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Resets the device, which no longer answers; see [`Transport::reset`]. The driver is of no
    /// use afterwards.
    pub fn reset_device(&mut self) {
        match self.transport.reset() {
            Ok(()) => info!("the device was reset"),
            Err(error) => warn!("the device could not be reset: {error}"),
        }
    }

    /// The protocol's view of the reader.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Starts an operation; see [`Reader::start`]. Take a turn afterwards.
    pub fn start(
        &mut self,
        slot: Slot,
        operation: Operation,
        limit: Option<Duration>,
        now: Instant,
    ) -> OperationId {
        self.reader.start(slot, operation, limit, now)
    }

    /// Cancels an operation; see [`Reader::cancel`]. Take a turn afterwards.
    pub fn cancel(&mut self, id: OperationId, now: Instant) {
        self.reader.cancel(id, now);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.reader.poll_event()
    }

    /// When to take a turn even if nothing woke it.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let own = self.reader.poll_deadline();
        let suspicion = self.suspicion.map(|suspicion| suspicion.retry.min(suspicion.until));
        let pipes = [self.transport.poll_deadline(), self.interrupt_retry, suspicion];
        own.into_iter().chain(pipes.into_iter().flatten()).min()
    }

    /// Handles what has happened on the pipes and what is due, and submits what follows.
    pub fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Turn {
        if self.reader.poll_deadline().is_some_and(|deadline| deadline <= now) {
            self.reader.handle_timeout(now);
        }
        self.retry(now);
        self.transmit(now);
        for _ in 0..MAX_COMPLETIONS {
            match self.transport.poll(cx, now) {
                Poll::Pending => return if self.gone { Turn::Gone } else { Turn::Idle },
                Poll::Ready(completion) => self.completed(completion, now),
            }
            if self.gone {
                return Turn::Gone;
            }
            self.transmit(now);
        }
        Turn::More
    }

    /// Submits what the state machines want sent. Nothing goes out while transfers are recovered.
    fn transmit(&mut self, now: Instant) {
        while !self.recovering && !self.gone {
            match self.reader.poll_transmit() {
                Some(Transmit::BulkOut(message)) => {
                    self.outstanding_out += 1;
                    self.transport.submit_out(message);
                }
                Some(Transmit::Control { request, timeout }) => {
                    self.enqueue(request, timeout);
                    self.next_request();
                }
                Some(Transmit::Recover) => {
                    self.recover();
                    // The last transfer may be the one that failed: then none is left to come back.
                    self.recovered_if_complete(now);
                }
                None => return,
            }
        }
    }

    /// An ABORT goes before what is not one: somebody waits for it.
    fn enqueue(&mut self, request: ClassRequest, timeout: Duration) {
        let is_abort = |request: &ClassRequest| matches!(request, ClassRequest::Abort { .. });
        let at = match is_abort(&request) {
            true => self.requests.iter().position(|(waiting, _)| !is_abort(waiting)),
            false => None,
        };
        self.requests.insert(at.unwrap_or(self.requests.len()), (request, timeout));
    }

    fn next_request(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some((request, timeout)) = self.requests.pop_front() {
            debug!("-> {request:?}");
            let setup = request.setup(self.transport.info().interface);
            self.transport.submit_control(setup, Bytes::new(), timeout);
            self.running = Some(request);
        }
    }

    fn listen(&mut self) {
        self.outstanding_in += 1;
        // The rest of a message is asked for exactly: that ends whether or not a zero-length packet
        // follows, and one that does is no message.
        let length = self.reassembler.missing().unwrap_or(self.bulk_in_length);
        self.transport.submit_in(Pipe::BulkIn, length);
    }

    fn completed(&mut self, completion: Completion, now: Instant) {
        let Completion { pipe, result, full } = completion;
        if result == Err(TransferError::Disconnected) {
            return self.end(now);
        }
        match pipe {
            Pipe::Control => {
                if let Err(error) = &result {
                    debug!("control request: {error}");
                }
                if let Some(request) = self.running.take() {
                    let data = result.as_ref().ok().map(|data| &data[..]);
                    self.reader.handle_control(request, data, now);
                }
                self.next_request();
            }
            Pipe::BulkOut => {
                self.outstanding_out = self.outstanding_out.saturating_sub(1);
                self.bulk_ended(pipe, result.err(), now);
            }
            Pipe::BulkIn => {
                self.outstanding_in = self.outstanding_in.saturating_sub(1);
                match result {
                    Ok(bytes) => self.received(&bytes, full, now),
                    Err(error) => self.bulk_ended(pipe, Some(error), now),
                }
            }
            Pipe::Interrupt => self.notified(result, now),
        }
        self.recovered_if_complete(now);
    }

    fn received(&mut self, bytes: &[u8], full: bool, now: Instant) {
        let message = self.reassembler.push(bytes, full && !self.recovering);
        if self.recovering {
            if let Ok(Some(message)) = &message {
                self.learn_packets(message.len());
            }
        } else if message.is_ok() {
            self.listen();
        }
        match message {
            Ok(Some(message)) => {
                // It is there. What went out may have been lost all the same.
                self.suspicion = self.suspicion.filter(|s| s.pipe == Pipe::BulkOut);
                self.reader.handle_message(&message, now);
            }
            Ok(None) => {}
            Err(error) => {
                warn!("bulk-IN: {error}");
                if !self.recovering {
                    self.reader.handle_transfer_error(now);
                }
            }
        }
    }

    /// A whole message sat in a transfer that had not ended: the reader leaves out the zero-length
    /// packet behind whole packets. From now on each transfer takes one packet.
    fn learn_packets(&mut self, length: usize) {
        let packet = self.transport.info().bulk_in_packet.max(1);
        if length % packet == 0 && self.bulk_in_length != packet {
            info!("the reader sends no zero-length packets: reading packet by packet");
            self.bulk_in_length = packet;
        }
    }

    fn bulk_ended(&mut self, pipe: Pipe, error: Option<TransferError>, now: Instant) {
        let Some(error) = error else {
            return;
        };
        if error == TransferError::Stall {
            self.halted.push(pipe);
        }
        if self.recovering && error == TransferError::Cancelled {
            return;
        }
        warn!("{pipe}: {error}");
        if error == TransferError::Fault && !self.recovering {
            let (retry, until) = (now + RETRY_PERIOD, now + UNPLUG_TIME);
            match &mut self.suspicion {
                Some(suspicion) => suspicion.retry = retry,
                None => self.suspicion = Some(Suspicion { pipe, retry, until }),
            }
            return;
        }
        self.reader.handle_transfer_error(now);
    }

    /// Tries the pipes again after a bus error. A device that is gone says so then.
    fn retry(&mut self, now: Instant) {
        if self.interrupt_retry.is_some_and(|at| at <= now) {
            self.interrupt_retry = None;
            self.listen_for_cards();
        }
        let Some(suspicion) = &mut self.suspicion else {
            return;
        };
        if suspicion.until <= now {
            self.suspicion = None;
            self.reader.handle_transfer_error(now);
        } else if suspicion.retry <= now {
            suspicion.retry = now + RETRY_PERIOD;
            if self.outstanding_in == 0 && !self.recovering {
                self.listen();
            }
        }
    }

    fn listen_for_cards(&mut self) {
        if let Some(length) = self.transport.info().interrupt_packet {
            self.transport.submit_in(Pipe::Interrupt, length);
        }
    }

    fn notified(&mut self, result: Result<Bytes, TransferError>, now: Instant) {
        match result {
            Ok(bytes) => {
                self.interrupt_errors = 0;
                if !bytes.is_empty() {
                    self.reader.handle_interrupt(&bytes, now);
                }
            }
            Err(error) => {
                self.interrupt_errors += 1;
                warn!("interrupt-IN: {error}");
                let cleared = error != TransferError::Stall
                    || self.transport.clear_halt(Pipe::Interrupt).is_ok();
                if self.interrupt_errors >= MAX_INTERRUPT_ERRORS || !cleared {
                    warn!("interrupt-IN given up: presence is polled");
                    return self.reader.handle_interrupt_lost(POLL_PERIOD, now);
                }
                if error == TransferError::Fault {
                    self.interrupt_retry = Some(now + RETRY_PERIOD);
                    return;
                }
            }
        }
        self.listen_for_cards();
    }

    fn recover(&mut self) {
        info!("recovering the transfers");
        self.recovering = true;
        self.suspicion = None;
        self.transport.cancel(Pipe::BulkOut);
        self.transport.cancel(Pipe::BulkIn);
    }

    fn recovered_if_complete(&mut self, now: Instant) {
        if !self.recovering || self.outstanding_in + self.outstanding_out > 0 {
            return;
        }
        for pipe in std::mem::take(&mut self.halted) {
            match self.transport.clear_halt(pipe) {
                Ok(()) => {}
                Err(TransferError::Disconnected) => return self.end(now),
                Err(error) => warn!("{pipe}: halt not cleared: {error}"),
            }
        }
        self.reassembler.reset();
        self.recovering = false;
        self.listen();
        self.reader.handle_recovered(now);
    }

    fn end(&mut self, _now: Instant) {
        if !self.gone {
            self.gone = true;
            self.reader.handle_gone(&Error::Disconnected);
        }
    }
}

#[cfg(test)]
mod bus_error_tests;
#[cfg(test)]
mod tests;
