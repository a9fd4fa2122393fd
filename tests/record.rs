//! What is recorded replays through the whole stack, strictly, and recorded again is the same; the
//! fixtures made of simulated readers are such recordings.
//!
//! `SCARD_WRITE_FIXTURES=1 cargo test --test record` makes the fixtures anew.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::run;
use ifd::Clock;
use ifd::features::VERIFY_PIN_DIRECT;
use ifd::trace::mask::MASK;
use ifd::trace::{Trace, What};
use ifd::transport::Transport;
use ifd::transport::record::{Pins, Record, Recorder};
use ifd::transport::replay::Replay;
use ifd::transport::sim::SimTransport;
use scard::{Card, Context, Disposition, Error, Protocols, ShareMode, Stack};
use sim::Hands;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

const PIN: &[u8] = b"123456";

/// What the caller hears in a session: responses, or errors.
type Heard = Vec<Result<Vec<u8>, Error>>;

struct Session {
    /// The fixture without its extension.
    name: &'static str,
    preset: &'static str,
    act: fn(&Context) -> Heard,
}

const SESSIONS: [Session; 8] = [
    Session { name: "sim-apdu", preset: "default", act: apdus },
    Session { name: "sim-abort", preset: "default", act: abort },
    Session { name: "sim-time-extension", preset: "slow", act: read },
    Session { name: "sim-three-slots", preset: "three-slots", act: all_slots },
    Session { name: "sim-iccd-b", preset: "iccd-b", act: apdus },
    Session { name: "sim-pin-pad", preset: "pinpad", act: pin_pad },
    Session { name: "sim-t1-check", preset: "t1-faults-check", act: apdus },
    Session { name: "sim-t0-character", preset: "t0-character", act: apdus },
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name).with_extension("pcapng")
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("scard-record-{}-{name}.pcapng", std::process::id()))
}

fn connect(context: &Context, at: usize) -> Card {
    let reader = context.list_readers_owned().unwrap().remove(at);
    context.connect(&reader, ShareMode::Shared, Protocols::ANY).unwrap()
}

fn heard(card: &Card, command: &[u8], limit: Option<Duration>) -> Result<Vec<u8>, Error> {
    let complete = card.transmit_complete(command, limit);
    complete.map(|response| response.to_vec())
}

fn verify(pin: &[u8]) -> Vec<u8> {
    [&[0x00, 0x20, 0x00, 0x81, pin.len() as u8][..], pin].concat()
}

fn apdus(context: &Context) -> Heard {
    let card = connect(context, 0);
    let echo: Vec<u8> = [0x00, 0x10, 0x00, 0x00, 54].into_iter().chain(0x41..0x77).collect();
    // The answer to the echo is a message of 64 + 2 bytes, that to the next one of 64.
    let commands = [
        vec![0x00, 0xA4, 0x04, 0x00, 0x07, 0xF0, 0x53, 0x43, 0x41, 0x52, 0x44, 0x01],
        verify(b"0000"),
        verify(PIN),
        echo,
        vec![0x00, 0x12, 0x00, 0x34, 0x00],
        vec![0x00, 0xEE, 0x00, 0x00],
    ];
    let heard = commands.iter().map(|command| heard(&card, command, None)).collect();
    card.disconnect(Disposition::LeaveCard).unwrap();
    heard
}

/// A command that the card never answers, ended by its limit; the card is reset.
fn abort(context: &Context) -> Heard {
    let mut card = connect(context, 0);
    let limit = Some(Duration::from_millis(300));
    let first = heard(&card, &[0x00, 0x16, 0x00, 0x00], limit);
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    let second = heard(&card, &[0x00, 0x10, 0x00, 0x00, 1, 2], None);
    card.disconnect(Disposition::LeaveCard).unwrap();
    vec![first, second]
}

fn read(context: &Context) -> Heard {
    let card = connect(context, 0);
    let heard = vec![heard(&card, &[0x00, 0xB0, 0x00, 0x00, 0x04], None)];
    card.disconnect(Disposition::LeaveCard).unwrap();
    heard
}

