//! What a [`FileCard`](super::FileCard) does about a command: its instructions, apart from how
//! they come and how their responses leave.

use super::Pace;
use super::apdu::{Command, EXTENDED_MAX, Sw};
use super::files::FileSystem;
use super::response::Response;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const INS_VERIFY: u8 = 0x20;
const INS_CHANGE_REFERENCE_DATA: u8 = 0x24;
const INS_GET_CHALLENGE: u8 = 0x84;
const INS_SELECT: u8 = 0xA4;
const INS_READ_BINARY: u8 = 0xB0;

/// A PIN and its try counter (ISO/IEC 7816-4 §11.6).
#[derive(Clone)]
struct Pin {
    reference: u8,
    value: Vec<u8>,
    tries: u8,
    left: u8,
    verified: bool,
}

/// Without the PIN itself.
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, left, verified, .. } = self;
        write!(f, "Pin {reference:02X}h, {left} tries left, verified: {verified}")
    }
}

/// The instructions and what they work on.
#[derive(Clone, Debug)]
pub(super) struct Instructions {
    pub(super) files: FileSystem,
    /// When an instruction answers, if not at once.
    pub(super) paces: BTreeMap<u8, Pace>,
    pub(super) has_test_instructions: bool,
    pin: Option<Pin>,
    /// The state of the generator of challenges; never zero.
    challenge: u64,
}

impl Instructions {
    pub(super) const fn new(files: FileSystem) -> Self {
        Self {
            files,
            paces: BTreeMap::new(),
            has_test_instructions: true,
            pin: None,
            challenge: 0x5CA0_5CA0_5CA0_5CA0,
        }
    }

    pub(super) fn set_pin(&mut self, reference: u8, value: &[u8], tries: u8) {
        let value = value.to_vec();
        self.pin = Some(Pin { reference, value, tries, left: tries, verified: false });
    }

    /// Forgets what a reset makes a card forget.
    pub(super) fn reset(&mut self) {
        self.files.reset();
        if let Some(pin) = &mut self.pin {
            pin.verified = false;
        }
    }

    /// Executes a command: the response, and when it comes.
    pub(super) fn execute(&mut self, command: &Command) -> (Response, Pace) {
        let set = self.paces.get(&command.ins).copied();
        if let Some((response, pace)) = self.execute_test(command) {
            return (response, set.unwrap_or(pace));
        }
        let response = match (command.cla, command.ins) {
            (0x10..=0x1F, _) => Sw::NO_CHAINING.into(),
            (0x01..=0x03, _) => Sw::NO_LOGICAL_CHANNEL.into(),
            (0x04.., _) => Sw::UNKNOWN_CLA.into(),
            (_, INS_SELECT) => self.files.select(command),
            (_, INS_READ_BINARY) => {
                let verified = self.pin.as_ref().is_some_and(|pin| pin.verified);
                self.files.read_binary(command, verified)
            }
            (_, INS_VERIFY) => self.verify(command),
            (_, INS_CHANGE_REFERENCE_DATA) => self.change_reference_data(command),
            (_, INS_GET_CHALLENGE) => self.get_challenge(command),
            _ => Sw::UNKNOWN_INS.into(),
        };
        (response, set.unwrap_or(Pace::AT_ONCE))
    }

    /// Instructions for tests, in class 00h and 80h, without regard to Le.
    fn execute_test(&self, command: &Command) -> Option<(Response, Pace)> {
        if !self.has_test_instructions || !matches!(command.cla, 0x00 | 0x80) {
            return None;
        }
        let number = command.p1_p2();
        let ok = || Response::from(Sw::OK);
        Some(match command.ins {
            0x10 => (Response::data(command.data.clone()), Pace::AT_ONCE),
            0x12 => {
                let data = (0..=u8::MAX).cycle().take(number.into()).collect();
                (Response::data(data), Pace::AT_ONCE)
            }
            0x14 => (ok(), Pace::After(Duration::from_millis(number.into()))),
            0x16 => (ok(), Pace::Never),
            0x18 => {
                let period = Duration::from_millis(10 * u64::from(command.p2));
                (ok(), Pace::Extend { periods: command.p1.into(), period, multiplier: 1 })
            }
            0x1A => (ok(), Pace::Mute),
            _ => return None,
        })
    }

