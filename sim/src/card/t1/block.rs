//! Blocks of T=1 (ISO/IEC 7816-3 §11.3): prologue, information field, epilogue.

use crate::card::contacts::Misuse;

/// The longest information field.
pub(super) const MAX_INF: usize = 254;

/// NAD, PCB and INF; LEN and epilogue are made when it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub(super) nad: u8,
    pub(super) pcb: u8,
    pub(super) inf: Vec<u8>,
}

/// A PCB read (§11.3.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pcb {
    I { ns: bool, more: bool },
    R { nr: bool },
    Request(Supervisory),
    Response(Supervisory),
}

/// What an S-block is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Supervisory {
    Resynch,
    Ifs,
    Abort,
    Wtx,
}

impl Supervisory {
    const fn code(self) -> u8 {
        match self {
            Self::Resynch => 0,
            Self::Ifs => 1,
            Self::Abort => 2,
            Self::Wtx => 3,
        }
    }
}

/// Why an R-block asks for a repetition (§11.3.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    NoError = 0,
    Check = 1,
    Other = 2,
}

impl Pcb {
    /// None: one that is reserved.
    pub(super) const fn read(pcb: u8) -> Option<Self> {
        Some(match pcb {
            0x00..=0x7F if pcb & 0x1F == 0 => {
                Self::I { ns: pcb & 0x40 != 0, more: pcb & 0x20 != 0 }
            }
            0x80..=0x82 | 0x90..=0x92 => Self::R { nr: pcb & 0x10 != 0 },
            0xC0..=0xC3 | 0xE0..=0xE3 => {
                let about = match pcb & 3 {
                    0 => Supervisory::Resynch,
                    1 => Supervisory::Ifs,
                    2 => Supervisory::Abort,
                    _ => Supervisory::Wtx,
                };
                if pcb & 0x20 == 0 { Self::Request(about) } else { Self::Response(about) }
            }
            _ => return None,
        })
    }

    /// The lengths that a block of this kind may have.
    pub(super) const fn fits(self, length: usize) -> bool {
        match self {
            Self::I { .. } => length <= MAX_INF,
            Self::R { .. } => length == 0,
            Self::Request(about) | Self::Response(about) => match about {
                Supervisory::Resynch | Supervisory::Abort => length == 0,
                Supervisory::Ifs | Supervisory::Wtx => length == 1,
            },
        }
    }
}

impl Block {
    pub(super) fn i(nad: u8, ns: bool, more: bool, inf: &[u8]) -> Self {
        let pcb = u8::from(ns) << 6 | u8::from(more) << 5;
        Self { nad, pcb, inf: inf.to_vec() }
    }

    pub(super) fn r(nad: u8, nr: bool, why: Why) -> Self {
        Self { nad, pcb: 0x80 | u8::from(nr) << 4 | why as u8, inf: Vec::new() }
    }

    pub(super) fn request(nad: u8, about: Supervisory, inf: &[u8]) -> Self {
        Self { nad, pcb: 0xC0 | about.code(), inf: inf.to_vec() }
    }

    pub(super) fn response(nad: u8, about: Supervisory, inf: &[u8]) -> Self {
        Self { nad, pcb: 0xE0 | about.code(), inf: inf.to_vec() }
    }

    /// Reads a block. The epilogue is looked at first: what is wrong behind a wrong one tells
    /// nothing.
    pub(super) fn parse(bytes: &[u8], crc: bool) -> Result<Self, Misuse> {
        let epilogue = if crc { 2 } else { 1 };
        let Some((body, check)) =
            bytes.len().checked_sub(epilogue).and_then(|at| bytes.split_at_checked(at))
        else {
            return Err(Misuse::BlockLength);
        };
        let (&[nad, pcb, len], inf) = body.split_first_chunk().ok_or(Misuse::BlockLength)?;
        if check != epilogue_of(body, crc) {
            return Err(Misuse::BlockCheck);
        }
        if len == 0xFF || usize::from(len) != inf.len() {
            return Err(Misuse::BlockLength);
        }
        Ok(Self { nad, pcb, inf: inf.to_vec() })
    }

    pub(super) fn emit(&self, crc: bool) -> Vec<u8> {
        self.emit_with_len(u8::try_from(self.inf.len()).unwrap_or(0xFF), crc)
    }

    /// With another LEN, and an epilogue that is right for it.
    pub(super) fn emit_with_len(&self, len: u8, crc: bool) -> Vec<u8> {
        let mut bytes = vec![self.nad, self.pcb, len];
        bytes.extend(&self.inf);
        bytes.extend(epilogue_of(&bytes, crc));
        bytes
    }
}

/// LRC or CRC (§11.3.4), the high byte of the CRC first.
fn epilogue_of(body: &[u8], crc: bool) -> Vec<u8> {
    if crc {
        crc16(body).to_be_bytes().to_vec()
    } else {
        vec![body.iter().fold(0, |lrc, byte| lrc ^ byte)]
    }
}

/// CRC of ISO/IEC 13239, x^16 + x^12 + x^5 + 1, from FFFFh, the low bit of a byte first.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte),
            |crc, _| {
                if crc & 1 != 0 { crc >> 1 ^ 0x8408 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_back() {
        for crc in [false, true] {
            for block in [
                Block::i(0x21, true, true, &[1, 2, 3]),
                Block::i(0, false, false, &[7; 254]),
                Block::r(0, true, Why::Other),
                Block::request(0, Supervisory::Ifs, &[254]),
                Block::response(0, Supervisory::Wtx, &[2]),
            ] {
                let bytes = block.emit(crc);
                assert_eq!(Block::parse(&bytes, crc), Ok(block));
                for at in 0..bytes.len() {
                    let mut bent = bytes.clone();
                    bent[at] ^= 0x10;
                    assert!(Block::parse(&bent, crc).is_err());
                    assert!(Block::parse(&bytes[..at], crc).is_err());
                }
            }
        }
    }

    #[test]
    fn checks() {
        assert_eq!(Block::request(0, Supervisory::Resynch, &[]).emit(false), [0, 0xC0, 0, 0xC0]);
        assert_eq!(Block::i(0, false, false, &[]).emit(false), [0, 0, 0, 0]);
        // The check value of this CRC over "123456789".
        assert_eq!(crc16(b"123456789"), 0x6F91);
    }

    #[test]
    fn lengths() {
        let block = Block::i(0, false, false, &[1, 2]);
        for len in [0, 1, 3, 0xFF] {
            let bytes = block.emit_with_len(len, false);
            assert_eq!(Block::parse(&bytes, false), Err(Misuse::BlockLength));
        }
    }

    #[test]
    fn every_pcb() {
        let good = (0..=255).filter(|pcb| Pcb::read(*pcb).is_some()).count();
        assert_eq!(good, 4 + 6 + 8);
        assert_eq!(Pcb::read(0x60), Some(Pcb::I { ns: true, more: true }));
        assert_eq!(Pcb::read(0x92), Some(Pcb::R { nr: true }));
        assert_eq!(Pcb::read(0xE3), Some(Pcb::Response(Supervisory::Wtx)));
        assert_eq!(Pcb::read(0xC4), None);
    }
}
