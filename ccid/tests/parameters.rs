//! What happens between power-up and the first exchange, as scripts: what is asked at opening, the
//! voltage, PPS, SetParameters, and what particular readers need.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::error::{Breach, Unsupported};
use ccid::operation::PowerUp;
use ccid::quirk::{Adjusted, Flags, Identity, Table};
use ccid::t1::Nad;
use ccid::wire::{
    ChainParameter, ClassRequest, ClockStatus, Command, IccStatus, LevelParameter, Message,
    PowerSelect, Response, Seq, Slot, SlotError, Status,
};
use ccid::{
    Atr, ClassDescriptor, Error, Event, Instant, Operation, Options, Output, Reader, Transmit,
};
use std::time::Duration;

const SLOT: Slot = Slot(0);

const TPDU: u32 = 0x0001_0000;
const SHORT: u32 = 0x0002_0000;
const FROM_ATR: u32 = 0x02;
const AUTO_VOLTAGE: u32 = 0x08;
const NEGOTIATES: u32 = 0x40;
const AUTO_PPS: u32 = 0x80;

/// T=0 alone, nothing said of speed.
const PLAIN: &[u8] = &[0x3B, 0x02, 0x41, 0x42];
/// T=0, TA(1) = 95h.
const FAST: &[u8] = &[0x3B, 0x10, 0x95];
/// T=0 and T=1, TA(1) = 95h.
const BOTH: &[u8] = &[0x3B, 0x90, 0x95, 0x80, 0x01, 0x84];
/// T=1 alone, IFSC 80h, TB(3) = 45h.
const T1: &[u8] = &[0x3B, 0x80, 0x81, 0x31, 0x80, 0x45, 0xF5];

/// T=0 parameters with this Fi and Di.
const fn t0(fi_di: u8) -> [u8; 5] {
    [fi_di, 0, 0, 10, 0]
}

/// T=1 parameters of a card that says nothing about T=1.
const fn t1(fi_di: u8) -> [u8; 7] {
    [fi_di, 0x10, 0, 0x4D, 0, 32, 0]
}

const PPS_T0_95: &[u8] = &[0xFF, 0x10, 0x95, 0x7A];
const PPS_T1_95: &[u8] = &[0xFF, 0x11, 0x95, 0x7B];
const PPS_T1: &[u8] = &[0xFF, 0x01, 0xFE];

/// 4 MHz, up to 344,086 bit/s, T=0 and T=1, all voltages, messages of 271 bytes.
fn class(features: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[10..14].copy_from_slice(&4000u32.to_le_bytes());
    bytes[19..23].copy_from_slice(&10_752u32.to_le_bytes());
    bytes[23..27].copy_from_slice(&344_086u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&254u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&features.to_le_bytes());
    bytes[44..48].copy_from_slice(&271u32.to_le_bytes());
    bytes[53] = 1;
    ClassDescriptor::parse(&bytes).unwrap()
}

struct Script {
    reader: Reader,
    now: Instant,
}

impl Script {
    fn opened(class: ClassDescriptor, row: &str, options: Options) -> Self {
        let mut table = Table::built_in();
        assert_eq!(table.extend(row), []);
        let identity = Identity { vendor: 0xFFFF, product: 0xFFFF, firmware: 0x0100 };
        let Adjusted { class, behaviour } = table.apply(identity, &class);
        let now = Instant::from_millis(1000);
        Self { reader: Reader::with_behaviour(class, behaviour, options, now), now }
    }

    /// With a card in slot 0, known, without power.
    fn with_row(class: ClassDescriptor, row: &str) -> Self {
        let mut script = Self::opened(class, row, Options::default());
        script.meet_card();
        script
    }

    fn new(features: u32) -> Self {
        Self::with_row(class(features), "")
    }

    /// With the card powered.
    fn powered(features: u32, atr: &[u8]) -> Self {
        let mut script = Self::new(features);
        script.power(PowerSelect::V5, atr);
        script
    }

    fn meet_card(&mut self) {
        let (slot, seq) = self.sent(Command::GetSlotStatus);
        self.status(slot, seq, Status::success(IccStatus::PresentInactive));
        assert_eq!(self.event(), Some(Event::Presence { slot, present: true }));
    }

    fn power(&mut self, power_select: PowerSelect, atr: &[u8]) {
        self.start(Operation::PowerOn(PowerUp::Warm));
        self.on(power_select, atr);
        assert_eq!(self.completed(), Ok(Output::Atr(Atr::new(atr))));
    }

    fn start(&mut self, operation: Operation) -> ccid::OperationId {
        self.reader.start(SLOT, operation, None, self.now)
    }

    fn set(&mut self, protocol: Protocol) -> ccid::OperationId {
        self.start(Operation::SetProtocol(protocol))
    }

