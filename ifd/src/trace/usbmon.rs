//! A usbmon packet: a header of 48 (link type 189) or 64 bytes (220), in the byte order of the
//! machine that recorded it, and the data.

use super::TraceError;
use super::pcap::{Order, Record};
use crate::transport::TransferError;
use ccid::wire::SetupPacket;
use std::time::Duration;

const LINK_USB_LINUX: u32 = 189;
const LINK_USB_LINUX_MMAPPED: u32 = 220;

/// Length of the header of link type 220.
pub(super) const PACKET_HEADER: usize = 64;

const ENOENT: i32 = -2;
const ENODEV: i32 = -19;
const EPIPE: i32 = -32;
const EPROTO: i32 = -71;
const EILSEQ: i32 = -84;
const ECONNRESET: i32 = -104;
const ESHUTDOWN: i32 = -108;

/// Linux's number of an error.
pub(super) fn status_of(error: TransferError) -> i32 {
    match error {
        TransferError::Cancelled => ENOENT,
        TransferError::Stall => EPIPE,
        TransferError::Disconnected => ESHUTDOWN,
        TransferError::Fault => EPROTO,
        TransferError::System(code) => i32::try_from(code).map_or(i32::MIN, |code| -code),
    }
}

/// What Linux's number of an error means, which is not 0.
pub(super) fn error_of(status: i32) -> TransferError {
    match status {
        ENOENT | ECONNRESET => TransferError::Cancelled,
        EPIPE => TransferError::Stall,
        ENODEV | ESHUTDOWN => TransferError::Disconnected,
        EPROTO | EILSEQ => TransferError::Fault,
        other => TransferError::System(other.unsigned_abs()),
    }
}

/// Whether a transfer begins or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Submit,
    Complete,
    /// The system refused the submission.
    Error,
}

impl Stage {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Submit => b'S',
            Self::Complete => b'C',
            Self::Error => b'E',
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TransferType {
    Isochronous,
    Interrupt,
    Control,
    Bulk,
}

impl TransferType {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Isochronous => 0,
            Self::Interrupt => 1,
            Self::Control => 2,
            Self::Bulk => 3,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    /// The same for submission and completion of a transfer.
    pub(super) urb: u64,
    pub(super) stage: Stage,
    pub(super) transfer: TransferType,
    /// bEndpointAddress.
    pub(super) endpoint: u8,
    pub(super) address: u8,
    pub(super) bus: u16,
    /// Since 1970.
    pub(super) time: Duration,
    /// 0, or a negative error number of Linux.
    pub(super) status: i32,
    /// The SETUP packet, of the submission of a control transfer.
    pub(super) setup: Option<SetupPacket>,
    /// Bytes that were transferred, or are to be; the file may hold fewer.
    pub(super) length: usize,
    pub(super) data: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn parse(record: &'a Record) -> Result<Self, TraceError> {
        let format = record.format;
        let fault = |fault| TraceError::Packet { packet: record.number, fault };
        let header = match format.link_type {
            LINK_USB_LINUX => 48,
            LINK_USB_LINUX_MMAPPED => PACKET_HEADER,
            other => return Err(TraceError::LinkType(other)),
        };
        let (header, data) = record
            .data
            .split_at_checked(header)
            .ok_or_else(|| fault("shorter than a usbmon header"))?;
        let mut fields = Fields { bytes: header, order: format.order };
        let urb = fields.u64();
        let stage = match fields.u8() {
            b'S' => Stage::Submit,
            b'C' => Stage::Complete,
            b'E' => Stage::Error,
            _ => return Err(fault("its event type is none of S, C, E")),
        };
        let transfer = match fields.u8() {
            0 => TransferType::Isochronous,
            1 => TransferType::Interrupt,
            2 => TransferType::Control,
            3 => TransferType::Bulk,
            _ => return Err(fault("its transfer type is none of USB's")),
        };
        let (endpoint, address, bus) = (fields.u8(), fields.u8(), fields.u16());
        let (has_setup, _has_data) = (fields.u8() == 0, fields.u8());
        let (seconds, micros) = (fields.u64(), u64::from(fields.u32()));
        let time = Duration::from_secs(seconds)
            .checked_add(Duration::from_micros(micros))
            .ok_or_else(|| fault("its time is beyond reason"))?;
        let status = fields.i32();
        let (length, captured) = (fields.length(), fields.length());
        let setup = has_setup.then(|| SetupPacket::from_bytes(fields.take()));
        // QEMU counts its header in.
        let captured = if captured == record.data.len() { data.len() } else { captured };
        let data = data.get(..captured).ok_or_else(|| fault("its data are cut off"))?;
        Ok(Self { urb, stage, transfer, endpoint, address, bus, time, status, setup, length, data })
    }

    /// An IN transfer that ended well, or was cut short with something in it.
    pub(super) fn brought_data(&self) -> bool {
        self.status == 0 || !self.data.is_empty()
    }

    /// What the status means, if it is not 0.
    pub(super) fn error(&self) -> TransferError {
        error_of(self.status)
    }
}

/// Reads the header's fields one after the other; zero where the bytes end, which the header's
/// length rules out.
struct Fields<'a> {
    bytes: &'a [u8],
    order: Order,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn u16(&mut self) -> u16 {
        self.order.u16(self.take())
    }

    fn u32(&mut self) -> u32 {
        self.order.u32(self.take())
    }

    fn i32(&mut self) -> i32 {
        self.order.i32(self.take())
    }

    fn u64(&mut self) -> u64 {
        self.order.u64(self.take())
    }

    fn length(&mut self) -> usize {
        usize::try_from(self.u32()).unwrap_or(usize::MAX)
    }
}
