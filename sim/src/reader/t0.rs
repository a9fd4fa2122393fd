//! An APDU on T=0, as a reader at APDU level does it: TPDUs, GET RESPONSE, 6Cxx and ENVELOPE
//! (ISO/IEC 7816-3 §12.2).

use super::slot::Settings;
use crate::card::apdu::{Command, EXTENDED_MAX};
use std::collections::VecDeque;

const INS_GET_RESPONSE: u8 = 0xC0;
const INS_ENVELOPE: u8 = 0xC2;
/// The most data of one TPDU to the card.
const MAX_PART: usize = 255;

/// An APDU under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct T0Apdu {
    /// Class bytes of GET RESPONSE and ENVELOPE.
    get_response: u8,
    /// How much data the APDU asks for; None: no Le.
    ne: Option<usize>,
    /// What has come of the response data.
    data: Vec<u8>,
    /// The header to be sent again with another P3, if the card says 6Cxx.
    repeat: Option<[u8; 4]>,
    /// Envelopes still to be sent.
    envelopes: VecDeque<Vec<u8>>,
}

/// What follows a card's answer.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The next TPDU.
    Send(Vec<u8>),
    /// The end: data and SW.
    Done(Vec<u8>),
}

impl T0Apdu {
    /// The first TPDU. None: that is no APDU.
    pub(super) fn begin(apdu: &[u8], settings: Settings) -> Option<(Self, Vec<u8>)> {
        let Command { cla, ins, p1, p2, data, ne } = Command::parse(apdu)?;
        let class = |set: u8| if set == 0xFF { cla } else { set };
        let header = [cla, ins, p1, p2];
        let tpdu = |p3: u8| [&header[..], &[p3]].concat();
        let mut envelopes = VecDeque::new();
        let first = match u8::try_from(data.len()) {
            Ok(0) => tpdu(ne.map_or(0, as_p3)),
            Ok(length) => [tpdu(length), data].concat(),
            Err(_) => {
                envelopes = envelopes_of(apdu, class(settings.class_envelope));
                envelopes.pop_front()?
            }
        };
        let repeat = (first.len() == 5).then_some(header);
        let get_response = class(settings.class_get_response);
        Some((Self { get_response, ne, data: Vec::new(), repeat, envelopes }, first))
    }

    /// Takes the card's answer to the last TPDU.
    pub(super) fn answer(&mut self, answer: &[u8]) -> Step {
        let Some((data, &[sw1, sw2])) = answer.split_last_chunk() else {
            return Step::Done(answer.to_vec());
        };
        self.data.extend_from_slice(data);
        // More than an APDU can ask for: a card that never ends.
        let endless = self.data.len() > EXTENDED_MAX;
        let missing = self.ne.map(|ne| ne.saturating_sub(self.data.len()));
        match (sw1, self.repeat.take(), missing) {
            _ if endless => self.done(sw1, sw2),
            (0x90, _, _) if sw2 == 0 && !self.envelopes.is_empty() => {
                match self.envelopes.pop_front() {
                    Some(envelope) => Step::Send(envelope),
                    None => self.done(sw1, sw2),
                }
            }
            // Once: a card that says it again is not asked again.
            (0x6C, Some(header), _) => Step::Send([&header[..], &[sw2]].concat()),
            (0x61, _, Some(missing)) if missing > 0 => {
                let announced = if sw2 == 0 { 256 } else { sw2.into() };
                let header = [self.get_response, INS_GET_RESPONSE, 0, 0];
                self.repeat = Some(header);
                Step::Send([&header[..], &[as_p3(missing.min(announced))]].concat())
            }
            _ => self.done(sw1, sw2),
        }
    }

    fn done(&mut self, sw1: u8, sw2: u8) -> Step {
        let mut response = std::mem::take(&mut self.data);
        response.extend([sw1, sw2]);
        Step::Done(response)
    }
}

/// A count as P3: 256 and more is 00h.
fn as_p3(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(0)
}

