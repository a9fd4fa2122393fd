//! Who said what to whom, what was not answered, and how long the answers took.

use super::payload::{self, Blocks};
use crate::cli::failure::Outcome;
use crate::cli::out::Out;
use ccid::descriptor::ExchangeLevel;
use ccid::iccd::Version;
use ccid::wire::{
    ChainParameter, Command, CommandStatus, Message, Response, Seq, Slot, SlotError, dissect,
};
use ifd::trace::Event;
use ifd::transport::descriptors::CcidInterface;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Commands that may be out at once; a trace that never answers does not fill the memory.
const MAX_OPEN: usize = 512;

/// One line of the conversation, and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) packet: u64,
    pub(super) time: Duration,
    pub(super) out: bool,
    pub(super) slot: Option<u8>,
    pub(super) seq: Option<u8>,
    pub(super) text: String,
    pub(super) meaning: Vec<String>,
    pub(super) marks: Vec<String>,
}

impl Line {
    pub(super) fn plain(event: &Event, out: bool, text: String) -> Self {
        let (packet, time) = (event.packet, event.time);
        let (meaning, marks) = (Vec::new(), Vec::new());
        Self { packet, time, out, slot: None, seq: None, text, meaning, marks }
    }
}

/// A command that has not been answered.
struct Open {
    message_type: u8,
    packet: u64,
    time: Duration,
    ins: Option<u8>,
}

/// The conversation with one reader.
pub(super) struct Conversation {
    level: Option<ExchangeLevel>,
    /// By slot and sequence number.
    open: BTreeMap<(u8, u8), Open>,
    /// By slot.
    blocks: BTreeMap<u8, Blocks>,
    totals: Totals,
}

/// Counts, by message.
#[derive(Default)]
pub(super) struct Totals {
    commands: BTreeMap<&'static str, Count>,
    requests: u64,
    notifications: u64,
    extensions: u64,
    aborts: u64,
    anomalies: u64,
    unanswered: u64,
}

#[derive(Default, Clone, Copy)]
struct Count {
    sent: u64,
    answered: u64,
    failed: u64,
    least: Option<Duration>,
    most: Duration,
    sum: Duration,
}

impl Conversation {
    pub(super) fn new(interface: Option<&CcidInterface>) -> Self {
        let level = interface.map(|CcidInterface { info, .. }| {
            let iccd = Version::of(info.interface_protocol);
            iccd.map_or(info.class, |version| version.class(&info.class)).exchange_level()
        });
        let (open, blocks) = (BTreeMap::new(), BTreeMap::new());
        Self { level, open, blocks, totals: Totals::default() }
    }

    fn by_host(&self) -> bool {
        !matches!(self.level, Some(ExchangeLevel::ShortApdu | ExchangeLevel::ExtendedApdu))
    }

    fn line(&mut self, event: &Event, out: bool, bytes: &[u8]) -> Line {
        let text = match self.level {
            Some(ExchangeLevel::Character) if out => {
                dissect(bytes).without_exchange_data().to_string()
            }
            _ => dissect(bytes).to_string(),
        };
        let mut line = Line::plain(event, out, text);
        match Message::parse(bytes) {
            Ok(message) => {
                line.slot = Some(message.slot.0);
                line.seq = Some(message.seq.0);
            }
            Err(_) => line.marks.push("malformed".into()),
        }
        line
    }

    pub(super) fn sent(&mut self, event: &Event, bytes: &[u8]) -> Vec<Line> {
        let mut line = self.line(event, true, bytes);
        if let Ok(message) = Message::parse(bytes) {
            let (slot, seq) = (message.slot.0, message.seq.0);
            let name = Command::name_of(message.message_type).unwrap_or("unknown");
            self.totals.commands.entry(name).or_default().sent += 1;
            let is_abort = Command::parse(&message) == Ok(Command::Abort);
            self.totals.aborts += u64::from(is_abort);
            if is_abort {
                line.meaning.push("aborts what the slot is doing".into());
            } else {
                self.left_open(slot, &mut line);
            }
            let mut ins = None;
            if let Ok(Command::XfrBlock { data, level_parameter, .. }) = Command::parse(&message) {
                let blocks = self.by_host();
                let known = self.blocks.entry(slot).or_default();
                // Otherwise it goes on with what has begun.
                match level_parameter.0 {
                    0 | 1 => (line.meaning, ins) = payload::command(data, blocks, known),
                    _ => ins = known.ins(),
                }
            }
            if self.open.len() < MAX_OPEN {
                let (packet, time) = (event.packet, event.time);
                let open = Open { message_type: message.message_type, packet, time, ins };
                self.open.insert((slot, seq), open);
            }
        }
        self.count(&line);
        vec![line]
    }

    /// Commands of the slot that were not answered when it gets the next one.
    fn left_open(&mut self, slot: u8, line: &mut Line) {
        let left: Vec<_> = self.open.keys().copied().filter(|(of, _)| *of == slot).collect();
        for key in left {
            if let Some(open) = self.open.remove(&key) {
                self.totals.unanswered += 1;
                let name = Command::name_of(open.message_type).unwrap_or("a message");
                line.marks.push(format!(
                    "{name} seq {} (packet {}) was not answered",
                    key.1, open.packet
                ));
            }
        }
    }

