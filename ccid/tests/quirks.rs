//! What particular readers need, by its kind, as scripts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod setup;

use ccid::atr::Protocol;
use ccid::error::Unsupported;
use ccid::operation::PowerUp;
use ccid::wire::{Command, IccStatus, Message, PowerSelect, Response, Slot, SlotError, Status};
use ccid::{ClassDescriptor, Error, Operation, Options, Output, Transmit};
use setup::{
    AUTO_PPS, AUTO_VOLTAGE, BOTH, FAST, NEGOTIATES, PLAIN, SHORT, SLOT, Script, TPDU, class, t0, t1,
};
use std::time::Duration;

#[test]
fn no_pps_stays_at_the_default() {
    let mut script = Script::with_row(class(TPDU), "FFFF:FFFF no-pps");
    script.power(PowerSelect::V5, BOTH);
    script.set(Protocol::T1);
    script.unsupported(Unsupported::Pps(1));
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &[]);
    script.done();
}

#[test]
fn a_greatest_data_rate_caps_the_choice() {
    let mut script = Script::with_row(class(TPDU), "FFFF:FFFF max-data-rate=100000");
    script.power(PowerSelect::V5, FAST);
    script.set(Protocol::T0);
    script.block_sent(&[0xFF, 0x10, 0x98, 0x77]);
}

/// Alcor AU9540: T=1 parameters are refused, and T=1 works.
#[test]
fn parameters_can_be_taken_for_accepted() {
    let mut script = Script::with_row(class(TPDU | AUTO_PPS), "FFFF:FFFF accept-parameters");
    script.power(PowerSelect::V5, BOTH);
    script.set(Protocol::T1);
    script.parameters_refused(&t1(0x95), SlotError::HwError);
    script.reset(BOTH);
    script.parameters_refused(&t1(0x11), SlotError::HwError);
    script.done();
}

#[test]
fn the_power_is_cut_before_each_power_up() {
    let mut script = Script::with_row(class(TPDU), "FFFF:* off-before-on");
    script.start(Operation::PowerOn(PowerUp::Warm));
    script.reset(PLAIN);
    assert!(script.completed().is_ok());
}

/// GemPC433: BBh until it is in ISO mode; and not for ever.
#[test]
fn iso_mode_is_switched_on_once() {
    let voltage_support = ccid::descriptor::Voltages::V5;
    for works in [true, false] {
        let class = ClassDescriptor { voltage_support, ..class(TPDU) };
        let mut script = Script::with_row(class, "FFFF:FFFF iso-mode");
        script.start(Operation::PowerOn(PowerUp::Warm));
        let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::V5 });
        script.failed(seq, SlotError::Unknown(0xBB));
        let (_, seq) = script.sent(Command::Escape { data: &[0x1F, 0x01] });
        let status = Status::success(IccStatus::PresentInactive);
        script.answer(SLOT, seq, Response::Escape { status, data: &[] });
        let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::V5 });
        if works {
            script.data(seq, PLAIN);
            assert!(script.completed().is_ok());
        } else {
            script.failed(seq, SlotError::Unknown(0xBB));
            assert!(matches!(script.completed(), Err(Error::Failed { .. })));
        }
        script.quiet();
    }
}

/// O2Micro OZ776: no answer of 64 bytes, or 128, with its header.
#[test]
fn full_packets_are_avoided_at_character_level() {
    let asked = |row: &str, le: u8| {
        let mut script = Script::with_row(class(NEGOTIATES | AUTO_VOLTAGE), row);
        script.power(PowerSelect::Automatic, PLAIN);
        script.start(Operation::Exchange(vec![0x00, 0xB0, 0x00, 0x00, le].into()));
        let mut card = [&[0xB0][..], &vec![0x55; le.into()], &[0x90, 0x00]].concat();
        let mut asked = Vec::new();
        while let Some(Transmit::BulkOut(bytes)) = script.reader.poll_transmit() {
            let message = Message::parse(&bytes).unwrap();
            let [_, length, _] = message.specific;
            asked.push(length);
            let answer: Vec<u8> = card.drain(..usize::from(length)).collect();
            script.data(message.seq, &answer);
        }
        let response = [&vec![0x55; le.into()][..], &[0x90, 0x00]].concat();
        assert_eq!(script.completed(), Ok(Output::Data(response.into())));
        asked
    };
    let row = "FFFF:FFFF split-full-packets";
    for (le, split) in [(53, &[53][..]), (54, &[1, 53]), (55, &[55]), (118, &[1, 117])] {
        // Procedure byte, data, SW1, SW2.
        assert_eq!(asked(row, le), [&[1], split, &[1, 1]].concat());
        assert_eq!(asked("", le), [1, le, 1, 1]);
    }
}

#[test]
fn a_slow_reader_gets_its_time() {
    let mut script = Script::opened(class(TPDU), "FFFF:FFFF reader-time=12000", Options::default());
    script.sent(Command::GetSlotStatus);
    assert_eq!(script.timeout(), Duration::from_secs(12));
}

#[test]
fn a_reader_without_time_extensions_gets_more() {
    let time = |row| {
        let mut script = Script::with_row(class(SHORT | NEGOTIATES), row);
        script.power(PowerSelect::V5, PLAIN);
        script.set(Protocol::T0);
        script.done();
        script.exchange()
    };
    assert_eq!(time("FFFF:FFFF extra-time=60000") - time(""), Duration::from_secs(60));
    // Never beyond the limit.
    assert_eq!(time("FFFF:FFFF extra-time=600000"), Options::default().total_limit);
}

#[test]
fn the_other_slots_may_have_rates_of_their_own() {
    let class = ClassDescriptor { max_slot_index: 1, ..class(TPDU) };
    let script = Script::opened(class, "FFFF:FFFF slot-rates=10753,125000", Options::default());
    assert_eq!(script.reader.data_rates(Slot(0)), []);
    assert_eq!(script.reader.data_rates(Slot(1)), [10_753, 125_000]);
}

/// The OpenPGP card 1.x: TB(3) says 45h, and it takes longer.
#[test]
fn a_card_known_to_be_slower_than_it_says_gets_its_time() {
    let atr = [
        0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0, 0x01,
        0x00, 0x00, 0x90, 0x00, 0xB1,
    ];
    let mut script = Script::powered(SHORT | AUTO_PPS, &atr);
    script.set(Protocol::T1);
    script.parameters(&[0x13, 0x10, 0xFF, 0x75, 0, 0x80, 0], &[]);
    script.done();
}
