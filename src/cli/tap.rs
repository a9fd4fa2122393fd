//! A transport that writes down what goes over the one inside it.

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::{ClassRequest, Message, SetupPacket, dissect};
use crossbeam_channel::Sender;
use ifd::transport::{Completion, DeviceInfo, Pipe, TransferError, Transport};
use std::task::{Context, Poll};
use std::time::Duration;

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
    /// bMessageType, of a bulk message.
    pub(crate) message_type: Option<u8>,
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

    fn tell(&self, pipe: Pipe, out: bool, text: String, message_type: Option<u8>) {
        let at = std::time::Instant::now();
        // Nobody listens any more: fine.
        let _ = self.told.send(Passed { at, pipe, out, text, message_type });
    }

    fn tell_message(&self, pipe: Pipe, out: bool, bytes: &[u8]) {
        let whole = pipe != Pipe::BulkIn || Message::parse(bytes).is_ok();
        let text = match whole {
            true => dissect(bytes).to_string(),
            // A long one comes in several transfers.
            false => format!("a part of a message, {} bytes", bytes.len()),
        };
        let message_type = bytes.first().copied().filter(|_| pipe != Pipe::Interrupt);
        self.tell(pipe, out, text, message_type);
    }
}

/// A control request in a line.
pub(crate) fn request(setup: &SetupPacket) -> String {
    match ClassRequest::parse(setup) {
        Ok(ClassRequest::Abort { slot, seq }) => format!("ABORT request {slot} {seq}"),
        Ok(ClassRequest::GetClockFrequencies { .. }) => "GET_CLOCK_FREQUENCIES request".into(),
        Ok(ClassRequest::GetDataRates { .. }) => "GET_DATA_RATES request".into(),
        _ => format!("request {:02X?}", setup.to_bytes()),
    }
}

impl<T: Transport> Transport for Tap<T> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn submit_control(&mut self, setup: SetupPacket, data: Bytes, timeout: Duration) {
        self.tell(Pipe::Control, true, request(&setup), None);
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
                (pipe, Err(error)) => self.tell(pipe, false, error.to_string(), None),
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

    #[test]
    fn an_abort_request_is_named() {
        let setup = SetupPacket::from_bytes([0x21, 1, 2, 0x35, 0, 0, 0, 0]);
        assert_eq!(request(&setup), "ABORT request slot 2 seq 53");
        let setup = SetupPacket::from_bytes([0x80, 6, 0, 1, 0, 0, 18, 0]);
        assert_eq!(request(&setup), "request [80, 06, 00, 01, 00, 00, 12, 00]");
    }
}
