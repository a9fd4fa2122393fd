//! Scripts of messages, requests and time.

mod exchange;
mod robustness;

use super::*;
use crate::descriptor::{ExchangeLevel, Features};
use crate::time::Instant;
use crate::wire::{
    ChainParameter, Command, IccStatus, LevelParameter, Message, PowerSelect, Response, Seq, Slot,
    SlotError, Status,
};
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

const ATR: &[u8] = &[0x3B, 0x02, 0x14, 0x50];
const POWER_ON: Command<'_> = Command::IccPowerOn { power_select: PowerSelect::Automatic };
const BUSY: &[u8] = &[0x40];
const IDLE: &[u8] = &[0x00];

/// Requests by their first four bytes and wLength, with the data stage of an OUT request.
const OFF: ([u8; 4], u16) = ([0x21, 0x63, 0, 0], 0);
const STATUS_A: ([u8; 4], u16) = ([0xA1, 0xA0, 0, 0], 1);
const STATUS_B: ([u8; 4], u16) = ([0xA1, 0x81, 0, 0], 3);
const ON_A: ([u8; 4], u16) = ([0xA1, 0x62, 0, 0], 33);
const ON_B: ([u8; 4], u16) = ([0x21, 0x62, 1, 0], 0);
const DATA: ([u8; 4], u16) = ([0xA1, 0x6F, 0, 0], 4096);
const ATR_B: ([u8; 4], u16) = ([0xA1, 0x6F, 0, 0], 34);
const STATUS_WORD: ([u8; 4], u16) = ([0xA1, 0x6F, 0, 0], 2);

struct Bench {
    translator: Translator,
    now: Instant,
    seq: Seq,
}

impl Bench {
    fn fresh(version: Version) -> Self {
        Self::declaring(version, Features::ICCD)
    }

    fn declaring(version: Version, features: Features) -> Self {
        let translator = Translator::new(version, &declared(features, 271), 3);
        Self { translator, now: Instant::ZERO, seq: Seq(0xFD) }
    }

    /// After the power cycle of the opening.
    fn opened(version: Version) -> Self {
        let mut bench = Self::fresh(version);
        bench.opening();
        bench
    }

    fn opening(&mut self) {
        match self.translator.version() {
            Version::A => {
                self.asks(OFF, &[]).asks(STATUS_A, IDLE).asks(ON_A, ATR);
                self.asks(OFF, &[]).asks(STATUS_A, IDLE);
            }
            Version::B => {
                self.asks(OFF, &[]).asks(STATUS_B, &[0x40, 1, 0]).asks(ON_B, &[]);
                self.asks(ATR_B, &[&[0], ATR].concat());
                self.asks(OFF, &[]).asks(STATUS_B, &[0x40, 1, 0]);
            }
        }
    }

    /// With power on the card.
    fn powered(version: Version) -> Self {
        let mut bench = Self::opened(version);
        bench.sends(POWER_ON);
        match version {
            Version::A => bench.asks(ON_A, ATR),
            Version::B => bench.asks(ON_B, &[]).asks(ATR_B, &[&[0], ATR].concat()),
        };
        bench.hears(data(ATR));
        bench
    }

    fn sends(&mut self, command: Command<'_>) -> &mut Self {
        self.seq = self.seq.next();
        let bytes = command.emit(Slot(0), self.seq);
        self.translator.handle_message(&bytes, self.now);
        self
    }

    /// The next request is this one, and ends so.
    #[track_caller]
    fn ends(
        &mut self,
        (head, length): ([u8; 4], u16),
        sent: &[u8],
        result: Result<&[u8], Failure>,
    ) -> &mut Self {
        let control = self.translator.poll_control(self.now).expect("a request");
        let [l0, l1] = length.to_le_bytes();
        let [b0, b1, b2, b3] = head;
        assert_eq!(control.setup.to_bytes(), [b0, b1, b2, b3, 3, 0, l0, l1]);
        assert_eq!(control.data, sent);
        assert!(control.timeout <= Duration::from_secs(3));
        assert_eq!(self.translator.poll_control(self.now), None, "one at a time");
        self.translator.handle_control(result, self.now);
        self
    }

    #[track_caller]
    fn asks(&mut self, request: ([u8; 4], u16), answer: &[u8]) -> &mut Self {
        self.ends(request, &[], Ok(answer))
    }

    #[track_caller]
    fn puts(&mut self, value: u8, sent: &[u8]) -> &mut Self {
        let length = u16::try_from(sent.len()).unwrap();
        self.ends(([0x21, 0x65, 0, value], length), sent, Ok(&[]))
    }

