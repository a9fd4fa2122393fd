//! GnuPG with Nitrokey's OpenPGP card: gpg, its agent and scdaemon over pcscd, our driver, and the
//! card, none of which knows of the others' tests.

use crate::harness::Pcscd;
use crate::outside::Outside;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const READER: &str = "Outside 00 00";
const SELECT: &str = "00A4040006D2760001240100";
/// From the PIN of a new card, 123456, to that of its administrator: gpg is given one for both.
const CHANGE_PW1: &str = "002400810E3132333435363132333435363738";
const PIN: &str = "12345678";
const USER: &str = "card@example.org";

/// What is asked while the card generates keys: no backup, no end of validity, a name, an address,
/// no comment.
const GENERATE: &str = "admin\ngenerate\nn\n0\nA Card\ncard@example.org\n\nquit\n";

/// A home of gpg's, with the agent that it starts.
struct Gpg<'a> {
    pcscd: &'a Pcscd,
    home: PathBuf,
}

impl<'a> Gpg<'a> {
    fn new(pcscd: &'a Pcscd) -> Self {
        // Short, for the sockets in it.
        let home = std::env::temp_dir().join(format!("scard-gpg-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        Command::new("chmod").arg("700").arg(&home).status().unwrap();
        fs::write(home.join("scdaemon.conf"), "disable-ccid\npcsc-driver libpcsclite.so.1\n")
            .unwrap();
        fs::write(home.join("gpg-agent.conf"), "allow-loopback-pinentry\n").unwrap();
        Self { pcscd, home }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = self.pcscd.program(name);
        command.env("GNUPGHOME", &self.home).env("LC_ALL", "C").env_remove("DISPLAY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs gpg on this input: its output. It must end well.
    #[track_caller]
    fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let Output { status, stdout, stderr } = self.try_run(arguments, input);
        let told = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "gpg {arguments:?}: {status}\n{told}\n{}", self.pcscd.log());
        stdout
    }

    #[track_caller]
    fn try_run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.program("gpg");
        command.args(["--no-tty", "--yes"]);
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

    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Gpg<'_> {
    fn drop(&mut self) {
        let _ = self.program("gpgconf").args(["--kill", "all"]).output();
        let _ = fs::remove_dir_all(&self.home);
    }
}

#[test]
fn gpg_generates_signs_and_decrypts_on_the_card() {
    let pcscd = Pcscd::start(&[("Outside", "sim:vpcd:0")]);
    let address = pcscd.hands("Outside").say("address").concat().parse().unwrap();
    let mut opcard = Outside::opcard(address);
    let mut program = pcscd.puppet();
    program.wait_for_card(READER, true);
    opcard.assert_runs();
    program.connect(READER);
    assert!(program.transmit(SELECT).ends_with("9000"));
    assert_eq!(program.transmit(CHANGE_PW1), "9000");
    program.say(&["disconnect", "0"]).ok();

    let gpg = Gpg::new(&pcscd);
    let status = gpg.run(&["--card-status", "--with-colons"], b"");
    let status = String::from_utf8_lossy(&status);
    assert!(status.contains(READER), "{status}");
    assert!(status.contains("D276000124010304"), "{status}");
    gpg.run(&["--command-fd", "0", "--card-edit"], GENERATE.as_bytes());
    let keys = gpg.run(&["--list-secret-keys", "--with-colons"], b"");
    let keys = String::from_utf8_lossy(&keys);
    let on_card = keys.lines().filter(|line| line.contains(":D276000124010304"));
    assert_eq!(on_card.count(), 3, "signature, decryption, authentication:\n{keys}");

    // What is signed by the card is checked by gpg alone, and only that.
    let signature = gpg.path("signature");
    gpg.run(&["-u", USER, "-o", &signature, "--detach-sign"], b"message");
    gpg.run(&["--verify", &signature, "-"], b"message");
    assert!(!gpg.try_run(&["--verify", &signature, "-"], b"another").status.success());

    // The other way about.
    let secret = gpg.run(&["-r", USER, "--encrypt"], b"message");
    assert_eq!(gpg.run(&["--decrypt"], &secret), b"message");
    drop(opcard);
    program.wait_for_card(READER, false);
    assert!(!gpg.try_run(&["--decrypt"], &secret).status.success(), "without the card");
    assert_eq!(pcscd.hands("Outside").violations(), [""; 0]);
}
