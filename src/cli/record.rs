//! `scard record` and `--record`: what goes over the wire, written to a file.

use crate::cli::args::{Arguments, RecordOptions};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::out::Out;
use clap::CommandFactory;
use ifd::trace::Events;
use ifd::transport::record::{Pins, Recorder, VARIABLE, VARIABLE_PINS, record_all};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is in the folder of `--report`.
const TRACE: &str = "trace.pcapng";
const LOG: &str = "log.txt";
const READERS: &str = "readers.txt";
const VERSIONS: &str = "versions.txt";
const ABOUT: &str = "README.txt";

/// Records the readers of this process to `path`.
pub(crate) fn all_to(path: &Path) -> Outcome {
    let recorder = Recorder::create(path, Pins::Masked).map_err(|error| cannot(path, &error))?;
    match record_all(recorder) {
        true => Ok(()),
        false => Err(Failure::failed("readers are being recorded already")),
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Runs a command whose readers are recorded.
pub(crate) fn run(options: &RecordOptions, out: &mut Out) -> Outcome {
    let trace = match (&options.report, &options.file) {
        (Some(folder), file) => {
            fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
            file.clone().unwrap_or_else(|| folder.join(TRACE))
        }
        (None, Some(file)) => file.clone(),
        (None, None) => return Err(Failure::usage("a file or --report is needed")),
    };
    let Some((program, arguments)) = options.command.split_first() else {
        return Err(Failure::usage("a command is needed, behind --"));
    };
    let pins = if options.keep_pins { Pins::Kept } else { Pins::Masked };
    // Whatever the command does with it, the file is there; a path of its own, as the command may
    // go elsewhere.
    drop(Recorder::create(&trace, pins).map_err(|error| cannot(&trace, &error))?);
    let trace = fs::canonicalize(&trace).map_err(|error| cannot(&trace, &error))?;
    let status = child(options, program, arguments, &trace)?;
    if let Some(folder) = &options.report {
        report(folder, options, &trace)?;
        writeln!(out, "{}: {}", folder.display(), said_of_pins(options))?;
    }
    match status {
        0 => Ok(()),
        status => Err(Failure::Child(status)),
    }
}

/// Runs the command; its exit status.
fn child(
    options: &RecordOptions,
    program: &OsString,
    arguments: &[OsString],
    trace: &Path,
) -> Result<u8, Failure> {
    let own =
        program.to_str().is_some_and(|word| Arguments::command().find_subcommand(word).is_some());
    let failed = |error| Failure::failed(format!("{}: {error}", Path::new(program).display()));
    let mut command = match own {
        true => {
            let mut command = Command::new(std::env::current_exe().map_err(failed)?);
            command.arg("-v").arg(program);
            command
        }
        false => Command::new(program),
    };
    command.args(arguments).env(VARIABLE, trace);
    command.env(VARIABLE_PINS, if options.keep_pins { "1" } else { "0" });
    if let Some(folder) = &options.report {
        let log = folder.join(LOG);
        let log = File::create(&log).map_err(|error| cannot(&log, &error))?;
        command.stderr(Stdio::from(log));
    }
    let status = command.status().map_err(failed)?;
    // Ended by a signal: as a shell says it.
    #[cfg(unix)]
    let by_signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|n| 128 + n);
    #[cfg(not(unix))]
    let by_signal = None;
    let code = status.code().or(by_signal).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

fn said_of_pins(options: &RecordOptions) -> &'static str {
    match options.keep_pins {
        true => "PINs are NOT masked in the trace",
        false => "PINs are masked in the trace",
    }
}

/// What belongs to the trace in a report.
fn report(folder: &Path, options: &RecordOptions, trace: &Path) -> Outcome {
    let write = |name: &str, text: String| {
        let path: PathBuf = folder.join(name);
        fs::write(&path, text).map_err(|error| cannot(&path, &error))
    };
    write(READERS, readers(trace)?)?;
    write(VERSIONS, versions())?;
    let pins = said_of_pins(options);
    let about = format!(
        "{TRACE}: what went over the wire; `scard trace` and Wireshark show it\n\
         {READERS}: the readers in it, with their class descriptors\n\
         {LOG}: what the command wrote on standard error\n\
         {VERSIONS}: program and system\n\n\
         {pins}: data of VERIFY, CHANGE REFERENCE DATA and RESET RETRY COUNTER, and of PIN entry at \
         the reader. Everything else is as it was: other data read from or written to the card, \
         escape commands, the reader's serial number. Look before you pass it on.\n",
    );
    write(ABOUT, about)
}

/// The readers of a trace, and their class descriptors in hexadecimal, for `scard descriptor --hex`.
fn readers(trace: &Path) -> Result<String, Failure> {
    use std::fmt::Write;
    let file = File::open(trace).map_err(|error| cannot(trace, &error))?;
    let failed = |error| Failure::failed(format!("{}: {error}", trace.display()));
    let mut events = Events::new(BufReader::new(file)).map_err(failed)?;
    for event in events.by_ref() {
        event.map_err(failed)?;
    }
    let mut text = String::new();
    for device in events.devices() {
        let Ok(Some(interface)) = events.interface(device, None) else { continue };
        let info = &interface.info;
        let (vendor, product) = (info.vendor_id, info.product_id);
        let name = info.product.as_deref().unwrap_or("without a name");
        let hex: Vec<String> = info.class.emit().iter().map(|byte| format!("{byte:02X}")).collect();
        let _ = writeln!(text, "{vendor:04x}:{product:04x} {name}, {:04x}", info.bcd_device);
        let _ = writeln!(text, "{}", hex.join(" "));
    }
    if text.is_empty() {
        text.push_str("no reader was opened\n");
    }
    Ok(text)
}

fn versions() -> String {
    let read = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name));
        text.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    format!("scard {version}\n{os} {arch} {} {}\n", read("osrelease"), read("version"))
}
