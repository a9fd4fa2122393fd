//! The reader by script: the rules of messages, slots and Abort.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod script;

use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::operation::PowerUp;
use ccid::wire::{
    ChainParameter, Command, IccStatus, LevelParameter, PowerSelect, Response, Seq, Slot,
    SlotError, Status,
};
use ccid::{Error, Event, Operation, Output, Transmit};
use script::{ATR, EXTENDED, SLOT, Script, TPDU, class};
use std::time::Duration;

#[test]
fn power_up_and_exchange() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    script.data(seq, &[1, 2, 0x90, 0]);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[1, 2, 0x90, 0]))));
    script.quiet();
    assert_eq!(script.reader.poll_deadline(), None, "nothing to wait for at rest");
}

#[test]
fn an_answer_with_another_seq_or_slot_is_dropped() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    script.data(Seq(seq.0.wrapping_sub(1)), &[0xAA, 0x90, 0]);
    script.quiet();
    let status = Status::success(IccStatus::PresentActive);
    let response = Response::DataBlock { status, chain: ChainParameter::Whole, data: &[0x90, 0] };
    script.answer(Slot(1), seq, response);
    script.answer(Slot(255), seq, response);
    script.quiet();
    script.data(seq, &[0x90, 0]);
    assert!(script.completed().is_ok());
}

#[test]
fn a_wrong_type_is_the_readers_fault() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    script.status(SLOT, seq, Status::success(IccStatus::PresentActive));
    assert!(matches!(script.completed(), Err(Error::Misbehaved { .. })));
    // The same type with a failure is one (YubiKey 4 after hibernation: FCh).
    let (_, seq) = script.exchange();
    script.status(SLOT, seq, Status::failed(IccStatus::PresentActive, SlotError::XfrOverrun));
    assert!(matches!(script.completed(), Err(Error::Failed { error: SlotError::XfrOverrun, .. })));
}

/// usbd-ccid 0.5.0 answers what it does not know, and what it aborts, by a message of type 6Ch.
#[test]
fn a_failure_of_a_foreign_type_is_a_failure() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    let failed = [0x6C, 0, 0, 0, 0, 0, seq.0, 0x40, 0xFD, 0];
    script.reader.handle_message(&failed, script.now);
    assert!(matches!(
        script.completed(),
        Err(Error::Failed { error: SlotError::XfrParityError, .. })
    ));
    let (_, seq) = script.exchange();
    let success = [0x6C, 0, 0, 0, 0, 0, seq.0, 0, 0, 0];
    script.reader.handle_message(&success, script.now);
    assert!(matches!(script.completed(), Err(Error::Misbehaved { .. })));
}

/// CMD_SLOT_BUSY: the command is sent again until the slot is free.
#[test]
fn a_busy_slot_is_tried_again() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, first) = script.exchange();
    script.failed(first, IccStatus::PresentActive, SlotError::CmdSlotBusy);
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_millis(200));
    let data = &[0, 0xB0, 0, 0, 0];
    let level_parameter = LevelParameter::WHOLE;
    let (_, seq) = script.sent(Command::XfrBlock { bwi: 0, level_parameter, data });
    assert_ne!(first, seq);
    script.data(seq, &[0x90, 0]);
    assert!(script.completed().is_ok());
}

#[test]
fn success_without_a_status_word_is_no_answer() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    script.data(seq, &[]);
    assert!(matches!(script.completed(), Err(Error::Misbehaved { .. })));
}

#[test]
fn time_extensions_renew_the_deadline_up_to_the_limit() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    let began = script.now;
    loop {
        let deadline = script.reader.poll_deadline().unwrap();
        if deadline - began >= Duration::from_secs(300) {
            break;
        }
        script.now = deadline;
        let status = Status::from_bytes(0x80, 2);
        let chain = ChainParameter::Whole;
        script.answer(SLOT, seq, Response::DataBlock { status, chain, data: &[] });
        script.quiet();
    }
    script.timeout();
    let abort = script.abort_sent();
    script.failed(seq, IccStatus::PresentActive, SlotError::CmdAborted);
    script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert!(matches!(script.completed(), Err(Error::Timeout(sent)) if sent.seq == seq));
}

