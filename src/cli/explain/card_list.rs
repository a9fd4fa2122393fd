//! Names of cards by their ATR, from the list of pcsc-tools where it is installed.
//!
//! The list has an ATR as a regular expression at the beginning of a line, and below it the cards
//! that have it, each line indented by a tab. Of regular expressions it uses `.`, `[...]` and `*`.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Where the list stands, where it is installed.
const PATH: &str = "/usr/share/pcsc/smartcard_list.txt";

/// The most names that are told.
const MAX_NAMES: usize = 20;

/// What the installed list calls a card with this ATR; None without a list.
pub(crate) fn look_up(atr: &[u8]) -> Option<Vec<String>> {
    File::open(PATH).ok().map(|list| names(BufReader::new(list), atr))
}

/// What `list` calls a card with this ATR.
fn names(mut list: impl BufRead, atr: &[u8]) -> Vec<String> {
    let atr: Vec<char> = crate::cli::hex::Spaced(atr).to_string().chars().collect();
    let mut names = Vec::new();
    let mut matches = false;
    let mut line = Vec::new();
    while names.len() < MAX_NAMES {
        line.clear();
        if !list.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        match text.strip_prefix('\t') {
            Some(name) if matches => {
                let name: String = name.chars().filter(|c| !c.is_control()).collect();
                names.push(name.trim().to_owned());
            }
            Some(_) => {}
            None => {
                let pattern = text.trim();
                matches = pattern.starts_with('3') && is_match(&elements(pattern), &atr);
            }
        }
    }
    names
}

/// One character of a pattern, and whether it may repeat.
struct Element {
    accepts: Accepts,
    repeats: bool,
}

enum Accepts {
    Any,
    One(char),
    /// First and last character of each range.
    Set(Vec<(char, char)>),
}

impl Element {
    fn accepts(&self, c: char) -> bool {
        match &self.accepts {
            Accepts::Any => true,
            Accepts::One(own) => own.eq_ignore_ascii_case(&c),
            Accepts::Set(ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
            }
        }
    }
}

fn elements(pattern: &str) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let accepts = match c {
            '.' => Accepts::Any,
            '[' => {
                let mut ranges = Vec::new();
                while let Some(first) = chars.next().filter(|c| *c != ']') {
                    let last = match chars.next_if_eq(&'-') {
                        Some(_) => chars.next().unwrap_or(first),
                        None => first,
                    };
                    ranges.push((first.to_ascii_uppercase(), last.to_ascii_uppercase()));
                }
                Accepts::Set(ranges)
            }
            '*' => {
                if let Some(last) = elements.last_mut() {
                    last.repeats = true;
                }
                continue;
            }
            c => Accepts::One(c),
        };
        elements.push(Element { accepts, repeats: false });
    }
    elements
}

/// Whether the whole text matches. An element that repeats takes as little as it can; going back
/// to the last one that did is enough, and keeps the time short whatever the pattern.
fn is_match(pattern: &[Element], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(element), _) if element.repeats => {
                last = Some((p, t));
                p += 1;
            }
            (Some(element), Some(c)) if element.accepts(*c) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = last else { return false };
                let one_more = text.get(taken).zip(pattern.get(at));
                if !one_more.is_some_and(|(c, element)| element.accepts(*c)) {
                    return false;
                }
                last = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# a comment, 3B 00
3B 00
\tfirst card
\tsame card, other name

3B .. 01
\tany second byte
3B 0[0-3,9] 01
\ta set
3B 00 .* 38
\tany number of bytes between
3b 7F.*
\tan open end
";

    fn found(atr: &[u8]) -> Vec<String> {
        names(LIST.as_bytes(), atr)
    }

    #[test]
    fn cards_are_found_by_pattern() {
        assert_eq!(found(&[0x3B, 0x00]), ["first card", "same card, other name"]);
        assert_eq!(found(&[0x3B, 0x03, 0x01]), ["any second byte", "a set"]);
        assert_eq!(found(&[0x3B, 0x05, 0x01]), ["any second byte"]);
        assert_eq!(found(&[0x3B, 0x00, 1, 2, 0x38]), ["any number of bytes between"]);
        assert_eq!(found(&[0x3B, 0x7F]), ["an open end"]);
        assert_eq!(found(&[0x3B, 0x7F, 0x00]), ["an open end"]);
        assert!(found(&[0x3F, 0x00]).is_empty());
        assert!(found(&[0x3B, 0x00, 0x00]).is_empty());
    }

    #[test]
    fn patterns_that_are_none_match_nothing() {
        for pattern in ["*", "[", "[0-", "3B (00|01)", "3B 00\\"] {
            assert!(!is_match(&elements(pattern), &['3', 'B']), "{pattern}");
        }
    }

    #[test]
    fn many_repetitions_take_no_time() {
        let text: Vec<char> = "0".repeat(2000).chars().collect();
        assert!(!is_match(&elements(&".*1".repeat(200)), &text));
        assert!(is_match(&elements(&".*0".repeat(200)), &text));
    }
}