fn all_slots(context: &Context) -> Heard {
    let mut all = Vec::new();
    for slot in 0..2 {
        let card = connect(context, slot);
        all.push(heard(&card, &[0x00, 0x10, 0x00, 0x00, 2, 0x50, slot as u8], None));
        card.disconnect(Disposition::LeaveCard).unwrap();
    }
    let reader = context.list_readers_owned().unwrap().remove(2);
    let empty = context.connect(&reader, ShareMode::Shared, Protocols::ANY);
    all.push(Err(empty.err().unwrap()));
    all
}

fn pin_pad(context: &Context) -> Heard {
    let card = connect(context, 0);
    let apdu = [0x00, 0x20, 0x00, 0x81];
    let mut data = vec![30, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    let heard = card.control_owned(VERIFY_PIN_DIRECT, &data, None).map(|data| data.to_vec());
    card.disconnect(Disposition::LeaveCard).unwrap();
    vec![heard]
}

/// Has a session on a transport, in virtual time, recorded to `path`.
fn record(
    transport: impl Transport + 'static,
    act: fn(&Context) -> Heard,
    path: &Path,
    pins: Pins,
) -> Heard {
    let recorder = Recorder::create(path, pins).unwrap();
    run(move || {
        let stack = Stack::empty();
        let record = Record::new(transport, &recorder);
        stack.attach_with_clock(record, Clock::virtual_time()).unwrap();
        let context = Context::on(&stack).unwrap();
        let heard = act(&context);
        drop(context);
        stack.shutdown();
        heard
    })
    .join()
}

fn simulated(preset: &str) -> impl Transport + 'static {
    SimTransport::new(Hands::of(preset).unwrap().port()).unwrap()
}

fn trace(path: &Path) -> Trace {
    Trace::read(File::open(path).unwrap()).unwrap()
}

fn messages(trace: &Trace) -> Vec<What> {
    trace.events.iter().map(|event| event.what.clone()).collect()
}

#[test]
fn recorded_replayed_and_recorded_again_it_is_the_same() {
    for Session { name, preset, act } in SESSIONS {
        for pins in [Pins::Masked, Pins::Kept] {
            let (first, second) = (temporary(name), temporary(&format!("{name}-again")));
            let said = record(simulated(preset), act, &first, pins);
            let once = trace(&first);
            let (replay, report) = Replay::new(once.clone());
            let again = record(replay, act, &second, pins);
            assert_eq!(again, said, "{name}");
            assert_eq!(report.difference(), None, "{name}");
            assert_eq!(report.missing(), 0, "{name}");
            let twice = trace(&second);
            assert_eq!(messages(&twice), messages(&once), "{name}");
            let interface = |trace: &Trace| {
                let found = &trace.interface;
                (found.device.clone(), found.configuration.clone(), found.info.product.clone())
            };
            assert_eq!(interface(&twice), interface(&once), "{name}");
            if name == "sim-apdu" && std::env::var_os("SCARD_WRITE_FIXTURES").is_none() {
                pins_are(&first, pins);
            }
            std::fs::remove_file(first).unwrap();
            std::fs::remove_file(second).unwrap();
        }
    }
}

/// No byte of a PIN is in the file; the asterisks are. Asked otherwise, it is there.
fn pins_are(path: &Path, pins: Pins) {
    let bytes = std::fs::read(path).unwrap();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    let masked = [&[0x00, 0x20, 0x00, 0x81, 6][..], &[MASK; 6]].concat();
    assert_eq!((has(PIN), has(&masked)), (pins == Pins::Kept, pins == Pins::Masked));
    let said = has(b"PINs are masked by asterisks") && has(b"PIN masked");
    assert_eq!(said, pins == Pins::Masked, "the file says so");
}

/// What the driver logs, all of it.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Of digits that are nothing else here.
const LONG_PIN: [u8; 700] = [0x39; 700];

