//! Enumeration: what a host asks of a device that has just been plugged in.

use bytes::Bytes;
use ccid::wire::SetupPacket;
use sim::{ControlReply, Descriptors};

/// bDescriptorType of the standard descriptors (USB 2.0, table 9-5).
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;

/// LANGID of English (United States).
const ENGLISH: u16 = 0x0409;

/// Reads a device's descriptors, gives it an address and configures it, by the standard requests
/// that a host uses. `control` does one control transfer. None if the device refuses any of it.
pub(super) fn enumerate(
    mut control: impl FnMut(SetupPacket) -> ControlReply,
) -> Option<Descriptors> {
    let mut request = |request_type, request, value, index, length| {
        let setup = SetupPacket { request_type, request, value, index, length };
        match control(setup) {
            ControlReply::Data(data) => Some(data),
            ControlReply::Stall => None,
        }
    };
    let of = |kind: u8, index: u8| u16::from_be_bytes([kind, index]);
    const SET_ADDRESS: u8 = 5;
    const GET_DESCRIPTOR: u8 = 6;
    const SET_CONFIGURATION: u8 = 9;
    request(0x80, GET_DESCRIPTOR, of(DEVICE, 0), 0, 64)?;
    request(0x00, SET_ADDRESS, 1, 0, 0)?;
    let device = request(0x80, GET_DESCRIPTOR, of(DEVICE, 0), 0, 18)?;
    let head = request(0x80, GET_DESCRIPTOR, of(CONFIGURATION, 0), 0, 9)?;
    let total = u16::from_le_bytes([*head.get(2)?, *head.get(3)?]);
    let configuration = request(0x80, GET_DESCRIPTOR, of(CONFIGURATION, 0), 0, total)?;
    let mut strings = Vec::new();
    for index in 1..=string_indices(&device, &configuration).max().unwrap_or(0) {
        // What is not there is a string nobody refers to.
        let text = request(0x80, GET_DESCRIPTOR, of(STRING, index), ENGLISH, 255);
        strings.push(text.as_ref().map_or_else(String::new, text_of));
    }
    let value = *configuration.get(5)?;
    request(0x00, SET_CONFIGURATION, u16::from(value), 0, 0)?;
    Some(Descriptors { device, configuration, strings })
}

/// The string indices that device, configuration and interface descriptors refer to.
fn string_indices<'a>(
    device: &'a Bytes,
    configuration: &'a Bytes,
) -> impl Iterator<Item = u8> + 'a {
    let of_device = device.get(14..17).unwrap_or_default().iter();
    let of_others = each_descriptor(configuration).filter_map(|descriptor| match descriptor[..] {
        [_, CONFIGURATION, _, _, _, _, index, ..] => Some(index),
        [_, INTERFACE, _, _, _, _, _, _, index, ..] => Some(index),
        _ => None,
    });
    of_device.copied().chain(of_others)
}

/// The descriptors that follow each other in a configuration.
fn each_descriptor(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*rest.first()?).max(2);
        let (descriptor, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(descriptor)
    })
}

/// The text of a string descriptor.
fn text_of(descriptor: &Bytes) -> String {
    let units = descriptor.get(2..).unwrap_or_default().chunks_exact(2);
    let units = units.filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
