//! What it takes before a handle can be used: the handle itself, power, a protocol.

use crate::call::Call;
use crate::context::Shared;
use crate::error::Error;
use crate::flags::{Protocol, Protocols, ShareMode};
use crate::stack::{CardState, HandleEntry, Inner, SlotId, Standing};
use ccid::Error::{Disconnected, NoCard, Unresponsive};
use ccid::operation::PowerUp;
use ccid::{Operation, Output};
use log::{debug, warn};

pub(crate) fn open_handle(shared: &Shared, slot: SlotId, share: ShareMode) -> Result<u64, Error> {
    let mut state = shared.inner.lock();
    if !state.contexts.contains_key(&shared.id) {
        return Err(Error::Cancelled);
    }
    let handle = state.new_id();
    let entry = state.slot_mut(slot).ok_or(Error::ReaderUnavailable)?;
    if !entry.may_share(share) {
        return Err(Error::SharingViolation);
    }
    entry.add_handle(share);
    let protocol = entry.protocol;
    let standing = Standing::Good;
    let context = shared.id;
    state.handles.insert(handle, HandleEntry { context, slot, share, standing, protocol });
    state.notify(Some(slot));
    Ok(handle)
}

/// Powers the card up, unless it is. Handles other than `own` are told.
pub(crate) fn ensure_powered(
    inner: &Inner,
    call: &Call,
    slot: SlotId,
    own: u64,
) -> Result<(), Error> {
    let card = inner.lock().slot(slot).map(|entry| entry.card.clone());
    match card {
        None => Err(Error::ReaderUnavailable),
        Some(CardState::Powered(_)) => Ok(()),
        Some(CardState::OutOfReach(error)) => Err(error),
        Some(CardState::Absent | CardState::Unknown) => Err(Error::NoSmartcard),
        Some(
            CardState::Mute
            | CardState::Unpowered(_)
            | CardState::Powering
            | CardState::Resetting(_),
        ) => power_up(inner, call, slot, PowerUp::Cold, own),
    }
}

/// Resets the card. Handles other than `own` are told; it is, too, if that fails.
pub(crate) fn power_up(
    inner: &Inner,
    call: &Call,
    slot: SlotId,
    how: PowerUp,
    own: u64,
) -> Result<(), Error> {
    // A call that has been cancelled already leaves the card alone.
    call.check()?;
    let result = call.command(slot, Operation::PowerOn(how), None);
    let mut state = inner.lock();
    let atr = match result {
        Ok(Output::Atr(atr)) => Ok(atr),
        Ok(_) => Err(ccid::Error::CardMute),
        Err(error) => Err(error),
    };
    state.mark_handles(slot, Standing::Reset, atr.is_ok().then_some(own));
    // That there is no card, or no reader, the reader's events tell.
    let told = matches!(&atr, Err(NoCard | Disconnected | Unresponsive));
    if let (Some(entry), false) = (state.slot_mut(slot), told) {
        entry.powered_up(&atr);
    }
    state.notify(Some(slot));
    atr.map(drop).map_err(|error| {
        debug!("power-up: {error}");
        Error::of_power_up(&error)
    })
}

/// Makes reader and card speak one of `protocols`: the one they speak, or else the first that the
/// card offers and the reader manages.
pub(crate) fn agree_on_protocol(
    inner: &Inner,
    call: &Call,
    slot: SlotId,
    protocols: Protocols,
) -> Result<Protocol, Error> {
    let (agreed, offered) = {
        let state = inner.lock();
        let entry = state.slot(slot).ok_or(Error::ReaderUnavailable)?;
        let info = match &entry.card {
            CardState::Powered(atr) => atr.parse().ok(),
            _ => None,
        };
        use ccid::atr::Protocol::{T0, T1};
        let offered = info.map_or(vec![T0, T1], |info| {
            // What it speaks without being asked to switch comes first.
            let first = info.default_protocol();
            let others = info.protocols().filter(move |p| Some(*p) != first);
            first.into_iter().chain(others).collect()
        });
        (entry.protocol, offered)
    };
    let accepts = |protocol| match protocol {
        Protocol::T0 => protocols.contains(Protocols::T0),
        Protocol::T1 => protocols.contains(Protocols::T1),
        Protocol::RAW => protocols.contains(Protocols::RAW),
    };
    match agreed {
        Some(agreed) if accepts(agreed) => return Ok(agreed),
        None => {}
        Some(_) if protocols.contains(Protocols::RAW) => return Ok(Protocol::RAW),
        Some(_) => return Err(Error::ProtoMismatch),
    }
    for protocol in offered.into_iter().filter(|protocol| accepts((*protocol).into())) {
        match call.command(slot, Operation::SetProtocol(protocol), None) {
            Ok(_) => {
                let protocol = protocol.into();
                if let Some(entry) = inner.lock().slot_mut(slot) {
                    entry.protocol = Some(protocol);
                }
                return Ok(protocol);
            }
            Err(error @ (ccid::Error::Unsupported(_) | ccid::Error::Failed { .. })) => {
                warn!("{protocol}: {error}");
            }
            Err(error) => return Err(Error::of_exchange(&error)),
        }
    }
    if protocols.contains(Protocols::RAW) { Ok(Protocol::RAW) } else { Err(Error::ProtoMismatch) }
}
