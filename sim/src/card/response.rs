//! Between the bytes a card receives and its instructions: how a command TPDU of T=0 becomes a
//! command, and how a response of any length becomes 61xx, 6Cxx and GET RESPONSE
//! (ISO/IEC 7816-3 §12.2, ISO/IEC 7816-4 §5.3).

use super::Protocol;
use super::apdu::{Command, EXTENDED_MAX, SHORT_MAX, Sw};

const INS_GET_RESPONSE: u8 = 0xC0;
const INS_ENVELOPE: u8 = 0xC2;

/// What a card's instruction answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Response {
    pub(super) data: Vec<u8>,
    pub(super) sw: Sw,
}

impl Response {
    pub(super) const fn data(data: Vec<u8>) -> Self {
        Self { data, sw: Sw::OK }
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.data[..], &self.sw.to_bytes()].concat()
    }
}

impl From<Sw> for Response {
    fn from(sw: Sw) -> Self {
        Self { data: Vec::new(), sw }
    }
}

/// What received bytes turn out to be.
#[derive(Debug)]
pub(super) enum Received {
    /// A command for the instructions; how its response is to leave.
    Command(Command, Way),
    /// Answered here.
    Answered(Vec<u8>),
}

/// How a response leaves the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// T=0 with P3 as Le: exactly so many bytes, or 6Cxx.
    Exactly(usize),
    /// T=0, the data went to the card: 61xx first.
    Announced,
    /// T=1: at most so many bytes, the rest by GET RESPONSE.
    AtMost(usize),
}

/// The state between commands.
#[derive(Default, Debug)]
pub(super) struct Responder {
    /// What GET RESPONSE gives.
    waiting: Option<Response>,
    /// What ENVELOPE has brought so far of an APDU (T=0).
    envelope: Vec<u8>,
}

impl Responder {
    /// Takes what came over the contacts.
    pub(super) fn receive(&mut self, bytes: &[u8], protocol: Protocol) -> Received {
        let received = match protocol {
            Protocol::T0 => self.receive_tpdu(bytes),
            Protocol::T1 => match Command::parse(bytes) {
                Some(command) => {
                    let way = Way::AtMost(command.ne.unwrap_or(EXTENDED_MAX));
                    Received::Command(command, way)
                }
                None => Received::Answered(Response::from(Sw::WRONG_LENGTH).to_bytes()),
            },
        };
        match received {
            Received::Command(command, way) if command.ins == INS_GET_RESPONSE => {
                Received::Answered(self.get_response(&command, way))
            }
            other => {
                self.waiting = None;
                other
            }
        }
    }

    /// Forms the response to a command that came the way `way` says.
    pub(super) fn respond(&mut self, response: Response, way: Way) -> Vec<u8> {
        let length = response.data.len();
        match way {
            _ if length == 0 => response.to_bytes(),
            Way::Exactly(ne) if length < ne => Response::from(Sw::wrong_le(length)).to_bytes(),
            Way::Exactly(ne) | Way::AtMost(ne) => self.first_part(response, ne),
            Way::Announced => {
                self.waiting = Some(response);
                Response::from(Sw::more(length)).to_bytes()
            }
        }
    }

    fn receive_tpdu(&mut self, tpdu: &[u8]) -> Received {
        let wrong = || Received::Answered(Response::from(Sw::WRONG_LENGTH).to_bytes());
        let Some((&[cla, ins, p1, p2, p3], data)) = tpdu.split_first_chunk() else {
            return wrong();
        };
        if ins == INS_ENVELOPE {
            return self.envelope(data);
        }
        self.envelope.clear();
        let (ne, way) = match data {
            [] => {
                let ne = if p3 == 0 { SHORT_MAX } else { p3.into() };
                (ne, Way::Exactly(ne))
            }
            _ if data.len() == usize::from(p3) => (EXTENDED_MAX, Way::Announced),
            _ => return wrong(),
        };
        let command = Command { cla, ins, p1, p2, data: data.to_vec(), ne: Some(ne) };
        Received::Command(command, way)
    }

