//! T=1 from the host's side: against a card that keeps the standard, over a line that loses and
//! garbles blocks, or replaces them by any others. The exchange ends after a bounded number of
//! blocks, by the card's own response or by an error; on a line that replaces none, the card is
//! either in step afterwards or given up.
//!
//! Input: IFSC, flags (CRC, IFSD by the reader, S(RESYNCH) alone), IFSD, NAD, P1 P2, Lc, then a
//! byte for each block with operands behind it, and where it ends a line that is good, or silent.

#![no_main]

#[path = "../../ccid/tests/t1_card/mod.rs"]
mod t1_card;

use ccid::ClassDescriptor;
use ccid::atr::T1Parameters;
use ccid::t1::{CheckCode, Connection, Exchange, Failure, Nad, Progress, Received};
use libfuzzer_sys::fuzz_target;
use t1_card::{Card, Wish, response_to};

fuzz_target!(|input: &[u8]| {
    let Some(([ifsc, flags, ifsd, nad, p1, p2, lc], line)) = input.split_first_chunk() else {
        return;
    };
    let ifsc = (*ifsc).clamp(1, 254);
    let parameters = T1Parameters { ifsc, bwi: 4, cwi: 13, crc: flags & 1 != 0 };
    let connection =
        Connection::new(parameters, &class(*ifsd, flags & 2 != 0)).with_nad(Nad::from_byte(*nad));
    let mut command = vec![0x00, 0xB0, *p1 & 0x0F, *p2];
    command.resize(4 + usize::from(*lc), *lc);
    let exchange = if flags & 4 == 0 {
        Exchange::new(connection, command.clone().into())
    } else {
        Exchange::resynchronise(connection)
    };
    let response = if flags & 4 == 0 { response_to(&command) } else { Vec::new() };
    let mut bench = Bench {
        exchange: exchange.expect("a fresh connection"),
        card: Card::new(connection.check_code(), connection.nad(), ifsc, wishes(*p1, *nad)),
        line: Line { bytes: line, silent: flags & 8 != 0 },
        replaced: 0,
    };
    let result = bench.run(command.len() + response.len());
    let after = bench.exchange.connection();
    match (result, bench.replaced) {
        (Ok(got), 0) => assert_eq!(got, response),
        (Err(Failure::Mute | Failure::OutOfStep), 0) => assert!(after.is_dead()),
        (Err(failure), 0) => panic!("{failure:?} with a card that keeps the standard"),
        (Ok(_), _) => assert!(after.is_in_step()),
        (Err(_), _) => {}
    }
    assert!((1..=254).contains(&after.ifsc()) && (32..=254).contains(&after.ifsd()));
});

struct Bench<'a> {
    exchange: Exchange,
    card: Card,
    line: Line<'a>,
    /// Blocks that the card did not send.
    replaced: u32,
}

impl Bench<'_> {
    fn run(&mut self, bytes: usize) -> Result<bytes::Bytes, Failure> {
        // Each byte in a block, S(IFS), the card's wishes; what was replaced may each be a request
        // or a part of a response, or make the card take the command for another, with the longest
        // of responses. Six sends each, four times over.
        const LONGEST: usize = 0xFFFF + 2;
        loop {
            let progress = self.step();
            let steps = bytes + 9 + 20 + if self.replaced > 0 { LONGEST } else { 0 };
            let bound = (u32::try_from(steps).unwrap() + self.replaced) * 6 * 4;
            assert!(self.exchange.blocks() <= bound, "{} of {bound}", self.exchange.blocks());
            match progress {
                Progress::Send => {}
                Progress::Done(result) => return result,
            }
        }
    }

    fn step(&mut self) -> Progress {
        let mut block = self.exchange.block().to_vec();
        let check = match self.exchange.connection().check_code() {
            CheckCode::Lrc => 1,
            CheckCode::Crc => 2,
        };
        assert!((3 + check..=3 + 254 + check).contains(&block.len()));
        let received = match self.line.next() {
            0..=3 => self.card.receive(&block),
            4 => {
                turn(&mut block, self.line.next());
                self.card.receive(&block)
            }
            5 => {
                let mut answer = self.card.receive(&block);
                turn(&mut answer, self.line.next());
                answer
            }
            6 => {
                let mut answer = self.card.receive(&block);
                answer.truncate(usize::from(self.line.next()) % answer.len());
                answer
            }
            7 => {
                self.replaced += 1;
                self.line.block(self.exchange.connection())
            }
            8 => return self.exchange.received(Received::Nothing),
            9 => {
                self.card.receive(&block);
                return self.exchange.received(Received::Nothing);
            }
            _ => {
                self.card.receive(&block);
                return self.exchange.received(Received::Garbled);
            }
        };
        self.exchange.received(Received::Block(&received))
    }
}

struct Line<'a> {
    bytes: &'a [u8],
    silent: bool,
}

impl Line<'_> {
    /// What happens to the next block, or an operand.
    fn next(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                byte % 16
            }
            None => {
                if self.silent {
                    8
                } else {
                    0
                }
            }
        }
    }

    /// A block with a right check code, whatever it says.
    fn block(&mut self, connection: Connection) -> Vec<u8> {
        let pcb = self.next() << 4 | self.next();
        let information = vec![self.next() << 4 | self.next(); usize::from(self.next() % 4)];
        match ccid::t1::Pcb::from_byte(pcb) {
            Some(pcb) => {
                let nad = connection.card_nad();
                let block = ccid::t1::Block { nad, pcb, information: &information };
                block.emit(connection.check_code())
            }
            None => information,
        }
    }
}

/// One byte, one bit: any check code sees it.
fn turn(block: &mut [u8], at: u8) {
    let at = usize::from(at) % block.len();
    block[at] ^= 0x10;
}

fn wishes(first: u8, second: u8) -> Vec<Option<Wish>> {
    (0..8)
        .map(|bit| match (first >> bit & 1, second >> bit & 1) {
            (0, _) => None,
            (_, 0) => Some(Wish::Wtx(second | 1)),
            _ => Some(Wish::Ifs(second.clamp(1, 254))),
        })
        .collect()
}

fn class(max_ifsd: u8, auto_ifsd: bool) -> ClassDescriptor {
    let mut class = [0; 54];
    (class[0], class[1], class[5], class[6]) = (54, 0x21, 0x07, 0x03);
    class[28] = max_ifsd;
    class[41] = if auto_ifsd { 0x04 } else { 0 };
    class[42] = 0x01;
    class[44..46].copy_from_slice(&271u16.to_le_bytes());
    ClassDescriptor::parse(&class).unwrap()
}
