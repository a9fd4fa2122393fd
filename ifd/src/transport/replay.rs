//! A recorded trace as a transport.
//!
//! What the host sends must be, message by message, what it sent in the recording; then what the
//! device sent after it comes, after as much time as it took then. At the first difference
//! everything ends as if the device were gone, and the [`Report`] tells what was expected where.
//! Where a PIN is masked in the recording, any PIN of that length is the same.
//!
//! [`lenient`](Replay::lenient) is for traces that another driver made: commands are found by slot
//! and data, what it sent besides is passed over, and sequence numbers are made the host's.
//!
//! With a [virtual clock](crate::Clock::virtual_time) minutes pass in no time.

mod lenient;

use super::descriptors::CcidInterface;
use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use crate::trace::mask::Masker;
use crate::trace::{Event, Trace, What};
use bytes::{Bytes, BytesMut};
use ccid::Instant;
use ccid::descriptor::ExchangeLevel;
use ccid::wire::{SetupPacket, dissect};
use lenient::{Found, Lenient};
use log::{info, warn};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Where what was sent first differed from the recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The packet that was expected to come next; none behind the end of the trace.
    pub packet: Option<u64>,
    /// Its time in the trace.
    pub time: Duration,
    /// What it was.
    pub expected: String,
    /// What was sent.
    pub sent: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet {
            Some(packet) => {
                write!(f, "packet {packet}, {:.6} s: ", self.time.as_secs_f64())?;
                write!(f, "recorded {}; sent {}", self.expected, self.sent)
            }
            None => write!(f, "behind the end of the trace: sent {}", self.sent),
        }
    }
}

impl std::error::Error for Difference {}

/// How a replay goes. Clones are the same report.
#[derive(Clone, Debug)]
pub struct Report(Arc<Mutex<Outcome>>);

#[derive(Debug)]
struct Outcome {
    difference: Option<Difference>,
    /// Messages and requests of the host that have not come yet.
    missing: usize,
}

impl Report {
    /// The first difference.
    pub fn difference(&self) -> Option<Difference> {
        self.lock().difference.clone()
    }

