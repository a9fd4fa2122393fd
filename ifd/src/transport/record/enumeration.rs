//! What a device says of itself when it is enumerated, as the requests that ask for it.

use crate::transport::DeviceInfo;
use crate::transport::descriptors::CcidInterface;
use bytes::Bytes;
use ccid::wire::SetupPacket;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;

/// US English.
const LANGUAGE: u16 = 0x0409;

/// Longest text of a string descriptor, in UTF-16 units.
const MAX_TEXT: usize = 126;

/// The requests for the descriptors of the interface's device, each with its answer.
pub(super) fn requests(interface: &CcidInterface) -> Vec<(SetupPacket, Bytes)> {
    let info = &interface.info;
    let mut requests = vec![
        request(DEVICE, 0, 0, interface.device.clone()),
        request(CONFIGURATION, 0, 0, interface.configuration.clone()),
    ];
    let index = |at: usize| interface.device.get(at).copied().unwrap_or_default();
    // iManufacturer, iProduct, iSerialNumber.
    let texts = [(14, &info.manufacturer), (15, &info.product), (16, &info.serial_number)];
    let texts = texts.into_iter().map(|(at, text)| (index(at), text));
    let own = (interface_name(interface), &info.interface_name);
    for (index, text) in texts.chain([own]) {
        if let (1.., Some(text)) = (index, text) {
            requests.push(request(STRING, index, LANGUAGE, string(text)));
        }
    }
    requests
}

fn request(kind: u8, index: u8, language: u16, answer: Bytes) -> (SetupPacket, Bytes) {
    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
    let value = u16::from_le_bytes([index, kind]);
    let setup = SetupPacket { request_type: 0x80, request: 6, value, index: language, length };
    (setup, answer)
}

fn string(text: &str) -> Bytes {
    let units: Vec<u16> = text.encode_utf16().take(MAX_TEXT).collect();
    let length = u8::try_from(2 + 2 * units.len()).unwrap_or(u8::MAX);
    [length, STRING].into_iter().chain(units.into_iter().flat_map(u16::to_le_bytes)).collect()
}

/// iInterface of the interface's descriptor.
fn interface_name(interface: &CcidInterface) -> u8 {
    const INTERFACE: u8 = 4;
    let mut rest = &interface.configuration[..];
    while let [length @ (2..), kind, ..] = *rest {
        let Some((descriptor, behind)) = rest.split_at_checked(usize::from(length)) else {
            return 0;
        };
        match *descriptor {
            [_, _, number, 0, _, _, _, _, name, ..]
                if kind == INTERFACE && number == interface.info.interface =>
            {
                return name;
            }
            _ => rest = behind,
        }
    }
    0
}

/// Descriptors for a device of which only this is known: its endpoints are numbered anew.
pub(crate) fn made_of(info: &DeviceInfo) -> CcidInterface {
    let [v0, v1] = info.vendor_id.to_le_bytes();
    let [p0, p1] = info.product_id.to_le_bytes();
    let [d0, d1] = info.bcd_device.to_le_bytes();
    let text = |index: u8, text: &Option<String>| if text.is_some() { index } else { 0 };
    let (manufacturer, product) = (text(1, &info.manufacturer), text(2, &info.product));
    let (serial, name) = (text(3, &info.serial_number), text(4, &info.interface_name));
    let device =
        [18, DEVICE, 0, 2, 0, 0, 0, 64, v0, v1, p0, p1, d0, d1, manufacturer, product, serial, 1];
    let has_bulk = info.bulk_in_packet > 0;
    let mut endpoints = Vec::new();
    let mut endpoint = |address: u8, kind: u8, packet: usize| {
        let [s0, s1] = u16::try_from(packet).unwrap_or(u16::MAX).to_le_bytes();
        endpoints.extend([7, 5, address, kind, s0, s1, if kind == 3 { 10 } else { 0 }]);
        address
    };
    let bulk_out = has_bulk.then(|| endpoint(0x01, 2, info.bulk_in_packet));
    let bulk_in = has_bulk.then(|| endpoint(0x82, 2, info.bulk_in_packet));
    let interrupt = info.interrupt_packet.map(|packet| endpoint(0x83, 3, packet));
    let count = u8::try_from(endpoints.len() / 7).unwrap_or_default();
    let mut body = vec![9, 4, info.interface, 0, count, 0x0B, 0, info.interface_protocol, name];
    body.extend(info.class.emit());
    body.extend(endpoints);
    let [l0, l1] = u16::try_from(9 + body.len()).unwrap_or(u16::MAX).to_le_bytes();
    let configuration = [&[9, CONFIGURATION, l0, l1, 1, 1, 0, 0x80, 50], &body[..]].concat();
    CcidInterface {
        info: info.clone(),
        bulk_out,
        bulk_in,
        interrupt,
        device: Bytes::copy_from_slice(&device),
        configuration: configuration.into(),
    }
}
