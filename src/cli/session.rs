//! The readers that a command works with, and which of them is meant.

use crate::cli::args::Arguments;
use crate::cli::descriptor;
use crate::cli::failure::{Exit, Failure};
use crate::cli::interrupt::Interrupt;
use crate::cli::simulated::Simulated;
use ifd::named::Manner;
use scard::{Context, Error, ReaderInfo, ReaderState, Stack, State, UnusableReader, UsbReader};
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::time::Duration;

/// Where the readers come from: simulated ones, traces, or, without any of these, the machine's USB.
pub(crate) struct Source<'a> {
    pub(crate) presets: &'a [String],
    traces: &'a [PathBuf],
    manner: Manner,
}

/// Open readers and a context on them.
pub(crate) struct Session {
    pub(crate) context: Context,
    pub(crate) stack: Stack,
    pub(crate) interrupt: Interrupt,
    /// Simulated readers and traces; none: those on USB.
    simulated: Option<Vec<Simulated>>,
}

/// A reader that a command works with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub(crate) name: CString,
    /// The name as text.
    pub(crate) text: String,
}

impl<'a> Source<'a> {
    /// What the command line asks for.
    pub(crate) fn of(arguments: &'a Arguments) -> Result<Self, Failure> {
        let Arguments { sim, trace, lenient, real_time, class, .. } = arguments;
        if trace.is_empty() && (*lenient || *real_time || class.is_some()) {
            let how = "--lenient, --real-time and --class say how --trace is replayed";
            return Err(Failure::usage(how));
        }
        let class = class.as_deref().map(|text| descriptor::parse("--class", text)).transpose()?;
        let manner = Manner { lenient: *lenient, fast: !real_time, class };
        Ok(Self { presets: sim, traces: trace, manner })
    }

    fn is_usb(&self) -> bool {
        self.presets.is_empty() && self.traces.is_empty()
    }

    /// Opens the readers. Ctrl-C cancels what is done on them from here on.
    pub(crate) fn open(&self, interrupt: &Interrupt) -> Result<Session, Failure> {
        if self.is_usb() {
            let stack = Stack::usb().map_err(|error| Failure::failed(format!("USB: {error}")))?;
            return Session::on(stack, interrupt, None);
        }
        let stack = Stack::empty();
        let mut simulated = Vec::new();
        let presets = self.presets.iter().map(|name| Simulated::find(name));
        let traces = self.traces.iter().map(|path| Ok(Simulated::trace(path, self.manner)));
        for device in presets.chain(traces) {
            let device = device?;
            let (transport, clock) = device.plug_in()?;
            simulated.push(device.attach(&stack, transport, clock)?);
        }
        Session::on(stack, interrupt, Some(simulated))
    }

    /// The readers, and the one that `wanted` means; without that, the only reader, or the only one
    /// with a card.
    pub(crate) fn open_one(
        &self,
        interrupt: &Interrupt,
        wanted: Option<&str>,
    ) -> Result<(Session, Chosen), Failure> {
        let session = self.open(interrupt)?;
        let chosen = session.choose(wanted)?;
        session.wait_for_connection(&chosen)?;
        Ok((session, chosen))
    }
}

fn cannot_be_used(reader: &UnusableReader) -> Failure {
    let message = format!("{} cannot be used: {}", reader.name, reader.reason);
    Failure::nothing(message).hint(format!("to use it, {}", reader.remedy()))
}

impl Session {
    /// A session with the readers of `stack`, which are simulated or on USB.
    pub(crate) fn on(
        stack: Stack,
        interrupt: &Interrupt,
        simulated: Option<Vec<Simulated>>,
    ) -> Result<Self, Failure> {
        let context = Context::on(&stack).map_err(|error| Failure::failed(error.to_string()))?;
        interrupt.cancels(context.canceller());
        interrupt.check()?;
        Ok(Self { context, stack, interrupt: interrupt.clone(), simulated })
    }

    /// What there is, in the order in which `list` numbers it.
    pub(crate) fn readers(&self) -> Vec<ReaderInfo> {
        self.stack.readers()
    }

    /// The names of all readers in the order in which `list` numbers them, those that cannot be used
    /// included.
    pub(crate) fn numbering(&self) -> Vec<String> {
        match self.simulated.is_some() {
            true => self.readers().iter().map(|reader| text(&reader.name)).collect(),
            false => {
                let usb = Stack::list_usb();
                usb.iter().flat_map(UsbReader::names).map(|name| text(name)).collect()
            }
        }
    }