/// CCID 1.1 §5.3.1, with the answers in either order.
#[test]
fn cancel_by_the_abort_sequence() {
    for aborted_first in [true, false] {
        let mut script = Script::powered(class(1, TPDU, 271));
        let (id, seq) = script.exchange();
        script.reader.cancel(id, script.now);
        let abort = script.abort_sent();
        assert_ne!(abort, seq);
        if aborted_first {
            script.failed(seq, IccStatus::PresentActive, SlotError::CmdAborted);
            script.quiet();
        }
        script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
        assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
        assert_eq!(script.completed(), Err(Error::Cancelled));
        // The card is brought back.
        let (_, off) = script.sent(Command::IccPowerOff);
        if !aborted_first {
            script.data(seq, &[0xBA, 0xD0]);
        }
        script.status(SLOT, off, Status::success(IccStatus::PresentInactive));
        let (_, on) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
        script.data(on, &ATR);
        assert_eq!(
            script.event(),
            Some(Event::CardReset { slot: SLOT, result: Ok(ccid::Atr::new(&ATR)) })
        );
        if !aborted_first {
            // The aborted command was not answered: is the next one?
            let level_parameter = LevelParameter::WHOLE;
            let data = &[0x00, 0xC0, 0x00, 0x00, 0x00];
            let (_, probe) = script.sent(Command::XfrBlock { bwi: 0, level_parameter, data });
            script.data(probe, &[0x69, 0x85]);
        }
        let (_, seq) = script.exchange();
        script.data(seq, &[0x90, 0]);
        assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0x90, 0]))));
    }
}

/// usbd-ccid 0.5.0: the first exchange after an Abort is dropped without an answer.
#[test]
fn the_probe_after_an_abort_takes_the_drop() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (id, _) = script.exchange();
    script.reader.cancel(id, script.now);
    let abort = script.abort_sent();
    script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    for probed in [false, true] {
        let (_, off) = script.sent(Command::IccPowerOff);
        script.status(SLOT, off, Status::success(IccStatus::PresentInactive));
        let (_, on) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
        script.data(on, &ATR);
        assert!(matches!(script.event(), Some(Event::CardReset { result: Ok(_), .. })));
        if !probed {
            let level_parameter = LevelParameter::WHOLE;
            let data = &[0x00, 0xC0, 0x00, 0x00, 0x00];
            script.sent(Command::XfrBlock { bwi: 0, level_parameter, data });
            assert_eq!(script.timeout(), Duration::from_secs(1));
            let abort = script.abort_sent();
            script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
        }
    }
    let (_, seq) = script.exchange();
    script.data(seq, &[0x90, 0]);
    assert!(script.completed().is_ok());
    script.quiet();
}

#[test]
fn an_answer_that_beats_the_abort_is_delivered() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (id, seq) = script.exchange();
    script.reader.cancel(id, script.now);
    let abort = script.abort_sent();
    script.data(seq, &[0x90, 0]);
    script.quiet();
    script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0x90, 0]))));
    script.quiet();
}

/// QEMU's reader: ABORT stalls, PC_to_RDR_Abort is refused, the command is never answered.
#[test]
fn a_refused_abort_ends_by_recovery() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (id, _) = script.exchange();
    let (queued, _) = (script.start(Operation::Status), ());
    script.reader.cancel(id, script.now);
    let abort = script.abort_sent();
    let refused = Status::failed(IccStatus::PresentActive, SlotError::CmdNotSupported);
    script.status(SLOT, abort, refused);
    script.quiet();
    assert_eq!(script.timeout(), Duration::from_secs(1));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert_eq!(script.reader.poll_transmit(), Some(Transmit::Recover));
    script.quiet();
    script.reader.handle_recovered(script.now);
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::PresentActive));
    let (_, off) = script.sent(Command::IccPowerOff);
    script.status(SLOT, off, Status::success(IccStatus::PresentInactive));
    let (_, on) = script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
    script.data(on, &ATR);
    assert!(matches!(script.event(), Some(Event::CardReset { result: Ok(_), .. })));
    // What waited gets its turn.
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::PresentActive));
    assert_eq!(
        script.event(),
        Some(Event::Completed {
            id: queued,
            slot: SLOT,
            result: Ok(Output::Status(IccStatus::PresentActive))
        })
    );
}

