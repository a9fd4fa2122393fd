//! Cards in and out, power, parameters, and the commands around them.

use super::*;
use crate::card::{Pace, Protocol, atr::AtrBuilder};
use ccid::descriptor::{Features, Voltages};
use ccid::wire::ClockCommand;
use std::time::Duration;

const STATUS: Command<'static> = Command::GetSlotStatus;
const NO_CARD: [u8; 3] = [0x42, 0xFE, 0];

#[test]
fn without_a_card() {
    let mut bench = Bench::new(Reader::builder());
    assert_eq!(bench.ask(STATUS).status, [2, 0, 1]);
    assert_eq!(bench.ask(POWER_ON).status, NO_CARD);
    assert_eq!(bench.ask(xfr(&[0; 4])).status, NO_CARD);
    assert_eq!(bench.ask(Command::GetParameters).status, NO_CARD);
    assert_eq!(bench.ask(Command::IccPowerOff).status, [2, 0, 1]);
}

#[test]
fn power_on_and_off() {
    let mut bench = Bench::new(t1());
    assert_eq!(bench.ask(STATUS).status, [1, 0, 1]);
    assert_eq!(bench.ask(xfr(&[0; 4])).status, [0x41, 0xFE, 0]);
    let atr = bench.ask(POWER_ON).data;
    assert_eq!((atr[0], atr.iter().skip(1).fold(0, |sum, byte| sum ^ byte)), (0x3B, 0));
    assert_eq!(bench.ask(STATUS).status, [0, 0, 0]);
    assert_eq!(bench.ask(Command::IccPowerOff).status, [1, 0, 1]);
    assert_eq!(bench.ask(xfr(&[0; 4])).status, [0x41, 0xFE, 0]);
}

#[test]
fn power_on_takes_its_time() {
    let mut bench = Bench::new(t1().power_up(Duration::from_millis(70)));
    bench.send(POWER_ON);
    let got = bench.watch(100);
    assert_eq!((got[0].0, got[0].1.status), (70, [0, 0, 0]));
    let pace = Pace::Extend { periods: 1, period: Duration::from_millis(20), multiplier: 1 };
    let mut bench = Bench::new(Reader::builder().card(SLOT, FileCard::t1().power_up(pace)));
    bench.send(POWER_ON);
    let got: Vec<_> = bench.watch(100).iter().map(|(at, got)| (*at, got.status[0])).collect();
    assert_eq!(got, [(20, 0x81), (40, 0)]);
}

#[test]
fn mute_cards_and_bad_atrs() {
    let error = |card: FileCard| {
        let mut bench = Bench::new(Reader::builder().card(SLOT, card));
        bench.send(POWER_ON);
        bench.watch(2000)[0].1.status
    };
    assert_eq!(error(FileCard::t1().power_up(Pace::Mute)), [0x41, 0xFE, 0]);
    assert_eq!(error(FileCard::t1().atr(&[])), [0x41, 0xFE, 0]);
    assert_eq!(error(FileCard::t0().atr(&[0x3B; 34])), [0x41, 0xFE, 0]);
    let mut atr = AtrBuilder::new(&[Protocol::T1], b"x").build();
    *atr.last_mut().unwrap() ^= 1;
    assert_eq!(error(FileCard::t1().atr(&atr)), [0x41, 0xF7, 0]);
    assert_eq!(error(FileCard::t1().atr(&[0x23, 0x00])), [0x41, 0xF8, 0]);
}

#[test]
fn voltages() {
    let ask = |select, reader: ReaderBuilder| {
        let card = FileCard::t1().works_at(Voltages::V3);
        let mut bench = Bench::new(reader.card(SLOT, card));
        bench.send(Command::IccPowerOn { power_select: select });
        bench.watch(2000)[0].1.status
    };
    assert_eq!(ask(PowerSelect::V3, Reader::builder()), [0, 0, 0]);
    assert_eq!(ask(PowerSelect::Automatic, Reader::builder()), [0, 0, 0]);
    assert_eq!(ask(PowerSelect::V5, Reader::builder()), [0x41, 0xFE, 0]);
    assert_eq!(ask(PowerSelect::V3, Reader::builder().voltages(Voltages::V5)), [0x41, 7, 0]);
    let by_hand = Reader::builder().features(Features::empty());
    assert_eq!(ask(PowerSelect::Automatic, by_hand), [0x41, 7, 0]);
    assert_eq!(ask(PowerSelect::Unknown(4), Reader::builder()), [0x41, 7, 0]);
}

