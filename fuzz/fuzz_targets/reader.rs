//! One reader, driven by a script: operations, cancels, answers good and bad, lost transfers, time.
//! Whatever it is: every operation ends once, none that was not started; what goes out are
//! commands to slots there are, and none before the reader has said at which rates it works, if it is
//! asked that. At the end the reader either falls silent, and all that was started
//! ends within its limits; or it answers everything, and its slots can be used again.
//!
//! Input: four bytes of what the reader is, then steps of a byte each with operands behind it.

#![no_main]

use ccid::atr::Protocol;
use ccid::operation::PowerUp;
use ccid::pin::{Format, PinEntry, Verification};
use ccid::quirk::{Behaviour, Flags};
use ccid::wire::{ClassRequest, ClockCommand, Command, MechanicalFunction, Message, Seq, Slot};
use ccid::{
    ClassDescriptor, Error, Event, Instant, Operation, OperationId, Options, Reader, Transmit,
};
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// More than any one input may make a reader do.
const MANY: usize = 10_000;

/// What the end of an operation may take beyond its limit: Abort, recovery and their tries.
const GRACE: Duration = Duration::from_secs(30);

fuzz_target!(|input: &[u8]| {
    let Some(([slots, busy, level, poll], script)) = input.split_first_chunk() else { return };
    let mut script = Script(script);
    let mut bench = Bench::new(*slots, *busy, *level, *poll);
    bench.drain();
    while let Some(step) = script.byte() {
        bench.step(step, &mut script);
        bench.drain();
    }
    if poll & 2 == 0 {
        bench.fall_silent();
    } else {
        bench.behave();
    }
});

/// A PIN entry that may take so many seconds; by their number after a pause, an escape command, or
/// neither.
fn pin_entry(apdu: &[u8], seconds: u8) -> Operation {
    let entry = PinEntry::verification(&Verification {
        format: Format {
            time_out: seconds,
            format_string: 0x82,
            pin_block_string: 0,
            pin_length_format: 0,
        },
        pin_max_extra_digit: 0x0408,
        entry_validation_condition: 2,
        number_message: 1,
        lang_id: 0x0409,
        msg_index: 0,
        teo_prologue: [0; 3],
        apdu,
    });
    let entry = match seconds % 3 {
        0 => entry,
        1 => entry.after_pause(Duration::from_millis(250)),
        _ => entry.after_escape(apdu.to_vec().into()),
    };
    Operation::Secure { entry, timeout: Duration::from_secs(seconds.into()) }
}

/// The rest of the input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// Operands are zero where the input ends.
    fn operand(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.operand()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}

struct Bench {
    reader: Reader,
    now: Instant,
    slots: u8,
    /// Operations that have not ended.
    running: BTreeSet<OperationId>,
    started: Vec<OperationId>,
    /// Commands on the wire that have not been answered.
    wire: VecDeque<(Slot, Seq, u8)>,
    /// Control requests that have not ended.
    requests: VecDeque<ClassRequest>,
    /// Until then those of the opening may keep the commands waiting.
    opening: Instant,
    /// Which of those there have been.
    asked: Vec<ClassRequest>,
    /// A recovery has been asked for and is not done.
    recovering: bool,
    gone: bool,
    /// The operation that ended last, and whether well.
    last_ended: Option<(OperationId, bool)>,
}

