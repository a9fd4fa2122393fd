//! A file read piece by piece: what happened on the pipes of all devices in it, in order.

use super::pcap::{self, Record, Records, fill};
use super::pcapng::{self, Blocks};
use super::text::Lines;
use super::usbmon::{Packet, Stage, TransferType};
use super::{Event, TraceError, What, usbpcap};
use crate::transport::TransferError;
use crate::transport::descriptors::{self, CcidInterface};
use bytes::Bytes;
use ccid::wire::SetupPacket;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Chain, Cursor, Read};
use std::time::Duration;

/// Control transfers of a device that have been submitted and are not complete; more are forgotten,
/// as a file may hold submissions only.
const MAX_SUBMITTED: usize = 256;

/// Devices in a file. More are not told apart from none.
const MAX_DEVICES: usize = 4096;

/// A device of a capture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceKey {
    /// Number of the bus.
    pub bus: u16,
    /// Its address there.
    pub address: u8,
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.bus, self.address)
    }
}

/// Something that happened on a device's pipes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The device.
    pub device: DeviceKey,
    /// bEndpointAddress.
    pub endpoint: u8,
    /// Not all of its data are in the file.
    pub cut: bool,
    /// What happened.
    pub event: Event,
}

impl Recorded {
    /// It is traffic of this interface: on its endpoints, or a request to it.
    pub fn is_of(&self, interface: &CcidInterface) -> bool {
        match &self.event.what {
            // To the interface; the low byte of wIndex is its number.
            What::Control { setup, .. } => {
                let number = u16::from(interface.info.interface);
                setup.request_type & 0x1F == 1 && setup.index & 0xFF == number
            }
            _ => {
                let pipes = [interface.bulk_out, interface.bulk_in, interface.interrupt];
                pipes.contains(&Some(self.endpoint))
            }
        }
    }
}

/// What happened on the pipes of all devices of a file, in order. What is kept of it while reading
/// does not grow with the file.
pub struct Events<R> {
    source: Source<R>,
    devices: BTreeMap<DeviceKey, Device>,
    start: Option<Duration>,
    ended: bool,
}

enum Source<R> {
    Pcap(Records<R>),
    PcapNg(Blocks<R>),
    Text(Lines<Chain<Cursor<[u8; 4]>, R>>),
}

impl<R: Read> Source<R> {
    fn open(mut file: R) -> Result<Self, TraceError> {
        let mut magic = [0; 4];
        if fill(&mut file, &mut magic)? < magic.len() {
            return Err(TraceError::NotPcap);
        }
        match magic {
            pcapng::SECTION => Blocks::new(file).map(Self::PcapNg),
            magic if pcap::order(magic).is_some() => Records::new(file, magic).map(Self::Pcap),
            magic => Lines::new(Cursor::new(magic).chain(file)).map(Self::Text),
        }
    }

    fn next(&mut self) -> Result<Option<Record>, TraceError> {
        match self {
            Self::Pcap(records) => records.next(),
            Self::PcapNg(blocks) => blocks.next(),
            Self::Text(lines) => lines.next(),
        }
    }
}

impl<R> fmt::Debug for Events<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("devices", &self.devices.keys()).finish_non_exhaustive()
    }
}

