//! A card with files, a PIN, and instructions that behave as they are told.

use super::atr::{AtrBuilder, AtrInfo};
use super::files::FileSystem;
use super::instructions::Instructions;
use super::response::{Received, Responder};
use super::{Card, Pace, Protocol, Reaction, Reset, rate};
use bytes::Bytes;
use ccid::descriptor::Voltages;

/// The name of the application on the card of [`FileCard::new`]: of the category that anyone may
/// use (ISO/IEC 7816-4 §12.2.3).
pub const APPLICATION: [u8; 7] = [0xF0, b'S', b'C', b'A', b'R', b'D', 0x01];

/// Historical bytes in compact TLV (ISO/IEC 7816-4 §12.1.1): selection by full and partial name,
/// path and file identifier; extended Lc and Le.
const HISTORICAL: [u8; 7] = [0x80, 0x31, 0x80, 0x73, 0xF4, 0x21, 0x40];

/// A card with files, a PIN, and instructions that behave as they are told.
///
/// It knows SELECT, GET RESPONSE, ENVELOPE (T=0), READ BINARY, VERIFY, CHANGE REFERENCE DATA and
/// GET CHALLENGE, and in class 00h or 80h these for tests:
///
/// | INS | what it does |
/// |-----|--------------|
/// | 10h | answers its data field |
/// | 12h | answers P1P2 bytes: 00 01 02 ... |
/// | 14h | answers 9000h after P1P2 milliseconds |
/// | 16h | never answers ([`Pace::Never`]) |
/// | 18h | asks P1 times for more time, once every 10 x P2 milliseconds, then answers 9000h |
/// | 1Ah | falls silent ([`Pace::Mute`]) until it is reset |
///
/// [`pace`](Self::pace) gives any instruction any of these behaviours.
#[derive(Debug)]
pub struct FileCard {
    atr: Vec<u8>,
    info: AtrInfo,
    power_up: Pace,
    voltages: Voltages,
    instructions: Instructions,
    responder: Responder,
    life: Life,
}

/// What state of conversation the card is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// Reset; a PPS request may come.
    Fresh,
    /// Speaks this protocol.
    Talking(Protocol),
    /// Answers nothing until it is reset.
    Mute,
}

impl FileCard {
    /// A card that offers `protocols`, the first by default, with an ATR that says so; the PIN
    /// 123456 of reference 81h and three tries; and these files:
    ///
    /// | identifier | what |
    /// |------------|------|
    /// | 2F00 | EF.DIR, naming the application |
    /// | 5015 | the application, [`APPLICATION`] |
    /// | 5015/0001 | a text of 16 bytes |
    /// | 5015/0002 | 4096 bytes, 00 01 02 ... |
    /// | 5015/0003 | a text that needs the PIN |
    pub fn new(protocols: &[Protocol]) -> Self {
        let atr = AtrBuilder::new(protocols, &HISTORICAL);
        let atr = if protocols.contains(&Protocol::T1) { atr.fi_di(0x95) } else { atr };
        let mut instructions = Instructions::new(files());
        instructions.set_pin(0x81, b"123456", 3);
        Self {
            atr: Vec::new(),
            info: AtrInfo::default(),
            power_up: Pace::AT_ONCE,
            voltages: Voltages::V5 | Voltages::V3 | Voltages::V1_8,
            instructions,
            responder: Responder::default(),
            life: Life::Mute,
        }
        .atr(&atr.build())
    }

    /// [`new`](Self::new) with T=0.
    pub fn t0() -> Self {
        Self::new(&[Protocol::T0])
    }

    /// [`new`](Self::new) with T=1.
    pub fn t1() -> Self {
        Self::new(&[Protocol::T1])
    }

    /// Another ATR. The card speaks the protocols that it offers.
    #[must_use]
    pub fn atr(mut self, atr: &[u8]) -> Self {
        self.info = AtrInfo::parse(atr);
        self.atr = atr.to_vec();
        self
    }

    /// Other files.
    #[must_use]
    pub fn files(mut self, mut files: FileSystem) -> Self {
        files.reset();
        self.instructions.files = files;
        self
    }

