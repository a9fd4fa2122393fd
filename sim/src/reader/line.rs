//! XfrBlock where the host meets the card's contacts: blocks of T=1 at TPDU level, and characters at
//! character level (CCID 1.1 §3.2.1, §3.2.2, §6.1.4).

use super::Reader;
use super::commands::{Answer, Outcome, bad_field};
use super::exchange::Task;
use super::journal::Rule;
use super::parameters::Parameters;
use super::slot::{Activated, CardWork, Contents, SlotState, Work};
use crate::card::{Contacts, Pace, Protocol, Reaction, Signal, ifs_request, rate};
use bytes::Bytes;
use ccid::descriptor::Features;
use ccid::wire::{ChainParameter, LevelParameter, SlotError};
use ccid::{Instant, Seq, Slot};
use std::collections::VecDeque;
use std::time::Duration;

/// Offset of wLevelParameter.
const LEVEL_PARAMETER: u8 = 8;
/// Offset of bmFindexDindex in PC_to_RDR_SetParameters.
const FI_DI: u8 = 10;
/// NAD, PCB, LEN.
const PROLOGUE: usize = 3;
/// PCB of S(IFS request).
const IFS_REQUEST: u8 = 0xC1;

/// What has been going on over a card's contacts since it was activated.
#[derive(Clone, Default, Debug)]
pub(super) struct Line {
    /// The multiplier of the S(WTX request) that the host has to answer.
    extension: Option<u8>,
    /// The reader has told its IFSD.
    told_ifsd: bool,
    /// Characters that the card sends, and the host has not read.
    signals: VecDeque<Sent>,
    /// What has come of those that are being read.
    received: Vec<u8>,
    /// bBWI of the last transfer, which holds until the next characters are sent.
    bwi: u8,
}

/// A card's signal that began at a time.
#[derive(Clone, Debug)]
struct Sent {
    since: Instant,
    signal: Signal,
}

/// What a block is besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    parity_error: bool,
    extension: Option<u8>,
    /// It is the response to PPS.
    pps: bool,
}

/// Characters that the host waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// How many it wants.
    count: usize,
    parity_error: bool,
}

impl Reader {
    /// Parameters that the reader can set; Err: the offset of the bad field.
    pub(super) fn can_set(
        &mut self,
        who: Option<(Slot, Seq)>,
        parameters: Parameters,
    ) -> Result<Parameters, u8> {
        let class = &self.config.class;
        let rate = rate::bits_per_second(parameters.fi_di(), class.default_clock);
        let possible = rate.is_some_and(|rate| rate <= class.max_data_rate.into());
        if possible || !self.config.level.is_line() {
            return Ok(parameters);
        }
        self.violation(who, Rule::RateOfReader);
        Err(FI_DI)
    }

    /// Whether what the host sends at TPDU level goes to the contacts as it is: blocks, and PPS.
    pub(super) fn passes_on(&mut self, slot: Slot, bytes: &[u8]) -> bool {
        if !self.config.level.is_line() {
            return false;
        }
        let Some(Contents::Active(card, activated)) =
            self.slot(slot).map(|state| &mut state.contents)
        else {
            return false;
        };
        let pps = is_pps(card.contacts(), bytes);
        pps || activated.protocol == Some(Protocol::T1)
    }

    /// Whether reader and card understand each other; the host is told what it has missed.
    pub(super) fn is_agreed(&mut self, slot: Slot, seq: Seq) -> bool {
        let Some(Contents::Active(card, activated)) =
            self.slot(slot).map(|state| &mut state.contents)
        else {
            return true;
        };
        let parameters = activated.parameters;
        let Some(contacts) = card.contacts() else { return true };
        let (rate, protocol) = (contacts.fi_di(), contacts.protocol());
        if !same_rate(rate, parameters.fi_di()) {
            self.violation(Some((slot, seq)), Rule::RateNeverAgreed);
            return false;
        }
        if protocol != parameters.protocol() {
            self.violation(Some((slot, seq)), Rule::ProtocolNeverAgreed);
            return false;
        }
        true
    }

    /// A block of T=1, or a PPS request.
    pub(super) fn block(&mut self, slot: Slot, seq: Seq, bwi: u8, bytes: &[u8]) -> Outcome {
        let pps = self.slot(slot).is_some_and(|state| state.is_pps(bytes));
        if !pps {
            self.tell_ifsd(slot);
            self.check_block(slot, seq, bwi, bytes);
        }
        let signal = if pps || self.is_agreed(slot, seq) {
            self.hear(slot, seq, bytes)
        } else {
            Signal::mute()
        };
        let (now, time) = (self.clock, self.waiting_time(slot, bwi));
        let Signal { pace, characters, parity_error, extension, .. } = signal;
        let reaction = Reaction { pace: in_time(pace, time), response: characters };
        let task = Task::Block(Arrival { parity_error, extension, pps });
        Outcome::Running(Work::Card(CardWork::new(reaction, task, now, time)))
    }

