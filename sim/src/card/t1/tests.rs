//! Scripts of blocks, to the card and from it.

use super::*;

const OK: [u8; 2] = [0x90, 0x00];

/// A card whose command answers what `answer` says.
struct Bench {
    card: T1,
    faults: Faults,
    answer: Reaction,
    commands: Vec<Vec<u8>>,
}

impl Bench {
    fn new(answer: &[u8], faults: Faults) -> Self {
        let answer = Reaction::at_once(answer.to_vec());
        Self { card: T1::new(None, false), faults, answer, commands: Vec::new() }
    }

    fn raw(&mut self, bytes: &[u8]) -> Signal {
        self.card.receive(bytes, &mut self.faults, |apdu| {
            self.commands.push(apdu.to_vec());
            self.answer.clone()
        })
    }

    /// A good block there, a good one back: its PCB and information field.
    fn send(&mut self, block: Block) -> (u8, Vec<u8>) {
        let signal = self.raw(&block.emit(self.card.crc));
        assert_eq!(signal.misuse, None);
        let block = Block::parse(&signal.characters, self.card.crc).unwrap();
        (block.pcb, block.inf)
    }

    fn i(&mut self, ns: bool, more: bool, inf: &[u8]) -> (u8, Vec<u8>) {
        self.send(Block::i(0, ns, more, inf))
    }

    fn r(&mut self, nr: bool) -> (u8, Vec<u8>) {
        self.send(Block::r(0, nr, Why::NoError))
    }

    fn s(&mut self, pcb: u8, inf: &[u8]) -> (u8, Vec<u8>) {
        self.send(Block { nad: 0, pcb, inf: inf.to_vec() })
    }

    /// A block that breaks a rule: which, and the PCB of the answer.
    fn wrong(&mut self, bytes: &[u8]) -> (Misuse, u8) {
        let signal = self.raw(bytes);
        (signal.misuse.expect("a broken rule"), signal.characters[1])
    }
}

const APDU: [u8; 4] = [0, 0x10, 0, 0];

fn good(answer: &[u8]) -> Bench {
    Bench::new(answer, Faults::none())
}

#[test]
fn commands_one_after_the_other() {
    let mut bench = good(&OK);
    for ns in [false, true, false] {
        assert_eq!(bench.i(ns, false, &APDU), (u8::from(ns) << 6, OK.to_vec()));
    }
    assert_eq!(bench.commands, [APDU; 3]);
}

#[test]
fn chains_both_ways() {
    let response: Vec<u8> = (0..70).collect();
    let mut bench = good(&response);
    assert_eq!(bench.i(false, true, &APDU[..3]), (0x90, vec![]));
    assert_eq!(bench.i(true, true, &[]), (0x80, vec![]));
    assert_eq!(bench.i(false, false, &APDU[3..]), (0x20, response[..32].to_vec()));
    assert_eq!(bench.r(true), (0x60, response[32..64].to_vec()));
    assert_eq!(bench.r(false), (0x00, response[64..].to_vec()));
    assert_eq!(bench.commands, [APDU]);
    // The numbers go on.
    assert_eq!(bench.i(true, false, &APDU).0, 0x60);
}

#[test]
fn ifs_both_ways() {
    let mut bench = Bench::new(&[7; 300], Faults::at(2, Fault::Ifs(4)));
    assert_eq!(bench.s(0xC1, &[254]), (0xE1, vec![254]));
    assert_eq!(bench.i(false, false, &APDU), (0xC1, vec![4]));
    let (pcb, inf) = bench.s(0xE1, &[4]);
    assert_eq!((pcb, inf.len()), (0x20, 254));
    assert_eq!(bench.r(true), (0x40, vec![7; 46]));
    let long = Block::i(0, true, false, &[0; 5]).emit(false);
    assert_eq!(bench.wrong(&long), (Misuse::BlockTooLong, 0x92));
    for ifs in [0, 255] {
        let request = Block::request(0, Supervisory::Ifs, &[ifs]).emit(false);
        assert_eq!(bench.wrong(&request), (Misuse::IfsValue, 0x92));
    }
}

#[test]
fn ifs_that_may_not_be_asked_for() {
    for ifs in [0, 255] {
        let mut bench = Bench::new(&OK, Faults::at(1, Fault::Ifs(ifs)));
        assert_eq!(bench.i(false, false, &APDU), (0xC1, vec![ifs]));
        assert_eq!(bench.r(false), (0x00, OK.to_vec()), "goes on without");
        let mut bench = Bench::new(&OK, Faults::at(1, Fault::Ifs(ifs)));
        bench.i(false, false, &APDU);
        let agreed = Block::response(0, Supervisory::Ifs, &[ifs]).emit(false);
        assert_eq!(bench.wrong(&agreed), (Misuse::IfsValue, 0x00));
        assert_eq!(bench.card.ifsc, DEFAULT_IFS);
    }
}

