//! Waiting for readers' states.

use super::{guarded, number};
use crate::code::Code;
use crate::memory::text;
use crate::process::Process;
use crate::types::{ContextNumber, Dword, INFINITE, Long, MAX_ATR, ReaderState};
use scard::State;
use std::time::Duration;

/// Most states that one call asks for: more are taken for a length that is none.
const MAX_STATES: Dword = 4096;

/// [`scard::Context::get_status_change`].
///
/// # Safety
/// `states` is null or points to `count` of them, with C strings for names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetStatusChange(
    context: ContextNumber,
    timeout: Dword,
    states: *mut ReaderState,
    count: Dword,
) -> Long {
    guarded("SCardGetStatusChange", || {
        // SAFETY: as the caller says.
        let states = unsafe { states_of(states, count) }?;
        // SAFETY: the names are C strings.
        let mut asked = unsafe { asked_of(states) }?;
        let ignored = |state: &scard::ReaderState| state.current_state().contains(State::IGNORE);
        // As pcsc-lite has it, whatever the context: there is nothing to wait for.
        if asked.iter().all(ignored) {
            return Ok(());
        }
        let context = Process::current().context(number(context)?)?;
        let timeout = match timeout {
            INFINITE | Dword::MAX => None,
            #[allow(clippy::useless_conversion)] // Not on every machine.
            timeout => Some(Duration::from_millis(u64::from(timeout))),
        };
        let result = context.get_status_change(timeout, &mut asked);
        if result != Err(scard::Error::UnknownReader) {
            tell(states, &asked);
        }
        Ok(result?)
    })
}

/// The caller's states.
///
/// # Safety
/// `states` is null or points to `count` of them, which nobody else uses meanwhile.
pub(super) unsafe fn states_of<'a>(
    states: *mut ReaderState,
    count: Dword,
) -> Result<&'a mut [ReaderState], Code> {
    match (usize::try_from(count), states.is_null()) {
        (Ok(0), _) => Ok(&mut []),
        (Ok(length), false) if count <= MAX_STATES => {
            // SAFETY: it is not null, so it points to as many.
            Ok(unsafe { std::slice::from_raw_parts_mut(states, length) })
        }
        _ => Err(Code::INVALID_PARAMETER),
    }
}

/// What the caller asks for.
///
/// # Safety
/// The names are null or C strings.
pub(super) unsafe fn asked_of(states: &[ReaderState]) -> Result<Vec<scard::ReaderState>, Code> {
    let asked = states.iter().map(|state| {
        // SAFETY: as the caller says.
        let name = unsafe { text(state.reader) }.ok_or(Code::INVALID_VALUE)?;
        // 32 bits count: the lower half is the state, the upper the events' count.
        let known = state.current_state as u32;
        let bits = State::from_bits_retain(known & 0xFFFF);
        Ok(scard::ReaderState::new(name, bits).with_event_count((known >> 16) as u16))
    });
    asked.collect()
}

/// Tells the caller what was found. Of what it ignores nothing is told.
pub(super) fn tell(states: &mut [ReaderState], found: &[scard::ReaderState]) {
    for (state, found) in states.iter_mut().zip(found) {
        if found.current_state().contains(State::IGNORE) {
            continue;
        }
        let event = found.event_state().bits() | found.event_count() << 16;
        state.event_state = Dword::from(event);
        // An ATR has at most 33 bytes.
        let length = found.atr().len().min(MAX_ATR);
        if let (Some(to), Some(from)) = (state.atr.get_mut(..length), found.atr().get(..length)) {
            to.copy_from_slice(from);
        }
        state.atr_length = length as Dword;
    }
}
