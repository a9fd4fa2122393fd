//! Where the quirk table comes from: the built-in rows, and those of the file that `SCARD_QUIRKS`
//! names, if the program may be told what to do by its environment.

use crate::environment;
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

/// The device, its class descriptor corrected by what is known of the reader.
pub(crate) fn corrected(info: DeviceInfo) -> DeviceInfo {
    DeviceInfo { class: of(&info).class, ..info }
}

/// The table, read once.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| with_file(environment::var(VARIABLE)))
}

fn with_file(path: Option<OsString>) -> Table {
    let mut table = Table::built_in();
    let Some(path) = path else {
        return table;
    };
    let path = Path::new(&path);
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
        let table = with_file(Some(path.clone().into()));
        let adjusted = adjusted(&table);
        assert_eq!(adjusted.class.exchange_level(), ExchangeLevel::ShortApdu);
        assert_eq!(adjusted.behaviour.flags, Flags::NO_PPS);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let binary = file("binary", &[0xFF, 0xFE, 0x00]);
        let built_in = Table::built_in();
        assert_eq!(with_file(Some(binary.clone().into())), built_in);
        assert_eq!(with_file(Some("/nowhere/at/all".into())), built_in);
        assert_eq!(with_file(None), built_in);
        std::fs::remove_file(binary).unwrap();
    }
}
