//! Channels and time for loom.

use std::sync::OnceLock;
use std::time::Instant;

/// The time: always the same, so that every run goes alike. What waits for a later time waits for
/// ever.
pub fn now() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

/// crossbeam's channels, as far as they are used here.
pub mod channel {
    use super::now;
    use loom::sync::{Condvar, Mutex, MutexGuard};
    use std::collections::VecDeque;
    use std::sync::{Arc, PoisonError};
    use std::time::{Duration, Instant};

    pub use crossbeam_channel::{
        RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError,
    };

    struct Shared<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
    }

    struct State<T> {
        queue: VecDeque<T>,
        capacity: usize,
        senders: usize,
        received: bool,
    }

    impl<T> Shared<T> {
        fn lock(&self) -> MutexGuard<'_, State<T>> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// The end that sends.
    pub struct Sender<T>(Arc<Shared<T>>);

    /// The end that receives.
    pub struct Receiver<T>(Arc<Shared<T>>);

    /// A channel with room for `capacity` messages.
    pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let state = State { queue: VecDeque::new(), capacity, senders: 1, received: true };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }

    /// A channel with room for any number.
    pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        bounded(usize::MAX)
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.0.lock().senders += 1;
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.lock().senders -= 1;
            self.0.changed.notify_all();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let queue = {
                let mut state = self.0.lock();
                state.received = false;
                std::mem::take(&mut state.queue)
            };
            drop(queue);
        }
    }

    impl<T> Sender<T> {
        /// Sends; nothing here sends more than there is room for, other than with `try_send`.
        pub fn send(&self, message: T) -> Result<(), SendError<T>> {
            self.try_send(message).map_err(|error| SendError(error.into_inner()))
        }

        /// Sends if there is room.
        pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            let mut state = self.0.lock();
            if !state.received {
                return Err(TrySendError::Disconnected(message));
            }
            if state.queue.len() >= state.capacity {
                return Err(TrySendError::Full(message));
            }
            state.queue.push_back(message);
            drop(state);
            self.0.changed.notify_all();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        /// Waits for a message.
        pub fn recv(&self) -> Result<T, RecvError> {
            let mut state = self.0.lock();
            loop {
                if let Some(message) = state.queue.pop_front() {
                    return Ok(message);
                }
                if state.senders == 0 {
                    return Err(RecvError);
                }
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }

        /// The message that there is.
        pub fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut state = self.0.lock();
            match state.queue.pop_front() {
                Some(message) => Ok(message),
                None if state.senders == 0 => Err(TryRecvError::Disconnected),
                None => Err(TryRecvError::Empty),
            }
        }

        /// Waits for no time, or without end.
        pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvTimeoutError> {
            if !time.is_zero() {
                return self.recv().map_err(|_| RecvTimeoutError::Disconnected);
            }
            self.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        }

        /// The same, up to a time.
        pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
            self.recv_timeout(deadline.saturating_duration_since(now()))
        }
    }
}