#[test]
fn a_refused_abort_of_an_answered_command_is_over_at_once() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (id, seq) = script.exchange();
    script.reader.cancel(id, script.now);
    let abort = script.abort_sent();
    script.data(seq, &[0x90, 0]);
    let refused = Status::failed(IccStatus::PresentActive, SlotError::CmdNotSupported);
    script.status(SLOT, abort, refused);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[0x90, 0]))));
    script.quiet();
}

#[test]
fn a_reader_that_answers_nothing_is_given_up() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (id, _) = script.exchange();
    script.start(Operation::Status);
    script.reader.cancel(id, script.now);
    script.abort_sent();
    script.timeout();
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
    assert_eq!(script.reader.poll_transmit(), Some(Transmit::Recover));
    script.reader.handle_recovered(script.now);
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(script.sent(Command::GetSlotStatus).1);
        script.timeout();
    }
    seqs.dedup();
    assert_eq!(seqs.len(), 3, "a fresh bSeq each");
    assert_eq!(script.completed(), Err(Error::Unresponsive));
    assert_eq!(script.event(), Some(Event::Unresponsive));
    script.quiet();
    script.start(Operation::Status);
    assert_eq!(script.completed(), Err(Error::Unresponsive));
}

#[test]
fn cancel_of_what_waits_sends_nothing() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    let waiting = script.start(Operation::Exchange(Bytes::from_static(&[0, 0xB0, 0, 1, 0])));
    script.reader.cancel(waiting, script.now);
    assert_eq!(script.completed(), Err(Error::Cancelled));
    script.reader.cancel(waiting, script.now);
    script.quiet();
    script.data(seq, &[0x90, 0]);
    assert!(script.completed().is_ok());
    script.quiet();
}

#[test]
fn a_card_taken_out_ends_its_command_at_once() {
    let mut script = Script::powered(class(1, TPDU, 271));
    let (_, seq) = script.exchange();
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.completed(), Err(Error::NoCard));
    // The late answer is waited for, then the slot looked at.
    script.quiet();
    script.failed(seq, IccStatus::NotPresent, SlotError::IccMute);
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::failed(IccStatus::NotPresent, SlotError::IccMute));
    script.quiet();
}

/// QEMU's reader never answers it.
#[test]
fn the_command_of_a_removed_card_is_aborted_if_not_answered() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.exchange();
    script.reader.handle_interrupt(&[0x50, 0x02], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.completed(), Err(Error::NoCard));
    assert_eq!(script.timeout(), Duration::from_millis(300));
    let abort = script.abort_sent();
    script.status(SLOT, abort, Status::success(IccStatus::NotPresent));
    script.sent(Command::GetSlotStatus);
}

#[test]
fn out_and_in_between_two_messages_is_seen() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.reader.handle_interrupt(&[0x50, 0x03], script.now);
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: false }));
    assert_eq!(script.event(), Some(Event::Presence { slot: SLOT, present: true }));
}

#[test]
fn a_chain_both_ways() {
    let mut script = Script::powered(class(1, EXTENDED, 110));
    let command: Vec<u8> = (0..250).map(|n| n as u8).collect();
    script.start(Operation::Exchange(Bytes::from(command.clone())));
    let parts = [
        (LevelParameter::BEGIN, &command[..100]),
        (LevelParameter::CONTINUE, &command[100..200]),
        (LevelParameter::END, &command[200..]),
    ];
    let mut seq = Seq(0);
    for (n, (level_parameter, data)) in parts.into_iter().enumerate() {
        if n > 0 {
            script.chained(seq, ChainParameter::NextCommandPart, &[]);
        }
        seq = script.sent(Command::XfrBlock { bwi: 0, level_parameter, data }).1;
    }
    script.chained(seq, ChainParameter::Begin, &[1, 2]);
    let next =
        Command::XfrBlock { bwi: 0, level_parameter: LevelParameter::CONTINUE_RESPONSE, data: &[] };
    let (_, seq) = script.sent(next);
    script.chained(seq, ChainParameter::Continue, &[3]);
    let (_, seq) = script.sent(next);
    script.chained(seq, ChainParameter::End, &[4, 0x90, 0]);
    assert_eq!(script.completed(), Ok(Output::Data(Bytes::from_static(&[1, 2, 3, 4, 0x90, 0]))));
}

