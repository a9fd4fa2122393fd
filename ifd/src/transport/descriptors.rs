//! CCID interfaces in raw USB descriptors.
//!
//! What a device says of itself when it is enumerated, read without believing any of it: lengths
//! that lead nowhere end the walk, and an interface that cannot be used is reported with the
//! reason, not left out.

use super::DeviceInfo;
use bytes::Bytes;
use ccid::ClassDescriptor;
use ccid::descriptor::DescriptorError;
use std::fmt;

const TYPE_DEVICE: u8 = 0x01;
const TYPE_CONFIGURATION: u8 = 0x02;
const TYPE_INTERFACE: u8 = 0x04;
const TYPE_ENDPOINT: u8 = 0x05;
const TYPE_CLASS: u8 = 0x21;
const TYPE_VENDOR: u8 = 0xFF;

const CLASS_SMART_CARD: u8 = 0x0B;
const CLASS_VENDOR: u8 = 0xFF;

/// A CCID interface that can be used: its description and where its pipes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CcidInterface {
    /// The device as this interface shows it. Bus and address are 0: descriptors do not hold them.
    pub info: DeviceInfo,
    /// bEndpointAddress of bulk-OUT; an ICCD interface may have none.
    pub bulk_out: Option<u8>,
    /// bEndpointAddress of bulk-IN; an ICCD interface may have none.
    pub bulk_in: Option<u8>,
    /// bEndpointAddress of interrupt-IN, if there is one.
    pub interrupt: Option<u8>,
    /// The device descriptor as the device gave it.
    pub device: Bytes,
    /// The configuration descriptor with all that follows it, likewise.
    pub configuration: Bytes,
}

/// A CCID interface that cannot be used, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnusableInterface {
    /// bInterfaceNumber.
    pub interface: u8,
    /// What is wrong with it.
    pub reason: Unusable,
}

/// Why a CCID interface cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unusable {
    /// It has no class descriptor, or not one of CCID's.
    NoClassDescriptor,
    /// Its class descriptor cannot be read.
    ClassDescriptor(DescriptorError),
    /// It has no bulk-IN or no bulk-OUT endpoint, or one with packets of no bytes.
    NoBulkPipes,
}

impl fmt::Display for UnusableInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}: ", self.interface)?;
        match self.reason {
            Unusable::NoClassDescriptor => f.write_str("no CCID class descriptor"),
            Unusable::ClassDescriptor(error) => error.fmt(f),
            Unusable::NoBulkPipes => f.write_str("bulk endpoints missing"),
        }
    }
}

impl std::error::Error for UnusableInterface {}

/// Bytes that are not what they are given for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BadDescriptors {
    /// Not a device descriptor of at least 18 bytes.
    Device,
    /// Not a configuration descriptor of at least 9 bytes.
    Configuration,
}

impl fmt::Display for BadDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "not a USB device descriptor",
            Self::Configuration => "not a USB configuration descriptor",
        })
    }
}

impl std::error::Error for BadDescriptors {}

/// What [`ccid_interfaces`] says of one interface.
pub type Found = Result<CcidInterface, UnusableInterface>;

