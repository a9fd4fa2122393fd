//! The hands of a simulated reader's user: cards, keys, the plug, told line by line what to do.
//!
//! | line | what it does |
//! |---|---|
//! | `insert [SLOT]` | puts the card back that was taken out, or a new one |
//! | `remove [SLOT]` | takes the card out |
//! | `key KEY` | presses `enter`, `clear`, `cancel` or digits on the PIN pad |
//! | `unplug`, `plug` | the device's USB plug |
//! | `address` | where programs connect that are cards ([`vpcd`](crate::vpcd)) |
//! | `log` | what the device has seen, a line each |
//! | `violations` | rules that the host has broken, a line each |
//! | `forget` | empties both |

use crate::reader::{Key, Seen, Violation};
use crate::vpcd::{self, Vpcd};
use crate::{Card, Device, Faulty, FileCard, Iccd, Port, Reader, presets};
use ccid::Slot;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What is understood.
const COMMANDS: &str =
    "insert [SLOT], remove [SLOT], unplug, plug, key KEY, address, log, violations, forget";

/// A simulated device as it can be handled.
pub trait Hardware: Device {
    /// Puts the card back, or a new one.
    ///
    /// # Errors
    /// Why that cannot be done.
    fn insert(&mut self, slot: u8, card: Option<Box<dyn Card>>) -> Result<(), String>;

    /// Takes the card out; none if it is part of the device.
    ///
    /// # Errors
    /// Why that cannot be done.
    fn remove(&mut self, slot: u8) -> Result<Option<Box<dyn Card>>, String>;

    /// Presses keys of the PIN pad.
    ///
    /// # Errors
    /// If it has none.
    fn press(&mut self, keys: Vec<Key>) -> Result<(), String>;

    /// The reader that it is; none if it is something else.
    fn reader(&mut self) -> Option<&mut Reader> {
        None
    }

    /// Forgets what it has seen.
    fn forget(&mut self);

    /// What it has seen.
    fn seen(&mut self) -> &[Seen];

    /// Rules that the host has broken.
    fn violations(&mut self) -> &[Violation];
}

impl Hardware for Reader {
    fn insert(&mut self, slot: u8, card: Option<Box<dyn Card>>) -> Result<(), String> {
        if self.has_card(Slot(slot)) {
            return Err(format!("there is a card in slot {slot}"));
        }
        let card = card.unwrap_or_else(|| Box::new(FileCard::t1()));
        match self.insert(Slot(slot), card) {
            None => Ok(()),
            Some(_) => Err(format!("there is no slot {slot}")),
        }
    }

    fn remove(&mut self, slot: u8) -> Result<Option<Box<dyn Card>>, String> {
        let card = self.remove(Slot(slot));
        card.map(Some).ok_or_else(|| format!("there is no card in slot {slot}"))
    }

    fn press(&mut self, keys: Vec<Key>) -> Result<(), String> {
        keys.into_iter().for_each(|key| self.press(key));
        Ok(())
    }

    fn reader(&mut self) -> Option<&mut Reader> {
        Some(self)
    }

    fn forget(&mut self) {
        self.forget();
    }

    fn seen(&mut self) -> &[Seen] {
        self.seen()
    }

    fn violations(&mut self) -> &[Violation] {
        self.violations()
    }
}

impl Hardware for Iccd {
    fn insert(&mut self, slot: u8, _: Option<Box<dyn Card>>) -> Result<(), String> {
        only_slot(slot)?;
        self.set_present(true);
        Ok(())
    }

    /// The card is the device: it only says that it is not there.
    fn remove(&mut self, slot: u8) -> Result<Option<Box<dyn Card>>, String> {
        only_slot(slot)?;
        self.set_present(false);
        Ok(None)
    }

    fn press(&mut self, _: Vec<Key>) -> Result<(), String> {
        Err("an ICCD has no keys".into())
    }

    fn forget(&mut self) {
        self.forget();
    }

    fn seen(&mut self) -> &[Seen] {
        self.seen()
    }

    fn violations(&mut self) -> &[Violation] {
        self.violations()
    }
}

fn only_slot(slot: u8) -> Result<(), String> {
    if slot == 0 { Ok(()) } else { Err(format!("there is no slot {slot}")) }
}

