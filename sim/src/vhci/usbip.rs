//! USB/IP from the side that has the device: bytes in, bytes out, nothing waited for.
//!
//! Source: "USB/IP protocol" in the kernel's documentation. Headers are 48 bytes, big-endian;
//! vhci-hcd speaks only the four messages of an attached device, from the first byte on.

use super::endpoints::Endpoints;
use super::standard::Standard;
use crate::{ControlReply, Descriptors, Device};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use ccid::Instant;
use ccid::wire::SetupPacket;
use std::collections::VecDeque;
use std::fmt;

const HEADER_LEN: usize = 48;

/// The longest OUT transfer taken; usbfs takes no longer ones either.
const MAX_TRANSFER: usize = 16 << 20;

/// `command` in the header.
const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;

/// `transfer_flags`: an IN transfer that ends short is an error.
const URB_SHORT_NOT_OK: u32 = 0x0001;

/// `status`: negative error numbers of Linux, whatever this runs on.
const EPIPE: i32 = -32;
const EPROTO: i32 = -71;
const EOVERFLOW: i32 = -75;
const ECONNRESET: i32 = -104;
const EREMOTEIO: i32 = -121;

/// What the other end sent is not USB/IP, or nothing this device could have been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProtocolError {
    /// `command` is neither CMD_SUBMIT nor CMD_UNLINK.
    UnknownCommand(u32),
    /// `transfer_buffer_length` of an OUT transfer.
    TooLong(u32),
    /// `number_of_packets`: an isochronous transfer.
    Isochronous(u32),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(command) => write!(f, "unknown USB/IP command {command:#x}"),
            Self::TooLong(length) => write!(f, "USB/IP: an OUT transfer of {length} bytes"),
            Self::Isochronous(packets) => {
                write!(f, "USB/IP: an isochronous transfer of {packets} packets")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The direction of a transfer, as `direction` in the header gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Out,
    In,
}

/// CMD_SUBMIT.
struct Submit {
    seqnum: u32,
    direction: Direction,
    endpoint: u32,
    flags: u32,
    length: usize,
    setup: SetupPacket,
    /// The data of an OUT transfer.
    data: Bytes,
}

enum Command {
    Submit(Submit),
    /// CMD_UNLINK: its own seqnum, and that of the transfer to end.
    Unlink {
        seqnum: u32,
        target: u32,
    },
}

/// One attached device: transfers come in, go to the device and back out as it answers.
pub(super) struct Link {
    input: BytesMut,
    output: BytesMut,
    standard: Standard,
    bulk_out: OutPipe,
    bulk_in: InPipe,
    interrupt: InPipe,
}