#[test]
fn ifs_in_the_middle_of_the_hosts_chain() {
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::Ifs(2)));
    assert_eq!(bench.i(false, true, &APDU[..2]), (0xC1, vec![2]));
    let early = Block::i(0, true, false, &APDU[2..]).emit(false);
    assert_eq!(bench.wrong(&early), (Misuse::UnexpectedBlock, 0xC1), "asks again");
    assert_eq!(bench.s(0xE1, &[2]), (0x90, vec![]));
    assert_eq!(bench.i(true, false, &APDU[2..]), (0x00, OK.to_vec()));
    assert_eq!(bench.commands, [APDU]);
}

#[test]
fn time_extensions() {
    let period = Duration::from_millis(500);
    let mut bench = good(&OK);
    bench.answer.pace = Pace::Extend { periods: 2, period, multiplier: 3 };
    let first = bench.raw(&Block::i(0, false, false, &APDU).emit(false));
    assert_eq!((first.pace, first.extension), (Pace::AT_ONCE, Some(3)));
    let yes = Block::response(0, Supervisory::Wtx, &[3]).emit(false);
    let second = bench.raw(&yes);
    assert_eq!((second.pace, second.extension), (Pace::After(period), Some(3)));
    let last = bench.raw(&yes);
    assert_eq!((last.pace, last.extension), (Pace::After(period), None));
    assert_eq!(last.characters[..], Block::i(0, false, false, &OK).emit(false));
    assert_eq!(bench.wrong(&yes), (Misuse::UnexpectedBlock, 0x92));
}

#[test]
fn a_response_that_is_not_the_requests() {
    let storm = Fault::Extend { times: None, multiplier: 2, work: Duration::ZERO };
    let mut bench = Bench::new(&OK, Faults::at(1, storm));
    assert_eq!(bench.i(false, false, &APDU), (0xC3, vec![2]));
    for _ in 0..1000 {
        assert_eq!(bench.s(0xE3, &[2]), (0xC3, vec![2]));
    }
    for wrong in [&[3][..], &[1]] {
        let response = Block::response(0, Supervisory::Wtx, wrong).emit(false);
        assert_eq!(bench.wrong(&response), (Misuse::Response, 0xC3));
    }
    assert_eq!(bench.r(false), (0xC3, vec![2]), "an R-block brings it again");
    assert_eq!(bench.s(0xC0, &[]), (0xE0, vec![]), "a resynch ends it");
    assert_eq!(bench.i(false, false, &APDU), (0x00, OK.to_vec()));
}

#[test]
fn resynch_brings_back_what_was_at_the_start() {
    let mut bench = good(&[5; 100]);
    bench.s(0xC1, &[254]);
    assert_eq!(bench.i(false, false, &APDU).1.len(), 100);
    assert_eq!(bench.s(0xC0, &[]), (0xE0, vec![]));
    assert_eq!(bench.i(false, false, &APDU), (0x20, vec![5; 32]));
}

#[test]
fn a_host_that_aborts_its_chain_or_the_cards() {
    let mut bench = good(&[5; 40]);
    bench.i(false, true, &[1, 2, 3]);
    assert_eq!(bench.s(0xC2, &[]), (0xE2, vec![]));
    assert_eq!(bench.i(true, false, &APDU), (0x20, vec![5; 32]));
    assert_eq!(bench.s(0xC2, &[]), (0xE2, vec![]));
    assert_eq!(bench.i(false, false, &APDU), (0x60, vec![5; 32]), "both numbers go on");
    assert_eq!(bench.commands, [APDU, APDU]);
}

#[test]
fn a_card_that_aborts_the_hosts_chain() {
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::Abort));
    assert_eq!(bench.i(false, true, &[1, 2, 3]), (0xC2, vec![]));
    assert_eq!(bench.s(0xE2, &[]), (0x90, vec![]));
    assert_eq!(bench.i(true, false, &APDU), (0x00, OK.to_vec()));
    assert_eq!(bench.commands, [APDU]);
}

#[test]
fn a_card_that_aborts_its_own_chain() {
    let mut bench = Bench::new(&[5; 80], Faults::at(2, Fault::Abort));
    assert_eq!(bench.i(false, false, &APDU).0, 0x20);
    assert_eq!(bench.r(true), (0xC2, vec![]));
    assert_eq!(bench.s(0xE2, &[]), (0x90, vec![]));
    assert_eq!(bench.i(true, false, &APDU).0, 0x60, "the number was not used up");
}

