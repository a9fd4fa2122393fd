//! PC_to_RDR messages, the bulk-OUT direction (CCID 1.1 §6.1).

use super::{Message, Seq, Slot, WireError, code_enum};
use bytes::Bytes;

code_enum! {
    /// bPowerSelect of PC_to_RDR_IccPowerOn (CCID 1.1 §6.1.1).
    pub enum PowerSelect {
        /// 00h: the reader chooses.
        Automatic = 0x00,
        /// 01h: 5 V.
        V5 = 0x01,
        /// 02h: 3 V.
        V3 = 0x02,
        /// 03h: 1.8 V.
        V1_8 = 0x03,
    }
}

code_enum! {
    /// bClockCommand of PC_to_RDR_IccClock (CCID 1.1 §6.1.9).
    pub enum ClockCommand {
        /// 00h: restart the clock.
        Restart = 0x00,
        /// 01h: stop it in the state of bClockStop.
        Stop = 0x01,
    }
}

code_enum! {
    /// bFunction of PC_to_RDR_Mechanical (CCID 1.1 §6.1.12).
    pub enum MechanicalFunction {
        /// 01h: accept a card.
        Accept = 0x01,
        /// 02h: eject it.
        Eject = 0x02,
        /// 03h: capture it.
        Capture = 0x03,
        /// 04h: lock it.
        Lock = 0x04,
        /// 05h: unlock it.
        Unlock = 0x05,
    }
}

/// wLevelParameter of PC_to_RDR_XfrBlock and PC_to_RDR_Secure (CCID 1.1 §6.1.4): at character
/// level the length to read, at extended APDU level the place in a chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LevelParameter(pub u16);

impl LevelParameter {
    /// 0000h: the APDU begins and ends here; also the value at TPDU and short APDU level.
    pub const WHOLE: Self = Self(0x0000);
    /// 0001h: the APDU begins here and goes on.
    pub const BEGIN: Self = Self(0x0001);
    /// 0002h: the APDU goes on and ends here.
    pub const END: Self = Self(0x0002);
    /// 0003h: the APDU goes on and does not end here.
    pub const CONTINUE: Self = Self(0x0003);
    /// 0010h: no data; the next part of the response is asked for.
    pub const CONTINUE_RESPONSE: Self = Self(0x0010);
}

/// A PC_to_RDR message, its slot and sequence number apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// 62h, §6.1.1. Answer: RDR_to_PC_DataBlock with the ATR.
    IccPowerOn {
        /// bPowerSelect.
        power_select: PowerSelect,
    },
    /// 63h, §6.1.2. Answer: RDR_to_PC_SlotStatus.
    IccPowerOff,
    /// 65h, §6.1.3. Answer: RDR_to_PC_SlotStatus.
    GetSlotStatus,
    /// 6Fh, §6.1.4. Answer: RDR_to_PC_DataBlock.
    XfrBlock {
        /// bBWI: extends the block waiting time of this transfer.
        bwi: u8,
        /// wLevelParameter.
        level_parameter: LevelParameter,
        /// abData.
        data: &'a [u8],
    },
    /// 6Ch, §6.1.5. Answer: RDR_to_PC_Parameters.
    GetParameters,
    /// 6Dh, §6.1.6. Answer: RDR_to_PC_Parameters.
    ResetParameters,
    /// 61h, §6.1.7. Answer: RDR_to_PC_Parameters.
    SetParameters {
        /// bProtocolNum: 0 for T=0, 1 for T=1.
        protocol_num: u8,
        /// abProtocolDataStructure: 5 bytes for T=0, 7 for T=1.
        data: &'a [u8],
    },
    /// 6Bh, §6.1.8. Answer: RDR_to_PC_Escape.
    Escape {
        /// abData.
        data: &'a [u8],
    },
    /// 6Eh, §6.1.9. Answer: RDR_to_PC_SlotStatus.
    IccClock {
        /// bClockCommand.
        clock_command: ClockCommand,
    },
    /// 6Ah, §6.1.10. Answer: RDR_to_PC_SlotStatus.
    T0Apdu {
        /// bmChanges: bit 0, bClassGetResponse is valid; bit 1, bClassEnvelope is.
        changes: u8,
        /// bClassGetResponse.
        class_get_response: u8,
        /// bClassEnvelope.
        class_envelope: u8,
    },
    /// 69h, §6.1.11. Answer: RDR_to_PC_DataBlock.
    Secure {
        /// bBWI.
        bwi: u8,
        /// wLevelParameter.
        level_parameter: LevelParameter,
        /// bPINOperation and the PIN data structure behind it.
        data: &'a [u8],
    },
    /// 71h, §6.1.12. Answer: RDR_to_PC_SlotStatus.
    Mechanical {
        /// bFunction.
        function: MechanicalFunction,
    },
    /// 72h, §6.1.13. Answer: RDR_to_PC_SlotStatus.
    Abort,
    /// 73h, §6.1.14. Answer: RDR_to_PC_DataRateAndClockFrequency.
    SetDataRateAndClockFrequency {
        /// dwClockFrequency in kHz.
        clock_frequency: u32,
        /// dwDataRate in bit/s.
        data_rate: u32,
    },
}

