//! `scard install bundle` and `scard uninstall bundle`, in folders of the test's.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "cli/process.rs"]
mod process;

use ifd::bundle::{Info, Listed, info_plist};
use process::{Ended, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A folder of drivers with libccid's bundle in it, and a driver to install.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("scard-install-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("drivers/ifd-ccid.bundle/Contents")).unwrap();
        fs::create_dir_all(folder.join("drivers/other.bundle/Contents")).unwrap();
        fs::create_dir_all(folder.join("rules")).unwrap();
        let listed = |vendor, name: &str| Listed { vendor, product: 1, name: name.into() };
        let plist = |name: &str, readers: &[Listed]| {
            info_plist(readers, &[]).replace("<string>scard</string>", name)
        };
        let ccid = plist("<string>CCIDCLASSDRIVER</string>", &[listed(0x1234, "Maker & Reader")]);
        fs::write(folder.join("drivers/ifd-ccid.bundle/Contents/Info.plist"), ccid).unwrap();
        let other = plist("<string>other</string>", &[listed(0x4321, "Of no class")]);
        fs::write(folder.join("drivers/other.bundle/Contents/Info.plist"), other).unwrap();
        fs::write(folder.join("libifdscard.so"), b"\x7FELF, and IFDHCreateChannelByName").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, verb: &str, more: &[&str]) -> Ended {
        let (drivers, rules) = (self.path("drivers"), self.path("rules"));
        let words = [&[verb, "bundle", "--drivers", &drivers, "--rules", &rules], more].concat();
        run(&words)
    }

    fn install(&self) -> Ended {
        self.run("install", &["--library", &self.path("libifdscard.so")])
    }

    fn info(&self) -> Info {
        Info::parse(
            &fs::read_to_string(self.path("drivers/scard.bundle/Contents/Info.plist")).unwrap(),
        )
        .unwrap()
    }

    /// What is in the folder of drivers.
    fn drivers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("drivers")).unwrap().map(Result::unwrap);
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const OTHERS: [&str; 2] = ["ifd-ccid.bundle", "other.bundle"];
const ALL: [&str; 3] = ["ifd-ccid.bundle", "other.bundle", "scard.bundle"];

#[test]
fn a_bundle_is_put_there_and_taken_away() {
    let folder = Folder::new("plain");
    // As anybody may have built it.
    let everybodys = fs::Permissions::from_mode(0o666);
    fs::set_permissions(folder.path("libifdscard.so"), everybodys).unwrap();
    let ended = folder.install().with_status(0);
    assert!(ended.out.contains("restart pcscd"), "{}", ended.out);
    assert_eq!(folder.drivers(), ALL);
    let readers = folder.info().readers().unwrap();
    let named = |vendor| readers.iter().find(|reader| reader.vendor == vendor);
    assert_eq!(named(0x1234).map(|reader| &reader.name[..]), Some("Maker & Reader"));
    assert_eq!(named(0x4321), None, "that reader has a driver of its own");
    assert!(named(0x08E6).is_some(), "known from the table of quirks");
    let library = "drivers/scard.bundle/Contents/Linux/libifdscard.so";
    let installed = fs::read(folder.path(library)).unwrap();
    assert_eq!(installed, fs::read(folder.path("libifdscard.so")).unwrap());
    let has_group = fs::read_to_string("/etc/group").unwrap().contains("\npcscd:");
    let rule = fs::read_to_string(folder.path("rules/92-scard.rules")).unwrap();
    assert_eq!(rule.contains("GROUP="), has_group, "rights for pcscd's group, if it has one");
    let program = folder.path("drivers/scard.bundle/Contents/Linux/scard");
    assert!(rule.contains(&format!("RUN+=\"'{program}' 'install' 'bundle' '--plugged'")), "{rule}");
    for file in [&program, &folder.path(library)] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o755, "{file}");
    }
    folder.run("uninstall", &[]).with_status(0);
    assert_eq!(folder.drivers(), OTHERS);
    assert_eq!(fs::read_dir(folder.path("rules")).unwrap().count(), 0);
    folder.run("uninstall", &[]).with_status(3);
}

/// A new version is put in the place of the old one, the user's settings are kept.
#[test]
fn installing_again_keeps_the_settings() {
    let folder = Folder::new("again");
    folder.install().with_status(0);
    let plist = folder.path("drivers/scard.bundle/Contents/Info.plist");
    let text = fs::read_to_string(&plist).unwrap();
    fs::write(&plist, text.replace("0x0000<", "0x0031<")).unwrap();
    fs::write(folder.path("libifdscard.so"), b"\x7FELF IFDHCreateChannelByName 2").unwrap();
    folder.install().with_status(0);
    assert_eq!(folder.drivers(), ALL);
    assert_eq!(folder.info().number("ifdDriverOptions"), Some(0x31));
    let library = "drivers/scard.bundle/Contents/Linux/libifdscard.so";
    assert!(fs::read(folder.path(library)).unwrap().ends_with(b"2"));
    let json = folder.run("install", &["--json", "--library", &folder.path("libifdscard.so")]);
    let json = json.with_status(0).json();
    assert!(json["readers"].as_u64().unwrap() > 50, "{json}");
}

/// The bundle names what it named, and what is plugged in; nothing else of it is touched.
#[test]
fn readers_are_named_in_the_bundle_that_is_there() {
    let folder = Folder::new("plugged");
    let plugged = |more: &[&str]| {
        run(&[&["install", "bundle", "--plugged", "--drivers", &folder.path("drivers")], more]
            .concat())
    };
    let ended = plugged(&[]).with_status(3);
    assert!(ended.err.contains("is not there"), "{}", ended.err);
    folder.install().with_status(0);
    let plist = folder.path("drivers/scard.bundle/Contents/Info.plist");
    let before = fs::read_to_string(&plist).unwrap();
    // All that is plugged in was named by installing.
    let json = plugged(&["--json"]).with_status(0).json();
    assert_eq!(json["added"].as_array().unwrap().len(), 0, "{json}");
    assert_eq!(fs::read_to_string(&plist).unwrap(), before);
    plugged(&["--library", "x"]).with_status(2);
    fs::write(&plist, before.replacen("<string>0x1234</string>", "", 1)).unwrap();
    let ended = plugged(&[]).with_status(1);
    assert!(ended.err.contains(&plist), "{}", ended.err);
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let folder = Folder::new("wrong");
    let library = folder.path("libifdscard.so");
    for (wrong, said) in [
        (&["--library", "/nowhere/at/all"][..], "cargo build"),
        (&["--library", "/etc/passwd"], "is no driver"),
        (&["--library", &library, "--drivers", "/nowhere/at/all"], "is no folder"),
    ] {
        let drivers = folder.path("drivers");
        let own = ["install", "bundle", "--drivers", &drivers];
        let own = if wrong.contains(&"--drivers") { &own[..2] } else { &own[..] };
        let ended = run(&[own, wrong].concat()).with_status(1);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
    assert_eq!(folder.drivers(), OTHERS);
    // A bundle of the same name that somebody else has made.
    fs::create_dir_all(folder.path("drivers/scard.bundle")).unwrap();
    fs::write(folder.path("drivers/scard.bundle/precious"), "data").unwrap();
    for verb in ["install", "uninstall"] {
        let ended = folder.run(verb, &["--library", &library]).with_status(1);
        assert!(ended.err.contains("not of this program"), "{}", ended.err);
    }
    assert_eq!(fs::read_dir(folder.path("drivers/scard.bundle")).unwrap().count(), 1);
}