/// The CCID interfaces of a configuration, in the order of their descriptors: those of class 0Bh
/// (Smart Card), and those of class FFh that carry a class descriptor of 54 bytes. Alternate
/// setting 0 only. The class descriptor is taken from behind the interface descriptor or from
/// behind an endpoint descriptor (some readers put it last).
///
/// `device` are the bytes of the device descriptor, `configuration` those of the configuration
/// descriptor and all that follows it. `string` gives the text of a string descriptor by its
/// index; it is not asked for index 0.
///
/// # Errors
/// [`BadDescriptors`] if the bytes are not such descriptors at all. What is wrong with a single
/// interface is in its [`Found`].
pub fn ccid_interfaces(
    device: &[u8],
    configuration: &[u8],
    mut string: impl FnMut(u8) -> Option<String>,
) -> Result<Vec<Found>, BadDescriptors> {
    let whole = (Bytes::copy_from_slice(device), Bytes::copy_from_slice(configuration));
    let device = Device::parse(device).ok_or(BadDescriptors::Device)?;
    let mut walk = Walk(configuration);
    match walk.next() {
        Some([length, TYPE_CONFIGURATION, ..]) if *length >= 9 => {}
        _ => return Err(BadDescriptors::Configuration),
    }
    let mut interfaces: Vec<Interface> = Vec::new();
    // Descriptors of another alternate setting belong to no interface that is looked at.
    let mut inside = false;
    for descriptor in walk {
        match *descriptor {
            [_, TYPE_INTERFACE, number, alternate, _, class, _, protocol, name, ..] => {
                inside = alternate == 0;
                if inside {
                    interfaces.push(Interface::new(number, class, protocol, name));
                }
            }
            _ if inside => {
                if let Some(interface) = interfaces.last_mut() {
                    interface.add(descriptor);
                }
            }
            _ => {}
        }
    }
    let ccid = interfaces.into_iter().filter(Interface::is_ccid);
    Ok(ccid.map(|interface| interface.finish(&device, whole.clone(), &mut string)).collect())
}

/// Descriptors one after the other, each with its bLength and bDescriptorType. Ends where a
/// bLength leads out of the bytes or nowhere.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(*self.0.first()?);
        if length < 2 {
            return None;
        }
        let (descriptor, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(descriptor)
    }
}

/// What matters of a device descriptor.
struct Device {
    vendor_id: u16,
    product_id: u16,
    bcd_device: u16,
    manufacturer: u8,
    product: u8,
    serial_number: u8,
}

impl Device {
    fn parse(bytes: &[u8]) -> Option<Self> {
        match *bytes.first_chunk::<18>()? {
            [18..=255, TYPE_DEVICE, _, _, _, _, _, _, v0, v1, p0, p1, d0, d1, m, p, s, _] => {
                Some(Self {
                    vendor_id: u16::from_le_bytes([v0, v1]),
                    product_id: u16::from_le_bytes([p0, p1]),
                    bcd_device: u16::from_le_bytes([d0, d1]),
                    manufacturer: m,
                    product: p,
                    serial_number: s,
                })
            }
            _ => None,
        }
    }
}

/// An endpoint: bEndpointAddress, and wMaxPacketSize without the bits for more than one
/// transaction in a microframe.
#[derive(Clone, Copy)]
struct Endpoint {
    address: u8,
    packet: usize,
}

/// One interface while its descriptors are being walked.
struct Interface {
    number: u8,
    class: u8,
    protocol: u8,
    name: u8,
    class_descriptor: Option<Result<ClassDescriptor, DescriptorError>>,
    bulk_out: Option<Endpoint>,
    bulk_in: Option<Endpoint>,
    interrupt: Option<Endpoint>,
}

impl Interface {
    const fn new(number: u8, class: u8, protocol: u8, name: u8) -> Self {
        Self {
            number,
            class,
            protocol,
            name,
            class_descriptor: None,
            bulk_out: None,
            bulk_in: None,
            interrupt: None,
        }
    }

    fn add(&mut self, descriptor: &[u8]) {
        match *descriptor {
            [_, TYPE_ENDPOINT, address, attributes, low, high, ..] => {
                let packet = usize::from(u16::from_le_bytes([low, high]) & 0x07FF);
                let endpoint = (packet > 0).then_some(Endpoint { address, packet });
                let place = match (attributes & 0b11, address & 0x80 != 0) {
                    (2, false) => &mut self.bulk_out,
                    (2, true) => &mut self.bulk_in,
                    (3, true) => &mut self.interrupt,
                    _ => return,
                };
                // The first of a kind is the one that counts.
                *place = place.or(endpoint);
            }
            [_, TYPE_CLASS | TYPE_VENDOR, ..] => {
                let parsed = ClassDescriptor::parse(descriptor);
                if !matches!(self.class_descriptor, Some(Ok(_))) {
                    self.class_descriptor = Some(parsed);
                }
            }
            _ => {}
        }
    }

