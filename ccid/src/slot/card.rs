//! What is known of the card in a slot: its power, and what is in force with it.

use super::SlotMachine;
use super::work::Effect;
use crate::atr::{Atr, AtrInfo, Protocol};
use crate::error::Error;
use crate::machine::Setting;
use crate::operation::Output;
use crate::parameters::FiDi;
use crate::quirk::correct_card;
use crate::reader::Shared;
use crate::t1;
use crate::wire::{PowerSelect, Slot};
use log::warn;

/// The card's power.
#[derive(Debug)]
pub(crate) enum Card {
    Off,
    On {
        /// The ATR, read; none if it cannot be.
        info: Option<AtrInfo>,
        /// The protocol that was set.
        protocol: Option<Protocol>,
        /// The state of T=1, once there has been an exchange by it.
        t1: Option<t1::Connection>,
        /// What is in force between reader and card.
        link: Link,
    },
}

/// What is in force between reader and card, besides the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// The card has been asked nothing since its power-up.
    pub(super) fresh: bool,
    /// Fi and Di, if known.
    pub(super) fi_di: Option<FiDi>,
    /// bPowerSelect of the power-up, if known.
    pub(super) voltage: Option<PowerSelect>,
}

impl Link {
    /// After a power-up.
    pub(super) const fn new(voltage: Option<PowerSelect>) -> Self {
        Self { fresh: true, fi_di: None, voltage }
    }
}

impl SlotMachine {
    /// What a machine may know when it starts.
    pub(super) fn setting<'a>(&'a self, shared: &'a Shared) -> Setting<'a> {
        let setting = Setting {
            class: &shared.class,
            options: &shared.options,
            behaviour: &shared.behaviour,
            rates: shared.rates(self.slot),
            atr: None,
            powered: false,
            protocol: None,
            settled: None,
            fresh: false,
            fi_di: None,
            voltage: None,
            t1: None,
        };
        match &self.card {
            Card::Off => setting,
            Card::On { info, protocol, t1, link } => {
                let atr = info.as_ref();
                let started_with = atr.and_then(AtrInfo::default_protocol);
                let Link { fresh, fi_di, voltage } = *link;
                let (settled, protocol, t1) = (*protocol, protocol.or(started_with), *t1);
                let powered = true;
                Setting { atr, powered, protocol, settled, fresh, fi_di, voltage, t1, ..setting }
            }
        }
    }

    pub(super) fn powered_up(&mut self, atr: &Atr, voltage: Option<PowerSelect>) {
        let info = read_atr(self.slot, atr);
        self.card = Card::On { info, protocol: None, t1: None, link: Link::new(voltage) };
    }

    pub(super) fn apply(&mut self, effect: Effect, result: &Result<Output, Error>) {
        match (effect, result) {
            (Effect::PowerOn(voltage), Ok(Output::Atr(atr))) => self.powered_up(atr, voltage),
            (Effect::PowerOn(_), _) | (Effect::PowerOff | Effect::HandOver, Ok(_)) => {
                self.card = Card::Off;
            }
            (Effect::Protocol(set, fi_di), Ok(_)) => {
                if let Card::On { protocol, t1, link, .. } = &mut self.card {
                    link.fi_di = fi_di.or(link.fi_di);
                    *protocol = Some(set);
                    // Without a reset in between, T=1 goes on where it was.
                    *t1 = t1.filter(|_| set == Protocol::T1);
                }
            }
            _ => {}
        }
    }
}

fn read_atr(slot: Slot, atr: &Atr) -> Option<AtrInfo> {
    match atr.parse() {
        Ok(mut info) => {
            correct_card(atr, &mut info);
            Some(info)
        }
        Err(error) => {
            warn!("{slot}: ATR {atr}: {error}");
            None
        }
    }
}
