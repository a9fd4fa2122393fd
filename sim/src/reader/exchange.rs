//! XfrBlock: exchanges with the card at the reader's level, and APDUs in parts
//! (CCID 1.1 §3.2, §6.1.4, §6.2.1).

use super::Reader;
use super::commands::{Answer, DW_LENGTH, Outcome, bad_field};
use super::config::Level;
use super::journal::Rule;
use super::line::{Arrival, Reading};
use super::slot::{CardWork, Contents, SlotState, Work};
use super::t0::T0Apdu;
use crate::card::Protocol;
use bytes::Bytes;
use ccid::wire::{ChainParameter, LevelParameter, MAX_DATA_LEN, SlotError};
use ccid::{Seq, Slot};

/// Offset of wLevelParameter.
const LEVEL_PARAMETER: u8 = 8;
/// The longest short APDU: header, Lc, 255 bytes, Le.
const MAX_SHORT_APDU: usize = 261;

/// What the card's answer is for.
pub(super) enum Task {
    /// It is the ATR.
    PowerOn,
    /// It is the answer to the host.
    Exchange,
    /// It is the answer to one TPDU of an APDU.
    T0(T0Apdu),
    /// It is a block of T=1, or the response to PPS.
    Block(Arrival),
    /// It is characters that the host reads.
    Characters(Reading),
}

/// An APDU in parts, at extended APDU level.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) enum Chain {
    #[default]
    Idle,
    /// So much of the command has come.
    Command(Vec<u8>),
    /// So much of the response is left to be fetched.
    Response(Bytes),
}

impl Reader {
    pub(super) fn xfr_block(
        &mut self,
        slot: Slot,
        seq: Seq,
        bwi: u8,
        level_parameter: LevelParameter,
        data: &[u8],
    ) -> Outcome {
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else {
            return self.status_of(slot, SlotError::BadSlot).into();
        };
        if !matches!(state.contents, Contents::Active(..)) {
            return state.failed(SlotError::IccMute).into();
        }
        if self.config.level == Level::Character {
            return self.characters(slot, seq, bwi, level_parameter, data);
        }
        let outcome = match (self.config.level, level_parameter) {
            (Level::ExtendedApdu, parameter) => chained(state, parameter, data),
            (_, LevelParameter::WHOLE) => Ok(Part::Command(data.to_vec())),
            _ => Err(LEVEL_PARAMETER),
        };
        match outcome {
            Ok(Part::Command(bytes)) if self.passes_on(slot, &bytes) => {
                self.block(slot, seq, bwi, &bytes)
            }
            Ok(Part::Command(apdu)) => self.exchange(slot, seq, &apdu),
            Ok(Part::Answer(answer)) => Outcome::Answer(answer),
            Ok(Part::NextOfResponse(rest)) => {
                Outcome::Answer(self.next_of_response(slot, rest, false))
            }
            Err(offset) => {
                let rule =
                    if offset == LEVEL_PARAMETER { Rule::LevelParameter } else { Rule::BadContent };
                self.violation(Some((slot, seq)), rule);
                self.status_of(slot, bad_field(offset)).into()
            }
        }
    }

    /// Begins the exchange of a TPDU or APDU.
    pub(super) fn exchange(&mut self, slot: Slot, seq: Seq, bytes: &[u8]) -> Outcome {
        let envelope = self.slot(slot).map(|state| state.settings);
        let Some(protocol) = self.slot(slot).and_then(SlotState::activated).map(|a| a.protocol)
        else {
            return self.status_of(slot, SlotError::IccMute).into();
        };
        let card = self.slot(slot).and_then(SlotState::card);
        let takes_apdus = card.is_some_and(|card| card.takes_apdus());
        let begun = match (self.config.level, protocol) {
            // An APDU, of a PIN entry, is no characters: the specification has no PIN entry at
            // character level. Blocks do not come here.
            (_, None) | (Level::Tpdu, Some(Protocol::T1)) | (Level::Character, _) => {
                return self.status_of(slot, SlotError::IccProtocolNotSupported).into();
            }
            (Level::Tpdu, Some(Protocol::T0)) => {
                if !self.is_agreed(slot, seq) {
                    return self.status_of(slot, SlotError::XfrParityError).into();
                }
                tpdu(bytes).map(|tpdu| (tpdu, Task::Exchange))
            }
            (Level::ShortApdu, _) if bytes.len() > MAX_SHORT_APDU => None,
            (_, Some(Protocol::T0)) if !takes_apdus => {
                T0Apdu::begin(bytes, envelope.unwrap_or_default())
                    .map(|(apdu, first)| (first, Task::T0(apdu)))
            }
            (_, Some(_)) => (bytes.len() >= 4).then(|| (bytes.to_vec(), Task::Exchange)),
        };
        match begun {
            Some((command, task)) => self.ask_card(slot, &command, task),
            None => {
                self.violation(Some((slot, seq)), Rule::BadContent);
                self.status_of(slot, bad_field(DW_LENGTH)).into()
            }
        }
    }

