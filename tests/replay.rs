//! Recorded traces, replayed through the whole stack: strictly, so that what the host sends must
//! be what it sent in the recording.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::run;
use ifd::trace::{Trace, TraceError, What};
use ifd::transport::replay::{Replay, Report};
use scard::{Card, Context, Disposition, Error, Protocols, ShareMode, Stack};
use std::fs::File;
use std::path::Path;

fn trace(name: &str) -> Trace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    Trace::read(File::open(path).unwrap()).unwrap()
}

fn stack(trace: Trace) -> (Stack, Report) {
    let (replay, report) = Replay::new(trace);
    let stack = Stack::empty();
    stack.attach_with_clock(replay, ifd::Clock::virtual_time()).unwrap();
    (stack, report)
}

fn connect(stack: &Stack) -> Card {
    let context = Context::on(stack).unwrap();
    let reader = context.list_readers_owned().unwrap().remove(0);
    context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap()
}

/// The session of fixtures/README.md.
fn session(card: &Card) {
    let counted = |n: usize| (0..n).map(|n| n as u8).chain([0x90, 0x00]).collect::<Vec<_>>();
    let exchanges: [(&[u8], Vec<u8>); 6] = [
        (&[0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00], vec![0x90, 0x00]),
        (&[0x00, 0x12, 0x00, 0x34, 0x00], counted(0x34)),
        (&[0x00, 0x10, 0x00, 0x00, 0x03, 1, 2, 3], vec![1, 2, 3, 0x90, 0x00]),
        (&[0x00, 0x10, 0x00, 0x00, 0x01, 2], vec![2, 0x90, 0x00]),
        (&[0x00, 0x12, 0x00, 0xE0, 0x00], counted(0xE0)),
        (
            &[0x00, 0x10, 0x00, 0x00, 0x04, 0xAA, 0xBB, 0xCC, 0xDD],
            vec![0xAA, 0xBB, 0xCC, 0xDD, 0x90, 0x00],
        ),
    ];
    for (command, response) in exchanges {
        assert_eq!(card.transmit_owned(command, None).unwrap(), response);
    }
}

#[test]
fn a_session_with_qemus_reader() {
    for name in ["qemu-usb-ccid-uhci.pcap", "qemu-usb-ccid-xhci.pcap"] {
        let trace = trace(name);
        let info = &trace.interface.info;
        assert_eq!((info.vendor_id, info.product_id), (0x08E6, 0x4433));
        assert_eq!(info.product.as_deref(), Some("QEMU USB CCID"));
        let report = run(move || {
            let (stack, report) = stack(trace);
            let card = connect(&stack);
            let status = card.status2_owned().unwrap();
            assert_eq!(status.atr(), [0x3B, 0x65, 0, 0, 0x41, 0x52, 0x45, 0x4E, 0x41]);
            session(&card);
            card.disconnect(Disposition::LeaveCard).unwrap();
            drop(stack);
            report
        })
        .join();
        assert_eq!(report.difference(), None, "{name}");
        assert_eq!(report.missing(), 0, "{name}: all of the recording was replayed");
    }
}

#[test]
fn a_difference_is_reported_with_packet_and_both_messages() {
    let trace = trace("qemu-usb-ccid-uhci.pcap");
    let (result, report) = run(move || {
        let (stack, report) = stack(trace);
        let card = connect(&stack);
        (card.transmit_owned(&[0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x01], None), report)
    })
    .join();
    assert_eq!(result, Err(Error::ReaderUnavailable));
    let difference = report.difference().unwrap();
    assert_eq!(difference.packet, Some(255));
    let text = difference.to_string();
    assert!(text.contains("recorded XfrBlock slot 0 seq 2: 00 A4 00 00 02 3F 00"), "{text}");
    assert!(text.contains("sent XfrBlock slot 0 seq 2: 00 A4 00 00 02 3F 01"), "{text}");
}

#[test]
fn a_damaged_file_names_the_packet() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/qemu-usb-ccid-xhci.pcap");
    let whole = std::fs::read(path).unwrap();
    assert_eq!(Trace::read(&whole[..]).unwrap().events.len(), 20);
    for length in 0..whole.len() {
        match Trace::read(&whole[..length]) {
            Ok(_) => {} // Cut between two packets, with the descriptors before.
            Err(TraceError::NotPcap) => assert!(length < 24),
            Err(TraceError::NoReader | TraceError::Packet { .. } | TraceError::Unusable(_)) => {}
            Err(error) => panic!("{length} bytes: {error}"),
        }
    }
    let mut bad = whole.clone();
    bad[24 + 16 + 8] = b'X';
    let error = Trace::read(&bad[..]).unwrap_err();
    assert_eq!(error.to_string(), "packet 1: its event type is none of S, C, E");
    bad.clone_from(&whole);
    bad[20] = 1;
    assert!(matches!(Trace::read(&bad[..]), Err(TraceError::LinkType(1))));
}

#[test]
fn the_empty_transfer_behind_64_bytes_is_in_the_recording() {
    let trace = trace("qemu-usb-ccid-xhci.pcap");
    let lengths: Vec<_> = trace
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::In(bytes) => Some(bytes.len()),
            _ => None,
        })
        .collect();
    let at = lengths.iter().position(|length| *length == 64).unwrap();
    assert_eq!(lengths[at + 1], 0);
}
