//! What is known of a card's presence: from responses, and from the interrupt pipe.

use super::card::Card;
use super::work::{Effect, Work};
use super::{SlotMachine, State};
use crate::error::Error;
use crate::reader::{Event, Shared};
use crate::time::Instant;
use crate::wire::IccStatus;

/// What is known of a card's presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Unknown,
    Absent,
    Present,
}

impl SlotMachine {
    /// The card has lost its power, or must be taken for it.
    pub(super) fn lose_card(&mut self, reset_follows: bool, shared: &mut Shared) {
        if let Card::On { .. } = self.card {
            self.card = Card::Off;
            shared.event(Event::CardLost { slot: self.slot, reset_follows });
        }
    }

    /// What a response says of the card's presence.
    pub(super) fn see(&mut self, icc: IccStatus, shared: &mut Shared) {
        match icc {
            IccStatus::PresentActive | IccStatus::PresentInactive => {
                self.set_presence(true, shared);
            }
            IccStatus::NotPresent => self.set_presence(false, shared),
            IccStatus::Reserved => {}
        }
    }

    pub(super) fn set_presence(&mut self, present: bool, shared: &mut Shared) {
        let presence = if present { Presence::Present } else { Presence::Absent };
        if self.presence != presence {
            self.presence = presence;
            self.card = Card::Off;
            shared.event(Event::Presence { slot: self.slot, present });
        }
    }

    /// NotifySlotChange spoke of this slot.
    pub(crate) fn handle_slot_change(
        &mut self,
        present: bool,
        changed: bool,
        shared: &mut Shared,
        now: Instant,
    ) {
        let first = !core::mem::replace(&mut self.notified, true);
        if present && changed && !first && self.presence == Presence::Present {
            // Out and in again before we were told.
            self.removed(shared, now);
        }
        if present {
            self.set_presence(true, shared);
        } else {
            self.removed(shared, now);
        }
        if changed && !first {
            // The bits can be older than the last answer; the slot itself has the last word. The
            // first message tells of the time before the slot was asked.
            self.next_poll = Some(now);
        }
    }

    pub(super) fn removed(&mut self, shared: &mut Shared, now: Instant) {
        self.set_presence(false, shared);
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Waiting { work, .. } if ends_with_card(&work) => {
                self.finish(work.purpose, work.effect, Err(Error::NoCard), shared, now);
            }
            State::Busy { work, flight } if ends_with_card(&work) => {
                let until = now + shared.options.removal_grace;
                self.finish(work.purpose, work.effect, Err(Error::NoCard), shared, now);
                self.state = State::Draining { flight, until };
            }
            other => self.state = other,
        }
    }
}

/// Work of no use once the card is gone. Readers were seen that never answer IccPowerOff then.
fn ends_with_card(work: &Work) -> bool {
    work.machine.needs_card() || work.effect == Effect::PowerOff
}
