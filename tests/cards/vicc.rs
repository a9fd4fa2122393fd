//! vicc, the card emulator of vsmartcard, in Python.

use super::{Bench, Outside, bytes, data, exchange};
use scard::{Error, Protocol, Protocols, ShareMode};

const ATR: &str = "3B 95 13 81 01 80 73 FF 01 00 0B";
const SELECT_MF: &str = "00A4000C 02 3F00";
/// File 0101, transparent, 16 bytes.
const CREATE_FILE: &str = "00E00000 0D 62 0B 82 01 01 83 02 0101 80 02 0010";
const SELECT_FILE: &str = "00A4000C 02 0101";
/// vicc 3.3 does not survive having to tell of the file.
const SELECT_WITH_FCI: &str = "00A40000 02 3F00 00";

#[test]
fn a_file_is_created_written_and_read() {
    let bench = Bench::new();
    let context = bench.context();
    let mut vicc = Outside::vicc(bench.address(), "iso7816");
    let card = bench.connect(&context, &mut vicc);
    let status = card.status2_owned().unwrap();
    assert_eq!(status.atr(), bytes(ATR));
    assert_eq!(status.protocol2(), Some(Protocol::T1));
    for command in [SELECT_MF, CREATE_FILE, SELECT_FILE] {
        assert_eq!(exchange(&card, command), (vec![], 0x9000), "{command}");
    }
    let end_of_file = 0x6282;
    assert_eq!(exchange(&card, "00D60000 04 DEADBEEF 00"), (vec![], end_of_file));
    assert_eq!(data(&card, "00B00000 04"), [0xDE, 0xAD, 0xBE, 0xEF]);
    assert_eq!(data(&card, "00B00002 04"), [0xBE, 0xEF, 0, 0]);
    let (file, sw) = exchange(&card, "00B00000 00");
    assert_eq!((&file[..5], file.len(), sw), (&[0xDE, 0xAD, 0xBE, 0xEF, 0][..], 16, end_of_file));
    for (command, sw) in [
        ("00A4000C 02 AAAA", 0x6A82),
        ("00B07F00 04", 0x6B00),
        ("00CA0046 00", 0x6A81),
        ("00100000", 0x6D00),
        ("0020000108", 0x6300),
    ] {
        assert_eq!(exchange(&card, command), (vec![], sw), "{command}");
    }
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn what_is_left_of_a_response_is_fetched() {
    let bench = Bench::new();
    let context = bench.context();
    let mut vicc = Outside::vicc(bench.address(), "iso7816");
    let card = bench.connect(&context, &mut vicc);
    let mut challenges = Vec::new();
    for _ in 0..2 {
        assert_eq!(exchange(&card, "00840000"), (vec![], 0x6108));
        challenges.push(data(&card, "00C00000 08"));
        challenges.push(data(&card, "00840000 08"));
    }
    assert!(challenges.iter().all(|challenge| challenge.len() == 8), "{challenges:?}");
    challenges.sort();
    challenges.dedup();
    assert_eq!(challenges.len(), 4, "each is another");
}

#[test]
fn a_program_that_dies_in_a_command_is_a_card_taken_out() {
    let bench = Bench::new();
    let context = bench.context();
    for _ in 0..2 {
        let mut vicc = Outside::vicc(bench.address(), "iso7816");
        let card = bench.connect(&context, &mut vicc);
        assert_eq!(data(&card, SELECT_MF), [0; 0]);
        let died = card.transmit_owned(&bytes(SELECT_WITH_FCI), None);
        assert_eq!(died, Err(Error::NoSmartcard));
        bench.until_present(&context, false);
        assert_eq!(card.status2_owned().err(), Some(Error::RemovedCard));
    }
}

#[test]
fn a_program_that_dies_at_power_up_spoils_nothing() {
    let bench = Bench::new();
    let context = bench.context();
    // vicc 3.3 does not survive being asked for the ATR of a Cryptoflex.
    let dies = Outside::vicc(bench.address(), "cryptoflex");
    let inserted = |bench: &Bench| {
        let log = |device: &mut Box<dyn sim::hands::Hardware>| {
            device.seen().iter().any(|seen| seen.what == sim::reader::Event::Removed)
        };
        bench.inner.port.with(log)
    };
    super::common::until("it has come and gone", || inserted(&bench));
    bench.until_present(&context, false);
    let reader = bench.inner.reader();
    let none = context.connect(&reader, ShareMode::Shared, Protocols::ANY);
    assert_eq!(none.err(), Some(Error::NoSmartcard));
    drop(dies);
    let mut vicc = Outside::vicc(bench.address(), "iso7816");
    let card = bench.connect(&context, &mut vicc);
    assert_eq!(data(&card, SELECT_MF), [0; 0]);
}
