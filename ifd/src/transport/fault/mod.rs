//! A transport on which things go wrong, to order: a wrapper around any other.
//!
//! Whatever carries something is a step: a message sent, a request made, something received over
//! bulk-IN or the interrupt pipe. A [`Plan`] says at which step what goes wrong. What the inner
//! transport gives besides passes as it is.

mod bend;
mod incoming;

use super::descriptors::CcidInterface;
use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use incoming::Incoming;
use log::debug;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What can go wrong with a message, a request or what comes over an IN pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Its last byte is missing.
    Short,
    /// Nothing is left of it but its first bytes, fewer than a header has.
    Stump,
    /// Bytes that do not belong to it follow.
    Long,
    /// It comes in two transfers, the first of which is a short one.
    Split,
    /// It comes twice.
    Duplicated,
    /// It never comes.
    Dropped,
    /// It comes later. What is cancelled meanwhile does not keep it from coming.
    Delayed(Duration),
    /// This bit of it is inverted; counted from the first byte's lowest, and round again from the
    /// last.
    Flipped(usize),
    /// The pipe stalls instead.
    Stalled,
    /// An error on the bus instead.
    BusError,
    /// The device is gone from here on.
    Disconnected,
    /// bSeq is one more than it was.
    WrongSeq,
    /// bSlot is one more than it was.
    WrongSlot,
    /// bMessageType is none that there is.
    WrongType,
    /// dwLength is one more than it was.
    LengthTooLong,
    /// dwLength is one less than it was.
    LengthTooShort,
    /// dwLength is beyond anything.
    LengthBeyondReason,
}

/// At which steps what goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What.
    pub fault: Fault,
    /// The first step, from 0 on.
    pub from: usize,
    /// How many steps.
    pub steps: usize,
}

impl Plan {
    /// `fault` at step `step` alone.
    pub const fn once(fault: Fault, step: usize) -> Self {
        Self { fault, from: step, steps: 1 }
    }

    /// `fault` at step `step` and all that follow.
    pub const fn from(fault: Fault, step: usize) -> Self {
        Self { fault, from: step, steps: usize::MAX }
    }

    const fn at(&self, step: usize) -> Option<Fault> {
        let wrong = step >= self.from && step - self.from < self.steps;
        if wrong { Some(self.fault) } else { None }
    }
}

/// How it goes. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    steps: usize,
    applied: usize,
}

impl Tally {
    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).steps
    }

    /// Steps at which something went wrong: a fault that makes no sense at a step does nothing
    /// there.
    pub fn applied(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).applied
    }

    /// The next step's fault.
    fn step(&self, plan: Plan, makes_sense: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = plan.at(count.steps).filter(|fault| makes_sense(*fault));
        count.steps += 1;
        count.applied += usize::from(fault.is_some());
        fault
    }
}

/// A transport on which things go wrong.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    plan: Plan,
    tally: Tally,
    bulk_in: Incoming,
    interrupt: Incoming,
    /// Messages that the host has sent, as far as they are not done; the inner transport has those
    /// that are sent.
    out: VecDeque<Outgoing>,
    /// The request that is on its way, if any.
    request: Option<Request>,
    done: VecDeque<Completion>,
    waker: Option<Waker>,
    gone: bool,
}

/// A message of the host's.
#[derive(Debug)]
enum Outgoing {
    /// It is with the inner transport; its completion is told, or kept from the host.
    Sent { told: bool },
    /// It is to go out later; the time is known from the next poll on.
    Held { message: Bytes, delay: Duration, due: Option<Instant> },
}

/// A request of the host's.
#[derive(Debug)]
enum Request {
    /// It is with the inner transport, and its answer is to be this much wrong.
    Made(Option<Fault>),
    /// It is to be made, or to end as cancelled, later.
    Held { then: Option<(SetupPacket, Bytes, Duration)>, delay: Duration, due: Option<Instant> },
}

impl<T: Transport> Faulty<T> {
    /// `inner`, with `plan` for what goes wrong on it.
    pub fn new(inner: T, plan: Plan) -> (Self, Tally) {
        let tally = Tally::default();
        let faulty = Self {
            inner,
            plan,
            tally: tally.clone(),
            bulk_in: Incoming::new(Pipe::BulkIn),
            interrupt: Incoming::new(Pipe::Interrupt),
            out: VecDeque::new(),
            request: None,
            done: VecDeque::new(),
            waker: None,
            gone: false,
        };
        (faulty, tally)
    }