    /// Answered to the last command.
    #[track_caller]
    fn hears(&mut self, expected: Response<'_>) -> &mut Self {
        self.hears_for(self.seq, expected)
    }

    #[track_caller]
    fn hears_for(&mut self, seq: Seq, expected: Response<'_>) -> &mut Self {
        let bytes = self.translator.poll_message().expect("an answer");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.slot, message.seq), (Slot(0), seq));
        assert_eq!(Response::parse(&message).unwrap(), expected);
        self
    }

    #[track_caller]
    fn silent(&mut self) -> &mut Self {
        assert_eq!(self.translator.poll_control(self.now), None);
        assert_eq!(self.translator.poll_message(), None);
        self
    }

    /// Time passes until the deadline.
    #[track_caller]
    fn waits(&mut self, millis: u64) -> &mut Self {
        self.silent();
        let due = self.now + Duration::from_millis(millis);
        assert_eq!(self.translator.poll_deadline(), Some(due));
        self.now = due;
        self.translator.handle_timeout(due);
        self
    }
}

fn xfr(data: &[u8]) -> Command<'_> {
    Command::XfrBlock { bwi: 0, level_parameter: LevelParameter::WHOLE, data }
}

fn data(data: &[u8]) -> Response<'_> {
    chained(ChainParameter::Whole, data)
}

fn chained(chain: ChainParameter, data: &[u8]) -> Response<'_> {
    Response::DataBlock { status: Status::success(IccStatus::PresentActive), chain, data }
}

fn failed(icc: IccStatus, error: SlotError) -> Response<'static> {
    Response::DataBlock {
        status: Status::failed(icc, error),
        chain: ChainParameter::Whole,
        data: &[],
    }
}

fn slot(status: Status) -> Response<'static> {
    Response::SlotStatus { status, clock_status: crate::wire::ClockStatus::Running }
}

fn extension() -> Response<'static> {
    let status = Status::from_bytes(0x80, 1);
    Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] }
}

const LOST: IccStatus = IccStatus::PresentInactive;

fn declared(features: Features, length: u32) -> ClassDescriptor {
    let mut bytes = [0; 54];
    (bytes[0], bytes[1], bytes[6]) = (54, 0x21, 1);
    bytes[40..44].copy_from_slice(&features.bits().to_le_bytes());
    bytes[44..48].copy_from_slice(&length.to_le_bytes());
    ClassDescriptor::parse(&bytes).unwrap()
}

#[test]
fn devices_as_declared_in_the_field() {
    let class = |version: Version, features, length| {
        let class = version.class(&declared(Features::from_bits_retain(features), length));
        let own = Features::AUTO_PARAMETER_NEGOTIATION | Features::AUTO_VOLTAGE;
        assert!(class.features.contains(own));
        (class.exchange_level(), class.protocols, class.max_data())
    };
    let t0 = ReaderProtocols::T0;
    let both = t0 | ReaderProtocols::T1;
    // Version A tokens: character level, T=0; a dwMaxCCIDMessageLength of 256.
    assert_eq!(class(Version::A, 0x0840, 256), (ExchangeLevel::Tpdu, t0, 261));
    assert_eq!(class(Version::A, 0x1_0840, 261), (ExchangeLevel::Tpdu, t0, 261));
    assert_eq!(class(Version::A, 0x4_0840, 1010), (ExchangeLevel::ShortApdu, both, 1000));
    // Version B: short APDU level, 261 bytes with or without a header; one at character level.
    let level = ExchangeLevel::ExtendedApdu;
    assert_eq!(class(Version::B, 0x2_0840, 261), (level, both, 251));
    assert_eq!(class(Version::B, 0x0840, 280), (level, both, 270));
    assert_eq!(class(Version::B, 0x4_0840, u32::MAX), (level, both, 4096));
    assert_eq!([0, 1, 2, 3].map(Version::of), [None, Some(Version::A), Some(Version::B), None]);
}

#[test]
fn commands_wait_for_the_opening() {
    for version in [Version::A, Version::B] {
        let mut bench = Bench::fresh(version);
        bench.sends(Command::GetSlotStatus).sends(Command::GetSlotStatus);
        let asked = bench.seq;
        bench.sends(POWER_ON).hears(failed(LOST, SlotError::CmdSlotBusy));
        bench.opening();
        match version {
            Version::A => bench.asks(STATUS_A, IDLE),
            Version::B => bench.asks(STATUS_B, &[0x40, 1, 0]),
        };
        bench.hears_for(asked, slot(Status::success(LOST))).silent();
    }
}