    /// Gives the card characters.
    fn hear(&mut self, slot: Slot, seq: Seq, characters: &[u8]) -> Signal {
        let contacts = self.slot(slot).and_then(SlotState::card).and_then(|card| card.contacts());
        let signal = contacts.map_or_else(Signal::mute, |contacts| contacts.hear(characters));
        if let Some(misuse) = signal.misuse {
            self.violation(Some((slot, seq)), Rule::Contacts(misuse));
        }
        signal
    }

    /// The automatic IFSD exchange, before the first block.
    fn tell_ifsd(&mut self, slot: Slot) {
        let class = self.config.class;
        let automatic = class.features.contains(Features::AUTO_IFSD);
        let Some(Contents::Active(card, activated)) =
            self.slot(slot).map(|state| &mut state.contents)
        else {
            return;
        };
        if std::mem::replace(&mut activated.line.told_ifsd, true) || !automatic {
            return;
        }
        let ifsd = u8::try_from(class.max_ifsd).unwrap_or(254).clamp(1, 254);
        let request = ifs_request(ifsd, activated.parameters.crc());
        if let Some(contacts) = card.contacts() {
            contacts.hear(&request);
        }
    }

    /// What a host may get wrong about a block that the reader sees.
    fn check_block(&mut self, slot: Slot, seq: Seq, bwi: u8, bytes: &[u8]) {
        let who = Some((slot, seq));
        let asked = self.activated(slot).and_then(|activated| activated.line.extension.take());
        if bwi.max(1) != asked.unwrap_or(1).max(1) {
            self.violation(who, Rule::BlockWaitingTime);
        }
        let max_ifsd = self.config.class.max_ifsd;
        if matches!(*bytes, [_, IFS_REQUEST, 1, ifsd, ..] if u32::from(ifsd) > max_ifsd) {
            self.violation(who, Rule::IfsdOfReader);
        }
    }

    fn activated(&mut self, slot: Slot) -> Option<&mut Activated> {
        self.slot(slot).and_then(SlotState::activated)
    }

    /// How long the reader waits for the first character; None: for ever.
    fn waiting_time(&mut self, slot: Slot, bwi: u8) -> Option<Duration> {
        self.config.waiting_time?;
        let clock = self.config.class.default_clock;
        let parameters = self.activated(slot)?.parameters;
        let (fi_di, waiting) = (parameters.fi_di(), parameters.waiting_integers());
        Some(match parameters.protocol() {
            Protocol::T0 => rate::work_waiting_time(fi_di, waiting, clock),
            Protocol::T1 => rate::block_waiting_time(fi_di, waiting, clock) * u32::from(bwi.max(1)),
        })
    }

    /// A block has come from the card. The reader knows its end by LEN and the epilogue that is set.
    pub(super) fn block_came(&mut self, slot: Slot, block: Bytes, arrival: Arrival) -> Answer {
        let max_ifsd = usize::try_from(self.config.class.max_ifsd).unwrap_or(usize::MAX);
        if arrival.parity_error {
            return self.status_of(slot, SlotError::XfrParityError).into();
        }
        if arrival.pps {
            return self.data_block(slot, ChainParameter::Whole, block);
        }
        let crc = self.activated(slot).is_some_and(|activated| activated.parameters.crc());
        let len = block.get(2).copied().map_or(0, usize::from);
        let whole = PROLOGUE + len + if crc { 2 } else { 1 };
        // LEN FFh says nothing: what comes is taken until the card pauses.
        let whole = if len == 0xFF { block.len() } else { whole };
        if block.len() < whole || block.is_empty() {
            return self.status_of(slot, SlotError::IccMute).into();
        }
        if len > max_ifsd && len != 0xFF {
            return self.status_of(slot, SlotError::XfrOverrun).into();
        }
        if let Some(activated) = self.activated(slot) {
            activated.line.extension = arrival.extension;
        }
        self.data_block(slot, ChainParameter::Whole, block.slice(..whole))
    }

    /// XfrBlock at character level: characters to the card, and so many from it.
    pub(super) fn characters(
        &mut self,
        slot: Slot,
        seq: Seq,
        bwi: u8,
        count: LevelParameter,
        data: &[u8],
    ) -> Outcome {
        if self.activated(slot).is_none_or(|activated| activated.protocol.is_none()) {
            return self.status_of(slot, SlotError::IccProtocolNotSupported).into();
        }
        let count = usize::from(count.0);
        if count > self.config.max_data() {
            self.violation(Some((slot, seq)), Rule::LevelParameter);
            return self.status_of(slot, bad_field(LEVEL_PARAMETER)).into();
        }
        if !data.is_empty() {
            self.send_characters(slot, seq, bwi, data);
        }
        self.read(slot, Reading { count, parity_error: false })
    }

