//! The readers on the machine's USB, before they are opened.

use super::Stack;
use crate::naming;
use ccid::ClassDescriptor;
use ifd::transport::usb::{self, Candidate};
use log::debug;
use std::ffi::CString;

/// A reader on the machine's USB, opened by somebody or not.
#[derive(Clone, Debug)]
pub struct UsbReader {
    candidate: Candidate,
    names: Vec<CString>,
}

impl UsbReader {
    /// The names that its slots have in a stack that is made now; that of the first slot only,
    /// where the system does not tell of the others without the reader being opened.
    pub fn names(&self) -> &[CString] {
        &self.names
    }

    /// The name without index and slot, as [`UnusableReader::name`](crate::UnusableReader) has it.
    pub fn friendly_name(&self) -> String {
        naming::of_candidate(&self.candidate)
    }

    /// Its class descriptor, if the system tells it without the reader being opened.
    pub fn class(&self) -> Option<ClassDescriptor> {
        self.candidate.class()
    }

    fn new(candidate: Candidate, index: usize) -> Self {
        let friendly = naming::of_candidate(&candidate);
        let last = candidate.class().map_or(0, |class| class.max_slot_index);
        let names = (0..=last).map(|slot| naming::full(&friendly, index, slot)).collect();
        Self { candidate, names }
    }
}

impl Stack {
    /// The readers on the machine's USB, in the order in which [`usb`](Self::usb) opens them. None
    /// is opened.
    pub fn list_usb() -> Vec<UsbReader> {
        let candidates = usb::readers().unwrap_or_else(|error| {
            debug!("{error}");
            Vec::new()
        });
        let numbered = candidates.into_iter().enumerate();
        numbered.map(|(index, candidate)| UsbReader::new(candidate, index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StackState, UnusableReader};
    use super::*;
    use crate::error::Error;
    use crate::{Context, PNP_NOTIFICATION, ReaderState, State};
    use ifd::transport::sim::SimSource;
    use ifd::transport::usb::OpenError;
    use sim::Port;
    use std::sync::Arc;
    use std::time::Duration;

    /// Whoever waits for readers hears of one that cannot be used, too, and that it has gone.
    #[test]
    fn a_reader_that_cannot_be_used_comes_and_goes() {
        let stack = Stack::empty();
        let context = Context::on(&stack).unwrap();
        let mut states = [ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE)];
        let known = context.get_status_change(Duration::ZERO, &mut states);
        assert_eq!(known, Err(Error::Timeout));
        let key = ("001".to_owned(), 5, 0);
        let reader = UnusableReader {
            name: "A reader".into(),
            ids: (0x08E6, 0x4433),
            reason: OpenError::Busy { holders: Vec::new() },
        };
        for comes in [true, false] {
            states[0].sync_current_state();
            let waiting = std::thread::spawn({
                let (context, mut states) = (context.clone(), states.clone());
                move || (context.get_status_change(Duration::from_secs(60), &mut states), states)
            });
            match comes {
                true => stack.inner.lock().cannot_use(key.clone(), reader.clone()),
                false => stack.inner.lock().usb_left(&key),
            }
            let (result, seen) = waiting.join().unwrap();
            assert_eq!((result, seen[0].event_state()), (Ok(()), State::CHANGED));
            assert_eq!(stack.unusable_readers(), Vec::from_iter(comes.then(|| reader.clone())));
            states = seen;
        }
        // That one left that could be used is told with its slots.
        stack.inner.lock().usb_left(&key);
        states[0].sync_current_state();
        let told = context.get_status_change(Duration::ZERO, &mut states);
        assert_eq!(told, Err(Error::Timeout));
    }

    /// One that is closed tells nobody that it has gone; nor does one that another program has.
    #[test]
    fn a_closed_reader_is_unplugged() {
        for held in [false, true] {
            let port = Port::new(sim::presets::by_name("default").unwrap());
            let stack = Stack::empty();
            let key = ("001".to_owned(), 5, 0);
            let source = Arc::new(SimSource::new(port.clone()).unwrap());
            stack.inner.add_shared(source, Some(key.clone())).unwrap();
            let context = Context::on(&stack).unwrap();
            let name = context.list_readers_owned().unwrap().remove(0);
            let claim = held.then(|| port.claim().unwrap());
            let mut states = [
                ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE),
                ReaderState::new(name, if held { State::UNAWARE } else { State::IGNORE }),
            ];
            let known = context.get_status_change(Duration::ZERO, &mut states);
            assert_eq!(known, if held { Ok(()) } else { Err(Error::Timeout) });
            states.iter_mut().for_each(ReaderState::sync_current_state);
            let waiting = std::thread::spawn({
                let (context, mut states) = (context.clone(), states.clone());
                move || (context.get_status_change(Duration::from_secs(60), &mut states), states)
            });
            while context.outstanding_calls() != Ok(1) {
                std::thread::yield_now();
            }
            stack.inner.lock().usb_left(&key);
            let (result, seen) = waiting.join().unwrap();
            assert_eq!((result, seen[0].event_state()), (Ok(()), State::CHANGED));
            if held {
                assert!(seen[1].event_state().contains(State::UNKNOWN | State::CHANGED));
            }
            assert!(stack.readers().is_empty() && stack.unusable_readers().is_empty());
            assert!(stack.inner.lock().devices.is_empty());
            drop(claim);
        }
    }

    #[test]
    fn an_index_stays_with_its_device() {
        let mut state = StackState::new();
        let key = |address| Some(("001".to_owned(), address, 0));
        assert_eq!([key(5), key(6), key(7)].map(|key| state.index_for(key)), [0, 1, 2]);
        assert_eq!(state.index_for(key(6)), 1);
        state.usb_left(&key(6).unwrap());
        assert_eq!(state.index_for(key(7)), 2);
        // The first that is free; those without a place on USB have each their own.
        assert_eq!(state.index_for(None), 1);
        assert_eq!(state.index_for(None), 3);
        assert_eq!(state.index_for(key(8)), 4);
    }
}
