//! Functions that Windows has and pcsc-lite leaves out, under their names there; `A` is for narrow
//! characters, as everything is here. `winscard/more.h` declares them.

use super::waits::{asked_of, states_of, tell};
use super::{guarded, number};
use crate::code::Code;
use crate::memory::text;
use crate::process::Process;
use crate::types::{
    AtrMask as CallersMask, CardNumber, ContextNumber, Dword, Long, MAX_MASK, ReaderState,
};
use scard::AtrMask;
use std::ffi::c_char;

/// SCARD_READER_TYPE_USB.
const TYPE_USB: Dword = 0x20;

/// Most ATRs that one call asks for.
const MAX_MASKS: Dword = 4096;

/// [`scard::Context::locate_cards_by_atr`]: SCARD_STATE_ATRMATCH in dwEventState.
///
/// # Safety
/// `masks` is null or points to `mask_count` of them, `states` to `count`, with C strings for
/// names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardLocateCardsByATR(
    context: ContextNumber,
    masks: *const CallersMask,
    mask_count: Dword,
    states: *mut ReaderState,
    count: Dword,
) -> Long {
    guarded("SCardLocateCardsByATR", || {
        // SAFETY: as the caller says.
        let (masks, states) = unsafe { (masks_of(masks, mask_count)?, states_of(states, count)?) };
        // SAFETY: the names are C strings.
        let mut asked = unsafe { asked_of(states) }?;
        let context = Process::current().context(number(context)?)?;
        context.locate_cards_by_atr(&masks, &mut asked)?;
        tell(states, &asked);
        Ok(())
    })
}

/// As [`SCardLocateCardsByATR`].
///
/// # Safety
/// As that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardLocateCardsByATRA(
    context: ContextNumber,
    masks: *const CallersMask,
    mask_count: Dword,
    states: *mut ReaderState,
    count: Dword,
) -> Long {
    // SAFETY: as the caller says.
    unsafe { SCardLocateCardsByATR(context, masks, mask_count, states, count) }
}

/// # Safety
/// `masks` is null or points to `count` of them.
unsafe fn masks_of(masks: *const CallersMask, count: Dword) -> Result<Vec<AtrMask>, Code> {
    let masks = match usize::try_from(count) {
        Ok(0) => &[],
        Ok(length) if count <= MAX_MASKS && !masks.is_null() => {
            // SAFETY: it is not null, so it points to as many.
            unsafe { std::slice::from_raw_parts(masks, length) }
        }
        _ => return Err(Code::INVALID_PARAMETER),
    };
    let mask = |mask: &CallersMask| {
        let length = usize::try_from(mask.length).unwrap_or(usize::MAX).min(MAX_MASK + 1);
        let parts = mask.atr.get(..length).zip(mask.mask.get(..length));
        let (atr, bits) = parts.ok_or(Code::INVALID_PARAMETER)?;
        Ok(AtrMask::new(atr, bits)?)
    };
    masks.iter().map(mask).collect()
}

/// [`scard::Card::transmit_count`].
///
/// # Safety
/// `count` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetTransmitCount(card: CardNumber, count: *mut Dword) -> Long {
    guarded("SCardGetTransmitCount", || {
        if count.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        let transmits = Process::current().card(number(card)?)?.card.transmit_count()?;
        // SAFETY: it is not null.
        unsafe { count.write(Dword::from(transmits)) };
        Ok(())
    })
}

/// What kind of reader it is: SCARD_READER_TYPE_USB.
///
/// # Safety
/// `reader` is null or a C string; `kind` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetDeviceTypeId(
    context: ContextNumber,
    reader: *const c_char,
    kind: *mut Dword,
) -> Long {
    guarded("SCardGetDeviceTypeId", || {
        if kind.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        // SAFETY: it is null or a C string.
        let reader = unsafe { text(reader) }.ok_or(Code::INVALID_PARAMETER)?;
        let context = Process::current().context(number(context)?)?;
        if !context.list_readers_owned()?.contains(&reader) {
            return Err(Code::UNKNOWN_READER);
        }
        // SAFETY: it is not null.
        unsafe { kind.write(TYPE_USB) };
        Ok(())
    })
}

/// As [`SCardGetDeviceTypeId`].
///
/// # Safety
/// As that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetDeviceTypeIdA(
    context: ContextNumber,
    reader: *const c_char,
    kind: *mut Dword,
) -> Long {
    // SAFETY: as the caller says.
    unsafe { SCardGetDeviceTypeId(context, reader, kind) }
}
