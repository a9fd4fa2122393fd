//! Interrupt-IN messages (CCID 1.1 §6.3).

use super::{Seq, Slot, WireError};
use bytes::{BufMut, Bytes, BytesMut};

/// What NotifySlotChange says of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotChange {
    /// The slot.
    pub slot: Slot,
    /// A card is in it.
    pub present: bool,
    /// That has changed since the last message.
    pub changed: bool,
}

/// A message of the interrupt pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notification<'a> {
    /// 50h, §6.3.1: two bits a slot, the lower for presence, the upper for change.
    SlotChange {
        /// bmSlotICCState.
        state: &'a [u8],
    },
    /// 51h, §6.3.2.
    HardwareError {
        /// bSlot.
        slot: Slot,
        /// bSeq of the command during which it happened.
        seq: Seq,
        /// bHardwareErrorCode; 01h is overcurrent.
        code: u8,
    },
}

impl<'a> Notification<'a> {
    /// Reads an interrupt message.
    ///
    /// # Errors
    /// [`WireError::TooShort`] or [`WireError::UnknownType`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        match *bytes {
            [0x50, ref state @ ..] if !state.is_empty() => Ok(Self::SlotChange { state }),
            [0x51, slot, seq, code, ..] => {
                Ok(Self::HardwareError { slot: Slot(slot), seq: Seq(seq), code })
            }
            [0x50] | [] => Err(WireError::TooShort { got: bytes.len(), needed: 2 }),
            [0x51, ..] => Err(WireError::TooShort { got: bytes.len(), needed: 4 }),
            [other, ..] => Err(WireError::UnknownType(other)),
        }
    }

    /// The slots that a NotifySlotChange speaks of, four to a byte: as many as its bytes hold,
    /// which may be more than the reader has.
    pub fn slots(&self) -> impl Iterator<Item = SlotChange> + 'a {
        let state = match *self {
            Self::SlotChange { state } => state,
            Self::HardwareError { .. } => &[],
        };
        (0..=u8::MAX)
            .zip(state.iter().flat_map(|byte| (0..4u8).map(move |pair| byte >> (2 * pair) & 0b11)))
            .map(|(slot, bits)| SlotChange {
                slot: Slot(slot),
                present: bits & 0b01 != 0,
                changed: bits & 0b10 != 0,
            })
    }

    /// The message's bytes.
    pub fn emit(&self) -> Bytes {
        let mut out = BytesMut::new();
        match *self {
            Self::SlotChange { state } => {
                out.put_u8(0x50);
                out.put_slice(state);
            }
            Self::HardwareError { slot, seq, code } => {
                out.put_slice(&[0x51, slot.0, seq.0, code]);
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn slot_change_bits() {
        let message = Notification::parse(&[0x50, 0b0000_1011]).unwrap();
        let slots: Vec<_> = message.slots().collect();
        assert_eq!(slots.len(), 4);
        assert_eq!(slots[0], SlotChange { slot: Slot(0), present: true, changed: true });
        assert_eq!(slots[1], SlotChange { slot: Slot(1), present: false, changed: true });
        assert_eq!(slots[2], SlotChange { slot: Slot(2), present: false, changed: false });
        assert_eq!(&message.emit()[..], [0x50, 0b0000_1011]);
    }

    #[test]
    fn more_than_256_slots_end_at_255() {
        let bytes = [[0x50].as_slice(), &[0xFF; 100]].concat();
        assert_eq!(Notification::parse(&bytes).unwrap().slots().count(), 256);
    }

    #[test]
    fn short_and_foreign_ones_are_errors() {
        assert!(Notification::parse(&[]).is_err());
        assert!(Notification::parse(&[0x50]).is_err());
        assert!(Notification::parse(&[0x51, 0, 0]).is_err());
        assert_eq!(Notification::parse(&[0x99]), Err(WireError::UnknownType(0x99)));
    }
}
