//! T=1 on the card's side, block by block (ISO/IEC 7816-3 §11): it answers what it is sent, and
//! knows what the host may not do.

mod block;
mod faults;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Faults};

use super::contacts::{Misuse, Signal};
use super::{Pace, Reaction};
use block::{Block, Pcb, Supervisory, Why};
use std::time::Duration;

/// IFSC and IFSD where nothing else has been said (§11.4.2).
const DEFAULT_IFS: u8 = 32;

/// The most that a chain brings: the longest APDU there is, and a little.
const MAX_CHAIN: usize = 65_600;

/// S(IFS request) of a reader that tells its IFSD by itself.
pub(crate) fn ifs_request(ifsd: u8, crc: bool) -> Vec<u8> {
    Block::request(0, Supervisory::Ifs, &[ifsd]).emit(crc)
}

/// A block of this NAD and PCB, as a reader makes it that has a prologue for its command.
pub(crate) fn t1_block(nad: u8, pcb: u8, information: &[u8], crc: bool) -> Vec<u8> {
    Block { nad, pcb, inf: information.to_vec() }.emit(crc)
}

/// The card's end of T=1, from a reset to the next.
#[derive(Debug)]
pub(super) struct T1 {
    crc: bool,
    /// IFSC of the ATR, which S(RESYNCH) brings back.
    initial_ifsc: u8,
    /// The longest information field that the card takes.
    ifsc: u8,
    /// The longest one that the host takes.
    ifsd: u8,
    /// N(S) of the next I-block sent.
    ns: bool,
    /// N(S) of the next I-block expected.
    nr: bool,
    /// NAD of what it sends.
    nad: u8,
    phase: Phase,
    /// The last block sent, as it was meant.
    last: Option<Block>,
}

/// Whose turn it is, and with what.
#[derive(Debug)]
enum Phase {
    /// The host sends; so much of its chain has come.
    Listening(Vec<u8>),
    /// `current`, an I-block, has been sent; `rest` of the response follows.
    Answering { current: Block, rest: Vec<u8> },
    /// An S(request) has been sent. When it has been answered, `held` is sent, and `then` is the
    /// phase.
    Asking { what: Ask, held: Block, then: Box<Phase> },
    /// Nothing but S(RESYNCH request) is understood.
    Lost,
    /// Nothing is sent any more.
    Dead,
}

/// What an S(request) of the card's is for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Ifs(u8),
    /// `left` more requests follow; None without end. The card works so long after each answer.
    Wtx {
        multiplier: u8,
        left: Option<u32>,
        work: Duration,
    },
    Abort,
}

impl T1 {
    /// As after a reset: `ifsc` as the ATR says it.
    pub(super) fn new(ifsc: Option<u8>, crc: bool) -> Self {
        // 00h and FFh are reserved: the default holds.
        let ifsc = ifsc.filter(|ifsc| !matches!(ifsc, 0 | 0xFF)).unwrap_or(DEFAULT_IFS);
        Self {
            crc,
            initial_ifsc: ifsc,
            ifsc,
            ifsd: DEFAULT_IFS,
            ns: false,
            nr: false,
            nad: 0,
            phase: Phase::Listening(Vec::new()),
            last: None,
        }
    }

    /// Falls silent until the next reset.
    pub(super) fn die(&mut self) {
        self.phase = Phase::Dead;
    }

