use super::super::write::{self, Outgoing};
use super::super::{TransferType, usbmon::Packet};
use super::*;
use crate::transport::TransferError;

fn open(file: &[u8]) -> Result<Blocks<&[u8]>, TraceError> {
    assert_eq!(file[..4], SECTION);
    Blocks::new(&file[4..])
}

const OUTGOING: Outgoing<'_> = Outgoing {
    urb: 7,
    bus: 3,
    address: 5,
    endpoint: 0x02,
    transfer: TransferType::Bulk,
    time: Duration::from_micros(1_700_000_000_123_456),
    end: None,
    setup: None,
    length: 3,
    data: &[1, 2, 3],
    comment: Some("masked"),
};

fn file() -> Vec<u8> {
    let mut file = Vec::new();
    write::head(&mut file, "a program", "a comment").unwrap();
    write::packet(&mut file, &OUTGOING).unwrap();
    let end = Some(Err(TransferError::Stall));
    let data = &[][..];
    write::packet(&mut file, &Outgoing { end, data, comment: None, ..OUTGOING }).unwrap();
    file
}

#[test]
fn what_is_written_is_read() {
    let file = file();
    let mut blocks = open(&file).unwrap();
    let record = blocks.next().unwrap().unwrap();
    assert_eq!((record.number, record.time), (1, Some(OUTGOING.time)));
    let packet = Packet::parse(&record).unwrap();
    assert_eq!((packet.urb, packet.bus, packet.address, packet.endpoint), (7, 3, 5, 2));
    assert_eq!((packet.time, packet.status, packet.length), (OUTGOING.time, -115, 3));
    assert_eq!((packet.data, packet.setup), (&[1, 2, 3][..], None));
    let record = blocks.next().unwrap().unwrap();
    let packet = Packet::parse(&record).unwrap();
    assert_eq!((record.number, packet.error()), (2, TransferError::Stall));
    assert_eq!(blocks.next().unwrap(), None);
}

#[test]
fn faults_name_the_packet() {
    let whole = file();
    for length in 12..whole.len() {
        let Ok(mut blocks) = open(&whole[..length]) else { continue };
        let mut last = Ok(None);
        for _ in 0..3 {
            last = blocks.next();
            if !matches!(last, Ok(Some(_))) {
                break;
            }
        }
        match last {
            Ok(None) => {}
            Ok(Some(_)) => panic!("{length} bytes have more packets than the whole"),
            Err(error) => assert!(error.to_string().starts_with("packet "), "{error}"),
        }
    }
    let mut bent = whole.clone();
    let at = bent.len() - 1;
    bent[at] ^= 1;
    let mut blocks = open(&bent).unwrap();
    blocks.next().unwrap();
    let error = blocks.next().unwrap_err().to_string();
    assert_eq!(error, "packet 2: the two lengths of its block differ");
}

/// Big-endian, nanoseconds, and a block that nobody knows.
#[test]
fn the_other_order_and_another_unit() {
    let mut file = SECTION.to_vec();
    file.extend([0, 0, 0, 28, 0x1A, 0x2B, 0x3C, 0x4D, 0, 1, 0, 0]);
    file.extend([0xFF; 8]);
    file.extend([0, 0, 0, 28]);
    file.extend([0, 0, 0, 1, 0, 0, 0, 28, 0, 220, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0]);
    file.extend([0, 0, 0, 28]);
    file.extend([0x12, 0x34, 0, 0, 0, 0, 0, 12, 0, 0, 0, 12]);
    file.extend([0, 0, 0, 6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x35, 0x94, 0x01]);
    file.extend([0, 0, 0, 2, 0, 0, 0, 2, 0xAA, 0xBB, 0, 0, 0, 0, 0, 36]);
    let record = open(&file).unwrap().next().unwrap().unwrap();
    assert_eq!(record.time, Some(Duration::from_nanos(2_000_000_001)));
    assert_eq!((record.format.order, record.format.link_type), (Order::Big, 220));
    assert_eq!(record.data, [0xAA, 0xBB]);
}
