//! opcard, the OpenPGP card of Nitrokey's firmware, with its real cryptography; what it signs is
//! checked by OpenSSL.

use super::{Bench, Outside, bytes, data, exchange};
use crate::common::{run, until};
use scard::{Card, Disposition, Error, Protocols, ShareMode};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SELECT: &str = "00A40400 06 D27600012401 00";
/// "123456" and "12345678", the PINs of a new card.
const VERIFY_PW1: &str = "00200081 06 313233343536";
const VERIFY_PW3: &str = "00200083 08 3132333435363738";
/// The algorithm of the signature key: ECDSA on P-256, RSA of 2048 bits.
const ECDSA: &str = "00DA00C1 09 13 2A8648CE3D030107";
const RSA: &str = "00DA00C1 06 01 0800 0020 00";
const GENERATE: &str = "00478000 000002 B600 0000";

/// SHA-256 of nothing.
const DIGEST: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
/// What stands before it in PKCS #1.
const DIGEST_INFO: &str = "3031300D060960864801650304020105000420";

/// DER: a SubjectPublicKeyInfo of P-256 up to the point.
const P256_INFO: &str = "3059301306072A8648CE3D020106082A8648CE3D030107034200";

#[test]
fn ecdsa() {
    let bench = Bench::new();
    let context = bench.context();
    let mut opcard = Outside::opcard(bench.address());
    let card = bench.connect(&context, &mut opcard);
    assert_eq!(card.status2_owned().unwrap().atr()[..3], [0x3B, 0x8A, 0x01]);
    data(&card, SELECT);
    let related = data(&card, "00CA006E 00");
    assert!(contains(&related, &bytes("4F 10 D27600012401 0304")), "{related:02X?}");
    let not_satisfied = 0x6982;
    assert_eq!(exchange(&card, ECDSA).1, not_satisfied, "before VERIFY");
    assert_eq!(exchange(&card, "00200083 08 3132333435363739").1, 0x63C2, "a wrong PIN");
    data(&card, VERIFY_PW3);
    data(&card, ECDSA);
    let key = data(&card, GENERATE);
    let point = find(&key, 0x86);
    assert_eq!((point.len(), point[0]), (65, 4), "an uncompressed point: {key:02X?}");
    data(&card, VERIFY_PW1);
    let signature = data(&card, &format!("002A9E9A 20 {DIGEST} 00"));
    assert_eq!(signature.len(), 64);
    let key = [bytes(P256_INFO), point].concat();
    let (r, s) = signature.split_at(32);
    check_signature(&key, &sequence(&[integer(r), integer(s)].concat()), "SPKI");
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn rsa_takes_its_time() {
    let bench = Bench::new();
    let context = bench.context();
    let mut opcard = Outside::opcard(bench.address());
    let card = bench.connect(&context, &mut opcard);
    data(&card, SELECT);
    data(&card, VERIFY_PW3);
    data(&card, RSA);
    let key = data(&card, GENERATE);
    let (modulus, exponent) = (find(&key, 0x81), find(&key, 0x82));
    assert_eq!((modulus.len(), &exponent[..]), (256, &[1, 0, 1][..]), "{key:02X?}");
    data(&card, VERIFY_PW1);
    let signature = data(&card, &format!("002A9E9A 33 {DIGEST_INFO} {DIGEST} 00"));
    assert_eq!(signature.len(), 256);
    let key = sequence(&[integer(&modulus), integer(&exponent)].concat());
    check_signature(&key, &signature, "PKCS1");
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn a_key_generation_is_cancelled_and_the_card_used_again() {
    let bench = Bench::new();
    let context = bench.context();
    let mut opcard = Outside::opcard(bench.address());
    let card = bench.connect(&context, &mut opcard);
    data(&card, SELECT);
    data(&card, VERIFY_PW3);
    data(&card, RSA);
    let generate = run(move || card.transmit_owned(&bytes(GENERATE), None).map(drop));
    until("it generates", || bench.inner.port.with(|d| d.reader().unwrap().is_busy(ccid::Slot(0))));
    context.canceller().cancel().unwrap();
    assert_eq!(generate.join(), Err(Error::Cancelled));
    // The card goes on: until it has ended, it has no ATR to give.
    let reader = bench.inner.reader();
    let connect = || context.connect(&reader, ShareMode::Shared, Protocols::ANY);
    let mut again: Option<Card> = None;
    until("it answers again", || {
        again = again.take().or_else(|| connect().ok());
        again.is_some()
    });
    let mut card = again.unwrap();
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    data(&card, SELECT);
    assert_eq!(exchange(&card, ECDSA).1, 0x6982, "what was verified is forgotten");
    data(&card, VERIFY_PW3);
    assert_eq!(bench.violations(), [""; 0]);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The value behind a tag in the public key, 7F49.
fn find(key: &[u8], tag: u8) -> Vec<u8> {
    assert_eq!(key[..2], [0x7F, 0x49], "{key:02X?}");
    let mut rest = value(&key[2..]).0;
    while rest[0] != tag {
        rest = value(&rest[1..]).1;
    }
    value(&rest[1..]).0.to_vec()
}

/// The value behind a length, and what follows it.
fn value(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match bytes[0] {
        0x81 => (bytes[1].into(), 2),
        0x82 => (u16::from_be_bytes([bytes[1], bytes[2]]).into(), 3),
        short => (usize::from(short), 1),
    };
    bytes[start..].split_at(length)
}

/// A DER element.
fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    let mut bytes = vec![tag];
    match value.len() {
        0..=0x7F => bytes.push(length[1]),
        0x80..=0xFF => bytes.extend([0x81, length[1]]),
        _ => bytes.extend([0x82, length[0], length[1]]),
    }
    bytes.extend(value);
    bytes
}

fn sequence(value: &[u8]) -> Vec<u8> {
    element(0x30, value)
}

/// A number that is not negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    element(2, &[&[0][..], &number[zeros..]].concat()[usize::from(number[zeros] < 0x80)..])
}

/// Has OpenSSL check the signature of [`DIGEST`], and refuse it for another digest.
#[track_caller]
fn check_signature(key: &[u8], signature: &[u8], form: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("opcard-{form}"));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (key, signature) = (file("key.der", key), file("signature", signature));
    if form == "PKCS1" {
        let converted = Command::new("openssl")
            .args([
                "rsa",
                "-RSAPublicKey_in",
                "-inform",
                "DER",
                "-pubout",
                "-outform",
                "DER",
                "-in",
            ])
            .arg(&key)
            .arg("-out")
            .arg(folder.join("info.der"))
            .output();
        assert!(converted.unwrap().status.success(), "openssl rsa");
        fs::rename(folder.join("info.der"), &key).unwrap();
    }
    let mut digest = bytes(DIGEST);
    for good in [true, false] {
        let checked = Command::new("openssl")
            .args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-pkeyopt", "digest:sha256"])
            .arg("-inkey")
            .arg(&key)
            .arg("-sigfile")
            .arg(&signature)
            .arg("-in")
            .arg(file("digest", &digest))
            .output()
            .unwrap_or_else(|error| panic!("openssl: {error} (tests/packages installs it)"));
        assert_eq!(checked.status.success(), good, "{checked:?}");
        digest[0] ^= 1;
    }
}
