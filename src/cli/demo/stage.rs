//! Which reader the story is played on.

use crate::cli::args::{DEFAULT_PRESET, ReaderOption};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::session::{Session, Source, attach, plug_in, simulated};
use crate::cli::tap::{Passed, Tap};
use ccid::Slot;
use crossbeam_channel::{Receiver, Sender, unbounded};
use scard::Stack;
use std::time::Duration;

/// How long after the beginning the simulated card comes.
const INSERTION: Duration = Duration::from_millis(1500);

/// The readers, and what goes over the wire of simulated ones.
pub(super) struct Stage {
    pub(super) session: Session,
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
        let (told, wire) = unbounded();
        let stage = |session, simulated, inserts, instead_of| Self {
            session,
            simulated,
            inserts,
            instead_of,
            wire: wire.clone(),
            _told: told.clone(),
        };
        if !source.presets.is_empty() {
            let stack = Stack::empty();
            for preset in source.presets {
                attach(&stack, Tap::new(plug_in(reader(preset)?)?, told.clone()))?;
            }
            let inserts = source.presets.iter().any(|preset| preset == DEFAULT_PRESET);
            return Ok(stage(Session::on(stack, interrupt, true)?, true, inserts, None));
        }
        let session = source.open(interrupt)?;
        if options.reader.is_some() || !session.readers().is_empty() {
            return Ok(stage(session, false, false, None));
        }
        let unusable = session.stack.unusable_readers();
        let why = match unusable.first() {
            None => "No reader is plugged in".to_owned(),
            Some(first) => format!("No reader can be used ({}: {})", first.name, first.reason),
        };
        let stack = Stack::empty();
        attach(&stack, Tap::new(plug_in(reader(DEFAULT_PRESET)?)?, told.clone()))?;
        Ok(stage(Session::on(stack, interrupt, true)?, true, true, Some(why)))
    }
}

/// The simulated reader of that name; the default one with a card that comes in a moment.
fn reader(preset: &str) -> Result<sim::Reader, Failure> {
    if preset == DEFAULT_PRESET {
        let card = sim::FileCard::t1();
        return Ok(sim::Reader::builder().insert_after(INSERTION, Slot(0), card).build());
    }
    simulated(preset)
}