    /// Messages and requests that the host sent in the recording and has not sent yet.
    pub fn missing(&self) -> usize {
        self.lock().missing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recorded trace as a transport.
#[derive(Debug)]
pub struct Replay {
    interface: CcidInterface,
    events: VecDeque<Event>,
    report: Report,
    /// When what was last matched happened here, and when in the trace.
    matched: (Instant, Duration),
    /// Sent since the last poll, whose time is not known yet.
    unmatched: bool,
    /// Finds commands that are not the next ones.
    lenient: Option<Lenient>,
    masker: Masker,
    bulk_in: Incoming,
    interrupt: Incoming,
    done: VecDeque<Completion>,
    waker: Option<Waker>,
    gone: bool,
}

/// IN transfers queued, and what the first has received.
#[derive(Debug)]
struct Incoming {
    pipe: Pipe,
    packet: usize,
    queued: VecDeque<usize>,
    received: BytesMut,
    /// Came when nothing was queued, or more than was asked for.
    waiting: VecDeque<(Bytes, bool)>,
}

impl Incoming {
    fn new(pipe: Pipe, packet: usize) -> Self {
        let (queued, waiting) = (VecDeque::new(), VecDeque::new());
        Self { pipe, packet, queued, received: BytesMut::new(), waiting }
    }

    /// Gives what waits to the transfers that are queued. `last` of a chunk: the transfer ends
    /// with it, whatever its length.
    fn run(&mut self, done: &mut VecDeque<Completion>) {
        while let Some(length) = self.queued.front().copied() {
            let Some((chunk, last)) = self.waiting.pop_front() else {
                return;
            };
            let room = length.saturating_sub(self.received.len());
            let (now, later) = chunk.split_at(chunk.len().min(room));
            self.received.extend_from_slice(now);
            if !later.is_empty() {
                self.waiting.push_front((chunk.slice(now.len()..), last));
            }
            let full = self.received.len() == length;
            let short = later.is_empty() && (last || chunk.len() % self.packet.max(1) != 0);
            if full || short {
                self.queued.pop_front();
                let result = Ok(self.received.split().freeze());
                done.push_back(Completion { pipe: self.pipe, result, full });
            }
        }
    }

    fn end(&mut self, error: TransferError, done: &mut VecDeque<Completion>) {
        for _ in self.queued.drain(..) {
            let partial = self.received.split().freeze();
            let keep = error == TransferError::Cancelled && !partial.is_empty();
            let result = if keep { Ok(partial) } else { Err(error) };
            done.push_back(Completion { pipe: self.pipe, result, full: false });
        }
    }
}

impl Replay {
    /// A transport that replays `trace` strictly, and the report on it.
    pub fn new(trace: Trace) -> (Self, Report) {
        Self::with(trace, None)
    }

    /// A transport that replays what another driver did, and the report on it.
    pub fn lenient(mut trace: Trace) -> (Self, Report) {
        trace.events = lenient::whole(trace.events, trace.interface.info.bulk_in_packet);
        Self::with(trace, Some(Lenient::default()))
    }

    fn with(trace: Trace, lenient: Option<Lenient>) -> (Self, Report) {
        let interface = trace.interface;
        let info = &interface.info;
        let masker = Masker::of(info);
        let missing = trace.events.iter().filter(|event| is_hosts(&event.what)).count();
        let report = Report(Arc::new(Mutex::new(Outcome { difference: None, missing })));
        let replay = Self {
            bulk_in: Incoming::new(Pipe::BulkIn, info.bulk_in_packet),
            interrupt: Incoming::new(Pipe::Interrupt, info.interrupt_packet.unwrap_or(8)),
            matched: (Instant::ZERO, trace.events.first().map_or(Duration::ZERO, |e| e.time)),
            unmatched: false,
            lenient,
            masker,
            interface,
            events: trace.events.into(),
            report: report.clone(),
            done: VecDeque::new(),
            waker: None,
            gone: false,
        };
        (replay, report)
    }

    /// The host sends `sent`: the next thing it sent in the recording must be the same.
    fn matches(&mut self, sent: &What) -> Option<What> {
        let masked = self.masked(sent);
        let next = self.events.iter().position(|event| is_hosts(&event.what));
        let event = next.and_then(|next| self.events.remove(next));
        if let Some(event) = event {
            if same(&event.what, sent) || masked.is_some_and(|sent| same(&event.what, &sent)) {
                self.matched.1 = event.time;
                self.unmatched = true;
                self.report.lock().missing -= 1;
                return Some(event.what);
            }
            self.differs(Some(&event), sent);
        } else {
            self.differs(None, sent);
        }
        None
    }

    /// What a recording has of this where PINs are masked.
    fn masked(&mut self, sent: &What) -> Option<What> {
        match sent {
            What::Out(message) => self.masker.message(message).map(|m| What::Out(m.into())),
            What::Control { setup, data, result } => {
                let data = self.masker.request(setup, data)?.into();
                Some(What::Control { setup: *setup, data, result: result.clone() })
            }
            _ => None,
        }
    }

    /// The same for a message where the recording is another driver's; true if it goes on.
    fn finds(&mut self, message: &Bytes) -> bool {
        let Some(lenient) = &mut self.lenient else {
            return self.matches(&What::Out(message.clone())).is_some();
        };
        match lenient.find(message, &mut self.events, &mut self.masker) {
            Found::There { passed, time } => {
                self.matched.1 = time;
                self.unmatched = true;
                self.report.lock().missing -= passed + 1;
            }
            Found::Answered(answer) => self.bulk_in.waiting.push_back((answer, true)),
            Found::Missing => {
                self.differs(None, &What::Out(message.clone()));
                return false;
            }
        }
        true
    }

    fn requests(&mut self, sent: &What) -> Option<What> {
        if self.lenient.is_none() {
            return self.matches(sent);
        }
        let found = lenient::request(sent, &self.events)?;
        self.report.lock().missing -= 1;
        self.events.remove(found).map(|event| event.what)
    }

    fn differs(&mut self, expected: Option<&Event>, sent: &What) {
        let difference = Difference {
            packet: expected.map(|event| event.packet),
            time: expected.map_or(Duration::ZERO, |event| event.time),
            expected: expected.map_or_else(String::new, |event| self.describe(&event.what)),
            sent: self.describe(sent),
        };
        warn!("replay: {difference}");
        self.report.lock().difference.get_or_insert(difference);
        self.gone = true;
        self.bulk_in.end(TransferError::Disconnected, &mut self.done);
        self.interrupt.end(TransferError::Disconnected, &mut self.done);
    }

    /// In a line, without PINs.
    fn describe(&self, what: &What) -> String {
        match what {
            What::Out(bytes) | What::In(bytes) | What::Interrupt(bytes) => {
                match self.interface.info.class.exchange_level() {
                    ExchangeLevel::Character => dissect(bytes).without_exchange_data().to_string(),
                    _ => dissect(bytes).to_string(),
                }
            }
            What::Control { setup, .. } => format!("control request {:02X?}", setup.to_bytes()),
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

    /// When the next thing that the device sends by now is due: none while the host has to send
    /// something first.
    fn due(&self) -> Option<Instant> {
        let event = self.events.get(self.next()?)?;
        Some(self.matched.0 + event.time.saturating_sub(self.matched.1))
    }

    /// The place of what the device sends next.
    fn next(&self) -> Option<usize> {
        match &self.lenient {
            Some(lenient) => lenient.next(&self.events),
            None => (!is_hosts(&self.events.front()?.what)).then_some(0),
        }
    }

    fn deliver(&mut self, now: Instant) {
        while !self.gone && self.due().is_some_and(|due| due <= now) {
            let Some(mut next) = self.next() else { return };
            let is_interrupt = |e: &Event| matches!(e.what, What::Interrupt(_));
            if let (Some(lenient), true) =
                (&self.lenient, self.events.get(next).is_some_and(is_interrupt))
            {
                let (passed, at) = lenient.pass(&mut self.events, next);
                self.report.lock().missing -= passed;
                next = at;
            }
            let Some(event) = self.events.remove(next) else { return };
            match event.what {
                What::In(message) if self.lenient.is_some() => {
                    let rewritten = self.lenient.as_mut().map(|found| found.rewrite(&message));
                    self.bulk_in.waiting.push_back((rewritten.unwrap_or(message), true));
                }
                What::In(bytes) => {
                    // A recording of packets goes on with the next one; one of transfers ends here.
                    let goes_on =
                        matches!(self.events.front(), Some(e) if matches!(e.what, What::In(_)));
                    self.bulk_in.waiting.push_back((bytes, !goes_on));
                }
                What::Interrupt(bytes) => self.interrupt.waiting.push_back((bytes, true)),
                What::Out(_) | What::Control { .. } => {}
            }
        }
        self.bulk_in.run(&mut self.done);
        self.interrupt.run(&mut self.done);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        match self.report.missing() {
            0 => {}
            missing => info!("replay: {missing} of the recording's messages were not sent"),
        }
    }
}

fn is_hosts(what: &What) -> bool {
    matches!(what, What::Out(_) | What::Control { .. })
}

/// The same as far as the host decides it.
fn same(recorded: &What, sent: &What) -> bool {
    match (recorded, sent) {
        (
            What::Control { setup, data, .. },
            What::Control { setup: sent_setup, data: sent_data, .. },
        ) => setup == sent_setup && data == sent_data,
        (recorded, sent) => recorded == sent,
    }
}

impl Transport for Replay {
    fn info(&self) -> &DeviceInfo {
        &self.interface.info
    }

    fn interface(&self) -> Option<&CcidInterface> {
        Some(&self.interface)
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, _timeout: Duration) {
        let sent = What::Control { setup, data, result: Ok(Bytes::new()) };
        let matched = if self.gone { None } else { self.requests(&sent) };
        let result = match matched {
            Some(What::Control { result, .. }) => result,
            None if !self.gone => Err(TransferError::Stall),
            _ => Err(TransferError::Disconnected),
        };
        self.complete(Pipe::Control, result);
    }

    fn submit_out(&mut self, message: Bytes) {
        let matched = !self.gone && self.finds(&message);
        let result = if matched { Ok(Bytes::new()) } else { Err(TransferError::Disconnected) };
        self.complete(Pipe::BulkOut, result);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        if self.gone {
            return self.complete(pipe, Err(TransferError::Disconnected));
        }
        let incoming = match pipe {
            Pipe::Interrupt => &mut self.interrupt,
            _ => &mut self.bulk_in,
        };
        incoming.queued.push_back(length.max(1).next_multiple_of(incoming.packet.max(1)));
        self.wake();
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        if std::mem::take(&mut self.unmatched) {
            self.matched.0 = now;
        }
        self.deliver(now);
        match self.done.pop_front() {
            Some(completion) => Poll::Ready(completion),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        if self.gone { None } else { self.due() }
    }

    fn cancel(&mut self, pipe: Pipe) {
        match pipe {
            Pipe::BulkIn => self.bulk_in.end(TransferError::Cancelled, &mut self.done),
            Pipe::Interrupt => self.interrupt.end(TransferError::Cancelled, &mut self.done),
            // OUT and control transfers are complete as soon as they are submitted.
            Pipe::BulkOut | Pipe::Control => {}
        }
        self.wake();
    }

    fn clear_halt(&mut self, _pipe: Pipe) -> Result<(), TransferError> {
        if self.gone { Err(TransferError::Disconnected) } else { Ok(()) }
    }
}