impl<R: Read> Events<R> {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`TraceError::NotPcap`] if it is none that is known, [`TraceError::Io`].
    pub fn new(file: R) -> Result<Self, TraceError> {
        let source = Source::open(file)?;
        Ok(Self { source, devices: BTreeMap::new(), start: None, ended: false })
    }

    /// The devices so far.
    pub fn devices(&self) -> Vec<DeviceKey> {
        self.devices.keys().copied().collect()
    }

    /// The device's CCID interface of that number, or its first one, as far as its descriptors were
    /// read in the trace so far; none if it has none, or they were not.
    ///
    /// # Errors
    /// [`TraceError::Descriptors`] and [`TraceError::Unusable`].
    pub fn interface(
        &self,
        device: DeviceKey,
        number: Option<u8>,
    ) -> Result<Option<CcidInterface>, TraceError> {
        match self.devices.get(&device) {
            Some(known) => known.interface(device, number),
            None => Ok(None),
        }
    }

    fn read(&mut self) -> Result<Option<Recorded>, TraceError> {
        while let Some(record) = self.source.next()? {
            let packet = match record.format.link_type {
                usbpcap::LINK_TYPE => usbpcap::parse(&record)?,
                _ => Some(Packet::parse(&record)?),
            };
            let Some(packet) = packet else { continue };
            let time = packet.time.saturating_sub(*self.start.get_or_insert(packet.time));
            let key = DeviceKey { bus: packet.bus, address: packet.address };
            if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&key) {
                continue;
            }
            let device = self.devices.entry(key).or_default();
            if let Some(what) = device.take(&packet) {
                let event = Event { packet: record.number, time, what };
                let cut = packet.data.len() < packet.length;
                return Ok(Some(Recorded { device: key, endpoint: packet.endpoint, cut, event }));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = Result<Recorded, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What a device has told of itself, and what it is being asked.
#[derive(Default)]
struct Device {
    device: Bytes,
    configuration: Bytes,
    strings: BTreeMap<u8, String>,
    /// Control transfers submitted and not complete: by URB, the SETUP packet and its data.
    submitted: BTreeMap<u64, (SetupPacket, Bytes)>,
}

impl Device {
    fn take(&mut self, packet: &Packet<'_>) -> Option<What> {
        let data = || Bytes::copy_from_slice(packet.data);
        let is_in = packet.endpoint & 0x80 != 0;
        match (packet.transfer, packet.stage) {
            (TransferType::Control, Stage::Submit) => {
                if self.submitted.len() >= MAX_SUBMITTED {
                    self.submitted.clear();
                }
                if let Some(setup) = packet.setup {
                    self.submitted.insert(packet.urb, (setup, data()));
                }
                None
            }
            (TransferType::Control, Stage::Complete) => {
                let (setup, sent) = self.submitted.remove(&packet.urb)?;
                let result = if packet.status == 0 { Ok(data()) } else { Err(packet.error()) };
                self.requested(setup, sent, result)
            }
            (TransferType::Bulk, Stage::Submit) if !is_in => Some(What::Out(data())),
            (TransferType::Bulk, Stage::Complete) if is_in && packet.brought_data() => {
                Some(What::In(data()))
            }
            (TransferType::Interrupt, Stage::Complete) if is_in && packet.brought_data() => {
                Some(What::Interrupt(data()))
            }
            _ => None,
        }
    }

    /// A control transfer is complete: descriptors are kept, standard requests are not traffic.
    fn requested(
        &mut self,
        setup: SetupPacket,
        data: Bytes,
        result: Result<Bytes, TransferError>,
    ) -> Option<What> {
        const GET_DESCRIPTOR: (u8, u8) = (0x80, 6);
        if setup.request_type & 0x60 != 0 {
            return Some(What::Control { setup, data, result });
        }
        let (GET_DESCRIPTOR, Ok(bytes)) = ((setup.request_type, setup.request), result) else {
            return None;
        };
        let [index, kind] = setup.value.to_le_bytes();
        match kind {
            1 if bytes.len() > self.device.len() => self.device = bytes,
            2 if bytes.len() > self.configuration.len() => self.configuration = bytes,
            3 if index != 0 => self.strings.extend(string(&bytes).map(|text| (index, text))),
            _ => {}
        }
        None
    }

    fn interface(
        &self,
        key: DeviceKey,
        number: Option<u8>,
    ) -> Result<Option<CcidInterface>, TraceError> {
        if self.configuration.is_empty() || self.device.len() < 18 {
            return Ok(None);
        }
        let name = |index: u8| self.strings.get(&index).cloned();
        let found = descriptors::ccid_interfaces(&self.device, &self.configuration, name)
            .map_err(TraceError::Descriptors)?;
        let numbered = |found: &descriptors::Found| {
            let own = match found {
                Ok(interface) => interface.info.interface,
                Err(unusable) => unusable.interface,
            };
            number.is_none_or(|number| number == own)
        };
        let Some(found) = found.into_iter().find(numbered) else {
            return Ok(None);
        };
        let mut interface = found.map_err(TraceError::Unusable)?;
        interface.info.bus = u8::try_from(key.bus).unwrap_or_default();
        interface.info.address = key.address;
        Ok(Some(interface))
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
