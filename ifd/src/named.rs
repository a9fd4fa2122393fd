//! Readers that are not on USB, by what a user calls them in a setting:
//!
//! | name | what it is |
//! |---|---|
//! | `sim:NAME` | the simulated reader of that name ([`sim::presets`], [`sim::Faulty`]) |
//! | `sim:NAME@PATH` | the same; a socket at PATH takes what its user does ([`sim::control`]) |
//! | `trace:FILE` | a recorded trace, replayed in real time ([`replay`](crate::transport::replay)) |

use crate::Clock;
use crate::trace::{Trace, TraceError};
use crate::transport::Transport;
use crate::transport::replay::Replay;
use crate::transport::sim::{OpenError, SimTransport};
use sim::hands::Hardware;
use sim::{Hands, Port};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

/// Why there is no reader of that name.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// No simulated reader is called so.
    UnknownPreset(String),
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
            Self::UnknownPreset(name) => write!(f, "no simulated reader is called {name:?}"),
            Self::Control(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Simulated(error) => write!(f, "simulated reader: {error}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Trace(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for NameError {}

/// A reader that has been found by its name. It is there for as long as this lives.
#[derive(Debug)]
pub struct Named(Source);

enum Source {
    Simulated {
        port: Port<Box<dyn Hardware>>,
        #[cfg(unix)]
        _control: Option<sim::control::Control>,
    },
    Trace(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated { .. } => f.write_str("Simulated"),
            Self::Trace(path) => f.debug_tuple("Trace").field(path).finish(),
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
        if let Some(name) = name.strip_prefix("sim:") {
            let (preset, path) = match name.split_once('@') {
                Some((preset, path)) => (preset, Some(PathBuf::from(path))),
                None => (name, None),
            };
            let unknown = || NameError::UnknownPreset(preset.to_owned());
            let hands = Hands::of(preset).ok_or_else(unknown)?;
            return Self::simulated(hands, path).map(Some);
        }
        Ok(name.strip_prefix("trace:").map(|path| Self(Source::Trace(path.into()))))
    }

    #[cfg(unix)]
    fn simulated(hands: Hands, path: Option<PathBuf>) -> Result<Self, NameError> {
        let port = hands.port();
        let control = match path {
            Some(path) => sim::control::Control::listen(&path, hands)
                .map(Some)
                .map_err(|error| NameError::Control(path, error))?,
            None => None,
        };
        Ok(Self(Source::Simulated { port, _control: control }))
    }

    #[cfg(not(unix))]
    fn simulated(hands: Hands, path: Option<PathBuf>) -> Result<Self, NameError> {
        match path {
            Some(path) => Err(NameError::Control(path, std::io::ErrorKind::Unsupported.into())),
            None => Ok(Self(Source::Simulated { port: hands.port() })),
        }
    }

    /// Whether it may be there again after it was gone: a simulated device that is plugged in.
    pub fn may_return(&self) -> bool {
        match &self.0 {
            Source::Simulated { port, .. } => port.is_plugged(),
            Source::Trace(_) => false,
        }
    }

    /// How often a simulated device has been plugged or unplugged. None of others, which do not
    /// return.
    pub fn plugs(&self) -> Option<u64> {
        match &self.0 {
            Source::Simulated { port, .. } => Some(port.plugs()),
            Source::Trace(_) => None,
        }
    }

    /// Waits, without end if need be, until a simulated device is there again after
    /// [`plugs`](Self::plugs) was `known`: what that is then.
    pub fn wait_for_return(&self, known: u64) -> Option<u64> {
        match &self.0 {
            Source::Simulated { port, .. } => Some(port.wait_until_plugged(known)),
            Source::Trace(_) => None,
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
            Source::Trace(path) => {
                let file = File::open(path).map_err(|e| NameError::File(path.clone(), e))?;
                let trace = Trace::read(file).map_err(|e| NameError::Trace(path.clone(), e))?;
                let (replay, _) = Replay::new(trace);
                Ok((Box::new(replay), Clock::monotonic()))
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
        for name in ["sim:default", "sim:iccd-b", "sim:garbage", "sim:eight-slots"] {
            let named = Named::find(name).unwrap().unwrap();
            assert!(named.open().is_ok(), "{name}");
        }
        for (name, text) in [
            ("sim:", "no simulated reader is called \"\""),
            ("sim:x@y", "no simulated reader is called \"x\""),
            ("sim:default@/nowhere/at/all", "/nowhere/at/all: "),
        ] {
            let error = Named::find(name).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let trace = Named::find("trace:/nowhere/at/all").unwrap().unwrap();
        assert!(matches!(trace.open(), Err(NameError::File(..))));
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