#[test]
fn parameters_follow_the_atr() {
    let mut bench = Bench::powered(t0());
    let got = bench.ask(Command::GetParameters);
    assert_eq!((got.message_type, got.status), (PARAMETERS, [0, 0, 0]));
    assert_eq!(got.data, [0x11, 0x00, 0x00, 0x0A, 0x00]);
    let mut bench = Bench::powered(t1());
    let got = bench.ask(Command::GetParameters);
    assert_eq!((got.status, &got.data[..]), ([0, 0, 1], &[0x95, 0x10, 0, 0x45, 0, 0xFE, 0][..]));
    let set = [0x96, 0x11, 1, 0x75, 0, 0x20, 0];
    let set_command = Command::SetParameters { protocol_num: 1, data: &set };
    assert_eq!(bench.ask(set_command).data, set);
    assert_eq!(bench.ask(Command::GetParameters).data, set);
    let reset = [0x11, 0x10, 0, 0x4D, 0, 0x20, 0];
    assert_eq!(bench.ask(Command::ResetParameters).data, reset);
    bench.ask(Command::IccPowerOff);
    assert_eq!(bench.ask(Command::GetParameters).status, [0x41, 0xFE, 0]);
}

#[test]
fn parameters_that_are_wrong() {
    let mut bench = Bench::powered(t1());
    for (protocol_num, data, error) in
        [(0, &[0; 7][..], 1), (1, &[0; 5], 1), (2, &[0; 5], 7), (0, &[0; 5], 0xF6)]
    {
        let set = Command::SetParameters { protocol_num, data };
        assert_eq!(bench.ask(set).status, [0x40, error, 0]);
    }
    assert_eq!(bench.rules(), [Rule::BadContent; 3]);
}

#[test]
fn the_reader_negotiates_a_protocol() {
    let both = || Reader::builder().card(SLOT, FileCard::new(&[Protocol::T0, Protocol::T1]));
    // The card begins with T=0. A reader that knows T=1 only changes to it.
    let builder = both().protocols(ccid::descriptor::ReaderProtocols::T1);
    let mut bench = Bench::powered(builder);
    assert_eq!(bench.ask(Command::GetParameters).status[2], 1);
    assert_eq!(bench.apdu(&[0x00, 0x10, 0, 0]), [0x90, 0x00]);
    // SetParameters changes it as well, from any point.
    let mut bench = Bench::powered(both());
    assert_eq!(bench.apdu(&[0x00, 0x10, 0, 0]), [0x90, 0x00]);
    let t1 = Command::SetParameters { protocol_num: 1, data: &[0x11, 0x10, 0, 0x45, 0, 0xFE, 0] };
    assert_eq!(bench.ask(t1).status, [0, 0, 1]);
    let answer = bench.apdu(&[0x00, 0x12, 0x01, 0x00, 0, 1, 0]);
    assert_eq!(answer.len(), 258);
}

#[test]
fn clock_and_rates() {
    let builder = t1()
        .features(Features::CLOCK_STOP | Features::AUTO_VOLTAGE)
        .clock_frequencies(&[4000, 8000])
        .data_rates(&[10_752, 21_504]);
    let mut bench = Bench::powered(builder);
    let stop = Command::IccClock { clock_command: ClockCommand::Stop };
    assert_eq!(bench.ask(stop).status, [0, 0, 1]);
    assert_eq!(bench.ask(STATUS).status, [0, 0, 1]);
    let restart = Command::IccClock { clock_command: ClockCommand::Restart };
    assert_eq!(bench.ask(restart).status, [0, 0, 0]);
    let unknown = Command::IccClock { clock_command: ClockCommand::Unknown(2) };
    assert_eq!(bench.ask(unknown).status, [0x40, 7, 0]);
    let rates = Command::SetDataRateAndClockFrequency { clock_frequency: 8000, data_rate: 5 };
    let got = bench.ask(rates);
    assert_eq!((got.message_type, got.status), (0x84, [0, 0, 0]));
    assert_eq!(got.data, [8000u32.to_le_bytes(), 10_752u32.to_le_bytes()].concat());
    let frequencies = bench.control(ClassRequest::GetClockFrequencies { length: 8 });
    let expected = [4000u32.to_le_bytes(), 8000u32.to_le_bytes()].concat();
    assert_eq!(frequencies, ControlReply::Data(expected.into()));
    let rates = bench.control(ClassRequest::GetDataRates { length: 4 });
    assert_eq!(rates, ControlReply::Data(Bytes::copy_from_slice(&10_752u32.to_le_bytes())));
    let none = Bench::new(t1()).control(ClassRequest::GetDataRates { length: 4 });
    assert_eq!(none, ControlReply::Stall);
}

