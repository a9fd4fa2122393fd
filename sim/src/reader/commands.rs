//! The commands that are no exchange, PIN entry or Abort (CCID 1.1 §6.1).

use super::Reader;
use super::exchange::{Chain, Task};
use super::journal::Rule;
use super::line::Line;
use super::parameters::Parameters;
use super::slot::{Activated, CardWork, Contents, SlotState, Work};
use crate::card::atr::AtrInfo;
use crate::card::{Card, Pace, Protocol, Reset};
use bytes::Bytes;
use ccid::descriptor::{Features, ReaderProtocols, Voltages};
use ccid::wire::{ClockCommand, ClockStatus, Command, IccStatus, PowerSelect, SlotError, Status};
use ccid::{Seq, Slot};
use std::time::Duration;

/// An answer without slot, sequence number and type.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    /// The byte behind bError.
    pub(super) specific: u8,
    pub(super) data: Bytes,
}

impl Answer {
    pub(super) const fn new(status: Status, specific: u8, data: Bytes) -> Self {
        Self { status, specific, data }
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::new(status, 0, Bytes::new())
    }
}

/// What a command leads to.
pub(super) enum Outcome {
    Answer(Answer),
    Running(Work),
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::Answer(status.into())
    }
}

/// bError that names the offset of a bad field.
pub(super) fn bad_field(offset: u8) -> SlotError {
    SlotError::from(offset)
}

/// Offset of dwLength.
pub(super) const DW_LENGTH: u8 = 1;
/// Offset of bPowerSelect, bProtocolNum, bClockCommand, bFunction.
pub(super) const FIRST_SPECIFIC: u8 = 7;
/// Offset of the data.
const DATA: u8 = 10;
/// RDR_to_PC_SlotStatus.
pub(super) const SLOT_STATUS: u8 = 0x81;

/// An ATR is at most TS and 32 characters.
const MAX_ATR: usize = 33;

impl Reader {
    pub(super) fn execute(&mut self, slot: Slot, seq: Seq, command: &Command<'_>) -> Outcome {
        let features = self.config.class.features;
        let who = Some((slot, seq));
        // A chain is one exchange: whatever else comes ends it.
        if !matches!(command, Command::XfrBlock { .. } | Command::GetSlotStatus) {
            self.slot(slot).into_iter().for_each(|state| state.chain = Chain::Idle);
        }
        let not_supported = self.status_of(slot, SlotError::CmdNotSupported);
        match *command {
            Command::IccPowerOn { power_select } => self.power_on(slot, power_select),
            Command::XfrBlock { bwi, level_parameter, data } => {
                self.xfr_block(slot, seq, bwi, level_parameter, data)
            }
            Command::Secure { level_parameter, data, .. } => {
                self.secure(slot, seq, level_parameter, data)
            }
            Command::Escape { data } => self.escape(slot, data),
            Command::SetParameters { protocol_num, data } => {
                let parameters = Parameters::parse(protocol_num, data);
                if parameters.is_err() {
                    self.violation(who, Rule::BadContent);
                }
                let parameters = parameters.and_then(|parameters| self.can_set(who, parameters));
                self.parameters(slot, parameters.map(Some))
            }
            Command::GetParameters => self.parameters(slot, Ok(None)),
            Command::ResetParameters => self.reset_parameters(slot),
            Command::IccPowerOff => {
                self.slot(slot).into_iter().for_each(SlotState::power_off);
                self.slot_status(slot)
            }
            Command::GetSlotStatus => self.slot_status(slot),
            Command::IccClock { clock_command } if features.contains(Features::CLOCK_STOP) => {
                self.icc_clock(slot, clock_command)
            }
            Command::T0Apdu { changes, class_get_response, class_envelope }
                if !features.contains(Features::TPDU_LEVEL) =>
            {
                if let Some(state) = self.slot(slot) {
                    let settings = &mut state.settings;
                    if changes & 1 != 0 {
                        settings.class_get_response = class_get_response;
                    }
                    if changes & 2 != 0 {
                        settings.class_envelope = class_envelope;
                    }
                }
                self.slot_status(slot)
            }
            Command::SetDataRateAndClockFrequency { clock_frequency, data_rate } => {
                self.rates(slot, clock_frequency, data_rate)
            }
            Command::Mechanical { function } => self.mechanical(slot, function),
            // What is left out above.
            _ => not_supported.into(),
        }
    }

    pub(super) fn slot_status(&mut self, slot: Slot) -> Outcome {
        let status = self.slot(slot).map(|state| (state.success(), state.clock_status()));
        let (status, clock) =
            status.unwrap_or((Status::success(IccStatus::NotPresent), ClockStatus::Stopped));
        Outcome::Answer(Answer::new(status, clock.into(), Bytes::new()))
    }

