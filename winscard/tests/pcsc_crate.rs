//! The `pcsc` crate, linked against the system's libpcsclite, on this library: the test runs itself
//! as a program that finds it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use pcsc::{
    Attribute, Context, Disposition, Error, Protocols, ReaderState, Scope, ShareMode, State,
};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_program_in_rust() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pcsc_crate");
    std::fs::create_dir_all(&folder).unwrap();
    let library = std::env::current_exe().unwrap().with_file_name("libscard_pcsclite.so");
    let new = folder.join(format!("new-{}", std::process::id()));
    symlink(library, &new).unwrap();
    std::fs::rename(&new, folder.join("libpcsclite.so.1")).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "session", "--ignored"])
        .env("LD_LIBRARY_PATH", folder)
        .env("SCARD_READERS", "sim:default")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "the program that the other test runs"]
fn session() {
    let context = Context::establish(Scope::User).unwrap();
    let names = context.list_readers_owned().unwrap();
    assert_eq!(names.len(), 1);
    let mut states = [ReaderState::new(names[0].clone(), State::UNAWARE)];
    context.get_status_change(None, &mut states).unwrap();
    assert!(states[0].event_state().contains(State::PRESENT));
    states[0].sync_current_state();
    let timeout = context.get_status_change(Duration::ZERO, &mut states);
    assert_eq!(timeout, Err(Error::Timeout));

    let mut card = context.connect(&names[0], ShareMode::Shared, Protocols::ANY).unwrap();
    let mut buffer = [0; pcsc::MAX_BUFFER_SIZE];
    let response = card.transmit(&[0x00, 0x10, 0, 0, 1, 0xAB], &mut buffer).unwrap();
    assert_eq!(response, [0xAB, 0x90, 0x00]);
    let too_short = card.transmit2(&[0x00, 0x10, 0, 0, 1, 0xAC], &mut buffer[..2]);
    assert_eq!(too_short, Err((Error::InsufficientBuffer, 3)));
    let transaction = card.transaction().unwrap();
    let status = transaction.status2_owned().unwrap();
    assert_eq!(status.reader_names(), names);
    let atr = transaction.get_attribute_owned(Attribute::AtrString).unwrap();
    assert_eq!(status.atr(), atr);
    transaction.end(Disposition::LeaveCard).map_err(|(_, error)| error).unwrap();
    let features = card.control(pcsc::ctl_code(3400), &[], &mut buffer).unwrap();
    assert!(!features.is_empty());

    let waiting = std::thread::spawn({
        let context = context.clone();
        let mut states = [ReaderState::new(pcsc::PNP_NOTIFICATION(), State::UNAWARE)];
        move || context.get_status_change(None, &mut states)
    });
    while !waiting.is_finished() {
        // One that has not begun yet is not cancelled.
        context.cancel().unwrap();
        std::thread::yield_now();
    }
    assert_eq!(waiting.join().unwrap(), Err(Error::Cancelled));
    card.disconnect(Disposition::ResetCard).map_err(|(_, error)| error).unwrap();
    context.release().map_err(|(_, error)| error).unwrap();
}
