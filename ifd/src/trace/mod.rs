//! Recorded USB traffic of a reader.
//!
//! A [`Trace`] is what went over the four pipes of one CCID interface, in order, with the device's
//! descriptors as they were read when it was enumerated. It comes from a pcap file of usbmon
//! packets: tcpdump's, Wireshark's, or that of QEMU's `pcap` property.

mod pcap;
mod usbmon;

use crate::transport::descriptors::{BadDescriptors, CcidInterface, UnusableInterface};
use crate::transport::{TransferError, descriptors};
use bytes::Bytes;
use ccid::wire::SetupPacket;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use usbmon::{Packet, Stage, TransferType};

/// Something that happened on the pipes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The packet's number in the file, from 1 on.
    pub packet: u64,
    /// Since the first packet of the file.
    pub time: Duration,
    /// What it was.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The host sent this over bulk-OUT.
    Out(Bytes),
    /// This came over bulk-IN: a transfer, or a packet of one; it may be empty.
    In(Bytes),
    /// This came over the interrupt pipe.
    Interrupt(Bytes),
    /// A class or vendor request, with the data of its data stage or the way it failed.
    Control {
        /// The SETUP packet.
        setup: SetupPacket,
        /// Data of an OUT request.
        data: Bytes,
        /// Its end; the data of an IN request.
        result: Result<Bytes, TransferError>,
    },
}

