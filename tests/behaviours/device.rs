//! Any device, with what the host sends it written down, and one message held back if wanted.

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::{ClassRequest, SetupPacket};
use sim::{ControlReply, Descriptors, Device};

/// bSlot and bSeq of messages.
type Seqs = Vec<(u8, u8)>;

/// The device.
pub(crate) struct Watched {
    inner: Box<dyn Device>,
    sent: Vec<Bytes>,
    aborts: Seqs,
    hold: Option<usize>,
    held: Vec<Bytes>,
}

impl Watched {
    pub(crate) fn new(device: impl Device + 'static) -> Self {
        let inner = Box::new(device);
        Self { inner, sent: Vec::new(), aborts: Vec::new(), hold: None, held: Vec::new() }
    }

    /// Messages of type XfrBlock whose APDU has this instruction, at APDU level.
    pub(crate) fn has_sent(&self, instruction: u8) -> bool {
        self.sent.iter().any(|message| message[0] == 0x6F && message.get(11) == Some(&instruction))
    }

    /// bSlot and bSeq of the ABORT requests, and of the PC_to_RDR_Abort messages.
    pub(crate) fn aborts(&self) -> (Seqs, Seqs) {
        let messages = self.sent.iter().filter(|message| message[0] == 0x72);
        (self.aborts.clone(), messages.map(|message| (message[5], message[6])).collect())
    }

    /// Forgets what has been sent.
    pub(crate) fn forget(&mut self) {
        self.sent.clear();
        self.aborts.clear();
    }

    /// Holds back the `nth` XfrBlock from now on (1 is the next): the reader is slow about it, and
    /// gets it when ABORT is requested. What the host sees is a reader at work.
    pub(crate) fn hold(&mut self, nth: usize) {
        self.hold = Some(nth);
    }

    /// A message is being held back.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Device for Watched {
    fn descriptors(&self) -> &Descriptors {
        self.inner.descriptors()
    }

    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        let abort = match ClassRequest::parse(&setup) {
            Ok(ClassRequest::Abort { slot, seq }) => Some((slot.0, seq.0)),
            _ => None,
        };
        self.aborts.extend(abort);
        let reply = self.inner.control(setup, data, now);
        if abort.is_some() {
            for message in std::mem::take(&mut self.held) {
                self.inner.bulk_out(&message, now);
            }
        }
        reply
    }

    fn accepts_bulk_out(&self) -> bool {
        self.inner.accepts_bulk_out()
    }

    fn bulk_out(&mut self, data: &[u8], now: Instant) {
        let message = Bytes::copy_from_slice(data);
        self.sent.push(message.clone());
        if message[0] == 0x6F {
            self.hold = match self.hold {
                Some(1) => {
                    self.held.push(message);
                    self.hold = None;
                    return;
                }
                hold => hold.map(|nth| nth - 1),
            };
        }
        self.inner.bulk_out(data, now);
    }

    fn poll_bulk_in(&mut self, now: Instant) -> Option<Bytes> {
        self.inner.poll_bulk_in(now)
    }

    fn poll_interrupt(&mut self, now: Instant) -> Option<Bytes> {
        self.inner.poll_interrupt(now)
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.inner.poll_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn reset(&mut self, now: Instant) {
        self.inner.reset(now);
    }
}