    #[track_caller]
    fn sent(&mut self, command: Command<'_>) -> (Slot, Seq) {
        let Some(Transmit::BulkOut(bytes)) = self.reader.poll_transmit() else {
            panic!("no message sent, but {:?}", self.event());
        };
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(Command::parse(&message).unwrap(), command);
        (message.slot, message.seq)
    }

    #[track_caller]
    fn block_sent(&mut self, data: &[u8]) -> Seq {
        let level_parameter = LevelParameter::WHOLE;
        self.sent(Command::XfrBlock { bwi: 0, level_parameter, data }).1
    }

    /// A PPS request is answered.
    #[track_caller]
    fn pps(&mut self, request: &[u8], response: &[u8]) {
        let seq = self.block_sent(request);
        self.data(seq, response);
    }

    #[track_caller]
    fn parameters_sent(&mut self, data: &[u8]) -> Seq {
        let protocol_num = u8::from(data.len() == 7);
        self.sent(Command::SetParameters { protocol_num, data }).1
    }

    /// SetParameters is answered with success, by `answer`.
    #[track_caller]
    fn parameters(&mut self, data: &[u8], answer: &[u8]) {
        let seq = self.parameters_sent(data);
        let status = Status::success(IccStatus::PresentActive);
        let protocol_num = u8::from(data.len() == 7);
        self.answer(SLOT, seq, Response::Parameters { status, protocol_num, data: answer });
    }

    #[track_caller]
    fn parameters_refused(&mut self, data: &[u8], error: SlotError) {
        let seq = self.parameters_sent(data);
        let status = Status::failed(IccStatus::PresentActive, error);
        self.answer(SLOT, seq, Response::Parameters { status, protocol_num: 0, data: &[] });
    }

    #[track_caller]
    fn off(&mut self) {
        let (_, seq) = self.sent(Command::IccPowerOff);
        self.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
    }

    #[track_caller]
    fn on(&mut self, power_select: PowerSelect, atr: &[u8]) {
        let (_, seq) = self.sent(Command::IccPowerOn { power_select });
        self.data(seq, atr);
    }

    /// A cold reset at 5 V.
    #[track_caller]
    fn reset(&mut self, atr: &[u8]) {
        self.off();
        self.on(PowerSelect::V5, atr);
    }

    fn answer(&mut self, slot: Slot, seq: Seq, response: Response<'_>) {
        self.reader.handle_message(&response.emit(slot, seq), self.now);
    }

    fn status(&mut self, slot: Slot, seq: Seq, status: Status) {
        self.answer(slot, seq, Response::SlotStatus { status, clock_status: ClockStatus::Running });
    }

    fn data(&mut self, seq: Seq, data: &[u8]) {
        let status = Status::success(IccStatus::PresentActive);
        self.answer(SLOT, seq, Response::DataBlock { status, chain: ChainParameter::Whole, data });
    }

    fn failed(&mut self, seq: Seq, error: SlotError) {
        let status = Status::failed(IccStatus::PresentActive, error);
        let chain = ChainParameter::Whole;
        self.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
    }

    fn event(&mut self) -> Option<Event> {
        self.reader.poll_event()
    }

