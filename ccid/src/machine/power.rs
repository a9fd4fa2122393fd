//! Power-up: IccPowerOff for a cold reset, then IccPowerOn with each voltage in turn.

use super::{POWER_TIME, READER_TIME, Setting, Step, failure, misbehaved};
use crate::Atr;
use crate::error::{Breach, Error, Sent};
use crate::operation::{Output, PowerUp};
use crate::quirk::Flags;
use crate::wire::{Command, PowerSelect, Response, SlotError};
use alloc::vec::Vec;
use core::time::Duration;
use log::{debug, info, warn};

/// Puts a GemPC433 into ISO mode.
const ISO_MODE: &[u8] = &[0x1F, 0x01];

/// What a reader in EMV mode says to a card that is not an EMV card.
const NOT_EMV: SlotError = SlotError::Unknown(0xBB);

/// How a reader powers its cards.
#[derive(Clone, Debug)]
pub(crate) struct PowerPlan {
    /// What is tried, in order.
    order: Vec<PowerSelect>,
    flags: Flags,
}

impl PowerPlan {
    /// A card that has power is given the voltage it has, first.
    pub(crate) fn new(setting: &Setting<'_>) -> Self {
        let first = setting.voltage.unwrap_or(setting.options.first_voltage);
        let order = setting.class.power_selects(first);
        Self { order, flags: setting.behaviour.flags }
    }
}

#[derive(Debug)]
enum Phase {
    Off,
    On,
    IsoMode,
}

#[derive(Debug)]
pub(crate) struct Power {
    phase: Phase,
    /// What is left to try; the last one is next.
    voltages: Vec<PowerSelect>,
    /// The one being tried.
    voltage: PowerSelect,
    /// A refusal may be answered by the switch to ISO mode.
    iso_mode: bool,
    /// The card has been asked for the classes it supports, by its ATR.
    class_known: bool,
}

impl Power {
    pub(crate) fn new(how: PowerUp, plan: &PowerPlan) -> Self {
        let mut voltages: Vec<_> = plan.order.iter().rev().copied().collect();
        let voltage = voltages.pop().unwrap_or(PowerSelect::Automatic);
        let phase = match how {
            PowerUp::Warm if !plan.flags.contains(Flags::OFF_BEFORE_ON) => Phase::On,
            PowerUp::Warm | PowerUp::Cold => Phase::Off,
        };
        let iso_mode = plan.flags.contains(Flags::ISO_MODE);
        Self { phase, voltages, voltage, iso_mode, class_known: false }
    }

    /// The voltage that was tried last.
    pub(crate) fn voltage(&self) -> PowerSelect {
        self.voltage
    }

    pub(super) fn command(&self) -> Command<'_> {
        match self.phase {
            Phase::Off => Command::IccPowerOff,
            Phase::On => Command::IccPowerOn { power_select: self.voltage },
            Phase::IsoMode => Command::Escape { data: ISO_MODE },
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self.phase {
            Phase::Off | Phase::IsoMode => READER_TIME,
            Phase::On => POWER_TIME,
        }
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        match (&self.phase, failure(sent, response), response) {
            (_, Some(Error::NoCard), _) => Step::Done(Err(Error::NoCard)),
            (Phase::Off | Phase::IsoMode, failed, _) => {
                if let Some(error) = failed {
                    // A reader that cannot cut the power may still be able to reset.
                    debug!("before a power-up: {error}");
                }
                self.phase = Phase::On;
                Step::Send
            }
            (Phase::On, None, Response::DataBlock { data: [], .. }) => {
                misbehaved(sent, Breach::NoAtr)
            }
            (Phase::On, None, Response::DataBlock { data, .. }) => {
                let atr = Atr::new(data);
                if atr.as_bytes().len() < data.len() {
                    warn!("{sent}: an ATR of {} bytes cut to {}", data.len(), atr.as_bytes().len());
                }
                self.powered(atr)
            }
            (Phase::On, None, _) => misbehaved(sent, Breach::NoAtr),
            (Phase::On, Some(error), _) => self.refused(error),
        }
    }

    fn refused(&mut self, error: Error) -> Step {
        let not_emv = matches!(error, Error::Failed { error: NOT_EMV, .. });
        if not_emv && core::mem::take(&mut self.iso_mode) {
            info!("{error}: switching the reader to ISO mode");
            self.phase = Phase::IsoMode;
            return Step::Send;
        }
        match self.voltages.pop() {
            Some(next) => {
                debug!("{error}; next voltage: {next:?}");
                self.next(next)
            }
            None => Step::Done(Err(error)),
        }
    }

    /// The card answers. If it says that it does not support the class it is run at, and the reader
    /// can run it at another, that is used (ISO/IEC 7816-3 §6.2.4).
    fn powered(&mut self, atr: Atr) -> Step {
        let classes = atr.parse().ok().and_then(|info| info.class_indicator()).unwrap_or(0);
        let known = core::mem::replace(&mut self.class_known, true);
        let has = |voltage| class_bit(voltage) & classes != 0;
        let automatic = self.voltage == PowerSelect::Automatic;
        if known || automatic || classes & 0b111 == 0 || has(self.voltage) {
            return Step::Done(Ok(Output::Atr(atr)));
        }
        // The one at which the card has answered is what is left if its word is worth nothing.
        let mut rest = alloc::vec![self.voltage];
        rest.extend(self.voltages.iter().copied().filter(|voltage| has(*voltage)));
        match rest.pop() {
            Some(next) if !rest.is_empty() => {
                info!("the card does not support {:?}, but {next:?}", self.voltage);
                self.voltages = rest;
                self.next(next)
            }
            _ => {
                warn!("the card does not support {:?}, and the reader no other", self.voltage);
                Step::Done(Ok(Output::Atr(atr)))
            }
        }
    }

    fn next(&mut self, voltage: PowerSelect) -> Step {
        self.voltage = voltage;
        // The contacts must be without power before they get another voltage.
        self.phase = Phase::Off;
        Step::Send
    }
}

/// The bit of class A, B or C in the class indicator (ISO/IEC 7816-3 §8.3).
const fn class_bit(voltage: PowerSelect) -> u8 {
    match voltage {
        PowerSelect::V5 => 1,
        PowerSelect::V3 => 2,
        PowerSelect::V1_8 => 4,
        _ => 0,
    }
}
