//! What host and card have in common from one exchange to the next.

use super::block::{CheckCode, MAX_INFORMATION, Nad, PROLOGUE_LEN};
use crate::atr::T1Parameters;
use crate::descriptor::{ClassDescriptor, Features};

/// Information field size of both ends before anything else is agreed (ISO/IEC 7816-3 §11.4.2).
const DEFAULT_IFS: u8 = 32;

/// Whether the next block can simply be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    InStep,
    /// An exchange was broken off: S(RESYNCH) comes first.
    OutOfStep,
    /// Not even S(RESYNCH) helped: only a reset does.
    Dead,
}

/// The host's information field size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ifsd {
    /// To be asked of the card before its next command.
    Wanted(u8),
    Settled(u8),
}

/// The state of T=1 with one card, from its reset to the next.
///
/// An [`Exchange`](super::Exchange) takes a copy, and gives it back as it is afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    check: CheckCode,
    nad: Nad,
    /// N(S) of the next I-block.
    pub(super) ns: u8,
    /// N(S) that the card's next I-block must have.
    pub(super) nr: u8,
    /// The card's information field size.
    ifsc: u8,
    /// That of its ATR.
    first_ifsc: u8,
    ifsd: Ifsd,
    /// What is worth asking for; none if the reader asks itself, or the default is all it takes.
    wanted_ifsd: Option<u8>,
    /// The most information bytes the reader takes in one message.
    room: u8,
    pub(super) standing: Standing,
}

impl Connection {
    /// A card that has just been reset and speaks T=1, in a reader of this class.
    ///
    /// A dwMaxIFSD beyond 254 stands for 254; one below 32 for 32, as a card may send that much
    /// before it is asked. What fits into a message of the reader limits both directions.
    pub fn new(parameters: T1Parameters, class: &ClassDescriptor) -> Self {
        let check = if parameters.crc { CheckCode::Crc } else { CheckCode::Lrc };
        let room = class.max_data() - (PROLOGUE_LEN + check.size());
        let room = u8::try_from(room.min(MAX_INFORMATION)).unwrap_or(DEFAULT_IFS);
        let ifsd = u8::try_from(class.max_ifsd).unwrap_or(u8::MAX).clamp(DEFAULT_IFS, room);
        let ask = !class.features.contains(Features::AUTO_IFSD) && ifsd > DEFAULT_IFS;
        Self {
            check,
            nad: Nad::NONE,
            ns: 0,
            nr: 0,
            ifsc: parameters.ifsc,
            first_ifsc: parameters.ifsc,
            ifsd: if ask { Ifsd::Wanted(ifsd) } else { Ifsd::Settled(ifsd) },
            wanted_ifsd: ask.then_some(ifsd),
            room,
            standing: Standing::InStep,
        }
    }

    /// The same with node addresses; none by default.
    #[must_use]
    pub fn with_nad(self, nad: Nad) -> Self {
        Self { nad, ..self }
    }

    /// NAD of the host's blocks.
    pub fn nad(&self) -> u8 {
        self.nad.to_byte()
    }

    /// NAD of the card's blocks: the addresses swapped.
    pub fn card_nad(&self) -> u8 {
        self.nad.swapped().to_byte()
    }

    /// The check code in use.
    pub fn check_code(&self) -> CheckCode {
        self.check
    }

    /// The most information bytes that go to the card in one block.
    pub fn ifsc(&self) -> u8 {
        self.ifsc.min(self.room)
    }

    /// The most information bytes that the card may send in one block. Longer blocks are taken
    /// nevertheless: the card may have agreed to more than the host got to know.
    pub fn ifsd(&self) -> u8 {
        match self.ifsd {
            Ifsd::Wanted(_) => DEFAULT_IFS,
            Ifsd::Settled(ifsd) => ifsd,
        }
    }

    /// Nothing but a reset brings the card back.
    pub fn is_dead(&self) -> bool {
        self.standing == Standing::Dead
    }

    /// The next exchange can begin with its command.
    pub fn is_in_step(&self) -> bool {
        self.standing == Standing::InStep
    }

    /// The same while an exchange is under way.
    pub(super) fn broken_off(self) -> Self {
        Self { standing: Standing::OutOfStep, ..self }
    }

    /// What S(IFS request) is to ask for.
    pub(super) fn ifsd_to_ask(&self) -> Option<u8> {
        match self.ifsd {
            Ifsd::Wanted(ifsd) => Some(ifsd),
            Ifsd::Settled(_) => None,
        }
    }

    /// The card has accepted this size.
    pub(super) fn settle_ifsd(&mut self, ifsd: u8) {
        self.ifsd = Ifsd::Settled(ifsd);
        self.wanted_ifsd = Some(ifsd);
    }

    /// The card has refused this size, or all of them: what to ask for next.
    pub(super) fn smaller_ifsd(&mut self, refused: u8) -> Option<u8> {
        let smaller = [128, 64].into_iter().find(|ifsd| *ifsd < refused);
        match smaller {
            Some(ifsd) => self.ifsd = Ifsd::Wanted(ifsd),
            None => self.default_ifsd(),
        }
        smaller
    }

    /// The card does not take S(IFS request); nor will it be asked again.
    pub(super) fn default_ifsd(&mut self) {
        self.ifsd = Ifsd::Settled(DEFAULT_IFS);
        self.wanted_ifsd = None;
    }

    /// The card has asked for this information field size, 1 to 254.
    pub(super) fn set_ifsc(&mut self, ifsc: u8) {
        self.ifsc = ifsc;
    }

    /// S(RESYNCH) has been answered: everything is as after the reset (ISO/IEC 7816-3 §11.6.2.3).
    /// Of the two sizes that the card may now think it has, the smaller is safe.
    pub(super) fn resynchronised(&mut self) {
        self.ns = 0;
        self.nr = 0;
        self.ifsc = self.ifsc.min(self.first_ifsc);
        if let Some(wanted) = self.wanted_ifsd {
            self.ifsd = Ifsd::Wanted(wanted);
        }
        self.standing = Standing::InStep;
    }
}
