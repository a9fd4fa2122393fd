//! Exchanges at every level, with either protocol.

use super::*;
use crate::card::{APPLICATION, Pace, Protocol};
use std::time::Duration;

fn select() -> Vec<u8> {
    [&[0x00, 0xA4, 0x04, 0x0C, 7][..], &APPLICATION].concat()
}

#[test]
fn t1_at_apdu_level() {
    let mut bench = Bench::powered(t1());
    assert_eq!(bench.apdu(&select()), [0x90, 0x00]);
    let text = bench.apdu(&[0x00, 0xB0, 0x81, 0, 0]);
    assert_eq!(text, b"A simulated card\x90\x00");
    assert_eq!(bench.rules(), []);
}

#[test]
fn t0_at_apdu_level_is_done_by_the_reader() {
    for level in [Level::ShortApdu, Level::ExtendedApdu] {
        let mut bench = Bench::powered(t0().level(level));
        // GET RESPONSE.
        let fci = bench.apdu(&[&[0x00, 0xA4, 0x04, 0x00, 7][..], &APPLICATION, &[0]].concat());
        assert_eq!((fci[0], &fci[fci.len() - 2..]), (0x6F, &[0x90, 0x00][..]));
        // 6Cxx.
        assert_eq!(bench.apdu(&[0x00, 0xB0, 0x81, 0, 0]), b"A simulated card\x90\x00");
        // A command of case 1.
        assert_eq!(bench.apdu(&[0x00, 0xEE, 0, 0]), [0x6D, 0x00]);
    }
}

#[test]
fn t0_at_tpdu_level_is_done_by_the_host() {
    let mut bench = Bench::powered(t0().level(Level::Tpdu));
    let select = [&[0x00, 0xA4, 0x04, 0x00, 7][..], &APPLICATION].concat();
    let announced = bench.apdu(&select);
    assert_eq!((announced.len(), announced[0]), (2, 0x61));
    let fci = bench.apdu(&[0x00, 0xC0, 0, 0, announced[1]]);
    assert_eq!(fci.len(), usize::from(announced[1]) + 2);
    assert_eq!(bench.apdu(&[0x00, 0xB0, 0x81, 0, 0]), [0x6C, 16]);
    assert_eq!(bench.apdu(&[0x00, 0xB0, 0x81, 0, 16]), b"A simulated card\x90\x00");
    // Case 1 in four bytes and in five.
    assert_eq!(bench.apdu(&[0x00, 0xEE, 0, 0]), [0x6D, 0x00]);
    assert_eq!(bench.apdu(&[0x00, 0xEE, 0, 0, 0]), [0x6D, 0x00]);
    assert_eq!(bench.rules(), []);
}

#[test]
fn pps_at_tpdu_level_passes() {
    let card = FileCard::new(&[Protocol::T0, Protocol::T1]);
    let mut bench = Bench::powered(Reader::builder().level(Level::Tpdu).card(SLOT, card));
    let pps = [0xFF, 0x10, 0x95, 0x7A];
    assert_eq!(bench.apdu(&pps), pps);
    bench.ask(Command::SetParameters { protocol_num: 0, data: &[0x95, 0, 0, 10, 0] });
    assert_eq!(bench.apdu(&[0x00, 0xEE, 0, 0, 0]), [0x6D, 0x00]);
}

#[test]
fn what_is_no_tpdu_or_apdu_is_refused() {
    for (bench, bad) in [
        (t0().level(Level::Tpdu), &[0x00, 0xA4, 0, 0, 2, 0x3F][..]),
        (t0().level(Level::Tpdu), &[0x00, 0xA4, 0]),
        (t1(), &[0x00, 0xA4, 0]),
        (t0(), &[0x00, 0xA4, 0, 0, 2, 0x3F]),
        (t1().level(Level::ShortApdu).max_message_length(400), &[0; 262]),
    ] {
        let mut bench = Bench::powered(bench);
        assert_eq!(bench.ask(xfr(bad)).status, [0x40, 0x01, 0]);
        assert_eq!(bench.rules(), [Rule::BadContent]);
    }
}

#[test]
fn a_protocol_the_reader_does_not_know() {
    let t0_only = ccid::descriptor::ReaderProtocols::T0;
    let mut bench = Bench::powered(t1().level(Level::Tpdu).protocols(t0_only));
    assert_eq!(bench.ask(xfr(&[0, 0, 0, 0])).status, [0x40, 0xF6, 0]);
}