    /// Another PIN: P2 of VERIFY, its value as it stands in the command, and how many tries.
    #[must_use]
    pub fn pin(mut self, reference: u8, value: &[u8], tries: u8) -> Self {
        self.instructions.set_pin(reference, value, tries);
        self
    }

    /// When instruction `ins` answers, whatever the class.
    #[must_use]
    pub fn pace(mut self, ins: u8, pace: Pace) -> Self {
        self.instructions.paces.insert(ins, pace);
        self
    }

    /// When the ATR comes; [`Pace::Mute`] makes a mute card.
    #[must_use]
    pub fn power_up(self, pace: Pace) -> Self {
        Self { power_up: pace, ..self }
    }

    /// The voltages at which it works.
    #[must_use]
    pub fn works_at(self, voltages: Voltages) -> Self {
        Self { voltages, ..self }
    }

    /// Without the instructions for tests.
    #[must_use]
    pub fn without_test_instructions(mut self) -> Self {
        self.instructions.has_test_instructions = false;
        self
    }

    /// What is spoken unless a PPS exchange changes it.
    fn default_protocol(&self) -> Protocol {
        let first = self.info.specific_mode.map(|ta2| ta2 & 0x0F);
        let first = first.or_else(|| self.info.protocols.first().copied());
        first.and_then(Protocol::from_number).unwrap_or(Protocol::T0)
    }

    /// A PPS request (ISO/IEC 7816-3 §9): the protocol, and the response if the card agrees.
    fn pps(&self, request: &[u8]) -> Option<(Protocol, Bytes)> {
        let (&[0xFF, pps0], rest) = request.split_first_chunk()? else { return None };
        let parameters = (pps0 & 0x70).count_ones() as usize;
        let sum = request.iter().fold(0, |sum, byte| sum ^ byte);
        if rest.len() != parameters + 1 || sum != 0 {
            return None;
        }
        let number = pps0 & 0x0F;
        let protocol = Protocol::from_number(number)?;
        if !self.info.protocols.contains(&number) {
            return None;
        }
        // A rate the card does not have is left out of the response: the default one holds.
        let pps1 = rest.first().copied().filter(|_| pps0 & 0x10 != 0);
        let offered = self.info.fi_di.unwrap_or(rate::DEFAULT);
        let agreed = pps1.filter(|pps1| rate::agrees(offered, *pps1));
        let mut response = vec![0xFF, number | if agreed.is_some() { 0x10 } else { 0 }];
        response.extend(agreed);
        response.push(response.iter().fold(0, |sum, byte| sum ^ byte));
        Some((protocol, response.into()))
    }
}

impl Card for FileCard {
    fn reset(&mut self, _reset: Reset) -> Reaction {
        self.instructions.reset();
        self.responder = Responder::default();
        self.life = match self.power_up {
            Pace::Never | Pace::Mute => Life::Mute,
            _ => Life::Fresh,
        };
        Reaction { pace: self.power_up, response: self.atr.clone().into() }
    }

    fn power_off(&mut self) {
        self.life = Life::Mute;
    }

    fn process(&mut self, command: &[u8]) -> Reaction {
        let protocol = match self.life {
            Life::Mute => return Reaction::mute(),
            Life::Talking(protocol) => protocol,
            Life::Fresh if command.first() == Some(&0xFF) && self.info.specific_mode.is_none() => {
                let Some((protocol, response)) = self.pps(command) else {
                    // A card does not answer a bad PPS request.
                    self.life = Life::Mute;
                    return Reaction::mute();
                };
                self.life = Life::Talking(protocol);
                return Reaction::at_once(response);
            }
            Life::Fresh => self.default_protocol(),
        };
        self.life = Life::Talking(protocol);
        match self.responder.receive(command, protocol) {
            Received::Answered(response) => Reaction::at_once(response),
            Received::Command(command, way) => {
                let (response, pace) = self.instructions.execute(&command);
                if pace == Pace::Mute {
                    self.life = Life::Mute;
                }
                Reaction { pace, response: self.responder.respond(response, way).into() }
            }
        }
    }

