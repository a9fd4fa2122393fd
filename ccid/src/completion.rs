//! What a status word of 61xx or 6Cxx asks for: more of the response by GET RESPONSE, the command
//! again with another Le (ISO/IEC 7816-3 §12.2, ISO/IEC 7816-4 §5.3.4). And the command TPDUs of T=0
//! that an APDU becomes, where the host speaks T=0.
//!
//! [`Operation::Exchange`](crate::Operation::Exchange) leaves both to the caller, as programs that
//! do it themselves expect; [`Operation::ExchangeComplete`](crate::Operation::ExchangeComplete) does
//! it here, as one operation. A caller that wants to see each step uses [`Completion`] itself.
//!
//! It ends: a command goes again with another Le once, a GET RESPONSE that brings nothing is the
//! last, and there are no more than [`MAX_COMMANDS`].
//!
//! Left to the caller: ENVELOPE, by which T=0 takes more than 255 bytes of command data. A case 4
//! command that T=0 answers by 9000h is over, with no GET RESPONSE to see whether there is a response
//! all the same: cards that have one say 61xx.

use crate::error::Error;
use bytes::{BufMut, Bytes, BytesMut};
use core::fmt;
use core::ops::Range;

/// The most commands that one of the caller's becomes. With 256 bytes by each, any response has
/// come long before.
pub const MAX_COMMANDS: u32 = 1024;

/// The most data of a response, SW1 SW2 left out, in bytes: Ne of an extended APDU.
const MAX_RESPONSE: usize = 65_536;

/// The most data bytes of a T=0 command TPDU, and of its response.
const MAX_T0_COMMAND: usize = 255;
const MAX_T0_RESPONSE: usize = 256;

/// The longest short command APDU.
const MAX_SHORT: usize = 261;

const GET_RESPONSE: u8 = 0xC0;
const HEADER: usize = 4;

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// This command is to be sent.
    Send(Bytes),
    /// The whole response: data of all parts, and the last SW1 SW2.
    Done(Bytes),
}

/// One command APDU on its way to its whole response.
///
/// The response has no more data than Le says: what a card sends beyond that is dropped, and what it
/// still has is not fetched. Without Le, or with an Le of 0, all is fetched: a short Le cannot say
/// more than 256, and those who write 0 to a card with more mean all of it.
#[derive(Clone)]
pub struct Completion {
    /// The command to be sent, or sent.
    command: Bytes,
    /// The class of the caller's command.
    class: u8,
    /// The command's data field and Le are a T=0 TPDU's.
    t0: bool,
    /// The most data of the response.
    most: usize,
    data: BytesMut,
    /// Commands answered.
    answered: u32,
    /// The command is a GET RESPONSE.
    fetching: bool,
    /// The command has gone again with another Le.
    corrected: bool,
}

impl fmt::Debug for Completion {
    /// Command and response may hold secrets and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, data, answered, .. } = self;
        write!(f, "Completion({} bytes; {answered} answers, {})", command.len(), data.len())
    }
}

impl Completion {
    /// Of an APDU that goes to the card as it is: by T=1, or by a reader that takes APDUs.
    pub fn new(command: Bytes) -> Self {
        let ne = Apdu::parse(&command).and_then(|apdu| apdu.ne);
        Self::start(command, ne, false)
    }

    /// Of an APDU that goes by T=0, command TPDU by command TPDU (ISO/IEC 7816-3 §12.2): extended
    /// ones become short, and case 4 loses its Le, which GET RESPONSE takes up.
    ///
    /// # Errors
    /// [`Error::InvalidCommand`] if it is no APDU; [`Error::TooLong`] if its data would need
    /// ENVELOPE.
    pub fn over_t0(command: Bytes) -> Result<Self, Error> {
        let apdu = Apdu::parse(&command).ok_or(Error::InvalidCommand)?;
        let lc = apdu.data.len();
        if lc > MAX_T0_COMMAND {
            return Err(Error::TooLong { length: command.len(), limit: MAX_SHORT });
        }
        let mut tpdu = BytesMut::with_capacity(HEADER + 1 + lc);
        tpdu.extend(command.iter().take(HEADER));
        match (u8::try_from(lc), apdu.ne) {
            (Ok(0) | Err(_), None) => {}
            (Ok(0) | Err(_), Some(ne)) => tpdu.put_u8(le(ne)),
            (Ok(lc), _) => {
                tpdu.put_u8(lc);
                tpdu.extend_from_slice(command.get(apdu.data).unwrap_or_default());
            }
        }
        Ok(Self::start(tpdu.freeze(), apdu.ne, true))
    }

    fn start(command: Bytes, ne: Option<usize>, t0: bool) -> Self {
        Self {
            class: command.first().copied().unwrap_or(0),
            command,
            t0,
            most: ne.unwrap_or(MAX_RESPONSE),
            data: BytesMut::new(),
            answered: 0,
            fetching: false,
            corrected: false,
        }
    }

    /// The command to be sent; to begin with, the first.
    pub fn command(&self) -> &Bytes {
        &self.command
    }

