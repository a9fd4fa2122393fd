//! Where the quirk table comes from: the built-in rows, and those of the file that `SCARD_QUIRKS`
//! names, if the program may be told what to do by its environment.

use crate::transport::DeviceInfo;
use ccid::quirk::{Adjusted, Identity, Table};
use log::{info, warn};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

/// The environment variable that names a file of further rows.
pub const VARIABLE: &str = "SCARD_QUIRKS";

/// Most that is read of such a file.
const MAX_FILE: u64 = 1 << 20;

/// The device as it is to be treated.
pub fn of(info: &DeviceInfo) -> Adjusted {
    let identity =
        Identity { vendor: info.vendor_id, product: info.product_id, firmware: info.bcd_device };
    table().apply(identity, &info.class)
}

/// The table, read once.
fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| with_file(std::env::var_os(VARIABLE), is_privileged))
}

fn with_file(path: Option<OsString>, is_privileged: impl Fn() -> bool) -> Table {
    let mut table = Table::built_in();
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return table;
    };
    let path = Path::new(&path);
    if is_privileged() {
        warn!("{VARIABLE} is not heeded in a program that has more rights than its caller");
        return table;
    }
    match read(path) {
        Ok(text) => {
            let before = table.len();
            for error in table.extend(&text) {
                warn!("{}, {error}; the line is left out", path.display());
            }
            info!("{}: {} rows", path.display(), table.len() - before);
        }
        Err(error) => warn!("{VARIABLE}: {}: {error}", path.display()),
    }
    table
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
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
    use ccid::quirk::Flags;
    use ccid::{ClassDescriptor, descriptor::ExchangeLevel};

    fn file(name: &str, text: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("scard-quirks-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn adjusted(table: &Table) -> Adjusted {
        let mut class = [0; 54];
        class[..2].copy_from_slice(&[54, 0x21]);
        let class = ClassDescriptor::parse(&class).unwrap();
        table.apply(Identity { vendor: 0x1234, product: 0x5678, firmware: 1 }, &class)
    }

    #[test]
    fn a_users_file_is_read_and_its_bad_lines_left_out() {
        let path = file("good", b"1234:5678 level=short\nnonsense\n1234:5678 no-pps\n");
        let table = with_file(Some(path.clone().into()), || false);
        let adjusted = adjusted(&table);
        assert_eq!(adjusted.class.exchange_level(), ExchangeLevel::ShortApdu);
        assert_eq!(adjusted.behaviour.flags, Flags::NO_PPS);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_cannot_or_may_not_be_read_changes_nothing() {
        let good = file("privileged", b"1234:5678 no-pps\n");
        let binary = file("binary", &[0xFF, 0xFE, 0x00]);
        let built_in = Table::built_in();
        assert_eq!(with_file(Some(good.clone().into()), || true), built_in);
        assert_eq!(with_file(Some(binary.clone().into()), || false), built_in);
        assert_eq!(with_file(Some("/nowhere/at/all".into()), || false), built_in);
        assert_eq!(with_file(Some("".into()), || false), built_in);
        assert_eq!(with_file(None, || false), built_in);
        assert_ne!(with_file(Some(good.clone().into()), || false), built_in);
        std::fs::remove_file(good).unwrap();
        std::fs::remove_file(binary).unwrap();
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
