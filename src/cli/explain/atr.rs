//! The answer to reset, byte by byte (ISO/IEC 7816-3 §8.2 and, for historical bytes, 7816-4 §12).

use super::{Row, counted, enumerate, historical};
use ccid::atr::{baud_rate_adjustment, clock_rate_conversion};

/// The clock that times are given for where the reader's is not known, in kHz.
const USUAL_CLOCK: u32 = 4000;

/// The most bytes an ATR has, TS included.
const MAX_LEN: usize = ccid::atr::MAX_ATR_LEN;

/// An ATR, explained as far as it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Explained {
    /// Byte by byte.
    pub(crate) rows: Vec<Row>,
    /// Why it could not be read to its end, if so.
    pub(crate) broken: Option<String>,
    /// In a line.
    pub(crate) summary: String,
}

/// Explains the ATR in `bytes`. `clock` is what the reader clocks cards with, in kHz.
pub(crate) fn explain(bytes: &[u8], clock: Option<u32>) -> Explained {
    let clock = clock.filter(|clock| *clock != 0).unwrap_or(USUAL_CLOCK);
    let mut reading = Reading {
        bytes,
        at: 0,
        clock: f64::from(clock),
        rows: Vec::new(),
        fi_di: None,
        t1_seen: false,
        t15_seen: false,
    };
    let broken = reading.read().err().map(|Missing(what)| {
        let length = counted(bytes.len(), "byte");
        format!("{what} is missing: the ATR ends after {length}")
    });
    let summary = summary(bytes, f64::from(clock));
    Explained { rows: reading.rows, broken, summary }
}

/// The ATR breaks off where this is due.
struct Missing(String);

struct Reading<'a> {
    bytes: &'a [u8],
    at: usize,
    /// In kHz.
    clock: f64,
    rows: Vec<Row>,
    /// Fi and Di of TA1, if it names valid ones.
    fi_di: Option<(u32, u32)>,
    t1_seen: bool,
    t15_seen: bool,
}

