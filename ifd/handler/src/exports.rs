//! The functions of IFD handler 3.0 (ifdhandler.h), as pcscd calls them.
//!
//! Each checks its pointers and lengths, has safe code do the work, and gives its result back. A
//! panic ends in IFD_COMMUNICATION_ERROR, and pcscd lives on.
//!
//! Buffers that come and go may overlap: what comes is copied before anything is written.

#![allow(unsafe_code)]
#![allow(non_snake_case)] // The functions' names are ifdhandler.h's.

use crate::code::Code;
use crate::registry::{self, Lun, Power};
use bytes::Bytes;
use ccid::atr::Protocol;
use log::error;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// DWORD of wintypes.h.
pub type Dword = c_ulong;

/// RESPONSECODE of ifdhandler.h.
pub type ResponseCode = c_long;

/// SCARD_IO_HEADER of ifdhandler.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ScardIoHeader {
    /// 0 and 1 for T=0 and T=1, 4 for raw.
    pub protocol: Dword,
    /// Of this structure; nobody heeds it.
    pub length: Dword,
}

const POWER_UP: Dword = 500;
const POWER_DOWN: Dword = 501;
const RESET: Dword = 502;

const PROTOCOL_T0: Dword = 1;
const PROTOCOL_T1: Dword = 2;

/// MAX_ATR_SIZE: what pcscd has room for.
const MAX_ATR: usize = 33;

/// Longest command that is looked at: an extended APDU with its 65,535 bytes, or a structure with
/// one in it.
const MAX_COMMAND: usize = 1 << 17;

/// Opens a channel to a device by its name (see the module `channel`).
///
/// # Safety
/// `device_name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHCreateChannelByName(
    lun: Dword,
    device_name: *const c_char,
) -> ResponseCode {
    guarded("IFDHCreateChannelByName", || {
        if device_name.is_null() {
            return Err(Code::Communication);
        }
        // SAFETY: the caller gives a C string.
        let name = unsafe { CStr::from_ptr(device_name) };
        let name = name.to_str().map_err(|_| Code::Communication)?;
        registry::open(slot_of(lun), name)
    })
}

/// Opens a channel to the first reader on USB that is not open: `channel` says nothing about
/// readers there.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHCreateChannel(lun: Dword, channel: Dword) -> ResponseCode {
    let _ = channel;
    guarded("IFDHCreateChannel", || registry::open_any(slot_of(lun)))
}

/// Closes a channel. What its slot is doing is aborted; takes 3 seconds at most.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHCloseChannel(lun: Dword) -> ResponseCode {
    guarded("IFDHCloseChannel", || registry::close(slot_of(lun)))
}

/// The value of a tag.
///
/// # Safety
/// `length` is null or points to the length of what `value` points to; it is set to that of the
/// value. `value` is null if only the length is asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHGetCapabilities(
    lun: Dword,
    tag: Dword,
    length: *mut Dword,
    value: *mut u8,
) -> ResponseCode {
    guarded("IFDHGetCapabilities", || {
        if length.is_null() {
            return Err(Code::Communication);
        }
        let tag = u32::try_from(tag).map_err(|_| Code::Tag)?;
        let found = registry::tag(slot_of(lun), tag)?;
        // SAFETY: as the caller says.
        unsafe { give(&found, value, length) }
    })
}

/// Sets a tag. SCARD_ATTR_ESC_CANCEL ends what the slot is doing; may be called meanwhile.
///
/// # Safety
/// `value` is not looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHSetCapabilities(
    lun: Dword,
    tag: Dword,
    length: Dword,
    value: *const u8,
) -> ResponseCode {
    let _ = (length, value);
    guarded("IFDHSetCapabilities", || {
        let tag = u32::try_from(tag).map_err(|_| Code::Tag)?;
        registry::set_tag(slot_of(lun), tag)
    })
}

