//! [`UsbdCcid`]: the class usbd-ccid 0.5.0 as a simulated device.
//!
//! The class, usb-device under it and the interchange behind it run as published. Around them
//! stands what a firmware has: a peripheral (`bus`), a card application (`card`) and the main loop
//! (`stack`), which asks for time extensions every second, as the class's interface wants it.
//!
//! What to know of the class (version 0.5.0):
//! * One slot, always with a card; extended APDU level, messages of at most 3072 bytes; answers
//!   come in parts of 54 bytes, each asked for by the host. No interrupt endpoint.
//! * It knows 62h, 63h, 65h, 6Ch, 6Fh and 72h. Anything else, and anything while an Abort is
//!   pending, is answered by a message whose type is **6Ch**, which is no RDR_to_PC type, with the
//!   status of a failed command.
//! * A bulk Abort is answered when the ABORT request has come; until then it is dropped by any
//!   other command.
//! * After an Abort the application still works on the aborted command and learns of it by the
//!   next XfrBlock, **which is lost without an answer** unless the application has finished by
//!   then.
//! * An ABORT request for another slot panics in debug builds; so does, in all, an XfrBlock whose
//!   dwLength promises more than came, of one packet. A panic is a firmware crash: see [`Seen`].

mod bus;
mod card;
mod enumerate;
mod stack;

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use enumerate::enumerate;
use sim::{ControlReply, Descriptors, Device};
use stack::{BULK_PACKET, Call, Firmware, Reply};
use std::collections::VecDeque;
use std::io;

/// Entries kept of what the device has seen; older ones are dropped.
const LOG_LENGTH: usize = 65_536;

/// What the device says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// idVendor.
    pub vendor_id: u16,
    /// idProduct.
    pub product_id: u16,
    /// bcdDevice.
    pub bcd_device: u16,
    /// iManufacturer's text.
    pub manufacturer: String,
    /// iProduct's text.
    pub product: String,
    /// iSerialNumber's text.
    pub serial_number: String,
}

impl Default for Identity {
    /// An id that is set aside for tests, 1209:0001.
    fn default() -> Self {
        Self {
            vendor_id: 0x1209,
            product_id: 0x0001,
            bcd_device: 0x0050,
            manufacturer: "usbd-ccid".into(),
            product: "0.5.0 peer".into(),
            serial_number: "1".into(),
        }
    }
}

/// Something that happened at the device's end of the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A control request; enumeration is not among them.
    Setup(SetupPacket),
    /// A bulk-OUT transfer.
    BulkOut(Bytes),
    /// A bulk-IN packet that the host has taken. This class sends no message of more than one.
    BulkIn(Bytes),
    /// The firmware has panicked, and said this. From here on the device stalls control requests,
    /// takes nothing and gives nothing, until it is reset.
    Crashed(String),
}

/// usbd-ccid as a device, with a small card in it: INS 10h echoes its data, 12h answers P1P2 bytes,
/// 14h answers after P1P2 milliseconds, 16h never, A4h answers 9000h, anything else 6D00h.
pub struct UsbdCcid {
    identity: Identity,
    descriptors: Descriptors,
    /// None once it has crashed.
    firmware: Option<Firmware>,
    /// Packets of bulk-OUT transfers that it does not take yet.
    out: VecDeque<Bytes>,
    bulk_in: Option<Bytes>,
    deadline: Option<Instant>,
    log: VecDeque<(Instant, Seen)>,
}

impl UsbdCcid {
    /// A device that has been plugged in and enumerated.
    ///
    /// # Errors
    /// If there is no thread to be had for it, or it does not enumerate.
    pub fn new(identity: Identity) -> io::Result<Self> {
        let (firmware, descriptors) = power_up(&identity, Instant::ZERO)?;
        Ok(Self {
            identity,
            descriptors,
            firmware: Some(firmware),
            out: VecDeque::new(),
            bulk_in: None,
            deadline: None,
            log: VecDeque::new(),
        })
    }

