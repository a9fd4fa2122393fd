//! The answer to reset (ISO/IEC 7816-3 §8.2).

use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// The longest ATR in bytes, TS included (ISO/IEC 7816-3 §8.2.1: 32 characters after TS).
pub const MAX_ATR_LEN: usize = 33;

/// An answer to reset as the card sent it. Any bytes; what they mean, [`Atr::parse`] tells.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Atr(Bytes);

impl Atr {
    /// The ATR in `bytes`; what stands behind [`MAX_ATR_LEN`] is dropped.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes.get(..MAX_ATR_LEN).unwrap_or(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the bytes mean.
    ///
    /// # Errors
    /// [`AtrError`] if they break off or do not start with a TS. A wrong or missing TCK is no
    /// error: [`AtrInfo::check`] tells.
    pub fn parse(&self) -> Result<AtrInfo, AtrError> {
        parse(&self.0)
    }
}

impl fmt::Display for Atr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Why bytes are not an ATR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AtrError {
    /// No bytes.
    Empty,
    /// TS is neither 3Bh nor 3Fh.
    BadTs(u8),
    /// The bytes end before the named character.
    Truncated {
        /// The character that is missing, for example TD for a TD(i).
        missing: &'static str,
        /// Its place, counted from TS as 0.
        offset: usize,
    },
}

impl fmt::Display for AtrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ATR is empty"),
            Self::BadTs(ts) => write!(f, "TS is {ts:02X}h, neither 3Bh nor 3Fh"),
            Self::Truncated { missing, offset } => {
                write!(f, "the ATR ends before {missing} at offset {offset}")
            }
        }
    }
}

impl core::error::Error for AtrError {}

/// How bits stand for bytes (TS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Convention {
    /// 3Bh.
    Direct,
    /// 3Fh.
    Inverse,
}

/// Interface bytes of one round: TA(i), TB(i), TC(i), TD(i).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterfaceBytes {
    /// TA(i).
    pub ta: Option<u8>,
    /// TB(i).
    pub tb: Option<u8>,
    /// TC(i).
    pub tc: Option<u8>,
    /// TD(i): what follows, and for which protocol.
    pub td: Option<u8>,
}

/// What the ATR's check byte says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// None, and none is due: only T=0 is indicated.
    NotDue,
    /// Present and right.
    Right,
    /// Present and wrong.
    Wrong,
    /// Due and not there.
    Missing,
}

/// A card protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// T=0, characters.
    T0,
    /// T=1, blocks.
    T1,
}

impl Protocol {
    /// bProtocolNum, and T's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::T0 => 0,
            Self::T1 => 1,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T={}", self.number())
    }
}

/// An ATR, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtrInfo {
    /// TS.
    pub convention: Convention,
    /// The interface bytes, round by round; TD(i) of one says what the next has.
    pub interface: Vec<InterfaceBytes>,
    /// The historical bytes.
    pub historical: Bytes,
    /// Whether TCK is right.
    pub check: Check,
    /// Bytes behind the end.
    pub trailing: usize,
}

/// What T=1's own interface bytes say (ISO/IEC 7816-3 §11.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct T1Parameters {
    /// Information field size of the card, 1 to 254 bytes.
    pub ifsc: u8,
    /// Block waiting time integer, 0 to 9.
    pub bwi: u8,
    /// Character waiting time integer, 0 to 15.
    pub cwi: u8,
    /// The check is a CRC, not an LRC.
    pub crc: bool,
}

