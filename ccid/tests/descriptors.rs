//! Class descriptors of every shape: each is read, written back, and decided on.
//!
//! Those made here have every oddity seen on readers in the field. The descriptors of the readers
//! themselves stand in a table that is not part of the sources: `$SCARD_DESCRIPTORS`, or
//! `shared/readers/descriptors.csv` beside the checkout. Where it is, they are tested too.

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

/// The fields that differ from reader to reader.
#[derive(Clone, Copy)]
struct Shape {
    kind: u8,
    max_slot_index: u8,
    voltage_support: u8,
    protocols: u32,
    clock: u32,
    data_rate: u32,
    max_data_rate: u32,
    max_ifsd: u32,
    features: u32,
    max_message: u32,
    busy_slots: u8,
}

/// A reader as the specification has them.
const SOUND: Shape = Shape {
    kind: 0x21,
    max_slot_index: 0,
    voltage_support: 7,
    protocols: 3,
    clock: 3580,
    data_rate: 9600,
    max_data_rate: 344_105,
    max_ifsd: 254,
    features: 0x0002_00BA,
    max_message: 271,
    busy_slots: 1,
};

impl Shape {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![54, self.kind, 0x10, 0x01, self.max_slot_index, self.voltage_support];
        for field in [self.protocols, self.clock, self.clock] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.push(0);
        for field in [self.data_rate, self.max_data_rate] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.push(0);
        for field in [self.max_ifsd, 0, 0, self.features, self.max_message] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend([0xFF, 0xFF, 0, 0, 0, self.busy_slots]);
        bytes
    }

    fn reader(self, name: String) -> Reader {
        let identity = Identity { vendor: 0, product: 0, firmware: 0 };
        Reader { name, identity, bytes: self.bytes(), rates: vec![] }
    }
}

/// Takes fields from what readers declare, in every mixture that `count` turns of a generator give.
fn shapes(count: usize) -> Vec<Reader> {
    let mut state = 1_u64;
    let mut turn = |of: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % of
    };
    let mut shape = || Shape {
        kind: [0x21, 0xFF][turn(2)],
        max_slot_index: [0, 0, 1, 7, 15][turn(5)],
        voltage_support: [0, 1, 2, 4, 7, 0x87, 0xF8][turn(7)],
        protocols: [0, 1, 2, 3, 0x0100, 0x0300, 0x0001_0003, u32::MAX][turn(8)],
        clock: [0, 250, 3580, 3680, 4000, 4800, 20_000, 1_024_000, u32::MAX][turn(9)],
        data_rate: [0, 9600, 9677, 10_752, 12_903, u32::MAX][turn(6)],
        max_data_rate: [0, 4800, 9600, 115_200, 344_105, 825_806, u32::MAX][turn(7)],
        max_ifsd: [0, 1, 32, 127, 252, 254, 255, 1014, u32::MAX][turn(9)],
        features: [0, 0x0001_0000, 0x0002_0000, 0x0004_0000][turn(4)]
            | [0, 0x02, 0x08, 0x30, 0x40, 0x80, 0xBA, 0x840, 0x0010_0000][turn(9)],
        max_message: [64, 261, 270, 271, 1034, 65_556, 524_288, u32::MAX][turn(8)],
        busy_slots: [0, 1, 2, 8, 255][turn(5)],
    };
    (0..count).map(|n| shape().reader(format!("shape {n}"))).collect()
}

/// What is known of readers in the field that is odd, each by itself.
fn odd_ones() -> Vec<(&'static str, Reader)> {
    let tpdu = Shape { features: 0x0001_0030, ..SOUND };
    [
        ("OldType", Shape { kind: 0xFF, ..SOUND }),
        ("UnknownProtocols", Shape { protocols: 0x0001_0003, ..SOUND }),
        ("SwappedProtocols", Shape { protocols: 0x0300, ..SOUND }),
        ("NoProtocols", Shape { protocols: 0, ..SOUND }),
        ("NoVoltage", Shape { voltage_support: 0, ..SOUND }),
        ("UnknownVoltages", Shape { voltage_support: 0x87, ..SOUND }),
        ("NoBusySlots", Shape { busy_slots: 0, ..SOUND }),
        ("TooManyBusySlots", Shape { busy_slots: 2, ..SOUND }),
        ("NoIfsd", Shape { max_ifsd: 0, ..tpdu }),
        ("TooGreatIfsd", Shape { max_ifsd: 1014, ..tpdu }),
        ("ShortMessages", Shape { max_message: 64, ..SOUND }),
        ("LongMessages", Shape { max_message: 524_288, ..SOUND }),
        ("Clock", Shape { clock: 250, ..SOUND }),
        ("SlowMaxRate", Shape { max_data_rate: 4800, ..tpdu }),
        ("ApduWithoutPps", Shape { features: 0x0002_0030, ..SOUND }),
    ]
    .map(|(kind, shape)| (kind, shape.reader(kind.to_string())))
    .into()
}

