//! T=0 at character level (ISO/IEC 7816-3 §10.3.3): the host sends the header and does what the
//! card's procedure bytes say. Each message names in wLevelParameter how many characters it is to
//! bring (CCID 1.1 §6.1.4).

use super::exchange::{t0_tpdu, waiting_time};
use super::{Setting, Step, failure, misbehaved};
use crate::atr::Protocol;
use crate::error::{Breach, CardFault, Error, Sent};
use crate::operation::Output;
use crate::quirk::Flags;
use crate::wire::{Command, HEADER_LEN, LevelParameter, Response};
use bytes::{Bytes, BytesMut};
use core::time::Duration;

/// NULL: the card needs more time.
const NULL: u8 = 0x60;

/// NULLs that one exchange may have. With the usual waiting times that is most of a day; the
/// operation's own limit comes first.
const MAX_NULLS: u32 = 65_536;

/// Header of a T=0 command: CLA INS P1 P2 P3.
const HEADER: usize = 5;

#[derive(Debug)]
pub(crate) struct T0Character {
    ins: u8,
    /// To be sent with the next message.
    out: Bytes,
    data: Data,
    next: Next,
    response: BytesMut,
    nulls: u32,
    /// No answer may fill its last packet.
    split: bool,
    timeout: Duration,
}

/// The data of the exchange that are still to pass, and which way.
#[derive(Debug)]
enum Data {
    None,
    Out(Bytes),
    In(usize),
}

/// What the next character from the card is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Procedure,
    /// Data, so many bytes before the next procedure byte.
    Data(usize),
    Sw2 {
        sw1: u8,
    },
}

/// A message with so many data bytes is packets of 64 bytes, all of them full.
const fn fills_packets(length: usize) -> bool {
    (HEADER_LEN + length) % 64 == 0
}

impl T0Character {
    pub(super) fn new(command: &Bytes, setting: &Setting<'_>) -> Result<Self, Error> {
        let mut tpdu = t0_tpdu(command)?;
        let (ins, p3) = match tpdu[..] {
            [_, ins, _, _, p3, ..] => (ins, p3),
            _ => return Err(Error::InvalidCommand),
        };
        // A procedure byte of that value would be a SW1 (§10.3.2).
        if matches!(ins & 0xF0, 0x60 | 0x90) {
            return Err(Error::InvalidCommand);
        }
        let out = tpdu.split_to(HEADER);
        let data = match (tpdu.is_empty(), command.len()) {
            (false, _) => Data::Out(tpdu),
            // The fifth byte of an APDU is its Le; without one there are no data.
            (true, HEADER) => Data::In(if p3 == 0 { 256 } else { usize::from(p3) }),
            (true, _) => Data::None,
        };
        Ok(Self {
            ins,
            out,
            data,
            next: Next::Procedure,
            response: BytesMut::new(),
            nulls: 0,
            split: setting.behaviour.flags.contains(Flags::SPLIT_FULL_PACKETS),
            timeout: waiting_time(setting, Protocol::T0, command),
        })
    }

    pub(super) fn command(&self) -> Command<'_> {
        let characters = match self.next {
            Next::Procedure | Next::Sw2 { .. } => 1,
            // The rest comes with the next message.
            Next::Data(length) if self.split && fills_packets(length) => 1,
            Next::Data(length) => length,
        };
        // At most 256.
        let level_parameter = LevelParameter(characters as u16);
        Command::XfrBlock { bwi: 0, level_parameter, data: &self.out }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn answer(&mut self, sent: Sent, response: &Response<'_>) -> Step {
        if let Some(error) = failure(sent, response) {
            return Step::Done(Err(error));
        }
        let Response::DataBlock { data, .. } = *response else {
            let got = response.message_type();
            return misbehaved(sent, Breach::UnexpectedType { got, expected: 0x80 });
        };
        if data.is_empty() {
            return misbehaved(sent, Breach::NoCharacter);
        }
        self.out = Bytes::new();
        let mut rest = data.iter();
        while let Some(byte) = rest.next() {
            match self.character(*byte) {
                Step::Send => {}
                // What the card sends behind SW2 or a wrong byte belongs to nothing.
                Step::Done(Ok(_)) if rest.len() > 0 => {
                    return misbehaved(sent, Breach::TooManyCharacters);
                }
                done @ Step::Done(_) => return done,
            }
            // Data that the card was to be sent before it goes on.
            if !self.out.is_empty() && rest.len() > 0 {
                return misbehaved(sent, Breach::TooManyCharacters);
            }
        }
        Step::Send
    }

    /// One character from the card.
    fn character(&mut self, byte: u8) -> Step {
        match self.next {
            Next::Data(left) => {
                self.response.extend_from_slice(&[byte]);
                self.next = if left > 1 { Next::Data(left - 1) } else { Next::Procedure };
                Step::Send
            }
            Next::Sw2 { sw1 } => {
                self.response.extend_from_slice(&[sw1, byte]);
                let response = core::mem::take(&mut self.response);
                Step::Done(Ok(Output::Data(response.freeze())))
            }
            Next::Procedure => self.procedure(byte),
        }
    }

    /// §10.3.3: NULL, ACK for all or for one, SW1. The ones with bit 0 turned over had a meaning
    /// for the programming voltage, which is gone.
    fn procedure(&mut self, byte: u8) -> Step {
        let ins = self.ins;
        match byte {
            NULL => return self.wait(),
            _ if byte & 0xF0 == 0x60 || byte & 0xF0 == 0x90 => {
                self.next = Next::Sw2 { sw1: byte };
            }
            _ if byte == ins || byte == ins ^ 0x01 => return self.transfer(usize::MAX, byte),
            _ if byte == !ins || byte == !ins ^ 0x01 => return self.transfer(1, byte),
            _ => return Step::Done(Err(Error::Card(CardFault::ProcedureByte(byte)))),
        }
        Step::Send
    }

    /// The card wants, or sends, `most` data bytes, or as many as are left.
    fn transfer(&mut self, most: usize, byte: u8) -> Step {
        match &mut self.data {
            Data::Out(left) if !left.is_empty() => self.out = left.split_to(most.min(left.len())),
            Data::In(left) if *left > 0 => {
                let length = most.min(*left);
                *left -= length;
                self.next = Next::Data(length);
            }
            // Go on, with nothing.
            Data::None => return self.wait(),
            _ => return Step::Done(Err(Error::Card(CardFault::ProcedureByte(byte)))),
        }
        Step::Send
    }

    fn wait(&mut self) -> Step {
        self.nulls += 1;
        if self.nulls > MAX_NULLS {
            return Step::Done(Err(Error::Card(CardFault::TooManyNulls)));
        }
        Step::Send
    }
}
