//! A simulated device as a [`Source`]: those who open it claim its port, so that two stacks take
//! turns at it as two programs do at a reader on USB.

use super::{OpenError, SimTransport};
use crate::quirks;
use crate::source::{Rivals, Source};
use crate::transport::usb;
use crate::transport::{DeviceInfo, Transport};
use sim::{Device, Port};

/// The device in a port, to be opened when it is needed.
pub struct SimSource<D: Device + ?Sized> {
    port: Port<D>,
    info: DeviceInfo,
}

impl<D: Device + ?Sized> std::fmt::Debug for SimSource<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSource").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<D: Device + ?Sized> SimSource<D> {
    /// The device in `port`, which is looked at and not claimed.
    ///
    /// # Errors
    /// As [`SimTransport::new`].
    pub fn new(port: Port<D>) -> Result<Self, OpenError> {
        let transport = SimTransport::new(port.clone())?;
        Ok(Self { info: quirks::corrected(transport.info().clone()), port })
    }
}

impl<D: Device + ?Sized + 'static> Source for SimSource<D> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn open(&self) -> Result<Box<dyn Transport>, usb::OpenError> {
        match SimTransport::claiming(self.port.clone()) {
            Ok(transport) => Ok(Box::new(transport)),
            Err(OpenError::Busy) => Err(usb::OpenError::Busy { holders: Vec::new() }),
            Err(OpenError::Unplugged) => Err(usb::OpenError::Disconnected),
            Err(error) => Err(usb::OpenError::System(error.to_string())),
        }
    }

    fn rivals(&self) -> Box<dyn Rivals> {
        Box::new(Refused { port: self.port.clone(), known: self.port.refused() })
    }
}

struct Refused<D: Device + ?Sized> {
    port: Port<D>,
    known: u64,
}

impl<D: Device + ?Sized> Rivals for Refused<D> {
    fn any(&mut self) -> bool {
        self.port.refused() != self.known
    }
}
