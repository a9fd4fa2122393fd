//! A simulated device on the kernel's USB, through Linux's vhci-hcd.
//!
//! [`attach`] puts whatever is on a [`Port`] where lsusb, usbfs and pcscd see it: one end of a
//! socket pair goes to the kernel, the other is served by a thread that speaks USB/IP. Neither a
//! server nor a network is involved. It takes root and `modprobe vhci-hcd`.
//!
//! What the kernel does not pass on: resets of the bus (it keeps them to itself) and halted
//! endpoints (a [`Device`] has none). What it does not carry: a bulk-IN transfer that is cancelled
//! gives nothing back, even if packets had come.

mod endpoints;
mod kernel;
mod standard;
#[cfg(test)]
mod tests;
mod usbip;

use crate::{Device, Port};
use bytes::Bytes;
use ccid::Instant;
use kernel::Kernel;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::task::{Wake, Waker};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use usbip::Link;

/// The speed at which a device is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Speed {
    /// 12 Mbit/s: bulk packets of at most 64 bytes.
    #[default]
    Full = 2,
    /// 480 Mbit/s: bulk packets of 512 bytes.
    High = 3,
}

/// How long the kernel may leave what is written to it unread before it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What [`Attachment::kernel_port`] is while there is none.
const NO_PORT: u32 = u32::MAX;

/// A device on the kernel's USB. It goes from there when this is dropped, and comes and goes with
/// [`Port::plug`] and [`Port::unplug`].
#[derive(Debug)]
pub struct Attachment {
    events: Sender<Event>,
    kernel_port: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

/// Puts the device on `port` on the kernel's USB, at full speed.
///
/// The kernel has it on a port when this returns and enumerates it from then on, which takes it
/// some tenths of a second. With nothing plugged in, the device comes up with [`Port::plug`]; if
/// that fails, the reason is logged.
///
/// # Errors
/// If the kernel module is missing, permission is, all ports are in use, or the kernel refuses the
/// device; the error says which, and what to do.
pub fn attach<D: Device + ?Sized + 'static>(port: Port<D>) -> io::Result<Attachment> {
    attach_at(port, Speed::default())
}

/// [`attach`] at a speed of choice.
///
/// # Errors
/// Those of [`attach`].
pub fn attach_at<D: Device + ?Sized + 'static>(
    port: Port<D>,
    speed: Speed,
) -> io::Result<Attachment> {
    let kernel = Kernel::new(speed);
    attach_through(port, move || kernel.connect())
}

/// [`attach`], with `connect` for the kernel: it gives the socket of a new attachment and the
/// number of its port.
fn attach_through<D: Device + ?Sized + 'static>(
    port: Port<D>,
    mut connect: impl FnMut() -> io::Result<(UnixStream, u32)> + Send + 'static,
) -> io::Result<Attachment> {
    let (events, inbox) = channel();
    let kernel_port = Arc::new(AtomicU32::new(NO_PORT));
    let mut server = Server {
        waker: Waker::from(Arc::new(Wakeup(events.clone()))),
        events: events.clone(),
        inbox,
        kernel_port: Arc::clone(&kernel_port),
        connections: 0,
    };
    let plugs = port.plugs();
    let first = match plugged(plugs) {
        true => Some((server.open(connect()?)?, plugs)),
        false => None,
    };
    let thread =
        Builder::new().name("vhci".into()).spawn(move || server.run(&port, first, &mut connect))?;
    Ok(Attachment { events, kernel_port, thread: Some(thread) })
}

impl Attachment {
    /// The number of the port of vhci-hcd that the device is on, as its `status` file has it; None
    /// while it is not attached: unplugged, or detached by somebody else.
    pub fn kernel_port(&self) -> Option<u32> {
        Some(self.kernel_port.load(Ordering::Acquire)).filter(|port| *port != NO_PORT)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in it was the device's, and has been reported as such.
            let _ = thread.join();
        }
    }
}

/// What the thread waits for, besides the device's timer.
#[derive(Debug)]
enum Event {
    /// Somebody has handled the hardware, plugged or unplugged.
    Woken,
    /// Bytes came over the connection of that number, or none will any more.
    Received(u64, Bytes),
    Closed(u64),
    /// The attachment has been dropped.
    Stop,
}

struct Wakeup(Sender<Event>);

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(Event::Woken);
    }
}

