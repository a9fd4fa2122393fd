//! T=1 as scripts: the block that goes out, the block that comes in, on a good line. Named after the
//! rules of ISO/IEC 7816-3 §11.6.3.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod blocks;

use blocks::{
    APDU, AUTO_IFSD, Ifs, Request, Response, Resynch, Script, Wtx, class, i, parameters, plain, r,
};
use ccid::atr::{Atr, T1Parameters};
use ccid::t1::{CheckCode, Connection, Failure, MAX_BLOCKS, MAX_REQUESTS, Nad};

/// Rules 1 and 2.1: the first I-block is number 0, and each end counts its own.
#[test]
fn rule_1_and_2_1_numbers_go_on_from_one_exchange_to_the_next() {
    let mut connection = plain();
    for n in [0, 1, 0] {
        let mut script = Script::new(connection, &APDU);
        script.out(i(n, false), &APDU).card(i(n, false), &[0x90, 0x00]);
        connection = script.done(&[0x90, 0x00]);
    }
}

/// The bytes of ISO/IEC 7816-3 §11.3, LRC and CRC.
#[test]
fn bytes_of_an_exchange() {
    let mut script = Script::new(plain(), &APDU);
    assert_eq!(script.exchange.block(), [0x00, 0x00, 0x05, 0x00, 0xB0, 0x00, 0x00, 0x00, 0xB5]);
    script.raw(&[0x00, 0x00, 0x02, 0x90, 0x00, 0x92]).done(&[0x90, 0x00]);
}

/// Rule 2.2, 5: the command in parts of IFSC, each acknowledged.
#[test]
fn rule_2_2_chain_to_the_card() {
    let connection = Connection::new(parameters(2, false), &class(254, AUTO_IFSD, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(i(0, true), &APDU[..2]).card(r(1, 0), &[]);
    script.out(i(1, true), &APDU[2..4]).card(r(0, 0), &[]);
    script.out(i(0, false), &APDU[4..]).card(i(0, false), &[0x90, 0x00]);
    let connection = script.done(&[0x90, 0x00]);
    Script::new(connection, &APDU).out(i(1, true), &APDU[..2]);
}

/// Rule 5: the response in parts, each acknowledged by an R-block.
#[test]
fn rule_5_chain_from_the_card() {
    let mut script = Script::new(plain(), &APDU);
    script.out(i(0, false), &APDU).card(i(0, true), &[1, 2]);
    script.out(r(1, 0), &[]).card(i(1, true), &[3]);
    script.out(r(0, 0), &[]).card(i(0, false), &[0x90, 0x00]);
    let connection = script.done(&[1, 2, 3, 0x90, 0x00]);
    Script::new(connection, &APDU).out(i(1, false), &APDU).card(i(1, false), &[0x90, 0]);
}

/// Rule 3: the answer has the same value, and BWT is multiplied until that is answered, no longer.
#[test]
fn rule_3_waiting_time_extension() {
    let mut script = Script::new(plain(), &APDU);
    assert_eq!(script.exchange.multiplier(), 0);
    script.card(Request(Wtx), &[7]).out(Response(Wtx), &[7]);
    assert_eq!(script.exchange.multiplier(), 7);
    script.card(i(0, true), &[1]).out(r(1, 0), &[]);
    assert_eq!(script.exchange.multiplier(), 0);
    script.card(Request(Wtx), &[255]).out(Response(Wtx), &[255]);
    assert_eq!(script.exchange.multiplier(), 255);
    // The block fails: the multiplied time is over all the same.
    script.silence().out(r(1, 2), &[]);
    assert_eq!(script.exchange.multiplier(), 0);
    script.card(i(1, false), &[0x90, 0]).done(&[1, 0x90, 0]);
}

#[test]
fn rule_3_a_multiplier_of_zero_is_invalid() {
    let mut script = Script::new(plain(), &APDU);
    script.card(Request(Wtx), &[0]).out(r(0, 2), &[]);
    assert_eq!(script.exchange.multiplier(), 0);
    script.card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

#[test]
fn rule_3_waiting_time_extensions_have_a_limit() {
    let mut script = Script::new(plain(), &APDU);
    for _ in 0..MAX_REQUESTS {
        script.card(Request(Wtx), &[1]).out(Response(Wtx), &[1]);
    }
    let connection = script.card(Request(Wtx), &[1]).fails(Failure::TooManyRequests);
    // The card is not lost: it only has to be brought back in step.
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Resynch), &[]).card(Response(Resynch), &[]);
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]).done(&[0x90, 0]);
}

