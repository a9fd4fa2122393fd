//! Blocks and characters: the card's contacts through XfrBlock.

use super::*;
use crate::card::atr::AtrBuilder;
use crate::card::{Acknowledge, Fault, Faults, LineCard, Misuse, Pace, PpsBehaviour, Protocol};
use ccid::descriptor::Features;
use std::time::Duration;

const ECHO: [u8; 7] = [0, 0x10, 0, 0, 2, 7, 8];
const ECHOED: [u8; 4] = [7, 8, 0x90, 0];
/// Fi and Di, LRC, guard time, BWI 4 and CWI 5, clock stop, IFSC, NAD.
const T1_AS_ATR: [u8; 7] = [0x11, 0x10, 0, 0x45, 0, 0xFE, 0];

/// A block with its LRC.
fn block(pcb: u8, inf: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0, pcb, inf.len() as u8][..], inf].concat();
    bytes.push(bytes.iter().fold(0, |lrc, byte| lrc ^ byte));
    bytes
}

fn tpdu(card: impl Card + 'static) -> ReaderBuilder {
    Reader::builder().level(Level::Tpdu).card(SLOT, card)
}

fn characters(card: impl Card + 'static) -> ReaderBuilder {
    Reader::builder().level(Level::Character).card(SLOT, card)
}

fn both() -> FileCard {
    FileCard::new(&[Protocol::T0, Protocol::T1])
}

fn set(protocol_num: u8, data: &[u8]) -> Command<'_> {
    Command::SetParameters { protocol_num, data }
}

/// So many characters, with what is sent before.
fn read(data: &[u8], count: u16) -> Command<'_> {
    xfr_part(LevelParameter(count), data)
}

#[test]
fn blocks_at_tpdu_level() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()));
    assert_eq!(bench.apdu(&block(0xC1, &[254])), block(0xE1, &[254]));
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    let long = [0, 0x12, 1, 0x40, 0, 1, 0x40];
    let first = bench.apdu(&block(0x40, &long));
    assert_eq!((first.len(), first[1]), (258, 0x60));
    let second = bench.apdu(&block(0x80, &[]));
    assert_eq!((second[1], second[2]), (0x00, 68));
    assert_eq!(bench.rules(), []);
}

#[test]
fn misuse_is_noted() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()));
    let mut bad = block(0x00, &ECHO);
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(bench.apdu(&bad), block(0x81, &[]));
    assert_eq!(bench.apdu(&block(0x40, &ECHO)), block(0x82, &[]));
    let broken = [Misuse::BlockCheck, Misuse::BlockSequence].map(Rule::Contacts);
    assert_eq!(bench.rules(), broken);
}

#[test]
fn a_block_longer_than_ifsc() {
    let atr = AtrBuilder::new(&[Protocol::T1], &[]).t1(0x10, 0x45, false).build();
    let mut bench = Bench::powered(tpdu(FileCard::t1().atr(&atr)));
    let long = [&[0, 0x10, 0, 0, 12][..], &[1; 12]].concat();
    assert_eq!(bench.apdu(&block(0x00, &long)), block(0x82, &[]));
    assert_eq!(bench.rules(), [Rule::Contacts(Misuse::BlockTooLong)]);
}

#[test]
fn what_the_reader_makes_of_faults() {
    let status = |fault| {
        let faults = Faults::at(1, fault);
        let mut bench = Bench::powered(tpdu(LineCard::new(FileCard::t1()).faults(faults)));
        bench.send(xfr(&block(0x00, &ECHO)));
        let got = bench.watch(5_000);
        assert_eq!(got.len(), 1);
        // The next block repairs it.
        assert_eq!(bench.apdu(&block(0x80, &[])), block(0x00, &ECHOED));
        assert_eq!(bench.rules(), []);
        (got[0].0, got[0].1.status)
    };
    assert_eq!(status(Fault::BadCheck), (0, [0, 0, 0]));
    assert_eq!(status(Fault::Parity), (0, [0x40, 0xFD, 0]));
    assert_eq!(status(Fault::Mute), (1430, [0x40, 0xFE, 0]));
    assert_eq!(status(Fault::Truncated), (0, [0x40, 0xFE, 0]));
    assert_eq!(status(Fault::Raw(Vec::new())), (0, [0x40, 0xFE, 0]));
    assert_eq!(status(Fault::Length255), (0, [0, 0, 0]));
}

