//! Programs that are cards, as processes.

#![allow(dead_code)] // Each test binary uses its part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A program that is a card, and does not outlive the test.
pub struct Outside {
    name: &'static str,
    process: Child,
}

impl Outside {
    /// vicc of vsmartcard, as a card of that type.
    #[track_caller]
    pub fn vicc(address: SocketAddr, kind: &str) -> Self {
        let script = file("vicc.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(["-t", kind, "-H", "127.0.0.1"]);
        Self::start("vicc", command.args(["-P", &address.port().to_string()]))
    }

    /// Nitrokey's OpenPGP card, opcard.
    #[track_caller]
    pub fn opcard(address: SocketAddr) -> Self {
        let mut command = Command::new(opcard_program());
        Self::start("opcard", command.arg(address.port().to_string()))
    }

    /// The same, with keys and data in that folder: the next time it is the same card.
    #[track_caller]
    pub fn opcard_in(folder: &Path, address: SocketAddr) -> Self {
        let mut command = Command::new(opcard_program());
        Self::start("opcard", command.arg(address.port().to_string()).arg(folder))
    }

    #[track_caller]
    fn start(name: &'static str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn();
        let process = process.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, process }
    }

    /// Fails if it has ended: before it is a card, it has not even connected.
    #[track_caller]
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("{} has ended, {status}; tests/packages installs what it needs", self.name);
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // One that has ended is left alone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file beside this one.
fn file(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // As seen from the package at the top, and from the others.
    let found = ["tests/cards", "../tests/cards", "../../tests/cards"]
        .map(|folder| here.join(folder).join(name));
    found.into_iter().find(|path| path.exists()).unwrap()
}

/// The program of tests/opcard, which is a workspace of its own.
fn opcard_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let manifest = file("../opcard/Cargo.toml");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../opcard");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(built.success(), "opcard cannot be built (tests/packages installs libclang)");
        target.join("debug/scard-opcard")
    })
}
