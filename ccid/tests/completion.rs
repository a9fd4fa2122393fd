//! Exchanges to the whole response: 61xx and 6Cxx are followed (ISO/IEC 7816-3 §12.2).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "host/mod.rs"]
mod host;

use bytes::Bytes;
use ccid::completion::{Completion, MAX_COMMANDS, Next};
use ccid::error::{CardFault, Error};
use ccid::t1::Failure;
use ccid::wire::{IccStatus, SlotError};
use ccid::{Event, Operation, Output};
use host::{A0, AUTO, CHARACTER, I0, I1, OK, RESYNCH, RESYNCHED, Script, T0_ATR, T1_ATR, TPDU};
use proptest::prelude::*;
use std::time::Duration;

const SHORT: u32 = 0x0002_0000 | AUTO;

/// SELECT by name, case 4, its TPDU, and the rest of its response.
const SELECT: [u8; 7] = [0x00, 0xA4, 0x04, 0x00, 0x01, 0xF0, 0x00];
const FETCH: [u8; 5] = [0x00, 0xC0, 0x00, 0x00, 0x02];

fn complete(script: &mut Script, apdu: &[u8]) -> ccid::OperationId {
    script.start(Operation::ExchangeComplete(Bytes::copy_from_slice(apdu)))
}

/// TPDU level: the TPDUs are those of T=0; APDU level: the reader makes them.
#[test]
fn section_12_2_case_4_at_tpdu_and_apdu_level() {
    for (features, first) in [(TPDU, &SELECT[..6]), (SHORT, &SELECT)] {
        let mut script = Script::powered(features, &T0_ATR);
        complete(&mut script, &SELECT);
        script.sent(0, 0, first).data(&[0x61, 0x02]);
        assert_eq!(script.reader.poll_event(), None, "it has not ended");
        script.sent(0, 0, &FETCH).data(&[0x6C, 0x01]);
        script.sent(0, 0, &[0x00, 0xC0, 0x00, 0x00, 0x01]).data(&[7, 0x90, 0x00]);
        script.gives(&[7, 0x90, 0x00]);
    }
}

#[test]
fn section_12_2_case_2_at_character_level() {
    let mut script = Script::powered(CHARACTER, &T0_ATR);
    // Extended: Ne 2 goes as P3.
    complete(&mut script, &[0x00, 0xB0, 0x00, 0x00, 0x00, 0x00, 0x02]);
    script.sent(0, 1, &[0x00, 0xB0, 0x00, 0x00, 0x02]).data(&[0x6C]);
    script.sent(0, 1, &[]).data(&[0x01]);
    script.sent(0, 1, &[0x00, 0xB0, 0x00, 0x00, 0x01]).data(&[0xB0]);
    script.sent(0, 1, &[]).data(&[0x55]);
    script.sent(0, 1, &[]).data(&[0x90]);
    script.sent(0, 1, &[]).data(&[0x00]).gives(&[0x55, 0x90, 0x00]);
}

/// A card may use 61xx with T=1, too; the blocks' numbers go on.
#[test]
fn over_t1_the_blocks_go_on() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    let read = [0x00, 0xB0, 0x00, 0x00, 0x00];
    complete(&mut script, &read);
    script.sent(0, 0, &I0).data(&[0x00, 0x00, 0x03, 0xAA, 0x61, 0x01, 0xC9]);
    script.sent(0, 0, &[0x00, 0x40, 0x05, 0x00, 0xC0, 0x00, 0x00, 0x01, 0x84]);
    script.data(&[0x00, 0x40, 0x03, 0xBB, 0x90, 0x00, 0x68]).gives(&[0xAA, 0xBB, 0x90, 0x00]);
    // What is left to the caller is as ever.
    script.exchange(&read);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

/// After S(RESYNCH) the standard has the command go again. A GET RESPONSE that the card has answered
/// before would bring the part behind the one that was lost, and nobody would know.
#[test]
fn over_t1_a_part_that_may_be_lost_is_an_error() {
    let mut script = Script::powered(TPDU, &T1_ATR);
    complete(&mut script, &[0x00, 0xB0, 0x00, 0x00, 0x00]);
    script.sent(0, 0, &I0).data(&[0x00, 0x00, 0x03, 0xAA, 0x61, 0x02, 0xCA]);
    script.sent(0, 0, &[0x00, 0x40, 0x05, 0x00, 0xC0, 0x00, 0x00, 0x02, 0x87]).mute();
    for _ in 0..2 {
        script.sent(0, 0, &[0x00, 0x92, 0x00, 0x92]).mute();
    }
    script.sent(0, 0, &RESYNCH).data(&RESYNCHED);
    script.sent(0, 0, &[0x00, 0x00, 0x05, 0x00, 0xC0, 0x00, 0x00, 0x02, 0xC7]);
    script.data(&[0x00, 0x00, 0x04, 0xBB, 0xCC, 0x90, 0x00, 0xE3]);
    assert_eq!(script.completed(), Err(Error::Card(CardFault::T1(Failure::PartLost))));
    // Card and host are in step. A first command that goes again brings the whole response.
    complete(&mut script, &[0x00, 0xB0, 0x00, 0x00, 0x00]);
    script.sent(0, 0, &I1).mute();
    for _ in 0..2 {
        script.sent(0, 0, &[0x00, 0x92, 0x00, 0x92]).mute();
    }
    script.sent(0, 0, &RESYNCH).data(&RESYNCHED);
    script.sent(0, 0, &I0).data(&A0).gives(&OK);
}

