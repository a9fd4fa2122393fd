//! Protocol and rate, as scripts: what dwFeatures leaves to the host, PPS and what comes of it, specific
//! mode.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod setup;

use ccid::atr::Protocol;
use ccid::error::{Breach, Unsupported};
use ccid::wire::{
    ChainParameter, ClassRequest, Command, IccStatus, LevelParameter, PowerSelect, Response,
    SlotError, Status,
};
use ccid::{Error, Event};
use setup::{
    AUTO_PPS, BOTH, FAST, FROM_ATR, NEGOTIATES, PLAIN, PPS_T0_95, PPS_T1, PPS_T1_95, SHORT, SLOT,
    Script, T1, TPDU, t0, t1,
};

// dwFeatures, bit by bit.

#[test]
fn automatic_negotiation_leaves_nothing_to_do() {
    for more in [0, AUTO_PPS, FROM_ATR] {
        let mut script = Script::powered(TPDU | NEGOTIATES | more, BOTH);
        script.set(Protocol::T1);
        script.done();
    }
}

#[test]
fn automatic_pps_leaves_the_parameters() {
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // And the choice of the protocol.
    let mut script = Script::powered(SHORT | AUTO_PPS, BOTH);
    script.set(Protocol::T1);
    script.parameters(&t1(0x95), &t1(0x95));
    script.done();
}

#[test]
fn without_automatic_pps_the_host_does_it() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // Nothing better than the default, and no switch: no PPS.
    let mut script = Script::powered(TPDU, PLAIN);
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
    // The card's own T=1 parameters.
    let mut script = Script::powered(TPDU, T1);
    script.set(Protocol::T1);
    script.parameters(&[0x11, 0x10, 0, 0x45, 0, 0x80, 0], &[]);
    script.done();
}

/// No PPS goes through as an APDU.
#[test]
fn an_apdu_level_without_pps_stays_at_the_first_protocol_and_rate() {
    let mut script = Script::powered(SHORT, BOTH);
    script.set(Protocol::T1);
    script.unsupported(Unsupported::Pps(1));
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

/// Bits that change nothing here: activation, clock, baud rate, clock stop, NAD, IFSD, ICCD, wake
/// up. (Activation and voltage decide the power-up.)
#[test]
fn other_bits_change_nothing() {
    for bit in [0x10, 0x20, 0x100, 0x200, 0x400, 0x800, 0x10_0000] {
        let mut script = Script::powered(TPDU | bit, FAST);
        script.set(Protocol::T0);
        script.pps(PPS_T0_95, PPS_T0_95);
        script.parameters(&t0(0x95), &t0(0x95));
        script.done();
    }
}

#[test]
fn at_character_level_the_length_of_the_response_is_told() {
    let mut script = Script::powered(0, FAST);
    script.set(Protocol::T0);
    let level_parameter = LevelParameter(4);
    let command = Command::XfrBlock { bwi: 0, level_parameter, data: PPS_T0_95 };
    let (_, seq) = script.sent(command);
    script.data(seq, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn inverse_convention_guard_time_and_waiting_time_are_passed_on() {
    // TC(1) = 5, TC(2) = 20.
    let mut script = Script::powered(TPDU, &[0x3F, 0xC0, 0x05, 0x40, 0x14]);
    script.set(Protocol::T0);
    script.parameters(&[0x11, 0x02, 5, 20, 0], &[]);
    script.done();
}

// PPS and what comes of it.

#[test]
fn a_card_may_refuse_the_rate_and_take_the_protocol() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1);
    script.parameters(&t1(0x11), &t1(0x11));
    script.done();
}

#[test]
fn a_failed_pps_ends_with_a_reset_and_the_defaults() {
    let wrong = [0xFF, 0x10, 0x95, 0x00];
    for response in [None, Some(&wrong[..]), Some(&[][..]), Some(PPS_T1_95)] {
        let mut script = Script::powered(TPDU, FAST);
        script.set(Protocol::T0);
        match response {
            Some(response) => script.pps(PPS_T0_95, response),
            None => {
                let seq = script.block_sent(PPS_T0_95);
                script.failed(seq, SlotError::IccMute);
            }
        }
        script.reset(FAST);
        script.parameters(&t0(0x11), &t0(0x11));
        script.done();
        assert!(script.reader.is_powered(SLOT));
    }
}

#[test]
fn a_switch_that_fails_twice_is_an_error_and_the_card_is_fresh() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    let seq = script.block_sent(PPS_T1_95);
    script.failed(seq, SlotError::IccMute);
    script.reset(BOTH);
    // The protocol alone.
    script.pps(PPS_T1, &[0xFF, 0x00, 0xFF]);
    script.reset(BOTH);
    let completed = script.completed();
    assert!(
        matches!(completed, Err(Error::Misbehaved { breach: Breach::BadPps, .. })),
        "{completed:?}"
    );
    script.quiet();
    assert!(script.reader.is_powered(SLOT));
    // The card's own protocol is still to be had, without another reset.
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn a_card_that_does_not_come_back_has_no_power() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    script.failed(seq, SlotError::IccMute);
    script.off();
    for power_select in [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8] {
        let (_, seq) = script.sent(Command::IccPowerOn { power_select });
        let status = Status::failed(IccStatus::PresentInactive, SlotError::IccMute);
        let chain = ChainParameter::Whole;
        script.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
        if power_select != PowerSelect::V1_8 {
            script.off();
        }
    }
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: false }));
    assert_eq!(script.completed(), Err(Error::CardMute));
    assert!(!script.reader.is_powered(SLOT));
}

