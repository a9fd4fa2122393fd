//! T=0 on the card's side, character by character (ISO/IEC 7816-3 §10): header, procedure bytes,
//! data, SW1 SW2.

use super::contacts::{Misuse, Signal};
use super::t1::{Fault, Faults};
use super::{Pace, Reaction};
use std::time::Duration;

/// The procedure byte that asks for more time.
const NULL: u8 = 0x60;

/// Which procedure byte lets data pass (ISO/IEC 7816-3 §10.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Acknowledge {
    /// INS: all of it at once.
    #[default]
    All,
    /// The complement of INS: one byte each time.
    One,
    /// The complement of INS for the first byte, INS for the rest.
    OneThenAll,
}

/// How a card goes about T=0.
#[derive(Clone, Debug)]
pub(super) struct T0Manner {
    pub(super) acknowledge: Acknowledge,
    /// So many NULL bytes come before every other procedure byte.
    pub(super) nulls: u8,
    /// Instructions whose data goes to the card.
    pub(super) takes_data: Vec<u8>,
}

/// The card's end of T=0, from a reset to the next.
#[derive(Debug)]
pub(super) struct T0 {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// So much of a header has come.
    Header(Vec<u8>),
    /// Header and data of a command whose data goes to the card; `due` more bytes are asked for.
    Data { tpdu: Vec<u8>, due: usize },
    /// `left` NULL bytes come, None without end, one a `period`, and then this.
    Waiting { left: Option<u32>, period: Duration, then: Vec<u8> },
    /// Nothing is sent any more.
    Dead,
}

