//! Scripts of requests, with the time.

use super::*;
use crate::FileCard;
use crate::reader::Level;
use ccid::ClassDescriptor;
use ccid::descriptor::Features;

struct Bench {
    iccd: Iccd,
    millis: u64,
}

impl Bench {
    fn new(builder: IccdBuilder) -> Self {
        let mut iccd = builder.build();
        iccd.reset(Instant::ZERO);
        Self { iccd, millis: 0 }
    }

    fn request(&mut self, kind: u8, request: u8, value: u16, data: &[u8]) -> ControlReply {
        let length = if kind == 0xA1 { 0x1000 } else { data.len() as u16 };
        let setup = SetupPacket { request_type: kind, request, value, index: 0, length };
        self.iccd.control(setup, data, Instant::from_millis(self.millis))
    }

    fn get(&mut self, request: u8) -> Vec<u8> {
        match self.request(0xA1, request, 0, &[]) {
            ControlReply::Data(data) => data.to_vec(),
            ControlReply::Stall => panic!("{request:02X}h stalls"),
        }
    }

    fn put(&mut self, request: u8, value: u16, data: &[u8]) {
        assert_eq!(self.request(0x21, request, value, data), done());
    }

    fn rules(&mut self) -> Vec<Rule> {
        self.iccd.violations().iter().map(|violation| violation.rule).collect()
    }
}

fn done() -> ControlReply {
    ControlReply::Data(Bytes::new())
}

fn a() -> IccdBuilder {
    Iccd::builder(Version::A, FileCard::t1())
}

fn b() -> IccdBuilder {
    Iccd::builder(Version::B, FileCard::t1()).level(Level::ExtendedApdu)
}

const ECHO: [u8; 7] = [0, 0x10, 0, 0, 2, 7, 8];
const ECHOED: [u8; 4] = [7, 8, 0x90, 0];

#[test]
fn descriptors_say_what_it_is() {
    for (builder, protocol, endpoints, level) in [
        (a(), 1, 0, Features::SHORT_APDU_LEVEL),
        (b().interrupt(), 2, 1, Features::EXTENDED_APDU_LEVEL),
    ] {
        let iccd = builder.build();
        let configuration = &iccd.descriptors().configuration;
        assert_eq!(configuration.len(), usize::from(configuration[2]));
        assert_eq!(configuration[9..17], [9, 4, 0, 0, endpoints, 0x0B, 0, protocol]);
        let class = ClassDescriptor::parse(&configuration[18..72]).unwrap();
        assert!(class.features.contains(Features::ICCD | level));
    }
}

#[test]
fn version_a_with_apdus() {
    let mut bench = Bench::new(a());
    assert_eq!(bench.get(0x62)[0], 0x3B);
    assert_eq!(bench.get(0xA0), [0x00]);
    bench.put(0x65, 0, &ECHO);
    assert_eq!(bench.get(0xA0), [0x20]);
    assert_eq!(bench.get(0x6F), ECHOED);
    // One that takes its time.
    bench.put(0x65, 0, &[0, 0x14, 0, 50]);
    assert_eq!(bench.get(0xA0), [0x40]);
    bench.millis = 49;
    assert_eq!(bench.get(0xA0), [0x40]);
    bench.millis = 50;
    assert_eq!(bench.get(0xA0), [0x20]);
    assert_eq!(bench.get(0x6F), [0x90, 0x00]);
    bench.put(0x63, 0, &[]);
    assert_eq!(bench.rules(), []);
    // One that falls silent.
    bench.get(0x62);
    bench.put(0x65, 0, &[0, 0x1A, 0, 0]);
    assert_eq!(bench.get(0xA0), [0x40]);
    bench.millis += 1000;
    assert_eq!(bench.get(0xA0), [0x80]);
    assert_eq!(bench.get(0x62)[0], 0x3B);
    assert_eq!(bench.get(0xA0), [0x00]);
}

