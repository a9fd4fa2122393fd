//! usbd-ccid on this machine's USB: attaches it to vhci-hcd, says `ready`, and keeps it there until
//! standard input ends or it is terminated.
//!
//!     usbd-ccid-vhci [--id VVVV:PPPP] [--count N]
//!
//! `--id` gives vendor and product id in hexadecimal (1209:0001), `--count` the number of devices
//! (1), which differ in their serial numbers: 1, 2, ... Lines on standard input handle the
//! hardware: `unplug N` and `plug N`, with a serial number; each is answered with `ok` or what is
//! wrong. It takes root and `modprobe vhci-hcd`.

use peers::usbd::{Identity, UsbdCcid};
use sim::Port;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: usbd-ccid-vhci [--id VVVV:PPPP] [--count N]";

struct Options {
    identity: Identity,
    count: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("usbd-ccid-vhci: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Options { identity, count } = options(std::env::args().skip(1))?;
    let mut ports = Vec::new();
    let mut attachments = Vec::new();
    for number in 1..=count {
        let serial_number = number.to_string();
        let port = Port::new(UsbdCcid::new(Identity { serial_number, ..identity.clone() })?);
        attachments.push(sim::vhci::attach(port.clone())?);
        ports.push(port);
    }
    say("ready")?;
    for line in io::stdin().lock().lines() {
        say(obey(&line?, &ports))?;
    }
    drop(attachments);
    Ok(())
}

/// Written out at once: whoever waits for it reads a pipe.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn obey(line: &str, ports: &[Port<UsbdCcid>]) -> &'static str {
    let mut words = line.split_whitespace();
    let (verb, number) = (words.next(), words.next());
    let index = number.and_then(|number| number.parse::<usize>().ok()?.checked_sub(1));
    let Some(port) = index.and_then(|index| ports.get(index)) else {
        return "error: no such device";
    };
    match verb {
        Some("unplug") => port.unplug(),
        Some("plug") => port.plug(),
        _ => return "error: unplug N or plug N",
    }
    "ok"
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options { identity: Identity::default(), count: 1 };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match &*option {
            "--id" => {
                let (vendor, product) = value.split_once(':').ok_or(USAGE)?;
                options.identity.vendor_id = u16::from_str_radix(vendor, 16)?;
                options.identity.product_id = u16::from_str_radix(product, 16)?;
            }
            "--count" => options.count = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}
