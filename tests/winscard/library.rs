//! The library as programs find it, and programs that are to use it.

use crate::harness::{Hands, Process};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A simulated reader of one program, which is given it as its only one.
pub struct Reader {
    name: String,
    pub socket: PathBuf,
}

impl Reader {
    /// The simulated device of that name.
    pub fn new(preset: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = format!("scard-winscard-{}-{number}", std::process::id());
        let socket = std::env::temp_dir().join(file);
        Self { name: format!("sim:{preset}@{}", socket.display()), socket }
    }

    /// A program that uses it.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", folder()).env("SCARD_READERS", &self.name);
        command
    }

    /// Runs a program to its end: its standard output. It must end well.
    #[track_caller]
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
        run(self.program(program).args(arguments))
    }

    /// The hands at it, once a program uses it.
    #[track_caller]
    pub fn hands(&self) -> Hands {
        Hands::at(&self.socket)
    }

    pub fn socket_text(&self) -> &str {
        self.socket.to_str().unwrap()
    }
}

/// Runs a program to its end: its standard output. It must end well.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let described = format!("{command:?}");
    let (status, out) = Process::start(command).end();
    assert_eq!(status, Some(0), "{described}:\n{out}");
    out
}

/// The library, which was built with this test.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libscard_pcsclite.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// A folder with the library under the name that programs look for.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("winscard");
        fs::create_dir_all(&folder).unwrap();
        // Two runs of the tests may do it at a time.
        let new = folder.join(format!("new-{}", std::process::id()));
        symlink(library(), &new).unwrap();
        fs::rename(&new, folder.join("libpcsclite.so.1")).unwrap();
        folder
    })
}

/// A test's own file.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/winscard").join(name)
}

/// A C program of the tests', compiled for the system's libpcsclite. It may use this library's
/// `more.h`, if told so by the linker's options.
pub fn compiled(name: &str, options: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let new = program.with_extension(std::process::id().to_string());
    let built = Command::new("gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-g", "-I/usr/include/PCSC", "-I"])
        .arg(env!("CARGO_MANIFEST_DIR"))
        .arg("-o")
        .args([&new, &source(&format!("{name}.c"))])
        .args(options)
        .args(["-lpcsclite", "-lpthread"])
        .status()
        .unwrap_or_else(|error| panic!("gcc: {error} (tests/packages installs it)"));
    assert!(built.success(), "{name}.c (tests/packages installs libpcsclite-dev)");
    fs::rename(new, &program).unwrap();
    program
}
