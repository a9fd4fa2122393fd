//! Any card, with what the characters on its contacts need: PPS, T=0 by procedure bytes, T=1 by
//! blocks, and what can go wrong with them.

use super::atr::AtrInfo;
use super::contacts::{Contacts, Misuse, Signal};
use super::t0::{Acknowledge, T0, T0Manner};
use super::t1::{Faults, T1};
use super::{Card, Pace, Protocol, Reaction, Reset, rate};
use bytes::Bytes;
use ccid::descriptor::Voltages;

/// Instructions of ISO/IEC 7816-4 that come with data, and the one that a
/// [`FileCard`](super::FileCard) answers with it.
pub(crate) const TAKES_DATA: [u8; 28] = [
    0x0C, 0x0E, 0x10, 0x20, 0x22, 0x24, 0x2A, 0x2C, 0x82, 0x86, 0x87, 0x88, 0xA0, 0xA2, 0xA4, 0xA5,
    0xC2, 0xC3, 0xCB, 0xD0, 0xD2, 0xD6, 0xD7, 0xDA, 0xDB, 0xDC, 0xE0, 0xE2,
];

/// What a card makes of a PPS request (ISO/IEC 7816-3 §9.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PpsBehaviour {
    /// It agrees to what its ATR offers.
    #[default]
    Conforming,
    /// It agrees to the protocol, and leaves PPS1 out: the rate stays as it is.
    KeepsRate,
    /// It does not answer, and is mute until it is reset.
    Mute,
    /// It answers these bytes, and is mute until it is reset.
    Answers(Vec<u8>),
}

/// A [`Card`] whose contacts can be met one character at a time. With a reader at APDU level it is
/// the card inside and nothing more.
#[derive(Debug)]
pub struct LineCard<C> {
    card: C,
    info: AtrInfo,
    fi_di: u8,
    life: Life,
    faults: Faults,
    pps: PpsBehaviour,
    t0: T0Manner,
}

/// What state of conversation the card is in.
#[derive(Debug)]
enum Life {
    Mute,
    Fresh,
    T0(T0),
    T1(T1),
    /// The reader speaks to the card inside; the protocol.
    Inside(Protocol),
}

impl<C: Card> LineCard<C> {
    /// A conforming card around `card`, whose ATR says how it speaks.
    pub fn new(card: C) -> Self {
        Self {
            card,
            info: AtrInfo::default(),
            fi_di: rate::DEFAULT,
            life: Life::Mute,
            faults: Faults::none(),
            pps: PpsBehaviour::Conforming,
            t0: T0Manner {
                acknowledge: Acknowledge::All,
                nulls: 0,
                takes_data: TAKES_DATA.to_vec(),
            },
        }
    }

    /// What goes wrong, block by block. In T=0, where whatever the card sends in one go counts as a
    /// block, [`Parity`](super::Fault::Parity), [`Mute`](super::Fault::Mute),
    /// [`MuteForGood`](super::Fault::MuteForGood) and [`Raw`](super::Fault::Raw) have an effect.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// What it makes of a PPS request.
    #[must_use]
    pub fn pps(self, pps: PpsBehaviour) -> Self {
        Self { pps, ..self }
    }

    /// Which procedure byte of T=0 it uses.
    #[must_use]
    pub fn acknowledge(mut self, acknowledge: Acknowledge) -> Self {
        self.t0.acknowledge = acknowledge;
        self
    }

    /// How many NULL bytes come before every other procedure byte of T=0.
    #[must_use]
    pub fn nulls(mut self, nulls: u8) -> Self {
        self.t0.nulls = nulls;
        self
    }

    /// Instructions whose data goes to the card in T=0, instead of those of ISO/IEC 7816-4.
    #[must_use]
    pub fn takes_data(mut self, instructions: &[u8]) -> Self {
        self.t0.takes_data = instructions.to_vec();
        self
    }

    /// The card inside.
    pub fn card(&mut self) -> &mut C {
        &mut self.card
    }

    fn default_protocol(&self) -> Protocol {
        let first = self.info.specific_mode.map(|ta2| ta2 & 0x0F);
        let first = first.or_else(|| self.info.protocols.first().copied());
        first.and_then(Protocol::from_number).unwrap_or(Protocol::T0)
    }

    fn speak(&mut self, protocol: Protocol) {
        self.life = match protocol {
            Protocol::T0 => Life::T0(T0::new()),
            Protocol::T1 => Life::T1(T1::new(self.info.ifsc, self.info.crc)),
        };
    }

