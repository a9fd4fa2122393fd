//! One command for its response (ISO/IEC 7816-3 §11.6), from the host's side.
//!
//! Rules of §11.6.3 as they stand here. A block of the host goes at most three times in a row
//! without an answer that brings the exchange on:
//!
//! * 7.1, 7.3: an invalid block, or none in time, after an I-block or an S(response): an R-block
//!   asks for the I-block that is expected.
//! * 7.2: the same after an R-block: it is sent again as it was.
//! * 7.3: the same after an S(request): it is sent again.
//! * 7.6: an R-block that asks for the I-block sent last: that goes again.
//! * 7.4: then S(RESYNCH request). Once it is answered, the command goes again from its beginning,
//!   all of it. Three of them in an exchange, answered or not, and the card is given up.
//!
//! Why it ends: each step of command or response, each request of the card and each S(RESYNCH) has
//! a limit, and so has the number of blocks between two of them. [`MAX_BLOCKS`] follows.

use super::block::{Block, BlockError, Pcb, Supervisory};
use super::connection::{Connection, Standing};
use super::failure::Failure;
use crate::wire::MAX_DATA_LEN;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use log::{debug, warn};

/// Tries of one step, the first one included (rule 7.4.2).
const TRIES: u8 = 3;

/// S(RESYNCH request) blocks of one exchange.
const MAX_RESYNCHS: u8 = 3;

/// Requests of the card (WTX, IFS, ABORT) and empty blocks of a chain that one exchange may have.
/// With the usual waiting times that is more than an hour.
pub const MAX_REQUESTS: u16 = 4096;

/// No exchange sends more blocks: one I-block for each byte of the longest command, one R-block
/// for each byte of the longest response, an answer to each request, and some for S(IFS); each as
/// often as it may have to be repeated, an R-block in between; and all of that after each
/// S(RESYNCH) anew.
pub const MAX_BLOCKS: u32 = {
    let steps = 2 * MAX_DATA_LEN as u32 + MAX_REQUESTS as u32 + 16;
    steps * (2 * TRIES as u32) * (MAX_RESYNCHS as u32 + 1)
};

/// What came instead of a block, or in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// These bytes.
    Block(&'a [u8]),
    /// Characters with wrong parity, or too many of them.
    Garbled,
    /// Nothing within the block waiting time.
    Nothing,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// [`Exchange::block`] is to be sent.
    Send,
    /// The exchange has ended, with the response or without.
    Done(Result<Bytes, Failure>),
}

/// Where the exchange stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// S(IFS request) is out.
    Negotiating {
        asked: u8,
    },
    /// The command goes out: `sent` bytes have been acknowledged, `part` are on the way.
    Sending {
        sent: usize,
        part: usize,
    },
    /// The response comes in.
    Receiving,
    /// The card has aborted a chain: it answers, or gives the right to send back.
    Aborted,
    /// S(ABORT request) is out, as the response is too long.
    Aborting,
    /// S(RESYNCH request) is out.
    Resynchronising,
    Over,
}

/// One command on its way, or a resynchronisation alone.
#[derive(Debug)]
pub struct Exchange {
    connection: Connection,
    /// None: only resynchronise.
    command: Option<Bytes>,
    response: BytesMut,
    phase: Phase,
    block: Vec<u8>,
    /// What kind of block that is.
    last: Pcb,
    multiplier: u8,
    /// Sent in a row without success.
    failures: u8,
    resynchs: u8,
    /// Something has come since the first S(RESYNCH request).
    heard: bool,
    /// What came last was a good block but for this NAD.
    wrong_nad: Option<u8>,
    requests: u16,
    blocks: u32,
    /// The command has begun to go to the card; and once more after S(RESYNCH).
    begun: bool,
    repeated: bool,
}

impl Exchange {
    /// Sends `command`, any bytes but none, and receives the response. The card's IFSD is agreed
    /// first, if it is not; and if an earlier exchange was broken off, S(RESYNCH) goes before.
    ///
    /// # Errors
    /// [`Failure::Dead`].
    pub fn new(connection: Connection, command: Bytes) -> Result<Self, Failure> {
        Self::start(connection, Some(command))
    }

