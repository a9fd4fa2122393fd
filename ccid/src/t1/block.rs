//! A block of T=1 as bytes (ISO/IEC 7816-3 §11.3): NAD, PCB, LEN, the information field, and the
//! check code.

use alloc::vec::Vec;
use core::fmt;

/// Bytes before the information field: NAD, PCB, LEN.
pub const PROLOGUE_LEN: usize = 3;

/// The longest information field in bytes; a LEN of FFh is reserved.
pub const MAX_INFORMATION: usize = 254;

/// How a block's bytes are checked (TC of the ATR's T=1 bytes, ISO/IEC 7816-3 §11.4.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CheckCode {
    /// One byte: the exclusive or of all bytes before it.
    Lrc,
    /// Two bytes: the 16-bit CRC of ISO/IEC 13239 (x^16 + x^12 + x^5 + 1, low bit first, FFFFh
    /// to begin with), not complemented, high byte first.
    Crc,
}

impl CheckCode {
    /// Its length in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Lrc => 1,
            Self::Crc => 2,
        }
    }

    /// The code of `bytes`, at the end of which it is to stand.
    pub fn append(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Lrc => bytes.push(bytes.iter().fold(0, |sum, byte| sum ^ byte)),
            Self::Crc => bytes.extend_from_slice(&crc(bytes).to_be_bytes()),
        }
    }

    /// Whether `code` is that of `bytes`.
    fn matches(self, bytes: &[u8], code: &[u8]) -> bool {
        match self {
            Self::Lrc => code == [bytes.iter().fold(0, |sum, byte| sum ^ byte)],
            Self::Crc => code == crc(bytes).to_be_bytes(),
        }
    }
}

fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte),
            |crc, _| {
                if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x8408 }
            },
        )
    })
}

/// The node addresses in a block of the host's: the host's own in bits 0 to 2, the card's in bits 4
/// to 6 (ISO/IEC 7816-3 §11.3.2.1). The card's blocks have them the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Nad(u8);

impl Nad {
    /// 00h: node addresses are not used.
    pub const NONE: Self = Self(0);

    /// From NAD as a byte. Bits 3 and 7 are no addresses and are dropped (once, they were about
    /// programming voltage); two addresses that are equal and not 0 are reserved, and give
    /// [`NONE`](Self::NONE).
    pub const fn from_byte(byte: u8) -> Self {
        let (source, destination) = (byte & 0x07, byte >> 4 & 0x07);
        if source == destination { Self::NONE } else { Self(byte & 0x77) }
    }

    /// The byte.
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// From the other end.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(self.0.rotate_left(4))
    }
}

/// What an S-block is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Supervisory {
    /// Both ends begin anew.
    Resynch,
    /// The sender's information field size: one byte, 1 to 254.
    Ifs,
    /// The chain is broken off.
    Abort,
    /// The card needs more time: one byte, the multiple of BWT.
    Wtx,
}

/// The protocol control byte (ISO/IEC 7816-3 §11.3.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pcb {
    /// An I-block: application data.
    I {
        /// N(S), 0 or 1.
        ns: u8,
        /// M: the next block goes on with the data.
        more: bool,
    },
    /// An R-block: an acknowledgement.
    R {
        /// N(R), 0 or 1: the I-block that is expected.
        nr: u8,
        /// 0: free of error; 1: wrong check code or parity; 2: another error. The rest are reserved.
        error: u8,
    },
    /// An S-block that asks.
    Request(Supervisory),
    /// An S-block that answers.
    Response(Supervisory),
}

