//! Readers' names, as pcsc-lite makes them: text, index of the device, slot.

use ifd::transport::DeviceInfo;
use ifd::transport::usb::Candidate;
use std::ffi::CString;

/// Most bytes of a name, its end mark not counted.
const MAX_NAME: usize = 127;

/// What a reader is called, without index and slot: manufacturer and product, the interface's own
/// name, the serial number.
pub(crate) fn friendly(info: &DeviceInfo) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    describe(
        (info.vendor_id, info.product_id),
        &text(&info.manufacturer),
        &text(&info.product),
        &text(&info.interface_name),
        &text(&info.serial_number),
    )
}

/// The same of a reader that is not open.
pub(crate) fn of_candidate(candidate: &Candidate) -> String {
    describe(
        (candidate.vendor_id(), candidate.product_id()),
        candidate.manufacturer().unwrap_or_default(),
        candidate.product().unwrap_or_default(),
        candidate.interface_name().unwrap_or_default(),
        candidate.serial_number().unwrap_or_default(),
    )
}

/// The same, from its parts.
pub(crate) fn describe(
    (vendor, product_id): (u16, u16),
    manufacturer: &str,
    product: &str,
    interface: &str,
    serial: &str,
) -> String {
    let mut name = match (manufacturer.trim(), product.trim()) {
        ("", "") => format!("CCID reader {vendor:04x}:{product_id:04x}"),
        // Many products repeat their maker.
        (maker, product) if product.starts_with(maker) => product.to_owned(),
        (maker, product) => format!("{maker} {product}").trim().to_owned(),
    };
    if !interface.trim().is_empty() {
        name += &format!(" [{}]", interface.trim());
    }
    if !serial.trim().is_empty() {
        name += &format!(" ({})", serial.trim());
    }
    name
}

/// The full name; the text is cut so that index and slot always fit. What a device sends is not
/// trusted: control characters become spaces.
pub(crate) fn full(friendly: &str, index: usize, slot: u8) -> CString {
    let tail = format!(" {index:02X} {slot:02X}");
    let mut name = String::new();
    for c in friendly.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if name.len() + c.len_utf8() + tail.len() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name += &tail;
    // No control character, so no NUL.
    CString::new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let ids = (0x08E6, 0x4433);
        assert_eq!(describe(ids, "QEMU", "QEMU USB CCID", "", "1-1"), "QEMU USB CCID (1-1)");
        assert_eq!(describe(ids, "ACS", "ACR38", "Port A", ""), "ACS ACR38 [Port A]");
        assert_eq!(describe(ids, "", "", "", ""), "CCID reader 08e6:4433");
        assert_eq!(full("Reader", 1, 10).to_str().unwrap(), "Reader 01 0A");
    }

    #[test]
    fn hostile_names_are_tamed() {
        let name = full(&"\u{1b}[2Jé\0".repeat(50), 0, 0);
        assert!(name.to_bytes().len() <= MAX_NAME);
        let text = name.to_str().unwrap();
        assert!(!text.contains(char::is_control) && text.ends_with(" 00 00"));
    }
}