#[test]
fn t0_classes() {
    let mut bench = Bench::powered(t0());
    let set = Command::T0Apdu { changes: 1, class_get_response: 0x00, class_envelope: 0x00 };
    assert_eq!(bench.ask(set).status, [0, 0, 0]);
    // The data of a command of class 80h is fetched with class 00h; the card does not mind.
    assert_eq!(bench.apdu(&[0x80, 0x10, 0, 0, 2, 7, 8, 0]), [7, 8, 0x90, 0x00]);
    let mut tpdu = Bench::powered(t0().level(Level::Tpdu));
    assert_eq!(tpdu.ask(set).status, [0x40, 0, 0]);
}

#[test]
fn escape() {
    let mut bench = Bench::new(t1().firmware("firmware 7"));
    let got = bench.ask(Command::Escape { data: &[0x01, 1, 2, 3] });
    assert_eq!((got.message_type, got.status, &got.data[..]), (ESCAPE, [1, 0, 0], &[1, 2, 3][..]));
    assert_eq!(bench.ask(Command::Escape { data: &[0x02] }).data, b"firmware 7");
    assert_eq!(bench.ask(Command::Escape { data: &[0x99] }).status, [0x41, 10, 0]);
    let mut known = Bench::new(t1().escape(&[0x6A, 1], &[7, 8]).escape(&[0x02], b"other"));
    assert_eq!(known.ask(Command::Escape { data: &[0x6A, 1] }).data, [7, 8]);
    assert_eq!(known.ask(Command::Escape { data: &[0x02] }).data, b"other");
    bench.send(Command::Escape { data: &[0x03, 0x01, 0x00] });
    assert_eq!(bench.watch(1000)[0].0, 256);
    bench.send(Command::Escape { data: &[0x04] });
    assert_eq!(bench.watch(100_000), []);
}

#[test]
fn notifications() {
    let builder = Reader::builder().slots(5).card(Slot(1), FileCard::t1());
    let mut bench = Bench::new(builder);
    assert_eq!(bench.notification(), Some(vec![0x50, 0b0000_1100, 0]), "what was there");
    assert_eq!(bench.notification(), None);
    bench.reader.insert(Slot(4), FileCard::t1());
    assert_eq!(bench.notification(), Some(vec![0x50, 0b0000_0100, 0b11]));
    bench.reader.remove(Slot(1));
    assert_eq!(bench.notification(), Some(vec![0x50, 0b0000_1000, 0b01]));
    // In and out again between two notifications.
    bench.reader.insert(SLOT, FileCard::t1());
    bench.reader.remove(SLOT);
    assert_eq!(bench.notification(), Some(vec![0x50, 0b0000_0010, 0b01]));
    assert_eq!(bench.notification(), None);
    let mut without = Bench::new(t1().without_interrupt());
    assert_eq!(without.notification(), None);
}

#[test]
fn hardware_errors() {
    let mut bench = Bench::powered(t1());
    bench.notification();
    let seq = bench.send(xfr(&[0x00, 0x14, 0, 50])).0;
    bench.reader.hardware_error(SLOT, 1);
    assert_eq!(bench.notification(), Some(vec![0x51, 0, seq, 1]));
    assert_eq!(bench.notification(), None);
}

