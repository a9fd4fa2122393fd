//! Simulated readers by name, ready to be plugged in.

use crate::card::atr::AtrBuilder;
use crate::card::{Acknowledge, Fault, Faults, LineCard, Pace, PpsBehaviour, Protocol};
use crate::iccd::{Iccd, IccdBuilder, Version};
use crate::reader::{
    AbortBehaviour, FailureMessage, Level, OnRemoval, PendingAnswer, Reader, ReaderBuilder,
};
use crate::{Card, FileCard};
use ccid::Slot;
use ccid::descriptor::{Features, PinSupport};
use std::sync::LazyLock;
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
    all().iter().find(|preset| preset.name == name).map(|preset| preset.builder().build())
}

/// An ICCD that can be had by its name.
#[derive(Clone, Copy)]
pub struct IccdPreset {
    /// The name.
    pub name: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
    make: fn() -> IccdBuilder,
}

impl IccdPreset {
    /// The ICCD, ready to be changed before it is built.
    pub fn builder(&self) -> IccdBuilder {
        (self.make)()
    }
}

impl std::fmt::Debug for IccdPreset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IccdPreset").field(&self.name).finish()
    }
}

/// All presets that are no reader but a card with a USB plug of its own.
pub fn iccd() -> &'static [IccdPreset] {
    ICCD
}

/// All presets of readers.
pub fn all() -> &'static [Preset] {
    static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| [PRESETS, LINE].concat());
    &ALL
}

/// Name and description of each preset.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    all().iter().map(|preset| (preset.name, preset.description))
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
        presets! { Preset: $($name, $description, $make;)+ }
    };
    ($kind:ident: $($name:literal, $description:literal, $make:expr;)+) => {
        &[$($kind { name: $name, description: $description, make: || $make }),+]
    };
}

const ICCD: &[IccdPreset] = presets! { IccdPreset:
    "iccd-a-apdu", "ICCD version A, short APDUs as a whole",
        Iccd::builder(Version::A, FileCard::t1());
    "iccd-a", "ICCD version A, T=0 in phases: header, data, SW1 SW2",
        Iccd::builder(Version::A, FileCard::t0()).level(Level::Character);
    "iccd-b", "ICCD version B, extended APDUs in parts of 261 bytes",
        Iccd::builder(Version::B, FileCard::t1()).level(Level::ExtendedApdu);
    "iccd-b-short", "ICCD version B, short APDUs",
        Iccd::builder(Version::B, FileCard::t1());
    "iccd-b-interrupt", "iccd-b with an interrupt endpoint",
        Iccd::builder(Version::B, FileCard::t1()).level(Level::ExtendedApdu).interrupt();
    "iccd-b-slow", "iccd-b with a card that takes 500 ms for READ BINARY; to be asked every 100 ms",
        Iccd::builder(Version::B, FileCard::t1().pace(0xB0, Pace::After(Duration::from_millis(500))))
            .level(Level::ExtendedApdu)
            .polling_delay(10);
};

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
    "eight-slots", "eight slots that may all be busy, TPDU level, a T=0 card in each (sysmoOCTSIM)",
        (0..8).fold(Reader::builder().level(Level::Tpdu).slots(8), |reader, slot| {
            reader.card(Slot(slot), FileCard::t0())
        });
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
    "abort-not-aborted-81", "Abort fails with 81h, as some have CMD_NOT_ABORTED",
        aborts(AbortBehaviour::NotAborted(0x81));
    "abort-not-aborted-e0", "Abort fails with E0h, which elsewhere is CMD_SLOT_BUSY (USBX)",
        aborts(AbortBehaviour::NotAborted(0xE0));
    "abort-not-aborted-ff", "Abort fails with FFh, which elsewhere is CMD_ABORTED (LUFA, rexos)",
        aborts(AbortBehaviour::NotAborted(0xFF));
    "abort-busy", "Abort is not supported, and time extensions go on meanwhile (CanoKey)",
        aborts(AbortBehaviour::NotSupported).busy_extension(Duration::from_millis(250), 1);
    "abort-at-request", "the command fails with CMD_ABORTED when ABORT is requested",
        usual().pending_answer(PendingAnswer::AtRequest);
    "abort-no-answer", "Abort is answered, the aborted command never",
        usual().pending_answer(PendingAnswer::Never);
    "abort-slot-status", "the aborted command fails by RDR_to_PC_SlotStatus",
        usual().failure_message(FailureMessage::SlotStatus);
    "abort-foreign", "abort-drops-held, and commands fail by a message of type 6Ch (usbd-ccid)",
        aborts(AbortBehaviour::DropsHeldAbort).failure_message(FailureMessage::Foreign);
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
    "failures-foreign", "empty; commands fail by a message of type 6Ch (usbd-ccid)",
        Reader::builder().failure_message(FailureMessage::Foreign);
    "abort-unasked", "commands fail with CMD_ABORTED by themselves after 500 ms",
        aborts(AbortBehaviour::Unasked(Duration::from_millis(500)));
};

