//! Finding CCID interfaces on the machine's USB, and opening one.

use super::UsbTransport;
use crate::transport::DeviceInfo;
use crate::transport::descriptors::{CcidInterface, Found, UnusableInterface, ccid_interfaces};
use nusb::{ErrorKind, MaybeFuture};
use std::fmt;
use std::path::{Path, PathBuf};

/// A process that has a device open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its process number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The machine's USB cannot be looked through.
#[derive(Clone, Debug)]
pub struct ListError(nusb::Error);

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "USB devices cannot be listed: {}", self.0)
    }
}

impl std::error::Error for ListError {}

/// Why a reader cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// This user may not open the device.
    PermissionDenied {
        /// The device node, where the system has one.
        node: Option<PathBuf>,
    },
    /// Another process has claimed the interface.
    Busy {
        /// Processes that have the device open, as far as this user can see them.
        holders: Vec<Holder>,
    },
    /// It is gone.
    Disconnected,
    /// Its descriptors do not allow it.
    Unusable(UnusableInterface),
    /// A dialect that is not spoken: bInterfaceProtocol.
    Protocol(u8),
    /// Anything else that the system says.
    System(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PermissionDenied { node: Some(node) } => {
                write!(f, "no permission to open {}", node.display())
            }
            Self::PermissionDenied { node: None } => f.write_str("no permission to open it"),
            Self::Busy { holders } if holders.is_empty() => {
                f.write_str("in use by another process")
            }
            Self::Busy { holders } => {
                f.write_str("in use by ")?;
                for (n, holder) in holders.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(f, "{comma}{holder}")?;
                }
                Ok(())
            }
            Self::Disconnected => f.write_str("it is gone"),
            Self::Unusable(reason) => reason.fmt(f),
            Self::Protocol(protocol) => {
                write!(f, "its bInterfaceProtocol {protocol} is not known")
            }
            Self::System(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for OpenError {}

/// A CCID interface on the machine's USB.
#[derive(Clone, Debug)]
pub struct Candidate {
    device: nusb::DeviceInfo,
    interface: u8,
    class: u8,
}

/// All CCID interfaces that the machine's USB shows, in the order of bus and port.
///
/// # Errors
/// [`ListError`] where the system has no USB to look at.
pub fn readers() -> Result<Vec<Candidate>, ListError> {
    let mut devices: Vec<_> = nusb::list_devices().wait().map_err(ListError)?.collect();
    devices.sort_by_key(|d| (d.bus_id().to_owned(), d.port_chain().to_vec(), d.device_address()));
    Ok(devices.iter().flat_map(candidates).collect())
}

/// Class 0Bh for certain; class FFh if the descriptors, where they can be read without opening the
/// device, hold a CCID class descriptor.
fn candidates(device: &nusb::DeviceInfo) -> Vec<Candidate> {
    const SMART_CARD: u8 = 0x0B;
    const VENDOR: u8 = 0xFF;
    let vendor_ccid = |number| {
        // Only devices with a vendor's interface are worth the reading.
        let found = cached_interfaces(device).and_then(|found| find(found, number));
        found.is_some_and(|found| found.is_ok())
    };
    device
        .interfaces()
        .map(|interface| (interface.interface_number(), interface.class()))
        .filter(|&(number, class)| class == SMART_CARD || (class == VENDOR && vendor_ccid(number)))
        .map(|(interface, class)| Candidate { device: device.clone(), interface, class })
        .collect()
}

impl Candidate {
    /// What tells this interface from all others, as long as the device stays plugged in: bus,
    /// address, bInterfaceNumber.
    pub fn key(&self) -> (String, u8, u8) {
        (self.device.bus_id().to_owned(), self.device.device_address(), self.interface)
    }

    /// The number of its bus; 0 where the system has none.
    pub fn bus(&self) -> u8 {
        #[cfg(target_os = "linux")]
        return self.device.busnum();
        #[cfg(not(target_os = "linux"))]
        return 0;
    }

    /// Its address on the bus.
    pub fn address(&self) -> u8 {
        self.device.device_address()
    }

    /// idVendor.
    pub fn vendor_id(&self) -> u16 {
        self.device.vendor_id()
    }

    /// idProduct.
    pub fn product_id(&self) -> u16 {
        self.device.product_id()
    }

    /// iManufacturer's text, as the system has cached it.
    pub fn manufacturer(&self) -> Option<&str> {
        self.device.manufacturer_string()
    }

    /// iProduct's text.
    pub fn product(&self) -> Option<&str> {
        self.device.product_string()
    }

    /// iSerialNumber's text.
    pub fn serial_number(&self) -> Option<&str> {
        self.device.serial_number()
    }

    /// iInterface's text.
    pub fn interface_name(&self) -> Option<&str> {
        let mut interfaces = self.device.interfaces();
        interfaces.find(|i| i.interface_number() == self.interface)?.interface_string()
    }

    /// bInterfaceNumber.
    pub fn interface(&self) -> u8 {
        self.interface
    }

    /// Opens the device and claims the interface. A kernel driver on it is detached; another
    /// process's claim stands.
    ///
    /// # Errors
    /// [`OpenError`]. Blocks no longer than the system takes for it.
    pub fn open(&self) -> Result<UsbTransport, OpenError> {
        let device = self.device.open().wait().map_err(|error| self.error(&error))?;
        let found = self.describe(&device)?;
        // Bulk CCID and the two versions of ICCD; which interfaces need bulk pipes, the reading of
        // the descriptors has looked after.
        if found.info.interface_protocol > 2 {
            return Err(OpenError::Protocol(found.info.interface_protocol));
        }
        let interface = device
            .detach_and_claim_interface(self.interface)
            .wait()
            .map_err(|error| self.error(&error))?;
        UsbTransport::new(found, device, interface).map_err(|error| self.error(&error))
    }

    /// The interface's descriptors, from the open device.
    fn describe(&self, device: &nusb::Device) -> Result<CcidInterface, OpenError> {
        let configuration =
            device.active_configuration().map_err(|error| OpenError::System(error.to_string()))?;
        let found = ccid_interfaces(
            device.device_descriptor().as_bytes(),
            configuration.as_bytes(),
            |_| None,
        )
        .map_err(|error| OpenError::System(error.to_string()))?;
        let mut found = find(found, self.interface)
            .unwrap_or(Err(OpenError::System("the interface is not there any more".into())))?;
        self.name(&mut found.info);
        Ok(found)
    }

    /// Puts in what the system knows of the device besides its descriptors.
    fn name(&self, info: &mut DeviceInfo) {
        info.manufacturer = self.manufacturer().map(str::to_owned);
        info.product = self.product().map(str::to_owned);
        info.serial_number = self.serial_number().map(str::to_owned);
        info.interface_name = self.interface_name().map(str::to_owned);
        info.bus = self.bus();
        info.address = self.address();
    }

    /// The device, if the system tells of it without its being opened, and this user may open it.
    ///
    /// # Errors
    /// [`OpenError`], as far as it is known already: no permission, or descriptors that do not
    /// allow it.
    pub fn info(&self) -> Result<Option<DeviceInfo>, OpenError> {
        if let Some(node) = self.node().filter(|node| is_denied(node)) {
            return Err(OpenError::PermissionDenied { node: Some(node) });
        }
        let Some(found) = cached_interfaces(&self.device) else {
            return Ok(None);
        };
        let Some(found) = find(found, self.interface) else {
            return Ok(None);
        };
        let mut info = found?.info;
        if info.interface_protocol > 2 {
            return Err(OpenError::Protocol(info.interface_protocol));
        }
        self.name(&mut info);
        Ok(Some(info))
    }

    fn error(&self, error: &nusb::Error) -> OpenError {
        match error.kind() {
            ErrorKind::PermissionDenied => OpenError::PermissionDenied { node: self.node() },
            ErrorKind::Busy => OpenError::Busy { holders: self.holders() },
            ErrorKind::Disconnected | ErrorKind::NotFound => OpenError::Disconnected,
            _ => OpenError::System(error.to_string()),
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn node(&self) -> Option<PathBuf> {
        let (bus, address) = (self.device.busnum(), self.device.device_address());
        Some(PathBuf::from(format!("/dev/bus/usb/{bus:03}/{address:03}")))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn node(&self) -> Option<PathBuf> {
        None
    }

    #[cfg(target_os = "linux")]
    fn holders(&self) -> Vec<Holder> {
        self.node().map(|node| super::holder::holders(&node)).unwrap_or_default()
    }

    #[cfg(not(target_os = "linux"))]
    fn holders(&self) -> Vec<Holder> {
        Vec::new()
    }

    /// The class descriptor, if the system tells it without the device being opened.
    pub fn class(&self) -> Option<ccid::ClassDescriptor> {
        let found = find(cached_interfaces(&self.device)?, self.interface)?;
        found.ok().map(|found| found.info.class)
    }

    /// bInterfaceClass: 0Bh, or FFh of a reader older than the class.
    pub fn interface_class(&self) -> u8 {
        self.class
    }
}

fn find(found: Vec<Found>, number: u8) -> Option<Result<CcidInterface, OpenError>> {
    found.into_iter().find_map(|found| match found {
        Ok(interface) if interface.info.interface == number => Some(Ok(interface)),
        Err(unusable) if unusable.interface == number => Some(Err(OpenError::Unusable(unusable))),
        _ => None,
    })
}

/// The CCID interfaces by the descriptors that the system keeps of every device.
#[cfg(target_os = "linux")]
fn cached_interfaces(device: &nusb::DeviceInfo) -> Option<Vec<Found>> {
    const DEVICE_LEN: usize = 18;
    let bytes = std::fs::read(device.sysfs_path().join("descriptors")).ok()?;
    let (device, configurations) = bytes.split_at_checked(DEVICE_LEN)?;
    ccid_interfaces(device, configurations, |_| None).ok()
}

#[cfg(not(target_os = "linux"))]
fn cached_interfaces(_device: &nusb::DeviceInfo) -> Option<Vec<Found>> {
    None
}

/// This user may not open the device node. It is not opened to find out: that would tell others
/// that the reader is wanted.
#[cfg(target_os = "linux")]
fn is_denied(node: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let access = Access::READ_OK | Access::WRITE_OK;
    accessat(CWD, node, access, AtFlags::EACCESS) == Err(rustix::io::Errno::ACCESS)
}

#[cfg(not(target_os = "linux"))]
fn is_denied(_node: &Path) -> bool {
    false
}
