//! A transport that writes down what goes over it: a wrapper around any other.
//!
//! The file is pcapng with packets as usbmon has them ([`trace`](crate::trace)); tcpdump and
//! Wireshark read it. First comes what the device says of itself when it is enumerated, then
//! submissions and completions of all four pipes. Each packet is in the file when the next thing
//! happens: whatever ends the program loses nothing before it. PINs are masked
//! ([`mask`](crate::trace::mask)) unless asked otherwise.

mod enumeration;

pub(crate) use enumeration::made_of;

use super::descriptors::CcidInterface;
use super::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use crate::environment;
use crate::trace::TransferType;
use crate::trace::mask::Masker;
use crate::trace::write::{self, Outgoing};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use log::{error, info};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

/// The environment variable that names the file to which all readers of a program are recorded.
pub const VARIABLE: &str = "SCARD_RECORD";

/// The one that says, by the value `1`, that PINs are not masked.
pub const VARIABLE_PINS: &str = "SCARD_RECORD_PINS";

const COMMENT: &str = "PINs are masked by asterisks: data of VERIFY, CHANGE REFERENCE DATA and \
    RESET RETRY COUNTER, and of PC_to_RDR_Secure";
const COMMENT_WITH_PINS: &str = "PINs are NOT masked";
const COMMENT_MASKED: &str = "PIN masked";

/// Bus that devices without one are given.
const NO_BUS: u16 = 0;

/// What PINs become in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pins {
    /// Asterisks.
    #[default]
    Masked,
    /// What they are.
    Kept,
}

/// A file that readers are recorded to. Clones are the same file.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Mutex<Sink>>);

#[derive(Debug)]
struct Sink {
    file: File,
    pins: Pins,
    urbs: u64,
    /// Devices without an address that have been given one.
    devices: u8,
    masked: u64,
    /// Writing has failed.
    failed: bool,
}

impl Recorder {
    /// Makes the file, or empties it. Nobody but its owner may read it.
    ///
    /// # Errors
    /// Those of making and writing it.
    pub fn create(path: &Path, pins: Pins) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let application = concat!("scard ", env!("CARGO_PKG_VERSION"));
        let comment = match pins {
            Pins::Masked => COMMENT,
            Pins::Kept => COMMENT_WITH_PINS,
        };
        write::head(&mut file, application, comment)?;
        let sink = Sink { file, pins, urbs: 0, devices: 0, masked: 0, failed: false };
        Ok(Self(Arc::new(Mutex::new(sink))))
    }

    /// Messages in which something was masked so far.
    pub fn masked(&self) -> u64 {
        self.lock().masked
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    fn urb(&mut self) -> u64 {
        self.urbs += 1;
        self.urbs
    }

    fn write(&mut self, packet: &Outgoing<'_>) {
        if self.failed {
            return;
        }
        if let Err(error) = write::packet(&mut self.file, packet) {
            error!("recording ends here: {error}");
            self.failed = true;
        }
    }
}

/// The recorder of the whole process, if there is one.
static OF_PROCESS: OnceLock<Option<Recorder>> = OnceLock::new();

/// Records all readers of this process that are opened from now on. False if that was decided
/// before: by another call, or by a reader that was opened.
pub fn record_all(recorder: Recorder) -> bool {
    OF_PROCESS.set(Some(recorder)).is_ok()
}

/// What the environment asks for ([`VARIABLE`]).
fn of_process() -> Option<Recorder> {
    let from_environment = || {
        let path = environment::var(VARIABLE)?;
        let pins = match environment::var(VARIABLE_PINS) {
            Some(value) if value == "1" => Pins::Kept,
            _ => Pins::Masked,
        };
        match Recorder::create(Path::new(&path), pins) {
            Ok(recorder) => {
                info!("recording to {}", Path::new(&path).display());
                Some(recorder)
            }
            Err(error) => {
                error!("{VARIABLE}: {}: {error}", Path::new(&path).display());
                None
            }
        }
    };
    OF_PROCESS.get_or_init(from_environment).clone()
}

/// A transport that is recorded, or not.
#[derive(Debug)]
pub struct Record<T> {
    inner: T,
    tape: Option<Tape>,
}