    /// Only resynchronises: done, with an empty response, when the card has answered.
    ///
    /// # Errors
    /// [`Failure::Dead`].
    pub fn resynchronise(connection: Connection) -> Result<Self, Failure> {
        Self::start(connection, None)
    }

    fn start(connection: Connection, command: Option<Bytes>) -> Result<Self, Failure> {
        let mut exchange = Self {
            connection,
            command,
            response: BytesMut::new(),
            phase: Phase::Over,
            block: Vec::new(),
            last: Pcb::Request(Supervisory::Resynch),
            multiplier: 0,
            failures: 0,
            resynchs: 0,
            heard: false,
            wrong_nad: None,
            requests: 0,
            blocks: 0,
            begun: false,
            repeated: false,
        };
        match (connection.standing, &exchange.command) {
            (Standing::Dead, _) => return Err(Failure::Dead),
            (Standing::InStep, Some(_)) => exchange.begin(),
            (Standing::OutOfStep, _) | (Standing::InStep, None) => exchange.resynch(),
        };
        Ok(exchange)
    }

    /// The block to be sent.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// By how much the block waiting time is to be multiplied until this block is answered: what
    /// the card asked for by S(WTX request); 0 if it asked for nothing, as bBWI has it.
    pub fn multiplier(&self) -> u8 {
        self.multiplier
    }

    /// Blocks sent so far, the one to be sent included.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The command went to the card again after S(RESYNCH), which may have carried it out before.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// The command was not sent after all, and the card knows nothing of it: over, as it stood
    /// before its first block.
    pub fn withdraw(&mut self) {
        self.phase = Phase::Over;
    }

    /// How host and card stand: out of step as long as a block is on its way.
    pub fn connection(&self) -> Connection {
        match self.phase {
            Phase::Over => self.connection,
            _ => self.connection.broken_off(),
        }
    }

    /// What came in answer to [`block`](Self::block).
    pub fn received(&mut self, received: Received<'_>) -> Progress {
        self.multiplier = 0;
        self.heard |= received != Received::Nothing;
        self.wrong_nad = None;
        let fault = match received {
            Received::Block(bytes) => {
                let connection = &self.connection;
                match Block::parse(bytes, connection.check_code(), connection.card_nad()) {
                    Ok(block) => return self.handle(block.pcb, block.information),
                    Err(BlockError::WrongCheckCode) => Fault::Transmission,
                    Err(error) => {
                        debug!("invalid block: {error}");
                        if let BlockError::WrongNad(nad) = error {
                            self.wrong_nad = Some(nad);
                        }
                        Fault::Block
                    }
                }
            }
            Received::Garbled => Fault::Transmission,
            Received::Nothing => Fault::Silence,
        };
        self.failed(fault)
    }

    /// A block that is valid in itself.
    fn handle(&mut self, pcb: Pcb, information: &[u8]) -> Progress {
        match self.phase {
            Phase::Over => Progress::Done(Err(Failure::OutOfStep)),
            Phase::Resynchronising => match pcb {
                Pcb::Response(Supervisory::Resynch) => {
                    self.connection.resynchronised();
                    self.begin()
                }
                _ => self.failed(Fault::Unexpected),
            },
            Phase::Negotiating { asked } => match (pcb, information) {
                (Pcb::Response(Supervisory::Ifs), [ifsd]) if *ifsd == asked => {
                    self.connection.settle_ifsd(asked);
                    self.begin()
                }
                // An answer, but another size.
                (Pcb::Response(Supervisory::Ifs), _) => self.ask_for_less(asked),
                _ => self.failed(Fault::Unexpected),
            },
            Phase::Aborting => match pcb {
                Pcb::Response(Supervisory::Abort) => {
                    self.done(Standing::InStep, Err(Failure::ResponseTooLong))
                }
                _ => self.failed(Fault::Unexpected),
            },
            Phase::Sending { .. } | Phase::Receiving | Phase::Aborted => match pcb {
                Pcb::I { ns, more } => self.information(ns, more, information),
                Pcb::R { nr, .. } => self.acknowledged(nr),
                Pcb::Request(what) => self.requested(what, information),
                Pcb::Response(_) => self.failed(Fault::Unexpected),
            },
        }
    }

