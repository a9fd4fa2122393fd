//! Every fault at every step of every operation, in virtual time: each ends in bounded time with a
//! definite result; afterwards the reader works, and nothing that comes is an earlier answer, or
//! it is clearly gone. What was tried is printed as a table (`--nocapture`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::operation::PowerUp;
use ccid::pin::{Format, PinEntry, Verification};
use ccid::{Error, Event, Instant, Operation, OperationId, Options, Output, Slot};
use ifd::driver::{Driver, Turn};
use ifd::transport::fault::{Fault, Faulty, Plan, Tally};
use ifd::transport::iccd::Dialect;
use ifd::transport::sim::SimTransport;
use sim::Hands;
use sim::hands::Hardware;
use std::collections::BTreeMap;
use std::task::{Context, Waker};
use std::time::Duration;

const SLOT: Slot = Slot(0);

/// No command may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Nothing takes longer: the limit, an Abort, a recovery and the reset of the card.
const BOUND: Duration = Duration::from_secs(75);

/// A reader that answers nothing for so long may be given up: a command's time, an Abort, and three
/// tries to get back in step.
const MUTE_TIME: Duration = Duration::from_secs(4);

/// When a reader is said to be gone that is: a command's limit, what follows on it, and the time in
/// which this test lets it be.
const GONE_TIME: Duration = Duration::from_secs(80);

/// In this time it is clear that it will not be.
const PATIENCE: Duration = Duration::from_secs(120);

/// Turns in which a reader gets nowhere, in that time.
const MAX_TURNS: usize = 20_000;

type Device = Dialect<Faulty<SimTransport<Box<dyn Hardware>>>>;

/// A driver on a simulated reader, one thread, time of its own.
struct Bench {
    driver: Driver<Device>,
    hands: Hands,
    tally: Tally,
    now: Instant,
    completed: BTreeMap<OperationId, Result<Output, Error>>,
    present: Option<bool>,
    gone: bool,
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    /// As it should.
    Right,
    /// With something else.
    Other(String),
    Failed(Error),
    /// The reader is gone.
    Gone,
}

impl Bench {
    fn new(preset: &str, plan: Plan) -> Self {
        let hands = Hands::of(preset).unwrap();
        let (faulty, tally) = Faulty::new(SimTransport::new(hands.port()).unwrap(), plan);
        let options = Options { total_limit: LIMIT, ..Options::default() };
        let now = Instant::from_millis(1);
        let driver = Driver::new(Dialect::of(faulty), options, now);
        let (completed, present, gone) = (BTreeMap::new(), None, false);
        Self { driver, hands, tally, now, completed, present, gone }
    }

    /// The same device, opened anew by a driver that knows nothing, with nothing wrong any more.
    fn reopened(self) -> Self {
        let Self { hands, driver, now, .. } = self;
        drop(driver);
        let plan = Plan::from(Fault::Short, usize::MAX);
        let (faulty, tally) = Faulty::new(SimTransport::new(hands.port()).unwrap(), plan);
        let options = Options { total_limit: LIMIT, ..Options::default() };
        let driver = Driver::new(Dialect::of(faulty), options, now);
        let (completed, present, gone) = (BTreeMap::new(), None, false);
        Self { driver, hands, tally, now, completed, present, gone }
    }