    /// The command to be sent is a GET RESPONSE. Carried out twice, it would bring another part.
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// The card's answer to [`command`](Self::command), SW1 SW2 included.
    pub fn answered(&mut self, response: &[u8]) -> Next {
        self.answered = self.answered.saturating_add(1);
        let Some((data, word)) = response.split_last_chunk::<2>() else {
            return Next::Done(Bytes::copy_from_slice(response));
        };
        let next = match *word {
            _ if self.answered >= MAX_COMMANDS => None,
            [0x6C, sw2] if !self.corrected => self.with_le(sw2),
            _ => None,
        };
        if let Some(command) = next {
            self.corrected = true;
            return self.send(command);
        }
        let room = self.most - self.data.len();
        self.data.extend_from_slice(data.get(..room).unwrap_or(data));
        let room = self.most - self.data.len();
        match *word {
            [0x61, sw2] if room > 0 && self.answered < MAX_COMMANDS => {
                if self.fetching && data.is_empty() {
                    return self.done(*word);
                }
                (self.fetching, self.corrected) = (true, false);
                let most = if sw2 == 0 { MAX_T0_RESPONSE } else { usize::from(sw2) };
                let class = get_response_class(self.class);
                let command = [class, GET_RESPONSE, 0, 0, le(most.min(room))];
                self.send(Bytes::copy_from_slice(&command))
            }
            _ => self.done(*word),
        }
    }

    fn send(&mut self, command: Bytes) -> Next {
        self.command = command.clone();
        Next::Send(command)
    }

    fn done(&mut self, word: [u8; 2]) -> Next {
        let mut response = core::mem::take(&mut self.data);
        response.extend_from_slice(&word);
        Next::Done(response.freeze())
    }

    /// The command with the Le that 6Cxx names; none if it has no place for one.
    fn with_le(&self, sw2: u8) -> Option<Bytes> {
        let apdu = Apdu::parse(&self.command)?;
        // A T=0 TPDU has data or Le.
        if self.t0 && !apdu.data.is_empty() {
            return None;
        }
        let mut command = BytesMut::with_capacity(self.command.len() + 3);
        command.extend_from_slice(self.command.get(..apdu.le_at)?);
        match (apdu.extended, sw2) {
            (false, le) => command.put_u8(le),
            (true, le) => {
                if apdu.data.is_empty() {
                    command.put_u8(0);
                }
                command.put_u16(if le == 0 { 256 } else { le.into() });
            }
        }
        Some(command.freeze())
    }
}

/// Le of a short APDU, or P3, for so many bytes.
fn le(ne: usize) -> u8 {
    // 256 and all that is more is 0.
    u8::try_from(ne).unwrap_or(0)
}

/// The class of GET RESPONSE: that of the command, on its logical channel, without chaining and
/// secure messaging (ISO/IEC 7816-4 §5.4.1).
fn get_response_class(class: u8) -> u8 {
    match class {
        0xFF => 0x00,
        0x40..=0x7F => class & !0x30,
        _ => class & !0x1C,
    }
}

/// A command APDU taken apart (ISO/IEC 7816-3 §12.1).
struct Apdu {
    /// Where its data are.
    data: Range<usize>,
    /// Where Le is or would be; extended and without data, with the byte before it.
    le_at: usize,
    /// The most data of a response, an Le of 0 being the most there can be; none: there is no Le.
    ne: Option<usize>,
    extended: bool,
}

impl Apdu {
    fn parse(command: &[u8]) -> Option<Self> {
        let length = command.len();
        let short = |lc: usize, le: Option<u8>| Self {
            data: if lc == 0 { 0..0 } else { 5..5 + lc },
            le_at: if lc == 0 { HEADER } else { 5 + lc },
            ne: le.map(|le| if le == 0 { MAX_RESPONSE } else { le.into() }),
            extended: false,
        };
        let extended = |lc: usize, le: Option<u16>| Self {
            data: if lc == 0 { 0..0 } else { 7..7 + lc },
            le_at: if lc == 0 { HEADER } else { 7 + lc },
            ne: le.map(|le| if le == 0 { MAX_RESPONSE } else { le.into() }),
            extended: true,
        };
        match *command.get(HEADER..)? {
            [] => Some(short(0, None)),
            [le] => Some(short(0, Some(le))),
            [0, high, low] => Some(extended(0, Some(u16::from_be_bytes([high, low])))),
            [0, high, low, .., le0, le1] if has_data(length, 9, high, low) => {
                Some(extended(length - 9, Some(u16::from_be_bytes([le0, le1]))))
            }
            [0, high, low, ..] if has_data(length, 7, high, low) => {
                Some(extended(length - 7, None))
            }
            [0, ..] => None,
            [lc, ..] if length == 5 + usize::from(lc) => Some(short(lc.into(), None)),
            [lc, .., le] if length == 6 + usize::from(lc) => Some(short(lc.into(), Some(le))),
            _ => None,
        }
    }
}

/// An extended Lc is there and fits a command of this length, of which `other` bytes are no data.
fn has_data(length: usize, other: usize, high: u8, low: u8) -> bool {
    let lc = usize::from(u16::from_be_bytes([high, low]));
    lc > 0 && length == other + lc
}

#[cfg(test)]
mod tests;
