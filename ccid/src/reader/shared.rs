//! What the slots of one reader share: what is known of it, its sequence numbers, what goes over the
//! pipes.

use super::{Event, Options, Transmit};
use crate::descriptor::{ClassDescriptor, ExchangeLevel};
use crate::quirk::Behaviour;
use crate::wire::{Message, Seq, Slot, dissect};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use log::{debug, warn};

/// What the slots share.
pub(crate) struct Shared {
    pub(crate) class: ClassDescriptor,
    pub(crate) options: Options,
    pub(crate) behaviour: Behaviour,
    /// The data rates that the reader has told of, in bit/s; empty: all up to the greatest.
    pub(super) data_rates: Vec<u32>,
    pub(super) seq: Seq,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
    pub(super) recovery: Recovery,
    pub(super) resync_tries: u8,
    /// Slots whose last T=1 I-block is followed by another.
    pub(super) chained: Vec<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovery {
    None,
    Requested,
    /// The reader is given up.
    Dead,
}

impl Shared {
    /// A sequence number other than the last one and `avoid`.
    pub(crate) fn next_seq(&mut self, avoid: Option<Seq>) -> Seq {
        let mut seq = self.seq;
        if Some(seq) == avoid {
            seq = seq.next();
        }
        self.seq = seq.next();
        seq
    }

    /// The data rates of `slot` in bit/s; empty: all up to the greatest.
    pub(crate) fn rates(&self, slot: Slot) -> &[u32] {
        match &self.behaviour.slot_rates {
            Some(rates) if slot.0 > 0 => rates,
            _ => &self.data_rates,
        }
    }

    pub(crate) fn transmit(&mut self, transmit: Transmit) {
        if let Transmit::BulkOut(message) = &transmit {
            // A PIN that begins in one block goes on in the next, which does not look like one.
            let hidden = match self.class.exchange_level() {
                ExchangeLevel::Character => true,
                ExchangeLevel::Tpdu => self.goes_on(message),
                _ => false,
            };
            match hidden {
                true => debug!("-> {}", dissect(message).without_exchange_data()),
                false => debug!("-> {}", dissect(message)),
            }
        }
        self.transmits.push_back(transmit);
    }

    /// Whether it is a T=1 I-block that goes on with a chain.
    fn goes_on(&mut self, message: &[u8]) -> bool {
        let Ok(message) = Message::parse(message) else { return false };
        let [_, pcb, length, ..] = *message.data else { return false };
        // Prologue and check code, of one byte or two.
        let around = message.data.len().checked_sub(usize::from(length));
        if pcb & 0x80 != 0 || !matches!(around, Some(4 | 5)) {
            return false;
        }
        let goes_on = self.chained.contains(&message.slot);
        self.chained.retain(|slot| *slot != message.slot);
        if pcb & 0x20 != 0 {
            self.chained.push(message.slot);
        }
        goes_on
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Takes a message back that has not been handed out; false if it has.
    pub(crate) fn withdraw(&mut self, slot: Slot, seq: Seq) -> bool {
        let position = self.transmits.iter().position(|transmit| match transmit {
            Transmit::BulkOut(message) => {
                Message::parse(message).is_ok_and(|m| m.slot == slot && m.seq == seq)
            }
            _ => false,
        });
        position.and_then(|at| self.transmits.remove(at)).is_some()
    }

    pub(crate) fn stale(&self, message: &Message<'_>) {
        warn!("answer that nothing waits for, dropped: {}", dissect(&message.emit()));
    }

    pub(crate) fn request_recovery(&mut self) {
        if self.recovery == Recovery::None {
            self.recovery = Recovery::Requested;
            self.transmits.push_back(Transmit::Recover);
        }
    }

    pub(crate) fn count_resync(&mut self, tries: u8) {
        self.resync_tries = self.resync_tries.max(tries);
    }

    pub(crate) fn give_up(&mut self) {
        self.recovery = Recovery::Dead;
    }
}
