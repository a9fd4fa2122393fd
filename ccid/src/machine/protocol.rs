//! What it takes to make reader and card speak a protocol: PPS where the host has to do it
//! (ISO/IEC 7816-3 §9), SetParameters where the reader has to be told (CCID 1.1 §6.1.7).
//!
//! First the best that both can do is tried. If that fails, the card may be dead or at a rate that
//! the reader does not know of: it is reset, and the defaults are tried. If they fail too, the card
//! is reset once more, so that it is as after its power-up, and the operation fails.

use super::power::{Power, PowerPlan};
use super::pps;
use super::{READER_TIME, Setting, Step, failure, misbehaved};
use crate::atr::{Atr, AtrInfo, Protocol};
use crate::descriptor::{ClassDescriptor, ExchangeLevel, Features};
use crate::error::{Breach, Error, Sent, Unsupported};
use crate::operation::{Output, PowerUp};
use crate::parameters::{FiDi, Speeds, protocol_data};
use crate::quirk::{Flags, correct_card};
use crate::t1::Nad;
use crate::wire::{Command, LevelParameter, PowerSelect, Response, SlotError};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use log::{debug, info, warn};

/// What is known of the card when the machine has ended.
#[derive(Debug)]
pub(crate) enum CardAfter {
    /// As before, but for what was agreed.
    Same,
    /// It was reset.
    Reset(Atr, PowerSelect),
    /// It was reset and did not come back.
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    /// The best that both can do.
    Best,
    /// The default rate.
    Default,
}

#[derive(Debug)]
enum Then {
    Retry(Attempt),
    Fail(Error),
}

#[derive(Debug)]
enum Phase {
    Pps { request: Bytes, fi_di: FiDi },
    Parameters { data: Bytes, fi_di: FiDi, after_pps: bool },
    Reset { power: Power, then: Then },
}

/// What a plan comes to.
enum Plan {
    /// Nothing is to be sent; what reader and card use is up to them.
    Nothing,
    /// The card must be reset: warm, to get it out of specific mode; cold, for a fresh start.
    Reset(PowerUp),
    Run(Phase),
}

#[derive(Debug)]
pub(crate) struct Negotiation {
    protocol: Protocol,
    class: ClassDescriptor,
    flags: Flags,
    nad: Nad,
    rates: Vec<u32>,
    power: PowerPlan,
    atr: AtrInfo,
    attempt: Attempt,
    /// The card has answered nothing but its ATR since its reset.
    fresh: bool,
    /// A warm reset to leave specific mode has been tried.
    left_specific: bool,
    phase: Phase,
    after: CardAfter,
    agreed: Option<FiDi>,
}

impl Negotiation {
    pub(super) fn new(
        protocol: Protocol,
        setting: &Setting<'_>,
    ) -> Result<Self, Result<Output, Error>> {
        if !setting.powered {
            return Err(Err(Error::NotPowered));
        }
        if let Err(what) = setting.class.can_speak(protocol) {
            return Err(Err(Error::Unsupported(what)));
        }
        if setting.settled == Some(protocol) {
            return Err(Ok(Output::Done));
        }
        let Some(atr) = setting.atr else {
            // Nothing is known of the card; the reader has taken its ATR, so it may know better.
            return Err(Ok(Output::Done));
        };
        let mut machine = Self {
            protocol,
            class: *setting.class,
            flags: setting.behaviour.flags,
            nad: setting.options.nad,
            rates: setting.rates.to_vec(),
            power: PowerPlan::new(setting),
            atr: atr.clone(),
            attempt: Attempt::Best,
            fresh: setting.fresh,
            left_specific: false,
            phase: Phase::Pps { request: Bytes::new(), fi_di: FiDi::DEFAULT },
            after: CardAfter::Same,
            agreed: None,
        };
        match machine.plan() {
            Ok(Plan::Nothing) => Err(Ok(Output::Done)),
            Ok(Plan::Run(phase)) => {
                machine.phase = phase;
                Ok(machine)
            }
            Ok(Plan::Reset(how)) => {
                machine.reset(how, Then::Retry(Attempt::Best));
                Ok(machine)
            }
            Err(what) => Err(Err(Error::Unsupported(what))),
        }
    }

    /// What became of the card, and the Fi and Di that are in force, if known.
    pub(crate) fn into_outcome(self) -> (CardAfter, Option<FiDi>) {
        match self.phase {
            // Ended in the middle of a reset.
            Phase::Reset { .. } => (CardAfter::Off, None),
            _ => (self.after, self.agreed),
        }
    }

