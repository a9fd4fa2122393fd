//! What the environment says. A program with more rights than its caller does not listen to it.
//!
//! | variable | |
//! |---|---|
//! | `SCARD_READERS` | the readers, separated by commas: `usb`, all those on USB; `sim:NAME`, `sim:NAME@SOCKET`, `trace:FILE` ([`ifd::named`]). `usb` if not set |
//! | `SCARD_CANCEL` | `waits`: SCardCancel ends waits and queued calls, and leaves alone what a reader is executing |
//! | `SCARD_LOG` | what is told on stderr: `off`, `error`, `warn`, `info`, `debug`, `trace`. `error` if not set |

use ifd::environment;
use log::LevelFilter;

/// The name that stands for the readers on USB.
pub(crate) const USB: &str = "usb";

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// Never empty.
    pub(crate) readers: Vec<String>,
    pub(crate) cancel_commands: bool,
    pub(crate) log: LevelFilter,
}

impl Settings {
    pub(crate) fn of_environment() -> Self {
        Self::read(|name| environment::var(name)?.into_string().ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let readers = variable("SCARD_READERS").unwrap_or_default();
        let readers = readers.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut readers: Vec<_> = readers.map(str::to_owned).collect();
        if readers.is_empty() {
            readers.push(USB.to_owned());
        }
        Self {
            readers,
            cancel_commands: variable("SCARD_CANCEL").is_none_or(|value| value != "waits"),
            log: variable("SCARD_LOG")
                .and_then(|level| level.parse().ok())
                .unwrap_or(LevelFilter::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(readers: Option<&str>, cancel: Option<&str>, log: Option<&str>) -> Settings {
        Settings::read(|name| match name {
            "SCARD_READERS" => readers.map(str::to_owned),
            "SCARD_CANCEL" => cancel.map(str::to_owned),
            "SCARD_LOG" => log.map(str::to_owned),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn what_is_not_set_is_usual() {
        let usual = Settings {
            readers: vec!["usb".into()],
            cancel_commands: true,
            log: LevelFilter::Error,
        };
        assert_eq!(read(None, None, None), usual);
        assert_eq!(read(Some(" ,"), Some("everything"), Some("nonsense")), usual);
    }

    #[test]
    fn what_is_set_counts() {
        let set = read(Some("sim:default@/tmp/x, usb"), Some("waits"), Some("debug"));
        assert_eq!(set.readers, ["sim:default@/tmp/x", "usb"]);
        assert!(!set.cancel_commands);
        assert_eq!(set.log, LevelFilter::Debug);
    }
}
