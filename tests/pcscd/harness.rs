//! The real pcscd with our driver and simulated readers, programs that use it, and the hands of
//! the readers' user.
//!
//! Each pcscd has a mount namespace of its own in which a folder of the test's stands for /run: the
//! machine's pcscd and its files are left alone, and tests run side by side.

#[path = "process.rs"]
mod process;

pub use process::{Process, until};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A running pcscd.
pub struct Pcscd {
    pub process: Process,
    folder: PathBuf,
}

impl Pcscd {
    /// With these readers in reader.conf: each a name and a simulated device, which is given a
    /// socket for its [`hands`](Self::hands).
    #[track_caller]
    pub fn start(readers: &[(&str, &str)]) -> Self {
        Self::start_with(readers, &[])
    }

    /// The same with variables in its environment.
    #[track_caller]
    pub fn start_with(readers: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        Self::start_in(folder(), readers, environment, "")
    }

    /// The same under valgrind, which puts into `log` what it finds.
    #[track_caller]
    pub fn start_under_valgrind(readers: &[(&str, &str)], log: &Path) -> Self {
        let valgrind = format!(
            "valgrind --quiet --error-exitcode=99 --leak-check=full \
             --show-leak-kinds=definite,indirect --errors-for-leak-kinds=none --log-file={}",
            log.display()
        );
        Self::start_in(folder(), readers, &[], &valgrind)
    }

    /// Without readers in reader.conf, but with a bundle that has this Info.plist and the driver,
    /// alone in its folder of drivers.
    #[track_caller]
    pub fn start_with_bundle(plist: &str) -> Self {
        let folder = folder();
        let contents = folder.join("drivers/scard.bundle/Contents");
        fs::create_dir_all(contents.join("Linux")).unwrap();
        fs::write(contents.join("Info.plist"), plist).unwrap();
        fs::copy(library(), contents.join("Linux/libifdscard.so")).unwrap();
        Self::start_in(folder, &[], &[], "")
    }

    #[track_caller]
    fn start_in(
        folder: PathBuf,
        readers: &[(&str, &str)],
        environment: &[(&str, &str)],
        under: &str,
    ) -> Self {
        let mut conf = String::new();
        for (name, device) in readers {
            let socket = socket_of(&folder, name);
            let device = match device.starts_with("sim:") {
                true => format!("{device}@{}", socket.display()),
                false => (*device).to_owned(),
            };
            let library = library();
            let library = library.display();
            let entry =
                format!("FRIENDLYNAME \"{name}\"\nDEVICENAME {device}\nLIBPATH {library}\n");
            conf.push_str(&entry);
        }
        fs::write(folder.join("conf/readers"), conf).unwrap();
        let pcscd =
            Self { process: Process::start(&mut command(&folder, environment, under)), folder };
        pcscd.process.out.expect("daemon ready");
        // It says so before it listens.
        until("pcscd listens", || UnixStream::connect(pcscd.socket()).is_ok());
        pcscd
    }

    /// A new program that uses it.
    #[track_caller]
    pub fn puppet(&self) -> Puppet {
        Puppet::start(&mut self.program(puppet()))
    }