#[test]
fn an_opening_that_fails_or_takes_long_is_given_up() {
    let mut bench = Bench::fresh(Version::A);
    bench.ends(OFF, &[], Err(Failure::Stall));
    bench.ends(OFF, &[], Err(Failure::Stall)).ends(STATUS_A, &[], Err(Failure::Stall));
    bench.ends(ON_A, &[], Err(Failure::Stall)).asks(STATUS_A, &[0x80]);
    bench.asks(OFF, &[]).asks(STATUS_A, IDLE).silent();
    // Busy for ever: until the time is up.
    let mut bench = Bench::fresh(Version::A);
    bench.sends(POWER_ON).asks(OFF, &[]);
    for _ in 0..200 {
        bench.asks(STATUS_A, BUSY).waits(10);
    }
    bench.asks(OFF, &[]);
    assert_eq!(bench.now, Instant::from_millis(2000));
    // Not answering: as long as the requests take.
    let mut bench = Bench::fresh(Version::B);
    bench.sends(Command::GetSlotStatus).asks(OFF, &[]);
    bench.now = Instant::from_millis(1000);
    bench.ends(STATUS_B, &[], Err(Failure::TimedOut));
    bench.now = Instant::from_millis(2000);
    bench.ends(STATUS_B, &[], Err(Failure::TimedOut)).asks(STATUS_B, &[0x40, 0, 0]);
    bench.hears(slot(Status::success(IccStatus::PresentActive)));
}

#[test]
fn power() {
    for version in [Version::A, Version::B] {
        let mut bench = Bench::powered(version);
        let (status, answer) = match version {
            Version::A => (STATUS_A, IDLE),
            Version::B => (STATUS_B, &[1, 0, 1][..]),
        };
        // Again: it is powered off first.
        bench.sends(POWER_ON).asks(OFF, &[]).asks(status, answer);
        match version {
            Version::A => bench.asks(ON_A, ATR),
            Version::B => {
                bench.asks(ON_B, &[]).asks(ATR_B, &[0x80, 3, 0]).waits(30);
                bench.asks(ATR_B, &[&[0], ATR].concat())
            }
        };
        bench.hears(data(ATR));
        bench.sends(Command::IccPowerOff).asks(OFF, &[]);
        bench.asks(status, answer);
        bench.hears(slot(Status::success(LOST)));
        // Without power there is nothing to exchange.
        bench.sends(xfr(&[0; 5])).hears(failed(LOST, SlotError::IccMute)).silent();
    }
}

#[test]
fn power_ups_that_fail() {
    let mut a = Bench::opened(Version::A);
    a.sends(POWER_ON).ends(ON_A, &[], Err(Failure::Stall)).asks(STATUS_A, &[0x80]);
    a.hears(failed(LOST, SlotError::IccMute));
    a.sends(POWER_ON).asks(OFF, &[]).asks(STATUS_A, &[0x80]).asks(ON_A, &[]).asks(STATUS_A, IDLE);
    a.hears(failed(LOST, SlotError::HwError));
    // Busy after the power-off for longer than 3 s: tried all the same.
    a.sends(POWER_ON).asks(OFF, &[]);
    for _ in 0..300 {
        a.asks(STATUS_A, BUSY).waits(10);
    }
    a.asks(STATUS_A, BUSY).asks(ON_A, ATR).hears(data(ATR));
    let mut b = Bench::opened(Version::B);
    b.sends(POWER_ON).asks(ON_B, &[]).asks(ATR_B, &[0x40, 0x41, 0xFE]);
    b.hears(failed(LOST, SlotError::IccMute));
    b.sends(POWER_ON).asks(OFF, &[]).asks(STATUS_B, &[0x40, 0x42, 0xFE]);
    b.ends(ON_B, &[], Err(Failure::Stall)).asks(STATUS_B, &[0x40, 0x42, 0xFE]);
    b.hears(failed(IccStatus::NotPresent, SlotError::IccMute));
    for answer in [&[][..], &[0], &[1, 0x3B], &[0x40], &[0x80], &[0x77, 1, 2]] {
        b.sends(POWER_ON).asks(OFF, &[]).asks(STATUS_B, &[0x40, 1, 0]).asks(ON_B, &[]);
        b.asks(ATR_B, answer).hears(failed(LOST, SlotError::HwError));
    }
}