    fn verify(&mut self, command: &Command) -> Response {
        if command.p1 != 0 {
            return Sw::WRONG_P1_P2.into();
        }
        let Some(pin) = self.pin.as_mut().filter(|pin| pin.reference == command.p2) else {
            return Sw::NO_REFERENCE.into();
        };
        match &command.data[..] {
            // Without data: how it stands.
            [] if pin.verified => Sw::OK.into(),
            [] if pin.left == 0 => Sw::BLOCKED.into(),
            [] => Sw::tries_left(pin.left).into(),
            data => pin.verify(data).into(),
        }
    }

    fn change_reference_data(&mut self, command: &Command) -> Response {
        if command.p1 != 0 {
            return Sw::WRONG_P1_P2.into();
        }
        let Some(pin) = self.pin.as_mut().filter(|pin| pin.reference == command.p2) else {
            return Sw::NO_REFERENCE.into();
        };
        // Two padded blocks of eight, or the old PIN and behind it the new one.
        let middle = if command.data.len() == 16 { 8 } else { pin.value.len() };
        let Some((old, new)) = command.data.split_at_checked(middle) else {
            return Sw::WRONG_LENGTH.into();
        };
        let new = unpadded(new);
        if new.len() < 4 {
            return Sw::WRONG_DATA.into();
        }
        let sw = pin.verify(old);
        if sw == Sw::OK {
            pin.value = new.to_vec();
        }
        sw.into()
    }

    fn get_challenge(&mut self, command: &Command) -> Response {
        let Some(ne) = command.ne.filter(|_| command.data.is_empty()) else {
            return Sw::WRONG_LENGTH.into();
        };
        if command.p1_p2() != 0 {
            return Sw::WRONG_P1_P2.into();
        }
        if ne >= EXTENDED_MAX {
            return Sw::WRONG_LENGTH.into();
        }
        Response::data((0..ne).map(|_| self.next_byte()).collect())
    }

    /// Xorshift64: always the same bytes, and never the same twice in a row for long.
    fn next_byte(&mut self) -> u8 {
        self.challenge ^= self.challenge << 13;
        self.challenge ^= self.challenge >> 7;
        self.challenge ^= self.challenge << 17;
        (self.challenge >> 56) as u8
    }
}

impl Pin {
    fn verify(&mut self, data: &[u8]) -> Sw {
        if self.left == 0 {
            return Sw::BLOCKED;
        }
        if data.len() > 16 {
            return Sw::WRONG_LENGTH;
        }
        self.verified = unpadded(data) == self.value;
        if self.verified {
            self.left = self.tries;
            return Sw::OK;
        }
        self.left -= 1;
        Sw::tries_left(self.left)
    }
}

