//! What a reader is asked and told when it is opened, as scripts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod setup;

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::quirk::Flags;
use ccid::wire::{
    ClassRequest, Command, IccStatus, Message, PowerSelect, Response, SlotError, Status,
};
use ccid::{ClassDescriptor, Event, Operation, Options, Transmit};
use setup::{FAST, NEGOTIATES, PPS_T0_95, SLOT, Script, TPDU, class, t0};
use std::time::Duration;

fn with_tables(features: u32, rates: u8, clocks: u8) -> ClassDescriptor {
    let class = class(features);
    ClassDescriptor { num_data_rates_supported: rates, num_clock_supported: clocks, ..class }
}

fn open(class: ClassDescriptor) -> Script {
    Script::opened(class, "", Options::default())
}

fn bytes_of(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn the_data_rates_are_asked_for_and_kept_to() {
    for (told, best, pps) in [
        // 0x95 is 125,000 bit/s, 0x94 62,500, 0x98 93,750.
        (&[10_753, 62_500, 125_000][..], 0x95, PPS_T0_95),
        (&[10_753, 62_500], 0x94, &[0xFF, 0x10, 0x94, 0x7B]),
        (&[10_753, 93_751], 0x98, &[0xFF, 0x10, 0x98, 0x77]),
    ] {
        let mut script = open(with_tables(TPDU, told.len() as u8, 1));
        assert_eq!(script.request(), ClassRequest::GetDataRates { length: told.len() as u16 * 4 });
        // The slots wait.
        script.quiet();
        let request = ClassRequest::GetDataRates { length: told.len() as u16 * 4 };
        script.reader.handle_control(request, Some(&bytes_of(told)), script.now);
        assert_eq!(script.reader.data_rates(SLOT), told);
        script.meet_card();
        script.power(PowerSelect::V5, FAST);
        script.set(Protocol::T0);
        script.pps(pps, pps);
        script.parameters(&t0(best), &[]);
        script.done();
    }
}

#[test]
fn a_stall_or_rubbish_leaves_no_table() {
    let rubbish = bytes_of(&[0x2032_3234, 1, u32::MAX]);
    for answer in [None, Some(&[][..]), Some(&rubbish[..]), Some(&[1, 2, 3])] {
        let mut script = open(with_tables(TPDU, 3, 0));
        let request = script.request();
        script.reader.handle_control(request, answer, script.now);
        assert_eq!(script.reader.data_rates(SLOT), []);
        script.meet_card();
        script.power(PowerSelect::V5, FAST);
        script.set(Protocol::T0);
        script.pps(PPS_T0_95, PPS_T0_95);
    }
}

#[test]
fn a_request_that_never_ends_does_not_stop_the_reader() {
    let mut script = open(with_tables(TPDU, 3, 0));
    let request = script.request();
    let id = script.start(Operation::Status);
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_secs(1));
    let (slot, seq) = script.sent(Command::GetSlotStatus);
    // Its late end changes nothing.
    script.reader.handle_control(request, Some(&bytes_of(&[62_500])), script.now);
    assert_eq!(script.reader.data_rates(SLOT), []);
    script.status(slot, seq, Status::success(IccStatus::PresentInactive));
    assert_eq!(script.event(), Some(Event::Presence { slot, present: true }));
    let completed = script.event();
    assert!(matches!(completed, Some(Event::Completed { id: ended, .. }) if ended == id));
}

#[test]
fn nothing_is_asked_that_is_not_needed() {
    for class in
        [with_tables(TPDU | NEGOTIATES, 9, 9), with_tables(TPDU, 0, 9), with_tables(TPDU, 0, 0)]
    {
        open(class).meet_card();
    }
}

#[test]
fn the_clocks_are_asked_for_where_the_descriptors_makes_no_sense() {
    let class = ClassDescriptor { default_clock: 1_024_000, ..with_tables(TPDU, 0, 2) };
    let mut script = open(class);
    let request = script.request();
    assert_eq!(request, ClassRequest::GetClockFrequencies { length: 8 });
    script.reader.handle_control(request, Some(&bytes_of(&[3580, 7160])), script.now);
    assert_eq!(script.reader.class().default_clock, 3580);
    script.meet_card();
}

