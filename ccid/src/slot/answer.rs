//! What the reader's responses make of a slot.

use super::work::{After, Flight, Purpose, Work};
use super::{SlotMachine, State};
use crate::error::{Breach, Error, Sent};
use crate::machine::{Machine, Step};
use crate::operation::Operation;
use crate::reader::Shared;
use crate::time::Instant;
use crate::wire::{
    ClockStatus, Command, CommandStatus, IccStatus, Message, Response, SlotError, Status,
};
use bytes::Bytes;
use core::time::Duration;
use log::{debug, warn};

/// How long to wait before a command is sent again to a slot that the reader calls busy.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// How long a reader may call a slot busy that it owes no answer.
const BUSY_TIME: Duration = Duration::from_secs(8);

impl SlotMachine {
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
            State::Resync { flight, tries, restore } if flight.seq == message.seq => {
                let status = response.as_ref().ok().map(Response::status);
                let aborts = flight.message_type == Command::Abort.message_type();
                match status.and_then(Status::slot_error) {
                    Some(SlotError::CmdAborted) if !aborts => {
                        self.abort_anew(tries, restore, shared, now);
                    }
                    Some(_) if aborts => self.resync(tries + 1, restore, shared, now),
                    _ => self.resynchronised(status, restore, shared, now),
                }
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
            // It is at something that the host does not know of, or waits for the other half of an
            // Abort: no command would fare better.
            Some(error @ (SlotError::CmdSlotBusy | SlotError::CmdAborted))
                if !uses_card && !work.cancelled =>
            {
                let error = Err(Error::Failed { sent, error });
                let restore = self.finish_lost(work, error, shared, now);
                return self.abort_anew(1, restore, shared, now);
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
            Step::Done(Ok(output)) => match work.after(output) {
                After::End(result) => self.end(work, result, shared, now),
                After::Command(command) => self.go_on(work, command, shared, now),
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

    /// Whether a command that was refused as the slot is busy is to be sent again.
    fn wait_while_busy(&self, work: &mut Work, now: Instant) -> bool {
        let since = *work.busy_since.get_or_insert(now);
        let waits = !work.cancelled && now - since < BUSY_TIME;
        if !waits {
            warn!("{}: the reader calls the slot busy and owes no answer", self.slot);
        }
        waits
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
pub(super) fn check<'a>(
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
