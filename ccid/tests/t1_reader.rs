//! T=1 through a reader that leaves it to the host: TPDU and character level.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "host/mod.rs"]
mod host;
#[path = "t1_card/mod.rs"]
mod t1_card;

use ccid::error::CardFault;
use ccid::operation::PowerUp;
use ccid::t1::{CheckCode, Failure, Nad};
use ccid::wire::{IccStatus, SlotError};
use ccid::{Error, Event, Operation, Options, Output};
use host::{
    A0, A1, APDU, CHARACTER, I0, I1, OK, R0, RESYNCH, RESYNCHED, SLOT, Script, T1_ATR, TPDU,
};
use proptest::prelude::*;
use std::time::Duration;
use t1_card::{Card, Wish, response_to};

#[test]
fn t1_at_tpdu_level_is_a_block_in_a_message() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
    script.exchange(&APDU);
    script.sent(0, 0, &I1).data(&A1).gives(&OK);
}

/// CCID 1.1 §6.1.4: three characters, then as many as LEN and the check code say.
#[test]
fn t1_at_character_level_reads_in_two_steps() {
    let mut script = Script::powered(CHARACTER, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 3, &I0).data(&A0[..3]);
    script.sent(0, 3, &[]).data(&A0[3..]).gives(&OK);
}

/// A command and its blocks' information fields, as they go to a card of this ATR.
fn parts(features: u32, atr: &[u8], command: &[u8]) -> Vec<usize> {
    let mut script = Script::powered(features, atr);
    let mut card = Card::new(CheckCode::Lrc, 0, 254, Vec::new());
    script.exchange(command);
    let mut parts = Vec::new();
    let mut rest = Vec::new();
    while script.reader.poll_event().is_none() {
        let (_, [_, low, high], block) = script.next_message();
        if let [nad, _, length, ..] = block[..] {
            assert_eq!((nad, block.len()), (0x00, 3 + usize::from(length) + 1));
            parts.push(usize::from(length));
            rest = card.receive(&block);
        }
        let asked = usize::from(u16::from_le_bytes([low, high]));
        let asked = if asked == 0 { rest.len() } else { asked };
        let answer: Vec<u8> = rest.drain(..asked).collect();
        script.data(&answer);
    }
    parts
}

/// What an ATR that says nothing of T=1 stands for: IFSC 32, LRC, no node addresses.
#[test]
fn section_11_4_defaults() {
    let command = [&[0x00, 0xD6, 0x00, 0x00][..], &[0x11; 36]].concat();
    for features in [TPDU, CHARACTER] {
        assert_eq!(parts(features, &[0x3B, 0x80, 0x01, 0x81], &command), [32, 8]);
    }
}

/// IFSC is TA of the ATR's first T=1 bytes, at both levels; reserved values stand for the default.
#[test]
fn section_11_4_2_ifsc_of_the_atr() {
    let command = [&[0x00, 0xD6, 0x00, 0x00][..], &[0x11; 36]].concat();
    for features in [TPDU, CHARACTER] {
        for (ta3, expected) in
            [(16, &[16, 16, 8][..]), (254, &[40]), (0, &[32, 8]), (255, &[32, 8])]
        {
            let atr = [0x3B, 0x80, 0x81, 0x11, ta3, 0x80 ^ 0x81 ^ 0x11 ^ ta3];
            assert_eq!(parts(features, &atr, &command), expected, "TA(3) {ta3}");
        }
    }
}