    /// Lets time pass until `done` or until the deadline; false if that came first.
    fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        for _ in 0..MAX_TURNS {
            let turn = self.driver.turn(&mut Context::from_waker(Waker::noop()), self.now);
            while let Some(event) = self.driver.poll_event() {
                match event {
                    Event::Completed { id, result, .. } => {
                        let before = self.completed.insert(id, result);
                        assert!(before.is_none(), "an operation ends once");
                    }
                    Event::Presence { slot: SLOT, present } => self.present = Some(present),
                    Event::Unresponsive => self.gone = true,
                    _ => {}
                }
            }
            self.gone |= turn == Turn::Gone;
            if done(self) {
                return true;
            }
            match (turn, self.driver.poll_deadline()) {
                (Turn::More, _) => {}
                (Turn::Gone, _) => return false,
                (Turn::Idle, Some(deadline)) if deadline <= end => {
                    self.now = deadline.max(self.now)
                }
                (Turn::Idle, _) => {
                    self.now = end;
                    return false;
                }
            }
        }
        panic!("it goes round in circles");
    }

    fn start(&mut self, operation: Operation) -> OperationId {
        self.driver.start(SLOT, operation, None, self.now)
    }

    fn end(&mut self, id: OperationId) -> Result<Output, Error> {
        let began = self.now;
        self.run(BOUND + BOUND, |bench| bench.completed.contains_key(&id));
        let took = self.now.saturating_since(began);
        assert!(took <= BOUND, "it took {took:?}");
        self.completed.remove(&id).unwrap_or_else(|| panic!("it never ends"))
    }

    fn call(&mut self, operation: Operation) -> Result<Output, Error> {
        let id = self.start(operation);
        self.end(id)
    }

    fn judge(&mut self, operation: Operation, right: impl Fn(&Output) -> bool) -> End {
        match self.call(operation) {
            Ok(output) if right(&output) => End::Right,
            Ok(output) => End::Other(format!("{output:?}")),
            Err(Error::Disconnected | Error::Unresponsive) => {
                // Told once, in whichever order.
                self.run(Duration::ZERO, |_| false);
                End::Gone
            }
            Err(error) => End::Failed(error),
        }
    }

    fn opened(&mut self) -> End {
        match self.run(Duration::from_secs(10), |bench| bench.present.is_some() || bench.gone) {
            _ if self.gone => End::Gone,
            true => End::Right,
            false => End::Other("it does not say what is in it".into()),
        }
    }

    /// Powers the card up and exchanges something that was never exchanged before. A first attempt
    /// may fail: it finds out what nobody could know of.
    fn works(&mut self, protocol: Protocol) -> Result<(), String> {
        // What is late may come.
        self.run(Duration::from_secs(10), |bench| bench.gone);
        self.exchanges(protocol).or_else(|_| self.exchanges(protocol))
    }

    fn exchanges(&mut self, protocol: Protocol) -> Result<(), String> {
        for operation in [Operation::PowerOn(PowerUp::Cold), Operation::SetProtocol(protocol)] {
            let name = format!("{operation:?}");
            self.call(operation).map_err(|error| format!("{name}: {error}"))?;
        }
        for n in 0..3 {
            let (command, answer) = echo(9, 0xC0 + n);
            match self.call(Operation::ExchangeComplete(command)) {
                Ok(Output::Data(data)) if data == answer => {}
                other => return Err(format!("exchange {n}: {other:?}")),
            }
        }
        Ok(())
    }
}

/// An APDU that is answered by its data.
fn echo(length: u8, first: u8) -> (Bytes, Bytes) {
    let data: Vec<u8> = (0..length).map(|n| first ^ n.wrapping_mul(7)).collect();
    let command = [&[0x00, 0x10, 0x00, 0x00, length][..], &data].concat();
    (command.into(), [&data[..], &[0x90, 0x00]].concat().into())
}

struct Case {
    operation: &'static str,
    preset: &'static str,
    protocol: Protocol,
    /// Brings the reader to where the operation starts.
    before: fn(&mut Bench, Protocol),
    run: fn(&mut Bench, Protocol) -> End,
}

const fn case(
    operation: &'static str,
    preset: &'static str,
    protocol: Protocol,
    before: fn(&mut Bench, Protocol),
    run: fn(&mut Bench, Protocol) -> End,
) -> Case {
    Case { operation, preset, protocol, before, run }
}

const CASES: &[Case] = &[
    case("open", "default", Protocol::T1, |_, _| {}, |bench, _| bench.opened()),
    case("open", "no-interrupt", Protocol::T1, |_, _| {}, |bench, _| bench.opened()),
    case("presence", "default", Protocol::T1, opened, presence),
    case("presence", "no-interrupt", Protocol::T1, opened, presence),
    case("power-on", "default", Protocol::T1, opened, power_on),
    case("power-on", "t0-tpdu", Protocol::T0, opened, power_on),
    case("parameters", "pps", Protocol::T1, powered, parameters),
    case("parameters", "t1-tpdu-manual", Protocol::T1, powered, parameters),
    case("exchange", "default", Protocol::T1, ready, exchange),
    case("exchange", "t0-tpdu", Protocol::T0, ready, exchange),
    case("exchange", "t1-tpdu", Protocol::T1, ready, exchange),
    case("exchange", "t1-tpdu-short", Protocol::T1, ready, exchange),
    case("exchange", "t0-character", Protocol::T0, ready, exchange),
    case("exchange", "t1-character", Protocol::T1, ready, exchange),
    case("exchange", "iccd-a", Protocol::T0, ready, exchange),
    case("exchange", "iccd-b", Protocol::T1, ready, exchange),
    case("extension", "slow", Protocol::T1, ready, read),
    case("chain", "extended", Protocol::T1, ready, chain),
    case("PIN", "pinpad", Protocol::T1, ready, pin),
    case("escape", "default", Protocol::T1, ready, escape),
    case("abort", "default", Protocol::T1, ready, abort),
    case("abort", "abort-no-answer", Protocol::T1, ready, abort),
    case("abort", "t1-tpdu", Protocol::T1, ready, abort),
    case("close", "default", Protocol::T1, ready, close),
];