    #[track_caller]
    fn completed(&mut self) -> Result<Output, Error> {
        match self.event() {
            Some(Event::Completed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The operation is over, and nothing else is going on.
    #[track_caller]
    fn done(&mut self) {
        assert_eq!(self.completed(), Ok(Output::Done));
        self.quiet();
    }

    #[track_caller]
    fn unsupported(&mut self, what: Unsupported) {
        assert_eq!(self.completed(), Err(Error::Unsupported(what)));
        self.quiet();
    }

    #[track_caller]
    fn quiet(&mut self) {
        assert_eq!(self.reader.poll_transmit(), None);
        assert_eq!(self.event(), None);
    }

    /// An exchange; how long the reader may take over it.
    #[track_caller]
    fn exchange(&mut self) -> Duration {
        let data = &[0, 0xB0, 0, 0, 0];
        self.start(Operation::Exchange(Bytes::from_static(data)));
        let seq = self.block_sent(data);
        let time = self.reader.poll_deadline().unwrap() - self.now;
        self.data(seq, &[0x90, 0]);
        assert!(self.completed().is_ok());
        time
    }

    #[track_caller]
    fn timeout(&mut self) -> Duration {
        let deadline = self.reader.poll_deadline().unwrap();
        let waited = deadline - self.now;
        self.now = deadline;
        self.reader.handle_timeout(self.now);
        waited
    }

    #[track_caller]
    fn request(&mut self) -> ClassRequest {
        match self.reader.poll_transmit() {
            Some(Transmit::Control { request, .. }) => request,
            other => panic!("{other:?}"),
        }
    }
}

// dwFeatures, bit by bit.

#[test]
fn automatic_negotiation_leaves_nothing_to_do() {
    for more in [0, AUTO_PPS, FROM_ATR] {
        let mut script = Script::powered(TPDU | NEGOTIATES | more, BOTH);
        script.set(Protocol::T1);
        script.done();
    }
}

#[test]
fn automatic_pps_leaves_the_parameters() {
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // And the choice of the protocol.
    let mut script = Script::powered(SHORT | AUTO_PPS, BOTH);
    script.set(Protocol::T1);
    script.parameters(&t1(0x95), &t1(0x95));
    script.done();
}

#[test]
fn without_automatic_pps_the_host_does_it() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // Nothing better than the default, and no switch: no PPS.
    let mut script = Script::powered(TPDU, PLAIN);
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
    // The card's own T=1 parameters.
    let mut script = Script::powered(TPDU, T1);
    script.set(Protocol::T1);
    script.parameters(&[0x11, 0x10, 0, 0x45, 0, 0x80, 0], &[]);
    script.done();
}

/// No PPS goes through as an APDU.
#[test]
fn an_apdu_level_without_pps_stays_at_the_first_protocol_and_rate() {
    let mut script = Script::powered(SHORT, BOTH);
    script.set(Protocol::T1);
    script.unsupported(Unsupported::Pps(1));
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

/// Bits that change nothing here: activation, clock, baud rate, clock stop, NAD, IFSD, ICCD, wake
/// up. (Activation and voltage decide the power-up.)
#[test]
fn other_bits_change_nothing() {
    for bit in [0x10, 0x20, 0x100, 0x200, 0x400, 0x800, 0x10_0000] {
        let mut script = Script::powered(TPDU | bit, FAST);
        script.set(Protocol::T0);
        script.pps(PPS_T0_95, PPS_T0_95);
        script.parameters(&t0(0x95), &t0(0x95));
        script.done();
    }
}

#[test]
fn at_character_level_the_length_of_the_response_is_told() {
    let mut script = Script::powered(0, FAST);
    script.set(Protocol::T0);
    let level_parameter = LevelParameter(4);
    let command = Command::XfrBlock { bwi: 0, level_parameter, data: PPS_T0_95 };
    let (_, seq) = script.sent(command);
    script.data(seq, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn inverse_convention_guard_time_and_waiting_time_are_passed_on() {
    // TC(1) = 5, TC(2) = 20.
    let mut script = Script::powered(TPDU, &[0x3F, 0xC0, 0x05, 0x40, 0x14]);
    script.set(Protocol::T0);
    script.parameters(&[0x11, 0x02, 5, 20, 0], &[]);
    script.done();
}

// PPS and what comes of it.

#[test]
fn a_card_may_refuse_the_rate_and_take_the_protocol() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1);
    script.parameters(&t1(0x11), &t1(0x11));
    script.done();
}

#[test]
fn a_failed_pps_ends_with_a_reset_and_the_defaults() {
    let wrong = [0xFF, 0x10, 0x95, 0x00];
    for response in [None, Some(&wrong[..]), Some(&[][..]), Some(PPS_T1_95)] {
        let mut script = Script::powered(TPDU, FAST);
        script.set(Protocol::T0);
        match response {
            Some(response) => script.pps(PPS_T0_95, response),
            None => {
                let seq = script.block_sent(PPS_T0_95);
                script.failed(seq, SlotError::IccMute);
            }
        }
        script.reset(FAST);
        script.parameters(&t0(0x11), &t0(0x11));
        script.done();
        assert!(script.reader.is_powered(SLOT));
    }
}

#[test]
fn a_switch_that_fails_twice_is_an_error_and_the_card_is_fresh() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    let seq = script.block_sent(PPS_T1_95);
    script.failed(seq, SlotError::IccMute);
    script.reset(BOTH);
    // The protocol alone.
    script.pps(PPS_T1, &[0xFF, 0x00, 0xFF]);
    script.reset(BOTH);
    let completed = script.completed();
    assert!(
        matches!(completed, Err(Error::Misbehaved { breach: Breach::BadPps, .. })),
        "{completed:?}"
    );
    script.quiet();
    assert!(script.reader.is_powered(SLOT));
    // The card's own protocol is still to be had, without another reset.
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn a_card_that_does_not_come_back_has_no_power() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    script.failed(seq, SlotError::IccMute);
    script.off();
    for power_select in [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8] {
        let (_, seq) = script.sent(Command::IccPowerOn { power_select });
        let status = Status::failed(IccStatus::PresentInactive, SlotError::IccMute);
        let chain = ChainParameter::Whole;
        script.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
        if power_select != PowerSelect::V1_8 {
            script.off();
        }
    }
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: false }));
    assert_eq!(script.completed(), Err(Error::CardMute));
    assert!(!script.reader.is_powered(SLOT));
}

