//! The readers of `--sim` and `--trace`.

use crate::cli::failure::{Failure, complain};
use ifd::Clock;
use ifd::named::{Manner, NameError, Named};
use ifd::trace::TraceError;
use ifd::transport::Transport;
use ifd::transport::replay::Difference;
use scard::Stack;
use sim::hands::NoDevice;
use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::path::Path;

/// A simulated device, or a trace, that is in a stack. It is there for as long as this lives.
pub(crate) struct Simulated {
    device: Named,
    /// What the stack calls its slots.
    readers: Vec<CString>,
}

impl Simulated {
    /// The device called `name`; where programs can be its cards, that is said on standard error.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        let device = Named::simulated(name).map_err(|error| match error {
            NameError::Device(none) => no_device(none),
            error => Failure::failed(error.to_string()),
        })?;
        if let Some(address) = device.address() {
            complain(&format!("cards connect to {address}"), &[]);
        }
        Ok(Self { device, readers: Vec::new() })
    }

    /// The reader of a trace.
    pub(crate) fn trace(path: &Path, manner: Manner) -> Self {
        Self { device: Named::trace(path.to_owned(), manner), readers: Vec::new() }
    }

    /// Where what was sent first differed from the trace.
    pub(crate) fn difference(&self) -> Option<Difference> {
        self.device.report()?.difference()
    }

    /// A transport onto it, and its clock.
    pub(crate) fn plug_in(&self) -> Result<(Box<dyn Transport>, Clock), Failure> {
        self.device.open().map_err(|error| match error {
            // What the command line names.
            NameError::File(..) => Failure::usage(error.to_string()),
            NameError::Trace(_, TraceError::NoReader) => Failure::usage(error.to_string())
                .hint("of a log, --class says what the reader is (`scard descriptor` has it)"),
            NameError::Trace(..) => Failure::usage(error.to_string()),
            error => Failure::failed(error.to_string()),
        })
    }

    /// Puts what is behind `transport`, which is onto this device, into the stack.
    pub(crate) fn attach<T: Transport + 'static>(
        mut self,
        stack: &Stack,
        transport: T,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let before = stack.readers();
        attach(stack, transport, clock)?;
        let new = stack.readers().into_iter().filter(|reader| !before.contains(reader));
        self.readers = new.map(|reader| reader.name).collect();
        Ok(self)
    }

    /// Where programs connect that are cards in the reader of that name.
    pub(crate) fn address_of(&self, reader: &CStr) -> Option<SocketAddr> {
        let is_its = self.readers.iter().any(|name| **name == *reader);
        self.device.address().filter(|_| is_its)
    }
}

pub(crate) fn no_device(error: NoDevice) -> Failure {
    match error {
        NoDevice::Unknown(_) => {
            Failure::usage(error.to_string()).hint("`scard sim --list` names them")
        }
        error => Failure::failed(error.to_string()),
    }
}

/// Puts the reader behind `transport` into the stack.
pub(crate) fn attach<T: Transport + 'static>(
    stack: &Stack,
    transport: T,
    clock: Clock,
) -> Result<(), Failure> {
    let attached = stack.attach_with_clock(transport, clock);
    attached.map_err(|error| Failure::failed(format!("simulated reader: {error}")))
}
