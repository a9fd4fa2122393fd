//! What a caller of a status wait knows of a reader, and learns.

use crate::flags::State;
use std::ffi::{CStr, CString};

/// The name that stands for readers coming and going, in a status wait.
#[allow(non_snake_case)] // As in the `pcsc` crate, where it stands for a constant.
pub const fn PNP_NOTIFICATION() -> &'static CStr {
    c"\\\\?PnP?\\Notification"
}

/// A reader in a status wait: SCARD_READERSTATE.
#[derive(Clone, Debug)]
pub struct ReaderState {
    name: CString,
    current: u32,
    event: u32,
    atr: Vec<u8>,
}

impl ReaderState {
    /// The reader `name`, of which the caller knows `current_state`.
    pub fn new<T: Into<CString>>(name: T, current_state: State) -> Self {
        Self { name: name.into(), current: current_state.bits(), event: 0, atr: Vec::new() }
    }

    /// The reader's name.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The card's ATR as the last wait found it; empty without a card.
    pub fn atr(&self) -> &[u8] {
        &self.atr
    }

    /// What the caller knows.
    pub fn current_state(&self) -> State {
        State::from_bits_truncate(self.current)
    }

    /// What the last wait found.
    pub fn event_state(&self) -> State {
        State::from_bits_truncate(self.event)
    }

    /// Insertions and removals so far, or readers' for [`PNP_NOTIFICATION`]; 16 bits.
    pub fn event_count(&self) -> u32 {
        self.event >> 16
    }

    /// Takes what the last wait found for what the caller knows.
    pub fn sync_current_state(&mut self) {
        self.current = self.event & !State::CHANGED.bits();
    }

    /// dwCurrentState, event counter included.
    pub(crate) fn current_bits(&self) -> u32 {
        self.current
    }

    pub(crate) fn set_event(&mut self, state: State, count: u16, atr: &[u8]) {
        self.event = state.bits() | u32::from(count) << 16;
        self.atr.clear();
        self.atr.extend_from_slice(atr);
    }

    pub(crate) fn is_pnp(&self) -> bool {
        // Case does not matter here, as in pcsc-lite.
        self.name.to_bytes().eq_ignore_ascii_case(PNP_NOTIFICATION().to_bytes())
    }
}
