//! Environment variables, for programs that have no more rights than their caller.

use log::warn;
use std::ffi::OsString;

/// The variable's value; none if it is not set, or empty. A program that was started with more
/// rights than its caller has (set-uid, set-gid, capabilities of the file) is told nothing by its
/// environment.
pub fn var(name: &str) -> Option<OsString> {
    heeded(name, std::env::var_os(name), is_privileged)
}

fn heeded(
    name: &str,
    value: Option<OsString>,
    is_privileged: impl Fn() -> bool,
) -> Option<OsString> {
    let value = value.filter(|value| !value.is_empty())?;
    if is_privileged() {
        warn!("{name} is not heeded in a program that has more rights than its caller");
        return None;
    }
    Some(value)
}

/// The program was started with more rights than its caller has (set-uid, set-gid, capabilities of
/// the file): the kernel says so to it by AT_SECURE. If that cannot be known, it is taken for it.
fn is_privileged() -> bool {
    std::fs::read("/proc/self/auxv").ok().and_then(|auxv| at_secure(&auxv)) != Some(false)
}

/// AT_SECURE in an auxiliary vector: pairs of machine words, type and value.
fn at_secure(auxv: &[u8]) -> Option<bool> {
    const AT_SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    auxv.chunks_exact(2 * WORD).find_map(|pair| {
        let (kind, value) = pair.split_at_checked(WORD)?;
        if word(kind)? == AT_SECURE { Some(word(value)? != 0) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_program_is_told_nothing() {
        let heeded = |value: &str, privileged| heeded("NAME", Some(value.into()), || privileged);
        assert_eq!(heeded("value", false), Some("value".into()));
        assert_eq!(heeded("value", true), None);
        assert_eq!(heeded("", false), None);
    }

    #[test]
    fn privileges_are_read_from_the_auxiliary_vector() {
        let vector = |pairs: &[[usize; 2]]| {
            pairs.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>()
        };
        assert_eq!(at_secure(&vector(&[[3, 1], [23, 0], [0, 0]])), Some(false));
        assert_eq!(at_secure(&vector(&[[3, 23], [23, 1], [0, 0]])), Some(true));
        assert_eq!(at_secure(&vector(&[[3, 1], [0, 0]])), None);
        assert_eq!(at_secure(&[23]), None);
    }

    /// A test has no more rights than its caller.
    #[test]
    #[cfg(target_os = "linux")]
    fn this_program_is_not_privileged() {
        assert!(!is_privileged());
    }
}
