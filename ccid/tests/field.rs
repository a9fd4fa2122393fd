//! What readers in the field were seen to send.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod script;

use bytes::Bytes;
use ccid::error::Breach;
use ccid::pin::{Format, PinEntry, Verification};
use ccid::reassembly::Reassembler;
use ccid::wire::{Command, IccStatus, LevelParameter, PowerSelect, Seq, SlotError, Status};
use ccid::{Error, Event, Operation, Output};
use script::{EXTENDED, SLOT, Script, TPDU, class};
use std::time::Duration;

fn xfr(script: &mut Script) -> Seq {
    script.exchange().1
}

/// ACR122U: bError is 81h though bmCommandStatus says success.
#[test]
fn acr122u_success_with_an_error_byte() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let seq = xfr(&mut script);
    let answer = [0x80, 2, 0, 0, 0, 0, seq.0, 0x00, 0x81, 0, 0x90, 0x00];
    script.reader.handle_message(&answer, script.now);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0x90, 0x00]))));
}

/// Identiv 3700F: GetSlotStatus fails (42h, FEh) just because no card is there.
#[test]
fn identiv_3700f_status_that_fails_without_a_card() {
    let mut script = Script::new(class(1, EXTENDED, 271));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    let answer = [0x81, 0, 0, 0, 0, 0, seq.0, 0x42, 0xFE, 0];
    script.reader.handle_message(&answer, script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    script.start(Operation::Status);
    let (_, seq) = script.sent(Command::GetSlotStatus);
    let answer = [0x81, 0, 0, 0, 0, 0, seq.0, 0x42, 0xFE, 0];
    script.reader.handle_message(&answer, script.now);
    assert_eq!(script.completed(), Ok(Output::Status(IccStatus::NotPresent)));
}

/// ACR33U: bytes stand behind dwLength.
#[test]
fn acr33u_bytes_behind_dw_length() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let seq = xfr(&mut script);
    let transfer = [0x80, 2, 0, 0, 0, 0, seq.0, 0, 0, 0, 0x90, 0x00, 0xDE, 0xAD, 0xBE];
    let message = Reassembler::new(300).push(&transfer, false).unwrap().unwrap();
    script.reader.handle_message(&message, script.now);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0x90, 0x00]))));
}

/// YubiKey 4 after hibernation: XfrBlock is answered by RDR_to_PC_SlotStatus with FCh.
#[test]
fn yubikey_4_slot_status_for_an_exchange() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let seq = xfr(&mut script);
    let answer = [0x81, 0, 0, 0, 0, 0, seq.0, 0x40, 0xFC, 0];
    script.reader.handle_message(&answer, script.now);
    assert!(matches!(script.completed(), Err(Error::Failed { error: SlotError::XfrOverrun, .. })));
}

/// A data block that reports success and has not even SW1 SW2.
#[test]
fn an_empty_data_block_is_no_answer() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let seq = xfr(&mut script);
    let answer = [0x80, 0, 0, 0, 0, 0, seq.0, 0x00, 0x00, 0];
    script.reader.handle_message(&answer, script.now);
    let error = script.completed();
    assert!(
        matches!(error, Err(Error::Misbehaved { breach: Breach::NoStatusWord, .. })),
        "{error:?}"
    );
    // The slot is not lost.
    xfr(&mut script);
}

/// PIN pads: EFh when the user cancels, F0h when he is too slow, as RDR_to_PC_DataBlock; to the
/// caller they are SW 6401 and 6400.
#[test]
fn a_pin_that_is_not_entered() {
    for (code, error) in [(0xEF, SlotError::PinCancelled), (0xF0, SlotError::PinTimeout)] {
        let mut script = Script::powered(class(1, EXTENDED, 271));
        let format =
            Format { time_out: 30, format_string: 0x82, pin_block_string: 0, pin_length_format: 0 };
        let entry = PinEntry::verification(&Verification {
            format,
            pin_max_extra_digit: 0x0408,
            entry_validation_condition: 2,
            number_message: 1,
            lang_id: 0x0409,
            msg_index: 0,
            teo_prologue: [0; 3],
            apdu: &[0, 0x20, 0, 0x81],
        });
        let data = entry.data().clone();
        script.start(Operation::Secure { entry, timeout: Duration::from_secs(40) });
        let level_parameter = LevelParameter::WHOLE;
        let (_, seq) = script.sent(Command::Secure { bwi: 0, level_parameter, data: &data });
        let answer = [0x80, 0, 0, 0, 0, 0, seq.0, 0x40, code, 0];
        script.reader.handle_message(&answer, script.now);
        let ended = script.completed();
        assert!(
            matches!(ended, Err(Error::Failed { error: told, .. }) if told == error),
            "{ended:?}"
        );
        // The card knows nothing of it.
        xfr(&mut script);
    }
}

/// IccPowerOff is never answered when the card goes meanwhile; later the request's own type comes
/// back as if it were an answer.
#[test]
fn power_off_that_is_never_answered_as_the_card_goes() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.start(Operation::PowerOff);
    let (_, seq) = script.sent(Command::IccPowerOff);
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.completed(), Err(Error::NoCard));
    let echo = [0x63, 0, 0, 0, 0, 0, seq.0, 0, 0, 0];
    script.reader.handle_message(&echo, script.now);
    // The slot has the last word, and then the next card works.
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::failed(IccStatus::NotPresent, SlotError::IccMute));
    script.quiet();
    script.reader.handle_interrupt(&[0x50, 0x03], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: true }));
}

/// The same without the late answer: the transfers are recovered.
#[test]
fn power_off_that_is_never_answered_at_all() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.start(Operation::PowerOff);
    script.sent(Command::IccPowerOff);
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    script.event();
    assert_eq!(script.completed(), Err(Error::NoCard));
    script.timeout();
    assert_eq!(script.reader.poll_transmit(), Some(ccid::Transmit::Recover));
    script.reader.handle_recovered(script.now);
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::NotPresent));
}

/// NotifySlotChange says that a card came; GetSlotStatus says that there is none.
#[test]
fn a_notification_that_the_slot_contradicts() {
    let mut script = Script::new(class(1, TPDU, 271));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::NotPresent));
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    script.quiet();
    script.reader.handle_interrupt(&[0x50, 0x03], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: true }));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::NotPresent));
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    script.quiet();
}

/// QEMU's reader answers SetParameters and GetParameters with dwLength 0 and seven bytes behind it.
#[test]
fn qemu_parameters_behind_dw_length() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.start(Operation::GetParameters);
    let (_, seq) = script.sent(Command::GetParameters);
    let transfer = [0x82, 0, 0, 0, 0, 0, seq.0, 0, 0, 0, 0x11, 0, 0, 0x0A, 0, 0, 0];
    let message = Reassembler::new(300).push(&transfer, false).unwrap().unwrap();
    script.reader.handle_message(&message, script.now);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0]))));
}

/// A reader that asks for time while it powers the card up.
#[test]
fn power_up_with_time_extensions() {
    let mut script = Script::new(class(1, TPDU, 271));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
    script.event();
    script.start(Operation::PowerOn(ccid::operation::PowerUp::Warm));
    let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
    for _ in 0..3 {
        script.now = script.reader.poll_deadline().unwrap();
        let extension = [0x80, 0, 0, 0, 0, 0, seq.0, 0x80, 1, 0];
        script.reader.handle_message(&extension, script.now);
        script.quiet();
    }
    script.data(seq, &script::ATR);
    assert!(matches!(script.completed(), Ok(Output::Atr(_))));
}