/// Nothing of it is sent that is no APDU, or would take ENVELOPE.
#[test]
fn what_cannot_be_sent() {
    let mut script = Script::powered(TPDU, &T0_ATR);
    complete(&mut script, &[0x00, 0xA4, 0x04]);
    assert_eq!(script.completed(), Err(Error::InvalidCommand));
    let long = [&[0x00, 0xD6, 0, 0, 0, 1, 0][..], &[0; 256]].concat();
    complete(&mut script, &long);
    assert_eq!(script.completed(), Err(Error::TooLong { length: 263, limit: 261 }));
    script.quiet();
}

/// Cancelled while the rest is fetched: an Abort, and no part of the response.
#[test]
fn cancel_while_the_rest_is_fetched() {
    let mut script = Script::powered(TPDU, &T0_ATR);
    let id = complete(&mut script, &SELECT);
    script.sent(0, 0, &SELECT[..6]).data(&[0x61, 0x02]).sent(0, 0, &FETCH);
    script.reader.cancel(id, script.now);
    script.aborts();
    assert!(matches!(script.reader.poll_event(), Some(Event::CardLost { .. })));
    assert_eq!(script.completed(), Err(Error::Cancelled));
}

/// The answer to the first command beats the Abort: that is not the whole response.
#[test]
fn an_answer_that_beats_the_abort_must_be_whole() {
    for (answer, result) in [
        (&[0x61, 0x02][..], Err(Error::Cancelled)),
        (&OK, Ok(Output::Data(Bytes::copy_from_slice(&OK)))),
    ] {
        let mut script = Script::powered(TPDU, &T0_ATR);
        let id = complete(&mut script, &SELECT);
        script.sent(0, 0, &SELECT[..6]);
        script.reader.cancel(id, script.now);
        script.data(answer);
        script.aborts();
        assert_eq!(script.completed(), result);
        // The card has answered and is as it was.
        script.quiet();
        complete(&mut script, &SELECT);
        script.sent(0, 0, &SELECT[..6]).data(&OK).gives(&OK);
    }
}

/// An error on the way is the operation's; so is its limit, for all commands together.
#[test]
fn errors_and_the_limit() {
    let mut script = Script::powered(TPDU, &T0_ATR);
    complete(&mut script, &SELECT);
    script.sent(0, 0, &SELECT[..6]).data(&[0x61, 0x02]).sent(0, 0, &FETCH);
    script.failed(IccStatus::PresentActive, SlotError::XfrParityError);
    let error = script.completed();
    assert!(
        matches!(error, Err(Error::Failed { error: SlotError::XfrParityError, .. })),
        "{error:?}"
    );
    let operation = Operation::ExchangeComplete(Bytes::copy_from_slice(&SELECT));
    script.reader.start(host::SLOT, operation, Some(Duration::from_secs(2)), script.now);
    script.sent(0, 0, &SELECT[..6]);
    script.now = script.now + Duration::from_secs(1);
    script.data(&[0x61, 0x02]).sent(0, 0, &FETCH);
    assert_eq!(script.timeout(), Duration::from_secs(1));
    script.aborts();
    assert!(matches!(script.reader.poll_event(), Some(Event::CardLost { .. })));
    assert!(matches!(script.completed(), Err(Error::Timeout(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked and answered, there is an end, and no response longer than any APDU's.
    #[test]
    fn anything_ends(
        command in prop::collection::vec(any::<u8>(), 0..300),
        t0 in any::<bool>(),
        answers in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..600), prop_oneof![Just(0x61), Just(0x6C), any::<u8>()], any::<u8>()),
            1..20,
        ),
    ) {
        let completion = match t0 {
            true => Completion::over_t0(command.into()),
            false => Ok(Completion::new(command.into())),
        };
        let Ok(mut completion) = completion else { return Ok(()) };
        let mut answers = answers.iter().cycle();
        for count in 1.. {
            prop_assert!(count <= MAX_COMMANDS, "without end");
            let (data, sw1, sw2) = answers.next().unwrap();
            match completion.answered(&[&data[..], &[*sw1, *sw2]].concat()) {
                Next::Send(next) => prop_assert!(!next.is_empty() && next.len() <= 300 + 3),
                Next::Done(response) => {
                    prop_assert!((2..=65_536 + 2).contains(&response.len()));
                    break;
                }
            }
        }
    }
}

#[test]
fn nothing_of_the_command_is_shown() {
    let operation = Operation::ExchangeComplete(Bytes::from_static(b"secret"));
    assert_eq!(format!("{operation:?}"), "ExchangeComplete(6 bytes)");
}