#[test]
fn longer_than_the_reader_takes() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()).max_ifsd(32));
    bench.apdu(&block(0xC1, &[64]));
    assert_eq!(bench.rules(), [Rule::IfsdOfReader]);
    assert_eq!(bench.ask(xfr(&block(0x00, &[0, 0x12, 0, 60, 0]))).status, [0x40, 0xFC, 0]);
}

#[test]
fn bbwi_multiplies_the_waiting_time() {
    let pace = Pace::Extend { periods: 2, period: Duration::from_secs(2), multiplier: 2 };
    let slow = || tpdu(FileCard::t1().pace(0x10, pace));
    let answer = block(0xE3, &[2]);
    let extended =
        |bwi| Command::XfrBlock { bwi, level_parameter: LevelParameter::WHOLE, data: &answer };
    let mut bench = Bench::powered(slow());
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0xC3, &[2]));
    bench.send(extended(2));
    assert_eq!(bench.watch(3_000)[0].1.data, block(0xC3, &[2]));
    bench.send(extended(2));
    assert_eq!(bench.watch(3_000)[0].1.data, block(0x00, &ECHOED));
    assert_eq!(bench.rules(), []);
    // Without it the reader gives up before the card is ready.
    let mut bench = Bench::powered(slow());
    bench.apdu(&block(0x00, &ECHO));
    bench.send(extended(0));
    let got = bench.watch(3_000);
    assert_eq!((got[0].0, got[0].1.status), (1430, [0x40, 0xFE, 0]));
    assert_eq!(bench.rules(), [Rule::BlockWaitingTime]);
    // Nor unasked.
    let mut bench = Bench::powered(slow());
    let ifs = block(0xC1, &[254]);
    let level_parameter = LevelParameter::WHOLE;
    bench.ask(Command::XfrBlock { bwi: 5, level_parameter, data: &ifs });
    assert_eq!(bench.rules(), [Rule::BlockWaitingTime]);
}

#[test]
fn automatic_ifsd() {
    let features = Features::AUTO_VOLTAGE | Features::AUTO_PARAMETERS_FROM_ATR;
    let read = block(0x00, &[0, 0x12, 0, 100, 0]);
    let mut bench = Bench::powered(tpdu(FileCard::t1()).features(features | Features::AUTO_IFSD));
    assert_eq!(bench.apdu(&read).len(), 102 + 4);
    let mut bench = Bench::powered(tpdu(FileCard::t1()).features(features));
    assert_eq!(bench.apdu(&read).len(), 32 + 4);
}

#[test]
fn crc_has_to_be_set() {
    let atr = AtrBuilder::new(&[Protocol::T1], &[]).t1(0xFE, 0x45, true).build();
    // S(IFS request) for 254 bytes, and its answer.
    let request = crate::card::ifs_request(254, true);
    let manual = || tpdu(FileCard::t1().atr(&atr)).features(Features::AUTO_VOLTAGE);
    let mut bench = Bench::powered(manual());
    assert_eq!(bench.apdu(&request).len(), 5, "one byte short");
    bench.ask(set(1, &[0x11, 0x11, 0, 0x45, 0, 0xFE, 0]));
    assert_eq!(bench.apdu(&request).len(), 6);
    // And the other way round.
    let mut bench = Bench::powered(tpdu(FileCard::t1()).features(Features::AUTO_VOLTAGE));
    bench.ask(set(1, &[0x11, 0x11, 0, 0x45, 0, 0xFE, 0]));
    assert_eq!(bench.ask(xfr(&block(0xC1, &[254]))).status, [0x40, 0xFE, 0]);
}

