//! One slot: what is in it, what it is doing, and who waits for a change.
//!
//! pcscd looks at a slot on a thread of its own, by turns: it asks for the card
//! ([`Slot::presence`]), deals with what it finds, then waits in [`Slot::poll`]. It asks more than
//! once in a turn, and only one of the answers counts, which we cannot tell: it asks before it
//! powers a card up or down, too. Clients' threads ask as well.
//!
//! So a slot remembers what pcscd's own thread was told in a turn. That thread waits only if it was
//! told the same all the time and that is how it is; and a card that was taken out is not there for
//! a whole turn, even if one is there again: else nobody would hear that it is another.

use crate::code::Code;
use ccid::atr::Protocol;
use ccid::wire::IccStatus;
use ccid::{Atr, Error, Operation, Output};
use ifd::{Handle, Ticket};
use log::{debug, info};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long the reader may take to say what is in a slot of which nothing is known.
const STATUS_TIME: Duration = Duration::from_secs(3);

/// A wait that pcscd means to end by itself: when it is over, a card that nobody uses is powered
/// off.
const SHORT_WAIT: Duration = Duration::from_secs(60);

/// How long it lasts at least, if nothing but a stop ends it.
const STOP_PAUSE: Duration = Duration::from_millis(200);

/// A slot as pcscd sees it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A card is there, as far as known.
    present: Option<bool>,
    /// A card was taken out, and pcscd's thread may not have been told.
    removed: bool,
    /// What pcscd's thread was told in this turn, and what anybody was.
    told: Told,
    told_anybody: Told,
    /// What pcscd's thread took for the truth when it last waited.
    believed: Option<bool>,
    /// pcscd's thread, once it has waited.
    waiter: Option<ThreadId>,
    /// It is to stop waiting, or not to begin.
    stop: bool,
    /// It is about to be stopped for good.
    ends: bool,
    /// Why the reader is gone.
    gone: Option<Error>,
    /// pcscd has closed the channel.
    closed: bool,
    /// The card's, while it has power.
    atr: Option<Atr>,
    /// What pcscd has set since it powered the card up.
    protocol: Option<Protocol>,
    /// The card was reset since then without pcscd having asked for it.
    unsettled: bool,
    /// What is under way.
    running: Vec<(Handle, Ticket)>,
}

/// What was told in a turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Told {
    #[default]
    Nothing,
    /// Always the same: whether a card is there.
    Always(bool),
    /// This and that.
    Both,
}

impl Told {
    fn also(self, present: bool) -> Self {
        match self {
            Self::Nothing => Self::Always(present),
            Self::Always(before) if before == present => self,
            Self::Always(_) | Self::Both => Self::Both,
        }
    }
}

impl State {
    fn tell(&mut self, present: bool) {
        let own = std::thread::current().id();
        if self.waiter.is_none_or(|waiter| waiter == own) {
            self.told = self.told.also(present);
        }
        self.told_anybody = self.told_anybody.also(present);
    }

    /// A turn of pcscd's thread, which is this one, is over.
    fn end_turn(&mut self) {
        let own = std::thread::current().id();
        let told = std::mem::take(&mut self.told);
        let told_anybody = std::mem::take(&mut self.told_anybody);
        let waiter = self.waiter.replace(own);
        // Who waits on changing threads may ask on others still.
        let told = if waiter.is_none_or(|waiter| waiter == own) { told } else { told_anybody };
        self.removed &= told != Told::Always(false);
        self.believed = match told {
            Told::Nothing => self.believed.or(self.present),
            Told::Always(present) => Some(present),
            Told::Both => None,
        };
    }

    /// There is something that pcscd's thread does not know.
    fn has_news(&self) -> bool {
        self.removed || self.present.is_some() && self.present != self.believed
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the reader do something and waits for the end; [`cancel`](Self::cancel) ends it.
    pub(crate) fn call(
        &self,
        reader: &Handle,
        number: ccid::Slot,
        operation: Operation,
        limit: Option<Duration>,
    ) -> Result<Output, Error> {
        let begun = {
            let mut state = self.lock();
            if state.closed {
                return Err(Error::Disconnected);
            }
            let begun = reader.begin(number, operation, limit);
            state.running.push((reader.clone(), begun.ticket()));
            begun
        };
        let ticket = begun.ticket();
        let result = begun.wait();
        self.lock().running.retain(|(_, other)| *other != ticket);
        result
    }

    /// Ends what is under way, by the CCID Abort sequence where it has begun. Returns at once; does
    /// nothing to what begins later.
    pub(crate) fn cancel(&self) {
        let state = self.lock();
        info!("{} commands are cancelled", state.running.len());
        for (reader, ticket) in &state.running {
            reader.cancel(*ticket);
        }
    }

    /// Nobody is to use it any more: what is under way is cancelled, waiting ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.cancel();
        self.changed.notify_all();
    }

