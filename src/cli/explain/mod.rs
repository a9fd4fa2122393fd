//! What bytes mean, in words: tables of fields, for people and as JSON.

pub(crate) mod atr;
pub(crate) mod card_list;
pub(crate) mod descriptor;
mod historical;

use crate::cli::hex::{Spaced, compact};
use serde_json::{Value, json};
use std::io::{self, Write};

/// A field and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Where its bytes begin.
    pub(crate) offset: usize,
    /// Its bytes as they are sent.
    pub(crate) bytes: Vec<u8>,
    /// Its name in the specification; empty where it has none.
    pub(crate) name: String,
    /// Its value, where that is shown instead of its bytes.
    pub(crate) value: Option<String>,
    /// What it says.
    pub(crate) meaning: String,
    /// What is odd about it, if something is.
    pub(crate) odd: Option<String>,
}

impl Row {
    pub(crate) fn new(offset: usize, bytes: &[u8], name: &str, meaning: impl Into<String>) -> Self {
        let meaning = meaning.into();
        let (bytes, name) = (bytes.to_vec(), name.into());
        Self { offset, bytes, name, value: None, meaning, odd: None }
    }

    /// The same, its value shown instead of its bytes.
    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// The same, with what is odd about it.
    pub(crate) fn odd(mut self, odd: impl Into<String>) -> Self {
        self.odd = Some(match self.odd.take() {
            Some(before) => format!("{before}; {}", odd.into()),
            None => odd.into(),
        });
        self
    }

    /// The same, odd if `condition` holds.
    pub(crate) fn odd_if(self, condition: bool, odd: &str) -> Self {
        if condition { self.odd(odd) } else { self }
    }

    /// Its value, or its bytes, in lines.
    fn shown(&self) -> Vec<String> {
        match &self.value {
            Some(value) => vec![value.clone()],
            None => {
                let parts = self.bytes.chunks(BESIDE);
                parts.map(|part| Spaced(part).to_string()).collect()
            }
        }
    }

    /// The row for JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "offset": self.offset,
            "bytes": compact(&self.bytes),
            "name": self.name,
            "value": self.value,
            "meaning": self.meaning,
            "odd": self.odd,
        })
    }
}

/// The most bytes of a field that stand beside its name; the others follow below.
const BESIDE: usize = 6;

/// The width that lines are held to, where the bytes and the words allow it.
const WIDTH: usize = 100;

/// Writes a table: name, bytes, meaning. What is odd stands below, marked.
pub(crate) fn table(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    let shown: Vec<_> = rows.iter().map(Row::shown).collect();
    let beside = shown.iter().flatten().map(String::len).max().unwrap_or_default();
    for (row, bytes) in rows.iter().zip(shown) {
        let mut words = wrap(&row.meaning, WIDTH.saturating_sub(width + beside + 4));
        let odd = row.odd.as_ref().map(|odd| format!("! {odd}"));
        words.extend(odd);
        for n in 0..words.len().max(bytes.len()) {
            let name = if n == 0 { row.name.as_str() } else { "" };
            let bytes = bytes.get(n).map(String::as_str).unwrap_or_default();
            let words = words.get(n).map(String::as_str).unwrap_or_default();
            let line = format!("{name:width$}  {bytes:beside$}  {words}");
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Breaks a text into lines of at most `width` characters, where its words allow it.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// "a", "a and b", "a, b and c".
pub(crate) fn enumerate<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// "1 byte", "2 bytes".
pub(crate) fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = [
            Row::new(0, &[0x3B], "TS", "direct"),
            Row::new(1, &[1, 2, 3, 4, 5, 6, 7], "T0", "long").odd("too long"),
            Row::new(8, &[9], "", "word ".repeat(16).trim_end()),
        ];
        let mut text = Vec::new();
        table(&mut text, &rows).unwrap();
        let expected = "\
TS  3B                 direct
T0  01 02 03 04 05 06  long
    07                 ! too long
    09                 word word word word word word word word word word word word word word word
                       word
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn words_are_enumerated() {
        assert_eq!(enumerate(&["a"]), "a");
        assert_eq!(enumerate(&["a", "b", "c"]), "a, b and c");
        assert_eq!(enumerate::<&str>(&[]), "");
    }
}