    /// An I-block.
    fn information(&mut self, ns: u8, more: bool, information: &[u8]) -> Progress {
        if ns != self.connection.nr {
            return self.failed(Fault::Unexpected);
        }
        match self.phase {
            // It acknowledges the last block of the command, and no other (rule 2.1).
            Phase::Sending { sent, part } if sent + part == self.command_len() => {
                self.connection.ns ^= 1;
            }
            Phase::Sending { .. } => return self.failed(Fault::Unexpected),
            _ => {}
        }
        self.connection.nr ^= 1;
        self.phase = Phase::Receiving;
        self.failures = 0;
        if self.response.len() + information.len() > MAX_DATA_LEN {
            if more {
                self.phase = Phase::Aborting;
                return self.send(Pcb::Request(Supervisory::Abort), &[]);
            }
            return self.done(Standing::InStep, Err(Failure::ResponseTooLong));
        }
        self.response.extend_from_slice(information);
        if !more {
            let response = core::mem::take(&mut self.response).freeze();
            return self.done(Standing::InStep, Ok(response));
        }
        if information.is_empty() && !self.count_request() {
            return self.too_many_requests();
        }
        self.send(Pcb::R { nr: self.connection.nr, error: 0 }, &[])
    }

    /// An R-block.
    fn acknowledged(&mut self, nr: u8) -> Progress {
        match self.phase {
            Phase::Sending { sent, part } if nr != self.connection.ns => {
                let sent = sent + part;
                if sent == self.command_len() {
                    // The whole command is answered by an I-block only (rule 2.1).
                    return self.failed(Fault::Unexpected);
                }
                self.connection.ns ^= 1;
                self.failures = 0;
                self.send_part(sent)
            }
            Phase::Sending { sent, .. } => {
                // It has not come through. If we have asked, the failure is counted already.
                if !matches!(self.last, Pcb::R { .. }) {
                    self.failures += 1;
                }
                if self.failures >= TRIES { self.resynch() } else { self.send_part(sent) }
            }
            // The card has nothing to say and waits for the next command.
            Phase::Aborted => {
                self.connection.ns = nr;
                self.done(Standing::InStep, Err(Failure::Aborted))
            }
            _ => self.failed(Fault::Unexpected),
        }
    }

    /// The card asks for something.
    fn requested(&mut self, what: Supervisory, information: &[u8]) -> Progress {
        if what == Supervisory::Resynch {
            // Only the host may ask (rule 6): the card has lost its way.
            debug!("the card asks for S(RESYNCH)");
            return self.resynch();
        }
        match (what, information) {
            (Supervisory::Wtx, [multiplier @ 1..=255]) => self.multiplier = *multiplier,
            (Supervisory::Ifs, [ifsc @ 1..=254]) => self.connection.set_ifsc(*ifsc),
            (Supervisory::Abort, []) => {
                if let Phase::Sending { .. } = self.phase {
                    self.connection.ns ^= 1;
                }
                self.response.clear();
                self.phase = Phase::Aborted;
            }
            // WTX of 0, IFS of 0 or 255.
            _ => return self.failed(Fault::Block),
        }
        if !self.count_request() {
            return self.too_many_requests();
        }
        self.failures = 0;
        self.send(Pcb::Response(what), information)
    }

    fn count_request(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MAX_REQUESTS
    }

    fn too_many_requests(&mut self) -> Progress {
        self.multiplier = 0;
        self.done(Standing::OutOfStep, Err(Failure::TooManyRequests))
    }

