//! What usbd-ccid does on the wire, as this project's transports will see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, too, fail by panicking"
)]

use bytes::Bytes;
use ccid::wire::{
    ClassRequest, Command, CommandStatus, LevelParameter, Message, PowerSelect, Response, Seq,
    SetupPacket, Slot,
};
use ccid::{ClassDescriptor, Instant};
use peers::usbd::{Identity, Seen, UsbdCcid};
use sim::{ControlReply, Device};

const SLOT: Slot = Slot(0);
const T0: Instant = Instant::from_millis(0);

fn peer() -> UsbdCcid {
    UsbdCcid::new(Identity::default()).unwrap()
}

fn send(peer: &mut UsbdCcid, command: &Command<'_>, seq: u8, now: Instant) {
    assert!(peer.accepts_bulk_out());
    peer.bulk_out(&command.emit(SLOT, Seq(seq)), now);
}

fn xfr(level_parameter: LevelParameter, data: &[u8]) -> Command<'_> {
    Command::XfrBlock { bwi: 0, level_parameter, data }
}

/// The next bulk-IN packets up to a short one, as one transfer.
fn receive(peer: &mut UsbdCcid, now: Instant) -> Option<Bytes> {
    let mut packet = peer.poll_bulk_in(now)?;
    let mut transfer = packet.to_vec();
    while packet.len() == 64 {
        packet = peer.poll_bulk_in(now).expect("a short packet ends a message");
        transfer.extend_from_slice(&packet);
    }
    Some(transfer.into())
}

/// Sends `apdu` in parts of at most `part` bytes and collects the answer.
fn exchange(peer: &mut UsbdCcid, apdu: &[u8], part: usize, now: Instant) -> Vec<u8> {
    let mut seq = 0;
    let parts: Vec<_> = apdu.chunks(part).collect();
    for (n, data) in parts.iter().enumerate() {
        let level = match (n == 0, n + 1 == parts.len()) {
            (true, true) => LevelParameter::WHOLE,
            (true, false) => LevelParameter::BEGIN,
            (false, false) => LevelParameter::CONTINUE,
            (false, true) => LevelParameter::END,
        };
        send(peer, &xfr(level, data), seq, now);
        if n + 1 < parts.len() {
            assert_eq!(data_block(peer, seq, now), (0x10, vec![]));
        }
        seq += 1;
    }
    let mut answer = Vec::new();
    let (mut chain, mut data) = data_block(peer, seq - 1, now);
    loop {
        answer.append(&mut data);
        if matches!(chain, 0 | 2) {
            return answer;
        }
        seq = seq.wrapping_add(1);
        send(peer, &xfr(LevelParameter::CONTINUE_RESPONSE, &[]), seq, now);
        (chain, data) = data_block(peer, seq, now);
    }
}

/// bChainParameter and data of the DataBlock that is there.
fn data_block(peer: &mut UsbdCcid, seq: u8, now: Instant) -> (u8, Vec<u8>) {
    let bytes = receive(peer, now).expect("an answer");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.message_type, message.seq), (0x80, Seq(seq)));
    assert_eq!(message.specific[..2], [0, 0], "bStatus and bError");
    (message.specific[2], message.data.to_vec())
}

fn abort_request(peer: &mut UsbdCcid, slot: u8, seq: u8, now: Instant) -> ControlReply {
    peer.control(ClassRequest::Abort { slot: Slot(slot), seq: Seq(seq) }.setup(0), &[], now)
}

/// The SlotStatus that is there says that the command `seq` has succeeded.
fn expect_slot_status(peer: &mut UsbdCcid, seq: u8, now: Instant) {
    let bytes = receive(peer, now).expect("an answer");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.seq, Seq(seq));
    let response = Response::parse(&message).unwrap();
    assert!(matches!(response, Response::SlotStatus { .. }));
    assert_eq!(response.status().command, CommandStatus::Success);
}