    /// A card came or went.
    pub(crate) fn see_presence(&self, present: bool) {
        let mut state = self.lock();
        if !present {
            state.removed |= state.present == Some(true);
            state.atr = None;
        }
        state.present = Some(present);
        self.changed.notify_all();
    }

    /// pcscd has powered the card up or down: what was agreed with it is over.
    pub(crate) fn see_power(&self, atr: Option<Atr>) {
        let mut state = self.lock();
        (state.atr, state.protocol, state.unsettled) = (atr, None, false);
    }

    /// The card has lost its power or was reset, and not by pcscd: after an aborted command.
    pub(crate) fn see_reset(&self, atr: Option<Atr>) {
        let mut state = self.lock();
        (state.atr, state.unsettled) = (atr, true);
    }

    /// pcscd has set a protocol, or what it has set holds again.
    pub(crate) fn see_protocol(&self, protocol: Protocol) {
        let mut state = self.lock();
        (state.protocol, state.unsettled) = (Some(protocol), false);
    }

    /// The protocol that has to be set again before the card is used: pcscd takes it for agreed.
    pub(crate) fn unsettled(&self) -> Option<Protocol> {
        let state = self.lock();
        state.protocol.filter(|_| state.unsettled)
    }

    /// The ATR of the card, while it has power.
    pub(crate) fn atr(&self) -> Option<Atr> {
        self.lock().atr.clone()
    }

    /// The reader is gone.
    pub(crate) fn see_gone(&self, error: &Error) {
        let mut state = self.lock();
        state.gone = Some(error.clone());
        (state.present, state.atr) = (None, None);
        self.changed.notify_all();
    }

    /// Why the reader is gone, if it is.
    pub(crate) fn gone(&self) -> Option<Error> {
        self.lock().gone.clone()
    }

    /// The reader is back, with nothing known of its cards.
    pub(crate) fn revive(&self) {
        let mut state = self.lock();
        // Whatever is there now, what was there is not.
        state.removed = true;
        (state.gone, state.present) = (None, None);
    }

