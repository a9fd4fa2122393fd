//! An IN pipe on which things go wrong.

use super::{Fault, bend};
use crate::transport::{Completion, Pipe, TransferError};
use bytes::Bytes;
use ccid::Instant;
use std::collections::VecDeque;

/// Transfers that the host has queued, those of them that the device has, and what has come.
#[derive(Debug)]
pub(super) struct Incoming {
    pipe: Pipe,
    /// Lengths of the host's transfers.
    queued: VecDeque<usize>,
    /// Transfers that the inner transport has.
    inside: usize,
    waiting: VecDeque<Waiting>,
}

/// Something for the next of the host's transfers.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    result: Result<Bytes, TransferError>,
    full: bool,
}

impl Incoming {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self { pipe, queued: VecDeque::new(), inside: 0, waiting: VecDeque::new() }
    }

    pub(super) fn pipe(&self) -> Pipe {
        self.pipe
    }

    pub(super) fn queue(&mut self, length: usize) {
        self.queued.push_back(length);
    }

    /// The length of one more transfer that the device is to have: the host has queued more than
    /// the device has and what has come will end.
    pub(super) fn wanted(&mut self) -> Option<usize> {
        let length = *self.queued.get(self.inside + self.waiting.len())?;
        self.inside += 1;
        Some(length)
    }

    /// A transfer inside ended, with something that is lost.
    pub(super) fn lost(&mut self) {
        self.inside = self.inside.saturating_sub(1);
    }

    /// A transfer inside has ended.
    pub(super) fn take(
        &mut self,
        result: Result<Bytes, TransferError>,
        full: bool,
        fault: Option<Fault>,
        now: Instant,
    ) {
        self.inside = self.inside.saturating_sub(1);
        let mut add = |result, full, due| self.waiting.push_back(Waiting { due, result, full });
        let (Some(fault), Ok(data)) = (fault, &result) else {
            return add(result, full, now);
        };
        match fault {
            Fault::Dropped => {}
            Fault::Delayed(delay) => add(result, full, now + delay),
            Fault::Stalled => add(Err(TransferError::Stall), false, now),
            Fault::BusError => add(Err(TransferError::Fault), false, now),
            Fault::Duplicated => {
                add(result.clone(), full, now);
                add(result, full, now);
            }
            Fault::Split => {
                let half = data.len() / 2;
                add(Ok(data.slice(..half)), false, now);
                add(Ok(data.slice(half..)), full, now);
            }
            fault => add(Ok(bend::bytes(fault, data)), full, now),
        }
    }

    /// When something that has come is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        (!self.queued.is_empty()).then_some(first.due)
    }

    /// Ends transfers by what has come and is due.
    pub(super) fn give(&mut self, now: Instant, done: &mut VecDeque<Completion>) {
        while self.due().is_some_and(|due| due <= now) {
            self.queued.pop_front();
            if let Some(Waiting { result, full, .. }) = self.waiting.pop_front() {
                done.push_back(Completion { pipe: self.pipe, result, full });
            }
        }
    }

    /// Ends the transfers that the device does not have: those it has end by themselves. What is
    /// still to come comes to the next ones.
    pub(super) fn cancel(&mut self, done: &mut VecDeque<Completion>) {
        while self.queued.len() > self.inside {
            self.queued.pop_front();
            let result = Err(TransferError::Cancelled);
            done.push_back(Completion { pipe: self.pipe, result, full: false });
        }
    }

    /// Ends everything.
    pub(super) fn end(&mut self, error: TransferError, done: &mut VecDeque<Completion>) {
        self.waiting.clear();
        for _ in self.queued.drain(..) {
            done.push_back(Completion { pipe: self.pipe, result: Err(error), full: false });
        }
    }
}
