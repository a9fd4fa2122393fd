//! Standard requests on the control pipe (USB 2.0 §9.4), answered from a device's descriptors.

use super::endpoints::descriptors;
use crate::{ControlReply, Descriptors};
use bytes::{BufMut, Bytes, BytesMut};
use ccid::wire::SetupPacket;
use std::collections::BTreeMap;

/// bRequest (USB 2.0, table 9-4).
const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const GET_INTERFACE: u8 = 10;
const SET_INTERFACE: u8 = 11;

/// bDescriptorType (USB 2.0, table 9-5).
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

/// Feature selectors (USB 2.0, table 9-6).
const ENDPOINT_HALT: u16 = 0;
const DEVICE_REMOTE_WAKEUP: u16 = 1;

/// LANGID of English (United States).
const ENGLISH: u16 = 0x0409;

/// The longest text of a string descriptor, in UTF-16 units: bLength is one byte.
const MAX_STRING_UNITS: usize = 126;

/// What a device keeps of standard requests.
pub(super) struct Standard {
    descriptors: Descriptors,
    configuration: u8,
    remote_wakeup: bool,
    /// bAlternateSetting of the interfaces on which one has been set.
    alternates: BTreeMap<u8, u8>,
}

impl Standard {
    /// A device that has just been plugged in.
    pub(super) fn new(descriptors: Descriptors) -> Self {
        Self { descriptors, configuration: 0, remote_wakeup: false, alternates: BTreeMap::new() }
    }

    /// The answer to `setup`; None if it is no standard request.
    pub(super) fn handle(&mut self, setup: SetupPacket) -> Option<ControlReply> {
        const TYPE: u8 = 0x60;
        if setup.request_type & TYPE != 0 {
            return None;
        }
        Some(self.answer(setup).map_or(ControlReply::Stall, ControlReply::Data))
    }

    /// The data stage of the answer, or None for a STALL.
    fn answer(&mut self, setup: SetupPacket) -> Option<Bytes> {
        let [value_low, value_high] = setup.value.to_le_bytes();
        let [index_low, index_high] = setup.index.to_le_bytes();
        let done = Some(Bytes::new());
        match (setup.request_type, setup.request) {
            (0x80, GET_DESCRIPTOR) => self.descriptor(value_high, value_low),
            (0x80, GET_CONFIGURATION) => Some(one_byte(self.configuration)),
            (0x80, GET_STATUS) => Some(word(self.device_status())),
            (0x81, GET_STATUS) if self.has_interface(index_low, None) => Some(word(0)),
            // Nothing here ever halts an endpoint.
            (0x82, GET_STATUS) if self.has_endpoint(index_low) => Some(word(0)),
            (0x81, GET_INTERFACE) if self.has_interface(index_low, None) => {
                Some(one_byte(self.alternates.get(&index_low).copied().unwrap_or(0)))
            }
            (0x00, SET_ADDRESS) => done,
            (0x00, SET_CONFIGURATION) if self.has_configuration(value_low) => {
                self.configuration = value_low;
                self.alternates.clear();
                done
            }
            (0x01, SET_INTERFACE)
                if value_high == 0
                    && index_high == 0
                    && self.has_interface(index_low, Some(value_low)) =>
            {
                self.alternates.insert(index_low, value_low);
                done
            }
            (0x02, CLEAR_FEATURE)
                if setup.value == ENDPOINT_HALT && self.has_endpoint(index_low) =>
            {
                done
            }
            (0x00, request @ (SET_FEATURE | CLEAR_FEATURE))
                if setup.value == DEVICE_REMOTE_WAKEUP && self.attributes() & 0x20 != 0 =>
            {
                self.remote_wakeup = request == SET_FEATURE;
                done
            }
            _ => None,
        }
    }

    fn descriptor(&self, kind: u8, index: u8) -> Option<Bytes> {
        match (kind, index) {
            (DEVICE, 0) => Some(self.descriptors.device.clone()),
            (CONFIGURATION, 0) => Some(self.descriptors.configuration.clone()),
            (STRING, 0) => Some(string_descriptor([ENGLISH])),
            (STRING, _) => {
                let text = self.descriptors.strings.get(usize::from(index) - 1)?;
                Some(string_descriptor(text.encode_utf16().take(MAX_STRING_UNITS)))
            }
            // Device qualifier, BOS and the like: a full-speed device of USB 2.0 has none.
            _ => None,
        }
    }

    /// bmAttributes of the configuration.
    fn attributes(&self) -> u8 {
        self.descriptors.configuration.get(7).copied().unwrap_or(0)
    }

    fn device_status(&self) -> u16 {
        u16::from(self.attributes() & 0x40 != 0) | u16::from(self.remote_wakeup) << 1
    }

    /// Configuration 0 is none, the other is the one there is.
    fn has_configuration(&self, value: u8) -> bool {
        value == 0 || self.descriptors.configuration.get(5) == Some(&value)
    }

    fn has_interface(&self, number: u8, alternate: Option<u8>) -> bool {
        descriptors(&self.descriptors.configuration).any(|descriptor| {
            matches!(*descriptor, [_, INTERFACE, n, a, ..]
                if n == number && alternate.is_none_or(|alternate| a == alternate))
        })
    }

    fn has_endpoint(&self, address: u8) -> bool {
        address & 0x0F == 0
            || descriptors(&self.descriptors.configuration)
                .any(|descriptor| matches!(*descriptor, [_, ENDPOINT, a, ..] if a == address))
    }
}

fn one_byte(byte: u8) -> Bytes {
    Bytes::copy_from_slice(&[byte])
}

fn word(word: u16) -> Bytes {
    Bytes::copy_from_slice(&word.to_le_bytes())
}

fn string_descriptor(units: impl IntoIterator<Item = u16>) -> Bytes {
    let mut text = BytesMut::new();
    units.into_iter().for_each(|unit| text.put_u16_le(unit));
    let mut descriptor = BytesMut::with_capacity(text.len() + 2);
    // At most MAX_STRING_UNITS of them.
    descriptor.put_u8(u8::try_from(text.len() + 2).unwrap_or(u8::MAX));
    descriptor.put_u8(STRING);
    descriptor.put(text);
    descriptor.freeze()
}