    /// What has to be done with the card as it is.
    fn plan(&self) -> Result<Plan, Unsupported> {
        let features = self.class.features;
        let Self { protocol, atr, .. } = self;
        if !atr.protocols().any(|offered| offered == *protocol) {
            return Err(Unsupported::Protocol(protocol.number()));
        }
        if features.contains(Features::AUTO_PARAMETER_NEGOTIATION) {
            return Ok(Plan::Nothing);
        }
        if let Some(ta2) = atr.specific_mode() {
            return self.plan_specific(ta2);
        }
        // PPS is the first thing a card hears or nothing (ISO/IEC 7816-3 §9.1), whoever does it.
        let best = match self.attempt {
            Attempt::Best if self.fresh => self.speeds().best(FiDi(atr.ta1())),
            Attempt::Best | Attempt::Default => FiDi::DEFAULT,
        };
        let switch = atr.default_protocol() != Some(*protocol);
        let by_reader = features.contains(Features::AUTO_PPS);
        let blocks =
            matches!(self.class.exchange_level(), ExchangeLevel::Character | ExchangeLevel::Tpdu);
        // No APDU is a PPS.
        let possible = by_reader || blocks && !self.flags.contains(Flags::NO_PPS);
        if switch && !possible {
            return Err(Unsupported::Pps(protocol.number()));
        }
        if switch && !self.fresh {
            return Ok(Plan::Reset(PowerUp::Cold));
        }
        let best = if possible { best } else { FiDi::DEFAULT };
        Ok(Plan::Run(if by_reader || !switch && best == FiDi::DEFAULT {
            self.parameters(best, false)
        } else {
            Phase::Pps { request: pps::request(*protocol, best), fi_di: best }
        }))
    }

    /// The card names protocol and rate by itself, TA(2) (ISO/IEC 7816-3 §6.3.1, §8.3).
    fn plan_specific(&self, ta2: u8) -> Result<Plan, Unsupported> {
        let (implicit, changeable) = (ta2 & 0x10 != 0, ta2 & 0x80 == 0);
        let knows = self.class.features.contains(Features::AUTO_PARAMETERS_FROM_ATR);
        let offered = FiDi(self.atr.ta1());
        let obstacle = if ta2 & 0x0F != self.protocol.number() {
            Unsupported::Protocol(self.protocol.number())
        } else if implicit && knows {
            return Ok(Plan::Nothing);
        } else if implicit {
            Unsupported::ImplicitParameters(ta2)
        } else if !self.speeds().takes(offered) {
            Unsupported::Rate(offered.0)
        } else {
            return Ok(Plan::Run(self.parameters(offered, false)));
        };
        if changeable && !self.left_specific {
            return Ok(Plan::Reset(PowerUp::Warm));
        }
        Err(obstacle)
    }