    fn interrupted(&mut self, pace: Pace) {
        // A card that is in the middle of something without an end does not hear the next command.
        if matches!(pace, Pace::Never | Pace::ExtendForEver { .. }) {
            self.life = Life::Mute;
        }
    }

    fn voltages(&self) -> Voltages {
        self.voltages
    }
}

/// The files of a new card.
fn files() -> FileSystem {
    let label = b"scard";
    let mut application = vec![0x4F, APPLICATION.len() as u8];
    application.extend(APPLICATION);
    application.extend([0x50, label.len() as u8]);
    application.extend(label);
    let directory = [&[0x61, application.len() as u8][..], &application].concat();
    let long: Vec<u8> = (0..=u8::MAX).cycle().take(4096).collect();
    let mut files = FileSystem::new()
        .file(0x2F00, &directory)
        .directory(0x5015, &APPLICATION)
        .file(0x0001, b"A simulated card")
        .file(0x0002, &long)
        .protected_file(0x0003, b"PIN was verified");
    files.reset();
    files
}

#[cfg(test)]
mod tests {
    use super::super::apdu::Sw;
    use super::*;
    use std::time::Duration;

    fn sw_of(response: &[u8]) -> Sw {
        let [.., high, low] = *response else { panic!("no status word") };
        Sw(u16::from_be_bytes([high, low]))
    }

    fn answer(card: &mut FileCard, command: &[u8]) -> Bytes {
        let reaction = card.process(command);
        assert_eq!(reaction.pace, Pace::AT_ONCE);
        reaction.response
    }

    fn reset(mut card: FileCard) -> FileCard {
        card.reset(Reset::Cold);
        card
    }

    #[test]
    fn atrs_are_right() {
        for (mut card, protocols) in [
            (FileCard::t0(), vec![0]),
            (FileCard::t1(), vec![1]),
            (FileCard::new(&[Protocol::T0, Protocol::T1]), vec![0, 1]),
        ] {
            let info = AtrInfo::parse(&card.reset(Reset::Cold).response);
            assert!(info.good_ts && info.good_tck);
            assert_eq!(info.protocols, protocols);
        }
    }

    #[test]
    fn t0_end_to_end() {
        let mut card = reset(FileCard::t0());
        let select = [&[0x00, 0xA4, 0x04, 0x00, 7][..], &APPLICATION].concat();
        let announced = answer(&mut card, &select);
        assert_eq!(announced[0], 0x61);
        let fci = answer(&mut card, &[0x00, 0xC0, 0, 0, announced[1]]);
        assert_eq!((fci[0], sw_of(&fci)), (0x6F, Sw::OK));
        assert_eq!(answer(&mut card, &[0x00, 0xB0, 0x81, 0, 0])[..], [0x6C, 16]);
        let text = answer(&mut card, &[0x00, 0xB0, 0x81, 0, 16]);
        assert_eq!(&text[..16], b"A simulated card");
        assert_eq!(sw_of(&answer(&mut card, &[0x00, 0xB0, 0x83, 0, 16])), Sw::SECURITY_STATUS);
        let verify = [&[0x00, 0x20, 0, 0x81, 6][..], b"123456"].concat();
        assert_eq!(sw_of(&answer(&mut card, &verify)), Sw::OK);
        assert_eq!(&answer(&mut card, &[0x00, 0xB0, 0x83, 0, 16])[..16], b"PIN was verified");
    }

    #[test]
    fn t1_extended() {
        let mut card = reset(FileCard::t1());
        let select = [&[0x00, 0xA4, 0x04, 0x0C, 7][..], &APPLICATION].concat();
        assert_eq!(sw_of(&answer(&mut card, &select)), Sw::OK);
        let whole = answer(&mut card, &[0x00, 0xB0, 0x82, 0, 0, 0, 0]);
        assert_eq!((whole.len(), sw_of(&whole)), (4098, Sw::OK));
        let echo = [&[0x00, 0x10, 0, 0, 0, 0x10, 0][..], &[9; 4096], &[0, 0]].concat();
        assert_eq!(answer(&mut card, &echo).len(), 4098);
    }

