//! What is told on stderr. PINs are left out where the lines are made.

use log::{LevelFilter, Metadata, Record};

struct Stderr;

/// Logs from here on. The first call counts.
pub(crate) fn start(level: LevelFilter) {
    // A Rust program that uses this library has a log of its own, which is not this one's `log`.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

impl log::Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(record);
            // A program may have closed it.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// What a device sends may be in it: control characters become spaces.
fn line(record: &Record<'_>) -> String {
    let text = format!("{}: {}", record.target(), record.args());
    let tame = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    tame.chain(['\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let record = Record::builder().target("ifd").args(format_args!("a\nb\u{1b}[2J")).build();
        assert_eq!(line(&record), "ifd: a b [2J\n");
    }
}