    /// A program that is to use it.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PCSCLITE_CSOCK_NAME", self.socket());
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/pcscd/pcscd.comm")
    }

    /// Runs a program to its end: its standard output. It must end well.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let (status, out) = Process::start(self.program(program).args(arguments)).end();
        assert_eq!(status, Some(0), "{program} {arguments:?}:\n{out}\n{}", self.process.out.all());
        out
    }

    /// The hands at the reader of that name.
    #[track_caller]
    pub fn hands(&self, reader: &str) -> Hands {
        Hands::at(&self.socket_of(reader))
    }

    /// Where they listen.
    pub fn socket_of(&self, reader: &str) -> PathBuf {
        socket_of(&self.folder, reader)
    }

    /// Sends it a signal: its name.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.pid().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Sends it a signal to end by, and waits until it has: its exit status, if it was not killed.
    #[track_caller]
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        until("pcscd ends", || {
            // pcscd 2 looks whether it has been told to end when a program comes.
            let _next = UnixStream::connect(self.socket());
            !self.process.is_running()
        });
        self.process.wait()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.out.all()
    }

    /// How many threads of the driver's it has.
    pub fn threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.map_while(Result::ok).filter_map(name);
        names.filter(|name| name.starts_with("scard")).count()
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("pcscd's log:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where Debian's pcscd looks for drivers.
const DRIVERS: &str = "/usr/lib/pcsc/drivers";

fn command(folder: &Path, environment: &[(&str, &str)], under: &str) -> Command {
    // A user gets a namespace in which he is root.
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let polkit = if has_polkit() { "--disable-polkit" } else { "" };
    let script = format!(
        "mount --bind \"$1/run\" /run && \
         if [ -d \"$1/drivers\" ]; then mount --bind \"$1/drivers\" {DRIVERS}; fi && \
         exec setpriv --pdeathsig KILL {under} pcscd --foreground --debug {polkit} -c \"$1/conf\" 2>&1"
    );
    let mut command = Command::new("unshare");
    command.arg(if is_root { "-m" } else { "-rm" });
    command.args(["sh", "-c", &script, "sh"]).arg(folder);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("LIBCCID_ifdLogLevel", "15");
    command.envs(environment.iter().copied());
    command
}

/// pcscd asks polkit who may use it, since 2.0, if it was built so.
fn has_polkit() -> bool {
    static POLKIT: OnceLock<bool> = OnceLock::new();
    *POLKIT.get_or_init(|| {
        let help = Command::new("pcscd").arg("--help").env("PATH", "/usr/sbin:/usr/bin").output();
        let help =
            help.unwrap_or_else(|error| panic!("pcscd: {error} (tests/packages installs it)"));
        String::from_utf8_lossy(&help.stdout).contains("--disable-polkit")
    })
}

/// A folder of this test's. Its path is short: sockets have room for 107 bytes.
fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("scard-pcscd-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("run")).unwrap();
    fs::create_dir_all(folder.join("conf")).unwrap();
    folder
}

fn socket_of(folder: &Path, reader: &str) -> PathBuf {
    folder.join(format!("hands-{}", reader.replace(' ', "_")))
}

/// The driver, which was built with this test.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libifdscard.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// The program `puppet.c`.
fn puppet() -> &'static Path {
    static PUPPET: OnceLock<PathBuf> = OnceLock::new();
    PUPPET.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pcscd/puppet.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("puppet");
        let built = Command::new("gcc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-I/usr/include/PCSC", "-o"])
            .args([&program, &source])
            .arg("-lpcsclite")
            .status()
            .unwrap_or_else(|error| panic!("gcc: {error} (tests/packages installs it)"));
        assert!(built.success(), "puppet.c (tests/packages installs libpcsclite-dev)");
        program
    })
}

/// What a PC/SC function has returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned {
    pub code: u32,
    pub fields: Vec<String>,
}

impl Returned {
    /// What it gave, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> Vec<String> {
        assert_eq!(self.code, 0, "{:08X} {:?}", self.code, self.fields);
        self.fields
    }

    /// Its first field, if it succeeded.
    #[track_caller]
    pub fn first(self) -> String {
        self.ok().remove(0)
    }
}

/// A PC/SC program with one context and one handle, that does what it is told (`puppet.c`).
pub struct Puppet {
    process: Process,
    input: ChildStdin,
}

