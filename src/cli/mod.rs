//! The `scard` command: arguments in, calls of the library, text or JSON out.

mod apdu;
mod args;
mod atr;
#[cfg(unix)]
mod cancel;
mod demo;
mod descriptor;
mod explain;
mod failure;
mod hex;
mod input;
mod install;
mod interrupt;
mod list;
mod out;
#[cfg(unix)]
mod pcscd;
mod record;
mod session;
mod simulate;
mod simulated;
mod status;
mod status_word;
mod tap;
mod trace;
mod watch;

use args::{Arguments, Command, Install};
use failure::Outcome;
use interrupt::Interrupt;
use out::Out;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs the command that `words` (the program's name first) ask for.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::read(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output; nobody may be reading it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log_to_stderr(arguments.verbose);
    let mut out = Out::stdout(arguments.json);
    let outcome = run(&arguments, &mut out).and_then(|()| Ok(out.flush()?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: &Arguments, out: &mut Out) -> Outcome {
    let interrupt = Interrupt::install()?;
    if let Some(path) = &arguments.record {
        record::all_to(path)?;
    }
    let readers = session::Source::of(arguments)?;
    match &arguments.command {
        Command::List => list::run(&readers, &interrupt, out),
        Command::Status(options) => status::run(&readers, &interrupt, options, out),
        Command::Watch => watch::run(&readers, &interrupt, out),
        Command::Atr(options) => atr::run(&readers, &interrupt, options, out),
        Command::Apdu(options) => apdu::run(&readers, &interrupt, options, out),
        #[cfg(unix)]
        Command::Cancel(options) => cancel::run(options, out),
        #[cfg(not(unix))]
        Command::Cancel(_) => Err(failure::Failure::usage("pcscd does not run on this system")),
        Command::Descriptor(options) => descriptor::run(&readers, &interrupt, options, out),
        Command::Demo(options) => demo::run(&readers, &interrupt, options, out),
        Command::Record(options) => record::run(options, out),
        Command::Trace(options) => trace::run(options, &interrupt, out),
        Command::Sim(options) => simulate::run(&interrupt, options, out),
        Command::Install(Install::Bundle(options)) => install::bundle(options, out),
        Command::Install(Install::Library(options)) => install::library::install(options, out),
        Command::Uninstall(Install::Bundle(options)) => install::no_bundle(options, out),
        Command::Uninstall(Install::Library(options)) => install::library::uninstall(options, out),
    }
}

/// -v shows what happens, -vv every message on the wire, -vvv every transfer.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Error,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    let began = std::time::Instant::now();
    let format = move |buffer: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        let (time, level) = (began.elapsed().as_secs_f64(), record.level());
        writeln!(buffer, "{time:9.4} {level:5} {}: {}", record.target(), record.args())
    };
    // A logger that is there already stays.
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).format(format);
    if verbose < 3 {
        // Every transfer of every device: for those who mend the transport.
        builder.filter_module("nusb", log::LevelFilter::Off);
    }
    let _ = builder.try_init();
}