    /// What it has seen since the last call, oldest first; at most the last 65 536 entries.
    pub fn take_log(&mut self) -> Vec<(Instant, Seen)> {
        self.log.drain(..).collect()
    }

    /// The firmware has panicked; only a reset revives it.
    pub fn has_crashed(&self) -> bool {
        self.firmware.is_none()
    }

    fn note(&mut self, now: Instant, seen: Seen) {
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back((now, seen));
    }

    /// Does `call`, and with it whatever the device is ready for; what the control transfer ended
    /// with, if it was one.
    fn call(&mut self, call: Call, now: Instant) -> Option<ControlReply> {
        let Reply { control, mut accepts_bulk_out, .. } = self.call_once(call, now)?;
        while accepts_bulk_out {
            let Some(packet) = self.out.pop_front() else { break };
            accepts_bulk_out = self.call_once(Call::BulkOut(packet), now)?.accepts_bulk_out;
        }
        control
    }

    fn call_once(&mut self, call: Call, now: Instant) -> Option<Reply> {
        match self.firmware.as_mut()?.call(call, now) {
            Ok(mut reply) => {
                self.bulk_in = reply.bulk_in.take();
                self.deadline = reply.deadline;
                Some(reply)
            }
            Err(message) => {
                self.crash(message, now);
                None
            }
        }
    }

    fn crash(&mut self, message: String, now: Instant) {
        self.firmware = None;
        self.out.clear();
        self.bulk_in = None;
        self.deadline = None;
        self.note(now, Seen::Crashed(message));
    }
}

fn power_up(identity: &Identity, now: Instant) -> io::Result<(Firmware, Descriptors)> {
    let mut firmware = Firmware::start(identity.clone())?;
    let reply = firmware.call(Call::Enumerate, now).map_err(io::Error::other)?;
    let descriptors =
        reply.descriptors.ok_or_else(|| io::Error::other("usbd-ccid has not enumerated"))?;
    Ok((firmware, descriptors))
}

impl Device for UsbdCcid {
    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        self.note(now, Seen::Setup(setup));
        let call = Call::Control(setup, Bytes::copy_from_slice(data));
        self.call(call, now).unwrap_or(ControlReply::Stall)
    }

    fn accepts_bulk_out(&self) -> bool {
        self.firmware.is_some() && self.out.is_empty()
    }

    fn bulk_out(&mut self, data: &[u8], now: Instant) {
        let data = Bytes::copy_from_slice(data);
        if data.is_empty() {
            self.out.push_back(Bytes::new());
        }
        self.out.extend(data.chunks(BULK_PACKET).map(|packet| data.slice_ref(packet)));
        self.note(now, Seen::BulkOut(data));
        self.call(Call::Tick, now);
    }

    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes> {
        let packet = self.bulk_in.take()?;
        self.note(now, Seen::BulkIn(packet.clone()));
        self.call(Call::TakeBulkIn, now);
        Some(packet)
    }

    fn poll_interrupt(&mut self, _now: Instant) -> Option<Bytes> {
        None
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.call(Call::Tick, now);
    }

    fn reset(&mut self, now: Instant) {
        // The old one ends first: there is one device.
        self.firmware = None;
        self.out.clear();
        self.bulk_in = None;
        self.deadline = None;
        match power_up(&self.identity, now) {
            Ok((firmware, descriptors)) => {
                self.firmware = Some(firmware);
                self.descriptors = descriptors;
            }
            Err(error) => self.crash(error.to_string(), now),
        }
    }
}

impl std::fmt::Debug for UsbdCcid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { identity, deadline, .. } = self;
        f.debug_struct("UsbdCcid")
            .field("identity", identity)
            .field("crashed", &self.has_crashed())
            .field("deadline", deadline)
            .finish_non_exhaustive()
    }
}
