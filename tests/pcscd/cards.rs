//! GnuPG and OpenSC on pcscd, with Nitrokey's OpenPGP card.

use crate::gpg::Gpg;
use crate::harness::{Pcscd, Process, Puppet};
use crate::opensc;
use crate::outside::Outside;
use std::fs;
use std::path::Path;

const READER: &str = "Outside 00 00";

/// A pcscd with the card in its reader, and a program that uses it.
fn with_opcard() -> (Pcscd, Outside, Puppet) {
    let pcscd = Pcscd::start(&[("Outside", "sim:vpcd:0")]);
    let address = pcscd.hands("Outside").say("address").concat().parse().unwrap();
    let mut opcard = Outside::opcard(address);
    let mut program = pcscd.puppet();
    program.wait_for_card(READER, true);
    opcard.assert_runs();
    (pcscd, opcard, program)
}

#[test]
fn gpg_generates_signs_and_decrypts_on_the_card() {
    let (pcscd, opcard, mut program) = with_opcard();
    let command = |name: &str| pcscd.program(name);
    let gpg = Gpg::new(Path::new("libpcsclite.so.1"), &command);
    let status = gpg.first_status();
    assert!(status.contains(READER), "{status}");
    assert!(status.contains("D276000124010304"), "{status}");
    let secret = gpg.use_card();
    drop(opcard);
    program.wait_for_card(READER, false);
    assert_eq!(gpg.decrypt(&secret), None, "without the card");
    assert_eq!(pcscd.hands("Outside").violations(), [""; 0]);
}

#[test]
fn opensc_generates_lists_and_signs() {
    let (pcscd, _opcard, _program) = with_opcard();
    let folder = std::env::temp_dir().join(format!("scard-opensc-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    opensc::use_card(&folder, &|program, arguments| {
        Process::start(pcscd.program(program).args(arguments)).end()
    });
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(pcscd.hands("Outside").violations(), [""; 0]);
}
