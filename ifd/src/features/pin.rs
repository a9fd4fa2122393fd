//! PIN_VERIFY_STRUCTURE and PIN_MODIFY_STRUCTURE (PC/SC part 10): the fields of
//! PC_to_RDR_Secure with bTimerOut2 and ulDataLength in between, which fall away.
//!
//! Numbers in them have the byte order of the caller's machine, which need not be ours:
//! ulDataLength, whose value is known, tells it.

use super::ControlError;
use bytes::Bytes;
use ccid::Operation;
use ccid::pin::{Format, Modification, PinEntry, Verification};
use ccid::quirk::{Behaviour, Flags};
use std::time::Duration;

/// How long a user has at least for a PIN.
const MIN_PIN_TIME: Duration = Duration::from_secs(90);

/// What the reader's answer may take beyond bTimerOut.
const MARGIN: Duration = Duration::from_secs(10);

/// The Enter key that started the entry is up again after so long.
const KEY_PAUSE: Duration = Duration::from_millis(250);

/// What makes a reader write Lc itself that otherwise takes an APDU without it as it is.
const COMPLETE_APDU: &[u8] = &[0x80, 0x02, 0x00];

/// bEntryValidationCondition: the Enter key.
const AT_KEY: u8 = 0x02;

/// bConfirmPIN has two bits.
const MAX_CONFIRM: u8 = 0x03;

/// The shortest command APDU.
const MIN_APDU: usize = 4;

/// The fields of PIN_VERIFY_STRUCTURE up to ulDataLength, and of PIN_MODIFY_STRUCTURE.
const VERIFY_HEADER: usize = 15;
const MODIFY_HEADER: usize = 20;

/// PIN_VERIFY_STRUCTURE.
pub(super) fn verify(data: &[u8], behaviour: &Behaviour) -> Result<Operation, ControlError> {
    let structure = Structure::<VERIFY_HEADER>::read("PIN_VERIFY_STRUCTURE", data)?;
    let [
        time_out,
        _,
        format_string,
        pin_block_string,
        pin_length_format,
        extra0,
        extra1,
        condition,
        number_message,
        lang0,
        lang1,
        msg_index,
        teo_prologue @ ..,
    ] = structure.header;
    let digits = digits(structure.order.u16([extra0, extra1]))?;
    let flags = behaviour.flags;
    let apdu = structure.apdu;
    let entry = PinEntry::verification(&Verification {
        format: Format { time_out, format_string, pin_block_string, pin_length_format },
        pin_max_extra_digit: if flags.contains(Flags::PIN_VERIFY_SWAPPED_DIGITS) {
            digits.swap_bytes()
        } else {
            digits
        },
        entry_validation_condition: validation(condition, behaviour),
        number_message: if flags.contains(Flags::PIN_VERIFY_ONE_MESSAGE) {
            1
        } else if flags.contains(Flags::PIN_VERIFY_NO_MESSAGE) {
            0
        } else {
            number_message
        },
        lang_id: structure.order.u16([lang0, lang1]),
        msg_index,
        teo_prologue,
        apdu,
    });
    let entry =
        if flags.contains(Flags::PIN_VERIFY_PAUSE) { entry.after_pause(KEY_PAUSE) } else { entry };
    let incomplete = pin_block_string == 0 && apdu.len() == MIN_APDU;
    let entry = if flags.contains(Flags::PIN_VERIFY_ESCAPE) && incomplete {
        entry.after_escape(Bytes::from_static(COMPLETE_APDU))
    } else {
        entry
    };
    Ok(Operation::Secure { entry, timeout: timeout(time_out) })
}

