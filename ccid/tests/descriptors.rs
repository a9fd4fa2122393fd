//! The class descriptors of the readers in the field: each is read, written back, and decided on.
//!
//! They stand in a table that is not part of the sources: `$SCARD_DESCRIPTORS`, or
//! `shared/readers/descriptors.csv` beside the checkout. Without it the tests here say so, and fail
//! where `CI` is set.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use ccid::ClassDescriptor;
use ccid::atr::Protocol;
use ccid::descriptor::{Choices, ExchangeLevel, Features, Oddity, ReaderProtocols};
use ccid::parameters::{FiDi, Speeds};
use ccid::quirk::{Identity, Table};
use ccid::wire::PowerSelect;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

struct Reader {
    name: String,
    identity: Identity,
    bytes: Vec<u8>,
    /// The answer to GET DATA RATES as it was read from the device, rubbish included.
    rates: Vec<i64>,
}

impl Reader {
    fn class(&self) -> ClassDescriptor {
        ClassDescriptor::parse(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// The table; none if it is not there.
fn readers() -> Option<Vec<Reader>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/readers/descriptors.csv");
    let path = std::env::var_os("SCARD_DESCRIPTORS").map_or(PathBuf::from(beside), PathBuf::from);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let missing = format!(
                "NOT TESTED: the class descriptors of the readers in the field. The table {} \
                 cannot be read ({error}); SCARD_DESCRIPTORS may name another.",
                path.display()
            );
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            // Past the capture of the test's output.
            let _ = writeln!(std::io::stderr(), "{missing}");
            return None;
        }
    };
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let column = |name| header.iter().position(|column| *column == name).unwrap();
    let (vid, pid, bcd) = (column("vid"), column("pid"), column("bcd_device"));
    let (class, rates, product) =
        (column("class_descriptor"), column("data_rates"), column("product"));
    let reader = |line: &str| {
        // Only the texts at the end of a line may be quoted.
        let fields: Vec<_> = line.split(',').collect();
        let number = |text: &str| u16::from_str_radix(text, 16).unwrap();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Reader {
            name: format!("{}:{} {}", fields[vid], fields[pid], fields[product..].join(",")),
            identity: Identity {
                vendor: number(fields[vid]),
                product: number(fields[pid]),
                firmware: number(fields[bcd]),
            },
            bytes: fields[class].as_bytes().chunks(2).map(byte).collect(),
            rates: fields[rates].split_whitespace().map(|rate| rate.parse().unwrap()).collect(),
        }
    };
    let readers: Vec<_> = lines.map(reader).collect();
    assert!(readers.len() >= 700, "only {} descriptors", readers.len());
    Some(readers)
}

#[test]
fn every_descriptor_survives() {
    for reader in readers().into_iter().flatten() {
        assert_eq!(reader.class().emit()[..], reader.bytes, "{}", reader.name);
    }
}

fn decided(name: &str, class: &ClassDescriptor) -> Choices {
    let choices = class.choices();
    let Choices { level, protocols, voltages, chunk, ifsd, slots, busy_slots, clock, .. } =
        &choices;
    let both = ReaderProtocols::T0 | ReaderProtocols::T1;
    assert!(both.contains(*protocols) && !protocols.is_empty(), "{name}");
    assert!([Protocol::T0, Protocol::T1].iter().any(|p| class.can_speak(*p).is_ok()), "{name}");
    assert!((1..=254).contains(ifsd), "{name}");
    assert!((1..=*slots).contains(busy_slots), "{name}");
    assert!((1000..=20_000).contains(clock), "{name}: {clock}");
    // No message is longer than the reader declares, and one of a header and 48 bytes fits.
    assert!(*chunk >= 54 && *chunk + 10 <= class.max_ccid_message_length as usize, "{name}");
    let automatic = voltages == &[PowerSelect::Automatic];
    let auto = Features::AUTO_VOLTAGE | Features::AUTO_ACTIVATION;
    assert!(!voltages.is_empty(), "{name}");
    assert_eq!(
        automatic,
        class.features.intersects(auto) || class.voltage_support.bits() & 7 == 0,
        "{name}"
    );
    assert!(automatic || !voltages.contains(&PowerSelect::Automatic), "{name}");
    let declared = class.features.bits() & 0x0007_0000;
    let expected = match level {
        ExchangeLevel::Character => 0,
        ExchangeLevel::Tpdu => 0x0001_0000,
        ExchangeLevel::ShortApdu => 0x0002_0000,
        ExchangeLevel::ExtendedApdu => 0x0004_0000,
    };
    assert_eq!(declared, expected, "{name}: one level each");
    choices
}