/// A socket to the kernel, read by a thread of its own.
struct Connection {
    number: u64,
    stream: UnixStream,
    reader: Option<JoinHandle<()>>,
    kernel_port: Arc<AtomicU32>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kernel_port.store(NO_PORT, Ordering::Release);
        // Ends the reader, too; and the kernel takes the device away.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Why a connection ended.
enum End {
    Unplugged,
    /// By the kernel, or because it could not be understood.
    Closed,
    Stopped,
}

/// The thread's state while nothing is attached.
struct Server {
    events: Sender<Event>,
    inbox: Receiver<Event>,
    waker: Waker,
    kernel_port: Arc<AtomicU32>,
    connections: u64,
}

impl Server {
    fn open(&mut self, (stream, kernel_port): (UnixStream, u32)) -> io::Result<Connection> {
        self.connections += 1;
        let number = self.connections;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let source = stream.try_clone()?;
        let events = self.events.clone();
        self.kernel_port.store(kernel_port, Ordering::Release);
        let kernel_port = Arc::clone(&self.kernel_port);
        let mut connection = Connection { number, stream, reader: None, kernel_port };
        let reader = Builder::new()
            .name("vhci-reader".into())
            .spawn(move || read_all(source, number, &events))?;
        connection.reader = Some(reader);
        Ok(connection)
    }

    fn run<D: Device + ?Sized>(
        mut self,
        port: &Port<D>,
        mut connection: Option<(Connection, u64)>,
        connect: &mut dyn FnMut() -> io::Result<(UnixStream, u32)>,
    ) {
        loop {
            if let Some((connection, plugs)) = connection.take() {
                match self.serve(port, connection, plugs) {
                    End::Stopped => return,
                    End::Unplugged => {}
                    End::Closed => log::warn!("vhci: the kernel has let go of the device"),
                }
                // Closed: it stays away until it is plugged in anew.
                if !self.wait_for_change(port, plugs) {
                    return;
                }
            }
            let plugs = port.plugs();
            if plugged(plugs) {
                match connect().and_then(|socket| self.open(socket)) {
                    Ok(opened) => connection = Some((opened, plugs)),
                    Err(error) => log::error!("vhci: {error}"),
                }
            }
            if connection.is_none() && !self.wait_for_change(port, plugs) {
                return;
            }
        }
    }

    /// Waits until the port's plug is no longer as in `plugs`; false if the attachment has been
    /// dropped.
    fn wait_for_change<D: Device + ?Sized>(&self, port: &Port<D>, plugs: u64) -> bool {
        while port.drive(plugs, &self.waker, |_| ()).is_some() {
            if !matches!(
                self.inbox.recv(),
                Ok(Event::Woken | Event::Received(..) | Event::Closed(_))
            ) {
                return false;
            }
        }
        true
    }

    fn serve<D: Device + ?Sized>(
        &self,
        port: &Port<D>,
        mut connection: Connection,
        plugs: u64,
    ) -> End {
        let start = port.drive(plugs, &self.waker, |device| {
            device.reset(now());
            Link::new(device.descriptors())
        });
        let Some(mut link) = start else { return End::Unplugged };
        loop {
            let driven = port.drive(plugs, &self.waker, |device| {
                link.drive(device, now()).map(|()| device.poll_deadline())
            });
            let deadline = match driven {
                None => return End::Unplugged,
                Some(Ok(deadline)) => deadline,
                Some(Err(error)) => {
                    log::error!("vhci: {error}");
                    return End::Closed;
                }
            };
            if connection.stream.write_all(&link.take_output()).is_err() {
                return End::Closed;
            }
            match self.next_event(deadline) {
                Some(Event::Received(number, bytes)) if number == connection.number => {
                    link.receive(&bytes);
                }
                Some(Event::Closed(number)) if number == connection.number => return End::Closed,
                Some(Event::Stop) => return End::Stopped,
                // Of an earlier connection, or the device wants to be polled.
                Some(Event::Received(..) | Event::Closed(_) | Event::Woken) | None => {}
            }
        }
    }

    /// The next event; None if `deadline` comes first.
    fn next_event(&self, deadline: Option<Instant>) -> Option<Event> {
        let Some(deadline) = deadline else {
            return Some(self.inbox.recv().unwrap_or(Event::Stop));
        };
        match self.inbox.recv_timeout(deadline - now()) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
        }
    }
}

/// Passes on what comes over a connection until its end.
fn read_all(mut source: UnixStream, number: u64, events: &Sender<Event>) {
    let mut buffer = [0; 4096];
    loop {
        match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(count) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                let _ = events.send(Event::Received(number, Bytes::copy_from_slice(bytes)));
            }
            Ok(_) | Err(_) => break,
        }
    }
    let _ = events.send(Event::Closed(number));
}

/// Odd while plugged in.
fn plugged(plugs: u64) -> bool {
    plugs % 2 == 1
}

/// The time of all attachments of this process.
fn now() -> Instant {
    static EPOCH: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Instant::from_duration(EPOCH.elapsed())
}
