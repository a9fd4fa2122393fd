//! Which Lun is which slot of which reader, and what pcscd asks of them.
//!
//! A Lun is the number of the reader in its upper half and that of the slot in its lower. pcscd
//! opens every slot by the same name; they share one reader.

use crate::channel::{self, Place};
use crate::code::{self, Code};
use crate::device::Device;
use crate::settings::Settings;
use crate::slot::Slot;
use crate::{control, logger, tags};
use bytes::Bytes;
use ccid::atr::Protocol;
use ccid::operation::PowerUp;
use ccid::{Atr, Error, Operation, Output};
use log::{debug, error, info};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Names a slot between pcscd and the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Lun(pub(crate) u64);

impl Lun {
    const fn reader(self) -> u64 {
        self.0 >> 16
    }

    fn slot(self) -> Option<ccid::Slot> {
        u8::try_from(self.0 & 0xFFFF).ok().map(ccid::Slot)
    }
}

/// A slot that pcscd has opened.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) device: Arc<Device>,
    pub(crate) slot: Arc<Slot>,
    number: ccid::Slot,
}

impl Channel {
    /// Has the slot do something and waits for the end.
    pub(crate) fn call(
        &self,
        operation: Operation,
        limit: Option<Duration>,
    ) -> Result<Output, Error> {
        self.slot.call(&self.device.reader(), self.number, operation, limit)
    }

    /// Makes card and reader what pcscd takes them for, before the card is used: a reset after an
    /// aborted command may have undone the protocol.
    pub(crate) fn settle(&self) -> Result<(), Code> {
        match self.slot.unsettled() {
            Some(protocol) => self.set_protocol(protocol),
            None => Ok(()),
        }
    }

    fn set_protocol(&self, protocol: Protocol) -> Result<(), Code> {
        match self.call(Operation::SetProtocol(protocol), None) {
            Ok(_) => {
                self.slot.see_protocol(protocol);
                Ok(())
            }
            Err(error) => {
                info!("{} {protocol}: {error}", self.device.name());
                Err(code::of_protocol(&error))
            }
        }
    }

    /// Whether a card is there.
    pub(crate) fn presence(&self) -> Code {
        self.slot.presence(&self.device.reader(), self.number)
    }
}

/// What IFDHPowerICC is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Power {
    Up,
    Down,
}

type Channels = BTreeMap<Lun, Channel>;

static CHANNELS: Mutex<Channels> = Mutex::new(BTreeMap::new());

fn channels() -> MutexGuard<'static, Channels> {
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of that Lun.
fn find(lun: Lun) -> Result<Channel, Code> {
    channels().get(&lun).cloned().ok_or(Code::NoSuchDevice)
}

/// Opens the slot `lun` of the device called `name`.
pub(crate) fn open(lun: Lun, name: &str) -> Result<(), Code> {
    logger::start();
    let name = channel::unquoted(name);
    add(lun, name, || channel::Channel::parse(name))
}

/// Opens a reader without a name: the first on USB that is not open.
pub(crate) fn open_any(lun: Lun) -> Result<(), Code> {
    logger::start();
    let place = |channel: &Channel| channel.device.channel().place();
    let taken: Vec<Place> = channels().values().filter_map(place).collect();
    add(lun, "", || channel::Channel::first_but(&taken))
}

/// The lock is not held while the device is opened: that takes its time, and may fail in any way.
fn add(
    lun: Lun,
    name: &str,
    parse: impl FnOnce() -> Result<channel::Channel, Code>,
) -> Result<(), Code> {
    let number = lun.slot().ok_or(Code::NoSuchDevice)?;
    let sibling = {
        let channels = channels();
        if channels.contains_key(&lun) {
            error!("{lun:?} is open already");
            return Err(Code::Communication);
        }
        let same = |other: &Lun| other.reader() == lun.reader();
        let mut siblings = channels.iter().filter(|(other, _)| same(other));
        siblings.next().map(|(_, channel)| Arc::clone(&channel.device))
    };
    let is_new = sibling.is_none();
    let device = match sibling {
        Some(device) if device.name() == name => device,
        Some(device) => {
            error!("{lun:?} is to be {name:?}, but its reader is {:?}", device.name());
            return Err(Code::Communication);
        }
        None => Arc::new(Device::open(name, parse()?, Settings::get())?),
    };
    let Some(slot) = device.slot(number) else {
        error!("{name}: no {number}");
        if is_new {
            device.close();
        }
        return Err(Code::NoSuchDevice);
    };
    let channel = Channel { device, slot, number };
    channels().insert(lun, channel);
    Ok(())
}

