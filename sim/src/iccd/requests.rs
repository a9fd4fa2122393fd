//! The class requests of both versions (ICCD 1.0 §6).

use super::{Done, Iccd, State};
use crate::ControlReply;
use crate::card::TAKES_DATA;
use crate::reader::{Level, Rule};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use std::time::Duration;

const OUT: u8 = 0x21;
const IN: u8 = 0xA1;
const ICC_POWER_ON: u8 = 0x62;
const ICC_POWER_OFF: u8 = 0x63;
const XFR_BLOCK: u8 = 0x65;
const DATA_BLOCK: u8 = 0x6F;
/// Version A.
const GET_ICC_STATUS: u8 = 0xA0;
/// Version B.
const SLOT_STATUS: u8 = 0x81;

/// GET_ICC_STATUS: a command may come.
const READY: u8 = 0x00;
/// Data is to be sent or fetched.
const DATA: u8 = 0x10;
/// SW1 SW2, or a response that ends with them, can be fetched.
const STATUS: u8 = 0x20;
const BUSY: u8 = 0x40;
const MUTE: u8 = 0x80;

/// bResponseType of DATA_BLOCK in version B: a whole response, or its parts.
const WHOLE: u8 = 0x00;
const BEGINS: u8 = 0x01;
const ENDS: u8 = 0x02;
const GOES_ON: u8 = 0x03;
/// No data: the next part of the command is to come. As a level parameter: the next part of the
/// response is asked for.
const NEXT: u8 = 0x10;
/// bSlotStatus and bSlotError follow.
pub(super) const STATUS_INFORMATION: u8 = 0x40;
/// A delay follows, in units of 10 ms.
const POLLING: u8 = 0x80;

/// The most that an APDU in parts brings.
const MAX_APDU: usize = 65_544;
/// The longest short APDU or TPDU of T=0.
const MAX_SHORT: usize = 261;

fn done() -> ControlReply {
    ControlReply::Data(Bytes::new())
}

impl Iccd {
    pub(super) fn request_a(
        &mut self,
        setup: SetupPacket,
        data: &[u8],
        now: Instant,
    ) -> ControlReply {
        if setup.value != 0 {
            return self.refuse(Rule::RequestValue, now);
        }
        match (setup.request_type, setup.request) {
            (IN, ICC_POWER_ON) if !self.present => ControlReply::Stall,
            (IN, ICC_POWER_ON) => self.power_on_a(setup.length, now),
            (OUT, ICC_POWER_OFF) => {
                self.power_off();
                done()
            }
            (OUT, XFR_BLOCK) => self.block_a(data, now),
            (IN, DATA_BLOCK) => self.fetch_a(setup.length, now),
            (IN, GET_ICC_STATUS) => ControlReply::Data(Bytes::copy_from_slice(&[self.status_a()])),
            _ => self.refuse(Rule::UnknownRequest, now),
        }
    }

    /// The data stage is the ATR; the device holds it back until the card has given it, however
    /// long that takes.
    fn power_on_a(&mut self, length: u16, now: Instant) -> ControlReply {
        self.power_on(now);
        let until = match &self.state {
            State::Busy { work, .. } => work.until,
            _ => Some(now),
        };
        if let Some(until) = until {
            self.advance(until);
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Ready { response, .. } => self.give(response, length, now),
            _ => {
                self.state = State::Mute;
                ControlReply::Stall
            }
        }
    }

    fn status_a(&self) -> u8 {
        match self.state {
            _ if !self.present => MUTE,
            State::Off | State::Idle | State::Command { .. } => READY,
            State::Header(_) | State::DataReady { .. } => DATA,
            State::Busy { .. } => BUSY,
            State::Ready { .. } | State::StatusReady(_) => STATUS,
            State::Mute => MUTE,
        }
    }

    fn block_a(&mut self, data: &[u8], now: Instant) -> ControlReply {
        if data.len() > self.config.max_data() {
            return self.refuse(Rule::MessageTooLong, now);
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle if self.config.level == Level::Character => self.header(data, now),
            State::Idle => self.command(data, now),
            State::Header(header) => {
                let wanted = header.get(4).copied().map_or(0, usize::from);
                if data.len() != wanted {
                    self.state = State::Header(header);
                    return self.refuse(Rule::BadContent, now);
                }
                self.ask_card(&[&header[..], data].concat(), Done::Parts, now);
                done()
            }
            state => self.refuse_block(state, now),
        }
    }

    /// XFR_BLOCK where none is due.
    fn refuse_block(&mut self, state: State, now: Instant) -> ControlReply {
        let rule = match state {
            State::Off | State::Mute => Rule::NotPowered,
            _ => Rule::SlotBusy,
        };
        self.state = state;
        self.refuse(rule, now)
    }

    /// The first part of a TPDU of T=0.
    fn header(&mut self, data: &[u8], now: Instant) -> ControlReply {
        let &[_, ins, _, _, p3] = data else { return self.refuse(Rule::BadContent, now) };
        if p3 > 0 && TAKES_DATA.contains(&ins) {
            self.state = State::Header(data.to_vec());
        } else {
            self.ask_card(data, Done::Parts, now);
        }
        done()
    }

