//! Cancel from a signal handler.
//!
//! Programs call SCardCancel on Ctrl-C, in the handler. The thread that the signal came to may be in
//! the middle of another call, with a lock in its hands that cancel needs. So a thread knows when it
//! is in the library; a cancel on top of that goes through a pipe to a thread of its own. The
//! library's threads get no signals: they would not know.

#![allow(unsafe_code)]

use crate::process::Process;
use log::{debug, warn};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

thread_local! {
    /// Calls that this thread is in; more than one in a signal handler.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A thread is in a call for as long as this lives.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter() -> Self {
        DEPTH.set(DEPTH.get().wrapping_add(1));
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().wrapping_sub(1));
    }
}

/// This call has come in the middle of another of the same thread.
pub(crate) fn in_the_middle() -> bool {
    DEPTH.get() > 1
}

/// What `start` starts gets no signals: threads have the mask of who starts them.
pub(crate) fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    /// Gives this thread its own back, also after a panic.
    struct Mask(libc::sigset_t);
    impl Drop for Mask {
        fn drop(&mut self) {
            // SAFETY: it is the mask there was.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut()) };
        }
    }
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `all` is filled in before it is used, and so is `before`.
    let _mask = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let (all, to) = (all.as_ptr(), before.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all, to) {
            0 => Some(Mask(before.assume_init())),
            _ => None,
        }
    };
    start()
}

/// Takes cancels from signal handlers.
#[derive(Debug)]
pub(crate) struct Messenger {
    write: OwnedFd,
}

impl Messenger {
    /// With its thread, which lives as long as the process.
    pub(crate) fn start() -> Option<Self> {
        let mut ends = [-1; 2];
        // SAFETY: there is room for two.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            warn!("no pipe: {}", std::io::Error::last_os_error());
            return None;
        }
        // SAFETY: both are open, and nobody else's.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let thread = std::thread::Builder::new().name("scard cancel".into());
        let started = thread.spawn(move || serve(File::from(read)));
        started.map_err(|error| warn!("no thread: {error}")).ok()?;
        Some(Self { write })
    }

    /// Has a context cancelled. Allowed in a signal handler.
    pub(crate) fn cancel(&self, context: u32) {
        let number = context.to_ne_bytes();
        // SAFETY: as many bytes are there. So few are written whole. The caller's errno is kept.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::write(self.write.as_raw_fd(), number.as_ptr().cast(), number.len());
            *errno = before;
        }
    }
}

fn serve(mut read: File) {
    let mut number = [0; 4];
    while read.read_exact(&mut number).is_ok() {
        let context = Process::current().context(u32::from_ne_bytes(number));
        if context.is_ok_and(|context| context.cancel().is_err()) {
            debug!("cancel by a signal: the context was released meanwhile");
        }
    }
}
