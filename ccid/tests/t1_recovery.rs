//! T=1 as scripts: what is wrong with a block, and what follows: repetition, S(RESYNCH), S(ABORT), the
//! end. Named after the rules of ISO/IEC 7816-3 §11.6.3.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod blocks;

use blocks::{
    APDU, AUTO_IFSD, Abort, Ifs, Request, Response, Resynch, Script, Wtx, class, i, parameters,
    plain, r,
};
use bytes::Bytes;
use ccid::t1::{Connection, Exchange, Failure, Nad, Progress, Received};

/// Rule 7.1: nothing within BWT after an I-block. (libccid gives the card up at once.)
#[test]
fn rule_7_1_an_r_block_when_nothing_comes() {
    let mut script = Script::new(plain(), &APDU);
    script.out(i(0, false), &APDU).silence();
    script.out(r(0, 2), &[]).card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// Rule 7.1: an invalid block after an I-block; a transmission error has its own code.
#[test]
fn rule_7_1_an_r_block_when_the_block_is_invalid() {
    for (bytes, error) in [
        (&[0x00, 0x00, 0x02, 0x90, 0x00, 0x93][..], 1), // wrong LRC
        (&[0x00, 0x00, 0x03, 0x90, 0x00, 0x93], 2),     // LEN against what came
        (&[0x00, 0x00, 0x01, 0x90, 0x00, 0x91], 2),
        (&[0x00, 0x00], 2),
        (&[], 2),
        (&[0x00, 0x00, 0xFF, 0xFF], 2),             // LEN is reserved
        (&[0x00, 0x40, 0x02, 0x90, 0x00, 0xD2], 2), // wrong N(S)
        (&[0x00, 0x01, 0x02, 0x90, 0x00, 0x93], 2), // reserved bit of an I-block
        (&[0x00, 0xA0, 0x00, 0xA0], 2),             // bit 6 of an R-block
        (&[0x00, 0x83, 0x00, 0x83], 2),             // reserved error codes of an R-block
        (&[0x00, 0x93, 0x00, 0x93], 2),
        (&[0x00, 0x9F, 0x00, 0x9F], 2),
        (&[0x00, 0x80, 0x01, 0x00, 0x81], 2), // R-block with information
        (&[0x00, 0x90, 0x00, 0x90], 2),       // acknowledges the last block of a command
        (&[0x00, 0xC4, 0x00, 0xC4], 2),       // unknown S-block
        (&[0x00, 0xE6, 0x00, 0xE6], 2),
        (&[0x00, 0xC3, 0x00, 0xC3], 2), // S(WTX request) without a value
        (&[0x00, 0xC2, 0x01, 0x00, 0xC3], 2), // S(ABORT request) with one
        (&[0x00, 0xE0, 0x00, 0xE0], 2), // a response that nobody asked for
        (&[0x12, 0x00, 0x02, 0x90, 0x00, 0x80], 2), // wrong NAD
    ] {
        let mut script = Script::new(plain(), &APDU);
        script.raw(bytes).out(r(0, error), &[]);
        script.card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
    }
    let mut script = Script::new(plain(), &APDU);
    script.received(Received::Garbled).out(r(0, 1), &[]);
    script.card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// Rule 7.2: the same R-block again, with all of its check code.
#[test]
fn rule_7_2_an_r_block_is_repeated_as_it_was() {
    for crc in [false, true] {
        let connection = Connection::new(parameters(32, crc), &class(254, AUTO_IFSD, 271));
        let mut script = Script::new(connection, &APDU);
        script.received(Received::Garbled).out(r(0, 1), &[]);
        let block = script.exchange.block().to_vec();
        assert_eq!(block.len(), if crc { 5 } else { 4 });
        script.silence().out(r(0, 1), &[]);
        assert_eq!(script.exchange.block(), block);
        // So it is with an acknowledgement.
        script.card(i(0, true), &[1]).out(r(1, 0), &[]).silence().out(r(1, 0), &[]);
        // The card does not have it: it asks for the command, which is no answer to an R-block.
        script.card(r(1, 1), &[]).out(r(1, 0), &[]);
        script.card(i(1, false), &[0x90, 0]).done(&[1, 0x90, 0]);
    }
}

/// Rule 7.3: an S(request) is repeated.
#[test]
fn rule_7_3_a_request_is_repeated() {
    let connection = Connection::new(parameters(32, false), &class(254, 0, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Ifs), &[254]).received(Received::Garbled);
    script.out(Request(Ifs), &[254]).card(r(0, 1), &[]);
    script.out(Request(Ifs), &[254]).card(Response(Ifs), &[254]);
    script.out(i(0, false), &APDU);
}

/// Rule 7.3: after an S(response) an R-block asks.
#[test]
fn rule_7_3_an_r_block_after_a_response() {
    let mut script = Script::new(plain(), &APDU);
    script.card(Request(Wtx), &[1]).out(Response(Wtx), &[1]).silence();
    // The card has not had the response.
    script.out(r(0, 2), &[]).card(Request(Wtx), &[1]);
    script.out(Response(Wtx), &[1]).card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// Rule 7.6: the card asks for the I-block again.
#[test]
fn rule_7_6_the_i_block_goes_again() {
    let connection = Connection::new(parameters(3, false), &class(254, AUTO_IFSD, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(i(0, true), &APDU[..3]).card(r(0, 1), &[]);
    script.out(i(0, true), &APDU[..3]).silence();
    script.out(r(0, 2), &[]).card(r(1, 0), &[]);
    script.out(i(1, false), &APDU[3..]).card(r(1, 2), &[]);
    script.out(i(1, false), &APDU[3..]).card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// Rule 7.4.2: three in a row, then S(RESYNCH); the command goes again from its beginning, whole,
/// even if the response had begun. (libccid sends an empty I-block.)
#[test]
fn rule_7_4_2_resynchronise_and_send_the_whole_command_again() {
    let connection = Connection::new(parameters(4, false), &class(254, AUTO_IFSD, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(i(0, true), &APDU[..4]).card(r(1, 0), &[]);
    script.out(i(1, false), &APDU[4..]).card(i(0, true), &[0xAA]);
    script.out(r(1, 0), &[]).silence();
    script.out(r(1, 0), &[]).silence();
    script.out(r(1, 0), &[]).silence();
    script.out(Request(Resynch), &[]).received(Received::Garbled);
    script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    script.out(i(0, true), &APDU[..4]).card(r(1, 0), &[]);
    script.out(i(1, false), &APDU[4..]).card(i(0, false), &[0x90, 0]);
    script.done(&[0x90, 0]);
}

/// S(RESYNCH) puts back what was agreed: the smaller IFSC holds, IFSD is asked for anew.
#[test]
fn rule_7_4_2_sizes_after_a_resynchronisation() {
    let connection = Connection::new(parameters(4, false), &class(254, 0, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Ifs), &[254]).card(Response(Ifs), &[254]);
    script.out(i(0, true), &APDU[..4]).card(Request(Ifs), &[254]);
    script.out(Response(Ifs), &[254]).card(Request(Resynch), &[]);
    script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    script.out(Request(Ifs), &[254]).card(Response(Ifs), &[254]);
    script.out(i(0, true), &APDU[..4]);
}

/// Rule 6: only the host may ask for it; a card that does is given it.
#[test]
fn rule_6_the_card_asks_for_resynchronisation() {
    let mut script = Script::new(plain(), &APDU);
    script.card(Request(Resynch), &[]).out(Request(Resynch), &[]);
    script.card(Response(Resynch), &[]).out(i(0, false), &APDU);
    script.card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// A card that answers S(RESYNCH) and nothing else. (libccid loops for ever.)
#[test]
fn rule_7_4_2_resynchronisations_have_a_limit() {
    let mut script = Script::new(plain(), &APDU);
    for _ in 0..3 {
        script.out(i(0, false), &APDU).received(Received::Garbled);
        script.out(r(0, 1), &[]).received(Received::Garbled);
        script.out(r(0, 1), &[]).received(Received::Garbled);
        script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    }
    script.out(i(0, false), &APDU).silence();
    script.out(r(0, 2), &[]).silence();
    script.out(r(0, 2), &[]).silence();
    let connection = script.fails(Failure::OutOfStep);
    assert!(connection.is_dead());
    assert!(matches!(Exchange::new(connection, Bytes::from_static(&APDU)), Err(Failure::Dead)));
    assert!(matches!(Exchange::resynchronise(connection), Err(Failure::Dead)));
}

/// Rule 7.4.2: S(RESYNCH) three times, then the card is to be reset.
#[test]
fn rule_7_4_2_a_mute_card_is_given_up() {
    let mut script = Script::new(plain(), &APDU);
    script.card(Request(Wtx), &[1]).silence().silence().silence();
    for _ in 0..3 {
        script.out(Request(Resynch), &[]).silence();
    }
    assert!(script.fails(Failure::Mute).is_dead());

    let mut script = Script::new(plain(), &APDU);
    for _ in 0..3 {
        script.silence();
    }
    for _ in 0..3 {
        script.out(Request(Resynch), &[]).card(i(0, false), &[0x90, 0]);
    }
    assert!(script.fails(Failure::OutOfStep).is_dead());
}

/// Rule 9: the card breaks off the command that is being sent, and answers.
#[test]
fn rule_9_the_card_aborts_the_command() {
    let connection = Connection::new(parameters(2, false), &class(254, AUTO_IFSD, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(i(0, true), &APDU[..2]).card(Request(Abort), &[]);
    script.out(Response(Abort), &[]).card(i(0, false), &[0x6F, 0]);
    let connection = script.done(&[0x6F, 0]);
    // The aborted block counts as sent.
    Script::new(connection, &APDU).out(i(1, true), &APDU[..2]);
}

/// Rule 9: or it gives the right to send back, by an R-block with the number it wants.
#[test]
fn rule_9_the_card_aborts_the_command_without_an_answer() {
    let connection = Connection::new(parameters(2, false), &class(254, AUTO_IFSD, 271));
    for next in [0, 1] {
        let mut script = Script::new(connection, &APDU);
        script.out(i(0, true), &APDU[..2]).card(Request(Abort), &[]);
        script.out(Response(Abort), &[]).card(Request(Abort), &[]);
        script.out(Response(Abort), &[]).card(r(next, 0), &[]);
        let connection = script.fails(Failure::Aborted);
        assert!(connection.is_in_step());
        Script::new(connection, &APDU).out(i(next, true), &APDU[..2]);
    }
}

/// Rule 9: the card breaks off its own response, and begins another.
#[test]
fn rule_9_the_card_aborts_the_response() {
    let mut script = Script::new(plain(), &APDU);
    script.out(i(0, false), &APDU).card(i(0, true), &[0xAA]);
    script.out(r(1, 0), &[]).card(Request(Abort), &[]);
    script.out(Response(Abort), &[]).silence();
    script.out(r(1, 2), &[]).card(i(1, false), &[0x64, 0]);
    let connection = script.done(&[0x64, 0]);
    Script::new(connection, &APDU).out(i(1, false), &APDU);
}

/// Rule 9, by the host: a response that is longer than any APDU is broken off, and the card stays
/// in step.
#[test]
fn rule_9_the_host_aborts_a_response_without_end() {
    let connection = too_long(|script| {
        script.out(Request(Abort), &[]).silence();
        script.out(Request(Abort), &[]).card(Response(Abort), &[]);
    });
    assert!(connection.is_in_step());
    let connection = too_long(|script| {
        for _ in 0..3 {
            script.out(Request(Abort), &[]).card(r(0, 0), &[]);
        }
    });
    assert!(!connection.is_in_step() && !connection.is_dead());
    Script::new(connection, &APDU).out(Request(Resynch), &[]);
}

fn too_long(end: impl Fn(&mut Script)) -> Connection {
    let mut script = Script::new(plain(), &APDU);
    let mut ns = 0;
    // 258 blocks of 254 bytes are 65,532; an APDU has 65,544 at most.
    for _ in 0..258 {
        script.card(i(ns, true), &[0x55; 254]).out(r(ns ^ 1, 0), &[]);
        ns ^= 1;
    }
    script.card(i(ns, true), &[0x55; 254]);
    end(&mut script);
    script.fails(Failure::ResponseTooLong)
}

#[test]
fn a_last_block_beyond_any_apdu() {
    let mut script = Script::new(plain(), &APDU);
    let mut ns = 0;
    for _ in 0..258 {
        script.card(i(ns, true), &[0x55; 254]).out(r(ns ^ 1, 0), &[]);
        ns ^= 1;
    }
    assert!(script.card(i(ns, false), &[0; 254]).fails(Failure::ResponseTooLong).is_in_step());
}

/// A card that answers with other addresses throughout is not merely out of step.
#[test]
fn nad_11_3_2_1_wrong_throughout_is_named() {
    let mut script = Script::new(plain().with_nad(Nad::from_byte(0x21)), &APDU);
    script.raw(&[0x00, 0x00, 0x02, 0x90, 0x00, 0x92]).out(r(0, 2), &[]);
    script.raw(&[0x00, 0x00, 0x02, 0x90, 0x00, 0x92]).out(r(0, 2), &[]);
    script.raw(&[0x00, 0x00, 0x02, 0x90, 0x00, 0x92]);
    for _ in 0..3 {
        script.out(Request(Resynch), &[]).raw(&[0x00, 0xE0, 0x00, 0xE0]);
    }
    assert!(script.fails(Failure::WrongNad(0x00)).is_dead());
}

#[test]
fn an_exchange_that_was_broken_off_is_resynchronised_first() {
    let mut script = Script::new(plain(), &APDU);
    script.out(i(0, false), &APDU);
    let connection = script.exchange.connection();
    assert!(!connection.is_in_step());
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

#[test]
fn resynchronisation_alone() {
    let exchange = Exchange::resynchronise(plain()).unwrap();
    let mut script = Script { exchange, progress: Progress::Send };
    script.out(Request(Resynch), &[]).silence();
    script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    script.done(&[]);
}
