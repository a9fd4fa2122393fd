//! T=1 against a card that keeps the standard, over a line that does not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "t1_card/mod.rs"]
mod t1_card;

use bytes::Bytes;
use ccid::ClassDescriptor;
use ccid::atr::T1Parameters;
use ccid::t1::{CheckCode, Connection, Exchange, Failure, MAX_REQUESTS, Nad, Progress, Received};
use proptest::prelude::*;
use t1_card::{Card, Wish, response_to};

/// What happens to one block and its answer.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Line {
    Good,
    /// A byte of the host's block is turned over on the way.
    GarbledThere(u8),
    /// The card gets nothing.
    LostThere,
    /// A byte of the card's block is turned over.
    GarbledBack(u8),
    /// The card's block breaks off.
    Truncated,
    /// The reader saw wrong parity, or nothing.
    Parity,
    LostBack,
}

/// One exchange in the middle of a session.
struct Bench {
    card: Card,
    line: Vec<Line>,
    blocks: u32,
}

impl Bench {
    fn run(
        &mut self,
        connection: Connection,
        command: &[u8],
    ) -> (Result<Bytes, Failure>, Connection) {
        let mut exchange = match Exchange::new(connection, Bytes::copy_from_slice(command)) {
            Ok(exchange) => exchange,
            Err(failure) => return (Err(failure), connection),
        };
        let bound = bound(command.len(), response_to(command).len());
        loop {
            let line = self.line.pop().unwrap_or(Line::Good);
            let answer = self.through(line, exchange.block().to_vec());
            let received = match (&answer, line) {
                (_, Line::Parity) => Received::Garbled,
                (Some(bytes), _) => Received::Block(bytes),
                (None, _) => Received::Nothing,
            };
            let progress = exchange.received(received);
            assert!(exchange.blocks() <= bound, "{} blocks of {bound}", exchange.blocks());
            if let Progress::Done(result) = progress {
                self.blocks += exchange.blocks();
                return (result, exchange.connection());
            }
        }
    }

    fn through(&mut self, line: Line, mut block: Vec<u8>) -> Option<Vec<u8>> {
        match line {
            Line::LostThere => return None,
            Line::GarbledThere(at) => turn(&mut block, at),
            _ => {}
        }
        let mut answer = self.card.receive(&block);
        match line {
            Line::LostBack => return None,
            Line::GarbledBack(at) => turn(&mut answer, at),
            Line::Truncated => {
                answer.pop();
            }
            _ => {}
        }
        Some(answer)
    }
}

fn turn(block: &mut [u8], at: u8) {
    let at = usize::from(at) % block.len();
    block[at] ^= 0x11;
}

/// Blocks that an exchange may take: every byte in a block of its own, S(IFS) and the card's
/// wishes, six sends each, four times.
fn bound(command: usize, response: usize) -> u32 {
    (command + response + 9 + 20) as u32 * 6 * 4
}

fn class(max_ifsd: u32, auto_ifsd: bool) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[28..32].copy_from_slice(&max_ifsd.to_le_bytes());
    bytes[41] = if auto_ifsd { 0x04 } else { 0 };
    bytes[42] = 0x01;
    bytes[44..46].copy_from_slice(&271u16.to_le_bytes());
    ClassDescriptor::parse(&bytes).unwrap()
}

fn fault() -> impl Strategy<Value = Line> {
    prop_oneof![
        any::<u8>().prop_map(Line::GarbledThere),
        Just(Line::LostThere),
        any::<u8>().prop_map(Line::GarbledBack),
        Just(Line::Truncated),
        Just(Line::Parity),
        Just(Line::LostBack),
    ]
}

/// At most two faults in a row, then as many good exchanges as it takes to make up for them.
fn curable() -> impl Strategy<Value = Vec<Line>> {
    let burst =
        (prop::collection::vec(fault(), 0..=2), 3..9usize).prop_map(|(mut faults, good)| {
            faults.resize(faults.len() + good, Line::Good);
            faults
        });
    prop::collection::vec(burst, 0..12).prop_map(|bursts| bursts.concat())
}

fn wishes() -> impl Strategy<Value = Vec<Option<Wish>>> {
    let wish = prop_oneof![
        3 => Just(None),
        1 => (1..=255u8).prop_map(|value| Some(Wish::Wtx(value))),
        1 => (1..=254u8).prop_map(|value| Some(Wish::Ifs(value))),
    ];
    prop::collection::vec(wish, 0..20)
}

/// A command APDU of any case, whose P1 P2 say how long the response is.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0..4usize, 0..300usize, 0..3000usize];
    (length.clone(), length, any::<u8>()).prop_map(|(lc, le, seed)| {
        let [p1, p2] = (le as u16).to_be_bytes();
        let mut command = vec![0x00, 0xB0, p1, p2];
        command.extend((0..lc).map(|n| (n as u8) ^ seed));
        command
    })
}

fn connection(ifsc: u8, crc: bool, ifsd: u32, auto: bool, nad: u8) -> Connection {
    let parameters = T1Parameters { ifsc, bwi: 4, cwi: 13, crc };
    Connection::new(parameters, &class(ifsd, auto)).with_nad(Nad::from_byte(nad))
}