impl Puppet {
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let input = process.input();
        assert_eq!(process.out.next(), "00000000", "SCardEstablishContext");
        Self { process, input }
    }

    /// Has it call a function.
    #[track_caller]
    pub fn say(&mut self, words: &[&str]) -> Returned {
        self.begin(words);
        self.returned()
    }

    /// The same, without waiting for the end.
    pub fn begin(&mut self, words: &[&str]) {
        writeln!(self.input, "{}", words.join("\t")).unwrap();
    }

    /// What the function that was begun has returned.
    #[track_caller]
    pub fn returned(&mut self) -> Returned {
        let line = self.process.out.next();
        let mut fields = line.split('\t').map(str::to_owned);
        let code = fields.next().unwrap_or_default();
        let code = u32::from_str_radix(&code, 16).unwrap_or_else(|_| panic!("{line:?}"));
        Returned { code, fields: fields.collect() }
    }

    /// Connects, shared, by either protocol: the protocol.
    #[track_caller]
    pub fn connect(&mut self, reader: &str) -> String {
        self.say(&["connect", reader, "shared", "3"]).first()
    }

    /// Connects, exchanges and disconnects until that goes well: pcscd looks once a second for a
    /// reader that was gone.
    #[track_caller]
    pub fn until_usable(&mut self, reader: &str) {
        until("it works", || self.say(&["rounds", reader, "1"]).code == 0);
    }

    /// Connects to the reader whether or not there is a card.
    #[track_caller]
    pub fn connect_direct(&mut self, reader: &str) {
        self.say(&["connect", reader, "direct", "0"]).ok();
    }

    /// Exchanges a command with the card.
    #[track_caller]
    pub fn transmit(&mut self, command: &str) -> String {
        self.say(&["transmit", command]).first()
    }

    /// The state of a reader once it differs from `state`.
    #[track_caller]
    pub fn wait(&mut self, reader: &str, state: u32) -> u32 {
        let state = self.say(&["wait", reader, &format!("{state:X}"), "30000"]).first();
        u32::from_str_radix(&state, 16).unwrap()
    }

    /// Waits until the reader has (or has not) a card that is ready.
    #[track_caller]
    pub fn wait_for_card(&mut self, reader: &str, present: bool) {
        let flag = if present { PRESENT } else { EMPTY };
        let mut state = self.wait(reader, 0);
        while state & (flag | MUTE) != flag {
            state = self.wait(reader, state & !CHANGED);
        }
    }
}

/// SCARD_STATE_*
pub const CHANGED: u32 = 0x0002;
pub const EMPTY: u32 = 0x0010;
pub const PRESENT: u32 = 0x0020;
pub const MUTE: u32 = 0x0200;

/// SCARD_E_*, SCARD_W_*
pub const NO_SMARTCARD: u32 = 0x8010_000C;
pub const PROTO_MISMATCH: u32 = 0x8010_000F;
pub const NOT_TRANSACTED: u32 = 0x8010_0016;
pub const READER_UNAVAILABLE: u32 = 0x8010_0017;
pub const UNSUPPORTED_FEATURE: u32 = 0x8010_001F;
pub const UNPOWERED_CARD: u32 = 0x8010_0067;
pub const REMOVED_CARD: u32 = 0x8010_0069;

/// The user of a simulated reader.
pub struct Hands(BufReader<UnixStream>);

impl Hands {
    /// Those that listen there, once they do.
    #[track_caller]
    pub fn at(socket: &Path) -> Self {
        let mut stream = None;
        until("somebody listens", || {
            stream = UnixStream::connect(socket).ok();
            stream.is_some()
        });
        Self(BufReader::new(stream.unwrap()))
    }

    /// Does what a line says (`sim::hands`).
    #[track_caller]
    pub fn say(&mut self, line: &str) -> Vec<String> {
        writeln!(self.0.get_mut(), "{line}").unwrap();
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end() {
                "ok" => return said,
                problem if problem.starts_with("error") || problem.is_empty() => {
                    panic!("{line}: {problem}")
                }
                other => said.push(other.to_owned()),
            }
        }
    }

    /// Waits until the reader has seen a message with `text` in it.
    #[track_caller]
    pub fn until_seen(&mut self, text: &str) {
        until(text, || self.say("log").iter().any(|line| line.contains(text)));
    }

    /// Rules that the driver has broken.
    #[track_caller]
    pub fn violations(&mut self) -> Vec<String> {
        self.say("violations")
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}
