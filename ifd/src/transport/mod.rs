//! The four pipes of a CCID interface: control, bulk-OUT, bulk-IN, interrupt-IN.
//!
//! A [`Transport`] carries bytes and knows no protocol. Transfers are submitted, and completions
//! polled for; nothing blocks. What runs on one transport runs on all: real USB ([`usb`]), the
//! simulated reader ([`sim`]), a recorded trace ([`replay`]). [`iccd`] wraps any of them whose
//! device speaks ICCD, so that it looks like a reader with bulk pipes; on [`fault`] things go wrong
//! to order, and [`record`] writes down what goes over it.

pub mod descriptors;
pub mod fault;
pub mod iccd;
pub mod record;
pub mod replay;
pub mod sim;
pub mod usb;

use bytes::Bytes;
use ccid::wire::SetupPacket;
use ccid::{ClassDescriptor, Instant};
use descriptors::CcidInterface;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

/// One of the four pipes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pipe {
    /// Endpoint 0: class requests.
    Control,
    /// Commands.
    BulkOut,
    /// Responses.
    BulkIn,
    /// Card movement and hardware errors.
    Interrupt,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::BulkOut => "bulk-OUT",
            Self::BulkIn => "bulk-IN",
            Self::Interrupt => "interrupt-IN",
        })
    }
}

/// Why a transfer failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// Cancelled by [`Transport::cancel`], or the control transfer's timeout has passed.
    Cancelled,
    /// The device answered STALL; a bulk or interrupt pipe stays halted until cleared.
    Stall,
    /// The device is gone. Every further transfer ends so.
    Disconnected,
    /// An error on the bus.
    Fault,
    /// The system refused the transfer; its error number.
    System(u32),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Stall => f.write_str("stalled by the device"),
            Self::Disconnected => f.write_str("device gone"),
            Self::Fault => f.write_str("bus error"),
            Self::System(code) => write!(f, "refused by the system (error {code})"),
        }
    }
}

impl std::error::Error for TransferError {}

/// The end of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Where it ran.
    pub pipe: Pipe,
    /// What came, for IN and control-IN transfers; empty for OUT. A cancelled IN transfer that had
    /// received something ends `Ok` with that.
    pub result: Result<Bytes, TransferError>,
    /// An IN transfer that ended because all that was asked for had come, not by a short packet:
    /// the message may go on in the next transfer.
    pub full: bool,
}

/// What is known of a device before a word is said to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// idVendor.
    pub vendor_id: u16,
    /// idProduct.
    pub product_id: u16,
    /// bcdDevice.
    pub bcd_device: u16,
    /// iManufacturer's text, if any.
    pub manufacturer: Option<String>,
    /// iProduct's text, if any.
    pub product: Option<String>,
    /// iSerialNumber's text, if any.
    pub serial_number: Option<String>,
    /// iInterface's text, if any.
    pub interface_name: Option<String>,
    /// bInterfaceNumber.
    pub interface: u8,
    /// Number of the bus, 0 where there is none.
    pub bus: u8,
    /// Address on the bus, 0 where there is none.
    pub address: u8,
    /// bInterfaceProtocol: 0 for bulk CCID, 1 and 2 for the two ICCD dialects.
    pub interface_protocol: u8,
    /// The class descriptor.
    pub class: ClassDescriptor,
    /// wMaxPacketSize of bulk-IN.
    pub bulk_in_packet: usize,
    /// wMaxPacketSize of the interrupt pipe, if there is one.
    pub interrupt_packet: Option<usize>,
}

impl DeviceInfo {
    /// A device of which only its class is known: with bulk packets of full speed, and no interrupt
    /// pipe.
    pub const fn of_class(class: ClassDescriptor) -> Self {
        Self {
            vendor_id: 0,
            product_id: 0,
            bcd_device: 0,
            manufacturer: None,
            product: None,
            serial_number: None,
            interface_name: None,
            interface: 0,
            bus: 0,
            address: 0,
            interface_protocol: 0,
            class,
            bulk_in_packet: 64,
            interrupt_packet: None,
        }
    }
}

/// The four pipes of one CCID interface.
///
/// One owner drives it. Order within a pipe is kept: transfers complete as submitted. After
/// [`TransferError::Disconnected`] everything submitted completes so.
pub trait Transport: Send {
    /// The device.
    fn info(&self) -> &DeviceInfo;

    /// The interface with its endpoints and the descriptors of its device, where the transport
    /// knows them.
    fn interface(&self) -> Option<&CcidInterface> {
        None
    }

    /// Queues a control transfer; `data` is the data stage of an OUT request. It ends within
    /// `timeout`, as [`TransferError::Cancelled`] if not before. At most one at a time.
    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration);

    /// Queues a bulk-OUT transfer. No zero-length packet follows it.
    fn submit_out(&mut self, message: Bytes);

    /// Queues an IN transfer on [`Pipe::BulkIn`] or [`Pipe::Interrupt`] of at least `length`
    /// bytes, rounded up to whole packets. It ends at a short packet, or full.
    fn submit_in(&mut self, pipe: Pipe, length: usize);

    /// The next completion. Pending only after the waker has been arranged to be woken when there
    /// is one.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion>;

    /// When to poll again even if the waker was not woken; for transports that keep time
    /// themselves.
    fn poll_deadline(&self) -> Option<Instant> {
        None
    }

    /// Asks that all transfers queued on `pipe` end; they still complete, through
    /// [`poll`](Self::poll).
    fn cancel(&mut self, pipe: Pipe);

    /// Clears the halt of a stalled bulk or interrupt pipe on which nothing is queued. Blocks for
    /// as long as the system gives the request.
    ///
    /// # Errors
    /// The transfer error of the request.
    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError>;

    /// Resets the device: the last resort for one that answers nothing any more. The transport is
    /// of no use afterwards; the device has to be opened anew. Blocks for as long as the system
    /// takes for it.
    ///
    /// # Errors
    /// [`TransferError::System`] where a transport cannot do that.
    fn reset(&mut self) -> Result<(), TransferError> {
        const NOT_SUPPORTED: TransferError = TransferError::System(95);
        Err(NOT_SUPPORTED)
    }
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn info(&self) -> &DeviceInfo {
        (**self).info()
    }

    fn interface(&self) -> Option<&CcidInterface> {
        (**self).interface()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        (**self).submit_control(setup, data, timeout);
    }

    fn submit_out(&mut self, message: Bytes) {
        (**self).submit_out(message);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        (**self).submit_in(pipe, length);
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        (**self).poll(cx, now)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        (**self).poll_deadline()
    }

    fn cancel(&mut self, pipe: Pipe) {
        (**self).cancel(pipe);
    }

    fn clear_halt(&mut self, pipe: Pipe) -> Result<(), TransferError> {
        (**self).clear_halt(pipe)
    }

    fn reset(&mut self) -> Result<(), TransferError> {
        (**self).reset()
    }
}
