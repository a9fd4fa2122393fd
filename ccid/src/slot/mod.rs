//! One slot: what is in it, what it is doing, and what waits to be done.
//!
//! At most one command of a slot is on the wire. The state is an enum that holds its data:
//! busy with a command, aborting one, waiting for the late answer of one that is over, waiting
//! until lost transfers are recovered, or getting back in step after that.

mod abort;
mod presence;
mod restore;
mod resynch;
mod timeout;

use crate::atr::{Atr, AtrInfo, Protocol};
use crate::completion::{Completion, Next};
use crate::error::{Breach, Error, Sent};
use crate::machine::{CardAfter, Machine, Setting, Step};
use crate::operation::{Operation, OperationId, Output};
use crate::parameters::FiDi;
use crate::quirk::{Question, correct_card};
use crate::reader::{Event, Shared, Transmit};
use crate::t1;
use crate::time::Instant;
use crate::wire::{
    ClockStatus, CommandStatus, IccStatus, MechanicalFunction, Message, PowerSelect, Response, Seq,
    Slot, SlotError, Status,
};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use log::{debug, info, warn};

use abort::Aborting;
use restore::Restore;
use resynch::Resynch;

/// What is known of a card's presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Unknown,
    Absent,
    Present,
}

/// The card's power.
#[derive(Debug)]
pub(crate) enum Card {
    Off,
    On {
        /// The ATR, read; none if it cannot be.
        info: Option<AtrInfo>,
        /// The protocol that was set.
        protocol: Option<Protocol>,
        /// The state of T=1, once there has been an exchange by it.
        t1: Option<t1::Connection>,
        /// What is in force between reader and card.
        link: Link,
    },
}

/// What is in force between reader and card, besides the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// The card has been asked nothing since its power-up.
    fresh: bool,
    /// Fi and Di, if known.
    fi_di: Option<FiDi>,
    /// bPowerSelect of the power-up, if known.
    voltage: Option<PowerSelect>,
}

impl Link {
    /// After a power-up.
    const fn new(voltage: Option<PowerSelect>) -> Self {
        Self { fresh: true, fi_di: None, voltage }
    }
}

/// What success or failure of an operation means for the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    None,
    /// With the voltage that the card was given, once known.
    PowerOn(Option<PowerSelect>),
    PowerOff,
    /// The reader gives the card out, or keeps it.
    HandOver,
    /// With Fi and Di agreed on, once known.
    Protocol(Protocol, Option<FiDi>),
}

impl Effect {
    fn of(operation: &Operation) -> Self {
        match operation {
            Operation::PowerOn(_) => Self::PowerOn(None),
            Operation::PowerOff => Self::PowerOff,
            Operation::Mechanical(MechanicalFunction::Eject | MechanicalFunction::Capture) => {
                Self::HandOver
            }
            Operation::SetProtocol(protocol) => Self::Protocol(*protocol, None),
            _ => Self::None,
        }
    }
}

/// On whose behalf a machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// The caller's.
    Operation(OperationId),
    /// Brings the card back after an aborted command.
    Restore(Restore),
    /// Sets the protocol again after that.
    RestoreProtocol(Restore),
    /// Gets T=1 back in step with the card after an aborted command.
    Resynch(Resynch),
    /// An exchange that tells whether the reader has let go of the aborted command.
    Probe(Restore),
    /// Looks whether a card is there.
    Poll,
    /// An escape command that the reader gets when it is opened.
    Opening(Question),
}

/// How long to wait before a command is sent again to a slot that the reader calls busy.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// How long a reader may call a slot busy that it owes no answer.
const BUSY_TIME: Duration = Duration::from_secs(8);

/// A machine at work.
#[derive(Debug)]
pub(crate) struct Work {
    purpose: Purpose,
    effect: Effect,
    machine: Machine,
    /// What follows from the response, if that is not left to the caller.
    completion: Option<Completion>,
    /// It ends by then, whatever the reader asks for.
    limit: Instant,
    /// To end as cancelled before its next command.
    cancelled: bool,
    /// Commands sent so far.
    commands: u32,
    /// The reader has said since then that the slot is busy.
    busy_since: Option<Instant>,
}