/// PIN_MODIFY_STRUCTURE.
pub(super) fn modify(data: &[u8], behaviour: &Behaviour) -> Result<Operation, ControlError> {
    let structure = Structure::<MODIFY_HEADER>::read("PIN_MODIFY_STRUCTURE", data)?;
    let [
        time_out,
        _,
        format_string,
        pin_block_string,
        pin_length_format,
        insertion_offset_old,
        insertion_offset_new,
        extra0,
        extra1,
        confirm_pin,
        condition,
        number_message,
        lang0,
        lang1,
        index1,
        index2,
        index3,
        teo_prologue @ ..,
    ] = structure.header;
    if confirm_pin > MAX_CONFIRM {
        return Err(field("bConfirmPIN", confirm_pin));
    }
    let asks_old = confirm_pin & 0x02 != 0;
    for (name, offset, counts) in [
        ("bInsertionOffsetOld", insertion_offset_old, asks_old),
        ("bInsertionOffsetNew", insertion_offset_new, true),
    ] {
        // Without a data field in the template the reader makes one.
        let room = structure.apdu.get(5..).filter(|data| !data.is_empty());
        if counts && room.is_some_and(|data| usize::from(offset) > data.len()) {
            return Err(field(name, offset));
        }
    }
    let reserved = field("bNumberMessage", number_message);
    if Modification::indexes(number_message).is_none() {
        return Err(reserved);
    }
    let flags = behaviour.flags;
    let (number_message, msg_index) = if flags.contains(Flags::PIN_MODIFY_NO_MESSAGES) {
        (0, [0; 3])
    } else {
        (messages(number_message, flags), [index1, index2, index3])
    };
    let all = Flags::PIN_MODIFY_THREE_INDEXES | Flags::PIN_MODIFY_NO_MESSAGES;
    let entry = PinEntry::modification(&Modification {
        format: Format { time_out, format_string, pin_block_string, pin_length_format },
        insertion_offset_old,
        insertion_offset_new,
        pin_max_extra_digit: digits(structure.order.u16([extra0, extra1]))?,
        confirm_pin,
        entry_validation_condition: validation(condition, behaviour),
        number_message,
        lang_id: structure.order.u16([lang0, lang1]),
        msg_index,
        all_indexes: flags.intersects(all),
        teo_prologue,
        apdu: structure.apdu,
    })
    .ok_or(reserved)?;
    Ok(Operation::Secure { entry, timeout: timeout(time_out) })
}

/// A structure taken apart: `N` bytes of fields, ulDataLength, abData.
struct Structure<'a, const N: usize> {
    header: [u8; N],
    order: Order,
    apdu: &'a [u8],
}

impl<'a, const N: usize> Structure<'a, N> {
    fn read(structure: &'static str, data: &'a [u8]) -> Result<Self, ControlError> {
        let too_short = ControlError::TooShort {
            structure,
            least: N + size_of::<u32>() + MIN_APDU,
            length: data.len(),
        };
        let (header, rest) = data.split_first_chunk::<N>().ok_or(too_short)?;
        let (data_length, apdu) = rest.split_first_chunk().ok_or(too_short)?;
        if apdu.len() < MIN_APDU {
            return Err(too_short);
        }
        let order = Order::by_length(*data_length, apdu.len())?;
        Ok(Self { header: *header, order, apdu })
    }
}

/// The caller's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    LittleEndian,
    BigEndian,
}

impl Order {
    /// That in which `number` is `length`.
    fn by_length(number: [u8; 4], length: usize) -> Result<Self, ControlError> {
        let is = |number: u32| usize::try_from(number) == Ok(length);
        let declared = u32::from_le_bytes(number);
        if is(declared) {
            Ok(Self::LittleEndian)
        } else if is(u32::from_be_bytes(number)) {
            Ok(Self::BigEndian)
        } else {
            Err(ControlError::DataLength { declared, length })
        }
    }

    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::LittleEndian => u16::from_le_bytes(bytes),
            Self::BigEndian => u16::from_be_bytes(bytes),
        }
    }
}

/// wPINMaxExtraDigit if it is possible: at least as many digits as at most.
fn digits(digits: u16) -> Result<u16, ControlError> {
    let [least, most] = digits.to_be_bytes();
    if least > most {
        return Err(ControlError::Field { field: "wPINMaxExtraDigit", value: digits.into() });
    }
    Ok(digits)
}

/// bEntryValidationCondition as the reader takes it. Some crash on a value that is none.
fn validation(condition: u8, behaviour: &Behaviour) -> u8 {
    let wanted = match condition {
        1..=7 => condition,
        _ => AT_KEY,
    };
    match (behaviour.pin_condition, behaviour.pin_conditions) {
        (Some(always), _) => always,
        // Better another end of the entry than none.
        (None, Some(known)) if wanted & known == 0 => known,
        (None, Some(known)) => wanted & known,
        (None, None) => wanted,
    }
}

/// bNumberMessage of a modification as the reader takes it.
fn messages(number_message: u8, flags: Flags) -> u8 {
    if flags.contains(Flags::PIN_MODIFY_THREE_MESSAGES) {
        3
    } else if flags.contains(Flags::PIN_MODIFY_ZERO_IS_FF) && number_message == 0 {
        0xFF
    } else {
        number_message
    }
}

fn timeout(time_out: u8) -> Duration {
    (Duration::from_secs(time_out.into()) + MARGIN).max(MIN_PIN_TIME)
}

fn field(field: &'static str, value: u8) -> ControlError {
    ControlError::Field { field, value: value.into() }
}
