//! Power-up: IccPowerOff for a cold reset, then IccPowerOn with each voltage in turn.

use super::{POWER_TIME, READER_TIME, Step, failure, misbehaved};
use crate::Atr;
use crate::descriptor::{ClassDescriptor, Features, Voltages};
use crate::error::{Breach, Error, Sent};
use crate::operation::{Output, PowerUp};
use crate::wire::{Command, PowerSelect, Response};
use alloc::vec::Vec;
use core::time::Duration;
use log::{debug, warn};

#[derive(Debug)]
enum Phase {
    Off,
    On,
}

#[derive(Debug)]
pub(crate) struct Power {
    phase: Phase,
    /// What is left to try; the last one is next.
    voltages: Vec<PowerSelect>,
    /// The one being tried.
    voltage: PowerSelect,
}

impl Power {
    pub(crate) fn new(how: PowerUp, class: &ClassDescriptor) -> Self {
        let mut voltages = voltages(class);
        let voltage = voltages.pop().unwrap_or(PowerSelect::Automatic);
        let phase = match how {
            PowerUp::Cold => Phase::Off,
            PowerUp::Warm => Phase::On,
        };
        Self { phase, voltages, voltage }
    }

    pub(super) fn command(&self) -> Command<'_> {
        match self.phase {
            Phase::Off => Command::IccPowerOff,
            Phase::On => Command::IccPowerOn { power_select: self.voltage },
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self.phase {
            Phase::Off => READER_TIME,
            Phase::On => POWER_TIME,
        }
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        let failed = failure(sent, response);
        match (&self.phase, failed, response) {
            (_, Some(Error::NoCard), _) => Step::Done(Err(Error::NoCard)),
            (Phase::Off, failed, _) => {
                if let Some(error) = failed {
                    // A reader that cannot cut the power may still be able to reset.
                    debug!("before a cold reset: {error}");
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
                Step::Done(Ok(Output::Atr(atr)))
            }
            (Phase::On, None, _) => misbehaved(sent, Breach::NoAtr),
            (Phase::On, Some(error), _) => match self.voltages.pop() {
                Some(next) => {
                    debug!("{error}; next voltage: {next:?}");
                    self.voltage = next;
                    // The contacts must be without power before they get another voltage.
                    self.phase = Phase::Off;
                    Step::Send
                }
                None => Step::Done(Err(error)),
            },
        }
    }
}

/// The voltages to try, the first one last.
fn voltages(class: &ClassDescriptor) -> Vec<PowerSelect> {
    if class.features.intersects(Features::AUTO_VOLTAGE | Features::AUTO_ACTIVATION) {
        return alloc::vec![PowerSelect::Automatic];
    }
    let supported: Vec<_> = [
        (Voltages::V1_8, PowerSelect::V1_8),
        (Voltages::V3, PowerSelect::V3),
        (Voltages::V5, PowerSelect::V5),
    ]
    .into_iter()
    .filter_map(|(bit, select)| class.voltage_support.contains(bit).then_some(select))
    .collect();
    if supported.is_empty() {
        warn!("bVoltageSupport names no voltage: the reader is left to choose");
        return alloc::vec![PowerSelect::Automatic];
    }
    supported
}
