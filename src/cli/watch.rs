//! `scard watch`: cards and readers as they come and go.
//!
//! One status wait without a time limit covers all readers and their coming and going: nothing is
//! polled, and nothing that happens between two waits is lost, as each begins from what the one
//! before has seen.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::{Spaced, compact};
use crate::cli::interrupt::Interrupt;
use crate::cli::list::describe_unusable;
use crate::cli::out::Out;
use crate::cli::session::{Session, Source, text};
use scard::{Error, PNP_NOTIFICATION, ReaderInfo, ReaderState, State, UnusableReader};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

pub(crate) fn run(source: &Source<'_>, interrupt: &Interrupt, out: &mut Out) -> Outcome {
    let session = source.open(interrupt)?;
    let mut watch = Watch {
        session: &session,
        states: Vec::new(),
        known: Vec::new(),
        counts: HashMap::new(),
        unusable: Vec::new(),
        out,
    };
    watch.run()
}

struct Watch<'a> {
    session: &'a Session,
    /// The name for readers coming and going, then one for each reader.
    states: Vec<ReaderState>,
    /// The readers that were told of. One that was unplugged and plugged in again has another
    /// address, even if it has its name back.
    known: Vec<ReaderInfo>,
    /// Each reader's event counter as it was told last.
    counts: HashMap<CString, u32>,
    unusable: Vec<UnusableReader>,
    out: &'a mut Out,
}

/// What has happened.
enum Happening<'a> {
    ReaderAdded,
    ReaderRemoved,
    /// No other program has it any more.
    ReaderFree,
    /// With its ATR; none: it does not answer.
    CardInserted(&'a [u8]),
    CardRemoved,
}

impl Watch<'_> {
    fn run(&mut self) -> Outcome {
        // How many readers have come and gone is asked for before they are listed: one that comes
        // in between ends the first wait.
        self.states.push(ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE));
        match self.wait(Some(Duration::ZERO)) {
            Ok(()) | Err(Error::Timeout) => {}
            Err(error) => return Err(self.failure(error)),
        }
        loop {
            self.sync_readers()?;
            if self.states.len() == 1 && self.unusable.is_empty() && !self.out.is_json() {
                writeln!(self.out, "no reader; waiting")?;
            }
            loop {
                self.session.interrupt.check()?;
                match self.wait(None) {
                    // Gone between two waits.
                    Err(Error::UnknownReader) => break,
                    Err(error) => return Err(self.failure(error)),
                    Ok(()) => {}
                }
                self.tell_changes()?;
                let came_or_went = |state: &ReaderState| {
                    state.event_state().contains(State::UNKNOWN | State::CHANGED)
                        || state.name() == PNP_NOTIFICATION()
                            && state.event_state().contains(State::CHANGED)
                };
                if self.states.iter().any(came_or_went) {
                    break;
                }
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        let result = self.session.context.get_status_change(timeout, &mut self.states);
        if let (Ok(()) | Err(Error::Timeout), Some(pnp)) = (result, self.states.first_mut()) {
            pnp.sync_current_state();
        }
        result
    }

    fn failure(&self, error: Error) -> Failure {
        match error {
            Error::Cancelled => Failure::Interrupted,
            error => Failure::failed(format!("waiting: {error} ({})", error.constant())),
        }
    }

    /// Tells of readers that have come or gone, and waits for those there are from now on.
    fn sync_readers(&mut self) -> Outcome {
        let now = self.session.readers();
        let before = std::mem::replace(&mut self.known, now.clone());
        for reader in before.iter().filter(|reader| !now.contains(reader)) {
            self.counts.remove(&reader.name);
            self.states.retain(|state| state.name() != reader.name.as_c_str());
            self.tell(&text(&reader.name), &Happening::ReaderRemoved)?;
        }
        for reader in now.into_iter().filter(|reader| !before.contains(reader)) {
            self.tell(&text(&reader.name), &Happening::ReaderAdded)?;
            self.states.push(ReaderState::new(reader.name, State::UNAWARE));
        }
        self.sync_unusable()
    }

    fn sync_unusable(&mut self) -> Outcome {
        let now = self.session.stack.unusable_readers();
        let before = std::mem::replace(&mut self.unusable, now.clone());
        for reader in now.iter().filter(|reader| !before.contains(reader)) {
            if self.out.is_json() {
                let mut event = describe_unusable(None, reader);
                if let Value::Object(fields) = &mut event {
                    fields.insert("event".into(), json!("reader-unusable"));
                    fields.insert("reader".into(), json!(reader.name));
                    fields.insert("time".into(), json!(seconds_since_1970()));
                }
                self.out.json_line(&event)?;
            } else {
                writeln!(self.out, "cannot be used   {}: {}", reader.name, reader.reason)?;
                writeln!(self.out, "                 to use it, {}", reader.remedy())?;
            }
        }
        Ok(())
    }

    /// Tells of the cards that have come or gone since the wait before.
    fn tell_changes(&mut self) -> Outcome {
        let mut states = std::mem::take(&mut self.states);
        let told = states.iter_mut().skip(1).try_for_each(|state| self.tell_change(state));
        self.states = states;
        told?;
        self.sync_unusable()
    }

    fn tell_change(&mut self, state: &mut ReaderState) -> io::Result<()> {
        let found = state.event_state();
        if !found.contains(State::CHANGED) || found.contains(State::UNKNOWN) {
            return Ok(());
        }
        if found.contains(State::UNAVAILABLE) {
            // Who has it is told with the readers that cannot be used.
            state.sync_current_state();
            return Ok(());
        }
        let name = text(state.name());
        if state.current_state().contains(State::UNAVAILABLE) {
            self.tell(&name, &Happening::ReaderFree)?;
        }
        let before = state.current_state().contains(State::PRESENT);
        let after = found.contains(State::PRESENT);
        // The counter has each of a removal and an insertion that fell between two waits.
        let count = self.counts.insert(state.name().to_owned(), state.event_count());
        let between = count != Some(state.event_count());
        if before && (!after || between) {
            self.tell(&name, &Happening::CardRemoved)?;
        }
        if after && (!before || between) {
            self.tell(&name, &Happening::CardInserted(state.atr()))?;
        }
        state.sync_current_state();
        Ok(())
    }

    fn tell(&mut self, reader: &str, happening: &Happening<'_>) -> io::Result<()> {
        if self.out.is_json() {
            let mut event = json!({
                "event": happening.name(),
                "reader": reader,
                "time": seconds_since_1970(),
            });
            if let (Happening::CardInserted(atr), Value::Object(fields)) = (happening, &mut event) {
                let atr = Some(*atr).filter(|atr| !atr.is_empty()).map(compact);
                fields.insert("atr".into(), json!(atr));
            }
            return self.out.json_line(&event);
        }
        write!(self.out, "{:15}  {reader}", happening.words())?;
        match happening {
            Happening::CardInserted([]) => writeln!(self.out, ": it does not answer"),
            Happening::CardInserted(atr) => writeln!(self.out, ": {}", Spaced(atr)),
            _ => writeln!(self.out),
        }
    }
}

impl Happening<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::ReaderAdded => "reader-added",
            Self::ReaderRemoved => "reader-removed",
            Self::ReaderFree => "reader-free",
            Self::CardInserted(_) => "card-inserted",
            Self::CardRemoved => "card-removed",
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::ReaderAdded => "reader there",
            Self::ReaderRemoved => "reader gone",
            Self::ReaderFree => "reader free",
            Self::CardInserted(_) => "card inserted",
            Self::CardRemoved => "card removed",
        }
    }
}

fn seconds_since_1970() -> f64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Milliseconds are as much as is meant.
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
