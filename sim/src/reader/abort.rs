//! The Abort sequence (CCID 1.1 §5.3.1, §6.1.13), and what readers make of it.

use super::behaviour::PendingAnswer;
use super::commands::{Answer, SLOT_STATUS};
use super::exchange::Chain;
use super::journal::Rule;
use super::slot::AbortStage;
use super::{AbortBehaviour, Reader};
use crate::ControlReply;
use bytes::Bytes;
use ccid::wire::SlotError;
use ccid::{Seq, Slot};

impl AbortBehaviour {
    /// What is done about the pair is not what the specification says.
    const fn ignores_the_pair(self) -> bool {
        matches!(
            self,
            Self::StallsRequest | Self::NotSupported | Self::NotAborted(_) | Self::Ignored
        )
    }

    /// The aborted command has its real answer.
    const fn answers_really(self) -> bool {
        matches!(self, Self::CompletesNormally | Self::LateAnswer(_))
    }

    /// [`PendingAnswer`] holds.
    const fn leaves_the_choice(self) -> bool {
        matches!(
            self,
            Self::Conforming | Self::DropsHeldAbort | Self::NoSlotStatus | Self::Unasked(_)
        )
    }
}

impl Reader {
    /// The class request ABORT.
    pub(super) fn abort_request(&mut self, slot: Slot, seq: Seq) -> ControlReply {
        let accepted = ControlReply::Data(Bytes::new());
        let behaviour = self.config.abort;
        let Some(state) = self.slot(slot) else {
            self.violation(Some((slot, seq)), Rule::UnknownSlot);
            return ControlReply::Stall;
        };
        if behaviour == AbortBehaviour::StallsRequest {
            return ControlReply::Stall;
        }
        if behaviour.ignores_the_pair() {
            return accepted;
        }
        match state.abort {
            AbortStage::Held(held) if held == seq => {
                self.end_abort(slot, seq);
                return accepted;
            }
            stage => {
                state.abort = AbortStage::Requested(seq);
                if let AbortStage::Held(_) = stage {
                    self.violation(Some((slot, seq)), Rule::AbortSeqMismatch);
                }
            }
        }
        // From here on the command fails; one that is to have its real answer goes on.
        if !behaviour.answers_really() {
            self.stop(slot);
            if behaviour.leaves_the_choice()
                && self.config.pending_answer == PendingAnswer::AtRequest
            {
                self.fail_running(slot, SlotError::CmdAborted);
            }
        }
        accepted
    }

    /// PC_to_RDR_Abort.
    pub(super) fn abort_message(&mut self, slot: Slot, seq: Seq) {
        let stage = self.slot(slot).map(|state| state.abort).unwrap_or_default();
        let error = match self.config.abort {
            AbortBehaviour::StallsRequest | AbortBehaviour::NotSupported => {
                SlotError::CmdNotSupported
            }
            AbortBehaviour::NotAborted(code) => SlotError::from(code),
            AbortBehaviour::Ignored => return,
            _ => match stage {
                AbortStage::Requested(requested) if requested == seq => {
                    return self.end_abort(slot, seq);
                }
                AbortStage::Requested(_) => {
                    self.violation(Some((slot, seq)), Rule::AbortSeqMismatch);
                    SlotError::CmdAborted
                }
                AbortStage::None | AbortStage::Held(_) => {
                    let state = self.slot(slot).into_iter();
                    return state.for_each(|state| state.abort = AbortStage::Held(seq));
                }
            },
        };
        let status = self.status_of(slot, error);
        self.answer(slot, seq, SLOT_STATUS, status.into());
    }

    /// Both have come.
    fn end_abort(&mut self, slot: Slot, seq: Seq) {
        let behaviour = self.config.abort;
        if !behaviour.answers_really() {
            self.stop(slot);
        }
        let Some(state) = self.slot(slot) else { return };
        state.abort = AbortStage::None;
        state.chain = Chain::Idle;
        let last = state.running.take().map(|running| {
            let answer = if behaviour.answers_really() {
                self.real_answer(slot, running.work)
            } else {
                self.status_of(slot, SlotError::CmdAborted).into()
            };
            self.message(slot, running.seq, running.answered_by, &answer)
        });
        let at = self.clock;
        let (now, later) = match behaviour {
            AbortBehaviour::Silent => return,
            AbortBehaviour::LateAnswer(delay) | AbortBehaviour::LateFailure(delay) => {
                (None, last.map(|message| (at + delay, slot, message)))
            }
            _ if behaviour.leaves_the_choice()
                && self.config.pending_answer == PendingAnswer::Never =>
            {
                (None, None)
            }
            _ => (last, None),
        };
        if let Some(message) = now {
            self.send(slot, message);
        }
        if behaviour != AbortBehaviour::NoSlotStatus {
            if let Some(state) = self.slot(slot) {
                let (status, clock) = (state.success(), state.clock_status());
                let answer = Answer::new(status, clock.into(), Bytes::new());
                self.answer(slot, seq, SLOT_STATUS, answer);
            }
        }
        self.late.extend(later);
    }
}
