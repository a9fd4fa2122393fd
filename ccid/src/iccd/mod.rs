//! ICCD: smart-card chips with USB of their own, which take commands over the control pipe
//! ("Specification for USB Integrated Circuit(s) Card Devices", revision 1.0; ISO/IEC 7816-12).
//!
//! A [`Translator`] makes such a device look like a CCID reader of one slot: PC_to_RDR messages go
//! in, class requests come out; the devices' answers go in, RDR_to_PC messages come out. Like
//! everything here it does no input or output and is given the time.
//!
//! # What goes over the control pipe
//!
//! All requests are class requests to the interface.
//!
//! | request | version A (bInterfaceProtocol 1) | version B (2) |
//! |---|---|---|
//! | ICC_POWER_ON | A1 62, wValue 0, gives the ATR | 21 62, wValue 1; the ATR comes by DATA_BLOCK |
//! | ICC_POWER_OFF | 21 63 | 21 63 |
//! | XFR_BLOCK | 21 65, wValue 0 | 21 65, wValue: wLevelParameter's low byte in the high byte |
//! | DATA_BLOCK | A1 6F, data as such | A1 6F, bResponseType first |
//! | status | GET_ICC_STATUS A1 A0, one byte | SLOT_STATUS A1 81: bStatus, bError, bClockStatus |
//!
//! Version A, at character level, speaks T=0 without its procedure bytes: the header of the command
//! TPDU goes out, then the status says how it goes on. 00h: nothing to do; 10h: the command's data
//! are wanted, or the response's are there; 20h: SW1 SW2 are there; bit 40h: busy; 80h: the card is
//! mute. At the other levels the command goes out as a whole, and the whole response comes at 20h.
//! Version B takes APDUs, chained as at the extended APDU level; bResponseType of its answers is
//! 00h, 01h, 02h, 03h, 10h (data, with the meaning of bChainParameter), 40h (bStatus, bError and
//! bClockStatus of a CCID reader follow) or 80h (ask again; the time to wait follows, 16 bits,
//! little-endian, in units of 10 ms, 0: as the host likes).
//!
//! # What is certain, and what is inferred
//!
//! The requests, the status bytes and the response types are those that drivers of such devices
//! have used for many years. Inferred are these:
//!
//! * SLOT_STATUS is answered as in the table or, as other drivers take it, with bResponseType 40h
//!   before bStatus and bError. Both are understood: no CCID status is 40h with a second byte that
//!   could be a status as well.
//! * Version A at other levels than character level; no such device is known.
//! * Reading a status or a data block again when a request ran out of time: both report, and
//!   change nothing before they have been answered. The others are never repeated.
//! * A device that stalls a request did not carry it out, and the state of the exchange is
//!   unknown: the card has to be powered up again, which begins with ICC_POWER_OFF, and whatever
//!   was going on ends with that. (On the control pipe a stall ends with the next request.)
//! * wValue 1 of version B's ICC_POWER_ON is taken for bPowerSelect, 5 V: the only one declared.
//! * A mute card is reported as present without power: it cannot be taken out of its device.
//! * Answers longer than 4096 bytes, the most that Linux takes in one control transfer, come
//!   chained.
//!
//! # Time
//!
//! A device that is busy, or asks to be asked again, becomes time extensions upwards, one a
//! second, so that whoever sent the command decides how long to wait. The one wait that is not
//! passed on, for ICC_POWER_OFF to take hold, ends after 3 seconds. There is nothing like Abort in
//! ICCD: PC_to_RDR_Abort stops the asking, fails the command with CMD_ABORTED, and is itself
//! answered with CMD_NOT_SUPPORTED.

mod dialogue;
mod request;
mod translator;

pub use request::{Control, Failure};
pub use translator::Translator;

use crate::descriptor::{ClassDescriptor, ExchangeLevel, Features, ReaderProtocols};
use crate::wire::HEADER_LEN;

/// The most bytes of one control transfer's data stage.
pub const MAX_TRANSFER: u16 = 4096;

/// The two versions of ICCD over the control pipe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// bInterfaceProtocol 1: T=0 TPDUs.
    A,
    /// bInterfaceProtocol 2: APDUs.
    B,
}

impl Version {
    /// The version of an interface with this bInterfaceProtocol; none if that is not ICCD's.
    pub const fn of(interface_protocol: u8) -> Option<Self> {
        match interface_protocol {
            1 => Some(Self::A),
            2 => Some(Self::B),
            _ => None,
        }
    }

    /// The class descriptor of the reader that the device is made to look like: one slot that
    /// chooses voltage and parameters itself. Version A at character level becomes TPDU level with
    /// T=0. Version B is always at extended APDU level: devices in the field declare the character
    /// or the short APDU level. Messages are no longer than one transfer takes.
    pub fn class(self, declared: &ClassDescriptor) -> ClassDescriptor {
        const HEADER: u32 = HEADER_LEN as u32;
        const SHORT: u32 = 261 + HEADER;
        const MOST: u32 = MAX_TRANSFER as u32 + HEADER;
        const LEAST: u32 = 64;
        let levels =
            Features::TPDU_LEVEL | Features::SHORT_APDU_LEVEL | Features::EXTENDED_APDU_LEVEL;
        let own = Features::AUTO_VOLTAGE | Features::AUTO_PARAMETER_NEGOTIATION;
        let t0 = ReaderProtocols::T0;
        let both = t0 | ReaderProtocols::T1;
        let length = declared.max_ccid_message_length;
        let (level, protocols, max_ccid_message_length) = match (self, declared.exchange_level()) {
            // The length of a TPDU: some declare less, as there is no message header to carry.
            (Self::A, ExchangeLevel::Character) => (Features::TPDU_LEVEL, t0, SHORT),
            (Self::A, ExchangeLevel::Tpdu) => (Features::TPDU_LEVEL, t0, length.clamp(SHORT, MOST)),
            // No chaining: what is longer than a message is refused.
            (Self::A, _) => (Features::SHORT_APDU_LEVEL, both, length.clamp(SHORT, MOST)),
            (Self::B, _) => (Features::EXTENDED_APDU_LEVEL, both, length.clamp(LEAST, MOST)),
        };
        ClassDescriptor {
            max_slot_index: 0,
            max_ccid_busy_slots: 1,
            protocols,
            features: declared.features.difference(levels) | level | own,
            max_ccid_message_length,
            ..*declared
        }
    }
}

#[cfg(test)]
mod tests;
