//! A slot as PC/SC's "reader": what is in it, who uses it, who waits for it.

use crate::call::CallId;
use crate::error::Error;
use crate::flags::{Protocol, ShareMode, State};
use ccid::wire::SlotError;
use ccid::{Atr, Operation, Slot};
use ifd::transport::DeviceInfo;
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names a slot of the stack for as long as its reader is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SlotId(pub(crate) u64);

/// What is in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CardState {
    /// The reader has not said yet, or is closed.
    Unknown,
    /// The reader is needed and cannot be opened: what calls that need it are told.
    OutOfReach(Error),
    Absent,
    /// A card was put in, and its ATR is being read.
    Powering,
    Powered(Atr),
    /// It is being reset after an aborted command.
    Resetting(Atr),
    /// Its power was cut; the ATR it last had.
    Unpowered(Atr),
    Mute,
}

/// Who holds a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub(crate) handle: u64,
    pub(crate) depth: u32,
    /// When something was last done in it.
    pub(crate) since: Instant,
    /// How long nothing may be done in it; None: for ever.
    pub(crate) limit: Option<Duration>,
}

/// A slot of a reader.
pub(crate) struct SlotEntry {
    pub(crate) id: SlotId,
    pub(crate) name: CString,
    /// The device's index among those of the stack.
    pub(crate) index: usize,
    pub(crate) number: Slot,
    /// The device, as far as it is known.
    pub(crate) info: Arc<DeviceInfo>,
    /// None while it is closed.
    pub(crate) reader: Option<ifd::Handle>,
    pub(crate) card: CardState,
    /// Nothing was known of the card since the reader was last closed.
    pub(crate) fresh: bool,
    /// There was a card in it when the reader was closed.
    had_card: bool,
    /// Counts insertions and removals; never 0 once it is known what is in it, as that stands for
    /// "unknown" in what a waiting caller knows.
    pub(crate) events: u16,
    /// The protocol that was agreed on since the last reset.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) transaction: Option<Holder>,
    /// What is to be done to the card when the transaction ends, for a handle that was closed
    /// meanwhile.
    pub(crate) owed: Option<Operation>,
    /// Commands that were answered.
    pub(crate) transmits: u32,
    /// Handles open, by how they share.
    pub(crate) shared: u32,
    pub(crate) exclusive: bool,
    /// Calls that wait for their turn, in order, with their handle.
    waiting: VecDeque<(CallId, Option<u64>)>,
    /// The call whose turn it is.
    turn: Option<CallId>,
}

impl SlotEntry {
    pub(crate) fn new(
        id: SlotId,
        name: CString,
        index: usize,
        number: u8,
        info: Arc<DeviceInfo>,
    ) -> Self {
        Self {
            id,
            name,
            index,
            number: Slot(number),
            info,
            reader: None,
            card: CardState::Unknown,
            fresh: true,
            had_card: false,
            events: 0,
            protocol: None,
            transaction: None,
            owed: None,
            transmits: 0,
            shared: 0,
            exclusive: false,
            waiting: VecDeque::new(),
            turn: None,
        }
    }

