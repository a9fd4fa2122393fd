//! Ctrl-C, and the signals that ask a process to end.

use crate::cli::failure::{Exit, Failure};
use crossbeam_channel::{Receiver, Sender, bounded};
use scard::Canceller;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the context is cancelled once the user has asked for it: see [`Shared::cancel`].
const REPEAT: Duration = Duration::from_millis(20);

/// What Ctrl-C does: the first one cancels the context, so that whatever is under way ends in
/// order; the second one ends the process.
#[derive(Clone)]
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
    /// Disconnected once it has come.
    came: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    /// None once it has come.
    sender: Option<Sender<()>>,
    canceller: Option<Canceller>,
}

impl Interrupt {
    /// Takes over the signals of the process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (sender, came) = bounded(0);
        let state = State { sender: Some(sender), canceller: None };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let handler = Arc::clone(&shared);
        ctrlc::set_handler(move || Shared::interrupted(&handler))
            .map_err(|error| Failure::failed(format!("signals cannot be handled: {error}")))?;
        Ok(Self { shared, came })
    }

    /// From now on it cancels this context.
    pub(crate) fn cancels(&self, canceller: Canceller) {
        let mut state = self.shared.lock();
        state.canceller = Some(canceller);
        let came = state.sender.is_none();
        drop(state);
        if came {
            self.shared.cancel();
        }
    }

    /// It has come.
    pub(crate) fn has_come(&self) -> bool {
        self.shared.lock().sender.is_none()
    }

    /// A channel that is disconnected once it has come, to be waited for together with others.
    pub(crate) fn channel(&self) -> &Receiver<()> {
        &self.came
    }

    /// Fails if it has come: to be asked before something new begins.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.has_come() { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the thread of the signals.
    fn interrupted(shared: &Arc<Self>) {
        if shared.lock().sender.take().is_none() {
            std::process::exit(Exit::Interrupted as i32);
        }
        let again = Arc::clone(shared);
        let repeat = move || loop {
            again.cancel();
            std::thread::sleep(REPEAT);
        };
        if std::thread::Builder::new().name("interrupt".into()).spawn(repeat).is_err() {
            shared.cancel();
        }
    }

    /// Cancel is not remembered by a context on which nothing waits at that moment: it is repeated
    /// until the process ends, so that a call that was just about to begin is ended, too.
    fn cancel(&self) {
        let canceller = self.lock().canceller.clone();
        if let Some(canceller) = canceller {
            // A context that is gone has nothing left to cancel.
            let _ = canceller.cancel();
        }
    }
}
