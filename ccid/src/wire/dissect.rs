//! One-line descriptions of messages, for logs and traces. Data that may hold a PIN is left out.

use super::{Command, HEADER_LEN, LevelParameter, Message, Notification, Response};
use core::fmt;

/// A message that displays itself on one line.
#[derive(Clone, Copy, Debug)]
pub struct Dissected<'a> {
    bytes: &'a [u8],
    exchange_data: bool,
}

impl Dissected<'_> {
    /// Shows of an XfrBlock the length only: where a PIN cannot be told from other data, as at
    /// character level, at which header and data of a T=0 command are messages of their own.
    #[must_use]
    pub const fn without_exchange_data(self) -> Self {
        Self { exchange_data: false, ..self }
    }
}

/// One line about the bulk or interrupt message in `bytes`: type, slot, sequence number and the
/// fields that matter. Whatever the bytes are, a line comes out. PC_to_RDR_Secure and the data of
/// XfrBlocks that carry a PIN command (VERIFY, CHANGE or RESET REFERENCE DATA), or go on with a
/// command of which nothing is known here, show their length only.
pub const fn dissect(bytes: &[u8]) -> Dissected<'_> {
    Dissected { bytes, exchange_data: true }
}

impl fmt::Display for Dissected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes;
        if let [0x50 | 0x51, ..] = *bytes {
            return notification(bytes, f);
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return write!(f, "malformed message ({error}): {}", Hex(bytes)),
        };
        let Message { message_type, slot, seq, .. } = message;
        if let Some(name) = Command::name_of(message_type) {
            write!(f, "{name} {slot} {seq}")?;
            match Command::parse(&message) {
                Ok(parsed) => command(&parsed, self.exchange_data, f)?,
                Err(error) => write!(f, " ({error})")?,
            }
        } else if let Some(name) = Response::name_of(message_type) {
            write!(f, "{name} {slot} {seq}")?;
            match Response::parse(&message) {
                Ok(parsed) => response(&parsed, f)?,
                Err(error) => write!(f, " ({error})")?,
            }
        } else {
            write!(f, "unknown message {message_type:02X}h {slot} {seq}")?;
        }
        let behind = bytes.len().saturating_sub(HEADER_LEN.saturating_add(message.data.len()));
        if behind > 0 {
            write!(f, " (and {behind} bytes behind dwLength)")?;
        }
        Ok(())
    }
}

fn command(command: &Command<'_>, exchange_data: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match *command {
        Command::IccPowerOn { power_select } => write!(f, " {power_select:?}"),
        Command::XfrBlock { bwi, level_parameter, data } => {
            if bwi != 0 {
                write!(f, " bBWI {bwi}")?;
            }
            if level_parameter.0 != 0 {
                write!(f, " level {:04X}h", level_parameter.0)?;
            }
            if !exchange_data {
                write!(f, " ({} bytes, not shown)", data.len())
            } else if carries_pin(data) {
                write!(f, " ({} bytes, PIN command not shown)", data.len())
            } else if matches!(level_parameter, LevelParameter::END | LevelParameter::CONTINUE) {
                write!(f, " ({} bytes, not shown)", data.len())
            } else {
                write!(f, ": {}", Hex(data))
            }
        }
        Command::SetParameters { protocol_num, data } => {
            write!(f, " T={protocol_num}: {}", Hex(data))
        }
        Command::Escape { data } => write!(f, ": {}", Hex(data)),
        Command::IccClock { clock_command } => write!(f, " {clock_command:?}"),
        Command::T0Apdu { changes, class_get_response, class_envelope } => write!(
            f,
            " changes {changes:02X}h GET RESPONSE class {class_get_response:02X}h \
             ENVELOPE class {class_envelope:02X}h"
        ),
        Command::Secure { data, .. } => write!(f, " ({} bytes, not shown)", data.len()),
        Command::Mechanical { function } => write!(f, " {function:?}"),
        Command::SetDataRateAndClockFrequency { clock_frequency, data_rate } => {
            write!(f, " {clock_frequency} kHz {data_rate} bit/s")
        }
        Command::IccPowerOff
        | Command::GetSlotStatus
        | Command::GetParameters
        | Command::ResetParameters
        | Command::Abort => Ok(()),
    }
}

