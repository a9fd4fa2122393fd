//! `scard atr`.

use crate::cli::args::AtrOptions;
use crate::cli::explain::{self, card_list};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::{self, Spaced, compact};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Chosen, Session, Source};
use scard::{Error, State};
use serde_json::json;
use std::io::Write;

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &AtrOptions,
    out: &mut Out,
) -> Outcome {
    let (atr, clock) = match &options.hex {
        Some(text) => {
            let place = |error: hex::HexError| {
                Failure::usage(format!("--hex, column {}: {error}", error.column()))
            };
            (hex::parse(text).map_err(place)?, None)
        }
        None => {
            let (session, chosen) = source.open_one(interrupt, options.reader.reader.as_deref())?;
            read(&session, &chosen)?
        }
    };
    let explained = explain::atr::explain(&atr, clock);
    let cards = card_list::look_up(&atr);
    if out.is_json() {
        let rows: Vec<_> = explained.rows.iter().map(explain::Row::json).collect();
        out.document(&json!({
            "atr": compact(&atr),
            "clock_khz": clock,
            "rows": rows,
            "summary": explained.summary,
            "broken": explained.broken,
            "cards": cards,
        }))?;
    } else {
        writeln!(out, "{}\n", Spaced(&atr))?;
        explain::table(out, &explained.rows)?;
        if explained.broken.is_none() {
            writeln!(out, "\n{}", explained.summary)?;
        }
        match cards {
            Some(cards) if cards.is_empty() => writeln!(out, "not in the list of known cards")?,
            Some(cards) => {
                writeln!(out, "known as")?;
                cards.iter().try_for_each(|card| writeln!(out, "  {card}"))?;
            }
            None => {}
        }
    }
    match explained.broken {
        Some(broken) => Err(Failure::failed(broken)),
        None => Ok(()),
    }
}

/// The ATR of the card in a reader, and the reader's clock in kHz.
fn read(session: &Session, chosen: &Chosen) -> Result<(Vec<u8>, Option<u32>), Failure> {
    let states = session.states(std::slice::from_ref(&chosen.name))?;
    states.iter().try_for_each(|state| session.check_reach(state))?;
    let state = states.first().filter(|state| state.event_state().contains(State::PRESENT));
    let Some(state) = state else {
        return Err(Failure::of(Error::NoSmartcard, &chosen.text));
    };
    if state.atr().is_empty() {
        return Err(Failure::of(Error::UnresponsiveCard, &chosen.text));
    }
    let readers = session.readers();
    let reader = readers.iter().find(|reader| reader.name == chosen.name);
    let clock = reader.map(|reader| reader.device.class.default_clock);
    Ok((state.atr().to_vec(), clock))
}
