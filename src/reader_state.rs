//! What a caller of a status wait knows of a reader, and learns.

use crate::error::Error;
use crate::flags::State;
use std::ffi::{CStr, CString};

/// The name that stands for readers coming and going, in a status wait.
#[allow(non_snake_case)] // As in the `pcsc` crate, where it stands for a constant.
pub const fn PNP_NOTIFICATION() -> &'static CStr {
    c"\\\\?PnP?\\Notification"
}

/// A reader in a status wait: SCARD_READERSTATE.
#[derive(Clone, PartialEq, Eq, Debug)]
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

    /// With another count than that of the last wait: what the caller knows of insertions and
    /// removals; for [`PNP_NOTIFICATION`] either the count of the last wait or, as on Windows, the
    /// number of readers that the caller knows. 0: it does not know.
    pub fn with_event_count(mut self, count: u16) -> Self {
        self.current = self.current & 0xFFFF | u32::from(count) << 16;
        self
    }

    /// What the caller knows.
    pub fn current_state(&self) -> State {
        State::from_bits_truncate(self.current)
    }

    /// What the last wait found.
    pub fn event_state(&self) -> State {
        State::from_bits_truncate(self.event)
    }

    /// Counts insertions and removals; never 0 once the reader has told what is in it. For
    /// [`PNP_NOTIFICATION`], readers coming and going, those included that cannot be used. 16 bits.
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

    pub(crate) fn add_event(&mut self, state: State) {
        self.event |= state.bits();
    }

    pub(crate) fn is_pnp(&self) -> bool {
        // Case does not matter here, as in pcsc-lite.
        self.name.to_bytes().eq_ignore_ascii_case(PNP_NOTIFICATION().to_bytes())
    }
}

/// An ATR to look for, and the bits of it that matter: SCARD_ATRMASK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtrMask {
    atr: Vec<u8>,
    mask: Vec<u8>,
}

impl AtrMask {
    /// This ATR and no other.
    pub fn exact(atr: &[u8]) -> Self {
        Self { atr: atr.to_vec(), mask: vec![0xFF; atr.len()] }
    }

    /// The ATRs of the same length that are like `atr` in the bits that `mask` has.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the two are not equally long.
    pub fn new(atr: &[u8], mask: &[u8]) -> Result<Self, Error> {
        if atr.len() != mask.len() {
            return Err(Error::InvalidParameter);
        }
        Ok(Self { atr: atr.to_vec(), mask: mask.to_vec() })
    }

    /// Whether it is one of those; no card's, which is empty, ever is.
    pub fn matches(&self, atr: &[u8]) -> bool {
        let same =
            |((looked_for, found), mask): ((&u8, &u8), &u8)| (looked_for ^ found) & mask == 0;
        !atr.is_empty()
            && atr.len() == self.atr.len()
            && self.atr.iter().zip(atr).zip(&self.mask).all(same)
    }
}
