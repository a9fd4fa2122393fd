//! Commands that take their time: what they wait for, and how they end.

use super::behaviour::FailureMessage;
use super::commands::{Answer, Outcome, SLOT_STATUS};
use super::exchange::Task;
use super::slot::{CardWork, Running, SlotState, Wait, Work, periods};
use super::t0::Step;
use super::{AbortBehaviour, Reader};
use bytes::Bytes;
use ccid::wire::{CommandStatus, IccStatus, Message, SlotError, Status};
use ccid::{Instant, Seq, Slot};

/// bMessageType of no RDR_to_PC message; it is PC_to_RDR_GetParameters.
const FOREIGN: u8 = 0x6C;

/// So many steps a command may take that is hurried to its end.
const MOST_STEPS: usize = 1_000;

impl Reader {
    pub(super) fn slot(&mut self, slot: Slot) -> Option<&mut SlotState> {
        self.slots.get_mut(usize::from(slot.0))
    }

    /// When something happens in a slot by itself.
    pub(super) fn slot_due(&self, state: &SlotState) -> Option<Instant> {
        let running = state.running.as_ref()?;
        let unasked = self.unasked_after(running);
        [running.work.deadline(), running.extension, unasked].into_iter().flatten().min()
    }

    /// When the reader aborts a command of its own accord.
    fn unasked_after(&self, running: &Running) -> Option<Instant> {
        match self.config.abort {
            AbortBehaviour::Unasked(after) => Some(running.since + after),
            _ => None,
        }
    }

    /// Does what is due in a slot.
    pub(super) fn fire_slot(&mut self, slot: Slot) {
        let (now, horizon) = (self.clock, self.horizon);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let state = self.slots.get(usize::from(slot.0));
        let Some(running) = state.and_then(|state| state.running.as_ref()) else { return };
        let unasked = self.unasked_after(running);
        if due(running.work.deadline()) {
            self.fire_work(slot);
        } else if due(unasked) {
            self.stop(slot);
            self.fail_running(slot, SlotError::CmdAborted);
        } else if let Some((period, multiplier)) = self.config.busy_extension {
            if let Some(running) = self.slot(slot).and_then(|state| state.running.as_mut()) {
                running.extension = Some(periods(now, period, horizon).1);
            }
            self.send_extension(slot, multiplier);
        }
    }

    fn fire_work(&mut self, slot: Slot) {
        let (now, horizon) = (self.clock, self.horizon);
        let running = self.slot(slot).and_then(|state| state.running.as_mut());
        let Some(Running { seq, work, .. }) = running else { return };
        let seq = *seq;
        match work {
            Work::Card(card) => match card.wait {
                Wait::Mute(_) => self.fail_running(slot, SlotError::IccMute),
                Wait::Extension { multiplier, .. } => {
                    card.wait = card.wait.after_extension(now, horizon);
                    self.send_extension(slot, multiplier);
                }
                Wait::Answer(_) | Wait::Forever => {
                    let work = std::mem::replace(work, Work::Stopped);
                    let outcome = self.step(slot, work);
                    self.goes_on(slot, seq, outcome);
                }
            },
            Work::Pin(_) => self.pin_timed_out(slot),
            Work::Escape(..) => {
                let work = std::mem::replace(work, Work::Stopped);
                let outcome = self.step(slot, work);
                self.goes_on(slot, seq, outcome);
            }
            Work::Stopped => {}
        }
    }

    /// The card in `slot` answers after all, now: for one that reacts with [`Pace::Never`] or
    /// [`Pace::Mute`] and whose answer comes from elsewhere. False: the reader does not wait for it.
    ///
    /// [`Pace::Never`]: crate::card::Pace::Never
    /// [`Pace::Mute`]: crate::card::Pace::Mute
    pub fn card_answers(&mut self, slot: Slot, response: impl Into<Bytes>) -> bool {
        let now = self.clock;
        let running = self.slot(slot).and_then(|state| state.running.as_mut());
        let Some(Running { work: Work::Card(card), .. }) = running else { return false };
        if !matches!(card.wait, Wait::Mute(_) | Wait::Forever) {
            return false;
        }
        (card.wait, card.response) = (Wait::Answer(now), response.into());
        true
    }

