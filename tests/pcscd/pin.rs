//! PIN entry and the other control codes.

use crate::harness::{NOT_TRANSACTED, Pcscd, Puppet, UNSUPPORTED_FEATURE, hex};

const GET_FEATURE: &str = "42000D48";
const GET_FEATURE_WINDOWS: &str = "313520";

/// VERIFY of reference 81h: ASCII, 4 to 8 digits, ended by Enter.
fn verify() -> String {
    let apdu = [0x00, 0x20, 0x00, 0x81];
    let mut data = vec![30, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    hex(&data)
}

/// CHANGE REFERENCE DATA of reference 81h: the current PIN and twice the new one.
fn modify() -> String {
    let apdu = [&[0x00, 0x24, 0x00, 0x81, 16][..], &[0xFF; 16]].concat();
    let mut data = vec![30, 0, 0x82, 0x08, 0, 0, 8, 8, 4, 3, 2, 3, 9, 4, 0, 1, 2, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    hex(&data)
}

/// The control code of a feature.
#[track_caller]
fn feature(program: &mut Puppet, tag: &str) -> Option<String> {
    let features = program.say(&["control", GET_FEATURE]).first();
    assert_eq!(program.say(&["control", GET_FEATURE_WINDOWS]).first(), features);
    let records: Vec<_> = features.as_bytes().chunks(12).map(String::from_utf8_lossy).collect();
    let found = records.iter().find(|record| record.starts_with(&format!("{tag}04")));
    found.map(|record| record[4..].to_owned())
}

#[test]
fn a_pin_is_verified_and_changed_at_the_keys() {
    let pcscd = Pcscd::start(&[("Pad", "sim:pinpad-idle")]);
    let mut program = pcscd.puppet();
    let mut hands = pcscd.hands("Pad");
    program.connect("Pad 00 00");
    let verify_code = feature(&mut program, "06").unwrap();
    let modify_code = feature(&mut program, "07").unwrap();
    let mut enter = |code: &str, structure: &str, keys: &[&str]| {
        hands.say("forget");
        program.begin(&["control", code, structure]);
        hands.until_seen("> Secure");
        for key in keys {
            hands.say(&format!("key {key}"));
        }
        program.returned().first()
    };
    assert_eq!(enter(&verify_code, &verify(), &["1234", "enter"]), "63C2");
    assert_eq!(enter(&verify_code, &verify(), &["123456", "enter"]), "9000");
    assert_eq!(enter(&verify_code, &verify(), &["12", "cancel"]), "6401");
    let keys = ["123456", "enter", "8642", "enter", "8642", "enter"];
    assert_eq!(enter(&modify_code, &modify(), &keys), "9000");
    assert_eq!(enter(&verify_code, &verify(), &["8642", "enter"]), "9000");
    assert_eq!(hands.violations(), [""; 0]);
    let log = pcscd.log().replace(' ', "");
    for secret in ["313233343536", "38363432", "123456", "8642"] {
        assert!(!log.contains(secret), "the PIN is in the log");
    }
}

/// While a user is asked for a PIN, another program ends that.
#[test]
fn pin_entry_is_cancelled() {
    let pcscd = Pcscd::start(&[("Pad", "sim:pinpad-idle")]);
    let (mut program, mut other) = (pcscd.puppet(), pcscd.puppet());
    let mut hands = pcscd.hands("Pad");
    program.connect("Pad 00 00");
    program.begin(&["control", "42330006", &verify()]);
    hands.until_seen("> Secure");
    other.connect_direct("Pad 00 00");
    other.say(&["set", "7A003", "00"]).ok();
    assert_eq!(program.returned().code, NOT_TRANSACTED);
    hands.say("forget");
    program.begin(&["control", "42330006", &verify()]);
    hands.until_seen("> Secure");
    hands.say("key 123456");
    hands.say("key enter");
    assert_eq!(program.returned().first(), "9000");
}

#[test]
fn properties() {
    let pcscd = Pcscd::start(&[("Pad", "sim:pinpad-idle"), ("Plain", "sim:default")]);
    let mut program = pcscd.puppet();
    program.connect_direct("Pad 00 00");
    let code = feature(&mut program, "0A").unwrap();
    assert_eq!(program.say(&["control", &code]).first().len(), 8);
    let code = feature(&mut program, "12").unwrap();
    let properties = program.say(&["control", &code]).first();
    assert!(properties.contains("0B020912") && properties.contains("0C02A05C"), "{properties}");
    program.say(&["disconnect", "0"]).ok();
    program.connect_direct("Plain 01 00");
    assert_eq!(feature(&mut program, "06"), None);
    assert_eq!(program.say(&["control", "42330006", &verify()]).code, UNSUPPORTED_FEATURE);
    assert_eq!(program.say(&["control", "42000042"]).code, UNSUPPORTED_FEATURE);
}

/// Escape commands can do anything to a reader: they are refused, unless allowed.
#[test]
fn escape_is_refused_unless_allowed() {
    let refuses = Pcscd::start(&[("Simulated", "sim:default")]);
    let mut program = refuses.puppet();
    program.connect_direct("Simulated 00 00");
    assert_eq!(feature(&mut program, "13"), None);
    assert_eq!(program.say(&["control", "42000001", "0102"]).code, UNSUPPORTED_FEATURE);
    assert!(!refuses.hands("Simulated").say("log").iter().any(|line| line.contains("Escape")));
    let allowed = [("SCARD_ifdDriverOptions", "0x01")];
    let allows = Pcscd::start_with(&[("Simulated", "sim:default")], &allowed);
    let mut program = allows.puppet();
    program.connect_direct("Simulated 00 00");
    assert_eq!(feature(&mut program, "13").as_deref(), Some("42000001"));
    assert_eq!(program.say(&["control", "42000001", "01ABCD"]).first(), "ABCD");
}