fn long_pin(context: &Context) -> Heard {
    let card = connect(context, 0);
    let verify = [&[0x00, 0x20, 0x00, 0x81, 0, 0x02, 0xBC][..], &LONG_PIN].concat();
    let heard = vec![heard(&card, &verify, None)];
    card.disconnect(Disposition::LeaveCard).unwrap();
    heard
}

/// A PIN goes on in messages that do not look like one: parts of an APDU, T=1 blocks, ICCD's
/// requests. It is in neither file nor log, and the replay knows it again.
#[test]
fn a_pin_in_the_middle_of_a_chain() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    for preset in ["extended", "t1-tpdu-short", "iccd-b"] {
        let (first, again) = (temporary(preset), temporary(&format!("{preset}-again")));
        let said = record(simulated(preset), long_pin, &first, Pins::Masked);
        let bytes = std::fs::read(&first).unwrap();
        assert!(!bytes.windows(4).any(|window| window == [0x39; 4]), "{preset}: it is recorded");
        let trace = trace(&first);
        let parts = trace.events.iter().filter(|event| match &event.what {
            What::Out(bytes) => bytes.contains(&MASK),
            What::Control { data, .. } => data.contains(&MASK),
            _ => false,
        });
        assert!(parts.count() > 2, "{preset}: it goes in parts");
        let (replay, report) = Replay::new(trace);
        assert_eq!(record(replay, long_pin, &again, Pins::Masked), said, "{preset}");
        assert_eq!((report.difference(), report.missing()), (None, 0), "{preset}");
        std::fs::remove_file(first).unwrap();
        std::fs::remove_file(again).unwrap();
    }
    let lines = LINES.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("XfrBlock")), "it is logged at all");
    let shown = lines.iter().find(|line| line.contains("39 39"));
    assert_eq!(shown, None);
}

/// What is in `fixtures` is what this stack does today, and hears.
#[test]
fn the_fixtures_replay_strictly() {
    for Session { name, preset, act } in SESSIONS {
        let path = fixture(name);
        if std::env::var_os("SCARD_WRITE_FIXTURES").is_some() {
            record(simulated(preset), act, &path, Pins::Masked);
        }
        let scratch = temporary(&format!("{name}-fixture"));
        let expected = record(simulated(preset), act, &scratch, Pins::Masked);
        let (replay, report) = Replay::new(trace(&path));
        let heard = record(replay, act, &scratch, Pins::Masked);
        assert_eq!(report.difference(), None, "{name}");
        assert_eq!((heard, report.missing()), (expected, 0), "{name}");
        std::fs::remove_file(scratch).unwrap();
    }
}

/// Another driver begins with other numbers, and asks for this and that besides.
#[test]
fn another_drivers_recording_replays_leniently() {
    let path = fixture("sim-apdu");
    let mut foreign = trace(&path);
    foreign.events.retain(|event| {
        // It does not ask for the status at the beginning, nor power off at the end.
        !matches!(&event.what, What::Out(bytes) | What::In(bytes) if [0, 5].contains(&bytes[6]))
            || matches!(event.what, What::Interrupt(_))
    });
    for event in &mut foreign.events {
        if let What::Out(bytes) | What::In(bytes) = &mut event.what {
            if bytes.len() > 6 {
                let mut other = bytes.to_vec();
                other[6] = other[6].wrapping_add(0x70);
                *bytes = other.into();
            }
        }
    }
    let (strict, report) = Replay::new(foreign.clone());
    let scratch = temporary("lenient");
    let recorder = Recorder::create(&scratch, Pins::Masked).unwrap();
    let stack = Stack::empty();
    stack.attach_with_clock(Record::new(strict, &recorder), Clock::virtual_time()).unwrap();
    assert!(report.difference().is_some(), "strictly, it is not this stack's");
    drop(stack);
    let expected = record(simulated("default"), select_and_read, &scratch, Pins::Masked);
    let (lenient, report) = Replay::lenient(foreign);
    let heard = record(lenient, select_and_read, &scratch, Pins::Masked);
    assert_eq!(report.difference(), None);
    assert_eq!(heard, expected);
    std::fs::remove_file(scratch).unwrap();
}

