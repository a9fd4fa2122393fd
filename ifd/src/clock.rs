//! Where the driver's time comes from.

use crate::sync;
use ccid::Instant;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A clock that only goes forward.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's, counted from when this clock was made.
    Monotonic(std::time::Instant),
    /// One that stands still until it is set, for transports without real time: a driver that
    /// waits for a deadline while an operation runs has it at once.
    Virtual(Arc<Mutex<Instant>>),
}

impl Clock {
    /// Real time from now on.
    pub fn monotonic() -> Self {
        Self::Monotonic(sync::now())
    }

    /// Virtual time from zero on.
    pub fn virtual_time() -> Self {
        Self::Virtual(Arc::new(Mutex::new(Instant::ZERO)))
    }

    /// The time.
    pub fn now(&self) -> Instant {
        match self {
            Self::Monotonic(epoch) => Instant::from_duration(sync::now() - *epoch),
            Self::Virtual(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// How long in real time until `deadline`; virtual time takes none.
    pub fn until(&self, deadline: Instant) -> Duration {
        match self {
            Self::Monotonic(_) => deadline.saturating_since(self.now()),
            Self::Virtual(_) => Duration::ZERO,
        }
    }

    /// Sets a virtual clock forward to `to`, if it is not there yet. Real time goes by itself.
    pub fn advance(&self, to: Instant) {
        if let Self::Virtual(now) = self {
            let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = (*now).max(to);
        }
    }
}
