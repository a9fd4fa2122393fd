//! The table's text, read. Nothing in it is trusted: a bad line is named and left out.

use super::{Effect, EscapePattern, Flags, Row};
use crate::descriptor::ExchangeLevel;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

/// Longest wait that a row may ask for.
const MAX_MILLIS: u32 = 600_000;

/// Most data of an escape command.
const MAX_ESCAPE: usize = 256;

/// A line that is no row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// The line, counted from 1.
    pub line: usize,
    /// The character in it, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: TextErrorKind,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.kind)
    }
}

impl core::error::Error for TextError {}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TextErrorKind {
    /// Not `VVVV:PPPP` or `VVVV:*` in hexadecimal.
    BadDevice(String),
    /// Not a bcdDevice or a range of them.
    BadFirmware(String),
    /// No effect of that name.
    UnknownEffect(String),
    /// The effect's value is missing, not wanted, or out of range.
    BadValue(String),
    /// A device and no effect.
    NoEffect,
}

impl fmt::Display for TextErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadDevice(text) => {
                write!(f, "{text:?} is no device: VVVV:PPPP or VVVV:* in hexadecimal")
            }
            Self::BadFirmware(text) => {
                write!(f, "{text:?} is no firmware: fw=HHHH or fw=HHHH-HHHH in hexadecimal")
            }
            Self::UnknownEffect(text) => write!(f, "{text:?} is no known effect"),
            Self::BadValue(text) => write!(f, "the value of {text:?} is missing or wrong"),
            Self::NoEffect => f.write_str("a device and no effect"),
        }
    }
}

/// The rows of `text`, and the lines that are none.
pub(super) fn parse(text: &str) -> (Vec<Row>, Vec<TextError>) {
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match row(line) {
            Ok(row) => rows.extend(row),
            Err((column, kind)) => errors.push(TextError { line: number + 1, column, kind }),
        }
    }
    (rows, errors)
}

fn row(line: &str) -> Result<Option<Row>, (usize, TextErrorKind)> {
    let (content, evidence) = line.split_once('#').unwrap_or((line, ""));
    let mut words = words(content);
    let Some((column, device)) = words.next() else {
        return Ok(None);
    };
    let (vendor, product) =
        parse_device(device).ok_or((column, TextErrorKind::BadDevice(device.to_string())))?;
    let mut firmware = 0..=u16::MAX;
    let mut effects = Vec::new();
    for (column, word) in words {
        if let Some(range) = word.strip_prefix("fw=") {
            firmware = parse_firmware(range)
                .ok_or((column, TextErrorKind::BadFirmware(word.to_string())))?;
        } else {
            effects.push(parse_effect(word).map_err(|kind| (column, kind))?);
        }
    }
    if effects.is_empty() {
        return Err((column, TextErrorKind::NoEffect));
    }
    let evidence = evidence.trim().to_string();
    Ok(Some(Row { vendor, product, firmware, effects, evidence }))
}

/// The words of a line, each with its column.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = line;
    let mut column = 1;
    core::iter::from_fn(move || {
        let word = rest.trim_start();
        let (skipped, _) = rest.split_at_checked(rest.len() - word.len())?;
        column += skipped.chars().count();
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        let (word, behind) = word.split_at_checked(end)?;
        let at = column;
        column += word.chars().count();
        rest = behind;
        (!word.is_empty()).then_some((at, word))
    })
}

fn parse_device(word: &str) -> Option<(u16, Option<u16>)> {
    let (vendor, product) = word.split_once(':')?;
    let product = if product == "*" { None } else { Some(hex16(product)?) };
    Some((hex16(vendor)?, product))
}

fn hex16(text: &str) -> Option<u16> {
    let plain = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u16::from_str_radix(text, 16).ok() } else { None }
}

fn parse_firmware(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first_number = if first.is_empty() { 0 } else { hex16(first)? };
    let last_number = if last.is_empty() { u16::MAX } else { hex16(last)? };
    let given = !first.is_empty() || !last.is_empty();
    (given && first_number <= last_number).then_some(first_number..=last_number)
}

