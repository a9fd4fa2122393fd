//! What is particular to the library: programs in C that call it, also under valgrind.

use crate::library::{Reader, compiled, folder, run, source};
use std::process::Command;

#[test]
fn cancels_kept_answers_signals() {
    let out = Reader::new("pinpad-idle").run(compiled("calls", &["-ldl"]), &[]);
    assert_eq!(out.trim(), "ok", "{out}");
}

#[test]
fn cancels_from_python() {
    let script = source("cancel.py");
    let out = Reader::new("default").run("/usr/bin/python3", &[script.to_str().unwrap()]);
    assert_eq!(out.trim(), "ok", "{out}");
}

#[test]
fn cancels_that_leave_commands_alone() {
    let reader = Reader::new("default");
    let mut command = reader.program("/usr/bin/python3");
    command.env("SCARD_CANCEL", "waits").arg(source("cancel_waits.py")).arg(&reader.socket);
    let out = run(&mut command);
    assert_eq!(out.trim(), "ok", "{out}");
}

#[test]
fn fork_after_usb() {
    let mut command = Command::new("/usr/bin/python3");
    command.env("LD_LIBRARY_PATH", folder()).env_remove("SCARD_READERS");
    let out = run(command.arg(source("fork_usb.py")));
    assert_eq!(out.trim(), "ok", "{out}");
}

/// Each process has a simulated reader of its own, without hands: there is one socket of a name.
#[test]
fn fork() {
    let mut command = Command::new(compiled("fork", &[]));
    command.env("LD_LIBRARY_PATH", folder()).env("SCARD_READERS", "sim:default");
    let out = run(&mut command);
    assert_eq!(out.trim(), "ok", "{out}");
}

/// A setting that is wrong is told, and no reader made up.
#[test]
fn readers_that_cannot_be() {
    for readers in ["sim:nonsense", "nonsense", "sim:default,trace:/nowhere/at/all"] {
        let mut command = Command::new("opensc-tool");
        command.env("LD_LIBRARY_PATH", folder()).env("SCARD_READERS", readers);
        let output = command.arg("--atr").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let culprit = readers.rsplit(',').next().unwrap().trim_start_matches("sim:");
        let culprit = culprit.trim_start_matches("trace:");
        assert!(!output.status.success() && told.contains(culprit), "{readers}: {told}");
    }
}

/// Nothing is read that was not written, nothing written beyond its end, nothing lost.
#[test]
fn valgrind_finds_nothing() {
    let program = compiled("transcript", &[]);
    let reader = Reader::new("default");
    let mut command = reader.program("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"])
        .arg(program)
        .arg(&reader.socket);
    run(&mut command);
}
