//! The `scard` command, run as its users run it, on simulated readers.
//!
//! Nothing here waits a fixed time: only for the end of a process, or for a line that it writes.

#![cfg(feature = "cli")]
// A test.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "cli/process.rs"]
mod process;
#[path = "cli/traces.rs"]
mod traces;

use process::{run, run_with_input, start};
use serde_json::Value;

const DEFAULT_ATR: &str = "3B 97 95 81 31 FE 45 80 31 80 73 F4 21 40 DE";
const SELECT: &str = "00A4040007F0534341524401";
/// On a T=0 card, which has minutes for an answer: nothing but the test ends it.
const NEVER_ANSWERED: &str = "00160000";

/// The lines of hexadecimal alone: the responses.
fn responses(out: &str) -> Vec<String> {
    let hex = |line: &&str| line.split(' ').all(|byte| u8::from_str_radix(byte, 16).is_ok());
    out.lines().filter(hex).map(str::to_owned).collect()
}

#[test]
fn list_names_readers_and_cards() {
    let ended = run(&["list", "--sim", "--sim", "empty"]).with_status(0);
    assert!(ended.out.contains(&format!("card {DEFAULT_ATR}")), "{}", ended.out);
    assert!(ended.out.contains("00 00\n") && ended.out.contains("01 00\n"), "{}", ended.out);
    assert!(ended.out.contains("no card"), "{}", ended.out);
    let list = run(&["list", "--sim=three-slots", "--json"]).with_status(0).json();
    let entries = list.as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1]["index"], 1);
    assert_eq!(entries[1]["slot"], 1);
    assert_eq!(entries[1]["vendor_id"], "1209");
    assert_eq!(entries[0]["usable"], true);
}

#[test]
fn status_tells_states_and_counts() {
    let status = run(&["status", "--sim", "--sim", "empty", "--json"]).with_status(0).json();
    assert_eq!(status[0]["state"], serde_json::json!(["present"]));
    assert_eq!(status[0]["atr"], DEFAULT_ATR.replace(' ', ""));
    assert_eq!(status[0]["event_count"], 1);
    assert_eq!(status[1]["state"], serde_json::json!(["empty"]));
    assert_eq!(status[1]["atr"], Value::Null);
    let ended = run(&["status", "--sim", "mute"]).with_status(0);
    assert!(ended.out.contains("does not answer"), "{}", ended.out);
}

#[test]
fn atr_is_read_and_explained() {
    let ended = run(&["atr", "--sim"]).with_status(0);
    assert_eq!(ended.out.lines().next(), Some(DEFAULT_ATR));
    assert!(ended.out.contains("TA1  95           Fi 512, Di 16"), "{}", ended.out);
    assert!(ended.out.contains("checksum: right"), "{}", ended.out);
    let atr = run(&["atr", "--sim", "--json"]).with_status(0).json();
    assert_eq!(atr["rows"][2]["name"], "TA1");
    assert_eq!(atr["clock_khz"], 4000);
}

#[test]
fn atr_needs_no_reader() {
    let ended = run(&["atr", "--hex", "3B 80 01 80"]).with_status(0);
    assert!(ended.out.contains("! wrong: it should be 81"), "{}", ended.out);
    let ended = run(&["atr", "--hex", "3B9011"]).with_status(1);
    assert!(ended.err.contains("TD1 is missing"), "{}", ended.err);
    let ended = run(&["atr", "--hex", "3B xy"]).with_status(2);
    assert!(ended.err.contains("column 4") && ended.err.contains("'x'"), "{}", ended.err);
}

#[test]
fn apdus_are_answered_and_explained() {
    let ended = run(&["apdu", "--sim", SELECT, "00 B0 81 00 00", "00990000"]).with_status(0);
    let responses = responses(&ended.out);
    assert_eq!(responses.len(), 3, "{}", ended.out);
    assert!(responses[0].starts_with("6F 10 84 07"), "{}", responses[0]);
    assert_eq!(responses[2], "6D 00");
    assert!(ended.out.contains("9000: success; \"A simulated card\""), "{}", ended.out);
    assert!(ended.out.contains("6D00: error: instruction not supported"), "{}", ended.out);
}