fn parse_effect(word: &str) -> Result<Effect, TextErrorKind> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let effect = match name {
        "forget" => plain(value, Effect::Forget),
        "short-is-extended" => plain(value, Effect::ShortIsExtended),
        "no-pin" => plain(value, Effect::NoPin),
        "auto-ifsd" => plain(value, Effect::AutoIfsd),
        "level" => value.and_then(level).map(Effect::Level),
        "max-ifsd" => number(value, 1..=254).map(Effect::MaxIfsd),
        "max-data-rate" => number(value, 1..=u32::MAX).map(Effect::MaxDataRate),
        "slot-rates" => value.and_then(numbers).map(Effect::SlotRates),
        "open-delay" => millis(value).map(Effect::OpenDelay),
        "reader-time" => millis(value).map(Effect::ReaderTime),
        "extra-time" => millis(value).map(Effect::ExtraTime),
        "open-escape" => value.and_then(hex).map(Effect::OpenEscape),
        "allow-escape" => value.and_then(pattern).map(Effect::AllowEscape),
        "pin-length" => value.and_then(length).map(Effect::PinLength),
        "pin-condition" => value.and_then(hex).and_then(|bytes| match bytes[..] {
            [condition] => Some(Effect::PinCondition(condition)),
            _ => None,
        }),
        flag => match flag_named(flag) {
            Some(flag) => plain(value, Effect::Flag(flag)),
            None => return Err(TextErrorKind::UnknownEffect(name.to_string())),
        },
    };
    effect.ok_or_else(|| TextErrorKind::BadValue(word.to_string()))
}

fn plain(value: Option<&str>, effect: Effect) -> Option<Effect> {
    value.is_none().then_some(effect)
}

/// The flag called `name`, with `-` for `_`, in small letters.
fn flag_named(name: &str) -> Option<Flags> {
    let same = |constant: &str| {
        constant.len() == name.len()
            && constant.bytes().zip(name.bytes()).all(|(constant, byte)| match constant {
                b'_' => byte == b'-',
                letter => byte == letter.to_ascii_lowercase(),
            })
    };
    Flags::all().iter_names().find(|(constant, _)| same(constant)).map(|(_, flag)| flag)
}

fn level(value: &str) -> Option<ExchangeLevel> {
    Some(match value {
        "character" => ExchangeLevel::Character,
        "tpdu" => ExchangeLevel::Tpdu,
        "short" => ExchangeLevel::ShortApdu,
        "extended" => ExchangeLevel::ExtendedApdu,
        _ => return None,
    })
}

fn number(value: Option<&str>, range: RangeInclusive<u32>) -> Option<u32> {
    let value = value?;
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| plain && range.contains(number))
}

fn numbers(value: &str) -> Option<Vec<u32>> {
    value.split(',').map(|word| number(Some(word), 1..=u32::MAX)).collect()
}

fn millis(value: Option<&str>) -> Option<Duration> {
    number(value, 0..=MAX_MILLIS).map(|millis| Duration::from_millis(millis.into()))
}

fn length(value: &str) -> Option<RangeInclusive<u8>> {
    let (least, most) = value.split_once('-')?;
    let of = |text| number(Some(text), 0..=255).and_then(|number| u8::try_from(number).ok());
    let (least, most) = (of(least)?, of(most)?);
    (least <= most).then_some(least..=most)
}

fn hex(value: &str) -> Option<Bytes> {
    pairs(value)?.map(byte).collect()
}

fn pattern(value: &str) -> Option<EscapePattern> {
    if value == "*" {
        return Some(EscapePattern::Any);
    }
    let byte = |pair: &[u8]| if pair == b".." { Some(None) } else { byte(pair).map(Some) };
    pairs(value)?.map(byte).collect::<Option<_>>().map(EscapePattern::Bytes)
}

/// The digits of an escape command, two for a byte.
fn pairs(value: &str) -> Option<impl Iterator<Item = &[u8]>> {
    let digits = value.as_bytes();
    let fits = !digits.is_empty() && digits.len() % 2 == 0 && digits.len() / 2 <= MAX_ESCAPE;
    fits.then(|| digits.chunks(2))
}

fn byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}