#[test]
fn a_chain_of_empty_parts_does_not_go_on_for_ever() {
    let mut script = Script::powered(class(1, EXTENDED, 271));
    let (_, seq) = script.exchange();
    script.chained(seq, ChainParameter::Begin, &[]);
    assert!(matches!(script.completed(), Err(Error::Misbehaved { .. })));
}

#[test]
fn slots_run_side_by_side_and_only_the_right_one_is_aborted() {
    let mut script = Script::powered(class(3, EXTENDED, 271));
    let (id, seq) = script.exchange();
    let other = script.reader.start(Slot(2), Operation::PowerOn(PowerUp::Warm), None, script.now);
    let (slot, other_seq) =
        script.sent(Command::IccPowerOn { power_select: PowerSelect::Automatic });
    assert_eq!(slot, Slot(2));
    assert_ne!(seq, other_seq);
    script.reader.cancel(id, script.now);
    let abort = script.abort_sent();
    let status = Status::success(IccStatus::PresentActive);
    let response = Response::DataBlock { status, chain: ChainParameter::Whole, data: &ATR };
    script.answer(Slot(2), other_seq, response);
    let completed = script.event();
    assert!(
        matches!(completed, Some(Event::Completed { id, result: Ok(_), .. }) if id == other),
        "{completed:?}"
    );
    script.status(SLOT, abort, Status::success(IccStatus::PresentActive));
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Cancelled));
}

#[test]
fn transfer_errors_end_commands_and_are_bounded() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.exchange();
    script.reader.handle_transfer_error(script.now);
    assert_eq!(script.event(), Some(Event::CardLost { slot: SLOT, reset_follows: true }));
    assert_eq!(script.completed(), Err(Error::Transfer));
    let mut recoveries = 0;
    while let Some(transmit) = script.reader.poll_transmit() {
        if transmit == Transmit::Recover {
            recoveries += 1;
            assert!(recoveries < 20, "for ever");
            script.reader.handle_recovered(script.now);
        }
        script.reader.handle_transfer_error(script.now);
    }
    assert_eq!(script.event(), Some(Event::Unresponsive));
}

#[test]
fn the_voltages_are_tried_in_turn_with_the_power_off_between() {
    let mut script = Script::new(class(1, 0x0001_0000, 271));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
    script.event();
    script.start(Operation::PowerOn(PowerUp::Warm));
    for (n, power_select) in
        [PowerSelect::V5, PowerSelect::V3, PowerSelect::V1_8].into_iter().enumerate()
    {
        if n > 0 {
            let (_, seq) = script.sent(Command::IccPowerOff);
            script.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
        }
        let (_, seq) = script.sent(Command::IccPowerOn { power_select });
        script.failed(seq, IccStatus::PresentInactive, SlotError::IccMute);
    }
    assert_eq!(script.completed(), Err(Error::CardMute));
}

#[test]
fn parameters_are_set_where_the_reader_leaves_them_to_the_host() {
    let mut script = Script::new(class(1, 0x0002_0000, 271));
    let (_, seq) = script.sent(Command::GetSlotStatus);
    script.status(SLOT, seq, Status::success(IccStatus::PresentInactive));
    script.event();
    script.start(Operation::PowerOn(PowerUp::Warm));
    let (_, seq) = script.sent(Command::IccPowerOn { power_select: PowerSelect::V5 });
    script.data(seq, &ATR);
    script.completed().unwrap();
    script.start(Operation::SetProtocol(Protocol::T0));
    let data = &[0x11, 0, 0, 10, 0];
    let (_, seq) = script.sent(Command::SetParameters { protocol_num: 0, data });
    let status = Status::success(IccStatus::PresentActive);
    script.answer(SLOT, seq, Response::Parameters { status, protocol_num: 0, data });
    assert_eq!(script.completed(), Ok(Output::Done));
    script.start(Operation::SetProtocol(Protocol::T1));
    assert!(matches!(script.completed(), Err(Error::Unsupported(_))));
}

#[test]
fn gone_ends_everything() {
    let mut script = Script::powered(class(1, TPDU, 271));
    script.exchange();
    script.start(Operation::Status);
    script.reader.handle_gone(&Error::Disconnected);
    assert_eq!(script.completed(), Err(Error::Disconnected));
    assert_eq!(script.completed(), Err(Error::Disconnected));
    assert_eq!(script.reader.poll_deadline(), None);
    script.quiet();
}