    /// Class FFh is CCID only with a class descriptor of CCID's length; class 0Bh always.
    fn is_ccid(&self) -> bool {
        match self.class {
            CLASS_SMART_CARD => true,
            CLASS_VENDOR => matches!(self.class_descriptor, Some(Ok(_))),
            _ => false,
        }
    }

    fn finish(
        &self,
        device: &Device,
        (device_bytes, configuration): (Bytes, Bytes),
        string: &mut impl FnMut(u8) -> Option<String>,
    ) -> Result<CcidInterface, UnusableInterface> {
        let unusable = |reason| UnusableInterface { interface: self.number, reason };
        let class = match self.class_descriptor {
            Some(Ok(class)) => class,
            None | Some(Err(DescriptorError::WrongLength(_))) => {
                return Err(unusable(Unusable::NoClassDescriptor));
            }
            Some(Err(error)) => return Err(unusable(Unusable::ClassDescriptor(error))),
        };
        // ICCD talks over the control pipe (ICCD 1.0 §3); CCID needs both bulk pipes.
        let bulk = self.bulk_in.zip(self.bulk_out).is_some();
        if !bulk && !matches!(self.protocol, 1 | 2) {
            return Err(unusable(Unusable::NoBulkPipes));
        }
        let mut text = |index: u8| if index == 0 { None } else { string(index) };
        let info = DeviceInfo {
            vendor_id: device.vendor_id,
            product_id: device.product_id,
            bcd_device: device.bcd_device,
            manufacturer: text(device.manufacturer),
            product: text(device.product),
            serial_number: text(device.serial_number),
            interface_name: text(self.name),
            interface: self.number,
            bus: 0,
            address: 0,
            interface_protocol: self.protocol,
            class,
            bulk_in_packet: self.bulk_in.map_or(0, |endpoint| endpoint.packet),
            interrupt_packet: self.interrupt.map(|endpoint| endpoint.packet),
        };
        let address = |endpoint: Endpoint| endpoint.address;
        Ok(CcidInterface {
            info,
            bulk_out: self.bulk_out.map(address),
            bulk_in: self.bulk_in.map(address),
            interrupt: self.interrupt.map(address),
            device: device_bytes,
            configuration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: [u8; 18] =
        [18, 1, 0, 2, 0, 0, 0, 64, 0x34, 0x12, 0x78, 0x56, 0x01, 0x02, 1, 2, 0, 1];

    fn class_descriptor() -> [u8; 54] {
        let mut bytes = [0; 54];
        bytes[0] = 54;
        bytes[1] = 0x21;
        bytes
    }

    fn interface(number: u8, class: u8) -> Vec<u8> {
        vec![9, 4, number, 0, 3, class, 0, 0, 4]
    }

    fn endpoints() -> Vec<u8> {
        [
            [7, 5, 0x02, 2, 64, 0, 0],
            [7, 5, 0x83, 2, 0, 2, 0],
            // wMaxPacketSize with the high-bandwidth bits set.
            [7, 5, 0x84, 3, 8, 0x08, 16],
        ]
        .concat()
    }

    fn configuration(parts: &[&[u8]]) -> Vec<u8> {
        [&[9, 2, 0, 0, 1, 1, 0, 0x80, 50], &parts.concat()[..]].concat()
    }

    fn find(configuration: &[u8]) -> Vec<Found> {
        let string = |index| (index < 5).then(|| format!("text {index}"));
        ccid_interfaces(&DEVICE, configuration, string).unwrap()
    }

    #[test]
    fn usual_reader() {
        let found = find(&configuration(&[&interface(1, 0x0B), &class_descriptor(), &endpoints()]));
        let [Ok(reader)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (reader.bulk_out, reader.bulk_in, reader.interrupt),
            (Some(2), Some(0x83), Some(0x84))
        );
        let info = &reader.info;
        assert_eq!((info.vendor_id, info.product_id, info.bcd_device), (0x1234, 0x5678, 0x0201));
        assert_eq!(info.manufacturer.as_deref(), Some("text 1"));
        assert_eq!(info.product.as_deref(), Some("text 2"));
        assert_eq!(info.serial_number, None);
        assert_eq!(info.interface_name.as_deref(), Some("text 4"));
        assert_eq!((info.interface, info.interface_protocol), (1, 0));
        assert_eq!((info.bulk_in_packet, info.interrupt_packet), (512, Some(8)));
    }

    #[test]
    fn class_descriptor_behind_the_last_endpoint() {
        let found = find(&configuration(&[&interface(0, 0x0B), &endpoints(), &class_descriptor()]));
        assert!(matches!(found[..], [Ok(_)]));
    }

    #[test]
    fn vendor_class_counts_with_a_class_descriptor_only() {
        let mut old = class_descriptor();
        old[1] = 0xFF;
        let vendor = interface(0, 0xFF);
        assert!(matches!(find(&configuration(&[&vendor, &old, &endpoints()]))[..], [Ok(_)]));
        assert!(find(&configuration(&[&vendor, &endpoints()])).is_empty());
        assert!(find(&configuration(&[&vendor, &[4, 0xFF, 1, 2], &endpoints()])).is_empty());
        // A HID interface with its own descriptor of type 21h.
        let hid = [&interface(0, 0x03)[..], &[9, 0x21, 0x11, 1, 0, 1, 0x22, 60, 0]].concat();
        assert!(find(&configuration(&[&hid, &endpoints()])).is_empty());
    }

    #[test]
    fn several_readers_in_one_configuration() {
        let one = [&interface(0, 0x0B)[..], &class_descriptor(), &endpoints()].concat();
        let two = [&interface(2, 0x0B)[..], &class_descriptor(), &endpoints()].concat();
        let found = find(&configuration(&[&one, &interface(1, 0x03), &two]));
        let numbers: Vec<_> =
            found.iter().map(|found| found.as_ref().unwrap().info.interface).collect();
        assert_eq!(numbers, [0, 2]);
    }

    #[test]
    fn other_alternate_settings_are_not_mixed_in() {
        let mut other = interface(0, 0x0B);
        other[3] = 1;
        let found = find(&configuration(&[
            &interface(0, 0x0B),
            &class_descriptor(),
            &endpoints()[..14],
            &other,
            &endpoints()[14..],
        ]));
        let [Ok(reader)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(reader.interrupt, None);
    }

    #[test]
    fn unusable_interfaces_say_why() {
        let smart_card = interface(3, 0x0B);
        let reason = |parts: &[&[u8]]| find(&configuration(parts))[0].clone().unwrap_err().reason;
        assert_eq!(reason(&[&smart_card, &endpoints()]), Unusable::NoClassDescriptor);
        assert_eq!(reason(&[&smart_card, &[4, 0x21, 0, 0]]), Unusable::NoClassDescriptor);
        assert_eq!(reason(&[&smart_card, &class_descriptor()]), Unusable::NoBulkPipes);
        let mut empty_packets = endpoints();
        (empty_packets[11], empty_packets[12]) = (0, 0);
        assert_eq!(
            reason(&[&smart_card, &class_descriptor(), &empty_packets]),
            Unusable::NoBulkPipes
        );
    }

    #[test]
    fn iccd_needs_no_bulk_pipes() {
        let mut iccd = interface(0, 0x0B);
        iccd[7] = 1;
        let found = find(&configuration(&[&iccd, &class_descriptor()]));
        let [Ok(reader)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((reader.bulk_in, reader.info.bulk_in_packet), (None, 0));
    }

    #[test]
    fn no_bytes_panic_or_loop() {
        let none = |_| None;
        assert_eq!(ccid_interfaces(&[], &[], none), Err(BadDescriptors::Device));
        assert_eq!(ccid_interfaces(&DEVICE, &[], none), Err(BadDescriptors::Configuration));
        assert_eq!(ccid_interfaces(&DEVICE, &[0; 64], none), Err(BadDescriptors::Configuration));
        let whole = configuration(&[&interface(0, 0x0B), &class_descriptor(), &endpoints()]);
        for length in 0..whole.len() {
            let _ = ccid_interfaces(&DEVICE, &whole[..length], none);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0xFF] {
                let mut bent = whole.clone();
                bent[at] = value;
                let _ = ccid_interfaces(&DEVICE, &bent, none);
            }
        }
    }
}
