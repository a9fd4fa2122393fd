//! Protocol data structures (CCID 1.1 §6.1.7): what the reader has set for a card.

use crate::card::Protocol;
use crate::card::atr::AtrInfo;

/// abProtocolDataStructure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parameters {
    /// bmFindexDindex, bmTCCKST0, bGuardTimeT0, bWaitingIntegerT0, bClockStop.
    T0([u8; 5]),
    /// bmFindexDindex, bmTCCKST1, bGuardTimeT1, bWaitingIntegersT1, bClockStop, bIFSC, bNadValue.
    T1([u8; 7]),
}

impl Parameters {
    /// The defaults of ISO/IEC 7816-3.
    pub(super) const fn default(protocol: Protocol) -> Self {
        match protocol {
            Protocol::T0 => Self::T0([0x11, 0x00, 0x00, 0x0A, 0x00]),
            Protocol::T1 => Self::T1([0x11, 0x10, 0x00, 0x4D, 0x00, 0x20, 0x00]),
        }
    }

    /// What the ATR says, and the defaults where it says nothing.
    pub(super) fn from_atr(info: &AtrInfo, protocol: Protocol) -> Self {
        let fi_di = info.fi_di.unwrap_or(0x11);
        let guard_time = info.guard_time.unwrap_or(0);
        match protocol {
            Protocol::T0 => {
                let waiting_time = info.waiting_time.unwrap_or(0x0A);
                Self::T0([fi_di, 0x00, guard_time, waiting_time, 0x00])
            }
            Protocol::T1 => {
                let checksum = 0x10 | u8::from(info.crc);
                let bwi_cwi = info.bwi_cwi.unwrap_or(0x4D);
                let ifsc = info.ifsc.unwrap_or(0x20);
                Self::T1([fi_di, checksum, guard_time, bwi_cwi, 0x00, ifsc, 0x00])
            }
        }
    }

    /// bmFindexDindex.
    pub(super) const fn fi_di(self) -> u8 {
        match self {
            Self::T0([fi_di, ..]) | Self::T1([fi_di, ..]) => fi_di,
        }
    }

    /// With another bmFindexDindex.
    pub(super) const fn with_fi_di(self, fi_di: u8) -> Self {
        match self {
            Self::T0([_, b, c, d, e]) => Self::T0([fi_di, b, c, d, e]),
            Self::T1([_, b, c, d, e, f, g]) => Self::T1([fi_di, b, c, d, e, f, g]),
        }
    }

    /// bWaitingIntegerT0 or bWaitingIntegersT1.
    pub(super) const fn waiting_integers(self) -> u8 {
        match self {
            Self::T0([_, _, _, waiting, _]) | Self::T1([_, _, _, waiting, ..]) => waiting,
        }
    }

    /// bmTCCKST1 says CRC.
    pub(super) const fn crc(self) -> bool {
        matches!(self, Self::T1([_, checksum, ..]) if checksum & 1 != 0)
    }

    pub(super) const fn protocol(self) -> Protocol {
        match self {
            Self::T0(_) => Protocol::T0,
            Self::T1(_) => Protocol::T1,
        }
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        match self {
            Self::T0(bytes) => bytes,
            Self::T1(bytes) => bytes,
        }
    }

    /// bProtocolNum and abProtocolDataStructure as the host sends them. Err: the offset in the
    /// message of the field that is wrong.
    pub(super) fn parse(protocol_num: u8, data: &[u8]) -> Result<Self, u8> {
        const LENGTH: u8 = 1;
        const PROTOCOL_NUM: u8 = 7;
        match protocol_num {
            0 => data.try_into().map(Self::T0).map_err(|_| LENGTH),
            1 => data.try_into().map(Self::T1).map_err(|_| LENGTH),
            _ => Err(PROTOCOL_NUM),
        }
    }
}
