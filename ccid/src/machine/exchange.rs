//! An APDU's way through PC_to_RDR_XfrBlock, by the reader's exchange level (CCID 1.1 §3.2).

use super::{
    Machine, Setting, Step, T0Character, T1Exchange, UNKNOWN_CARD_TIME, failure, misbehaved,
};
use crate::atr::Protocol;
use crate::descriptor::ExchangeLevel;
use crate::error::{Breach, Error, Sent};
use crate::operation::Output;
use crate::parameters::exchange_time;
use crate::wire::{ChainParameter, Command, LevelParameter, MAX_DATA_LEN, Response};
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use log::warn;

/// The longest short APDU or T=0 TPDU: header, Lc, 255 bytes, Le.
const MAX_SHORT: usize = 261;

#[derive(Debug)]
pub(crate) struct Exchange {
    state: State,
    /// The most data bytes of one message.
    chunk: usize,
    timeout: Duration,
}

#[derive(Debug)]
enum State {
    /// One message there, one back.
    Single { command: Bytes },
    /// Extended APDU level, command going out: `part` is on the way, `rest` behind it.
    Sending { part: Bytes, rest: Bytes, level: LevelParameter },
    /// Extended APDU level, response coming in.
    Receiving { response: BytesMut },
}

/// The machine that exchanges the APDU `command` at this reader's level.
pub(super) fn machine(command: &Bytes, setting: &Setting<'_>) -> Result<Machine, Error> {
    if !setting.powered {
        return Err(Error::NotPowered);
    }
    if command.len() < 4 {
        return Err(Error::InvalidCommand);
    }
    match (setting.class.exchange_level(), setting.protocol.unwrap_or(Protocol::T0)) {
        (ExchangeLevel::Tpdu | ExchangeLevel::Character, Protocol::T1) => {
            T1Exchange::new(command, setting).map(Machine::T1)
        }
        (ExchangeLevel::Character, Protocol::T0) => {
            T0Character::new(command, setting).map(Machine::T0Character)
        }
        (_, protocol) => Exchange::new(command, protocol, setting).map(Machine::Exchange),
    }
}

/// How long the answer to one message may take.
pub(super) fn waiting_time(setting: &Setting<'_>, protocol: Protocol, command: &[u8]) -> Duration {
    setting.atr.map_or(UNKNOWN_CARD_TIME, |atr| {
        exchange_time(setting.class, atr, protocol, setting.fi_di, command)
    })
}

impl Exchange {
    fn new(command: &Bytes, protocol: Protocol, setting: &Setting<'_>) -> Result<Self, Error> {
        let chunk = setting.class.max_data();
        let state = match setting.class.exchange_level() {
            ExchangeLevel::ExtendedApdu => {
                if command.len() > MAX_DATA_LEN {
                    return Err(Error::TooLong { length: command.len(), limit: MAX_DATA_LEN });
                }
                first_part(command.clone(), chunk)
            }
            ExchangeLevel::ShortApdu => single(command.clone(), chunk)?,
            // T=0, which these levels are told apart for.
            ExchangeLevel::Tpdu | ExchangeLevel::Character => single(t0_tpdu(command)?, chunk)?,
        };
        Ok(Self { state, chunk, timeout: waiting_time(setting, protocol, command) })
    }

    pub(super) fn command(&self) -> Command<'_> {
        let (level_parameter, data) = match &self.state {
            State::Single { command } => (LevelParameter::WHOLE, &command[..]),
            State::Sending { part, level, .. } => (*level, &part[..]),
            State::Receiving { .. } => (LevelParameter::CONTINUE_RESPONSE, &[][..]),
        };
        Command::XfrBlock { bwi: 0, level_parameter, data }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        if let Some(error) = failure(sent, response) {
            return Step::Done(Err(error));
        }
        let Response::DataBlock { chain, data, .. } = *response else {
            let got = response.message_type();
            return misbehaved(sent, Breach::UnexpectedType { got, expected: 0x80 });
        };
        match &mut self.state {
            State::Single { .. } => whole(sent, data),
            State::Sending { rest, .. } if !rest.is_empty() => {
                if chain != ChainParameter::NextCommandPart {
                    // The response may come before the whole command is sent: the reader has
                    // found an error. Some readers leave bChainParameter at 0 in between.
                    if !data.is_empty() {
                        return self.receive(sent, chain, data);
                    }
                    warn!("{sent}: empty answer with bChainParameter {:02X}h", u8::from(chain));
                }
                let rest = core::mem::take(rest);
                self.state = next_part(rest, self.chunk);
                Step::Send
            }
            State::Sending { .. } | State::Receiving { .. } => self.receive(sent, chain, data),
        }
    }

    /// A part of the response, or all of it.
    fn receive(&mut self, sent: Sent, chain: ChainParameter, data: &[u8]) -> Step {
        let mut response = match &mut self.state {
            State::Receiving { response } => core::mem::take(response),
            _ => BytesMut::new(),
        };
        let first = !matches!(self.state, State::Receiving { .. });
        if response.len() + data.len() > MAX_DATA_LEN {
            return misbehaved(sent, Breach::ResponseTooLong);
        }
        match (first, chain) {
            (true, ChainParameter::Whole) => whole(sent, data),
            (false, ChainParameter::End) => {
                response.extend_from_slice(data);
                whole(sent, &response)
            }
            // An empty part would let the chain go on for ever.
            (true, ChainParameter::Begin) | (false, ChainParameter::Continue)
                if !data.is_empty() =>
            {
                response.extend_from_slice(data);
                self.state = State::Receiving { response };
                Step::Send
            }
            (_, chain) => misbehaved(sent, Breach::BadChain(chain.into())),
        }
    }
}

