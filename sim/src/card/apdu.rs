//! Command APDUs and status words (ISO/IEC 7816-3 §12.1, ISO/IEC 7816-4 §5), as a card reads them.

use std::fmt;

/// The most response data that a short Le asks for.
pub const SHORT_MAX: usize = 256;
/// The most response data that an extended Le asks for.
pub const EXTENDED_MAX: usize = 65_536;

/// A status word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sw(pub u16);

impl Sw {
    /// 9000h.
    pub const OK: Self = Self(0x9000);
    /// 6700h: wrong length.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// 6881h: no logical channels.
    pub const NO_LOGICAL_CHANNEL: Self = Self(0x6881);
    /// 6884h: no command chaining.
    pub const NO_CHAINING: Self = Self(0x6884);
    /// 6982h: security status not satisfied.
    pub const SECURITY_STATUS: Self = Self(0x6982);
    /// 6983h: authentication method blocked.
    pub const BLOCKED: Self = Self(0x6983);
    /// 6985h: conditions of use not satisfied.
    pub const CONDITIONS: Self = Self(0x6985);
    /// 6986h: no current EF.
    pub const NO_CURRENT_EF: Self = Self(0x6986);
    /// 6A80h: wrong data.
    pub const WRONG_DATA: Self = Self(0x6A80);
    /// 6A82h: file not found.
    pub const NOT_FOUND: Self = Self(0x6A82);
    /// 6A86h: wrong P1 P2.
    pub const WRONG_P1_P2: Self = Self(0x6A86);
    /// 6A88h: reference data not found.
    pub const NO_REFERENCE: Self = Self(0x6A88);
    /// 6B00h: offset outside the EF.
    pub const WRONG_OFFSET: Self = Self(0x6B00);
    /// 6D00h: instruction unknown.
    pub const UNKNOWN_INS: Self = Self(0x6D00);
    /// 6E00h: class unknown.
    pub const UNKNOWN_CLA: Self = Self(0x6E00);

    /// 63Cxh: wrong reference data, `tries` left, at most 15.
    pub fn tries_left(tries: u8) -> Self {
        Self(0x63C0 | u16::from(tries.min(15)))
    }

    /// 61xxh: `more` bytes are to be had by GET RESPONSE; 00h says 256 or more.
    pub fn more(more: usize) -> Self {
        Self(0x6100 | u16::from(one_byte(more)))
    }

    /// 6Cxxh: wrong Le, `exact` is the right one; 00h says 256.
    pub fn wrong_le(exact: usize) -> Self {
        Self(0x6C00 | u16::from(one_byte(exact)))
    }

    /// SW1 and SW2.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for Sw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sw({:04X})", self.0)
    }
}

/// A count as the one byte of Le or SW2, where 00h is 256 or more.
fn one_byte(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(0)
}

/// A command as the card's instructions see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// CLA.
    pub cla: u8,
    /// INS.
    pub ins: u8,
    /// P1.
    pub p1: u8,
    /// P2.
    pub p2: u8,
    /// The data field.
    pub data: Vec<u8>,
    /// Ne: the most response data that is asked for; None: there is no Le.
    pub ne: Option<usize>,
}

impl Command {
    /// Reads an APDU. None: its length fits none of the cases of ISO/IEC 7816-3 §12.1.
    pub fn parse(apdu: &[u8]) -> Option<Self> {
        let (&[cla, ins, p1, p2], body) = apdu.split_first_chunk()?;
        let (data, ne): (&[u8], _) = match *body {
            [] => (&[], None),
            [le] => (&[], Some(short_le(le))),
            [0, high, low] => (&[], Some(extended_le(high, low))),
            [0, high, low, ref rest @ ..] => {
                let lc = usize::from(u16::from_be_bytes([high, low]));
                match rest.split_at_checked(lc)? {
                    _ if lc == 0 => return None,
                    (data, []) => (data, None),
                    (data, &[high, low]) => (data, Some(extended_le(high, low))),
                    _ => return None,
                }
            }
            // A short Lc of zero is no case; 00h opens an extended length.
            [0, ..] => return None,
            [lc, ref rest @ ..] => match rest.split_at_checked(lc.into())? {
                (data, []) => (data, None),
                (data, &[le]) => (data, Some(short_le(le))),
                _ => return None,
            },
        };
        Some(Self { cla, ins, p1, p2, data: data.to_vec(), ne })
    }

    /// P1 and P2 as one number.
    pub const fn p1_p2(&self) -> u16 {
        u16::from_be_bytes([self.p1, self.p2])
    }
}

fn short_le(le: u8) -> usize {
    if le == 0 { SHORT_MAX } else { le.into() }
}

fn extended_le(high: u8, low: u8) -> usize {
    match u16::from_be_bytes([high, low]) {
        0 => EXTENDED_MAX,
        le => le.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(apdu: &[u8]) -> Option<(Vec<u8>, Option<usize>)> {
        Command::parse(apdu).map(|command| (command.data, command.ne))
    }

    #[test]
    fn every_case() {
        let header = [0x00, 0xB0, 0x12, 0x34];
        let apdu = |rest: &[u8]| [&header, rest].concat();
        assert_eq!(body(&header), Some((vec![], None)));
        assert_eq!(body(&apdu(&[5])), Some((vec![], Some(5))));
        assert_eq!(body(&apdu(&[0])), Some((vec![], Some(256))));
        assert_eq!(body(&apdu(&[2, 7, 8])), Some((vec![7, 8], None)));
        assert_eq!(body(&apdu(&[2, 7, 8, 9])), Some((vec![7, 8], Some(9))));
        assert_eq!(body(&apdu(&[0, 1, 2])), Some((vec![], Some(0x102))));
        assert_eq!(body(&apdu(&[0, 0, 0])), Some((vec![], Some(65_536))));
        assert_eq!(body(&apdu(&[0, 0, 2, 7, 8])), Some((vec![7, 8], None)));
        assert_eq!(body(&apdu(&[0, 0, 2, 7, 8, 0, 0])), Some((vec![7, 8], Some(65_536))));
        let command = Command::parse(&header).unwrap();
        assert_eq!((command.cla, command.ins, command.p1_p2()), (0x00, 0xB0, 0x1234));
    }

    #[test]
    fn wrong_lengths_are_no_case() {
        let header = [0x00, 0xB0, 0x12, 0x34];
        assert_eq!(body(&header[..3]), None);
        for rest in [
            &[2, 7][..],
            &[2, 7, 8, 9, 10],
            &[0, 1],
            &[0, 0, 0, 1],
            &[0, 0, 2, 7],
            &[0, 0, 2, 7, 8, 9],
            &[0, 0, 2, 7, 8, 9, 10, 11],
        ] {
            assert_eq!(body(&[&header, rest].concat()), None, "{rest:?}");
        }
    }

    #[test]
    fn status_words_with_counts() {
        assert_eq!(Sw::more(5), Sw(0x6105));
        assert_eq!(Sw::more(256), Sw(0x6100));
        assert_eq!(Sw::more(4000), Sw(0x6100));
        assert_eq!(Sw::wrong_le(256), Sw(0x6C00));
        assert_eq!(Sw::tries_left(3).to_bytes(), [0x63, 0xC3]);
    }
}