/// The card of a connection: in a reader that has asked for IFSD itself it knows that.
fn card(ifsc: u8, connection: &Connection, wishes: Vec<Option<Wish>>) -> Card {
    let mut card = Card::new(connection.check_code(), connection.nad(), ifsc, wishes);
    if connection.ifsd() > 32 {
        use ccid::t1::{Block, Pcb, Supervisory};
        let ask = Block {
            nad: connection.nad(),
            pcb: Pcb::Request(Supervisory::Ifs),
            information: &[connection.ifsd()],
        };
        card.receive(&ask.emit(connection.check_code()));
    }
    card
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Faults that the standard lets host and card recover from are recovered from, and the card
    /// has carried each command out once.
    #[test]
    fn curable_faults_are_cured(
        (ifsc, crc, ifsd, auto, nad) in
            (1..=254u8, any::<bool>(), 0..300u32, any::<bool>(), any::<u8>()),
        commands in prop::collection::vec(command(), 1..4),
        line in curable(),
        wishes in wishes(),
    ) {
        let mut connection = connection(ifsc, crc, ifsd, auto, nad);
        let mut bench = Bench { card: card(ifsc, &connection, wishes), line, blocks: 0 };
        for (n, command) in commands.iter().enumerate() {
            let (result, after) = bench.run(connection, command);
            prop_assert_eq!(result, Ok(Bytes::from(response_to(command))));
            prop_assert!(after.is_in_step());
            prop_assert_eq!(bench.card.executed, n + 1);
            connection = after;
        }
        prop_assert!(bench.card.longest.1 <= usize::from(connection.ifsd().max(32)));
    }

    /// Whatever the line does, the result is the card's or an error, after a bounded number of
    /// blocks; and unless the card is given up, the next exchange on a good line succeeds.
    #[test]
    fn any_faults_end(
        (ifsc, crc, ifsd, auto) in (1..=254u8, any::<bool>(), 0..300u32, any::<bool>()),
        command in command(),
        line in prop::collection::vec(prop_oneof![2 => fault(), 1 => Just(Line::Good)], 0..60),
        wishes in wishes(),
    ) {
        let connection = connection(ifsc, crc, ifsd, auto, 0);
        let mut bench = Bench { card: card(ifsc, &connection, wishes), line, blocks: 0 };
        let (result, after) = bench.run(connection, &command);
        match result {
            Ok(response) => prop_assert_eq!(response, response_to(&command)),
            Err(failure) => {
                prop_assert!(matches!(failure, Failure::Mute | Failure::OutOfStep), "{failure:?}");
                prop_assert!(after.is_dead());
                return Ok(());
            }
        }
        bench.line.clear();
        let (result, _) = bench.run(after, &command);
        prop_assert_eq!(result, Ok(Bytes::from(response_to(&command))));
    }

    /// A card that sends good blocks at random: an end, within the bound, and never a response
    /// from nothing.
    #[test]
    fn a_card_at_random_ends(
        blocks in prop::collection::vec((0..48u8, 0..4u8, any::<u8>()), 0..400),
        length in 4..20usize,
    ) {
        let connection = connection(3, false, 254, false, 0);
        let mut exchange = Exchange::new(connection, vec![0u8; length].into()).unwrap();
        let mut blocks = blocks.into_iter();
        let mut sent_information = 0;
        let end = loop {
            let Some((kind, length, value)) = blocks.next() else {
                // Then it is silent.
                let before = exchange.blocks();
                let mut progress = exchange.received(Received::Nothing);
                while progress == Progress::Send {
                    progress = exchange.received(Received::Nothing);
                    prop_assert!(exchange.blocks() < before + 40);
                }
                break progress;
            };
            let pcb = match kind {
                0..4 => kind << 5,
                4..12 => 0x80 | (kind & 1) << 4 | (kind >> 2 & 1),
                12..24 => 0xC0 | (kind & 3),
                24..36 => 0xE0 | (kind & 3),
                _ => value,
            };
            let information = &[value; 4][..usize::from(length)];
            sent_information += information.len();
            let mut block = vec![0, pcb, length];
            block.extend_from_slice(information);
            block.push(block.iter().fold(0, |sum, byte| sum ^ byte));
            let progress = exchange.received(Received::Block(&block));
            if progress != Progress::Send {
                break progress;
            }
        };
        if let Progress::Done(Ok(response)) = end {
            prop_assert!(response.len() <= sent_information);
        }
        prop_assert!(exchange.blocks() <= bound(length, sent_information) + 400);
    }
}

/// The longest APDU there is in blocks of one byte, both ways, with two faults before every step.
#[test]
fn the_longest_command_in_the_smallest_blocks() {
    let connection = connection(1, true, 254, true, 0);
    let mut command = vec![0x00, 0xB0, 0x01, 0x00];
    command.resize(65_544, 0x5A);
    let line = (0..65_544 * 4)
        .map(|n| if n % 4 < 2 { Line::GarbledBack(n as u8) } else { Line::Good })
        .collect();
    let mut bench = Bench { card: card(1, &connection, Vec::new()), line, blocks: 0 };
    let (result, _) = bench.run(connection, &command);
    assert_eq!(result, Ok(Bytes::from(response_to(&command))));
    assert_eq!(bench.card.executed, 1);
    assert!(bench.blocks > 65_544 && bench.blocks < ccid::t1::MAX_BLOCKS);
    assert!(bench.blocks > u32::from(MAX_REQUESTS));
    assert_eq!(connection.check_code(), CheckCode::Crc);
}
