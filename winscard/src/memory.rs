//! What comes from the caller and goes to it: pointers, lengths, buffers that are to be allocated.
//!
//! Every function is told by its caller, and so in the end by the program, that a pointer which is
//! not null points to what it should.

#![allow(unsafe_code)]

use crate::code::Code;
use crate::types::{AUTOALLOCATE, Dword};
use std::ffi::{CStr, CString, c_char};

/// Most bytes that a caller sends: MAX_BUFFER_SIZE_EXTENDED.
const MAX_SENT: usize = scard::MAX_BUFFER_SIZE_EXTENDED;

/// A copy of what the caller sends: what it gets may go to the same place.
///
/// # Safety
/// `data` is null or points to `length` bytes.
pub(crate) unsafe fn taken(data: *const u8, length: Dword) -> Result<Vec<u8>, Code> {
    match usize::try_from(length) {
        Ok(0) => Ok(Vec::new()),
        Ok(_) if data.is_null() => Err(Code::INVALID_PARAMETER),
        // SAFETY: it is not null, so it points to as many bytes.
        Ok(length @ ..=MAX_SENT) => Ok(unsafe { std::slice::from_raw_parts(data, length) }.into()),
        _ => Err(Code::INSUFFICIENT_BUFFER),
    }
}

/// A text of the caller's.
///
/// # Safety
/// `text` is null or a C string.
pub(crate) unsafe fn text(text: *const c_char) -> Option<CString> {
    // SAFETY: it is not null, so it is a C string.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

/// Writes a value where the caller wants it, if it does.
///
/// # Safety
/// `to` is null or may be written to.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: it is not null.
        unsafe { to.write(value) };
    }
}

/// Gives `value` to the caller, and its length in any case. The room is `*length`:
/// [`AUTOALLOCATE`] has memory allocated and `buffer` pointed to it; without a buffer only the
/// length is given.
///
/// # Safety
/// `length` may be read and written; `buffer` is null or points to `*length` bytes, or with
/// [`AUTOALLOCATE`] to a pointer.
pub(crate) unsafe fn give(value: &[u8], buffer: *mut u8, length: *mut Dword) -> Result<(), Code> {
    let needed = Dword::try_from(value.len()).map_err(|_| Code::INTERNAL)?;
    // SAFETY: it may be read and written.
    let room = unsafe { length.replace(needed) };
    let to = match room {
        AUTOALLOCATE if buffer.is_null() => return Err(Code::INVALID_PARAMETER),
        AUTOALLOCATE => {
            let memory = allocate(value.len())?;
            // SAFETY: it points to a pointer, wherever that is.
            unsafe { buffer.cast::<*mut u8>().write_unaligned(memory) };
            memory
        }
        _ if buffer.is_null() => return Ok(()),
        room if room < needed => return Err(Code::INSUFFICIENT_BUFFER),
        _ => buffer,
    };
    // SAFETY: there is room for as many bytes, and `value` is ours.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to, value.len()) };
    Ok(())
}

/// Memory that the caller frees.
fn allocate(length: usize) -> Result<*mut u8, Code> {
    // SAFETY: any length will do.
    let memory = unsafe { libc::malloc(length.max(1)) };
    if memory.is_null() { Err(Code::NO_MEMORY) } else { Ok(memory.cast()) }
}

/// Frees memory that [`give`] has allocated.
///
/// # Safety
/// It is null, or memory of malloc that nobody uses.
pub(crate) unsafe fn free(memory: *mut libc::c_void) {
    // SAFETY: as the caller says.
    unsafe { libc::free(memory) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::{null, null_mut};

    fn give_to(value: &[u8], out: &mut [u8]) -> (Result<(), Code>, Dword) {
        let mut length = out.len() as Dword;
        // SAFETY: `length` is that of `out`.
        let given = unsafe { give(value, out.as_mut_ptr(), &raw mut length) };
        (given, length)
    }

    #[test]
    fn a_value_is_given_if_there_is_room() {
        let mut out = [0; 4];
        assert_eq!(give_to(&[1, 2, 3], &mut out), (Ok(()), 3));
        assert_eq!(out, [1, 2, 3, 0]);
        assert_eq!(give_to(&[9; 5], &mut out), (Err(Code::INSUFFICIENT_BUFFER), 5));
        assert_eq!(out, [1, 2, 3, 0]);
        let mut length = 0;
        // SAFETY: there is no buffer.
        assert_eq!(unsafe { give(&[9; 5], null_mut(), &raw mut length) }, Ok(()));
        assert_eq!(length, 5);
    }

    #[test]
    fn memory_is_allocated_if_asked_for() {
        let mut memory: *mut u8 = null_mut();
        let mut length = AUTOALLOCATE;
        // SAFETY: there is a pointer, and what it is made to point to is looked at and freed.
        unsafe {
            assert_eq!(give(&[1, 2], (&raw mut memory).cast(), &raw mut length), Ok(()));
            assert_eq!(std::slice::from_raw_parts(memory, 2), [1, 2]);
            free(memory.cast());
            length = AUTOALLOCATE;
            let refused = give(&[1, 2], null_mut(), &raw mut length);
            assert_eq!(refused, Err(Code::INVALID_PARAMETER));
        }
    }

    #[test]
    fn what_is_sent_is_copied() {
        // SAFETY: lengths are right, or nothing is looked at.
        unsafe {
            assert_eq!(taken([1, 2].as_ptr(), 2), Ok(vec![1, 2]));
            assert_eq!(taken(null(), 0), Ok(vec![]));
            assert_eq!(taken(null(), 1), Err(Code::INVALID_PARAMETER));
            assert_eq!(taken([1].as_ptr(), Dword::MAX), Err(Code::INSUFFICIENT_BUFFER));
            assert_eq!(text(null()), None);
        }
    }
}