/// Where and how one device is recorded.
#[derive(Debug)]
struct Tape {
    recorder: Recorder,
    interface: CcidInterface,
    bus: u16,
    address: u8,
    masker: Masker,
    is_iccd: bool,
    /// Time since 1970 at the zero of the driver's clock; known from the first poll on.
    epoch: Option<Duration>,
    /// Submitted since the last poll, whose time is not known yet.
    submitted: Vec<Submitted>,
    control: VecDeque<u64>,
    out: VecDeque<(u64, usize)>,
    bulk_in: VecDeque<u64>,
    interrupt: VecDeque<u64>,
}

#[derive(Debug)]
struct Submitted {
    urb: u64,
    pipe: Pipe,
    setup: Option<SetupPacket>,
    length: usize,
    data: Bytes,
    masked: bool,
}

impl<T: Transport> Record<T> {
    /// `inner`, recorded.
    pub fn new(inner: T, recorder: &Recorder) -> Self {
        let tape = Some(Tape::new(&inner, recorder.clone()));
        Self { inner, tape }
    }

    /// `inner`, recorded if that was asked for: by [`record_all`], or by the environment.
    pub fn if_asked(inner: T) -> Self {
        let tape = of_process().map(|recorder| Tape::new(&inner, recorder));
        Self { inner, tape }
    }
}

impl Tape {
    fn new(transport: &impl Transport, recorder: Recorder) -> Self {
        let interface = match transport.interface() {
            Some(interface) => interface.clone(),
            None => made_of(transport.info()),
        };
        let info = &interface.info;
        let (bus, address) = match info.address {
            0 => {
                let mut sink = recorder.lock();
                sink.devices = sink.devices.wrapping_add(1).max(1);
                (NO_BUS, sink.devices)
            }
            address => (u16::from(info.bus), address),
        };
        let is_iccd = matches!(info.interface_protocol, 1 | 2);
        let masker = Masker::of(info);
        Self {
            recorder,
            bus,
            address,
            masker,
            is_iccd,
            interface,
            epoch: None,
            submitted: Vec::new(),
            control: VecDeque::new(),
            out: VecDeque::new(),
            bulk_in: VecDeque::new(),
            interrupt: VecDeque::new(),
        }
    }

    fn packet<'a>(&self, urb: u64, pipe: Pipe, time: Duration) -> Outgoing<'a> {
        let CcidInterface { bulk_out, bulk_in, interrupt, .. } = &self.interface;
        let (endpoint, transfer) = match pipe {
            Pipe::Control => (0, TransferType::Control),
            Pipe::BulkOut => (bulk_out.unwrap_or(0x01), TransferType::Bulk),
            Pipe::BulkIn => (bulk_in.unwrap_or(0x81), TransferType::Bulk),
            Pipe::Interrupt => (interrupt.unwrap_or(0x82), TransferType::Interrupt),
        };
        Outgoing {
            urb,
            bus: self.bus,
            address: self.address,
            endpoint,
            transfer,
            time,
            end: None,
            setup: None,
            length: 0,
            data: &[],
            comment: None,
        }
    }

    /// What the host submits, its PIN masked.
    fn submit(&mut self, pipe: Pipe, setup: Option<SetupPacket>, length: usize, data: &Bytes) {
        let recorder = self.recorder.clone();
        let mut sink = recorder.lock();
        let masked = match (sink.pins, pipe) {
            (Pins::Kept, _) => None,
            (_, Pipe::BulkOut) => self.masker.message(data),
            (_, Pipe::Control) if self.is_iccd => match setup {
                Some(setup) => self.masker.request(&setup, data),
                None => None,
            },
            _ => None,
        };
        sink.masked += u64::from(masked.is_some());
        let urb = sink.urb();
        match pipe {
            Pipe::Control => self.control.push_back(urb),
            Pipe::BulkOut => self.out.push_back((urb, data.len())),
            Pipe::BulkIn => self.bulk_in.push_back(urb),
            Pipe::Interrupt => self.interrupt.push_back(urb),
        }
        let (masked, data) = (masked.is_some(), masked.map_or_else(|| data.clone(), Bytes::from));
        self.submitted.push(Submitted { urb, pipe, setup, length, data, masked });
    }

