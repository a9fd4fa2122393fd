//! What `scard apdu` is told to do: APDUs as arguments, or a script.

use crate::cli::failure::Failure;
use crate::cli::hex;

/// The shortest command APDU: CLA INS P1 P2.
const MIN_APDU: usize = 4;

/// The longest: an extended one with 65 535 bytes of data and Le.
const MAX_APDU: usize = 65_544;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Send this command APDU.
    Apdu(Vec<u8>),
    /// Reset the card.
    Reset,
}

/// Reads APDUs given as arguments.
pub(crate) fn of_arguments(words: &[String]) -> Result<Vec<Step>, Failure> {
    let read = |(n, word): (usize, &String)| {
        let place = |column| match words.len() {
            1 => format!("APDU, column {column}"),
            _ => format!("APDU {}, column {column}", n + 1),
        };
        let failure = |(column, text): (usize, String)| {
            let failure = Failure::usage(format!("{}: {text}", place(column)));
            let hint = "quote an APDU with blanks: scard apdu '00 A4 04 00'";
            if words.len() > 1 { failure.hint(hint) } else { failure }
        };
        apdu(word).map_err(failure)
    };
    words.iter().enumerate().map(read).collect()
}

/// Reads a line of a script; none if it holds nothing to do. `number` counts from 1.
pub(crate) fn of_line(line: &str, number: usize) -> Result<Option<Step>, Failure> {
    let text = line.split('#').next().unwrap_or_default();
    match text.trim() {
        "" => return Ok(None),
        word if word.eq_ignore_ascii_case("reset") => return Ok(Some(Step::Reset)),
        _ => {}
    }
    let failure = |(column, text)| {
        Failure::usage(format!("line {number}, column {column}: {text}"))
            .hint("a line is an APDU in hexadecimal, `reset`, or a comment after #")
    };
    apdu(text).map(Some).map_err(failure)
}

/// Reads an APDU; or where it is wrong, and how.
fn apdu(text: &str) -> Result<Step, (usize, String)> {
    let bytes = hex::parse(text).map_err(|error| (error.column(), error.to_string()))?;
    let begin = text.chars().take_while(|c| c.is_whitespace()).count() + 1;
    if bytes.len() < MIN_APDU {
        let there = match bytes.len() {
            1 => "1 byte".into(),
            n => format!("{n} bytes"),
        };
        let problem = format!("{there}, but an APDU has at least 4: CLA INS P1 P2");
        return Err((begin, problem));
    }
    if bytes.len() > MAX_APDU {
        return Err((begin, format!("{} bytes; no APDU has more than {MAX_APDU}", bytes.len())));
    }
    Ok(Step::Apdu(bytes))
}

/// Whether a command APDU may carry a PIN: VERIFY, CHANGE or RESET REFERENCE DATA with data
/// (ISO/IEC 7816-4 §11.5).
pub(crate) fn carries_pin(apdu: &[u8]) -> bool {
    matches!(apdu, [_, 0x20 | 0x21 | 0x24 | 0x25 | 0x2C | 0x2D, _, _, _, _, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<impl std::fmt::Debug, Failure>) -> String {
        match result.unwrap_err() {
            Failure::Said { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_script_has_apdus_resets_and_comments() {
        for (line, step) in [
            ("", None),
            ("  # a comment", None),
            ("00A40400", Some(Step::Apdu(vec![0x00, 0xA4, 0x04, 0x00]))),
            (" 00 a4 04 00 # SELECT", Some(Step::Apdu(vec![0x00, 0xA4, 0x04, 0x00]))),
            ("Reset # again", Some(Step::Reset)),
        ] {
            assert_eq!(of_line(line, 1), Ok(step), "{line:?}");
        }
    }

    #[test]
    fn errors_in_a_script_name_line_and_column() {
        for (line, error) in [
            ("00 A4 0x 00", "line 7, column 8: 'x' is not a hexadecimal digit"),
            ("00A4040", "line 7, column 7: a single hexadecimal digit; every byte has two"),
            ("  00A404", "line 7, column 3: 3 bytes, but an APDU has at least 4: CLA INS P1 P2"),
            ("resett", "line 7, column 1: 'r' is not a hexadecimal digit"),
        ] {
            assert_eq!(said(of_line(line, 7)), error, "{line:?}");
        }
    }

    #[test]
    fn errors_in_arguments_name_the_argument() {
        let words = |text: &str| text.split(',').map(String::from).collect::<Vec<_>>();
        assert_eq!(
            said(of_arguments(&words("00A40000,00B00g"))),
            "APDU 2, column 6: 'g' is not a hexadecimal digit"
        );
        assert_eq!(
            said(of_arguments(&words("00"))),
            "APDU, column 1: 1 byte, but an APDU has at least 4: CLA INS P1 P2"
        );
        let long = "00".repeat(MAX_APDU + 1);
        assert!(said(of_arguments(&[long])).contains("no APDU has more than 65544"));
    }

    #[test]
    fn pins_are_known_by_their_instruction() {
        assert!(carries_pin(&[0x00, 0x20, 0x00, 0x81, 0x04, 1, 2, 3, 4]));
        assert!(carries_pin(&[0x80, 0x24, 0x00, 0x81, 0x00, 0x00, 0x04, 1, 2, 3, 4]));
        assert!(!carries_pin(&[0x00, 0x20, 0x00, 0x81]));
        assert!(!carries_pin(&[0x00, 0x10, 0x00, 0x00, 0x20, 1, 2, 3]));
    }
}
