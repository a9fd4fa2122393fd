//! Types and constants of winscard.h and pcsclite.h.

use std::ffi::{c_char, c_long, c_ulong, c_void};

/// LONG: a return code.
pub type Long = c_long;
/// DWORD.
pub type Dword = c_ulong;
/// SCARDCONTEXT.
pub type ContextNumber = c_long;
/// SCARDHANDLE.
pub type CardNumber = c_long;

/// SCARD_AUTOALLOCATE.
pub const AUTOALLOCATE: Dword = Dword::MAX;
/// INFINITE.
pub const INFINITE: Dword = 0xFFFF_FFFF;

/// MAX_ATR_SIZE: what SCARD_READERSTATE has room for.
pub const MAX_ATR: usize = 33;
/// Most bytes of an ATR that SCARD_ATRMASK has room for.
pub const MAX_MASK: usize = 36;

/// SCARD_PROTOCOL_RAW.
pub const PROTOCOL_RAW: Dword = 4;
/// SCARD_PROTOCOL_ANY_OLD: any, in the calls of old programs.
pub const PROTOCOL_ANY_OLD: Dword = 0x1000;

/// SCARD_IO_REQUEST.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoRequest {
    /// 1, 2, 4 for T=0, T=1, raw.
    pub protocol: Dword,
    /// Of this structure in bytes.
    pub length: Dword,
}

impl IoRequest {
    pub(crate) const fn of(protocol: Dword) -> Self {
        Self { protocol, length: size_of::<Self>() as Dword }
    }
}

/// SCARD_READERSTATE.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ReaderState {
    /// szReader.
    pub reader: *const c_char,
    /// pvUserData: the caller's.
    pub user_data: *mut c_void,
    /// dwCurrentState.
    pub current_state: Dword,
    /// dwEventState.
    pub event_state: Dword,
    /// cbAtr.
    pub atr_length: Dword,
    /// rgbAtr.
    pub atr: [u8; MAX_ATR],
}

/// SCARD_ATRMASK, as Windows has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AtrMask {
    /// cbAtr.
    pub length: Dword,
    /// rgbAtr.
    pub atr: [u8; MAX_MASK],
    /// rgbMask.
    pub mask: [u8; MAX_MASK],
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = {
    assert!(size_of::<ReaderState>() == 80);
    assert!(std::mem::offset_of!(ReaderState, atr) == 40);
    assert!(size_of::<IoRequest>() == 16);
};