/// The node addresses of the options are those of every block, at both levels; an answer that does
/// not swap them is an invalid block.
#[test]
fn nad_11_3_2_1_is_an_option() {
    let addressed = |block: &[u8], nad: u8| {
        let [old, rest @ .., check] = block else { panic!("a block") };
        [&[nad][..], rest, &[check ^ old ^ nad]].concat()
    };
    let options = Options { nad: Nad::from_byte(0x21), ..Options::default() };
    let mut script = Script::with_options(TPDU, &T1_ATR, options);
    script.exchange(&APDU);
    script.sent(0, 0, &addressed(&I0, 0x21)).data(&addressed(&A0, 0x21));
    script.sent(0, 0, &addressed(&R0, 0x21)).data(&addressed(&A0, 0x12)).gives(&OK);
    script.exchange(&APDU);
    script.sent(0, 0, &addressed(&I1, 0x21));
    // So it stays if that is broken off.
    script.failed(IccStatus::PresentActive, SlotError::HwError).completed().unwrap_err();
    script.exchange(&APDU);
    script.sent(0, 0, &addressed(&RESYNCH, 0x21)).data(&addressed(&RESYNCHED, 0x12));
    script.sent(0, 0, &addressed(&I0, 0x21)).data(&addressed(&A0, 0x12)).gives(&OK);
    let mut script = Script::with_options(CHARACTER, &T1_ATR, options);
    script.exchange(&APDU);
    let answer = addressed(&A0, 0x12);
    script.sent(0, 3, &addressed(&I0, 0x21)).data(&answer[..3]);
    script.sent(0, 3, &[]).data(&answer[3..]).gives(&OK);
}

/// The second step asks for both bytes of a CRC.
#[test]
fn t1_at_character_level_with_crc() {
    // TD2 = 51h: TA3 and TC3; TC3 = 1: CRC.
    let mut script = Script::powered(CHARACTER, &[0x3B, 0x80, 0x81, 0x51, 0x20, 0x01, 0x71]);
    script.exchange(&APDU);
    let (_, specific, block) = script.next_message();
    assert_eq!((specific, block.len()), ([0, 3, 0], 3 + 5 + 2));
    let answer = Card::new(CheckCode::Crc, 0, 32, Vec::new()).receive(&block);
    script.data(&answer[..3]).sent(0, 2 + 2, &[]).data(&answer[3..]).gives(&OK);
}

#[test]
fn a_prologue_that_is_none_is_an_invalid_block() {
    for prologue in [&[0x00, 0x00][..], &[], &[0x00, 0x00, 0xFF], &A0] {
        let mut script = Script::powered(CHARACTER, &T1_ATR);
        script.exchange(&APDU);
        script.sent(0, 3, &I0).data(prologue);
        if prologue == A0 {
            // All of it at once will do as well.
            script.gives(&OK);
            continue;
        }
        script.sent(0, 3, &R0).data(&A0[..3]).sent(0, 3, &[]).mute();
        // The rest does not come: the R-block is repeated.
        script.sent(0, 3, &R0).data(&A0[..3]).sent(0, 3, &[]).data(&A0[3..]).gives(&OK);
    }
}

/// Rule 7.1 by what the reader reports.
#[test]
fn rule_7_1_what_the_reader_reports_of_a_block() {
    for (error, code) in
        [(SlotError::IccMute, 2), (SlotError::XfrParityError, 1), (SlotError::XfrOverrun, 1)]
    {
        let mut script = Script::powered(TPDU, &T1_ATR);
        script.exchange(&APDU);
        script.sent(0, 0, &I0).failed(IccStatus::PresentActive, error);
        script.sent(0, 0, &[0x00, 0x80 | code, 0x00, 0x80 | code]).data(&A0).gives(&OK);
    }
}

/// Any other error of the reader ends the exchange; the next one begins by S(RESYNCH).
#[test]
fn an_error_of_the_reader_ends_the_exchange() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).failed(IccStatus::PresentActive, SlotError::HwError);
    assert!(matches!(script.completed(), Err(Error::Failed { error: SlotError::HwError, .. })));
    script.quiet();
    script.exchange(&APDU);
    script.sent(0, 0, &RESYNCH).data(&RESYNCHED);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

#[test]
fn a_card_that_loses_its_power_is_lost() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).failed(IccStatus::PresentInactive, SlotError::IccMute);
    let lost = Event::CardLost { slot: SLOT, reset_follows: false };
    assert_eq!(script.reader.poll_event(), Some(lost));
    assert_eq!(script.completed(), Err(Error::CardMute));
    script.quiet();
}