    pub(super) fn received(&mut self, event: &Event, bytes: &[u8]) -> Vec<Line> {
        let mut line = self.line(event, false, bytes);
        if let Ok(message) = Message::parse(bytes) {
            self.answered(event, &message, &mut line);
        }
        self.count(&line);
        vec![line]
    }

    fn answered(&mut self, event: &Event, message: &Message<'_>, line: &mut Line) {
        let key = (message.slot.0, message.seq.0);
        let response = Response::parse(message);
        let status = response.as_ref().ok().map(Response::status);
        let extends = status.is_some_and(|s| s.command == CommandStatus::TimeExtension);
        if extends {
            self.totals.extensions += 1;
            line.meaning.push("asks for more time".into());
            return;
        }
        let Some(open) = self.open.remove(&key) else {
            line.marks.push("wrong sequence number: it answers no command".into());
            return;
        };
        let took = event.time.saturating_sub(open.time);
        line.meaning.push(format!("after {:.3} ms", took.as_secs_f64() * 1000.0));
        let name = Command::name_of(open.message_type).unwrap_or("unknown");
        let error = status.and_then(|status| status.slot_error());
        let count = self.totals.commands.entry(name).or_default();
        count.answered += 1;
        count.failed += u64::from(error.is_some());
        count.least = Some(count.least.map_or(took, |least| least.min(took)));
        count.most = count.most.max(took);
        count.sum += took;
        match error {
            Some(SlotError::CmdAborted) => line.meaning.push("aborted".into()),
            Some(error) => line.marks.push(format!("error: {error}")),
            None => {}
        }
        if let Ok(Response::DataBlock { data, chain, .. }) = response {
            // The status word is at the end.
            let ends = matches!(chain, ChainParameter::Whole | ChainParameter::End);
            if open.message_type == 0x6F && !data.is_empty() && ends {
                let blocks = self.by_host();
                let known = self.blocks.entry(key.0).or_default();
                line.meaning.extend(payload::response(data, blocks, open.ins, known));
            }
        }
    }

    pub(super) fn notified(&mut self, event: &Event, bytes: &[u8]) -> Vec<Line> {
        if bytes.is_empty() {
            return Vec::new();
        }
        self.totals.notifications += 1;
        vec![Line::plain(event, false, dissect(bytes).to_string())]
    }

    /// A command was carried out, and there is nothing more to be said about it.
    pub(super) fn done(&mut self, slot: Slot, seq: Seq) {
        if let Some(open) = self.open.remove(&(slot.0, seq.0)) {
            let name = Command::name_of(open.message_type).unwrap_or("unknown");
            self.totals.commands.entry(name).or_default().answered += 1;
        }
    }

    /// The reader needs more time.
    pub(super) fn extended(&mut self) {
        self.totals.extensions += 1;
    }

    /// Something is wrong with what a line tells of.
    pub(super) fn mark(&mut self, line: &mut Line, what: String) {
        self.totals.anomalies += 1;
        line.marks.push(what);
    }

    pub(super) fn requested(&mut self, failed: bool) {
        self.totals.requests += 1;
        self.totals.anomalies += u64::from(failed);
    }

    fn count(&mut self, line: &Line) {
        self.totals.anomalies += u64::try_from(line.marks.len()).unwrap_or_default();
    }

    /// The end of the trace.
    pub(super) fn end(&mut self) -> &Totals {
        self.totals.unanswered += u64::try_from(self.open.len()).unwrap_or_default();
        self.open.clear();
        &self.totals
    }
}

impl Totals {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.requests + self.notifications == 0
    }

    pub(super) fn json(&self) -> Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let commands: Vec<_> = self
            .commands
            .iter()
            .map(|(name, count)| {
                json!({
                    "command": name,
                    "sent": count.sent,
                    "answered": count.answered,
                    "failed": count.failed,
                    "least_us": count.least.map(micros),
                    "most_us": micros(count.most),
                    "sum_us": micros(count.sum),
                })
            })
            .collect();
        json!({
            "commands": commands,
            "requests": self.requests,
            "notifications": self.notifications,
            "time_extensions": self.extensions,
            "aborts": self.aborts,
            "unanswered": self.unanswered,
            "anomalies": self.anomalies,
        })
    }

    pub(super) fn print(&self, out: &mut Out) -> Outcome {
        writeln!(
            out,
            "#   {:20} {:>6} {:>8} {:>6}  least, mean, most",
            "command", "sent", "answered", "failed"
        )?;
        for (name, count) in &self.commands {
            let Count { sent, answered, failed, least, most, sum } = *count;
            let mean = sum.checked_div(u32::try_from(answered).unwrap_or(u32::MAX));
            let times = match (least, mean) {
                (Some(least), Some(mean)) => {
                    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
                    format!("{:.3}, {:.3}, {:.3} ms", ms(least), ms(mean), ms(most))
                }
                _ => String::new(),
            };
            writeln!(out, "#   {name:20} {sent:>6} {answered:>8} {failed:>6}  {times}")?;
        }
        let Self { requests, notifications, extensions, aborts, anomalies, unanswered, .. } = self;
        writeln!(
            out,
            "#   {requests} requests, {notifications} notifications, {extensions} time extensions, \
             {aborts} aborts, {unanswered} unanswered, {anomalies} anomalies"
        )?;
        Ok(())
    }
}