    /// A part of an APDU that is longer than a TPDU. The APDU ends with a part of less than 255
    /// bytes, which may be empty.
    fn envelope(&mut self, part: &[u8]) -> Received {
        self.envelope.extend_from_slice(part);
        if self.envelope.len() > EXTENDED_MAX + 16 {
            self.envelope.clear();
            return Received::Answered(Response::from(Sw::WRONG_LENGTH).to_bytes());
        }
        if part.len() == 255 {
            return Received::Answered(Response::from(Sw::OK).to_bytes());
        }
        match Command::parse(&std::mem::take(&mut self.envelope)) {
            // GET RESPONSE fetches the data, however long; how much of it the APDU asks for, the
            // other side knows.
            Some(command) => Received::Command(command, Way::Announced),
            None => Received::Answered(Response::from(Sw::WRONG_LENGTH).to_bytes()),
        }
    }

    fn get_response(&mut self, command: &Command, way: Way) -> Vec<u8> {
        let Some(waiting) = self.waiting.take() else {
            return Response::from(Sw::CONDITIONS).to_bytes();
        };
        if command.p1_p2() != 0 {
            return Response::from(Sw::WRONG_P1_P2).to_bytes();
        }
        let length = waiting.data.len();
        match way {
            // The data stays for the right Le.
            Way::Exactly(ne) if length < ne => {
                self.waiting = Some(waiting);
                Response::from(Sw::wrong_le(length)).to_bytes()
            }
            Way::Exactly(ne) | Way::AtMost(ne) => self.first_part(waiting, ne),
            Way::Announced => Response::from(Sw::WRONG_LENGTH).to_bytes(),
        }
    }

