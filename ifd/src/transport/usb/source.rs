//! A reader on USB as a [`Source`]: opened when it is needed.

use super::{Candidate, OpenError};
use crate::quirks;
use crate::source::{Rivals, Source};
use crate::transport::{DeviceInfo, Transport};

/// A CCID interface on the machine's USB, and what the system tells of it without its being
/// opened.
#[derive(Clone, Debug)]
pub struct UsbSource {
    candidate: Candidate,
    info: DeviceInfo,
}

impl UsbSource {
    /// A reader whose system tells of it. Where it does not, the reader is opened and closed again
    /// to see what it is.
    ///
    /// # Errors
    /// [`OpenError`]: what [`Candidate::info`] or [`Candidate::open`] finds.
    pub fn new(candidate: Candidate) -> Result<Self, OpenError> {
        let info = match candidate.info()? {
            Some(info) => info,
            None => candidate.open()?.info().clone(),
        };
        Ok(Self { candidate, info: quirks::corrected(info) })
    }
}

impl Source for UsbSource {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn open(&self) -> Result<Box<dyn Transport>, OpenError> {
        self.candidate.open().map(|transport| Box::new(transport) as _)
    }

    fn rivals(&self) -> Box<dyn Rivals> {
        #[cfg(target_os = "linux")]
        if let Some(rivals) =
            self.candidate.node().and_then(|node| super::rivals::Opened::of(&node))
        {
            return Box::new(rivals);
        }
        Box::new(Untold)
    }
}

/// Where the system does not tell, there may always be one: an idle reader is let go at once.
struct Untold;

impl Rivals for Untold {
    fn any(&mut self) -> bool {
        true
    }
}