/// Some of what `apdus` does.
fn select_and_read(context: &Context) -> Heard {
    let card = connect(context, 0);
    let select = [0x00, 0xA4, 0x04, 0x00, 0x07, 0xF0, 0x53, 0x43, 0x41, 0x52, 0x44, 0x01];
    let commands = [&select[..], &[0x00, 0x12, 0x00, 0x34, 0x00], &[0x00, 0xEE, 0x00, 0x00]];
    let heard = commands.iter().map(|command| heard(&card, command, None)).collect();
    card.disconnect(Disposition::LeaveCard).unwrap();
    heard
}

/// Two readers in one file are told apart.
#[test]
fn several_readers_in_one_file() {
    use ifd::trace::{Choice, Events};
    let path = temporary("several");
    let recorder = Recorder::create(&path, Pins::Masked).unwrap();
    run(move || {
        let stack = Stack::empty();
        for preset in ["default", "t0-tpdu"] {
            let record = Record::new(simulated(preset), &recorder);
            stack.attach_with_clock(record, Clock::virtual_time()).unwrap();
        }
        stack.shutdown();
    })
    .join();
    let mut events = Events::new(File::open(&path).unwrap()).unwrap();
    assert!(events.by_ref().all(|event| event.is_ok()));
    let levels: Vec<_> = events
        .devices()
        .into_iter()
        .map(|device| {
            let choice = Choice { device: Some(device), ..Choice::default() };
            let trace = Trace::read_chosen(File::open(&path).unwrap(), choice).unwrap();
            assert!(trace.events.len() > 3);
            trace.interface.info.class.exchange_level().to_string()
        })
        .collect();
    assert_eq!(levels.len(), 2);
    assert_ne!(levels[0], levels[1]);
    std::fs::remove_file(path).unwrap();
}

/// Wireshark's dissector sees the same messages in the same packets: those that fit one transfer.
#[test]
fn wireshark_sees_the_same() {
    let mut compared = 0;
    for Session { name, .. } in SESSIONS {
        let path = fixture(name);
        let fields = ["frame.number", "usbccid.bMessageType", "usbccid.bSlot", "usbccid.bSeq"];
        let fields = fields.into_iter().chain(["usbccid.dwLength"]);
        let mut tshark = std::process::Command::new("tshark");
        tshark.arg("-r").arg(&path).args(["-Y", "usbccid.bMessageType", "-T", "fields"]);
        let seen = tshark.args(fields.flat_map(|field| ["-e", field])).output();
        let seen = seen.unwrap_or_else(|error| panic!("tshark: {error} (tests/packages)"));
        assert!(seen.status.success(), "{name}: {}", String::from_utf8_lossy(&seen.stderr));
        let seen = String::from_utf8(seen.stdout).unwrap();
        let ours: Vec<_> = trace(&path).events.into_iter().filter_map(in_one_transfer).collect();
        // It dissects the bulk pipes only.
        let theirs: Vec<_> = seen.lines().map(str::to_owned).collect();
        assert_eq!(theirs, ours, "{name}");
        compared += ours.len();
    }
    assert!(compared > 100, "{compared} messages compared");
}

/// Packet, type, slot, sequence number and length of a bulk message, as tshark prints them.
fn in_one_transfer(event: ifd::trace::Event) -> Option<String> {
    let (What::Out(bytes) | What::In(bytes)) = event.what else { return None };
    let message = ccid::wire::Message::parse(&bytes).ok()?;
    let (kind, slot, seq) = (message.message_type, message.slot.0, message.seq.0);
    // Of Secure and Abort it shows the type only (Wireshark 4.0).
    if matches!(kind, 0x69 | 0x72) {
        return Some(format!("{}\t0x{kind:02x}\t\t\t", event.packet));
    }
    Some(format!("{}\t0x{kind:02x}\t{slot}\t{seq}\t{}", event.packet, message.data.len()))
}
