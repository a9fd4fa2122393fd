//! Control codes: escape, and the part 10 features (PC/SC specification part 10 v2.02.09).

use bytes::{BufMut, Bytes, BytesMut};
use ccid::Operation;
use ccid::descriptor::{ClassDescriptor, PinSupport};
use std::fmt;
use std::time::Duration;

/// SCARD_CTL_CODE(1): an escape command to the reader, as libccid has it.
pub const ESCAPE: u32 = 0x4200_0001;
/// CM_IOCTL_GET_FEATURE_REQUEST as pcsc-lite counts it.
pub const GET_FEATURE_REQUEST: u32 = 0x4200_0D48;
/// CM_IOCTL_GET_FEATURE_REQUEST as Windows counts it; remote desktops pass it on.
pub const GET_FEATURE_REQUEST_WINDOWS: u32 = 0x0031_3520;
/// The control code that [`GET_FEATURE_REQUEST`] names for FEATURE_VERIFY_PIN_DIRECT.
pub const VERIFY_PIN_DIRECT: u32 = 0x4233_0006;

const FEATURE_VERIFY_PIN_DIRECT: u8 = 0x06;

/// Bytes of PIN_VERIFY_STRUCTURE before abData.
const PIN_VERIFY_HEADER: usize = 19;

/// How long a user has at least for a PIN.
const MIN_PIN_TIME: Duration = Duration::from_secs(90);

/// What a control code asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// The reader has to do something; its output is the answer.
    Operation(Operation),
    /// This is the answer.
    Answer(Bytes),
}

/// Why a control code cannot be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// The code is not known, or the reader has not what it takes.
    Unsupported(u32),
    /// The structure that came with it is not what it should be.
    Malformed(&'static str),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(code) => write!(f, "control code {code:08X}h is not supported"),
            Self::Malformed(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for ControlError {}

/// What `code` with `data` asks of a reader of class `class`.
///
/// # Errors
/// [`ControlError`].
pub fn control(code: u32, data: &[u8], class: &ClassDescriptor) -> Result<Control, ControlError> {
    let verifies = class.pin_support.contains(PinSupport::VERIFY);
    match code {
        ESCAPE => Ok(Control::Operation(Operation::Escape(Bytes::copy_from_slice(data)))),
        GET_FEATURE_REQUEST | GET_FEATURE_REQUEST_WINDOWS => {
            let mut features = BytesMut::new();
            if verifies {
                // Tag, length, control code (big-endian).
                features.put_slice(&[FEATURE_VERIFY_PIN_DIRECT, 4]);
                features.put_u32(VERIFY_PIN_DIRECT);
            }
            Ok(Control::Answer(features.freeze()))
        }
        VERIFY_PIN_DIRECT if verifies => verify(data).map(Control::Operation),
        other => Err(ControlError::Unsupported(other)),
    }
}

/// PIN_VERIFY_STRUCTURE to abPINOperationDataStructure of PC_to_RDR_Secure (CCID 1.1 §6.1.11.1):
/// bTimeOut2 and ulDataLength fall away, bPINOperation 0 comes first.
fn verify(data: &[u8]) -> Result<Operation, ControlError> {
    let (header, apdu) = data
        .split_first_chunk::<PIN_VERIFY_HEADER>()
        .ok_or(ControlError::Malformed("PIN_VERIFY_STRUCTURE has less than 19 bytes"))?;
    let [
        timeout,
        _timeout2,
        format,
        block,
        length_format,
        extra0,
        extra1,
        condition,
        messages,
        lang0,
        lang1,
        index,
        teo0,
        teo1,
        teo2,
        l0,
        l1,
        l2,
        l3,
    ] = *header;
    // The order of bytes is the host's; callers of the other kind are told by the length.
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let swapped = length != u32::try_from(apdu.len()).unwrap_or(u32::MAX)
        && length.swap_bytes() == u32::try_from(apdu.len()).unwrap_or(u32::MAX);
    if !swapped && length != u32::try_from(apdu.len()).unwrap_or(u32::MAX) {
        return Err(ControlError::Malformed("ulDataLength is not the length of abData"));
    }
    if apdu.len() < 4 {
        return Err(ControlError::Malformed("abData is no command APDU"));
    }
    let [extra0, extra1, lang0, lang1] =
        if swapped { [extra1, extra0, lang1, lang0] } else { [extra0, extra1, lang0, lang1] };
    // Some readers crash on a condition that is not one of theirs.
    let condition = if (1..=7).contains(&condition) { condition } else { 2 };
    let mut secure = BytesMut::with_capacity(15 + apdu.len());
    secure.put_slice(&[
        0,
        timeout,
        format,
        block,
        length_format,
        extra0,
        extra1,
        condition,
        messages,
        lang0,
        lang1,
        index,
        teo0,
        teo1,
        teo2,
    ]);
    secure.put_slice(apdu);
    let timeout = Duration::from_secs(u64::from(timeout) + 10).max(MIN_PIN_TIME);
    Ok(Operation::Secure { data: secure.freeze(), timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    const APDU: [u8; 5] = [0, 0x20, 0, 0x81, 0];

    fn structure(length: [u8; 4]) -> Vec<u8> {
        let mut data = vec![30, 0, 0x82, 0x04, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0];
        data.extend(length);
        data.extend(APDU);
        data
    }

    #[test]
    fn a_verify_structure_in_both_byte_orders() {
        for (length, extra, lang) in
            [([5, 0, 0, 0], [8, 4], [9, 4]), ([0, 0, 0, 5], [4, 8], [4, 9])]
        {
            let Ok(Operation::Secure { data, timeout }) = verify(&structure(length)) else {
                panic!("refused")
            };
            let mut expected = vec![0, 30, 0x82, 0x04, 0];
            expected.extend(extra);
            expected.extend([2, 1]);
            expected.extend(lang);
            expected.extend([0, 0, 0, 0]);
            expected.extend(APDU);
            assert_eq!(data, expected);
            assert_eq!(timeout, Duration::from_secs(90));
        }
    }

    #[test]
    fn malformed_structures_are_refused() {
        assert!(verify(&[0; 18]).is_err());
        assert!(verify(&structure([6, 0, 0, 0])).is_err());
        assert!(verify(&structure([0xFF; 4])).is_err());
    }
}
