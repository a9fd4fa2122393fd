//! What a connected card's handle tells of card and reader: status and attributes.

use crate::attribute::{Attribute, attribute_of};
use crate::card::{Card, find};
use crate::error::Error;
use crate::exchange::fill;
use crate::flags::{Protocol, Status};
use crate::stack::{CardState, SlotEntry, SlotId, StackState};
use std::ffi::{CStr, CString};

/// The longest value that an attribute is set to, in bytes: pcsc-lite's limit.
const MAX_ATTRIBUTE_SIZE: usize = 264;

/// What [`Card::status2`] tells; names and ATR are in the caller's buffers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardStatus<'names, 'atr> {
    reader_name: &'names CStr,
    status: Status,
    event_count: u32,
    protocol: Option<Protocol>,
    atr: &'atr [u8],
}

impl<'names, 'atr> CardStatus<'names, 'atr> {
    /// The reader's names; it has one.
    pub fn reader_names(&self) -> impl Iterator<Item = &'names CStr> + use<'names> {
        std::iter::once(self.reader_name)
    }

    /// The card's state.
    pub fn status(&self) -> Status {
        self.status
    }

    /// As [`CardStatusOwned::event_count`].
    pub fn event_count(&self) -> u32 {
        self.event_count
    }

    /// As [`CardStatusOwned::protocol2`].
    pub fn protocol2(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The card's ATR; empty without a card.
    pub fn atr(&self) -> &'atr [u8] {
        self.atr
    }
}

/// What [`Card::status2_owned`] tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardStatusOwned {
    reader_names: Vec<CString>,
    status: Status,
    event_count: u32,
    protocol: Option<Protocol>,
    atr: Vec<u8>,
}

impl CardStatusOwned {
    /// The reader's names; it has one.
    pub fn reader_names(&self) -> &[CString] {
        &self.reader_names
    }

    /// The card's state.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Counts insertions and removals; 16 bits, never 0 once the reader has told what is in it.
    pub fn event_count(&self) -> u32 {
        self.event_count
    }

    /// The protocol in use; none for a direct connection before one was agreed on.
    pub fn protocol2(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The card's ATR; empty without a card.
    pub fn atr(&self) -> &[u8] {
        &self.atr
    }
}

impl Card {
    /// State, protocol and ATR. Waits while another holds a transaction.
    ///
    /// # Errors
    /// [`Error::ResetCard`], [`Error::RemovedCard`], [`Error::ReaderUnavailable`],
    /// [`Error::Cancelled`].
    pub fn status2_owned(&self) -> Result<CardStatusOwned, Error> {
        let (_call, _slot) = self.enter()?;
        let state = self.shared().inner.lock();
        let (handle, slot) = find(&state, self.handle())?;
        let status = match &slot.card {
            CardState::Unknown | CardState::OutOfReach(_) => Status::UNKNOWN,
            CardState::Absent => Status::ABSENT,
            CardState::Powering
            | CardState::Resetting(_)
            | CardState::Mute
            | CardState::Unpowered(_) => Status::PRESENT | Status::SWALLOWED,
            CardState::Powered(_) => Status::PRESENT | Status::POWERED | Status::NEGOTIABLE,
        };
        Ok(CardStatusOwned {
            reader_names: vec![slot.name.clone()],
            status,
            event_count: u32::from(slot.events),
            protocol: handle.protocol,
            atr: slot.atr().to_vec(),
        })
    }

