//! RDR_to_PC messages, the bulk-IN direction (CCID 1.1 §6.2).

use super::{Message, Seq, Slot, Status, WireError, code_enum};
use bytes::Bytes;

code_enum! {
    /// bChainParameter of RDR_to_PC_DataBlock (CCID 1.1 §6.2.1).
    pub enum ChainParameter {
        /// 00h: the response begins and ends here.
        Whole = 0x00,
        /// 01h: it begins here and goes on.
        Begin = 0x01,
        /// 02h: it goes on and ends here.
        End = 0x02,
        /// 03h: it goes on and does not end here.
        Continue = 0x03,
        /// 10h: no data; the reader wants the next part of the command.
        NextCommandPart = 0x10,
    }
}

code_enum! {
    /// bClockStatus of RDR_to_PC_SlotStatus (CCID 1.1 §6.2.2).
    pub enum ClockStatus {
        /// 00h: running.
        Running = 0x00,
        /// 01h: stopped low.
        StoppedLow = 0x01,
        /// 02h: stopped high.
        StoppedHigh = 0x02,
        /// 03h: stopped in an unknown state.
        Stopped = 0x03,
    }
}

/// A RDR_to_PC message, its slot and sequence number apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Response<'a> {
    /// 80h, §6.2.1.
    DataBlock {
        /// bStatus and bError.
        status: Status,
        /// bChainParameter.
        chain: ChainParameter,
        /// abData.
        data: &'a [u8],
    },
    /// 81h, §6.2.2.
    SlotStatus {
        /// bStatus and bError.
        status: Status,
        /// bClockStatus.
        clock_status: ClockStatus,
    },
    /// 82h, §6.2.3.
    Parameters {
        /// bStatus and bError.
        status: Status,
        /// bProtocolNum.
        protocol_num: u8,
        /// abProtocolDataStructure.
        data: &'a [u8],
    },
    /// 83h, §6.2.4.
    Escape {
        /// bStatus and bError.
        status: Status,
        /// abData.
        data: &'a [u8],
    },
    /// 84h, §6.2.5.
    DataRateAndClockFrequency {
        /// bStatus and bError.
        status: Status,
        /// dwClockFrequency in kHz.
        clock_frequency: u32,
        /// dwDataRate in bit/s.
        data_rate: u32,
    },
}

impl<'a> Response<'a> {
    /// bMessageType.
    pub const fn message_type(&self) -> u8 {
        match self {
            Self::DataBlock { .. } => 0x80,
            Self::SlotStatus { .. } => 0x81,
            Self::Parameters { .. } => 0x82,
            Self::Escape { .. } => 0x83,
            Self::DataRateAndClockFrequency { .. } => 0x84,
        }
    }

    /// The specification's name without RDR_to_PC_, or none for a type that is not one.
    pub const fn name_of(message_type: u8) -> Option<&'static str> {
        Some(match message_type {
            0x80 => "DataBlock",
            0x81 => "SlotStatus",
            0x82 => "Parameters",
            0x83 => "Escape",
            0x84 => "DataRateAndClockFrequency",
            _ => return None,
        })
    }

    /// bStatus and bError.
    pub const fn status(&self) -> Status {
        match self {
            Self::DataBlock { status, .. }
            | Self::SlotStatus { status, .. }
            | Self::Parameters { status, .. }
            | Self::Escape { status, .. }
            | Self::DataRateAndClockFrequency { status, .. } => *status,
        }
    }

    /// Reads the response that `message` is.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] if it is no RDR_to_PC message; [`WireError::BadField`] if a
    /// successful RDR_to_PC_DataRateAndClockFrequency has not the eight bytes it needs.
    pub fn parse(message: &Message<'a>) -> Result<Self, WireError> {
        let Message { message_type, specific: [b7, b8, b9], data, .. } = *message;
        let status = Status::from_bytes(b7, b8);
        Ok(match message_type {
            0x80 => Self::DataBlock { status, chain: b9.into(), data },
            0x81 => Self::SlotStatus { status, clock_status: b9.into() },
            0x82 => Self::Parameters { status, protocol_num: b9, data },
            0x83 => Self::Escape { status, data },
            0x84 => {
                let (clock_frequency, data_rate) = match *data {
                    [c0, c1, c2, c3, r0, r1, r2, r3] => {
                        (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([r0, r1, r2, r3]))
                    }
                    // A failed command need not carry the rates.
                    _ if status.slot_error().is_some() => (0, 0),
                    _ => return Err(WireError::BadField { message_type, field: "dwLength" }),
                };
                Self::DataRateAndClockFrequency { status, clock_frequency, data_rate }
            }
            other => return Err(WireError::UnknownType(other)),
        })
    }

    /// The message's bytes.
    pub fn emit(&self, slot: Slot, seq: Seq) -> Bytes {
        let [b7, b8] = self.status().to_bytes();
        let rates;
        let (b9, data): (u8, &[u8]) = match *self {
            Self::DataBlock { chain, data, .. } => (chain.into(), data),
            Self::SlotStatus { clock_status, .. } => (clock_status.into(), &[]),
            Self::Parameters { protocol_num, data, .. } => (protocol_num, data),
            Self::Escape { data, .. } => (0, data),
            Self::DataRateAndClockFrequency { clock_frequency, data_rate, .. } => {
                let [c0, c1, c2, c3] = clock_frequency.to_le_bytes();
                let [r0, r1, r2, r3] = data_rate.to_le_bytes();
                rates = [c0, c1, c2, c3, r0, r1, r2, r3];
                (0, &rates)
            }
        };
        let specific = [b7, b8, b9];
        Message { message_type: self.message_type(), slot, seq, specific, data }.emit()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IccStatus, SlotError};
    use super::*;

    #[test]
    fn every_response_survives_the_wire() {
        let ok = Status::success(IccStatus::PresentActive);
        let failed = Status::failed(IccStatus::NotPresent, SlotError::IccMute);
        for response in [
            Response::DataBlock { status: ok, chain: ChainParameter::Begin, data: &[0x90, 0] },
            Response::SlotStatus { status: failed, clock_status: ClockStatus::StoppedHigh },
            Response::Parameters { status: ok, protocol_num: 1, data: &[1, 2, 3, 4, 5, 6, 7] },
            Response::Escape { status: ok, data: &[1] },
            Response::DataRateAndClockFrequency {
                status: ok,
                clock_frequency: 4000,
                data_rate: 115_200,
            },
        ] {
            let bytes = response.emit(Slot(1), Seq(7));
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(Response::parse(&message).unwrap(), response);
        }
    }

    #[test]
    fn failed_rates_need_no_data() {
        let message = Message {
            message_type: 0x84,
            slot: Slot(0),
            seq: Seq(0),
            specific: [0x40, 0, 0],
            data: &[],
        };
        assert!(Response::parse(&message).is_ok());
        let message = Message { specific: [0, 0, 0], ..message };
        assert_eq!(
            Response::parse(&message),
            Err(WireError::BadField { message_type: 0x84, field: "dwLength" })
        );
    }
}