#[test]
fn a_failed_exchange_is_told_with_its_cause() {
    for (preset, command, cause) in [
        ("default", "001A0000", "the card does not answer"),
        ("abort-unasked", "00160000", "failed: CMD_ABORTED (FFh)"),
        ("t1-faults-always", SELECT, "card misbehaved: T=1: the card could not be resynchronised"),
    ] {
        let ended = run(&["apdu", "--sim", preset, command]).with_status(1);
        assert!(ended.err.starts_with("scard: the exchange failed: "), "{}", ended.err);
        assert!(ended.err.contains(cause), "{}", ended.err);
    }
}

#[test]
fn the_rest_of_a_response_is_fetched_and_shown() {
    let words = ["apdu", "--sim", "t0-tpdu", SELECT, "00B0810000"];
    let ended = run(&words).with_status(0);
    assert!(ended.out.contains("6112: success; 18 more bytes"), "{}", ended.out);
    assert!(ended.out.contains("> 00 C0 00 00 12"), "{}", ended.out);
    assert!(ended.out.contains("6C10: wrong Le; there are 16 bytes"), "{}", ended.out);
    assert!(ended.out.contains("> 00 B0 81 00 10"), "{}", ended.out);
    assert_eq!(responses(&ended.out).len(), 2, "{}", ended.out);
    let ended = run(&["apdu", "--sim", "t0-tpdu", "--no-get-response", SELECT]).with_status(0);
    assert_eq!(responses(&ended.out), ["61 12"]);
    let document = run(&[&words[..], &["--json"]].concat()).with_status(0).json();
    assert_eq!(document["protocol"], "T=0");
    assert_eq!(document["exchanges"][0]["sent"].as_array().unwrap().len(), 2);
    assert_eq!(document["exchanges"][1]["sw"], "9000");
    assert_eq!(document["error"], Value::Null);
}

#[test]
fn the_protocol_can_be_chosen() {
    let chosen = |protocol| {
        let words = ["apdu", "--sim", "both", "--protocol", protocol, SELECT, "--json"];
        run(&words).with_status(0).json()["protocol"].clone()
    };
    assert_eq!(chosen("t0"), "T=0");
    assert_eq!(chosen("t1"), "T=1");
    let ended = run(&["apdu", "--sim", "t0", "--protocol", "t1", SELECT]).with_status(1);
    assert!(ended.err.contains("does not speak t1"), "{}", ended.err);
}

#[test]
fn a_pin_is_shown_nowhere() {
    let verify = format!("{SELECT}\n0020008106313233343536\n");
    let ended = run_with_input(&["apdu", "--sim", "-vvv", "-"], &verify).with_status(0);
    for text in [&ended.out, &ended.err] {
        for pin in ["31 32 33", "313233", "123456"] {
            assert!(!text.contains(pin), "{text}");
        }
    }
    assert!(ended.out.contains("> 00 20 00 81 (7 bytes not shown)"), "{}", ended.out);
    assert!(ended.err.contains("XfrBlock"), "no log:\n{}", ended.err);
    let ended = run_with_input(&["apdu", "--sim", "--json", "-"], &verify).with_status(0);
    assert!(!ended.out.contains("313233") && ended.out.contains("00200081"), "{}", ended.out);
}

#[test]
fn a_script_is_run_line_by_line() {
    let script = format!("# a card\n\n{SELECT}  # SELECT\nreset\n00 b0 81 00 00\n");
    let ended = run_with_input(&["apdu", "--sim", "-"], &script).with_status(0);
    // The reset has undone the selection.
    assert_eq!(responses(&ended.out)[1..], ["6A 82"], "{}", ended.out);
    assert!(ended.out.contains(&format!("> reset\n  ATR {DEFAULT_ATR}")), "{}", ended.out);
    assert!(run_with_input(&["apdu", "--sim", "-"], "").with_status(0).out.is_empty());
}

