//! Cards from outside: any program that speaks the protocol of vsmartcard's vpcd is a card in a
//! simulated reader.
//!
//! The program connects by TCP to a port of this machine's (nobody else's programs can), and the
//! card is in for as long as it is connected; the next one waits its turn. Messages are two bytes
//! of length, the more significant first, and so many bytes. To the card go APDUs, and messages of
//! one byte: 00h power off, 01h power on, 02h reset, 04h for the ATR. From the card come the answers
//! to APDUs and the ATR, in order, and nothing else.
//!
//! The protocol has no way to end a command. After an Abort, or a reset that came too early, the
//! card's answer is waited for and dropped; until it has come the card is mute.

mod link;
#[cfg(test)]
mod tests;

use crate::hands::Hardware;
use crate::{Port, Reader};
use bytes::Bytes;
use ccid::Slot;
use link::{Link, OutsideCard, Reply};
use log::{debug, info, warn};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The port that programs connect to unless they are told otherwise.
pub const PORT: u16 = 35963;

const SLOT: Slot = Slot(0);

/// How often the reader asks for more time while the card works.
const EXTENSION: Duration = Duration::from_millis(500);

/// How long the reader waits for the ATR.
const ATR_TIME: Duration = Duration::from_secs(2);

/// So long a connection to oneself may take.
const KNOCK_TIME: Duration = Duration::from_secs(1);

/// A reader for cards that connect: one slot, extended APDU level, whatever the protocol of the ATR.
pub(crate) fn reader() -> Reader {
    Reader::builder().waiting_time(Some(ATR_TIME)).busy_extension(EXTENSION, 1).build()
}

/// Listens for as long as it lives; the card that is connected then is taken out.
#[derive(Debug)]
pub struct Vpcd {
    address: SocketAddr,
    life: Arc<Life>,
    thread: Option<JoinHandle<()>>,
}

impl Vpcd {
    /// Has programs that connect to `port` of this machine's loopback (0: any that is free) be the
    /// card in the first slot of the reader in `device`.
    ///
    /// # Errors
    /// Those of the system; [`ErrorKind::AddrInUse`] if somebody listens there already.
    pub(crate) fn listen(port: u16, device: Port<Box<dyn Hardware>>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let life = Arc::<Life>::default();
        let server = Server { listener, device, life: Arc::clone(&life) };
        let thread =
            std::thread::Builder::new().name("scard vpcd".into()).spawn(move || server.run())?;
        info!("cards connect to {address}");
        Ok(Self { address, life, thread: Some(thread) })
    }

    /// Where programs connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Vpcd {
    fn drop(&mut self) {
        self.life.end();
        // If it waits for a program, this is one.
        if let Err(error) = TcpStream::connect_timeout(&self.address, KNOCK_TIME) {
            debug!("vpcd: {error}");
        }
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                warn!("the thread that listened on {} has panicked", self.address);
            }
        }
    }
}

/// Whether the thread is to go on, and the connection that would keep it.
#[derive(Default, Debug)]
struct Life(Mutex<(bool, Option<TcpStream>)>);

impl Life {
    fn lock(&self) -> MutexGuard<'_, (bool, Option<TcpStream>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut life = self.lock();
        life.0 = true;
        if let Some(stream) = &life.1 {
            // One that is closed already is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// False: it is not to go on.
    fn serves(&self, stream: Option<TcpStream>) -> bool {
        let mut life = self.lock();
        life.1 = stream;
        !life.0
    }
}

struct Server {
    listener: TcpListener,
    device: Port<Box<dyn Hardware>>,
    life: Arc<Life>,
}

impl Server {
    fn run(self) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return warn!("no more cards can connect: {error}"),
            };
            let served = stream.try_clone().and_then(|kept| {
                if self.life.serves(Some(kept)) {
                    self.serve(stream).map(|()| true)
                } else {
                    Ok(false)
                }
            });
            match served {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => debug!("a card: {error}"),
            }
            if !self.life.serves(None) {
                return;
            }
        }
    }

    /// One program, from the insertion of its card to its removal.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (link, outgoing) = Link::new(stream.try_clone()?);
        let link = Arc::new(link);
        std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name("scard vpcd card".into());
            writer.spawn_scoped(scope, || link.write(outgoing))?;
            self.with_reader(|reader| drop(reader.insert(SLOT, OutsideCard::new(&link))));
            let result = self.listen_to(stream, &link);
            link.hang_up();
            self.with_reader(|reader| drop(reader.remove(SLOT)));
            result
        })
    }

    /// Passes on what comes, until the program hangs up or is out of step.
    fn listen_to(&self, mut stream: TcpStream, link: &Link) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message)?;
            let mut unasked = false;
            self.with_reader(|reader| match link.replied() {
                Reply::Awaited => drop(reader.card_answers(SLOT, Bytes::from(message))),
                Reply::TooLate => debug!("an answer to a command that was given up"),
                Reply::Unasked => unasked = true,
            });
            if unasked {
                warn!("a card that answers what was not asked is out of step: it is taken out");
                return Ok(());
            }
        }
    }

    fn with_reader(&self, act: impl FnOnce(&mut Reader)) {
        self.device.with(|device| device.reader().map(act));
    }
}
