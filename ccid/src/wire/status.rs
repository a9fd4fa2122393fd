//! bStatus and bError, which every response carries at offsets 7 and 8 (CCID 1.1 §6.2.6).

use super::code_enum;
use core::fmt;

/// bmICCStatus, bits 0 and 1 of bStatus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IccStatus {
    /// 0: a card is present and powered.
    PresentActive,
    /// 1: a card is present and not powered.
    PresentInactive,
    /// 2: no card.
    NotPresent,
    /// 3: reserved.
    Reserved,
}

impl IccStatus {
    /// The two bits' meaning; higher bits are not looked at.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::PresentActive,
            1 => Self::PresentInactive,
            2 => Self::NotPresent,
            _ => Self::Reserved,
        }
    }

    /// The two bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::PresentActive => 0,
            Self::PresentInactive => 1,
            Self::NotPresent => 2,
            Self::Reserved => 3,
        }
    }
}

impl fmt::Display for IccStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PresentActive => "card active",
            Self::PresentInactive => "card inactive",
            Self::NotPresent => "no card",
            Self::Reserved => "card status reserved (3)",
        })
    }
}

/// bmCommandStatus, bits 6 and 7 of bStatus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CommandStatus {
    /// 0: processed without error.
    Success,
    /// 1: failed; bError says why.
    Failed,
    /// 2: the reader asks for more time; bError multiplies the waiting time.
    TimeExtension,
    /// 3: reserved.
    Reserved,
}

code_enum! {
    /// bError of a failed command (CCID 1.1 table 6.2-2). 01h to 7Fh name the offset of a bad
    /// field and are [`SlotError::Unknown`], as are the codes a manufacturer may define
    /// (81h to C0h).
    pub enum SlotError {
        /// 00h: the command is not supported.
        CmdNotSupported = 0x00,
        /// 05h: bSlot does not exist.
        BadSlot = 0x05,
        /// E0h: a second command was sent to a slot that is busy.
        CmdSlotBusy = 0xE0,
        /// EFh: the user cancelled the PIN entry.
        PinCancelled = 0xEF,
        /// F0h: the user did not enter the PIN in time.
        PinTimeout = 0xF0,
        /// F2h: an automatic sequence is going on.
        BusyWithAutoSequence = 0xF2,
        /// F3h: the protocol was deactivated.
        DeactivatedProtocol = 0xF3,
        /// F4h: an unexpected T=0 procedure byte.
        ProcedureByteConflict = 0xF4,
        /// F5h: the card's class is not supported.
        IccClassNotSupported = 0xF5,
        /// F6h: the card's protocol is not supported.
        IccProtocolNotSupported = 0xF6,
        /// F7h: the ATR's TCK is wrong.
        BadAtrTck = 0xF7,
        /// F8h: the ATR's TS is wrong.
        BadAtrTs = 0xF8,
        /// FBh: a hardware error.
        HwError = 0xFB,
        /// FCh: overrun while talking to the card.
        XfrOverrun = 0xFC,
        /// FDh: parity error while talking to the card.
        XfrParityError = 0xFD,
        /// FEh: the card does not answer.
        IccMute = 0xFE,
        /// FFh: the host aborted the command.
        CmdAborted = 0xFF,
    }
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::CmdNotSupported => "CMD_NOT_SUPPORTED",
            Self::BadSlot => "bad bSlot",
            Self::CmdSlotBusy => "CMD_SLOT_BUSY",
            Self::PinCancelled => "PIN_CANCELLED",
            Self::PinTimeout => "PIN_TIMEOUT",
            Self::BusyWithAutoSequence => "BUSY_WITH_AUTO_SEQUENCE",
            Self::DeactivatedProtocol => "DEACTIVATED_PROTOCOL",
            Self::ProcedureByteConflict => "PROCEDURE_BYTE_CONFLICT",
            Self::IccClassNotSupported => "ICC_CLASS_NOT_SUPPORTED",
            Self::IccProtocolNotSupported => "ICC_PROTOCOL_NOT_SUPPORTED",
            Self::BadAtrTck => "BAD_ATR_TCK",
            Self::BadAtrTs => "BAD_ATR_TS",
            Self::HwError => "HW_ERROR",
            Self::XfrOverrun => "XFR_OVERRUN",
            Self::XfrParityError => "XFR_PARITY_ERROR",
            Self::IccMute => "ICC_MUTE",
            Self::CmdAborted => "CMD_ABORTED",
            Self::Unknown(n @ 0x01..=0x7F) => {
                return write!(f, "bad field at offset {n}");
            }
            Self::Unknown(n @ 0x81..=0xC0) => {
                return write!(f, "manufacturer's error {n:02X}h");
            }
            Self::Unknown(n) => return write!(f, "reserved error {n:02X}h"),
        };
        write!(f, "{name} ({:02X}h)", u8::from(*self))
    }
}

/// bStatus and bError together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status {
    /// bmICCStatus.
    pub icc: IccStatus,
    /// bmCommandStatus.
    pub command: CommandStatus,
    /// bError as it came: an error code if the command failed, the multiplier of a time
    /// extension, else without meaning (real readers send 81h with success).
    pub error: u8,
}

impl Status {
    /// From bStatus and bError.
    pub const fn from_bytes(status: u8, error: u8) -> Self {
        let command = match status >> 6 {
            0 => CommandStatus::Success,
            1 => CommandStatus::Failed,
            2 => CommandStatus::TimeExtension,
            _ => CommandStatus::Reserved,
        };
        Self { icc: IccStatus::from_bits(status), command, error }
    }

    /// bStatus and bError.
    pub const fn to_bytes(self) -> [u8; 2] {
        let command = match self.command {
            CommandStatus::Success => 0,
            CommandStatus::Failed => 1,
            CommandStatus::TimeExtension => 2,
            CommandStatus::Reserved => 3,
        };
        [self.icc.bits() | command << 6, self.error]
    }

    /// Success, with a card in the state `icc`.
    pub const fn success(icc: IccStatus) -> Self {
        Self { icc, command: CommandStatus::Success, error: 0 }
    }

    /// Failure with `error`.
    pub fn failed(icc: IccStatus, error: SlotError) -> Self {
        Self { icc, command: CommandStatus::Failed, error: error.into() }
    }

    /// The error code, if the command failed.
    pub fn slot_error(self) -> Option<SlotError> {
        (self.command == CommandStatus::Failed).then(|| self.error.into())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            CommandStatus::Success => write!(f, "ok, {}", self.icc),
            CommandStatus::Failed => {
                write!(f, "failed {}, {}", SlotError::from(self.error), self.icc)
            }
            CommandStatus::TimeExtension => {
                write!(f, "time extension x{}, {}", self.error, self.icc)
            }
            CommandStatus::Reserved => write!(f, "command status reserved (3), {}", self.icc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_byte_survives() {
        for status in 0..=255u8 {
            let parsed = Status::from_bytes(status, 0x81);
            // Bits 2 to 5 are reserved and not kept.
            assert_eq!(parsed.to_bytes(), [status & 0xC3, 0x81]);
        }
    }

    #[test]
    fn every_error_code_survives() {
        for code in 0..=255u8 {
            assert_eq!(u8::from(SlotError::from(code)), code);
        }
    }
}