/// Makes reader and card speak a protocol, as fast as both can. The PTS bytes are not heeded: no
/// pcscd gives any.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHSetProtocolParameters(
    lun: Dword,
    protocol: Dword,
    flags: u8,
    pts1: u8,
    pts2: u8,
    pts3: u8,
) -> ResponseCode {
    let _ = (flags, pts1, pts2, pts3);
    guarded("IFDHSetProtocolParameters", || {
        let protocol = match protocol {
            PROTOCOL_T0 => Protocol::T0,
            PROTOCOL_T1 => Protocol::T1,
            _ => return Err(Code::ProtocolNotSupported),
        };
        registry::set_protocol(slot_of(lun), protocol)
    })
}

/// Powers the card up (500) or down (501), or resets it (502).
///
/// # Safety
/// `atr` has room for 33 bytes; `atr_length` is written only. Both may be null for powering down.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHPowerICC(
    lun: Dword,
    action: Dword,
    atr: *mut u8,
    atr_length: *mut Dword,
) -> ResponseCode {
    guarded("IFDHPowerICC", || {
        // What pcscd has in it is not always its room, but that is always the same.
        let mut room = MAX_ATR as Dword;
        if !atr_length.is_null() {
            // SAFETY: it may be written to.
            unsafe { atr_length.write(0) };
        }
        let power = match action {
            POWER_UP | RESET => Power::Up,
            POWER_DOWN => Power::Down,
            _ => return Err(Code::NotSupported),
        };
        if power == Power::Up && (atr.is_null() || atr_length.is_null()) {
            return Err(Code::Communication);
        }
        if let Some(found) = registry::power(slot_of(lun), power)? {
            // SAFETY: there is room for 33 bytes.
            unsafe { give(found.as_bytes(), atr, &raw mut room) }?;
            // SAFETY: it may be written to, and is not null.
            unsafe { atr_length.write(room) };
        }
        Ok(())
    })
}

/// Exchanges a command with the card. `send_pci` says nothing that the driver does not know, and
/// `recv_pci` is left as it is.
///
/// # Safety
/// `tx_buffer` points to `tx_length` bytes, `rx_buffer` to room for `*rx_length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHTransmitToICC(
    lun: Dword,
    send_pci: ScardIoHeader,
    tx_buffer: *const u8,
    tx_length: Dword,
    rx_buffer: *mut u8,
    rx_length: *mut Dword,
    recv_pci: *mut ScardIoHeader,
) -> ResponseCode {
    let _ = (send_pci, recv_pci);
    guarded("IFDHTransmitToICC", || {
        if rx_buffer.is_null() || rx_length.is_null() {
            return Err(Code::Communication);
        }
        // SAFETY: rx_length points to a DWORD, tx_buffer to tx_length bytes.
        let (room, command) = unsafe { (rx_length.replace(0), taken(tx_buffer, tx_length)) };
        let response = registry::transmit(slot_of(lun), command?)?;
        let mut length = room;
        // SAFETY: there is room for as many bytes.
        unsafe { give(&response, rx_buffer, &raw mut length) }?;
        // SAFETY: as above.
        unsafe { rx_length.write(length) };
        Ok(())
    })
}

/// Does what a control code asks for.
///
/// # Safety
/// `tx_buffer` points to `tx_length` bytes, `rx_buffer` to room for `rx_length` bytes; either may be
/// null if its length is 0. `bytes_returned` is null or is set to the length of the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHControl(
    lun: Dword,
    control_code: Dword,
    tx_buffer: *const u8,
    tx_length: Dword,
    rx_buffer: *mut u8,
    rx_length: Dword,
    bytes_returned: *mut Dword,
) -> ResponseCode {
    guarded("IFDHControl", || {
        if bytes_returned.is_null() {
            return Err(Code::Communication);
        }
        // SAFETY: the pointers are as the caller says.
        let data = unsafe {
            bytes_returned.write(0);
            taken(tx_buffer, tx_length)
        }?;
        let code = u32::try_from(control_code).map_err(|_| Code::NotSupported)?;
        let answer = registry::control(slot_of(lun), code, &data)?;
        if answer.is_empty() {
            return Ok(());
        }
        if rx_buffer.is_null() {
            return Err(Code::InsufficientBuffer);
        }
        let mut length = rx_length;
        // SAFETY: there is room for as many bytes.
        unsafe { give(&answer, rx_buffer, &raw mut length) }?;
        // SAFETY: it may be written to.
        unsafe { bytes_returned.write(length) };
        Ok(())
    })
}