#[test]
fn descriptors_are_those_of_the_crate() {
    let peer = peer();
    let descriptors = peer.descriptors();
    assert_eq!(descriptors.device.len(), 18);
    assert_eq!(descriptors.device[8..12], [0x09, 0x12, 0x01, 0x00]);
    let configuration = &descriptors.configuration;
    assert_eq!(configuration.len(), 9 + 9 + 54 + 7 + 7);
    let class = ClassDescriptor::parse(&configuration[18..72]).unwrap();
    assert_eq!(class.max_ccid_message_length, 3072);
    assert_eq!(class.exchange_level(), ccid::descriptor::ExchangeLevel::ExtendedApdu);
    // Bulk endpoints: in 81h, out 01h, 64 bytes.
    assert_eq!(configuration[72..79], [7, 5, 0x81, 2, 64, 0, 0]);
    assert_eq!(configuration[79..86], [7, 5, 0x01, 2, 64, 0, 0]);
    assert_eq!(descriptors.strings, ["usbd-ccid", "0.5.0 peer", "1", "CCID/ICCD Interface"]);
}

#[test]
fn power_status_and_parameters() {
    let mut peer = peer();
    send(&mut peer, &Command::IccPowerOn { power_select: PowerSelect::Automatic }, 1, T0);
    let (_, atr) = data_block(&mut peer, 1, T0);
    assert_eq!(atr[..3], [0x3B, 0x86, 0x01]);
    assert_eq!(&atr[5..9], b"peer");
    send(&mut peer, &Command::GetSlotStatus, 2, T0);
    expect_slot_status(&mut peer, 2, T0);
    send(&mut peer, &Command::IccPowerOff, 3, T0);
    expect_slot_status(&mut peer, 3, T0);
    send(&mut peer, &Command::GetParameters, 4, T0);
    let bytes = receive(&mut peer, T0).unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert!(matches!(Response::parse(&message), Ok(Response::Parameters { protocol_num: 1, .. })));
    assert_eq!(peer.poll_bulk_in(T0), None);
}

#[test]
fn class_requests_go_through_the_control_pipe() {
    let mut peer = peer();
    let clock = peer.control(ClassRequest::GetClockFrequencies { length: 4 }.setup(0), &[], T0);
    assert_eq!(clock, ControlReply::Data(3580u32.to_le_bytes().to_vec().into()));
    let rate = peer.control(ClassRequest::GetDataRates { length: 4 }.setup(0), &[], T0);
    assert_eq!(rate, ControlReply::Data(9600u32.to_le_bytes().to_vec().into()));
    // An answer shorter than asked for, and one longer.
    let long = peer.control(ClassRequest::GetDataRates { length: 64 }.setup(0), &[], T0);
    assert_eq!(long, ControlReply::Data(9600u32.to_le_bytes().to_vec().into()));
    let short = peer.control(ClassRequest::GetDataRates { length: 2 }.setup(0), &[], T0);
    assert_eq!(short, ControlReply::Data(9600u32.to_le_bytes()[..2].to_vec().into()));
    // An unknown class request stalls, and the control pipe works after that; also after one
    // with a data stage, longer than what the device has room for.
    let unknown = SetupPacket::from_bytes([0xA1, 0x42, 0, 0, 0, 0, 4, 0]);
    assert_eq!(peer.control(unknown, &[], T0), ControlReply::Stall);
    for length in [4u16, 64, 255, 400] {
        let [low, high] = length.to_le_bytes();
        let unknown = SetupPacket::from_bytes([0x21, 0x42, 0, 0, 0, 0, low, high]);
        let data = vec![7; usize::from(length)];
        assert_eq!(peer.control(unknown, &data, T0), ControlReply::Stall, "{length}");
        let again = peer.control(ClassRequest::GetDataRates { length: 4 }.setup(0), &[], T0);
        assert_eq!(again, rate);
    }
}