/// Presets whose host meets the card's contacts: TPDU level with T=1, and character level.
const LINE: &[Preset] = presets! {
    "t1-tpdu", "TPDU level with a T=1 card, LRC",
        tpdu(FileCard::t1());
    "t1-tpdu-crc", "TPDU level with a T=1 card, CRC",
        tpdu(FileCard::t1().atr(&t1_atr(0xFE, true)));
    "t1-tpdu-short", "TPDU level with a T=1 card that takes 16 bytes in a block: chains",
        tpdu(FileCard::t1().atr(&t1_atr(0x10, false)));
    "t1-tpdu-auto-ifsd", "TPDU level with a T=1 card; the reader tells its IFSD by itself",
        tpdu(FileCard::t1()).features(LINE_FEATURES | Features::AUTO_IFSD);
    "t1-tpdu-manual", "TPDU level with a T=1 card, CRC; parameters are the host's business",
        tpdu(FileCard::t1().atr(&t1_atr(0xFE, true))).features(Features::AUTO_VOLTAGE);
    "t1-wtx", "t1-tpdu with a card that asks five times for twice its waiting time on READ BINARY",
        tpdu(FileCard::t1().pace(0xB0, WTX));
    "t1-wtx-storm", "t1-tpdu with a card that asks for more time for ever on READ BINARY",
        tpdu(FileCard::t1().pace(0xB0, WTX_FOR_EVER));
    "t1-silent", "t1-tpdu with a card that falls silent on READ BINARY",
        tpdu(FileCard::t1().pace(0xB0, Pace::Mute));
    "pinpad-tpdu", "a PIN pad that nobody touches, TPDU level with a T=1 card",
        tpdu(FileCard::t1()).pin_support(PinSupport::VERIFY | PinSupport::MODIFY);
    "pinpad-tpdu-wtx", "pinpad-tpdu with a card that asks for twice its waiting time on VERIFY",
        tpdu(FileCard::t1().pace(0x20, WTX_ONCE)).pin_support(PinSupport::VERIFY);
    "t0-character", "character level with a T=0 card",
        characters(FileCard::t0());
    "t0-character-one", "character level with a T=0 card that takes and gives byte by byte, with NULLs",
        characters(LineCard::new(FileCard::t0()).acknowledge(Acknowledge::One).nulls(1));
    "t1-character", "character level with a T=1 card, LRC",
        characters(FileCard::t1());
    "t1-character-crc", "character level with a T=1 card, CRC",
        characters(FileCard::t1().atr(&t1_atr(0xFE, true)));
    "pps", "TPDU level with a card of T=0 and T=1 that agrees to 125 000 bit/s",
        tpdu(both());
    "pps-character", "pps at character level",
        characters(both());
    "pps-too-fast", "pps with a card that is faster than the reader",
        tpdu(FileCard::new(&[Protocol::T0, Protocol::T1]).atr(&fast_atr(0x97)));
    "pps-specific", "TPDU level with a T=1 card in specific mode at 125 000 bit/s: no PPS",
        tpdu(FileCard::t1().atr(&specific_atr()));
    "pps-keeps-rate", "pps with a card that agrees to the protocol only",
        tpdu(LineCard::new(both()).pps(PpsBehaviour::KeepsRate));
    "pps-mute", "pps with a card that does not answer PPS",
        tpdu(LineCard::new(both()).pps(PpsBehaviour::Mute));
    "pps-wrong", "pps with a card that answers PPS with a wrong check byte",
        tpdu(LineCard::new(both()).pps(PpsBehaviour::Answers(vec![0xFF, 0x11, 0x95, 0x00])));
    "tpdu-abort-silent", "abort-silent at TPDU level, with a card of T=0 and T=1",
        tpdu(both()).abort(AbortBehaviour::Silent);
    "pps-by-reader", "TPDU level; the reader does PPS by the parameters that are set",
        tpdu(both()).features(LINE_FEATURES | Features::AUTO_PPS);
    "t1-faults-check", "t1-tpdu; the third block of the card's has a wrong LRC",
        third(Fault::BadCheck);
    "t1-faults-parity", "t1-tpdu; the third block comes with a parity error",
        third(Fault::Parity);
    "t1-faults-mute", "t1-tpdu; the third block does not come",
        third(Fault::Mute);
    "t1-faults-mute-for-good", "t1-tpdu; mute from the third block on until a reset",
        third(Fault::MuteForGood);
    "t1-faults-deaf", "t1-tpdu; the card does not hear what the third block would answer",
        third(Fault::Deaf);
    "t1-faults-sequence", "t1-tpdu; the third block has the wrong sequence number",
        third(Fault::WrongSequence);
    "t1-faults-nad", "t1-tpdu; the third block has NAD 11h",
        third(Fault::Nad(0x11));
    "t1-faults-len", "t1-tpdu; the third block has LEN FFh",
        third(Fault::Length255);
    "t1-faults-long", "t1-tpdu; the third block is longer than IFSD",
        third(Fault::LongerThanIfsd);
    "t1-faults-truncated", "t1-tpdu; the third block lacks its last byte",
        third(Fault::Truncated);
    "t1-faults-pcb", "t1-tpdu; the third block has the PCB 9Fh",
        third(Fault::Pcb(0x9F));
    "t1-faults-r-block", "t1-tpdu; an R-block comes instead of the third block",
        third(Fault::RBlock);
    "t1-faults-resynch", "t1-tpdu; from the third block on the card wants S(RESYNCH request)",
        third(Fault::Resynch);
    "t1-faults-ifs", "t1-tpdu; S(IFS request) for 16 bytes before the third block",
        third(Fault::Ifs(16));
    "t1-faults-ifs-0", "t1-tpdu; S(IFS request) for 0 bytes before the third block",
        third(Fault::Ifs(0));
    "t1-faults-ifs-255", "t1-tpdu; S(IFS request) for 255 bytes before the third block",
        third(Fault::Ifs(255));
    "t1-faults-abort", "t1-tpdu; the card aborts the chain at the third block",
        third(Fault::Abort);
    "t1-faults-random", "t1-tpdu; one block of five is lost or bent",
        tpdu(LineCard::new(FileCard::t1()).faults(Faults::random(1, 5)));
    "t1-faults-always", "t1-tpdu; every block has a wrong LRC",
        tpdu(LineCard::new(FileCard::t1()).faults(Faults::none().always(Fault::BadCheck)));
};

