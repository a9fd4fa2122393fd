//! `scard sim`: the simulated readers, and one of them on the machine's USB.

use crate::cli::args::SimOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::simulated::no_device;
use serde_json::json;
use sim::Hands;
use std::io::Write;

pub(crate) fn run(interrupt: &Interrupt, options: &SimOptions, out: &mut Out) -> Outcome {
    match &options.vhci {
        Some(preset) => on_usb(preset, interrupt, out),
        None => list(out),
    }
}

fn list(out: &mut Out) -> Outcome {
    if out.is_json() {
        let presets = Hands::names()
            .map(|(name, description)| json!({ "name": name, "description": description }));
        return Ok(out.document(&presets.collect())?);
    }
    let width = Hands::names().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, description) in Hands::names() {
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
    let mut hands = Hands::of(preset).map_err(no_device)?;
    let attachment = sim::vhci::attach(hands.port())
        .map_err(|error| Failure::failed(format!("--vhci: {error}")))?;
    writeln!(out, "ready")?;
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
