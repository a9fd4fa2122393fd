//! Each function of the interface, called directly.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unsafe_code)]

mod driver;

use driver::*;
use ifdscard::exports::*;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

const ATR: [u8; 15] =
    [0x3B, 0x97, 0x95, 0x81, 0x31, 0xFE, 0x45, 0x80, 0x31, 0x80, 0x73, 0xF4, 0x21, 0x40, 0xDE];

/// The command never ends by itself.
const NEVER: [u8; 4] = [0x00, 0x16, 0, 0];

#[test]
fn the_library_exports_the_interface_and_nothing_else() {
    let library = std::env::current_exe().unwrap().with_file_name("libifdscard.so");
    let nm = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output();
    let nm = nm.unwrap_or_else(|error| panic!("nm: {error} (tests/packages installs it)"));
    let text = String::from_utf8(nm.stdout).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let expected = [
        "IFDHCloseChannel",
        "IFDHControl",
        "IFDHCreateChannel",
        "IFDHCreateChannelByName",
        "IFDHGetCapabilities",
        "IFDHICCPresence",
        "IFDHPowerICC",
        "IFDHSetCapabilities",
        "IFDHSetProtocolParameters",
        "IFDHTransmitToICC",
    ];
    assert_eq!(names, expected);
    let flags = Command::new("readelf").arg("-d").arg(&library).output().unwrap();
    assert!(String::from_utf8_lossy(&flags.stdout).contains("NODELETE"), "it stays loaded");
}

#[test]
fn a_session() {
    let slot = open("sim:default");
    assert_eq!(slot.presence(), SUCCESS);
    assert_eq!(slot.tag(0x0303, 33).0, TAG, "no ATR without power");
    assert_eq!(slot.power(UP), (SUCCESS, ATR.to_vec()));
    assert_eq!(slot.tag(0x0303, 33), (SUCCESS, ATR.to_vec()));
    assert_eq!(slot.protocol(1), PROTOCOL_NOT_SUPPORTED);
    assert_eq!(slot.protocol(2), SUCCESS);
    assert_eq!(slot.protocol(4), PROTOCOL_NOT_SUPPORTED);
    let command = [0x00, 0x10, 0, 0, 2, 0xAB, 0xCD];
    assert_eq!(slot.transmit(&command, 256), (SUCCESS, vec![0xAB, 0xCD, 0x90, 0x00]));
    assert_eq!(slot.transmit(&command, 4), (SUCCESS, vec![0xAB, 0xCD, 0x90, 0x00]));
    assert_eq!(slot.transmit(&command, 3), (INSUFFICIENT_BUFFER, vec![]));
    assert_eq!(slot.transmit(&[0x00], 256).0, COMMUNICATION, "no command");
    assert_eq!(slot.transmit(&[], 256).0, COMMUNICATION);
    assert_eq!(slot.power(RESET), (SUCCESS, ATR.to_vec()));
    assert_eq!(slot.power(DOWN), (SUCCESS, vec![]));
    assert_eq!(slot.power(503).0, NOT_SUPPORTED);
    assert_eq!(slot.transmit(&command, 256).0, COMMUNICATION, "no power");
    assert_eq!(slot.close(), SUCCESS);
    assert_eq!(slot.close(), NO_SUCH_DEVICE);
    let mute = open("sim:mute");
    assert_eq!(mute.power(UP), (POWER_ACTION, vec![]));
    let empty = open("sim:empty");
    assert_eq!(empty.presence(), NO_CARD);
    assert_eq!(empty.power(UP), (NO_CARD, vec![]));
    assert_eq!((mute.close(), empty.close()), (SUCCESS, SUCCESS));
}

