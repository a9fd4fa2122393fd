//! Standard input, line by line, without making Ctrl-C wait for the next line.

use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crossbeam_channel::{Receiver, bounded, select};
use std::io::{self, BufRead};

/// The longest line that is taken: an extended APDU with a blank between all digits, several times
/// over.
const MAX_LINE: u64 = 1 << 20;

/// Lines of standard input.
pub(crate) struct Lines {
    lines: Receiver<io::Result<String>>,
    interrupt: Interrupt,
}

impl Lines {
    /// Begins to read. What has been read and is not asked for is lost with it.
    pub(crate) fn read(interrupt: &Interrupt) -> Result<Self, Failure> {
        let (sender, lines) = bounded(0);
        let read = move || {
            loop {
                let line = next_line(&mut io::stdin().lock());
                let end = !matches!(line, Some(Ok(_)));
                if line.is_none_or(|line| sender.send(line).is_err()) || end {
                    return;
                }
            }
        };
        // Left behind at the end: it waits for a line that may never come.
        std::thread::Builder::new()
            .name("input".into())
            .spawn(read)
            .map_err(|error| Failure::failed(format!("no thread to read the input: {error}")))?;
        log::debug!("reading standard input");
        Ok(Self { lines, interrupt: interrupt.clone() })
    }

    /// The next line without its end; None at the end of the input.
    pub(crate) fn next(&self) -> Result<Option<String>, Failure> {
        select! {
            recv(self.lines) -> line => match line {
                Ok(Ok(line)) => Ok(Some(line)),
                Ok(Err(error)) => Err(Failure::usage(format!("standard input: {error}"))),
                Err(_) => Ok(None),
            },
            recv(self.interrupt.channel()) -> _ => Err(Failure::Interrupted),
        }
    }
}

fn next_line(input: &mut impl BufRead) -> Option<io::Result<String>> {
    let mut line = Vec::new();
    match io::Read::take(&mut *input, MAX_LINE).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(error)),
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == MAX_LINE {
        return Some(Err(io::Error::other("a line of more than a million characters")));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    // What is no UTF-8 is no hexadecimal either, and is told as such, with its column.
    Some(Ok(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_on_any_system() {
        let mut input = &b"one\r\ntwo\n\xFF\nlast"[..];
        let mut next = || next_line(&mut input).map(Result::unwrap);
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some("two"));
        assert_eq!(next().as_deref(), Some("\u{FFFD}"));
        assert_eq!(next().as_deref(), Some("last"));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_has_an_end() {
        let long = vec![b'0'; MAX_LINE as usize + 1];
        assert!(next_line(&mut &long[..]).unwrap().is_err());
    }
}