const LINE_FEATURES: Features = Features::AUTO_PARAMETERS_FROM_ATR
    .union(Features::AUTO_VOLTAGE)
    .union(Features::AUTO_CLOCK)
    .union(Features::AUTO_BAUD_RATE);

const WTX: Pace = Pace::Extend { periods: 5, period: Duration::from_secs(2), multiplier: 2 };
const WTX_ONCE: Pace =
    Pace::Extend { periods: 1, period: Duration::from_millis(500), multiplier: 2 };
const WTX_FOR_EVER: Pace =
    Pace::ExtendForEver { period: Duration::from_millis(200), multiplier: 1 };

fn tpdu(card: impl Card + 'static) -> ReaderBuilder {
    Reader::builder().level(Level::Tpdu).card(SLOT, card)
}

fn characters(card: impl Card + 'static) -> ReaderBuilder {
    Reader::builder().level(Level::Character).card(SLOT, card)
}

fn both() -> FileCard {
    FileCard::new(&[Protocol::T0, Protocol::T1])
}

/// A T=1 card one of whose blocks, the third, is not what it should be.
fn third(fault: Fault) -> ReaderBuilder {
    tpdu(LineCard::new(FileCard::t1()).faults(Faults::at(3, fault)))
}

fn t1_atr(ifsc: u8, crc: bool) -> Vec<u8> {
    AtrBuilder::new(&[Protocol::T1], b"scard").fi_di(0x95).t1(ifsc, 0x45, crc).build()
}

fn fast_atr(ta1: u8) -> Vec<u8> {
    AtrBuilder::new(&[Protocol::T0, Protocol::T1], b"scard").fi_di(ta1).build()
}

fn specific_atr() -> Vec<u8> {
    AtrBuilder::new(&[Protocol::T1], b"scard").fi_di(0x95).specific_mode(0x81).build()
}

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