    /// Writes what was submitted; the first time, what the device says of itself before it.
    fn flush(&mut self, now: Instant) {
        if self.submitted.is_empty() && self.epoch.is_some() {
            return;
        }
        let recorder = self.recorder.clone();
        let mut sink = recorder.lock();
        if self.epoch.is_none() {
            let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let since = now.saturating_since(Instant::ZERO);
            self.epoch = Some(today.unwrap_or_default().saturating_sub(since));
            self.enumerate(&mut sink, now);
        }
        let time = self.time(now);
        for submitted in std::mem::take(&mut self.submitted) {
            let Submitted { urb, pipe, setup, length, data, masked } = submitted;
            let packet = self.packet(urb, pipe, time);
            let endpoint = match setup {
                Some(setup) if setup.is_in() => 0x80,
                _ => packet.endpoint,
            };
            let comment = masked.then_some(COMMENT_MASKED);
            sink.write(&Outgoing { endpoint, setup, length, data: &data, comment, ..packet });
        }
    }

    fn time(&self, now: Instant) -> Duration {
        self.epoch.unwrap_or_default() + now.saturating_since(Instant::ZERO)
    }

    fn enumerate(&self, sink: &mut Sink, now: Instant) {
        for (setup, data) in enumeration::requests(&self.interface) {
            let urb = sink.urb();
            let packet =
                Outgoing { endpoint: 0x80, ..self.packet(urb, Pipe::Control, self.time(now)) };
            let length = usize::from(setup.length);
            sink.write(&Outgoing { setup: Some(setup), length, ..packet });
            let end = Some(Ok(()));
            sink.write(&Outgoing { end, length: data.len(), data: &data, ..packet });
        }
    }

    fn completed(&mut self, completion: &Completion, now: Instant) {
        let Completion { pipe, result, .. } = completion;
        let (urb, sent) = match pipe {
            Pipe::Control => (self.control.pop_front(), 0),
            Pipe::BulkOut => match self.out.pop_front() {
                Some((urb, length)) => (Some(urb), length),
                None => (None, 0),
            },
            Pipe::BulkIn => (self.bulk_in.pop_front(), 0),
            Pipe::Interrupt => (self.interrupt.pop_front(), 0),
        };
        let recorder = self.recorder.clone();
        let mut sink = recorder.lock();
        let urb = urb.unwrap_or_else(|| sink.urb());
        let data: &[u8] = result.as_ref().map_or(&[], |data| data);
        let packet = self.packet(urb, *pipe, self.time(now));
        let endpoint = match (pipe, data.is_empty()) {
            (Pipe::Control, false) => 0x80,
            _ => packet.endpoint,
        };
        let length = if result.is_ok() { data.len().max(sent) } else { 0 };
        let end = Some(result.as_ref().map(|_| ()).map_err(|error| *error));
        sink.write(&Outgoing { endpoint, end, length, data, ..packet });
    }
}

impl<T: Transport> Transport for Record<T> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn interface(&self) -> Option<&CcidInterface> {
        self.inner.interface()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        if let Some(tape) = &mut self.tape {
            tape.submit(Pipe::Control, Some(setup), usize::from(setup.length), &data);
        }
        self.inner.submit_control(setup, data, timeout);
    }

    fn submit_out(&mut self, message: Bytes) {
        if let Some(tape) = &mut self.tape {
            tape.submit(Pipe::BulkOut, None, message.len(), &message);
        }
        self.inner.submit_out(message);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        if let Some(tape) = &mut self.tape {
            tape.submit(pipe, None, length, &Bytes::new());
        }
        self.inner.submit_in(pipe, length);
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        if let Some(tape) = &mut self.tape {
            tape.flush(now);
        }
        let polled = self.inner.poll(cx, now);
        if let (Some(tape), Poll::Ready(completion)) = (&mut self.tape, &polled) {
            tape.completed(completion, now);
        }
        polled
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.inner.poll_deadline()
    }

    fn cancel(&mut self, pipe: Pipe) {
        self.inner.cancel(pipe);
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        self.inner.clear_halt(pipe)
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        self.inner.reset()
    }
}