impl Reading<'_> {
    fn read(&mut self) -> Result<(), Missing> {
        let ts = self.next("TS")?;
        self.push(ts, "TS", convention(ts));
        let t0 = self.next("T0")?;
        let historical = usize::from(t0 & 0x0F);
        let text = match historical {
            0 => "no historical bytes".into(),
            n => counted(n, "historical byte"),
        };
        self.push(t0, "T0", (format!("{}; {text}", following(t0, 1)), None));
        let mut announced = Some(t0);
        let mut check_due = false;
        let mut round = 0;
        while let Some(td) = announced {
            round += 1;
            let protocol = if round == 1 { None } else { Some(td & 0x0F) };
            announced = self.round(td, round, protocol)?;
            check_due |= announced.is_some_and(|td| td & 0x0F != 0);
        }
        self.historical(historical)?;
        self.check(check_due)
    }

    fn next(&mut self, what: &str) -> Result<u8, Missing> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| Missing(what.to_owned()))?;
        self.at += 1;
        Ok(byte)
    }

    /// A row for the byte that was read last.
    fn push(&mut self, byte: u8, name: &str, (meaning, odd): (String, Option<String>)) {
        let row = Row::new(self.at.saturating_sub(1), &[byte], name, meaning);
        self.rows.push(match odd {
            Some(odd) => row.odd(odd),
            None => row,
        });
    }

    /// TA, TB, TC and TD of a round, which TD (or T0) of the one before announces; gives this TD.
    fn round(&mut self, td: u8, i: u32, protocol: Option<u8>) -> Result<Option<u8>, Missing> {
        if td & 0x10 != 0 {
            let name = format!("TA{i}");
            let byte = self.next(&name)?;
            let said = self.ta(byte, i, protocol);
            self.push(byte, &name, said);
        }
        if td & 0x20 != 0 {
            let name = format!("TB{i}");
            let byte = self.next(&name)?;
            let said = self.tb(byte, i, protocol);
            self.push(byte, &name, said);
        }
        if td & 0x40 != 0 {
            let name = format!("TC{i}");
            let byte = self.next(&name)?;
            let said = self.tc(byte, i, protocol);
            self.push(byte, &name, said);
        }
        // What stands behind a second T=1 or T=15 says nothing more.
        self.t1_seen |= i > 2 && protocol == Some(1);
        self.t15_seen |= i > 2 && protocol == Some(15);
        if td & 0x80 == 0 {
            return Ok(None);
        }
        let name = format!("TD{i}");
        let byte = self.next(&name)?;
        let (number, more) = (byte & 0x0F, following(byte, i + 1));
        let odd = match number {
            15 if i == 1 => Some("T=15 is no protocol, and must not come first"),
            2..=13 => Some("a protocol that no reader speaks"),
            _ => None,
        };
        self.push(byte, &name, (format!("{}; {more}", protocol_name(number)), odd.map(Into::into)));
        Ok(Some(byte))
    }

    fn ta(&mut self, byte: u8, i: u32, protocol: Option<u8>) -> (String, Option<String>) {
        match (i, protocol) {
            (1, _) => self.fi_di(byte),
            (2, _) => specific_mode(byte),
            (_, Some(1)) if !self.t1_seen => match byte {
                0 | 0xFF => ("IFSC".into(), Some("reserved; 32 bytes are used instead".into())),
                n => (format!("IFSC: the card takes blocks of up to {n} bytes"), None),
            },
            (_, Some(15)) if !self.t15_seen => clock_stop_and_classes(byte),
            (_, protocol) => undefined(protocol),
        }
    }

    fn tb(&self, byte: u8, i: u32, protocol: Option<u8>) -> (String, Option<String>) {
        match (i, protocol) {
            (1 | 2, _) => ("programming voltage: a thing of the past, ignored".into(), None),
            (_, Some(1)) if !self.t1_seen => {
                let (bwi, cwi) = (byte >> 4, byte & 0x0F);
                let cwt = 11 + (1u32 << cwi);
                if bwi > 9 {
                    let text = format!(
                        "BWI {bwi}, CWI {cwi}: {cwt} bit times from character to character"
                    );
                    return (text, Some("BWI is 9 at most".into()));
                }
                let bwt = f64::from(1u32 << bwi) * 960.0 * 372.0 / (self.clock * 1000.0);
                let text = format!(
                    "BWI {bwi}, CWI {cwi}: the card has {} for a block{}, {cwt} bit times for a \
                     character",
                    time(bwt),
                    self.at_clock()
                );
                (text, None)
            }
            (_, Some(15)) if !self.t15_seen => match byte {
                0 => ("contact C6 is not used".into(), None),
                _ if byte & 0x80 == 0 => ("contact C6 is used as standardised".into(), None),
                _ => ("contact C6 is used in a way of the card's own".into(), None),
            },
            (_, protocol) => undefined(protocol),
        }
    }

    fn tc(&self, byte: u8, i: u32, protocol: Option<u8>) -> (String, Option<String>) {
        match (i, protocol) {
            (1, _) => match byte {
                0 => ("no extra guard time".into(), None),
                255 => {
                    ("guard time as short as possible: 12 bit times in T=0, 11 in T=1".into(), None)
                }
                n => (format!("extra guard time: {n} bit times between characters"), None),
            },
            (2, _) => {
                let odd = (byte == 0).then(|| "reserved; 10 is used instead".to_owned());
                let wi = if byte == 0 { 10 } else { byte };
                let fi = self.fi_di.map_or(372, |(fi, _)| fi);
                let wwt = f64::from(wi) * 960.0 * f64::from(fi) / (self.clock * 1000.0);
                let text = format!(
                    "WI {byte}: the card has {} for a character in T=0{}",
                    time(wwt),
                    self.at_clock()
                );
                (text, odd)
            }
            (_, Some(1)) if !self.t1_seen => {
                let check = if byte & 1 == 0 { "an LRC" } else { "a CRC" };
                let odd = (byte & !1 != 0).then(|| "bits 2 to 8 are reserved".to_owned());
                (format!("blocks are checked by {check}"), odd)
            }
            (_, protocol) => undefined(protocol),
        }
    }

    fn fi_di(&mut self, byte: u8) -> (String, Option<String>) {
        let (fi, di) = (clock_rate_conversion(byte >> 4), baud_rate_adjustment(byte & 0x0F));
        let (Some(fi), Some(di)) = (fi, di) else {
            let text = "Fi and Di: the fastest rate".into();
            return (text, Some("reserved; 372 and 1 are used instead".into()));
        };
        self.fi_di = Some((fi, di));
        let highest = highest_clock(byte >> 4);
        let text = format!(
            "Fi {fi}, Di {di}: {} clocks a bit, up to {highest} MHz; {:.0} bit/s{}",
            quotient(fi, di),
            self.clock * 1000.0 * f64::from(di) / f64::from(fi),
            self.at_clock()
        );
        (text, None)
    }

    fn at_clock(&self) -> String {
        format!(" at {} MHz", self.clock / 1000.0)
    }

    fn historical(&mut self, count: usize) -> Result<(), Missing> {
        let bytes = self.bytes.get(self.at..).unwrap_or_default();
        let there = bytes.get(..count.min(bytes.len())).unwrap_or_default();
        if there.len() < count {
            let row = Row::new(self.at, there, "", "historical bytes, not all of them");
            self.rows.extend((!there.is_empty()).then_some(row));
            let number = there.len() + 1;
            return Err(Missing(format!("historical byte {number} of {count}")));
        }
        self.rows.extend(historical::explain(there, self.at));
        self.at += count;
        Ok(())
    }

    fn check(&mut self, due: bool) -> Result<(), Missing> {
        if due {
            let tck = self.next("TCK")?;
            let covered = self.bytes.get(1..self.at.saturating_sub(1)).unwrap_or_default();
            let right = covered.iter().fold(0, |sum, byte| sum ^ byte);
            let odd = (tck != right).then(|| format!("wrong: it should be {right:02X}"));
            let text = if tck == right { "checksum: right" } else { "checksum" };
            self.push(tck, "TCK", (text.into(), odd));
        }
        let behind = self.bytes.get(self.at..).unwrap_or_default();
        if !behind.is_empty() {
            let odd = if due {
                "they do not belong to the ATR"
            } else {
                "they do not belong to the ATR: T=0 alone has no checksum"
            };
            let row = Row::new(self.at, behind, "", "bytes behind the end").odd(odd);
            self.rows.push(row);
        }
        if let (true, Some(last)) = (self.bytes.len() > MAX_LEN, self.rows.last_mut()) {
            let odd = format!("an ATR has at most {MAX_LEN} bytes");
            *last = last.clone().odd(odd);
        }
        Ok(())
    }
}

