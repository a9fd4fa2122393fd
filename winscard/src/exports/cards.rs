//! Cards: connections, transactions, commands, what card and reader tell.

use super::{
    disposition, g_rgSCardRawPci, g_rgSCardT0Pci, g_rgSCardT1Pci, guarded, number, protocol_number,
    protocols, share_mode,
};
use crate::card::Request;
use crate::code::Code;
use crate::memory::{give, put, taken, text};
use crate::process::Process;
use crate::types::{
    CardNumber, ContextNumber, Dword, IoRequest, Long, PROTOCOL_ANY_OLD, PROTOCOL_RAW,
};
use scard::{Attribute, Disposition};
use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

/// Most bytes of a reader's name: MAX_READERNAME.
const MAX_NAME: usize = 128;

/// Bytes of the shortest answer of a card.
const STATUS_WORD: Dword = 2;

/// [`scard::Context::connect`].
///
/// # Safety
/// `reader` is null or a C string; `card` and `protocol` are null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardConnect(
    context: ContextNumber,
    reader: *const c_char,
    share: Dword,
    preferred: Dword,
    card: *mut CardNumber,
    protocol: *mut Dword,
) -> Long {
    guarded("SCardConnect", || {
        if card.is_null() || protocol.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        // SAFETY: it is not null.
        unsafe { card.write(0) };
        // SAFETY: it is null or a C string.
        let reader = unsafe { text(reader) }.ok_or(Code::UNKNOWN_READER)?;
        if reader.count_bytes() > MAX_NAME {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: it is not null.
        unsafe { protocol.write(0) };
        let id = number(context)?;
        let process = Process::current();
        let context = process.context(id)?;
        let connected = context.connect(&reader, share_mode(share)?, protocols(preferred))?;
        let agreed = protocol_number(connected.protocol()?);
        let handle = process.add_card(id, connected)?;
        // SAFETY: neither is null.
        unsafe {
            protocol.write(agreed);
            card.write(handle as CardNumber);
        }
        Ok(())
    })
}

/// [`scard::Card::reconnect`].
///
/// # Safety
/// `protocol` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardReconnect(
    card: CardNumber,
    share: Dword,
    preferred: Dword,
    initialization: Dword,
    protocol: *mut Dword,
) -> Long {
    guarded("SCardReconnect", || {
        if protocol.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        // SAFETY: it is not null.
        unsafe { protocol.write(0) };
        let open = Process::current().card(number(card)?)?;
        let (share, how) = (share_mode(share)?, disposition(initialization)?);
        open.forget();
        open.card.reconnect_shared(share, protocols(preferred), how)?;
        let agreed = protocol_number(open.card.protocol()?);
        // SAFETY: it is not null.
        unsafe { protocol.write(agreed) };
        Ok(())
    })
}

/// [`scard::Card::disconnect`].
#[unsafe(no_mangle)]
pub extern "C" fn SCardDisconnect(card: CardNumber, value: Dword) -> Long {
    guarded("SCardDisconnect", || {
        let process = Process::current();
        let card = number(card)?;
        process.card(card)?;
        let how = disposition(value)?;
        // Of two threads that disconnect, one does.
        Ok(process.remove_card(card)?.card.disconnect_shared(how)?)
    })
}

/// [`scard::Card::transaction`].
#[unsafe(no_mangle)]
pub extern "C" fn SCardBeginTransaction(card: CardNumber) -> Long {
    guarded("SCardBeginTransaction", || {
        Ok(Process::current().card(number(card)?)?.card.begin_transaction()?)
    })
}

/// [`scard::Card::end_transaction`].
#[unsafe(no_mangle)]
pub extern "C" fn SCardEndTransaction(card: CardNumber, value: Dword) -> Long {
    guarded("SCardEndTransaction", || {
        let open = Process::current().card(number(card)?)?;
        let how = disposition(value)?;
        if how != Disposition::LeaveCard {
            open.forget();
        }
        Ok(open.card.end_transaction(how)?)
    })
}