#[test]
fn version_a_with_t0_in_phases() {
    let builder = Iccd::builder(Version::A, FileCard::t0()).level(Level::Character);
    let mut bench = Bench::new(builder);
    bench.get(0x62);
    bench.put(0x65, 0, &[0, 0xA4, 0, 0x0C, 2]);
    assert_eq!(bench.get(0xA0), [0x10]);
    bench.put(0x65, 0, &[0x50, 0x15]);
    assert_eq!(bench.get(0xA0), [0x20]);
    assert_eq!(bench.get(0x6F), [0x90, 0x00]);
    bench.put(0x65, 0, &[0, 0xB0, 0x81, 0, 16]);
    assert_eq!(bench.get(0xA0), [0x10]);
    assert_eq!(bench.get(0x6F), b"A simulated card");
    assert_eq!(bench.get(0xA0), [0x20]);
    assert_eq!(bench.get(0x6F), [0x90, 0x00]);
    assert_eq!(bench.get(0xA0), [0x00]);
    assert_eq!(bench.rules(), []);
    // Not what P3 says; not a header.
    bench.put(0x65, 0, &[0, 0xA4, 0, 0x0C, 2]);
    assert_eq!(bench.request(0x21, 0x65, 0, &[1]), ControlReply::Stall);
    bench.put(0x65, 0, &[0x50, 0x15]);
    bench.get(0x6F);
    assert_eq!(bench.request(0x21, 0x65, 0, &[0, 0xA4, 0, 0x0C]), ControlReply::Stall);
    assert_eq!(bench.rules(), [Rule::BadContent; 2]);
}

#[test]
fn version_a_out_of_order() {
    let mut bench = Bench::new(a());
    let stall = ControlReply::Stall;
    assert_eq!(bench.request(0x21, 0x65, 0, &ECHO), stall);
    bench.get(0x62);
    assert_eq!(bench.request(0xA1, 0x6F, 0, &[]), stall);
    assert_eq!(bench.request(0xA1, 0xA0, 1, &[]), stall);
    assert_eq!(bench.request(0xA1, 0x81, 0, &[]), stall);
    bench.put(0x65, 0, &[0, 0x14, 0, 50]);
    assert_eq!(bench.request(0x21, 0x65, 0, &ECHO), stall);
    assert_eq!(bench.request(0x21, 0x65, 0, &[0; 262]), stall);
    assert_eq!(bench.request(0xA1, 0x6F, 0, &[]), stall);
    let broken = [
        Rule::NotPowered,
        Rule::NothingToFetch,
        Rule::RequestValue,
        Rule::UnknownRequest,
        Rule::SlotBusy,
        Rule::MessageTooLong,
        Rule::NothingToFetch,
    ];
    assert_eq!(bench.rules(), broken);
    // Power off ends it.
    bench.put(0x63, 0, &[]);
    bench.get(0x62);
    bench.put(0x65, 0, &ECHO);
    let setup = SetupPacket { request_type: 0xA1, request: 0x6F, value: 0, index: 0, length: 3 };
    let short = bench.iccd.control(setup, &[], Instant::ZERO);
    assert_eq!(short, ControlReply::Data(Bytes::from_static(&[7, 8, 0x90])));
    assert_eq!(bench.rules().last(), Some(&Rule::FetchedTooLittle));
    let foreign = SetupPacket { index: 1, ..setup };
    assert_eq!(bench.iccd.control(foreign, &[], Instant::ZERO), stall);
    assert_eq!(bench.rules().last(), Some(&Rule::WrongInterface));
}

#[test]
fn version_b() {
    let mut bench = Bench::new(b());
    assert_eq!(bench.get(0x81), [0x40, 0x01, 0]);
    bench.put(0x62, 1, &[]);
    assert_eq!(bench.get(0x6F)[..2], [0x00, 0x3B]);
    assert_eq!(bench.get(0x81), [0x40, 0x00, 0]);
    bench.put(0x65, 0, &ECHO);
    assert_eq!(bench.get(0x6F), [&[0x00][..], &ECHOED].concat());
    bench.put(0x63, 0, &[]);
    assert_eq!(bench.get(0x81), [0x40, 0x01, 0]);
    assert_eq!(bench.rules(), []);
}

#[test]
fn version_b_says_when_to_ask_again() {
    let mut bench = Bench::new(b().polling_delay(0x0102));
    bench.put(0x62, 0, &[]);
    bench.get(0x6F);
    bench.put(0x65, 0, &[0, 0x14, 0x14, 0]);
    assert_eq!(bench.get(0x6F), [0x80, 0x02, 0x01]);
    bench.millis += 2580;
    assert_eq!(bench.get(0x6F), [0x80, 0x02, 0x01]);
    assert_eq!(bench.rules(), []);
    bench.millis += 2579;
    assert_eq!(bench.get(0x6F), [0x00, 0x90, 0x00]);
    assert_eq!(bench.rules(), [Rule::PolledTooEarly]);
    // A card that falls silent.
    bench.put(0x65, 0, &[0, 0x1A, 0, 0]);
    assert_eq!(bench.get(0x6F)[0], 0x80);
    bench.millis += 3000;
    assert_eq!(bench.get(0x6F), [0x40, 0x41, 0xFE]);
    assert_eq!(bench.get(0x81), [0x40, 0x41, 0xFE]);
}

