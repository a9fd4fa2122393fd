//! Where a reader can be opened, and opened again after it was closed.
//!
//! A reader on USB belongs to one program at a time. What is known of it without opening it, and a
//! way to notice that another program wants it, are what it takes to have them take turns.

use crate::transport::usb::OpenError;
use crate::transport::{DeviceInfo, Transport};

/// A reader that is opened when it is needed.
pub trait Source: Send + Sync {
    /// The device, as far as it is known without being opened; its class descriptor corrected by
    /// what is known of the reader.
    fn info(&self) -> &DeviceInfo;

    /// Opens it. It is nobody else's for as long as the transport lives.
    ///
    /// # Errors
    /// [`OpenError::Busy`] if another program has it open; the others. Blocks no longer than the
    /// system takes for it.
    fn open(&self) -> Result<Box<dyn Transport>, OpenError>;

    /// What tells whether another program wants the reader: from now on, as long as it lives.
    fn rivals(&self) -> Box<dyn Rivals>;
}

/// Tells whether another program wants a reader that this one has open.
pub trait Rivals: Send {
    /// One has tried to open it. Does not block.
    fn any(&mut self) -> bool;
}
