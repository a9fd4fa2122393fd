//! T=0 at character level: against a card that asks for its data as it likes, and against one
//! that sends anything. The exchange ends, and sends no more messages than there are characters;
//! with the first card it ends by that card's response.
//!
//! Input: flags (any characters, several at once), INS, P3, Lc; then the card's procedure bytes, or
//! its characters.

#![no_main]

use ccid::operation::PowerUp;
use ccid::wire::{ChainParameter, Command, IccStatus, Message, Response, Seq, Slot, Status};
use ccid::{ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit};
use libfuzzer_sys::fuzz_target;

const SLOT: Slot = Slot(0);

fuzz_target!(|input: &[u8]| {
    let Some(([flags, ins, p3, lc], script)) = input.split_first_chunk() else { return };
    let mut apdu = vec![0x00, *ins, 0x01, 0x02];
    match lc % 4 {
        0 => {}
        1 => apdu.push(*p3),
        long => {
            let lc = (*p3).max(1);
            apdu.push(lc);
            apdu.extend((0..lc).map(|n| n ^ ins));
            apdu.extend((long == 3).then_some(0));
        }
    }
    let mut bench = Bench::new();
    bench.reader.start(SLOT, Operation::Exchange(apdu.clone().into()), None, Instant::ZERO);
    if matches!(ins & 0xF0, 0x60 | 0x90) {
        assert_eq!(bench.completed(), Some(Err(Error::InvalidCommand)));
        return;
    }
    if flags & 1 == 0 {
        let mut card = Card::new(&apdu, script);
        let result = bench.run(|data, asked| card.answer(data, asked));
        assert_eq!(result, Ok(Output::Data(card.response.into())));
        assert_eq!(card.data, apdu.get(5..5 + card.lc).unwrap_or_default());
    } else {
        let mut rest = script;
        let _ = bench.run(|_, asked| {
            let most = if flags & 2 == 0 { 1 } else { asked + 1 };
            let (part, behind) = rest.split_at(most.min(rest.len()));
            rest = behind;
            part.to_vec()
        });
    }
});

struct Bench {
    reader: Reader,
    seq: Seq,
}

impl Bench {
    /// With a card that speaks T=0, powered.
    fn new() -> Self {
        let mut class = [0; 54];
        (class[0], class[1], class[5], class[6], class[53]) = (54, 0x21, 0x07, 0x01, 1);
        class[10..12].copy_from_slice(&4000u16.to_le_bytes());
        // Character level, automatic everything.
        class[40] = 0xFE;
        class[44..46].copy_from_slice(&271u16.to_le_bytes());
        let class = ClassDescriptor::parse(&class).unwrap();
        let reader = Reader::new(class, Options::default(), Instant::ZERO);
        let mut bench = Self { reader, seq: Seq(0) };
        bench.sent();
        let clock_status = ccid::wire::ClockStatus::Running;
        let status = Status::success(IccStatus::PresentInactive);
        let response = Response::SlotStatus { status, clock_status };
        bench.reader.handle_message(&response.emit(SLOT, bench.seq), Instant::ZERO);
        bench.reader.start(SLOT, Operation::PowerOn(PowerUp::Warm), None, Instant::ZERO);
        bench.sent();
        bench.answer(&[0x3B, 0x00]);
        assert!(matches!(bench.completed(), Some(Ok(Output::Atr(_)))));
        bench
    }

    /// Data and wLevelParameter of the next message.
    fn sent(&mut self) -> Option<(Vec<u8>, usize)> {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else { return None };
        let message = Message::parse(&bytes).unwrap();
        self.seq = message.seq;
        match Command::parse(&message).unwrap() {
            Command::XfrBlock { level_parameter, data, .. } => {
                Some((data.to_vec(), usize::from(level_parameter.0)))
            }
            _ => None,
        }
    }

    fn answer(&mut self, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        let response = Response::DataBlock { status, chain: ChainParameter::Whole, data };
        self.reader.handle_message(&response.emit(SLOT, self.seq), Instant::ZERO);
    }

    fn completed(&mut self) -> Option<Result<Output, Error>> {
        loop {
            match self.reader.poll_event()? {
                Event::Completed { result, .. } => return Some(result),
                _ => {}
            }
        }
    }

    /// The exchange's end. Each message but the last has brought a character.
    fn run(&mut self, mut card: impl FnMut(&[u8], usize) -> Vec<u8>) -> Result<Output, Error> {
        for _ in 0..10_000 {
            if let Some(result) = self.completed() {
                assert_eq!(self.reader.poll_transmit(), None);
                return result;
            }
            let (data, asked) = self.sent().expect("a message or the end");
            assert!((1..=256).contains(&asked));
            let answer = card(&data, asked);
            self.answer(&answer);
        }
        panic!("without end");
    }
}

/// A card that keeps ISO/IEC 7816-3 §10.3.3.
struct Card<'a> {
    ins: u8,
    lc: usize,
    le: usize,
    /// Its choices.
    script: &'a [u8],
    data: Vec<u8>,
    /// Data bytes that come next, without a procedure byte.
    promised: usize,
    /// All it will have sent, without procedure bytes.
    response: Vec<u8>,
    /// Characters that are on the way.
    out: Vec<u8>,
    header: bool,
}

impl<'a> Card<'a> {
    fn new(apdu: &[u8], script: &'a [u8]) -> Self {
        let (lc, le) = match apdu {
            [_, _, _, _] => (0, 0),
            [_, _, _, _, 0] => (0, 256),
            [_, _, _, _, le] => (0, usize::from(*le)),
            [_, _, _, _, lc, ..] => (usize::from(*lc), 0),
            _ => unreachable!("four bytes at least"),
        };
        Self {
            ins: apdu[1],
            lc,
            le,
            script,
            data: Vec::new(),
            promised: 0,
            response: Vec::new(),
            out: Vec::new(),
            header: false,
        }
    }

    fn answer(&mut self, data: &[u8], asked: usize) -> Vec<u8> {
        if !self.header {
            self.header = true;
            assert_eq!((data.len(), data[1]), (5, self.ins));
        } else {
            assert_eq!(data.len(), self.promised, "what the card has asked for");
            self.data.extend_from_slice(data);
            self.promised = 0;
        }
        if self.out.is_empty() {
            self.go_on();
        }
        self.out.drain(..asked.min(self.out.len())).collect()
    }

    /// The next procedure byte, and what the card sends behind it.
    fn go_on(&mut self) {
        let (choice, rest) = self.script.split_first().unwrap_or((&0, &[]));
        self.script = rest;
        let ins = self.ins ^ (choice >> 4 & 1);
        let left = self.lc - self.data.len();
        let due = self.le - self.response.len().min(self.le);
        match choice % 4 {
            1 => self.out.push(0x60),
            2 | 3 if left > 0 => {
                let one = choice % 4 == 3;
                self.promised = if one { 1 } else { left };
                self.out.push(if one { !ins } else { ins });
            }
            2 | 3 if due > 0 => {
                let one = choice % 4 == 3;
                self.out.push(if one { !ins } else { ins });
                let length = if one { 1 } else { due };
                let from = self.response.len();
                self.response.extend((from..from + length).map(|n| n as u8 ^ choice));
                self.out.extend_from_slice(&self.response[from..]);
            }
            _ if left > 0 => {
                self.promised = left;
                self.out.push(ins);
            }
            _ => {
                let sw = [0x61 | choice & 0x0E, *choice];
                self.response.extend_from_slice(&sw);
                self.out.extend_from_slice(&sw);
            }
        }
    }
}
