//! `scard descriptor`.

use crate::cli::args::DescriptorOptions;
use crate::cli::explain;
use crate::cli::explain::descriptor::{conclusions, dump, explain};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::hex::{self, compact};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Session, Source, text};
use ccid::ClassDescriptor;
use ifd::transport::DeviceInfo;
use scard::{ReaderInfo, Stack, UsbReader};
use serde_json::{Value, json};
use std::io::{self, Write};

/// A device and what is known of its class descriptor.
struct Subject {
    name: String,
    ids: (u16, u16),
    device: Option<DeviceInfo>,
    class: Option<ClassDescriptor>,
    /// Why it cannot be used, if so.
    unusable: Option<String>,
}

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &DescriptorOptions,
    out: &mut Out,
) -> Outcome {
    if let Some(text) = &options.hex {
        return explain_bytes(text, out);
    }
    let subjects = match &options.reader.reader {
        Some(wanted) => {
            let (session, chosen) = source.open_one(interrupt, Some(wanted))?;
            let devices = session.readers().into_iter();
            devices.filter(|reader| reader.name == chosen.name).map(usable).collect()
        }
        None => all(&source.open(interrupt)?),
    };
    if out.is_json() {
        let documents = subjects.iter().map(Subject::json);
        return Ok(out.document(&documents.collect())?);
    }
    if subjects.is_empty() {
        return Ok(writeln!(out, "no reader")?);
    }
    for (n, subject) in subjects.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        subject.write(out)?;
    }
    Ok(())
}

fn explain_bytes(text: &str, out: &mut Out) -> Outcome {
    let class = parse("--hex", text)?;
    if out.is_json() {
        return Ok(out.document(&class_json(&class))?);
    }
    Ok(write_class(out, &class)?)
}

/// The class descriptor that an option gives in hexadecimal.
pub(crate) fn parse(option: &str, text: &str) -> Result<ClassDescriptor, Failure> {
    let bytes = hex::parse(text)
        .map_err(|error| Failure::usage(format!("{option}, column {}: {error}", error.column())))?;
    ClassDescriptor::parse(&bytes).map_err(|error| Failure::failed(error.to_string()))
}

/// Every device once, however many slots it has; those that cannot be used, too, as far as the
/// system tells of them without their being opened.
fn all(session: &Session) -> Vec<Subject> {
    let readers = session.readers().into_iter().filter(|reader| reader.slot == 0);
    let mut subjects: Vec<_> = readers.map(usable).collect();
    let usb = Stack::list_usb();
    for reader in session.stack.unusable_readers() {
        let same = |other: &&UsbReader| other.friendly_name() == reader.name;
        subjects.push(Subject {
            class: usb.iter().find(same).and_then(UsbReader::class),
            name: reader.name,
            ids: reader.ids,
            device: None,
            unusable: Some(reader.reason.to_string()),
        });
    }
    subjects
}

fn usable(reader: ReaderInfo) -> Subject {
    let device = reader.device;
    Subject {
        name: text(&reader.name),
        ids: (device.vendor_id, device.product_id),
        class: Some(device.class),
        device: Some(device),
        unusable: None,
    }
}

impl Subject {
    fn write(&self, out: &mut Out) -> io::Result<()> {
        writeln!(out, "{}", self.name)?;
        let (vendor, product) = self.ids;
        write!(out, "idVendor {vendor:04X}h, idProduct {product:04X}h")?;
        if let Some(device) = &self.device {
            write!(out, ", bcdDevice {:04X}h", device.bcd_device)?;
            write!(out, ", bInterfaceNumber {}", device.interface)?;
        }
        writeln!(out)?;
        if let Some(reason) = &self.unusable {
            writeln!(out, "cannot be used: {reason}")?;
        }
        writeln!(out)?;
        match &self.class {
            Some(class) => write_class(out, class)?,
            None => writeln!(out, "its class descriptor cannot be read without opening it")?,
        }
        if let Some(device) = &self.device {
            let presence = match device.interrupt_packet {
                Some(_) => "told by the interrupt pipe",
                None => "asked for: there is no interrupt pipe",
            };
            conclusion(out, "insertion and removal", presence)?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let (vendor, product) = self.ids;
        let mut document = self.class.as_ref().map_or_else(|| json!({}), class_json);
        if let Value::Object(fields) = &mut document {
            fields.insert("name".into(), json!(self.name));
            fields.insert("vendor_id".into(), json!(format!("{vendor:04x}")));
            fields.insert("product_id".into(), json!(format!("{product:04x}")));
            fields.insert("usable".into(), json!(self.unusable.is_none()));
            fields.insert("reason".into(), json!(self.unusable));
            let pipe = self.device.as_ref().map(|device| device.interrupt_packet.is_some());
            fields.insert("interrupt_pipe".into(), json!(pipe));
        }
        document
    }
}

fn write_class(out: &mut Out, class: &ClassDescriptor) -> io::Result<()> {
    explain::table(out, &explain(class))?;
    writeln!(out)?;
    for line in dump(class) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "\nwhat this stack makes of it")?;
    for (of, what) in conclusions(class) {
        conclusion(out, of, &what)?;
    }
    Ok(())
}

fn conclusion(out: &mut Out, of: &str, what: &str) -> io::Result<()> {
    writeln!(out, "  {of:21}  {what}")
}

fn class_json(class: &ClassDescriptor) -> Value {
    let fields: Vec<_> = explain(class).iter().map(explain::Row::json).collect();
    let conclusions: serde_json::Map<_, _> = conclusions(class)
        .into_iter()
        .map(|(of, what)| (of.replace(' ', "_").to_lowercase(), json!(what)))
        .collect();
    json!({ "descriptor": compact(&class.emit()), "fields": fields, "conclusions": conclusions })
}
