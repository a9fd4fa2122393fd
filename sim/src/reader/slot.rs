//! One slot: what is in it, what it is doing, and what Abort has made of that.

use super::exchange::{Chain, Task};
use super::line::Line;
use super::parameters::Parameters;
use super::pin::PinEntry;
use crate::card::atr::AtrInfo;
use crate::card::{Card, Pace, Protocol, Reaction};
use bytes::Bytes;
use ccid::wire::{ClockStatus, IccStatus, SlotError, Status};
use ccid::{Instant, Seq};
use std::time::Duration;

/// A slot.
#[derive(Default)]
pub(super) struct SlotState {
    pub(super) contents: Contents,
    pub(super) running: Option<Running>,
    pub(super) abort: AbortStage,
    pub(super) chain: Chain,
    /// Card movement that NotifySlotChange has not told yet.
    pub(super) changed: bool,
    pub(super) settings: Settings,
    /// A card that was ejected and not taken.
    pub(super) mouth: Option<Box<dyn Card>>,
}

/// What the host has set, and a reset of the reader takes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// bClassGetResponse; FFh: that of the command.
    pub(super) class_get_response: u8,
    /// bClassEnvelope; FFh: that of the command.
    pub(super) class_envelope: u8,
    /// The card cannot be pulled out.
    pub(super) locked: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { class_get_response: 0xFF, class_envelope: 0xFF, locked: false }
    }
}

/// What is in a slot.
#[derive(Default)]
pub(super) enum Contents {
    #[default]
    Empty,
    /// A card without power.
    Inactive(Box<dyn Card>),
    /// A card that has given its ATR.
    Active(Box<dyn Card>, Activated),
}

/// What the reader knows of an active card.
#[derive(Clone, Debug)]
pub(super) struct Activated {
    pub(super) info: AtrInfo,
    /// What is spoken; None: nothing that the reader knows.
    pub(super) protocol: Option<Protocol>,
    pub(super) parameters: Parameters,
    pub(super) clock: ClockStatus,
    pub(super) line: Line,
}

impl SlotState {
    pub(super) fn icc_status(&self) -> IccStatus {
        match self.contents {
            Contents::Empty => IccStatus::NotPresent,
            Contents::Inactive(_) => IccStatus::PresentInactive,
            Contents::Active(..) => IccStatus::PresentActive,
        }
    }

    pub(super) fn clock_status(&self) -> ClockStatus {
        match &self.contents {
            Contents::Active(_, activated) => activated.clock,
            _ => ClockStatus::StoppedLow,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        !matches!(self.contents, Contents::Empty)
    }

    pub(super) fn card(&mut self) -> Option<&mut Box<dyn Card>> {
        match &mut self.contents {
            Contents::Empty => None,
            Contents::Inactive(card) | Contents::Active(card, _) => Some(card),
        }
    }

    pub(super) fn activated(&mut self) -> Option<&mut Activated> {
        match &mut self.contents {
            Contents::Active(_, activated) => Some(activated),
            _ => None,
        }
    }

    /// Takes the card out.
    pub(super) fn take_card(&mut self) -> Option<Box<dyn Card>> {
        match std::mem::take(&mut self.contents) {
            Contents::Empty => None,
            Contents::Inactive(card) | Contents::Active(card, _) => Some(card),
        }
    }

    /// Takes the card's power away.
    pub(super) fn power_off(&mut self) {
        if let Some(mut card) = self.take_card() {
            card.power_off();
            self.contents = Contents::Inactive(card);
        }
        self.chain = Chain::Idle;
    }

    /// Success, with the card as it is.
    pub(super) fn success(&self) -> Status {
        Status::success(self.icc_status())
    }

    /// Failure, with the card as it is.
    pub(super) fn failed(&self, error: SlotError) -> Status {
        Status::failed(self.icc_status(), error)
    }
}

/// Where the Abort sequence stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum AbortStage {
    #[default]
    None,
    /// The class request has come: commands fail until PC_to_RDR_Abort comes.
    Requested(Seq),
    /// PC_to_RDR_Abort has come first: its answer waits for the class request.
    Held(Seq),
}