#[test]
fn tags() {
    let slot = open("sim:default");
    for (tag, value) in [
        (0x0FAC, vec![1]),
        (0x0FAD, vec![1]),
        (0x0FAE, vec![1]),
        (0x0FAF, vec![255]),
        (0x0FB1, vec![0]),
        (0x0FB4, vec![1]),
        (0x0009_0300, vec![2]),
        (0x0009_0301, vec![1]),
        (0x0002_0110, vec![0, 0, 0x20, 0]),
    ] {
        assert_eq!(slot.tag(tag, value.len()), (SUCCESS, value), "{tag:X}h");
    }
    for (tag, length) in [(0x0FB3, 8), (0x0FB2, 8), (0x0001_0102, 4), (0x0007_A007, 4)] {
        assert_eq!(slot.tag(tag, 264).1.len(), length, "{tag:X}h");
        let mut room = length as Dword - 1;
        let mut value = [0xEE; 8];
        // SAFETY: the length is less than that of the buffer.
        let code = unsafe { IFDHGetCapabilities(slot.0, tag, &raw mut room, value.as_mut_ptr()) };
        assert_eq!((code, room), (INSUFFICIENT_BUFFER, length as Dword));
        assert_eq!(value, [0xEE; 8]);
        // SAFETY: only the length is asked for.
        let code = unsafe { IFDHGetCapabilities(slot.0, tag, &raw mut room, null_mut()) };
        assert_eq!((code, room), (SUCCESS, length as Dword));
    }
    for tag in [0x0001_0100, 0x0001_0103] {
        let (code, text) = slot.tag(tag, 264);
        assert_eq!((code, text.last()), (SUCCESS, Some(&0)), "{tag:X}h");
    }
    for tag in [0, 0x0180, 0x0FB0, 0x7FFF_0003, 0x7FFF_0004, 0xFFFF_FFFF, 1 << 40] {
        assert_eq!(slot.tag(tag, 264).0, TAG, "{tag:X}h");
        assert_eq!(slot.set(tag, &[1]), TAG, "{tag:X}h");
    }
    assert_eq!(slot.set(0x0FB4, &[1]), SUCCESS);
    assert_eq!(slot.set(ESC_CANCEL, &[]), SUCCESS, "nothing is running: nothing happens");
    slot.close();
}

/// No pointer is followed that is null, and no Lun believed.
#[test]
fn what_a_caller_must_not_do() {
    let slot = open("sim:default");
    let pci = ScardIoHeader { protocol: 1, length: 16 };
    let command = [0x00, 0x10, 0, 0, 1, 0xAB];
    let (mut buffer, mut length) = ([0u8; 64], 64);
    let (out, room) = (buffer.as_mut_ptr(), &raw mut length);
    let huge = Dword::MAX;
    // SAFETY: pointers are null or valid.
    unsafe {
        assert_eq!(IFDHCreateChannelByName(fresh().0, null()), COMMUNICATION);
        assert_eq!(IFDHGetCapabilities(slot.0, 0x0FAE, null_mut(), out), COMMUNICATION);
        assert_eq!(IFDHSetCapabilities(slot.0, ESC_CANCEL, huge, null()), SUCCESS);
        assert_eq!(IFDHPowerICC(slot.0, UP, null_mut(), room), COMMUNICATION);
        assert_eq!(IFDHPowerICC(slot.0, UP, out, null_mut()), COMMUNICATION);
        assert_eq!(IFDHPowerICC(slot.0, DOWN, null_mut(), null_mut()), SUCCESS);
        assert_eq!(slot.power(UP).0, SUCCESS);
        let mut transmit = |tx, tx_length, rx, rx_length| {
            length = 64;
            IFDHTransmitToICC(slot.0, pci, tx, tx_length, rx, rx_length, null_mut())
        };
        assert_eq!(transmit(null(), 6, out, room), COMMUNICATION);
        assert_eq!(transmit(command.as_ptr(), 6, null_mut(), room), COMMUNICATION);
        assert_eq!(transmit(command.as_ptr(), 6, out, null_mut()), COMMUNICATION);
        assert_eq!(transmit(null(), huge, out, room), COMMUNICATION);
        assert_eq!(transmit(command.as_ptr(), 6, out, room), SUCCESS);
        let control = |tx, rx, returned| IFDHControl(slot.0, 0x4200_0D48, tx, 0, rx, 64, returned);
        assert_eq!(control(null(), null_mut(), room), INSUFFICIENT_BUFFER);
        assert_eq!(control(null(), out, null_mut()), COMMUNICATION);
        assert_eq!(control(null(), out, room), SUCCESS);
    }
    for unknown in [fresh(), Slot(slot.0 + 1), Slot(huge)] {
        assert_eq!(unknown.presence(), NO_SUCH_DEVICE);
        assert_eq!(unknown.close(), NO_SUCH_DEVICE);
        assert_eq!(unknown.power(UP).0, NO_SUCH_DEVICE);
        assert_eq!(unknown.protocol(2), NO_SUCH_DEVICE);
        assert_eq!(unknown.transmit(&command, 64).0, NO_SUCH_DEVICE);
        assert_eq!(unknown.control(0x4200_0D48, &[], 64).0, NO_SUCH_DEVICE);
        assert_eq!(unknown.tag(0x0FAE, 1).0, NO_SUCH_DEVICE);
        assert_eq!(unknown.set(ESC_CANCEL, &[]), NO_SUCH_DEVICE);
    }
    slot.close();
}

