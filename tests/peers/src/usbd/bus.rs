//! The peripheral under usb-device: endpoints with a buffer of one packet each, as a
//! microcontroller has them. The device's side is [`UsbBus`]; the host's side are the methods here.

use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use usb_device::bus::{PollResult, UsbBus};
use usb_device::endpoint::{EndpointAddress, EndpointType};
use usb_device::{Result, UsbDirection, UsbError};

const ENDPOINTS: usize = 16;

/// The peripheral. Whatever the device does to it happens while the host polls the device, so the
/// lock is never waited for: it is there because [`UsbBus`] asks for `Sync`.
#[derive(Default)]
pub(super) struct Bus(Mutex<State>);

#[derive(Default)]
struct State {
    outs: [Endpoint; ENDPOINTS],
    ins: [Endpoint; ENDPOINTS],
    /// What stands in endpoint 0's OUT buffer is a SETUP packet.
    setup: bool,
    /// The host has reset the bus, and the device has not been told yet.
    reset: bool,
    /// IN endpoints whose packet the host has taken, a bit each.
    in_complete: u16,
}

#[derive(Default)]
struct Endpoint {
    /// Its wMaxPacketSize, once it is in use.
    allocated: Option<u16>,
    packet: Option<Bytes>,
    stalled: bool,
}

/// What a device does with an OUT packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handshake {
    Ack,
    Nak,
    Stall,
}

/// What a device gives for an IN token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum InToken {
    Packet(Bytes),
    Nak,
    Stall,
}

impl State {
    fn endpoint(&mut self, direction: UsbDirection, index: usize) -> Option<&mut Endpoint> {
        match direction {
            UsbDirection::Out => self.outs.get_mut(index),
            UsbDirection::In => self.ins.get_mut(index),
        }
    }

    fn allocated(&mut self, address: EndpointAddress) -> Result<(&mut Endpoint, usize)> {
        let endpoint =
            self.endpoint(address.direction(), address.index()).ok_or(UsbError::InvalidEndpoint)?;
        let size = endpoint.allocated.ok_or(UsbError::InvalidEndpoint)?;
        Ok((endpoint, usize::from(size)))
    }
}

/// The host's side.
impl Bus {
    /// Resets the bus.
    pub(super) fn signal_reset(&self) {
        self.state().reset = true;
    }

    /// Sends a SETUP packet. A device may not refuse one, and it ends what was before.
    pub(super) fn setup(&self, packet: [u8; 8]) {
        let mut state = self.state();
        state.setup = true;
        state.in_complete &= !1;
        if let Some(endpoint) = state.endpoint(UsbDirection::In, 0) {
            endpoint.packet = None;
            endpoint.stalled = false;
        }
        if let Some(endpoint) = state.endpoint(UsbDirection::Out, 0) {
            endpoint.packet = Some(Bytes::copy_from_slice(&packet));
            endpoint.stalled = false;
        }
    }

    /// Sends one OUT packet.
    pub(super) fn send(&self, endpoint: u8, packet: Bytes) -> Handshake {
        match self.state().endpoint(UsbDirection::Out, usize::from(endpoint)) {
            Some(Endpoint { stalled: true, .. }) => Handshake::Stall,
            Some(endpoint @ Endpoint { allocated: Some(_), packet: None, .. }) => {
                endpoint.packet = Some(packet);
                Handshake::Ack
            }
            _ => Handshake::Nak,
        }
    }

    /// An OUT packet would be taken now.
    pub(super) fn would_accept(&self, endpoint: u8) -> bool {
        matches!(
            self.state().endpoint(UsbDirection::Out, usize::from(endpoint)),
            Some(Endpoint { allocated: Some(_), packet: None, stalled: false })
        )
    }

    /// What an IN token would get now, without sending it.
    pub(super) fn peek(&self, endpoint: u8) -> InToken {
        match self.state().endpoint(UsbDirection::In, usize::from(endpoint)) {
            Some(Endpoint { stalled: true, .. }) => InToken::Stall,
            Some(Endpoint { packet: Some(packet), .. }) => InToken::Packet(packet.clone()),
            _ => InToken::Nak,
        }
    }

