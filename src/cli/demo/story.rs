//! How the story is told: text for people, or one JSON document in the end.

use super::Stage;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::{Spaced, as_text, compact};
use crate::cli::out::Out;
use crate::cli::status_word::StatusWord;
use crate::cli::tap::Passed;
use ifd::transport::Pipe;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, Instant};

pub(super) struct Story<'a> {
    out: &'a mut Out,
    chapters: u32,
    /// For JSON.
    fields: serde_json::Map<String, Value>,
    exchanges: Vec<Value>,
    wire: Vec<Value>,
    /// What went over the wire last, and how often in a row.
    last: (String, u32),
}

impl<'a> Story<'a> {
    pub(super) fn new(out: &'a mut Out) -> Self {
        Self {
            out,
            chapters: 0,
            fields: serde_json::Map::new(),
            exchanges: Vec::new(),
            wire: Vec::new(),
            last: (String::new(), 0),
        }
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.out.is_json() {
            return Ok(());
        }
        if let (_, more @ 1..) = std::mem::take(&mut self.last) {
            writeln!(self.out, "            {more} more of these")?;
        }
        writeln!(self.out, "{text}")
    }

    /// Which reader it is.
    pub(super) fn introduce(&mut self, stage: &Stage) -> io::Result<()> {
        self.fields.insert("simulated".into(), json!(stage.simulated));
        if let Some(why) = &stage.instead_of {
            self.line(&format!("{why}; this one is simulated in software."))?;
        } else if stage.simulated {
            self.line("This reader is simulated in software.")?;
        }
        for reader in stage.session.readers() {
            self.line(&format!("Reader: {}", reader.name.to_string_lossy()))?;
        }
        Ok(())
    }

    pub(super) fn chapter(&mut self, title: &str) -> io::Result<()> {
        self.chapters += 1;
        let number = self.chapters;
        self.line(&format!("\n{number}. {title}"))
    }

    /// A card is there.
    pub(super) fn card(
        &mut self,
        after: Duration,
        reader: &str,
        atr: &[u8],
        summary: &str,
    ) -> io::Result<()> {
        self.fields.insert("reader".into(), json!(reader));
        self.fields.insert("atr".into(), json!(compact(atr)));
        let seconds = after.as_secs_f64();
        self.line(&format!("   {seconds:.3} s  a card; its ATR is {}", Spaced(atr)))?;
        self.line(&format!("            {summary}"))
    }

    /// A command of the story and its answer.
    pub(super) fn exchange(&mut self, name: &str, command: &[u8], response: &[u8]) -> Outcome {
        let ins = command.get(1).copied().unwrap_or_default();
        let word = StatusWord::of(response);
        let mut meaning = word.map(|word| word.meaning(ins)).unwrap_or_default();
        let data = response.get(..response.len().saturating_sub(2)).unwrap_or_default();
        if let Some(text) = as_text(data) {
            meaning = format!("{meaning}; {text:?}");
        }
        self.exchanges.push(json!({
            "name": name,
            "command": compact(command),
            "response": compact(response),
            "meaning": meaning,
        }));
        self.line(&format!("   {name:14} {}", Spaced(command)))?;
        self.line(&format!("   {:14} {}", "", Spaced(response)))?;
        Ok(self.line(&format!("   {:14} {meaning}", ""))?)
    }

    /// Something went over the wire.
    pub(super) fn passed(&mut self, began: Instant, passed: &Passed) -> io::Result<()> {
        let seconds = passed.at.saturating_duration_since(began).as_secs_f64();
        let pipe = match passed.pipe {
            Pipe::Control => "control",
            Pipe::BulkOut | Pipe::BulkIn => "bulk",
            Pipe::Interrupt => "interrupt",
        };
        self.wire.push(json!({
            "seconds": seconds,
            "pipe": passed.pipe.to_string(),
            "out": passed.out,
            "text": passed.text,
        }));
        // A reader that is asked again and again says nothing new.
        if self.last.0 == passed.text {
            self.last.1 += 1;
            return Ok(());
        }
        let arrow = if passed.out { "->" } else { "<-" };
        self.line(&format!("   {seconds:.3} s  {arrow} {pipe:9}  {}", passed.text))?;
        self.last = (passed.text.clone(), 0);
        Ok(())
    }

    /// Something was done here.
    pub(super) fn note(&mut self, began: Instant, text: &str) -> io::Result<()> {
        let seconds = began.elapsed().as_secs_f64();
        self.wire.push(json!({ "seconds": seconds, "text": text }));
        self.line(&format!("   {seconds:.3} s  {text}"))
    }

    /// A call has ended by cancel.
    pub(super) fn cancelled(&mut self, call: &str, took: Duration) -> Outcome {
        let millis = took.as_secs_f64() * 1000.0;
        self.fields.insert("cancelled".into(), json!(call));
        self.fields.insert("cancel_milliseconds".into(), json!(millis));
        let code = scard::Error::Cancelled.constant();
        let text = format!("   {call} returned {code}, {millis:.1} ms after the cancel.");
        Ok(self.line(&text)?)
    }

    /// The end of the story.
    pub(super) fn end(mut self, told: &Outcome) -> io::Result<()> {
        if !self.out.is_json() {
            return Ok(());
        }
        let exchanges = std::mem::take(&mut self.exchanges);
        self.fields.insert("exchanges".into(), Value::Array(exchanges));
        self.fields.insert("wire".into(), Value::Array(std::mem::take(&mut self.wire)));
        let error = told.as_ref().err().map(Failure::message);
        self.fields.insert("error".into(), json!(error));
        self.out.document(&Value::Object(self.fields))
    }
}
