//! The application behind the class: a small card that answers APDUs after as long as they ask for.

use ccid::Instant;
use std::time::Duration;

/// What the interchange between class and application carries at most: the longest extended APDU,
/// and with it the longest answer.
pub(super) const CAPACITY: usize = 65_544;

/// An APDU or its answer, as usbd-ccid hands it to its application and takes it back.
pub(super) type Data = heapless::Vec<u8, CAPACITY>;

/// The application's end of the interchange.
type Responder<'pipe> = interchange::Responder<'pipe, Data, Data>;

/// The card: INS 10h echoes its data, 12h answers P1P2 bytes (00h, 01h, ...), 14h answers after
/// P1P2 milliseconds, 16h never, A4h (SELECT) answers 9000h; anything else is 6D00h.
#[derive(Default)]
pub(super) struct Card {
    /// The request it works on, and when that will be done: never, if None.
    work: Option<Option<(Instant, Data)>>,
}

impl Card {
    /// Takes a request, gives up a cancelled one, answers a finished one.
    pub(super) fn poll(&mut self, responder: &mut Responder<'_>, now: Instant) {
        if responder.is_canceled() && responder.acknowledge_cancel().is_ok() {
            self.work = None;
        }
        if let Some(request) = responder.take_request() {
            self.work = Some(answer(&request).map(|(after, answer)| (now + after, answer)));
        }
        if let Some(Some((_, answer))) =
            self.work.take_if(|work| work.as_ref().is_some_and(|(when, _)| *when <= now))
        {
            // Refused only if it has been cancelled in between, which nobody can here.
            let _ = responder.respond(answer);
        }
    }

    /// When it will have an answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.work.as_ref()?.as_ref().map(|(when, _)| *when)
    }
}

/// The answer to `apdu` and how long it takes; None if there will be none.
fn answer(apdu: &[u8]) -> Option<(Duration, Data)> {
    let [_cla, ins, p1, p2, body @ ..] = apdu else {
        return Some((Duration::ZERO, with_status(&[], 0x6700)));
    };
    let number = u16::from_be_bytes([*p1, *p2]);
    let mut after = Duration::ZERO;
    let answer = match *ins {
        0x10 => match command_data(body) {
            Some(data) => with_status(data, 0x9000),
            None => with_status(&[], 0x6700),
        },
        0x12 => {
            let bytes: Vec<u8> = (0..number).map(|n| n.to_le_bytes()[0]).collect();
            with_status(&bytes, 0x9000)
        }
        0x14 => {
            after = Duration::from_millis(u64::from(number));
            with_status(&[], 0x9000)
        }
        0x16 => return None,
        0xA4 => with_status(&[], 0x9000),
        _ => with_status(&[], 0x6D00),
    };
    Some((after, answer))
}

/// The data field of a command whose bytes behind P2 are `body` (ISO/IEC 7816-4, the four cases,
/// short and extended); None if Lc promises more than there is.
fn command_data(body: &[u8]) -> Option<&[u8]> {
    match *body {
        // Cases 1 and 2, with a short or an extended Le.
        [] | [_] | [0, _, _] => Some(&[]),
        [0, high, low, ref rest @ ..] => rest.get(..usize::from(u16::from_be_bytes([high, low]))),
        [lc, ref rest @ ..] => rest.get(..usize::from(lc)),
    }
}

fn with_status(data: &[u8], sw: u16) -> Data {
    let mut answer = Data::new();
    // 65 535 bytes and two fit into CAPACITY; an echo is no longer than what came.
    let fits = answer.extend_from_slice(data).and(answer.extend_from_slice(&sw.to_be_bytes()));
    debug_assert!(fits.is_ok(), "longer than an APDU can be");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_all_cases() {
        assert_eq!(command_data(&[]), Some(&[][..]));
        assert_eq!(command_data(&[5]), Some(&[][..]));
        assert_eq!(command_data(&[0, 1, 0]), Some(&[][..]));
        assert_eq!(command_data(&[2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(command_data(&[2, 7, 8, 0]), Some(&[7, 8][..]));
        assert_eq!(command_data(&[0, 0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(command_data(&[0, 0, 2, 7, 8, 0, 0]), Some(&[7, 8][..]));
        assert_eq!(command_data(&[3, 7, 8]), None);
        assert_eq!(command_data(&[0, 0, 3, 7, 8]), None);
    }

    #[test]
    fn answers() {
        let now = |apdu: &[u8]| {
            let (after, data) = answer(apdu).unwrap();
            assert_eq!(after, Duration::ZERO);
            data.to_vec()
        };
        assert_eq!(now(&[0, 0x10, 0, 0, 1, 0xAB]), [0xAB, 0x90, 0]);
        assert_eq!(now(&[0, 0x12, 0, 3]), [0, 1, 2, 0x90, 0]);
        assert_eq!(now(&[0, 0x12, 0xFF, 0xFF]).len(), 65_537);
        assert_eq!(now(&[0, 0xA4, 4, 0, 0]), [0x90, 0]);
        assert_eq!(now(&[0, 0x99, 0, 0]), [0x6D, 0]);
        assert_eq!(now(&[0, 0x10]), [0x67, 0]);
        assert_eq!(now(&[0, 0x10, 0, 0, 9, 1]), [0x67, 0]);
        assert_eq!(answer(&[0, 0x14, 1, 0]).unwrap().0, Duration::from_millis(256));
        assert!(answer(&[0, 0x16, 0, 0]).is_none());
    }
}
