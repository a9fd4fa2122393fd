//! Bytes in hexadecimal, read and written.

use std::fmt;

/// Why a text is not bytes in hexadecimal. Positions are columns: characters, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HexError {
    /// No digit at all.
    Empty,
    /// Neither a digit nor a separator.
    NotADigit {
        /// Where.
        column: usize,
        /// What stands there.
        found: char,
    },
    /// A byte has one digit only.
    HalfAByte {
        /// Where.
        column: usize,
    },
}

impl HexError {
    /// Where it is wrong.
    pub(crate) fn column(self) -> usize {
        match self {
            Self::Empty => 1,
            Self::NotADigit { column, .. } | Self::HalfAByte { column } => column,
        }
    }
}

/// What is wrong, without the column. What stands around it is not shown: it may be a PIN.
impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes; they are written in hexadecimal, as 00A40400"),
            Self::NotADigit { found, .. } => {
                write!(f, "{found:?} is not a hexadecimal digit")
            }
            Self::HalfAByte { .. } => f.write_str("a single hexadecimal digit; every byte has two"),
        }
    }
}

/// Reads bytes of two hexadecimal digits each, with blanks, colons or commas between bytes, or
/// nothing.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::new();
    let mut high: Option<(u8, usize)> = None;
    for (n, found) in text.chars().enumerate() {
        let column = n + 1;
        let separator = found.is_whitespace() || matches!(found, ':' | ',');
        let digit = found.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (digit, high) {
            (Some(digit), None) => high = Some((digit, column)),
            (Some(digit), Some((first, _))) => {
                bytes.push(first << 4 | digit);
                high = None;
            }
            (None, Some((_, column))) if separator => return Err(HexError::HalfAByte { column }),
            (None, None) if separator => {}
            (None, _) => return Err(HexError::NotADigit { column, found }),
        }
    }
    match high {
        Some((_, column)) => Err(HexError::HalfAByte { column }),
        None if bytes.is_empty() => Err(HexError::Empty),
        None => Ok(bytes),
    }
}

/// Displays bytes as `00 A4 04 00`.
pub(crate) struct Spaced<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Spaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Bytes as JSON has them: `00A40400`.
pub(crate) fn compact(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The bytes as text, if they are four or more and all of them printable ASCII.
pub(crate) fn as_text(bytes: &[u8]) -> Option<&str> {
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    (bytes.len() >= 4 && bytes.iter().all(printable)).then(|| std::str::from_utf8(bytes).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_however_they_are_separated() {
        for text in ["00A404ff", "00 a4 04 FF", " 00:A4:04:ff\t", "00,A4, 04,ff", "00A4 04FF"] {
            assert_eq!(parse(text), Ok(vec![0x00, 0xA4, 0x04, 0xFF]), "{text:?}");
        }
    }

    #[test]
    fn the_place_of_an_error_is_told() {
        for (text, error) in [
            ("", HexError::Empty),
            ("  ", HexError::Empty),
            ("00 1x", HexError::NotADigit { column: 5, found: 'x' }),
            ("00 A", HexError::HalfAByte { column: 4 }),
            ("0 0A4", HexError::HalfAByte { column: 1 }),
            ("é0", HexError::NotADigit { column: 1, found: 'é' }),
            ("00 – A4", HexError::NotADigit { column: 4, found: '–' }),
            ("0x00", HexError::NotADigit { column: 2, found: 'x' }),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_written() {
        assert_eq!(Spaced(&[0x00, 0xA4]).to_string(), "00 A4");
        assert_eq!(compact(&[0x00, 0xA4]), "00A4");
        assert_eq!(as_text(b"A card"), Some("A card"));
        assert_eq!(as_text(b"abc"), None);
        assert_eq!(as_text(b"abc\x07"), None);
    }
}
