//! Every preset of a T=1 card with a fault, as ISO/IEC 7816-3 §11.6 has it: what can be recovered
//! from brings the command's own response; the rest a definite error, and a card that can be powered
//! up again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::error::{CardFault, Error};
use ccid::operation::PowerUp;
use ccid::t1::{Failure, Nad};
use ccid::wire::Message;
use ccid::{Operation, Options, Output};
use host::Bench;
use sim::presets;
use sim::reader::Seen;
use std::time::Duration;

fn echo(first: u8) -> (Bytes, Bytes) {
    let data: Vec<u8> = (0..200).map(|n| first ^ n).collect();
    let command = [&[0x00, 0x10, 0x00, 0x00, 200][..], &data].concat();
    (command.into(), [&data[..], &[0x90, 0x00]].concat().into())
}

/// The errors of a few exchanges one after the other; what succeeds is each command's own response.
fn errors(bench: &mut Bench, name: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    for first in 0..6 {
        let (command, response) = echo(first);
        match bench.run(Operation::Exchange(command), None) {
            Ok(output) => assert_eq!(output, Output::Data(response), "{name}"),
            Err(error) => errors.push(error),
        }
    }
    errors
}

const DEAD: Error = Error::Card(CardFault::T1(Failure::Dead));

#[test]
fn faults_end_as_the_standard_says() {
    let names = presets::names().map(|(name, _)| name);
    let mut seen = 0;
    for name in names.filter(|name| name.starts_with("t1-faults")) {
        seen += 1;
        let mut bench = Bench::new(presets::by_name(name).unwrap());
        bench.run(Operation::PowerOn(PowerUp::Cold), None).unwrap();
        bench.run(Operation::SetProtocol(Protocol::T1), None).unwrap();
        let errors = errors(&mut bench, name);
        match name {
            // Rule 9: the command is broken off, and the next one goes on.
            "t1-faults-abort" => {
                assert_eq!(errors, [Error::Card(CardFault::T1(Failure::Aborted))], "{name}");
            }
            "t1-faults-mute-for-good" => {
                assert_eq!(errors[0], Error::CardMute);
                assert!(errors[1..].iter().all(|error| *error == DEAD), "{errors:?}");
            }
            "t1-faults-always" => {
                assert_eq!(errors[0], Error::Card(CardFault::T1(Failure::OutOfStep)));
                assert_eq!(errors[1..], [DEAD; 5]);
            }
            _ => assert_eq!(errors, [], "{name}"),
        }
        let on = bench.run(Operation::PowerOn(PowerUp::Cold), None);
        assert!(matches!(on, Ok(Output::Atr(_))), "{name}: {on:?}");
        bench.run(Operation::SetProtocol(Protocol::T1), None).unwrap();
        if name != "t1-faults-always" {
            let (command, response) = echo(9);
            let result = bench.run(Operation::Exchange(command), None);
            assert_eq!(result, Ok(Output::Data(response)), "{name}");
        }
    }
    assert!(seen > 15, "{seen}");
}

/// Silence and a storm of S(WTX request) end too, the latter by the limit of the operation.
#[test]
fn silence_and_storms_end() {
    for (name, limit) in [("t1-silent", None), ("t1-wtx-storm", Some(Duration::from_secs(5)))] {
        let mut bench = Bench::new(presets::by_name(name).unwrap());
        bench.connect(Protocol::T1).unwrap();
        let read = Bytes::from_static(&[0x00, 0xB0, 0x00, 0x00, 0x10]);
        match bench.run(Operation::Exchange(read), limit) {
            Err(Error::CardMute) if limit.is_none() => {}
            Err(Error::Timeout(_)) if limit.is_some() => {}
            other => panic!("{name}: {other:?}"),
        }
        bench.connect(Protocol::T1).unwrap();
        let (command, response) = echo(1);
        let result = bench.run(Operation::Exchange(command), None);
        assert_eq!(result, Ok(Output::Data(response)), "{name}");
    }
}

/// ISO/IEC 7816-3 §11.3.2.1: with node addresses, at both levels, chained both ways and over a fault.
#[test]
fn nad_11_3_2_1_with_every_card() {
    let options = Options { nad: Nad::from_byte(0x52), ..Options::default() };
    for name in ["t1-tpdu", "t1-tpdu-short", "t1-tpdu-crc", "t1-tpdu-manual", "t1-character"] {
        let mut bench = Bench::with_options(presets::by_name(name).unwrap(), options);
        bench.connect(Protocol::T1).unwrap();
        assert_eq!(errors(&mut bench, name), []);
        let nads: Vec<_> = bench.device.seen().iter().filter_map(block_nad).collect();
        assert!(nads.len() >= 6 && nads.iter().all(|nad| *nad == 0x52), "{name}: {nads:02X?}");
        assert_eq!(bench.device.violations(), [], "{name}");
    }
    let mut bench = Bench::with_options(presets::by_name("t1-faults-check").unwrap(), options);
    bench.connect(Protocol::T1).unwrap();
    assert_eq!(errors(&mut bench, "t1-faults-check"), []);
}

/// NAD of a block that went to the card.
fn block_nad(seen: &Seen) -> Option<u8> {
    let sim::reader::Event::Command(bytes) = &seen.what else { return None };
    let message = Message::parse(bytes).unwrap();
    let block = message.data.first().filter(|first| **first != 0xFF);
    block.copied().filter(|_| message.message_type == 0x6F)
}