#[test]
fn every_descriptor_is_decided_on() {
    let Some(readers) = readers() else { return };
    let mut levels = BTreeMap::new();
    let mut odd: BTreeMap<String, usize> = BTreeMap::new();
    for reader in &readers {
        let choices = decided(&reader.name, &reader.class());
        *levels.entry(choices.level.to_string()).or_insert(0) += 1;
        for oddity in choices.oddities {
            assert!(!oddity.to_string().is_empty());
            let kind = format!("{oddity:?}");
            let kind = kind.split(['(', '{', ' ']).next().unwrap().to_string();
            *odd.entry(kind).or_insert(0) += 1;
        }
    }
    // What is known to be among them is found, and named.
    assert_eq!(levels.len(), 4, "{levels:?}");
    for kind in [
        "OldType",
        "UnknownProtocols",
        "SwappedProtocols",
        "NoVoltage",
        "NoBusySlots",
        "TooManyBusySlots",
        "NoIfsd",
        "TooGreatIfsd",
        "ShortMessages",
        "LongMessages",
        "Clock",
        "SlowMaxRate",
        "ApduWithoutPps",
    ] {
        assert!(odd.contains_key(kind), "no {kind} among {odd:?}");
    }
    eprintln!("{} descriptors: {levels:?}, {odd:?}", readers.len());
}

/// The quirk table corrects some of them; what it makes is as sound.
#[test]
fn every_descriptor_is_decided_on_behind_the_quirk_table() {
    let Some(readers) = readers() else { return };
    let table = Table::built_in();
    let mut touched = 0;
    for reader in &readers {
        let class = reader.class();
        let adjusted = table.apply(reader.identity, &class);
        decided(&reader.name, &adjusted.class);
        touched += usize::from(adjusted.class != class);
    }
    assert!(touched >= 15, "{touched} readers of the table are among them");
}

/// Whatever a card offers, no reader is made to go faster than it says it can.
#[test]
fn no_reader_is_driven_too_fast() {
    for reader in readers().into_iter().flatten() {
        let class = reader.class();
        let table: Vec<u32> = reader.rates.iter().filter_map(|n| u32::try_from(*n).ok()).collect();
        let (clock, max) = (class.clock(), class.max_data_rate);
        let speeds = Speeds { clock, max, table: &table };
        for ta1 in 0..=255 {
            let best = speeds.best(FiDi(ta1));
            let rate = best.rate(clock).unwrap();
            let in_table = table.is_empty() || table.iter().any(|told| told.abs_diff(rate) <= 2);
            assert!(
                best == FiDi::DEFAULT || (rate <= max.saturating_add(2) && in_table),
                "{}: {best} for {ta1:02X}h, {rate} bit/s",
                reader.name
            );
        }
    }
}

/// The particular ones that the choices are made for.
#[test]
fn what_is_made_of_the_oddest() {
    let Some(readers) = readers() else { return };
    let find = |vendor, product| {
        let found = readers
            .iter()
            .find(|r| (r.identity.vendor, r.identity.product) == (vendor, product))
            .unwrap_or_else(|| panic!("{vendor:04X}:{product:04X} is not in the table"));
        found.class().choices()
    };
    // MySmartPad: swapped bytes, a clock of 1,024 MHz, no IFSD.
    let choices = find(0x09BE, 0x0002);
    assert_eq!(choices.protocols, ReaderProtocols::T0 | ReaderProtocols::T1);
    assert_eq!((choices.ifsd, choices.clock), (254, 3999));
    assert!(choices.oddities.contains(&Oddity::SwappedProtocols(0x0300)));
    // Circle's second interface: a clock of 250 kHz, at the data rate of 4 MHz.
    let slow: Vec<_> = readers.iter().filter(|r| r.class().default_clock == 250).collect();
    assert!(!slow.is_empty());
    assert!(slow.iter().all(|reader| reader.class().clock() == 3999));
    // Gnuk: messages of 64 bytes.
    let choices = find(0x234B, 0x0000);
    assert_eq!((choices.chunk, choices.level), (54, ExchangeLevel::ExtendedApdu));
}
