//! PIN bytes in what the host sends, and what stands in their place in a trace.
//!
//! What is masked: the data of VERIFY, CHANGE REFERENCE DATA and RESET RETRY COUNTER, as short and
//! extended APDU, chained or not, in T=1 blocks and in T=0's phases, and what stands behind the
//! header of the command in PC_to_RDR_Secure. Lengths stay as they are; check codes of T=1 blocks
//! are made anew.

use crate::transport::DeviceInfo;
use ccid::ClassDescriptor;
use ccid::descriptor::ExchangeLevel;
use ccid::iccd::Version;
use ccid::pin::Modification;
use ccid::t1::CheckCode;
use ccid::wire::{HEADER_LEN, SetupPacket};
use std::collections::BTreeMap;

/// What stands in the place of a PIN's byte.
pub const MASK: u8 = b'*';

/// INS of VERIFY, CHANGE REFERENCE DATA and RESET RETRY COUNTER (ISO/IEC 7816-4 §11.5).
const INSTRUCTIONS: [u8; 6] = [0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D];

const XFR_BLOCK: u8 = 0x6F;
/// bmRequestType and bRequest.
const ICCD_XFR_BLOCK: (u8, u8) = (0x21, 0x65);
const SECURE: u8 = 0x69;

/// NAD, PCB, LEN.
const PROLOGUE: usize = 3;

/// CLA, INS, P1, P2, P3.
const APDU_HEADER: usize = 5;

/// Masks the PINs of one reader's messages, in the order in which they are sent.
#[derive(Clone, Debug)]
pub struct Masker {
    level: ExchangeLevel,
    slots: BTreeMap<u8, Pending>,
}

/// What of a command that began to be masked is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    /// So many bytes, in messages of their own (character level).
    Bytes(usize),
    /// All until the chain of APDU parts ends (bBWI's wLevelParameter).
    Parts,
    /// All until the chain of T=1 blocks ends.
    Blocks,
}

impl Masker {
    /// For a reader of this class.
    pub fn new(class: &ClassDescriptor) -> Self {
        Self { level: class.exchange_level(), slots: BTreeMap::new() }
    }

    /// For a device of which nothing is known.
    pub fn unknown() -> Self {
        Self { level: ExchangeLevel::Character, slots: BTreeMap::new() }
    }

    /// For this device, which may be ICCD: of these, version A takes commands in phases, version B
    /// APDUs, also in parts.
    pub fn of(info: &DeviceInfo) -> Self {
        let level = match Version::of(info.interface_protocol) {
            Some(Version::A) => ExchangeLevel::Character,
            Some(Version::B) => ExchangeLevel::ExtendedApdu,
            None => return Self::new(&info.class),
        };
        Self { level, slots: BTreeMap::new() }
    }

    /// The message with its PIN masked; none if there is none in it.
    pub fn message(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let &[message_type, _, _, _, _, slot, ..] = message.first_chunk::<HEADER_LEN>()?;
        let mut masked = message.to_vec();
        let (header, data) = masked.split_at_mut_checked(HEADER_LEN)?;
        let found = match message_type {
            SECURE => secure(data),
            XFR_BLOCK => {
                let parameter = match *header {
                    [.., low, high] => u16::from_le_bytes([low, high]),
                    _ => 0,
                };
                self.exchange(slot, parameter, data)
            }
            _ => {
                // Anything but more time for it or a question ends what was under way.
                if !matches!(message_type, 0x65 | 0x72) {
                    self.slots.remove(&slot);
                }
                false
            }
        };
        found.then_some(masked)
    }

    /// The data of an ICCD device's class request with its PIN masked; none if there is none in
    /// it. Only XFR_BLOCK has any.
    pub fn request(&mut self, setup: &SetupPacket, data: &[u8]) -> Option<Vec<u8>> {
        if (setup.request_type, setup.request) != ICCD_XFR_BLOCK {
            return None;
        }
        // Version B has the low byte of wLevelParameter in the high one of wValue.
        let [_, parameter] = setup.value.to_le_bytes();
        let mut masked = data.to_vec();
        self.exchange(0, u16::from(parameter), &mut masked).then_some(masked)
    }

