//! A card that speaks T=1 by ISO/IEC 7816-3 §11, independent of the host's side but for the bytes
//! of blocks. What it answers to a command is a function of the command.

use ccid::t1::{Block, CheckCode, Pcb, Supervisory};

/// The response of the card to any command: as long as bytes 2 and 3 say, and 90 00.
pub(crate) fn response_to(command: &[u8]) -> Vec<u8> {
    let length = match command {
        [_, _, p1, p2, ..] => usize::from(u16::from_be_bytes([*p1, *p2])),
        _ => 0,
    };
    let sum = command.iter().fold(0u8, |sum, byte| sum.rotate_left(3) ^ byte);
    let mut response: Vec<u8> = (0..length).map(|n| (n as u8).wrapping_mul(31) ^ sum).collect();
    response.extend_from_slice(&[0x90, 0x00]);
    response
}

/// What the card asks of the host before it sends a block it has ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Wtx(u8),
    Ifs(u8),
}

/// A card between two resets.
pub(crate) struct Card {
    check: CheckCode,
    /// NAD of its blocks.
    nad: u8,
    /// Before S(RESYNCH) and after.
    first_ifsc: u8,
    ifsc: u8,
    ifsd: u8,
    /// N(S) of its next I-block.
    ns: u8,
    /// N(S) that the host's next I-block must have.
    expected: u8,
    command: Vec<u8>,
    /// What is left of the response, the part that was sent last in front.
    response: Vec<u8>,
    part: usize,
    /// The last block sent.
    last: Option<Vec<u8>>,
    last_pcb: Option<Pcb>,
    /// The last I-block sent since the last one that came, and whether the chain goes on.
    last_i: Option<(u8, bool, Vec<u8>)>,
    /// A request that has not been answered, and the block to be sent after it.
    asked: Option<(Wish, Pcb, Vec<u8>)>,
    /// One for each block that it sends of itself.
    wishes: Vec<Option<Wish>>,
    /// Commands carried out.
    pub(crate) executed: usize,
    /// The longest information field that came, and went.
    pub(crate) longest: (usize, usize),
}

impl Card {
    pub(crate) fn new(check: CheckCode, host_nad: u8, ifsc: u8, wishes: Vec<Option<Wish>>) -> Self {
        Self {
            check,
            nad: host_nad.rotate_left(4),
            first_ifsc: ifsc,
            ifsc,
            ifsd: 32,
            ns: 0,
            expected: 0,
            command: Vec::new(),
            response: Vec::new(),
            part: 0,
            last: None,
            last_pcb: None,
            last_i: None,
            asked: None,
            wishes,
            executed: 0,
            longest: (0, 0),
        }
    }

    /// The answer to what came: a block, or noise.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        match Block::parse(bytes, self.check, self.nad.rotate_left(4)) {
            Ok(block) if block.information.len() <= usize::from(self.ifsc) => {
                let information = block.information.to_vec();
                self.longest.0 = self.longest.0.max(information.len());
                self.block(block.pcb, &information)
            }
            _ => self.invalid(1),
        }
    }

    fn block(&mut self, pcb: Pcb, information: &[u8]) -> Vec<u8> {
        if let Pcb::Request(Supervisory::Resynch) = pcb {
            (self.ns, self.expected, self.ifsc, self.ifsd) = (0, 0, self.first_ifsc, 32);
            self.command.clear();
            self.response.clear();
            (self.asked, self.last_i) = (None, None);
            return self.send(Pcb::Response(Supervisory::Resynch), &[]);
        }
        if self.asked.is_some() {
            return self.answered(pcb, information);
        }
        match pcb {
            Pcb::I { ns, more } if ns == self.expected => {
                self.expected ^= 1;
                self.last_i = None;
                self.command.extend_from_slice(information);
                if more {
                    return self.wish(Pcb::R { nr: self.expected, error: 0 }, &[]);
                }
                self.executed += 1;
                self.response = response_to(&self.command);
                self.command.clear();
                self.part = 0;
                self.next_part()
            }
            Pcb::R { nr, .. } => match self.last_i.clone() {
                Some((ns, more, bytes)) if ns == nr => {
                    self.last_pcb = Some(Pcb::I { ns, more });
                    self.last = Some(bytes.clone());
                    bytes
                }
                Some((_, true, _)) => self.next_part(),
                _ => self.invalid(2),
            },
            Pcb::Request(Supervisory::Ifs) => {
                self.ifsd = information[0];
                self.send(Pcb::Response(Supervisory::Ifs), information)
            }
            Pcb::Request(Supervisory::Abort) => {
                self.response.clear();
                self.send(Pcb::Response(Supervisory::Abort), &[])
            }
            _ => self.invalid(2),
        }
    }

    /// While a request of the card is not answered.
    fn answered(&mut self, pcb: Pcb, information: &[u8]) -> Vec<u8> {
        let (wish, next, data) = self.asked.clone().unwrap();
        let (what, value) = match wish {
            Wish::Wtx(value) => (Supervisory::Wtx, value),
            Wish::Ifs(value) => (Supervisory::Ifs, value),
        };
        if pcb != Pcb::Response(what) || information != [value] {
            return self.last.clone().unwrap();
        }
        if let Wish::Ifs(ifsc) = wish {
            self.ifsc = ifsc;
        }
        self.asked = None;
        self.send(next, &data)
    }

    /// Rules 7.1 to 7.3 from the card's side.
    fn invalid(&mut self, error: u8) -> Vec<u8> {
        match self.last_pcb {
            Some(Pcb::R { .. } | Pcb::Request(_)) => self.last.clone().unwrap(),
            _ => self.send(Pcb::R { nr: self.expected, error }, &[]),
        }
    }

    fn next_part(&mut self) -> Vec<u8> {
        self.response.drain(..self.part);
        self.part = self.response.len().min(usize::from(self.ifsd));
        let information = self.response[..self.part].to_vec();
        let pcb = Pcb::I { ns: self.ns, more: self.part < self.response.len() };
        self.ns ^= 1;
        self.wish(pcb, &information)
    }

    /// Sends a block, after the wish that is next.
    fn wish(&mut self, pcb: Pcb, information: &[u8]) -> Vec<u8> {
        let Some(Some(wish)) = self.wishes.pop() else { return self.send(pcb, information) };
        self.asked = Some((wish, pcb, information.to_vec()));
        match wish {
            Wish::Wtx(value) => self.send(Pcb::Request(Supervisory::Wtx), &[value]),
            Wish::Ifs(value) => self.send(Pcb::Request(Supervisory::Ifs), &[value]),
        }
    }

    fn send(&mut self, pcb: Pcb, information: &[u8]) -> Vec<u8> {
        self.longest.1 = self.longest.1.max(information.len());
        let bytes = Block { nad: self.nad, pcb, information }.emit(self.check);
        self.last = Some(bytes.clone());
        self.last_pcb = Some(pcb);
        if let Pcb::I { ns, more } = pcb {
            self.last_i = Some((ns, more, bytes.clone()));
        }
        bytes
    }
}
