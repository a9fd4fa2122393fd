//! The socket a simulated device is plugged into.

use crate::Device;
use ccid::Instant;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

/// A device and its plug. Clones are the same port.
pub struct Port<D: ?Sized> {
    plugged: Arc<Condvar>,
    shared: Arc<Mutex<Shared<D>>>,
}

struct Shared<D: ?Sized> {
    /// Counts plug-ins: odd while plugged in.
    plugs: u64,
    waker: Option<Waker>,
    /// Alive for as long as somebody has claimed it.
    claim: Weak<()>,
    /// Counts those who wanted to claim it and could not.
    refused: u64,
    /// The device's time when it was last driven by somebody who does so no more.
    time: Instant,
    device: D,
}

/// Keeps all others from claiming a [`Port`] for as long as it lives.
pub struct Claim(#[allow(dead_code)] Arc<()>);

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

impl<D: ?Sized> Clone for Port<D> {
    fn clone(&self) -> Self {
        Self { plugged: Arc::clone(&self.plugged), shared: Arc::clone(&self.shared) }
    }
}

impl<D: Device> Port<D> {
    /// A port with `device` plugged in.
    pub fn new(device: D) -> Self {
        let shared = Shared {
            plugs: 1,
            waker: None,
            claim: Weak::new(),
            refused: 0,
            time: Instant::ZERO,
            device,
        };
        Self { plugged: Arc::default(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// Waits until it is plugged in, not counting the time when [`plugs`](Self::plugs) was `known`:
    /// what that is then.
    pub fn wait_until_plugged(&self, known: u64) -> u64 {
        let mut shared = self.lock();
        while shared.plugs == known || shared.plugs % 2 == 0 {
            shared = self.plugged.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        shared.plugs
    }
}

impl<D: Device + ?Sized> Port<D> {
    /// Does something with the device and wakes whoever drives it. Handling the hardware (cards,
    /// keys) and looking at what it has seen goes through here. Works unplugged, too.
    pub fn with<R>(&self, act: impl FnOnce(&mut D) -> R) -> R {
        let mut shared = self.lock();
        let result = act(&mut shared.device);
        if let Some(waker) = shared.waker.take() {
            drop(shared);
            waker.wake();
        }
        result
    }

    /// Pulls the plug. What is under way on the wire ends with an error there.
    pub fn unplug(&self) {
        self.set_plugged(false);
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        self.set_plugged(true);
    }

    /// The device is plugged in.
    pub fn is_plugged(&self) -> bool {
        self.lock().plugs % 2 == 1
    }

    /// How often it has been plugged or unplugged; odd while plugged in. Whoever drives the device
    /// remembers it, so that an unplug and plug in between is not missed.
    pub fn plugs(&self) -> u64 {
        self.lock().plugs
    }

    /// Drives the device: for the wire only. `waker` is woken once, when someone handles the
    /// hardware, plugs or unplugs. None if the device is no longer (or not again since) plugged in
    /// as in `plugs`.
    pub fn drive<R>(&self, plugs: u64, waker: &Waker, act: impl FnOnce(&mut D) -> R) -> Option<R> {
        let mut shared = self.lock();
        if shared.plugs != plugs {
            return None;
        }
        if !shared.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            shared.waker = Some(waker.clone());
        }
        Some(act(&mut shared.device))
    }

    /// Claims it, as a driver does an interface on USB: whoever else wants to meanwhile cannot, and
    /// gets none.
    pub fn claim(&self) -> Option<Claim> {
        let mut shared = self.lock();
        if shared.claim.strong_count() > 0 {
            shared.refused += 1;
            return None;
        }
        let claim = Arc::new(());
        shared.claim = Arc::downgrade(&claim);
        Some(Claim(claim))
    }

    /// Somebody has claimed it.
    pub fn is_claimed(&self) -> bool {
        self.lock().claim.strong_count() > 0
    }

    /// How often somebody could not claim it because another had.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// The device's time, of which whoever drives it next goes on: time never stands still until a
    /// clock that begins anew has caught up.
    pub fn time(&self) -> Instant {
        self.lock().time
    }

    /// Nobody drives the device from now on, until somebody else does.
    pub fn leave(&self, time: Instant) {
        let mut shared = self.lock();
        shared.time = shared.time.max(time);
    }

    fn set_plugged(&self, plugged: bool) {
        let mut shared = self.lock();
        if (shared.plugs % 2 == 1) != plugged {
            shared.plugs += 1;
            self.plugged.notify_all();
            if let Some(waker) = shared.waker.take() {
                drop(shared);
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<D>> {
        // A panic of a test in `with` must not take the port from the others.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