#[test]
fn echo_of_every_length_around_the_packets() {
    let mut peer = peer();
    for length in [1usize, 43, 44, 48, 49, 50, 52, 53, 54, 107, 108, 109, 255] {
        let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let apdu = [&[0, 0x10, 0, 0, length as u8][..], &data].concat();
        let answer = exchange(&mut peer, &apdu, 3062, T0);
        assert_eq!(answer, [&data[..], &[0x90, 0x00]].concat(), "{length} bytes");
    }
}

#[test]
fn extended_apdus_in_parts_both_ways() {
    let mut peer = peer();
    let data: Vec<u8> = (0..5000u32).map(|n| (n * 7) as u8).collect();
    let apdu = [&[0, 0x10, 0, 0, 0, 0x13, 0x88][..], &data].concat();
    for part in [3062, 1000, 54, 53] {
        let answer = exchange(&mut peer, &apdu, part, T0);
        assert_eq!(answer, [&data[..], &[0x90, 0x00]].concat(), "in parts of {part}");
    }
    let answer = exchange(&mut peer, &[0, 0x12, 0xFF, 0xFF, 0, 0, 0], 3062, T0);
    assert_eq!(answer.len(), 65_537);
}

#[test]
fn time_extensions_every_second_until_the_answer() {
    let mut peer = peer();
    let at = Instant::from_millis;
    send(&mut peer, &xfr(LevelParameter::WHOLE, &[0, 0x14, 0x09, 0xC4]), 5, at(100));
    for extension in [1100, 2100] {
        assert_eq!(peer.poll_bulk_in(at(100)), None);
        assert_eq!(peer.poll_deadline(), Some(at(extension)));
        peer.handle_timeout(at(extension));
        let bytes = receive(&mut peer, at(extension)).unwrap();
        let message = Message::parse(&bytes).unwrap();
        let status = Response::parse(&message).unwrap().status();
        assert_eq!((message.message_type, message.seq), (0x80, Seq(5)));
        assert_eq!((status.command, status.error), (CommandStatus::TimeExtension, 1));
    }
    assert_eq!(peer.poll_deadline(), Some(at(2600)));
    peer.handle_timeout(at(2600));
    assert_eq!(data_block(&mut peer, 5, at(2600)), (0, vec![0x90, 0x00]));
    // The timer runs out once more and finds nothing to extend.
    peer.handle_timeout(at(3100));
    assert_eq!((peer.poll_bulk_in(at(3100)), peer.poll_deadline()), (None, None));
}

#[test]
fn abort_in_either_order() {
    let mut peer = peer();
    for request_first in [true, false] {
        send(&mut peer, &xfr(LevelParameter::WHOLE, &[0, 0x16, 0, 0]), 7, T0);
        assert_eq!(peer.poll_bulk_in(T0), None);
        if request_first {
            assert_eq!(abort_request(&mut peer, 0, 8, T0), ControlReply::Data(Bytes::new()));
            assert_eq!(peer.poll_bulk_in(T0), None);
            send(&mut peer, &Command::Abort, 8, T0);
        } else {
            send(&mut peer, &Command::Abort, 8, T0);
            assert_eq!(peer.poll_bulk_in(T0), None, "no answer before the request");
            assert_eq!(abort_request(&mut peer, 0, 8, T0), ControlReply::Data(Bytes::new()));
        }
        expect_slot_status(&mut peer, 8, T0);
        // The application still holds the aborted command: the next one only cancels it.
        send(&mut peer, &xfr(LevelParameter::WHOLE, &[0, 0xA4, 4, 0]), 9, T0);
        assert_eq!(peer.poll_bulk_in(T0), None, "lost");
        assert_eq!(exchange(&mut peer, &[0, 0xA4, 4, 0], 54, T0), [0x90, 0x00]);
    }
}