    /// The transport inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    fn incoming(&mut self, pipe: Pipe) -> &mut Incoming {
        match pipe {
            Pipe::Interrupt => &mut self.interrupt,
            _ => &mut self.bulk_in,
        }
    }

    fn complete(&mut self, pipe: Pipe, result: Result<Bytes, TransferError>) {
        self.done.push_back(Completion { pipe, result, full: false });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The plug is pulled.
    fn disconnect(&mut self) {
        self.gone = true;
        for incoming in [&mut self.bulk_in, &mut self.interrupt] {
            incoming.end(TransferError::Disconnected, &mut self.done);
        }
        for outgoing in std::mem::take(&mut self.out) {
            if !matches!(outgoing, Outgoing::Sent { told: false }) {
                self.complete(Pipe::BulkOut, Err(TransferError::Disconnected));
            }
        }
        if self.request.take().is_some() {
            self.complete(Pipe::Control, Err(TransferError::Disconnected));
        }
    }

    fn send(&mut self, message: Bytes, told: bool) {
        self.out.push_back(Outgoing::Sent { told });
        self.inner.submit_out(message);
    }

    /// Something has ended inside.
    fn ended(&mut self, completion: Completion, now: Instant) {
        let Completion { pipe, result, full } = completion;
        match pipe {
            Pipe::BulkOut => {
                // Held ones are not inside: the first that was sent it is.
                let first = self.out.iter().position(|o| matches!(o, Outgoing::Sent { .. }));
                let told = match first.and_then(|first| self.out.remove(first)) {
                    Some(Outgoing::Sent { told }) => told,
                    _ => true,
                };
                if told {
                    self.complete(pipe, result);
                }
            }
            Pipe::Control => {
                let fault = match self.request.take() {
                    Some(Request::Made(fault)) => fault,
                    _ => None,
                };
                let result = match fault {
                    Some(fault) => result.map(|data| bend::bytes(fault, &data)),
                    None => result,
                };
                self.complete(pipe, result);
            }
            Pipe::BulkIn | Pipe::Interrupt => self.received(pipe, result, full, now),
        }
    }

    fn received(
        &mut self,
        pipe: Pipe,
        result: Result<Bytes, TransferError>,
        full: bool,
        now: Instant,
    ) {
        let carries = result.as_ref().is_ok_and(|data| !data.is_empty());
        let fault = match carries {
            true => self.tally.step(self.plan, |_| true),
            false => None,
        };
        if let Some(fault) = fault {
            debug!("{pipe}: {fault:?}");
        }
        if fault == Some(Fault::Disconnected) {
            self.incoming(pipe).lost();
            return self.disconnect();
        }
        self.incoming(pipe).take(result, full, fault, now);
    }

    /// What was held up until now goes on.
    fn release(&mut self, now: Instant) {
        if let Some(Request::Held { due: due @ None, delay, .. }) = &mut self.request {
            *due = Some(now + *delay);
        }
        if let Some(Request::Held { due: Some(due), .. }) = self.request {
            if due <= now {
                match self.request.take() {
                    Some(Request::Held { then: Some((setup, data, timeout)), .. }) => {
                        self.request = Some(Request::Made(None));
                        self.inner.submit_control(setup, data, timeout);
                    }
                    _ => self.complete(Pipe::Control, Err(TransferError::Cancelled)),
                }
            }
        }
        for outgoing in &mut self.out {
            let Outgoing::Held { message, delay, due } = outgoing else { continue };
            let due = *due.get_or_insert(now + *delay);
            // Those behind wait for it: a pipe keeps its order.
            if due > now {
                break;
            }
            let message = std::mem::take(message);
            *outgoing = Outgoing::Sent { told: true };
            self.inner.submit_out(message);
        }
    }

    /// Gives IN transfers what has come, and asks the device for more where nothing waits.
    fn listen(&mut self, now: Instant) {
        for incoming in [&mut self.bulk_in, &mut self.interrupt] {
            incoming.give(now, &mut self.done);
            while let Some(length) = incoming.wanted() {
                self.inner.submit_in(incoming.pipe(), length);
            }
        }
    }
}