    /// The block has not brought the exchange on.
    fn failed(&mut self, fault: Fault) -> Progress {
        self.failures += 1;
        let again = self.failures < TRIES;
        match self.phase {
            Phase::Over => Progress::Done(Err(Failure::OutOfStep)),
            Phase::Resynchronising => self.resynch(),
            Phase::Negotiating { asked } if again => self.ask_for(asked),
            Phase::Negotiating { asked } if fault == Fault::Unexpected => self.ask_for_less(asked),
            Phase::Negotiating { .. } => {
                self.connection.default_ifsd();
                self.begin()
            }
            Phase::Aborting if again => self.send(Pcb::Request(Supervisory::Abort), &[]),
            Phase::Aborting => self.done(Standing::OutOfStep, Err(Failure::ResponseTooLong)),
            _ if !again => self.resynch(),
            _ => match self.last {
                same @ Pcb::R { .. } => self.send(same, &[]),
                _ => self.send(Pcb::R { nr: self.connection.nr, error: fault.code() }, &[]),
            },
        }
    }

    /// Sends S(RESYNCH request), if there is one left.
    fn resynch(&mut self) -> Progress {
        if self.resynchs == 0 {
            self.heard = false;
        }
        if self.resynchs >= MAX_RESYNCHS {
            let failure = match self.wrong_nad {
                Some(nad) => Failure::WrongNad(nad),
                None if self.heard => Failure::OutOfStep,
                None => Failure::Mute,
            };
            return self.done(Standing::Dead, Err(failure));
        }
        self.resynchs += 1;
        self.phase = Phase::Resynchronising;
        self.send(Pcb::Request(Supervisory::Resynch), &[])
    }

    /// From the beginning, in step with the card.
    fn begin(&mut self) -> Progress {
        self.failures = 0;
        self.response.clear();
        self.repeated |= self.begun;
        match (&self.command, self.connection.ifsd_to_ask()) {
            (None, _) => self.done(Standing::InStep, Ok(Bytes::new())),
            (Some(_), Some(asked)) => self.ask_for(asked),
            (Some(_), None) => self.send_part(0),
        }
    }

    fn ask_for(&mut self, asked: u8) -> Progress {
        self.phase = Phase::Negotiating { asked };
        self.send(Pcb::Request(Supervisory::Ifs), &[asked])
    }

    fn ask_for_less(&mut self, refused: u8) -> Progress {
        debug!("the card does not accept an IFSD of {refused}");
        self.connection.smaller_ifsd(refused);
        self.begin()
    }

    /// Sends the part of the command that begins at `sent`.
    fn send_part(&mut self, sent: usize) -> Progress {
        let rest = self.command.as_ref().map_or_else(Bytes::new, |command| command.slice(sent..));
        let part = rest.len().min(usize::from(self.connection.ifsc()));
        self.phase = Phase::Sending { sent, part };
        self.begun = true;
        let pcb = Pcb::I { ns: self.connection.ns, more: part < rest.len() };
        self.send(pcb, rest.get(..part).unwrap_or_default())
    }

    fn send(&mut self, pcb: Pcb, information: &[u8]) -> Progress {
        if self.blocks >= MAX_BLOCKS {
            return self.done(Standing::Dead, Err(Failure::OutOfStep));
        }
        self.blocks += 1;
        self.last = pcb;
        let block = Block { nad: self.connection.nad(), pcb, information };
        self.block = block.emit(self.connection.check_code());
        Progress::Send
    }

    fn done(&mut self, standing: Standing, result: Result<Bytes, Failure>) -> Progress {
        if let Err(failure) = result {
            warn!("T=1: {failure}");
        }
        self.connection.standing = standing;
        self.phase = Phase::Over;
        Progress::Done(result)
    }

    fn command_len(&self) -> usize {
        self.command.as_ref().map_or(0, Bytes::len)
    }
}

/// Why a block has not brought the exchange on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Wrong check code or parity.
    Transmission,
    /// Not a block that may be acted upon.
    Block,
    /// Nothing came.
    Silence,
    /// A good block in the wrong place.
    Unexpected,
}

impl Fault {
    /// Bits 0 to 3 of an R-block's PCB (ISO/IEC 7816-3 §11.3.2.2).
    const fn code(self) -> u8 {
        match self {
            Self::Transmission => 1,
            Self::Block | Self::Silence | Self::Unexpected => 2,
        }
    }
}
