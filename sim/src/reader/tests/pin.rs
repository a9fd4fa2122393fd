//! PIN entry at the reader.

use super::*;
use ccid::descriptor::PinSupport;

pub(super) fn pinpad() -> ReaderBuilder {
    t1().pin_support(PinSupport::VERIFY)
}

/// VERIFY of reference 81h, ASCII, 4 to 8 digits, ended by a key, within 10 s.
pub(super) fn fields() -> Vec<u8> {
    let fields = [0, 10, 0x82, 0, 0, 8, 4, 0x02, 1, 9, 4, 0, 0, 0, 0];
    [&fields[..], &[0x00, 0x20, 0x00, 0x81]].concat()
}

pub(super) fn verify(data: &[u8]) -> Command<'_> {
    Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data }
}

#[test]
fn the_right_pin_is_verified() {
    for builder in [pinpad(), t0().level(Level::Tpdu).pin_support(PinSupport::VERIFY)] {
        let mut bench = Bench::powered(builder);
        let seq = bench.send(verify(&fields())).0;
        assert_eq!(bench.watch(3000), []);
        assert!(bench.reader.awaits_pin(SLOT));
        bench.reader.enter_pin("123456");
        let got = bench.watch(1);
        assert_eq!(
            got[0].1,
            Got {
                message_type: DATA_BLOCK,
                slot: 0,
                seq,
                status: [0, 0, 0],
                data: vec![0x90, 0x00]
            }
        );
        assert!(!bench.reader.awaits_pin(SLOT));
        assert_eq!(bench.rules(), []);
    }
}

#[test]
fn a_wrong_one_is_the_cards_affair() {
    let mut bench = Bench::powered(pinpad());
    bench.send(verify(&fields()));
    bench.reader.enter_pin("0000");
    assert_eq!(bench.get().data, [0x63, 0xC2]);
}

#[test]
fn nobody_enters_one() {
    let mut bench = Bench::powered(pinpad());
    bench.send(verify(&fields()));
    let got = bench.watch(60_000);
    assert_eq!((got.len(), got[0].0, got[0].1.status), (1, 10_000, [0x40, 0xF0, 0]));
    // bTimeOut 0 leaves it to the reader.
    let mut data = fields();
    data[1] = 0;
    bench.send(verify(&data));
    assert_eq!(bench.watch(60_000)[0].0, 60_000 + 30_000);
}

#[test]
fn the_user_cancels() {
    let mut bench = Bench::powered(pinpad());
    bench.send(verify(&fields()));
    bench.reader.press(Key::Digit(1));
    bench.reader.press(Key::Cancel);
    assert_eq!(bench.get().status, [0x40, 0xEF, 0]);
}

#[test]
fn keys_without_an_entry_do_nothing() {
    let mut bench = Bench::powered(pinpad());
    bench.reader.enter_pin("123456");
    assert_eq!(bench.watch(10), []);
    bench.send(verify(&fields()));
    assert_eq!(bench.watch(1000), [], "the keys are not remembered");
}

#[test]
fn keys_of_the_timeline() {
    let after = std::time::Duration::from_secs(2);
    let mut bench = Bench::powered(pinpad().enter_pin_after(after, "123456"));
    bench.send(verify(&fields()));
    let got = bench.watch(10_000);
    assert_eq!((got[0].0, &got[0].1.data[..]), (2000, &[0x90, 0x00][..]));
}

#[test]
fn what_cannot_be_entered() {
    let mut bench = Bench::powered(t1());
    assert_eq!(bench.ask(verify(&fields())).status, [0x40, 0x00, 0], "no PIN pad");
    let mut bench = Bench::powered(pinpad());
    let mut modify = fields();
    modify[0] = 1;
    assert_eq!(bench.ask(verify(&modify)).status, [0x40, 0x00, 0], "no modification");
    let mut bad = fields();
    bad[7] = 0;
    assert_eq!(bench.ask(verify(&bad)).status, [0x40, 17, 0]);
    assert_eq!(bench.rules(), [Rule::BadContent]);
    let data = fields();
    let part = Command::Secure { bwi: 0, level_parameter: LevelParameter::BEGIN, data: &data };
    assert_eq!(bench.ask(part).status, [0x40, 8, 0]);
    bench.ask(Command::IccPowerOff);
    assert_eq!(bench.ask(verify(&fields())).status, [0x41, 0xFE, 0]);
}

#[test]
fn one_pad_for_all_slots() {
    let builder = pinpad().slots(2).card(Slot(1), FileCard::t1());
    let mut bench = Bench::powered(builder);
    bench.ask_at(Slot(1), POWER_ON);
    bench.send(verify(&fields()));
    assert_eq!(bench.ask_at(Slot(1), verify(&fields())).status, [0x40, 0xE0, 0]);
}

#[test]
fn the_card_is_taken_out_during_an_entry() {
    let mut bench = Bench::powered(pinpad());
    bench.send(verify(&fields()));
    bench.reader.remove(SLOT);
    assert_eq!(bench.get().status, [0x42, 0xFE, 0]);
    bench.reader.enter_pin("123456");
    assert_eq!(bench.watch(60_000), []);
}

/// At TPDU level with T=1: the block that the command goes in has the host's prologue, but for LEN,
/// and its answer is a block.
#[test]
fn the_hosts_block_at_tpdu_level() {
    let tpdu = || pinpad().level(Level::Tpdu);
    let with_prologue = |prologue: [u8; 3]| {
        let mut data = fields();
        data[12..15].copy_from_slice(&prologue);
        data
    };
    let mut bench = Bench::powered(tpdu());
    bench.send(verify(&with_prologue([0x00, 0x00, 0x04])));
    bench.reader.enter_pin("123456");
    assert_eq!(bench.get().data, [0x00, 0x00, 0x02, 0x90, 0x00, 0x92]);
    bench.send(verify(&with_prologue([0x00, 0x40, 0x04])));
    bench.reader.enter_pin("0000");
    assert_eq!(bench.get().data, [0x00, 0x40, 0x02, 0x63, 0xC2, 0xE3]);
    assert_eq!(bench.rules(), []);
    // No I-block, or one that is not the last: the card says what it thinks of it.
    for pcb in [0x60, 0x80, 0xC1] {
        let mut bench = Bench::powered(tpdu());
        bench.send(verify(&with_prologue([0x00, pcb, 0x04])));
        bench.reader.enter_pin("123456");
        assert_ne!(bench.get().data.get(3..5), Some(&[0x90, 0x00][..]));
        assert!(bench.rules().contains(&Rule::PrologueOfPin), "{pcb:02X}");
    }
}

/// The specification has no PIN entry at character level.
#[test]
fn no_entry_at_character_level() {
    for builder in [t0(), t1()] {
        let builder = builder.level(Level::Character).pin_support(PinSupport::VERIFY);
        let mut bench = Bench::powered(builder);
        bench.send(verify(&fields()));
        bench.reader.enter_pin("123456");
        assert_eq!(bench.get().status, [0x40, 0xF6, 0]);
    }
}
