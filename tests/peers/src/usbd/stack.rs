//! The firmware: usb-device, the class, the application behind it and the main loop around them,
//! on a thread of its own, in lockstep with the host.
//!
//! usb-device's types borrow their allocator, as firmware's `static`s allow. On the stack of a
//! thread they can do that and still go away, and a panic in them ends this thread only.

use super::bus::{Bus, Handshake, InToken};
use super::card::{CAPACITY, Card, Data};
use super::{Descriptors, Identity};
use bytes::Bytes;
use ccid::Instant;
use ccid::wire::SetupPacket;
use interchange::{Channel, Responder};
use sim::ControlReply;
use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use usb_device::bus::UsbBusAllocator;
use usb_device::device::{StringDescriptors, UsbDevice, UsbDeviceBuilder, UsbRev, UsbVidPid};
use usbd_ccid::{Ccid, Status};

/// wMaxPacketSize of usbd-ccid's bulk endpoints at full speed.
pub(super) const BULK_PACKET: usize = 64;

/// bMaxPacketSize0.
const CONTROL_PACKET: u8 = 64;

/// Both bulk endpoints have this number: the first that the peripheral gives out.
const BULK: u8 = 1;

/// The interchange lies on the thread's stack, twice the longest APDU, and debug builds move it.
const STACK_SIZE: usize = 8 << 20;

/// How often the main loop polls for one thing that the host has done, at most. More than any
/// step of a control transfer takes.
const POLLS: usize = 8;

/// What the host does.
pub(super) enum Call {
    /// Enumerates the device.
    Enumerate,
    /// A control transfer.
    Control(SetupPacket, Bytes),
    /// One bulk-OUT packet.
    BulkOut(Bytes),
    /// Takes the bulk-IN packet that is there.
    TakeBulkIn,
    /// Time passes.
    Tick,
}

/// How the device stands after a call.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) control: Option<ControlReply>,
    pub(super) descriptors: Option<Descriptors>,
    /// The bulk-IN packet that waits for the host.
    pub(super) bulk_in: Option<Bytes>,
    pub(super) accepts_bulk_out: bool,
    pub(super) deadline: Option<Instant>,
}

/// The running firmware.
pub(super) struct Firmware {
    calls: Option<Sender<(Call, Instant)>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

impl Firmware {
    /// Powers it up.
    pub(super) fn start(identity: Identity) -> io::Result<Self> {
        let (calls, their_calls) = channel();
        let (their_replies, replies) = channel();
        let thread = Builder::new()
            .name("usbd-ccid".into())
            .stack_size(STACK_SIZE)
            .spawn(move || run(&identity, &their_calls, &their_replies))?;
        Ok(Self { calls: Some(calls), replies, thread: Some(thread) })
    }

    /// Does `call` at `now` and lets the firmware run until it has nothing more to do.
    ///
    /// # Errors
    /// What the firmware said when it panicked; it is dead then.
    pub(super) fn call(&mut self, call: Call, now: Instant) -> Result<Reply, String> {
        let sent = self.calls.as_ref().is_some_and(|calls| calls.send((call, now)).is_ok());
        match self.replies.recv() {
            Ok(reply) if sent => Ok(reply),
            _ => Err(self.power_down().unwrap_or_else(|| "the firmware has ended".into())),
        }
    }

    /// Ends the thread; what it said if it panicked.
    fn power_down(&mut self) -> Option<String> {
        self.calls = None;
        self.thread.take()?.join().err().map(|payload| panic_message(&*payload))
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        self.power_down();
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref().cloned()).unwrap_or_else(|| "a panic".into())
}

/// The thread: sets everything up, as a firmware's `main` does, and goes on until the host has
/// hung up.
fn run(identity: &Identity, calls: &Receiver<(Call, Instant)>, replies: &Sender<Reply>) {
    let channel: Channel<Data, Data> = Channel::new();
    let Some((requester, responder)) = channel.split() else { return };
    let allocator = UsbBusAllocator::new(Bus::default());
    let class = Ccid::new(&allocator, requester, Some(b"peer"));
    let strings = StringDescriptors::default()
        .manufacturer(&identity.manufacturer)
        .product(&identity.product)
        .serial_number(&identity.serial_number);
    let device =
        UsbDeviceBuilder::new(&allocator, UsbVidPid(identity.vendor_id, identity.product_id))
            // With 2.10 a host would ask for a BOS descriptor, which the simulator's seam does not carry.
            .usb_rev(UsbRev::Usb200)
            .device_release(identity.bcd_device)
            .strings(&[strings])
            .and_then(|builder| builder.max_packet_size_0(CONTROL_PACKET))
            .map(UsbDeviceBuilder::build);
    let Ok(device) = device else { return };
    let mut main_loop =
        MainLoop { device, class, responder, card: Card::default(), extension: None };
    for (call, now) in calls {
        let reply = main_loop.handle(call, now);
        if replies.send(reply).is_err() {
            break;
        }
    }
}

struct MainLoop<'a> {
    device: UsbDevice<'a, Bus>,
    class: Ccid<'a, 'a, Bus, CAPACITY>,
    responder: Responder<'a, Data, Data>,
    card: Card,
    /// When to send a time extension.
    extension: Option<Instant>,
}

