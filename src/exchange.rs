//! What goes through a connected card's handle: commands to the card and to the reader.

use crate::call::Call;
use crate::card::{Card, find};
use crate::cause;
use crate::error::Error;
use bytes::Bytes;
use ccid::{Operation, Output};
use ifd::features::{self, Control, ControlError, ReaderFacts, Settings};
use log::debug;
use std::time::Duration;

impl Card {
    /// Sends a command APDU and receives the response into `receive_buffer`. Waits while another
    /// holds a transaction, and for the card to answer.
    ///
    /// # Errors
    /// [`Error::InsufficientBuffer`] if the response does not fit
    /// ([`transmit_owned`](Self::transmit_owned) has no such limit), [`Error::ResetCard`],
    /// [`Error::RemovedCard`], [`Error::NoSmartcard`], [`Error::NotTransacted`],
    /// [`Error::ReaderUnavailable`], [`Error::Cancelled`], [`Error::Timeout`]. After the last two
    /// what the card has seen of the command is unknown: unless T=1 could be resynchronised, it has
    /// been reset, and the next call says [`Error::ResetCard`].
    pub fn transmit<'buf>(
        &self,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        self.transmit2(send_buffer, receive_buffer).map_err(|(error, _)| error)
    }

    /// The same; with [`Error::InsufficientBuffer`] comes the length of the response in bytes. The
    /// command has been executed then, and its response is lost.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn transmit2<'buf>(
        &self,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], (Error, usize)> {
        let response = self.transmit_owned(send_buffer, None).map_err(|error| (error, 0))?;
        fill(&response, receive_buffer)
    }

    /// The same without a buffer, and with a limit of its own: after `limit` the command is
    /// aborted.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn transmit_owned(&self, command: &[u8], limit: Option<Duration>) -> Result<Bytes, Error> {
        self.exchange(Operation::Exchange(Bytes::copy_from_slice(command)), limit)
    }

    /// The same to the whole response: what 61xx and 6Cxx ask for is done, and with T=0 an APDU of
    /// any case goes as the TPDUs it takes, but for those of more than 255 bytes of data (see
    /// [`ccid::completion`]). PC/SC leaves that to its callers; so does [`transmit`](Self::transmit).
    /// `limit` is for all commands together.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn transmit_complete(
        &self,
        command: &[u8],
        limit: Option<Duration>,
    ) -> Result<Bytes, Error> {
        self.exchange(Operation::ExchangeComplete(Bytes::copy_from_slice(command)), limit)
    }

    fn exchange(&self, operation: Operation, limit: Option<Duration>) -> Result<Bytes, Error> {
        let (call, slot) = self.enter()?;
        match call.command(slot, operation, limit) {
            Ok(Output::Data(data)) => {
                if let Some(entry) = self.shared().inner.lock().slot_mut(slot) {
                    entry.transmits = entry.transmits.wrapping_add(1);
                }
                Ok(data)
            }
            Ok(_) => Err(Error::InternalError),
            Err(error) => {
                debug!("transmit: {error}");
                Err(call.error(Error::of_exchange(&error)))
            }
        }
    }

    /// How many commands have been answered in this reader since it was plugged in, by
    /// whomever they were sent: SCardGetTransmitCount. Wraps.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`], [`Error::ReaderUnavailable`].
    pub fn transmit_count(&self) -> Result<u32, Error> {
        let state = self.shared().inner.lock();
        find(&state, self.handle()).map(|(_, slot)| slot.transmits)
    }

    /// Has the reader do something by a control code: [`CTL_ESCAPE`](crate::CTL_ESCAPE), or the
    /// features of PC/SC part 10. Works without a card on a connection that is
    /// [`ShareMode::Direct`](crate::ShareMode::Direct).
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`], [`Error::InvalidParameter`] for a structure that is none,
    /// [`Error::InsufficientBuffer`], [`Error::SharingViolation`] while another holds a
    /// transaction; else as [`transmit`](Self::transmit).
    pub fn control<'buf>(
        &self,
        code: u32,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], Error> {
        self.control2(code, send_buffer, receive_buffer).map_err(|(error, _)| error)
    }

    /// The same; with [`Error::InsufficientBuffer`] comes the length of the response in bytes, as
    /// with [`transmit2`](Self::transmit2).
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub fn control2<'buf>(
        &self,
        code: u32,
        send_buffer: &[u8],
        receive_buffer: &'buf mut [u8],
    ) -> Result<&'buf [u8], (Error, usize)> {
        let response = self.control_owned(code, send_buffer, None).map_err(|error| (error, 0))?;
        fill(&response, receive_buffer)
    }

    /// The same without a buffer, and with a limit of its own: after `limit` the command is
    /// aborted.
    ///
    /// # Errors
    /// As [`control`](Self::control).
    pub fn control_owned(
        &self,
        code: u32,
        data: &[u8],
        limit: Option<Duration>,
    ) -> Result<Bytes, Error> {
        cause::clear();
        let inner = &self.shared().inner;
        let mut call = Call::begin(inner, self.shared().id)?;
        let (slot, reader) = {
            let mut state = inner.lock();
            let id = state.not_kept_out(self.handle())?;
            let slot = state.slot(id).ok_or(Error::ReaderUnavailable)?;
            (id, slot.reader.clone().ok_or(Error::ReaderUnavailable)?)
        };
        let facts = ReaderFacts {
            class: &reader.info().class,
            vendor_id: reader.info().vendor_id,
            product_id: reader.info().product_id,
            behaviour: reader.behaviour(),
        };
        // Who may open the reader may do with it what it can.
        let settings = Settings { escape: true };
        let control = features::control(code, data, &facts, settings).map_err(|error| {
            debug!("control: {error}");
            match error {
                ControlError::Unsupported(_) | ControlError::EscapeNotAllowed => {
                    Error::UnsupportedFeature
                }
                _ => Error::InvalidParameter,
            }
        })?;
        let (operation, kind) = match control {
            Control::Answer(answer) => return Ok(answer),
            Control::Operation(operation, kind) => (operation, kind),
        };
        call.enter(slot, Some(self.handle()))?;
        kind.answer(call.command(slot, operation, limit)).map_err(|error| {
            debug!("control: {error}");
            call.error(Error::of_exchange(&error))
        })
    }
}

/// Copies a response to where its caller wants it; with the error comes the room it takes.
pub(crate) fn fill<'buf>(
    response: &[u8],
    buffer: &'buf mut [u8],
) -> Result<&'buf [u8], (Error, usize)> {
    let length = response.len();
    let room = buffer.get_mut(..length).ok_or((Error::InsufficientBuffer, length))?;
    room.copy_from_slice(response);
    Ok(room)
}