fn response(response: &Response<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}", response.status())?;
    match *response {
        Response::DataBlock { chain, data, .. } => {
            if u8::from(chain) != 0 {
                write!(f, ", chain {:02X}h", u8::from(chain))?;
            }
            if data.is_empty() { Ok(()) } else { write!(f, ": {}", Hex(data)) }
        }
        Response::SlotStatus { clock_status, .. } if u8::from(clock_status) != 0 => {
            write!(f, ", clock {clock_status:?}")
        }
        Response::SlotStatus { .. } => Ok(()),
        Response::Parameters { protocol_num, data, .. } => {
            write!(f, ", T={protocol_num}: {}", Hex(data))
        }
        Response::Escape { data, .. } => write!(f, ": {}", Hex(data)),
        Response::DataRateAndClockFrequency { clock_frequency, data_rate, .. } => {
            write!(f, ", {clock_frequency} kHz {data_rate} bit/s")
        }
    }
}

fn notification(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match Notification::parse(bytes) {
        Ok(message @ Notification::SlotChange { .. }) => {
            f.write_str("NotifySlotChange")?;
            for change in message.slots().filter(|c| c.changed || c.present) {
                let card = if change.present { "card" } else { "no card" };
                let changed = if change.changed { " (changed)" } else { "" };
                write!(f, ", {}: {card}{changed}", change.slot)?;
            }
            Ok(())
        }
        Ok(Notification::HardwareError { slot, seq, code }) => {
            write!(f, "HardwareError {slot} {seq} code {code:02X}h")
        }
        Err(error) => write!(f, "malformed interrupt message ({error}): {}", Hex(bytes)),
    }
}

/// Whether the data of an XfrBlock is, or carries in a T=1 block, a command with a PIN:
/// VERIFY (20h, 21h), CHANGE (24h, 25h) or RESET (2Ch, 2Dh) REFERENCE DATA (ISO/IEC 7816-4).
fn carries_pin(data: &[u8]) -> bool {
    const INSTRUCTIONS: [u8; 6] = [0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D];
    let at = |n: usize| data.get(n).is_some_and(|ins| INSTRUCTIONS.contains(ins));
    // An APDU or TPDU has INS at 1; a T=1 I-block has three bytes before the APDU.
    (data.len() > 5 && at(1))
        || (data.len() > 8 && at(4) && data.get(1).is_some_and(|b| b & 0x80 == 0))
}

/// Bytes in hexadecimal, at most 64 of them.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        for (n, byte) in self.0.iter().take(SHOWN).enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{byte:02X}")?;
        }
        if self.0.len() > SHOWN {
            write!(f, " ... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn lines() {
        for (bytes, line) in [
            (&[0x65, 0, 0, 0, 0, 0, 7, 0, 0, 0][..], "GetSlotStatus slot 0 seq 7"),
            (
                &[0x6F, 4, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xA4, 0, 0],
                "XfrBlock slot 1 seq 2: 00 A4 00 00",
            ),
            (
                &[0x81, 0, 0, 0, 0, 0, 7, 0x42, 0xFE, 0],
                "SlotStatus slot 0 seq 7 failed ICC_MUTE (FEh), no card",
            ),
            (
                &[0x80, 0, 0, 0, 0, 0, 7, 0x80, 3, 0],
                "DataBlock slot 0 seq 7 time extension x3, card active",
            ),
            (&[0x50, 3], "NotifySlotChange, slot 0: card (changed)"),
            (&[1, 2], "malformed message (2 bytes where a message needs at least 10): 01 02"),
        ] {
            assert_eq!(dissect(bytes).to_string(), line);
        }
    }

    #[test]
    fn exchange_data_can_be_left_out() {
        let bytes = [0x6F, 4, 0, 0, 0, 0, 2, 0, 0, 0, 0x31, 0x32, 0x33, 0x34];
        assert_eq!(
            dissect(&bytes).without_exchange_data().to_string(),
            "XfrBlock slot 0 seq 2 (4 bytes, not shown)"
        );
    }

    #[test]
    fn of_what_goes_on_the_length_is_shown() {
        for (level, shown) in [(1, true), (2, false), (3, false)] {
            let bytes = [0x6F, 4, 0, 0, 0, 0, 2, 0, level, 0, 0x31, 0x32, 0x33, 0x34];
            assert_eq!(dissect(&bytes).to_string().contains("31 32"), shown, "{level}");
        }
    }

    #[test]
    fn pins_are_not_shown() {
        let apdu = [0x00, 0x20, 0x00, 0x81, 0x04, 0x31, 0x32, 0x33, 0x34];
        let block = [&[0x00, 0x40, 0x09][..], &apdu, &[0x55]].concat();
        for data in [&apdu[..], &block] {
            let bytes = Command::XfrBlock {
                bwi: 0,
                level_parameter: super::super::LevelParameter::WHOLE,
                data,
            }
            .emit(super::super::Slot(0), super::super::Seq(0));
            assert!(!dissect(&bytes).to_string().contains("31 32"));
        }
    }
}