impl Link {
    /// A link on which nothing has been said, to a device with these descriptors.
    pub(super) fn new(descriptors: &Descriptors) -> Self {
        let endpoints = Endpoints::of(&descriptors.configuration);
        Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            standard: Standard::new(descriptors.clone()),
            bulk_out: OutPipe { endpoint: endpoints.bulk_out, queue: VecDeque::new() },
            bulk_in: InPipe::new(endpoints.bulk_in),
            interrupt: InPipe::new(endpoints.interrupt),
        }
    }

    /// Bytes have come in; [`drive`](Self::drive) acts on them.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Lets the device have what has come in and its timer, and takes what it gives.
    ///
    /// # Errors
    /// If the other end broke the protocol: nothing more can be understood of it.
    pub(super) fn drive<D: Device + ?Sized>(
        &mut self,
        device: &mut D,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        if device.poll_deadline().is_some_and(|deadline| deadline <= now) {
            device.handle_timeout(now);
        }
        self.pump(device, now);
        while let Some(command) = parse(&mut self.input)? {
            match command {
                Command::Submit(submit) => self.submit(submit, device, now),
                Command::Unlink { seqnum, target } => self.unlink(seqnum, target),
            }
            // Before the next command: it must not overtake this one.
            self.pump(device, now);
        }
        Ok(())
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    fn submit<D: Device + ?Sized>(&mut self, submit: Submit, device: &mut D, now: Instant) {
        let Submit { seqnum, direction, endpoint, flags, length, .. } = submit;
        if endpoint == 0 {
            self.control(&submit, device, now);
            return;
        }
        let endpoint = u8::try_from(endpoint).ok();
        let transfer = InTransfer { seqnum, flags, length, data: BytesMut::new() };
        match direction {
            Direction::Out if endpoint == self.bulk_out.endpoint => {
                self.bulk_out.queue.push_back((seqnum, submit.data));
            }
            Direction::In if endpoint == self.bulk_in.endpoint() => {
                self.bulk_in.queue.push_back(transfer);
            }
            Direction::In if endpoint == self.interrupt.endpoint() => {
                self.interrupt.queue.push_back(transfer);
            }
            // Nobody answers there.
            _ => put_submitted(&mut self.output, seqnum, EPROTO, 0, &[]),
        }
    }

    fn control<D: Device + ?Sized>(&mut self, submit: &Submit, device: &mut D, now: Instant) {
        let Submit { seqnum, direction, flags, length, setup, ref data, .. } = *submit;
        let reply = match self.standard.handle(setup) {
            Some(reply) => reply,
            None => device.control(setup, data, now),
        };
        let ControlReply::Data(reply) = reply else {
            put_submitted(&mut self.output, seqnum, EPIPE, 0, &[]);
            return;
        };
        if direction == Direction::Out {
            put_submitted(&mut self.output, seqnum, 0, data.len(), &[]);
            return;
        }
        // Never more than asked for: what is longer than its buffer brings the kernel down.
        let asked = length.min(usize::from(setup.length));
        let reply = reply.get(..asked).unwrap_or(&reply);
        let status = short_status(flags, reply.len(), asked);
        put_submitted(&mut self.output, seqnum, status, reply.len(), reply);
    }

    fn unlink(&mut self, seqnum: u32, target: u32) {
        let before = self.pending();
        self.bulk_out.queue.retain(|(seqnum, _)| *seqnum != target);
        self.bulk_in.queue.retain(|transfer| transfer.seqnum != target);
        self.interrupt.queue.retain(|transfer| transfer.seqnum != target);
        // What is no longer pending has been answered: the answer is on its way before this one.
        let status = if self.pending() < before { ECONNRESET } else { 0 };
        put_header(&mut self.output, RET_UNLINK, seqnum);
        self.output.put_i32(status);
        self.output.put_bytes(0, 24);
    }

    fn pending(&self) -> usize {
        self.bulk_out.queue.len() + self.bulk_in.queue.len() + self.interrupt.queue.len()
    }

    /// Moves what can be moved: until there is no transfer left for which the device has a packet
    /// or room.
    fn pump<D: Device + ?Sized>(&mut self, device: &mut D, now: Instant) {
        let mut moved = true;
        while moved {
            moved = false;
            while device.accepts_bulk_out() {
                let Some((seqnum, data)) = self.bulk_out.queue.pop_front() else { break };
                device.bulk_out(&data, now);
                put_submitted(&mut self.output, seqnum, 0, data.len(), &[]);
                moved = true;
            }
            moved |= self.bulk_in.fill(&mut self.output, || device.poll_bulk_in(now));
            moved |= self.interrupt.fill(&mut self.output, || device.poll_interrupt(now));
        }
    }
}

/// The bulk-OUT endpoint: transfers that the device has not taken yet.
struct OutPipe {
    endpoint: Option<u8>,
    queue: VecDeque<(u32, Bytes)>,
}

/// An IN endpoint: transfers that wait for packets.
struct InPipe {
    /// Endpoint number and wMaxPacketSize.
    endpoint: Option<(u8, usize)>,
    queue: VecDeque<InTransfer>,
}

struct InTransfer {
    seqnum: u32,
    flags: u32,
    length: usize,
    data: BytesMut,
}

impl InPipe {
    fn new(endpoint: Option<(u8, usize)>) -> Self {
        Self { endpoint, queue: VecDeque::new() }
    }

