//! Class requests on the control pipe (CCID 1.1 §5.3).

use super::{Seq, Slot, WireError};

/// The eight bytes of a USB SETUP packet, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetupPacket {
    /// bmRequestType.
    pub request_type: u8,
    /// bRequest.
    pub request: u8,
    /// wValue.
    pub value: u16,
    /// wIndex.
    pub index: u16,
    /// wLength: bytes of the data stage.
    pub length: u16,
}

impl SetupPacket {
    /// From the packet's bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [request_type, request, v0, v1, i0, i1, l0, l1] = bytes;
        Self {
            request_type,
            request,
            value: u16::from_le_bytes([v0, v1]),
            index: u16::from_le_bytes([i0, i1]),
            length: u16::from_le_bytes([l0, l1]),
        }
    }

    /// The packet's bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.request_type, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// The data stage goes from device to host.
    pub const fn is_in(self) -> bool {
        self.request_type & 0x80 != 0
    }
}

/// A class request to the CCID interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClassRequest {
    /// 01h, §5.3.1: with PC_to_RDR_Abort of the same slot and sequence number, stops what the
    /// slot is doing.
    Abort {
        /// Low byte of wValue.
        slot: Slot,
        /// High byte of wValue.
        seq: Seq,
    },
    /// 02h, §5.3.2: answered by bNumClockSupported times four bytes, kHz.
    GetClockFrequencies {
        /// wLength.
        length: u16,
    },
    /// 03h, §5.3.3: answered by bNumDataRatesSupported times four bytes, bit/s.
    GetDataRates {
        /// wLength.
        length: u16,
    },
}

impl ClassRequest {
    /// The SETUP packet that makes this request of interface `interface`.
    pub fn setup(self, interface: u8) -> SetupPacket {
        let index = u16::from(interface);
        match self {
            Self::Abort { slot, seq } => SetupPacket {
                request_type: 0x21,
                request: 0x01,
                value: u16::from_le_bytes([slot.0, seq.0]),
                index,
                length: 0,
            },
            Self::GetClockFrequencies { length } => {
                SetupPacket { request_type: 0xA1, request: 0x02, value: 0, index, length }
            }
            Self::GetDataRates { length } => {
                SetupPacket { request_type: 0xA1, request: 0x03, value: 0, index, length }
            }
        }
    }

    /// Reads a class request.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] with bRequest if it is none of CCID's.
    pub fn parse(setup: &SetupPacket) -> Result<Self, WireError> {
        match (setup.request_type, setup.request) {
            (0x21, 0x01) => {
                let [slot, seq] = setup.value.to_le_bytes();
                Ok(Self::Abort { slot: Slot(slot), seq: Seq(seq) })
            }
            (0xA1, 0x02) => Ok(Self::GetClockFrequencies { length: setup.length }),
            (0xA1, 0x03) => Ok(Self::GetDataRates { length: setup.length }),
            (_, request) => Err(WireError::UnknownType(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abort_puts_seq_high_and_slot_low() {
        let setup = ClassRequest::Abort { slot: Slot(2), seq: Seq(0x35) }.setup(1);
        assert_eq!(setup.to_bytes(), [0x21, 0x01, 0x02, 0x35, 1, 0, 0, 0]);
        assert_eq!(
            ClassRequest::parse(&SetupPacket::from_bytes(setup.to_bytes())),
            Ok(ClassRequest::Abort { slot: Slot(2), seq: Seq(0x35) })
        );
    }

    #[test]
    fn foreign_requests_are_named() {
        let setup = SetupPacket::from_bytes([0x80, 6, 0, 1, 0, 0, 18, 0]);
        assert_eq!(ClassRequest::parse(&setup), Err(WireError::UnknownType(6)));
    }
}