/// One buffer for the command and its answer.
#[test]
fn buffers_may_be_the_same() {
    let slot = open("sim:default");
    assert_eq!(slot.power(UP).0, SUCCESS);
    let mut buffer = [0x00, 0x10, 0, 0, 4, 1, 2, 3, 4];
    let mut length = buffer.len() as Dword;
    let both = buffer.as_mut_ptr();
    let pci = ScardIoHeader { protocol: 1, length: 16 };
    // SAFETY: the length is that of the buffer, which may be both.
    let code =
        unsafe { IFDHTransmitToICC(slot.0, pci, both, length, both, &raw mut length, null_mut()) };
    assert_eq!((code, &buffer[..length as usize]), (SUCCESS, &[1, 2, 3, 4, 0x90, 0x00][..]));
    slot.close();
}

#[test]
fn names() {
    for name in
        ["", "sim:", "sim:nonsense", "/dev/null", "usb:nonsense", "trace:/nowhere", "é\u{1b}"]
    {
        assert_eq!(fresh().open(name), COMMUNICATION, "{name:?}");
    }
    let nowhere = fresh().open("usb:08e6/3437:libudev:0:/dev/bus/usb/000/000");
    assert_eq!(nowhere, NO_SUCH_DEVICE, "an interface that is no reader");
    let quoted = fresh();
    assert_eq!(quoted.open("\"sim:default\""), SUCCESS, "as reader.conf has it");
    assert_eq!(quoted.open("sim:default"), COMMUNICATION, "it is open");
    assert_eq!(quoted.close(), SUCCESS);
    // SAFETY: not a string of UTF-8, but of C.
    let code = unsafe { IFDHCreateChannelByName(fresh().0, c"sim:\xFF".as_ptr()) };
    assert_eq!(code, COMMUNICATION);
}

/// The slots of a device share one reader, and the last that is closed closes it.
#[test]
fn slots() {
    let first = open("sim:three-slots");
    let slot = |number| Slot(first.0 + number);
    assert_eq!(first.tag(0x0FAE, 1), (SUCCESS, vec![3]));
    assert_eq!(slot(1).open("sim:default"), COMMUNICATION, "another device");
    assert_eq!(slot(1).open("sim:three-slots"), SUCCESS);
    assert_eq!(slot(2).open("sim:three-slots"), SUCCESS);
    assert_eq!(slot(3).open("sim:three-slots"), NO_SUCH_DEVICE);
    assert_eq!(slot(0x100).open("sim:three-slots"), NO_SUCH_DEVICE);
    assert_eq!([0, 1, 2].map(|n| slot(n).presence()), [SUCCESS, SUCCESS, NO_CARD]);
    assert_eq!(first.power(UP).0, SUCCESS);
    assert_eq!(slot(1).power(UP).0, SUCCESS);
    assert_eq!(first.close(), SUCCESS);
    assert_eq!(slot(1).transmit(&[0x00, 0x14, 0, 0], 64), (SUCCESS, vec![0x90, 0x00]));
    assert_eq!((slot(1).close(), slot(2).close()), (SUCCESS, SUCCESS));
}

