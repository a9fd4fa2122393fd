//! What pcscd calls a device:
//!
//! | name | from |
//! |---|---|
//! | `usb:VID/PID:libudev:IF:/dev/bus/usb/BBB/DDD` | pcscd with libudev |
//! | `usb:VID/PID:libusb-1.0:BUS:ADDRESS:IF` | pcscd with libusb |
//! | anything of [`ifd::named`] | reader.conf |
//!
//! pcscd leaves the quotes of reader.conf in the name.

use crate::code::Code;
use ifd::Clock;
use ifd::named::Named;
use ifd::transport::Transport;
use ifd::transport::usb::{self, Candidate, OpenError};
use log::{error, info};
use std::fmt;

/// An interface of a USB device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    vendor: u16,
    product: u16,
    bus: u8,
    address: u8,
    interface: u8,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vendor, product, bus, address, interface } = self;
        write!(f, "{vendor:04x}:{product:04x} at {bus:03}/{address:03}, interface {interface}")
    }
}

/// Where a reader is.
#[derive(Debug)]
pub(crate) enum Channel {
    Usb(Place),
    Named(Named),
}

impl Channel {
    /// What `name` means. A device with a name of its own is made by it.
    pub(crate) fn parse(name: &str) -> Result<Self, Code> {
        if let Some(name) = name.strip_prefix("usb:") {
            return parse_usb(name).map(Self::Usb).ok_or_else(|| {
                error!("{name:?} is no name of a USB device");
                Code::Communication
            });
        }
        match Named::find(name) {
            Ok(Some(named)) => Ok(Self::Named(named)),
            Ok(None) => {
                error!("{name:?} names no reader: usb:, sim: and trace: do");
                Err(Code::Communication)
            }
            Err(error) => {
                error!("{name:?}: {error}");
                Err(Code::Communication)
            }
        }
    }

    /// The first reader on USB that is none of `taken`, for a pcscd that gives no name.
    pub(crate) fn first_but(taken: &[Place]) -> Result<Self, Code> {
        let places = candidates().into_iter().map(|candidate| place(&candidate));
        let free = places.into_iter().find(|place| !taken.contains(place));
        free.map(Self::Usb).ok_or(Code::NoSuchDevice)
    }

    /// Its place on USB.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Usb(place) => Some(*place),
            Self::Named(_) => None,
        }
    }

    /// Opens it. [`Code::NoSuchDevice`] if it is not there, or no reader: pcscd asks for every
    /// interface of a device.
    pub(crate) fn open(&self) -> Result<(Box<dyn Transport>, Clock), Code> {
        match self {
            Self::Usb(place) => open_usb(*place),
            Self::Named(named) => named.open().map_err(|error| {
                error!("{error}");
                Code::Communication
            }),
        }
    }
}

fn candidates() -> Vec<Candidate> {
    usb::readers().unwrap_or_else(|error| {
        error!("{error}");
        Vec::new()
    })
}

fn place(candidate: &Candidate) -> Place {
    Place {
        vendor: candidate.vendor_id(),
        product: candidate.product_id(),
        bus: candidate.bus(),
        address: candidate.address(),
        interface: candidate.interface(),
    }
}

fn open_usb(wanted: Place) -> Result<(Box<dyn Transport>, Clock), Code> {
    let Some(candidate) = candidates().into_iter().find(|found| place(found) == wanted) else {
        info!("{wanted}: no reader");
        return Err(Code::NoSuchDevice);
    };
    match candidate.open() {
        Ok(transport) => Ok((Box::new(transport), Clock::monotonic())),
        Err(reason) => {
            error!("{wanted}: {reason}");
            Err(match reason {
                OpenError::Disconnected => Code::NoSuchDevice,
                _ => Code::Communication,
            })
        }
    }
}

/// The part behind `usb:`.
fn parse_usb(name: &str) -> Option<Place> {
    let mut parts = name.splitn(3, ':');
    let (vendor, product) = parts.next()?.split_once('/')?;
    let library = parts.next()?;
    let rest = parts.next()?;
    let (bus, address, interface) = match library {
        "libudev" => {
            let (interface, node) = rest.split_once(':')?;
            let (bus, address) = node.strip_prefix("/dev/bus/usb/")?.split_once('/')?;
            (bus, address, interface)
        }
        "libusb-1.0" => {
            let (bus, rest) = rest.split_once(':')?;
            let (address, interface) = rest.split_once(':')?;
            (bus, address, interface)
        }
        _ => return None,
    };
    Some(Place {
        vendor: u16::from_str_radix(vendor, 16).ok()?,
        product: u16::from_str_radix(product, 16).ok()?,
        bus: bus.parse().ok()?,
        address: address.parse().ok()?,
        interface: interface.parse().ok()?,
    })
}

/// A name as it was meant.
pub(crate) fn unquoted(name: &str) -> &str {
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place =
        Place { vendor: 0x08E6, product: 0x3437, bus: 8, address: 47, interface: 1 };

    #[test]
    fn both_forms_of_names_of_usb_devices() {
        assert_eq!(parse_usb("08e6/3437:libudev:1:/dev/bus/usb/008/047"), Some(PLACE));
        assert_eq!(parse_usb("08e6/3437:libusb-1.0:8:47:1"), Some(PLACE));
        for name in [
            "",
            "08e6/3437",
            "08e6/3437:libudev",
            "08e6/3437:libudev:0:/dev/ttyS0",
            "08e6/3437:libudev:-1:/dev/bus/usb/008/047",
            "08e6/3437:libudev:0:/dev/bus/usb/008",
            "08e6/3437:libusb-1.0:8:47",
            "08e6/3437:libusb-1.0:8:470:0",
            "08e6/34377:libusb-1.0:8:47:0",
            "08e6/3437:libhal:/org/freedesktop",
        ] {
            assert_eq!(parse_usb(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        for name in ["", "/dev/ttyS0", "usb:nonsense", "sim:nonsense"] {
            assert_eq!(Channel::parse(name).unwrap_err(), Code::Communication, "{name}");
        }
        assert!(Channel::parse("sim:default").unwrap().place().is_none());
        assert_eq!(unquoted("\"sim:default\""), "sim:default");
        assert_eq!(unquoted("sim:default"), "sim:default");
        assert_eq!(unquoted("\""), "\"");
    }

    /// No device has the number 0 on its bus.
    #[test]
    fn a_device_that_is_not_there_is_no_such_device() {
        let channel = Channel::parse("usb:08e6/3437:libudev:0:/dev/bus/usb/000/000").unwrap();
        assert_eq!(channel.open().err(), Some(Code::NoSuchDevice));
        assert!(Channel::parse("sim:default").unwrap().open().is_ok());
    }
}