    /// The state of each of the readers named, as it is now.
    pub(crate) fn states(&self, names: &[CString]) -> Result<Vec<ReaderState>, Failure> {
        let mut states: Vec<_> =
            names.iter().map(|name| ReaderState::new(name.clone(), State::UNAWARE)).collect();
        match self.context.get_status_change(Duration::ZERO, &mut states) {
            // Timeout: nothing is known yet of any of them, and the states say so.
            Ok(()) | Err(Error::Timeout) => Ok(states),
            Err(Error::Cancelled) => Err(Failure::Interrupted),
            Err(error) => Err(Failure::failed(format!("readers' states: {error}"))),
        }
    }

    /// The states of all readers. One that comes or goes meanwhile makes it look again.
    pub(crate) fn all_states(&self) -> Result<Vec<(ReaderInfo, ReaderState)>, Failure> {
        loop {
            self.interrupt.check()?;
            let readers = self.readers();
            let names: Vec<_> = readers.iter().map(|reader| reader.name.clone()).collect();
            if names.is_empty() {
                return Ok(Vec::new());
            }
            match self.states(&names) {
                Err(_) if self.readers() != readers => {}
                Err(failure) => return Err(failure),
                Ok(states) => return Ok(readers.into_iter().zip(states).collect()),
            }
        }
    }

    /// The reader that `wanted` means; without one the only reader, or the only one with a card.
    pub(crate) fn choose(&self, wanted: Option<&str>) -> Result<Chosen, Failure> {
        let readers = self.readers();
        if readers.is_empty() {
            return Err(self.no_reader(wanted));
        }
        let names: Vec<_> = readers.iter().map(|reader| text(&reader.name)).collect();
        let wanted = match wanted {
            Some(wanted) => {
                let all = self.numbering();
                find(&all, wanted).map(|index| all.into_iter().nth(index).unwrap_or_default())
            }
            None if names.len() == 1 => Ok(names.first().cloned().unwrap_or_default()),
            None => self.only_one_with_a_card(&names),
        }?;
        match readers.into_iter().find(|reader| text(&reader.name) == wanted) {
            Some(reader) => Ok(Chosen { name: reader.name, text: wanted }),
            None => {
                let gone = Failure::of(Error::ReaderUnavailable, &wanted);
                Err(self.explain(gone, Error::ReaderUnavailable, &wanted))
            }
        }
    }

    fn only_one_with_a_card(&self, names: &[String]) -> Result<String, Failure> {
        let states = self.all_states()?;
        let present = |state: &ReaderState| state.event_state().contains(State::PRESENT);
        let mut with_card = states.iter().filter(|(_, state)| present(state));
        match (with_card.next(), with_card.next()) {
            (Some((reader, _)), None) => Ok(text(&reader.name)),
            (None, _) => Err(listing(Failure::nothing("no card in any of the readers"), names)),
            (Some(_), Some(_)) => {
                let failure = Failure::usage("several readers have a card: say which by --reader");
                Err(listing(failure, names))
            }
        }
    }

    /// Where cards are programs that connect, waits for the first: before the port was there to be
    /// connected to, none can have come.
    fn wait_for_connection(&self, chosen: &Chosen) -> Result<(), Failure> {
        let mut simulated = self.simulated.iter().flatten();
        if simulated.all(|device| device.address_of(&chosen.name).is_none()) {
            return Ok(());
        }
        let mut states = [ReaderState::new(chosen.name.clone(), State::UNAWARE)];
        while !states.iter().any(|state| state.event_state().contains(State::PRESENT)) {
            self.interrupt.check()?;
            states.iter_mut().for_each(ReaderState::sync_current_state);
            match self.context.get_status_change(None, &mut states) {
                Ok(()) => {}
                Err(Error::Cancelled) => return Err(Failure::Interrupted),
                Err(error) => return Err(self.failure(error, &chosen.text)),
            }
        }
        Ok(())
    }

    /// What has failed: a reader that is gone may have been given up, or be a trace that is not
    /// what happens now; one that cannot be shared may be in use by another program.
    pub(crate) fn explain(&self, failure: Failure, error: Error, reader: &str) -> Failure {
        use Error::{ReaderUnavailable, SharingViolation, UnknownReader};
        if !matches!(error, UnknownReader | ReaderUnavailable | SharingViolation) {
            return failure;
        }
        if let Some(failure) = self.difference() {
            return failure;
        }
        let unusable = self.stack.unusable_readers();
        match unusable.iter().find(|unusable| reader.starts_with(&unusable.name)) {
            Some(unusable) => cannot_be_used(unusable),
            None => failure,
        }
    }