    /// The same, into buffers: one for the names, which end with an empty one, and one for the ATR.
    ///
    /// # Errors
    /// As [`status2_owned`](Self::status2_owned), and [`Error::InsufficientBuffer`]
    /// ([`status2_len`](Self::status2_len) tells what it takes).
    pub fn status2<'names, 'atr>(
        &self,
        names_buffer: &'names mut [u8],
        atr_buffer: &'atr mut [u8],
    ) -> Result<CardStatus<'names, 'atr>, Error> {
        let CardStatusOwned { reader_names, status, event_count, protocol, atr } =
            self.status2_owned()?;
        let mut names: Vec<u8> =
            reader_names.iter().flat_map(|name| name.as_bytes_with_nul()).copied().collect();
        names.push(0);
        let names = fill(&names, names_buffer).map_err(|(error, _)| error)?;
        let atr = fill(&atr, atr_buffer).map_err(|(error, _)| error)?;
        let reader_name = CStr::from_bytes_until_nul(names).unwrap_or_default();
        Ok(CardStatus { reader_name, status, event_count, protocol, atr })
    }

    /// Bytes that [`status2`](Self::status2) needs for names and ATR now.
    ///
    /// # Errors
    /// As [`status2_owned`](Self::status2_owned).
    pub fn status2_len(&self) -> Result<(usize, usize), Error> {
        let status = self.status2_owned()?;
        let names = status.reader_names.iter().map(|name| name.as_bytes_with_nul().len());
        Ok((names.sum::<usize>() + 1, status.atr.len()))
    }

    /// An attribute of reader or card.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`] if there is none, [`Error::ReaderUnavailable`].
    pub fn get_attribute_owned(&self, attribute: Attribute) -> Result<Vec<u8>, Error> {
        let mut state = self.shared().inner.lock();
        state.touch(self.handle());
        let (handle, slot) = find(&state, self.handle())?;
        attribute_of(attribute, handle, slot).ok_or(Error::UnsupportedFeature)
    }

    /// The same, into a buffer.
    ///
    /// # Errors
    /// As [`get_attribute_owned`](Self::get_attribute_owned), and [`Error::InsufficientBuffer`].
    pub fn get_attribute<'buf>(
        &self,
        attribute: Attribute,
        buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        let value = self.get_attribute_owned(attribute)?;
        fill(&value, buffer).map_err(|(error, _)| error)
    }

    /// Bytes that [`get_attribute`](Self::get_attribute) needs for it now.
    ///
    /// # Errors
    /// As [`get_attribute_owned`](Self::get_attribute_owned).
    pub fn get_attribute_len(&self, attribute: Attribute) -> Result<usize, Error> {
        self.get_attribute_owned(attribute).map(|value| value.len())
    }

    /// Sets an attribute. There is one: [`Attribute::EscCancel`], whatever its value, ends the
    /// command that the reader executes in this slot, whoever's it is, by the CCID Abort sequence;
    /// its call fails with [`Error::Cancelled`]. Nothing happens if there is none. Returns at once.
    /// That is how this driver is told to abort through pcscd, too; a program that cancels its own
    /// calls has [`Context::cancel`](crate::Context::cancel).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an empty value, [`Error::InsufficientBuffer`] for one of
    /// more than 264 bytes, [`Error::SharingViolation`] while another holds a transaction,
    /// [`Error::ReaderUnavailable`], [`Error::UnsupportedFeature`] for every other attribute.
    pub fn set_attribute(&self, attribute: Attribute, value: &[u8]) -> Result<(), Error> {
        match value.len() {
            0 => return Err(Error::InvalidParameter),
            1..=MAX_ATTRIBUTE_SIZE => {}
            _ => return Err(Error::InsufficientBuffer),
        }
        let mut state = self.shared().inner.lock();
        let slot = state.not_kept_out(self.handle())?;
        match attribute {
            Attribute::EscCancel => {
                state.end_command(slot);
                Ok(())
            }
            _ => Err(Error::UnsupportedFeature),
        }
    }
}

impl StackState {
    /// Ends what is done at a slot now, whoever's it is.
    fn end_command(&mut self, slot: SlotId) {
        let Some(call) = self.slot(slot).and_then(SlotEntry::turn) else {
            return;
        };
        let calls = self.contexts.values_mut().find_map(|context| context.calls.get_mut(&call));
        if let Some(call) = calls {
            call.end(Error::Cancelled, true);
        }
    }
}