/// Why a device cannot be had by its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum NoDevice {
    /// There is none of that name.
    Unknown(String),
    /// The port at which cards were to connect cannot be listened to.
    Listen(u16, io::Error),
}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no simulated reader is called {name:?}"),
            Self::Listen(port, error) => write!(f, "vpcd: port {port}: {error}"),
        }
    }
}

impl std::error::Error for NoDevice {}

/// A simulated device, and the cards that were taken out of it.
pub struct Hands {
    port: Port<Box<dyn Hardware>>,
    vpcd: Option<Vpcd>,
    /// By the slot they were in.
    taken_out: BTreeMap<u8, Box<dyn Card>>,
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("taken_out", &self.taken_out.keys()).finish_non_exhaustive()
    }
}

impl Hands {
    /// The device of that name, newly made: one of the [`presets`], one that is [`Faulty`], or
    /// `vpcd` or `vpcd:PORT`, a reader for cards that [connect](vpcd) for as long as this lives.
    ///
    /// # Errors
    /// [`NoDevice`].
    pub fn of(name: &str) -> Result<Self, NoDevice> {
        let unknown = || NoDevice::Unknown(name.to_owned());
        let iccd = || presets::iccd().iter().find(|iccd| iccd.name == name);
        let listens = vpcd_port(name);
        let device: Box<dyn Hardware> = match (listens, presets::by_name(name), iccd()) {
            (Some(_), ..) => Box::new(vpcd::reader()),
            (None, Some(reader), _) => Box::new(reader),
            (None, None, Some(iccd)) => Box::new(iccd.builder().build()),
            (None, None, None) => Box::new(Faulty::by_name(name).ok_or_else(unknown)?),
        };
        let port = Port::new(device);
        let vpcd = listens
            .map(|number| {
                Vpcd::listen(number, port.clone()).map_err(|e| NoDevice::Listen(number, e))
            })
            .transpose()?;
        Ok(Self { port, vpcd, taken_out: BTreeMap::new() })
    }

    /// Name and description of each device there is, but those which are only to be survived.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        let iccd = presets::iccd().iter().map(|iccd| (iccd.name, iccd.description));
        presets::names().chain(iccd).chain([VPCD])
    }

    /// Where programs connect that are cards; none if they cannot.
    pub fn address(&self) -> Option<SocketAddr> {
        self.vpcd.as_ref().map(Vpcd::address)
    }

    /// What the device is plugged into.
    pub fn port(&self) -> Port<Box<dyn Hardware>> {
        self.port.clone()
    }

    /// Leaves the device alone. Cards connect for as long as what is returned lives.
    pub fn leave(self) -> Option<Vpcd> {
        self.vpcd
    }

    /// Does what a line says.
    ///
    /// # Errors
    /// What is wrong with the line, or with doing it now.
    pub fn obey(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = line.split_whitespace();
        let (verb, object) = (words.next().unwrap_or_default(), words.next());
        if let Some(more) = words.next() {
            return Err(format!("{more:?} is too much"));
        }
        let mut said = Vec::new();
        match (verb, object) {
            ("insert", slot) => {
                let slot = parse_slot(slot)?;
                let card = self.taken_out.remove(&slot);
                self.port.with(|device| device.insert(slot, card))?;
            }
            ("remove", slot) => {
                let slot = parse_slot(slot)?;
                let card = self.port.with(|device| device.remove(slot))?;
                self.taken_out.extend(card.map(|card| (slot, card)));
            }
            ("key", Some(key)) => {
                let keys = parse_keys(key).ok_or("a key is a digit, enter, clear or cancel")?;
                self.port.with(|device| device.press(keys))?;
            }
            ("unplug", None) => self.port.unplug(),
            ("plug", None) => self.port.plug(),
            ("address", None) => {
                let address = self.address().ok_or("cards cannot connect to this device")?;
                said = vec![address.to_string()];
            }
            ("log", None) => {
                said =
                    self.port.with(|device| device.seen().iter().map(ToString::to_string).collect())
            }
            ("violations", None) => {
                said = self
                    .port
                    .with(|device| device.violations().iter().map(ToString::to_string).collect());
            }
            ("forget", None) => self.port.with(|device| device.forget()),
            _ => return Err(format!("{line:?} is none of {COMMANDS}")),
        }
        Ok(said)
    }
}

