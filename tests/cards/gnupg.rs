//! GnuPG on Nitrokey's OpenPGP card, whatever PC/SC its scdaemon is given: gpg, its agent, scdaemon
//! and the card, none of which knows of the others' tests.

use crate::harness::until;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// From the PIN of a new card, 123456, to that of its administrator: gpg is given one for both.
const CHANGE_PW1: &str = "002400810E3132333435363132333435363738";
const PIN: &str = "12345678";
const USER: &str = "card@example.org";

/// Seconds: more than making a key takes on a loaded machine.
const LONG: &str = "300";

/// What is asked while the card generates keys: no backup, no end of validity, a name, an address,
/// no comment.
const GENERATE: &str = "admin\ngenerate\nn\n0\nA Card\ncard@example.org\n\nquit\n";

/// A home of gpg's, with the agent that it starts.
pub struct Gpg<'a> {
    /// A program in the environment in which it finds the reader.
    program: &'a dyn Fn(&str) -> Command,
    home: PathBuf,
}

impl<'a> Gpg<'a> {
    /// With that library for PC/SC.
    pub fn new(library: &Path, program: &'a dyn Fn(&str) -> Command) -> Self {
        // Short, for the sockets in it.
        let home = std::env::temp_dir().join(format!("scard-gpg-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        Command::new("chmod").arg("700").arg(&home).status().unwrap();
        let conf = format!("disable-ccid\npcsc-driver {}\n", library.display());
        fs::write(home.join("scdaemon.conf"), conf).unwrap();
        fs::write(home.join("gpg-agent.conf"), "allow-loopback-pinentry\n").unwrap();
        Self { program, home }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = (self.program)(name);
        command.env("GNUPGHOME", &self.home).env("LC_ALL", "C").env_remove("DISPLAY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs gpg on this input: its output. It must end well.
    #[track_caller]
    fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let Output { status, stdout, stderr } = self.try_run(LONG, arguments, input);
        let told = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "gpg {arguments:?}: {status}\n{told}");
        stdout
    }

    #[track_caller]
    fn try_run(&self, seconds: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.program("timeout");
        command.args([seconds, "gpg", "--no-tty", "--yes"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase", PIN]).args(arguments);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("gpg: {error} (tests/packages installs it)"));
        let mut stdin = child.stdin.take().unwrap();
        // It may end before it has read all.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Has scdaemon give the card a command that succeeds.
    #[track_caller]
    fn apdu(&self, command: &str) {
        let line = format!("scd apdu {command}");
        let output = self.program("gpg-connect-agent").args(["--hex", &line, "/bye"]).output();
        let told = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        assert!(told.contains("90 00"), "{line}: {told}");
    }

    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().to_owned()
    }

    /// Whether there is a card that gpg can use.
    #[track_caller]
    pub fn sees_card(&self) -> bool {
        self.try_run(LONG, &["--card-status"], b"").status.success()
    }

    /// The status of the card in the reader, a new one, once it is there; with one PIN for all.
    #[track_caller]
    pub fn first_status(&self) -> String {
        until("gpg sees the card", || self.sees_card());
        self.apdu(CHANGE_PW1);
        let status = self.run(&["--card-status", "--with-colons"], b"");
        String::from_utf8_lossy(&status).into_owned()
    }

    /// Generates keys on the card, signs and decrypts with them: something for [`decrypt`](Self::decrypt).
    #[track_caller]
    pub fn use_card(&self) -> Vec<u8> {
        self.run(&["--command-fd", "0", "--card-edit"], GENERATE.as_bytes());
        let keys = self.run(&["--list-secret-keys", "--with-colons"], b"");
        let keys = String::from_utf8_lossy(&keys);
        let on_card = keys.lines().filter(|line| line.contains(":D276000124010304"));
        assert_eq!(on_card.count(), 3, "signature, decryption, authentication:\n{keys}");

        // What is signed by the card is checked by gpg alone, and only that.
        let signature = self.path("signature");
        self.run(&["-u", USER, "-o", &signature, "--detach-sign"], b"message");
        self.run(&["--verify", &signature, "-"], b"message");
        assert!(!self.try_run(LONG, &["--verify", &signature, "-"], b"another").status.success());

        // The other way about.
        let secret = self.run(&["-r", USER, "--encrypt"], b"message");
        assert_eq!(self.decrypt(&secret).as_deref(), Some(&b"message"[..]));
        secret
    }

    /// What the card makes of it.
    #[track_caller]
    pub fn decrypt(&self, secret: &[u8]) -> Option<Vec<u8>> {
        // GnuPG 2.4 asks for a card that is not there again and again.
        let output = self.try_run("20", &["--decrypt"], secret);
        output.status.success().then_some(output.stdout)
    }
}

impl Drop for Gpg<'_> {
    fn drop(&mut self) {
        let _ = self.program("gpgconf").args(["--kill", "all"]).output();
        let _ = fs::remove_dir_all(&self.home);
    }
}
