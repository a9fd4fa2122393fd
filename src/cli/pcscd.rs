//! As much of pcscd's protocol as is needed to end what a reader is doing: a Unix socket, fixed
//! structures in the machine's byte order. No library stands between: none has to be installed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where pcscd listens, if PCSCLITE_CSOCK_NAME does not say.
const SOCKET: &str = "/run/pcscd/pcscd.comm";

/// None of the calls made here waits for a card.
const PATIENCE: Duration = Duration::from_secs(10);

const MAJOR: u32 = 4;
/// The oldest that is understood; newer daemons take it, those in between want their own.
const MINOR: u32 = 4;

const ESTABLISH_CONTEXT: u32 = 0x01;
const CONNECT: u32 = 0x04;
const DISCONNECT: u32 = 0x06;
const SET_ATTRIB: u32 = 0x10;
const VERSION: u32 = 0x11;
const GET_READERS_STATE: u32 = 0x12;

const NAME_LEN: usize = 128;
const READER_STATE_LEN: usize = 184;
const READERS: usize = 16;
const ATTRIBUTE_LEN: usize = 264;

const SHARE_DIRECT: u32 = 3;
const ATTR_ESC_CANCEL: u32 = 0x0007_A003;

/// Why pcscd did not do it.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It cannot be spoken to.
    Io(io::Error),
    /// It speaks another version of its protocol.
    Version(u32, u32),
    /// It refused, with this code of PC/SC's.
    Refused(&'static str, u32),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection, which is a context.
pub(crate) struct Pcscd {
    socket: UnixStream,
    context: u32,
}

/// The socket's path.
pub(crate) fn socket() -> PathBuf {
    std::env::var_os("PCSCLITE_CSOCK_NAME").map_or_else(|| SOCKET.into(), PathBuf::from)
}

impl Pcscd {
    /// Connects to the one that listens at `path`.
    pub(crate) fn connect(path: &Path) -> Result<Self, Problem> {
        let (socket, own) = Self::open(path, MINOR)?;
        let mut pcscd = match own {
            None => Self { socket, context: 0 },
            Some((MAJOR, minor)) => match Self::open(path, minor)? {
                (socket, None) => Self { socket, context: 0 },
                (_, Some((major, minor))) => return Err(Problem::Version(major, minor)),
            },
            Some((major, minor)) => return Err(Problem::Version(major, minor)),
        };
        // dwScope, hContext, rv
        let mut fields = Fields::new(12);
        fields.put(0, 2);
        pcscd.call(ESTABLISH_CONTEXT, "SCardEstablishContext", &mut fields, 8)?;
        pcscd.context = fields.take(4);
        Ok(pcscd)
    }

    /// Asks for a version: the socket, and the daemon's version if it wants that instead.
    #[allow(clippy::type_complexity)] // A version is a pair.
    fn open(path: &Path, minor: u32) -> Result<(UnixStream, Option<(u32, u32)>), Problem> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // major, minor, rv
        let mut fields = Fields::new(12);
        fields.put(0, MAJOR);
        fields.put(4, minor);
        exchange(&socket, VERSION, &fields.0.clone(), &mut fields.0)?;
        let other = fields.take(8) != 0;
        Ok((socket, other.then(|| (fields.take(0), fields.take(4)))))
    }

    /// The readers' names.
    pub(crate) fn readers(&mut self) -> Result<Vec<String>, Problem> {
        let mut states = vec![0; READERS * READER_STATE_LEN];
        exchange(&self.socket, GET_READERS_STATE, &[], &mut states)?;
        let names = states.chunks_exact(READER_STATE_LEN).filter_map(|state| {
            let name = state.get(..NAME_LEN)?.split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(name).into_owned())
        });
        Ok(names.filter(|name| !name.is_empty()).collect())
    }

    /// Has the driver abort what `reader` is doing, by the attribute that stands for it.
    pub(crate) fn cancel(&mut self, reader: &str) -> Result<(), Problem> {
        // hContext, szReader, dwShareMode, dwPreferredProtocols, hCard, dwActiveProtocol, rv
        let mut fields = Fields::new(152);
        fields.put(0, self.context);
        fields.put_bytes(4, reader.as_bytes());
        fields.put(132, SHARE_DIRECT);
        self.call(CONNECT, "SCardConnect", &mut fields, 148)?;
        let card = fields.take(140);
        // hCard, dwAttrId, pbAttr, cbAttrLen, rv
        let mut fields = Fields::new(16 + ATTRIBUTE_LEN);
        fields.put(0, card);
        fields.put(4, ATTR_ESC_CANCEL);
        fields.put(8 + ATTRIBUTE_LEN, 1);
        let set = self.call(SET_ATTRIB, "SCardSetAttrib", &mut fields, 12 + ATTRIBUTE_LEN);
        // hCard, dwDisposition, rv; the card is left as it is.
        let mut fields = Fields::new(12);
        fields.put(0, card);
        self.call(DISCONNECT, "SCardDisconnect", &mut fields, 8)?;
        set
    }

    fn call(
        &mut self,
        command: u32,
        name: &'static str,
        fields: &mut Fields,
        rv: usize,
    ) -> Result<(), Problem> {
        let request = fields.0.clone();
        exchange(&self.socket, command, &request, &mut fields.0)?;
        match fields.take(rv) {
            0 => Ok(()),
            code => Err(Problem::Refused(name, code)),
        }
    }
}

/// Sends a request behind its header, and receives an answer, which has none.
fn exchange(
    mut socket: &UnixStream,
    command: u32,
    request: &[u8],
    answer: &mut [u8],
) -> io::Result<()> {
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    let mut message = [length.to_ne_bytes(), command.to_ne_bytes()].concat();
    message.extend_from_slice(request);
    socket.write_all(&message)?;
    socket.read_exact(answer)
}

/// A structure of numbers, by offset.
struct Fields(Vec<u8>);

impl Fields {
    fn new(length: usize) -> Self {
        Self(vec![0; length])
    }

    fn put(&mut self, at: usize, value: u32) {
        self.put_bytes(at, &value.to_ne_bytes());
    }

    fn put_bytes(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    fn take(&self, at: usize) -> u32 {
        let field = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        field.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}