fn opened(bench: &mut Bench, _: Protocol) {
    let _ = bench.opened();
}

fn powered(bench: &mut Bench, _: Protocol) {
    let _ = bench.opened();
    let _ = bench.call(Operation::PowerOn(PowerUp::Cold));
}

fn ready(bench: &mut Bench, protocol: Protocol) {
    powered(bench, protocol);
    let _ = bench.call(Operation::SetProtocol(protocol));
}

fn presence(bench: &mut Bench, _: Protocol) -> End {
    for (line, wanted) in [("remove", false), ("insert", true)] {
        bench.hands.obey(line).unwrap();
        bench.run(Duration::from_secs(15), |bench| bench.present == Some(wanted) || bench.gone);
        if bench.gone {
            // The card is where it was.
            let _ = bench.hands.obey("insert");
            return End::Gone;
        }
    }
    match bench.present {
        Some(true) => End::Right,
        other => End::Other(format!("{other:?}")),
    }
}

fn power_on(bench: &mut Bench, _: Protocol) -> End {
    let right = |output: &Output| matches!(output, Output::Atr(_));
    bench.judge(Operation::PowerOn(PowerUp::Cold), right)
}

fn parameters(bench: &mut Bench, protocol: Protocol) -> End {
    bench.judge(Operation::SetProtocol(protocol), |output| *output == Output::Done)
}

fn exchange(bench: &mut Bench, _: Protocol) -> End {
    let (command, answer) = echo(100, 0x11);
    bench.judge(Operation::ExchangeComplete(command), |output| {
        *output == Output::Data(answer.clone())
    })
}

/// READ BINARY of a card that takes its time.
fn read(bench: &mut Bench, _: Protocol) -> End {
    let command = Bytes::from_static(&[0x00, 0xB0, 0x00, 0x00, 0x04]);
    bench.judge(Operation::Exchange(command), |output| matches!(output, Output::Data(_)))
}

fn chain(bench: &mut Bench, _: Protocol) -> End {
    let data: Vec<u8> = (0..700u16).map(|n| n as u8).collect();
    let command = [&[0x00, 0x10, 0, 0, 0, 2, 0xBC][..], &data].concat();
    let answer = Bytes::from([&data[..], &[0x90, 0x00]].concat());
    bench.judge(Operation::Exchange(command.into()), |output| {
        *output == Output::Data(answer.clone())
    })
}

fn pin(bench: &mut Bench, _: Protocol) -> End {
    let format =
        Format { time_out: 30, format_string: 0x82, pin_block_string: 0, pin_length_format: 0 };
    let entry = PinEntry::verification(&Verification {
        format,
        pin_max_extra_digit: 0x0408,
        entry_validation_condition: 2,
        number_message: 1,
        lang_id: 0x0409,
        msg_index: 0,
        teo_prologue: [0; 3],
        apdu: &[0x00, 0x20, 0x00, 0x81],
    });
    let operation = Operation::Secure { entry, timeout: Duration::from_secs(30) };
    bench.judge(operation, |output| *output == Output::Data(Bytes::from_static(&[0x90, 0x00])))
}

/// Unknown to the reader, which says so.
fn escape(bench: &mut Bench, _: Protocol) -> End {
    match bench.judge(Operation::Escape(Bytes::from_static(&[0xEE, 1, 2])), |_| false) {
        End::Failed(Error::Failed { .. }) => End::Right,
        other => other,
    }
}

