//! Getting T=1 back in step with the card after an aborted command, without a reset.
//!
//! Where the host speaks T=1 itself, S(RESYNCH request) brings host and card back to where they
//! were after the reset, and leaves the card's own state alone. The aborted operation ends when
//! the card has answered; if it does not, the card is lost and reset, as with other protocols.

use super::SlotMachine;
use super::abort::{Reason, error_of};
use super::card::Card;
use super::presence::Presence;
use super::restore::Restore;
use super::work::{Effect, Purpose, Work};
use crate::error::{Error, Sent};
use crate::machine::{Machine, T1Exchange};
use crate::operation::{OperationId, Output};
use crate::reader::{Event, Shared};
use crate::t1;
use crate::time::Instant;
use core::time::Duration;
use log::info;

/// How long the card has for all of it. With the Abort sequence before it, a cancelled operation
/// still ends within two seconds.
const RESYNCH_TIME: Duration = Duration::from_millis(800);

/// S(RESYNCH) after an aborted command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resynch {
    /// The aborted operation, until its end is told.
    ended: Option<Ended>,
    /// How the card is brought back if it does not answer.
    restore: Restore,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ended {
    id: OperationId,
    sent: Sent,
    reason: Reason,
}

impl Resynch {
    /// The aborted operation and how it ends, unless that has been told.
    pub(super) fn ended(self) -> Option<(OperationId, Error)> {
        self.ended.map(|ended| (ended.id, error_of(ended.reason, ended.sent)))
    }
}

impl Purpose {
    /// The caller cancels operation `id`: true if this resynchronises after it.
    pub(super) fn cancel_ended(&mut self, id: OperationId) -> bool {
        match self {
            Self::Resynch(Resynch { ended: Some(ended), .. }) if ended.id == id => {
                ended.reason = Reason::Cancelled;
                true
            }
            _ => false,
        }
    }
}

impl SlotMachine {
    /// What an exchange has made of T=1 with the card.
    pub(super) fn keep_t1(&mut self, connection: Option<t1::Connection>) {
        if let (Card::On { t1, .. }, Some(connection)) = (&mut self.card, connection) {
            *t1 = Some(connection);
        }
    }

    /// Resynchronises T=1 after the aborted `work`, which ends with that; false if there is no T=1
    /// of the host's to be resynchronised.
    pub(super) fn resynchronise(
        &mut self,
        work: &Work,
        sent: Sent,
        reason: Reason,
        shared: &mut Shared,
        now: Instant,
    ) -> bool {
        // After a command that was to change the protocol or the power, nothing is known.
        let (Purpose::Operation(id), Effect::None) = (work.purpose, work.effect) else {
            return false;
        };
        let Card::On { protocol, t1: Some(_), .. } = self.card else {
            return false;
        };
        let Ok(machine) = T1Exchange::resynchronise(&self.setting(shared)) else {
            return false;
        };
        let restore = Restore { protocol, probe: false };
        let ended = Some(Ended { id, sent, reason });
        let purpose = Purpose::Resynch(Resynch { ended, restore });
        let limit = now + RESYNCH_TIME;
        self.send(Work::new(purpose, Effect::None, Machine::T1(machine), limit), shared, now);
        true
    }

    /// The resynchronisation has ended, and the slot is idle.
    pub(super) fn resynched(
        &mut self,
        resynch: Resynch,
        result: &Result<Output, Error>,
        shared: &mut Shared,
        now: Instant,
    ) {
        info!("{}: T=1 after an aborted command: {result:?}", self.slot);
        if result.is_ok() && matches!(self.card, Card::On { .. }) {
            self.tell_ended(resynch, shared);
            return;
        }
        self.resynch_failed(resynch, shared);
        if self.presence != Presence::Absent {
            self.restore(resynch.restore, shared, now);
        }
    }

    /// The card has not come back in step: it is lost, and a reset follows.
    pub(super) fn resynch_failed(&mut self, resynch: Resynch, shared: &mut Shared) -> Resynch {
        self.lose_card(true, shared);
        self.tell_ended(resynch, shared);
        Resynch { ended: None, ..resynch }
    }

    fn tell_ended(&self, resynch: Resynch, shared: &mut Shared) {
        if let Some((id, error)) = resynch.ended() {
            shared.event(Event::Completed { id, slot: self.slot, result: Err(error) });
        }
    }
}