    /// What was sent that is not in a trace.
    fn difference(&self) -> Option<Failure> {
        let difference = self.simulated.iter().flatten().find_map(Simulated::difference)?;
        let failure = Failure::failed(format!("not as in the trace: {difference}"));
        Some(failure.hint("--lenient replays what another driver recorded"))
    }

    /// A call on `reader` has failed that was not an exchange.
    pub(crate) fn failure(&self, error: Error, reader: &str) -> Failure {
        self.explain(Failure::of(error, reader), error, reader)
    }

    /// Fails if the reader cannot be opened: another program has it.
    pub(crate) fn check_reach(&self, state: &ReaderState) -> Result<(), Failure> {
        match state.event_state().contains(State::UNAVAILABLE) {
            true => Err(self.failure(Error::SharingViolation, &text(state.name()))),
            false => Ok(()),
        }
    }

    /// Why there is none, and what to do.
    fn no_reader(&self, wanted: Option<&str>) -> Failure {
        if let Some(failure) = self.difference() {
            return failure;
        }
        let unusable = self.stack.unusable_readers();
        let there = match unusable.len() {
            0 => "no reader is plugged in",
            _ => "no reader can be used",
        };
        let message = match wanted {
            Some(wanted) => format!("no such reader: {wanted:?}; {there}"),
            None => there.to_owned(),
        };
        let mut failure = Failure::nothing(message);
        for reader in &unusable {
            failure = failure.hint(format!("{}: {}", reader.name, reader.reason));
            failure = failure.hint(format!("  to use it, {}", reader.remedy()));
        }
        match self.simulated.is_some() {
            true => failure,
            false => failure.hint("--sim uses a simulated reader"),
        }
    }
}

/// Which of `names` is meant: a full name, a number, a part that no other has.
fn find(names: &[String], wanted: &str) -> Result<usize, Failure> {
    if let Some(exact) = names.iter().position(|name| name == wanted) {
        return Ok(exact);
    }
    // As `list` writes it: 007 is a part of a name.
    let number = wanted.parse::<usize>().ok().filter(|number| number.to_string() == wanted);
    if let Some(number) = number.filter(|number| *number < names.len()) {
        return Ok(number);
    }
    let lower = wanted.to_lowercase();
    let mut matches = names
        .iter()
        .enumerate()
        .filter(|(_, name)| name.to_lowercase().contains(&lower))
        .map(|(index, _)| index);
    match (matches.next(), matches.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            let failure = Failure::new(Exit::Nothing, format!("no such reader: {wanted:?}"));
            Err(listing(failure, names))
        }
        (Some(_), Some(_)) => {
            let failure = Failure::usage(format!("several readers are called {wanted:?}"));
            Err(listing(failure, names))
        }
    }
}

fn listing(failure: Failure, names: &[String]) -> Failure {
    names
        .iter()
        .enumerate()
        .fold(failure.hint("readers:"), |failure, (n, name)| failure.hint(format!("{n:3}  {name}")))
}

/// A reader's name as text.
pub(crate) fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["ACS ACR38 00 00", "ACS ACR38 01 00", "QEMU 433-Swap (0001) 02 00", "ACS"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn readers_are_found_by_name_number_and_part() {
        for (wanted, index) in
            [("ACS ACR38 01 00", 1), ("qemu", 2), ("0001", 2), ("38 00", 0), ("1", 1), ("ACS", 3)]
        {
            assert_eq!(find(&names(), wanted), Ok(index), "{wanted}");
        }
    }

    #[test]
    fn absence_and_ambiguity_list_the_readers() {
        for (wanted, expected, start) in [
            ("acr38", Exit::Usage, "several readers"),
            ("nothing", Exit::Nothing, "no such reader"),
            ("9", Exit::Nothing, "no such reader"),
        ] {
            let Err(Failure::Said { exit, message, hints }) = find(&names(), wanted) else {
                panic!("{wanted} was found");
            };
            assert_eq!(exit, expected);
            assert!(message.starts_with(start), "{message}");
            assert!(hints.iter().any(|hint| hint.contains("QEMU")), "{hints:?}");
        }
    }
}
