//! The connection to a card from outside, as the reader's side of it: it never blocks.

use crate::Card;
use crate::card::{Pace, Reaction, Reset};
use bytes::Bytes;
use log::{debug, warn};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages of one byte.
const POWER_OFF: u8 = 0x00;
const POWER_ON: u8 = 0x01;
const RESET: u8 = 0x02;
const GET_ATR: u8 = 0x04;

/// So many messages a program may leave unread before it is hung up on.
const MOST_UNREAD: usize = 64;

/// What cannot be said in the protocol: wrong length.
const WRONG_LENGTH: [u8; 2] = [0x67, 0x00];

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// That to what the reader has asked last, and waits for.
    Awaited,
    /// That to something which the reader no longer waits for.
    TooLate,
    /// To nothing.
    Unasked,
}

/// The connection.
pub(super) struct Link {
    stream: TcpStream,
    state: Mutex<State>,
}

struct State {
    /// To the thread that writes; none: hung up.
    outgoing: Option<SyncSender<Vec<u8>>>,
    /// So many answers are to come.
    owed: u64,
    /// The reader waits for the last of them.
    awaited: bool,
}

impl Link {
    /// The connection, and what is to be [written](Self::write) to it.
    pub(super) fn new(stream: TcpStream) -> (Self, Receiver<Vec<u8>>) {
        let (sender, outgoing) = sync_channel(MOST_UNREAD);
        let state = State { outgoing: Some(sender), owed: 0, awaited: false };
        (Self { stream, state: Mutex::new(state) }, outgoing)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until hung up.
    pub(super) fn write(&self, outgoing: Receiver<Vec<u8>>) {
        let mut stream = &self.stream;
        for message in outgoing {
            if let Err(error) = stream.write_all(&message) {
                debug!("a card: {error}");
                break;
            }
        }
        self.hang_up();
    }

    pub(super) fn hang_up(&self) {
        self.lock().outgoing = None;
        // One that is closed already is what is wanted.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends messages, the last of which is answered if the reader is to wait.
    fn say(&self, messages: &[&[u8]], awaited: bool) {
        let mut bytes = Vec::new();
        for message in messages {
            // As long as a message can be: see `process`.
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend_from_slice(message);
        }
        let mut state = self.lock();
        state.awaited = awaited;
        state.owed += u64::from(awaited);
        let unread = state.outgoing.as_ref().is_some_and(|sender| sender.try_send(bytes).is_err());
        drop(state);
        if unread {
            warn!("a card that does not read is taken out");
            self.hang_up();
        }
    }

    /// The reader waits no longer.
    fn forget(&self) {
        self.lock().awaited = false;
    }

    /// An answer has come.
    pub(super) fn replied(&self) -> Reply {
        let mut state = self.lock();
        match state.owed {
            0 => return Reply::Unasked,
            owed => state.owed = owed - 1,
        }
        match state.owed == 0 && std::mem::take(&mut state.awaited) {
            true => Reply::Awaited,
            false => Reply::TooLate,
        }
    }
}

/// A card that is a program at the other end of a [`Link`].
pub(super) struct OutsideCard(Arc<Link>);

impl OutsideCard {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self(Arc::clone(link))
    }
}

impl Card for OutsideCard {
    fn reset(&mut self, reset: Reset) -> Reaction {
        let how = match reset {
            Reset::Cold => POWER_ON,
            Reset::Warm => RESET,
        };
        self.0.say(&[&[how], &[GET_ATR]], true);
        // A card that has no ATR in time is mute.
        Reaction::mute()
    }

    fn power_off(&mut self) {
        self.0.say(&[&[POWER_OFF]], false);
    }

    fn process(&mut self, command: &[u8]) -> Reaction {
        if command.len() < 4 || command.len() > u16::MAX.into() {
            return Reaction::at_once(Bytes::from_static(&WRONG_LENGTH));
        }
        self.0.say(&[command], true);
        Reaction { pace: Pace::Never, response: Bytes::new() }
    }

    fn interrupted(&mut self, _: Pace) {
        self.0.forget();
    }

    fn takes_apdus(&self) -> bool {
        true
    }
}
