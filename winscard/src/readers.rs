//! Where the readers come from.

use crate::code::Code;
use crate::settings::{Settings, USB};
use ifd::named::Named;
use log::{error, warn};
use scard::{Context, ReaderState, Stack, State};
use std::ffi::CString;

/// Opens the readers that the settings name. Takes up to 5 seconds.
pub(crate) fn open(settings: &Settings) -> Result<Stack, Code> {
    let named = settings.readers.iter().filter(|name| *name != USB);
    // All are looked for before any is opened: a setting that is wrong leaves nothing behind.
    let named = named.map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let stack = match uses_usb(settings) {
        true => Stack::usb()?,
        false => Stack::empty(),
    };
    for named in named {
        plug_in(&stack, named)?;
    }
    Ok(stack)
}

fn find(name: &str) -> Result<Named, Code> {
    match Named::find(name) {
        Ok(Some(named)) => return Ok(named),
        Ok(None) => error!("SCARD_READERS: {name:?} names no reader: usb, sim: and trace: do"),
        Err(reason) => error!("SCARD_READERS: {name:?}: {reason}"),
    }
    Err(Code::NO_SERVICE)
}

pub(crate) fn uses_usb(settings: &Settings) -> bool {
    settings.readers.iter().any(|name| name == USB)
}

/// Puts a reader that has a name of its own into the stack, and again whenever it returns. It lives
/// for as long as the process.
fn plug_in(stack: &Stack, named: Named) -> Result<(), Code> {
    let plugs = named.plugs();
    let names = attach(stack, &named)?;
    let stack = stack.clone();
    let thread = std::thread::Builder::new().name("scard readers".into());
    let started = thread.spawn(move || match plugs {
        Some(plugs) => replug(&stack, &named, plugs, names),
        // It does not return.
        None => drop(named),
    });
    started.map(drop).map_err(|error| {
        warn!("no thread for a reader: {error}");
        Code::INTERNAL
    })
}

fn replug(stack: &Stack, named: &Named, mut plugs: u64, mut names: Vec<CString>) {
    while let Some(now) = named.wait_for_return(plugs) {
        plugs = now;
        // Until the old one has gone, the new one would get another name.
        until_gone(stack, &names);
        match attach(stack, named) {
            Ok(new) => names = new,
            // Unplugged again already.
            Err(_) => names.clear(),
        }
    }
}

/// Puts it into the stack: the names it has there.
fn attach(stack: &Stack, named: &Named) -> Result<Vec<CString>, Code> {
    let (transport, clock) = named.open().map_err(|reason| {
        error!("{reason}");
        Code::NO_SERVICE
    })?;
    let names = |stack: &Stack| stack.readers().into_iter().map(|reader| reader.name);
    let before: Vec<_> = names(stack).collect();
    stack.attach_with_clock(transport, clock)?;
    Ok(names(stack).filter(|name| !before.contains(name)).collect())
}

fn until_gone(stack: &Stack, names: &[CString]) {
    let Ok(context) = Context::on(stack) else { return };
    for name in names {
        let mut state = [ReaderState::new(name.clone(), State::UNAWARE)];
        // A reader that is gone is not known, and one that goes ends the wait.
        while context.get_status_change(None, &mut state).is_ok() {
            state.iter_mut().for_each(ReaderState::sync_current_state);
        }
    }
}