fn convention(ts: u8) -> (String, Option<String>) {
    match ts {
        0x3B => ("direct convention".into(), None),
        0x3F => ("inverse convention".into(), None),
        0x03 => (
            "inverse convention, as a reader sees it that does not turn the bits round".into(),
            Some("it should have been made 3F".into()),
        ),
        _ => ("convention".into(), Some("neither 3B nor 3F: this is no ATR".into())),
    }
}

/// Which interface bytes of round `i` a T0 or TD announces.
fn following(byte: u8, i: u32) -> String {
    let names: Vec<_> = [(0x10, "TA"), (0x20, "TB"), (0x40, "TC"), (0x80, "TD")]
        .into_iter()
        .filter(|(bit, _)| byte & bit != 0)
        .map(|(_, name)| format!("{name}{i}"))
        .collect();
    match names.len() {
        0 => "no interface bytes follow".into(),
        1 => format!("{} follows", enumerate(&names)),
        _ => format!("{} follow", enumerate(&names)),
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        0 => "T=0, characters".into(),
        1 => "T=1, blocks".into(),
        14 => "T=14, not standardised".into(),
        15 => "T=15, global interface bytes".into(),
        n => format!("T={n}, reserved"),
    }
}

fn specific_mode(byte: u8) -> (String, Option<String>) {
    let change = if byte & 0x80 == 0 { "can be left by a reset" } else { "cannot be left" };
    let rate = if byte & 0x10 == 0 { "rate of TA1" } else { "rate known to the reader beforehand" };
    let odd = (byte & 0x60 != 0).then(|| "bits 6 and 7 are reserved".to_owned());
    (format!("specific mode, which {change}: T={} at once, at the {rate}", byte & 0x0F), odd)
}