#[test]
fn pps_and_then_the_parameters() {
    let pps = [0xFF, 0x11, 0x95, 0x7B];
    let fast = [0x95, 0x10, 0, 0x45, 0, 0xFE, 0];
    let mut bench = Bench::powered(tpdu(both()));
    assert_eq!(bench.apdu(&pps), pps);
    bench.ask(set(1, &fast));
    assert_eq!(bench.apdu(&block(0xC1, &[254])), block(0xE1, &[254]));
    assert_eq!(bench.rules(), []);
    // Parameters that PPS has not agreed to, or not all of it.
    for (pps, protocol, parameters, rule, error) in [
        (&pps[..], 1, &T1_AS_ATR[..], Rule::RateNeverAgreed, 0xFE),
        (&[0xFF, 0x01, 0xFE], 1, &fast, Rule::RateNeverAgreed, 0xFE),
        (&[], 1, &T1_AS_ATR, Rule::ProtocolNeverAgreed, 0xFE),
        (&[0xFF, 0x01, 0xFE], 0, &[0x11, 0, 0, 10, 0], Rule::ProtocolNeverAgreed, 0xFD),
        (&[0xFF, 0x10, 0x95, 0x7A], 0, &[0x11, 0, 0, 10, 0], Rule::RateNeverAgreed, 0xFD),
    ] {
        let mut bench = Bench::powered(tpdu(both()));
        if !pps.is_empty() {
            assert_eq!(bench.apdu(pps), pps);
        }
        assert_eq!(bench.ask(set(protocol, parameters)).status, [0, 0, protocol]);
        let sent = if protocol == 1 { block(0xC1, &[254]) } else { ECHO.to_vec() };
        bench.send(xfr(&sent));
        assert_eq!(bench.watch(5_000)[0].1.status, [0x40, error, 0]);
        assert_eq!(bench.rules(), [rule]);
    }
}

#[test]
fn cards_that_do_not_agree() {
    let pps = [0xFF, 0x11, 0x95, 0x7B];
    let card = |pps| tpdu(LineCard::new(both()).pps(pps));
    let mut bench = Bench::powered(card(PpsBehaviour::KeepsRate));
    assert_eq!(bench.apdu(&pps), [0xFF, 0x01, 0xFE]);
    bench.ask(set(1, &T1_AS_ATR));
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    let mut bench = Bench::powered(card(PpsBehaviour::Answers(vec![0xFF, 0x00, 0xFF])));
    assert_eq!(bench.apdu(&pps), [0xFF, 0x00, 0xFF]);
    bench.ask(set(1, &T1_AS_ATR));
    bench.send(xfr(&block(0x00, &ECHO)));
    assert_eq!(bench.watch(5_000)[0].1.status[1], 0xFE, "mute after what no card may answer");
    let mut bench = Bench::powered(card(PpsBehaviour::Mute));
    bench.send(xfr(&pps));
    assert_eq!(bench.watch(5_000)[0].1.status[1], 0xFE);
    assert_eq!(bench.rules(), []);
    let mut bench = Bench::powered(tpdu(both()));
    bench.send(xfr(&[0xFF, 0x11, 0x95, 0x7C]));
    assert_eq!(bench.watch(5_000)[0].1.status[1], 0xFE);
    assert_eq!(bench.rules(), [Rule::Contacts(Misuse::Pps)]);
}

#[test]
fn pps_comes_first_or_not_at_all() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()));
    bench.apdu(&block(0x00, &ECHO));
    bench.ask(xfr(&[0xFF, 0x11, 0x95, 0x7B]));
    assert_eq!(bench.rules(), [Rule::Contacts(Misuse::BlockLength)]);
    // Nor in specific mode, where Fi and Di of TA1 hold from the start.
    let atr = AtrBuilder::new(&[Protocol::T1], &[]).fi_di(0x95).specific_mode(0x81).build();
    let mut bench = Bench::powered(tpdu(FileCard::t1().atr(&atr)));
    assert_eq!(bench.ask(Command::GetParameters).data[0], 0x95);
    assert_eq!(bench.ask(xfr(&[0xFF, 0x11, 0x95, 0x7B])).status[0], 0);
    assert_eq!(bench.rules(), [Rule::Contacts(Misuse::BlockLength)]);
}

#[test]
fn rates_that_the_reader_cannot_do() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()));
    for fi_di in [0x97, 0x70, 0x1A] {
        let parameters = [fi_di, 0x10, 0, 0x45, 0, 0xFE, 0];
        assert_eq!(bench.ask(set(1, &parameters)).status, [0x40, 10, 0]);
    }
    assert_eq!(bench.rules(), [Rule::RateOfReader; 3]);
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
}