impl T0 {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Header(Vec::new()) }
    }

    /// Falls silent until the next reset.
    pub(super) fn die(&mut self) {
        self.phase = Phase::Dead;
    }

    /// Characters have come, or the reader listens on; `process` does a TPDU.
    pub(super) fn hear(
        &mut self,
        characters: &[u8],
        manner: &T0Manner,
        faults: &mut Faults,
        process: impl FnMut(&[u8]) -> Reaction,
    ) -> Signal {
        let signal = self.react(characters, manner, process);
        if signal.characters.is_empty() {
            return signal;
        }
        match faults.next() {
            Some(Fault::Parity) => Signal { parity_error: true, ..signal },
            Some(Fault::Mute) => Signal { misuse: signal.misuse, ..Signal::mute() },
            Some(Fault::MuteForGood) => {
                self.die();
                Signal { misuse: signal.misuse, ..Signal::mute() }
            }
            Some(Fault::Raw(raw)) => Signal { characters: raw.into(), ..signal },
            _ => signal,
        }
    }

    fn react(
        &mut self,
        characters: &[u8],
        manner: &T0Manner,
        mut process: impl FnMut(&[u8]) -> Reaction,
    ) -> Signal {
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Dead => Signal::mute(),
            Phase::Waiting { left, period, then } => {
                let signal = self.wait(left, period, then);
                let misuse = (!characters.is_empty()).then_some(Misuse::UnexpectedCharacters);
                Signal { misuse, ..signal }
            }
            Phase::Header(mut header) => {
                header.extend_from_slice(characters);
                match header.len() {
                    0..5 => {
                        self.phase = Phase::Header(header);
                        Signal::mute()
                    }
                    5 => self.command(header, manner, &mut process),
                    _ => {
                        header.truncate(5);
                        let signal = self.command(header, manner, &mut process);
                        Signal { misuse: Some(Misuse::UnexpectedCharacters), ..signal }
                    }
                }
            }
            Phase::Data { mut tpdu, due } => {
                let taken = characters.get(..due).unwrap_or(characters);
                tpdu.extend_from_slice(taken);
                let misuse = (characters.len() > due).then_some(Misuse::UnexpectedCharacters);
                let signal = match due - taken.len() {
                    0 => self.data(tpdu, manner, &mut process),
                    due => {
                        self.phase = Phase::Data { tpdu, due };
                        Signal::mute()
                    }
                };
                Signal { misuse, ..signal }
            }
        }
    }

    /// A header is complete.
    fn command(
        &mut self,
        header: Vec<u8>,
        manner: &T0Manner,
        process: &mut impl FnMut(&[u8]) -> Reaction,
    ) -> Signal {
        let (ins, p3) = (header.get(1).copied(), header.get(4).copied());
        let (ins, p3) = (ins.unwrap_or(0), p3.unwrap_or(0));
        if matches!(ins >> 4, 6 | 9) {
            self.phase = Phase::Header(Vec::new());
            let response = [manner.nulls(), vec![0x6D, 0x00]].concat();
            return Signal { misuse: Some(Misuse::Instruction), ..Signal::at_once(response) };
        }
        if p3 > 0 && manner.takes_data.contains(&ins) {
            return self.data(header, manner, process);
        }
        self.answer(&header, manner, process)
    }

    /// Header and as much of the data as has been asked for are there: the next procedure byte, or
    /// the command is done.
    fn data(
        &mut self,
        tpdu: Vec<u8>,
        manner: &T0Manner,
        process: &mut impl FnMut(&[u8]) -> Reaction,
    ) -> Signal {
        let (ins, p3) = (tpdu.get(1).copied(), tpdu.get(4).copied());
        let (ins, p3) = (ins.unwrap_or(0), usize::from(p3.unwrap_or(0)));
        let so_far = tpdu.len().saturating_sub(5);
        let missing = p3.saturating_sub(so_far);
        if missing == 0 {
            return self.answer(&tpdu, manner, process);
        }
        let one = manner.one_next(so_far);
        let procedure_byte = if one { !ins } else { ins };
        self.phase = Phase::Data { tpdu, due: if one { 1 } else { missing } };
        Signal::at_once([manner.nulls(), vec![procedure_byte]].concat())
    }

    /// A TPDU is complete.
    fn answer(
        &mut self,
        tpdu: &[u8],
        manner: &T0Manner,
        process: &mut impl FnMut(&[u8]) -> Reaction,
    ) -> Signal {
        let ins = tpdu.get(1).copied().unwrap_or(0);
        let Reaction { pace, response } = process(tpdu);
        let (data, sw) = response.split_at(response.len().saturating_sub(2));
        let mut then = manner.nulls();
        let mut passed = 0;
        while let Some(rest) = data.get(passed..).filter(|rest| !rest.is_empty()) {
            let one = manner.one_next(passed);
            let part = if one { rest.get(..1).unwrap_or(rest) } else { rest };
            then.push(if one { !ins } else { ins });
            then.extend_from_slice(part);
            passed += part.len();
        }
        then.extend_from_slice(sw);
        match pace {
            Pace::Mute => {
                self.die();
                Signal::mute()
            }
            Pace::After(_) | Pace::Never => {
                self.phase = Phase::Header(Vec::new());
                Signal { pace, ..Signal::at_once(then) }
            }
            Pace::Extend { periods, period, .. } => self.wait(Some(periods), period, then),
            Pace::ExtendForEver { period, .. } => self.wait(None, period, then),
        }
    }

    /// The next NULL byte, or what it has put off.
    fn wait(&mut self, left: Option<u32>, period: Duration, then: Vec<u8>) -> Signal {
        let pace = Pace::After(period);
        if left == Some(0) {
            self.phase = Phase::Header(Vec::new());
            return Signal { pace, ..Signal::at_once(then) };
        }
        self.phase = Phase::Waiting { left: left.map(|left| left - 1), period, then };
        Signal { pace, more: true, ..Signal::at_once(vec![NULL]) }
    }
}

impl T0Manner {
    /// One byte is let pass next, after `passed` bytes.
    const fn one_next(&self, passed: usize) -> bool {
        match self.acknowledge {
            Acknowledge::All => false,
            Acknowledge::One => true,
            Acknowledge::OneThenAll => passed == 0,
        }
    }