/// [`scard::Card::status2_owned`]. The name is one text; a buffer that is too small gets nothing.
///
/// # Safety
/// Pointers are null or may be written to, the lengths also read; `name` and `atr` point to as many
/// bytes, or with SCARD_AUTOALLOCATE to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardStatus(
    card: CardNumber,
    name: *mut c_char,
    name_length: *mut Dword,
    state: *mut Dword,
    protocol: *mut Dword,
    atr: *mut u8,
    atr_length: *mut Dword,
) -> Long {
    guarded("SCardStatus", || {
        // A buffer without a length has no room.
        let (mut no_name, mut no_atr) = (0, 0);
        let name_length = if name_length.is_null() { &raw mut no_name } else { name_length };
        let atr_length = if atr_length.is_null() { &raw mut no_atr } else { atr_length };
        // SAFETY: the lengths are not null, the others may be.
        let (name_room, atr_room) = unsafe {
            put(state, 0);
            put(protocol, 0);
            (name_length.replace(0), atr_length.replace(0))
        };
        let status = Process::current().card(number(card)?)?.card.status2_owned()?;
        let bits = status.status().bits() | status.event_count() << 16;
        let reader = status.reader_names().first().map(|name| name.as_bytes_with_nul());
        // SAFETY: as the caller says; the lengths are what they were.
        unsafe {
            put(state, Dword::from(bits));
            put(protocol, protocol_number(status.protocol2()));
            name_length.write(name_room);
            atr_length.write(atr_room);
            let name = give(reader.unwrap_or(&[0]), name.cast(), name_length);
            let atr = give(status.atr(), atr, atr_length);
            name.and(atr)
        }
    })
}

/// [`scard::Card::transmit`]. An answer for which there is no room is kept: the length is told, and
/// the same call, if it comes next, gets the answer, and the card not the command. Where there is
/// no answer, the length is 0: many callers look at that much of their buffer whatever the code.
///
/// # Safety
/// `send_pci` is null or may be read; `send` is null or points to `send_length` bytes;
/// `receive_length` is null or may be read and written; `receive` is null or points to as many
/// bytes, or with SCARD_AUTOALLOCATE to a pointer; `receive_pci` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardTransmit(
    card: CardNumber,
    send_pci: *const IoRequest,
    send: *const u8,
    send_length: Dword,
    receive_pci: *mut IoRequest,
    receive: *mut u8,
    receive_length: *mut Dword,
) -> Long {
    guarded("SCardTransmit", || {
        let any_null = send_pci.is_null() || send.is_null() || receive.is_null();
        if any_null || receive_length.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        // SAFETY: it is not null.
        let room = unsafe { receive_length.replace(0) };
        let open = Process::current().card(number(card)?)?;
        // SAFETY: as the caller says.
        let (asked, command) = unsafe { ((*send_pci).protocol, taken(send, send_length)?) };
        if room < STATUS_WORD {
            // The card need not be troubled.
            // SAFETY: it is not null.
            unsafe { receive_length.write(STATUS_WORD) };
            return Err(Code::INSUFFICIENT_BUFFER);
        }
        let agreed = protocol_number(open.card.protocol()?);
        if ![agreed, PROTOCOL_RAW, PROTOCOL_ANY_OLD].contains(&asked) {
            return Err(Code::PROTO_MISMATCH);
        }
        // SAFETY: as the caller says; the length is what it was.
        let give = |answer: &[u8]| unsafe {
            receive_length.write(room);
            give(answer, receive, receive_length)
        };
        let result = open.exchange(Request::Transmit(&command), give);
        if result.is_ok() {
            // SAFETY: as the caller says.
            unsafe { tell_protocol(receive_pci, IoRequest::of(agreed)) };
        }
        result
    })
}