    fn power_on(&mut self, slot: Slot, select: PowerSelect) -> Outcome {
        let class = self.config.class;
        let automatic = class.features.contains(Features::AUTO_VOLTAGE);
        let voltages = match select {
            PowerSelect::Automatic if automatic => class.voltage_support,
            PowerSelect::V5 => class.voltage_support & Voltages::V5,
            PowerSelect::V3 => class.voltage_support & Voltages::V3,
            PowerSelect::V1_8 => class.voltage_support & Voltages::V1_8,
            _ => Voltages::empty(),
        };
        if voltages.is_empty() {
            return self.status_of(slot, bad_field(FIRST_SPECIFIC)).into();
        }
        let (clock, waiting_time, power_up) =
            (self.clock, self.config.waiting_time, self.config.power_up);
        let Some((state, was_active)) = self.slot(slot).map(|state| {
            let was_active = matches!(state.contents, Contents::Active(..));
            (state, was_active)
        }) else {
            return self.status_of(slot, SlotError::BadSlot).into();
        };
        let Some(mut card) = state.take_card() else {
            return self.status_of(slot, SlotError::IccMute).into();
        };
        let mut reaction = if card.voltages().intersects(voltages) {
            card.reset(if was_active { Reset::Warm } else { Reset::Cold })
        } else {
            crate::card::Reaction::mute()
        };
        if let Pace::After(delay) = reaction.pace {
            reaction.pace = Pace::After(delay + power_up);
        }
        state.contents = Contents::Inactive(card);
        Outcome::Running(Work::Card(CardWork::new(reaction, Task::PowerOn, clock, waiting_time)))
    }

    /// The card has given its ATR.
    pub(super) fn powered_on(&mut self, slot: Slot, atr: Bytes) -> Outcome {
        let class = self.config.class;
        let info = AtrInfo::parse(&atr);
        let error = match () {
            () if atr.is_empty() || atr.len() > MAX_ATR => Some(SlotError::IccMute),
            () if !info.good_ts => Some(SlotError::BadAtrTs),
            () if !info.good_tck => Some(SlotError::BadAtrTck),
            () => None,
        };
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else {
            return Status::failed(IccStatus::NotPresent, SlotError::BadSlot).into();
        };
        if let Some(error) = error {
            state.power_off();
            return state.failed(error).into();
        }
        let Some(mut card) = state.take_card() else {
            return state.failed(SlotError::IccMute).into();
        };
        let protocol = first_protocol(&mut card, &info, class.protocols, class.features);
        let shown = protocol.unwrap_or(Protocol::T0);
        let mut parameters = if class.features.contains(Features::AUTO_PARAMETERS_FROM_ATR) {
            Parameters::from_atr(&info, shown)
        } else {
            Parameters::default(shown)
        };
        if let (Some(contacts), true) = (card.contacts(), self.config.level.is_line()) {
            // Until there has been a PPS exchange.
            parameters = parameters.with_fi_di(contacts.fi_di());
        }
        let clock = ClockStatus::Running;
        let line = Line::default();
        state.contents =
            Contents::Active(card, Activated { info, protocol, parameters, clock, line });
        Outcome::Answer(Answer::new(state.success(), 0, atr))
    }

    /// Get (None) or set parameters; Err: the offset of a bad field.
    fn parameters(&mut self, slot: Slot, set: Result<Option<Parameters>, u8>) -> Outcome {
        let (class, is_line) = (self.config.class, self.config.level.is_line());
        let set = match set {
            Ok(set) => set,
            Err(offset) => return self.status_of(slot, bad_field(offset)).into(),
        };
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else {
            return Status::failed(IccStatus::NotPresent, SlotError::BadSlot).into();
        };
        let Contents::Active(card, activated) = &mut state.contents else {
            return state.failed(SlotError::IccMute).into();
        };
        if let Some(mut parameters) = set {
            let protocol = parameters.protocol();
            let known = class.protocols.contains(flag(protocol));
            if !known || !activated.info.protocols.contains(&protocol.number()) {
                return state.failed(SlotError::IccProtocolNotSupported).into();
            }
            let by_itself = Features::AUTO_PARAMETER_NEGOTIATION | Features::AUTO_PPS;
            let spoken = card.contacts().filter(|_| is_line).map(|contacts| contacts.fi_di());
            let fi_di = spoken.map(|_| parameters.fi_di());
            let other = activated.protocol != Some(protocol) || spoken != fi_di;
            if other && class.features.intersects(by_itself) {
                card.reset(Reset::Warm);
                activated.line = Line::default();
                if !negotiate(card, protocol, fi_di) {
                    return state.failed(SlotError::IccProtocolNotSupported).into();
                }
                // The card may have kept the rate of its reset.
                if let Some(contacts) = card.contacts().filter(|_| is_line) {
                    parameters = parameters.with_fi_di(contacts.fi_di());
                }
            }
            activated.protocol = Some(protocol);
            activated.parameters = parameters;
        }
        let parameters = activated.parameters;
        let data = Bytes::copy_from_slice(parameters.bytes());
        Outcome::Answer(Answer::new(state.success(), parameters.protocol().number(), data))
    }