    fn speeds(&self) -> Speeds<'_> {
        Speeds { clock: self.class.clock(), max: self.class.max_data_rate, table: &self.rates }
    }

    fn parameters(&self, fi_di: FiDi, after_pps: bool) -> Phase {
        let data = protocol_data(&self.atr, self.protocol, fi_di, self.nad);
        Phase::Parameters { data, fi_di, after_pps }
    }

    pub(super) fn command(&self) -> Command<'_> {
        match &self.phase {
            Phase::Pps { request, .. } => {
                // At character level the reader must be told how much to read back.
                let expected = match self.class.exchange_level() {
                    ExchangeLevel::Character => u16::try_from(request.len()).unwrap_or(0),
                    _ => 0,
                };
                let level_parameter = LevelParameter(expected);
                Command::XfrBlock { bwi: 0, level_parameter, data: request }
            }
            Phase::Parameters { data, .. } => {
                Command::SetParameters { protocol_num: self.protocol.number(), data }
            }
            Phase::Reset { power, .. } => power.command(),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match &self.phase {
            // The response is four characters, each within 9600 etu (ISO/IEC 7816-3 §9.1): four
            // seconds at 3.57 MHz; and where the reader does PPS, SetParameters takes as long.
            Phase::Pps { .. } | Phase::Parameters { .. } => READER_TIME * 2,
            Phase::Reset { power, .. } => power.timeout(),
        }
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        if let Phase::Reset { power, .. } = &mut self.phase {
            return match power.answer(sent, response) {
                Step::Send => Step::Send,
                Step::Done(result) => self.after_reset(result),
            };
        }
        match (&self.phase, failure(sent, response), response) {
            (_, Some(Error::NoCard), _) => Step::Done(Err(Error::NoCard)),
            (Phase::Parameters { .. }, Some(error), _) => self.refused(error),
            (
                Phase::Parameters { data, fi_di, .. },
                None,
                Response::Parameters { data: set, .. },
            ) => {
                // Some readers answer with what they have made of it, others with nothing.
                let told = set.first().filter(|_| set.len() == data.len()).copied().map(FiDi);
                let told = told.filter(|told| told.f().is_some() && told.d().is_some());
                self.agreed = Some(told.unwrap_or(*fi_di));
                Step::Done(Ok(Output::Done))
            }
            (Phase::Pps { .. }, Some(error), _) => self.fall_back(error),
            (Phase::Pps { request, fi_di }, None, Response::DataBlock { data, .. }) => {
                match pps::agreed(request, data) {
                    Some(agreed) => {
                        debug!("{sent}: PPS for {fi_di} agreed on {agreed}");
                        self.phase = self.parameters(agreed, true);
                        Step::Send
                    }
                    None => {
                        let breach = Breach::BadPps;
                        self.fall_back(Error::Misbehaved { sent, breach })
                    }
                }
            }
            _ => {
                let (got, expected) = (response.message_type(), self.command().answered_by());
                misbehaved(sent, Breach::UnexpectedType { got, expected })
            }
        }
    }

    /// SetParameters has failed.
    fn refused(&mut self, error: Error) -> Step {
        let Phase::Parameters { fi_di, after_pps, .. } = self.phase else {
            return Step::Done(Err(error));
        };
        // The reader does not know the command, or a field: it has done nothing.
        let unknown = matches!(error, Error::Failed { error: SlotError::CmdNotSupported, .. });
        let declined = match error {
            Error::Failed { error: SlotError::BadSlot, .. } => true,
            Error::Failed { error: SlotError::Unknown(n), .. } => n < 0x80,
            _ => unknown,
        };
        let specific = self.atr.specific_mode().is_some();
        if self.attempt == Attempt::Best && fi_di != FiDi::DEFAULT && !specific {
            if after_pps || !declined {
                return self.fall_back(error);
            }
            warn!("{error}: trying the default rate");
            self.attempt = Attempt::Default;
            self.phase = self.parameters(FiDi::DEFAULT, false);
            return Step::Send;
        }
        // A reader that sets its parameters by itself need not know the command. Without it, the
        // protocol and the rate that the card starts with are what the reader has read the ATR by.
        let knows =
            self.class.features.intersects(Features::AUTO_PARAMETERS_FROM_ATR | Features::AUTO_PPS);
        let unchanged =
            self.atr.default_protocol() == Some(self.protocol) && (knows || fi_di == FiDi::DEFAULT);
        let kept = self.flags.contains(Flags::ACCEPT_PARAMETERS);
        if kept && self.attempt == Attempt::Default || declined && unchanged || unknown && knows {
            warn!("{error}: going on with the reader's own parameters");
            self.agreed = (!knows).then_some(fi_di);
            return Step::Done(Ok(Output::Done));
        }
        self.fall_back(error)
    }

    /// What was tried has failed; the card may not be what it was.
    fn fall_back(&mut self, error: Error) -> Step {
        warn!("{error}: resetting the card");
        let then = match self.attempt {
            Attempt::Best => Then::Retry(Attempt::Default),
            Attempt::Default => Then::Fail(error),
        };
        self.reset(PowerUp::Cold, then);
        Step::Send
    }

    fn reset(&mut self, how: PowerUp, then: Then) {
        self.left_specific |= how == PowerUp::Warm;
        self.phase = Phase::Reset { power: Power::new(how, &self.power), then };
    }

    fn after_reset(&mut self, result: Result<Output, Error>) -> Step {
        // A placeholder that sends nothing: every way on from here sets the next phase or ends.
        let idle = Phase::Pps { request: Bytes::new(), fi_di: FiDi::DEFAULT };
        let Phase::Reset { power, then } = core::mem::replace(&mut self.phase, idle) else {
            return Step::Done(Err(Error::CardMute));
        };
        let atr = match result {
            Ok(Output::Atr(atr)) => atr,
            other => {
                self.after = CardAfter::Off;
                return Step::Done(Err(other.err().unwrap_or(Error::CardMute)));
            }
        };
        info!("reset for {}: {atr}", self.protocol);
        self.after = CardAfter::Reset(atr.clone(), power.voltage());
        let attempt = match then {
            Then::Fail(error) => return Step::Done(Err(error)),
            Then::Retry(attempt) => attempt,
        };
        let Ok(mut info) = atr.parse() else {
            return Step::Done(Err(Error::CardMute));
        };
        correct_card(&atr, &mut info);
        (self.atr, self.attempt, self.fresh) = (info, attempt, true);
        match self.plan() {
            Ok(Plan::Nothing) => Step::Done(Ok(Output::Done)),
            Ok(Plan::Run(phase)) => {
                self.phase = phase;
                Step::Send
            }
            Ok(Plan::Reset(how)) => {
                self.reset(how, Then::Retry(attempt));
                Step::Send
            }
            Err(what) => Step::Done(Err(Error::Unsupported(what))),
        }
    }
}
