//! Contexts, and the readers they see.

use super::{guarded, number};
use crate::code::Code;
use crate::interrupted;
use crate::memory::{self, give};
use crate::process::Process;
use crate::types::{AUTOALLOCATE, ContextNumber, Dword, Long};
use std::ffi::{CStr, c_char, c_void};

/// [`scard::Context::establish`]: on the readers that the environment names, or those on USB
/// ([`settings`](crate::settings)). The first opens them; takes up to 5 seconds then.
/// SCARD_E_NO_SERVICE if they cannot be.
///
/// # Safety
/// `context` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardEstablishContext(
    scope: Dword,
    reserved1: *const c_void,
    reserved2: *const c_void,
    context: *mut ContextNumber,
) -> Long {
    let _ = (reserved1, reserved2);
    guarded("SCardEstablishContext", || {
        if context.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        // SAFETY: it is not null.
        unsafe { context.write(0) };
        if scope > 3 {
            return Err(Code::INVALID_VALUE);
        }
        let established = Process::current().establish()?;
        // SAFETY: as above.
        unsafe { context.write(established as ContextNumber) };
        Ok(())
    })
}

/// [`scard::Context::release`]: its outstanding calls end. Memory that was allocated for its caller
/// stays: [`SCardFreeMemory`].
#[unsafe(no_mangle)]
pub extern "C" fn SCardReleaseContext(context: ContextNumber) -> Long {
    guarded("SCardReleaseContext", || Process::current().release(number(context)?))
}

/// Whether the context is one.
#[unsafe(no_mangle)]
pub extern "C" fn SCardIsValidContext(context: ContextNumber) -> Long {
    guarded("SCardIsValidContext", || {
        Ok(Process::current().context(number(context)?)?.is_valid()?)
    })
}

/// [`scard::Context::cancel`]: from any thread, and from a signal handler. Where that has interrupted
/// another call of this library, a thread cancels in its place, and it always succeeds.
#[unsafe(no_mangle)]
pub extern "C" fn SCardCancel(context: ContextNumber) -> Long {
    guarded("SCardCancel", || {
        let context = number(context)?;
        if interrupted::in_the_middle() {
            return Process::cancel_in_handler(context);
        }
        Ok(Process::current().context(context)?.cancel()?)
    })
}

/// Frees memory that was allocated for SCARD_AUTOALLOCATE, for whichever context.
///
/// # Safety
/// `memory` is null or such memory, and nobody uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardFreeMemory(context: ContextNumber, memory: *const c_void) -> Long {
    guarded("SCardFreeMemory", || {
        Process::current().context(number(context)?)?;
        // SAFETY: as the caller says.
        unsafe { memory::free(memory.cast_mut()) };
        Ok(())
    })
}

/// The readers' names. Whatever groups are asked for: there is one, and all readers are in it.
///
/// # Safety
/// `length` is null or may be read and written; `names` is null or points to `*length` bytes, or
/// with SCARD_AUTOALLOCATE to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardListReaders(
    context: ContextNumber,
    groups: *const c_char,
    names: *mut c_char,
    length: *mut Dword,
) -> Long {
    let _ = groups;
    guarded("SCardListReaders", || {
        if length.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        let context = Process::current().context(number(context)?)?;
        let readers = context.list_readers_owned()?;
        if readers.is_empty() {
            // The empty list has an end mark, too. It is written in spite of the code: some take what
            // is there for names, when the last reader goes after they have asked for the length.
            // SAFETY: `length` is not null.
            let room = unsafe { length.replace(1) };
            if !names.is_null() && !matches!(room, 0 | AUTOALLOCATE) {
                // SAFETY: `names` points to `room` bytes.
                unsafe { names.write(0) };
            }
            return Err(Code::NO_READERS);
        }
        // SAFETY: as the caller says, and `length` is not null.
        unsafe { give(&multi_string(&readers), names.cast(), length) }
    })
}

/// The groups of readers: SCard$DefaultReaders.
///
/// # Safety
/// As [`SCardListReaders`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardListReaderGroups(
    context: ContextNumber,
    groups: *mut c_char,
    length: *mut Dword,
) -> Long {
    guarded("SCardListReaderGroups", || {
        if length.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        Process::current().context(number(context)?)?;
        let list = multi_string(&[scard::DEFAULT_READERS]);
        // SAFETY: as the caller says, and `length` is not null.
        unsafe { give(&list, groups.cast(), length) }
    })
}

/// Texts one after the other, each with its end mark, and another at the end.
fn multi_string<T: AsRef<CStr>>(texts: &[T]) -> Vec<u8> {
    let texts = texts.iter().flat_map(|text| text.as_ref().to_bytes_with_nul());
    texts.copied().chain([0]).collect()
}