#[test]
fn a_reader_is_left_alone_after_opening() {
    let row = "FFFF:FFFF open-delay=1500 open-escape=1F02 open-escape=AA";
    let mut script = Script::opened(with_tables(TPDU, 1, 0), row, Options::default());
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_millis(1500));
    let request = script.request();
    script.reader.handle_control(request, None, script.now);
    for (data, works) in [(&[0x1F, 0x02][..], true), (&[0xAA], false)] {
        let (slot, seq) = script.sent(Command::Escape { data });
        let status = match works {
            true => Status::success(IccStatus::PresentInactive),
            false => Status::failed(IccStatus::PresentInactive, SlotError::CmdNotSupported),
        };
        script.answer(slot, seq, Response::Escape { status, data: &[] });
        if works {
            assert!(matches!(script.event(), Some(Event::Presence { present: true, .. })));
        }
    }
    assert_eq!(script.event(), Some(Event::Opened));
    let (slot, seq) = script.sent(Command::GetSlotStatus);
    script.status(slot, seq, Status::success(IccStatus::PresentInactive));
    script.quiet();
}

/// Gemalto: the feature block changes how PINs are asked for, and the firmware has a name. Firmware
/// that knows none of it is used without.
#[test]
fn what_a_reader_tells_of_itself_is_heeded() {
    let row = "FFFF:* pin-feature-block pin-modify-three-indexes firmware-name";
    let mut block = [0; 21];
    (block[3], block[8], block[13], block[14]) = (0x02, 0x04, 4, 8);
    for told in [true, false] {
        let mut script = Script::opened(class(TPDU), row, Options::default());
        let before = script.reader.behaviour().clone();
        for (data, answer) in [(&[0x6A][..], &block[..]), (&[0x02], b"GemPC 1.0")] {
            let (slot, seq) = script.sent(Command::Escape { data });
            if told {
                let status = Status::success(IccStatus::NotPresent);
                script.answer(slot, seq, Response::Escape { status, data: answer });
            } else {
                let status = Status::failed(IccStatus::NotPresent, SlotError::CmdNotSupported);
                script.answer(slot, seq, Response::Escape { status, data: &[] });
            }
        }
        assert!(matches!(script.event(), Some(Event::Presence { present: false, .. })));
        assert_eq!(script.event(), Some(Event::Opened));
        let behaviour = script.reader.behaviour();
        if told {
            assert!(!behaviour.flags.contains(Flags::PIN_MODIFY_THREE_INDEXES));
            assert_eq!((behaviour.pin_conditions, &behaviour.pin_length), (Some(2), &Some(4..=8)));
            assert_eq!(behaviour.firmware_name, Some(Bytes::from_static(b"GemPC 1.0")));
        } else {
            assert_eq!(*behaviour, before);
        }
        // Then it is a reader as any other.
        script.sent(Command::GetSlotStatus);
    }
}

/// A reader that says nothing to a question is in use after three seconds, and whole.
#[test]
fn a_question_without_an_answer_does_not_stop_the_reader() {
    let mut script = Script::opened(class(TPDU), "FFFF:* pin-feature-block", Options::default());
    script.sent(Command::Escape { data: &[0x6A] });
    assert_eq!(script.timeout(), Duration::from_secs(3));
    let request @ ClassRequest::Abort { slot, seq } = script.request() else { panic!() };
    script.reader.handle_control(request, Some(&[]), script.now);
    assert_eq!(script.sent(Command::Abort), (slot, seq));
    script.status(slot, seq, Status::success(IccStatus::PresentInactive));
    assert_eq!(script.event(), Some(Event::Presence { slot, present: true }));
    assert_eq!(script.event(), Some(Event::Opened));
    script.sent(Command::GetSlotStatus);
}

/// GemPC Pinpad: the ten strings of its display, then the rest.
#[test]
fn the_strings_of_a_display_are_loaded() {
    let row = "FFFF:* pin-strings open-escape=B500";
    let mut script = Script::opened(class(TPDU), row, Options::default());
    let Some(Transmit::BulkOut(bytes)) = script.reader.poll_transmit() else { panic!() };
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.message_type, message.data.len()), (0x6B, 5 + 10 * 16));
    assert_eq!(message.data[..5], [0xB2, 0xA0, 0x00, 0x4D, 0x4C]);
    let status = Status::failed(IccStatus::NotPresent, SlotError::CmdNotSupported);
    script.answer(SLOT, message.seq, Response::Escape { status, data: &[] });
    script.sent(Command::Escape { data: &[0xB5, 0x00] });
}
