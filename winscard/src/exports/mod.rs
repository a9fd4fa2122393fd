//! The functions of winscard.h, as programs call them.
//!
//! Each checks its pointers, has safe code do the work, and gives its result back. A panic ends in
//! SCARD_F_INTERNAL_ERROR, and the program lives on. What each does, and when it ends, stands with
//! the function of [`scard`] that it has do its work; here stands what C adds to it.
//!
//! Functions that Windows has and pcsc-lite leaves out ([`more`]): `SCardLocateCardsByATR`,
//! `SCardGetTransmitCount`, `SCardGetDeviceTypeId`. `winscard/more.h` declares them.

#![allow(unsafe_code)]
#![allow(non_snake_case)] // The functions' names are winscard.h's.

pub mod cards;
pub mod contexts;
pub mod more;
pub mod waits;

use crate::code::{self, Code};
use crate::interrupted::Inside;
use crate::types::{IoRequest, Long};
use log::error;
use scard::{Disposition, Protocol, Protocols, ShareMode};
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::types::Dword;

/// SCARD_PCI_T0 points to it.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static g_rgSCardT0Pci: IoRequest = IoRequest::of(1);

/// SCARD_PCI_T1 points to it.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static g_rgSCardT1Pci: IoRequest = IoRequest::of(2);

/// SCARD_PCI_RAW points to it.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static g_rgSCardRawPci: IoRequest = IoRequest::of(4);

/// What a return code means, for people.
#[unsafe(no_mangle)]
pub extern "C" fn pcsc_stringify_error(code: Long) -> *const c_char {
    catch_unwind(|| code::text(code)).unwrap_or(c"Unknown error".as_ptr())
}

/// Nothing unwinds into the program.
fn guarded(function: &str, call: impl FnOnce() -> Result<(), Code>) -> Long {
    let _inside = Inside::enter();
    // What a panic may have left half done is behind locks that expect it.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.number(),
        Err(payload) => {
            // Its destructor might panic, too.
            std::mem::forget(payload);
            let _ = catch_unwind(|| error!("{function} has panicked"));
            Code::INTERNAL.number()
        }
    }
}

/// A context or card that a program means. Numbers that were never given are no handles.
fn number(handle: Long) -> Result<u32, Code> {
    u32::try_from(handle).map_err(|_| Code::INVALID_HANDLE)
}

fn share_mode(value: Dword) -> Result<ShareMode, Code> {
    match value {
        1 => Ok(ShareMode::Exclusive),
        2 => Ok(ShareMode::Shared),
        3 => Ok(ShareMode::Direct),
        _ => Err(Code::INVALID_VALUE),
    }
}

fn disposition(value: Dword) -> Result<Disposition, Code> {
    match value {
        0 => Ok(Disposition::LeaveCard),
        1 => Ok(Disposition::ResetCard),
        2 => Ok(Disposition::UnpowerCard),
        3 => Ok(Disposition::EjectCard),
        _ => Err(Code::INVALID_VALUE),
    }
}

fn protocols(value: Dword) -> Protocols {
    // What is not known cannot be agreed on.
    Protocols::from_bits_truncate(u32::try_from(value & 0xFF).unwrap_or_default())
}

fn protocol_number(protocol: Option<Protocol>) -> Dword {
    match protocol {
        None => 0,
        Some(Protocol::T0) => 1,
        Some(Protocol::T1) => 2,
        Some(Protocol::RAW) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_stays_here() {
        #[allow(clippy::panic)]
        let code = guarded("test", || panic!("on purpose"));
        assert_eq!(code, 0x8010_0001);
        assert_eq!(guarded("test", || Err(Code::INVALID_HANDLE)), 0x8010_0003);
        assert_eq!(guarded("test", || Ok(())), 0);
    }

    #[test]
    fn numbers_that_cannot_be_are_no_handles() {
        assert_eq!(number(-1), Err(Code::INVALID_HANDLE));
        assert_eq!(number(1 << 32 | 5), Err(Code::INVALID_HANDLE));
        assert_eq!(number(5), Ok(5));
    }
}
