//! CCID devices that others wrote, unmodified, behind the seams of this project's simulator.
//!
//! What was written here on both ends of the wire agrees with itself; these peers do not know us.

pub mod usbd;

pub use usbd::UsbdCcid;
