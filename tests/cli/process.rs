//! A process under test: its output as it comes, its end, and signals to it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine, shorter than a hang.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A process that has ended.
pub struct Ended {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Checks how it ended.
    #[track_caller]
    pub fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "\n{}\n{}", self.out, self.err);
        self
    }

    /// Its standard output as a JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {}", self.out))
    }
}

/// A process that runs. It is killed if it is dropped before its end.
pub struct Running {
    child: Killed,
    out: Stream,
    err: Stream,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended is left alone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Stream {
    lines: Receiver<String>,
    seen: String,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn new(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: String::new(), thread: Some(thread) }
    }

    fn next(&mut self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).ok()?;
        self.seen += &line;
        self.seen += "\n";
        Some(line)
    }

    /// Everything until its end.
    fn finish(mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        for line in self.lines.try_iter() {
            self.seen += &line;
            self.seen += "\n";
        }
        self.seen
    }
}

/// Starts `scard` with these words.
pub fn start(words: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scard"));
    command.args(words.iter().map(OsStr::new));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = Stream::new(child.stdout.take().unwrap());
    let err = Stream::new(child.stderr.take().unwrap());
    Running { child: Killed(child), out, err }
}

/// Runs `scard` to its end.
pub fn run(words: &[&str]) -> Ended {
    start(words).end()
}

/// Runs `scard` to its end, with something on its standard input.
pub fn run_with_input(words: &[&str], input: &str) -> Ended {
    let mut running = start(words);
    // It may end before it has read all.
    let _ = running.child.0.stdin.take().unwrap().write_all(input.as_bytes());
    running.end()
}

impl Running {
    /// Waits for a line of standard output that has `text` in it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        expect(&mut self.out, text)
    }

    /// Waits for a line of standard error that has `text` in it.
    #[track_caller]
    pub fn expect_err(&mut self, text: &str) -> String {
        expect(&mut self.err, text)
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Closes its standard input, and waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        drop(self.child.0.stdin.take());
        self.wait()
    }

    /// Waits for its end, its standard input left open.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        // Its standard error ends with it: nothing else has it open.
        let deadline = Instant::now() + WATCHDOG;
        while self.err.next(deadline).is_some() {}
        let hangs = Instant::now() >= deadline;
        if hangs {
            let _ = self.child.0.kill();
        }
        let status = self.child.0.wait().unwrap();
        let (out, err) = (self.out.finish(), self.err.finish());
        assert!(!hangs, "it does not end:\n{out}\n{err}");
        Ended { status: status.code(), out, err }
    }
}

#[track_caller]
fn expect(stream: &mut Stream, text: &str) -> String {
    let deadline = Instant::now() + WATCHDOG;
    while let Some(line) = stream.next(deadline) {
        if line.contains(text) {
            return line;
        }
    }
    panic!("no line with {text:?} in\n{}", stream.seen);
}
