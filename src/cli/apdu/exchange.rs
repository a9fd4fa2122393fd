//! One command of the user's, with what follows from 61xx and 6Cxx (ISO/IEC 7816-3 §12.2).

use crate::cli::status_word::StatusWord;

/// The most bytes that GET RESPONSE may bring: an extended response.
const MAX_RESPONSE: usize = 65_536;

/// The most commands that one of the user's becomes: each GET RESPONSE brings a byte at least, but
/// nobody waits for a card that gives them one by one.
const MAX_COMMANDS: usize = 1024;

/// A command and its answer, as they went to the card and came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) command: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// A command of the user's on its way.
#[derive(Debug)]
pub(crate) struct Exchange {
    original: Vec<u8>,
    automatic: bool,
    sent: Vec<Sent>,
    data: Vec<u8>,
}

impl Exchange {
    /// The exchange of `command`. With `automatic`, 61xx and 6Cxx are followed.
    pub(crate) fn new(command: &[u8], automatic: bool) -> Self {
        Self { original: command.to_vec(), automatic, sent: Vec::new(), data: Vec::new() }
    }

    /// What went to the card so far.
    pub(crate) fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Takes the card's response to `command`; the next command to send, if there is one.
    pub(crate) fn answered(&mut self, command: Vec<u8>, response: &[u8]) -> Option<Vec<u8>> {
        let data = response.get(..response.len().saturating_sub(2)).unwrap_or_default();
        self.data.extend_from_slice(data);
        let next = self.next(&command, response);
        self.sent.push(Sent { command, response: response.to_vec() });
        next
    }

    fn next(&self, command: &[u8], response: &[u8]) -> Option<Vec<u8>> {
        let ended = self.data.len() >= MAX_RESPONSE || self.sent.len() >= MAX_COMMANDS;
        if !self.automatic || ended {
            return None;
        }
        let [sw1, sw2] = StatusWord::of(response)?.bytes();
        match sw1 {
            0x61 => Some(vec![get_response_class(*self.original.first()?), 0xC0, 0, 0, sw2]),
            // Once for a command: a card that never likes its Le is left alone.
            0x6C if self.sent.last().is_none_or(|last| !wants_other_le(&last.response)) => {
                with_le(command, sw2)
            }
            _ => None,
        }
    }

    /// The whole response: data of all parts, and the last status word.
    pub(crate) fn response(&self) -> Vec<u8> {
        let last = self.sent.last().map(|sent| &sent.response[..]).unwrap_or_default();
        let word = last.get(last.len().saturating_sub(2)..).unwrap_or_default();
        [&self.data[..], word].concat()
    }
}

fn wants_other_le(response: &[u8]) -> bool {
    StatusWord::of(response).is_some_and(|word| word.bytes()[0] == 0x6C)
}

/// The class of GET RESPONSE: that of the command, on its logical channel, without chaining and
/// secure messaging (ISO/IEC 7816-4 §5.4.1).
fn get_response_class(class: u8) -> u8 {
    match class {
        0xFF => 0x00,
        0x40..=0x7F => class & !0x30,
        _ => class & !0x1C,
    }
}

/// A short command with another Le; none if it is extended, or has none and no place for it.
fn with_le(command: &[u8], le: u8) -> Option<Vec<u8>> {
    let header = command.get(..4)?;
    match command.get(4..)? {
        [] | [_] => Some([header, &[le]].concat()),
        [0, ..] => None,
        [lc, rest @ ..] => {
            let data = rest.get(..usize::from(*lc))?;
            Some([header, &[*lc], data, &[le]].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exchanges `command` with a card that gives these answers; the commands it was sent.
    fn run(command: &[u8], answers: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut exchange = Exchange::new(command, true);
        let mut next = Some(command.to_vec());
        let mut answers = answers.iter();
        while let Some(command) = next {
            next = exchange.answered(command, answers.next().expect("another command"));
        }
        assert_eq!(answers.next(), None, "fewer commands than expected");
        (exchange.sent().iter().map(|sent| sent.command.clone()).collect(), exchange.response())
    }

    #[test]
    fn the_rest_is_fetched() {
        let select = [0x00, 0xA4, 0x04, 0x00, 0x01, 0xF0];
        let (commands, response) =
            run(&select, &[&[0x61, 0x02], &[1, 2, 0x61, 0x01], &[3, 0x90, 0x00]]);
        assert_eq!(commands[1..], [[0x00, 0xC0, 0, 0, 2], [0x00, 0xC0, 0, 0, 1]]);
        assert_eq!(response, [1, 2, 3, 0x90, 0x00]);
    }

    #[test]
    fn the_right_le_is_sent_once() {
        let read = [0x00, 0xB0, 0, 0, 0];
        let (commands, response) = run(&read, &[&[0x6C, 0x02], &[1, 2, 0x90, 0x00]]);
        assert_eq!(commands[1], [0x00, 0xB0, 0, 0, 2]);
        assert_eq!(response, [1, 2, 0x90, 0x00]);
        let (commands, response) = run(&read, &[&[0x6C, 0x02], &[0x6C, 0x03]]);
        assert_eq!((commands.len(), &response[..]), (2, &[0x6C, 0x03][..]));
        let (commands, _) = run(&read, &[&[0x61, 0x00], &[0x6C, 0x03], &[1, 2, 3, 0x90, 0x00]]);
        assert_eq!(commands[2], [0x00, 0xC0, 0, 0, 3]);
    }

    #[test]
    fn le_has_its_place_in_every_short_case() {
        assert_eq!(with_le(&[0, 1, 2, 3], 9), Some(vec![0, 1, 2, 3, 9]));
        assert_eq!(with_le(&[0, 1, 2, 3, 0], 9), Some(vec![0, 1, 2, 3, 9]));
        assert_eq!(with_le(&[0, 1, 2, 3, 1, 7], 9), Some(vec![0, 1, 2, 3, 1, 7, 9]));
        assert_eq!(with_le(&[0, 1, 2, 3, 1, 7, 0], 9), Some(vec![0, 1, 2, 3, 1, 7, 9]));
        assert_eq!(with_le(&[0, 1, 2, 3, 0, 1, 0], 9), None);
        assert_eq!(with_le(&[0, 1, 2, 3, 4, 7], 9), None);
    }

    #[test]
    fn the_class_keeps_its_channel_only() {
        for (class, expected) in
            [(0x00, 0x00), (0x13, 0x03), (0x0C, 0x00), (0x80, 0x80), (0x84, 0x80), (0xA0, 0xA0)]
        {
            assert_eq!(get_response_class(class), expected);
        }
        assert_eq!((get_response_class(0x75), get_response_class(0xFF)), (0x45, 0x00));
    }

    #[test]
    fn it_can_be_left_to_the_user() {
        let mut exchange = Exchange::new(&[0, 0xA4, 0, 0], false);
        assert_eq!(exchange.answered(vec![0, 0xA4, 0, 0], &[0x61, 0x10]), None);
        assert_eq!(exchange.response(), [0x61, 0x10]);
    }

    #[test]
    fn a_card_that_never_ends_is_left() {
        let mut exchange = Exchange::new(&[0, 0xA4, 0, 0], true);
        let mut next = Some(vec![0, 0xA4, 0, 0]);
        while let Some(command) = next {
            next = exchange.answered(command, &[0x61, 0x10]);
        }
        assert!(exchange.sent().len() <= MAX_COMMANDS + 1);
    }
}
