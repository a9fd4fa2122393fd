//! The command line.

use crate::cli::failure::EXIT_HELP;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ifd::trace::DeviceKey;
use scard::Protocols;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The preset of `--sim` without a name.
pub(crate) const DEFAULT_PRESET: &str = "default";

/// Smart cards on USB readers, without a daemon.
#[derive(Parser, Debug)]
#[command(name = "scard", version, after_help = EXIT_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Print JSON: one document, or with `watch` an object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Use a simulated reader instead of those on USB: PRESET (`scard sim --list` names them) or the
    /// default one; repeat it for several readers. With vpcd:PORT, cards are programs that connect.
    /// PRESET@PATH has a socket at PATH that takes what its user does: remove, insert, unplug
    #[arg(
        long,
        global = true,
        value_name = "PRESET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = DEFAULT_PRESET,
        action = ArgAction::Append,
    )]
    pub(crate) sim: Vec<String>,

    /// Use the reader of a recorded trace (pcap, pcapng, usbmon's text) instead of those on USB:
    /// what is sent has to be what was sent then. No time is spent on waiting
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) trace: Vec<PathBuf>,

    /// With --trace: another driver recorded it; commands are found by what they do
    #[arg(long, global = true)]
    pub(crate) lenient: bool,

    /// With --trace: answers take the time they took in the recording
    #[arg(long, global = true)]
    pub(crate) real_time: bool,

    /// With --trace, for a log, which does not tell: the reader's class descriptor, 54 bytes
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) class: Option<String>,

    /// Log what happens on standard error; -vv: every message on the wire, too. PINs are left out
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Write what goes over the wire to FILE (pcapng, as Wireshark reads it). PINs are masked
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// The readers, what is in them, and those that cannot be used: why, and what to do
    List,
    /// The state of each reader: card, ATR, who uses it, how often cards came and went
    Status(ReaderOption),
    /// Tells of cards and readers as they come and go, until Ctrl-C
    Watch,
    /// Reads a card's ATR and explains it byte by byte
    Atr(AtrOptions),
    /// Sends command APDUs to a card
    Apdu(ApduOptions),
    /// Ends what a reader is doing under pcscd: the command that hangs fails, the card is reset
    Cancel(CancelOptions),
    /// Explains the class descriptor of every reader, and what follows from it
    Descriptor(DescriptorOptions),
    /// Shows what this can do: waits for a card, talks to it, cancels a command that never ends
    Demo(ReaderOption),
    /// Runs a command and writes what goes over the wire to a file
    Record(RecordOptions),
    /// Shows a recorded trace as a conversation
    Trace(TraceOptions),
    /// The simulated readers
    Sim(SimOptions),
    /// Puts this in the place of another stack
    #[command(subcommand)]
    Install(Install),
    /// Takes away what `install` has put there; what was there before is used again
    #[command(subcommand)]
    Uninstall(Install),
}

#[derive(Args, Debug)]
pub(crate) struct CancelOptions {
    /// The reader, by its name in pcscd or a part of it. pcscd has to use this project's driver
    /// (`scard install bundle`); PCSCLITE_CSOCK_NAME says where it listens, if not at the usual place
    #[arg(long, value_name = "READER", required = true)]
    pub(crate) pcscd: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Install {
    /// The driver bundle for pcscd: its USB readers are used through this driver, libccid's
    /// among them. Restart pcscd afterwards
    Bundle(BundleOptions),
    /// The library libpcsclite.so.1, beside the system's own: programs that are told to use it need
    /// no pcscd
    Library(LibraryOptions),
}

#[derive(Args, Debug)]
pub(crate) struct LibraryOptions {
    /// A folder of its own; /usr/local/lib/scard if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// The library, if it does not lie beside this program: `cargo build --release -p
    /// scard-pcsclite` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BundleOptions {
    /// pcscd's folder of drivers, if not the one that `pcscd --version` names
    #[arg(long, value_name = "DIR")]
    pub(crate) drivers: Option<PathBuf>,

    /// The driver, if it does not lie beside this program: `cargo build --release -p
    /// scard-ifdhandler` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,

    /// The folder for a udev rule: readers of the class that the bundle does not name are named in it
    /// when they are plugged in, and pcscd may open every one; /etc/udev/rules.d, unless --drivers is
    /// given
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Option<PathBuf>,

    /// Only name the readers that are plugged in, in the bundle that is there, and restart pcscd if
    /// one of them was not named (not with --drivers): what the udev rule does
    #[arg(long, conflicts_with_all = ["library", "rules"])]
    pub(crate) plugged: bool,
}

#[derive(Args, Debug, Default)]
pub(crate) struct ReaderOption {
    /// The reader: its name, a part of it that no other has, or its number in `scard list`
    #[arg(long, short, value_name = "READER")]
    pub(crate) reader: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AtrOptions {
    #[command(flatten)]
    pub(crate) reader: ReaderOption,

    /// Explain these bytes instead of a card's
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["reader", "sim", "trace"])]
    pub(crate) hex: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DescriptorOptions {
    #[command(flatten)]
    pub(crate) reader: ReaderOption,

    /// Explain these 54 bytes instead of a reader's
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["reader", "sim", "trace"])]
    pub(crate) hex: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
COMMAND is one of scard's, or a program that uses this stack, in process. What it does with readers \
is written as it happens. PINs in it are masked: data of VERIFY, CHANGE REFERENCE DATA and RESET RETRY \
COUNTER; other data stay as they are. The exit status is that of the command.")]
pub(crate) struct RecordOptions {
    /// The file, which is emptied first
    #[arg(value_name = "FILE", required_unless_present = "report")]
    pub(crate) file: Option<PathBuf>,

    /// Make a folder to attach to a bug report: trace, descriptors, versions and log
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,

