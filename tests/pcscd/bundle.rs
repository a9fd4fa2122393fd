//! The bundle that `scard install bundle` makes, as pcscd reads it.

use crate::harness::Pcscd;
use ifd::bundle::{Listed, info_plist};

/// What pcscd says of an Info.plist that it cannot use; later versions end.
const REFUSED: &str = "Error parsing";

#[test]
fn pcscd_takes_the_bundle() {
    let names = ["GemPC Twin", "A & B <C> \"D\"", "é\u{7}"];
    let listed = |(number, name): (usize, &str)| Listed {
        vendor: 0x08E6,
        product: number as u16,
        name: name.into(),
    };
    let readers: Vec<_> = names.into_iter().cycle().take(700).enumerate().map(listed).collect();
    let plist = info_plist(&readers, &[("ifdLogLevel", "0x0003"), ("ifdDriverOptions", "0x0000")]);
    let mut pcscd = Pcscd::start_with_bundle(&plist);
    // It has looked at its drivers when it serves a program.
    pcscd.puppet();
    assert!(!pcscd.log().contains(REFUSED), "{}", pcscd.log());
    assert!(pcscd.process.is_running());
    // So that it would be seen: an array that is too short is refused.
    let uneven = plist.replacen("<string>0x08E6</string>", "", 1);
    let refuses = Pcscd::start_with_bundle(&uneven);
    refuses.puppet();
    assert!(refuses.log().contains(REFUSED), "{}", refuses.log());
}
