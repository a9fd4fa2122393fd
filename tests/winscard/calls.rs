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

/// A program that uses the reader under valgrind: nothing is read that was not written, nothing
/// written beyond its end, nothing lost.
fn valgrind(reader: &Reader) -> Command {
    let mut command = reader.program("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
    command
}

/// Python under valgrind: what the interpreter itself does is left aside.
fn valgrind_python(reader: &Reader, script: &str) -> Command {
    let mut command = valgrind(reader);
    // Not an allocator of its own, which valgrind would not see through.
    command.env("PYTHONMALLOC", "malloc");
    command.arg(format!("--suppressions={}", source("python.supp").display()));
    command.arg("/usr/bin/python3").arg(source(script));
    command
}

#[test]
fn valgrind_finds_nothing_in_all_calls() {
    let reader = Reader::new("default");
    run(valgrind(&reader).arg(compiled("transcript", &[])).arg(&reader.socket));
}

#[test]
fn valgrind_finds_nothing_in_cancels_kept_answers_signals() {
    let reader = Reader::new("pinpad-idle");
    run(valgrind(&reader).arg(compiled("calls", &["-ldl"])).arg("slowly"));
}

#[test]
fn valgrind_finds_nothing_in_pyscard_with_its_monitors() {
    let reader = Reader::new("default");
    run(valgrind_python(&reader, "monitor.py").arg(&reader.socket));
}

/// pyscard looks at what is returned whatever the code: what failed has written it, too.
#[test]
fn valgrind_finds_nothing_in_cancels_from_python() {
    run(&mut valgrind_python(&Reader::new("default"), "cancel.py"));
}