    fn reset_parameters(&mut self, slot: Slot) -> Outcome {
        if let Some(activated) = self.slot(slot).and_then(SlotState::activated) {
            activated.parameters = Parameters::default(activated.parameters.protocol());
        }
        self.parameters(slot, Ok(None))
    }

    fn icc_clock(&mut self, slot: Slot, command: ClockCommand) -> Outcome {
        let clock = match command {
            ClockCommand::Restart => ClockStatus::Running,
            ClockCommand::Stop => ClockStatus::StoppedLow,
            ClockCommand::Unknown(_) => {
                return self.status_of(slot, bad_field(FIRST_SPECIFIC)).into();
            }
        };
        match self.slot(slot).and_then(SlotState::activated) {
            Some(activated) => {
                activated.clock = clock;
                self.slot_status(slot)
            }
            None => self.status_of(slot, SlotError::IccMute).into(),
        }
    }

    /// SetDataRateAndClockFrequency: what the reader has of it, else what it uses anyway.
    fn rates(&mut self, slot: Slot, clock: u32, rate: u32) -> Outcome {
        let choose = |list: &[u32], wanted, default| {
            if list.contains(&wanted) { wanted } else { default }
        };
        let class = &self.config.class;
        let clock = choose(&self.config.clock_frequencies, clock, class.default_clock);
        let rate = choose(&self.config.data_rates, rate, class.data_rate);
        let data = [clock.to_le_bytes(), rate.to_le_bytes()].concat();
        let status = self.slot(slot).map_or_else(
            || Status::failed(IccStatus::NotPresent, SlotError::BadSlot),
            |state| state.success(),
        );
        Outcome::Answer(Answer::new(status, 0, data.into()))
    }

    /// The reader's own commands: 01h answers what follows, 02h the name of its firmware, 03h
    /// nothing after so many milliseconds (two bytes, the high one first), 04h never; and those it was
    /// made with.
    fn escape(&mut self, slot: Slot, data: &[u8]) -> Outcome {
        let now = self.clock;
        let at_once = |data| Outcome::Running(Work::Escape(Some(now), data));
        let known = self.config.escapes.iter().find(|(command, _)| command == data);
        if let Some((_, answer)) = known {
            return at_once(answer.clone());
        }
        match *data {
            [0x01, ref rest @ ..] => at_once(Bytes::copy_from_slice(rest)),
            [0x02] => at_once(Bytes::copy_from_slice(self.config.firmware.as_bytes())),
            [0x03, high, low] => {
                let delay = Duration::from_millis(u16::from_be_bytes([high, low]).into());
                Outcome::Running(Work::Escape(Some(now + delay), Bytes::new()))
            }
            [0x04] => Outcome::Running(Work::Escape(None, Bytes::new())),
            _ => self.status_of(slot, bad_field(DATA)).into(),
        }
    }
}

const fn flag(protocol: Protocol) -> ReaderProtocols {
    match protocol {
        Protocol::T0 => ReaderProtocols::T0,
        Protocol::T1 => ReaderProtocols::T1,
    }
}

/// What the reader speaks with a card after its reset: what the card begins with, or, if the
/// reader negotiates, the first protocol that both know.
fn first_protocol(
    card: &mut Box<dyn Card>,
    info: &AtrInfo,
    known: ReaderProtocols,
    features: Features,
) -> Option<Protocol> {
    let knows = |number: &u8| {
        Protocol::from_number(*number).filter(|protocol| known.contains(flag(*protocol)))
    };
    if let Some(ta2) = info.specific_mode {
        return knows(&(ta2 & 0x0F));
    }
    let default = info.protocols.first()?;
    if let Some(protocol) = knows(default) {
        return Some(protocol);
    }
    if !features.contains(Features::AUTO_PARAMETER_NEGOTIATION) {
        return None;
    }
    let protocol = info.protocols.iter().find_map(knows)?;
    negotiate(card, protocol, None).then_some(protocol)
}

/// PPS for a protocol, at the default rate or a given one; the card may keep the default one.
fn negotiate(card: &mut Box<dyn Card>, protocol: Protocol, fi_di: Option<u8>) -> bool {
    let pps0 = protocol.number() | if fi_di.is_some() { 0x10 } else { 0 };
    let mut request = vec![0xFF, pps0];
    request.extend(fi_di);
    request.push(request.iter().fold(0, |sum, byte| sum ^ byte));
    let keeps = [0xFF, protocol.number(), 0xFF ^ protocol.number()];
    let response = card.process(&request).response;
    response[..] == request || response[..] == keeps
}