#[test]
fn a_card_taken_out_in_between_is_gone() {
    let mut script = Script::powered(TPDU, FAST);
    script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    let status = Status::failed(IccStatus::NotPresent, SlotError::IccMute);
    script.answer(
        SLOT,
        seq,
        Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] },
    );
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.completed(), Err(Error::NoCard));
    script.quiet();
}

/// A PPS to a card that is past it would be a command.
#[test]
fn what_was_set_or_used_decides_what_is_still_possible() {
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T0);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    // Set before: nothing.
    script.set(Protocol::T0);
    script.done();
    script.exchange();
    script.set(Protocol::T0);
    script.done();
    // Another one: by a reset.
    script.set(Protocol::T1);
    script.reset(BOTH);
    script.pps(PPS_T1_95, PPS_T1_95);
    script.parameters(&t1(0x95), &t1(0x95));
    script.done();
    // So too where the reader does the PPS.
    let mut script = Script::powered(TPDU | AUTO_PPS, BOTH);
    script.exchange();
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &[]);
    script.done();
    script.set(Protocol::T1);
    script.reset(BOTH);
    script.parameters(&t1(0x95), &[]);
    script.done();
    // An exchange before anything was set.
    let mut script = Script::powered(TPDU, FAST);
    script.exchange();
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

#[test]
fn cancel_ends_a_pps_by_an_abort_and_the_card_comes_back() {
    let mut script = Script::powered(TPDU, FAST);
    let id = script.set(Protocol::T0);
    script.block_sent(PPS_T0_95);
    script.reader.cancel(id, script.now);
    let request = script.request();
    let ClassRequest::Abort { seq, .. } = request else { panic!("{request:?}") };
    script.reader.handle_control(request, Some(&[]), script.now);
    script.sent(Command::Abort);
    script.status(SLOT, seq, Status::success(IccStatus::PresentActive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.reset(FAST);
    assert!(matches!(script.event(), Some(Event::CardReset { result: Ok(_), .. })));
}

#[test]
fn cancel_in_the_middle_of_a_reset_leaves_no_power_assumed() {
    let mut script = Script::powered(TPDU, FAST);
    let id = script.set(Protocol::T0);
    let seq = script.block_sent(PPS_T0_95);
    script.failed(seq, SlotError::IccMute);
    let (_, off) = script.sent(Command::IccPowerOff);
    script.reader.cancel(id, script.now);
    script.status(SLOT, off, Status::success(IccStatus::PresentInactive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: false }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert!(!script.reader.is_powered(SLOT));
    script.quiet();
}

// Specific mode.

/// TD(1) with TA(2), whose value is `ta2`; TA(1) is `ta1`.
fn specific(ta1: u8, ta2: u8) -> Vec<u8> {
    vec![0x3B, 0x90, ta1, 0x10, ta2]
}

#[test]
fn specific_mode_is_taken_as_it_is() {
    let mut script = Script::powered(TPDU, &specific(0x95, 0x80));
    script.set(Protocol::T0);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
}

#[test]
fn specific_mode_that_cannot_be_left_must_suit() {
    for (ta1, ta2, what) in [
        (0x97, 0x80, Unsupported::Rate(0x97)),
        (0x95, 0x90, Unsupported::ImplicitParameters(0x90)),
        (0x95, 0x81, Unsupported::Protocol(0)),
    ] {
        let mut script = Script::powered(TPDU, &specific(ta1, ta2));
        script.set(Protocol::T0);
        script.unsupported(what);
    }
    // A reader that has read the ATR itself may know the implicit ones.
    let mut script = Script::powered(TPDU | FROM_ATR, &specific(0x95, 0x90));
    script.set(Protocol::T0);
    script.done();
}

#[test]
fn specific_mode_that_can_be_left_is_left_by_a_warm_reset_once() {
    let mut script = Script::powered(TPDU, &specific(0x97, 0x00));
    script.set(Protocol::T0);
    script.on(PowerSelect::V5, FAST);
    script.pps(PPS_T0_95, PPS_T0_95);
    script.parameters(&t0(0x95), &t0(0x95));
    script.done();
    let mut script = Script::powered(TPDU, &specific(0x97, 0x00));
    script.set(Protocol::T0);
    script.on(PowerSelect::V5, &specific(0x97, 0x00));
    script.unsupported(Unsupported::Rate(0x97));
}

// SetParameters and its answers.

/// QEMU's reader answers with dwLength 0; others with what they have made of it.
#[test]
fn the_readers_own_word_on_the_rate_counts() {
    for (answer, slow) in [(&[][..], false), (&t0(0x95), false), (&t0(0x11), true)] {
        let mut script = Script::powered(SHORT | AUTO_PPS, &[0x3B, 0x50, 0x95, 0xFE]);
        script.set(Protocol::T0);
        let mut data = t0(0x95);
        data[2] = 0xFE;
        let mut answer = answer.to_vec();
        if let Some(guard) = answer.get_mut(2) {
            *guard = 0xFE;
        }
        script.parameters(&data, &answer);
        script.done();
        // 263 characters of 12 + 254 etu: at the default rate, 24.7 ms each.
        assert_eq!(script.exchange() > Duration::from_secs(10), slow, "{answer:?}");
    }
}

#[test]
fn a_refused_field_is_tried_with_the_default_once() {
    for error in [SlotError::Unknown(10), SlotError::CmdNotSupported] {
        let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
        script.set(Protocol::T0);
        script.parameters_refused(&t0(0x95), error);
        script.parameters_refused(&t0(0x11), error);
        script.done();
    }
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x95), SlotError::Unknown(10));
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

#[test]
fn refused_parameters_matter_only_where_the_protocol_has_changed() {
    // The first protocol: as libccid, go on.
    let mut script = Script::powered(SHORT, PLAIN);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x11), SlotError::CmdNotSupported);
    script.done();
    // Another one, of which the reader now knows nothing.
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1_95);
    script.parameters_refused(&t1(0x95), SlotError::CmdNotSupported);
    script.reset(BOTH);
    script.pps(PPS_T1, PPS_T1);
    script.parameters_refused(&t1(0x11), SlotError::CmdNotSupported);
    script.reset(BOTH);
    assert!(matches!(
        script.completed(),
        Err(Error::Failed { error: SlotError::CmdNotSupported, .. })
    ));
    // A reader that sets its parameters by itself need not know the command.
    let mut script = Script::powered(TPDU | FROM_ATR, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1);
    script.parameters_refused(&t1(0x11), SlotError::CmdNotSupported);
    script.done();
}