#[test]
fn long_apdus_in_one_message() {
    let mut bench = Bench::powered(t1());
    let echo = [&[0x00, 0x10, 0, 0, 0, 0x10, 0][..], &[9; 4096], &[0, 0]].concat();
    let answer = bench.apdu(&echo);
    assert_eq!((answer.len(), &answer[4096..]), (4098, &[0x90, 0x00][..]));
}

/// Sends an APDU in parts of `part` bytes, and gets the response in parts.
fn in_parts(bench: &mut Bench, apdu: &[u8], part: usize) -> (Vec<u8>, Vec<u8>) {
    let last = apdu.len().div_ceil(part) - 1;
    let mut got = None;
    for (n, bytes) in apdu.chunks(part).enumerate() {
        let level = match n {
            0 if last == 0 => LevelParameter::WHOLE,
            0 => LevelParameter::BEGIN,
            n if n == last => LevelParameter::END,
            _ => LevelParameter::CONTINUE,
        };
        let answer = bench.ask(xfr_part(level, bytes));
        if n < last {
            assert_eq!((answer.status, answer.data.len()), ([0, 0, 0x10], 0));
        }
        got = Some(answer);
    }
    let mut got = got.unwrap();
    let (mut chain, mut data) = (Vec::new(), Vec::new());
    loop {
        assert_eq!(got.status[..2], [0, 0]);
        chain.push(got.status[2]);
        data.extend(&got.data);
        match got.status[2] {
            1 | 3 => got = bench.ask(xfr_part(LevelParameter::CONTINUE_RESPONSE, &[])),
            _ => return (chain, data),
        }
    }
}

#[test]
fn long_apdus_in_parts() {
    for builder in [t1(), t0()] {
        let mut bench = Bench::powered(builder.max_message_length(271));
        let echo = [&[0x00, 0x10, 0, 0, 0, 2, 88][..], &[9; 600], &[0, 0]].concat();
        let (chain, data) = in_parts(&mut bench, &echo, 261);
        assert_eq!(chain, [1, 3, 2]);
        assert_eq!((data.len(), &data[600..]), (602, &[0x90, 0x00][..]));
        // Exactly as much as a message holds is no chain.
        let (chain, data) = in_parts(&mut bench, &[0x00, 0x12, 1, 3, 0, 1, 3], 261);
        assert_eq!((chain, data.len()), (vec![0], 261));
        assert_eq!(bench.rules(), []);
    }
}

#[test]
fn a_chain_out_of_order_is_refused_and_forgotten() {
    for (before, wrong) in [
        (None, LevelParameter::CONTINUE),
        (None, LevelParameter::END),
        (None, LevelParameter::CONTINUE_RESPONSE),
        (None, LevelParameter(0x77)),
        (Some(LevelParameter::BEGIN), LevelParameter::WHOLE),
        (Some(LevelParameter::BEGIN), LevelParameter::BEGIN),
        (Some(LevelParameter::BEGIN), LevelParameter::CONTINUE_RESPONSE),
    ] {
        let mut bench = Bench::powered(t1());
        if let Some(before) = before {
            assert_eq!(bench.ask(xfr_part(before, &[0x00])).status, [0, 0, 0x10]);
        }
        assert_eq!(bench.ask(xfr_part(wrong, &[])).status, [0x40, 0x08, 0]);
        assert_eq!(bench.rules(), [Rule::LevelParameter]);
        assert_eq!(bench.apdu(&[0x00, 0x10, 0, 0]), [0x90, 0x00]);
    }
    let mut bench = Bench::powered(t1().level(Level::ShortApdu));
    let part = xfr_part(LevelParameter::BEGIN, &[0x00, 0x10, 0, 0]);
    assert_eq!(bench.ask(part).status, [0x40, 0x08, 0]);
}

#[test]
fn a_chain_has_an_end() {
    let mut bench = Bench::powered(t1());
    let part = [0; 40_000];
    assert_eq!(bench.ask(xfr_part(LevelParameter::BEGIN, &part)).status, [0, 0, 0x10]);
    assert_eq!(bench.ask(xfr_part(LevelParameter::CONTINUE, &part)).status, [0x40, 0x01, 0]);
    assert_eq!(bench.ask(xfr_part(LevelParameter::END, &[])).status, [0x40, 0x08, 0]);
}

#[test]
fn another_command_ends_a_chain() {
    let mut bench = Bench::powered(t1());
    bench.ask(xfr_part(LevelParameter::BEGIN, &[0x00, 0x10]));
    bench.ask(Command::GetSlotStatus);
    assert_eq!(bench.ask(xfr_part(LevelParameter::END, &[0, 0])).status, [0, 0, 0]);
    bench.ask(xfr_part(LevelParameter::BEGIN, &[0x00, 0x10]));
    bench.ask(Command::GetParameters);
    assert_eq!(bench.ask(xfr_part(LevelParameter::END, &[0, 0])).status[..2], [0x40, 0x08]);
}