    fn exchange(&mut self, slot: u8, parameter: u16, data: &mut [u8]) -> bool {
        let pending = self.slots.remove(&slot);
        match (self.level, pending) {
            (ExchangeLevel::Character, Some(Pending::Bytes(left))) => {
                let length = data.len().min(left);
                if left > length && length > 0 {
                    self.slots.insert(slot, Pending::Bytes(left - length));
                }
                return mask(data.get_mut(..length));
            }
            (_, Some(Pending::Parts)) if matches!(parameter, 2 | 3) => {
                if parameter == 3 {
                    self.slots.insert(slot, Pending::Parts);
                }
                return mask(Some(data));
            }
            // The reader asks for more of the response; nothing of the command.
            (_, kept @ Some(Pending::Parts)) if parameter == 0x10 => {
                self.slots.extend(kept.map(|kept| (slot, kept)));
                return false;
            }
            _ => {}
        }
        let by_host = matches!(self.level, ExchangeLevel::Tpdu | ExchangeLevel::Character);
        match Block::find(data).filter(|_| by_host) {
            Some(block) => self.block(slot, pending == Some(Pending::Blocks), block, data),
            None => self.command(slot, parameter, data),
        }
    }

    /// A T=1 block.
    fn block(&mut self, slot: u8, chained: bool, block: Block, data: &mut [u8]) -> bool {
        if !block.is_information {
            if chained {
                self.slots.insert(slot, Pending::Blocks);
            }
            return false;
        }
        let end = PROLOGUE + block.length;
        let information = data.get_mut(PROLOGUE..end);
        let found = match chained {
            true => mask(information),
            false => information.is_some_and(command),
        };
        if (found || chained) && block.goes_on {
            self.slots.insert(slot, Pending::Blocks);
        }
        if found {
            let mut made = data.get(..end).unwrap_or_default().to_vec();
            block.check.append(&mut made);
            data.iter_mut().zip(made).for_each(|(old, new)| *old = new);
        }
        found
    }

    /// An APDU, the beginning of one, or a TPDU of T=0.
    fn command(&mut self, slot: u8, parameter: u16, data: &mut [u8]) -> bool {
        if !carries_pin(data) {
            return false;
        }
        let phases = self.level == ExchangeLevel::Character;
        if let (true, [_, _, _, _, length @ (1..)]) = (phases, &*data) {
            self.slots.insert(slot, Pending::Bytes(usize::from(*length)));
        }
        if parameter == 1 {
            self.slots.insert(slot, Pending::Parts);
        }
        command(data)
    }
}

/// Where a T=1 block in an XfrBlock is, if it is one.
struct Block {
    length: usize,
    is_information: bool,
    goes_on: bool,
    check: CheckCode,
}

impl Block {
    fn find(data: &[u8]) -> Option<Self> {
        let [_, pcb, length, ..] = *data else { return None };
        let length = usize::from(length);
        let (checked, code) = data.split_at_checked(PROLOGUE + length)?;
        let check = match code.len() {
            1 => CheckCode::Lrc,
            2 => CheckCode::Crc,
            _ => return None,
        };
        let mut made = checked.to_vec();
        check.append(&mut made);
        let is_information = pcb & 0x80 == 0;
        let goes_on = is_information && pcb & 0x20 != 0;
        (made == data).then_some(Self { length, is_information, goes_on, check })
    }
}

fn carries_pin(apdu: &[u8]) -> bool {
    matches!(apdu, [cla, ins, _, _, ..] if *cla != 0xFF && INSTRUCTIONS.contains(ins))
}

/// Masks the data of a command APDU that carries a PIN.
fn command(apdu: &mut [u8]) -> bool {
    if !carries_pin(apdu) {
        return false;
    }
    let data = match apdu {
        // Extended Lc; the part that is here may be the first of several.
        [_, _, _, _, 0, l1, l2, data @ ..] => {
            let length = usize::from(u16::from_be_bytes([*l1, *l2])).min(data.len());
            data.get_mut(..length)
        }
        [_, _, _, _, length, data @ ..] => {
            let length = usize::from(*length).min(data.len());
            data.get_mut(..length)
        }
        _ => None,
    };
    mask(data)
}

/// Masks what stands behind the header of the command in the data of PC_to_RDR_Secure (CCID 1.1
/// §6.1.11): from bPINOperation on.
fn secure(data: &mut [u8]) -> bool {
    const VERIFY: usize = 15;
    const MODIFY: usize = 14 + PROLOGUE;
    const NUMBER_MESSAGE: usize = 11;
    let apdu = match data.first() {
        Some(0) => VERIFY,
        Some(1) => {
            let number = data.get(NUMBER_MESSAGE).copied().unwrap_or_default();
            MODIFY + Modification::indexes(number).unwrap_or(1)
        }
        // Nothing is known of it.
        _ => return mask(data.get_mut(1..)),
    };
    mask(data.get_mut(apdu + APDU_HEADER..))
}

fn mask(bytes: Option<&mut [u8]>) -> bool {
    match bytes {
        Some(bytes) if !bytes.is_empty() => {
            bytes.fill(MASK);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
