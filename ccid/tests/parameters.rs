//! SetParameters and its answers, as scripts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod setup;

use ccid::atr::Protocol;
use ccid::t1::Nad;
use ccid::wire::{Command, IccStatus, PowerSelect, Response, SlotError, Status};
use ccid::{Error, Operation, Options, Output};
use setup::{
    AUTO_PPS, BOTH, FAST, FROM_ATR, PLAIN, PPS_T1, PPS_T1_95, SHORT, SLOT, Script, T1, TPDU, class,
    t0, t1,
};
use std::time::Duration;

/// QEMU's reader answers with dwLength 0; others with what they have made of it.
#[test]
fn the_readers_own_word_on_the_rate_counts() {
    for (answer, slow) in [(&[][..], false), (&t0(0x95), false), (&t0(0x11), true)] {
        let mut script = Script::powered(SHORT | AUTO_PPS, &[0x3B, 0x50, 0x95, 0xFE]);
        script.set(Protocol::T0);
        let mut data = t0(0x95);
        data[2] = 0xFE;
        let mut answer = answer.to_vec();
        if let Some(guard) = answer.get_mut(2) {
            *guard = 0xFE;
        }
        script.parameters(&data, &answer);
        script.done();
        // 263 characters of 12 + 254 etu: at the default rate, 24.7 ms each.
        assert_eq!(script.exchange() > Duration::from_secs(10), slow, "{answer:?}");
    }
}

#[test]
fn a_refused_field_is_tried_with_the_default_once() {
    for error in [SlotError::Unknown(10), SlotError::CmdNotSupported] {
        let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
        script.set(Protocol::T0);
        script.parameters_refused(&t0(0x95), error);
        script.parameters_refused(&t0(0x11), error);
        script.done();
    }
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x95), SlotError::Unknown(10));
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
}

#[test]
fn refused_parameters_matter_only_where_the_protocol_has_changed() {
    // The first protocol: as libccid, go on.
    let mut script = Script::powered(SHORT, PLAIN);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x11), SlotError::CmdNotSupported);
    script.done();
    // Another one, of which the reader now knows nothing.
    let mut script = Script::powered(TPDU, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1_95);
    script.parameters_refused(&t1(0x95), SlotError::CmdNotSupported);
    script.reset(BOTH);
    script.pps(PPS_T1, PPS_T1);
    script.parameters_refused(&t1(0x11), SlotError::CmdNotSupported);
    script.reset(BOTH);
    assert!(matches!(
        script.completed(),
        Err(Error::Failed { error: SlotError::CmdNotSupported, .. })
    ));
    // A reader that sets its parameters by itself need not know the command.
    let mut script = Script::powered(TPDU | FROM_ATR, BOTH);
    script.set(Protocol::T1);
    script.pps(PPS_T1_95, PPS_T1);
    script.parameters_refused(&t1(0x11), SlotError::CmdNotSupported);
    script.done();
}

/// A reader that refuses bProtocolNum does not speak the protocol, whatever else it declares.
#[test]
fn a_refused_protocol_is_an_error() {
    let mut script = Script::powered(TPDU | AUTO_PPS | FROM_ATR, BOTH);
    script.set(Protocol::T1);
    script.parameters_refused(&t1(0x95), SlotError::Unknown(7));
    script.parameters_refused(&t1(0x11), SlotError::Unknown(7));
    script.reset(BOTH);
    let completed = script.completed();
    assert!(
        matches!(completed, Err(Error::Failed { error: SlotError::Unknown(7), .. })),
        "{completed:?}"
    );
    script.quiet();
}

/// Where the reader does the PPS, a failure may have left the card anywhere.
#[test]
fn parameters_that_fail_otherwise_end_with_a_reset() {
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    script.parameters_refused(&t0(0x95), SlotError::IccMute);
    script.reset(FAST);
    script.parameters(&t0(0x11), &t0(0x11));
    script.done();
    let mut script = Script::powered(TPDU | AUTO_PPS, FAST);
    script.set(Protocol::T0);
    for fi_di in [0x95, 0x11] {
        script.parameters_refused(&t0(fi_di), SlotError::HwError);
        script.reset(FAST);
    }
    assert!(matches!(script.completed(), Err(Error::Failed { error: SlotError::HwError, .. })));
    script.quiet();
}

/// bNadValue says what the options say; T=0 has none.
#[test]
fn node_addresses_are_told() {
    let options = Options { nad: Nad::from_byte(0x21), ..Options::default() };
    for (atr, protocol, data) in [
        (PLAIN, Protocol::T0, &t0(0x11)[..]),
        (T1, Protocol::T1, &[0x11, 0x10, 0, 0x45, 0, 0x80, 0x21]),
    ] {
        let mut script = Script::opened(class(TPDU), "", options);
        script.meet_card();
        script.power(PowerSelect::V5, atr);
        script.set(protocol);
        script.parameters(data, data);
        script.done();
    }
}

#[test]
fn rates_can_be_set_by_hand() {
    let mut script = Script::powered(TPDU, PLAIN);
    script.start(Operation::SetRates { clock_frequency: 4000, data_rate: 115_200 });
    let command =
        Command::SetDataRateAndClockFrequency { clock_frequency: 4000, data_rate: 115_200 };
    let (_, seq) = script.sent(command);
    let status = Status::success(IccStatus::PresentActive);
    let (clock_frequency, data_rate) = (3900, 104_832);
    let response = Response::DataRateAndClockFrequency { status, clock_frequency, data_rate };
    script.answer(SLOT, seq, response);
    assert_eq!(script.completed(), Ok(Output::Rates { clock_frequency, data_rate }));
}
