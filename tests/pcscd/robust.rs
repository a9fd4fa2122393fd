//! Many programs at once, and readers that fail in every way: pcscd and the other readers go on.

use crate::harness::{NO_SMARTCARD, NOT_TRANSACTED, Pcscd, READER_UNAVAILABLE};
use std::fs;
use std::time::{Duration, Instant};

/// Connections in all, by eight programs.
const ROUNDS: u32 = 10_000;

#[test]
fn eight_programs_connect_again_and_again() {
    let devices = [("Simulated", "sim:default"), ("Octo", "sim:eight-slots")];
    // Messages are not logged: they would be most of the work.
    let pcscd = Pcscd::start_with(&devices, &[("LIBCCID_ifdLogLevel", "3")]);
    let readers = ["Simulated 00 00", "Octo 01 00", "Octo 01 01"];
    let each = (ROUNDS / 8).to_string();
    let mut programs: Vec<_> = (0..8).map(|_| pcscd.puppet()).collect();
    for (program, reader) in programs.iter_mut().zip(readers.iter().cycle()) {
        program.begin(&["rounds", reader, &each]);
    }
    for program in &mut programs {
        assert_eq!(program.returned().first(), each);
    }
    drop(programs);
    assert_eq!(pcscd.hands("Simulated").violations(), [""; 0]);
    assert_eq!(pcscd.hands("Octo").violations(), [""; 0]);
    assert_eq!(pcscd.threads(), 4, "one for each reader, and one for its hands");
}

/// A panic of a reader's thread, and one on pcscd's own thread.
#[test]
fn a_panic_is_survived() {
    let devices = [
        ("Broken", "sim:panics-when-opened"),
        ("Fails", "sim:panics-on-escape"),
        ("Simulated", "sim:default"),
    ];
    let mut pcscd = Pcscd::start_with(&devices, &[("SCARD_ifdDriverOptions", "1")]);
    let log = pcscd.log();
    assert!(log.contains("IFDHCreateChannelByName has panicked"), "{log}");
    let (mut program, mut other) = (pcscd.puppet(), pcscd.puppet());
    let names = program.say(&["list"]).ok();
    assert!(!names.iter().any(|name| name.starts_with("Broken")), "{names:?}");
    let named = |text: &str| names.iter().find(|name| name.starts_with(text)).unwrap();
    other.connect(named("Simulated"));
    program.connect_direct(named("Fails"));
    let code = program.say(&["control", "42000001", "00"]).code;
    assert_eq!(code, READER_UNAVAILABLE);
    assert_eq!(other.transmit("00100000020304"), "03049000");
    assert!(pcscd.process.is_running());
    // The device itself has not gone: it is opened again.
    drop(program);
    pcscd.puppet().until_usable(named("Fails"));
}

#[test]
fn a_device_that_answers_rubbish() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default"), ("Garbage", "sim:garbage")]);
    let mut program = pcscd.puppet();
    // pcscd may take it or not; it must not matter to others.
    for name in program.say(&["list"]).ok() {
        let code = program.say(&["connect", &name, "shared", "3"]).code;
        if name.starts_with("Simulated") {
            assert_eq!(code, 0);
            assert_eq!(program.transmit("00100000020304"), "03049000");
            program.say(&["disconnect", "0"]).ok();
        } else {
            assert_ne!(code, 0, "{name}");
        }
    }
}

/// The plug is pulled while a command hangs; then the reader is plugged in again.
#[test]
fn unplugged_while_a_command_hangs() {
    for device in ["sim:default", "sim:t1-tpdu", "sim:iccd-b"] {
        let pcscd = Pcscd::start(&[("Simulated", device)]);
        let mut user = pcscd.puppet();
        let mut hands = pcscd.hands("Simulated");
        user.connect("Simulated 00 00");
        hands.say("forget");
        user.begin(&["transmit", "00160000"]);
        hands.until_seen(if device.contains("iccd") { "XFR_BLOCK" } else { "> XfrBlock" });
        let began = Instant::now();
        hands.say("unplug");
        assert_eq!(user.returned().code, NO_SMARTCARD, "{device}");
        assert!(began.elapsed() < Duration::from_secs(3), "{device}: {:?}", began.elapsed());
        hands.say("plug");
        drop(user);
        pcscd.puppet().until_usable("Simulated 00 00");
    }
}

/// The reader fails a command by itself: the next one works.
#[test]
fn a_reader_that_fails_commands() {
    let pcscd =
        Pcscd::start(&[("Unasked", "sim:abort-unasked"), ("Faults", "sim:t1-faults-always")]);
    let mut program = pcscd.puppet();
    program.connect("Unasked 00 00");
    assert_eq!(program.say(&["transmit", "00160000"]).code, NOT_TRANSACTED);
    assert_eq!(program.transmit("00100000020304"), "03049000");
    program.say(&["disconnect", "0"]).ok();
    let code = program.say(&["connect", "Faults 01 00", "shared", "3"]).code;
    let code = if code == 0 { program.say(&["transmit", "0014000A"]).code } else { code };
    assert_ne!(code, 0);
}

/// Nothing wrong with memory, and none left behind, from the start of pcscd to its end.
#[test]
fn valgrind_finds_nothing_in_pcscd() {
    let log = std::env::temp_dir().join(format!("scard-valgrind-{}", std::process::id()));
    let readers = [("Simulated", "sim:default"), ("Other", "sim:t1-tpdu")];
    let mut pcscd = Pcscd::start_under_valgrind(&readers, &log);
    let mut program = pcscd.puppet();
    for name in ["Simulated 00 00", "Other 01 00"] {
        program.connect(name);
        assert_eq!(program.transmit("00100000020304"), "03049000");
        program.say(&["disconnect", "0"]).ok();
    }
    let mut hands = pcscd.hands("Simulated");
    hands.say("remove");
    program.wait_for_card("Simulated 00 00", false);
    hands.say("insert");
    program.wait_for_card("Simulated 00 00", true);
    drop(program);
    let status = pcscd.end("INT");
    let found = fs::read_to_string(&log).unwrap();
    assert!(status.is_some_and(|status| status != 99), "{found}");
    // pcscd itself leaves something behind: what is ours has its sources told.
    assert!(!found.contains(".rs:"), "{found}");
    fs::remove_file(log).unwrap();
}
