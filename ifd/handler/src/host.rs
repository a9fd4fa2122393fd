//! What the program that loaded the library offers, found at run time: nothing is linked.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

type LogMessage = unsafe extern "C" fn(c_int, *const c_char, ...);

/// pcscd's log.
#[derive(Clone, Copy)]
pub(crate) struct Log(LogMessage);

/// pcscd's levels (debuglog.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Priority {
    /// PCSC_LOG_DEBUG
    Debug = 0,
    /// PCSC_LOG_INFO
    Info = 1,
    /// PCSC_LOG_ERROR
    Error = 2,
    /// PCSC_LOG_CRITICAL
    Critical = 3,
}

impl Log {
    /// The log of the program, if it is pcscd.
    pub(crate) fn find() -> Option<Self> {
        // Other programs may have a log_msg of their own; pcscd has both.
        symbol(c"log_xxd")?;
        let log_msg = symbol(c"log_msg")?;
        // SAFETY: that is what debuglog.h declares: void log_msg(const int, const char *, ...).
        Some(Self(unsafe { std::mem::transmute::<*mut c_void, LogMessage>(log_msg) }))
    }

    /// Writes a line.
    pub(crate) fn write(self, priority: Priority, line: &CStr) {
        // SAFETY: both pointers are of C strings, and the format takes one.
        unsafe { (self.0)(priority as c_int, c"%s".as_ptr(), line.as_ptr()) }
    }
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: `name` is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The file that this code was loaded from.
pub(crate) fn library_path() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let here: fn() -> Option<PathBuf> = library_path;
    // SAFETY: `info` may be written to; any address may be asked about.
    let found = unsafe { libc::dladdr(here as *const c_void, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gives a C string that lasts as long as the library is loaded, which is now.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_is_not_pcscd_and_knows_where_it_is() {
        assert!(Log::find().is_none());
        let path = library_path().unwrap().canonicalize().unwrap();
        assert_eq!(path, std::env::current_exe().unwrap());
    }
}