#[test]
fn an_application_that_has_finished_loses_no_command() {
    let mut peer = peer();
    let later = Instant::from_millis(600);
    send(&mut peer, &xfr(LevelParameter::WHOLE, &[0, 0x14, 1, 0xF4]), 1, T0);
    abort_request(&mut peer, 0, 2, T0);
    send(&mut peer, &Command::Abort, 2, T0);
    expect_slot_status(&mut peer, 2, T0);
    peer.handle_timeout(later);
    assert_eq!(peer.poll_bulk_in(later), None, "the late answer goes nowhere");
    assert_eq!(exchange(&mut peer, &[0, 0x99, 0, 0], 54, later), [0x6D, 0x00]);
}

/// What comes between ABORT request and bulk Abort fails with CMD_ABORTED, in a message of type
/// 6Ch.
#[test]
fn commands_fail_while_an_abort_is_pending() {
    let mut peer = peer();
    abort_request(&mut peer, 0, 3, T0);
    send(&mut peer, &Command::GetSlotStatus, 2, T0);
    let failed = receive(&mut peer, T0).unwrap();
    assert_eq!(failed[..], [0x6C, 0, 0, 0, 0, 0, 2, 0x40, 0xFF, 0]);
    send(&mut peer, &Command::Abort, 3, T0);
    expect_slot_status(&mut peer, 3, T0);
    send(&mut peer, &Command::Escape { data: &[1] }, 4, T0);
    let unknown = receive(&mut peer, T0).unwrap();
    assert_eq!(unknown[..], [0x6C, 0, 0, 0, 0, 0, 4, 0x40, 0x00, 0]);
}

/// Any other command drops a bulk Abort that waits for its request.
#[test]
fn a_bulk_abort_is_dropped_by_the_next_command() {
    let mut peer = peer();
    send(&mut peer, &Command::Abort, 3, T0);
    send(&mut peer, &Command::GetSlotStatus, 4, T0);
    expect_slot_status(&mut peer, 4, T0);
    abort_request(&mut peer, 0, 3, T0);
    assert_eq!(peer.poll_bulk_in(T0), None);
    send(&mut peer, &Command::Abort, 3, T0);
    expect_slot_status(&mut peer, 3, T0);
}

#[test]
fn a_crash_shows_and_a_reset_ends_it() {
    let mut peer = peer();
    // dwLength says 40, 4 bytes follow, and the packet is short.
    peer.bulk_out(&[0x6F, 40, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xA4, 4, 0], T0);
    assert!(peer.has_crashed());
    assert!(!peer.accepts_bulk_out());
    assert_eq!(abort_request(&mut peer, 0, 1, T0), ControlReply::Stall);
    assert_eq!((peer.poll_bulk_in(T0), peer.poll_deadline()), (None, None));
    assert!(peer.take_log().iter().any(|(_, seen)| matches!(seen, Seen::Crashed(_))));
    peer.reset(T0);
    assert!(!peer.has_crashed());
    assert_eq!(exchange(&mut peer, &[0, 0xA4, 4, 0], 54, T0), [0x90, 0x00]);
}

#[test]
fn a_reset_forgets_what_was_under_way() {
    let mut peer = peer();
    send(&mut peer, &xfr(LevelParameter::WHOLE, &[0, 0x14, 0, 1]), 1, T0);
    peer.reset(T0);
    assert_eq!((peer.poll_bulk_in(T0), peer.poll_deadline()), (None, None));
    assert_eq!(exchange(&mut peer, &[0, 0xA4, 4, 0], 54, T0), [0x90, 0x00]);
}

#[test]
fn the_log_has_what_went_by_and_when() {
    let mut peer = peer();
    let at = Instant::from_millis(17);
    let command = Command::GetSlotStatus.emit(SLOT, Seq(9));
    peer.bulk_out(&command, T0);
    let answer = peer.poll_bulk_in(at).unwrap();
    let setup = ClassRequest::Abort { slot: SLOT, seq: Seq(1) }.setup(0);
    peer.control(setup, &[], at);
    assert_eq!(
        peer.take_log(),
        [(T0, Seen::BulkOut(command)), (at, Seen::BulkIn(answer)), (at, Seen::Setup(setup))]
    );
    assert!(peer.take_log().is_empty());
}
