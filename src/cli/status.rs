//! `scard status`.

use crate::cli::args::ReaderOption;
use crate::cli::failure::Outcome;
use crate::cli::hex::{Spaced, compact};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Source, text};
use scard::{ReaderState, State};
use serde_json::{Value, json};
use std::ffi::CString;
use std::io::Write;

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &ReaderOption,
    out: &mut Out,
) -> Outcome {
    let (session, only) = match &options.reader {
        Some(wanted) => {
            let (session, chosen) = source.open_one(interrupt, Some(wanted))?;
            (session, Some(chosen.name))
        }
        None => (source.open(interrupt)?, None),
    };
    let numbering = session.numbering();
    let readers = session.all_states()?;
    let readers: Vec<_> = readers
        .iter()
        .filter(|(reader, _)| only.as_ref().is_none_or(|only| *only == reader.name))
        .map(|(reader, state)| {
            let name = text(&reader.name);
            (numbering.iter().position(|other| *other == name), name, reader, state)
        })
        .collect();
    if out.is_json() {
        let entries = readers.iter().map(|(index, name, reader, state)| {
            let mut entry = json!({ "index": index, "name": name, "slot": reader.slot });
            add_state(&mut entry, state);
            entry
        });
        return Ok(out.document(&entries.collect())?);
    }
    if readers.is_empty() {
        writeln!(out, "no reader")?;
    }
    // Those that cannot be reached follow, with the reason.
    let reached = |state: &ReaderState| !state.event_state().contains(State::UNAVAILABLE);
    for (index, name, _, state) in readers.into_iter().filter(|(.., state)| reached(state)) {
        writeln!(out, "{}  {name}", number(index))?;
        writeln!(out, "     {}", words(state).join(", "))?;
        if !state.atr().is_empty() {
            writeln!(out, "     ATR {}", Spaced(state.atr()))?;
        }
        let count = state.event_count();
        writeln!(out, "     insertions and removals seen: {count}")?;
    }
    for reader in session.stack.unusable_readers() {
        let meant = |only: &CString| text(only).starts_with(&reader.name);
        if only.as_ref().is_none_or(meant) {
            writeln!(out, "  -  {}\n     cannot be used: {}", reader.name, reader.reason)?;
        }
    }
    Ok(())
}

/// A reader's number in a list.
pub(crate) fn number(index: Option<usize>) -> String {
    index.map_or_else(|| "  -".into(), |index| format!("{index:3}"))
}

/// Adds what is in a reader to its JSON object.
pub(crate) fn add_state(entry: &mut Value, state: &ReaderState) {
    if let Value::Object(fields) = entry {
        fields.insert("state".into(), json!(names(state.event_state())));
        let atr = Some(state.atr()).filter(|atr| !atr.is_empty()).map(compact);
        fields.insert("atr".into(), json!(atr));
        fields.insert("event_count".into(), json!(state.event_count()));
    }
}

/// The state's bits by PC/SC's names, in lower case.
fn names(state: State) -> Vec<&'static str> {
    [
        (State::UNKNOWN, "unknown"),
        (State::UNAVAILABLE, "unavailable"),
        (State::EMPTY, "empty"),
        (State::PRESENT, "present"),
        (State::MUTE, "mute"),
        (State::UNPOWERED, "unpowered"),
        (State::EXCLUSIVE, "exclusive"),
        (State::INUSE, "inuse"),
    ]
    .into_iter()
    .filter(|(bit, _)| state.contains(*bit))
    .map(|(_, name)| name)
    .collect()
}

/// The state in words.
fn words(state: &ReaderState) -> Vec<&'static str> {
    let found = state.event_state();
    let mut words = vec![if found.contains(State::PRESENT) {
        "card present"
    } else if found.contains(State::EMPTY) {
        "no card"
    } else {
        "not known yet"
    }];
    for (bit, word) in [
        (State::MUTE, "does not answer"),
        (State::UNPOWERED, "without power"),
        (State::EXCLUSIVE, "in use exclusively"),
        (State::INUSE, "in use"),
    ] {
        if found.contains(bit) {
            words.push(word);
        }
    }
    if found.contains(State::PRESENT) && !found.intersects(State::EXCLUSIVE | State::INUSE) {
        words.push("free");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_names() {
        assert_eq!(names(State::PRESENT | State::MUTE), ["present", "mute"]);
        assert_eq!(names(State::EMPTY | State::CHANGED), ["empty"]);
    }
}
