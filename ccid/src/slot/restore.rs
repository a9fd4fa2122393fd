//! Bringing a card back after an aborted command.

use super::SlotMachine;
use super::work::Purpose;
use crate::atr::Protocol;
use crate::error::Error;
use crate::operation::{Operation, Output, PowerUp};
use crate::reader::{Event, Shared};
use crate::time::Instant;
use crate::wire::SlotError;
use bytes::Bytes;
use core::time::Duration;
use log::info;

/// What comes after the power-up that follows an aborted command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Restore {
    /// The protocol that was in use.
    pub(super) protocol: Option<Protocol>,
    /// The aborted command itself was not answered: see whether the next one is.
    pub(super) probe: bool,
}

/// GET RESPONSE, when there is nothing to get: no card does anything about it.
const PROBE: &[u8] = &[0x00, 0xC0, 0x00, 0x00, 0x00];

/// How long the answer may take.
const PROBE_TIME: Duration = Duration::from_secs(1);

impl SlotMachine {
    /// Powers the card up again after an aborted command.
    pub(super) fn restore(&mut self, restore: Restore, shared: &mut Shared, now: Instant) {
        let limit = now + shared.options.total_limit;
        let operation = Operation::PowerOn(PowerUp::Cold);
        self.start(Purpose::Restore(restore), &operation, limit, shared, now);
    }

    pub(super) fn restored(
        &mut self,
        restore: Restore,
        result: Result<Output, Error>,
        shared: &mut Shared,
        now: Instant,
    ) {
        let result = result.and_then(|output| match output {
            Output::Atr(atr) => Ok(atr),
            _ => Err(Error::CardMute),
        });
        info!("{}: card reset after an aborted command: {result:?}", self.slot);
        if let Err(Error::Failed { error: SlotError::CmdSlotBusy, .. }) = result {
            // The aborted command holds the slot, and nothing will end it.
            shared.give_up();
        }
        let powered = result.is_ok();
        shared.event(Event::CardReset { slot: self.slot, result });
        match restore.protocol {
            Some(protocol) if powered => {
                let limit = now + shared.options.total_limit;
                let operation = Operation::SetProtocol(protocol);
                self.start(Purpose::RestoreProtocol(restore), &operation, limit, shared, now);
            }
            None if powered => self.probe(restore, shared, now),
            _ => {}
        }
    }

    /// A reader that does not answer the aborted command itself may not be rid of it: usbd-ccid
    /// then drops the next exchange without an answer. Better this one than the caller's.
    pub(super) fn probe(&mut self, restore: Restore, shared: &mut Shared, now: Instant) {
        if restore.probe {
            let operation = Operation::Exchange(Bytes::from_static(PROBE));
            let purpose = Purpose::Probe(Restore { probe: false, ..restore });
            self.start(purpose, &operation, now + PROBE_TIME, shared, now);
        }
    }
}
