//! OpenSC on Nitrokey's OpenPGP card, whatever PC/SC it finds: a key is generated, looked at by way
//! of PKCS #15 and of PKCS #11, and signs once the PIN is given; OpenSSL checks what it has signed.

use crate::harness::Process;
use std::fs;
use std::path::Path;
use std::process::Command;

const ADMIN_PIN: &str = "12345678";
const PIN: &str = "123456";
const WRONG_PIN: &str = "654321";

/// Exit status and output of a program.
type Ended = (Option<i32>, String);

/// Has OpenSC's programs use a new card. `run` runs a program on it.
#[track_caller]
pub fn use_card(folder: &Path, run: &dyn Fn(&str, &[&str]) -> Ended) {
    let ok = |program: &str, arguments: &[&str]| {
        let (status, out) = run(program, arguments);
        assert_eq!(status, Some(0), "{program} {arguments:?}:\n{out}");
        out
    };
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, message, signature) = (path("key"), path("message"), path("signature"));
    fs::write(&message, "message").unwrap();

    let named = ok("opensc-tool", &["--name"]);
    assert!(named.contains("OpenPGP card v3.4"), "{named}");
    let generate = ["--verify", "CHV3", "--pin", ADMIN_PIN, "--gen-key", "1"];
    ok("openpgp-tool", &[&generate[..], &["--key-type", "rsa2048"]].concat());

    let objects = ok("pkcs15-tool", &["--list-pins", "--list-keys"]);
    for object in ["PIN [User PIN (sig)]", "Private RSA Key [Signature key]"] {
        assert!(objects.contains(object), "no {object} in {objects}");
    }
    ok("pkcs15-tool", &["--read-public-key", "01", "--output", &key]);
    ok("pkcs15-tool", &["--verify-pin", "--auth-id", "01", "--pin", PIN]);

    // The key is in the slot of the PIN that it needs.
    let login = ["--slot-index", "1", "--login", "--pin"];
    let objects = ok("pkcs11-tool", &[&login[..], &[PIN, "--list-objects"]].concat());
    assert!(objects.contains("Private Key Object; RSA"), "{objects}");
    let sign = ["--sign", "--id", "01", "--mechanism", "SHA256-RSA-PKCS"];
    let sign = [&sign[..], &["--input-file", &message, "--output-file", &signature]].concat();
    let (status, _) = run("pkcs11-tool", &[&login[..], &[WRONG_PIN], &sign].concat());
    assert_ne!(status, Some(0), "a wrong PIN");
    ok("pkcs11-tool", &[&login[..], &[PIN], &sign].concat());
    assert!(verifies(&key, &signature, &message));
    fs::write(&message, "another").unwrap();
    assert!(!verifies(&key, &signature, &message));

    // What Firefox loads such a module with, NSS, sees the card by way of it.
    let database = format!("sql:{}", folder.display());
    let add = ["-dbdir", &database, "-force", "-add", "OpenSC", "-libfile", &module()];
    prepare("certutil", &["-N", "--empty-password", "-d", &database]);
    prepare("modutil", &add);
    let tokens = ok("modutil", &["-dbdir", &database, "-list", "OpenSC"]);
    assert!(tokens.contains("Token Name: OpenPGP card (User PIN (sig))"), "{tokens}");
}

/// Runs a program that needs no card.
#[track_caller]
fn prepare(program: &str, arguments: &[&str]) {
    let (status, out) = Process::start(Command::new(program).args(arguments)).end();
    assert_eq!(status, Some(0), "{program} {arguments:?}:\n{out}");
}

/// OpenSC's PKCS #11 module.
fn module() -> String {
    let files = Process::start(Command::new("dpkg").args(["--listfiles", "opensc-pkcs11"])).end().1;
    let module = files.lines().find(|line| line.ends_with("/opensc-pkcs11.so"));
    module.unwrap_or_else(|| panic!("no module (tests/packages)\n{files}")).to_owned()
}

/// Whether OpenSSL takes it for the signature of the message.
fn verifies(key: &str, signature: &str, message: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-verify", key, "-signature", signature, message]);
    Process::start(&mut command).end().0 == Some(0)
}