#[test]
fn a_card_taken_out_during_a_command() {
    let mut bench = Bench::powered(t1());
    let seq = bench.send(xfr(&[0x00, 0x16, 0, 0])).0;
    assert!(bench.reader.remove(SLOT).is_some());
    let got = bench.get();
    assert_eq!((got.message_type, got.seq, got.status), (DATA_BLOCK, seq, NO_CARD));
    let mut lost = Bench::powered(t1().on_removal(OnRemoval::NeverAnswers));
    lost.send(xfr(&[0x00, 0x14, 0x01, 0x00]));
    lost.reader.remove(SLOT);
    assert_eq!(lost.watch(100_000), []);
    assert_eq!(lost.ask(STATUS).status, [2, 0, 1]);
    // An escape command needs no card.
    let mut bench = Bench::powered(t1());
    bench.send(Command::Escape { data: &[0x03, 0, 50] });
    bench.reader.remove(SLOT);
    assert_eq!(bench.watch(100)[0].1.status, [2, 0, 0]);
}

#[test]
fn a_card_exchanged_is_another_one() {
    let mut bench = Bench::powered(t1());
    assert!(bench.reader.insert(SLOT, FileCard::t0()).is_some());
    assert_eq!(bench.ask(STATUS).status, [1, 0, 1]);
    assert!(bench.reader.insert(Slot(9), FileCard::t0()).is_some(), "there is no such slot");
    assert!(bench.reader.remove(Slot(9)).is_none());
}

#[test]
fn the_timeline() {
    let ms = Duration::from_millis;
    let builder =
        Reader::builder().insert_after(ms(300), SLOT, FileCard::t1()).remove_after(ms(700), SLOT);
    let mut reader = builder.build();
    assert_eq!(reader.poll_deadline(), None, "time has not begun");
    let at = Instant::from_millis;
    reader.reset(at(5000));
    assert_eq!(reader.poll_deadline(), Some(at(5300)));
    assert_eq!(reader.poll_interrupt(at(5299)), None);
    reader.handle_timeout(at(5300));
    assert!(reader.has_card(SLOT));
    assert_eq!(reader.poll_interrupt(at(5300)).unwrap()[..], [0x50, 0b11]);
    assert_eq!(reader.poll_interrupt(at(5800)).unwrap()[..], [0x50, 0b10]);
    assert_eq!(reader.poll_deadline(), None);
}

#[test]
fn reset_takes_everything_back_but_the_card() {
    let mut bench = Bench::powered(t1());
    bench.notification();
    bench.send(xfr(&[0x00, 0x14, 0, 50]));
    // Half a message, and an answer that nobody fetches.
    bench.raw(&[0x65, 0, 0]);
    let now = bench.now();
    bench.reader.reset(now);
    assert_eq!(bench.watch(1000), []);
    assert_eq!(bench.notification(), Some(vec![0x50, 0b11]));
    assert_eq!(bench.ask(STATUS).status, [1, 0, 1]);
}

#[test]
fn slots_work_side_by_side() {
    let builder = t1().slots(3).card(Slot(1), FileCard::t0());
    let mut bench = Bench::powered(builder);
    bench.ask_at(Slot(1), POWER_ON);
    bench.send(xfr(&[0x00, 0x14, 0, 100]));
    bench.send_to(Slot(1), xfr(&[0x00, 0x14, 0, 50]));
    assert_eq!(bench.ask_at(Slot(2), STATUS).status, [2, 0, 1]);
    let order: Vec<_> = bench.watch(1000).iter().map(|(at, got)| (*at, got.slot)).collect();
    assert_eq!(order, [(50, 1), (100, 0)]);
    assert_eq!(bench.rules(), []);
}

#[test]
fn a_late_poll_sees_everything_in_order() {
    let mut bench = Bench::powered(t1().slots(2).card(Slot(1), FileCard::t1()));
    bench.ask_at(Slot(1), POWER_ON);
    bench.send(xfr(&[0x00, 0x14, 0, 100]));
    bench.send_to(Slot(1), xfr(&[0x00, 0x14, 0, 50]));
    bench.wait(10_000);
    assert_eq!((bench.get().slot, bench.get().slot), (1, 0));
}