#[test]
fn what_is_lost_or_bent_comes_again() {
    let lost = [
        Fault::BadCheck,
        Fault::Parity,
        Fault::Mute,
        Fault::WrongSequence,
        Fault::Nad(0x11),
        Fault::Length255,
        Fault::Truncated,
        Fault::LongerThanIfsd,
        Fault::Pcb(0x9F),
        Fault::RBlock,
        Fault::Raw(vec![1, 2, 3]),
    ];
    for fault in lost {
        let mut bench = Bench::new(&OK, Faults::at(1, fault.clone()));
        let good = Block::i(0, false, false, &OK).emit(false);
        let first = bench.raw(&Block::i(0, false, false, &APDU).emit(false));
        let bad = first.pace == Pace::Mute || first.parity_error || first.characters != good;
        assert!(bad, "{fault:?}");
        assert_eq!(bench.r(false), (0x00, OK.to_vec()), "{fault:?}");
        assert_eq!(bench.commands, [APDU], "done once");
    }
}

#[test]
fn each_bent_block() {
    let bent = |fault| {
        let mut bench = Bench::new(&OK, Faults::at(1, fault));
        bench.raw(&Block::i(0, false, false, &APDU).emit(false)).characters.to_vec()
    };
    assert_eq!(bent(Fault::BadCheck), [0, 0, 2, 0x90, 0, 0x92 ^ 0x55]);
    assert_eq!(bent(Fault::WrongSequence), [0, 0x40, 2, 0x90, 0, 0xD2]);
    assert_eq!(bent(Fault::Nad(0x11)), [0x11, 0, 2, 0x90, 0, 0x83]);
    assert_eq!(bent(Fault::Length255), [0, 0, 0xFF, 0x90, 0, 0x6F]);
    assert_eq!(bent(Fault::Truncated), [0, 0, 2, 0x90, 0]);
    assert_eq!(bent(Fault::LongerThanIfsd).len(), 4 + 33);
    assert_eq!(bent(Fault::Pcb(0x9F)), [0, 0x9F, 2, 0x90, 0, 0x0D]);
    assert_eq!(bent(Fault::RBlock), [0, 0x90, 0, 0x90]);
    assert_eq!(bent(Fault::Raw(vec![9])), [9]);
}

#[test]
fn an_unheard_block_is_asked_for() {
    let mut bench = Bench::new(&OK, Faults::at(2, Fault::Deaf));
    bench.i(false, false, &APDU);
    assert_eq!(bench.raw(&Block::i(0, true, false, &APDU).emit(false)), Signal::mute());
    assert_eq!(bench.r(true), (0x90, vec![]), "N(S) 1 is expected");
    assert_eq!(bench.i(true, false, &APDU), (0x40, OK.to_vec()));
    assert_eq!(bench.commands.len(), 2);
    // The very first one.
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::Deaf));
    bench.raw(&Block::i(0, false, false, &APDU).emit(false));
    assert_eq!(bench.r(false), (0x80, vec![]));
}

#[test]
fn an_acknowledgement_that_is_lost_comes_again() {
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::Mute));
    assert_eq!(bench.raw(&Block::i(0, false, true, &APDU[..2]).emit(false)).pace, Pace::Mute);
    assert_eq!(bench.r(false), (0x90, vec![]));
    assert_eq!(bench.i(true, false, &APDU[2..]), (0x00, OK.to_vec()));
}

#[test]
fn only_a_resynch_helps() {
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::Resynch));
    assert_eq!(bench.i(false, false, &APDU).0, 0x92);
    for _ in 0..3 {
        assert_eq!(bench.r(false).0, 0x92);
    }
    assert_eq!(bench.s(0xC0, &[]), (0xE0, vec![]));
    assert_eq!(bench.i(false, false, &APDU), (0x00, OK.to_vec()));
}

#[test]
fn mute_for_good() {
    let mut bench = Bench::new(&OK, Faults::at(1, Fault::MuteForGood));
    for block in [Block::i(0, false, false, &APDU), Block::request(0, Supervisory::Resynch, &[])] {
        assert_eq!(bench.raw(&block.emit(false)), Signal::mute());
    }
    // A command that never ends leaves a card that says nothing more.
    let mut bench = good(&OK);
    bench.answer.pace = Pace::Mute;
    assert_eq!(bench.raw(&Block::i(0, false, false, &APDU).emit(false)).pace, Pace::Mute);
    assert_eq!(bench.raw(&Block::r(0, false, Why::NoError).emit(false)), Signal::mute());
}