#[test]
fn a_reader_that_does_pps_by_itself() {
    let features = Features::AUTO_VOLTAGE | Features::AUTO_PPS;
    let mut bench = Bench::powered(tpdu(both()).features(features));
    let fast = [0x95, 0x10, 0, 0x45, 0, 0xFE, 0];
    assert_eq!(bench.ask(set(1, &fast)).data, fast);
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    // A card that keeps its rate: the reader says what holds.
    let card = LineCard::new(both()).pps(PpsBehaviour::KeepsRate);
    let mut bench = Bench::powered(tpdu(card).features(features));
    assert_eq!(bench.ask(set(1, &fast)).data, T1_AS_ATR);
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    assert_eq!(bench.rules(), []);
}

#[test]
fn t0_by_characters() {
    let select = [0, 0xA4, 0, 0x0C, 2, 0x50, 0x15];
    let mut bench = Bench::powered(characters(FileCard::t0()));
    assert_eq!(bench.ask(read(&select[..5], 1)).data, [0xA4]);
    assert_eq!(bench.ask(read(&select[5..], 2)).data, [0x90, 0x00]);
    assert_eq!(bench.ask(read(&[0, 0xB0, 0x81, 0, 4], 1)).data, [0xB0]);
    assert_eq!(bench.ask(read(&[], 4)).data, b"A si");
    assert_eq!(bench.ask(read(&[], 1)).data, [0x90]);
    assert_eq!(bench.ask(read(&[], 1)).data, [0x00]);
    assert_eq!(bench.rules(), []);
    // No more comes.
    bench.send(read(&[], 1));
    let got = bench.watch(5_000);
    assert_eq!((got[0].0, got[0].1.status), (893, [0x40, 0xFE, 0]));
}

#[test]
fn t0_one_by_one_with_nulls() {
    let card = LineCard::new(FileCard::t0()).acknowledge(Acknowledge::One).nulls(1);
    let mut bench = Bench::powered(characters(card));
    assert_eq!(bench.ask(read(&[0, 0xA4, 0, 0x0C, 2], 1)).data, [0x60]);
    assert_eq!(bench.ask(read(&[], 1)).data, [0x5B]);
    assert_eq!(bench.ask(read(&[0x50], 2)).data, [0x60, 0x5B]);
    assert_eq!(bench.ask(read(&[0x15], 3)).data, [0x60, 0x90, 0x00]);
    assert_eq!(bench.ask(read(&[0, 0xA4, 0, 0x0C, 1, 9], 1)).data, [0x60]);
    assert_eq!(bench.rules(), [Rule::Contacts(Misuse::UnexpectedCharacters)]);
}

#[test]
fn t0_waits_by_null_bytes() {
    let pace = Pace::Extend { periods: 2, period: Duration::from_millis(500), multiplier: 1 };
    let mut bench = Bench::powered(characters(FileCard::t0().pace(0xA4, pace)));
    for expected in [500, 1000] {
        let sent: &[u8] = if expected == 500 { &[0, 0xA4, 0, 0x0C, 0] } else { &[] };
        bench.send(read(sent, 1));
        let got = bench.watch(500);
        assert_eq!((got[0].0, &got[0].1.data[..]), (expected, &[0x60][..]));
    }
    bench.send(read(&[], 2));
    let got = bench.watch(5_000);
    assert_eq!((got[0].0, &got[0].1.data[..]), (1500, &[0x90, 0x00][..]));
    // All in one read.
    let mut bench = Bench::powered(characters(FileCard::t0().pace(0xA4, pace)));
    bench.send(read(&[0, 0xA4, 0, 0x0C, 0], 4));
    let got = bench.watch(5_000);
    assert_eq!((got[0].0, &got[0].1.data[..]), (1500, &[0x60, 0x60, 0x90, 0x00][..]));
}

#[test]
fn t1_by_characters() {
    let mut bench = Bench::powered(characters(FileCard::t1()));
    assert_eq!(bench.ask(read(&block(0x00, &ECHO), 3)).data, [0, 0, 4]);
    assert_eq!(bench.ask(read(&[], 5)).data, block(0x00, &ECHOED)[3..]);
    assert_eq!(bench.ask(read(&block(0x40, &ECHO), 0)).data, []);
    assert_eq!(bench.ask(read(&[], 8)).data, block(0x40, &ECHOED));
    assert_eq!(bench.rules(), []);
    // What nobody reads is gone with the next block.
    assert_eq!(bench.ask(read(&block(0x00, &ECHO), 3)).data, [0, 0, 4]);
    assert_eq!(bench.ask(read(&block(0x40, &ECHO), 3)).data, [0, 0x40, 4]);
    let wrong = bench.ask(read(&[], 1000));
    assert_eq!(wrong.status, [0x40, 8, 0]);
    assert_eq!(bench.rules(), [Rule::LevelParameter]);
}