/// Closes a slot; with its last slot, the reader. What is under way ends.
pub(crate) fn close(lun: Lun) -> Result<(), Code> {
    let (channel, is_last) = {
        let mut channels = channels();
        let channel = channels.remove(&lun).ok_or(Code::NoSuchDevice)?;
        let mut others = channels.values();
        let is_last = !others.any(|other| Arc::ptr_eq(&other.device, &channel.device));
        (channel, is_last)
    };
    info!("{} {} is closed", channel.device.name(), channel.number);
    if is_last {
        channel.device.close();
    } else {
        channel.device.close_slot(channel.number);
    }
    Ok(())
}

/// The value of a tag.
pub(crate) fn tag(lun: Lun, tag: u32) -> Result<Vec<u8>, Code> {
    tags::get(&find(lun)?, tag)
}

/// Sets a tag.
pub(crate) fn set_tag(lun: Lun, tag: u32) -> Result<(), Code> {
    match tags::set(&find(lun)?, tag) {
        Code::Success => Ok(()),
        code => Err(code),
    }
}

/// Makes reader and card speak `protocol`.
pub(crate) fn set_protocol(lun: Lun, protocol: Protocol) -> Result<(), Code> {
    find(lun)?.set_protocol(protocol)
}

/// Powers the card up or down; its ATR, if up. A card that has power is reset.
pub(crate) fn power(lun: Lun, power: Power) -> Result<Option<Atr>, Code> {
    let channel = find(lun)?;
    let operation = match power {
        Power::Up => Operation::PowerOn(PowerUp::Warm),
        Power::Down => Operation::PowerOff,
    };
    match channel.call(operation, None) {
        Ok(Output::Atr(atr)) => {
            channel.slot.see_power(Some(atr.clone()));
            Ok(Some(atr))
        }
        Ok(_) => {
            channel.slot.see_power(None);
            Ok(None)
        }
        Err(error) => {
            info!("{lun:?} {power:?}: {error}");
            channel.slot.see_power(None);
            Err(code::of_power(&error))
        }
    }
}

/// Exchanges a command with the card.
pub(crate) fn transmit(lun: Lun, command: Bytes) -> Result<Bytes, Code> {
    let channel = find(lun)?;
    channel.settle()?;
    let was_there = channel.slot.gone().is_none();
    match channel.call(Operation::Exchange(command), None) {
        Ok(Output::Data(response)) => Ok(response),
        Ok(other) => {
            error!("{lun:?}: an exchange gave {other:?}");
            Err(Code::Communication)
        }
        // The card is gone with it. pcscd, told of the reader, would sleep for a second before its
        // program hears anything; it is told when it looks for the card next.
        Err(Error::Disconnected) if was_there => {
            info!("{lun:?} transmit: the reader is gone");
            Err(Code::NoCard)
        }
        Err(error) => {
            info!("{lun:?} transmit: {error}");
            Err((&error).into())
        }
    }
}

/// Does what a control code asks for.
pub(crate) fn control(lun: Lun, code: u32, data: &[u8]) -> Result<Bytes, Code> {
    control::control(&find(lun)?, code, data)
}

/// Whether a card is there: [`Code::Success`] or [`Code::NoCard`].
pub(crate) fn presence(lun: Lun) -> Code {
    match find(lun) {
        Ok(channel) => {
            channel.device.revive();
            channel.presence()
        }
        Err(code) => code,
    }
}

/// Waits for a change at the slot.
pub(crate) fn poll(lun: Lun, timeout: Duration) -> Code {
    match find(lun) {
        Ok(channel) => channel.slot.poll(timeout),
        Err(code) => code,
    }
}

/// Ends that wait.
pub(crate) fn stop_polling(lun: Lun) -> Result<(), Code> {
    debug!("{lun:?}: stop waiting");
    find(lun)?.slot.stop();
    Ok(())
}
