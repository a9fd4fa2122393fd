//! The pcap file format (the classic one): a header of 24 bytes, then records.

use super::TraceError;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// A record longer than this is no USB packet of a smart-card reader.
pub(super) const MAX_RECORD: u32 = 16 * 1024 * 1024;

/// Order of bytes in the file, which is that of the machine that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) const fn i32(self, bytes: [u8; 4]) -> i32 {
        match self {
            Self::Little => i32::from_le_bytes(bytes),
            Self::Big => i32::from_be_bytes(bytes),
        }
    }

    pub(super) const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}

/// What the file's header says of its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pub(super) order: Order,
    pub(super) link_type: u32,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// From 1 on.
    pub(super) number: u64,
    pub(super) format: Format,
    /// Since 1970, where the file has it.
    pub(super) time: Option<Duration>,
    pub(super) data: Vec<u8>,
}

/// The records of a file, one after the other.
pub(super) struct Records<R> {
    file: R,
    format: Format,
    /// Of what a time stamp counts besides seconds.
    nanoseconds: bool,
    number: u64,
}

/// Order and unit of time of a file that begins so.
pub(super) fn order(magic: [u8; 4]) -> Option<(Order, bool)> {
    match magic {
        [0xD4, 0xC3, 0xB2, 0xA1] => Some((Order::Little, false)),
        [0x4D, 0x3C, 0xB2, 0xA1] => Some((Order::Little, true)),
        [0xA1, 0xB2, 0xC3, 0xD4] => Some((Order::Big, false)),
        [0xA1, 0xB2, 0x3C, 0x4D] => Some((Order::Big, true)),
        _ => None,
    }
}

impl<R: Read> Records<R> {
    /// For a file whose first four bytes, `magic`, have been read.
    pub(super) fn new(mut file: R, magic: [u8; 4]) -> Result<Self, TraceError> {
        let (order, nanoseconds) = order(magic).ok_or(TraceError::NotPcap)?;
        let mut header = [0; 20];
        if fill(&mut file, &mut header)? < header.len() {
            return Err(TraceError::NotPcap);
        }
        let [.., l0, l1, l2, l3] = header;
        // The upper bits are flags.
        let link_type = order.u32([l0, l1, l2, l3]) & 0x0FFF_FFFF;
        Ok(Self { file, format: Format { order, link_type }, nanoseconds, number: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<Record>, TraceError> {
        let mut header = [0; 16];
        let number = self.number + 1;
        match fill(&mut self.file, &mut header)? {
            0 => return Ok(None),
            16 => {}
            _ => return Err(TraceError::Packet { packet: number, fault: "its header is cut off" }),
        }
        let [s0, s1, s2, s3, f0, f1, f2, f3, c0, c1, c2, c3, ..] = header;
        let length = self.format.order.u32([c0, c1, c2, c3]);
        let seconds = self.format.order.u32([s0, s1, s2, s3]);
        let fraction = u64::from(self.format.order.u32([f0, f1, f2, f3]));
        let fraction = if self.nanoseconds { fraction } else { fraction.saturating_mul(1000) };
        let time = Duration::from_secs(seconds.into()) + Duration::from_nanos(fraction);
        if length > MAX_RECORD {
            let fault = "its length is beyond reason";
            return Err(TraceError::Packet { packet: number, fault });
        }
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        if fill(&mut self.file, &mut data)? < data.len() {
            return Err(TraceError::Packet { packet: number, fault: "it is cut off" });
        }
        self.number = number;
        Ok(Some(Record { number, format: self.format, time: Some(time), data }))
    }
}

/// Reads until `buffer` is full or the file ends; gives how much there was.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0];
        file.extend([0; 12]);
        file.extend(220u32.to_le_bytes());
        for record in records {
            file.extend([0; 8]);
            file.extend((record.len() as u32).to_le_bytes());
            file.extend((record.len() as u32).to_le_bytes());
            file.extend(*record);
        }
        file
    }

    fn open(file: &[u8]) -> Result<Records<&[u8]>, TraceError> {
        let (magic, rest) = file.split_first_chunk().unwrap();
        Records::new(rest, *magic)
    }

    #[test]
    fn records_in_order() {
        let file = file(&[b"one", b"", b"three"]);
        let mut records = open(&file).unwrap();
        assert_eq!(records.format, Format { order: Order::Little, link_type: 220 });
        for (number, data) in [(1, &b"one"[..]), (2, b""), (3, b"three")] {
            let record = records.next().unwrap().unwrap();
            assert_eq!((record.number, &record.data[..]), (number, data));
        }
        assert!(records.next().unwrap().is_none());
    }

    #[test]
    fn faults_name_the_packet() {
        let whole = file(&[b"one", b"two"]);
        for (length, fault) in [(whole.len() - 1, "it is cut off"), (24 + 19 + 5, "header")] {
            let mut records = open(&whole[..length]).unwrap();
            records.next().unwrap();
            let error = records.next().unwrap_err().to_string();
            assert!(error.starts_with("packet 2: ") && error.contains(fault), "{error}");
        }
        assert!(matches!(open(&b"not a trace"[..]), Err(TraceError::NotPcap)));
        let mut huge = file(&[b"one"]);
        huge[24 + 8..24 + 12].copy_from_slice(&[0xFF; 4]);
        let error = open(&huge).unwrap().next().unwrap_err();
        assert_eq!(error.to_string(), "packet 1: its length is beyond reason");
    }
}