impl MainLoop<'_> {
    fn handle(&mut self, call: Call, now: Instant) -> Reply {
        let mut reply = Reply::default();
        match call {
            Call::Enumerate => {
                self.device.bus().signal_reset();
                self.poll(now);
                reply.descriptors = super::enumerate(|setup| self.control(setup, &[], now));
            }
            Call::Control(setup, data) => reply.control = Some(self.control(setup, &data, now)),
            Call::BulkOut(packet) => {
                self.device.bus().send(BULK, packet);
            }
            Call::TakeBulkIn => {
                self.device.bus().receive(BULK);
            }
            Call::Tick => {}
        }
        self.poll(now);
        if self.extension.is_some_and(|when| when <= now) {
            self.extension = after(self.class.send_wait_extension(), now);
        }
        reply.bulk_in = match self.device.bus().peek(BULK) {
            InToken::Packet(packet) => Some(packet),
            InToken::Nak | InToken::Stall => None,
        };
        reply.accepts_bulk_out = self.device.bus().would_accept(BULK);
        reply.deadline = self.extension.into_iter().chain(self.card.deadline()).min();
        reply
    }

    /// One turn of a firmware's main loop after the other, until nothing changes any more: the
    /// bus, the application, its answer.
    fn poll(&mut self, now: Instant) {
        for _ in 0..POLLS {
            self.device.poll(&mut [&mut self.class]);
            if let Status::ReceivedData(wait) = self.class.did_start_processing() {
                self.extension = after(Status::ReceivedData(wait), now);
            }
            self.card.poll(&mut self.responder, now);
            self.class.check_for_app_response();
            if !self.device.bus().has_events() {
                break;
            }
        }
    }

    /// A control transfer, as a host controller does it: SETUP, data stage, status stage.
    fn control(&mut self, setup: SetupPacket, data: &[u8], now: Instant) -> ControlReply {
        self.device.bus().setup(setup.to_bytes());
        self.poll(now);
        if setup.is_in() && setup.length > 0 {
            return self.control_in(setup, now);
        }
        for packet in data.chunks(usize::from(CONTROL_PACKET)) {
            if self.device.bus().send(0, Bytes::copy_from_slice(packet)) != Handshake::Ack {
                return ControlReply::Stall;
            }
            self.poll(now);
        }
        match self.device.bus().receive(0) {
            InToken::Packet(_) => {
                self.poll(now);
                ControlReply::Data(Bytes::new())
            }
            // A NAK here would be one for ever: the firmware has nothing more to do.
            InToken::Nak | InToken::Stall => ControlReply::Stall,
        }
    }

    fn control_in(&mut self, setup: SetupPacket, now: Instant) -> ControlReply {
        let mut answer = Vec::new();
        loop {
            let InToken::Packet(packet) = self.device.bus().receive(0) else {
                return ControlReply::Stall;
            };
            answer.extend_from_slice(&packet);
            self.poll(now);
            let short = packet.len() < usize::from(CONTROL_PACKET);
            if short || answer.len() >= usize::from(setup.length) {
                break;
            }
        }
        self.device.bus().send(0, Bytes::new());
        self.poll(now);
        ControlReply::Data(answer.into())
    }
}

fn after(status: Status, now: Instant) -> Option<Instant> {
    match status {
        Status::ReceivedData(wait) => Some(now + Duration::from_millis(u64::from(wait.0))),
        Status::Idle => None,
    }
}
