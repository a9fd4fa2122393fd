//! What goes wrong on a card's side of T=1, and when.

use std::collections::BTreeMap;
use std::time::Duration;

/// Something that goes wrong with a block that the card sends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The epilogue is wrong.
    BadCheck,
    /// A character has the wrong parity: the reader says XFR_PARITY_ERROR.
    Parity,
    /// The block is not sent, though the card thinks so: the reader says ICC_MUTE.
    Mute,
    /// Nothing is sent until the card is reset.
    MuteForGood,
    /// The card does not even hear the block that this one is to answer.
    Deaf,
    /// N(S) of an I-block, N(R) of an R-block is the other one. S-blocks have none.
    WrongSequence,
    /// NAD is this.
    Nad(u8),
    /// LEN is FFh, with an epilogue that is right for it.
    Length255,
    /// The last byte is missing, so that LEN says more than there is.
    Truncated,
    /// The information field is one byte longer than IFSD.
    LongerThanIfsd,
    /// PCB is this, whatever it means; 9Fh means nothing, C0h is S(RESYNCH request), which only a
    /// host may send.
    Pcb(u8),
    /// R(N(R) expected, no error) comes in place of the block.
    RBlock,
    /// These bytes come in place of the block.
    Raw(Vec<u8>),
    /// R(other error) answers everything until the host sends S(RESYNCH request).
    Resynch,
    /// S(WTX request) comes first, so often: each answer of the host's is followed by the next one,
    /// or the block itself, after `work`.
    Extend {
        /// How often; None: for ever.
        times: Option<u32>,
        /// INF: what the block waiting time is multiplied by.
        multiplier: u8,
        /// How long the card works after each.
        work: Duration,
    },
    /// S(IFS request) comes first, for so many bytes. 0 and 255 may not be asked for; the host's
    /// R-block makes the card go on without.
    Ifs(u8),
    /// S(ABORT request) comes instead, of the host's chain or of its own. Once the host has agreed
    /// the chain is forgotten, and R(N(R) expected) gives the right to send back to the host.
    Abort,
}

/// A plan of faults by the number of the block that the card sends, from 1 on. Blocks of every kind
/// count, repeated ones too, and so does one that is lost; resets do not begin anew.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    plan: BTreeMap<u32, Fault>,
    always: Option<Fault>,
    random: Option<Random>,
    sent: u32,
}

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// A plan with one fault: at the `nth` block, 1 being the first.
    pub fn at(nth: u32, fault: Fault) -> Self {
        Self::none().and_at(nth, fault)
    }

    /// One more fault.
    #[must_use]
    pub fn and_at(mut self, nth: u32, fault: Fault) -> Self {
        self.plan.insert(nth, fault);
        self
    }

    /// The same fault at every block for which nothing else is planned.
    #[must_use]
    pub fn always(self, fault: Fault) -> Self {
        Self { always: Some(fault), ..self }
    }

    /// Faults that repetition repairs, at one block of `one_in` on average, never at two of three
    /// blocks in a row. The same `seed` gives the same faults.
    pub fn random(seed: u64, one_in: u32) -> Self {
        let state = seed ^ 0x9E37_79B9_7F4A_7C15;
        let random = Random { state: state.max(1), one_in: one_in.max(1), quiet: 0 };
        Self { random: Some(random), ..Self::none() }
    }

    /// How many blocks have been sent, or lost.
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// The fault of the next block, which counts from here on.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        self.sent = self.sent.saturating_add(1);
        let planned = self.plan.get(&self.sent).or(self.always.as_ref()).cloned();
        planned.or_else(|| self.random.as_mut().and_then(Random::fault))
    }

    /// Whether the card is deaf to the block that the next one answers; if so, that one counts.
    pub(super) fn is_deaf(&mut self) -> bool {
        let next = self.sent.saturating_add(1);
        let deaf = self.plan.get(&next).or(self.always.as_ref()) == Some(&Fault::Deaf);
        if deaf {
            self.sent = next;
        }
        deaf
    }
}

/// Xorshift64.
#[derive(Clone, Debug)]
struct Random {
    state: u64,
    one_in: u32,
    /// So many blocks pass without a fault.
    quiet: u8,
}

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 32) % u64::from(limit.max(1))) as u32
    }

    fn fault(&mut self) -> Option<Fault> {
        if self.quiet > 0 {
            self.quiet -= 1;
            return None;
        }
        if self.below(self.one_in) != 0 {
            return None;
        }
        self.quiet = 2;
        Some(match self.below(8) {
            0 => Fault::BadCheck,
            1 => Fault::Parity,
            2 => Fault::Mute,
            3 => Fault::Nad(0x55),
            4 => Fault::Length255,
            5 => Fault::Truncated,
            // S(request) of no kind; a reserved R-block may be taken for one of N(R).
            6 => Fault::Pcb(0xC9),
            _ => Fault::Raw(vec![0x00, 0x00, 0x02, 0x90, 0x00, 0x00]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_blocks_from_one() {
        let mut faults = Faults::at(2, Fault::BadCheck).and_at(4, Fault::Mute);
        let got: Vec<_> = (0..5).map(|_| faults.next()).collect();
        assert_eq!(got, [None, Some(Fault::BadCheck), None, Some(Fault::Mute), None]);
        assert_eq!(faults.sent(), 5);
        let mut faults = Faults::at(1, Fault::Mute).always(Fault::Parity);
        assert_eq!([faults.next(), faults.next()], [Some(Fault::Mute), Some(Fault::Parity)]);
    }

    #[test]
    fn deaf_once() {
        let mut faults = Faults::at(1, Fault::Deaf);
        assert!(faults.is_deaf());
        assert!(!faults.is_deaf());
        assert_eq!((faults.next(), faults.sent()), (None, 2));
    }

    #[test]
    fn random_faults_are_the_same_again_and_apart() {
        let draw = |seed| {
            let mut faults = Faults::random(seed, 3);
            (0..1000).map(|_| faults.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let drawn = draw(7);
        let count = drawn.iter().flatten().count();
        assert!((100..300).contains(&count), "{count}");
        assert!(drawn.windows(3).all(|three| three.iter().flatten().count() <= 1));
    }
}
