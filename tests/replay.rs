//! Recorded traces, replayed through the whole stack: strictly where this stack made them, so that
//! what the host sends must be what it sent in the recording; leniently otherwise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;
#[path = "common/recordings.rs"]
mod recordings;

use common::run;
use ifd::Clock;
use ifd::trace::{Trace, TraceError, What};
use ifd::transport::replay::{Replay, Report};
use recordings::Recording;
use scard::{
    Context, Disposition, Error, Protocol, Protocols, ReaderState, ShareMode, Stack, State,
};
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

/// Says what the recording's host said: all of the answers have to be those of the recording.
fn converse(context: &Context, recording: &Recording) {
    let reader = context.list_readers_owned().unwrap().remove(0);
    let exchange = |exchanges: &[(Vec<u8>, Vec<u8>)]| {
        let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap();
        let protocol = match recording.protocol {
            recordings::T0 => Protocol::T0,
            _ => Protocol::T1,
        };
        assert_eq!(card.status2_owned().unwrap().protocol2(), Some(protocol));
        for (command, response) in exchanges {
            let heard = card.transmit_complete(command, None).unwrap();
            assert_eq!(heard, response[..], "{}: {command:02X?}", recording.file);
        }
        card.disconnect(Disposition::LeaveCard).unwrap();
    };
    exchange(&recording.exchanges);
    if recording.again.is_empty() {
        return;
    }
    let mut states = [ReaderState::new(reader.clone(), State::UNAWARE)];
    for wanted in [State::EMPTY, State::PRESENT] {
        while !states[0].event_state().contains(wanted) {
            states[0].sync_current_state();
            context.get_status_change(None, &mut states).unwrap();
        }
    }
    exchange(&recording.again);
}

#[test]
fn conversations() {
    for recording in recordings::all() {
        let trace = trace(recording.file);
        let (name, lenient) = (recording.file, recording.lenient);
        let report = run(move || {
            let (replay, report) = match lenient {
                true => Replay::lenient(trace),
                false => Replay::new(trace),
            };
            let clock = match recording.manner().ends_with("fast:") {
                true => Clock::virtual_time(),
                false => Clock::monotonic(),
            };
            let stack = Stack::empty();
            stack.attach_with_clock(replay, clock).unwrap();
            converse(&Context::on(&stack).unwrap(), &recording);
            stack.shutdown();
            report
        })
        .join();
        assert_eq!(report.difference(), None, "{name}");
        assert!(lenient || report.missing() == 0, "{name}: all of the recording was replayed");
    }
}

#[test]
fn what_a_reader_says_of_itself() {
    for name in ["qemu-usb-ccid-uhci.pcap", "qemu-usb-ccid-xhci.pcap"] {
        let info = trace(name).interface.info;
        assert_eq!((info.vendor_id, info.product_id), (0x08E6, 0x4433));
        assert_eq!(info.product.as_deref(), Some("QEMU USB CCID"));
    }
}

#[test]
fn a_difference_is_reported_with_packet_and_both_messages() {
    let trace = trace("qemu-usb-ccid-uhci.pcap");
    let (result, report) = run(move || {
        let (stack, report) = stack(trace);
        let context = Context::on(&stack).unwrap();
        let reader = context.list_readers_owned().unwrap().remove(0);
        let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap();
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
