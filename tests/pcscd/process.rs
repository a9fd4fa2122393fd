//! Programs that run: what they say, how they end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine, shorter than a hang.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Waits until `condition` holds: for what another process brings about.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a program says, line by line, as it comes.
pub struct Lines {
    lines: Receiver<String>,
    all: Arc<Mutex<String>>,
}

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let all = Arc::<Mutex<String>>::default();
        let kept = Arc::clone(&all);
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
                drop(kept);
                // Nobody may be listening: it is kept all the same.
                let _ = sender.send(line);
            }
        });
        Self { lines, all }
    }

    /// The next line.
    #[track_caller]
    pub fn next(&self) -> String {
        match self.lines.recv_timeout(WATCHDOG) {
            Ok(line) => line,
            Err(_) => panic!("nothing more comes; so far:\n{}", self.all()),
        }
    }

    /// Waits for a line that has `text` in it.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let deadline = Instant::now() + WATCHDOG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with {text:?} in:\n{}", self.all()),
            }
        }
    }

    /// Everything that has come so far.
    pub fn all(&self) -> String {
        self.all.lock().unwrap().clone()
    }
}

/// A process that does not outlive the test.
pub struct Process {
    child: Child,
    pub out: Lines,
}

impl Process {
    /// Starts `command`; its two outputs come as one.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name:?}: {error} (tests/packages installs it)"));
        let out = Lines::of(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// What it is told by.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; its standard input is closed.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        drop(self.child.stdin.take());
        let status = self.wait();
        // Its output ends with it.
        while self.out.lines.recv_timeout(WATCHDOG).is_ok() {}
        (status, self.out.all())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
