//! Any APDU of any case, over any exchange level, protocol, information field size and pattern of
//! faults: its own response, or a definite error after which the card can be powered up and used.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;

use ccid::atr::Protocol;
use ccid::wire::SlotError;
use ccid::{Error, Operation, Output};
use host::{Bench, SLOT};
use proptest::prelude::*;
use sim::card::atr::AtrBuilder;
use sim::card::{Acknowledge, Fault, Faults, FileCard, LineCard};
use sim::reader::Level;
use std::time::Duration;

/// What the card does: INS 10h answers its data, 12h so many bytes as P1 P2 say.
const ECHO: u8 = 0x10;
const COUNT: u8 = 0x12;

/// A command and what the card has to say to it.
#[derive(Clone)]
struct Command {
    apdu: Vec<u8>,
    lc: usize,
    ne: Option<usize>,
    /// All that the card has.
    data: Vec<u8>,
}

/// Header and lengths.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { apdu, lc, ne, data } = self;
        let (header, length) = (&apdu[..4], apdu.len());
        write!(f, "{header:02X?} of {length}, Lc {lc}, Ne {ne:?}, {} to say", data.len())
    }
}

impl Command {
    fn new(data: Option<Vec<u8>>, count: u16, ne: Option<usize>, extended: bool) -> Self {
        let [p1, p2] = count.to_be_bytes();
        let (ins, lc) = (if data.is_some() { ECHO } else { COUNT }, data.as_ref().map(Vec::len));
        let lc = lc.unwrap_or(0);
        let extended = extended || lc > 255 || ne.is_some_and(|ne| ne > 256);
        let mut apdu = vec![0x00, ins, p1, p2];
        if lc > 0 {
            if extended {
                apdu.push(0);
                apdu.extend((lc as u16).to_be_bytes());
            } else {
                apdu.push(lc as u8);
            }
            apdu.extend(data.as_ref().unwrap());
        }
        // 256 and 65 536 are written as 0.
        match ne {
            Some(ne) if extended => {
                apdu.extend((lc == 0).then_some(0));
                apdu.extend((ne as u16).to_be_bytes());
            }
            Some(ne) => apdu.push(ne as u8),
            None => {}
        }
        let data = data.unwrap_or_else(|| (0..count).map(|n| n as u8).collect());
        Self { apdu, lc, ne, data }
    }

    /// As much as Ne lets it, and what is left behind.
    fn response(&self) -> Vec<u8> {
        // Le 0, short or extended, stands for all there is.
        let ne = self.ne.filter(|ne| *ne != if self.is_extended() { 65_536 } else { 256 });
        let most = ne.unwrap_or(usize::MAX).min(self.data.len());
        let (data, rest) = self.data.split_at(most);
        let word = match rest.len() {
            0 => [0x90, 0x00],
            left @ 1..256 => [0x61, left as u8],
            _ => [0x61, 0x00],
        };
        [data, &word].concat()
    }

    fn is_extended(&self) -> bool {
        matches!(self.apdu[4..], [0, _, ..])
    }

    /// No command that reader and protocol could carry.
    fn is_too_long(&self, level: Level, protocol: Protocol) -> bool {
        match (level, protocol) {
            (Level::Character | Level::Tpdu, Protocol::T0) => self.lc > 255,
            (Level::ShortApdu, _) => self.apdu.len() > 261,
            _ => false,
        }
    }
}

fn command() -> impl Strategy<Value = Command> {
    let length = || prop_oneof![1..20usize, 250..262usize, 1..700usize];
    let data = (length(), any::<u8>())
        .prop_map(|(length, seed)| (0..length).map(|n| (n as u8).wrapping_mul(7) ^ seed).collect());
    let ne = || prop_oneof![Just(256), Just(65_536), 1..300usize, 1..2000usize];
    let extended = any::<bool>();
    prop_oneof![
        // Case 1.
        Just(Command::new(Some(Vec::new()), 0, None, false)),
        // Case 2.
        (0..1500u16, ne(), extended).prop_map(|(count, ne, extended)| Command::new(
            None,
            count,
            Some(ne),
            extended
        )),
        // Cases 3 and 4.
        (data, prop::option::of(ne()), extended).prop_map(|(data, ne, extended)| Command::new(
            Some(data),
            0,
            ne,
            extended
        )),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![
        Just(Level::Character),
        Just(Level::Tpdu),
        Just(Level::ShortApdu),
        Just(Level::ExtendedApdu),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::T0), Just(Protocol::T1)]
}

/// Faults that leave no wrong data with a right check code behind.
fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::BadCheck),
        Just(Fault::Parity),
        Just(Fault::Mute),
        Just(Fault::MuteForGood),
        Just(Fault::Deaf),
        Just(Fault::WrongSequence),
        any::<u8>().prop_filter("the right one", |nad| *nad != 0).prop_map(Fault::Nad),
        Just(Fault::Length255),
        Just(Fault::Truncated),
        prop_oneof![Just(0x9F), Just(0x83), Just(0xA0), Just(0xC0), Just(0xE7)]
            .prop_map(Fault::Pcb),
        Just(Fault::RBlock),
        Just(Fault::Resynch),
        Just(Fault::Abort),
        any::<u8>().prop_map(Fault::Ifs),
        (1..4u32, 1..4u8).prop_map(|(times, multiplier)| Fault::Extend {
            times: Some(times),
            multiplier,
            work: Duration::from_millis(100),
        }),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let planned = prop::collection::vec((1..30u32, fault()), 0..5).prop_map(|plan| {
        plan.into_iter().fold(Faults::none(), |faults, (nth, fault)| faults.and_at(nth, fault))
    });
    let repairable =
        (any::<u64>(), 3..20u32).prop_map(|(seed, one_in)| Faults::random(seed, one_in));
    prop_oneof![2 => planned, 1 => repairable]
}