    /// Do not mask PINs: for cards that are of no value
    #[arg(long)]
    pub(crate) keep_pins: bool,

    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
FILE is pcap or pcapng with USB packets of Linux or Windows (link types 189, 220, 249), made by scard, \
tcpdump, Wireshark, QEMU or USBPcap; usbmon's text; or a log with messages of CCID: pcscd's (libccid, ACS's driver), or \
scdaemon's. Lines that begin with ! tell what is wrong. Data of commands that carry a \
PIN are not shown. --json gives an object a line, and a summary for each device.")]
pub(crate) struct TraceOptions {
    /// The trace
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Only this device: bus and address, as in 1.5
    #[arg(long, value_name = "BUS.ADDRESS", value_parser = device)]
    pub(crate) device: Option<DeviceKey>,

    /// Its interface of this number, instead of the first for smart cards
    #[arg(long, value_name = "NUMBER")]
    pub(crate) interface: Option<u8>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
#[command(after_help = "\
--vhci prints `ready` once the device is on the USB, takes lines on standard input, answers each by \
what there is to say and `ok` or `error: ...`, and ends with status 0:

  insert [SLOT]  put the card back, or a new one
  remove [SLOT]  take the card out
  unplug, plug   the reader itself
  key KEY        press digits, enter, clear or cancel on the PIN pad
  log            what the device has seen, PINs left out
  violations     rules that the host has broken
  forget         both of these")]
pub(crate) struct SimOptions {
    /// Name the presets, with a line about each
    #[arg(long)]
    pub(crate) list: bool,

    /// Put this one on the machine's USB, where any program finds it (Linux, as root, after
    /// `modprobe vhci-hcd`), until Ctrl-C, a signal or the end of standard input
    #[arg(long, value_name = "PRESET")]
    pub(crate) vhci: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
A script, on standard input, has one APDU a line; `reset` resets the card, and what stands behind \
a # is a comment. It is read and checked as a whole before anything is sent, unless it is typed.

Every response stands on a line of its own, data and status word, in hexadecimal; all other lines \
are marked. The data of commands that carry a PIN are not shown.")]
pub(crate) struct ApduOptions {
    /// Command APDUs in hexadecimal, each one word (quote it if it has blanks); or - for a script
    #[arg(required = true, value_name = "APDU")]
    pub(crate) apdus: Vec<String>,

    #[command(flatten)]
    pub(crate) reader: ReaderOption,

    /// Abort a command that takes longer
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,

    /// The protocol to speak with the card
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol: ProtocolChoice,

    /// Leave 61xx (GET RESPONSE) and 6Cxx (send again with the right Le) to the caller
    #[arg(long)]
    pub(crate) no_get_response: bool,

    /// Stop with status 1 at a status word other than 9000 or 61xx
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum ProtocolChoice {
    /// T=0
    T0,
    /// T=1
    T1,
    /// What the card prefers
    #[default]
    Any,
}

impl From<ProtocolChoice> for Protocols {
    fn from(choice: ProtocolChoice) -> Self {
        match choice {
            ProtocolChoice::T0 => Self::T0,
            ProtocolChoice::T1 => Self::T1,
            ProtocolChoice::Any => Self::ANY,
        }
    }
}

impl Arguments {
    /// Reads the command line.
    pub(crate) fn read(words: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(join_presets(words))
    }
}

/// `--sim NAME` becomes `--sim=NAME` where NAME looks like a preset's: otherwise whatever follows a
/// bare `--sim` would be taken for one.
fn join_presets(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        let preset = word.to_str().filter(|word| looks_like_preset(word));
        match (joined.last_mut(), preset) {
            (Some(last), Some(preset)) if last == "--sim" => {
                last.push("=");
                last.push(preset);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// Neither a subcommand nor hexadecimal: a preset, or one with a slip, which is then told as such.
fn looks_like_preset(word: &str) -> bool {
    let command = Arguments::command();
    // Behind it there may be the path of a socket.
    let name = word.split_once('@').map_or(word, |(name, _)| name);
    command.find_subcommand(word).is_none()
        && word != "help"
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-:".contains(c))
        && word.contains(|c: char| !c.is_ascii_hexdigit())
}

fn device(text: &str) -> Result<DeviceKey, String> {
    let parse = || {
        let (bus, address) = text.split_once('.')?;
        Some(DeviceKey { bus: bus.parse().ok()?, address: address.parse().ok()? })
    };
    parse().ok_or_else(|| "not a bus and an address".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let limit = Duration::try_from_secs_f64(seconds).map_err(|_| "not a time".to_owned())?;
    if limit.is_zero() { Err("no time at all".into()) } else { Ok(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Arguments {
        let words = std::iter::once("scard").chain(line.split(' ')).map(OsString::from);
        Arguments::read(words).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn presets_with_and_without_a_name() {
        for (line, presets) in [
            ("list", &[][..]),
            ("list --sim", &["default"]),
            ("--sim list", &["default"]),
            ("list --sim empty", &["empty"]),
            ("list --sim emty", &["emty"]),
            ("list --sim vpcd:35963", &["vpcd:35963"]),
            ("list --sim default@/run/hands", &["default@/run/hands"]),
            ("apdu --sim deadbeef", &["default"]),
            ("list --sim=empty --sim", &["empty", "default"]),
            ("apdu --sim 00A40000", &["default"]),
            ("apdu --sim three-slots --sim empty 00A40000", &["three-slots", "empty"]),
        ] {
            assert_eq!(read(line).sim, presets, "{line}");
        }
    }

    #[test]
    fn every_preset_is_recognised() {
        for (name, _) in sim::Hands::names() {
            assert!(looks_like_preset(name), "{name}");
        }
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["", "x", "-1", "0", "inf", "NaN", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
