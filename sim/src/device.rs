//! What a simulated USB device is to those who drive it: four pipes and a timer.

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;

/// A device's descriptors and what the host reads from it when it enumerates it.
#[derive(Clone, Debug)]
pub struct Descriptors {
    /// The 18 bytes of the device descriptor.
    pub device: Bytes,
    /// The configuration descriptor with its interface, class and endpoint descriptors.
    pub configuration: Bytes,
    /// String descriptors as text: index 1 is the first.
    pub strings: Vec<String>,
}

/// The end of a control transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlReply {
    /// Accepted; the data stage of an IN request (empty for OUT).
    Data(Bytes),
    /// STALL.
    Stall,
}

/// One side of the wire: a USB device with one CCID interface. Sans-IO: time is given, and
/// nothing blocks. One call at a time; after any call, whoever drives the device polls it.
pub trait Device: Send {
    /// The descriptors.
    fn descriptors(&self) -> &Descriptors;

    /// A class or vendor request on the control pipe, with the data stage of an OUT request.
    /// Standard requests are the driver's business, not the device's.
    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply;

    /// Whether the bulk-OUT endpoint takes data now; false is what USB calls NAK.
    fn accepts_bulk_out(&self) -> bool {
        true
    }

    /// One bulk-OUT transfer. Only called while [`accepts_bulk_out`](Self::accepts_bulk_out).
    fn bulk_out(&mut self, data: &[u8], now: Instant);

    /// The next bulk-IN packet, of at most wMaxPacketSize bytes; an empty one is a zero-length
    /// packet. None is what USB calls NAK.
    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes>;

    /// The next interrupt-IN packet.
    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes>;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if at all.
    fn poll_deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// The device has been plugged in, or its bus reset: everything back to its first state. What
    /// is in the slots stays there.
    fn reset(&mut self, now: Instant);
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn descriptors(&self) -> &Descriptors {
        (**self).descriptors()
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        (**self).control(setup, data, now)
    }

    fn accepts_bulk_out(&self) -> bool {
        (**self).accepts_bulk_out()
    }

    fn bulk_out(&mut self, data: &[u8], now: Instant) {
        (**self).bulk_out(data, now);
    }

    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes> {
        (**self).poll_bulk_in(now)
    }

    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes> {
        (**self).poll_interrupt(now)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        (**self).poll_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }

    fn reset(&mut self, now: Instant) {
        (**self).reset(now);
    }
}