/// A reader that refuses bProtocolNum does not speak the protocol, whatever else it declares.
#[test]
fn a_refused_protocol_is_an_error() {
    let mut script = Script::powered(TPDU | AUTO_PPS | FROM_ATR, BOTH);
    script.set(Protocol::T1);
    script.parameters_refused(&t1(0x95), SlotError::Unknown(7));
    script.parameters_refused(&t1(0x11), SlotError::Unknown(7));
    script.reset(BOTH);
    let completed = script.completed();
    assert!(
        matches!(completed, Err(Error::Failed { error: SlotError::Unknown(7), .. })),
        "{completed:?}"
    );
    script.quiet();
}

/// Where the reader does the PPS, a failure may have left the card anywhere.
#[test]
fn parameters_that_fail_otherwise_end_with_a_reset() {
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x95), SlotError::IccMute);
    script.reset(FAST);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    for fi_di in [0x95, 0x11] {
        script.parameters_refused(&t0(fi_di), SlotError::HwError);
        script.reset(FAST);
    }
    assert!(matches!(script.completed(), Err(Error::Failed { error: SlotError::HwError, .. })));
    script.quiet();
}

/// bNadValue says what the options say; T=0 has none.
#[test]
fn node_addresses_are_told() {
    let options = Options { nad: Nad::from_byte(0x21), ..Options::default() };
    for (atr, protocol, data) in [
        (PLAIN, Protocol::T0, &t0(0x11)[..]),
        (T1, Protocol::T1, &[0x11, 0x10, 0, 0x45, 0, 0x80, 0x21]),
    ] {
        let mut script = Script::opened(class(TPDU), "", options);
        script.meet_card();
        script.power(PowerSelect::V5, atr);
        script.set(protocol);
        script.parameters(data, data);
        script.done();
    }
}

#[test]
fn rates_can_be_set_by_hand() {
    let mut script = Script::powered(TPDU, PLAIN);
    script.start(Operation::SetRates { clock_frequency: 4000, data_rate: 115_200 });
    let command =
        Command::SetDataRateAndClockFrequency { clock_frequency: 4000, data_rate: 115_200 };
    let (_, seq) = script.sent(command);
    let status = Status::success(IccStatus::PresentActive);
    let (clock_frequency, data_rate) = (3900, 104_832);
    let response = Response::DataRateAndClockFrequency { status, clock_frequency, data_rate };
    script.answer(SLOT, seq, response);
    assert_eq!(script.completed(), Ok(Output::Rates { clock_frequency, data_rate }));
}

// What is asked at opening.

fn with_tables(features: u32, rates: u8, clocks: u8) -> ClassDescriptor {
    let class = class(features);
    ClassDescriptor { num_data_rates_supported: rates, num_clock_supported: clocks, ..class }
}