/// Whether a card is there: IFD_SUCCESS or IFD_ICC_NOT_PRESENT.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn IFDHICCPresence(lun: Dword) -> ResponseCode {
    guarded("IFDHICCPresence", || match registry::presence(slot_of(lun)) {
        Code::Success => Ok(()),
        code => Err(code),
    })
}

/// Waits until pcscd's thread has something to look at, or `timeout` milliseconds have passed
/// (TAG_IFD_POLLING_THREAD_WITH_TIMEOUT).
pub(crate) extern "C" fn polling(lun: Dword, timeout: c_int) -> ResponseCode {
    guarded("polling", || {
        let timeout = Duration::from_millis(u64::try_from(timeout).unwrap_or(0));
        match registry::poll(slot_of(lun), timeout) {
            Code::Success => Ok(()),
            code => Err(code),
        }
    })
}

/// Ends that wait (TAG_IFD_STOP_POLLING_THREAD).
pub(crate) extern "C" fn stop_polling(lun: Dword) -> ResponseCode {
    guarded("stop_polling", || registry::stop_polling(slot_of(lun)))
}

fn slot_of(lun: Dword) -> Lun {
    #[allow(clippy::useless_conversion)] // Not on every machine.
    Lun(u64::from(lun))
}

/// Nothing unwinds into pcscd.
fn guarded(function: &str, call: impl FnOnce() -> Result<(), Code>) -> ResponseCode {
    // What a panic may have left half done is behind locks that expect it.
    let code = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => Code::Success,
        Ok(Err(code)) => code,
        Err(payload) => {
            // Its destructor might panic, too.
            std::mem::forget(payload);
            let _ = catch_unwind(|| error!("{function} has panicked"));
            Code::Communication
        }
    };
    code.number()
}

/// A copy of what the caller gives.
///
/// # Safety
/// `data` is null or points to `length` bytes.
unsafe fn taken(data: *const u8, length: Dword) -> Result<Bytes, Code> {
    let length = usize::try_from(length).map_err(|_| Code::Communication)?;
    match length {
        0 => Ok(Bytes::new()),
        1..=MAX_COMMAND if !data.is_null() => {
            // SAFETY: it is not null, so it points to as many bytes.
            Ok(Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(data, length) }))
        }
        _ => Err(Code::Communication),
    }
}

/// Gives `value` to the caller, and its length; if there is not room enough, only the latter.
///
/// # Safety
/// `room` may be written to and has the length of what `out` points to, if that is not null.
unsafe fn give(value: &[u8], out: *mut u8, room: *mut Dword) -> Result<(), Code> {
    let length = Dword::try_from(value.len()).map_err(|_| Code::Communication)?;
    // SAFETY: `room` may be read and written.
    let there = unsafe { room.replace(length) };
    if out.is_null() {
        return Ok(());
    }
    if there < length {
        return Err(Code::InsufficientBuffer);
    }
    // SAFETY: there is room for as many bytes at `out`, and `value` is ours.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), out, value.len()) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_stays_here() {
        #[allow(clippy::panic)]
        let code = guarded("test", || panic!("on purpose"));
        assert_eq!(code, 612);
        assert_eq!(guarded("test", || Err(Code::NoCard)), 616);
        assert_eq!(guarded("test", || Ok(())), 0);
    }

    #[test]
    fn a_value_is_given_if_there_is_room() {
        let give = |value: &[u8], out: &mut [u8]| {
            let mut room = out.len() as Dword;
            // SAFETY: `room` is the length of `out`.
            let given = unsafe { give(value, out.as_mut_ptr(), &raw mut room) };
            (given, room)
        };
        let mut out = [0; 4];
        assert_eq!(give(&[1, 2, 3], &mut out), (Ok(()), 3));
        assert_eq!(out, [1, 2, 3, 0]);
        assert_eq!(give(&[9; 5], &mut out), (Err(Code::InsufficientBuffer), 5));
        assert_eq!(out, [1, 2, 3, 0]);
    }
}