/// Rule 4: the card may ask at any time; what has not been acknowledged is cut anew.
#[test]
fn rule_4_the_card_sets_its_information_field_size() {
    let connection = Connection::new(parameters(4, false), &class(254, AUTO_IFSD, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(i(0, true), &APDU[..4]).card(Request(Ifs), &[2]);
    script.out(Response(Ifs), &[2]).card(r(0, 1), &[]);
    script.out(i(0, true), &APDU[..2]).card(r(1, 0), &[]);
    script.out(i(1, true), &APDU[2..4]).card(Request(Ifs), &[254]);
    script.out(Response(Ifs), &[254]).card(r(0, 0), &[]);
    script.out(i(0, false), &APDU[4..]).card(Request(Ifs), &[1]);
    script.out(Response(Ifs), &[1]).card(i(0, false), &[0x90, 0]);
    let connection = script.done(&[0x90, 0]);
    assert_eq!(connection.ifsc(), 1);
}

#[test]
fn rule_4_sizes_of_0_and_255_are_refused() {
    for size in [0, 255] {
        let mut script = Script::new(plain(), &APDU);
        script.card(Request(Ifs), &[size]).out(r(0, 2), &[]);
        script.card(i(0, false), &[0x90, 0]);
        assert_eq!(script.done(&[0x90, 0]).ifsc(), 32);
    }
}

/// The host's own size is agreed before the first command, and only then.
#[test]
fn rule_4_the_host_sets_its_information_field_size() {
    let connection = Connection::new(parameters(32, false), &class(254, 0, 271));
    assert_eq!(connection.ifsd(), 32);
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Ifs), &[254]).card(Response(Ifs), &[254]);
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]);
    let connection = script.done(&[0x90, 0]);
    assert_eq!(connection.ifsd(), 254);
    Script::new(connection, &APDU).out(i(1, false), &APDU);
}

/// Another size in the answer, or none: smaller ones are tried, and 32 needs no asking.
#[test]
fn rule_4_a_smaller_size_where_the_card_refuses() {
    let connection = Connection::new(parameters(32, false), &class(254, 0, 271));
    let mut script = Script::new(connection, &APDU);
    script.out(Request(Ifs), &[254]).card(Response(Ifs), &[200]);
    for _ in 0..3 {
        script.out(Request(Ifs), &[128]).card(r(0, 2), &[]);
    }
    script.out(Request(Ifs), &[64]).card(Response(Ifs), &[64]);
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]);
    assert_eq!(script.done(&[0x90, 0]).ifsd(), 64);

    let mut script = Script::new(connection, &APDU);
    for size in [254, 128, 64] {
        script.out(Request(Ifs), &[size]).card(Response(Ifs), &[1]);
    }
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]);
    assert_eq!(script.done(&[0x90, 0]).ifsd(), 32);
}

#[test]
fn rule_4_the_default_size_where_the_card_is_silent() {
    let connection = Connection::new(parameters(32, false), &class(254, 0, 271));
    let mut script = Script::new(connection, &APDU);
    for _ in 0..3 {
        script.out(Request(Ifs), &[254]).silence();
    }
    script.out(i(0, false), &APDU).card(i(0, false), &[0x90, 0]);
    assert_eq!(script.done(&[0x90, 0]).ifsd(), 32);
}