fn clock_stop_and_classes(byte: u8) -> (String, Option<String>) {
    let stop = match byte >> 6 {
        0 => "the clock must not be stopped",
        1 => "the clock may be stopped low",
        2 => "the clock may be stopped high",
        _ => "the clock may be stopped high or low",
    };
    let classes: Vec<_> = [(1, "5 V"), (2, "3 V"), (4, "1.8 V")]
        .into_iter()
        .filter(|(bit, _)| byte & bit != 0)
        .map(|(_, class)| class)
        .collect();
    let odd = (byte & 0x38 != 0 || classes.is_empty()).then(|| "reserved classes".to_owned());
    let works = if classes.is_empty() {
        "no class that is known".into()
    } else {
        format!("works at {}", enumerate(&classes))
    };
    (format!("{works}; {stop}"), odd)
}

fn undefined(protocol: Option<u8>) -> (String, Option<String>) {
    let meaning = match protocol {
        Some(n @ (0 | 1 | 15)) => format!("reserved for T={n}"),
        Some(n) => format!("whatever T={n} makes of it"),
        None => "reserved".into(),
    };
    (meaning, None)
}

/// f(max) of an Fi code, in MHz (ISO/IEC 7816-3 table 7).
fn highest_clock(code: u8) -> &'static str {
    match code {
        0 => "4",
        1 | 9 => "5",
        2 => "6",
        3 => "8",
        4 => "12",
        5 => "16",
        6 | 13 => "20",
        10 => "7.5",
        11 => "10",
        12 => "15",
        _ => "?",
    }
}

/// A quotient with as many decimals as it takes, two at most.
fn quotient(dividend: u32, divisor: u32) -> String {
    let text = format!("{:.2}", f64::from(dividend) / f64::from(divisor));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time in seconds, in words.
fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

fn summary(bytes: &[u8], clock: f64) -> String {
    let info = match ccid::Atr::new(bytes).parse() {
        Ok(info) => info,
        Err(error) => return error.to_string(),
    };
    let protocols: Vec<_> = info.protocols().map(|protocol| protocol.to_string()).collect();
    let speaks = match (protocols.len(), info.specific_mode()) {
        (0, _) => "neither T=0 nor T=1".into(),
        (_, Some(ta2)) => format!("T={} only (specific mode)", ta2 & 0x0F),
        (1, None) => format!("{} only", enumerate(&protocols)),
        (_, None) => {
            let first = protocols.first().map(String::as_str).unwrap_or_default();
            format!("{}, {first} unless asked otherwise", enumerate(&protocols))
        }
    };
    let ta1 = info.ta1();
    let rate = clock_rate_conversion(ta1 >> 4).zip(baud_rate_adjustment(ta1 & 0x0F));
    match rate {
        Some((fi, di)) => {
            let rate = clock * 1000.0 * f64::from(di) / f64::from(fi);
            format!("{speaks}; up to {rate:.0} bit/s at {} MHz", clock / 1000.0)
        }
        None => speaks,
    }
}

#[cfg(test)]
mod tests;
