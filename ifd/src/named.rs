//! Readers that are not on USB, by what a user calls them in a setting:
//!
//! | name | what it is |
//! |---|---|
//! | `sim:NAME` | the simulated reader of that name ([`Hands::of`]) |
//! | `sim:NAME@PATH` | the same; a socket at PATH takes what its user does ([`sim::control`]) |
//! | `trace:FILE` | a recorded trace, strictly and with the recording's timing ([`replay`](crate::transport::replay)) |
//! | `trace:lenient:FILE` | the same, for what another driver recorded ([`Replay::lenient`]) |
//! | `trace:fast:FILE` | without its timing: what the reader took minutes for takes no time |
//! | `trace:lenient:fast:FILE` | both |
//!
//! The words stand before the file, between colons, as pcscd's reader.conf takes few other signs.

use crate::Clock;
use crate::trace::{Choice, Trace, TraceError};
use crate::transport::Transport;
use crate::transport::replay::{Replay, Report};
use crate::transport::sim::{OpenError, SimTransport};
use ccid::ClassDescriptor;
use sim::hands::{Hardware, NoDevice};
use sim::vpcd::Vpcd;
use sim::{Hands, Port};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Why there is no reader of that name.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// There is no such simulated reader.
    Device(NoDevice),
    /// The socket cannot be made.
    Control(PathBuf, std::io::Error),
    /// The simulated device cannot be opened.
    Simulated(OpenError),
    /// The file cannot be read.
    File(PathBuf, std::io::Error),
    /// It holds no trace that can be replayed.
    Trace(PathBuf, TraceError),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Control(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Simulated(error) => write!(f, "simulated reader: {error}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Trace(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for NameError {}

/// How a trace is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// As one that another driver recorded ([`Replay::lenient`]).
    pub lenient: bool,
    /// In [virtual time](Clock::virtual_time) instead of with the recording's timing.
    pub fast: bool,
    /// The class descriptor, for a log, which has none.
    pub class: Option<ClassDescriptor>,
}

impl Manner {
    /// By the words before a file's name, and that name.
    fn split(mut name: &str) -> (Self, &str) {
        let mut manner = Self::default();
        loop {
            match name.split_once(':') {
                Some(("lenient", rest)) => (manner.lenient, name) = (true, rest),
                Some(("fast", rest)) => (manner.fast, name) = (true, rest),
                _ => return (manner, name),
            }
        }
    }
}

/// A reader that has been found by its name. It is there for as long as this lives.
#[derive(Debug)]
pub struct Named(Source);

enum Source {
    Simulated { port: Port<Box<dyn Hardware>>, address: Option<SocketAddr>, _user: User },
    Trace { path: PathBuf, manner: Manner, report: Mutex<Option<Report>> },
}

/// Who handles a simulated device, and is let go with it.
enum User {
    Nobody {
        _vpcd: Option<Vpcd>,
    },
    #[cfg(unix)]
    Socket {
        _control: sim::control::Control,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated { .. } => f.write_str("Simulated"),
            Self::Trace { path, manner, .. } => {
                f.debug_tuple("Trace").field(path).field(manner).finish()
            }
        }
    }
}

