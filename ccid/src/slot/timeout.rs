//! What time does to a slot.

use super::abort::Reason;
use super::card::Card;
use super::work::Purpose;
use super::{SlotMachine, State};
use crate::error::{Error, Sent};
use crate::reader::{Event, Shared};
use crate::time::Instant;
use crate::wire::Seq;
use log::warn;

impl SlotMachine {
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => self.next_poll,
            State::Busy { work, flight } => Some(flight.deadline.min(work.limit)),
            State::Aborting(aborting) => Some(aborting.until),
            State::Waiting { at, .. } => Some(*at),
            State::Draining { until, .. } => Some(*until),
            State::Resync { flight, .. } => Some(flight.deadline),
            State::Lost { .. } => None,
        }
    }

    pub(crate) fn handle_timeout(&mut self, shared: &mut Shared, now: Instant) {
        self.expire_queued(shared, now);
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Busy { work, flight } => {
                warn!("{} was not answered in time", flight.sent(self.slot));
                self.abort(work, flight, Reason::Timeout, shared, now);
            }
            State::Waiting { work, .. } if work.limit <= now => {
                let sent = Sent { message_type: 0, slot: self.slot, seq: Seq(0) };
                let error = Err(Error::Timeout(sent));
                self.finish(work.purpose, work.effect, error, shared, now);
            }
            State::Waiting { work, .. } => self.send(work, shared, now),
            State::Draining { flight, .. } => self.abort_orphan(flight, shared, now),
            State::Aborting(aborting) => self.abort_failed(aborting, shared, now),
            State::Resync { flight, tries, restore } => {
                warn!("{} was not answered in time", flight.sent(self.slot));
                self.resync(tries + 1, restore, shared, now);
            }
            lost @ State::Lost { .. } => self.state = lost,
        }
    }

    pub(super) fn expire_queued(&mut self, shared: &mut Shared, now: Instant) {
        let slot = self.slot;
        self.queue.retain(|queued| {
            let keep = queued.limit > now;
            if !keep {
                let sent = Sent { message_type: 0, slot, seq: Seq(0) };
                let result = Err(Error::Timeout(sent));
                shared.event(Event::Completed { id: queued.id, slot, result });
            }
            keep
        });
    }

    /// The earliest limit of what waits.
    pub(crate) fn queue_deadline(&self) -> Option<Instant> {
        self.queue.iter().map(|queued| queued.limit).min()
    }

    /// Ends everything with `error`; the reader is of no use any more.
    pub(crate) fn fail_all(&mut self, error: &Error, shared: &mut Shared) {
        let running = match core::mem::replace(&mut self.state, State::Idle) {
            State::Busy { work, .. } | State::Waiting { work, .. } => Some((work, error.clone())),
            State::Aborting(aborting) => aborting.into_result(),
            _ => None,
        };
        self.next_poll = None;
        self.card = Card::Off;
        let ended = running.and_then(|(work, error)| match work.purpose {
            Purpose::Operation(id) => Some((id, error)),
            Purpose::Resynch(resynch) => resynch.ended(),
            _ => None,
        });
        let waiting = core::mem::take(&mut self.queue);
        for (id, error) in
            ended.into_iter().chain(waiting.into_iter().map(|queued| (queued.id, error.clone())))
        {
            shared.event(Event::Completed { id, slot: self.slot, result: Err(error) });
        }
    }
}