    fn takes_pps(&self, characters: &[u8]) -> bool {
        let fresh = matches!(self.life, Life::Fresh) && self.info.specific_mode.is_none();
        fresh && characters.first() == Some(&0xFF)
    }

    /// A PPS request: the response, at the rate before it.
    fn negotiate(&mut self, request: &[u8]) -> Reaction {
        let request = match (&self.pps, request) {
            (PpsBehaviour::Mute, _) => {
                self.life = Life::Mute;
                return Reaction::mute();
            }
            (PpsBehaviour::Answers(response), _) => {
                self.life = Life::Mute;
                return Reaction::at_once(response.clone());
            }
            // As if the host had not proposed a rate.
            (PpsBehaviour::KeepsRate, &[0xFF, pps0, _, _]) if pps0 & 0x70 == 0x10 => {
                Bytes::from(vec![0xFF, pps0 & 0x0F, 0xFF ^ pps0 & 0x0F])
            }
            _ => Bytes::copy_from_slice(request),
        };
        let reaction = self.card.process(&request);
        match *reaction.response {
            [0xFF, pps0, ref rest @ ..] if !matches!(reaction.pace, Pace::Mute | Pace::Never) => {
                if let Some(fi_di) = rest.first().filter(|_| pps0 & 0x10 != 0) {
                    self.fi_di = *fi_di;
                }
                self.speak(Protocol::from_number(pps0 & 0x0F).unwrap_or(Protocol::T0));
            }
            _ => self.life = Life::Mute,
        }
        reaction
    }
}

impl<C: Card> Card for LineCard<C> {
    fn reset(&mut self, reset: Reset) -> Reaction {
        let reaction = self.card.reset(reset);
        self.info = AtrInfo::parse(&reaction.response);
        // TA2 with b5 clear: Fi and Di of TA1 hold from the beginning.
        let explicit = self.info.specific_mode.is_some_and(|ta2| ta2 & 0x10 == 0);
        self.fi_di = self.info.fi_di.filter(|_| explicit).unwrap_or(rate::DEFAULT);
        self.life = match reaction.pace {
            Pace::Mute | Pace::Never => Life::Mute,
            _ => Life::Fresh,
        };
        reaction
    }

    fn power_off(&mut self) {
        self.life = Life::Mute;
        self.card.power_off();
    }

    fn process(&mut self, command: &[u8]) -> Reaction {
        if self.takes_pps(command) {
            return self.negotiate(command);
        }
        if !matches!(self.life, Life::Mute) {
            self.life = Life::Inside(self.protocol());
        }
        self.card.process(command)
    }

    fn interrupted(&mut self, pace: Pace) {
        self.card.interrupted(pace);
        // A card that is in the middle of something without an end hears nothing more.
        if pace == Pace::Never {
            self.life = Life::Mute;
        }
    }

    fn voltages(&self) -> Voltages {
        self.card.voltages()
    }

    fn contacts(&mut self) -> Option<&mut dyn Contacts> {
        Some(self)
    }
}

impl<C: Card> Contacts for LineCard<C> {
    fn fi_di(&self) -> u8 {
        self.fi_di
    }

    fn protocol(&self) -> Protocol {
        match self.life {
            Life::T0(_) => Protocol::T0,
            Life::T1(_) => Protocol::T1,
            Life::Inside(protocol) => protocol,
            Life::Mute | Life::Fresh => self.default_protocol(),
        }
    }

    fn is_fresh(&self) -> bool {
        matches!(self.life, Life::Fresh)
    }

    fn hear(&mut self, characters: &[u8]) -> Signal {
        if self.takes_pps(characters) {
            let Reaction { pace, response } = self.negotiate(characters);
            let misuse =
                (pace == Pace::Mute && self.pps == PpsBehaviour::Conforming).then_some(Misuse::Pps);
            return Signal { pace, misuse, ..Signal::at_once(response) };
        }
        if matches!(self.life, Life::Fresh | Life::Inside(_)) && !characters.is_empty() {
            self.speak(self.protocol());
        }
        let Self { card, life, faults, t0, .. } = self;
        match life {
            Life::Mute | Life::Fresh | Life::Inside(_) => Signal::mute(),
            Life::T0(line) => line.hear(characters, t0, faults, |tpdu| card.process(tpdu)),
            Life::T1(_) if characters.is_empty() => Signal::mute(),
            Life::T1(line) => line.receive(characters, faults, |apdu| card.process(apdu)),
        }
    }
}
