//! The driver's log: lines go to pcscd's log, where that is the host, else to stderr. How much is
//! logged is a setting. PINs are left out where the lines are made.

use crate::host::{Log, Priority};
use crate::settings::Settings;
use log::{Level, Metadata, Record};
use std::ffi::CString;
use std::sync::Once;

struct Logger(Option<Log>);

/// Logs from here on. The first call counts.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        let logger: &'static Logger = Box::leak(Box::new(Logger(Log::find())));
        // A program of ours that has a log already keeps it.
        if log::set_logger(logger).is_ok() {
            log::set_max_level(Settings::get().log);
        }
    });
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record);
        match self.0 {
            Some(log) => log.write(priority(record.level()), &line),
            None => eprintln!("{}", line.to_string_lossy()),
        }
    }

    fn flush(&self) {}
}

/// What a device sends may be in it: control characters become spaces.
fn line(record: &Record<'_>) -> CString {
    let text = format!("{}: {}", record.target(), record.args());
    let tame: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // No control character, so no NUL.
    CString::new(tame).unwrap_or_default()
}

const fn priority(level: Level) -> Priority {
    match level {
        Level::Error => Priority::Critical,
        Level::Warn => Priority::Error,
        Level::Info => Priority::Info,
        Level::Debug | Level::Trace => Priority::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let record =
            |text| line(&Record::builder().target("ifd").args(format_args!("{}", text)).build());
        assert_eq!(record("a\nb\0c\u{1b}[2J").as_c_str(), c"ifd: a b c [2J");
        assert_eq!(priority(Level::Warn), Priority::Error);
        assert_eq!(priority(Level::Error), Priority::Critical);
        assert_eq!(priority(Level::Trace), Priority::Debug);
    }
}