#[test]
fn version_b_in_parts() {
    let mut bench = Bench::new(b().max_message_length(110));
    bench.put(0x62, 1, &[]);
    bench.get(0x6F);
    let echo = [&[0, 0x10, 0, 0, 0, 0, 240][..], &[9; 240], &[0, 0]].concat();
    bench.put(0x65, 0x0100, &echo[..100]);
    assert_eq!(bench.get(0x6F), [0x10]);
    bench.put(0x65, 0x0300, &echo[100..200]);
    assert_eq!(bench.get(0x6F), [0x10]);
    bench.put(0x65, 0x0200, &echo[200..]);
    for (kind, length) in [(1, 100), (3, 100), (2, 42)] {
        let part = bench.get(0x6F);
        assert_eq!((part[0], part.len()), (kind, length + 1));
        if kind != 2 {
            bench.put(0x65, 0x1000, &[]);
        }
    }
    assert_eq!(bench.rules(), []);
}

#[test]
fn version_b_out_of_order() {
    let stall = ControlReply::Stall;
    for (level, data) in [(0x0200, &ECHO[..]), (0x0300, &ECHO), (0x1000, &[]), (0x7700, &[])] {
        let mut bench = Bench::new(b());
        bench.put(0x62, 1, &[]);
        bench.get(0x6F);
        assert_eq!(bench.request(0x21, 0x65, level, data), stall);
        assert_eq!(bench.rules(), [Rule::LevelParameter]);
    }
    let mut bench = Bench::new(b().level(Level::ShortApdu));
    assert_eq!(bench.request(0x21, 0x65, 0, &ECHO), stall);
    assert_eq!(bench.request(0xA1, 0x6F, 0, &[]), stall);
    assert_eq!(bench.request(0x21, 0x65, 0x0100, &ECHO), stall);
    assert_eq!(bench.request(0x21, 0x65, 0x0001, &ECHO), stall);
    assert_eq!(bench.request(0xA1, 0xA0, 0, &[]), stall);
    let broken = [
        Rule::NotPowered,
        Rule::NothingToFetch,
        Rule::LevelParameter,
        Rule::RequestValue,
        Rule::UnknownRequest,
    ];
    assert_eq!(bench.rules(), broken);
}

#[test]
fn virtual_removal() {
    let mut bench = Bench::new(b().interrupt());
    let poll = |bench: &mut Bench| bench.iccd.poll_interrupt(Instant::ZERO).map(|m| m.to_vec());
    assert_eq!(poll(&mut bench), Some(vec![0x50, 0x03]));
    assert_eq!(poll(&mut bench), None);
    bench.iccd.set_present(false);
    assert_eq!(poll(&mut bench), Some(vec![0x50, 0x02]));
    assert_eq!(bench.get(0x81), [0x40, 0x42, 0xFE]);
    bench.put(0x62, 1, &[]);
    assert_eq!(bench.get(0x6F), [0x40, 0x42, 0xFE]);
    bench.iccd.set_present(true);
    assert_eq!(poll(&mut bench), Some(vec![0x50, 0x03]));
    bench.put(0x62, 1, &[]);
    assert_eq!(bench.get(0x6F)[..2], [0x00, 0x3B]);
    // Version A, and none at all without the endpoint.
    let mut bench = Bench::new(a());
    assert_eq!(poll(&mut bench), None);
    bench.iccd.set_present(false);
    assert_eq!(bench.get(0xA0), [0x80]);
    assert_eq!(bench.request(0xA1, 0x62, 0, &[]), ControlReply::Stall);
}

#[test]
fn any_requests() {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for builder in [a(), a().level(Level::Character), b(), b().max_message_length(64)] {
        let mut bench = Bench::new(builder);
        for _ in 0..20_000 {
            let request = [0x62, 0x63, 0x65, 0x6F, 0xA0, 0x81][usize::from(next() % 6)];
            let kind = if next() % 2 == 0 { 0x21 } else { 0xA1 };
            let value = if next() % 2 == 0 { 0 } else { u16::from(next() % 4) << 8 };
            let mut data = vec![0, 0x10 + next() % 12, next() % 2, next(), next() % 8];
            data.resize(usize::from(next() % 16), 0);
            bench.millis += u64::from(next());
            bench.request(kind, request, value, &data);
        }
    }
}