/// Rule 3: bBWI and the host's own time are multiplied for the one block.
#[test]
fn rule_3_waiting_time_extension_in_the_message() {
    // TB3 = 45h: BWI 4, CWI 5, so that twice the time is within the operation's limit.
    let mut script = Script::powered(TPDU, &[0x3B, 0x80, 0x81, 0x31, 0x20, 0x45, 0x55]);
    script.exchange(&APDU);
    script.sent(0, 0, &I0);
    let base = script.reader.poll_deadline().unwrap() - script.now;
    assert!(base < Duration::from_secs(100));
    script.data(&[0x00, 0xC3, 0x01, 0x02, 0xC0]).sent(2, 0, &[0x00, 0xE3, 0x01, 0x02, 0xE0]);
    assert_eq!(script.reader.poll_deadline().unwrap() - script.now, base * 2);
    script.mute().sent(0, 0, &R0);
    assert_eq!(script.reader.poll_deadline().unwrap() - script.now, base);
    script.data(&A0).gives(&OK);
}

/// The operation's limit ends what a card puts off for ever.
#[test]
fn rule_3_extensions_end_with_the_operation() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0);
    let began = script.now;
    while script.now - began < Duration::from_secs(299) {
        script.now = script.now + Duration::from_secs(1);
        script.data(&[0x00, 0xC3, 0x01, 0xFF, 0x3D]).sent(255, 0, &[0x00, 0xE3, 0x01, 0xFF, 0x1D]);
    }
    assert!(script.timeout() <= Duration::from_secs(1));
    script.aborts();
    script.sent(0, 0, &RESYNCH).data(&RESYNCHED);
    assert!(matches!(script.completed(), Err(Error::Timeout(_))));
    script.quiet();
}

#[test]
fn a_dead_card_says_so_until_it_is_reset() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).mute().sent(0, 0, &R0).mute().sent(0, 0, &R0).mute();
    for _ in 0..3 {
        script.sent(0, 0, &RESYNCH).mute();
    }
    assert_eq!(script.completed(), Err(Error::CardMute));
    script.exchange(&APDU);
    assert_eq!(script.completed(), Err(Error::Card(CardFault::T1(Failure::Dead))));
    script.quiet();
    script.start(Operation::PowerOn(PowerUp::Warm));
    script.command(0x62);
    script.data(&T1_ATR);
    script.completed().unwrap();
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

#[test]
fn a_response_without_a_status_word_is_the_cards_fault() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    script.exchange(&APDU);
    script.sent(0, 0, &I0).data(&[0x00, 0x00, 0x01, 0x90, 0x91]);
    assert_eq!(script.completed(), Err(Error::Card(CardFault::NoStatusWord)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A card by the standard, at either level: each command gets its own response.
    #[test]
    fn any_command_at_either_level(
        character in any::<bool>(),
        auto_ifsd in any::<bool>(),
        lengths in prop::collection::vec((0..600usize, 0..600u16), 1..4),
        wishes in prop::collection::vec(
            prop_oneof![
                Just(None),
                (1..=255u8).prop_map(|value| Some(Wish::Wtx(value))),
                (1..=254u8).prop_map(|value| Some(Wish::Ifs(value))),
            ],
            0..10,
        ),
    ) {
        let features = if character { CHARACTER } else { TPDU } & !(u32::from(!auto_ifsd) << 10);
        let mut script = Script::powered(features, &T1_ATR);
        let mut card = Card::new(CheckCode::Lrc, 0, 32, wishes);
        // The card sends more than 32 bytes in a block only if it was told that it may.
        let long = !auto_ifsd && lengths.iter().any(|(_, le)| *le > 30);
        for (lc, le) in lengths {
            let [p1, p2] = le.to_be_bytes();
            let command = [&[0x00, 0xB0, p1, p2][..], &vec![0x77; lc]].concat();
            script.exchange(&command);
            let mut rest = Vec::new();
            let result = loop {
                if let Some(Event::Completed { result, .. }) = script.reader.poll_event() {
                    break result;
                }
                let (_, [_, low, high], data) = script.next_message();
                if !data.is_empty() {
                    rest = card.receive(&data);
                }
                let asked = usize::from(u16::from_le_bytes([low, high]));
                let length = if character { asked } else { rest.len() };
                prop_assert!(length <= rest.len());
                let part: Vec<u8> = rest.drain(..length).collect();
                script.data(&part);
            };
            prop_assert_eq!(result, Ok(Output::Data(response_to(&command).into())));
        }
        prop_assert_eq!(card.longest.1 > 32, long);
    }
}
