//! Programs that exist: pcsc_scan, scriptor, opensc-tool, pyscard, Java, one in Rust.

use crate::harness::Process;
use crate::library::{Reader, folder, library, run, source};
use crate::recordings;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const ATR: &str = "3B 97 95 81 31 FE 45 80 31 80 73 F4 21 40 DE";

#[test]
fn pcsc_scan_sees_cards_and_readers_come_and_go() {
    let reader = Reader::new("default");
    // stdbuf: its output is looked at as it comes.
    let scan = Process::start(reader.program("stdbuf").args(["-oL", "pcsc_scan", "-n"]));
    scan.out.expect("Card inserted");
    scan.out.expect(ATR);
    let mut hands = reader.hands();
    hands.say("remove");
    scan.out.expect("Card removed");
    hands.say("insert");
    scan.out.expect("Card inserted");
    hands.say("unplug");
    scan.out.expect("Scanning present readers");
    hands.say("plug");
    scan.out.expect("Card inserted");
    scan.out.expect(ATR);
}

#[test]
fn opensc_tool() {
    let reader = Reader::new("default");
    let list = reader.run("opensc-tool", &["--list-readers"]);
    assert!(list.contains("Simulated Reader"), "{list}");
    let atr = reader.run("opensc-tool", &["--atr"]);
    assert_eq!(atr.trim(), ATR.replace(' ', ":").to_lowercase());
    for preset in ["default", "t0-tpdu"] {
        let out = Reader::new(preset).run("opensc-tool", &["-s", "00:12:00:04:04"]);
        assert!(out.contains("SW1=0x90, SW2=0x00") && out.contains("00 01 02 03"), "{out}");
    }
}

#[test]
fn scriptor() {
    let reader = Reader::new("default");
    let mut command = reader.program("scriptor");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"00 12 00 04 04\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("00 01 02 03 90 00"), "{said}");
}

/// A recording by its name, as a program's only reader; what this stack did not record, leniently.
#[test]
fn recorded_readers() {
    for recording in recordings::all().into_iter().filter(|r| r.protocol == recordings::T1) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        let file = fixtures.join(recording.file);
        let mut command = Command::new("scriptor");
        command.env("LD_LIBRARY_PATH", folder());
        command.env("SCARD_READERS", format!("trace:{}{}", recording.manner(), file.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let spaced = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X} ")).collect::<String>();
        let script: String =
            recording.exchanges.iter().map(|(command, _)| spaced(command) + "\n").collect();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", recording.file);
        // Lines are broken as it likes.
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = &said[..];
        for (command, response) in &recording.exchanges {
            let answer = format!("< {}", spaced(response).trim_end());
            let Some((_, behind)) = rest.split_once(&answer) else {
                panic!("{}: {command:02X?}: no {answer} in {rest}", recording.file);
            };
            rest = behind;
        }
    }
}

#[test]
fn pyscard_with_its_monitors() {
    let reader = Reader::new("default");
    let script = source("monitor.py");
    let out = reader.run("/usr/bin/python3", &[script.to_str().unwrap(), reader.socket_text()]);
    assert_eq!(out.trim(), "ok", "{out}");
}

/// What the same script does on pcscd, but for the readers' names.
#[test]
fn pyscard_with_two_readers() {
    let mut command = Command::new("/usr/bin/python3");
    command.env("LD_LIBRARY_PATH", folder()).env("SCARD_READERS", "sim:default,sim:pinpad-idle");
    let names = [
        "scard Simulated Reader [CCID Interface] (0001) 00 00",
        "scard Simulated Reader [CCID Interface] (0001) 01 00",
    ];
    let out = run(command.arg(source("../pcscd/client.py")).args(names));
    assert_eq!(out.trim(), "ok", "{out}");
}

#[test]
fn java() {
    let reader = Reader::new("default");
    let program = source("Session.java");
    // Both forms: the second answers 1000 bytes.
    let commands = ["0010000003010203", "001203E80003E8"];
    let out = reader.run("java", &[program.to_str().unwrap(), commands[0], commands[1]]);
    let [name, protocol, atr, echo, long] = out.lines().collect::<Vec<_>>()[..] else {
        panic!("{out}");
    };
    assert!(name.contains("Simulated Reader"), "{out}");
    assert_eq!((protocol, atr), ("T=1", &*ATR.replace(' ', "").to_lowercase()));
    assert_eq!(echo, "0102039000");
    assert_eq!(long, (0..1000).map(|i| format!("{:02x}", i as u8)).collect::<String>() + "9000");
}

/// By the other way in.
#[test]
fn preloaded() {
    let reader = Reader::new("default");
    let mut command = reader.program("opensc-tool");
    command.env_remove("LD_LIBRARY_PATH").env("LD_PRELOAD", library());
    let atr = run(command.arg("--atr"));
    assert_eq!(atr.trim(), ATR.replace(' ', ":").to_lowercase());
}

/// By the third: pcsc-lite's own library, from 2.1 on, passes every call on to the one that it is told.
#[test]
fn delegated() {
    let known = run(Command::new("/sbin/ldconfig").arg("-p"));
    if !known.contains("libpcsclite_real.so.1") {
        // Past the capture of the test's output.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: LIBPCSCLITE_DELEGATE; this pcsc-lite is older than 2.1. \
             tests/other-debian tests it on a newer one."
        );
        return;
    }
    let reader = Reader::new("default");
    let mut command = reader.program("opensc-tool");
    command.env_remove("LD_LIBRARY_PATH").env("LIBPCSCLITE_DELEGATE", library());
    let atr = run(command.arg("--atr"));
    assert_eq!(atr.trim(), ATR.replace(' ', ":").to_lowercase());
}
