//! The class requests of ICCD.

use super::{MAX_TRANSFER, Version};
use crate::wire::SetupPacket;
use bytes::Bytes;
use core::time::Duration;

/// What a request may take that is not repeated.
const REQUEST_TIME: Duration = Duration::from_secs(2);

/// What version A's ICC_POWER_ON may take, which waits for the ATR.
const POWER_TIME: Duration = Duration::from_secs(3);

/// What a request may take that can be made again.
const ASK_TIME: Duration = Duration::from_secs(1);

/// The longest ATR (ISO/IEC 7816-3 §8.1).
const MAX_ATR: u16 = 33;

/// A control transfer to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// The SETUP packet.
    pub setup: SetupPacket,
    /// The data stage of an OUT request.
    pub data: Bytes,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a control transfer failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Answered by STALL.
    Stall,
    /// Not answered within the timeout.
    TimedOut,
    /// Anything else.
    Broken,
}

/// A request to the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    PowerOn,
    PowerOff,
    XfrBlock {
        /// Low byte of wLevelParameter; version A has none.
        level: u8,
        data: Bytes,
    },
    DataBlock {
        /// The most bytes to be taken.
        length: u16,
    },
    /// GET_ICC_STATUS or SLOT_STATUS.
    Status,
}

impl Request {
    /// A data block of any length.
    pub(super) const DATA: Self = Self::DataBlock { length: MAX_TRANSFER };

    /// The data block that an ATR comes in.
    pub(super) const ATR: Self = Self::DataBlock { length: 1 + MAX_ATR };

    /// The request may be made again if it was not answered.
    pub(super) const fn is_repeatable(&self) -> bool {
        matches!(self, Self::DataBlock { .. } | Self::Status)
    }

    pub(super) fn control(&self, version: Version, interface: u8) -> Control {
        const IN: u8 = 0xA1;
        const OUT: u8 = 0x21;
        let (request_type, request, value, length) = match (self, version) {
            (Self::PowerOn, Version::A) => (IN, 0x62, 0, MAX_ATR),
            (Self::PowerOn, Version::B) => (OUT, 0x62, 1, 0),
            (Self::PowerOff, _) => (OUT, 0x63, 0, 0),
            (Self::XfrBlock { level, data }, _) => {
                let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
                (OUT, 0x65, u16::from_be_bytes([*level, 0]), length)
            }
            (Self::DataBlock { length }, _) => (IN, 0x6F, 0, *length),
            (Self::Status, Version::A) => (IN, 0xA0, 0, 1),
            (Self::Status, Version::B) => (IN, 0x81, 0, 3),
        };
        let setup =
            SetupPacket { request_type, request, value, index: u16::from(interface), length };
        let data = match self {
            Self::XfrBlock { data, .. } => data.clone(),
            _ => Bytes::new(),
        };
        let timeout = match self {
            Self::PowerOn => POWER_TIME,
            request if request.is_repeatable() => ASK_TIME,
            _ => REQUEST_TIME,
        };
        Control { setup, data, timeout }
    }
}
