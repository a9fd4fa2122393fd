//! Scripts of (time, in, out) for the whole reader.

mod abort;
mod any_bytes;
mod exchange;
mod line;
mod mechanical;
mod pin;
mod rules;
mod slots;

use super::*;
use crate::FileCard;
use ccid::wire::{ClassRequest, Command, LevelParameter, Message, PowerSelect};

const SLOT: Slot = Slot(0);

/// A reader, the time, and the number of the next command.
struct Bench {
    reader: Reader,
    millis: u64,
    seq: u8,
}

/// A message from the reader, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Got {
    message_type: u8,
    slot: u8,
    seq: u8,
    /// bStatus, bError and the byte behind.
    status: [u8; 3],
    data: Vec<u8>,
}

const DATA_BLOCK: u8 = 0x80;
const PARAMETERS: u8 = 0x82;
const ESCAPE: u8 = 0x83;

impl Bench {
    fn new(builder: ReaderBuilder) -> Self {
        let mut reader = builder.build();
        reader.reset(Instant::ZERO);
        Self { reader, millis: 0, seq: 0 }
    }

    /// With an active card in the first slot.
    fn powered(builder: ReaderBuilder) -> Self {
        let mut bench = Self::new(builder);
        let got = bench.ask(POWER_ON);
        assert_eq!((got.message_type, got.status), (DATA_BLOCK, [0, 0, 0]));
        bench
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.millis)
    }

    /// Sends a command with the next sequence number, which it returns.
    fn send_to(&mut self, slot: Slot, command: Command<'_>) -> Seq {
        let seq = Seq(self.seq);
        self.seq = self.seq.wrapping_add(1);
        self.raw(&command.emit(slot, seq));
        seq
    }

    fn send(&mut self, command: Command<'_>) -> Seq {
        self.send_to(SLOT, command)
    }

    fn raw(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.reader.bulk_out(bytes, now);
    }

    /// The next message from the reader, if there is one now.
    fn poll(&mut self) -> Option<Got> {
        let now = self.now();
        let mut bytes = self.reader.poll_bulk_in(now)?.to_vec();
        let mut last = bytes.len();
        while last == 64 {
            let packet = self.reader.poll_bulk_in(now).expect("the rest of a message");
            last = packet.len();
            bytes.extend(packet);
        }
        let Message { message_type, slot, seq, specific, data } = Message::parse(&bytes).unwrap();
        let (slot, seq, data) = (slot.0, seq.0, data.to_vec());
        Some(Got { message_type, slot, seq, status: specific, data })
    }

    fn get(&mut self) -> Got {
        self.poll().expect("an answer")
    }

    /// Sends a command and gets the answer to it, which is there at once.
    fn ask(&mut self, command: Command<'_>) -> Got {
        self.ask_at(SLOT, command)
    }

    fn ask_at(&mut self, slot: Slot, command: Command<'_>) -> Got {
        let seq = self.send_to(slot, command);
        let got = self.get();
        assert_eq!((got.slot, got.seq), (slot.0, seq.0));
        got
    }

    /// The data of a successful exchange.
    fn apdu(&mut self, bytes: &[u8]) -> Vec<u8> {
        let got = self.ask(xfr(bytes));
        assert_eq!((got.message_type, got.status), (DATA_BLOCK, [0, 0, 0]), "{bytes:02X?}");
        got.data
    }

    fn wait(&mut self, millis: u64) {
        self.millis += millis;
    }

    /// What comes, with the time, while `millis` pass; the reader is called when it wants to be.
    fn watch(&mut self, millis: u64) -> Vec<(u64, Got)> {
        let end = self.millis + millis;
        let mut got = Vec::new();
        loop {
            while let Some(message) = self.poll() {
                got.push((self.millis, message));
            }
            let deadline = self.reader.poll_deadline();
            let millis = |at: Instant| at.since_epoch().as_micros().div_ceil(1000) as u64;
            match deadline.map(millis).filter(|at| *at <= end) {
                Some(at) => self.millis = self.millis.max(at),
                None => break,
            }
            let now = self.now();
            self.reader.handle_timeout(now);
        }
        self.millis = end;
        got
    }

    fn control(&mut self, request: ClassRequest) -> ControlReply {
        let now = self.now();
        self.reader.control(request.setup(0), &[], now)
    }

    fn abort_request(&mut self, seq: u8) -> ControlReply {
        self.control(ClassRequest::Abort { slot: SLOT, seq: Seq(seq) })
    }

    fn abort_message(&mut self, seq: u8) {
        self.raw(&Command::Abort.emit(SLOT, Seq(seq)));
    }

    fn notification(&mut self) -> Option<Vec<u8>> {
        let now = self.now();
        self.reader.poll_interrupt(now).map(|packet| packet.to_vec())
    }

    fn rules(&mut self) -> Vec<Rule> {
        self.reader.violations().iter().map(|violation| violation.rule).collect()
    }
}

const POWER_ON: Command<'static> = Command::IccPowerOn { power_select: PowerSelect::Automatic };

fn xfr(data: &[u8]) -> Command<'_> {
    xfr_part(LevelParameter::WHOLE, data)
}

fn xfr_part(level_parameter: LevelParameter, data: &[u8]) -> Command<'_> {
    Command::XfrBlock { bwi: 0, level_parameter, data }
}

fn t1() -> ReaderBuilder {
    Reader::builder().card(SLOT, FileCard::t1())
}

fn t0() -> ReaderBuilder {
    Reader::builder().card(SLOT, FileCard::t0())
}