    /// The first `ne` bytes; what is left waits.
    fn first_part(&mut self, mut response: Response, ne: usize) -> Vec<u8> {
        if response.data.len() <= ne {
            return response.to_bytes();
        }
        let rest = response.data.split_off(ne);
        let part = Response { sw: Sw::more(rest.len()), data: response.data };
        self.waiting = Some(Response { data: rest, sw: response.sw });
        part.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: [u8; 2] = [0x90, 0x00];

    /// Receives `bytes`; the instruction answers `length` bytes.
    fn exchange(
        responder: &mut Responder,
        protocol: Protocol,
        bytes: &[u8],
        length: usize,
    ) -> Vec<u8> {
        match responder.receive(bytes, protocol) {
            Received::Answered(answer) => answer,
            Received::Command(_, way) => responder.respond(Response::data(vec![7; length]), way),
        }
    }

    #[test]
    fn t0_gives_exactly_le_or_says_how_much_there_is() {
        let mut card = Responder::default();
        let mut read =
            |le, length| exchange(&mut card, Protocol::T0, &[0x00, 0xB0, 0, 0, le], length);
        assert_eq!(read(4, 4), [7, 7, 7, 7, 0x90, 0x00]);
        assert_eq!(read(0, 4), [0x6C, 0x04]);
        assert_eq!(read(9, 4), [0x6C, 0x04]);
        assert_eq!(read(0, 256).len(), 258);
        assert_eq!(read(0, 0), OK);
    }

    #[test]
    fn t0_gives_more_than_le_in_parts() {
        let mut card = Responder::default();
        let first = exchange(&mut card, Protocol::T0, &[0x00, 0x12, 1, 4, 0], 260);
        assert_eq!((first.len(), &first[256..]), (258, &[0x61, 4][..]));
        let rest = exchange(&mut card, Protocol::T0, &[0x00, 0xC0, 0, 0, 4], 0);
        assert_eq!(rest, [7, 7, 7, 7, 0x90, 0x00]);
        let again = exchange(&mut card, Protocol::T0, &[0x00, 0xC0, 0, 0, 4], 0);
        assert_eq!(again, [0x69, 0x85]);
    }

    #[test]
    fn t0_announces_the_response_to_data() {
        let mut card = Responder::default();
        let select = [0x00, 0xA4, 0, 0, 2, 0x3F, 0x00];
        assert_eq!(exchange(&mut card, Protocol::T0, &select, 3), [0x61, 0x03]);
        assert_eq!(exchange(&mut card, Protocol::T0, &[0, 0xC0, 0, 0, 0], 0), [0x6C, 0x03]);
        let whole = exchange(&mut card, Protocol::T0, &[0, 0xC0, 0, 0, 3], 0);
        assert_eq!(whole, [7, 7, 7, 0x90, 0x00]);
        assert_eq!(exchange(&mut card, Protocol::T0, &select, 0), OK);
    }

    #[test]
    fn another_command_drops_what_waits() {
        let mut card = Responder::default();
        let select = [0x00, 0xA4, 0, 0, 2, 0x3F, 0x00];
        exchange(&mut card, Protocol::T0, &select, 3);
        exchange(&mut card, Protocol::T0, &[0x00, 0xB0, 0, 0, 1], 1);
        assert_eq!(exchange(&mut card, Protocol::T0, &[0, 0xC0, 0, 0, 3], 0), [0x69, 0x85]);
    }

    #[test]
    fn a_tpdu_has_p3_bytes_or_none() {
        let mut card = Responder::default();
        for tpdu in [&[0x00, 0xA4, 0, 0][..], &[0x00, 0xA4, 0, 0, 2, 0x3F], &[]] {
            assert_eq!(exchange(&mut card, Protocol::T0, tpdu, 0), [0x67, 0x00]);
        }
    }

    #[test]
    fn envelope_carries_a_long_apdu() {
        let mut card = Responder::default();
        let apdu = [&[0x00, 0x10, 0, 0, 0, 1, 44][..], &[5; 300]].concat();
        let envelope = |part: &[u8]| [&[0x00, 0xC2, 0, 0, part.len() as u8], part].concat();
        assert_eq!(exchange(&mut card, Protocol::T0, &envelope(&apdu[..255]), 0), OK);
        match card.receive(&envelope(&apdu[255..]), Protocol::T0) {
            Received::Command(command, Way::Announced) => assert_eq!(command.data, [5; 300]),
            other => panic!("{other:?}"),
        }
        // An APDU whose last part is full is ended by an empty one.
        let apdu = [&[0x00, 0x10, 0, 0, 0, 0, 248][..], &[5; 248]].concat();
        assert_eq!(exchange(&mut card, Protocol::T0, &envelope(&apdu), 0), OK);
        assert!(matches!(
            card.receive(&envelope(&[]), Protocol::T0),
            Received::Command(Command { ins: 0x10, .. }, _)
        ));
        // The next command does not inherit a part.
        exchange(&mut card, Protocol::T0, &envelope(&[9; 255]), 0);
        exchange(&mut card, Protocol::T0, &[0x00, 0xB0, 0, 0, 1], 1);
        assert_eq!(exchange(&mut card, Protocol::T0, &envelope(&[]), 0), [0x67, 0x00]);
    }

    #[test]
    fn t1_gives_at_most_le_and_keeps_the_rest() {
        let mut card = Responder::default();
        let mut apdu = |bytes: &[u8], length| exchange(&mut card, Protocol::T1, bytes, length);
        assert_eq!(apdu(&[0, 0xB0, 0, 0, 0], 4), [7, 7, 7, 7, 0x90, 0x00]);
        assert_eq!(apdu(&[0, 0xB0, 0, 0, 2], 5), [7, 7, 0x61, 0x03]);
        assert_eq!(apdu(&[0, 0xC0, 0, 0, 0], 0), [7, 7, 7, 0x90, 0x00]);
        assert_eq!(apdu(&[0, 0xB0, 0, 0, 0, 0, 0], 1000).len(), 1002);
        assert_eq!(apdu(&[0, 0xB0, 0, 0, 1, 1, 1, 1], 0), [0x67, 0x00]);
    }
}
