//! `scard list`.

use crate::cli::failure::Outcome;
use crate::cli::hex::Spaced;
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Source, text};
use crate::cli::status::{self, number};
use ifd::transport::usb::OpenError;
use scard::{ReaderInfo, ReaderState, State, UnusableReader};
use serde_json::{Value, json};
use std::io::{self, Write};

pub(crate) fn run(source: &Source<'_>, interrupt: &Interrupt, out: &mut Out) -> Outcome {
    let session = source.open(interrupt)?;
    let numbering = session.numbering();
    let readers = session.all_states()?;
    let readers: Vec<_> = readers
        .iter()
        // They are among those that cannot be used.
        .filter(|(_, state)| !state.event_state().contains(State::UNAVAILABLE))
        .map(|(reader, state)| {
            let name = text(&reader.name);
            (numbering.iter().position(|other| *other == name), reader, state)
        })
        .collect();
    let unusable = session.stack.unusable_readers();
    let unusable = with_numbers(&unusable, &numbering, &readers);
    if out.is_json() {
        let usable = readers.iter().map(|(index, reader, state)| {
            let mut entry = describe(*index, reader);
            status::add_state(&mut entry, state);
            entry
        });
        let unusable = unusable.iter().map(|(index, reader)| describe_unusable(*index, reader));
        return Ok(out.document(&usable.chain(unusable).collect())?);
    }
    if readers.is_empty() && unusable.is_empty() {
        return Ok(writeln!(out, "no reader")?);
    }
    for (index, reader, state) in &readers {
        show(out, *index, reader, state)?;
    }
    if !unusable.is_empty() {
        let first = if readers.is_empty() { "" } else { "\n" };
        writeln!(out, "{first}cannot be used:")?;
    }
    for (index, reader) in unusable {
        writeln!(out, "{}  {}", number(index), reader.name)?;
        writeln!(out, "     {:04x}:{:04x}  {}", reader.ids.0, reader.ids.1, reader.reason)?;
        writeln!(out, "     to use it, {}", reader.remedy())?;
    }
    Ok(())
}

/// The readers that cannot be used, with their numbers: those of their names that no other has.
fn with_numbers<'a>(
    unusable: &'a [UnusableReader],
    numbering: &[String],
    readers: &[(Option<usize>, &ReaderInfo, &ReaderState)],
) -> Vec<(Option<usize>, &'a UnusableReader)> {
    let mut taken: Vec<_> = readers.iter().filter_map(|(index, ..)| *index).collect();
    let number = |reader: &'a UnusableReader| {
        let free = numbering
            .iter()
            .enumerate()
            .find(|(index, name)| name.starts_with(&reader.name) && !taken.contains(index));
        let index = free.map(|(index, _)| index);
        taken.extend(index);
        (index, reader)
    };
    unusable.iter().map(number).collect()
}

fn show(
    out: &mut Out,
    index: Option<usize>,
    reader: &ReaderInfo,
    state: &ReaderState,
) -> io::Result<()> {
    let device = &reader.device;
    writeln!(out, "{}  {}", number(index), text(&reader.name))?;
    write!(out, "     {:04x}:{:04x}", device.vendor_id, device.product_id)?;
    if device.address != 0 {
        write!(out, "  bus {} address {}", device.bus, device.address)?;
    }
    let slots = device.class.slots();
    if slots > 1 {
        write!(out, "  slot {} of {slots}", reader.slot)?;
    }
    let found = state.event_state();
    match (found.contains(State::PRESENT), state.atr()) {
        (true, []) => writeln!(out, "  a card that does not answer"),
        (true, atr) => writeln!(out, "  card {}", Spaced(atr)),
        (false, _) if found.contains(State::EMPTY) => writeln!(out, "  no card"),
        (false, _) => writeln!(out, "  the reader has not said yet what is in it"),
    }
}

/// What a reader is, for JSON.
fn describe(index: Option<usize>, reader: &ReaderInfo) -> Value {
    let device = &reader.device;
    json!({
        "index": index,
        "name": text(&reader.name),
        "usable": true,
        "vendor_id": format!("{:04x}", device.vendor_id),
        "product_id": format!("{:04x}", device.product_id),
        "bcd_device": format!("{:04x}", device.bcd_device),
        "manufacturer": device.manufacturer,
        "product": device.product,
        "serial_number": device.serial_number,
        "interface": device.interface,
        "bus": device.bus,
        "address": device.address,
        "slot": reader.slot,
        "slots": device.class.slots(),
    })
}

/// A reader that cannot be used, for JSON.
pub(crate) fn describe_unusable(index: Option<usize>, reader: &UnusableReader) -> Value {
    let (kind, holders) = match &reader.reason {
        OpenError::PermissionDenied { .. } => ("permission-denied", &[][..]),
        OpenError::Busy { holders } => ("busy", &holders[..]),
        OpenError::Disconnected => ("disconnected", &[][..]),
        OpenError::Unusable(_) => ("unusable-descriptors", &[][..]),
        OpenError::Protocol(_) => ("unsupported-protocol", &[][..]),
        _ => ("system", &[][..]),
    };
    let holders: Vec<_> =
        holders.iter().map(|holder| json!({ "pid": holder.pid, "name": holder.name })).collect();
    json!({
        "index": index,
        "name": reader.name,
        "usable": false,
        "vendor_id": format!("{:04x}", reader.ids.0),
        "product_id": format!("{:04x}", reader.ids.1),
        "kind": kind,
        "reason": reader.reason.to_string(),
        "holders": holders,
        "remedy": reader.remedy(),
    })
}