/// A reader of this level with a card of this protocol.
fn reader(level: Level, protocol: Protocol, ifsc: u8, crc: bool, card: Manner) -> sim::Reader {
    let protocol = match protocol {
        Protocol::T0 => sim::card::Protocol::T0,
        Protocol::T1 => sim::card::Protocol::T1,
    };
    let mut atr = AtrBuilder::new(&[protocol], b"any");
    if protocol == sim::card::Protocol::T1 {
        atr = atr.t1(ifsc, 0x45, crc);
    }
    let file_card = FileCard::new(&[protocol]).atr(&atr.build());
    let builder = sim::Reader::builder().level(level).max_message_length(card.max_message);
    let builder = if matches!(level, Level::Character | Level::Tpdu) {
        let line = LineCard::new(file_card).takes_data(&[ECHO]).nulls(card.nulls);
        builder.card(SLOT, line.acknowledge(card.acknowledge).faults(card.faults))
    } else {
        builder.card(SLOT, file_card)
    };
    builder.build()
}

struct Manner {
    acknowledge: Acknowledge,
    nulls: u8,
    faults: Faults,
    max_message: u32,
}

fn exchange(bench: &mut Bench, command: &Command) -> Result<Output, Error> {
    bench.run(Operation::ExchangeComplete(command.apdu.clone().into()), None)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// On a good line, each command its own response.
    #[test]
    fn any_apdu_has_its_own_response(
        level in level(),
        protocol in protocol(),
        (ifsc, crc) in (1..=254u8, any::<bool>()),
        (one, nulls) in (any::<bool>(), 0..2u8),
        long in any::<bool>(),
        commands in prop::collection::vec(command(), 1..4),
    ) {
        let acknowledge = if one { Acknowledge::One } else { Acknowledge::All };
        // Chained, where the level has that, or not.
        let max_message = if long && level == Level::ExtendedApdu { 65_554 } else { 271 };
        let manner = Manner { acknowledge, nulls, faults: Faults::none(), max_message };
        let mut bench = Bench::new(reader(level, protocol, ifsc, crc, manner));
        bench.connect(protocol).unwrap();
        for command in &commands {
            let result = exchange(&mut bench, command);
            if command.is_too_long(level, protocol) {
                prop_assert!(matches!(result, Err(Error::TooLong { .. })), "{result:?}");
            } else if level == Level::ShortApdu && command.is_extended() && result.is_err() {
                // Not for such a reader, whose message may not hold the response.
                let overrun = matches!(result, Err(Error::Failed { error: SlotError::XfrOverrun, .. }));
                prop_assert!(overrun, "{result:?}");
            } else {
                prop_assert_eq!(result, Ok(Output::Data(command.response().into())));
            }
        }
        prop_assert_eq!(bench.device.violations(), []);
    }

    /// On a bad one, its own response or an error, never another; and what is left is a card that
    /// can be powered up and used.
    #[test]
    fn any_faults_end_well_or_in_an_error(
        character in any::<bool>(),
        protocol in protocol(),
        (ifsc, crc) in (1..=254u8, any::<bool>()),
        faults in faults(),
        commands in prop::collection::vec(command(), 1..6),
    ) {
        let level = if character { Level::Character } else { Level::Tpdu };
        let acknowledge = Acknowledge::All;
        let manner = Manner { acknowledge, nulls: 0, faults, max_message: 271 };
        let mut bench = Bench::new(reader(level, protocol, ifsc, crc, manner));
        bench.connect(protocol).unwrap();
        let good = Command::new(Some(vec![7; 40]), 0, Some(256), false);
        let mut failed = false;
        for command in commands.iter().filter(|command| !command.is_too_long(level, protocol)) {
            match exchange(&mut bench, command) {
                Ok(output) => prop_assert_eq!(output, Output::Data(command.response().into())),
                Err(_) => failed = true,
            }
            if failed {
                bench.connect(protocol).unwrap();
                failed = false;
            }
        }
        // Planned faults are over after so many blocks; random ones T=1 recovers from.
        let mut results = (0..40).map(|_| {
            bench.connect(protocol).unwrap();
            exchange(&mut bench, &good)
        });
        let expected = Ok(Output::Data(good.response().into()));
        prop_assert!(results.any(|result| result == expected), "the card cannot be used any more");
    }

    /// Faults that T=1 recovers from leave nothing to see.
    #[test]
    fn repairable_faults_are_repaired(
        character in any::<bool>(),
        (ifsc, crc) in (1..=254u8, any::<bool>()),
        (seed, one_in) in (any::<u64>(), 3..20u32),
        commands in prop::collection::vec(command(), 1..6),
    ) {
        let level = if character { Level::Character } else { Level::Tpdu };
        let faults = Faults::random(seed, one_in);
        let manner = Manner { acknowledge: Acknowledge::All, nulls: 0, faults, max_message: 271 };
        let mut bench = Bench::new(reader(level, Protocol::T1, ifsc, crc, manner));
        bench.connect(Protocol::T1).unwrap();
        for command in &commands {
            let result = exchange(&mut bench, command);
            prop_assert_eq!(result, Ok(Output::Data(command.response().into())));
        }
        prop_assert_eq!(bench.device.violations(), []);
    }
}