/// A command that the card never answers, cancelled after a while.
fn abort(bench: &mut Bench, _: Protocol) -> End {
    let command = Bytes::from_static(&[0x00, 0x16, 0x00, 0x00]);
    let id = bench.start(Operation::Exchange(command));
    bench.run(Duration::from_millis(100), |bench| bench.completed.contains_key(&id));
    let cancelled = bench.now;
    bench.driver.cancel(id, cancelled);
    let result = bench.end(id);
    let took = bench.now.saturating_since(cancelled);
    assert!(took <= Duration::from_secs(2), "cancelled, and it took {took:?}");
    match result {
        Err(Error::Cancelled) => End::Right,
        Err(Error::Disconnected | Error::Unresponsive) => End::Gone,
        Err(error) => End::Failed(error),
        Ok(output) => End::Other(format!("{output:?}")),
    }
}

fn close(bench: &mut Bench, _: Protocol) -> End {
    bench.judge(Operation::PowerOff, |output| *output == Output::Done)
}

const FAULTS: [Fault; 20] = [
    Fault::Short,
    Fault::Stump,
    Fault::Long,
    Fault::Split,
    Fault::Duplicated,
    Fault::Dropped,
    Fault::Delayed(Duration::from_millis(700)),
    Fault::Delayed(Duration::from_secs(8)),
    Fault::Flipped(7),
    Fault::Flipped(8 * 7 + 6),
    Fault::Flipped(8 * 9),
    Fault::Flipped(8 * 11 + 3),
    Fault::Stalled,
    Fault::BusError,
    Fault::Disconnected,
    Fault::WrongSeq,
    Fault::WrongSlot,
    Fault::WrongType,
    Fault::LengthTooLong,
    Fault::LengthBeyondReason,
];

/// A fault that no protocol can see: what was sent, or what came, is well formed and something
/// else. ICCD's control pipe has no length of its own to tell; a command that comes twice is done
/// twice; a card that comes or goes unheard of shows with the next command.
fn is_invisible(case: &Case, fault: Fault) -> bool {
    match fault {
        Fault::Flipped(_) | Fault::Short | Fault::LengthTooLong | Fault::Duplicated => true,
        Fault::Long | Fault::Stump if case.preset.starts_with("iccd") => true,
        _ => case.operation == "presence" && case.preset == "default",
    }
}

#[derive(Default, Clone, Copy)]
struct Row {
    tried: usize,
    unharmed: usize,
    failed: usize,
    other: usize,
    gone: usize,
    /// Gone then or later.
    lost: usize,
}

fn try_one(case: &Case, plan: Plan, row: &mut Row) -> Result<(), String> {
    let mut bench = Bench::new(case.preset, plan);
    (case.before)(&mut bench, case.protocol);
    let end = (case.run)(&mut bench, case.protocol);
    if bench.tally.applied() == 0 {
        return Ok(());
    }
    row.tried += 1;
    match &end {
        End::Right => row.unharmed += 1,
        End::Other(_) => row.other += 1,
        End::Failed(_) => row.failed += 1,
        End::Gone => row.gone += 1,
    }
    let wrong = |what: String| {
        let Case { operation, preset, .. } = case;
        Err(format!("{operation} ({preset}), {:?} at step {}: {what}", plan.fault, plan.from))
    };
    match end {
        End::Other(what) if !is_invisible(case, plan.fault) => return wrong(what),
        End::Gone if !may_go(plan.fault) => return wrong("gone".into()),
        _ => {}
    }
    let works = bench.works(case.protocol);
    match works {
        Err(_) if bench.gone && may_go(plan.fault) => row.lost += 1,
        Err(what) => return wrong(format!("afterwards, {what}")),
        Ok(()) if plan.fault == Fault::Disconnected => return wrong("it is there again".into()),
        Ok(()) if bench.present != Some(true) => {
            return wrong("a card works that is not there".into());
        }
        Ok(()) => {}
    }
    Ok(())
}

/// A reader that is silent for so long, or unplugged, may be given up.
fn may_go(fault: Fault) -> bool {
    matches!(fault, Fault::Disconnected)
        || matches!(fault, Fault::Delayed(time) if time > MUTE_TIME)
}

/// The steps that the operation takes when nothing goes wrong.
fn steps(case: &Case) -> std::ops::Range<usize> {
    let mut bench = Bench::new(case.preset, Plan::from(Fault::Short, usize::MAX));
    (case.before)(&mut bench, case.protocol);
    let from = bench.tally.steps();
    let end = (case.run)(&mut bench, case.protocol);
    assert_eq!(end, End::Right, "{} ({}) by itself", case.operation, case.preset);
    let to = bench.tally.steps();
    assert_eq!(bench.works(case.protocol), Ok(()));
    assert!(to > from, "{} ({}) takes steps", case.operation, case.preset);
    from..to
}

