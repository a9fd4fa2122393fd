//! The pcapng file format: sections of blocks, of which those with packets matter.

use super::TraceError;
use super::pcap::{Format, MAX_RECORD, Order, Record, fill};
use std::io::Read;
use std::time::Duration;

/// First bytes of a file, the same in both orders.
pub(super) const SECTION: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];

const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_RESOLUTION: u16 = 9;

/// More than any machine has.
const MAX_INTERFACES: usize = 1024;

/// An interface of the capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Interface {
    link_type: u32,
    /// Units of time stamps in a second.
    resolution: u64,
}

/// The packets of a file, one after the other.
pub(super) struct Blocks<R> {
    file: R,
    order: Order,
    interfaces: Vec<Interface>,
    number: u64,
}

impl<R: Read> Blocks<R> {
    /// For a file whose first four bytes, [`SECTION`], have been read.
    pub(super) fn new(file: R) -> Result<Self, TraceError> {
        let mut blocks = Self { file, order: Order::Little, interfaces: Vec::new(), number: 0 };
        blocks.section()?;
        Ok(blocks)
    }

    fn fault(&self, fault: &'static str) -> TraceError {
        TraceError::Packet { packet: self.number + 1, fault }
    }

    /// The rest of a section's header; what was known of interfaces holds no longer.
    fn section(&mut self) -> Result<(), TraceError> {
        let [l0, l1, l2, l3, m0, m1, m2, m3] = self.take::<8>()?;
        self.order = match [m0, m1, m2, m3] {
            [0x4D, 0x3C, 0x2B, 0x1A] => Order::Little,
            [0x1A, 0x2B, 0x3C, 0x4D] => Order::Big,
            _ => return Err(self.fault("a section without a byte order")),
        };
        let length = self.order.u32([l0, l1, l2, l3]);
        // Type, length and byte order have been read.
        self.body(length.checked_sub(12), length)?;
        self.interfaces.clear();
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], TraceError> {
        let mut bytes = [0; N];
        match fill(&mut self.file, &mut bytes)? {
            n if n == N => Ok(bytes),
            _ => Err(self.fault("its block is cut off")),
        }
    }

    /// What is left of a block but the length at its end, which must be that at its beginning.
    fn body(&mut self, left: Option<u32>, length: u32) -> Result<Vec<u8>, TraceError> {
        let left = left.and_then(|left| left.checked_sub(4));
        let Some(left) = left.filter(|left| *left <= MAX_RECORD && length % 4 == 0) else {
            return Err(self.fault("the length of its block is none"));
        };
        let mut body = vec![0; usize::try_from(left).unwrap_or_default()];
        if fill(&mut self.file, &mut body)? < body.len() {
            return Err(self.fault("its block is cut off"));
        }
        let again = self.take::<4>()?;
        match self.order.u32(again) == length {
            true => Ok(body),
            false => Err(self.fault("the two lengths of its block differ")),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Record>, TraceError> {
        loop {
            let mut kind = [0; 4];
            match fill(&mut self.file, &mut kind)? {
                0 => return Ok(None),
                4 => {}
                _ => return Err(self.fault("its block is cut off")),
            }
            if kind == SECTION {
                self.section()?;
                continue;
            }
            let length = self.take::<4>()?;
            let length = self.order.u32(length);
            let body = self.body(length.checked_sub(8), length)?;
            let record = match self.order.u32(kind) {
                INTERFACE => {
                    self.interface(&body)?;
                    continue;
                }
                ENHANCED_PACKET => self.packet(&body, false),
                OBSOLETE_PACKET => self.packet(&body, true),
                SIMPLE_PACKET => self.simple(&body),
                _ => continue,
            }?;
            self.number += 1;
            return Ok(Some(record));
        }
    }

    fn interface(&mut self, body: &[u8]) -> Result<(), TraceError> {
        let Some(([t0, t1, ..], options)) = body.split_first_chunk::<8>() else {
            return Err(self.fault("the description of an interface is too short"));
        };
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(self.fault("interfaces without end"));
        }
        let link_type = u32::from(self.order.u16([*t0, *t1]));
        let resolution = match self.option(options, OPTION_RESOLUTION) {
            Some([exponent, ..]) if exponent & 0x80 != 0 => {
                1u64.checked_shl(u32::from(exponent & 0x7F)).filter(|units| *units > 0)
            }
            Some([exponent, ..]) => 10u64.checked_pow(u32::from(*exponent)),
            _ => Some(1_000_000),
        };
        let resolution = resolution.ok_or_else(|| self.fault("its times have no unit"))?;
        self.interfaces.push(Interface { link_type, resolution });
        Ok(())
    }

    /// The value of an option, if it is there.
    fn option<'a>(&self, mut options: &'a [u8], wanted: u16) -> Option<&'a [u8]> {
        while let Some(([c0, c1, l0, l1], rest)) = options.split_first_chunk::<4>() {
            let length = usize::from(self.order.u16([*l0, *l1]));
            let code = self.order.u16([*c0, *c1]);
            if code == wanted {
                return rest.get(..length);
            }
            options = rest.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    fn packet(&self, body: &[u8], obsolete: bool) -> Result<Record, TraceError> {
        let too_short = || self.fault("its block is too short");
        let (head, rest) = body.split_first_chunk::<20>().ok_or_else(too_short)?;
        let [i0, i1, i2, i3, h0, h1, h2, h3, l0, l1, l2, l3, c0, c1, c2, c3, ..] = *head;
        let interface = match obsolete {
            true => u32::from(self.order.u16([i0, i1])),
            false => self.order.u32([i0, i1, i2, i3]),
        };
        let high = u64::from(self.order.u32([h0, h1, h2, h3]));
        let stamp = high << 32 | u64::from(self.order.u32([l0, l1, l2, l3]));
        let captured = usize::try_from(self.order.u32([c0, c1, c2, c3])).unwrap_or(usize::MAX);
        let data = rest.get(..captured).ok_or_else(too_short)?;
        let interface = self.known(usize::try_from(interface).unwrap_or(usize::MAX))?;
        let (seconds, rest) = (stamp / interface.resolution, stamp % interface.resolution);
        let nanos = u128::from(rest) * 1_000_000_000 / u128::from(interface.resolution);
        let nanos = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
        let time = Duration::from_secs(seconds).checked_add(nanos);
        let time = time.ok_or_else(|| self.fault("its time is beyond reason"))?;
        Ok(self.record(interface, Some(time), data))
    }

    fn simple(&self, body: &[u8]) -> Result<Record, TraceError> {
        let too_short = || self.fault("its block is too short");
        let (length, rest) = body.split_first_chunk::<4>().ok_or_else(too_short)?;
        let length = usize::try_from(self.order.u32(*length)).unwrap_or(usize::MAX);
        let interface = self.known(0)?;
        Ok(self.record(interface, None, rest.get(..length.min(rest.len())).unwrap_or_default()))
    }

    fn known(&self, interface: usize) -> Result<Interface, TraceError> {
        let known = self.interfaces.get(interface).copied();
        known.ok_or_else(|| self.fault("it is of an interface that is not described"))
    }

    fn record(&self, interface: Interface, time: Option<Duration>, data: &[u8]) -> Record {
        let format = Format { order: self.order, link_type: interface.link_type };
        Record { number: self.number + 1, format, time, data: data.to_vec() }
    }
}

#[cfg(test)]
mod tests;
