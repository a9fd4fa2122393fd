//! Ending a command that takes too long, through pcscd as it is: SCardSetAttrib of
//! SCARD_ATTR_ESC_CANCEL on a direct connection, while another program's SCardTransmit waits.

use crate::harness::{NOT_TRANSACTED, Pcscd};
use std::time::{Duration, Instant};

const ESC_CANCEL: &str = "7A003";

/// The command never ends by itself.
const NEVER: [&str; 2] = ["transmit", "00160000"];

#[test]
fn a_command_that_hangs_is_cancelled() {
    for device in ["sim:default", "sim:t1-tpdu", "sim:t0-tpdu", "sim:iccd-b", "sim:t0-character"] {
        let pcscd = Pcscd::start(&[("Simulated", device)]);
        let (mut hangs, mut cancels) = (pcscd.puppet(), pcscd.puppet());
        let mut hands = pcscd.hands("Simulated");
        hangs.connect("Simulated 00 00");
        for _ in 0..3 {
            hands.say("forget");
            hangs.begin(&NEVER);
            hands.until_seen(if device.contains("iccd") { "XFR_BLOCK" } else { "> XfrBlock" });
            cancels.connect_direct("Simulated 00 00");
            let began = Instant::now();
            cancels.say(&["set", ESC_CANCEL, "00"]).ok();
            let told = began.elapsed();
            assert_eq!(hangs.returned().code, NOT_TRANSACTED, "{device}");
            let ended = began.elapsed();
            // It took no lock that the command holds, and the command ended by it: bounds, and far
            // from the minutes that it would have waited.
            assert!(told < Duration::from_secs(2), "{device}: {told:?}");
            assert!(ended < Duration::from_secs(3), "{device}: {ended:?}");
            cancels.say(&["disconnect", "0"]).ok();
            // The same handle goes on, with its own answer.
            assert_eq!(hangs.transmit("0012000404"), "000102039000", "{device}");
        }
    }
}

/// Every way of a reader to answer an Abort badly.
#[test]
fn readers_that_answer_an_abort_badly() {
    let names = [
        "abort-stall",
        "abort-not-supported",
        "abort-no-status",
        "abort-completes",
        "abort-late-answer",
        "abort-late-failure",
    ];
    let devices = names.map(|name| format!("sim:{name}"));
    let readers: Vec<_> = names.iter().zip(&devices).map(|(n, d)| (*n, d.as_str())).collect();
    let pcscd = Pcscd::start(&readers);
    for (index, name) in names.iter().enumerate() {
        let reader = format!("{name} {index:02X} 00");
        let (mut hangs, mut cancels) = (pcscd.puppet(), pcscd.puppet());
        let mut hands = pcscd.hands(name);
        hangs.connect(&reader);
        cancels.connect_direct(&reader);
        hands.say("forget");
        // It answers by itself after 3 seconds: some of these readers cannot be stopped.
        hangs.begin(&["transmit", "00140BB8"]);
        hands.until_seen("> XfrBlock");
        cancels.say(&["set", ESC_CANCEL, "00"]).ok();
        let ended = hangs.returned();
        let completed = ended.code == 0 && *name == "abort-completes";
        assert!(completed || ended.code == NOT_TRANSACTED, "{name}: {ended:?}");
        assert_eq!(hangs.transmit("00100000020304"), "03049000", "{name}");
    }
}

/// The reader has to be brought back by force, and the card is reset: it speaks what pcscd takes it
/// to speak all the same. With T=0, which it would begin with, the answer would be 6102h.
#[test]
fn the_protocol_is_kept_over_a_reset() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:tpdu-abort-silent")]);
    let (mut hangs, mut cancels) = (pcscd.puppet(), pcscd.puppet());
    let mut hands = pcscd.hands("Simulated");
    hangs.say(&["connect", "Simulated 00 00", "shared", "2"]).ok();
    cancels.connect_direct("Simulated 00 00");
    for _ in 0..2 {
        hands.say("forget");
        hangs.begin(&NEVER);
        hands.until_seen("> XfrBlock");
        cancels.say(&["set", ESC_CANCEL, "00"]).ok();
        assert_eq!(hangs.returned().code, NOT_TRANSACTED);
        assert_eq!(hangs.transmit("0010000002030400"), "03049000");
    }
}

