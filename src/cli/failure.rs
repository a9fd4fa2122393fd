//! How a command ends when it does not succeed.

use scard::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// What the exit status tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// The card or the reader said no, or something else failed.
    Failed = 1,
    /// The command line, or the input, is wrong.
    Usage = 2,
    /// There is no reader or no card, or it was taken away.
    Nothing = 3,
    /// A time limit was reached.
    TimeLimit = 124,
    /// Ctrl-C, or a signal that asks the process to end.
    Interrupted = 130,
}

/// The part of the help that explains [`Exit`].
pub(crate) const EXIT_HELP: &str = "\
Exit status:
    0  done; whatever status word the card gave, unless --check is given
    1  the card or the reader said no, or something failed
    2  the command line or the input is wrong
    3  no reader or no card, or it was taken away
  124  a time limit was reached
  130  interrupted by Ctrl-C; a running command was aborted, the reader is in step";

/// Why a command ends.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// With a message.
    Said {
        /// The status.
        exit: Exit,
        /// What was wrong, and where; a line.
        message: String,
        /// What to do about it; further lines.
        hints: Vec<String>,
    },
    /// Interrupted, with nothing to be said about it.
    Interrupted,
    /// Nobody reads the output any more.
    OutputGone,
    /// A command that was run has ended so, and has said why.
    Child(u8),
}

/// How a command ends.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with a message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Said { exit, message: message.into(), hints: Vec::new() }
    }

    /// Something failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The user asked for something that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// There is no reader or no card.
    pub(crate) fn nothing(message: impl Into<String>) -> Self {
        Self::new(Exit::Nothing, message)
    }

    /// The same, with a line about what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Said { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }

    /// A call on `reader` has failed that was not an exchange.
    pub(crate) fn of(error: Error, reader: &str) -> Self {
        match error {
            Error::Cancelled => Self::Interrupted,
            Error::NoSmartcard => Self::nothing(format!("no card in {reader}")),
            Error::RemovedCard => Self::nothing(format!("the card was removed from {reader}")),
            Error::UnknownReader | Error::ReaderUnavailable => {
                Self::nothing(format!("{reader} is gone: unplugged, or it answers no more"))
            }
            Error::UnresponsiveCard => {
                Self::failed(format!("the card in {reader} does not answer"))
                    .hint("is it the right way round, and its contacts clean?")
            }
            Error::Timeout => Self::new(Exit::TimeLimit, format!("{reader}: time limit reached")),
            other => {
                let constant = other.constant();
                Self::failed(format!("{reader}: {} ({constant})", lower(&other.to_string())))
                    .hint("-vv shows every message on the wire")
            }
        }
    }

    /// An exchange with the card in `reader` has failed, the last that this thread made; `limit`
    /// was the caller's own.
    pub(crate) fn of_exchange(error: Error, reader: &str, limit: Option<Duration>) -> Self {
        match (error, limit) {
            (Error::Cancelled, _) => {
                Self::new(Exit::Interrupted, "interrupted: the command was cancelled")
            }
            (Error::Timeout, Some(limit)) => {
                let seconds = limit.as_secs_f64();
                let message = format!("time limit: no answer in {seconds} s; command cancelled");
                Self::new(Exit::TimeLimit, message)
            }
            (Error::Timeout, None) => {
                let message = "time limit: no answer in the time a card has; command cancelled";
                Self::new(Exit::TimeLimit, message)
            }
            (Error::NoSmartcard, _) => Self::of(Error::RemovedCard, reader),
            (Error::NotTransacted | Error::CommError, _) => {
                let message = match scard::last_cause() {
                    Some(cause) => format!("the exchange failed: {cause}"),
                    None => "the exchange failed".to_owned(),
                };
                Self::failed(message).hint("-vv shows every message on the wire")
            }
            (other, _) => Self::of(other, reader),
        }
    }

    /// The message as one line, for JSON.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Said { message, .. } => message.clone(),
            Self::Interrupted => "interrupted".into(),
            Self::OutputGone => "nobody reads the output".into(),
            Self::Child(status) => format!("the command ended with status {status}"),
        }
    }

    /// Says it on standard error; the status to end with.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Said { exit, message, hints } => {
                complain(&format!("scard: {message}"), &hints);
                ExitCode::from(exit as u8)
            }
            Self::Interrupted => ExitCode::from(Exit::Interrupted as u8),
            // As `scard list | head` is to end: quietly.
            Self::OutputGone => ExitCode::SUCCESS,
            Self::Child(status) => ExitCode::from(status),
        }
    }
}

/// Says something on standard error. That nobody may listen is no reason to panic.
pub(crate) fn complain(message: &str, hints: &[String]) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{message}");
    for hint in hints {
        let _ = writeln!(stderr, "  {hint}");
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputGone,
            _ => Self::failed(format!("output: {error}")),
        }
    }
}

/// A sentence's beginning, to stand after a colon.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
