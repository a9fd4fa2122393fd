//! The same program on pcscd with the system's library, and on this one: it writes down the same,
//! but for what is meant to differ.

use crate::harness::{Pcscd, Process};
use crate::library::{Reader, compiled};
use std::collections::BTreeMap;

/// A call that returns something else here: its line there, its line here, and why.
struct Difference {
    there: &'static str,
    here: &'static str,
    #[allow(dead_code)] // For those who read it.
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        there: "attribute, long buffer: 80100008 length=3E8",
        here: "attribute, long buffer: 00000000 3B97958131FE4580318073F42140DE",
        why: "more room than is needed is no error",
    },
    Difference {
        there: "connect, exclusive while shared: 8010000B handle=0 active=2",
        here: "connect, exclusive while shared: 8010000B handle=0 active=0",
        why: "who is not connected has no protocol",
    },
    Difference {
        there: "control, features: 00000000 120442330012",
        here: "control, features: 00000000 120442330012130442000001",
        why: "who may open the reader may send it escape commands; in pcscd that is a setting",
    },
    Difference {
        there: "set attribute meanwhile: 8010000B",
        here: "set attribute meanwhile: 8010001F",
        why: "an attribute that is not known touches nobody's transaction",
    },
    Difference {
        there: "transmit, no room for a status word: 80100008 length=4",
        here: "transmit, no room for a status word: 80100008 length=2",
        why: "the card has not been given the command: its answer is not known yet",
    },
    Difference {
        there: "transmit, receive PCI: 00000000 protocol=77 length=77",
        here: "transmit, receive PCI: 00000000 protocol=2 length=10",
        why: "winscard.h has the protocol told there",
    },
];

/// The lines, and how often each.
fn counted(transcript: &str) -> BTreeMap<&str, usize> {
    let mut lines = BTreeMap::new();
    for line in transcript.lines() {
        *lines.entry(line).or_default() += 1;
    }
    lines
}

/// The lines that `one` has and `other` has not, or not so often.
fn only_in<'a>(one: &'a str, other: &str) -> Vec<&'a str> {
    let (own, others) = (counted(one), counted(other));
    let more = |(line, count): &(&str, usize)| others.get(line).is_none_or(|other| other < count);
    own.into_iter().filter(more).map(|(line, _)| line).collect()
}

#[test]
fn every_call_returns_what_it_does_on_pcscd() {
    let program = compiled("transcript", &[]);
    let pcscd = Pcscd::start(&[("Simulated", "sim:default")]);
    let socket = pcscd.socket_of("Simulated");
    let (status, there) = Process::start(pcscd.program(&program).arg(socket)).end();
    assert_eq!(status, Some(0), "{there}");
    let reader = Reader::new("default");
    let here = reader.run(&program, &[reader.socket_text()]);
    let labels = |transcript: &str| {
        let label = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
        transcript.lines().map(label).collect::<Vec<_>>()
    };
    assert_eq!(labels(&there), labels(&here), "the same calls");
    let sorted = |lines: Vec<&'static str>| {
        let mut lines = lines;
        lines.sort_unstable();
        lines
    };
    let known_there = sorted(DIFFERENCES.iter().map(|difference| difference.there).collect());
    let known_here = sorted(DIFFERENCES.iter().map(|difference| difference.here).collect());
    assert_eq!(only_in(&there, &here), known_there, "on pcscd, and not here");
    assert_eq!(only_in(&here, &there), known_here, "here, and not on pcscd");
}
