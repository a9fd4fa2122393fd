//! A USBPcap packet (link type 249): what Windows captures have. A header of 27 bytes or more, always
//! little-endian, and the data.

use super::TraceError;
use super::pcap::Record;
use super::usbmon::{Packet, Stage, TransferType, status_of};
use crate::transport::TransferError;
use ccid::wire::SetupPacket;

pub(super) const LINK_TYPE: u32 = 249;

/// Fields of every header.
const HEADER: usize = 27;

/// Stages of a control transfer.
const STAGE_SETUP: u8 = 0;
const STAGE_STATUS: u8 = 2;

/// Of USBD_STATUS: an endpoint stalled, a transfer cancelled, a device gone.
const STALL: u32 = 0xC000_0004;
const STALLED: u32 = 0xC000_0030;
const CANCELLED: u32 = 0xC001_0000;
const GONE: u32 = 0xC000_7000;

/// The packet; none if it is of no transfer.
pub(super) fn parse(record: &Record) -> Result<Option<Packet<'_>>, TraceError> {
    let fault = |fault| TraceError::Packet { packet: record.number, fault };
    let too_short = || fault("shorter than a USBPcap header");
    let head = record.data.first_chunk::<HEADER>().ok_or_else(too_short)?;
    let &[
        h0,
        h1,
        irp @ ..,
        s0,
        s1,
        s2,
        s3,
        _,
        _,
        info,
        b0,
        b1,
        a0,
        a1,
        endpoint,
        kind,
        l0,
        l1,
        l2,
        l3,
    ] = head;
    let urb = u64::from_le_bytes(irp);
    let header = usize::from(u16::from_le_bytes([h0, h1]));
    let (whole, data) = record.data.split_at_checked(header).ok_or_else(too_short)?;
    let extra = whole.get(HEADER..).ok_or_else(too_short)?;
    let transfer = match kind {
        0 => TransferType::Isochronous,
        1 => TransferType::Interrupt,
        2 => TransferType::Control,
        3 => TransferType::Bulk,
        // Of the driver itself.
        _ => return Ok(None),
    };
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let status = status(u32::from_le_bytes([s0, s1, s2, s3]));
    let mut packet = Packet {
        urb,
        // Bit 0: on its way back from the device's driver.
        stage: if info & 1 == 0 { Stage::Submit } else { Stage::Complete },
        transfer,
        endpoint,
        address: u8::try_from(u16::from_le_bytes([a0, a1])).unwrap_or(u8::MAX),
        bus: u16::from_le_bytes([b0, b1]),
        time: record.time.unwrap_or_default(),
        status,
        setup: None,
        length: length.max(data.len()),
        data,
    };
    if transfer == TransferType::Control {
        match extra.first() {
            Some(&STAGE_SETUP) => {
                let (setup, data) = data.split_first_chunk().ok_or_else(too_short)?;
                packet.stage = Stage::Submit;
                packet.setup = Some(SetupPacket::from_bytes(*setup));
                (packet.data, packet.length) = (data, data.len());
            }
            // The end of one that had its data before.
            Some(&STAGE_STATUS) if packet.endpoint & 0x80 != 0 => return Ok(None),
            _ => packet.stage = Stage::Complete,
        }
    }
    Ok(Some(packet))
}

fn status(usbd: u32) -> i32 {
    match usbd {
        0 => 0,
        STALL | STALLED => status_of(TransferError::Stall),
        CANCELLED => status_of(TransferError::Cancelled),
        GONE => status_of(TransferError::Disconnected),
        _ => status_of(TransferError::Fault),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pcap::{Format, Order};
    use super::*;

    fn record(info: u8, endpoint: u8, kind: u8, status: u32, extra: &[u8], data: &[u8]) -> Record {
        let mut bytes = Vec::from((27 + extra.len() as u16).to_le_bytes());
        bytes.extend(0x0102_0304_0506_0708_u64.to_le_bytes());
        bytes.extend(status.to_le_bytes());
        bytes.extend([9, 0, info, 1, 0, 7, 0, endpoint, kind]);
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(extra);
        bytes.extend(data);
        let format = Format { order: Order::Little, link_type: LINK_TYPE };
        Record { number: 3, format, time: None, data: bytes }
    }

    #[test]
    fn bulk_and_control() {
        let out = record(0, 0x02, 3, 0, &[], &[0x65, 0]);
        let packet = parse(&out).unwrap().unwrap();
        assert_eq!((packet.stage, packet.transfer), (Stage::Submit, TransferType::Bulk));
        assert_eq!((packet.bus, packet.address, packet.endpoint), (1, 7, 2));
        assert_eq!((packet.urb, packet.data), (0x0102_0304_0506_0708, &[0x65, 0][..]));
        let stalled = record(1, 0x81, 3, STALLED, &[], &[]);
        assert_eq!(parse(&stalled).unwrap().unwrap().error(), TransferError::Stall);
        let setup = [0x80, 6, 0, 1, 0, 0, 18, 0];
        let asked = record(0, 0x80, 2, 0, &[STAGE_SETUP], &setup);
        let packet = parse(&asked).unwrap().unwrap();
        assert_eq!(
            (packet.stage, packet.setup),
            (Stage::Submit, Some(SetupPacket::from_bytes(setup)))
        );
        let answered = record(1, 0x80, 2, 0, &[3], &[18, 1]);
        let packet = parse(&answered).unwrap().unwrap();
        assert_eq!((packet.stage, packet.data), (Stage::Complete, &[18, 1][..]));
    }

    #[test]
    fn faults_name_the_packet() {
        let mut short = record(0, 0x02, 3, 0, &[], &[]);
        short.data.truncate(26);
        let error = parse(&short).unwrap_err().to_string();
        assert_eq!(error, "packet 3: shorter than a USBPcap header");
        let mut bent = record(0, 0x02, 3, 0, &[], &[]);
        bent.data[0] = 0xFF;
        assert!(parse(&bent).is_err());
        bent.data[0] = 3;
        assert!(parse(&bent).is_err());
        assert!(parse(&record(0, 0x02, 0xFE, 0, &[], &[])).unwrap().is_none());
    }
}