    fn endpoint(&self) -> Option<u8> {
        self.endpoint.map(|(number, _)| number)
    }

    /// Puts packets into transfers while there are both; false if there were not. A packet is
    /// taken from the device only when a transfer waits for it, as a host controller sends IN
    /// tokens only then.
    fn fill(&mut self, output: &mut BytesMut, mut poll: impl FnMut() -> Option<Bytes>) -> bool {
        let Some((_, packet_size)) = self.endpoint else { return false };
        let mut moved = false;
        while let Some(transfer) = self.queue.front_mut() {
            let Some(packet) = poll() else { break };
            moved = true;
            let room = transfer.length.saturating_sub(transfer.data.len());
            let babble = packet.len() > room.min(packet_size);
            transfer.data.put_slice(packet.get(..room).unwrap_or(&packet));
            let (got, asked) = (transfer.data.len(), transfer.length);
            if babble || packet.len() < packet_size || got >= asked {
                let short = short_status(transfer.flags, got, asked);
                let status = if babble { EOVERFLOW } else { short };
                put_submitted(output, transfer.seqnum, status, got, &transfer.data);
                self.queue.pop_front();
            }
        }
        moved
    }
}

fn short_status(flags: u32, got: usize, asked: usize) -> i32 {
    if got < asked && flags & URB_SHORT_NOT_OK != 0 { EREMOTEIO } else { 0 }
}

/// Takes the next command off `input`, if all of it is there.
fn parse(input: &mut BytesMut) -> Result<Option<Command>, ProtocolError> {
    let Some(header) = input.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let mut fields = &header[..];
    let command = fields.get_u32();
    let seqnum = fields.get_u32();
    let _devid = fields.get_u32();
    let direction = if fields.get_u32() == 0 { Direction::Out } else { Direction::In };
    let endpoint = fields.get_u32();
    match command {
        CMD_UNLINK => {
            let target = fields.get_u32();
            input.advance(HEADER_LEN);
            return Ok(Some(Command::Unlink { seqnum, target }));
        }
        CMD_SUBMIT => {}
        other => return Err(ProtocolError::UnknownCommand(other)),
    }
    let flags = fields.get_u32();
    let length = fields.get_u32();
    let _start_frame = fields.get_u32();
    let packets = fields.get_u32();
    let _interval = fields.get_u32();
    let mut setup = [0; 8];
    fields.copy_to_slice(&mut setup);
    // Not isochronous: 0 from the kernel, all ones by its documentation.
    if !matches!(packets, 0 | u32::MAX) {
        return Err(ProtocolError::Isochronous(packets));
    }
    let too_long = ProtocolError::TooLong(length);
    let length = usize::try_from(length).map_err(|_| too_long)?;
    let data_length = if direction == Direction::Out { length } else { 0 };
    if data_length > MAX_TRANSFER {
        return Err(too_long);
    }
    if input.len() - HEADER_LEN < data_length {
        input.reserve(data_length);
        return Ok(None);
    }
    input.advance(HEADER_LEN);
    let data = input.split_to(data_length).freeze();
    let setup = SetupPacket::from_bytes(setup);
    Ok(Some(Command::Submit(Submit { seqnum, direction, endpoint, flags, length, setup, data })))
}

/// The five words that every header begins with; in answers, those behind seqnum are zero.
fn put_header(output: &mut BytesMut, command: u32, seqnum: u32) {
    output.put_u32(command);
    output.put_u32(seqnum);
    output.put_bytes(0, 12);
}

/// RET_SUBMIT: `length` bytes have gone either way, `data` is what came of an IN transfer.
fn put_submitted(output: &mut BytesMut, seqnum: u32, status: i32, length: usize, data: &[u8]) {
    put_header(output, RET_SUBMIT, seqnum);
    output.put_i32(status);
    // What came was at most what a 32-bit field asked for.
    output.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // start_frame, number_of_packets, error_count, padding.
    output.put_bytes(0, 20);
    output.put_slice(data);
}