fn open(class: ClassDescriptor) -> Script {
    Script::opened(class, "", Options::default())
}

fn bytes_of(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn the_data_rates_are_asked_for_and_kept_to() {
    for (told, best, pps) in [
        // 0x95 is 125,000 bit/s, 0x94 62,500, 0x98 93,750.
        (&[10_753, 62_500, 125_000][..], 0x95, PPS_T0_95),
        (&[10_753, 62_500], 0x94, &[0xFF, 0x10, 0x94, 0x7B]),
        (&[10_753, 93_751], 0x98, &[0xFF, 0x10, 0x98, 0x77]),
    ] {
        let mut script = open(with_tables(TPDU, told.len() as u8, 1));
        assert_eq!(script.request(), ClassRequest::GetDataRates { length: told.len() as u16 * 4 });
        // The slots wait.
        script.quiet();
        let request = ClassRequest::GetDataRates { length: told.len() as u16 * 4 };
        script.reader.handle_control(request, Some(&bytes_of(told)), script.now);
        assert_eq!(script.reader.data_rates(SLOT), told);
        script.meet_card();
        script.power(PowerSelect::V5, FAST);
        script.set(Protocol::T0);
        script.pps(pps, pps);
        script.parameters(&t0(best), &[]);
        script.done();
    }
}

#[test]
fn a_stall_or_rubbish_leaves_no_table() {
    let rubbish = bytes_of(&[0x2032_3234, 1, u32::MAX]);
    for answer in [None, Some(&[][..]), Some(&rubbish[..]), Some(&[1, 2, 3])] {
        let mut script = open(with_tables(TPDU, 3, 0));
        let request = script.request();
        script.reader.handle_control(request, answer, script.now);
        assert_eq!(script.reader.data_rates(SLOT), []);
        script.meet_card();
        script.power(PowerSelect::V5, FAST);
        script.set(Protocol::T0);
        script.pps(PPS_T0_95, PPS_T0_95);
    }
}

#[test]
fn a_request_that_never_ends_does_not_stop_the_reader() {
    let mut script = open(with_tables(TPDU, 3, 0));
    let request = script.request();
    let id = script.start(Operation::Status);
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_secs(1));
    let (slot, seq) = script.sent(Command::GetSlotStatus);
    // Its late end changes nothing.
    script.reader.handle_control(request, Some(&bytes_of(&[62_500])), script.now);
    assert_eq!(script.reader.data_rates(SLOT), []);
    script.status(slot, seq, Status::success(IccStatus::PresentInactive));
    assert_eq!(script.event(), Some(Event::Presence { slot, present: true }));
    let completed = script.event();
    assert!(matches!(completed, Some(Event::Completed { id: ended, .. }) if ended == id));
}

#[test]
fn nothing_is_asked_that_is_not_needed() {
    for class in
        [with_tables(TPDU | NEGOTIATES, 9, 9), with_tables(TPDU, 0, 9), with_tables(TPDU, 0, 0)]
    {
        open(class).meet_card();
    }
}

#[test]
fn the_clocks_are_asked_for_where_the_descriptors_makes_no_sense() {
    let class = ClassDescriptor { default_clock: 1_024_000, ..with_tables(TPDU, 0, 2) };
    let mut script = open(class);
    let request = script.request();
    assert_eq!(request, ClassRequest::GetClockFrequencies { length: 8 });
    script.reader.handle_control(request, Some(&bytes_of(&[3580, 7160])), script.now);
    assert_eq!(script.reader.class().default_clock, 3580);
    script.meet_card();
}

// The voltage.

/// T=15 with the class indicator: what the card supports.
fn of_classes(classes: u8) -> Vec<u8> {
    vec![0x3B, 0x80, 0x80, 0x1F, classes, 0x1F ^ classes]
}

#[test]
fn the_first_voltage_is_an_option() {
    for first_voltage in [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8] {
        let options = Options { first_voltage, ..Options::default() };
        let mut script = Script::opened(class(TPDU), "", options);
        script.meet_card();
        script.power(first_voltage, PLAIN);
    }
    let mut script = Script::new(TPDU | AUTO_VOLTAGE);
    script.power(PowerSelect::Automatic, PLAIN);
}