#[test]
fn a_script_with_a_slip_is_not_begun() {
    let script = format!("{SELECT}\n00B0 0000\n00 b0 8z 00 00\n");
    let ended = run_with_input(&["apdu", "--sim", "-"], &script).with_status(2);
    assert!(ended.err.contains("line 3, column 8: 'z'"), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn a_status_word_can_be_made_to_count() {
    let script = format!("{SELECT}\n00B0850000\n00B0810000\n");
    let ended = run_with_input(&["apdu", "--sim", "--check", "-"], &script).with_status(1);
    assert_eq!(responses(&ended.out).len(), 2, "{}", ended.out);
    assert!(ended.err.contains("the card answered 6A82"), "{}", ended.err);
}

#[test]
fn readers_are_chosen_by_name_part_and_number() {
    let three = |reader| run(&["atr", "--sim", "three-slots", "--reader", reader]);
    assert!(three("1").with_status(0).out.starts_with("3B 07"));
    assert!(three("00 01").with_status(0).out.starts_with("3B 07"));
    let ended = three("SIMULATED").with_status(2);
    assert!(ended.err.contains("several readers") && ended.err.contains("  2  "), "{}", ended.err);
    let ended = three("nothing").with_status(3);
    assert!(ended.err.contains("no such reader: \"nothing\""), "{}", ended.err);
    let ended = run(&["atr", "--sim", "three-slots"]).with_status(2);
    assert!(ended.err.contains("--reader"), "{}", ended.err);
    // The only one with a card needs no name.
    let ended = run(&["atr", "--sim", "empty", "--sim", "t0"]).with_status(0);
    assert!(ended.out.starts_with("3B 07"), "{}", ended.out);
}

#[test]
fn exit_statuses_tell_what_was_wrong() {
    for (words, status, said) in [
        (&["atr", "--sim", "empty"][..], 3, "no card in"),
        (&["apdu", "--sim", "empty", SELECT], 3, "no card in"),
        (&["atr", "--sim", "mute"], 1, "does not answer"),
        (&["apdu", "--sim", "00 1x"], 2, "column 5"),
        (&["apdu", "--sim", "00A4"], 2, "at least 4"),
        (&["apdu", "--sim", "-", SELECT], 2, "stands alone"),
        (&["list", "--sim", "nonsense"], 2, "no simulated reader is called \"nonsense\""),
        (&["sim", "--vhci", "nonsense"], 2, "nonsense"),
        (&["apdu"], 2, "required"),
        (&["apdu", "--timeout", "0", SELECT], 2, "no time"),
        (&["dance"], 2, "unrecognized subcommand"),
        (&["descriptor", "--hex", "36 21"], 1, "54 bytes"),
        (&["descriptor", "--hex", "3"], 2, "single hexadecimal digit"),
        (&["apdu", "--sim", "t0", "--timeout", "0.05", NEVER_ANSWERED], 124, "time limit"),
    ] {
        let ended = run(words).with_status(status);
        assert!(ended.err.contains(said), "{words:?}: {}", ended.err);
        assert_eq!(ended.err.matches("panicked").count(), 0, "{}", ended.err);
    }
    assert!(run(&["--help"]).with_status(0).out.contains("130  interrupted"));
}

#[test]
fn a_time_limit_aborts_the_command() {
    let words = ["apdu", "--sim", "t0", "-vv", "--timeout", "0.05", NEVER_ANSWERED, "--json"];
    let ended = run(&words).with_status(124);
    assert!(ended.err.contains("-> Abort slot 0"), "{}", ended.err);
    let document = ended.json();
    assert!(document["error"].as_str().unwrap().contains("0.05 s"), "{document}");
}

#[test]
fn descriptors_are_explained() {
    let ended = run(&["descriptor", "--sim"]).with_status(0);
    for text in ["dwFeatures", "0004047Ah", "00040000h  exchanges short and extended APDUs"] {
        assert!(ended.out.contains(text), "{}", ended.out);
    }
    let all = run(&["descriptor", "--sim", "three-slots", "--json"]).with_status(0).json();
    assert_eq!(all.as_array().unwrap().len(), 1, "a device has one, however many slots");
    assert_eq!(all[0]["fields"][3]["name"], "bMaxSlotIndex");
    assert_eq!(all[0]["interrupt_pipe"], true);
    let hex = all[0]["descriptor"].as_str().unwrap();
    let alone = run(&["descriptor", "--hex", hex, "--json"]).with_status(0).json();
    assert_eq!(alone["fields"], all[0]["fields"]);
}

/// A card that another program is: it is waited for, and answers to its APDU.
#[test]
fn a_card_from_outside() {
    use std::io::{Read, Write};
    let mut scard = start(&["apdu", "--sim", "vpcd:0", "00CA0000", "--json"]);
    let line = scard.expect_err("cards connect to");
    let address = line.rsplit(' ').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let card = std::thread::spawn(move || {
        let (mut length, mut apdus) = ([0; 2], Vec::new());
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message).unwrap();
            match message[..] {
                [4] => stream.write_all(&[0, 4, 0x3B, 0x80, 0x01, 0x81]).unwrap(),
                [_] => {}
                _ => {
                    apdus.push(message);
                    stream.write_all(&[0, 3, 0x55, 0x90, 0x00]).unwrap();
                }
            }
        }
        apdus
    });
    let document = scard.end().with_status(0).json();
    assert_eq!(document["exchanges"][0]["sw"], "9000");
    assert_eq!(card.join().unwrap(), [[0x00, 0xCA, 0x00, 0x00]]);
}