impl Bench {
    fn new(slots: u8, busy: u8, level: u8, poll: u8) -> Self {
        let mut class = [0; 54];
        (class[0], class[1], class[4]) = (54, 0x21, slots & 0x03);
        (class[5], class[6], class[53]) = (0x07, 0x03, busy & 0x07);
        // A clock that makes no sense is asked for.
        let clock: u16 = if poll & 4 == 0 { 4000 } else { 1 };
        class[10..12].copy_from_slice(&clock.to_le_bytes());
        (class[18], class[27]) = (slots >> 6, slots >> 4 & 0x03);
        class[23..26].copy_from_slice(&[0x16, 0x40, 0x05]);
        class[28..30].copy_from_slice(&254u16.to_le_bytes());
        (class[36], class[41]) = (0x0F, 0x01);
        class[40] = level & 0xFE;
        class[42] = level << 1 & 0x06 | u8::from(level & 0x06 == 0);
        class[44..46].copy_from_slice(&271u16.to_le_bytes());
        let class = ClassDescriptor::parse(&class).unwrap();
        let tells = Flags::PIN_FEATURE_BLOCK | Flags::FIRMWARE_NAME | Flags::PIN_STRINGS;
        let behaviour = Behaviour {
            flags: if poll & 8 == 0 { Flags::empty() } else { tells },
            open_delay: Duration::from_secs(u64::from(poll >> 4 & 1)),
            ..Behaviour::default()
        };
        let poll = (poll & 1 != 0).then_some(Duration::from_millis(400));
        let options = Options { poll, ..Options::default() };
        Self {
            reader: Reader::with_behaviour(class, behaviour, options, Instant::ZERO),
            now: Instant::ZERO,
            slots: slots & 0x03,
            running: BTreeSet::new(),
            started: Vec::new(),
            wire: VecDeque::new(),
            requests: VecDeque::new(),
            opening: Instant::ZERO,
            asked: Vec::new(),
            recovering: false,
            gone: false,
            last_ended: None,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let now = self.now;
        match step % 12 {
            0 | 1 => self.start(script),
            2 => {
                let nth = usize::from(script.operand());
                if let Some(id) = self.started.get(nth % self.started.len().max(1)) {
                    self.reader.cancel(*id, now);
                }
            }
            3 => self.pass(Duration::from_millis(u64::from(script.operand()) * 20)),
            4 => self.pass(Duration::from_secs(u64::from(script.operand()))),
            5 | 6 => self.answer(script),
            7 => self.reader.handle_message(script.bytes(), now),
            8 => self.reader.handle_interrupt(script.bytes(), now),
            9 => self.end_request(Some(script)),
            10 => match script.operand() % 8 {
                0 => self.reader.handle_interrupt_lost(Duration::from_millis(250), now),
                1 => {
                    self.gone = true;
                    self.reader.handle_gone(&Error::Unresponsive);
                }
                _ => self.reader.handle_transfer_error(now),
            },
            _ => self.recover(),
        }
    }

    fn start(&mut self, script: &mut Script<'_>) {
        let operation = match script.operand() % 16 {
            0 => Operation::PowerOn(PowerUp::Cold),
            1 => Operation::PowerOn(PowerUp::Warm),
            2 => Operation::PowerOff,
            3 => Operation::Status,
            4 => Operation::SetProtocol(Protocol::T0),
            5 => Operation::SetProtocol(Protocol::T1),
            6 => Operation::Escape(script.bytes().to_vec().into()),
            7 => Operation::GetParameters,
            8 => Operation::ResetParameters,
            9 => {
                let apdu = script.bytes();
                pin_entry(apdu, script.operand())
            }
            10 => Operation::Exchange(script.bytes().to_vec().into()),
            11 => Operation::ExchangeComplete(script.bytes().to_vec().into()),
            12 => Operation::Mechanical(MechanicalFunction::from(script.operand() % 8)),
            13 => Operation::IccClock(ClockCommand::from(script.operand() % 3)),
            14 => Operation::T0Apdu { get_response: script.byte(), envelope: script.byte() },
            _ => Operation::SetRates {
                clock_frequency: script.operand().into(),
                data_rate: script.operand().into(),
            },
        };
        // Sometimes a slot that is not there.
        let slot = Slot(script.operand() % 5);
        let limit = match script.operand() {
            0 => None,
            n => Some(Duration::from_millis(u64::from(n) * 100)),
        };
        let id = self.reader.start(slot, operation, limit, self.now);
        assert!(self.running.insert(id), "{id:?} twice");
        self.started.push(id);
    }

    /// A well-formed answer to the oldest command, or to the latest: good, failed, more time.
    fn answer(&mut self, script: &mut Script<'_>) {
        let how = script.operand();
        let command = if how & 1 == 0 { self.wire.pop_front() } else { self.wire.pop_back() };
        let Some((slot, seq, message_type)) = command else { return };
        let status = script.operand();
        if status & 0xC0 == 0x80 {
            // More time: the command goes on.
            self.wire.push_front((slot, seq, message_type));
        }
        let specific = [status & 0xC3, script.operand(), how >> 1];
        let message = Message { message_type, slot, seq, specific, data: script.bytes() };
        self.reader.handle_message(&message.emit(), self.now);
    }

    /// The oldest control request ends: an ABORT is taken; the others fail, or bring numbers.
    fn end_request(&mut self, script: Option<&mut Script<'_>>) {
        match (self.requests.pop_front(), script) {
            (None, _) => {}
            (Some(request @ ClassRequest::Abort { .. }), _) => {
                self.reader.handle_control(request, Some(&[]), self.now);
            }
            (Some(request), Some(script)) => {
                let data = (script.operand() & 1 == 0).then(|| script.bytes());
                self.reader.handle_control(request, data, self.now);
            }
            (Some(request), None) => self.reader.handle_control(request, None, self.now),
        }
    }

    /// A request of the opening has not ended, and may take longer.
    fn is_opening(&self) -> bool {
        let asks = |request: &ClassRequest| !matches!(request, ClassRequest::Abort { .. });
        self.now < self.opening && self.requests.iter().any(asks)
    }

    fn recover(&mut self) {
        if std::mem::take(&mut self.recovering) {
            self.reader.handle_recovered(self.now);
        }
    }

    /// Time passes, in as many steps as the reader has deadlines.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(deadline) = self.reader.poll_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.reader.handle_timeout(self.now);
            self.drain();
            steps += 1;
            assert!(steps < MANY, "deadlines without end");
        }
        self.now = end;
    }

    fn drain(&mut self) {
        for _ in 0..MANY {
            let Some(transmit) = self.reader.poll_transmit() else {
                return self.drain_events();
            };
            // A transfer that fails behind its end may still be asked to be recovered.
            assert!(!self.gone || transmit == Transmit::Recover, "sent to a reader that is gone");
            match transmit {
                Transmit::BulkOut(bytes) => {
                    let message = Message::parse(&bytes).unwrap();
                    let command = Command::parse(&message).unwrap();
                    assert!(message.slot.0 <= self.slots);
                    assert!(!self.is_opening(), "a command before the opening is over");
                    self.wire.push_back((message.slot, message.seq, command.answered_by()));
                }
                Transmit::Control {
                    request: request @ ClassRequest::Abort { slot, .. }, ..
                } => {
                    assert!(slot.0 <= self.slots);
                    self.requests.push_back(request);
                }
                Transmit::Control { request, timeout } => {
                    assert!(!self.asked.contains(&request), "{request:?} again");
                    self.asked.push(request);
                    self.requests.push_back(request);
                    self.opening = self.opening.max(self.now) + timeout;
                }
                Transmit::Recover => {
                    assert!(!self.recovering, "a recovery in a recovery");
                    self.recovering = true;
                }
            }
        }
        panic!("sends without end");
    }

    fn drain_events(&mut self) {
        assert!(!self.gone || self.reader.poll_deadline().is_none(), "waits for what is gone");
        while let Some(event) = self.reader.poll_event() {
            match event {
                Event::Completed { id, result, .. } => {
                    assert!(self.running.remove(&id), "{id:?} ended twice, or never started");
                    self.last_ended = Some((id, result.is_ok()));
                }
                Event::Unresponsive => self.gone = true,
                _ => {}
            }
        }
        assert!(!self.gone || self.running.is_empty(), "not ended with the reader");
    }

    /// The reader says nothing any more: all ends by the clock.
    fn fall_silent(&mut self) {
        let limit = Options::default().total_limit + GRACE;
        self.run_down(limit, |_| false);
    }

    /// The reader has no card and answers as it should: every slot can be used again.
    fn behave(&mut self) {
        // Until then what the script has kept from being answered runs out of its time.
        self.run_down(Options::default().total_limit + GRACE, Self::answer_as_it_should);
        for slot in 0..=self.slots {
            let id = self.reader.start(Slot(slot), Operation::Status, None, self.now);
            self.running.insert(id);
            self.run_down(GRACE, Self::answer_as_it_should);
            assert!(self.gone || self.last_ended == Some((id, true)), "slot {slot} is wedged");
        }
    }

    fn answer_as_it_should(&mut self) -> bool {
        let Some((slot, seq, message_type)) = self.wire.pop_front() else { return false };
        let data: &[u8] = if message_type == 0x84 { &[0; 8] } else { &[] };
        let no_card = [0x02, 0, 0];
        let message = Message { message_type, slot, seq, specific: no_card, data };
        self.reader.handle_message(&message.emit(), self.now);
        true
    }

    /// Goes on, with answers by `answer`, which says whether there was one, until nothing is left
    /// to end; that must not take longer than `limit`.
    fn run_down(&mut self, limit: Duration, mut answer: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        for _ in 0..MANY {
            self.drain();
            if self.running.is_empty() {
                return;
            }
            if !self.requests.is_empty() {
                self.end_request(None);
            } else if self.recovering {
                self.recover();
            } else if !answer(self) {
                let deadline = self.reader.poll_deadline();
                self.now = self.now.max(deadline.expect("waits for nothing, for ever"));
                assert!(self.now <= end, "longer than any limit");
                self.reader.handle_timeout(self.now);
            }
        }
        panic!("deadlines without end");
    }
}