/// Tells the caller the protocol. Many give one of the constants, which stay as they are.
///
/// # Safety
/// `to` is null or may be written to, unless it is one of the constants.
unsafe fn tell_protocol(to: *mut IoRequest, protocol: IoRequest) {
    if !to.is_null() && !constants().contains(&(to as usize)) {
        // SAFETY: it is not null, and none of the constants.
        unsafe { to.write(protocol) };
    }
}

/// Where the constants are: here, and where the linker has put a program's copy of them.
fn constants() -> &'static [usize; 6] {
    static CONSTANTS: OnceLock<[usize; 6]> = OnceLock::new();
    CONSTANTS.get_or_init(|| {
        let names = [c"g_rgSCardT0Pci", c"g_rgSCardT1Pci", c"g_rgSCardRawPci"];
        // SAFETY: the names are C strings.
        let [t0, t1, raw] =
            names.map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize);
        let own = |pci: &'static IoRequest| std::ptr::from_ref(pci) as usize;
        [t0, t1, raw, own(&g_rgSCardT0Pci), own(&g_rgSCardT1Pci), own(&g_rgSCardRawPci)]
    })
}

/// [`scard::Card::control`]. An answer for which there is no room is kept, as with
/// [`SCardTransmit`].
///
/// # Safety
/// `send` is null or points to `send_length` bytes, `receive` to `receive_length`; `returned` is
/// null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardControl(
    card: CardNumber,
    code: Dword,
    send: *const c_void,
    send_length: Dword,
    receive: *mut c_void,
    receive_length: Dword,
    returned: *mut Dword,
) -> Long {
    guarded("SCardControl", || {
        // SAFETY: it is null or may be written to.
        unsafe { put(returned, 0) };
        let open = Process::current().card(number(card)?)?;
        // SAFETY: as the caller says.
        let data = unsafe { taken(send.cast(), send_length) }?;
        let code = u32::try_from(code).map_err(|_| Code::UNSUPPORTED)?;
        open.exchange(Request::Control(code, &data), |answer| {
            // Without a buffer there is no room, but for an answer that is empty.
            let mut length = if receive.is_null() { 0 } else { receive_length };
            let mut nowhere = 0_u8;
            let buffer = if receive.is_null() { &raw mut nowhere } else { receive.cast() };
            // SAFETY: there is as much room; no more than this is asked for to be allocated.
            unsafe {
                let given = give(answer, buffer, &raw mut length);
                put(returned, length);
                given
            }
        })
    })
}

/// [`scard::Card::get_attribute`].
///
/// # Safety
/// `length` is null or may be read and written; `value` is null or points to as many bytes, or with
/// SCARD_AUTOALLOCATE to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetAttrib(
    card: CardNumber,
    attribute: Dword,
    value: *mut u8,
    length: *mut Dword,
) -> Long {
    guarded("SCardGetAttrib", || {
        if length.is_null() {
            return Err(Code::INVALID_PARAMETER);
        }
        let open = Process::current().card(number(card)?)?;
        let found = open.card.get_attribute_owned(known_attribute(attribute)?)?;
        // SAFETY: as the caller says, and `length` is not null.
        unsafe { give(&found, value, length) }
    })
}

/// [`scard::Card::set_attribute`].
///
/// # Safety
/// `value` is null or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardSetAttrib(
    card: CardNumber,
    attribute: Dword,
    value: *const u8,
    length: Dword,
) -> Long {
    guarded("SCardSetAttrib", || {
        if value.is_null() || length == 0 {
            return Err(Code::INVALID_PARAMETER);
        }
        let open = Process::current().card(number(card)?)?;
        // SAFETY: as the caller says.
        let value = unsafe { taken(value, length) }?;
        Ok(open.card.set_attribute(known_attribute(attribute)?, &value)?)
    })
}

fn known_attribute(code: Dword) -> Result<Attribute, Code> {
    u32::try_from(code).ok().and_then(Attribute::from_code).ok_or(Code::UNSUPPORTED)
}
