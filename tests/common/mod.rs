//! What the whole-stack tests share: a stack on a simulated device, and a watchdog.

#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

use ccid::Options;
use ifd::transport::sim::SimTransport;
use scard::{Card, Context, Protocols, ShareMode, Stack};
use sim::{Device, Port};
use std::ffi::CString;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than anything takes on a loaded machine, shorter than a hang.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// A device, and a stack that drives it.
pub struct Bench<D: Device + 'static> {
    pub port: Port<D>,
    pub stack: Stack,
}

impl<D: Device + 'static> Bench<D> {
    pub fn new(device: D) -> Self {
        Self::with_options(device, Options::default())
    }

    pub fn with_options(device: D, options: Options) -> Self {
        let bench = Self { port: Port::new(device), stack: Stack::with_options(options) };
        bench.attach();
        bench
    }

    /// The reader was plugged in (again).
    pub fn attach(&self) {
        self.stack.attach(SimTransport::new(self.port.clone()).unwrap()).unwrap();
    }

    pub fn context(&self) -> Context {
        Context::on(&self.stack).unwrap()
    }

    pub fn reader(&self) -> CString {
        self.context().list_readers_owned().unwrap().remove(0)
    }

    pub fn connect(&self, context: &Context) -> Card {
        context.connect(&self.reader(), ShareMode::Shared, Protocols::ANY).unwrap()
    }
}

/// Runs on a thread of its own; [`Running::join`] fails loudly if it does not end.
pub struct Running<T> {
    result: mpsc::Receiver<T>,
    thread: JoinHandle<()>,
}

pub fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let (sender, result) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(f())));
    Running { result, thread }
}

impl<T> Running<T> {
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn join(self) -> T {
        match self.result.recv_timeout(WATCHDOG) {
            Ok(value) => {
                self.thread.join().unwrap();
                value
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => match self.thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("ended without a result"),
            },
        }
    }
}

/// Waits until `condition` holds: for what another thread brings about.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + WATCHDOG;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