#[test]
fn faults_by_characters() {
    let faults = Faults::at(1, Fault::Parity).and_at(2, Fault::Mute).and_at(3, Fault::Truncated);
    let mut bench = Bench::powered(characters(LineCard::new(FileCard::t1()).faults(faults)));
    assert_eq!(bench.ask(read(&block(0x00, &ECHO), 3)).status, [0x40, 0xFD, 0]);
    bench.send(read(&block(0x80, &[]), 3));
    assert_eq!(bench.watch(2_000)[0].1.status, [0x40, 0xFE, 0]);
    assert_eq!(bench.ask(read(&block(0x80, &[]), 3)).data, [0, 0, 4]);
    bench.send(read(&[], 5));
    assert_eq!(bench.watch(2_000)[0].1.status, [0x40, 0xFE, 0]);
    assert_eq!(bench.ask(read(&block(0x80, &[]), 8)).data, block(0x00, &ECHOED));
}

#[test]
fn pps_by_characters() {
    let pps = [0xFF, 0x11, 0x95, 0x7B];
    let mut bench = Bench::powered(characters(both()));
    assert_eq!(bench.ask(read(&pps, 2)).data, pps[..2]);
    assert_eq!(bench.ask(read(&[], 2)).data, pps[2..]);
    bench.ask(set(1, &[0x95, 0x10, 0, 0x45, 0, 0xFE, 0]));
    assert_eq!(bench.ask(read(&block(0x00, &ECHO), 8)).data, block(0x00, &ECHOED));
    assert_eq!(bench.rules(), []);
    // At the wrong rate a card of T=0 signals an error.
    let mut bench = Bench::powered(characters(FileCard::t0()));
    bench.ask(set(0, &[0x95, 0, 0, 10, 0]));
    assert_eq!(bench.ask(read(&ECHO[..5], 1)).status, [0x40, 0xFD, 0]);
    assert_eq!(bench.rules(), [Rule::RateNeverAgreed]);
}

#[test]
fn an_abort_in_the_middle_of_a_block() {
    let mut bench = Bench::powered(tpdu(FileCard::t1()));
    bench.apdu(&block(0xC1, &[254]));
    let seq = bench.send(xfr(&block(0x00, &[0, 0x14, 0x01, 0x00]))).0;
    bench.abort_request(seq + 1);
    bench.abort_message(seq + 1);
    bench.seq += 1;
    let got = [bench.get(), bench.get()].map(|got| (got.message_type, got.status));
    assert_eq!(got, [(DATA_BLOCK, [0x40, 0xFF, 0]), (0x81, [0, 0, 0])]);
    assert_eq!(bench.apdu(&block(0xC0, &[])), block(0xE0, &[]));
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    // One that would never have answered needs a reset.
    let seq = bench.send(xfr(&block(0x40, &[0, 0x16, 0, 0]))).0;
    assert_eq!(bench.watch(100_000), []);
    bench.abort_request(seq + 1);
    bench.abort_message(seq + 1);
    bench.seq += 1;
    bench.watch(0);
    bench.send(xfr(&block(0xC0, &[])));
    assert_eq!(bench.watch(5_000)[0].1.status, [0x40, 0xFE, 0]);
    bench.ask(POWER_ON);
    assert_eq!(bench.apdu(&block(0x00, &ECHO)), block(0x00, &ECHOED));
    assert_eq!(bench.rules(), []);
}

#[test]
fn failures_by_a_message_that_is_no_answer() {
    let mut bench = Bench::new(Reader::builder().failure_message(FailureMessage::Foreign));
    assert_eq!(bench.ask(POWER_ON).message_type, 0x6C);
    assert_eq!(bench.ask(Command::GetSlotStatus).message_type, 0x81, "no failure");
}