impl Named {
    /// The reader called `name`; none if that is no name of this kind. A simulated device is made
    /// anew.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn find(name: &str) -> Result<Option<Self>, NameError> {
        match (name.strip_prefix("sim:"), name.strip_prefix("trace:")) {
            (Some(name), _) => Self::simulated(name).map(Some),
            (_, Some(name)) => {
                let (manner, path) = Manner::split(name);
                Ok(Some(Self::trace(path.into(), manner)))
            }
            (None, None) => Ok(None),
        }
    }

    /// The trace in that file, which is read when it is opened.
    pub const fn trace(path: PathBuf, manner: Manner) -> Self {
        Self(Source::Trace { path, manner, report: Mutex::new(None) })
    }

    /// How the replay goes of a trace that is open; none of other readers.
    pub fn report(&self) -> Option<Report> {
        match &self.0 {
            Source::Simulated { .. } => None,
            Source::Trace { report, .. } => {
                report.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// The simulated reader called `name`, as behind `sim:`.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn simulated(name: &str) -> Result<Self, NameError> {
        let (name, path) = match name.split_once('@') {
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (name, None),
        };
        let hands = Hands::of(name).map_err(NameError::Device)?;
        let (port, address) = (hands.port(), hands.address());
        let user = match path {
            None => User::Nobody { _vpcd: hands.leave() },
            #[cfg(unix)]
            Some(path) => match sim::control::Control::listen(&path, hands) {
                Ok(control) => User::Socket { _control: control },
                Err(error) => return Err(NameError::Control(path, error)),
            },
            #[cfg(not(unix))]
            Some(path) => {
                let error = std::io::ErrorKind::Unsupported.into();
                return Err(NameError::Control(path, error));
            }
        };
        Ok(Self(Source::Simulated { port, address, _user: user }))
    }

    /// Where programs connect that are its cards ([`sim::vpcd`]); none if they cannot.
    pub const fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Source::Simulated { address, .. } => *address,
            Source::Trace { .. } => None,
        }
    }

    /// Whether it may be there again after it was gone: a simulated device that is plugged in.
    pub fn may_return(&self) -> bool {
        match &self.0 {
            Source::Simulated { port, .. } => port.is_plugged(),
            Source::Trace { .. } => false,
        }
    }

    /// How often a simulated device has been plugged or unplugged. None of others, which do not
    /// return.
    pub fn plugs(&self) -> Option<u64> {
        match &self.0 {
            Source::Simulated { port, .. } => Some(port.plugs()),
            Source::Trace { .. } => None,
        }
    }

    /// Waits, without end if need be, until a simulated device is there again after
    /// [`plugs`](Self::plugs) was `known`: what that is then.
    pub fn wait_for_return(&self, known: u64) -> Option<u64> {
        match &self.0 {
            Source::Simulated { port, .. } => Some(port.wait_until_plugged(known)),
            Source::Trace { .. } => None,
        }
    }

    /// A transport to it, with the clock it lives by. A device that was unplugged and plugged in
    /// again takes a new one; a trace begins anew.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn open(&self) -> Result<(Box<dyn Transport>, Clock), NameError> {
        match &self.0 {
            Source::Simulated { port, .. } => {
                let transport = SimTransport::new(port.clone()).map_err(NameError::Simulated)?;
                Ok((Box::new(transport), Clock::monotonic()))
            }
            Source::Trace { path, manner, report } => {
                let file = File::open(path).map_err(|e| NameError::File(path.clone(), e))?;
                let choice = Choice { class: manner.class, ..Choice::default() };
                let trace = Trace::read_chosen(BufReader::new(file), choice);
                let trace = trace.map_err(|e| NameError::Trace(path.clone(), e))?;
                let (replay, told) = match manner.lenient {
                    true => Replay::lenient(trace),
                    false => Replay::new(trace),
                };
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
                let clock = match manner.fast {
                    true => Clock::virtual_time(),
                    false => Clock::monotonic(),
                };
                Ok((Box::new(replay), clock))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(Named::find("usb:08e6/3437").unwrap().is_none());
        assert!(Named::find("").unwrap().is_none());
        for name in ["sim:default", "sim:iccd-b", "sim:garbage", "sim:eight-slots", "sim:vpcd:0"] {
            let named = Named::find(name).unwrap().unwrap();
            assert!(named.open().is_ok(), "{name}");
            assert_eq!(named.address().is_some(), name == "sim:vpcd:0");
        }
        for (name, text) in [
            ("sim:", "no simulated reader is called \"\""),
            ("sim:x@y", "no simulated reader is called \"x\""),
            ("sim:vpcd:", "no simulated reader is called \"vpcd:\""),
            ("sim:vpcd:65536", "no simulated reader is called \"vpcd:65536\""),
            ("sim:default@/nowhere/at/all", "/nowhere/at/all: "),
        ] {
            let error = Named::find(name).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let trace = Named::find("trace:/nowhere/at/all").unwrap().unwrap();
        assert!(matches!(trace.open(), Err(NameError::File(..))));
    }

    #[test]
    fn a_trace_is_replayed_as_its_name_says() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/sim-apdu.pcapng");
        for (words, is_virtual) in
            [("", false), ("lenient:", false), ("fast:", true), ("lenient:fast:", true)]
        {
            let named = Named::find(&format!("trace:{words}{fixture}")).unwrap().unwrap();
            assert!(named.report().is_none(), "it is not open");
            let (_, clock) = named.open().unwrap();
            assert_eq!(matches!(clock, Clock::Virtual(_)), is_virtual, "{words}");
            assert!(named.report().unwrap().missing() > 0);
        }
        let both = Manner { lenient: true, fast: true, class: None };
        assert_eq!(Manner::split("fast:lenient:x"), (both, "x"));
        for file in ["x", "fast", "./fast:x", "slow:x", "/a:b/fast:c"] {
            assert_eq!(Manner::split(file), (Manner::default(), file));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_device_with_a_socket_can_be_unplugged() {
        use std::io::{BufRead, BufReader, Write};
        let path = std::env::temp_dir().join(format!("scard-named-{}", std::process::id()));
        let named = Named::find(&format!("sim:empty@{}", path.display())).unwrap().unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(b"unplug\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(line, "ok\n");
        assert!(matches!(named.open(), Err(NameError::Simulated(OpenError::Unplugged))));
    }
}