#[test]
fn a_card_is_run_at_a_class_it_supports() {
    // Class B alone: 3 V.
    let mut script = Script::new(TPDU);
    script.start(Operation::PowerOn(PowerUp::Cold));
    script.off();
    script.on(PowerSelect::V5, &of_classes(0b010));
    script.off();
    script.on(PowerSelect::V3, &of_classes(0b010));
    assert!(script.completed().is_ok());
    // It keeps its voltage.
    script.power(PowerSelect::V3, &of_classes(0b010));
    // 1.8 V or 3 V: the higher first; and if neither works, what has.
    let mut script = Script::new(TPDU);
    script.start(Operation::PowerOn(PowerUp::Warm));
    script.on(PowerSelect::V5, &of_classes(0b110));
    for power_select in [PowerSelect::V3, PowerSelect::V1_8] {
        script.off();
        let (_, seq) = script.sent(Command::IccPowerOn { power_select });
        script.failed(seq, SlotError::IccMute);
    }
    script.reset(&of_classes(0b110));
    assert!(script.completed().is_ok());
    script.quiet();
}

#[test]
fn a_class_that_suits_or_cannot_be_changed_is_kept() {
    for (voltages, classes) in [(7, 0b001), (7, 0b011), (7, 0), (1, 0b010), (3, 0b100)] {
        let voltage_support = ccid::descriptor::Voltages::from_bits_retain(voltages);
        let mut script = Script::with_row(ClassDescriptor { voltage_support, ..class(TPDU) }, "");
        script.power(PowerSelect::V5, &of_classes(classes));
        script.quiet();
    }
    // The reader's own choice is its own.
    let mut script = Script::new(TPDU | AUTO_VOLTAGE);
    script.power(PowerSelect::Automatic, &of_classes(0b010));
}

// Quirks, by their kind.

#[test]
fn no_pps_stays_at_the_default() {
    let mut script = Script::with_row(class(TPDU), "FFFF:FFFF no-pps");
    script.power(PowerSelect::V5, BOTH);
    script.set(Protocol::T1);
    script.unsupported(Unsupported::Pps(1));
    script.set(Protocol::T0);
    script.parameters(&t0(0x11), &[]);
    script.done();
}

#[test]
fn a_greatest_data_rate_caps_the_choice() {
    let mut script = Script::with_row(class(TPDU), "FFFF:FFFF max-data-rate=100000");
    script.power(PowerSelect::V5, FAST);
    script.set(Protocol::T0);
    script.block_sent(&[0xFF, 0x10, 0x98, 0x77]);
}

/// Alcor AU9540: T=1 parameters are refused, and T=1 works.
#[test]
fn parameters_can_be_taken_for_accepted() {
    let mut script = Script::with_row(class(TPDU | AUTO_PPS), "FFFF:FFFF accept-parameters");
    script.power(PowerSelect::V5, BOTH);
    script.set(Protocol::T1);
    script.parameters_refused(&t1(0x95), SlotError::HwError);
    script.reset(BOTH);
    script.parameters_refused(&t1(0x11), SlotError::HwError);
    script.done();
}

#[test]
fn the_power_is_cut_before_each_power_up() {
    let mut script = Script::with_row(class(TPDU), "FFFF:* off-before-on");
    script.start(Operation::PowerOn(PowerUp::Warm));
    script.reset(PLAIN);
    assert!(script.completed().is_ok());
}

/// GemPC433: BBh until it is in ISO mode; and not for ever.
#[test]
fn iso_mode_is_switched_on_once() {
    let voltage_support = ccid::descriptor::Voltages::V5;
    for works in [true, false] {
        let class = ClassDescriptor { voltage_support, ..class(TPDU) };
        let mut script = Script::with_row(class, "FFFF:FFFF iso-mode");
        script.start(Operation::PowerOn(PowerUp::Warm));
        let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::V5 });
        script.failed(seq, SlotError::Unknown(0xBB));
        let (_, seq) = script.sent(Command::Escape { data: &[0x1F, 0x01] });
        let status = Status::success(IccStatus::PresentInactive);
        script.answer(SLOT, seq, Response::Escape { status, data: &[] });
        let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::V5 });
        if works {
            script.data(seq, PLAIN);
            assert!(script.completed().is_ok());
        } else {
            script.failed(seq, SlotError::Unknown(0xBB));
            assert!(matches!(script.completed(), Err(Error::Failed { .. })));
        }
        script.quiet();
    }
}

#[test]
fn a_reader_is_left_alone_after_opening() {
    let row = "FFFF:FFFF open-delay=1500 open-escape=1F02 open-escape=AA";
    let mut script = Script::opened(with_tables(TPDU, 1, 0), row, Options::default());
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_millis(1500));
    let request = script.request();
    script.reader.handle_control(request, None, script.now);
    for (data, works) in [(&[0x1F, 0x02][..], true), (&[0xAA], false)] {
        let (slot, seq) = script.sent(Command::Escape { data });
        let status = match works {
            true => Status::success(IccStatus::PresentInactive),
            false => Status::failed(IccStatus::PresentInactive, SlotError::CmdNotSupported),
        };
        script.answer(slot, seq, Response::Escape { status, data: &[] });
        if works {
            assert!(matches!(script.event(), Some(Event::Presence { present: true, .. })));
        }
    }
    assert_eq!(script.event(), Some(Event::Opened));
    let (slot, seq) = script.sent(Command::GetSlotStatus);
    script.status(slot, seq, Status::success(IccStatus::PresentInactive));
    script.quiet();
}