/// dwMaxIFSD of real readers: 0, 256 and more; messages that hold less than a block.
#[test]
fn the_readers_own_limits() {
    let ifsd = |max_ifsd, features, message| {
        Connection::new(parameters(254, true), &class(max_ifsd, features, message))
    };
    assert_eq!(ifsd(0, AUTO_IFSD, 271).ifsd(), 32);
    assert_eq!(ifsd(256, AUTO_IFSD, 271).ifsd(), 254);
    assert_eq!(ifsd(0xFFFF_FFFF, AUTO_IFSD, 271).ifsd(), 254);
    assert_eq!(ifsd(254, AUTO_IFSD, 271).ifsc(), 254);
    let small = ifsd(254, AUTO_IFSD, 64);
    assert_eq!((small.ifsd(), small.ifsc()), (54 - 5, 54 - 5));
    // Nothing to ask for if the reader takes no more than the default.
    Script::new(ifsd(32, 0, 271), &APDU).out(i(0, false), &APDU);
    Script::new(ifsd(0, 0, 271), &APDU).out(i(0, false), &APDU);
}

/// Blocks of a chain that bring nothing are counted like requests.
#[test]
fn empty_blocks_do_not_go_on_for_ever() {
    let mut script = Script::new(plain(), &APDU);
    let mut ns = 0;
    for _ in 0..MAX_REQUESTS {
        script.card(i(ns, true), &[]).out(r(ns ^ 1, 0), &[]);
        ns ^= 1;
    }
    script.card(i(ns, true), &[]).fails(Failure::TooManyRequests);
    assert!(script.exchange.blocks() <= MAX_BLOCKS);
}

/// The card swaps the addresses.
#[test]
fn nad_11_3_2_1_is_swapped_by_the_card() {
    let mut script = Script::new(plain().with_nad(Nad::from_byte(0xA9)), &APDU);
    assert_eq!(script.exchange.block()[0], 0x21, "bits 3 and 7 are not addresses");
    // The host's own is no answer.
    script.raw(&[0x21, 0x00, 0x02, 0x90, 0x00, 0xB3]).out(r(0, 2), &[]);
    script.raw(&[0x12, 0x00, 0x02, 0x90, 0x00, 0x80]).done(&[0x90, 0x00]);
}

/// Two addresses that are the same are none.
#[test]
fn nad_11_3_2_1_equal_addresses_are_reserved() {
    for byte in [0x00, 0x11, 0x77, 0x88, 0xFF] {
        assert_eq!(Nad::from_byte(byte), Nad::NONE);
    }
    assert_eq!(Nad::from_byte(0x70).swapped().to_byte(), 0x07);
}

/// Rule 2.1: only the I-block that comes next answers; one that has been had is asked for anew.
#[test]
fn rule_2_1_an_i_block_with_another_number_is_no_answer() {
    let mut script = Script::new(plain(), &APDU);
    script.card(i(0, true), &[1]).out(r(1, 0), &[]).card(i(0, true), &[1]);
    script.out(r(1, 0), &[]).card(i(1, false), &[0x90, 0]).done(&[1, 0x90, 0]);
}

/// TB and TC of another protocol, 15 among them, say nothing about T=1.
#[test]
fn the_atr_of_t15_is_not_taken_for_t1() {
    // TD1 = 81h (T=1), TD2 = 7Fh (T=15): TA3 TB3 TC3 are T=15's.
    let atr = Atr::new(&[0x3B, 0x80, 0x81, 0x7F, 0x02, 0x99, 0x01, 0x00]).parse().unwrap();
    assert_eq!(
        atr.t1_parameters(),
        T1Parameters { ifsc: 32, bwi: 4, cwi: 13, crc: false },
        "defaults"
    );
    let connection = Connection::new(atr.t1_parameters(), &class(254, 0, 271));
    assert_eq!(connection.check_code(), CheckCode::Lrc);
}
