//! `scard sim`: the simulated readers, and one of them on the machine's USB.

use crate::cli::args::SimOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use serde_json::json;
use std::io::Write;

pub(crate) fn run(interrupt: &Interrupt, options: &SimOptions, out: &mut Out) -> Outcome {
    match &options.vhci {
        Some(preset) => on_usb(preset, interrupt, out),
        None => list(out),
    }
}

fn list(out: &mut Out) -> Outcome {
    if out.is_json() {
        let presets = sim::presets::names()
            .map(|(name, description)| json!({ "name": name, "description": description }));
        return Ok(out.document(&presets.collect())?);
    }
    let width = sim::presets::names().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, description) in sim::presets::names() {
        writeln!(out, "{name:width$}  {description}")?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn on_usb(_: &str, _: &Interrupt, _: &mut Out) -> Outcome {
    Err(Failure::failed("--vhci: only Linux can put a simulated device on its USB"))
}

#[cfg(target_os = "linux")]
fn on_usb(preset: &str, interrupt: &Interrupt, out: &mut Out) -> Outcome {
    use crate::cli::input::Lines;
    use crate::cli::session::simulated;
    let port = sim::Port::new(simulated(preset)?);
    let attachment = sim::vhci::attach(port.clone())
        .map_err(|error| Failure::failed(format!("--vhci: {error}")))?;
    writeln!(out, "ready")?;
    let mut hands = Hands { port, taken_out: Default::default() };
    let lines = Lines::read(interrupt)?;
    let outcome = loop {
        match lines.next() {
            Ok(Some(line)) => match hands.obey(&line) {
                Ok(said) => {
                    for line in said {
                        writeln!(out, "{line}")?;
                    }
                    writeln!(out, "ok")?;
                }
                Err(problem) => writeln!(out, "error: {problem}")?,
            },
            // That is how it is to end.
            Ok(None) | Err(Failure::Interrupted) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    drop(attachment);
    outcome
}

/// The hands of the user of a simulated reader.
struct Hands {
    port: sim::Port<sim::Reader>,
    /// Cards that were taken out, by the slot they were in.
    taken_out: std::collections::BTreeMap<u8, Box<dyn sim::Card>>,
}

impl Hands {
    /// Does what a line says; what there is to say about it, or what is wrong.
    fn obey(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = line.split_whitespace();
        let (verb, object) = (words.next().unwrap_or_default(), words.next());
        if let Some(more) = words.next() {
            return Err(format!("{more:?} is too much"));
        }
        let mut said = Vec::new();
        match (verb, object) {
            ("insert", slot) => self.insert(parse_slot(slot)?)?,
            ("remove", slot) => self.remove(parse_slot(slot)?)?,
            ("key", Some(key)) => self.press(key)?,
            ("unplug", None) => self.port.unplug(),
            ("plug", None) => self.port.plug(),
            ("log", None) => said = self.log(),
            ("violations", None) => said = self.violations(),
            ("forget", None) => self.port.with(sim::Reader::forget),
            _ => return Err(format!("{line:?} is none of {COMMANDS}")),
        }
        Ok(said)
    }

    fn insert(&mut self, slot: u8) -> Result<(), String> {
        let card = self.taken_out.remove(&slot);
        self.port.with(|reader| match reader.has_card(ccid::Slot(slot)) {
            true => Err(format!("there is a card in slot {slot}")),
            false => {
                let card = card.unwrap_or_else(|| Box::new(sim::FileCard::t1()));
                match reader.insert(ccid::Slot(slot), card) {
                    None => Ok(()),
                    Some(_) => Err(format!("there is no slot {slot}")),
                }
            }
        })
    }

    fn remove(&mut self, slot: u8) -> Result<(), String> {
        let card = self.port.with(|reader| reader.remove(ccid::Slot(slot)));
        let card = card.ok_or_else(|| format!("there is no card in slot {slot}"))?;
        self.taken_out.insert(slot, card);
        Ok(())
    }

    /// A digit, several of them, or a key by its name.
    fn press(&self, key: &str) -> Result<(), String> {
        use sim::reader::Key;
        let digit = |c: char| c.to_digit(10).and_then(|digit| u8::try_from(digit).ok());
        let keys: Option<Vec<_>> = match key {
            "enter" => Some(vec![Key::Enter]),
            "clear" => Some(vec![Key::Clear]),
            "cancel" => Some(vec![Key::Cancel]),
            digits => digits.chars().map(|c| digit(c).map(Key::Digit)).collect(),
        };
        let keys = keys.ok_or("a key is a digit, enter, clear or cancel")?;
        self.port.with(|reader| keys.into_iter().for_each(|key| reader.press(key)));
        Ok(())
    }

    fn log(&self) -> Vec<String> {
        use sim::reader::Event;
        let line = |seen: &sim::reader::Seen| match &seen.what {
            Event::Setup(setup) => {
                let at = seen.at.since_epoch().as_secs_f64();
                format!("{at:.3} s > {}", crate::cli::tap::request(setup))
            }
            _ => seen.to_string(),
        };
        self.port.with(|reader| reader.seen().iter().map(line).collect())
    }

    fn violations(&self) -> Vec<String> {
        self.port.with(|reader| reader.violations().iter().map(ToString::to_string).collect())
    }
}

/// What `--vhci` takes on standard input.
const COMMANDS: &str =
    "insert [SLOT], remove [SLOT], unplug, plug, key KEY, log, violations, forget";

fn parse_slot(word: Option<&str>) -> Result<u8, String> {
    word.unwrap_or("0").parse().map_err(|_| "a slot is a number from 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ccid::Slot;
    use sim::Port;

    fn hands(preset: &str) -> Hands {
        let port = Port::new(sim::presets::by_name(preset).unwrap());
        Hands { port, taken_out: Default::default() }
    }

    #[test]
    fn cards_come_and_go() {
        let mut hands = hands("default");
        assert_eq!(hands.obey("insert"), Err("there is a card in slot 0".into()));
        assert_eq!(hands.obey("remove 0"), Ok(vec![]));
        assert!(!hands.port.with(|reader| reader.has_card(Slot(0))));
        assert_eq!(hands.obey("remove"), Err("there is no card in slot 0".into()));
        assert_eq!(hands.obey(" insert  0 "), Ok(vec![]));
        assert!(hands.port.with(|reader| reader.has_card(Slot(0))));
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
}