#[test]
fn presets_are_listed() {
    let ended = run(&["sim", "--list"]).with_status(0);
    assert!(ended.out.contains("three-slots"), "{}", ended.out);
    let list = run(&["sim", "--list", "--json"]).with_status(0).json();
    assert_eq!(list.as_array().unwrap().len(), ended.out.lines().count());
}

#[test]
fn the_demo_tells_a_story_that_is_true() {
    let ended = run(&["demo", "--sim"]).with_status(0);
    let text = "Card::transmit_owned returned SCARD_E_CANCELLED";
    assert!(ended.out.contains(text), "{}", ended.out);
    let story = run(&["demo", "--sim", "--json"]).with_status(0).json();
    assert_eq!(story["cancelled"], "Card::transmit_owned");
    let wire: Vec<_> = story["wire"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    let at = |text: &str| {
        let found = wire.iter().position(|line| line.starts_with(text));
        found.unwrap_or_else(|| panic!("no {text} in {wire:?}"))
    };
    let request = wire[at("ABORT request ")].trim_start_matches("ABORT request ");
    assert!(at("XfrBlock") < at("Context::cancel"));
    assert!(at("Context::cancel") < at("ABORT request"));
    assert!(at("ABORT request") < at(&format!("Abort {request}")));
    assert!(at(&format!("Abort {request}")) < at(&format!("SlotStatus {request} ok")));
    let last = story["exchanges"].as_array().unwrap().last().unwrap();
    assert!(last["response"].as_str().unwrap().ends_with("9000"), "{last}");
}

#[test]
fn the_demo_survives_a_reader_without_abort() {
    let ended = run(&["demo", "--sim", "abort-no-status"]).with_status(0);
    assert!(ended.out.contains("SCARD_E_CANCELLED"), "{}", ended.out);
    for preset in ["t0-tpdu", "iccd-b"] {
        let ended = run(&["demo", "--sim", preset]).with_status(0);
        assert!(ended.out.contains("SCARD_E_CANCELLED"), "{}", ended.out);
        assert!(ended.out.contains("success; \"A simulated card\""), "{}", ended.out);
    }
}

#[test]
fn the_demo_keeps_to_the_reader_asked_for() {
    let story = run(&["demo", "--sim", "three-slots", "--reader", "1", "--json"]).with_status(0);
    let story = story.json();
    assert_eq!(story["atr"], "3B0780318073F42140");
    assert!(story["reader"].as_str().unwrap().ends_with("00 01"), "{story}");
}

#[test]
fn watch_tells_what_comes() {
    let mut watch = start(&["watch", "--sim", "insert-later", "--json"]);
    let there: Value = serde_json::from_str(&watch.expect("reader-added")).unwrap();
    let came: Value = serde_json::from_str(&watch.expect("card-inserted")).unwrap();
    assert_eq!(there["reader"], came["reader"]);
    assert_eq!(came["atr"], DEFAULT_ATR.replace(' ', ""));
}

#[cfg(unix)]
mod signals {
    use super::*;
    use rustix::process::Signal;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    fn ctrl_c_ends_a_watch() {
        for signal in [Signal::INT, Signal::TERM] {
            let mut watch = start(&["watch", "--sim"]);
            watch.expect("card inserted");
            watch.signal(signal);
            let ended = watch.wait().with_status(130);
            assert_eq!(ended.err, "");
        }
    }

    #[test]
    fn ctrl_c_aborts_a_command() {
        let mut apdu = start(&["apdu", "--sim", "t0", "-vv", NEVER_ANSWERED]);
        apdu.expect_err(": 00 16 00 00");
        apdu.signal(Signal::INT);
        let ended = apdu.wait().with_status(130);
        for text in ["-> Abort {", "-> Abort slot 0", "interrupted: the command was cancelled"] {
            assert!(ended.err.contains(text), "{}", ended.err);
        }
    }

    #[test]
    fn ctrl_c_ends_a_command_on_a_reader_that_does_not_abort() {
        let mut apdu = start(&["apdu", "--sim", "abort-stall", "-vv", NEVER_ANSWERED, "--json"]);
        apdu.expect_err(": 00 16 00 00");
        apdu.signal(Signal::INT);
        let document = apdu.wait().with_status(130).json();
        assert!(document["error"].as_str().unwrap().contains("interrupted"), "{document}");
    }

    #[test]
    fn ctrl_c_ends_the_rest_of_a_script() {
        let mut apdu = start(&["apdu", "--sim", "t0", "-vv", NEVER_ANSWERED, SELECT]);
        apdu.expect_err(": 00 16 00 00");
        apdu.signal(Signal::INT);
        let ended = apdu.wait().with_status(130);
        assert!(!ended.out.contains("00 A4"), "{}", ended.out);
    }

    #[test]
    fn ctrl_c_ends_the_reading_of_a_script() {
        let mut apdu = start(&["apdu", "--sim", "-vv", "-"]);
        apdu.expect_err("reading standard input");
        apdu.signal(Signal::INT);
        apdu.wait().with_status(130);
    }

    #[test]
    fn ctrl_c_ends_the_demo_while_it_waits() {
        let mut demo = start(&["demo", "--sim", "empty"]);
        demo.expect("None is there yet");
        demo.signal(Signal::INT);
        demo.wait().with_status(130);
    }

    #[test]
    fn nobody_to_read_the_output_is_no_error() {
        for words in [&["list", "--sim"][..], &["atr", "--sim", "--json"], &["watch", "--sim"]] {
            let (gone, out) = UnixStream::pair().unwrap();
            drop(gone);
            let output = Command::new(env!("CARGO_BIN_EXE_scard"))
                .args(words)
                .stdin(Stdio::null())
                .stdout(OwnedFd::from(out))
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(0), "{words:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        }
    }
}

#[test]
fn the_library_is_installed_beside_others() {
    let folder = std::env::temp_dir().join(format!("scard-library-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let built = folder.join("built.so");
    std::fs::write(&built, b"\x7FELF SCardEstablishContext SCARD_READERS").unwrap();
    let (to, built) = (folder.join("to"), built.to_str().unwrap());
    let with = |verb, library| {
        run(&[verb, "library", "--dir", to.to_str().unwrap(), "--library", library])
    };
    let target = to.join("libpcsclite.so.1");
    for _ in 0..2 {
        let ended = with("install", built).with_status(0);
        let said = format!("LD_PRELOAD={} PROGRAM", target.display());
        assert!(ended.out.contains(&said), "{}", ended.out);
        assert_eq!(std::fs::read(&target).unwrap(), std::fs::read(built).unwrap());
    }
    with("uninstall", built).with_status(0);
    assert!(!to.exists(), "the folder was only for it");
    assert!(with("uninstall", built).err.contains("is not there"));
    // Another's is neither replaced nor removed.
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(&target, b"\x7FELF SCardEstablishContext").unwrap();
    for verb in ["install", "uninstall"] {
        let ended = with(verb, built);
        assert!(ended.err.contains("not of this program"), "{}", ended.err);
    }
    assert_eq!(std::fs::read(&target).unwrap(), b"\x7FELF SCardEstablishContext");
    // Nor is something else installed, nor where every program would find it.
    assert!(with("install", target.to_str().unwrap()).err.contains("is not that library"));
    let everybodys = run(&["install", "library", "--dir", "/usr/local/lib", "--library", built]);
    assert!(everybodys.err.contains("every program looks into"), "{}", everybodys.err);
    std::fs::remove_dir_all(&folder).unwrap();
}
