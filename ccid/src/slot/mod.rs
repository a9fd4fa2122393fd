//! One slot: what is in it, what it is doing, and what waits to be done.
//!
//! At most one command of a slot is on the wire. The state is an enum that holds its data:
//! busy with a command, aborting one, waiting for the late answer of one that is over, waiting
//! until lost transfers are recovered, or getting back in step after that.

mod abort;
mod answer;
mod card;
mod presence;
mod restore;
mod resynch;
mod timeout;
mod work;

use crate::error::{Error, Sent};
use crate::machine::{CardAfter, Machine, READER_TIME};
use crate::operation::{Operation, OperationId, Output};
use crate::quirk::Question;
use crate::reader::{Event, Shared, Transmit};
use crate::time::Instant;
use crate::wire::{Seq, Slot};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use log::{debug, info, warn};

use abort::Aborting;
use card::Card;
pub(crate) use presence::Presence;
use work::{Effect, Flight, Purpose, Work};

#[derive(Debug)]
pub(crate) enum State {
    Idle,
    Busy {
        work: Work,
        flight: Flight,
    },
    Aborting(Aborting),
    /// The command is sent at `at`: the reader said that the slot is busy, or needs a pause.
    Waiting {
        work: Work,
        at: Instant,
    },
    /// The operation is over (the card was taken out); the reader may still answer by `until`.
    Draining {
        flight: Flight,
        until: Instant,
    },
    /// Out of step; waits until the transfers are recovered.
    Lost {
        restore: bool,
    },
    /// GetSlotStatus after a recovery, or the Abort that the reader waits for.
    Resync {
        flight: Flight,
        tries: u8,
        restore: bool,
    },
}

struct Queued {
    id: OperationId,
    operation: Operation,
    limit: Instant,
}

pub(crate) struct SlotMachine {
    slot: Slot,
    presence: Presence,
    card: Card,
    /// Escape commands that come before all else.
    opening: VecDeque<(Question, Bytes)>,
    queue: VecDeque<Queued>,
    state: State,
    /// When presence is looked at next, if it is polled.
    next_poll: Option<Instant>,
    /// The interrupt pipe has spoken of this slot.
    notified: bool,
}

impl SlotMachine {
    pub(crate) fn new(slot: Slot, now: Instant) -> Self {
        Self {
            slot,
            presence: Presence::Unknown,
            card: Card::Off,
            opening: VecDeque::new(),
            queue: VecDeque::new(),
            state: State::Idle,
            // Whether a card is there is asked once in any case.
            next_poll: Some(now),
            notified: false,
        }
    }

    /// These escape commands come before all else.
    pub(crate) fn send_at_opening(&mut self, escapes: Vec<(Question, Bytes)>) {
        self.opening.extend(escapes);
    }