/// One slot's command is cancelled, the others' go on; a cancel of an idle slot does nothing, and
/// is not remembered.
#[test]
fn only_the_slot_that_is_meant() {
    let pcscd = Pcscd::start(&[("Octo", "sim:eight-slots")]);
    let mut hands = pcscd.hands("Octo");
    let names = ["Octo 00 00", "Octo 00 01", "Octo 00 02"];
    let mut programs = names.map(|name| {
        let mut program = pcscd.puppet();
        program.connect(name);
        program
    });
    let mut cancels = pcscd.puppet();
    cancels.connect_direct(names[2]);
    cancels.say(&["set", ESC_CANCEL, "00"]).ok();
    assert_eq!(programs[2].transmit("0014000A"), "9000");
    cancels.say(&["disconnect", "0"]).ok();
    hands.say("forget");
    programs[0].begin(&NEVER);
    programs[1].begin(&["transmit", "001405DC"]);
    hands.until_seen("> XfrBlock slot 0");
    hands.until_seen("> XfrBlock slot 1");
    cancels.connect_direct(names[0]);
    cancels.say(&["set", ESC_CANCEL, "00"]).ok();
    assert_eq!(programs[0].returned().code, NOT_TRANSACTED);
    assert_eq!(programs[1].returned().first(), "9000");
    assert_eq!(programs[2].transmit("0014000A"), "9000");
}

/// pcscd is told to end while a command hangs.
#[test]
fn pcscd_ends_while_a_command_hangs() {
    for signal in ["INT", "TERM"] {
        let mut pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
        let mut hangs = pcscd.puppet();
        let mut hands = pcscd.hands("Simulated");
        hangs.connect("Simulated 00 00");
        hands.say("forget");
        hangs.begin(&NEVER);
        hands.until_seen("> XfrBlock");
        let began = Instant::now();
        assert!(pcscd.end(signal).is_some(), "{signal} has killed it");
        assert!(began.elapsed() < Duration::from_secs(10), "{signal}: {:?}", began.elapsed());
        assert_ne!(hangs.returned().code, 0);
    }
}

/// The command was built with this test.
fn scard() -> std::path::PathBuf {
    let folder = std::env::current_exe().unwrap();
    let scard = folder.parent().and_then(std::path::Path::parent).unwrap().join("scard");
    assert!(scard.exists(), "{} is missing: cargo build", scard.display());
    scard
}

#[test]
fn the_command_cancels() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default"), ("Other", "sim:t0-tpdu")]);
    let mut hangs = pcscd.puppet();
    let mut hands = pcscd.hands("Simulated");
    hangs.connect("Simulated 00 00");
    hangs.begin(&NEVER);
    hands.until_seen("> XfrBlock");
    let run = |reader: &str| {
        let out = pcscd.program(scard()).args(["cancel", "--pcscd", reader]).output().unwrap();
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr),
        )
    };
    let (status, said) = run("no such");
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("Simulated 00 00") && said.contains("Other"), "{said}");
    let (status, said) = run("0");
    assert_eq!(status, Some(2), "in several names: {said}");
    let (status, said) = run("simul");
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(hangs.returned().code, NOT_TRANSACTED);
    assert_eq!(hangs.transmit("0012000404"), "000102039000");
}

#[test]
fn the_command_says_that_pcscd_is_not_there() {
    let nowhere = std::env::temp_dir().join("scard-no-pcscd");
    let out = std::process::Command::new(scard())
        .args(["cancel", "--pcscd", "any"])
        .env("PCSCLITE_CSOCK_NAME", &nowhere)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("scard-no-pcscd") && said.contains("running"), "{said}");
}
