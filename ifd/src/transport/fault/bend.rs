//! What a fault makes of bytes.

use super::Fault;
use bytes::Bytes;
use ccid::wire::SetupPacket;

/// Bytes of a message that has hardly begun.
const STUMP: usize = 4;

/// A bMessageType that there is not.
const NO_TYPE: u8 = 0xC3;

/// dwLength is at 1 to 4, bSlot at 5, bSeq at 6 (CCID 1.1 §6.1).
const LENGTH: usize = 1;
const SLOT: usize = 5;
const SEQ: usize = 6;

/// The bytes with the fault. What is not about content leaves them as they are.
pub(super) fn bytes(fault: Fault, whole: &Bytes) -> Bytes {
    let mut bent = whole.to_vec();
    match fault {
        Fault::Short => drop(bent.pop()),
        Fault::Stump => bent.truncate(STUMP),
        Fault::Long => bent.extend([0xA5; 3]),
        Fault::Flipped(bit) => {
            let bits = bent.len().saturating_mul(8).max(1);
            let bit = bit % bits;
            change(&mut bent, bit / 8, |byte| byte ^ (1 << (bit % 8)));
        }
        Fault::WrongSeq => change(&mut bent, SEQ, |byte| byte.wrapping_add(1)),
        Fault::WrongSlot => change(&mut bent, SLOT, |byte| byte.wrapping_add(1)),
        Fault::WrongType => change(&mut bent, 0, |_| NO_TYPE),
        Fault::LengthTooLong => change(&mut bent, LENGTH, |byte| byte.wrapping_add(1)),
        Fault::LengthTooShort => change(&mut bent, LENGTH, |byte| byte.wrapping_sub(1)),
        Fault::LengthBeyondReason => change(&mut bent, LENGTH + 3, |_| 0x7F),
        _ => {}
    }
    bent.into()
}

/// The fault means something for a request: one without a data stage has no data to bend.
pub(super) fn suits_request(fault: Fault, setup: &SetupPacket) -> bool {
    match fault {
        Fault::Dropped
        | Fault::Delayed(_)
        | Fault::Stalled
        | Fault::BusError
        | Fault::Disconnected
        | Fault::WrongSeq
        | Fault::WrongSlot => true,
        Fault::Short | Fault::Stump | Fault::Long | Fault::Flipped(_) => setup.is_in(),
        _ => false,
    }
}

/// The SETUP packet with the fault: bSeq and bSlot are in wValue (CCID 1.1 §5.3.1).
pub(super) fn setup(fault: Fault, setup: SetupPacket) -> SetupPacket {
    let [slot, seq] = setup.value.to_le_bytes();
    let value = match fault {
        Fault::WrongSeq => [slot, seq.wrapping_add(1)],
        Fault::WrongSlot => [slot.wrapping_add(1), seq],
        _ => [slot, seq],
    };
    SetupPacket { value: u16::from_le_bytes(value), ..setup }
}

fn change(bytes: &mut [u8], at: usize, f: impl Fn(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = f(*byte);
    }
}
