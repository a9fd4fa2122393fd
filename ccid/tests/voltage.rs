//! The voltage of a power-up, as scripts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod setup;

use ccid::operation::PowerUp;
use ccid::wire::{Command, PowerSelect, SlotError};
use ccid::{ClassDescriptor, Operation, Options};
use setup::{AUTO_VOLTAGE, PLAIN, Script, TPDU, class};

/// T=15 with the class indicator: what the card supports.
fn of_classes(classes: u8) -> Vec<u8> {
    vec![0x3B, 0x80, 0x80, 0x1F, classes, 0x1F ^ classes]
}

#[test]
fn the_first_voltage_is_an_option() {
    for first_voltage in [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8] {
        let options = Options { first_voltage, ..Options::default() };
        let mut script = Script::opened(class(TPDU), "", options);
        script.meet_card();
        script.power(first_voltage, PLAIN);
    }
    let mut script = Script::new(TPDU | AUTO_VOLTAGE);
    script.power(PowerSelect::Automatic, PLAIN);
}

#[test]
fn a_card_is_run_at_a_class_it_supports() {
    // Class B alone: 3 V.
    let mut script = Script::new(TPDU);
    script.start(Operation::PowerOn(PowerUp::Cold));
    script.off();
    script.on(PowerSelect::V5, &of_classes(0b010));
    script.off();
    script.on(PowerSelect::V3, &of_classes(0b010));
    assert!(script.completed().is_ok());
    // It keeps its voltage.
    script.power(PowerSelect::V3, &of_classes(0b010));
    // 1.8 V or 3 V: the higher first; and if neither works, what has.
    let mut script = Script::new(TPDU);
    script.start(Operation::PowerOn(PowerUp::Warm));
    script.on(PowerSelect::V5, &of_classes(0b110));
    for power_select in [PowerSelect::V3, PowerSelect::V1_8] {
        script.off();
        let (_, seq) = script.sent(Command::IccPowerOn { power_select });
        script.failed(seq, SlotError::IccMute);
    }
    script.reset(&of_classes(0b110));
    assert!(script.completed().is_ok());
    script.quiet();
}

#[test]
fn a_class_that_suits_or_cannot_be_changed_is_kept() {
    for (voltages, classes) in [(7, 0b001), (7, 0b011), (7, 0), (1, 0b010), (3, 0b100)] {
        let voltage_support = ccid::descriptor::Voltages::from_bits_retain(voltages);
        let mut script = Script::with_row(ClassDescriptor { voltage_support, ..class(TPDU) }, "");
        script.power(PowerSelect::V5, &of_classes(classes));
        script.quiet();
    }
    // The reader's own choice is its own.
    let mut script = Script::new(TPDU | AUTO_VOLTAGE);
    script.power(PowerSelect::Automatic, &of_classes(0b010));
}
