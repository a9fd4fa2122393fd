//! Simulated readers by name, ready to be plugged in.

use crate::FileCard;
use crate::card::{Pace, Protocol};
use crate::reader::{AbortBehaviour, Level, OnRemoval, Reader, ReaderBuilder};
use ccid::Slot;
use ccid::descriptor::PinSupport;
use std::time::Duration;

/// A reader that can be had by its name.
#[derive(Clone, Copy)]
pub struct Preset {
    /// The name.
    pub name: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
    make: fn() -> ReaderBuilder,
}

impl Preset {
    /// The reader, ready to be changed before it is built.
    pub fn builder(&self) -> ReaderBuilder {
        (self.make)()
    }
}

impl std::fmt::Debug for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Preset").field(&self.name).finish()
    }
}

/// The reader of that name, newly made; None if there is none.
pub fn by_name(name: &str) -> Option<Reader> {
    PRESETS.iter().find(|preset| preset.name == name).map(|preset| preset.builder().build())
}

/// All presets.
pub fn all() -> &'static [Preset] {
    PRESETS
}

/// Name and description of each preset.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRESETS.iter().map(|preset| (preset.name, preset.description))
}

const SLOT: Slot = Slot(0);

/// The reader most presets start from: one slot, extended APDU level, a T=1 card.
fn usual() -> ReaderBuilder {
    Reader::builder().card(SLOT, FileCard::t1())
}

fn aborts(behaviour: AbortBehaviour) -> ReaderBuilder {
    usual().abort(behaviour)
}

macro_rules! presets {
    ($($name:literal, $description:literal, $make:expr;)+) => {
        &[$(Preset { name: $name, description: $description, make: || $make }),+]
    };
}

const PRESETS: &[Preset] = presets! {
    "default", "one slot, short and extended APDUs, a T=1 card with files",
        usual();
    "empty", "as default, without a card",
        Reader::builder();
    "t0-tpdu", "TPDU level with a T=0 card",
        Reader::builder().level(Level::Tpdu).card(SLOT, FileCard::t0());
    "t0", "extended APDU level with a T=0 card",
        Reader::builder().card(SLOT, FileCard::t0());
    "both", "a card that offers T=0 and T=1",
        Reader::builder().card(SLOT, FileCard::new(&[Protocol::T0, Protocol::T1]));
    "short", "short APDU level",
        usual().level(Level::ShortApdu);
    "extended", "extended APDU level in messages of 271 bytes: APDUs are chained",
        usual().max_message_length(271);
    "three-slots", "three slots that may all be busy; T=1 and T=0 card, the third slot empty",
        usual().slots(3).card(Slot(1), FileCard::t0());
    "one-at-a-time", "three slots of which one may be busy; T=1 and T=0 card, the third empty",
        usual().slots(3).busy_slots(1).card(Slot(1), FileCard::t0());
    "pinpad", "a PIN pad on which 123456 and Enter are pressed every 5 s for a minute",
        (1..=12).fold(usual().pin_support(PinSupport::VERIFY | PinSupport::MODIFY), |reader, n| {
            reader.enter_pin_after(Duration::from_secs(5 * n), "123456")
        });
    "pinpad-idle", "a PIN pad that nobody touches",
        usual().pin_support(PinSupport::VERIFY | PinSupport::MODIFY);
    "no-interrupt", "no interrupt endpoint: the host has to ask for the card",
        usual().without_interrupt();
    "mute", "a card that gives no ATR",
        Reader::builder().card(SLOT, FileCard::t1().power_up(Pace::Mute));
    "silent", "a card that never answers READ BINARY",
        Reader::builder().card(SLOT, FileCard::t1().pace(0xB0, Pace::Never));
    "slow", "a card that asks ten times for 500 ms more on READ BINARY",
        Reader::builder().card(SLOT, FileCard::t1().pace(0xB0, SLOW));
    "insert-later", "empty; a card comes after 2 s and goes after 10 s",
        Reader::builder()
            .insert_after(Duration::from_secs(2), SLOT, FileCard::t1())
            .remove_after(Duration::from_secs(10), SLOT);
    "lost-on-removal", "a command whose card is taken out is never answered (QEMU)",
        usual().on_removal(OnRemoval::NeverAnswers).remove_after(Duration::from_secs(5), SLOT);
    "abort-drops-held", "forgets a waiting Abort when another command comes (usbd-ccid)",
        aborts(AbortBehaviour::DropsHeldAbort);
    "abort-stall", "the ABORT request stalls, Abort is not supported (QEMU)",
        aborts(AbortBehaviour::StallsRequest);
    "abort-not-supported", "the ABORT request is accepted, Abort is not supported (osmo)",
        aborts(AbortBehaviour::NotSupported);
    "abort-not-aborted", "Abort fails with CMD_NOT_ABORTED, C0h",
        aborts(AbortBehaviour::NotAborted(0xC0));
    "abort-no-status", "the command is aborted, but Abort is never answered",
        aborts(AbortBehaviour::NoSlotStatus);
    "abort-silent", "the command stops, and nothing is ever answered",
        aborts(AbortBehaviour::Silent);
    "abort-ignored", "Abort is ignored altogether, the slot stays busy",
        aborts(AbortBehaviour::Ignored);
    "abort-completes", "the aborted command completes with its real answer",
        aborts(AbortBehaviour::CompletesNormally);
    "abort-late-failure", "CMD_ABORTED comes 50 ms after the answer to Abort",
        aborts(AbortBehaviour::LateFailure(Duration::from_millis(50)));
    "abort-late-answer", "the real answer comes 50 ms after the answer to Abort",
        aborts(AbortBehaviour::LateAnswer(Duration::from_millis(50)));
    "abort-unasked", "commands fail with CMD_ABORTED by themselves after 500 ms",
        aborts(AbortBehaviour::Unasked(Duration::from_millis(500)));
};

const SLOW: Pace = Pace::Extend { periods: 10, period: Duration::from_millis(500), multiplier: 2 };

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_preset_is_found_by_its_own_name() {
        let distinct: BTreeSet<_> = names().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), all().len());
        for (name, description) in names() {
            assert!(by_name(name).is_some());
            assert!(!description.is_empty());
        }
        assert!(by_name("no such reader").is_none());
    }

    #[test]
    fn the_default_has_a_card_and_empty_has_none() {
        assert!(by_name("default").unwrap().has_card(SLOT));
        assert!(!by_name("empty").unwrap().has_card(SLOT));
        let three = by_name("three-slots").unwrap();
        assert_eq!([0, 1, 2].map(|slot| three.has_card(Slot(slot))), [true, true, false]);
    }
}