#[test]
fn waiting_for_a_card() {
    let mut reader = Handled::open("default");
    let slot = reader.slot;
    let began = Instant::now();
    assert_eq!(slot.presence(), SUCCESS);
    assert_eq!(slot.poll(30), SUCCESS);
    assert!(began.elapsed() >= Duration::from_millis(30), "nothing happens");
    std::thread::scope(|scope| {
        // As pcscd's thread does it: wait, then look.
        let turn = || {
            let code = slot.poll(600_000);
            (code, slot.presence())
        };
        assert_eq!(slot.presence(), SUCCESS);
        reader.say("remove");
        assert_eq!(turn(), (SUCCESS, NO_CARD));
        reader.say("insert");
        assert_eq!(turn(), (SUCCESS, SUCCESS));
        // Ended by another thread, before the wait and in it.
        slot.stop();
        assert_eq!(turn(), (SUCCESS, SUCCESS));
        let waits = scope.spawn(|| slot.poll(600_000));
        assert_eq!(slot.stop(), SUCCESS);
        assert_eq!(waits.join().unwrap(), SUCCESS);
        let waits = scope.spawn(|| slot.poll(5_000));
        assert_eq!(slot.stop(), SUCCESS);
        assert_eq!(waits.join().unwrap(), SUCCESS);
        // The plug is pulled.
        assert_eq!(slot.presence(), SUCCESS);
        let waits = scope.spawn(|| slot.poll(600_000));
        reader.say("unplug");
        assert_eq!(waits.join().unwrap(), NO_SUCH_DEVICE);
    });
    assert_eq!(slot.presence(), NO_SUCH_DEVICE);
    assert_eq!(slot.close(), SUCCESS);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// A command that never ends is ended: by the attribute, by taking out the card, by pulling the
/// plug, by closing the channel. The thread that waits for it returns with a code that pcscd passes
/// on at once; that the reader is gone is told from the next call on.
#[test]
fn a_command_that_hangs_is_ended() {
    type Way = fn(&mut Handled);
    let ways: [(Way, ResponseCode, ResponseCode); 4] = [
        (|reader| assert_eq!(reader.slot.set(ESC_CANCEL, &[0]), SUCCESS), COMMUNICATION, SUCCESS),
        (|reader| drop(reader.say("remove")), NO_CARD, COMMUNICATION),
        (|reader| drop(reader.say("unplug")), NO_CARD, NO_SUCH_DEVICE),
        (|reader| assert_eq!(reader.slot.close(), SUCCESS), COMMUNICATION, NO_SUCH_DEVICE),
    ];
    for (way, code, next) in ways {
        let mut reader = Handled::open("default");
        let slot = reader.slot;
        assert_eq!(slot.power(UP).0, SUCCESS);
        let waits = std::thread::spawn(move || slot.transmit(&NEVER, 64));
        reader.until_seen("> XfrBlock");
        let began = Instant::now();
        way(&mut reader);
        assert_eq!(waits.join().unwrap(), (code, vec![]));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(slot.transmit(&[0x00, 0x10, 0, 0, 1, 7], 64).0, next);
        slot.close();
    }
}

/// Calls for the slots of one reader, and for the same slot, from many threads.
#[test]
fn threads() {
    let first = open("sim:eight-slots");
    let slots: Vec<_> = (0..8).map(|number| Slot(first.0 + number)).collect();
    for slot in &slots[1..] {
        assert_eq!(slot.open("sim:eight-slots"), SUCCESS);
    }
    std::thread::scope(|scope| {
        for slot in &slots {
            assert_eq!(slot.power(UP).0, SUCCESS);
            for thread in 0..3u8 {
                scope.spawn(move || {
                    for round in 0..50u8 {
                        let length = 1 + (thread * 50 + round) % 100;
                        let command = [0x00, 0x12, 0, length, length];
                        let (code, response) = slot.transmit(&command, 300);
                        assert_eq!(code, SUCCESS);
                        assert_eq!(response.len(), usize::from(length) + 2);
                        assert_eq!(slot.presence(), SUCCESS);
                    }
                });
            }
        }
    });
    for slot in slots {
        assert_eq!(slot.close(), SUCCESS);
    }
}

/// Readers that fail: one of rubbish, and two whose software panics.
#[test]
fn readers_that_fail() {
    let broken = fresh();
    assert_eq!(broken.open("sim:panics-when-opened"), COMMUNICATION);
    assert_eq!(broken.close(), NO_SUCH_DEVICE);
    let garbage = fresh();
    let opened = garbage.open("sim:garbage");
    if opened == SUCCESS {
        assert_ne!(garbage.power(UP).0, SUCCESS);
        garbage.close();
    }
    let other = open("sim:default");
    assert_eq!(other.power(UP).0, SUCCESS);
    other.close();
}