    #[test]
    fn directory_file_names_the_application() {
        let mut card = reset(FileCard::t1());
        answer(&mut card, &[0x00, 0xA4, 0, 0x0C, 2, 0x2F, 0x00]);
        let directory = answer(&mut card, &[0x00, 0xB0, 0, 0, 0]);
        assert_eq!(directory[..4], [0x61, 16, 0x4F, 7]);
        assert_eq!(directory[4..11], APPLICATION);
    }

    #[test]
    fn pps_chooses_a_protocol_and_a_rate() {
        let both = || reset(FileCard::new(&[Protocol::T0, Protocol::T1]));
        let mut card = both();
        assert_eq!(answer(&mut card, &[0xFF, 0x11, 0x95, 0x7B])[..], [0xFF, 0x11, 0x95, 0x7B]);
        // T=1 from here on: an APDU without P3.
        assert_eq!(sw_of(&answer(&mut card, &[0x00, 0xA4, 0, 0x0C])), Sw::OK);
        // A rate that is not the card's.
        assert_eq!(answer(&mut both(), &[0xFF, 0x11, 0x18, 0xF6])[..], [0xFF, 0x01, 0xFE]);
        for bad in [&[0xFF, 0x02, 0xFD][..], &[0xFF, 0x01, 0x00], &[0xFF], &[0xFF, 0x11, 0xEE]] {
            let mut card = both();
            assert_eq!(card.process(bad).pace, Pace::Mute);
            assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C]).pace, Pace::Mute);
            card.reset(Reset::Warm);
            assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C, 0]).pace, Pace::AT_ONCE);
        }
    }

    #[test]
    fn no_pps_after_the_first_command_or_in_specific_mode() {
        let mut card = reset(FileCard::t0());
        answer(&mut card, &[0x00, 0xA4, 0, 0x0C, 0]);
        assert_eq!(sw_of(&answer(&mut card, &[0xFF, 0x00, 0xFF, 0, 0])), Sw::UNKNOWN_CLA);
        let atr = AtrBuilder::new(&[Protocol::T1], &[]).specific_mode(0x81).build();
        let mut card = reset(FileCard::t1().atr(&atr));
        assert_eq!(sw_of(&answer(&mut card, &[0xFF, 0x01, 0xFE, 0])), Sw::UNKNOWN_CLA);
    }

    #[test]
    fn without_power_it_is_mute() {
        let mut card = FileCard::t1();
        assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C]).pace, Pace::Mute);
        let mut card = reset(card);
        assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C]).pace, Pace::AT_ONCE);
        card.power_off();
        assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C]).pace, Pace::Mute);
    }

    #[test]
    fn paces() {
        let slow = Pace::After(Duration::from_secs(1));
        let mut card = reset(FileCard::t1().pace(0xA4, slow));
        assert_eq!(card.process(&[0x00, 0xA4, 0, 0x0C]).pace, slow);
        assert_eq!(card.process(&[0x00, 0x1A, 0, 0]).pace, Pace::Mute);
        assert_eq!(card.process(&[0x00, 0x10, 0, 0]).pace, Pace::Mute, "silent until reset");
        let mut card = FileCard::t1().power_up(Pace::Mute);
        assert_eq!(card.reset(Reset::Cold).pace, Pace::Mute);
    }

    #[test]
    fn interrupted_without_an_end_it_needs_a_reset() {
        let mut card = reset(FileCard::t1());
        let pace = card.process(&[0x00, 0x14, 9, 9]).pace;
        card.interrupted(pace);
        assert_eq!(card.process(&[0x00, 0x10, 0, 0]).pace, Pace::AT_ONCE);
        let pace = card.process(&[0x00, 0x16, 0, 0]).pace;
        card.interrupted(pace);
        assert_eq!(card.process(&[0x00, 0x10, 0, 0]).pace, Pace::Mute);
    }
}