    fn send_characters(&mut self, slot: Slot, seq: Seq, bwi: u8, data: &[u8]) {
        let now = self.clock;
        let pps = self.slot(slot).is_some_and(|state| state.is_pps(data));
        let t1 = self.activated(slot).map(|activated| activated.parameters.protocol());
        if !pps && t1 == Some(Protocol::T1) {
            self.check_block(slot, seq, bwi, data);
        }
        let signal = if pps || self.is_agreed(slot, seq) {
            self.hear(slot, seq, data)
        } else if t1 == Some(Protocol::T1) {
            Signal::mute()
        } else {
            // A card of T=0 signals that it has not understood.
            Signal { parity_error: true, ..Signal::at_once(vec![0]) }
        };
        if let Some(activated) = self.activated(slot) {
            let line = &mut activated.line;
            line.bwi = bwi;
            line.extension = signal.extension;
            line.signals.clear();
            line.received.clear();
            line.signals.push_back(Sent { since: now, signal });
        }
    }

    /// Waits for what is missing of `count` characters, or answers them.
    fn read(&mut self, slot: Slot, reading: Reading) -> Outcome {
        let now = self.clock;
        let Some(line) = self.activated(slot).map(|activated| &mut activated.line) else {
            return self.status_of(slot, SlotError::IccMute).into();
        };
        let count = reading.count;
        if let Some(rest) = line.received.get(count..) {
            let rest = rest.to_vec();
            let mut characters = std::mem::replace(&mut line.received, rest);
            characters.truncate(count);
            return self.data_block(slot, ChainParameter::Whole, characters.into()).into();
        }
        let bwi = line.bwi;
        let next = line.signals.pop_front().filter(|next| !next.is_silent());
        let time = self.waiting_time(slot, bwi);
        let Some(Sent { since, signal }) = next else {
            // What has come of too little is lost.
            self.activated(slot).into_iter().for_each(|a| a.line.received.clear());
            let reaction = Reaction::mute();
            let task = Task::Characters(reading);
            return Outcome::Running(Work::Card(CardWork::new(reaction, task, now, time)));
        };
        if signal.more {
            let seq = self.last_seq.map_or(Seq(0), |(seq, _)| seq);
            let further = self.hear(slot, seq, &[]);
            let since = match signal.pace {
                Pace::After(delay) => since + delay,
                _ => since,
            };
            if let Some(activated) = self.activated(slot) {
                activated.line.signals.push_back(Sent { since, signal: further });
            }
        }
        let Signal { pace, characters, parity_error, .. } = signal;
        let pace = match in_time(pace, time) {
            Pace::After(delay) => Pace::After((since + delay).saturating_since(now)),
            other => other,
        };
        let reaction = Reaction { pace, response: characters };
        let task = Task::Characters(Reading { parity_error, ..reading });
        Outcome::Running(Work::Card(CardWork::new(reaction, task, now, time)))
    }

    /// Characters have come from the card.
    pub(super) fn characters_came(
        &mut self,
        slot: Slot,
        characters: &[u8],
        reading: Reading,
    ) -> Outcome {
        if reading.parity_error {
            return self.status_of(slot, SlotError::XfrParityError).into();
        }
        if let Some(activated) = self.activated(slot) {
            activated.line.received.extend_from_slice(characters);
        }
        self.read(slot, reading)
    }
}

impl Sent {
    /// Nothing ever comes, and nothing waits for it but time.
    fn is_silent(&self) -> bool {
        self.signal.pace == Pace::Mute
    }
}

impl SlotState {
    /// The bytes are a PPS request that the card can still take.
    fn is_pps(&mut self, bytes: &[u8]) -> bool {
        is_pps(self.card().and_then(|card| card.contacts()), bytes)
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

fn is_pps(contacts: Option<&mut dyn Contacts>, bytes: &[u8]) -> bool {
    bytes.first() == Some(&0xFF) && contacts.is_some_and(|contacts| contacts.is_fresh())
}

/// Codes 0 and 1 of Fi say the same to all but the clock.
fn same_rate(one: u8, other: u8) -> bool {
    rate::factors(one) == rate::factors(other)
}

/// A card that is later than the reader waits is mute to it.
fn in_time(pace: Pace, time: Option<Duration>) -> Pace {
    match (pace, time) {
        (Pace::After(delay), Some(time)) if delay > time => Pace::Mute,
        _ => pace,
    }
}
