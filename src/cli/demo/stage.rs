//! Which reader the story is played on.

use crate::cli::args::{DEFAULT_PRESET, ReaderOption};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::session::{Chosen, Session, Source};
use crate::cli::simulated::{Simulated, attach};
use crate::cli::tap::{Passed, Tap};
use ccid::Slot;
use crossbeam_channel::{Receiver, Sender, unbounded};
use ifd::Clock;
use ifd::transport::sim::SimTransport;
use scard::Stack;
use sim::{FileCard, Port, Reader};
use std::time::Duration;

/// How long after the beginning the simulated card comes.
const INSERTION: Duration = Duration::from_millis(1500);

/// The readers, and what goes over the wire of simulated ones.
pub(super) struct Stage {
    pub(super) session: Session,
    /// The reader that was asked for.
    pub(super) only: Option<Chosen>,
    pub(super) simulated: bool,
    /// The simulation inserts a card.
    pub(super) inserts: bool,
    /// A simulated reader was not asked for: why it is used.
    pub(super) instead_of: Option<String>,
    pub(super) wire: Receiver<Passed>,
    /// Keeps the channel open where there is no wire to hear of.
    _told: Sender<Passed>,
}

impl Stage {
    /// Opens the readers asked for; without any on USB, a simulated one.
    pub(super) fn open(
        source: &Source<'_>,
        interrupt: &Interrupt,
        options: &ReaderOption,
    ) -> Result<Self, Failure> {
        if !source.presets.is_empty() {
            return Self::simulate(source.presets, interrupt, options, None);
        }
        let (session, only) = match &options.reader {
            Some(wanted) => {
                let (session, chosen) = source.open_one(interrupt, Some(wanted))?;
                (session, Some(chosen))
            }
            None => (source.open(interrupt)?, None),
        };
        if session.readers().is_empty() {
            let why = match session.stack.unusable_readers().first() {
                None => "No reader is plugged in".to_owned(),
                Some(first) => format!("No reader can be used ({}: {})", first.name, first.reason),
            };
            return Self::simulate(&[DEFAULT_PRESET.to_owned()], interrupt, options, Some(why));
        }
        let (_told, wire) = unbounded();
        let (simulated, inserts) = (false, false);
        Ok(Self { session, only, simulated, inserts, instead_of: None, wire, _told })
    }

    fn simulate(
        presets: &[String],
        interrupt: &Interrupt,
        options: &ReaderOption,
        instead_of: Option<String>,
    ) -> Result<Self, Failure> {
        let (_told, wire) = unbounded();
        let stack = Stack::empty();
        let mut simulated = Vec::new();
        for preset in presets {
            if preset == DEFAULT_PRESET {
                attach(&stack, Tap::new(default()?, _told.clone()), Clock::monotonic())?;
            } else {
                let device = Simulated::find(preset)?;
                let (transport, clock) = device.plug_in()?;
                let transport = Tap::new(transport, _told.clone());
                simulated.push(device.attach(&stack, transport, clock)?);
            }
        }
        let session = Session::on(stack, interrupt, Some(simulated))?;
        let only = options.reader.as_deref().map(|wanted| session.choose(Some(wanted)));
        let only = only.transpose()?;
        let inserts = presets.iter().any(|preset| preset == DEFAULT_PRESET);
        Ok(Self { session, only, simulated: true, inserts, instead_of, wire, _told })
    }
}

/// The default reader with a card that comes in a moment.
fn default() -> Result<SimTransport<Reader>, Failure> {
    let card = FileCard::t1();
    let reader = Reader::builder().insert_after(INSERTION, Slot(0), card).build();
    SimTransport::new(Port::new(reader))
        .map_err(|error| Failure::failed(format!("simulated reader: {error}")))
}