impl<T: Transport> Transport for Faulty<T> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn interface(&self) -> Option<&CcidInterface> {
        self.inner.interface()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        if self.gone {
            return self.complete(Pipe::Control, Err(TransferError::Disconnected));
        }
        let fault = self.tally.step(self.plan, |fault| bend::suits_request(fault, &setup));
        match fault {
            Some(Fault::Disconnected) => {
                self.complete(Pipe::Control, Err(TransferError::Disconnected));
                self.disconnect();
            }
            Some(Fault::Stalled) => self.complete(Pipe::Control, Err(TransferError::Stall)),
            Some(Fault::BusError) => self.complete(Pipe::Control, Err(TransferError::Fault)),
            Some(Fault::Dropped) => {
                self.request = Some(Request::Held { then: None, delay: timeout, due: None });
            }
            Some(Fault::Delayed(delay)) => {
                let then = (delay < timeout).then_some((setup, data, timeout));
                let delay = delay.min(timeout);
                self.request = Some(Request::Held { then, delay, due: None });
            }
            fault => {
                self.request = Some(Request::Made(fault.filter(|_| setup.is_in())));
                let setup = fault.map_or(setup, |fault| bend::setup(fault, setup));
                self.inner.submit_control(setup, data, timeout);
            }
        }
    }

    fn submit_out(&mut self, message: Bytes) {
        if self.gone {
            return self.complete(Pipe::BulkOut, Err(TransferError::Disconnected));
        }
        let fault = self.tally.step(self.plan, |_| true);
        match fault {
            None => self.send(message, true),
            Some(Fault::Disconnected) => {
                self.complete(Pipe::BulkOut, Err(TransferError::Disconnected));
                self.disconnect();
            }
            Some(Fault::Stalled) => self.complete(Pipe::BulkOut, Err(TransferError::Stall)),
            Some(Fault::BusError) => self.complete(Pipe::BulkOut, Err(TransferError::Fault)),
            Some(Fault::Dropped) => self.complete(Pipe::BulkOut, Ok(Bytes::new())),
            Some(Fault::Delayed(delay)) => {
                self.out.push_back(Outgoing::Held { message, delay, due: None });
            }
            Some(Fault::Split) => {
                let half = message.len() / 2;
                self.send(message.slice(..half), false);
                self.send(message.slice(half..), true);
            }
            Some(Fault::Duplicated) => {
                self.send(message.clone(), false);
                self.send(message, true);
            }
            Some(fault) => self.send(bend::bytes(fault, &message), true),
        }
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        if self.gone {
            return self.complete(pipe, Err(TransferError::Disconnected));
        }
        let incoming = self.incoming(pipe);
        incoming.queue(length);
        if let Some(length) = incoming.wanted() {
            self.inner.submit_in(pipe, length);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                return Poll::Ready(completion);
            }
            if self.gone {
                return Poll::Pending;
            }
            self.release(now);
            self.listen(now);
            if !self.done.is_empty() {
                continue;
            }
            match self.inner.poll(cx, now) {
                Poll::Ready(completion) => self.ended(completion, now),
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        let request = match &self.request {
            Some(Request::Held { due, .. }) => *due,
            _ => None,
        };
        let out = self.out.iter().find_map(|outgoing| match outgoing {
            Outgoing::Held { due, .. } => *due,
            Outgoing::Sent { .. } => None,
        });
        let own = [request, out, self.bulk_in.due(), self.interrupt.due()];
        own.into_iter().flatten().chain(self.inner.poll_deadline()).min()
    }

    fn cancel(&mut self, pipe: Pipe) {
        match pipe {
            Pipe::BulkOut => {
                let held = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Held { .. });
                for _ in self.out.iter().filter(|outgoing| held(outgoing)) {
                    let result = Err(TransferError::Cancelled);
                    self.done.push_back(Completion { pipe, result, full: false });
                }
                self.out.retain(|outgoing| !held(outgoing));
            }
            Pipe::BulkIn | Pipe::Interrupt => {
                let incoming = match pipe {
                    Pipe::Interrupt => &mut self.interrupt,
                    _ => &mut self.bulk_in,
                };
                incoming.cancel(&mut self.done);
            }
            Pipe::Control => {}
        }
        self.inner.cancel(pipe);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        match self.gone {
            true => Err(TransferError::Disconnected),
            false => self.inner.clear_halt(pipe),
        }
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        self.inner.reset()
    }
}

#[cfg(test)]
mod tests;
