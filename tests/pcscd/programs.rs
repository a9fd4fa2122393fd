//! Programs that exist: pcsc_scan, opensc-tool, a pyscard script.

use crate::harness::{Pcscd, Process};

const ATR: &str = "3B 97 95 81 31 FE 45 80 31 80 73 F4 21 40 DE";

#[test]
fn pcsc_scan_sees_cards_come_and_go() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let mut hands = pcscd.hands("Simulated");
    // stdbuf: its output is looked at as it comes.
    let scan = Process::start(pcscd.program("stdbuf").args(["-oL", "pcsc_scan", "-n"]));
    scan.out.expect("Simulated 00 00");
    scan.out.expect("Card inserted");
    scan.out.expect(ATR);
    hands.say("remove");
    scan.out.expect("Card removed");
    hands.say("insert");
    scan.out.expect("Card inserted");
    scan.out.expect(ATR);
}

#[test]
fn opensc_tool() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default"), ("Zero", "sim:t0-tpdu")]);
    let readers = pcscd.run("opensc-tool", &["--list-readers"]);
    assert!(readers.contains("Simulated 00 00") && readers.contains("Zero 01 00"), "{readers}");
    let atr = pcscd.run("opensc-tool", &["-r", "0", "--atr"]);
    assert_eq!(atr.trim(), ATR.replace(' ', ":").to_lowercase());
    for reader in ["0", "1"] {
        let out = pcscd.run("opensc-tool", &["-r", reader, "-s", "00:12:00:04:04"]);
        assert!(out.contains("SW1=0x90, SW2=0x00") && out.contains("00 01 02 03"), "{out}");
    }
}

#[test]
fn pyscard() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default"), ("Pad", "sim:pinpad-idle")]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/pcscd/client.py");
    let out = pcscd.run("/usr/bin/python3", &[script, "Simulated 00 00", "Pad 01 00"]);
    assert_eq!(out.trim(), "ok", "{out}");
}