    /// Gives the card a command.
    pub(super) fn ask_card(&mut self, slot: Slot, command: &[u8], task: Task) -> Outcome {
        let (now, waiting_time) = (self.clock, self.config.waiting_time);
        match self.slot(slot).and_then(SlotState::card) {
            Some(card) => {
                let reaction = card.process(command);
                Outcome::Running(Work::Card(CardWork::new(reaction, task, now, waiting_time)))
            }
            None => self.status_of(slot, SlotError::IccMute).into(),
        }
    }

    /// The answer to an exchange that has come to its end.
    pub(super) fn exchanged(&mut self, slot: Slot, response: Bytes) -> Answer {
        if response.len() < 2 {
            return self.status_of(slot, SlotError::IccMute).into();
        }
        match self.config.level {
            Level::ExtendedApdu => self.next_of_response(slot, response, true),
            _ if response.len() > self.config.max_data() => {
                self.status_of(slot, SlotError::XfrOverrun).into()
            }
            _ => self.data_block(slot, ChainParameter::Whole, response),
        }
    }

    /// As much of a response as a message holds; what is left waits.
    fn next_of_response(&mut self, slot: Slot, mut rest: Bytes, first: bool) -> Answer {
        let room = self.config.max_data().max(1);
        if rest.len() <= room {
            let chain = if first { ChainParameter::Whole } else { ChainParameter::End };
            return self.data_block(slot, chain, rest);
        }
        let part = rest.split_to(room);
        if let Some(state) = self.slot(slot) {
            state.chain = Chain::Response(rest);
        }
        let chain = if first { ChainParameter::Begin } else { ChainParameter::Continue };
        self.data_block(slot, chain, part)
    }

    pub(super) fn data_block(&mut self, slot: Slot, chain: ChainParameter, data: Bytes) -> Answer {
        match self.slot(slot) {
            Some(state) => Answer::new(state.success(), chain.into(), data),
            None => self.status_of(slot, SlotError::BadSlot).into(),
        }
    }
}

/// What a message with a wLevelParameter is at extended APDU level.
enum Part {
    /// The command is complete.
    Command(Vec<u8>),
    /// The next part of the response is asked for: what is left of it.
    NextOfResponse(Bytes),
    /// More is to come.
    Answer(Answer),
}

/// Err: the offset of the bad field.
fn chained(state: &mut SlotState, parameter: LevelParameter, data: &[u8]) -> Result<Part, u8> {
    let next_part =
        Answer::new(state.success(), ChainParameter::NextCommandPart.into(), Bytes::new());
    match (std::mem::take(&mut state.chain), parameter) {
        // A new command ends what was left of the response before it.
        (Chain::Idle | Chain::Response(_), LevelParameter::WHOLE) => {
            Ok(Part::Command(data.to_vec()))
        }
        (Chain::Idle | Chain::Response(_), LevelParameter::BEGIN) => {
            state.chain = Chain::Command(data.to_vec());
            Ok(Part::Answer(next_part))
        }
        (Chain::Command(mut command), LevelParameter::CONTINUE | LevelParameter::END) => {
            command.extend_from_slice(data);
            if command.len() > MAX_DATA_LEN {
                return Err(DW_LENGTH);
            }
            if parameter == LevelParameter::END {
                return Ok(Part::Command(command));
            }
            state.chain = Chain::Command(command);
            Ok(Part::Answer(next_part))
        }
        (Chain::Response(rest), LevelParameter::CONTINUE_RESPONSE) if data.is_empty() => {
            Ok(Part::NextOfResponse(rest))
        }
        _ => Err(LEVEL_PARAMETER),
    }
}

/// The TPDU that goes to a T=0 card: the reader adds P3 to a header of four bytes. None: it is none.
fn tpdu(bytes: &[u8]) -> Option<Vec<u8>> {
    match *bytes {
        [cla, ins, p1, p2] => Some(vec![cla, ins, p1, p2, 0]),
        [_, _, _, _, p3, ref data @ ..] if data.is_empty() || data.len() == usize::from(p3) => {
            Some(bytes.to_vec())
        }
        _ => None,
    }
}
