//! Cards that come and go.

use crate::harness::{NO_SMARTCARD, Pcscd, REMOVED_CARD, until};
use std::time::{Duration, Instant};

#[test]
fn insertion_and_removal() {
    for device in ["sim:default", "sim:no-interrupt", "sim:iccd-b", "sim:iccd-b-interrupt"] {
        let pcscd = Pcscd::start(&[("Simulated", device)]);
        let (mut watcher, mut user) = (pcscd.puppet(), pcscd.puppet());
        let mut hands = pcscd.hands("Simulated");
        user.connect("Simulated 00 00");
        for _ in 0..3 {
            hands.say("remove");
            watcher.wait_for_card("Simulated 00 00", false);
            assert_eq!(user.say(&["transmit", "0014000A"]).code, REMOVED_CARD, "{device}");
            let again = user.say(&["reconnect", "shared", "3", "0"]).code;
            assert_eq!(again, NO_SMARTCARD, "{device}");
            hands.say("insert");
            watcher.wait_for_card("Simulated 00 00", true);
            user.say(&["reconnect", "shared", "3", "0"]).ok();
            assert_eq!(user.transmit("0014000A"), "9000", "{device}");
        }
        assert_eq!(hands.violations(), [""; 0], "{device}");
    }
}

/// Out and in between two looks: whoever was connected is told, by pcscd's own counter.
#[test]
fn a_card_is_out_for_a_moment() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let (mut watcher, mut user) = (pcscd.puppet(), pcscd.puppet());
    let mut hands = pcscd.hands("Simulated");
    // The counter means nothing while it is 0.
    hands.say("remove");
    watcher.wait_for_card("Simulated 00 00", false);
    hands.say("insert");
    watcher.wait_for_card("Simulated 00 00", true);
    user.connect("Simulated 00 00");
    for _ in 0..20 {
        let before = watcher.wait("Simulated 00 00", 0) & !crate::harness::CHANGED;
        hands.say("remove");
        hands.say("insert");
        let mut state = watcher.wait("Simulated 00 00", before);
        // A removal and an insertion are two events.
        while (state >> 16) < (before >> 16) + 2 {
            state = watcher.wait("Simulated 00 00", state & !crate::harness::CHANGED);
        }
        assert_eq!(user.say(&["transmit", "0014000A"]).code, REMOVED_CARD);
        // The driver may take the news of the insertion for another exchange of cards.
        until("it is usable again", || {
            user.say(&["reconnect", "shared", "3", "0"]).code == 0
                && user.say(&["transmit", "0014000A"]).code == 0
        });
    }
}

/// The card goes while it is at work: the command ends by that, in less than 200 ms.
#[test]
fn a_card_is_pulled_out_while_it_works() {
    for device in ["sim:default", "sim:lost-on-removal", "sim:t1-tpdu"] {
        let pcscd = Pcscd::start(&[("Simulated", device)]);
        let mut user = pcscd.puppet();
        let mut hands = pcscd.hands("Simulated");
        user.connect("Simulated 00 00");
        hands.say("forget");
        user.begin(&["transmit", "00160000"]);
        hands.until_seen("> XfrBlock");
        let began = Instant::now();
        hands.say("remove");
        assert_eq!(user.returned().code, NO_SMARTCARD, "{device}");
        assert!(began.elapsed() < Duration::from_millis(200), "{device}: {:?}", began.elapsed());
        hands.say("insert");
        user.wait_for_card("Simulated 00 00", true);
        user.say(&["reconnect", "shared", "3", "0"]).ok();
        assert_eq!(user.transmit("0014000A"), "9000", "{device}");
    }
}

/// After five idle seconds pcscd powers the card off, as it does with libccid: it waits in the
/// driver meanwhile and does not look every 400 ms.
#[test]
fn pcscd_waits_in_the_driver() {
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let mut hands = pcscd.hands("Simulated");
    hands.until_seen("> IccPowerOff");
    let log = hands.say("log");
    let at = |text: &str| {
        let line = log.iter().find(|line| line.contains(text)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    let idle = at("> IccPowerOff") - at("> IccPowerOn");
    assert!((4.9..6.0).contains(&idle), "{idle} s");
    assert!(pcscd.log().contains("Using the reader polling thread"));
    let asked = log.iter().filter(|line| line.contains("> GetSlotStatus")).count();
    assert!(asked <= 2, "{log:?}");
}
