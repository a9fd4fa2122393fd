//! Return codes: SCARD_S_SUCCESS, SCARD_E_*, SCARD_F_*, SCARD_W_*.

use crate::types::Long;
use scard::Error;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::io::Write;

/// A return code other than success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Code(u32);

impl Code {
    pub(crate) const NO_MEMORY: Self = Self(0x8010_0006);
    pub(crate) const NO_SERVICE: Self = Self(0x8010_001D);
    pub(crate) const INTERNAL: Self = Self(Error::InternalError.code());
    pub(crate) const INVALID_HANDLE: Self = Self(Error::InvalidHandle.code());
    pub(crate) const INVALID_PARAMETER: Self = Self(Error::InvalidParameter.code());
    pub(crate) const INVALID_VALUE: Self = Self(Error::InvalidValue.code());
    pub(crate) const INSUFFICIENT_BUFFER: Self = Self(Error::InsufficientBuffer.code());
    pub(crate) const UNKNOWN_READER: Self = Self(Error::UnknownReader.code());
    pub(crate) const PROTO_MISMATCH: Self = Self(Error::ProtoMismatch.code());
    pub(crate) const UNSUPPORTED: Self = Self(Error::UnsupportedFeature.code());
    pub(crate) const NO_READERS: Self = Self(Error::NoReadersAvailable.code());

    /// As C programs get it: not sign-extended where LONG is longer.
    pub(crate) const fn number(self) -> Long {
        self.0 as Long
    }
}

impl From<Error> for Code {
    fn from(error: Error) -> Self {
        Self(error.code())
    }
}

/// What a code means, for people. One that is not known has a text that lasts until the thread asks
/// again.
pub(crate) fn text(code: Long) -> *const c_char {
    // Old programs keep codes in an int: sign-extended is the same.
    let short = u32::try_from(code).or_else(|_| i32::try_from(code).map(|code| code as u32));
    match short.ok().and_then(known) {
        Some(text) => text.as_ptr(),
        None => unknown(code),
    }
}

fn known(code: u32) -> Option<&'static CStr> {
    Some(match code {
        0 => c"Success",
        0x8010_0001 => c"Internal error",
        0x8010_0002 => c"Cancelled",
        0x8010_0003 => c"The handle or context is not valid",
        0x8010_0004 => c"A parameter is not valid",
        0x8010_0005 => c"The registry has no place for the device",
        0x8010_0006 => c"Out of memory",
        0x8010_0007 => c"It waited too long within",
        0x8010_0008 => c"The buffer is too small",
        0x8010_0009 => c"There is no reader of this name",
        0x8010_000A => c"It took too long",
        0x8010_000B => c"The card is in use by others, in a way that excludes this",
        0x8010_000C => c"There is no card in the reader",
        0x8010_000D => c"The card is not known",
        0x8010_000E => c"The card cannot be disposed of so",
        0x8010_000F => c"Card or reader do not speak a protocol that was asked for",
        0x8010_0010 => c"The reader or card is not ready",
        0x8010_0011 => c"A value is not one of those allowed",
        0x8010_0012 => c"Cancelled by the system",
        0x8010_0013 => c"Communication with the reader failed",
        0x8010_0014 => c"Unknown error",
        0x8010_0015 => c"The ATR is not valid",
        0x8010_0016 => c"The exchange with the card failed, or there is no transaction to end",
        0x8010_0017 => c"The reader is not, or no longer, available",
        0x8010_0018 => c"Shutting down",
        0x8010_0019 => c"The PCI has not the right length",
        0x8010_001A => c"The driver does not support the reader",
        0x8010_001B => c"A reader of this name is there",
        0x8010_001C => c"The card does not support this",
        0x8010_001D => c"There is no smart-card service",
        0x8010_001E => c"The stack is being shut down",
        0x8010_001F => c"Not supported",
        0x8010_002E => c"There is no reader",
        0x8010_0065 => c"The card is not supported",
        0x8010_0066 => c"The card does not answer",
        0x8010_0067 => c"The card has no power",
        0x8010_0068 => c"The card was reset",
        0x8010_0069 => c"The card was taken out",
        0x8010_006A => c"Access is denied",
        _ => return None,
    })
}

fn unknown(code: Long) -> *const c_char {
    thread_local! {
        // Without a destructor, so that it is there for as long as the thread.
        static TEXT: RefCell<[u8; 48]> = const { RefCell::new([0; 48]) };
    }
    let text = TEXT.try_with(|text| {
        let mut text = text.borrow_mut();
        text.fill(0);
        // It fits, its end mark included.
        let _ = write!(&mut text[..], "Unknown error: 0x{:08X}", code as u64);
        text.as_ptr().cast()
    });
    text.unwrap_or(c"Unknown error".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Long) -> String {
        // SAFETY: it is a C string, and the thread does not ask again before it is copied.
        #[allow(unsafe_code)]
        unsafe { CStr::from_ptr(text(code)) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_code_has_a_text() {
        assert_eq!(said(0), "Success");
        assert_eq!(said(0x8010_0002), "Cancelled");
        assert_eq!(said(0x8010_0002_u32 as i32 as Long), "Cancelled");
        assert_eq!(said(1), "Unknown error: 0x00000001");
        assert_eq!(said(Long::MIN), "Unknown error: 0x8000000000000000");
        for error in [Error::InternalError, Error::NoReadersAvailable, Error::RemovedCard] {
            assert!(!said(Code::from(error).number()).starts_with("Unknown"));
        }
    }
}
