//! What a reader is asked when it is opened: the data rates and clocks it has (CCID 1.1 §5.3.2,
//! §5.3.3). Nothing goes to the slots until that is over, well or not: it decides what is agreed
//! with a card, and an ABORT never has to wait behind it.

use crate::descriptor::{ClassDescriptor, Features};
use crate::quirk::Behaviour;
use crate::time::Instant;
use crate::wire::ClassRequest;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;
use log::{debug, info, warn};

/// How long a request may take. Those in the field take a millisecond, or stall.
pub(crate) const QUERY_TIME: Duration = Duration::from_millis(500);

/// How much later than that its end may be told.
const SLACK: Duration = Duration::from_millis(500);

/// Data rates that a card can have, in bit/s. Others are rubbish: texts, negative numbers.
const RATES: RangeInclusive<u32> = 500..=20_000_000;

/// Clocks that a card can have, in kHz.
const CLOCKS: RangeInclusive<u32> = 1000..=20_000;

/// How far the opening is.
#[derive(Debug)]
pub(crate) enum Opening {
    /// The reader is left alone.
    Delay {
        until: Instant,
    },
    /// The requests are on their way.
    Asking {
        requests: Vec<ClassRequest>,
        until: Instant,
    },
    Done,
}

impl Opening {
    pub(crate) fn new(behaviour: &Behaviour, now: Instant) -> Self {
        Self::Delay { until: now + behaviour.open_delay }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Delay { until } | Self::Asking { until, .. } => Some(*until),
            Self::Done => None,
        }
    }

    /// If a step is due at `now`, takes it; gives the requests to be made.
    pub(crate) fn advance(&mut self, class: &ClassDescriptor, now: Instant) -> Vec<ClassRequest> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        match self {
            Self::Delay { .. } => {
                let requests = requests(class);
                *self = match u32::try_from(requests.len()) {
                    Ok(count @ 1..) => {
                        let until = now + QUERY_TIME * count + SLACK;
                        Self::Asking { requests: requests.clone(), until }
                    }
                    _ => Self::Done,
                };
                requests
            }
            Self::Asking { requests, .. } => {
                warn!("{requests:?}: not answered, going on without");
                *self = Self::Done;
                Vec::new()
            }
            Self::Done => Vec::new(),
        }
    }

    /// `request` has ended.
    pub(crate) fn ended(&mut self, request: ClassRequest) {
        if let Self::Asking { requests, .. } = self {
            requests.retain(|asked| *asked != request);
            if requests.is_empty() {
                *self = Self::Done;
            }
        }
    }
}

/// What has to be known of a reader. One that negotiates by itself needs no advice. The clocks
/// matter only where the class descriptor's makes no sense: hosts do not usually ask for them, and
/// who knows what a reader does that has never been asked.
fn requests(class: &ClassDescriptor) -> Vec<ClassRequest> {
    let mut requests = Vec::new();
    let length = |count: u8| u16::from(count) * 4;
    if class.features.contains(Features::AUTO_PARAMETER_NEGOTIATION) {
        return requests;
    }
    if class.num_data_rates_supported > 0 {
        let length = length(class.num_data_rates_supported);
        requests.push(ClassRequest::GetDataRates { length });
    }
    if class.num_clock_supported > 0 && !CLOCKS.contains(&class.default_clock) {
        let length = length(class.num_clock_supported);
        requests.push(ClassRequest::GetClockFrequencies { length });
    }
    requests
}

/// The data rates in an answer; none if it failed or is rubbish.
pub(crate) fn data_rates(data: Option<&[u8]>) -> Vec<u32> {
    numbers("GET DATA RATES", data, RATES)
}

/// The clocks in an answer; none if it failed or is rubbish.
pub(crate) fn clocks(data: Option<&[u8]>) -> Vec<u32> {
    numbers("GET CLOCK FREQUENCIES", data, CLOCKS)
}

fn numbers(name: &str, data: Option<&[u8]>, range: RangeInclusive<u32>) -> Vec<u32> {
    let Some(data) = data else {
        info!("{name} failed");
        return Vec::new();
    };
    let all = data.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok());
    let good: Vec<_> = all.map(u32::from_le_bytes).filter(|n| range.contains(n)).collect();
    if good.len() * 4 != data.len() {
        warn!("{name}: {} bytes, of which {} numbers make sense", data.len(), good.len());
    }
    debug!("{name}: {good:?}");
    good
}
