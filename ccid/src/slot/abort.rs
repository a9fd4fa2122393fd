//! Ending a command on the wire: the Abort sequence (CCID 1.1 §5.3.1, §6.1.13), and what is done
//! when the reader does not follow it.
//!
//! ABORT goes out on the control pipe; when that request has ended, well or not,
//! PC_to_RDR_Abort follows with the same slot and sequence number. The sequence is over when the
//! reader answers the latter with success, or when the aborted command itself has been answered
//! and the reader has refused the Abort. If neither happens in time, the slot is out of step: the
//! transfers are recovered, GetSlotStatus finds the common footing, the card is reset.
//!
//! What the card has seen of an aborted command is unknown. Where the host speaks T=1 the card is
//! resynchronised (`resynch`), else it is reset.

use super::answer::check;
use super::card::Card;
use super::presence::Presence;
use super::restore::Restore;
use super::work::{After, Flight, Purpose, Work};
use super::{SlotMachine, State};
use crate::error::Error;
use crate::machine::{READER_TIME, Step};
use crate::operation::{OperationId, Output};
use crate::reader::{Event, Shared, Transmit};
use crate::time::Instant;
use crate::wire::{
    ClassRequest, Command, CommandStatus, Response, Seq, SlotError, Status, WireError,
};
use core::time::Duration;
use log::{debug, info, warn};

/// How long the ABORT request may take before PC_to_RDR_Abort goes out all the same.
const CONTROL_TIME: Duration = Duration::from_millis(300);

/// How often GetSlotStatus is tried after a recovery.
const RESYNC_TRIES: u8 = 3;

/// Why a command is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Cancelled,
    Timeout,
    /// The reader did it unasked.
    Unasked,
}

/// How far the Abort sequence is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The control request is on its way.
    Request,
    /// PC_to_RDR_Abort has been sent.
    Message,
    /// The reader has answered that it will not.
    Refused,
}

/// An Abort sequence.
#[derive(Debug)]
pub(crate) struct Aborting {
    /// What is aborted, or nothing if its end was told before.
    work: Option<(Work, Reason)>,
    /// The aborted command, until it has been answered.
    flight: Option<Flight>,
    /// The command was answered in full before the Abort took hold.
    answer: Option<Result<Output, Error>>,
    seq: Seq,
    phase: Phase,
    pub(super) until: Instant,
    sent: crate::error::Sent,
}

impl Aborting {
    /// The work and how it ends if nothing more is heard.
    pub(super) fn into_result(self) -> Option<(Work, Error)> {
        let sent = self.sent;
        self.work.map(|(work, reason)| (work, error_of(reason, sent)))
    }
}

pub(super) fn error_of(reason: Reason, sent: crate::error::Sent) -> Error {
    match reason {
        Reason::Cancelled => Error::Cancelled,
        Reason::Timeout => Error::Timeout(sent),
        Reason::Unasked => Error::Failed { sent, error: SlotError::CmdAborted },
    }
}