/// The recorded traffic of one CCID interface.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The interface.
    pub interface: CcidInterface,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Why a file is not a trace.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// It cannot be read.
    Io(io::Error),
    /// It is not a pcap file.
    NotPcap,
    /// Its link type is not one of usbmon's (189, 220).
    LinkType(u32),
    /// A packet is malformed.
    Packet {
        /// Its number in the file, from 1 on.
        packet: u64,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// No device of the trace has a usable CCID interface, or its enumeration was not recorded.
    NoReader,
    /// Its descriptors are none.
    Descriptors(BadDescriptors),
    /// Its interface cannot be used.
    Unusable(UnusableInterface),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotPcap => f.write_str("not a pcap file"),
            Self::LinkType(n) => write!(f, "link type {n} is not one of usbmon's (189, 220)"),
            Self::Packet { packet, fault } => write!(f, "packet {packet}: {fault}"),
            Self::NoReader => {
                f.write_str("no CCID interface: was the device plugged in before the recording?")
            }
            Self::Descriptors(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TraceError {}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Trace {
    /// Reads a pcap file and takes the traffic of the first CCID interface in it.
    ///
    /// # Errors
    /// [`TraceError`], which names the packet where one is at fault.
    pub fn read(file: impl Read) -> Result<Self, TraceError> {
        let mut records = pcap::Records::new(file)?;
        let mut devices: Vec<((u16, u8), Device)> = Vec::new();
        let mut start = None;
        while let Some(record) = records.next()? {
            let packet = Packet::parse(&record, records.format())?;
            let time = packet.time.saturating_sub(*start.get_or_insert(packet.time));
            let key = (packet.bus, packet.address);
            let at = devices.iter().position(|(known, _)| *known == key);
            let device = match at.and_then(|at| devices.get_mut(at)) {
                Some((_, device)) => device,
                None => {
                    devices.push((key, Device::default()));
                    match devices.last_mut() {
                        Some((_, device)) => device,
                        None => continue,
                    }
                }
            };
            device.take(&record, &packet, time);
        }
        let mut fault = TraceError::NoReader;
        for ((bus, address), device) in devices {
            match device.finish(bus, address) {
                Ok(Some(trace)) => return Ok(trace),
                Ok(None) => {}
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}

/// One device while its packets are being read.
#[derive(Default)]
struct Device {
    device: Bytes,
    configuration: Bytes,
    strings: HashMap<u8, String>,
    /// Control transfers submitted and not complete: by URB, the SETUP packet and its data.
    submitted: HashMap<u64, (SetupPacket, Bytes)>,
    /// Everything on endpoints other than 0.
    traffic: Vec<Recorded>,
    /// Requests to the interface.
    requests: Vec<Event>,
}

/// Something on an endpoint other than 0.
struct Recorded {
    endpoint: u8,
    /// Not all of its data are in the file.
    cut: bool,
    event: Event,
}

impl Device {
    fn take(&mut self, record: &pcap::Record, packet: &Packet<'_>, time: Duration) {
        let data = Bytes::copy_from_slice(packet.data);
        let event = |what| Event { packet: record.number, time, what };
        let is_in = packet.endpoint & 0x80 != 0;
        let (endpoint, cut) = (packet.endpoint, packet.data.len() < packet.length);
        match (packet.transfer, packet.stage) {
            (TransferType::Control, Stage::Submit) => {
                if let Some(setup) = packet.setup {
                    self.submitted.insert(packet.urb, (setup, data));
                }
            }
            (TransferType::Control, Stage::Complete) => {
                if let Some((setup, sent)) = self.submitted.remove(&packet.urb) {
                    let result = if packet.status == 0 { Ok(data) } else { Err(packet.error()) };
                    self.requested(setup, sent, result, record.number, time);
                }
            }
            (TransferType::Bulk, Stage::Submit) if !is_in => {
                let event = event(What::Out(data));
                self.traffic.push(Recorded { endpoint, cut, event });
            }
            (TransferType::Bulk, Stage::Complete) if is_in && packet.brought_data() => {
                let event = event(What::In(data));
                self.traffic.push(Recorded { endpoint, cut, event });
            }
            (TransferType::Interrupt, Stage::Complete) if is_in && packet.brought_data() => {
                let event = event(What::Interrupt(data));
                self.traffic.push(Recorded { endpoint, cut, event });
            }
            _ => {}
        }
    }

    /// A control transfer is complete: descriptors are kept, standard requests are not traffic.
    fn requested(
        &mut self,
        setup: SetupPacket,
        data: Bytes,
        result: Result<Bytes, TransferError>,
        packet: u64,
        time: Duration,
    ) {
        const GET_DESCRIPTOR: (u8, u8) = (0x80, 6);
        if setup.request_type & 0x60 != 0 {
            let what = What::Control { setup, data, result };
            self.requests.push(Event { packet, time, what });
            return;
        }
        let (GET_DESCRIPTOR, Ok(bytes)) = ((setup.request_type, setup.request), result) else {
            return;
        };
        let [index, kind] = setup.value.to_le_bytes();
        match kind {
            1 if bytes.len() > self.device.len() => self.device = bytes,
            2 if bytes.len() > self.configuration.len() => self.configuration = bytes,
            3 if index != 0 => {
                if let Some(text) = string(&bytes) {
                    self.strings.insert(index, text);
                }
            }
            _ => {}
        }
    }

    /// The trace of its first CCID interface; none if it has none.
    fn finish(self, bus: u16, address: u8) -> Result<Option<Trace>, TraceError> {
        if self.configuration.is_empty() || self.device.len() < 18 {
            return Ok(None);
        }
        let name = |index: u8| self.strings.get(&index).cloned();
        let found = descriptors::ccid_interfaces(&self.device, &self.configuration, name)
            .map_err(TraceError::Descriptors)?;
        let Some(found) = found.into_iter().next() else {
            return Ok(None);
        };
        let mut interface = found.map_err(TraceError::Unusable)?;
        interface.info.bus = u8::try_from(bus).unwrap_or_default();
        interface.info.address = address;
        let pipes = [interface.bulk_out, interface.bulk_in, interface.interrupt];
        let own = self.traffic.into_iter().filter(|r| pipes.contains(&Some(r.endpoint)));
        let own: Vec<_> = own.collect();
        if let Some(cut) = own.iter().find(|recorded| recorded.cut) {
            let fault = "only part of its data was recorded";
            return Err(TraceError::Packet { packet: cut.event.packet, fault });
        }
        let number = u16::from(interface.info.interface);
        let requests = self.requests.into_iter().filter(|event| match &event.what {
            // To the interface; the low byte of wIndex is its number.
            What::Control { setup, .. } => {
                setup.request_type & 0x1F == 1 && setup.index & 0xFF == number
            }
            _ => false,
        });
        let mut events: Vec<_> =
            own.into_iter().map(|recorded| recorded.event).chain(requests).collect();
        events.sort_by_key(|event| event.packet);
        Ok(Some(Trace { interface, events }))
    }
}

/// The text of a string descriptor.
fn string(bytes: &[u8]) -> Option<String> {
    let [_, 3, text @ ..] = bytes else {
        return None;
    };
    let units = text.chunks_exact(2).filter_map(|pair| match *pair {
        [low, high] => Some(u16::from_le_bytes([low, high])),
        _ => None,
    });
    String::from_utf16(&units.collect::<Vec<_>>()).ok()
}
