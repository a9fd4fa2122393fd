//! `scard trace`: a recorded trace as a conversation.

mod conversation;
mod iccd;
mod payload;

use crate::cli::args::TraceOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::compact as hex;
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use ccid::iccd::Version;
use ccid::reassembly::Reassembler;
use ccid::wire::{ClassRequest, MAX_DATA_LEN, SetupPacket};
use conversation::{Conversation, Line};
use iccd::Iccd;
use ifd::trace::mask::Masker;
use ifd::trace::{DeviceKey, Events, Recorded, What};
use ifd::transport::descriptors::CcidInterface;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufReader, Write};

/// Bytes of a packet where the descriptors do not say.
const USUAL_PACKET: usize = 64;

/// What is known of one device of the trace.
struct Known {
    interface: Option<CcidInterface>,
    incoming: Reassembler,
    outgoing: Reassembler,
    /// For recordings in which PINs are not masked.
    masker: Masker,
    conversation: Conversation,
    iccd: Option<Iccd>,
}

pub(crate) fn run(options: &TraceOptions, interrupt: &Interrupt, out: &mut Out) -> Outcome {
    let path = &options.file;
    let failed =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut events = Events::new(BufReader::new(file)).map_err(|error| failed(&error))?;
    let mut devices: BTreeMap<DeviceKey, Known> = BTreeMap::new();
    let mut broken = None;
    while let Some(event) = events.next() {
        interrupt.check()?;
        let recorded = match event {
            Ok(recorded) => recorded,
            Err(error) => {
                broken = Some(error);
                break;
            }
        };
        let device = recorded.device;
        if options.device.is_some_and(|chosen| chosen != device) {
            continue;
        }
        let known = match devices.entry(device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let found = events.interface(device, options.interface);
                let known = Known::new(found.ok().flatten());
                if let Some(interface) = &known.interface {
                    introduce(device, interface, out)?;
                }
                place.insert(known)
            }
        };
        for line in known.lines(&recorded) {
            print(&line, device, out)?;
        }
    }
    let lines = summary(&mut devices, options, out);
    match (lines, broken) {
        (Err(failure), _) => Err(failure),
        // What came before it has been shown.
        (_, Some(error)) => Err(failed(&error)),
        (Ok(()), None) => Ok(()),
    }
}

impl Known {
    fn new(interface: Option<CcidInterface>) -> Self {
        let conversation = Conversation::new(interface.as_ref());
        let masker = interface.as_ref().map_or_else(Masker::unknown, |i| Masker::of(&i.info));
        let iccd = interface.as_ref().and_then(|i| Version::of(i.info.interface_protocol));
        let iccd = iccd.map(Iccd::new);
        let (incoming, outgoing) = (Reassembler::new(MAX_DATA_LEN), Reassembler::new(MAX_DATA_LEN));
        Self { interface, incoming, outgoing, masker, conversation, iccd }
    }

    /// A transfer with which a message may go on.
    fn is_full(&self, bytes: &[u8]) -> bool {
        let packet = self.interface.as_ref().map_or(USUAL_PACKET, |i| i.info.bulk_in_packet);
        !bytes.is_empty() && bytes.len() % packet.max(1) == 0
    }

    fn lines(&mut self, recorded: &Recorded) -> Vec<Line> {
        let is_its = match &self.interface {
            Some(interface) => recorded.is_of(interface),
            None => may_be_of_a_reader(&recorded.event.what),
        };
        if !is_its {
            return Vec::new();
        }
        let event = &recorded.event;
        let line = |out, text| Line::plain(event, out, text);
        match &event.what {
            _ if recorded.cut => {
                vec![line(false, "only part of its data was recorded".to_owned())]
            }
            // Some drivers give a reader packets as transfers of their own.
            What::Out(bytes) => match self.outgoing.push(bytes, self.is_full(bytes)) {
                Ok(None) => Vec::new(),
                whole => {
                    let message = whole.ok().flatten().unwrap_or_else(|| bytes.clone());
                    let masked = self.masker.message(&message);
                    self.conversation.sent(event, masked.as_deref().unwrap_or(&message))
                }
            },
            What::In(bytes) => match self.incoming.push(bytes, self.is_full(bytes)) {
                Ok(Some(message)) => self.conversation.received(event, &message),
                Ok(None) => Vec::new(),
                Err(error) => vec![line(false, format!("! {error}: {}", hex(bytes)))],
            },
            What::Interrupt(bytes) => self.conversation.notified(event, bytes),
            What::Control { setup, data, result } => {
                if let Some(iccd) = &mut self.iccd {
                    let request = iccd::Request { setup, data, result };
                    let (talk, masker) = (&mut self.conversation, &mut self.masker);
                    if let Some(lines) = iccd.lines(talk, masker, event, request) {
                        return lines;
                    }
                }
                let what = request(setup);
                let end = match result {
                    Ok(answer) if answer.is_empty() => String::new(),
                    Ok(answer) => format!(" -> {}", hex(answer)),
                    Err(error) => format!(" ! {error}"),
                };
                // An ICCD's, which may not be known for one, may carry a PIN.
                let sent = match data.len() {
                    0 => String::new(),
                    length => format!(" ({length} bytes)"),
                };
                self.conversation.requested(result.is_err());
                vec![line(true, format!("{what}{sent}{end}"))]
            }
        }
    }
}