#[test]
fn each_fault_once_at_each_step() {
    println!("operation   reader           steps  tried  unharmed  failed  changed  gone  works");
    let mut problems = Vec::new();
    for case in CASES {
        let steps = steps(case);
        let mut row = Row::default();
        for step in steps.clone() {
            for fault in FAULTS {
                problems.extend(try_one(case, Plan::once(fault, step), &mut row).err());
            }
        }
        let Row { tried, unharmed, failed, other, gone, lost } = row;
        println!(
            "{:11} {:16} {:5} {tried:6} {unharmed:9} {failed:7} {other:8} {gone:5} {:6}",
            case.operation,
            case.preset,
            steps.len(),
            tried - lost,
        );
        assert!(tried >= steps.len() * 8, "{}", case.operation);
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

/// What becomes of a reader with which something is wrong for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It works all the same.
    Works,
    /// It is said to be gone.
    Gone,
    /// Each operation fails, and it is not said to be gone: it answers.
    Fails,
}

/// Uses the reader again and again, until its fate is clear.
fn fate(bench: &mut Bench, protocol: Protocol) -> Fate {
    let began = bench.now;
    loop {
        match bench.works(protocol) {
            Ok(()) => return Fate::Works,
            Err(_) if bench.gone => return Fate::Gone,
            Err(_) if bench.now.saturating_since(began) > PATIENCE => return Fate::Fails,
            Err(_) => {}
        }
    }
}

/// What may become of it.
fn fates(case: &Case, fault: Fault) -> &'static [Fate] {
    use Fate::{Fails, Gone, Works};
    let by_character = case.preset.ends_with("character");
    let is_abort = case.operation == "abort";
    match fault {
        // What is well formed and something else makes everything fail that it is part of.
        Fault::Flipped(_) => &[Fails, Gone],
        // An Abort's answer may not take so long.
        Fault::Delayed(time) if time < MUTE_TIME && is_abort => &[Works, Gone],
        Fault::Delayed(time) if time < MUTE_TIME => &[Works],
        // What a card is sent by characters comes twice, or an Abort that waits for its request.
        Fault::Duplicated if by_character || is_abort => &[Works, Fails],
        Fault::Duplicated => &[Works],
        // On the control pipe a request tells its length, and there is no header to be wrong.
        Fault::Split | Fault::WrongType | Fault::LengthTooLong | Fault::LengthBeyondReason
            if case.preset.starts_with("iccd") =>
        {
            &[Works]
        }
        Fault::Short | Fault::Stump | Fault::Long | Fault::Stalled
            if case.preset.starts_with("iccd") =>
        {
            &[Fails]
        }
        Fault::WrongSeq | Fault::WrongSlot if case.preset.starts_with("iccd") => &[Fails],
        Fault::Long => &[Works],
        // It refuses each command, in time and by its number.
        Fault::WrongType => &[Fails],
        _ => &[Gone],
    }
}

/// From some step on nothing goes right any more: everything ends, in the end the reader is said to
/// be gone, or it says that it failed; and when nothing is wrong any more, a driver that opens it
/// anew has a reader that works, whatever it was left in.
#[test]
fn each_fault_for_good() {
    let mut problems = Vec::new();
    for case in CASES {
        let steps = steps(case);
        for step in [steps.start, (steps.start + steps.end) / 2] {
            for fault in FAULTS {
                let mut wrong = |what: String| {
                    let Case { operation, preset, .. } = case;
                    let from = format!("{fault:?} from step {step} on");
                    problems.push(format!("{operation} ({preset}), {from}: {what}"));
                };
                let mut bench = Bench::new(case.preset, Plan::from(fault, step));
                (case.before)(&mut bench, case.protocol);
                let _ = (case.run)(&mut bench, case.protocol);
                let fate = fate(&mut bench, case.protocol);
                if !fates(case, fault).contains(&fate) {
                    wrong(format!("{fate:?}"));
                }
                let took = bench.now.saturating_since(Instant::ZERO);
                if fate == Fate::Gone && took > GONE_TIME {
                    wrong(format!("gone after {took:?}"));
                }
                if let Err(why) = bench.reopened().works(case.protocol) {
                    wrong(format!("opened anew, {why}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}
