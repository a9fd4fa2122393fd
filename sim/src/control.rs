//! A socket by which other programs handle a simulated device.
//!
//! It is a Unix stream socket. Each line that comes is one of [`hands`](crate::hands); the answer
//! is what there is to say, a line each, then `ok`, or instead `error: ` and what is wrong. Any
//! number of programs may be connected.

use crate::Hands;
use log::{debug, warn};
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// No line is longer.
const MAX_LINE: usize = 256;

/// So long a program may leave its answer unread before it is hung up on.
const WRITE_TIME: Duration = Duration::from_secs(1);

/// So many programs at once.
const MAX_CLIENTS: usize = 16;

/// Listens for as long as it lives; then the socket is removed.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    /// The thread ends when this end is closed.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`, for this user's programs only, and has `hands` do what they say. A
    /// socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// Those of the system; [`ErrorKind::AddrInUse`] if there is another file or somebody listens.
    pub fn listen(path: &Path, hands: Hands) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let server = Server { listener, stopped, clients: Vec::new(), hands };
        let thread =
            std::thread::Builder::new().name("scard control".into()).spawn(move || server.run())?;
        Ok(Self { path: path.to_owned(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                warn!("the thread of {} has panicked", self.path.display());
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            debug!("{}: {error}", self.path.display());
        }
    }
}

/// Removes a socket that was left behind by a program that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "a file that is no socket is there"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => {
            Err(io::Error::new(ErrorKind::AddrInUse, "another simulated device listens there"))
        }
    }
}

struct Server {
    listener: UnixListener,
    stopped: UnixStream,
    clients: Vec<Client>,
    hands: Hands,
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Server {
    fn run(mut self) {
        while self.wait() {
            self.accept();
            let hands = &mut self.hands;
            self.clients.retain_mut(|client| client.serve(hands).unwrap_or(false));
        }
    }

    /// Waits until there is something to do; false if it is to end.
    fn wait(&self) -> bool {
        let mut fds = vec![
            PollFd::new(&self.stopped, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        fds.extend(self.clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => fds.first().is_some_and(|fd| fd.revents().is_empty()),
            Err(rustix::io::Errno::INTR) => true,
            Err(error) => {
                warn!("the control socket is given up: {error}");
                false
            }
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) if self.clients.len() < MAX_CLIENTS => {
                let set = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_write_timeout(Some(WRITE_TIME)));
                match set {
                    Ok(()) => self.clients.push(Client { stream, received: Vec::new() }),
                    Err(error) => debug!("control: {error}"),
                }
            }
            Ok(_) => warn!("too many programs at the control socket"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => debug!("control: {error}"),
        }
    }
}

impl Client {
    /// Does what has come; false if the program has hung up or said too much.
    fn serve(&mut self, hands: &mut Hands) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        if poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
            return Ok(true);
        }
        let mut bytes = [0; MAX_LINE];
        let count = self.stream.read(&mut bytes)?;
        self.received.extend(bytes.iter().take(count));
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let rest = self.received.split_off(end + 1);
            let line = std::mem::replace(&mut self.received, rest);
            self.stream.write_all(answer(hands, &String::from_utf8_lossy(&line)).as_bytes())?;
        }
        Ok(count > 0 && self.received.len() <= MAX_LINE)
    }
}

fn answer(hands: &mut Hands, line: &str) -> String {
    match hands.obey(line) {
        Ok(said) => said.into_iter().chain(["ok".into()]).map(|line| line + "\n").collect(),
        Err(problem) => format!("error: {problem}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    struct Talk(BufReader<UnixStream>);

    impl Talk {
        fn to(path: &Path) -> Self {
            Self(BufReader::new(UnixStream::connect(path).unwrap()))
        }

        fn say(&mut self, line: &str) -> String {
            writeln!(self.0.get_mut(), "{line}").unwrap();
            let mut answer = String::new();
            self.0.read_line(&mut answer).unwrap();
            answer
        }
    }

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("scard-control-{}-{name}", std::process::id()))
    }

    #[test]
    fn two_programs_handle_one_device() {
        let path = path("two");
        let hands = Hands::of("default").unwrap();
        let port = hands.port();
        let control = Control::listen(&path, hands).unwrap();
        let (mut one, mut two) = (Talk::to(&path), Talk::to(&path));
        assert_eq!(one.say("remove"), "ok\n");
        assert_eq!(two.say("remove"), "error: there is no card in slot 0\n");
        assert_eq!(two.say("insert"), "ok\n");
        assert_eq!(one.say("unplug"), "ok\n");
        assert!(!port.is_plugged());
        drop(two);
        assert_eq!(one.say("violations"), "ok\n");
        let busy = Control::listen(&path, Hands::of("default").unwrap()).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::AddrInUse);
        drop(control);
        assert!(!path.exists());
        assert_eq!(one.0.read_line(&mut String::new()).unwrap(), 0, "hung up");
    }

    #[test]
    fn what_lies_in_the_way() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let control = Control::listen(&path, Hands::of("empty").unwrap()).unwrap();
        assert_eq!(Talk::to(&path).say("insert"), "ok\n");
        drop(control);
        fs::write(&path, "precious").unwrap();
        assert!(Control::listen(&path, Hands::of("empty").unwrap()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn who_says_too_much_is_hung_up_on() {
        let path = path("much");
        let _control = Control::listen(&path, Hands::of("default").unwrap()).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        // The rest may meet a closed connection.
        let _ = stream.write_all(&[b'x'; 10 * MAX_LINE]);
        assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
        assert_eq!(Talk::to(&path).say("violations"), "ok\n");
    }
}
