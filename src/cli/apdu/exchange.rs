//! One command of the user's, with what follows from 61xx and 6Cxx, step by step.

use bytes::Bytes;
use ccid::completion::{Completion, Next};

/// A command and its answer, as they went to the card and came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) command: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// A command of the user's on its way.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// None: 61xx and 6Cxx are left to the user.
    completion: Option<Completion>,
    sent: Vec<Sent>,
    response: Bytes,
}

impl Exchange {
    /// The exchange of `command`. With `automatic`, 61xx and 6Cxx are followed.
    pub(crate) fn new(command: &[u8], automatic: bool) -> Self {
        let completion = automatic.then(|| Completion::new(Bytes::copy_from_slice(command)));
        Self { completion, sent: Vec::new(), response: Bytes::new() }
    }

    /// What went to the card so far.
    pub(crate) fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Takes the card's response to `command`; the next command to send, if there is one.
    pub(crate) fn answered(&mut self, command: Vec<u8>, response: &[u8]) -> Option<Vec<u8>> {
        let next = match &mut self.completion {
            Some(completion) => completion.answered(response),
            None => Next::Done(Bytes::copy_from_slice(response)),
        };
        self.sent.push(Sent { command, response: response.to_vec() });
        match next {
            Next::Send(command) => Some(command.to_vec()),
            Next::Done(response) => {
                self.response = response;
                None
            }
        }
    }

    /// The whole response, once nothing more is to be sent: data of all parts, and the last status
    /// word.
    pub(crate) fn response(&self) -> &Bytes {
        &self.response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_kept() {
        let select = [0x00, 0xA4, 0x04, 0x00, 0x01, 0xF0];
        let mut exchange = Exchange::new(&select, true);
        let next = exchange.answered(select.to_vec(), &[0x61, 0x02]).unwrap();
        assert_eq!(next, [0x00, 0xC0, 0, 0, 2]);
        assert_eq!(exchange.answered(next.clone(), &[1, 2, 0x90, 0x00]), None);
        assert_eq!(exchange.response()[..], [1, 2, 0x90, 0x00]);
        let sent = [
            Sent { command: select.to_vec(), response: vec![0x61, 0x02] },
            Sent { command: next, response: vec![1, 2, 0x90, 0x00] },
        ];
        assert_eq!(exchange.sent(), sent);
    }

    #[test]
    fn it_can_be_left_to_the_user() {
        let mut exchange = Exchange::new(&[0, 0xA4, 0, 0], false);
        assert_eq!(exchange.answered(vec![0, 0xA4, 0, 0], &[0x61, 0x10]), None);
        assert_eq!(exchange.response()[..], [0x61, 0x10]);
    }
}
