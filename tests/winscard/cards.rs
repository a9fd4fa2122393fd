//! Programs that do more with a card than exchange commands: GnuPG and OpenSC with Nitrokey's
//! OpenPGP card.

use crate::gpg::Gpg;
use crate::harness::Process;
use crate::library::{Reader, compiled, folder};
use crate::opensc;
use crate::outside::Outside;
use std::fs;
use std::net::SocketAddr;

/// Where cards connect to the reader of a program that runs.
fn address(reader: &Reader) -> SocketAddr {
    reader.hands().say("address").concat().parse().unwrap()
}

#[test]
fn gpg_generates_signs_and_decrypts_on_the_card() {
    let reader = Reader::new("vpcd:0");
    let command = |name: &str| reader.program(name);
    let gpg = Gpg::new(&folder().join("libpcsclite.so.1"), &command);
    assert!(!gpg.sees_card(), "without a card");
    // The reader is scdaemon's, which stays.
    let card = Outside::opcard(address(&reader));
    let status = gpg.first_status();
    assert!(status.contains("Simulated Reader"), "{status}");
    assert!(status.contains("D276000124010304"), "{status}");
    let secret = gpg.use_card();
    assert_eq!(reader.hands().violations(), [""; 0]);
    drop(card);
    assert_eq!(gpg.decrypt(&secret), None, "without the card");
}

/// Each program has a reader of its own, and is given the same card.
#[test]
fn opensc_generates_lists_and_signs() {
    let waits = compiled("waits", &["-shared", "-fPIC"]);
    let kept = std::env::temp_dir().join(format!("scard-opcard-{}", std::process::id()));
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).unwrap();
    opensc::use_card(&kept, &|program, arguments| {
        let reader = Reader::new("vpcd:0");
        let running =
            Process::start(reader.program(program).args(arguments).env("LD_PRELOAD", &waits));
        let _card = Outside::opcard_in(&kept, address(&reader));
        running.end()
    });
    fs::remove_dir_all(kept).unwrap();
}
