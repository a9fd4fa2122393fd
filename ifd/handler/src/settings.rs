//! What the driver is told: by the Info.plist of the bundle it lies in, as libccid's users know
//! it, and by the environment, which has the last word.
//!
//! | Info.plist | environment | |
//! |---|---|---|
//! | ifdLogLevel | `LIBCCID_ifdLogLevel` | what is logged: 1 failures, 2 what happens to readers, 4 every message, 8 more; their sum. 3 if not set |
//! | ifdDriverOptions | `SCARD_ifdDriverOptions` | 01h: escape commands are allowed; 10h, 20h, 30h: cards get 3 V, 1.8 V, what the reader chooses first, instead of 5 V |

use crate::host;
use ccid::Options;
use ccid::wire::PowerSelect;
use ifd::bundle::{Info, parse_number};
use ifd::environment;
use log::LevelFilter;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

/// Most that is read of an Info.plist; libccid's has 60 kilobytes.
const MAX_FILE: u64 = 1 << 22;

/// ifdLogLevel, if nothing says otherwise: failures, and what happens to readers.
const USUAL_LOG: u32 = 3;

const LOG_INFO: u32 = 2;
const LOG_MESSAGES: u32 = 4;
const LOG_PERIODIC: u32 = 8;

const ESCAPE: u32 = 0x01;
const VOLTAGE: u32 = 0x30;

/// The driver's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// What is logged.
    pub(crate) log: LevelFilter,
    /// Escape commands are allowed.
    pub(crate) escape: bool,
    /// What cards are given first.
    first_voltage: PowerSelect,
}

impl Settings {
    /// The settings, read once.
    pub(crate) fn get() -> Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        *SETTINGS.get_or_init(|| {
            let info = host::library_path().and_then(|path| info_beside(&path));
            Self::read(&info.unwrap_or_default(), |name| environment::var(name)?.into_string().ok())
        })
    }

    fn read(info: &Info, variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, key: &str| {
            variable(name).and_then(|text| parse_number(&text)).or_else(|| info.number(key))
        };
        let log = number("LIBCCID_ifdLogLevel", "ifdLogLevel").unwrap_or(USUAL_LOG);
        let options = number("SCARD_ifdDriverOptions", "ifdDriverOptions").unwrap_or(0);
        Self {
            log: match log {
                0 => LevelFilter::Off,
                n if n & LOG_PERIODIC != 0 => LevelFilter::Trace,
                n if n & LOG_MESSAGES != 0 => LevelFilter::Debug,
                n if n & LOG_INFO != 0 => LevelFilter::Info,
                _ => LevelFilter::Warn,
            },
            escape: options & ESCAPE != 0,
            first_voltage: match options & VOLTAGE {
                0x10 => PowerSelect::V3,
                0x20 => PowerSelect::V1_8,
                VOLTAGE => PowerSelect::Automatic,
                _ => PowerSelect::V5,
            },
        }
    }

    /// How readers are driven.
    pub(crate) fn options(&self) -> Options {
        Options { first_voltage: self.first_voltage, ..Options::default() }
    }
}

/// The Info.plist of the bundle in whose Contents/Linux the library lies.
fn info_beside(library: &Path) -> Option<Info> {
    let path = library.parent()?.parent()?.join("Info.plist");
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Info::parse(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(plist: &str, log: Option<&str>, options: Option<&str>) -> Settings {
        let info = Info::parse(plist).unwrap();
        Settings::read(&info, |name| match name {
            "LIBCCID_ifdLogLevel" => log.map(str::to_owned),
            "SCARD_ifdDriverOptions" => options.map(str::to_owned),
            other => panic!("{other}"),
        })
    }

    const PLIST: &str = "<dict><key>ifdLogLevel</key><string>0x0007</string>\
        <key>ifdDriverOptions</key><string>0x0021</string></dict>";

    #[test]
    fn nothing_is_allowed_unless_it_is_said() {
        let usual = read("", None, None);
        assert_eq!(usual.log, LevelFilter::Info);
        assert!(!usual.escape);
        assert_eq!(usual.options(), Options::default());
        assert_eq!(read("", Some("nonsense"), Some("")), usual);
    }

    #[test]
    fn the_bundle_says_and_the_environment_has_the_last_word() {
        let bundle = read(PLIST, None, None);
        assert_eq!((bundle.log, bundle.escape), (LevelFilter::Debug, true));
        assert_eq!(bundle.options().first_voltage, PowerSelect::V1_8);
        let both = read(PLIST, Some("0"), Some("0x30"));
        assert_eq!((both.log, both.escape), (LevelFilter::Off, false));
        assert_eq!(both.options().first_voltage, PowerSelect::Automatic);
        for (level, filter) in
            [("1", LevelFilter::Warn), ("3", LevelFilter::Info), ("15", LevelFilter::Trace)]
        {
            assert_eq!(read(PLIST, Some(level), None).log, filter);
        }
    }

    #[test]
    fn the_bundle_is_found_by_the_library() {
        let root = std::env::temp_dir().join(format!("scard-settings-{}", std::process::id()));
        let folder = root.join("Contents/Linux");
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libifdscard.so");
        assert_eq!(info_beside(&library), None);
        std::fs::write(root.join("Contents/Info.plist"), PLIST).unwrap();
        assert_eq!(info_beside(&library), Some(Info::parse(PLIST).unwrap()));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
