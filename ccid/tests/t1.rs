//! T=1 as scripts: the block that goes out, the block that comes in. Named after the rules of
//! ISO/IEC 7816-3 §11.6.3.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use ccid::ClassDescriptor;
use ccid::atr::{Atr, T1Parameters};
use ccid::t1::{
    Block, CheckCode, Connection, Exchange, Failure, MAX_BLOCKS, MAX_REQUESTS, Nad, Pcb, Progress,
    Received, Supervisory,
};

const AUTO_IFSD: u32 = 0x0400;
const APDU: [u8; 5] = [0x00, 0xB0, 0x00, 0x00, 0x00];

fn class(max_ifsd: u32, features: u32, max_message: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[28..32].copy_from_slice(&max_ifsd.to_le_bytes());
    bytes[40..44].copy_from_slice(&(features | 0x0001_0000).to_le_bytes());
    bytes[44..48].copy_from_slice(&max_message.to_le_bytes());
    ClassDescriptor::parse(&bytes).unwrap()
}

fn parameters(ifsc: u8, crc: bool) -> T1Parameters {
    T1Parameters { ifsc, bwi: 4, cwi: 13, crc }
}

/// IFSC 32, LRC, no negotiation.
fn plain() -> Connection {
    Connection::new(parameters(32, false), &class(254, AUTO_IFSD, 271))
}

fn i(ns: u8, more: bool) -> Pcb {
    Pcb::I { ns, more }
}

fn r(nr: u8, error: u8) -> Pcb {
    Pcb::R { nr, error }
}

use Pcb::{Request, Response};
use Supervisory::{Abort, Ifs, Resynch, Wtx};

struct Script {
    exchange: Exchange,
    progress: Progress,
}

impl Script {
    #[track_caller]
    fn new(connection: Connection, command: &[u8]) -> Self {
        let exchange = Exchange::new(connection, Bytes::copy_from_slice(command)).unwrap();
        Self { exchange, progress: Progress::Send }
    }

    /// The block that is to be sent.
    #[track_caller]
    fn out(&mut self, pcb: Pcb, information: &[u8]) -> &mut Self {
        assert_eq!(self.progress, Progress::Send);
        let connection = self.exchange.connection();
        let block = self.exchange.block();
        let sent = Block::parse(block, connection.check_code(), connection.nad()).unwrap();
        assert_eq!((sent.pcb, sent.information), (pcb, information));
        self
    }

    fn received(&mut self, received: Received<'_>) -> &mut Self {
        self.progress = self.exchange.received(received);
        self
    }

    /// A block of the card.
    fn card(&mut self, pcb: Pcb, information: &[u8]) -> &mut Self {
        let connection = self.exchange.connection();
        let block = Block { nad: connection.card_nad(), pcb, information };
        let bytes = block.emit(connection.check_code());
        self.received(Received::Block(&bytes))
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.received(Received::Block(bytes))
    }

    /// Nothing within the block waiting time.
    fn silence(&mut self) -> &mut Self {
        self.received(Received::Nothing)
    }

    #[track_caller]
    fn done(&mut self, response: &[u8]) -> Connection {
        assert_eq!(self.progress, Progress::Done(Ok(Bytes::copy_from_slice(response))));
        let connection = self.exchange.connection();
        assert!(connection.is_in_step());
        connection
    }

    #[track_caller]
    fn fails(&mut self, failure: Failure) -> Connection {
        assert_eq!(self.progress, Progress::Done(Err(failure)));
        self.exchange.connection()
    }
}

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