/// A PIN without the FFh bytes that fill its block.
fn unpadded(block: &[u8]) -> &[u8] {
    let filled = block.iter().rev().take_while(|byte| **byte == 0xFF).count();
    block.get(..block.len() - filled).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Instructions {
        let mut card = Instructions::new(FileSystem::new());
        card.set_pin(0x81, b"123456", 3);
        card
    }

    fn run(card: &mut Instructions, header: [u8; 4], data: &[u8]) -> (Response, Pace) {
        let [cla, ins, p1, p2] = header;
        card.execute(&Command { cla, ins, p1, p2, data: data.to_vec(), ne: Some(8) })
    }

    fn sw(card: &mut Instructions, header: [u8; 4], data: &[u8]) -> Sw {
        run(card, header, data).0.sw
    }

    const VERIFY: [u8; 4] = [0x00, 0x20, 0x00, 0x81];

    #[test]
    fn verify_counts_tries_and_blocks() {
        let mut card = card();
        assert_eq!(sw(&mut card, VERIFY, &[]), Sw(0x63C3));
        assert_eq!(sw(&mut card, VERIFY, b"000000"), Sw(0x63C2));
        assert_eq!(sw(&mut card, VERIFY, b"000000"), Sw(0x63C1));
        assert_eq!(sw(&mut card, VERIFY, b"123456\xFF\xFF"), Sw::OK);
        assert_eq!(sw(&mut card, VERIFY, &[]), Sw::OK);
        for left in [2, 1, 0] {
            assert_eq!(sw(&mut card, VERIFY, b"12345"), Sw::tries_left(left));
        }
        assert_eq!(sw(&mut card, VERIFY, b"123456"), Sw::BLOCKED);
        assert_eq!(sw(&mut card, VERIFY, &[]), Sw::BLOCKED);
        assert_eq!(sw(&mut card, [0, 0x20, 0, 0x82], b"123456"), Sw::NO_REFERENCE);
        assert_eq!(sw(&mut card, [0, 0x20, 1, 0x81], b"123456"), Sw::WRONG_P1_P2);
    }

    #[test]
    fn reset_forgets_the_verification_but_not_the_tries() {
        let mut card = card();
        assert_eq!(sw(&mut card, VERIFY, b"123456"), Sw::OK);
        card.reset();
        assert_eq!(sw(&mut card, VERIFY, &[]), Sw(0x63C3));
        sw(&mut card, VERIFY, b"0000");
        card.reset();
        assert_eq!(sw(&mut card, VERIFY, &[]), Sw(0x63C2));
    }

    #[test]
    fn change_reference_data() {
        let change = [0x00, 0x24, 0x00, 0x81];
        let mut card = card();
        assert_eq!(sw(&mut card, change, b"123456abcd"), Sw::OK);
        assert_eq!(sw(&mut card, VERIFY, b"abcd"), Sw::OK);
        assert_eq!(sw(&mut card, change, b"abcd\xFF\xFF\xFF\xFF654321\xFF\xFF"), Sw::OK);
        assert_eq!(sw(&mut card, VERIFY, b"654321"), Sw::OK);
        assert_eq!(sw(&mut card, change, b"000000abcd"), Sw(0x63C2));
        assert_eq!(sw(&mut card, change, b"654321abc"), Sw::WRONG_DATA);
        assert_eq!(sw(&mut card, change, b"65"), Sw::WRONG_LENGTH);
    }

    #[test]
    fn challenges_differ() {
        let challenge = [0x00, 0x84, 0x00, 0x00];
        let mut card = card();
        let one = run(&mut card, challenge, &[]).0.data;
        let two = run(&mut card, challenge, &[]).0.data;
        assert_eq!((one.len(), two.len()), (8, 8));
        assert_ne!(one, two);
        assert_eq!(sw(&mut card, challenge, &[1]), Sw::WRONG_LENGTH);
        assert_eq!(sw(&mut card, [0, 0x84, 1, 0], &[]), Sw::WRONG_P1_P2);
    }

    #[test]
    fn what_is_not_there() {
        let mut card = card();
        assert_eq!(sw(&mut card, [0x00, 0xEE, 0, 0], &[]), Sw::UNKNOWN_INS);
        assert_eq!(sw(&mut card, [0x80, 0xA4, 0, 0], &[]), Sw::UNKNOWN_CLA);
        assert_eq!(sw(&mut card, [0x01, 0xA4, 0, 0], &[]), Sw::NO_LOGICAL_CHANNEL);
        assert_eq!(sw(&mut card, [0x10, 0xA4, 0, 0], &[]), Sw::NO_CHAINING);
        card.has_test_instructions = false;
        assert_eq!(sw(&mut card, [0x00, 0x10, 0, 0], &[]), Sw::UNKNOWN_INS);
    }

    #[test]
    fn test_instructions() {
        let mut card = card();
        assert_eq!(run(&mut card, [0x80, 0x10, 0, 0], b"echo").0.data, b"echo");
        let long = run(&mut card, [0x00, 0x12, 1, 2], &[]).0.data;
        assert_eq!((long.len(), long[0], long[257]), (258, 0, 1));
        let pace = |card: &mut Instructions, header| run(card, header, &[]).1;
        assert_eq!(pace(&mut card, [0x00, 0x14, 1, 0]), Pace::After(Duration::from_millis(256)));
        assert_eq!(pace(&mut card, [0x00, 0x16, 0, 0]), Pace::Never);
        let period = Duration::from_millis(50);
        assert_eq!(
            pace(&mut card, [0x00, 0x18, 3, 5]),
            Pace::Extend { periods: 3, period, multiplier: 1 }
        );
        assert_eq!(pace(&mut card, [0x00, 0x1A, 0, 0]), Pace::Mute);
    }

    #[test]
    fn an_instruction_takes_the_pace_it_is_given() {
        let mut card = card();
        card.paces.insert(0xA4, Pace::Never);
        assert_eq!(run(&mut card, [0x00, 0xA4, 0, 0x0C], &[]), (Sw::OK.into(), Pace::Never));
    }
}
