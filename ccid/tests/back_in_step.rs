//! A reader that waits for the other half of an Abort, or is at something that the host does not
//! know of: it is aborted anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod script;

use ccid::operation::PowerUp;
use ccid::wire::{Command, IccStatus, PowerSelect, Slot, SlotError, Status};
use ccid::{Error, Event, Operation, Transmit};
use script::{EXTENDED, SLOT, Script, class};

fn refused(error: SlotError) -> Status {
    Status::failed(IccStatus::PresentActive, error)
}

/// An exchange whose transfer failed; GetSlotStatus asks how the slot stands.
fn recovered(script: &mut Script) -> (Slot, ccid::Seq) {
    script.exchange();
    script.reader.handle_transfer_error(script.now);
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Transfer));
    assert_eq!(script.reader.poll_transmit(), Some(Transmit::Recover));
    script.reader.handle_recovered(script.now);
    script.sent(Command::GetSlotStatus)
}

#[test]
fn both_halves_of_an_abort_free_the_slot() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let (slot, seq) = recovered(&mut script);
    script.status(slot, seq, refused(SlotError::CmdAborted));
    let seq = script.abort_sent();
    script.status(slot, seq, Status::success(IccStatus::PresentActive));
    script.sent(Command::IccPowerOff);
}

#[test]
fn a_reader_that_refuses_for_ever_is_given_up() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let (slot, mut seq) = recovered(&mut script);
    for n in 0..3 {
        if n > 0 {
            (_, seq) = script.sent(Command::GetSlotStatus);
        }
        script.status(slot, seq, refused(SlotError::CmdAborted));
        seq = script.abort_sent();
        script.status(slot, seq, refused(SlotError::CmdNotSupported));
    }
    assert_eq!(script.event(), Some(Event::Unresponsive));
}

/// Nothing that a power-up could wait for would come: the Abort goes out at once.
#[test]
fn a_power_up_that_is_refused_as_aborted() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    script.start(Operation::PowerOn(PowerUp::Warm));
    let (slot, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
    script.failed(seq, IccStatus::PresentActive, SlotError::CmdAborted);
    let ended = std::iter::from_fn(|| script.event()).find_map(|event| match event {
        Event::Completed { result, .. } => Some(result),
        _ => None,
    });
    assert!(matches!(ended, Some(Err(Error::Failed { error: SlotError::CmdAborted, .. }))));
    let seq = script.abort_sent();
    script.status(slot, seq, Status::success(IccStatus::PresentActive));
}

/// The reader calls the slot busy for longer than anything that the host knows of can take, and
/// still does after the Abort: the slot is left as it is, and tried again by the next command.
#[test]
fn a_slot_that_is_busy_with_nothing_known() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    script.start(Operation::PowerOn(PowerUp::Warm));
    let command = Command::IccPowerOn { power_select: PowerSelect::Automatic };
    let mut tries = 0;
    let seq = loop {
        let (_, seq) = script.sent(command);
        script.failed(seq, IccStatus::PresentActive, SlotError::CmdSlotBusy);
        tries += 1;
        assert!(tries < 100);
        let ended = std::iter::from_fn(|| script.event())
            .any(|event| matches!(event, Event::Completed { result: Err(_), .. }));
        if ended {
            break script.abort_sent();
        }
        script.timeout();
    };
    script.status(SLOT, seq, refused(SlotError::CmdNotSupported));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, refused(SlotError::CmdSlotBusy));
    script.start(Operation::PowerOff);
    script.sent(Command::IccPowerOff);
}