impl SlotMachine {
    /// Cancels an operation of this slot; false if it is not, or no longer, here.
    pub(crate) fn cancel(&mut self, id: OperationId, shared: &mut Shared, now: Instant) -> bool {
        if let Some(at) = self.queue.iter().position(|queued| queued.id == id) {
            self.queue.remove(at);
            let result = Err(Error::Cancelled);
            shared.event(Event::Completed { id, slot: self.slot, result });
            return true;
        }
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Busy { work, flight } if work.purpose == Purpose::Operation(id) => {
                self.abort(work, flight, Reason::Cancelled, shared, now);
                true
            }
            State::Waiting { work, .. } if work.purpose == Purpose::Operation(id) => {
                self.finish(work.purpose, work.effect, Err(Error::Cancelled), shared, now);
                true
            }
            State::Aborting(mut aborting) => {
                let found = match &mut aborting.work {
                    Some((work, reason)) if work.purpose == Purpose::Operation(id) => {
                        *reason = Reason::Cancelled;
                        true
                    }
                    _ => false,
                };
                self.state = State::Aborting(aborting);
                found
            }
            mut other => {
                let found = match &mut other {
                    State::Busy { work, .. } | State::Waiting { work, .. } => {
                        work.purpose.cancel_ended(id)
                    }
                    _ => false,
                };
                self.state = other;
                found
            }
        }
    }

    /// Ends a command that is on the wire.
    pub(super) fn abort(
        &mut self,
        mut work: Work,
        flight: Flight,
        reason: Reason,
        shared: &mut Shared,
        now: Instant,
    ) {
        if let Purpose::Resynch(resynch) = work.purpose {
            // What it was to save is lost; nobody is to wait for the rest.
            work.purpose = Purpose::Resynch(self.resynch_failed(resynch, shared));
        }
        // The reader has seen nothing of it; a chain that has begun must be aborted.
        if work.commands == 1 && shared.withdraw(self.slot, flight.seq) {
            self.keep_t1(work.machine.t1_before());
            let error = error_of(reason, flight.sent(self.slot));
            return self.finish(work.purpose, work.effect, Err(error), shared, now);
        }
        match (is_abortable(flight.message_type), reason) {
            (true, _) => {
                let sent = flight.sent(self.slot);
                self.start_abort(Some((work, reason)), flight, sent, shared, now);
            }
            // It waits for neither card nor user: its answer comes by itself, or not at all.
            (false, Reason::Cancelled) => {
                work.cancelled = true;
                self.state = State::Busy { work, flight };
            }
            (false, Reason::Timeout | Reason::Unasked) => {
                let error = Error::Timeout(flight.sent(self.slot));
                self.lose_step(Some((work, Err(error))), shared, now);
            }
        }
    }

    /// A command whose operation is over has not been answered in time.
    pub(super) fn abort_orphan(&mut self, flight: Flight, shared: &mut Shared, now: Instant) {
        if !is_abortable(flight.message_type) {
            return self.lose_step(None, shared, now);
        }
        let sent = flight.sent(self.slot);
        self.start_abort(None, flight, sent, shared, now);
    }

    fn start_abort(
        &mut self,
        work: Option<(Work, Reason)>,
        flight: Flight,
        sent: crate::error::Sent,
        shared: &mut Shared,
        now: Instant,
    ) {
        let seq = shared.next_seq(Some(flight.seq));
        info!("aborting {sent} with {seq}");
        let request = ClassRequest::Abort { slot: self.slot, seq };
        shared.transmit(Transmit::Control { request, timeout: CONTROL_TIME });
        let until = now + shared.options.abort_time;
        let (flight, phase) = (Some(flight), Phase::Request);
        self.state =
            State::Aborting(Aborting { work, flight, answer: None, seq, phase, until, sent });
    }

    /// The control request for this slot has ended.
    pub(crate) fn abort_requested(&mut self, seq: Seq, shared: &mut Shared) {
        match &mut self.state {
            State::Aborting(aborting)
                if aborting.seq == seq && aborting.phase == Phase::Request =>
            {
                aborting.phase = Phase::Message;
                shared.transmit(Transmit::BulkOut(Command::Abort.emit(self.slot, seq)));
            }
            State::Resync { flight, .. } if flight.seq == seq => {
                shared.transmit(Transmit::BulkOut(Command::Abort.emit(self.slot, seq)));
            }
            _ => debug!("{}: ABORT {seq} ended late", self.slot),
        }
    }

    pub(super) fn while_aborting(
        &mut self,
        mut aborting: Aborting,
        seq: Seq,
        response: Result<Response<'_>, WireError>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let status = response.as_ref().ok().map(Response::status);
        if let Some(status) = status {
            self.see(status.icc, shared);
        }
        let extends = status.is_some_and(|s| s.command == CommandStatus::TimeExtension);
        if seq == aborting.seq && aborting.phase == Phase::Message && !extends {
            match (status.map(|s| s.command), &response) {
                (Some(CommandStatus::Success), Ok(Response::SlotStatus { .. })) => {
                    return self.aborted(aborting, shared, now);
                }
                _ => {
                    debug!("{}: the reader does not abort: {response:?}", self.slot);
                    aborting.phase = Phase::Refused;
                }
            }
        } else if aborting.flight.as_ref().is_some_and(|flight| flight.seq == seq) && !extends {
            if let Some(flight) = aborting.flight.take() {
                aborting.answer = answer_of(&mut aborting, &flight, self.slot, response);
                self.keep_t1(aborting.work.as_ref().and_then(|(work, _)| work.machine.t1()));
            }
        } else if !extends {
            debug!("{}: {seq} is no answer to wait for", self.slot);
        }
        if aborting.phase == Phase::Refused && aborting.flight.is_none() {
            return self.aborted(aborting, shared, now);
        }
        self.state = State::Aborting(aborting);
    }

    /// The slot is free again.
    fn aborted(&mut self, aborting: Aborting, shared: &mut Shared, now: Instant) {
        let Aborting { work, answer, sent, flight, .. } = aborting;
        info!("{sent} is over: {}", if answer.is_some() { "answered" } else { "aborted" });
        let Some((work, reason)) = work else {
            return;
        };
        if let Some(result) = answer {
            return self.finish(work.purpose, work.effect, result, shared, now);
        }
        if self.resynchronise(&work, sent, reason, shared, now) {
            return;
        }
        let exchanges = matches!(sent.message_type, 0x69 | 0x6F);
        let restore = self.card_was_used(&work, flight.is_some() && exchanges, shared);
        self.finish(work.purpose, work.effect, Err(error_of(reason, sent)), shared, now);
        if let Some(restore) = restore {
            self.restore(restore, shared, now);
        }
    }

    /// The reader says of itself that it aborted a command.
    pub(super) fn aborted_unasked(
        &mut self,
        work: Work,
        sent: crate::error::Sent,
        shared: &mut Shared,
        now: Instant,
    ) {
        if self.resynchronise(&work, sent, Reason::Unasked, shared, now) {
            return;
        }
        let error = error_of(Reason::Unasked, sent);
        let restore = self.card_was_used(&work, false, shared);
        self.finish(work.purpose, work.effect, Err(error), shared, now);
        if let Some(restore) = restore {
            self.restore(restore, shared, now);
        }
    }

    /// How to bring the card back if it is in an unknown state after the work; it is lost to
    /// whoever used it.
    fn card_was_used(&mut self, work: &Work, probe: bool, shared: &mut Shared) -> Option<Restore> {
        match (&work.purpose, &self.card) {
            (Purpose::Operation(_), Card::On { protocol, .. }) => {
                let restore = Restore { protocol: *protocol, probe };
                self.lose_card(true, shared);
                Some(restore)
            }
            (Purpose::Probe(restore), Card::On { .. }) => Some(*restore),
            // A card that could not be powered up again is not tried for ever.
            _ => None,
        }
    }

    /// The Abort sequence did not end in time.
    pub(super) fn abort_failed(&mut self, aborting: Aborting, shared: &mut Shared, now: Instant) {
        warn!("{} could not be aborted: getting back in step", aborting.sent);
        let Aborting { work, answer, sent, .. } = aborting;
        let ended = work
            .map(|(work, reason)| (work, answer.unwrap_or_else(|| Err(error_of(reason, sent)))));
        self.lose_step(ended, shared, now);
    }

    /// Host and reader disagree on what is on the wire: the work ends, the transfers are to be
    /// recovered.
    pub(crate) fn lose_step(
        &mut self,
        ended: Option<(Work, Result<Output, Error>)>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let restore =
            ended.is_some_and(|(work, result)| self.finish_lost(work, result, shared, now));
        self.state = State::Lost { restore };
        shared.request_recovery();
    }

    /// Ends work whose reader is out of step; true if the card is to be brought back.
    pub(super) fn finish_lost(
        &mut self,
        work: Work,
        result: Result<Output, Error>,
        shared: &mut Shared,
        now: Instant,
    ) -> bool {
        // The protocol is not kept: after so much trouble the user connects anew.
        let restore = result.is_err() && self.card_was_used(&work, false, shared).is_some();
        if let Purpose::Resynch(resynch) = work.purpose {
            self.resynch_failed(resynch, shared);
            return true;
        }
        self.finish(work.purpose, work.effect, result, shared, now);
        restore
    }

    /// A transfer failed: an answer may have been lost.
    pub(crate) fn transfer_failed(&mut self, shared: &mut Shared, now: Instant) {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Busy { work, .. } => {
                self.lose_step(Some((work, Err(Error::Transfer))), shared, now);
            }
            State::Aborting(aborting) => self.abort_failed(aborting, shared, now),
            State::Draining { .. } => self.lose_step(None, shared, now),
            State::Resync { tries, restore, .. } => {
                // Not again at once: the pipe may be broken for good.
                if tries >= RESYNC_TRIES {
                    return shared.give_up();
                }
                self.state = State::Lost { restore };
                shared.count_resync(tries);
                shared.request_recovery();
            }
            other => self.state = other,
        }
    }

    /// The transfers are recovered.
    pub(crate) fn recovered(&mut self, tries: u8, shared: &mut Shared, now: Instant) {
        if let State::Lost { restore } = self.state {
            self.resync(tries + 1, restore, shared, now);
        }
    }

    pub(super) fn resync(&mut self, tries: u8, restore: bool, shared: &mut Shared, now: Instant) {
        if tries > RESYNC_TRIES {
            return shared.give_up();
        }
        let seq = shared.next_seq(None);
        let command = Command::GetSlotStatus;
        shared.transmit(Transmit::BulkOut(command.emit(self.slot, seq)));
        let flight = Flight {
            seq,
            message_type: command.message_type(),
            expected: command.answered_by(),
            base: READER_TIME,
            deadline: now + shared.options.abort_time,
        };
        self.state = State::Resync { flight, tries, restore };
    }

    /// A command was refused though the slot owes nothing: the reader is at something that the host
    /// does not know of, or fails everything until the other half of an Abort has come. Both halves
    /// go out anew.
    pub(super) fn abort_anew(
        &mut self,
        tries: u8,
        restore: bool,
        shared: &mut Shared,
        now: Instant,
    ) {
        let seq = shared.next_seq(None);
        info!("{}: not free: aborting whatever it does with {seq}", self.slot);
        let request = ClassRequest::Abort { slot: self.slot, seq };
        shared.transmit(Transmit::Control { request, timeout: CONTROL_TIME });
        let flight = Flight {
            seq,
            message_type: Command::Abort.message_type(),
            expected: Command::Abort.answered_by(),
            base: READER_TIME,
            deadline: now + shared.options.abort_time,
        };
        self.state = State::Resync { flight, tries, restore };
    }

    pub(super) fn resynchronised(
        &mut self,
        status: Option<Status>,
        restore: bool,
        shared: &mut Shared,
        now: Instant,
    ) {
        info!("{}: back in step", self.slot);
        if let Some(status) = status {
            self.see(status.icc, shared);
        }
        if restore && self.presence != Presence::Absent {
            self.restore(Restore { protocol: None, probe: false }, shared, now);
        }
    }
}