const VPCD: (&str, &str) = (
    "vpcd",
    "empty; programs that speak vsmartcard's protocol connect as cards: vpcd:PORT, usually 35963",
);

/// The port in the name of a reader for cards that connect; none: it is another name.
fn vpcd_port(name: &str) -> Option<u16> {
    match name.strip_prefix(VPCD.0)? {
        "" => Some(vpcd::PORT),
        port => port.strip_prefix(':')?.parse().ok(),
    }
}

fn parse_slot(word: Option<&str>) -> Result<u8, String> {
    word.unwrap_or("0").parse().map_err(|_| "a slot is a number from 0".to_owned())
}

/// A digit, several of them, or a key by its name.
fn parse_keys(word: &str) -> Option<Vec<Key>> {
    let digit = |c: char| c.to_digit(10).and_then(|digit| u8::try_from(digit).ok());
    match word {
        "enter" => Some(vec![Key::Enter]),
        "clear" => Some(vec![Key::Clear]),
        "cancel" => Some(vec![Key::Cancel]),
        digits => digits.chars().map(|c| digit(c).map(Key::Digit)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hands(preset: &str) -> Hands {
        Hands::of(preset).unwrap()
    }

    #[test]
    fn cards_come_and_go() {
        let mut hands = hands("default");
        assert_eq!(hands.obey("insert"), Err("there is a card in slot 0".into()));
        assert_eq!(hands.obey("remove 0"), Ok(vec![]));
        assert_eq!(hands.obey("remove"), Err("there is no card in slot 0".into()));
        assert_eq!(hands.obey(" insert  0 "), Ok(vec![]));
        assert_eq!(hands.obey("insert"), Err("there is a card in slot 0".into()));
        assert_eq!(hands.obey("insert 9"), Err("there is no slot 9".into()));
        assert_eq!(hands.obey("insert x"), Err("a slot is a number from 0".into()));
    }

    #[test]
    fn the_plug_and_the_log() {
        let mut hands = hands("default");
        hands.obey("unplug").unwrap();
        assert!(!hands.port.is_plugged());
        hands.obey("plug").unwrap();
        assert!(hands.port.is_plugged());
        hands.obey("remove").unwrap();
        let log = hands.obey("log").unwrap();
        assert!(log.last().unwrap().contains("removed"), "{log:?}");
        hands.obey("forget").unwrap();
        assert_eq!(hands.obey("log"), Ok(vec![]));
        assert_eq!(hands.obey("violations"), Ok(vec![]));
    }

    #[test]
    fn what_it_does_not_know_is_an_error() {
        let mut hands = hands("pinpad-idle");
        for line in ["", "dance", "plug 1", "key", "key F1", "insert 0 1"] {
            assert!(hands.obey(line).is_err(), "{line:?}");
        }
        for line in ["key 1", "key 123456", "key enter", "key clear", "key cancel"] {
            assert_eq!(hands.obey(line), Ok(vec![]), "{line:?}");
        }
    }

    #[test]
    fn every_device_is_found_by_its_own_name() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, description) in Hands::names() {
            // A test listens at any port.
            let asked = if name == "vpcd" { "vpcd:0" } else { name };
            let hands = hands(asked);
            let protocol = hands.port().with(|device| device.descriptors().configuration[16]);
            let expected = match name {
                _ if name.starts_with("iccd-a") => 1,
                _ if name.starts_with("iccd-b") => 2,
                _ => 0,
            };
            assert_eq!(protocol, expected, "{name}");
            assert!(seen.insert(name) && !description.is_empty(), "{name}");
            assert_eq!(hands.address().is_some(), name == "vpcd");
        }
    }

    #[test]
    fn an_iccd_has_no_keys_and_one_slot() {
        let mut hands = hands("iccd-b");
        for line in ["remove", "insert", "insert 0", "log", "violations", "forget", "unplug"] {
            assert!(hands.obey(line).is_ok(), "{line}");
        }
        for line in ["remove 1", "key 1"] {
            assert!(hands.obey(line).is_err(), "{line}");
        }
        assert!(matches!(Hands::of("nonsense"), Err(NoDevice::Unknown(_))));
    }
}