impl AtrInfo {
    /// The protocols offered, in order, each once; T=0 alone if no TD says otherwise. Numbers
    /// other than 0 and 1 (15 among them, which is no protocol) are left out.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> + '_ {
        let mut seen = [false; 2];
        let none_indicated = self.interface.first().is_none_or(|i| i.td.is_none());
        let indicated = self.interface.iter().filter_map(|i| i.td).map(|td| td & 0x0F);
        none_indicated
            .then_some(0)
            .into_iter()
            .chain(indicated)
            .filter_map(|number| match number {
                0 => Some(Protocol::T0),
                1 => Some(Protocol::T1),
                _ => None,
            })
            .filter(move |protocol| {
                let flag = match protocol {
                    Protocol::T0 => &mut seen[0],
                    Protocol::T1 => &mut seen[1],
                };
                !core::mem::replace(flag, true)
            })
    }

    /// TA(2): the card is in specific mode, and speaks this protocol number only.
    pub fn specific_mode(&self) -> Option<u8> {
        self.interface.get(1)?.ta
    }

    /// The protocol the card speaks without PPS: that of TA(2) in specific mode, else the first
    /// offered.
    pub fn default_protocol(&self) -> Option<Protocol> {
        match self.specific_mode() {
            Some(ta2) => match ta2 & 0x0F {
                0 => Some(Protocol::T0),
                1 => Some(Protocol::T1),
                _ => None,
            },
            None => self.protocols().next(),
        }
    }

    /// TA(1): Fi in the high nibble, Di in the low one; 11h (372 and 1) by default.
    pub fn ta1(&self) -> u8 {
        self.interface.first().and_then(|i| i.ta).unwrap_or(0x11)
    }

    /// TC(1): extra guard time N.
    pub fn extra_guard_time(&self) -> u8 {
        self.interface.first().and_then(|i| i.tc).unwrap_or(0)
    }

    /// TC(2): waiting time integer WI of T=0, 10 by default.
    pub fn waiting_integer(&self) -> u8 {
        self.interface.get(1).and_then(|i| i.tc).filter(|wi| *wi != 0).unwrap_or(10)
    }

    /// T=1's parameters: those of the first round i > 2 that follows a TD naming T=1, defaults for
    /// what is not there.
    pub fn t1_parameters(&self) -> T1Parameters {
        let round = self
            .interface
            .iter()
            .zip(self.interface.iter().skip(1))
            .skip(1)
            .find(|(before, _)| before.td.is_some_and(|td| td & 0x0F == 1))
            .map(|(_, round)| *round)
            .unwrap_or_default();
        let waiting = round.tb.unwrap_or(0x4D);
        T1Parameters {
            // 0 and 255 are reserved: the default is safe for both.
            ifsc: round.ta.filter(|ifsc| (1..=254).contains(ifsc)).unwrap_or(32),
            bwi: (waiting >> 4).min(9),
            cwi: waiting & 0x0F,
            crc: round.tc.is_some_and(|tc| tc & 1 != 0),
        }
    }

    /// The byte after T=15 that holds the voltage classes and clock stop, if there: bits 0 to 5
    /// class A (5 V), B (3 V), C (1.8 V).., bits 6 and 7 clock stop.
    pub fn class_indicator(&self) -> Option<u8> {
        self.interface
            .iter()
            .zip(self.interface.iter().skip(1))
            .skip(1)
            .find(|(before, _)| before.td.is_some_and(|td| td & 0x0F == 15))
            .and_then(|(_, round)| round.ta)
    }
}

/// Fi of a TA(1) high nibble (ISO/IEC 7816-3 table 7); none where reserved.
pub const fn clock_rate_conversion(code: u8) -> Option<u32> {
    Some(match code {
        0 | 1 => 372,
        2 => 558,
        3 => 744,
        4 => 1116,
        5 => 1488,
        6 => 1860,
        9 => 512,
        10 => 768,
        11 => 1024,
        12 => 1536,
        13 => 2048,
        _ => return None,
    })
}

/// Di of a TA(1) low nibble (ISO/IEC 7816-3 table 8); none where reserved.
pub const fn baud_rate_adjustment(code: u8) -> Option<u32> {
    Some(match code {
        1 => 1,
        2 => 2,
        3 => 4,
        4 => 8,
        5 => 16,
        6 => 32,
        7 => 64,
        8 => 12,
        9 => 20,
        _ => return None,
    })
}