/// Gemalto: the feature block changes how PINs are asked for, and the firmware has a name. Firmware
/// that knows none of it is used without.
#[test]
fn what_a_reader_tells_of_itself_is_heeded() {
    let row = "FFFF:* pin-feature-block pin-modify-three-indexes firmware-name";
    let mut block = [0; 21];
    (block[3], block[8], block[13], block[14]) = (0x02, 0x04, 4, 8);
    for told in [true, false] {
        let mut script = Script::opened(class(TPDU), row, Options::default());
        let before = script.reader.behaviour().clone();
        for (data, answer) in [(&[0x6A][..], &block[..]), (&[0x02], b"GemPC 1.0")] {
            let (slot, seq) = script.sent(Command::Escape { data });
            if told {
                let status = Status::success(IccStatus::NotPresent);
                script.answer(slot, seq, Response::Escape { status, data: answer });
            } else {
                let status = Status::failed(IccStatus::NotPresent, SlotError::CmdNotSupported);
                script.answer(slot, seq, Response::Escape { status, data: &[] });
            }
        }
        assert!(matches!(script.event(), Some(Event::Presence { present: false, .. })));
        assert_eq!(script.event(), Some(Event::Opened));
        let behaviour = script.reader.behaviour();
        if told {
            assert!(!behaviour.flags.contains(Flags::PIN_MODIFY_THREE_INDEXES));
            assert_eq!((behaviour.pin_conditions, &behaviour.pin_length), (Some(2), &Some(4..=8)));
            assert_eq!(behaviour.firmware_name, Some(Bytes::from_static(b"GemPC 1.0")));
        } else {
            assert_eq!(*behaviour, before);
        }
        // Then it is a reader as any other.
        script.sent(Command::GetSlotStatus);
    }
}

/// GemPC Pinpad: the ten strings of its display, then the rest.
#[test]
fn the_strings_of_a_display_are_loaded() {
    let row = "FFFF:* pin-strings open-escape=B500";
    let mut script = Script::opened(class(TPDU), row, Options::default());
    let Some(Transmit::BulkOut(bytes)) = script.reader.poll_transmit() else { panic!() };
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.message_type, message.data.len()), (0x6B, 5 + 10 * 16));
    assert_eq!(message.data[..5], [0xB2, 0xA0, 0x00, 0x4D, 0x4C]);
    let status = Status::failed(IccStatus::NotPresent, SlotError::CmdNotSupported);
    script.answer(SLOT, message.seq, Response::Escape { status, data: &[] });
    script.sent(Command::Escape { data: &[0xB5, 0x00] });
}

#[test]
fn a_slow_reader_gets_its_time() {
    let mut script = Script::opened(class(TPDU), "FFFF:FFFF reader-time=12000", Options::default());
    script.sent(Command::GetSlotStatus);
    assert_eq!(script.timeout(), Duration::from_secs(12));
}

#[test]
fn a_reader_without_time_extensions_gets_more() {
    let time = |row| {
        let mut script = Script::with_row(class(SHORT | NEGOTIATES), row);
        script.power(PowerSelect::V5, PLAIN);
        script.set(Protocol::T0);
        script.done();
        script.exchange()
    };
    assert_eq!(time("FFFF:FFFF extra-time=60000") - time(""), Duration::from_secs(60));
    // Never beyond the limit.
    assert_eq!(time("FFFF:FFFF extra-time=600000"), Options::default().total_limit);
}

#[test]
fn the_other_slots_may_have_rates_of_their_own() {
    let class = ClassDescriptor { max_slot_index: 1, ..class(TPDU) };
    let script = Script::opened(class, "FFFF:FFFF slot-rates=10753,125000", Options::default());
    assert_eq!(script.reader.data_rates(Slot(0)), []);
    assert_eq!(script.reader.data_rates(Slot(1)), [10_753, 125_000]);
}

/// The OpenPGP card 1.x: TB(3) says 45h, and it takes longer.
#[test]
fn a_card_known_to_be_slower_than_it_says_gets_its_time() {
    let atr = [
        0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0, 0x01,
        0x00, 0x00, 0x90, 0x00, 0xB1,
    ];
    let mut script = Script::powered(SHORT | AUTO_PPS, &atr);
    script.set(Protocol::T1);
    script.parameters(&[0x13, 0x10, 0xFF, 0x75, 0, 0x80, 0], &[]);
    script.done();
}