    /// Waits until it is known what is in it, or the reader is gone, or `limit` has passed.
    pub(crate) fn settle(&self, limit: Duration) {
        let unknown = |state: &mut State| state.present.is_none() && state.gone.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), limit, unknown);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether a card is there: [`Code::Success`], [`Code::NoCard`].
    pub(crate) fn presence(&self, reader: &Handle, number: ccid::Slot) -> Code {
        let known = {
            let mut state = self.lock();
            if state.gone.is_some() || state.closed {
                return Code::NoSuchDevice;
            }
            let known = if state.removed { Some(false) } else { state.present };
            if let Some(present) = known {
                state.tell(present);
            }
            known
        };
        let present = match known {
            Some(present) => Ok(present),
            None => self.ask(reader, number),
        };
        match present {
            Ok(true) => Code::Success,
            Ok(false) => Code::NoCard,
            Err(error) => {
                debug!("{number}: presence not known: {error}");
                (&error).into()
            }
        }
    }

    /// Asks the reader. What it answers is seen, too: as an event.
    fn ask(&self, reader: &Handle, number: ccid::Slot) -> Result<bool, Error> {
        match self.call(reader, number, Operation::Status, Some(STATUS_TIME))? {
            Output::Status(status) => {
                Ok(matches!(status, IccStatus::PresentActive | IccStatus::PresentInactive))
            }
            _ => Ok(false),
        }
    }

    /// Waits until pcscd's thread, which calls it, has something to look at, or `timeout` has
    /// passed, or [`stop`](Self::stop) is or was called.
    pub(crate) fn poll(&self, timeout: Duration) -> Code {
        let began = Instant::now();
        let deadline = began + timeout;
        let mut state = self.lock();
        state.end_turn();
        let code = loop {
            if state.gone.is_some() || state.closed {
                break Code::NoSuchDevice;
            }
            let until = match state.stop {
                true if state.ends || timeout > SHORT_WAIT => break Code::Success,
                true => deadline.min(began + STOP_PAUSE),
                false => deadline,
            };
            let left = until.saturating_duration_since(Instant::now());
            if state.has_news() || left.is_zero() {
                break Code::Success;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.stop = false;
        code
    }

    /// Ends [`poll`](Self::poll), or the next one if there is none: pcscd's thread may be about to
    /// wait.
    ///
    /// pcscd stops it when the last program disconnects, so that it waits anew, for no more than
    /// five seconds. If it does so already, ending that takes away the card's power - from the
    /// next program, if that is quick. So a short wait lasts at least for 200 ms.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// The next [`stop`](Self::stop) is for good: it ends any wait.
    pub(crate) fn prepare_end(&self) {
        self.lock().ends = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ifd::Clock;
    use ifd::transport::sim::SimTransport;
    use std::sync::Arc;

    const ZERO: ccid::Slot = ccid::Slot(0);
    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    fn reader() -> Handle {
        let device = sim::presets::by_name("default").unwrap();
        let transport = SimTransport::new(sim::Port::new(device)).unwrap();
        let options = ccid::Options::default();
        Handle::spawn(transport, options, Clock::monotonic(), |_| {}).unwrap()
    }

    /// Everybody but pcscd's thread asks here.
    fn ask_elsewhere(slot: &Slot, reader: &Handle) -> Code {
        std::thread::scope(|scope| scope.spawn(|| slot.presence(reader, ZERO)).join().unwrap())
    }

    #[test]
    fn a_stop_that_comes_before_the_wait_is_not_lost() {
        let slot = Slot::default();
        slot.stop();
        assert_eq!(slot.poll(LONG), Code::Success);
        let began = Instant::now();
        assert_eq!(slot.poll(SHORT), Code::Success);
        assert!(began.elapsed() >= SHORT, "it counts once");
        slot.stop();
        let began = Instant::now();
        assert_eq!(slot.poll(SHORT_WAIT), Code::Success);
        assert!((STOP_PAUSE..SHORT_WAIT).contains(&began.elapsed()));
        slot.prepare_end();
        slot.stop();
        assert_eq!(slot.poll(SHORT_WAIT), Code::Success);
    }

    #[test]
    fn waiting_ends_by_stop_card_and_unplugging() {
        type Act = fn(&Slot);
        let acts: [(Act, Code); 4] = [
            (Slot::stop, Code::Success),
            (|slot| slot.see_presence(false), Code::Success),
            (|slot| slot.see_gone(&Error::Disconnected), Code::NoSuchDevice),
            (Slot::close, Code::NoSuchDevice),
        ];
        for (act, code) in acts {
            let slot = Arc::new(Slot::default());
            let reader = reader();
            slot.see_presence(true);
            assert_eq!(slot.presence(&reader, ZERO), Code::Success);
            let other = Arc::clone(&slot);
            let waits = std::thread::spawn(move || other.poll(LONG));
            act(&slot);
            assert_eq!(waits.join().unwrap(), code);
        }
    }

    /// The waiting thread is told of a removal although a card is there again, and nobody else
    /// hears it in its place.
    #[test]
    fn a_card_out_and_in_again_is_a_removal_and_an_insertion() {
        let (slot, reader) = (Slot::default(), reader());
        slot.see_presence(true);
        assert_eq!(slot.presence(&reader, ZERO), Code::Success);
        assert_eq!(slot.poll(Duration::ZERO), Code::Success);
        assert_eq!(slot.presence(&reader, ZERO), Code::Success);
        slot.see_presence(false);
        slot.see_presence(true);
        assert_eq!(ask_elsewhere(&slot, &reader), Code::NoCard);
        // Still the same turn: that it is asked before a power-up does not count.
        assert_eq!(slot.presence(&reader, ZERO), Code::NoCard);
        assert_eq!(slot.poll(LONG), Code::Success);
        assert_eq!(slot.presence(&reader, ZERO), Code::NoCard);
        assert_eq!(slot.presence(&reader, ZERO), Code::NoCard);
        assert_eq!(slot.poll(LONG), Code::Success);
        assert_eq!(slot.presence(&reader, ZERO), Code::Success);
        assert_eq!(ask_elsewhere(&slot, &reader), Code::Success);
        let began = Instant::now();
        assert_eq!(slot.poll(SHORT), Code::Success);
        assert!(began.elapsed() >= SHORT, "nothing is new any more");
    }

    #[test]
    fn a_slot_of_which_nothing_is_known_is_asked() {
        let (slot, reader) = (Slot::default(), reader());
        assert_eq!(slot.presence(&reader, ZERO), Code::Success);
        assert_eq!(slot.presence(&reader, ccid::Slot(9)), Code::Communication);
        slot.see_gone(&Error::Disconnected);
        assert_eq!(slot.presence(&reader, ZERO), Code::NoSuchDevice);
        slot.revive();
        assert_eq!(slot.presence(&reader, ZERO), Code::NoCard, "what was there is not");
    }

    #[test]
    fn a_closed_slot_does_nothing() {
        let (slot, reader) = (Slot::default(), reader());
        slot.close();
        assert_eq!(slot.call(&reader, ZERO, Operation::Status, None), Err(Error::Disconnected));
    }
}