/// An APDU in ENVELOPE commands. One without data tells the end if the last one is full.
fn envelopes_of(apdu: &[u8], cla: u8) -> VecDeque<Vec<u8>> {
    let envelope = |part: &[u8]| {
        let length = u8::try_from(part.len()).unwrap_or(0);
        [&[cla, INS_ENVELOPE, 0, 0, length][..], part].concat()
    };
    let mut envelopes: VecDeque<_> = apdu.chunks(MAX_PART).map(envelope).collect();
    if apdu.len() % MAX_PART == 0 {
        envelopes.push_back(envelope(&[]));
    }
    envelopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(apdu: &[u8]) -> (T0Apdu, Vec<u8>) {
        T0Apdu::begin(apdu, Settings::default()).unwrap()
    }

    fn send(tpdu: &[u8]) -> Step {
        Step::Send(tpdu.to_vec())
    }

    fn done(response: &[u8]) -> Step {
        Step::Done(response.to_vec())
    }

    #[test]
    fn case_1() {
        let (mut apdu, first) = begin(&[0, 0x44, 1, 2]);
        assert_eq!(first, [0, 0x44, 1, 2, 0]);
        assert_eq!(apdu.answer(&[0x90, 0x00]), done(&[0x90, 0x00]));
    }

    #[test]
    fn case_2_with_the_right_and_the_wrong_le() {
        let (mut apdu, first) = begin(&[0, 0xB0, 0, 0, 0]);
        assert_eq!(first, [0, 0xB0, 0, 0, 0]);
        assert_eq!(apdu.answer(&[0x6C, 0x03]), send(&[0, 0xB0, 0, 0, 3]));
        assert_eq!(apdu.answer(&[1, 2, 3, 0x90, 0x00]), done(&[1, 2, 3, 0x90, 0x00]));
        let (mut apdu, _) = begin(&[0, 0xB0, 0, 0, 0]);
        apdu.answer(&[0x6C, 0x03]);
        assert_eq!(apdu.answer(&[0x6C, 0x03]), done(&[0x6C, 0x03]));
    }

    #[test]
    fn case_3_passes_61_on() {
        let (mut apdu, first) = begin(&[0, 0xA4, 0, 0, 2, 0x3F, 0x00]);
        assert_eq!(first, [0, 0xA4, 0, 0, 2, 0x3F, 0x00]);
        assert_eq!(apdu.answer(&[0x61, 0x10]), done(&[0x61, 0x10]));
    }

    #[test]
    fn case_4_fetches_what_is_announced() {
        let (mut apdu, first) = begin(&[0x80, 0xA4, 0, 0, 2, 0x3F, 0x00, 0x00]);
        assert_eq!(first, [0x80, 0xA4, 0, 0, 2, 0x3F, 0x00]);
        assert_eq!(apdu.answer(&[0x61, 0x02]), send(&[0x80, 0xC0, 0, 0, 2]));
        assert_eq!(apdu.answer(&[7, 8, 0x61, 0x01]), send(&[0x80, 0xC0, 0, 0, 1]));
        assert_eq!(apdu.answer(&[9, 0x90, 0x00]), done(&[7, 8, 9, 0x90, 0x00]));
        // No more than Le.
        let (mut apdu, _) = begin(&[0, 0xA4, 0, 0, 2, 0x3F, 0x00, 0x02]);
        assert_eq!(apdu.answer(&[0x61, 0x10]), send(&[0, 0xC0, 0, 0, 2]));
        assert_eq!(apdu.answer(&[7, 8, 0x61, 0x0E]), done(&[7, 8, 0x61, 0x0E]));
    }

    #[test]
    fn get_response_with_the_wrong_le_and_its_own_class() {
        let settings =
            Settings { class_get_response: 0x00, class_envelope: 0x00, ..Settings::default() };
        let (mut apdu, _) = T0Apdu::begin(&[0x80, 0xA4, 0, 0, 1, 1, 0], settings).unwrap();
        assert_eq!(apdu.answer(&[0x61, 0x00]), send(&[0x00, 0xC0, 0, 0, 0]));
        assert_eq!(apdu.answer(&[0x6C, 0x05]), send(&[0x00, 0xC0, 0, 0, 5]));
    }

    #[test]
    fn extended_case_2() {
        let (mut apdu, first) = begin(&[0, 0xB0, 0, 0, 0, 2, 0]);
        assert_eq!(first, [0, 0xB0, 0, 0, 0]);
        let part = [&[1; 256][..], &[0x61, 0x00]].concat();
        assert_eq!(apdu.answer(&part), send(&[0, 0xC0, 0, 0, 0]));
        let Step::Done(response) = apdu.answer(&part) else { panic!() };
        assert_eq!(response.len(), 514);
    }

    #[test]
    fn extended_case_3_in_envelopes() {
        let command = [&[0, 0x10, 0, 0, 0, 1, 44][..], &[5; 300]].concat();
        let (mut apdu, first) = begin(&command);
        assert_eq!((&first[..5], &first[5..]), (&[0, 0xC2, 0, 0, 255][..], &command[..255]));
        let Step::Send(second) = apdu.answer(&[0x90, 0x00]) else { panic!() };
        assert_eq!((&second[..5], &second[5..]), (&[0, 0xC2, 0, 0, 52][..], &command[255..]));
        assert_eq!(apdu.answer(&[0x90, 0x00]), done(&[0x90, 0x00]));
        // An error on the way ends it.
        let (mut apdu, _) = begin(&command);
        assert_eq!(apdu.answer(&[0x6D, 0x00]), done(&[0x6D, 0x00]));
        // A full last part.
        let command = [&[0, 0x10, 0, 0, 0, 1, 248][..], &[5; 504]].concat();
        assert_eq!(command.len(), 511);
        let command = &[&command[..6], &[247], &command[7..510]].concat();
        let (mut apdu, _) = begin(command);
        apdu.answer(&[0x90, 0x00]);
        assert_eq!(apdu.answer(&[0x90, 0x00]), send(&[0, 0xC2, 0, 0, 0]));
    }

    #[test]
    fn no_apdu_and_no_answer() {
        assert_eq!(T0Apdu::begin(&[0, 0xA4, 0], Settings::default()), None);
        assert_eq!(T0Apdu::begin(&[0, 0xA4, 0, 0, 2, 1], Settings::default()), None);
        let (mut apdu, _) = begin(&[0, 0xB0, 0, 0, 0]);
        assert_eq!(apdu.answer(&[]), done(&[]));
    }
}