#[test]
fn the_card_answers_when_it_does() {
    let mut bench = Bench::powered(t1());
    let seq = bench.send(xfr(&[0x00, 0x14, 0x01, 0x00])).0;
    assert!(bench.reader.is_busy(SLOT));
    let got = bench.watch(1000);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].0, got[0].1.seq, &got[0].1.data[..]), (256, seq, &[0x90, 0x00][..]));
    assert!(!bench.reader.is_busy(SLOT));
}

#[test]
fn time_extensions_of_the_card() {
    let mut bench = Bench::powered(t1());
    let seq = bench.send(xfr(&[0x00, 0x18, 2, 5])).0;
    let got = bench.watch(1000);
    let times: Vec<_> = got.iter().map(|(at, got)| (*at, got.seq, got.status)).collect();
    let asks = [0x80, 1, 0];
    assert_eq!(times, [(50, seq, asks), (100, seq, asks), (150, seq, [0, 0, 0])]);
    assert!(got[0].1.data.is_empty());
}

#[test]
fn a_card_that_asks_for_ever_fills_no_buffer() {
    let pace = Pace::ExtendForEver { period: Duration::from_millis(10), multiplier: 3 };
    let mut bench = Bench::powered(Reader::builder().card(SLOT, FileCard::t1().pace(0xA4, pace)));
    bench.send(xfr(&[0x00, 0xA4, 0, 0x0C]));
    assert_eq!(bench.watch(100).len(), 10);
    // Not fetched for a while.
    bench.wait(60_000);
    assert_eq!(bench.get().status, [0x80, 3, 0]);
    assert_eq!(bench.poll(), None);
    assert!(bench.reader.is_busy(SLOT));
}

#[test]
fn requests_nobody_fetches_cost_nothing() {
    let builder = t1().busy_extension(Duration::from_millis(1), 1);
    let mut bench = Bench::powered(builder);
    let pace = |periods| Pace::Extend { periods, period: Duration::from_millis(1), multiplier: 2 };
    bench.reader.insert(SLOT, FileCard::t1().pace(0xA4, pace(u32::MAX)));
    bench.ask(POWER_ON);
    bench.send(xfr(&[0x00, 0xA4, 0, 0x0C]));
    // A year.
    bench.wait(365 * 24 * 3600 * 1000);
    let times: Vec<_> = std::iter::from_fn(|| bench.poll()).map(|got| got.status[0]).collect();
    assert_eq!(times, [0x80, 0], "one request, and the answer after 50 days");
    assert!(!bench.reader.is_busy(SLOT));
    assert_eq!(bench.reader.seen().last().map(|seen| seen.at), {
        Some(Instant::from_millis(u64::from(u32::MAX) + 1))
    });
}

#[test]
fn time_extensions_of_the_reader() {
    let mut bench = Bench::powered(t1().busy_extension(Duration::from_millis(100), 1));
    bench.send(xfr(&[0x00, 0x14, 0x00, 250]));
    let got: Vec<_> = bench.watch(1000).iter().map(|(at, got)| (*at, got.status[0])).collect();
    assert_eq!(got, [(100, 0x80), (200, 0x80), (250, 0)]);
}

#[test]
fn a_silent_card_is_mute_after_the_waiting_time() {
    let mut bench = Bench::powered(t1());
    bench.send(xfr(&[0x00, 0x1A, 0, 0]));
    let got = bench.watch(5000);
    assert_eq!((got.len(), got[0].0, got[0].1.status), (1, 1000, [0x40, 0xFE, 0]));
    let mut patient = Bench::powered(t1().waiting_time(None));
    patient.send(xfr(&[0x00, 0x1A, 0, 0]));
    assert_eq!(patient.watch(100_000), []);
}

#[test]
fn one_that_never_answers() {
    let mut bench = Bench::powered(t1());
    bench.send(xfr(&[0x00, 0x16, 0, 0]));
    assert_eq!(bench.watch(1_000_000), []);
    assert!(bench.reader.is_busy(SLOT));
}

#[test]
fn a_response_that_does_not_fit_is_an_overrun() {
    let mut bench = Bench::powered(t1().level(Level::ShortApdu).max_message_length(64));
    assert_eq!(bench.ask(xfr(&[0x00, 0x12, 0, 53])).status, [0x40, 0xFC, 0]);
    assert_eq!(bench.apdu(&[0x00, 0x12, 0, 52]).len(), 54);
}