/// Those of the field, where the table is, behind those that are made.
fn readers() -> Vec<Reader> {
    let mut readers = shapes(5000);
    readers.extend(odd_ones().into_iter().map(|(_, reader)| reader));
    readers.extend(field().into_iter().flatten());
    readers
}

/// The table; none if it is not there.
fn field() -> Option<Vec<Reader>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/readers/descriptors.csv");
    let path = std::env::var_os("SCARD_DESCRIPTORS").map_or(PathBuf::from(beside), PathBuf::from);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            // Past the capture of the test's output.
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: the class descriptors of the readers in the field. The table {} \
                 cannot be read ({error}); SCARD_DESCRIPTORS may name another.",
                path.display()
            );
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
    for reader in readers() {
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

/// An oddity without what it was found in.
fn kind(oddity: &Oddity) -> String {
    assert!(!oddity.to_string().is_empty());
    format!("{oddity:?}").split(['(', '{', ' ']).next().unwrap().to_string()
}

#[test]
fn every_descriptor_is_decided_on() {
    let mut levels = BTreeMap::new();
    let mut odd: BTreeMap<String, usize> = BTreeMap::new();
    let readers = readers();
    for reader in &readers {
        let choices = decided(&reader.name, &reader.class());
        *levels.entry(choices.level.to_string()).or_insert(0) += 1;
        for oddity in &choices.oddities {
            *odd.entry(kind(oddity)).or_insert(0) += 1;
        }
    }
    assert_eq!(levels.len(), 4, "{levels:?}");
    eprintln!("{} descriptors: {levels:?}, {odd:?}", readers.len());
}

/// What is odd is found and named, and nothing else.
#[test]
fn every_oddity_is_named() {
    assert_eq!(SOUND.reader(String::new()).class().choices().oddities, []);
    for (expected, reader) in odd_ones() {
        let found: Vec<_> = reader.class().choices().oddities.iter().map(kind).collect();
        assert_eq!(found, [expected]);
    }
    let Some(readers) = field() else { return };
    let found: Vec<_> = readers.iter().flat_map(|r| r.class().choices().oddities).collect();
    let found: Vec<_> = found.iter().map(kind).collect();
    for (expected, _) in odd_ones() {
        let seen = ["NoProtocols", "UnknownVoltages"].contains(&expected);
        assert!(seen || found.iter().any(|k| k == expected), "no {expected} among them");
    }
}

/// The quirk table corrects some of them; what it makes is as sound.
#[test]
fn every_descriptor_is_decided_on_behind_the_quirk_table() {
    let table = Table::built_in();
    let touched = |reader: &Reader, identity| {
        let class = reader.class();
        let adjusted = table.apply(identity, &class);
        decided(&reader.name, &adjusted.class);
        adjusted.class != class
    };
    // A product of the table may declare anything.
    let mut readers = shapes(500);
    readers.extend(odd_ones().into_iter().map(|(_, reader)| reader));
    let mut known = 0;
    for (vendor, product, _) in table.products() {
        let identity = Identity { vendor, product, firmware: 0x0100 };
        known += usize::from(readers.iter().filter(|r| touched(r, identity)).count() > 0);
    }
    assert!(known >= 10, "{known} products of the table are changed by it");
    if let Some(readers) = field() {
        let touched = readers.iter().filter(|r| touched(r, r.identity)).count();
        assert!(touched >= 15, "{touched} readers of the table are among them");
    }
}

/// Whatever a card offers, no reader is made to go faster than it says it can.
#[test]
fn no_reader_is_driven_too_fast() {
    for reader in readers() {
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
    // Swapped bytes, a clock of 1,024 MHz, no IFSD, all at once.
    let oddest = Shape {
        protocols: 0x0300,
        clock: 1_024_000,
        data_rate: 10_752,
        max_ifsd: 0,
        features: 0x0001_0030,
        ..SOUND
    };
    let choices = oddest.reader(String::new()).class().choices();
    assert_eq!(choices.protocols, ReaderProtocols::T0 | ReaderProtocols::T1);
    assert_eq!(choices.ifsd, 254);
    assert!(choices.oddities.contains(&Oddity::SwappedProtocols(0x0300)));
    // A clock of 250 kHz, at the data rate of 4 MHz.
    let slow = Shape { clock: 250, data_rate: 10_752, ..SOUND };
    assert_eq!(slow.reader(String::new()).class().clock(), 3999);
    // Messages of 64 bytes.
    let short = Shape { max_message: 64, features: 0x0004_00BA, ..SOUND };
    let choices = short.reader(String::new()).class().choices();
    assert_eq!((choices.chunk, choices.level), (54, ExchangeLevel::ExtendedApdu));
    let Some(readers) = field() else { return };
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
