//! Replaying what another driver recorded: messages are found by command, slot and data, and
//! sequence numbers are made those of this host.

use super::{is_hosts, same};
use crate::trace::mask::Masker;
use crate::trace::{Event, What};
use bytes::Bytes;
use ccid::reassembly::Reassembler;
use ccid::wire::{
    ChainParameter, ClockStatus, Command, IccStatus, MAX_DATA_LEN, Message, Response, Seq, Slot,
    SlotError, Status,
};
use std::collections::{BTreeMap, VecDeque};

const POWER_ON: u8 = 0x62;
const XFR_BLOCK: u8 = 0x6F;
const SECURE: u8 = 0x69;
const ESCAPE: u8 = 0x6B;

/// What has been matched, and what is known of the slots.
#[derive(Debug, Default)]
pub(super) struct Lenient {
    /// Sequence numbers by slot: that of the recording, and the host's.
    seqs: BTreeMap<(u8, u8), u8>,
    /// The cards' states as last heard.
    cards: BTreeMap<u8, IccStatus>,
}

/// What became of a message of the host's.
pub(super) enum Found {
    /// It is in the recording; so many others of the host's before it were passed over.
    There { passed: usize, time: std::time::Duration },
    /// It is not, and this is the answer all the same.
    Answered(Bytes),
    /// It is not.
    Missing,
}

/// Puts messages together that went or came in several transfers.
pub(super) fn whole(events: Vec<Event>, packet: usize) -> Vec<Event> {
    let mut incoming = Reassembler::new(MAX_DATA_LEN);
    let mut outgoing = Reassembler::new(MAX_DATA_LEN);
    let full = |bytes: &Bytes| !bytes.is_empty() && bytes.len() % packet.max(1) == 0;
    let join = |event: Event| {
        let what = match &event.what {
            What::In(bytes) => What::In(incoming.push(bytes, full(bytes)).ok().flatten()?),
            // ACS's driver gives some readers packets as transfers of their own.
            What::Out(bytes) => What::Out(outgoing.push(bytes, full(bytes)).ok().flatten()?),
            _ => return Some(event),
        };
        Some(Event { what, ..event })
    };
    events.into_iter().filter_map(join).collect()
}

impl Lenient {
    /// Looks for `sent`, and takes it and what was passed over out of `events`.
    pub(super) fn find(
        &mut self,
        sent: &Bytes,
        events: &mut VecDeque<Event>,
        masker: &mut Masker,
    ) -> Found {
        let Ok(message) = Message::parse(sent) else { return Found::Missing };
        let masked = masker.message(sent);
        let Some(at) = position(&message, masked.as_deref(), events) else {
            return self.answer(&message);
        };
        let mut found = None;
        let mut passed = 0;
        let mut index = 0;
        events.retain(|event| {
            index += 1;
            let Some((slot, seq)) = whose(&event.what) else { return true };
            if index - 1 == at {
                found = Some((seq, event.time));
                return false;
            }
            let skipped = index - 1 < at && slot == message.slot.0;
            // An answer that is still owed stays.
            let owed = matches!(event.what, What::In(_)) && self.seqs.contains_key(&(slot, seq));
            passed += usize::from(skipped && is_hosts(&event.what));
            !skipped || owed
        });
        match found {
            Some((seq, time)) => {
                self.seqs.insert((message.slot.0, seq), message.seq.0);
                Found::There { passed, time }
            }
            None => Found::Missing,
        }
    }

    /// What a reader would answer to a command that the other driver did not send; only where that
    /// makes no difference to what follows.
    fn answer(&self, message: &Message<'_>) -> Found {
        let Ok(command) = Command::parse(message) else { return Found::Missing };
        let icc = self.cards.get(&message.slot.0).copied().unwrap_or(IccStatus::PresentInactive);
        let clock_status = ClockStatus::Running;
        let response = match command {
            Command::GetSlotStatus | Command::Abort => {
                Response::SlotStatus { status: Status::success(icc), clock_status }
            }
            Command::IccPowerOff => {
                let status = Status::success(IccStatus::PresentInactive);
                Response::SlotStatus { status, clock_status }
            }
            Command::SetParameters { protocol_num, data } => {
                Response::Parameters { status: Status::success(icc), protocol_num, data }
            }
            Command::GetParameters | Command::ResetParameters | Command::Escape { .. } => {
                let status = Status::failed(icc, SlotError::CmdNotSupported);
                Response::DataBlock { status, chain: ChainParameter::Whole, data: &[] }
            }
            _ => return Found::Missing,
        };
        Found::Answered(response.emit(message.slot, message.seq))
    }

