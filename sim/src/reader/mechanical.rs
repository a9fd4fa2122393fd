//! What a reader does with a card by itself: PC_to_RDR_Mechanical (CCID 1.1 §6.1.12).
//!
//! An ejected card lies in the reader's mouth, where the user can take it or the reader accept it
//! again. A captured one is in the reader's box for good. A locked one cannot be pulled out; what
//! the reader itself does with it unlocks it.

use super::Reader;
use super::commands::{FIRST_SPECIFIC, Outcome, bad_field};
use super::journal::Event;
use super::slot::Contents;
use crate::Card;
use ccid::Slot;
use ccid::descriptor::Mechanical;
use ccid::wire::{MechanicalFunction, SlotError};

impl Reader {
    pub(super) fn mechanical(&mut self, slot: Slot, function: MechanicalFunction) -> Outcome {
        let needed = match function {
            MechanicalFunction::Accept => Mechanical::ACCEPT,
            MechanicalFunction::Eject => Mechanical::EJECT,
            MechanicalFunction::Capture => Mechanical::CAPTURE,
            MechanicalFunction::Lock | MechanicalFunction::Unlock => Mechanical::LOCK,
            MechanicalFunction::Unknown(_) => {
                return self.status_of(slot, bad_field(FIRST_SPECIFIC)).into();
            }
        };
        if !self.config.class.mechanical.contains(needed) {
            return self.status_of(slot, SlotError::CmdNotSupported).into();
        }
        let there = match function {
            MechanicalFunction::Accept => self.accept(slot),
            MechanicalFunction::Eject => {
                let card = self.release(slot);
                card.is_some_and(|card| {
                    self.slot(slot).is_some_and(|state| state.mouth.replace(card).is_none())
                })
            }
            MechanicalFunction::Capture => self.release(slot).is_some(),
            _ => self.slot(slot).is_some_and(|state| {
                let there = state.is_present();
                state.settings.locked = there && function == MechanicalFunction::Lock;
                there
            }),
        };
        if there {
            self.slot_status(slot)
        } else {
            // There is no card to do it with.
            self.status_of(slot, SlotError::IccMute).into()
        }
    }

    /// Draws the card in that lies in the mouth; true if a card is there now.
    fn accept(&mut self, slot: Slot) -> bool {
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else { return false };
        if let (Some(card), false) = (state.mouth.take(), state.is_present()) {
            state.contents = Contents::Inactive(card);
            state.changed = true;
            self.journal.note(self.clock, Some(slot), Event::Inserted);
        }
        self.has_card(slot)
    }

    /// Lets go of the card, locked or not.
    fn release(&mut self, slot: Slot) -> Option<Box<dyn Card>> {
        self.slot(slot)?.settings.locked = false;
        self.remove(slot)
    }

    /// Takes the card that the reader has ejected.
    pub fn take_ejected(&mut self, slot: Slot) -> Option<Box<dyn Card>> {
        self.slot(slot)?.mouth.take()
    }
}