/// A command that has not been answered yet.
pub(super) struct Running {
    pub(super) seq: Seq,
    /// bMessageType of the answer.
    pub(super) answered_by: u8,
    pub(super) since: Instant,
    /// When the reader asks for more time of its own accord.
    pub(super) extension: Option<Instant>,
    pub(super) work: Work,
}

/// What a command waits for.
pub(super) enum Work {
    /// The card.
    Card(CardWork),
    /// The user at the PIN pad.
    Pin(PinEntry),
    /// A time; None: for ever. Then this is the data of the answer.
    Escape(Option<Instant>, Bytes),
    /// PC_to_RDR_Abort.
    Stopped,
}

/// A card at work.
pub(super) struct CardWork {
    pub(super) wait: Wait,
    pub(super) pace: Pace,
    /// What it answers in the end.
    pub(super) response: Bytes,
    pub(super) task: Task,
}

impl CardWork {
    /// A card that reacts so from `now` on. The reader gives up on a silent one after
    /// `waiting_time`.
    pub(super) fn new(
        reaction: Reaction,
        task: Task,
        now: Instant,
        waiting_time: Option<Duration>,
    ) -> Self {
        let Reaction { pace, response } = reaction;
        Self { wait: Wait::new(pace, now, waiting_time), pace, response, task }
    }
}

/// What comes next from a card at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Its answer.
    Answer(Instant),
    /// A request for more time; `left` of them, None without end.
    Extension { next: Instant, period: Duration, multiplier: u8, left: Option<u32> },
    /// The end of its waiting time.
    Mute(Instant),
    /// Nothing.
    Forever,
}

/// Periods are at least so long: nothing happens without end at one point in time.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

impl Wait {
    fn new(pace: Pace, now: Instant, waiting_time: Option<Duration>) -> Self {
        match pace {
            Pace::After(delay) => Self::Answer(now + delay),
            Pace::Extend { periods: 0, period, .. } => Self::Answer(now + period),
            Pace::Extend { periods, period, multiplier } => {
                let period = period.max(SHORTEST_PERIOD);
                Self::Extension { next: now + period, period, multiplier, left: Some(periods) }
            }
            Pace::ExtendForEver { period, multiplier } => {
                let period = period.max(SHORTEST_PERIOD);
                Self::Extension { next: now + period, period, multiplier, left: None }
            }
            Pace::Never => Self::Forever,
            Pace::Mute => waiting_time.map_or(Self::Forever, |time| Self::Mute(now + time)),
        }
    }

    /// What follows a request for more time at `now`. Those up to `horizon` are passed over: the
    /// host has not fetched this one, and there is no room for them.
    pub(super) fn after_extension(self, now: Instant, horizon: Instant) -> Self {
        let Self::Extension { period, multiplier, left, .. } = self else { return self };
        let (passed, _) = periods(now, period, horizon);
        let left = left.map(|left| u64::from(left).saturating_sub(1));
        let passed = left.map_or(passed, |left| left.min(passed));
        let next = now + times(period, passed.saturating_add(1));
        match left.map(|left| left - passed) {
            Some(0) => Self::Answer(next),
            left => {
                let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
                Self::Extension { next, period, multiplier, left }
            }
        }
    }

    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Answer(at) | Self::Mute(at) | Self::Extension { next: at, .. } => Some(at),
            Self::Forever => None,
        }
    }
}

/// How many whole periods pass from `now` to `horizon`, and when the first one after it ends.
pub(super) fn periods(now: Instant, period: Duration, horizon: Instant) -> (u64, Instant) {
    let passed = horizon.saturating_since(now).as_nanos() / period.as_nanos().max(1);
    let passed = u64::try_from(passed).unwrap_or(u64::MAX);
    (passed, now + times(period, passed.saturating_add(1)))
}

fn times(period: Duration, count: u64) -> Duration {
    let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos.saturating_mul(count))
}

impl Work {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Card(card) => card.wait.deadline(),
            Self::Pin(entry) => entry.deadline(),
            Self::Escape(until, _) => *until,
            Self::Stopped => None,
        }
    }
}
