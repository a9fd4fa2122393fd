//! `scard apdu`.

mod exchange;
mod script;

use crate::cli::args::ApduOptions;
use crate::cli::failure::{Exit, Failure, Outcome, complain};
use crate::cli::hex::{Spaced, as_text, compact};
use crate::cli::input::Lines;
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Chosen, Session, Source};
use crate::cli::status_word::StatusWord;
pub(crate) use exchange::Exchange;

use scard::{Card, Disposition, Error, Protocol, ShareMode};
use script::Step;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &ApduOptions,
    out: &mut Out,
) -> Outcome {
    let typed = match &options.apdus[..] {
        [word] if word == "-" => io::stdin().is_terminal(),
        words if words.iter().any(|word| word == "-") => {
            return Err(Failure::usage(
                "- stands alone: APDUs come from arguments or from a script",
            ));
        }
        _ => false,
    };
    let steps = match &options.apdus[..] {
        [word] if word == "-" && !typed => whole_script(interrupt)?,
        [word] if word == "-" => Vec::new(),
        words => script::of_arguments(words)?,
    };
    let (session, chosen) = source.open_one(interrupt, options.reader.reader.as_deref())?;
    let mut talk = Talk::connect(&session, chosen, options, out)?;
    let outcome = if typed {
        talk.typed(interrupt)
    } else {
        steps.iter().try_for_each(|step| talk.step(step))
    };
    talk.end(outcome)
}

/// Reads all of standard input before anything of it is done: a slip in the last line must not
/// leave a script half done.
fn whole_script(interrupt: &Interrupt) -> Result<Vec<Step>, Failure> {
    let lines = Lines::read(interrupt)?;
    let mut steps = Vec::new();
    let mut number = 0;
    while let Some(line) = lines.next()? {
        number += 1;
        steps.extend(script::of_line(&line, number)?);
    }
    Ok(steps)
}

/// A connected card and what has been said.
struct Talk<'a> {
    session: &'a Session,
    reader: Chosen,
    card: Card,
    options: &'a ApduOptions,
    out: &'a mut Out,
    /// For JSON.
    done: Vec<Value>,
}

impl<'a> Talk<'a> {
    fn connect(
        session: &'a Session,
        reader: Chosen,
        options: &'a ApduOptions,
        out: &'a mut Out,
    ) -> Result<Self, Failure> {
        let card = connect(session, &reader, options)?;
        Ok(Self { session, reader, card, options, out, done: Vec::new() })
    }

