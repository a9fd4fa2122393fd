//! Readers that cannot be used.

use ifd::transport::usb::OpenError;

/// A reader that is plugged in and cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnusableReader {
    /// What it would be called, without index and slot.
    pub name: String,
    /// idVendor and idProduct.
    pub ids: (u16, u16),
    /// Why.
    pub reason: OpenError,
}

impl UnusableReader {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match &self.reason {
            OpenError::PermissionDenied { .. } => format!(
                "allow it by a udev rule: SUBSYSTEM==\"usb\", ATTR{{idVendor}}==\"{:04x}\", \
                 ATTR{{idProduct}}==\"{:04x}\", TAG+=\"uaccess\"; or run as root",
                self.ids.0, self.ids.1
            ),
            OpenError::Busy { holders } if holders.iter().any(|h| h.name == "pcscd") => {
                "stop pcscd (systemctl stop pcscd.socket pcscd.service)".into()
            }
            OpenError::Busy { holders } if holders.iter().any(|h| h.name == "scdaemon") => {
                "stop scdaemon (gpgconf --kill scdaemon)".into()
            }
            OpenError::Busy { .. } => "end the program that uses it".into(),
            OpenError::Disconnected => "plug it in again".into(),
            _ => "report it with the output of `scard descriptor`".into(),
        }
    }
}
