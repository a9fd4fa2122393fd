//! A card with a USB plug of its own: ICCD over control transfers, version A and version B
//! (Smart Card ICCD specification 1.0, §6; bInterfaceProtocol 1 and 2).
//!
//! Nothing goes over bulk pipes, and nothing happens by itself: the host asks whether the card is
//! ready. What it asks for wrongly stalls and is noted.

mod config;
mod requests;
#[cfg(test)]
mod tests;

pub use config::{IccdBuilder, Version};

use crate::card::{Card, Pace, Reaction, Reset};
use crate::reader::journal::{Event, Journal};
use crate::reader::{Rule, Seen, Violation};
use crate::{ControlReply, Descriptors, Device};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::{IccStatus, Notification, SetupPacket, SlotError, Status};
use config::Config;
use std::fmt;

/// A simulated ICCD.
pub struct Iccd {
    config: Config,
    descriptors: Descriptors,
    card: Box<dyn Card>,
    state: State,
    /// The card is there, as far as the host is to know.
    present: bool,
    /// The interrupt pipe has to tell it.
    changed: bool,
    /// Version B: when the host may ask again.
    not_before: Option<Instant>,
    journal: Journal,
}

/// What the card does, and what the host is to do.
#[derive(Debug)]
enum State {
    /// Without power.
    Off,
    /// A command may come.
    Idle,
    /// So much of an APDU in parts has come (version B); the host may fetch an empty part.
    Command { apdu: Vec<u8>, told: bool },
    /// A header of T=0 has come whose data follows (version A at character level).
    Header(Vec<u8>),
    /// The card works.
    Busy { work: Work, done: Done },
    /// Something can be fetched; `first`: it is the first part of a chain.
    Ready { response: Bytes, first: bool },
    /// Data of T=0 can be fetched, and then SW1 SW2.
    DataReady { data: Bytes, sw: Bytes },
    /// SW1 SW2 can be fetched.
    StatusReady(Bytes),
    /// The card has not answered.
    Mute,
}

/// A card at work.
#[derive(Debug)]
struct Work {
    pace: Pace,
    /// When it has answered, or is taken for mute; None: never.
    until: Option<Instant>,
    response: Bytes,
}

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    /// It is fetched as it is.
    Whole,
    /// Data and SW1 SW2 are fetched one after the other.
    Parts,
}

impl fmt::Debug for Iccd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iccd").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Iccd {
    /// Describes an ICCD around `card` before it is made.
    pub fn builder(version: Version, card: impl Card + 'static) -> IccdBuilder {
        IccdBuilder::new(version, Box::new(card))
    }

    /// Lets the card be there, or not, though the device stays: what ICCD calls virtual removal.
    pub fn set_present(&mut self, present: bool) {
        if self.present == present {
            return;
        }
        self.present = present;
        self.changed = true;
        self.power_off();
    }

    /// What it has seen, oldest first; the last 10 000 entries. Data of requests is not kept.
    pub fn seen(&mut self) -> &[Seen] {
        self.journal.seen()
    }

    /// The rules that the host has broken, oldest first.
    pub fn violations(&mut self) -> &[Violation] {
        self.journal.violations()
    }

    /// Forgets what it has seen and which rules were broken.
    pub fn forget(&mut self) {
        self.journal.clear();
    }

    fn refuse(&mut self, rule: Rule, now: Instant) -> ControlReply {
        self.journal.violation(now, None, rule);
        ControlReply::Stall
    }

    fn power_off(&mut self) {
        if let State::Busy { work, .. } = &self.state {
            self.card.interrupted(work.pace);
        }
        self.card.power_off();
        self.state = State::Off;
        self.not_before = None;
    }

    /// Resets the card; the ATR is what is to be fetched.
    fn power_on(&mut self, now: Instant) {
        let reset = if matches!(self.state, State::Off) { Reset::Cold } else { Reset::Warm };
        if let State::Busy { work, .. } = &self.state {
            self.card.interrupted(work.pace);
        }
        let reaction = self.card.reset(reset);
        self.work(reaction, Done::Whole, now);
    }

    /// Gives the card a command.
    fn ask_card(&mut self, command: &[u8], done: Done, now: Instant) {
        let reaction = self.card.process(command);
        self.work(reaction, done, now);
    }

    fn work(&mut self, reaction: Reaction, done: Done, now: Instant) {
        let Reaction { pace, response } = reaction;
        let until = match pace {
            Pace::After(delay) => Some(now + delay),
            Pace::Extend { periods, period, .. } => {
                Some(now + period.saturating_mul(periods.saturating_add(1)))
            }
            Pace::ExtendForEver { .. } | Pace::Never => None,
            Pace::Mute => Some(now + self.config.waiting_time),
        };
        self.state = State::Busy { work: Work { pace, until, response }, done };
        self.advance(now);
    }

    /// Ends what has come to its end by `now`.
    fn advance(&mut self, now: Instant) {
        let State::Busy { work, done } = &mut self.state else { return };
        if work.until.is_none_or(|until| until > now) {
            return;
        }
        let response = std::mem::take(&mut work.response);
        self.state = match (work.pace, *done) {
            (Pace::Mute, _) => State::Mute,
            (_, Done::Whole) => State::Ready { response, first: true },
            (_, Done::Parts) => {
                let (mut data, at) = (response, 2);
                let sw = data.split_off(data.len().saturating_sub(at));
                if data.is_empty() { State::StatusReady(sw) } else { State::DataReady { data, sw } }
            }
        };
    }

    fn icc_status(&self) -> IccStatus {
        match (self.present, &self.state) {
            (false, _) => IccStatus::NotPresent,
            (true, State::Off | State::Mute) => IccStatus::PresentInactive,
            (true, _) => IccStatus::PresentActive,
        }
    }

    /// Status information (version B): bResponseType, bSlotStatus, bSlotError.
    fn slot_status(&self) -> [u8; 3] {
        let icc = self.icc_status();
        let mute = !self.present || matches!(self.state, State::Mute);
        let status =
            if mute { Status::failed(icc, SlotError::IccMute) } else { Status::success(icc) };
        let [status, error] = status.to_bytes();
        [requests::STATUS_INFORMATION, status, error]
    }
}

impl Device for Iccd {
    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        self.journal.note(now, None, Event::Setup(setup));
        self.advance(now);
        if setup.index != 0 {
            return self.refuse(Rule::WrongInterface, now);
        }
        match self.config.version {
            Version::A => self.request_a(setup, data, now),
            Version::B => self.request_b(setup, data, now),
        }
    }

    fn accepts_bulk_out(&self) -> bool {
        false
    }

    fn bulk_out(&mut self, _data: &[u8], _now: Instant) {}

    fn poll_bulk_in(&mut self, _now: Instant) -> Option<Bytes> {
        None
    }

    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes> {
        if !self.config.interrupt || !std::mem::take(&mut self.changed) {
            return None;
        }
        let message = Notification::SlotChange { state: &[0x02 | u8::from(self.present)] }.emit();
        self.journal.note(now, None, Event::Notification(message.clone()));
        Some(message)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    fn reset(&mut self, now: Instant) {
        self.power_off();
        self.changed = self.present;
        self.journal.note(now, None, Event::Reset);
    }
}
