//! The whole stack against usbd-ccid, which no one here wrote.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Bench, run, until};
use peers::usbd::{Identity, Seen, UsbdCcid};
use scard::{Disposition, Error, Protocol, Protocols, ShareMode};

fn bench() -> Bench<UsbdCcid> {
    Bench::new(UsbdCcid::new(Identity::default()).unwrap())
}

/// The bulk-OUT messages that the device has seen, by type, and the ABORT requests.
struct Log {
    /// bMessageType, bSeq, and the INS of an XfrBlock.
    sent: Vec<(u8, u8, Option<u8>)>,
    aborts: Vec<u16>,
}

fn log(bench: &Bench<UsbdCcid>) -> Log {
    let mut log = Log { sent: Vec::new(), aborts: Vec::new() };
    for (_, seen) in bench.port.with(|device| device.take_log()) {
        match seen {
            Seen::BulkOut(message) => {
                let ins = message.get(11).filter(|_| message[0] == 0x6F);
                log.sent.push((message[0], message[6], ins.copied()));
            }
            Seen::Setup(setup) if setup.request == 1 => log.aborts.push(setup.value),
            Seen::Crashed(why) => panic!("the device has crashed: {why}"),
            _ => {}
        }
    }
    log
}

#[test]
fn connect_and_transmit() {
    let bench = bench();
    let context = bench.context();
    let reader = bench.reader();
    assert!(reader.to_str().unwrap().starts_with("usbd-ccid 0.5.0 peer"), "{reader:?}");
    let card = context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap();
    let status = card.status2_owned().unwrap();
    assert_eq!(status.protocol2(), Some(Protocol::T1));
    assert_eq!(status.atr().first(), Some(&0x3B));
    for length in [1usize, 10, 51, 52, 53, 100, 250, 255] {
        let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let mut command = vec![0, 0x10, 0, 0, length as u8];
        command.extend(&data);
        let mut expected = data;
        expected.extend([0x90, 0]);
        let response = card.transmit_owned(&command, None).unwrap();
        assert_eq!(response, expected, "{length} bytes");
    }
    assert_eq!(card.transmit_owned(&[0, 0xEE, 0, 0], None).unwrap(), [0x6D, 0][..]);
}

#[test]
fn a_command_that_is_never_answered_is_cancelled_by_abort() {
    let bench = bench();
    let context = bench.context();
    let mut card = bench.connect(&context);
    log(&bench);
    for _ in 0..3 {
        let canceller = context.canceller();
        let seen = std::cell::RefCell::new(Vec::new());
        let result = std::thread::scope(|scope| {
            let transmit = scope.spawn(|| card.transmit_owned(&[0, 0x16, 0, 0], None));
            until("the command is on the wire", || {
                let log = log(&bench);
                seen.borrow_mut().extend(log.sent);
                seen.borrow().iter().any(|(_, _, ins)| *ins == Some(0x16))
            });
            canceller.cancel().unwrap();
            transmit.join().unwrap()
        });
        assert_eq!(result, Err(Error::Cancelled));
        let log = log(&bench);
        let abort = log.sent.iter().find(|(kind, ..)| *kind == 0x72).unwrap();
        assert_eq!(log.aborts, [u16::from_le_bytes([0, abort.1])], "same slot and bSeq");
        assert!(seen.borrow().iter().all(|(_, seq, _)| *seq != abort.1), "a fresh bSeq");
        // What was agreed with the card is gone, and said to be.
        assert_eq!(card.transmit_owned(&[0, 0xA4, 0, 0], None), Err(Error::ResetCard));
        card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
        assert_eq!(card.transmit_owned(&[0, 0x10, 0, 0, 1, 7], None).unwrap(), [7, 0x90, 0][..]);
    }
}

/// After an Abort this device drops a command, the stack's own one by which it looks whether the reader
/// is in step. Who stops meanwhile leaves neither that one under way nor its Abort half done.
#[test]
fn stopping_after_a_cancel_leaves_the_reader_in_step() {
    let bench = bench();
    let context = bench.context();
    let card = bench.connect(&context);
    log(&bench);
    let canceller = context.canceller();
    std::thread::scope(|scope| {
        let transmit = scope.spawn(|| card.transmit_owned(&[0, 0x16, 0, 0], None));
        until("the command is on the wire", || {
            log(&bench).sent.iter().any(|(_, _, ins)| *ins == Some(0x16))
        });
        canceller.cancel().unwrap();
        assert_eq!(transmit.join().unwrap(), Err(Error::Cancelled));
    });
    bench.stack.shutdown();
    let log = log(&bench);
    let messages = log.sent.iter().filter(|(kind, ..)| *kind == 0x72).map(|(_, seq, _)| *seq);
    let requests = log.aborts.iter().map(|value| value.to_le_bytes()[1]);
    assert!(log.aborts.len() >= 2 && messages.eq(requests), "{:02X?} {:?}", log.aborts, log.sent);
    // Nothing but a question comes behind the end.
    let mut power = log.sent.iter().map(|(kind, ..)| *kind).filter(|kind| *kind != 0x65);
    assert_eq!(power.next_back(), Some(0x63), "IccPowerOff: {:?}", log.sent);
}

#[test]
fn unplugged_during_a_command() {
    let bench = bench();
    let context = bench.context();
    let card = bench.connect(&context);
    log(&bench);
    let transmit = run(move || {
        let result = card.transmit_owned(&[0, 0x16, 0, 0], None);
        (card, result)
    });
    until("the command is on the wire", || {
        log(&bench).sent.iter().any(|(_, _, ins)| *ins == Some(0x16))
    });
    bench.port.unplug();
    let (card, result) = transmit.join();
    assert_eq!(result, Err(Error::ReaderUnavailable));
    assert_eq!(card.transmit_owned(&[0, 0xA4, 0, 0], None), Err(Error::ReaderUnavailable));
    until("the reader is gone", || context.list_readers_owned().unwrap().is_empty());
    bench.port.plug();
    bench.attach();
    let card = bench.connect(&context);
    assert_eq!(card.transmit_owned(&[0, 0xA4, 0, 0], None).unwrap(), [0x90, 0][..]);
}