/// The whole response: data and SW1 SW2.
pub(super) fn whole(sent: Sent, data: &[u8]) -> Step {
    if data.len() < 2 {
        return misbehaved(sent, Breach::NoStatusWord);
    }
    Step::Done(Ok(Output::Data(Bytes::copy_from_slice(data))))
}

fn single(command: Bytes, chunk: usize) -> Result<State, Error> {
    let length = command.len();
    // A dwMaxCCIDMessageLength of 263 is a known slip for 271 (SCM firmware).
    let limit = if chunk == 253 { MAX_SHORT } else { chunk };
    if length > limit {
        return Err(Error::TooLong { length, limit });
    }
    Ok(State::Single { command })
}

/// A command APDU as a T=0 command TPDU (ISO/IEC 7816-3 §12.2): case 1 gets P3 = 0, case 4 loses
/// its Le, which the caller asks for by GET RESPONSE.
pub(super) fn t0_tpdu(command: &Bytes) -> Result<Bytes, Error> {
    let length = command.len();
    match command.get(4).map(|p3| usize::from(*p3)) {
        None => {
            let mut tpdu = BytesMut::with_capacity(5);
            tpdu.extend_from_slice(command);
            tpdu.extend_from_slice(&[0]);
            Ok(tpdu.freeze())
        }
        Some(_) if length == 5 => Ok(command.clone()),
        Some(lc) if lc != 0 && length == 5 + lc => Ok(command.clone()),
        Some(lc) if lc != 0 && length == 6 + lc => Ok(command.slice(..length - 1)),
        Some(_) if length > MAX_SHORT => Err(Error::TooLong { length, limit: MAX_SHORT }),
        Some(_) => Err(Error::InvalidCommand),
    }
}

fn first_part(mut command: Bytes, chunk: usize) -> State {
    if command.len() <= chunk {
        return State::Sending { part: command, rest: Bytes::new(), level: LevelParameter::WHOLE };
    }
    let part = command.split_to(chunk);
    State::Sending { part, rest: command, level: LevelParameter::BEGIN }
}

fn next_part(mut rest: Bytes, chunk: usize) -> State {
    if rest.len() <= chunk {
        return State::Sending { part: rest, rest: Bytes::new(), level: LevelParameter::END };
    }
    let part = rest.split_to(chunk);
    State::Sending { part, rest, level: LevelParameter::CONTINUE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &[u8]) -> Bytes {
        Bytes::copy_from_slice(hex)
    }

    /// ISO/IEC 7816-3 §12.2: the four cases.
    #[test]
    fn section_12_2_the_four_cases() {
        for (apdu, tpdu) in [
            (&[0, 0x44, 0, 0][..], &[0, 0x44, 0, 0, 0][..]),
            (&[0, 0xB0, 0, 0, 0], &[0, 0xB0, 0, 0, 0]),
            (&[0, 0xA4, 0, 0, 2, 0x3F, 0], &[0, 0xA4, 0, 0, 2, 0x3F, 0]),
            (&[0, 0xA4, 0, 0, 2, 0x3F, 0, 0], &[0, 0xA4, 0, 0, 2, 0x3F, 0]),
        ] {
            assert_eq!(&t0_tpdu(&bytes(apdu)).unwrap()[..], tpdu);
        }
        assert_eq!(t0_tpdu(&bytes(&[0, 0xA4, 0, 0, 3, 1])), Err(Error::InvalidCommand));
        assert_eq!(t0_tpdu(&bytes(&[0; 300])), Err(Error::TooLong { length: 300, limit: 261 }));
    }

    #[test]
    fn parts_cover_the_command() {
        let command = Bytes::from((0..=255).collect::<alloc::vec::Vec<u8>>());
        let mut state = first_part(command.clone(), 100);
        let mut seen = BytesMut::new();
        let mut levels = alloc::vec::Vec::new();
        loop {
            let State::Sending { part, rest, level } = state else { unreachable!() };
            seen.extend_from_slice(&part);
            levels.push(level);
            if rest.is_empty() {
                break;
            }
            state = next_part(rest, 100);
        }
        assert_eq!(seen, command);
        assert_eq!(levels, [LevelParameter::BEGIN, LevelParameter::CONTINUE, LevelParameter::END]);
    }
}