    /// The place of the next thing that the device sends by now: an answer to what was matched, or
    /// what the interrupt pipe brings before anything that matters that the host still has to send.
    pub(super) fn next(&self, events: &VecDeque<Event>) -> Option<usize> {
        let mut waits = false;
        events.iter().position(|event| {
            waits |= match &event.what {
                What::Out(bytes) => bytes.first().is_some_and(|kind| matters(*kind)),
                _ => false,
            };
            match &event.what {
                What::Interrupt(_) => !waits,
                What::In(_) => {
                    whose(&event.what).is_some_and(|whose| self.seqs.contains_key(&whose))
                }
                _ => false,
            }
        })
    }

    /// Passes over what the other driver asked for before the event at `at`, which comes now:
    /// what it heard is no longer so. Gives how much of it the host sent, and where the event is.
    pub(super) fn pass(&self, events: &mut VecDeque<Event>, at: usize) -> (usize, usize) {
        let (mut index, mut passed, mut left) = (0, 0, 0);
        events.retain(|event| {
            index += 1;
            let before = index <= at;
            let owed = |whose| self.seqs.contains_key(&whose);
            let keep = match &event.what {
                What::Out(_) | What::Control { .. } => !before,
                What::In(_) => !before || whose(&event.what).is_some_and(owed),
                What::Interrupt(_) => true,
            };
            passed += usize::from(!keep && is_hosts(&event.what));
            left += usize::from(before && keep);
            keep
        });
        (passed, left)
    }

    /// The answer with the host's sequence number.
    pub(super) fn rewrite(&mut self, answer: &Bytes) -> Bytes {
        let Ok(message) = Message::parse(answer) else { return answer.clone() };
        let key = (message.slot.0, message.seq.0);
        let Some(seq) = self.seqs.get(&key).copied() else { return answer.clone() };
        let [status, error, _] = message.specific;
        let status = Status::from_bytes(status, error);
        self.cards.insert(message.slot.0, status.icc);
        if status.command != ccid::wire::CommandStatus::TimeExtension {
            self.seqs.remove(&key);
        }
        Message { slot: Slot(key.0), seq: Seq(seq), ..message }.emit()
    }
}

/// What makes a difference to the card, and is looked for.
const fn matters(kind: u8) -> bool {
    matches!(kind, POWER_ON | XFR_BLOCK | SECURE | ESCAPE)
}

/// Slot and sequence number of a bulk message.
fn whose(what: &What) -> Option<(u8, u8)> {
    match what {
        What::Out(bytes) | What::In(bytes) => {
            Message::parse(bytes).ok().map(|message| (message.slot.0, message.seq.0))
        }
        _ => None,
    }
}

/// The same command; of case 1, with T=0's P3 or without.
fn same_exchange(recorded: &[u8], sent: &[u8]) -> bool {
    recorded == sent || without_p3(recorded) == without_p3(sent)
}

fn without_p3(command: &[u8]) -> &[u8] {
    match command {
        [header @ .., 0] if header.len() == 4 => header,
        other => other,
    }
}

/// Where the command is in the recording: the next one of its slot that does the same. One that
/// drivers send now and then is looked for no farther than what matters.
fn position(sent: &Message<'_>, masked: Option<&[u8]>, events: &VecDeque<Event>) -> Option<usize> {
    let masked = masked.and_then(|masked| Message::parse(masked).ok());
    for (at, event) in events.iter().enumerate() {
        let What::Out(bytes) = &event.what else { continue };
        let Ok(recorded) = Message::parse(bytes) else { continue };
        if recorded.slot != sent.slot {
            continue;
        }
        let like = |sent: &Message<'_>| {
            recorded.message_type == sent.message_type
                && match sent.message_type {
                    XFR_BLOCK => same_exchange(recorded.data, sent.data),
                    ESCAPE => recorded.data == sent.data,
                    _ => true,
                }
        };
        if like(sent) || masked.as_ref().is_some_and(like) {
            return Some(at);
        }
        if !matters(sent.message_type) && matters(recorded.message_type) {
            return None;
        }
    }
    None
}

/// The place of a request like this one.
pub(super) fn request(sent: &What, events: &VecDeque<Event>) -> Option<usize> {
    events
        .iter()
        .position(|event| matches!(event.what, What::Control { .. }) && same(&event.what, sent))
}
