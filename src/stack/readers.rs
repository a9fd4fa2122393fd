//! What is known of the readers of a stack.

use super::Stack;
use ifd::transport::DeviceInfo;
use std::ffi::CString;

/// A reader of a stack: one slot of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReaderInfo {
    /// Its name, as [`Context::list_readers_owned`](crate::Context::list_readers_owned) has it.
    pub name: CString,
    /// The slot's number.
    pub slot: u8,
    /// The device, its class descriptor included.
    pub device: DeviceInfo,
}

impl Stack {
    /// The readers there are now, in the order of
    /// [`Context::list_readers_owned`](crate::Context::list_readers_owned).
    pub fn readers(&self) -> Vec<ReaderInfo> {
        let state = self.inner.lock();
        let describe = |slot: &super::SlotEntry| ReaderInfo {
            name: slot.name.clone(),
            slot: slot.number.0,
            device: DeviceInfo::clone(&slot.info),
        };
        state.slots.iter().map(describe).collect()
    }
}