fn parse(bytes: &Bytes) -> Result<AtrInfo, AtrError> {
    let mut cursor = Cursor { bytes, offset: 0 };
    let convention = match bytes.first() {
        None => return Err(AtrError::Empty),
        Some(0x3B) => Convention::Direct,
        // 03h is how a reader that does not turn the bits round sees inverse convention.
        Some(0x3F | 0x03) => Convention::Inverse,
        Some(ts) => return Err(AtrError::BadTs(*ts)),
    };
    cursor.offset = 1;
    let t0 = cursor.next("T0")?;
    let mut interface = Vec::new();
    let mut announced = Some(t0);
    while let Some(y) = announced {
        let mut take = |bit: u8, name| {
            if y & bit == 0 { Ok(None) } else { cursor.next(name).map(Some) }
        };
        let round = InterfaceBytes {
            ta: take(0x10, "TA")?,
            tb: take(0x20, "TB")?,
            tc: take(0x40, "TC")?,
            td: take(0x80, "TD")?,
        };
        announced = round.td;
        if round != InterfaceBytes::default() || interface.is_empty() {
            interface.push(round);
        }
    }
    let start = cursor.offset;
    let end = start + usize::from(t0 & 0x0F);
    if end > bytes.len() {
        return Err(AtrError::Truncated { missing: "a historical byte", offset: bytes.len() });
    }
    let due = interface.iter().any(|i| i.td.is_some_and(|td| td & 0x0F != 0));
    let check = match (due, bytes.get(end)) {
        (false, _) => Check::NotDue,
        (true, None) => Check::Missing,
        (true, Some(_)) => {
            let sum = bytes.iter().skip(1).take(end).fold(0, |sum, byte| sum ^ byte);
            if sum == 0 { Check::Right } else { Check::Wrong }
        }
    };
    let used = end + usize::from(matches!(check, Check::Right | Check::Wrong));
    let trailing = bytes.len() - used;
    Ok(AtrInfo { convention, interface, historical: bytes.slice(start..end), check, trailing })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Cursor<'_> {
    fn next(&mut self, missing: &'static str) -> Result<u8, AtrError> {
        let offset = self.offset;
        let byte = self.bytes.get(offset).ok_or(AtrError::Truncated { missing, offset })?;
        self.offset += 1;
        Ok(*byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(bytes: &[u8]) -> AtrInfo {
        Atr::new(bytes).parse().unwrap()
    }

    #[test]
    fn t0_only_needs_no_tck() {
        let info = info(&[0x3B, 0x65, 0x00, 0x00, 0x41, 0x52, 0x45, 0x4E, 0x41]);
        assert_eq!(info.protocols().collect::<Vec<_>>(), [Protocol::T0]);
        assert_eq!(&info.historical[..], b"ARENA");
        assert_eq!(info.check, Check::NotDue);
        assert_eq!(info.trailing, 0);
        assert_eq!(info.interface[0].tb, Some(0));
        assert_eq!(info.interface[0].tc, Some(0));
    }

    /// The OpenPGP card 1.x, with T=1 in TD(1) and TD(2).
    #[test]
    fn t1_parameters_of_a_real_card() {
        let info = info(&[
            0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00, 0x31, 0xC1, 0x73, 0xC0,
            0x01, 0x00, 0x00, 0x90, 0x00, 0xB1,
        ]);
        assert_eq!(info.protocols().collect::<Vec<_>>(), [Protocol::T1]);
        assert_eq!(info.ta1(), 0x13);
        assert_eq!(info.extra_guard_time(), 0xFF);
        assert_eq!(info.check, Check::Right);
        assert_eq!(info.t1_parameters(), T1Parameters { ifsc: 0x80, bwi: 4, cwi: 5, crc: false });
        assert_eq!(info.specific_mode(), None);
    }

    #[test]
    fn wrong_and_missing_tck_are_told_apart() {
        let right = [0x3B, 0x80, 0x01, 0x81];
        assert_eq!(info(&right).check, Check::Right);
        assert_eq!(info(&[0x3B, 0x80, 0x01, 0x80]).check, Check::Wrong);
        assert_eq!(info(&[0x3B, 0x80, 0x01]).check, Check::Missing);
        assert_eq!(info(&[0x3B, 0x80, 0x01, 0x81, 0x00]).trailing, 1);
    }

    #[test]
    fn truncation_names_the_character() {
        for (bytes, missing, offset) in [
            (&[0x3B][..], "T0", 1),
            (&[0x3B, 0x90], "TA", 2),
            (&[0x3B, 0x90, 0x11], "TD", 3),
            (&[0x3B, 0x03, 0x41], "a historical byte", 3),
        ] {
            assert_eq!(Atr::new(bytes).parse(), Err(AtrError::Truncated { missing, offset }));
        }
        assert_eq!(Atr::new(&[]).parse(), Err(AtrError::Empty));
        assert_eq!(Atr::new(&[0x23]).parse(), Err(AtrError::BadTs(0x23)));
    }

    #[test]
    fn classes_stand_behind_t15() {
        // TD1 = 80h (T=0), TD2 = 1Fh (T=15, TA3), TA3 = 03h: classes A and B.
        let info = info(&[0x3B, 0x80, 0x80, 0x1F, 0x03, 0x1C]);
        assert_eq!(info.class_indicator(), Some(0x03));
        assert_eq!(info.check, Check::Right);
        assert_eq!(info.default_protocol(), Some(Protocol::T0));
    }

    #[test]
    fn specific_mode_sets_the_protocol() {
        // TD1 = 11h: T=1 and TA2; TA2 = 01h.
        let info = info(&[0x3B, 0x80, 0x11, 0x01, 0x90]);
        assert_eq!(info.specific_mode(), Some(0x01));
        assert_eq!(info.default_protocol(), Some(Protocol::T1));
    }
}