#[test]
fn blocks_that_no_host_may_send() {
    let mut bad_check = Block::i(0, false, false, &APDU).emit(false);
    bad_check.iter_mut().last().into_iter().for_each(|lrc| *lrc ^= 1);
    let block = |pcb, inf: &[u8]| Block { nad: 0, pcb, inf: inf.to_vec() }.emit(false);
    let with_nad = |nad| Block::i(nad, false, false, &APDU).emit(false);
    for (bytes, misuse, answer) in [
        (bad_check, Misuse::BlockCheck, 0x81),
        (vec![0, 0, 0], Misuse::BlockLength, 0x82),
        (Block::i(0, false, false, &APDU).emit_with_len(5, false), Misuse::BlockLength, 0x82),
        (Block::i(0, false, false, &APDU).emit_with_len(0xFF, false), Misuse::BlockLength, 0x82),
        (with_nad(0xFF), Misuse::Nad, 0x82),
        (with_nad(0x33), Misuse::Nad, 0x82),
        (with_nad(0x80), Misuse::Nad, 0x82),
        (block(0x01, &APDU), Misuse::Pcb, 0x82),
        (block(0xC4, &[]), Misuse::Pcb, 0x82),
        (block(0xC3, &[1]), Misuse::Pcb, 0x82),
        (block(0x80, &[1]), Misuse::BlockLength, 0x82),
        (block(0xC0, &[1]), Misuse::BlockLength, 0x82),
        (block(0xC1, &[]), Misuse::BlockLength, 0x82),
        (block(0xE0, &[]), Misuse::UnexpectedBlock, 0x82),
        (block(0x40, &APDU), Misuse::BlockSequence, 0x82),
        (block(0x00, &[1; 33]), Misuse::BlockTooLong, 0x82),
    ] {
        let mut bench = good(&OK);
        assert_eq!(bench.wrong(&bytes), (misuse, answer), "{bytes:02X?}");
        assert!(bench.commands.is_empty());
        assert_eq!(bench.i(false, false, &APDU), (0x00, OK.to_vec()), "and it goes on");
    }
}

#[test]
fn more_that_no_host_may_send() {
    let mut bench = good(&[5; 40]);
    bench.i(false, false, &APDU);
    let early = Block::i(0, true, false, &APDU).emit(false);
    assert_eq!(bench.wrong(&early), (Misuse::UnexpectedBlock, 0x92), "in the card's chain");
    let mut bench = good(&OK);
    let empty = Block::i(0, false, false, &[]).emit(false);
    assert_eq!(bench.wrong(&empty), (Misuse::NoApdu, 0x00));
    // A wrong block in the middle of a chain does not spoil it.
    let mut bench = good(&OK);
    bench.i(false, true, &APDU[..2]);
    let again = Block::i(0, false, true, &APDU[..2]).emit(false);
    assert_eq!(bench.wrong(&again), (Misuse::BlockSequence, 0x92));
    bench.i(true, false, &APDU[2..]);
    assert_eq!(bench.commands, [APDU]);
}

#[test]
fn addresses_are_given_back_the_other_way_round() {
    let mut bench = good(&OK);
    let signal = bench.raw(&Block::i(0x21, false, false, &APDU).emit(false));
    assert_eq!((signal.misuse, signal.characters[0]), (None, 0x12));
}

#[test]
fn crc_instead_of_lrc() {
    let mut bench = good(&OK);
    bench.card = T1::new(Some(254), true);
    assert_eq!(bench.i(false, false, &APDU), (0x00, OK.to_vec()));
    let lrc = Block::i(0, true, false, &APDU).emit(false);
    assert_eq!(bench.raw(&lrc).misuse, Some(Misuse::BlockCheck));
    assert_eq!(bench.i(true, false, &[0; 254]).0, 0x40);
}

#[test]
fn any_bytes() {
    let mut bench = Bench::new(&[1; 600], Faults::random(1, 2));
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for _ in 0..20_000 {
        let inf: Vec<u8> = (0..next() % 40).map(|_| next()).collect();
        let pcb = if next() % 2 == 0 { next() & 0xE0 } else { 0xC0 | next() & 0x23 };
        let mut bytes = Block { nad: 0, pcb, inf }.emit(false);
        if next() % 8 == 0 {
            bytes.truncate(usize::from(next() % 8));
        }
        let signal = bench.raw(&bytes);
        assert!(signal.characters.len() <= 258);
    }
    assert!(bench.commands.iter().all(|apdu| apdu.len() <= MAX_CHAIN));
}