    /// The slot has, or may have, a command on the wire.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle | State::Lost { .. })
    }

    pub(crate) fn presence(&self) -> Presence {
        self.presence
    }

    pub(crate) fn is_powered(&self) -> bool {
        matches!(self.card, Card::On { .. })
    }

    pub(crate) fn enqueue(&mut self, id: OperationId, operation: Operation, limit: Instant) {
        self.queue.push_back(Queued { id, operation, limit });
    }

    /// Presence is to be looked at by `at`.
    pub(crate) fn poll_at(&mut self, at: Instant) {
        self.next_poll = Some(self.next_poll.map_or(at, |earlier| earlier.min(at)));
    }

    /// Starts what waits, if the slot is idle.
    pub(crate) fn start_next(&mut self, shared: &mut Shared, now: Instant) {
        while matches!(self.state, State::Idle) {
            if let Some((question, data)) = self.opening.pop_front() {
                let limit = now + opening_time(question, shared);
                let escape = Operation::Escape(data);
                self.start(Purpose::Opening(question), &escape, limit, shared, now);
            } else if let Some(Queued { id, operation, limit }) = self.queue.pop_front() {
                self.start(Purpose::Operation(id), &operation, limit, shared, now);
            } else if self.next_poll.is_some_and(|at| at <= now) {
                let limit = now + shared.options.total_limit;
                self.next_poll = None;
                self.start(Purpose::Poll, &Operation::Status, limit, shared, now);
            } else {
                return;
            }
        }
    }

    fn start(
        &mut self,
        purpose: Purpose,
        operation: &Operation,
        limit: Instant,
        shared: &mut Shared,
        now: Instant,
    ) {
        let effect = Effect::of(operation);
        if limit <= now {
            let sent = Sent { message_type: 0, slot: self.slot, seq: Seq(0) };
            return self.finish(purpose, effect, Err(Error::Timeout(sent)), shared, now);
        }
        let setting = self.setting(shared);
        let machine = match operation {
            Operation::ExchangeComplete(command) => Machine::completing(command, &setting)
                .map(|(machine, completion)| (machine, Some(completion)))
                .map_err(Err),
            other => Machine::new(other, &setting).map(|machine| (machine, None)),
        };
        match machine {
            Ok((machine, completion)) => {
                match (&effect, &mut self.card) {
                    (Effect::PowerOn(_), card) => *card = Card::Off,
                    // Whatever becomes of it, another PPS needs a reset.
                    (_, Card::On { link, .. })
                        if machine.is_exchange() || matches!(effect, Effect::Protocol(..)) =>
                    {
                        link.fresh = false;
                    }
                    _ => {}
                }
                let work = Work { completion, ..Work::new(purpose, effect, machine, limit) };
                match operation {
                    Operation::Secure { entry, .. } if !entry.pause().is_zero() => {
                        let at = (now + entry.pause()).min(limit);
                        self.state = State::Waiting { work, at };
                    }
                    _ => self.send(work, shared, now),
                }
            }
            Err(result) => self.finish(purpose, effect, result, shared, now),
        }
    }

    /// Sends the machine's command.
    fn send(&mut self, mut work: Work, shared: &mut Shared, now: Instant) {
        let seq = shared.next_seq(None);
        let command = work.machine.command();
        let behaviour = &shared.behaviour;
        let base = work.machine.timeout().max(behaviour.reader_time);
        let base = if work.machine.is_exchange() { base + behaviour.extra_time } else { base };
        let flight = Flight {
            seq,
            message_type: command.message_type(),
            expected: command.answered_by(),
            base,
            deadline: (now + base).min(work.limit),
        };
        shared.transmit(Transmit::BulkOut(command.emit(self.slot, seq)));
        work.commands = work.commands.saturating_add(1);
        self.keep_t1(work.machine.t1());
        self.state = State::Busy { work, flight };
    }

    /// A machine has ended, or is ended between two commands.
    fn end(
        &mut self,
        work: Work,
        result: Result<Output, Error>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let Work { purpose, effect, machine, .. } = work;
        let effect = self.outcome(effect, machine, shared);
        self.finish(purpose, effect, result, shared, now);
    }

    /// The effect with what the machine has found out; what it has done to the card is done.
    fn outcome(&mut self, effect: Effect, machine: Machine, shared: &mut Shared) -> Effect {
        match (effect, machine) {
            (Effect::PowerOn(_), Machine::Power(machine)) => {
                Effect::PowerOn(Some(machine.voltage()))
            }
            (Effect::Protocol(protocol, _), Machine::Negotiation(machine)) => {
                let (card, fi_di) = machine.into_outcome();
                match card {
                    CardAfter::Same => {}
                    CardAfter::Off => self.lose_card(false, shared),
                    CardAfter::Reset(atr, voltage) => self.powered_up(&atr, Some(voltage)),
                }
                Effect::Protocol(protocol, fi_di)
            }
            (effect, _) => effect,
        }
    }

    /// An operation has ended and the slot is idle.
    fn finish(
        &mut self,
        purpose: Purpose,
        effect: Effect,
        result: Result<Output, Error>,
        shared: &mut Shared,
        now: Instant,
    ) {
        self.apply(effect, &result);
        match purpose {
            Purpose::Operation(id) => {
                shared.event(Event::Completed { id, slot: self.slot, result });
            }
            Purpose::Poll => {
                if let Err(error) = result {
                    debug!("{}: presence not known: {error}", self.slot);
                }
                self.next_poll = shared.options.poll.map(|period| now + period);
            }
            Purpose::Restore(restore) => self.restored(restore, result, shared, now),
            Purpose::Resynch(resynch) => self.resynched(resynch, &result, shared, now),
            Purpose::RestoreProtocol(restore) => {
                if let Err(error) = result {
                    warn!("{}: protocol not set again: {error}", self.slot);
                }
                self.probe(restore, shared, now);
            }
            Purpose::Opening(question) => {
                info!("{}: escape at opening: {result:?}", self.slot);
                if let Ok(Output::Data(data)) = result {
                    shared.behaviour.learn(question, &data);
                }
                if self.opening.is_empty() {
                    shared.event(Event::Opened);
                }
            }
            Purpose::Probe(_) => debug!("{}: after an aborted command: {result:?}", self.slot),
        }
    }
}

/// How long an escape command at opening may take. What a reader is merely asked must not keep it
/// from its work, if it does not know the question and does not say so.
fn opening_time(question: Question, shared: &Shared) -> Duration {
    match question {
        Question::None => shared.options.total_limit,
        Question::Features | Question::FirmwareName => {
            READER_TIME.max(shared.behaviour.reader_time)
        }
    }
}
