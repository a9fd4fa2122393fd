//! Writes pcapng with packets as usbmon has them (link type 220, LINKTYPE_USB_LINUX_MMAPPED): what
//! tcpdump and Wireshark write of `usbmonN`, and read.
//!
//! A block is one write, so that whatever ends the program loses nothing before it.

use super::usbmon::{PACKET_HEADER, Stage, TransferType};
use crate::transport::TransferError;
use ccid::wire::SetupPacket;
use std::io::{self, Write};
use std::time::Duration;

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const OPTION_COMMENT: u16 = 1;
const OPTION_NAME: u16 = 2;
const OPTION_APPLICATION: u16 = 4;

const LINK_TYPE: u32 = 220;

/// Status of a transfer that has been submitted (EINPROGRESS).
const IN_PROGRESS: i32 = -115;

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// The same for submission and completion.
    pub(crate) urb: u64,
    pub(crate) bus: u16,
    pub(crate) address: u8,
    pub(crate) endpoint: u8,
    pub(crate) transfer: TransferType,
    /// Since 1970.
    pub(crate) time: Duration,
    /// How the transfer ended; none for its submission.
    pub(crate) end: Option<Result<(), TransferError>>,
    /// Of the submission of a control transfer.
    pub(crate) setup: Option<SetupPacket>,
    /// Bytes asked for, or transferred.
    pub(crate) length: usize,
    /// Those that this packet carries.
    pub(crate) data: &'a [u8],
    pub(crate) comment: Option<&'a str>,
}

/// Writes the head of the file.
pub(crate) fn head(out: &mut impl Write, application: &str, comment: &str) -> io::Result<()> {
    let mut section = Vec::new();
    // Byte order, version 1.0, length of the section not known.
    section.extend(0x1A2B_3C4D_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    section.extend([0xFF; 8]);
    option(&mut section, OPTION_COMMENT, comment);
    option(&mut section, OPTION_APPLICATION, application);
    end_of_options(&mut section);
    let mut interface = Vec::new();
    interface.extend(LINK_TYPE.to_le_bytes());
    // No limit to a packet's length. Times are in microseconds unless said otherwise.
    interface.extend(0u32.to_le_bytes());
    option(&mut interface, OPTION_NAME, "usbmon");
    end_of_options(&mut interface);
    block(out, SECTION, &section)?;
    block(out, INTERFACE, &interface)
}

/// Writes one packet.
pub(crate) fn packet(out: &mut impl Write, packet: &Outgoing<'_>) -> io::Result<()> {
    let captured = PACKET_HEADER + packet.data.len();
    let mut body = Vec::with_capacity(captured + 64);
    let micros = u64::try_from(packet.time.as_micros()).unwrap_or(u64::MAX);
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    body.extend(0u32.to_le_bytes());
    body.extend(((micros >> 32) as u32).to_le_bytes());
    body.extend((micros as u32).to_le_bytes());
    body.extend(length(captured));
    // All of it, whatever it is.
    body.extend(length(captured));
    header(&mut body, packet);
    body.extend(packet.data);
    pad(&mut body);
    if let Some(comment) = packet.comment {
        option(&mut body, OPTION_COMMENT, comment);
        end_of_options(&mut body);
    }
    block(out, ENHANCED_PACKET, &body)
}

/// A packet as link type 220 has it, without a file around it.
pub(super) fn usbmon_packet(packet: &Outgoing<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PACKET_HEADER + packet.data.len());
    header(&mut bytes, packet);
    bytes.extend(packet.data);
    bytes
}

/// The 64 bytes of a usbmon packet before its data.
fn header(body: &mut Vec<u8>, packet: &Outgoing<'_>) {
    let is_in = packet.endpoint & 0x80 != 0;
    let stage = match packet.end {
        None => Stage::Submit,
        Some(_) => Stage::Complete,
    };
    let status = match packet.end {
        None => IN_PROGRESS,
        Some(Ok(())) => 0,
        Some(Err(error)) => super::usbmon::status_of(error),
    };
    // 0: there are; else why not: they go the other way.
    let data_flag = match (packet.data.is_empty(), is_in) {
        (false, _) => 0,
        (true, true) => b'<',
        (true, false) => b'>',
    };
    body.extend(packet.urb.to_le_bytes());
    body.extend([stage.to_byte(), packet.transfer.to_byte(), packet.endpoint, packet.address]);
    body.extend(packet.bus.to_le_bytes());
    body.extend([if packet.setup.is_some() { 0 } else { b'-' }, data_flag]);
    body.extend(packet.time.as_secs().to_le_bytes());
    body.extend(packet.time.subsec_micros().to_le_bytes());
    body.extend(status.to_le_bytes());
    body.extend(u32::try_from(packet.length).unwrap_or(u32::MAX).to_le_bytes());
    body.extend(u32::try_from(packet.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend(packet.setup.map_or([0; 8], SetupPacket::to_bytes));
    // Interval, frame, flags, descriptors: of isochronous transfers.
    body.extend([0; 16]);
}

fn option(body: &mut Vec<u8>, code: u16, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(text);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut block = Vec::with_capacity(body.len() + 12);
    block.extend(kind.to_le_bytes());
    block.extend(length.to_le_bytes());
    block.extend(body);
    block.extend(length.to_le_bytes());
    out.write_all(&block)
}