/// Where a device's descriptors are not in the trace: of hubs, among others, it is not.
fn may_be_of_a_reader(what: &What) -> bool {
    match what {
        // A request to an interface.
        What::Control { setup, .. } => setup.request_type & 0x1F == 1,
        What::Interrupt(bytes) => matches!(bytes.first(), Some(0x50 | 0x51)),
        What::Out(_) | What::In(_) => true,
    }
}

fn request(setup: &SetupPacket) -> String {
    match ClassRequest::parse(setup) {
        Ok(ClassRequest::Abort { slot, seq }) => format!("ABORT request {slot} {seq}"),
        Ok(ClassRequest::GetClockFrequencies { .. }) => "GET_CLOCK_FREQUENCIES request".into(),
        Ok(ClassRequest::GetDataRates { .. }) => "GET_DATA_RATES request".into(),
        _ => format!("request {}", hex(&setup.to_bytes())),
    }
}

fn introduce(device: DeviceKey, interface: &CcidInterface, out: &mut Out) -> Outcome {
    let info = &interface.info;
    let (vendor, product) = (info.vendor_id, info.product_id);
    let name = info.product.as_deref().unwrap_or("without a name");
    if out.is_json() {
        let reader = json!({
            "device": device.to_string(),
            "vendor_id": format!("{vendor:04x}"),
            "product_id": format!("{product:04x}"),
            "name": info.product,
            "level": info.class.exchange_level().to_string(),
            "slots": info.class.slots(),
        });
        return Ok(out.json_line(&json!({ "reader": reader }))?);
    }
    let (level, slots) = (info.class.exchange_level(), info.class.slots());
    let slots = if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") };
    Ok(writeln!(out, "# device {device}: {vendor:04x}:{product:04x} {name}, {level}, {slots}")?)
}

fn print(line: &Line, device: DeviceKey, out: &mut Out) -> Outcome {
    let time = line.time.as_secs_f64();
    if out.is_json() {
        return Ok(out.json_line(&json!({
            "packet": line.packet,
            "time": time,
            "device": device.to_string(),
            "direction": if line.out { "out" } else { "in" },
            "slot": line.slot,
            "seq": line.seq,
            "message": line.text,
            "meaning": line.meaning,
            "anomalies": line.marks,
        }))?);
    }
    let arrow = if line.out { "->" } else { "<-" };
    writeln!(out, "{time:12.6} {arrow} {}", line.text)?;
    for meaning in &line.meaning {
        writeln!(out, "{:17}{meaning}", "")?;
    }
    for mark in &line.marks {
        writeln!(out, "{:15}! {mark}", "")?;
    }
    Ok(())
}

fn summary(
    devices: &mut BTreeMap<DeviceKey, Known>,
    options: &TraceOptions,
    out: &mut Out,
) -> Outcome {
    let mut shown = false;
    for (device, known) in devices.iter_mut() {
        let totals = known.conversation.end();
        shown |= !totals.is_empty();
        if out.is_json() {
            let summary = json!({ "device": device.to_string(), "totals": totals.json() });
            out.json_line(&json!({ "summary": summary }))?;
        } else if !totals.is_empty() {
            writeln!(out, "# device {device}")?;
            totals.print(out)?;
        }
    }
    match (shown, options.device) {
        (true, _) => Ok(()),
        (false, Some(device)) => {
            Err(Failure::nothing(format!("nothing of device {device} is in it")))
        }
        (false, None) => Err(Failure::nothing("no traffic of a reader is in it")),
    }
}