    /// Lines as they are typed; what fails is told, and the next line has its chance.
    fn typed(&mut self, interrupt: &Interrupt) -> Outcome {
        complain("one APDU a line; Ctrl-D ends", &[]);
        let lines = Lines::read(interrupt)?;
        let mut number = 0;
        while let Some(line) = lines.next()? {
            number += 1;
            let step = script::of_line(&line, number);
            let outcome = step.and_then(|step| step.map_or(Ok(()), |step| self.step(&step)));
            match outcome {
                Err(failure @ Failure::Said { exit: Exit::Interrupted, .. }) => {
                    return Err(failure);
                }
                Err(Failure::Said { message, hints, .. }) => {
                    complain(&message, &hints);
                    self.recover();
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// After a command that was aborted, the card has been reset: that is taken note of.
    fn recover(&mut self) {
        if self.card.status2_owned() == Err(Error::ResetCard) {
            let protocols = self.options.protocol.into();
            match self.card.reconnect(ShareMode::Shared, protocols, Disposition::LeaveCard) {
                Ok(()) => complain("the card was reset", &[]),
                Err(error) => complain(&format!("the card cannot be used: {error}"), &[]),
            }
        }
    }

    fn step(&mut self, step: &Step) -> Outcome {
        self.session.interrupt.check()?;
        match step {
            Step::Apdu(command) => self.exchange(command),
            Step::Reset => self.reset(),
        }
    }

    fn reset(&mut self) -> Outcome {
        let protocols = self.options.protocol.into();
        self.card
            .reconnect(ShareMode::Shared, protocols, Disposition::ResetCard)
            .map_err(|error| self.failure(error))?;
        let status = self.card.status2_owned();
        let status = status.map_err(|error| self.session.failure(error, &self.reader.text))?;
        if self.out.is_json() {
            self.done.push(json!({ "reset": true, "atr": compact(status.atr()) }));
            return Ok(());
        }
        writeln!(self.out, "> reset\n  ATR {}", Spaced(status.atr()))?;
        Ok(())
    }

    fn exchange(&mut self, command: &[u8]) -> Outcome {
        let began = Instant::now();
        let mut exchange = Exchange::new(command, !self.options.no_get_response);
        let mut next = Some(command.to_vec());
        while let Some(command) = next {
            if !self.out.is_json() {
                writeln!(self.out, "> {}", Shown(&command))?;
            }
            let response = self
                .card
                .transmit_owned(&command, self.options.timeout)
                .map_err(|error| self.failure(error))?;
            let ins = command.get(1).copied().unwrap_or_default();
            next = exchange.answered(command, &response);
            if next.is_some() && !self.out.is_json() {
                write_meaning(self.out, &response, ins)?;
            }
        }
        let response = exchange.response();
        let ins = command.get(1).copied().unwrap_or_default();
        if self.out.is_json() {
            self.done.push(describe(&exchange, command, response, began.elapsed()));
        } else {
            writeln!(self.out, "{}", Spaced(response))?;
            write_meaning(self.out, response, ins)?;
        }
        match StatusWord::of(response) {
            Some(word) if self.options.check && !word.is_success() => {
                let meaning = word.meaning(ins);
                Err(Failure::failed(format!("the card answered {:04X}: {meaning}", word.0)))
            }
            _ => Ok(()),
        }
    }

    fn failure(&self, error: Error) -> Failure {
        let reader = &self.reader.text;
        let failure = Failure::of_exchange(error, reader, self.options.timeout);
        self.session.explain(failure, error, reader)
    }

    /// Leaves the card, and writes the JSON document: what was done until the end, however it came.
    fn end(self, outcome: Outcome) -> Outcome {
        if self.out.is_json() {
            let protocol = self.card.status2_owned().ok().and_then(|status| status.protocol2());
            let document = json!({
                "reader": self.reader.text,
                "protocol": protocol.map(protocol_name),
                "exchanges": self.done,
                "error": outcome.as_ref().err().map(Failure::message),
            });
            self.out.document(&document)?;
        }
        // A card or reader that is gone needs no goodbye.
        let _ = self.card.disconnect(Disposition::LeaveCard);
        outcome
    }
}

fn connect(session: &Session, reader: &Chosen, options: &ApduOptions) -> Result<Card, Failure> {
    session.interrupt.check()?;
    let protocols = options.protocol.into();
    session.context.connect(&reader.name, ShareMode::Shared, protocols).map_err(|error| match error
    {
        Error::ProtoMismatch => {
            let asked = format!("{:?}", options.protocol).to_lowercase();
            Failure::failed(format!("{}: card or reader does not speak {asked}", reader.text))
                .hint("`scard atr` tells what the card speaks, `scard descriptor` the reader")
        }
        other => session.failure(other, &reader.text),
    })
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::T0 => "T=0",
        Protocol::T1 => "T=1",
        Protocol::RAW => "raw",
    }
}

/// The line below a response: its status word, in words.
fn write_meaning(out: &mut Out, response: &[u8], ins: u8) -> io::Result<()> {
    let Some(word) = StatusWord::of(response) else {
        return writeln!(out, "  no status word");
    };
    write!(out, "  {:04X}: {}", word.0, word.meaning(ins))?;
    match response.split_last_chunk::<2>().and_then(|(data, _)| as_text(data)) {
        Some(text) => writeln!(out, "; {text:?}"),
        None => writeln!(out),
    }
}

/// A command as it is shown: without data that may be a PIN.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.split_first_chunk::<4>() {
            Some((header, data)) if script::carries_pin(self.0) => {
                write!(f, "{} ({} bytes not shown)", Spaced(header), data.len())
            }
            _ => Spaced(self.0).fmt(f),
        }
    }
}

/// An exchange for JSON.
fn describe(exchange: &Exchange, command: &[u8], response: &[u8], took: Duration) -> Value {
    let command_text = |command: &[u8]| match command.get(..4) {
        Some(header) if script::carries_pin(command) => compact(header),
        _ => compact(command),
    };
    let word = StatusWord::of(response);
    let ins = command.get(1).copied().unwrap_or_default();
    let sent: Vec<_> = exchange
        .sent()
        .iter()
        .map(|sent| {
            json!({ "command": command_text(&sent.command), "response": compact(&sent.response) })
        })
        .collect();
    let data = response.get(..response.len().saturating_sub(2)).unwrap_or_default();
    json!({
        "command": command_text(command),
        "hidden": script::carries_pin(command),
        "response": compact(response),
        "data": compact(data),
        "sw": word.map(|word| format!("{:04X}", word.0)),
        "meaning": word.map(|word| word.meaning(ins)),
        "sent": sent,
        "seconds": took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_not_shown() {
        let verify = [0x00, 0x20, 0x00, 0x81, 0x04, 0x31, 0x32, 0x33, 0x34];
        assert_eq!(Shown(&verify).to_string(), "00 20 00 81 (5 bytes not shown)");
        let mut exchange = Exchange::new(&verify, true);
        exchange.answered(verify.to_vec(), &[0x90, 0x00]);
        let text = describe(&exchange, &verify, &[0x90, 0x00], Duration::ZERO).to_string();
        assert!(!text.contains("31323334") && text.contains("00200081"), "{text}");
    }
}