impl<'a> Command<'a> {
    /// bMessageType.
    pub const fn message_type(&self) -> u8 {
        match self {
            Self::SetParameters { .. } => 0x61,
            Self::IccPowerOn { .. } => 0x62,
            Self::IccPowerOff => 0x63,
            Self::GetSlotStatus => 0x65,
            Self::Secure { .. } => 0x69,
            Self::T0Apdu { .. } => 0x6A,
            Self::Escape { .. } => 0x6B,
            Self::GetParameters => 0x6C,
            Self::ResetParameters => 0x6D,
            Self::IccClock { .. } => 0x6E,
            Self::XfrBlock { .. } => 0x6F,
            Self::Mechanical { .. } => 0x71,
            Self::Abort => 0x72,
            Self::SetDataRateAndClockFrequency { .. } => 0x73,
        }
    }

    /// The specification's name without PC_to_RDR_, or none for a type that is not one.
    pub const fn name_of(message_type: u8) -> Option<&'static str> {
        Some(match message_type {
            0x61 => "SetParameters",
            0x62 => "IccPowerOn",
            0x63 => "IccPowerOff",
            0x65 => "GetSlotStatus",
            0x69 => "Secure",
            0x6A => "T0APDU",
            0x6B => "Escape",
            0x6C => "GetParameters",
            0x6D => "ResetParameters",
            0x6E => "IccClock",
            0x6F => "XfrBlock",
            0x71 => "Mechanical",
            0x72 => "Abort",
            0x73 => "SetDataRateAndClockFrequency",
            _ => return None,
        })
    }

    /// bMessageType of the response that answers this command when it succeeds.
    pub const fn answered_by(&self) -> u8 {
        match self {
            Self::IccPowerOn { .. } | Self::XfrBlock { .. } | Self::Secure { .. } => 0x80,
            Self::IccPowerOff
            | Self::GetSlotStatus
            | Self::IccClock { .. }
            | Self::T0Apdu { .. }
            | Self::Mechanical { .. }
            | Self::Abort => 0x81,
            Self::GetParameters | Self::ResetParameters | Self::SetParameters { .. } => 0x82,
            Self::Escape { .. } => 0x83,
            Self::SetDataRateAndClockFrequency { .. } => 0x84,
        }
    }

    /// Reads the command that `message` is. Reserved bytes are not looked at.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] if it is no PC_to_RDR message; [`WireError::BadField`] if
    /// dwLength does not fit the type.
    pub fn parse(message: &Message<'a>) -> Result<Self, WireError> {
        let Message { message_type, specific: [b7, b8, b9], data, .. } = *message;
        let level_parameter = LevelParameter(u16::from_le_bytes([b8, b9]));
        Ok(match message_type {
            0x61 => Self::SetParameters { protocol_num: b7, data },
            0x62 => Self::IccPowerOn { power_select: b7.into() },
            0x63 => Self::IccPowerOff,
            0x65 => Self::GetSlotStatus,
            0x69 => Self::Secure { bwi: b7, level_parameter, data },
            0x6A => Self::T0Apdu { changes: b7, class_get_response: b8, class_envelope: b9 },
            0x6B => Self::Escape { data },
            0x6C => Self::GetParameters,
            0x6D => Self::ResetParameters,
            0x6E => Self::IccClock { clock_command: b7.into() },
            0x6F => Self::XfrBlock { bwi: b7, level_parameter, data },
            0x71 => Self::Mechanical { function: b7.into() },
            0x72 => Self::Abort,
            0x73 => {
                let Ok([c0, c1, c2, c3, r0, r1, r2, r3]) = <[u8; 8]>::try_from(data) else {
                    return Err(WireError::BadField { message_type, field: "dwLength" });
                };
                Self::SetDataRateAndClockFrequency {
                    clock_frequency: u32::from_le_bytes([c0, c1, c2, c3]),
                    data_rate: u32::from_le_bytes([r0, r1, r2, r3]),
                }
            }
            other => return Err(WireError::UnknownType(other)),
        })
    }

    /// The message's bytes.
    pub fn emit(&self, slot: Slot, seq: Seq) -> Bytes {
        let rates;
        let (specific, data): ([u8; 3], &[u8]) = match *self {
            Self::IccPowerOn { power_select } => ([power_select.into(), 0, 0], &[]),
            Self::IccPowerOff
            | Self::GetSlotStatus
            | Self::GetParameters
            | Self::ResetParameters
            | Self::Abort => ([0; 3], &[]),
            Self::XfrBlock { bwi, level_parameter, data }
            | Self::Secure { bwi, level_parameter, data } => {
                let [low, high] = level_parameter.0.to_le_bytes();
                ([bwi, low, high], data)
            }
            Self::SetParameters { protocol_num, data } => ([protocol_num, 0, 0], data),
            Self::Escape { data } => ([0; 3], data),
            Self::IccClock { clock_command } => ([clock_command.into(), 0, 0], &[]),
            Self::T0Apdu { changes, class_get_response, class_envelope } => {
                ([changes, class_get_response, class_envelope], &[])
            }
            Self::Mechanical { function } => ([function.into(), 0, 0], &[]),
            Self::SetDataRateAndClockFrequency { clock_frequency, data_rate } => {
                let [c0, c1, c2, c3] = clock_frequency.to_le_bytes();
                let [r0, r1, r2, r3] = data_rate.to_le_bytes();
                rates = [c0, c1, c2, c3, r0, r1, r2, r3];
                ([0; 3], &rates)
            }
        };
        Message { message_type: self.message_type(), slot, seq, specific, data }.emit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn all() -> Vec<Command<'static>> {
        alloc::vec![
            Command::IccPowerOn { power_select: PowerSelect::V3 },
            Command::IccPowerOff,
            Command::GetSlotStatus,
            Command::XfrBlock {
                bwi: 3,
                level_parameter: LevelParameter::CONTINUE_RESPONSE,
                data: &[0, 0xA4, 4, 0]
            },
            Command::GetParameters,
            Command::ResetParameters,
            Command::SetParameters { protocol_num: 1, data: &[0x11, 0x10, 0, 0x4D, 0, 0x20, 0] },
            Command::Escape { data: &[2] },
            Command::IccClock { clock_command: ClockCommand::Stop },
            Command::T0Apdu { changes: 3, class_get_response: 0xC0, class_envelope: 0xC2 },
            Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data: &[0, 30] },
            Command::Mechanical { function: MechanicalFunction::Eject },
            Command::Abort,
            Command::SetDataRateAndClockFrequency { clock_frequency: 4000, data_rate: 10753 },
        ]
    }

    #[test]
    fn every_command_survives_the_wire() {
        for command in all() {
            let bytes = command.emit(Slot(2), Seq(0xFE));
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.slot, message.seq), (Slot(2), Seq(0xFE)));
            assert_eq!(Command::parse(&message).unwrap(), command);
            assert!(Command::name_of(message.message_type).is_some());
        }
    }

    /// The bytes of an XfrBlock as CCID 1.1 §6.1.4 lays them out.
    #[test]
    fn xfr_block_layout() {
        let command = Command::XfrBlock {
            bwi: 1,
            level_parameter: LevelParameter(0x0302),
            data: &[0xAA, 0xBB],
        };
        assert_eq!(
            &command.emit(Slot(4), Seq(5))[..],
            [0x6F, 2, 0, 0, 0, 4, 5, 1, 0x02, 0x03, 0xAA, 0xBB]
        );
    }
}