impl Pcb {
    /// From the byte; none if reserved bits are set or the S-block is not one of the four.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x00..=0x7F if byte & 0x1F == 0 => {
                Some(Self::I { ns: byte >> 6 & 1, more: byte & 0x20 != 0 })
            }
            0x80..=0x82 | 0x90..=0x92 => Some(Self::R { nr: byte >> 4 & 1, error: byte & 0x0F }),
            0xC0 => Some(Self::Request(Supervisory::Resynch)),
            0xC1 => Some(Self::Request(Supervisory::Ifs)),
            0xC2 => Some(Self::Request(Supervisory::Abort)),
            0xC3 => Some(Self::Request(Supervisory::Wtx)),
            0xE0 => Some(Self::Response(Supervisory::Resynch)),
            0xE1 => Some(Self::Response(Supervisory::Ifs)),
            0xE2 => Some(Self::Response(Supervisory::Abort)),
            0xE3 => Some(Self::Response(Supervisory::Wtx)),
            _ => None,
        }
    }

    /// The byte.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::I { ns, more } => (ns & 1) << 6 | (more as u8) << 5,
            Self::R { nr, error } => 0x80 | (nr & 1) << 4 | error & 0x0F,
            Self::Request(what) => 0xC0 | what as u8,
            Self::Response(what) => 0xE0 | what as u8,
        }
    }

    /// Whether an information field of this length is right.
    const fn takes(self, length: usize) -> bool {
        match self {
            Self::I { .. } => length <= MAX_INFORMATION,
            Self::Request(Supervisory::Ifs | Supervisory::Wtx)
            | Self::Response(Supervisory::Ifs | Supervisory::Wtx) => length == 1,
            Self::R { .. } | Self::Request(_) | Self::Response(_) => length == 0,
        }
    }
}

/// Why bytes are not a block that may be acted upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BlockError {
    /// Fewer or more bytes than LEN says, or LEN is FFh.
    WrongLength,
    /// The check code is wrong.
    WrongCheckCode,
    /// NAD is not the one that was sent, its nibbles swapped.
    WrongNad(u8),
    /// PCB is reserved.
    BadPcb(u8),
    /// The information field is not as long as PCB wants it.
    BadInformation,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength => f.write_str("not as long as LEN says"),
            Self::WrongCheckCode => f.write_str("wrong check code"),
            Self::WrongNad(nad) => write!(f, "wrong NAD {nad:02X}h"),
            Self::BadPcb(pcb) => write!(f, "reserved PCB {pcb:02X}h"),
            Self::BadInformation => f.write_str("LEN does not fit PCB"),
        }
    }
}

impl core::error::Error for BlockError {}