impl Work {
    fn new(purpose: Purpose, effect: Effect, machine: Machine, limit: Instant) -> Self {
        Self {
            purpose,
            effect,
            machine,
            completion: None,
            limit,
            cancelled: false,
            commands: 0,
            busy_since: None,
        }
    }

    /// What a response makes of the work: its end, or another command.
    fn completed(&mut self, output: Output) -> Result<Output, Bytes> {
        match (&mut self.completion, output) {
            (Some(completion), Output::Data(response)) => match completion.answered(&response) {
                Next::Send(command) => Err(command),
                Next::Done(response) => Ok(Output::Data(response)),
            },
            (_, output) => Ok(output),
        }
    }
}

/// A command on the wire.
#[derive(Debug)]
pub(crate) struct Flight {
    seq: Seq,
    message_type: u8,
    expected: u8,
    base: Duration,
    deadline: Instant,
}

impl Flight {
    fn sent(&self, slot: Slot) -> Sent {
        Sent { message_type: self.message_type, slot, seq: self.seq }
    }
}

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
    /// GetSlotStatus after a recovery.
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
                let limit = now + shared.options.total_limit;
                self.start(
                    Purpose::Opening(question),
                    &Operation::Escape(data),
                    limit,
                    shared,
                    now,
                );
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

    /// What a machine may know when it starts.
    fn setting<'a>(&'a self, shared: &'a Shared) -> Setting<'a> {
        let setting = Setting {
            class: &shared.class,
            options: &shared.options,
            behaviour: &shared.behaviour,
            rates: shared.rates(self.slot),
            atr: None,
            powered: false,
            protocol: None,
            settled: None,
            fresh: false,
            fi_di: None,
            voltage: None,
            t1: None,
        };
        match &self.card {
            Card::Off => setting,
            Card::On { info, protocol, t1, link } => {
                let atr = info.as_ref();
                let started_with = atr.and_then(AtrInfo::default_protocol);
                let Link { fresh, fi_di, voltage } = *link;
                let (settled, protocol, t1) = (*protocol, protocol.or(started_with), *t1);
                let powered = true;
                Setting { atr, powered, protocol, settled, fresh, fi_di, voltage, t1, ..setting }
            }
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

    /// A response for this slot.
    pub(crate) fn handle_response(
        &mut self,
        message: &Message<'_>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let response = read(message);
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Busy { work, flight } if flight.seq == message.seq => {
                self.answered(work, flight, response, shared, now);
            }
            State::Aborting(aborting) => {
                self.while_aborting(aborting, message.seq, response, shared, now);
            }
            State::Draining { flight, .. } if flight.seq == message.seq => {
                let extends = response
                    .as_ref()
                    .is_ok_and(|r| r.status().command == CommandStatus::TimeExtension);
                if extends {
                    let until = now + shared.options.removal_grace;
                    self.state = State::Draining { flight, until };
                }
            }
            State::Resync { flight, restore, .. } if flight.seq == message.seq => {
                self.resynchronised(response.as_ref().ok(), restore, shared, now);
            }
            other => {
                self.state = other;
                shared.stale(message);
            }
        }
    }

    fn answered(
        &mut self,
        mut work: Work,
        mut flight: Flight,
        response: Result<Response<'_>, crate::wire::WireError>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let sent = flight.sent(self.slot);
        let response = match check(sent, flight.expected, response) {
            Ok(response) => response,
            Err(error) => {
                warn!("{error}");
                return self.end(work, Err(error), shared, now);
            }
        };
        let status = response.status();
        if status.command == CommandStatus::TimeExtension {
            let time = flight.base * u32::from(status.error.max(1));
            debug!("{sent}: time extension x{}, {time:?}", status.error);
            flight.deadline = (now + time).min(work.limit);
            self.state = State::Busy { work, flight };
            return;
        }
        self.see(status.icc, shared);
        let uses_card = work.machine.needs_card() && !work.machine.is_power_up();
        match status.slot_error() {
            Some(SlotError::CmdSlotBusy) if self.wait_while_busy(&mut work, now) => {
                let at = (now + BUSY_PAUSE).min(work.limit);
                self.state = State::Waiting { work, at };
                return;
            }
            Some(SlotError::CmdAborted) if uses_card => {
                // Not by us; what the card has seen of it is as unknown.
                return self.aborted_unasked(work, sent, shared, now);
            }
            // A negotiation deals with its card itself.
            Some(_)
                if uses_card
                    && status.icc == IccStatus::PresentInactive
                    && !matches!(work.machine, Machine::Negotiation(_)) =>
            {
                self.lose_card(matches!(work.purpose, Purpose::Resynch(_)), shared);
            }
            _ => {}
        }
        let step = work.machine.answer(sent, &response);
        self.keep_t1(work.machine.t1());
        match step {
            Step::Send if work.cancelled => self.end(work, Err(Error::Cancelled), shared, now),
            Step::Send => self.send(work, shared, now),
            Step::Done(Ok(output)) => match work.completed(output) {
                Ok(output) => self.end(work, Ok(output), shared, now),
                Err(command) => self.go_on(work, command, shared, now),
            },
            Step::Done(error) => self.end(work, error, shared, now),
        }
    }

    /// The operation goes on with another command to the card.
    fn go_on(&mut self, mut work: Work, command: Bytes, shared: &mut Shared, now: Instant) {
        match Machine::new(&Operation::Exchange(command), &self.setting(shared)) {
            Ok(machine) => {
                work.machine = machine;
                work.busy_since = None;
                self.send(work, shared, now);
            }
            Err(result) => self.end(work, result, shared, now),
        }
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

    fn powered_up(&mut self, atr: &Atr, voltage: Option<PowerSelect>) {
        let info = read_atr(self.slot, atr);
        self.card = Card::On { info, protocol: None, t1: None, link: Link::new(voltage) };
    }

    /// Whether a command that was refused as the slot is busy is to be sent again.
    fn wait_while_busy(&self, work: &mut Work, now: Instant) -> bool {
        let since = *work.busy_since.get_or_insert(now);
        let waits = !work.cancelled && now - since < BUSY_TIME;
        if !waits {
            warn!("{}: the reader calls the slot busy and owes no answer", self.slot);
        }
        waits
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

    fn apply(&mut self, effect: Effect, result: &Result<Output, Error>) {
        match (effect, result) {
            (Effect::PowerOn(voltage), Ok(Output::Atr(atr))) => self.powered_up(atr, voltage),
            (Effect::PowerOn(_), _) | (Effect::PowerOff | Effect::HandOver, Ok(_)) => {
                self.card = Card::Off;
            }
            (Effect::Protocol(set, fi_di), Ok(_)) => {
                if let Card::On { protocol, t1, link, .. } = &mut self.card {
                    link.fi_di = fi_di.or(link.fi_di);
                    *protocol = Some(set);
                    // Without a reset in between, T=1 goes on where it was.
                    *t1 = t1.filter(|_| set == Protocol::T1);
                }
            }
            _ => {}
        }
    }
}

/// The response that `message` is. A failure of a type that is none (usbd-ccid 0.5.0 sends 6Ch)
/// counts as RDR_to_PC_SlotStatus.
fn read<'a>(message: &Message<'a>) -> Result<Response<'a>, crate::wire::WireError> {
    let [status, error, _] = message.specific;
    let status = Status::from_bytes(status, error);
    match Response::parse(message) {
        Err(crate::wire::WireError::UnknownType(_)) if status.slot_error().is_some() => {
            Ok(Response::SlotStatus { status, clock_status: ClockStatus::Running })
        }
        other => other,
    }
}

/// The response if it may answer a command that expects type `expected`.
fn check<'a>(
    sent: Sent,
    expected: u8,
    response: Result<Response<'a>, crate::wire::WireError>,
) -> Result<Response<'a>, Error> {
    let misbehaved = |breach| Error::Misbehaved { sent, breach };
    let response = response.map_err(|error| misbehaved(Breach::Malformed(error)))?;
    match response.status().command {
        CommandStatus::Reserved => Err(misbehaved(Breach::ReservedStatus)),
        CommandStatus::Success if response.message_type() != expected => {
            let got = response.message_type();
            Err(misbehaved(Breach::UnexpectedType { got, expected }))
        }
        _ => Ok(response),
    }
}

fn read_atr(slot: Slot, atr: &Atr) -> Option<AtrInfo> {
    match atr.parse() {
        Ok(mut info) => {
            correct_card(atr, &mut info);
            Some(info)
        }
        Err(error) => {
            warn!("{slot}: ATR {atr}: {error}");
            None
        }
    }
}
