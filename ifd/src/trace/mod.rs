//! Recorded USB traffic of a reader.
//!
//! A [`Trace`] is what went over the four pipes of one CCID interface, in order, with the device's
//! descriptors as they were read when it was enumerated. It comes from a pcap or pcapng file of
//! usbmon packets (Windows: USBPcap's): what [`record`](crate::transport::record) writes, tcpdump's, Wireshark's, or that
//! of QEMU's `pcap` property; or from text: usbmon's own, a log of libccid's or of
//! scdaemon's. [`Events`] reads a file of any length piece by piece.

mod events;
pub mod mask;
mod pcap;
mod pcapng;
mod scdaemon;
mod text;
mod usbmon;
mod usbpcap;
pub(crate) mod write;

use crate::transport::descriptors::{BadDescriptors, CcidInterface, UnusableInterface};
use crate::transport::record::made_of;
use crate::transport::{DeviceInfo, TransferError};
use bytes::Bytes;
use ccid::ClassDescriptor;
use ccid::wire::SetupPacket;
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

pub use events::{DeviceKey, Events, Recorded};
pub(crate) use usbmon::TransferType;

/// Something that happened on the pipes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The packet's number in the file, from 1 on.
    pub packet: u64,
    /// Since the first packet of the file.
    pub time: Duration,
    /// What it was.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The host sent this over bulk-OUT.
    Out(Bytes),
    /// This came over bulk-IN: a transfer, or a packet of one; it may be empty.
    In(Bytes),
    /// This came over the interrupt pipe.
    Interrupt(Bytes),
    /// A class or vendor request, with the data of its data stage or the way it failed.
    Control {
        /// The SETUP packet.
        setup: SetupPacket,
        /// Data of an OUT request.
        data: Bytes,
        /// Its end; the data of an IN request.
        result: Result<Bytes, TransferError>,
    },
}

/// The recorded traffic of one CCID interface.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The interface.
    pub interface: CcidInterface,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Why a file is not a trace.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// It cannot be read.
    Io(io::Error),
    /// It is neither a pcap nor a pcapng file, nor text of a kind that is known.
    NotPcap,
    /// Its link type is not one of USB's (189, 220, 249).
    LinkType(u32),
    /// A packet is malformed.
    Packet {
        /// Its number in the file, from 1 on.
        packet: u64,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// No device of the trace has a usable CCID interface, or its enumeration was not recorded.
    NoReader,
    /// Its descriptors are none.
    Descriptors(BadDescriptors),
    /// Its interface cannot be used.
    Unusable(UnusableInterface),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotPcap => f.write_str("neither a pcap nor a pcapng file, nor text of usbmon or a log with messages of CCID"),
            Self::LinkType(n) => write!(f, "link type {n} is not one of USB's (189, 220, 249)"),
            Self::Packet { packet, fault } => write!(f, "packet {packet}: {fault}"),
            Self::NoReader => {
                f.write_str("no CCID interface: was the device plugged in before the recording?")
            }
            Self::Descriptors(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TraceError {}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Which interface of which device of a capture is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// The device; none: the first that has a usable CCID interface.
    pub device: Option<DeviceKey>,
    /// bInterfaceNumber; none: the first CCID interface.
    pub interface: Option<u8>,
    /// The class descriptor, for a file that has none: a log.
    pub class: Option<ClassDescriptor>,
}

impl Trace {
    /// Reads a file and takes the traffic of the first CCID interface in it.
    ///
    /// # Errors
    /// [`TraceError`], which names the packet where one is at fault.
    pub fn read(file: impl Read) -> Result<Self, TraceError> {
        Self::read_chosen(file, Choice::default())
    }

    /// Reads a file and takes the traffic of the interface chosen.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_chosen(file: impl Read, choice: Choice) -> Result<Self, TraceError> {
        let mut events = Events::new(file)?;
        let mut recorded = Vec::new();
        for event in events.by_ref() {
            let event = event?;
            if choice.device.is_none_or(|device| device == event.device) {
                recorded.push(event);
            }
        }
        let mut fault = TraceError::NoReader;
        for device in events.devices() {
            if choice.device.is_some_and(|chosen| chosen != device) {
                continue;
            }
            match events.interface(device, choice.interface) {
                Ok(Some(interface)) => return Self::of(interface, device, recorded),
                Ok(None) => {
                    if let Some(class) = choice.class {
                        return Self::of(made_of(&DeviceInfo::of_class(class)), device, recorded);
                    }
                }
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    fn of(
        interface: CcidInterface,
        device: DeviceKey,
        recorded: Vec<Recorded>,
    ) -> Result<Self, TraceError> {
        let mut events = Vec::new();
        for recorded in recorded {
            if recorded.device != device || !recorded.is_of(&interface) {
                continue;
            }
            if recorded.cut {
                let fault = "only part of its data was recorded";
                return Err(TraceError::Packet { packet: recorded.event.packet, fault });
            }
            events.push(recorded.event);
        }
        Ok(Self { interface, events })
    }
}
