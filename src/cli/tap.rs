//! A transport that writes down what goes over the one inside it.

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::{Message, SetupPacket, dissect};
use crossbeam_channel::Sender;
use ifd::transport::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use sim::reader::describe_request;
use std::task::{Context, Poll};
use std::time::Duration;

/// bMessageType of PC_to_RDR_XfrBlock.
const XFR_BLOCK: u8 = 0x6F;

/// bmRequestType and bRequest of ICCD's XFR_BLOCK.
const ICCD_XFR_BLOCK: (u8, u8) = (0x21, 0x65);

/// Something that went over the wire, as the host sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    /// When.
    pub(crate) at: std::time::Instant,
    /// Over which pipe.
    pub(crate) pipe: Pipe,
    /// Towards the reader.
    pub(crate) out: bool,
    /// What, in a line.
    pub(crate) text: String,
    /// A command to the card begins with it.
    pub(crate) exchange: bool,
}

/// A transport that tells what goes over it.
pub(crate) struct Tap<T> {
    inner: T,
    told: Sender<Passed>,
}

impl<T: Transport> Tap<T> {
    /// Taps `inner`; what goes over it is told through the channel.
    pub(crate) fn new(inner: T, told: Sender<Passed>) -> Self {
        Self { inner, told }
    }

    fn tell(&self, pipe: Pipe, out: bool, text: String, exchange: bool) {
        let at = std::time::Instant::now();
        // Nobody listens any more: fine.
        let _ = self.told.send(Passed { at, pipe, out, text, exchange });
    }

    fn tell_message(&self, pipe: Pipe, out: bool, bytes: &[u8]) {
        let whole = pipe != Pipe::BulkIn || Message::parse(bytes).is_ok();
        let text = match whole {
            true => dissect(bytes).to_string(),
            // A long one comes in several transfers.
            false => format!("a part of a message, {} bytes", bytes.len()),
        };
        self.tell(pipe, out, text, bytes.first() == Some(&XFR_BLOCK));
    }
}

impl<T: Transport> Transport for Tap<T> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        let exchange = (setup.request_type, setup.request) == ICCD_XFR_BLOCK;
        self.tell(Pipe::Control, true, describe_request(&setup), exchange);
        self.inner.submit_control(setup, data, timeout);
    }

    fn submit_out(&mut self, message: Bytes) {
        self.tell_message(Pipe::BulkOut, true, &message);
        self.inner.submit_out(message);
    }

    fn submit_in(&mut self, pipe: Pipe, length: usize) {
        self.inner.submit_in(pipe, length);
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Completion> {
        let polled = self.inner.poll(cx, now);
        if let Poll::Ready(completion) = &polled {
            match (completion.pipe, &completion.result) {
                (pipe @ (Pipe::BulkIn | Pipe::Interrupt), Ok(bytes)) if !bytes.is_empty() => {
                    self.tell_message(pipe, false, bytes);
                }
                // What goes out is told when it goes; empty transfers are none.
                (_, Ok(_)) | (_, Err(TransferError::Cancelled)) => {}
                (pipe, Err(error)) => self.tell(pipe, false, error.to_string(), false),
            }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use ifd::transport::sim::SimTransport;
    use scard::{Context, Protocols, ShareMode, Stack};
    use sim::Port;

    #[test]
    fn both_directions_are_told() {
        let reader = sim::presets::by_name("default").unwrap();
        let (told, passed) = crossbeam_channel::unbounded();
        let tap = Tap::new(SimTransport::new(Port::new(reader)).unwrap(), told);
        let stack = Stack::empty();
        stack.attach(tap).unwrap();
        let context = Context::on(&stack).unwrap();
        let name = context.list_readers_owned().unwrap().remove(0);
        let card = context.connect(&name, ShareMode::Shared, Protocols::ANY).unwrap();
        card.transmit_owned(&[0x00, 0x10, 0, 0, 1, 0xAB], None).unwrap();
        drop((card, context, stack));
        let lines: Vec<_> = passed.iter().map(|passed| (passed.out, passed.text)).collect();
        let has = |out, text: &str| lines.iter().any(|(o, t)| *o == out && t.contains(text));
        assert!(has(true, "IccPowerOn") && has(false, "NotifySlotChange"), "{lines:?}");
        assert!(has(true, "XfrBlock") && has(false, ": AB 90 00"), "{lines:?}");
    }
}
