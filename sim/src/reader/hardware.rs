//! The hardware around a simulated reader: keys, and a script of what happens to it by itself.

use crate::Card;
use ccid::Slot;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// A key of the PIN pad.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// 0 to 9.
    Digit(u8),
    /// Takes back all digits.
    Clear,
    /// Ends the entry.
    Enter,
    /// Gives the entry up.
    Cancel,
}

/// The keys that enter `pin`: its digits, and Enter. What is no digit is left out.
pub(super) fn keys_of(pin: &str) -> impl Iterator<Item = Key> {
    let digits = pin.bytes().filter(u8::is_ascii_digit).map(|digit| Key::Digit(digit - b'0'));
    digits.chain(std::iter::once(Key::Enter))
}

/// Something done to the reader by hand.
pub(super) enum Action {
    Insert(Slot, Box<dyn Card>),
    Remove(Slot),
    Press(Key),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(slot, _) => write!(f, "Insert({slot})"),
            Self::Remove(slot) => write!(f, "Remove({slot})"),
            // A digit may be one of a PIN.
            Self::Press(_) => f.write_str("Press"),
        }
    }
}

/// What happens by itself, in the order of time after the reader was first plugged in.
#[derive(Default, Debug)]
pub(super) struct Timeline(VecDeque<(Duration, Action)>);

impl Timeline {
    /// Adds an action; of those at the same time, the one added first comes first.
    pub(super) fn add(&mut self, after: Duration, action: Action) {
        let at = self.0.partition_point(|(time, _)| *time <= after);
        self.0.insert(at, (after, action));
    }

    /// When the next action is due.
    pub(super) fn next_after(&self) -> Option<Duration> {
        self.0.front().map(|(time, _)| *time)
    }

    /// The next action.
    pub(super) fn pop(&mut self) -> Option<Action> {
        self.0.pop_front().map(|(_, action)| action)
    }

    /// What is there from the start.
    pub(super) fn pop_at_start(&mut self) -> Option<Action> {
        if self.next_after() == Some(Duration::ZERO) { self.pop() } else { None }
    }
}