    /// What follows when that which was waited for has come.
    fn step(&mut self, slot: Slot, work: Work) -> Outcome {
        match work {
            Work::Card(CardWork { task, response, .. }) => match task {
                Task::PowerOn => self.powered_on(slot, response),
                Task::Exchange => Outcome::Answer(self.exchanged(slot, response)),
                Task::Block(arrival) => Outcome::Answer(self.block_came(slot, response, arrival)),
                Task::Characters(reading) => self.characters_came(slot, &response, reading),
                Task::T0(mut apdu) => match apdu.answer(&response) {
                    Step::Send(tpdu) => self.ask_card(slot, &tpdu, Task::T0(apdu)),
                    Step::Done(response) => Outcome::Answer(self.exchanged(slot, response.into())),
                },
            },
            Work::Escape(_, data) => {
                let icc = self.slot(slot).map_or(IccStatus::NotPresent, |state| state.icc_status());
                Outcome::Answer(Answer::new(Status::success(icc), 0, data))
            }
            Work::Pin(_) | Work::Stopped => self.status_of(slot, SlotError::CmdAborted).into(),
        }
    }

    /// What a running command leads to next.
    pub(super) fn goes_on(&mut self, slot: Slot, seq: Seq, outcome: Outcome) {
        match outcome {
            Outcome::Answer(answer) => self.answer_running(slot, answer),
            Outcome::Running(work) => {
                let running = self.slot(slot).and_then(|state| state.running.as_mut());
                if let Some(running) = running.filter(|running| running.seq == seq) {
                    running.work = work;
                }
            }
        }
    }

    /// The answer that a command would have had in the end, at once.
    pub(super) fn real_answer(&mut self, slot: Slot, mut work: Work) -> Answer {
        for _ in 0..MOST_STEPS {
            match self.step(slot, work) {
                Outcome::Answer(answer) => return answer,
                Outcome::Running(next) => work = next,
            }
        }
        self.status_of(slot, SlotError::CmdAborted).into()
    }

    /// Asks for more time, unless the host has not even fetched what is there: a reader has one
    /// buffer.
    fn send_extension(&mut self, slot: Slot, multiplier: u8) {
        let Some(state) = self.slots.get(usize::from(slot.0)) else { return };
        let Some(running) = state.running.as_ref().filter(|_| self.outlet.is_empty()) else {
            return;
        };
        let command = CommandStatus::TimeExtension;
        let status = Status { icc: state.icc_status(), command, error: multiplier };
        let message = self.message(slot, running.seq, running.answered_by, &status.into());
        self.send(slot, message);
    }

    /// Stops the work on a command, which stays unanswered.
    pub(super) fn stop(&mut self, slot: Slot) {
        let Some(state) = self.slot(slot) else { return };
        let Some(running) = &mut state.running else { return };
        running.extension = None;
        if let Work::Card(card) = std::mem::replace(&mut running.work, Work::Stopped) {
            if let Some(inserted) = state.card() {
                inserted.interrupted(card.pace);
            }
        }
    }

    /// Ends the running command by a failure.
    pub(super) fn fail_running(&mut self, slot: Slot, error: SlotError) {
        let status = self.status_of(slot, error);
        self.answer_running(slot, status.into());
    }

    /// Ends the running command by an answer.
    pub(super) fn answer_running(&mut self, slot: Slot, answer: Answer) {
        let running = self.slot(slot).and_then(|state| state.running.take());
        if let Some(Running { seq, answered_by, .. }) = running {
            self.answer(slot, seq, answered_by, answer);
        }
    }

    pub(super) fn answer(&mut self, slot: Slot, seq: Seq, answered_by: u8, answer: Answer) {
        let message = self.message(slot, seq, answered_by, &answer);
        self.send(slot, message);
    }

    /// The message that is an answer.
    pub(super) fn message(&self, slot: Slot, seq: Seq, answered_by: u8, answer: &Answer) -> Bytes {
        let failed = answer.status.command == CommandStatus::Failed;
        let message_type = match self.config.failure_message {
            FailureMessage::SlotStatus if failed => SLOT_STATUS,
            FailureMessage::Foreign if failed => FOREIGN,
            _ => answered_by,
        };
        let [status, error] = answer.status.to_bytes();
        let specific = [status, error, answer.specific];
        Message { message_type, slot, seq, specific, data: &answer.data }.emit()
    }

    /// A failure, with the slot's card as it is.
    pub(super) fn status_of(&self, slot: Slot, error: SlotError) -> Status {
        match self.slots.get(usize::from(slot.0)) {
            Some(state) => state.failed(error),
            None => Status::failed(IccStatus::NotPresent, error),
        }
    }
}