    /// Sends an IN token.
    pub(super) fn receive(&self, endpoint: u8) -> InToken {
        let token = self.peek(endpoint);
        if matches!(token, InToken::Packet(_)) {
            let mut state = self.state();
            state.in_complete |= 1 << endpoint;
            if let Some(endpoint) = state.endpoint(UsbDirection::In, usize::from(endpoint)) {
                endpoint.packet = None;
            }
        }
        token
    }

    /// The device has events to see: its poll would do something.
    pub(super) fn has_events(&self) -> bool {
        let state = self.state();
        state.reset || state.in_complete != 0 || state.outs.iter().any(|e| e.packet.is_some())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsbBus for Bus {
    fn alloc_ep(
        &mut self,
        direction: UsbDirection,
        address: Option<EndpointAddress>,
        _ep_type: EndpointType,
        max_packet_size: u16,
        _interval: u8,
    ) -> Result<EndpointAddress> {
        let mut state = self.state();
        let wanted = address.map(|address| address.index());
        for index in wanted.map_or(1..ENDPOINTS, |index| index..index.saturating_add(1)) {
            if let Some(endpoint @ Endpoint { allocated: None, .. }) =
                state.endpoint(direction, index)
            {
                endpoint.allocated = Some(max_packet_size);
                return Ok(EndpointAddress::from_parts(index, direction));
            }
        }
        Err(if wanted.is_some() { UsbError::InvalidEndpoint } else { UsbError::EndpointOverflow })
    }

    fn enable(&mut self) {}

    fn reset(&self) {
        let mut state = self.state();
        let State { outs, ins, setup, in_complete, .. } = &mut *state;
        for endpoint in outs.iter_mut().chain(ins) {
            endpoint.packet = None;
            endpoint.stalled = false;
        }
        *setup = false;
        *in_complete = 0;
    }

    // One device on the bus: its address selects nothing.
    fn set_device_address(&self, _address: u8) {}

    fn write(&self, address: EndpointAddress, buf: &[u8]) -> Result<usize> {
        let mut state = self.state();
        let (endpoint, size) = state.allocated(address)?;
        if buf.len() > size {
            return Err(UsbError::BufferOverflow);
        }
        if endpoint.packet.is_some() {
            return Err(UsbError::WouldBlock);
        }
        endpoint.packet = Some(Bytes::copy_from_slice(buf));
        Ok(buf.len())
    }

    fn read(&self, address: EndpointAddress, buf: &mut [u8]) -> Result<usize> {
        let mut state = self.state();
        if address.index() == 0 {
            state.setup = false;
        }
        let (endpoint, _) = state.allocated(address)?;
        let packet = endpoint.packet.take().ok_or(UsbError::WouldBlock)?;
        buf.get_mut(..packet.len()).ok_or(UsbError::BufferOverflow)?.copy_from_slice(&packet);
        Ok(packet.len())
    }

    fn set_stalled(&self, address: EndpointAddress, stalled: bool) {
        if let Ok((endpoint, _)) = self.state().allocated(address) {
            endpoint.stalled = stalled;
        }
    }

    fn is_stalled(&self, address: EndpointAddress) -> bool {
        self.state().allocated(address).is_ok_and(|(endpoint, _)| endpoint.stalled)
    }

    fn suspend(&self) {}

    fn resume(&self) {}

    fn poll(&self) -> PollResult {
        let mut state = self.state();
        if std::mem::take(&mut state.reset) {
            return PollResult::Reset;
        }
        let ep_in_complete = std::mem::take(&mut state.in_complete);
        let mut ep_out = 0;
        for (index, endpoint) in state.outs.iter().enumerate() {
            if endpoint.packet.is_some() {
                ep_out |= 1 << index;
            }
        }
        let ep_setup = u16::from(state.setup);
        if ep_out | ep_in_complete | ep_setup == 0 {
            return PollResult::None;
        }
        PollResult::Data { ep_out, ep_in_complete, ep_setup }
    }
}
