//! PC_to_RDR messages as they come: whether they may, and what the host did wrong.

use super::commands::{DW_LENGTH, Outcome, SLOT_STATUS, bad_field};
use super::journal::{Event, Malformed, Rule};
use super::slot::{AbortStage, Running, SlotState};
use super::{AbortBehaviour, Reader};
use bytes::Bytes;
use ccid::wire::{Command, IccStatus, Message, SlotError, Status};
use ccid::{Seq, Slot};

impl Reader {
    /// A message longer than dwMaxCCIDMessageLength: its header is believed, dwLength is wrong.
    pub(super) fn receive_too_long(&mut self, start: Bytes) {
        self.journal.note(self.clock, None, Event::Command(start.clone()));
        if let [message_type, _, _, _, _, slot, seq, ..] = *start {
            let (slot, seq) = (Slot(slot), Seq(seq));
            self.violation(Some((slot, seq)), Rule::MessageTooLong);
            self.last_seq = Some((seq, false));
            let icc = self.slot(slot).map_or(IccStatus::NotPresent, |state| state.icc_status());
            let status = Status::failed(icc, bad_field(DW_LENGTH));
            self.answer(slot, seq, answered_by(message_type), status.into());
        }
    }

    pub(super) fn receive(&mut self, bytes: Bytes) {
        let Ok(message) = Message::parse(&bytes) else { return };
        let (slot, seq) = (message.slot, message.seq);
        self.journal.note(self.clock, Some(slot), Event::Command(bytes.clone()));
        self.check_seq(&message);
        if has_reserved_bytes(&message) {
            self.violation(Some((slot, seq)), Rule::ReservedBytes);
        }
        let parsed = Command::parse(&message);
        if parsed == Ok(Command::Abort) && self.slot(slot).is_some() {
            return self.abort_message(slot, seq);
        }
        let refused = match (self.refusal(slot), parsed) {
            (None, Ok(command)) => {
                if !message.data.is_empty() && !has_data(&command) {
                    self.violation(Some((slot, seq)), Rule::UnexpectedData);
                }
                return self.begin(slot, seq, answered_by(message.message_type), &command);
            }
            (Some(refused), _) => refused,
            (None, Err(error)) => match Malformed::from(error) {
                malformed @ Malformed::Type(_) => {
                    (SlotError::CmdNotSupported, Rule::Malformed(malformed))
                }
                malformed => (bad_field(DW_LENGTH), Rule::Malformed(malformed)),
            },
        };
        let (error, rule) = refused;
        self.violation(Some((slot, seq)), rule);
        let status = self.status_of(slot, error);
        self.answer(slot, seq, answered_by(message.message_type), status.into());
    }

    /// Why a slot takes no command now, and the host's mistake in sending one.
    fn refusal(&mut self, slot: Slot) -> Option<(SlotError, Rule)> {
        let forgets = self.config.abort == AbortBehaviour::DropsHeldAbort;
        let Some(state) = self.slot(slot) else {
            return Some((SlotError::BadSlot, Rule::UnknownSlot));
        };
        match state.abort {
            AbortStage::Held(_) if forgets => state.abort = AbortStage::None,
            AbortStage::None => {}
            _ => return Some((SlotError::CmdAborted, Rule::CommandWhileAborting)),
        }
        if state.running.is_some() {
            return Some((SlotError::CmdSlotBusy, Rule::SlotBusy));
        }
        let busy = self.slots.iter().filter(|slot| slot.running.is_some()).count();
        let full = busy >= self.config.class.busy_slots();
        full.then_some((SlotError::CmdSlotBusy, Rule::TooManyBusySlots))
    }

    fn begin(&mut self, slot: Slot, seq: Seq, answered_by: u8, command: &Command<'_>) {
        match self.execute(slot, seq, command) {
            Outcome::Answer(answer) => self.answer(slot, seq, answered_by, answer),
            Outcome::Running(work) => {
                let since = self.clock;
                let extension = self.config.busy_extension.map(|(period, _)| since + period);
                let running = Running { seq, answered_by, since, extension, work };
                if let Some(state) = self.slot(slot) {
                    state.running = Some(running);
                }
            }
        }
    }

    fn check_seq(&mut self, message: &Message<'_>) {
        let Message { slot, seq, message_type, .. } = *message;
        let who = Some((slot, seq));
        let is_abort = message_type == Command::Abort.message_type();
        match self.last_seq.replace((seq, is_abort)) {
            Some((last, true)) if last == seq => self.violation(who, Rule::SeqOfAbortReused),
            // An Abort with the number of the command before it breaks a rule of its own.
            Some((last, false)) if last == seq && !is_abort => {
                self.violation(who, Rule::SeqRepeated);
            }
            _ => {}
        }
        let in_use = |state: &SlotState| state.running.as_ref().is_some_and(|r| r.seq == seq);
        if is_abort {
            if self.slots.iter().any(in_use) {
                self.violation(who, Rule::AbortWithSeqOfCommand);
            }
        } else if self.slots.iter().any(in_use) {
            self.violation(who, Rule::SeqInUse);
        }
    }
}

/// bMessageType of the answer to a command of this type.
fn answered_by(message_type: u8) -> u8 {
    match message_type {
        0x62 | 0x69 | 0x6F => 0x80,
        0x61 | 0x6C | 0x6D => 0x82,
        0x6B => 0x83,
        0x73 => 0x84,
        _ => SLOT_STATUS,
    }
}

/// Which of the three bytes at offset 7 are reserved, by type, and whether one is not zero.
fn has_reserved_bytes(message: &Message<'_>) -> bool {
    let [b7, b8, b9] = message.specific;
    match message.message_type {
        0x61 | 0x62 | 0x6E | 0x71 => b8 != 0 || b9 != 0,
        0x63 | 0x65 | 0x6B | 0x6C | 0x6D | 0x72 | 0x73 => b7 != 0 || b8 != 0 || b9 != 0,
        _ => false,
    }
}

fn has_data(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::XfrBlock { .. }
            | Command::Secure { .. }
            | Command::Escape { .. }
            | Command::SetParameters { .. }
            | Command::SetDataRateAndClockFrequency { .. }
    )
}
