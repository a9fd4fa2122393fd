//! Recorded traces under pcscd: readers of their own, by the name `trace:FILE` in reader.conf. And
//! what pcscd does, recorded.

use crate::harness::{NOT_TRANSACTED, Pcscd, Puppet, hex};
use crate::recordings;
use ifd::trace::{Trace, What};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERIFY_PIN_DIRECT: &str = "42330006";

fn fixture(name: &str, manner: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    format!("trace:{manner}{}", path.canonicalize().unwrap().display())
}

/// pcscd with one trace.
fn replaying(name: &str, manner: &str) -> (Pcscd, Puppet) {
    let pcscd = Pcscd::start(&[("Trace", &fixture(name, manner))]);
    let mut program = pcscd.puppet();
    program.wait_for_card("Trace 00 00", true);
    (pcscd, program)
}

/// pcscd's end: the whole recording was replayed, and nothing else was sent.
#[track_caller]
fn end(mut pcscd: Pcscd, program: Puppet, name: &str) {
    drop(program);
    pcscd.signal("TERM");
    pcscd.process.wait();
    let log = pcscd.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("replay: ")).collect();
    assert_eq!(said, [""; 0], "{name}");
}

#[test]
fn conversations() {
    for recording in recordings::all() {
        let name = recording.file;
        let (pcscd, mut program) = replaying(name, recording.manner());
        let exchanges = |program: &mut Puppet, exchanges: &[(Vec<u8>, Vec<u8>)]| {
            assert_eq!(program.connect("Trace 00 00"), recording.protocol.to_string(), "{name}");
            for (command, response) in exchanges {
                let mut answer = program.transmit(&hex(command));
                // What a card asks for (T=0) programs do for themselves.
                if let Some(length) = answer.strip_prefix("6C").filter(|rest| rest.len() == 2) {
                    answer = program.transmit(&(hex(&command[..4]) + length));
                }
                if let Some(more) = answer.strip_prefix("61").filter(|rest| rest.len() == 2) {
                    answer = program.transmit(&format!("00C00000{more}"));
                }
                assert_eq!(answer, hex(response), "{name}");
            }
            program.say(&["disconnect", "0"]).ok();
        };
        exchanges(&mut program, &recording.exchanges);
        if !recording.again.is_empty() {
            program.wait_for_card("Trace 00 00", false);
            program.wait_for_card("Trace 00 00", true);
            exchanges(&mut program, &recording.again);
        }
        if !recording.lenient {
            end(pcscd, program, name);
        }
    }
}

/// In virtual time the limit of a command that never ends comes at once.
#[test]
fn an_abort() {
    let (pcscd, mut program) = replaying("sim-abort.pcapng", "fast:");
    program.connect("Trace 00 00");
    assert_eq!(program.say(&["transmit", "00160000"]).code, NOT_TRANSACTED);
    assert_eq!(program.transmit("001000000102"), "029000");
    program.say(&["disconnect", "0"]).ok();
    end(pcscd, program, "sim-abort");
}

/// pcscd asks the slots in any order, so only leniently.
#[test]
fn three_slots() {
    let (_pcscd, mut program) = replaying("sim-three-slots.pcapng", "lenient:fast:");
    program.connect("Trace 00 00");
    assert_eq!(program.transmit("00100000025000"), "50009000");
    program.say(&["disconnect", "0"]).ok();
    program.wait_for_card("Trace 00 01", true);
    program.connect("Trace 00 01");
    assert_eq!(program.transmit("00100000025001"), "6102");
    assert_eq!(program.transmit("00C0000002"), "50019000");
    program.wait_for_card("Trace 00 02", false);
}

#[test]
fn a_pin_at_the_reader() {
    let (pcscd, mut program) = replaying("sim-pin-pad.pcapng", "fast:");
    program.connect("Trace 00 00");
    let mut data = vec![30, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0, 4, 0, 0, 0];
    data.extend([0x00, 0x20, 0x00, 0x81]);
    assert_eq!(program.say(&["control", VERIFY_PIN_DIRECT, &hex(&data)]).first(), "9000");
    program.say(&["disconnect", "0"]).ok();
    end(pcscd, program, "sim-pin-pad");
}

/// SCARD_RECORD in pcscd's environment: what was recorded is what was said, Wireshark sees the same
/// messages, and it stands in for the reader.
#[test]
fn what_pcscd_does_is_recorded() {
    let file = std::env::temp_dir().join(format!("scard-pcscd-{}.pcapng", std::process::id()));
    let path = file.to_str().unwrap();
    let commands = ["00100000020102", "0012010000", "0020008106313233343536"];
    let mut pcscd = Pcscd::start_with(&[("Sim", "sim:default")], &[("SCARD_RECORD", path)]);
    let mut program = pcscd.puppet();
    program.connect("Sim 00 00");
    let answers = commands.map(|command| program.transmit(command));
    program.say(&["disconnect", "2"]).ok();
    drop(program);
    pcscd.signal("TERM");
    pcscd.process.wait();

    let trace = Trace::read(File::open(&file).unwrap()).unwrap();
    let sent = |event: &ifd::trace::Event| match &event.what {
        What::Out(bytes) if bytes[0] == 0x6F => Some(hex(&bytes[10..])),
        _ => None,
    };
    let sent: Vec<_> = trace.events.iter().filter_map(sent).collect();
    assert_eq!(sent, [commands[0], commands[1], "00200081062A2A2A2A2A2A"], "the PIN is masked");
    wireshark_agrees(&file, &trace);

    let replay = format!("trace:fast:{path}");
    let pcscd = Pcscd::start(&[("Trace", &replay)]);
    let mut program = pcscd.puppet();
    program.connect("Trace 00 00");
    assert_eq!(commands.map(|command| program.transmit(command)), answers);
    program.say(&["disconnect", "2"]).ok();
    end(pcscd, program, "what pcscd did");
    std::fs::remove_file(file).unwrap();
}

/// tshark's list of packets with a message, and the types of these, is ours.
fn wireshark_agrees(file: &PathBuf, trace: &Trace) {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-Y", "usbccid.bMessageType", "-T", "fields"]);
    let seen = tshark.args(["-e", "frame.number", "-e", "usbccid.bMessageType"]).output();
    let seen = seen.unwrap_or_else(|error| panic!("tshark: {error} (tests/packages)"));
    let seen = String::from_utf8(seen.stdout).unwrap();
    let ours = |event: &ifd::trace::Event| match &event.what {
        What::Out(bytes) | What::In(bytes) if !bytes.is_empty() => {
            Some(format!("{}\t0x{:02x}", event.packet, bytes[0]))
        }
        _ => None,
    };
    let ours: Vec<_> = trace.events.iter().filter_map(ours).collect();
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(seen.lines().collect::<Vec<_>>(), ours);
}