    /// What is in it is known, ATR included.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(self.card, CardState::Unknown | CardState::Powering | CardState::Resetting(_))
    }

    pub(crate) fn is_present(&self) -> bool {
        !matches!(self.card, CardState::Unknown | CardState::OutOfReach(_) | CardState::Absent)
    }

    /// Its reader has been opened.
    pub(crate) fn open(&mut self, reader: ifd::Handle) {
        self.info = Arc::new(reader.info().clone());
        self.reader = Some(reader);
        self.card = CardState::Unknown;
        self.fresh = true;
    }

    /// Its reader is closed: nothing is known any more.
    pub(crate) fn close(&mut self) {
        self.had_card |= self.is_present();
        self.card = CardState::Unknown;
        self.fresh = true;
        self.protocol = None;
        self.owed = None;
    }

    /// Its reader cannot be opened.
    pub(crate) fn out_of_reach(&mut self, error: Error) {
        self.card = CardState::OutOfReach(error);
        self.fresh = false;
    }

    pub(crate) fn is_out_of_reach(&self) -> bool {
        matches!(self.card, CardState::OutOfReach(_))
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.exclusive || self.shared > 0
    }

    /// The ATR of the card, powered or not.
    pub(crate) fn atr(&self) -> &[u8] {
        match &self.card {
            CardState::Powered(atr) | CardState::Resetting(atr) | CardState::Unpowered(atr) => {
                atr.as_bytes()
            }
            _ => &[],
        }
    }

    /// The reader has said whether a card is there; true if it is to be powered up.
    pub(crate) fn see_presence(&mut self, present: bool) -> bool {
        self.protocol = None;
        if std::mem::take(&mut self.had_card) {
            // It is gone, or another, for all that is known.
            self.count_event();
        }
        if present {
            self.card = CardState::Powering;
            return true;
        }
        self.fresh = false;
        if self.card != CardState::Absent {
            // An insertion that was not told yet is not counted, and neither is its removal.
            if self.is_settled() || self.events == 0 {
                self.count_event();
            }
            self.card = CardState::Absent;
        }
        false
    }

    fn count_event(&mut self) {
        self.events = self.events.wrapping_add(1).max(1);
    }

    /// A power-up has ended.
    pub(crate) fn powered_up(&mut self, result: &Result<Atr, ccid::Error>) {
        if !self.is_present() {
            return;
        }
        if self.card == CardState::Powering {
            self.count_event();
        }
        self.fresh = false;
        self.protocol = None;
        // The card was not asked: it was broken off, or the reader was still at another command.
        let unasked = matches!(
            result,
            Err(ccid::Error::Cancelled
                | ccid::Error::Timeout(_)
                | ccid::Error::Failed { error: SlotError::CmdSlotBusy, .. })
        );
        self.card = match (result, &self.card) {
            (Ok(atr), _) => CardState::Powered(atr.clone()),
            // Another reset is under way, and its end will tell.
            (_, CardState::Resetting(_)) if unasked => return,
            (_, CardState::Powered(atr) | CardState::Unpowered(atr)) if unasked => {
                CardState::Unpowered(atr.clone())
            }
            (Err(_), _) => CardState::Mute,
        };
    }

    /// The reset that [`CardState::Resetting`] stood for has ended. A reader that has said nothing
    /// of a reset before says what became of the card all the same.
    pub(crate) fn reset_ended(&mut self, result: &Result<Atr, ccid::Error>) {
        if let CardState::Resetting(atr) = &self.card {
            self.card = CardState::Unpowered(atr.clone());
        }
        self.powered_up(result);
    }

    /// What was agreed with it no longer holds.
    pub(crate) fn lost(&mut self, reset_follows: bool) {
        if let CardState::Powered(atr) = &self.card {
            let atr = atr.clone();
            self.card =
                if reset_follows { CardState::Resetting(atr) } else { CardState::Unpowered(atr) };
        }
        self.protocol = None;
    }

    /// Its power was cut.
    pub(crate) fn powered_off(&mut self) {
        if let CardState::Powered(atr) | CardState::Resetting(atr) = &self.card {
            self.card = CardState::Unpowered(atr.clone());
        }
        self.protocol = None;
    }

    /// The state that waits show: none until it is known. A card whose ATR is still being read is
    /// not there yet.
    pub(crate) fn state(&self) -> Option<State> {
        let mut state = match &self.card {
            CardState::OutOfReach(_) => return Some(State::UNAVAILABLE),
            CardState::Unknown => return None,
            _ if self.fresh => return None,
            CardState::Absent | CardState::Powering => return Some(State::EMPTY),
            CardState::Powered(_) | CardState::Resetting(_) => State::PRESENT,
            CardState::Unpowered(_) => State::PRESENT | State::UNPOWERED,
            CardState::Mute => State::PRESENT | State::MUTE,
        };
        if self.exclusive {
            state |= State::EXCLUSIVE;
        } else if self.shared > 0 {
            state |= State::INUSE;
        }
        Some(state)
    }

    pub(crate) fn may_share(&self, mode: ShareMode) -> bool {
        match mode {
            ShareMode::Exclusive => !self.exclusive && self.shared == 0,
            ShareMode::Shared | ShareMode::Direct => !self.exclusive,
        }
    }

    pub(crate) fn add_handle(&mut self, mode: ShareMode) {
        match mode {
            ShareMode::Exclusive => self.exclusive = true,
            ShareMode::Shared | ShareMode::Direct => self.shared += 1,
        }
    }

    pub(crate) fn remove_handle(&mut self, mode: ShareMode) {
        match mode {
            ShareMode::Exclusive => self.exclusive = false,
            ShareMode::Shared | ShareMode::Direct => self.shared = self.shared.saturating_sub(1),
        }
    }

    pub(crate) fn queue(&mut self, call: CallId, handle: Option<u64>) {
        self.waiting.push_back((call, handle));
    }

    /// Whether it is the turn of `call`: it is the first that another's transaction does not keep
    /// out, no other is at it, and the card is known.
    pub(crate) fn take_turn(&mut self, call: CallId) -> bool {
        if self.turn.is_some() || !self.is_settled() {
            return false;
        }
        let holder = self.transaction.map(|holder| holder.handle);
        let mut allowed =
            self.waiting.iter().filter(|(_, handle)| holder.is_none() || holder == *handle);
        if allowed.next().is_none_or(|(first, _)| *first != call) {
            return false;
        }
        self.waiting.retain(|(waiting, _)| *waiting != call);
        self.turn = Some(call);
        true
    }

    /// Nobody has his turn, or waits for it.
    #[cfg(scard_loom)]
    pub(crate) fn is_free(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty()
    }

    /// The call has had its turn, or no longer waits for it.
    pub(crate) fn leave(&mut self, call: CallId) {
        self.waiting.retain(|(waiting, _)| *waiting != call);
        if self.turn == Some(call) {
            self.turn = None;
            if let Some(holder) = &mut self.transaction {
                holder.since = ifd::sync::now();
            }
        }
    }

    /// It is some call's turn.
    pub(crate) fn is_taken(&self) -> bool {
        self.turn.is_some()
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self) -> Option<CallId> {
        self.turn
    }
}