    /// A block has come; `process` does a command.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        faults: &mut Faults,
        process: impl FnOnce(&[u8]) -> Reaction,
    ) -> Signal {
        if matches!(self.phase, Phase::Dead) || faults.is_deaf() {
            return Signal::mute();
        }
        let reply = match Block::parse(bytes, self.crc) {
            Ok(block) => self.take(block, process),
            Err(misuse) => {
                let why = if misuse == Misuse::BlockCheck { Why::Check } else { Why::Other };
                self.refuse(misuse, why)
            }
        };
        let misuse = reply.misuse;
        let signal = if reply.pace == Pace::Mute {
            self.die();
            Signal::mute()
        } else {
            self.send(reply.block, reply.pace, faults)
        };
        Signal { misuse, ..signal }
    }

    fn take(&mut self, block: Block, process: impl FnOnce(&[u8]) -> Reaction) -> Reply {
        let Block { nad, pcb, inf } = block;
        let addresses_differ = nad == 0 || nad >> 4 != nad & 0x0F;
        if nad & 0x88 != 0 || !addresses_differ {
            return self.refuse(Misuse::Nad, Why::Other);
        }
        let Some(kind) = Pcb::read(pcb) else { return self.refuse(Misuse::Pcb, Why::Other) };
        if !kind.fits(inf.len()) {
            return self.refuse(Misuse::BlockLength, Why::Other);
        }
        if matches!(self.phase, Phase::Lost) && kind != Pcb::Request(Supervisory::Resynch) {
            return Block::r(self.nad, self.nr, Why::Other).into();
        }
        self.nad = nad.rotate_left(4);
        match kind {
            Pcb::I { ns, more } => self.information(ns, more, &inf, process),
            Pcb::R { nr } => self.repeat_or_go_on(nr),
            Pcb::Request(about) => self.request(about, &inf),
            Pcb::Response(about) => self.response(about, &inf),
        }
    }

    /// An I-block.
    fn information(
        &mut self,
        ns: bool,
        more: bool,
        inf: &[u8],
        process: impl FnOnce(&[u8]) -> Reaction,
    ) -> Reply {
        let chain = match &mut self.phase {
            Phase::Listening(chain) => std::mem::take(chain),
            Phase::Answering { rest, .. } if rest.is_empty() => Vec::new(),
            _ => return self.refuse(Misuse::UnexpectedBlock, Why::Other),
        };
        let refused = match () {
            () if ns != self.nr => Some(Misuse::BlockSequence),
            () if inf.len() > self.ifsc.into() => Some(Misuse::BlockTooLong),
            () if chain.len() + inf.len() > MAX_CHAIN => Some(Misuse::BlockLength),
            () => None,
        };
        if let Some(misuse) = refused {
            // What had come stays; an answer given before stays, too.
            if let Phase::Listening(kept) = &mut self.phase {
                *kept = chain;
            }
            return self.refuse(misuse, Why::Other);
        }
        self.nr = !self.nr;
        let command = [&chain[..], inf].concat();
        if more {
            self.phase = Phase::Listening(command);
            return Block::r(self.nad, self.nr, Why::NoError).into();
        }
        let Reaction { pace, response } = process(&command);
        let misuse = (command.len() < 4).then_some(Misuse::NoApdu);
        Reply { misuse, ..self.answer(pace, &response) }
    }

    /// The response to a command, its first block or the first S(WTX request) before it.
    fn answer(&mut self, pace: Pace, response: &[u8]) -> Reply {
        let block = self.next_part(response);
        let (multiplier, left, work) = match pace {
            Pace::After(_) | Pace::Never | Pace::Mute => {
                return Reply { pace, ..block.into() };
            }
            Pace::Extend { periods: 0, period, .. } => {
                return Reply { pace: Pace::After(period), ..block.into() };
            }
            Pace::Extend { periods, period, multiplier } => (multiplier, Some(periods), period),
            Pace::ExtendForEver { period, multiplier } => (multiplier, None, period),
        };
        let left = left.map(|left| left - 1);
        self.ask(Ask::Wtx { multiplier, left, work }, block).into()
    }

    /// The next I-block of a response, which becomes the current one.
    fn next_part(&mut self, response: &[u8]) -> Block {
        let room = usize::from(self.ifsd).min(response.len());
        let (part, rest) = response.split_at_checked(room).unwrap_or((response, &[]));
        let current = Block::i(self.nad, self.ns, !rest.is_empty(), part);
        self.ns = !self.ns;
        self.phase = Phase::Answering { current: current.clone(), rest: rest.to_vec() };
        current
    }

    /// Sends an S(request) first; `held` and the phase wait for its answer.
    fn ask(&mut self, what: Ask, held: Block) -> Block {
        let then = std::mem::replace(&mut self.phase, Phase::Lost);
        self.phase = Phase::Asking { what, held, then: Box::new(then) };
        self.asked(what)
    }

    fn asked(&self, what: Ask) -> Block {
        match what {
            Ask::Ifs(ifs) => Block::request(self.nad, Supervisory::Ifs, &[ifs]),
            Ask::Wtx { multiplier, .. } => {
                Block::request(self.nad, Supervisory::Wtx, &[multiplier])
            }
            Ask::Abort => Block::request(self.nad, Supervisory::Abort, &[]),
        }
    }

    /// An R-block: the host asks for a block again, or for the next of a chain (§11.6.3, rules 2 and
    /// 7).
    fn repeat_or_go_on(&mut self, nr: bool) -> Reply {
        let last = self.last.as_ref().and_then(|last| Pcb::read(last.pcb));
        let last_is_i = matches!(last, Some(Pcb::I { .. }));
        match &mut self.phase {
            Phase::Asking { what: Ask::Ifs(0 | 0xFF), .. } => self.go_on(Duration::ZERO),
            Phase::Asking { .. } => self.ask_again(),
            Phase::Answering { current, .. } if nr == (current.pcb & 0x40 != 0) => {
                current.clone().into()
            }
            Phase::Answering { rest, .. } if !rest.is_empty() => {
                let rest = std::mem::take(rest);
                self.next_part(&rest).into()
            }
            // The host has sent something that was not heard: its number is asked for.
            Phase::Answering { .. } if last_is_i => {
                Block::r(self.nad, self.nr, Why::NoError).into()
            }
            _ => match self.last.clone() {
                Some(last) => last.into(),
                None => Block::r(self.nad, self.nr, Why::NoError).into(),
            },
        }
    }

    fn request(&mut self, about: Supervisory, inf: &[u8]) -> Reply {
        let agreed = Block::response(self.nad, about, inf);
        match (about, inf) {
            (Supervisory::Resynch, _) => {
                let nad = self.nad;
                *self = Self { nad, ..Self::new(Some(self.initial_ifsc), self.crc) };
                agreed.into()
            }
            (Supervisory::Ifs, &[ifs]) if !matches!(ifs, 0 | 0xFF) => {
                self.ifsd = ifs;
                agreed.into()
            }
            (Supervisory::Ifs, _) => self.refuse(Misuse::IfsValue, Why::Other),
            (Supervisory::Abort, _) => {
                self.phase = Phase::Listening(Vec::new());
                agreed.into()
            }
            // The host's time is the host's.
            (Supervisory::Wtx, _) => self.refuse(Misuse::Pcb, Why::Other),
        }
    }

    fn response(&mut self, about: Supervisory, inf: &[u8]) -> Reply {
        let Phase::Asking { what, held, .. } = &mut self.phase else {
            return self.refuse(Misuse::UnexpectedBlock, Why::Other);
        };
        match (&mut *what, about, inf) {
            (Ask::Ifs(asked), Supervisory::Ifs, &[ifs]) if *asked == ifs => {
                let misuse = matches!(ifs, 0 | 0xFF).then_some(Misuse::IfsValue);
                // A host that agrees to what may not be asked for changes nothing.
                if misuse.is_none() {
                    self.ifsc = ifs;
                }
                Reply { misuse, ..self.go_on(Duration::ZERO) }
            }
            (Ask::Wtx { multiplier, left, work }, Supervisory::Wtx, &[inf])
                if *multiplier == inf =>
            {
                let work = *work;
                if *left == Some(0) {
                    return self.go_on(work);
                }
                *left = left.map(|left| left - 1);
                let what = *what;
                Reply { pace: Pace::After(work), ..self.asked(what).into() }
            }
            (Ask::Abort, Supervisory::Abort, _) => {
                // Its number has not been used up.
                if let Some(Pcb::I { ns, .. }) = Pcb::read(held.pcb) {
                    self.ns = ns;
                }
                self.phase = Phase::Listening(Vec::new());
                Block::r(self.nad, self.nr, Why::NoError).into()
            }
            (_, Supervisory::Ifs | Supervisory::Wtx, _) => {
                let reply = self.ask_again();
                Reply { misuse: Some(Misuse::Response), ..reply }
            }
            _ => self.refuse(Misuse::UnexpectedBlock, Why::Other),
        }
    }

    /// What was held back while the card asked for something.
    fn go_on(&mut self, after: Duration) -> Reply {
        match std::mem::replace(&mut self.phase, Phase::Lost) {
            Phase::Asking { held, then, .. } => {
                self.phase = *then;
                Reply { pace: Pace::After(after), ..held.into() }
            }
            other => {
                self.phase = other;
                Block::r(self.nad, self.nr, Why::Other).into()
            }
        }
    }

    /// The S(request) that has not been answered.
    fn ask_again(&self) -> Reply {
        match &self.phase {
            Phase::Asking { what, .. } => self.asked(*what).into(),
            _ => Block::r(self.nad, self.nr, Why::Other).into(),
        }
    }

    /// What the host has sent is wrong: an R-block says so; while an S(request) waits for its
    /// answer, that request does.
    fn refuse(&self, misuse: Misuse, why: Why) -> Reply {
        let reply = match (&self.phase, misuse) {
            (Phase::Asking { .. }, Misuse::UnexpectedBlock) => self.ask_again(),
            _ => Block::r(self.nad, self.nr, why).into(),
        };
        Reply { misuse: Some(misuse), ..reply }
    }

    /// Sends a block, or what a fault makes of it.
    fn send(&mut self, block: Block, pace: Pace, faults: &mut Faults) -> Signal {
        let fault = faults.next();
        let what = match fault {
            Some(Fault::Extend { times, multiplier, work }) if times != Some(0) => {
                Some(Ask::Wtx { multiplier, left: times.map(|times| times - 1), work })
            }
            Some(Fault::Ifs(ifs)) => Some(Ask::Ifs(ifs)),
            Some(Fault::Abort) => Some(Ask::Abort),
            _ => None,
        };
        let block = match what {
            Some(what) => self.ask(what, block),
            None => block,
        };
        let mut signal = Signal { pace, extension: extension(&block), ..Signal::mute() };
        match fault {
            Some(Fault::Parity) => signal.parity_error = true,
            Some(Fault::Mute) => (signal.pace, signal.extension) = (Pace::Mute, None),
            Some(Fault::MuteForGood) => {
                self.die();
                return Signal::mute();
            }
            Some(Fault::Resynch) => self.phase = Phase::Lost,
            _ => {}
        }
        signal.characters = self.bent(&block, fault).into();
        self.last = Some(block);
        signal
    }

    /// The bytes of a block with a fault in it.
    fn bent(&self, block: &Block, fault: Option<Fault>) -> Vec<u8> {
        let crc = self.crc;
        let mut bent = block.clone();
        match fault {
            Some(Fault::BadCheck) => {
                let mut bytes = block.emit(crc);
                bytes.last_mut().into_iter().for_each(|byte| *byte ^= 0x55);
                return bytes;
            }
            Some(Fault::Truncated) => {
                let mut bytes = block.emit(crc);
                bytes.pop();
                return bytes;
            }
            Some(Fault::Length255) => return block.emit_with_len(0xFF, crc),
            Some(Fault::Raw(raw)) => return raw,
            Some(Fault::WrongSequence) => match Pcb::read(block.pcb) {
                Some(Pcb::I { .. }) => bent.pcb ^= 0x40,
                Some(Pcb::R { .. }) => bent.pcb ^= 0x10,
                _ => {}
            },
            Some(Fault::Nad(nad)) => bent.nad = nad,
            Some(Fault::LongerThanIfsd) => bent.inf.resize(usize::from(self.ifsd) + 1, 0),
            Some(Fault::Pcb(pcb)) => bent.pcb = pcb,
            Some(Fault::RBlock) => bent = Block::r(self.nad, self.nr, Why::NoError),
            Some(Fault::Resynch) => bent = Block::r(self.nad, self.nr, Why::Other),
            _ => {}
        }
        bent.emit(crc)
    }
}

/// The multiplier, if the block is S(WTX request).
fn extension(block: &Block) -> Option<u8> {
    match Pcb::read(block.pcb) {
        Some(Pcb::Request(Supervisory::Wtx)) => block.inf.first().copied(),
        _ => None,
    }
}

/// What is sent next.
struct Reply {
    pace: Pace,
    block: Block,
    misuse: Option<Misuse>,
}

impl From<Block> for Reply {
    fn from(block: Block) -> Self {
        Self { pace: Pace::AT_ONCE, block, misuse: None }
    }
}
