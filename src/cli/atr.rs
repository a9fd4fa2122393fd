//! `scard atr`.

use crate::cli::args::AtrOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::{self, Spaced, compact};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::Source;
use scard::State;
use serde_json::json;
use std::io::Write;

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &AtrOptions,
    out: &mut Out,
) -> Outcome {
    let atr = match &options.hex {
        Some(text) => hex::parse(text).map_err(|error| {
            Failure::usage(format!("--hex, column {}: {error}", error.column()))
        })?,
        None => {
            let session = source.open(interrupt)?;
            let chosen = session.choose(options.reader.reader.as_deref())?;
            let states = session.states(std::slice::from_ref(&chosen.name))?;
            let state = states.first().ok_or_else(|| Failure::nothing("no reader"))?;
            if !state.event_state().contains(State::PRESENT) {
                return Err(Failure::nothing(format!("no card in {}", chosen.text)));
            }
            if state.atr().is_empty() {
                return Err(Failure::of(scard::Error::UnresponsiveCard, &chosen.text));
            }
            state.atr().to_vec()
        }
    };
    if out.is_json() {
        out.document(&json!({ "atr": compact(&atr) }))?;
    } else {
        writeln!(out, "{}", Spaced(&atr))?;
    }
    Ok(())
}