    fn nulls(&self) -> Vec<u8> {
        vec![NULL; self.nulls.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner(acknowledge: Acknowledge, nulls: u8) -> T0Manner {
        T0Manner { acknowledge, nulls, takes_data: vec![0xA4] }
    }

    /// Gives a new card characters, one group after the other; what it sends.
    fn talk(manner: &T0Manner, groups: &[&[u8]], response: &[u8]) -> Vec<Vec<u8>> {
        let mut card = T0::new();
        let mut seen = Vec::new();
        let sent = groups
            .iter()
            .map(|group| {
                let signal = card.hear(group, manner, &mut Faults::none(), |tpdu| {
                    seen.push(tpdu.to_vec());
                    Reaction::at_once(response.to_vec())
                });
                assert_eq!(signal.misuse, None);
                signal.characters.to_vec()
            })
            .collect();
        assert_eq!(seen, [groups.concat()]);
        sent
    }

    #[test]
    fn data_to_the_card() {
        let header = [0, 0xA4, 0, 0, 2];
        let all = manner(Acknowledge::All, 0);
        assert_eq!(talk(&all, &[&header, &[0x3F, 0]], &[0x90, 0]), [vec![0xA4], vec![0x90, 0]]);
        let one = manner(Acknowledge::One, 0);
        let sent = talk(&one, &[&header, &[0x3F], &[0]], &[0x90, 0]);
        assert_eq!(sent, [vec![0x5B], vec![0x5B], vec![0x90, 0]]);
        let mixed = manner(Acknowledge::OneThenAll, 1);
        let sent = talk(&mixed, &[&header[..3], &header[3..], &[0x3F], &[0]], &[0x61, 5]);
        assert_eq!(sent, [vec![], vec![0x60, 0x5B], vec![0x60, 0xA4], vec![0x60, 0x61, 5]]);
    }

    #[test]
    fn data_from_the_card() {
        let header: &[&[u8]] = &[&[0, 0xB0, 0, 0, 3]];
        let response = [1, 2, 3, 0x90, 0];
        let sent = talk(&manner(Acknowledge::All, 0), header, &response);
        assert_eq!(sent, [[0xB0, 1, 2, 3, 0x90, 0]]);
        let sent = talk(&manner(Acknowledge::One, 0), header, &response);
        assert_eq!(sent, [[0x4F, 1, 0x4F, 2, 0x4F, 3, 0x90, 0]]);
        let sent = talk(&manner(Acknowledge::OneThenAll, 0), header, &response);
        assert_eq!(sent, [[0x4F, 1, 0xB0, 2, 3, 0x90, 0]]);
        // Without data there is nothing to acknowledge.
        assert_eq!(talk(&manner(Acknowledge::All, 0), header, &[0x6C, 9]), [[0x6C, 9]]);
    }

    #[test]
    fn null_bytes_while_it_works() {
        let mut card = T0::new();
        let period = Duration::from_millis(100);
        let mut hear = |characters: &[u8]| {
            card.hear(characters, &manner(Acknowledge::All, 0), &mut Faults::none(), |_| {
                let pace = Pace::Extend { periods: 2, period, multiplier: 1 };
                Reaction { pace, response: vec![0x90, 0].into() }
            })
        };
        for characters in [&[0, 0x18, 2, 10, 0][..], &[]] {
            let signal = hear(characters);
            assert_eq!((signal.pace, signal.more), (Pace::After(period), true));
            assert_eq!(signal.characters[..], [0x60]);
        }
        let last = hear(&[]);
        assert_eq!((last.pace, last.more), (Pace::After(period), false));
        assert_eq!(last.characters[..], [0x90, 0]);
    }

    #[test]
    fn misuse() {
        let all = manner(Acknowledge::All, 0);
        let hear = |card: &mut T0, characters: &[u8]| {
            card.hear(characters, &all, &mut Faults::none(), |_| Reaction::at_once(vec![0x90, 0]))
        };
        let unexpected = Some(Misuse::UnexpectedCharacters);
        assert_eq!(hear(&mut T0::new(), &[0, 0xA4, 0, 0, 1, 7]).misuse, unexpected);
        let mut card = T0::new();
        assert_eq!(hear(&mut card, &[0, 0xA4, 0, 0, 1]).misuse, None);
        assert_eq!(hear(&mut card, &[7, 8]).misuse, unexpected);
        assert_eq!(hear(&mut T0::new(), &[0, 0x61, 0, 0, 0]).misuse, Some(Misuse::Instruction));
        assert_eq!(hear(&mut T0::new(), &[0, 0x9F, 0, 0, 0]).misuse, Some(Misuse::Instruction));
    }

    #[test]
    fn faults_count_signals() {
        let mut faults = Faults::at(1, Fault::Raw(vec![0x55]))
            .and_at(2, Fault::Parity)
            .and_at(3, Fault::Mute)
            .and_at(4, Fault::MuteForGood);
        let mut card = T0::new();
        let mut hear = || {
            let all = manner(Acknowledge::All, 0);
            card.hear(&[0, 0xB0, 0, 0, 0], &all, &mut faults, |_| Reaction::at_once(vec![0x90, 0]))
        };
        assert_eq!(hear().characters[..], [0x55]);
        assert!(hear().parity_error);
        assert_eq!(hear().pace, Pace::Mute);
        assert_eq!(hear().pace, Pace::Mute);
        assert_eq!(hear().pace, Pace::Mute, "for good");
    }
}