/// How the aborted command's own answer ends its operation, if it does: with the answer, if that
/// is complete.
fn answer_of(
    aborting: &mut Aborting,
    flight: &Flight,
    slot: crate::wire::Slot,
    response: Result<Response<'_>, WireError>,
) -> Option<Result<Output, Error>> {
    let (work, reason) = aborting.work.as_mut()?;
    let sent = flight.sent(slot);
    let response = check(sent, flight.expected, response).ok()?;
    if response.status().slot_error() == Some(SlotError::CmdAborted) {
        return None;
    }
    match work.machine.answer(sent, &response) {
        Step::Done(Ok(output)) => match work.after(output) {
            After::End(result) => Some(result),
            // The rest of it is not fetched any more; the card is as after any answer.
            After::Command(_) => Some(Err(error_of(*reason, sent))),
        },
        // A failure after the Abort has gone out is the Abort's doing as far as anyone can tell,
        // except that the card is gone.
        Step::Done(Err(Error::NoCard)) => Some(Err(Error::NoCard)),
        Step::Done(Err(_)) | Step::Send => None,
    }
}

/// Commands that wait for the card or the user and can be aborted.
const fn is_abortable(message_type: u8) -> bool {
    // IccPowerOn, Secure, Escape, XfrBlock, Mechanical.
    matches!(message_type, 0x62 | 0x69 | 0x6B | 0x6F | 0x71)
}
