//! The link by script, the kernel's part played by the test.

use super::*;
use crate::vhci::usbip::{Link, ProtocolError};

/// A link and the device behind it. Transfers with even numbers are IN.
struct Bench {
    link: Link,
    device: Script,
}

impl Bench {
    fn new() -> Self {
        let device = Script::default();
        Self { link: Link::new(&device.descriptors), device }
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<Answer> {
        self.link.receive(bytes);
        self.drive(T0)
    }

    fn drive(&mut self, now: Instant) -> Vec<Answer> {
        self.link.drive(&mut self.device, now).unwrap();
        answers(self.link.take_output(), |seqnum| seqnum % 2 == 0)
    }

    fn packets(&mut self, lengths: &[usize]) {
        self.device.bulk.extend(lengths.iter().map(|n| Bytes::from(vec![0xAA; *n])));
    }

    /// The data of a standard request's answer, None if it stalls.
    fn standard(&mut self, setup: [u8; 8]) -> Option<Vec<u8>> {
        let reply = self.send(&control(2, setup, &[]));
        assert!(self.device.controls.is_empty(), "answered by the link");
        match &reply[..] {
            [Submitted(2, 0, length, data)] => {
                // Of an OUT transfer, nothing has gone.
                assert_eq!(*length as usize, data.len());
                Some(data.clone())
            }
            [Submitted(2, -32, 0, _)] => None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn transfers_are_assembled_from_packets() {
    let mut bench = Bench::new();
    bench.packets(&[64, 64, 10, 12, 64, 0, 64]);
    for seqnum in [2, 4, 6, 8] {
        bench.link.receive(&bulk_in(seqnum, 256));
    }
    let expected = [received(2, 0, 138), received(4, 0, 12), received(6, 0, 64)];
    assert_eq!(bench.drive(T0), expected);
    // The last one waits for the rest of its message.
    bench.packets(&[1]);
    assert_eq!(bench.drive(T0), [received(8, 0, 65)]);
}

#[test]
fn a_full_transfer_leaves_the_rest_for_the_next() {
    let mut bench = Bench::new();
    bench.packets(&[64, 64, 0, 5]);
    assert_eq!(bench.send(&bulk_in(2, 128)), [received(2, 0, 128)]);
    assert_eq!(bench.send(&bulk_in(4, 128)), [received(4, 0, 0)]);
    assert_eq!(bench.device.bulk.len(), 1, "taken only when asked for");
    assert_eq!(bench.send(&bulk_in(6, 5)), [received(6, 0, 5)]);
}

/// More than was asked for must never reach the kernel.
#[test]
fn more_than_asked_for_is_cut_off() {
    let mut bench = Bench::new();
    bench.packets(&[17]);
    assert_eq!(bench.send(&bulk_in(2, 10)), [received(2, -75, 10)]);
    bench.packets(&[64, 64]);
    assert_eq!(bench.send(&bulk_in(4, 100)), [received(4, -75, 100)]);
    bench.packets(&[65]);
    assert_eq!(bench.send(&bulk_in(6, 128)), [received(6, -75, 65)]);
    bench.packets(&[1]);
    assert_eq!(bench.send(&bulk_in(8, 0)), [received(8, -75, 0)]);
}

#[test]
fn short_can_be_an_error() {
    let mut bench = Bench::new();
    bench.packets(&[9, 10]);
    for seqnum in [2, 4] {
        bench.link.receive(&submit(seqnum, IN, BULK_IN, 10, 1));
    }
    assert_eq!(bench.drive(T0), [received(2, -121, 9), received(4, 0, 10)]);
}

#[test]
fn out_transfers_wait_for_the_device_and_keep_their_order() {
    let mut bench = Bench::new();
    bench.device.deaf = true;
    assert_eq!(bench.send(&[bulk_out(1, b"one"), bulk_out(3, b"")].concat()), []);
    bench.device.deaf = false;
    assert_eq!(bench.drive(T0), [sent(1, 3), sent(3, 0)]);
    assert_eq!(bench.device.received, [&b"one"[..], b""]);
}

#[test]
fn a_packet_taken_may_make_room_for_one_out() {
    let mut bench = Bench::new();
    bench.device.half_duplex = true;
    bench.packets(&[64]);
    assert_eq!(bench.send(&bulk_out(1, b"one")), []);
    assert_eq!(bench.send(&bulk_in(2, 128)), [sent(1, 3)]);
}

#[test]
fn commands_may_come_in_any_pieces() {
    let mut bench = Bench::new();
    let bytes = [bulk_out(1, b"hello"), bulk_in(2, 64), bulk_out(3, b"you")].concat();
    let mut seen = Vec::new();
    for byte in &bytes {
        seen.extend(bench.send(&[*byte]));
    }
    assert_eq!(seen, [sent(1, 5), sent(3, 3)]);
    assert_eq!(bench.device.received, ["hello", "you"]);
}

#[test]
fn unlink_ends_what_is_pending_and_nothing_else() {
    let mut bench = Bench::new();
    bench.device.deaf = true;
    bench.send(&[bulk_out(1, b"one"), bulk_in(2, 64), bulk_in(4, 64)].concat());
    bench.send(&submit(6, IN, INTERRUPT, 8, 0));
    for (seqnum, target) in [(7, 1), (9, 2), (11, 6)] {
        assert_eq!(bench.send(&unlink(seqnum, target)), [Unlinked(seqnum, -104)]);
        assert_eq!(bench.send(&unlink(seqnum, target)), [Unlinked(seqnum, 0)], "gone already");
    }
    bench.device.deaf = false;
    bench.device.interrupt.push_back(Bytes::from_static(&[0x50, 3]));
    bench.packets(&[5]);
    assert_eq!(bench.drive(T0), [received(4, 0, 5)]);
    assert!(bench.device.received.is_empty());
    // One that has been answered is not unlinked: the answer came before.
    assert_eq!(bench.send(&unlink(13, 4)), [Unlinked(13, 0)]);
}

#[test]
fn interrupt_messages_wait_for_their_transfer() {
    let mut bench = Bench::new();
    bench.device.interrupt.push_back(Bytes::from_static(&[0x50, 3]));
    assert_eq!(bench.drive(T0), []);
    let asked = submit(2, IN, INTERRUPT, 8, 0);
    assert_eq!(bench.send(&asked), [Submitted(2, 0, 2, vec![0x50, 3])]);
}

#[test]
fn the_timer_runs() {
    let mut bench = Bench::new();
    let due = Instant::from_millis(100);
    bench.device.deadline = Some(due);
    assert_eq!(bench.send(&bulk_in(2, 64)), []);
    assert_eq!(bench.drive(Instant::from_millis(99)), []);
    assert_eq!(bench.drive(due), [Submitted(2, 0, 1, vec![0x77])]);
}

#[test]
fn class_requests_go_to_the_device() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(&control(1, [0x21, 1, 0, 5, 0, 0, 0, 0], &[])), [sent(1, 0)]);
    // The device gives six bytes; four were asked for.
    let rates = control(2, [0xA1, 2, 0, 0, 0, 0, 4, 0], &[]);
    assert_eq!(bench.send(&rates), [Submitted(2, 0, 4, vec![1, 2, 3, 4])]);
    let vendor = control(3, [0x41, 9, 0, 0, 0, 0, 2, 0], &[7, 8]);
    assert_eq!(bench.send(&vendor), [Submitted(3, -32, 0, vec![])]);
    let seen: Vec<_> = bench.device.controls.iter().map(|(s, d)| (s.request, &d[..])).collect();
    assert_eq!(seen, [(1, &[][..]), (2, &[]), (9, &[7, 8])]);
    assert_eq!(bench.device.controls[0].0.value, 0x0500);
}

#[test]
fn descriptors() {
    let mut bench = Bench::new();
    let device = bench.device.descriptors.device.to_vec();
    let configuration = bench.device.descriptors.configuration.to_vec();
    assert_eq!(bench.standard([0x80, 6, 0, 1, 0, 0, 64, 0]), Some(device.clone()));
    assert_eq!(bench.standard([0x80, 6, 0, 1, 0, 0, 8, 0]), Some(device[..8].to_vec()));
    assert_eq!(bench.standard([0x80, 6, 0, 2, 0, 0, 9, 0]), Some(configuration[..9].to_vec()));
    assert_eq!(bench.standard([0x80, 6, 0, 2, 0, 0, 255, 0]), Some(configuration));
    assert_eq!(bench.standard([0x80, 6, 1, 2, 0, 0, 255, 0]), None, "no second configuration");
    assert_eq!(bench.standard([0x80, 6, 0, 3, 0, 0, 255, 0]), Some(vec![4, 3, 0x09, 0x04]));
    let text = bench.standard([0x80, 6, 2, 3, 9, 4, 255, 0]).unwrap();
    assert_eq!(usize::from(text[0]), text.len());
    assert_eq!(text[1..6], [3, b'R', 0, b'e', 0]);
    assert_eq!(text[text.len() - 4..], [0x3D, 0xD8, 0xB3, 0xDC], "a surrogate pair");
    assert_eq!(bench.standard([0x80, 6, 3, 3, 9, 4, 255, 0]), Some(vec![2, 3]));
    assert_eq!(bench.standard([0x80, 6, 4, 3, 9, 4, 255, 0]), None, "no such string");
    assert_eq!(bench.standard([0x80, 6, 0, 6, 0, 0, 10, 0]), None, "no device qualifier");
    assert_eq!(bench.standard([0x80, 6, 0, 15, 0, 0, 5, 0]), None, "no BOS");
}

#[test]
fn long_strings_are_cut() {
    let mut device = Script::default();
    device.descriptors.strings = vec!["x".repeat(300)];
    let mut bench = Bench { link: Link::new(&device.descriptors), device };
    let text = bench.standard([0x80, 6, 1, 3, 9, 4, 255, 0]).unwrap();
    assert_eq!((text.len(), text[0]), (254, 254));
}

#[test]
fn configuration_interface_and_status() {
    let mut bench = Bench::new();
    let done = Some(vec![]);
    assert_eq!(bench.standard([0x80, 8, 0, 0, 0, 0, 1, 0]), Some(vec![0]));
    assert_eq!(bench.standard([0x00, 5, 7, 0, 0, 0, 0, 0]), done, "SET_ADDRESS");
    assert_eq!(bench.standard([0x00, 9, 2, 0, 0, 0, 0, 0]), None, "no configuration 2");
    assert_eq!(bench.standard([0x00, 9, 1, 0, 0, 0, 0, 0]), done);
    assert_eq!(bench.standard([0x80, 8, 0, 0, 0, 0, 1, 0]), Some(vec![1]));
    assert_eq!(bench.standard([0x01, 11, 0, 0, 0, 0, 0, 0]), done);
    assert_eq!(bench.standard([0x01, 11, 1, 0, 0, 0, 0, 0]), None, "no alternate setting 1");
    assert_eq!(bench.standard([0x81, 10, 0, 0, 0, 0, 1, 0]), Some(vec![0]));
    assert_eq!(bench.standard([0x81, 10, 0, 0, 1, 0, 1, 0]), None, "no interface 1");
    assert_eq!(bench.standard([0x80, 0, 0, 0, 0, 0, 2, 0]), Some(vec![0, 0]));
    assert_eq!(bench.standard([0x00, 3, 1, 0, 0, 0, 0, 0]), done, "remote wake-up");
    assert_eq!(bench.standard([0x80, 0, 0, 0, 0, 0, 2, 0]), Some(vec![2, 0]));
    assert_eq!(bench.standard([0x00, 1, 1, 0, 0, 0, 0, 0]), done);
    assert_eq!(bench.standard([0x80, 0, 0, 0, 0, 0, 2, 0]), Some(vec![0, 0]));
    assert_eq!(bench.standard([0x81, 0, 0, 0, 0, 0, 2, 0]), Some(vec![0, 0]));
    assert_eq!(bench.standard([0x82, 0, 0, 0, 0x82, 0, 2, 0]), Some(vec![0, 0]));
    assert_eq!(bench.standard([0x02, 1, 0, 0, 0x82, 0, 0, 0]), done, "CLEAR_FEATURE(HALT)");
    assert_eq!(bench.standard([0x02, 1, 0, 0, 0x8F, 0, 0, 0]), None, "no such endpoint");
    assert_eq!(bench.standard([0x00, 7, 0, 1, 0, 0, 0, 0]), None, "SET_DESCRIPTOR");
}

#[test]
fn endpoints_that_are_not_there_do_not_answer() {
    let mut bench = Bench::new();
    let nobody = |seqnum| Submitted(seqnum, -71, 0, vec![]);
    assert_eq!(bench.send(&submit(2, IN, 9, 64, 0)), [nobody(2)]);
    assert_eq!(bench.send(&submit(4, IN, BULK_OUT, 64, 0)), [nobody(4)]);
    assert_eq!(bench.send(&submit(6, OUT, BULK_IN, 0, 0)), [nobody(6)]);
    assert_eq!(bench.send(&submit(8, IN, 258, 64, 0)), [nobody(8)]);
}

#[test]
fn what_is_not_usbip_is_refused() {
    let refusal = |bytes: &[u8]| {
        let mut bench = Bench::new();
        bench.link.receive(bytes);
        bench.link.drive(&mut bench.device, T0).unwrap_err()
    };
    assert_eq!(refusal(&[0; 48]), ProtocolError::UnknownCommand(0));
    assert_eq!(refusal(&[0xFF; 48]), ProtocolError::UnknownCommand(u32::MAX));
    let too_long = submit(1, OUT, BULK_OUT, u32::MAX, 0);
    assert_eq!(refusal(&too_long), ProtocolError::TooLong(u32::MAX));
    let mut isochronous = submit(1, IN, BULK_IN, 64, 0);
    isochronous[32..36].copy_from_slice(&4u32.to_be_bytes());
    assert_eq!(refusal(&isochronous), ProtocolError::Isochronous(4));
    // As the protocol's documentation has it for what is not isochronous.
    isochronous[32..36].copy_from_slice(&[0xFF; 4]);
    let mut bench = Bench::new();
    bench.packets(&[1]);
    isochronous[4..8].copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(bench.send(&isochronous), [received(2, 0, 1)]);
}