    /// A whole TPDU or APDU.
    fn command(&mut self, bytes: &[u8], now: Instant) -> ControlReply {
        let good = match self.config.level {
            Level::Character | Level::Tpdu => match *bytes {
                [_, _, _, _, p3, ref data @ ..] => data.is_empty() || data.len() == p3.into(),
                _ => false,
            },
            Level::ShortApdu => (4..=MAX_SHORT).contains(&bytes.len()),
            Level::ExtendedApdu => (4..=MAX_APDU).contains(&bytes.len()),
        };
        if !good {
            return self.refuse(Rule::BadContent, now);
        }
        self.ask_card(bytes, Done::Whole, now);
        done()
    }

    fn fetch_a(&mut self, length: u16, now: Instant) -> ControlReply {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Ready { response, .. } => self.give(response, length, now),
            State::DataReady { data, sw } => {
                self.state = State::StatusReady(sw);
                self.give(data, length, now)
            }
            State::StatusReady(sw) => self.give(sw, length, now),
            state => {
                self.state = state;
                self.refuse(Rule::NothingToFetch, now)
            }
        }
    }

    /// Data for the host; what it has not asked for is lost.
    fn give(&mut self, mut data: Bytes, length: u16, now: Instant) -> ControlReply {
        if data.len() > length.into() {
            self.journal.violation(now, None, Rule::FetchedTooLittle);
            data.truncate(length.into());
        }
        ControlReply::Data(data)
    }

    pub(super) fn request_b(
        &mut self,
        setup: SetupPacket,
        data: &[u8],
        now: Instant,
    ) -> ControlReply {
        let [low, level] = setup.value.to_le_bytes();
        let value = match setup.request {
            XFR_BLOCK => low,
            // 0001h: the voltage is chosen by the device.
            ICC_POWER_ON if setup.value == 1 => 0,
            _ => low | level,
        };
        if value != 0 {
            return self.refuse(Rule::RequestValue, now);
        }
        match (setup.request_type, setup.request) {
            (OUT, ICC_POWER_ON) => {
                if self.present {
                    self.power_on(now);
                }
                done()
            }
            (OUT, ICC_POWER_OFF) => {
                self.power_off();
                done()
            }
            (OUT, XFR_BLOCK) => self.block_b(level, data, now),
            (IN, DATA_BLOCK) => self.fetch_b(setup.length, now),
            (IN, SLOT_STATUS) => {
                self.give(Bytes::copy_from_slice(&self.slot_status()), setup.length, now)
            }
            _ => self.refuse(Rule::UnknownRequest, now),
        }
    }

    fn block_b(&mut self, level: u8, data: &[u8], now: Instant) -> ControlReply {
        if data.len() > self.config.max_data() {
            return self.refuse(Rule::MessageTooLong, now);
        }
        let extended = self.config.level == Level::ExtendedApdu;
        if level != WHOLE && !extended {
            return self.refuse(Rule::LevelParameter, now);
        }
        match (std::mem::replace(&mut self.state, State::Idle), level) {
            (State::Idle, WHOLE) => self.command(data, now),
            (State::Idle, BEGINS) => {
                self.state = State::Command { apdu: data.to_vec(), told: false };
                done()
            }
            (State::Command { mut apdu, .. }, GOES_ON | ENDS) => {
                apdu.extend_from_slice(data);
                if apdu.len() > MAX_APDU {
                    return self.refuse(Rule::BadContent, now);
                }
                if level == ENDS {
                    return self.command(&apdu, now);
                }
                self.state = State::Command { apdu, told: false };
                done()
            }
            (State::Ready { response, first: false }, NEXT) if data.is_empty() => {
                self.state = State::Ready { response, first: false };
                self.not_before = None;
                done()
            }
            (state @ (State::Idle | State::Command { .. } | State::Ready { .. }), _) => {
                // The chain is forgotten.
                if !matches!(state, State::Command { .. }) {
                    self.state = state;
                }
                self.refuse(Rule::LevelParameter, now)
            }
            (state, _) => self.refuse_block(state, now),
        }
    }

    fn fetch_b(&mut self, length: u16, now: Instant) -> ControlReply {
        if self.not_before.take().is_some_and(|at| at > now) {
            self.journal.violation(now, None, Rule::PolledTooEarly);
        }
        if !self.present || matches!(self.state, State::Mute) {
            return self.give(Bytes::copy_from_slice(&self.slot_status()), length, now);
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Ready { response, first } => self.part(response, first, length, now),
            State::Command { apdu, told: false } => {
                self.state = State::Command { apdu, told: true };
                self.give(vec![NEXT].into(), length, now)
            }
            state @ State::Busy { .. } => {
                self.state = state;
                let delay = self.config.polling_delay;
                self.not_before = Some(now + Duration::from_millis(10) * u32::from(delay));
                let [low, high] = delay.to_le_bytes();
                self.give(vec![POLLING, low, high].into(), length, now)
            }
            state => {
                self.state = state;
                self.refuse(Rule::NothingToFetch, now)
            }
        }
    }

    /// As much of a response as one request carries, with its bResponseType.
    fn part(&mut self, mut rest: Bytes, first: bool, length: u16, now: Instant) -> ControlReply {
        let room = self.config.max_data();
        let chained = self.config.level == Level::ExtendedApdu && rest.len() > room;
        let kind = match (first, chained) {
            (true, false) => WHOLE,
            (true, true) => BEGINS,
            (false, true) => GOES_ON,
            (false, false) => ENDS,
        };
        let part = if chained { rest.split_to(room) } else { std::mem::take(&mut rest) };
        if chained {
            self.state = State::Ready { response: rest, first: false };
        }
        self.give([&[kind][..], &part].concat().into(), length, now)
    }
}