/// A block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// NAD: the source's node address in bits 0 to 2, the destination's in bits 4 to 6.
    pub nad: u8,
    /// PCB.
    pub pcb: Pcb,
    /// The information field, at most [`MAX_INFORMATION`] bytes.
    pub information: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block that `bytes` are, to the last one, if it carries `nad`.
    ///
    /// # Errors
    /// [`BlockError`]: the first thing that is wrong with it, length and check code first.
    pub fn parse(bytes: &'a [u8], check: CheckCode, nad: u8) -> Result<Self, BlockError> {
        let [found, pcb, length, rest @ ..] = bytes else {
            return Err(BlockError::WrongLength);
        };
        let length = usize::from(*length);
        if length > MAX_INFORMATION || rest.len() != length + check.size() {
            return Err(BlockError::WrongLength);
        }
        let (checked, code) =
            bytes.split_at_checked(PROLOGUE_LEN + length).ok_or(BlockError::WrongLength)?;
        if !check.matches(checked, code) {
            return Err(BlockError::WrongCheckCode);
        }
        if *found != nad {
            return Err(BlockError::WrongNad(*found));
        }
        let pcb = Pcb::from_byte(*pcb).ok_or(BlockError::BadPcb(*pcb))?;
        if !pcb.takes(length) {
            return Err(BlockError::BadInformation);
        }
        let information = rest.get(..length).unwrap_or_default();
        Ok(Self { nad, pcb, information })
    }

    /// The block's bytes. An information field beyond [`MAX_INFORMATION`] is cut there.
    pub fn emit(&self, check: CheckCode) -> Vec<u8> {
        let information = self.information.get(..MAX_INFORMATION).unwrap_or(self.information);
        let mut bytes = Vec::with_capacity(PROLOGUE_LEN + information.len() + check.size());
        // It fits into a byte: no more than MAX_INFORMATION.
        bytes.extend_from_slice(&[self.nad, self.pcb.to_byte(), information.len() as u8]);
        bytes.extend_from_slice(information);
        check.append(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of this CRC (CRC-16/MCRF4XX) for the digits 1 to 9, as catalogues give it.
    #[test]
    fn crc_check_value() {
        assert_eq!(crc(b"123456789"), 0x6F91);
    }

    /// ISO/IEC 7816-3 annex A starts with these: I(0,0) with LEN 0, R(0), S(IFS request).
    #[test]
    fn blocks_with_lrc() {
        for (pcb, information, bytes) in [
            (Pcb::I { ns: 0, more: false }, &[][..], &[0x00, 0x00, 0x00, 0x00][..]),
            (Pcb::R { nr: 0, error: 0 }, &[], &[0x00, 0x80, 0x00, 0x80]),
            (Pcb::R { nr: 1, error: 1 }, &[], &[0x00, 0x91, 0x00, 0x91]),
            (Pcb::Request(Supervisory::Ifs), &[0xFE], &[0x00, 0xC1, 0x01, 0xFE, 0x3E]),
            (Pcb::Response(Supervisory::Resynch), &[], &[0x00, 0xE0, 0x00, 0xE0]),
        ] {
            let block = Block { nad: 0, pcb, information };
            assert_eq!(block.emit(CheckCode::Lrc), bytes);
            assert_eq!(Block::parse(bytes, CheckCode::Lrc, 0), Ok(block));
        }
    }

    #[test]
    fn every_pcb_survives_or_is_refused() {
        let mut known = 0;
        for byte in 0..=255 {
            if let Some(pcb) = Pcb::from_byte(byte) {
                assert_eq!(pcb.to_byte(), byte);
                known += 1;
            }
        }
        // I: N(S), M; R: N(R), three error codes; S: four kinds, asked and answered.
        assert_eq!(known, 4 + 6 + 8);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let parse = |bytes: &[u8]| Block::parse(bytes, CheckCode::Lrc, 0x21).unwrap_err();
        assert_eq!(parse(&[]), BlockError::WrongLength);
        assert_eq!(parse(&[0x21, 0x80, 0x00]), BlockError::WrongLength);
        assert_eq!(parse(&[0x21, 0x80, 0x01, 0xA0]), BlockError::WrongLength);
        assert_eq!(parse(&[0x21, 0x80, 0x00, 0xA1, 0x00]), BlockError::WrongLength);
        assert_eq!(parse(&[0x21, 0x80, 0x00, 0xA0]), BlockError::WrongCheckCode);
        assert_eq!(parse(&[0x12, 0x80, 0x00, 0x92]), BlockError::WrongNad(0x12));
        assert_eq!(parse(&[0x21, 0xA0, 0x00, 0x81]), BlockError::BadPcb(0xA0));
        assert_eq!(parse(&[0x21, 0x80, 0x01, 0x05, 0xA5]), BlockError::BadInformation);
        let mut reserved = alloc::vec![0x21, 0x00, 0xFF];
        reserved.extend_from_slice(&[0; 255]);
        reserved.push(0x21 ^ 0xFF);
        assert_eq!(parse(&reserved), BlockError::WrongLength);
    }

    #[test]
    fn both_bytes_of_a_crc_count() {
        let block = Block { nad: 0, pcb: Pcb::I { ns: 1, more: true }, information: &[1, 2, 3] };
        let bytes = block.emit(CheckCode::Crc);
        assert_eq!(bytes.len(), 3 + 3 + 2);
        assert_eq!(Block::parse(&bytes, CheckCode::Crc, 0), Ok(block));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x01;
            assert!(Block::parse(&wrong, CheckCode::Crc, 0).is_err(), "byte {at}");
        }
    }
}