#[test]
fn a_card_taken_out_in_between_is_gone() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    let status = Status::failed(IccStatus::NotPresent, SlotError::IccMute);
    script.answer(
        SLOT,
        seq,
        Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] },
    );
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.completed(), Err(Error::NoCard));
    script.quiet();
}

/// A PPS to a card that is past it would be a command.
#[test]
fn what_was_set_or_used_decides_what_is_still_possible() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // Set before: nothing.
    script.set(Protocol::T0);
    script.done();
    script.exchange();
    script.set(Protocol::T0);
    script.done();
    // Another one: by a reset.
    script.set(Protocol::T1);
    script.reset(BOTH);
    script.pps(PPS_T1_95, PPS_T1_95);
    script.parameters(&t1(0x95), &t1(0x95));
    script.done();
    // So too where the reader does the PPS.
    let mut script = Script::powered(TPDU | AUTO_PPS, BOTH);
    script.exchange();
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &[]);
    script.done();
    script.set(Protocol::T1);
    script.reset(BOTH);
    script.parameters(&t1(0x95), &[]);
    script.done();
    // An exchange before anything was set.
    let mut script = Script::powered(TPDU, FAST);
    script.exchange();
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

#[test]
fn cancel_ends_a_pps_by_an_abort_and_the_card_comes_back() {
    let mut script = Script::powered(TPDU, FAST);
    let id = script.set(Protocol::T0);
    script.block_sent(PPS_T0_95);
    script.reader.cancel(id, script.now);
    let request = script.request();
    let ClassRequest::Abort { seq, .. } = request else { panic!("{request:?}") };
    script.reader.handle_control(request, Some(&[]), script.now);
    script.sent(Command::Abort);
    script.status(SLOT, seq, Status::success(IccStatus::PresentActive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.reset(FAST);
    assert!(matches!(script.event(), Some(Event::CardReset { result: Ok(_), .. })));
}

#[test]
fn cancel_in_the_middle_of_a_reset_leaves_no_power_assumed() {
    let mut script = Script::powered(TPDU, FAST);
    let id = script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    script.failed(seq, SlotError::IccMute);
    let (_, off) = script.sent(Command::IccPowerOff);
    script.reader.cancel(id, script.now);
    script.status(SLOT, off, Status::success(IccStatus::PresentInactive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: false }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert!(!script.reader.is_powered(SLOT));
    script.quiet();
}

// Specific mode.

/// TD(1) with TA(2), whose value is `ta2`; TA(1) is `ta1`.
fn specific(ta1: u8, ta2: u8) -> Vec<u8> {
    vec![0x3B, 0x90, ta1, 0x10, ta2]
}

#[test]
fn specific_mode_is_taken_as_it_is() {
    let mut script = Script::powered(TPDU, &specific(0x95, 0x80));
    script.set(Protocol::T0);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn specific_mode_that_cannot_be_left_must_suit() {
    for (ta1, ta2, what) in [
        (0x97, 0x80, Unsupported::Rate(0x97)),
        (0x95, 0x90, Unsupported::ImplicitParameters(0x90)),
        (0x95, 0x81, Unsupported::Protocol(0)),
    ] {
        let mut script = Script::powered(TPDU, &specific(ta1, ta2));
        script.set(Protocol::T0);
        script.unsupported(what);
    }
    // A reader that has read the ATR itself may know the implicit ones.
    let mut script = Script::powered(TPDU | FROM_ATR, &specific(0x95, 0x90));
    script.set(Protocol::T0);
    script.done();
}

#[test]
fn specific_mode_that_can_be_left_is_left_by_a_warm_reset_once() {
    let mut script = Script::powered(TPDU, &specific(0x97, 0x00));
    script.set(Protocol::T0);
    script.on(PowerSelect::V5, FAST);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    let mut script = Script::powered(TPDU, &specific(0x97, 0x00));
    script.set(Protocol::T0);
    script.on(PowerSelect::V5, &specific(0x97, 0x00));
    script.unsupported(Unsupported::Rate(0x97));
}
