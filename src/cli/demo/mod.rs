//! `scard demo`: a story in a few chapters, on a real reader or a simulated one.

mod stage;
mod story;

use crate::cli::apdu::Exchange;
use crate::cli::args::ReaderOption;
use crate::cli::explain::atr::explain;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::Out;
use crate::cli::session::{Chosen, Source, text};
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use scard::{Card, Disposition, Error, Protocols, ReaderState, ShareMode, State};
use stage::Stage;
use std::time::{Duration, Instant};
use story::Story;

/// How long the story lets a call wait before it is cancelled.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often cancel is repeated while the call may not have begun: it is not remembered.
const REPEAT: Duration = Duration::from_millis(20);

/// The simulated card's instruction that never ends.
const NEVER_ANSWERED: [u8; 4] = [0x00, 0x16, 0x00, 0x00];

const READ_BINARY: [u8; 5] = [0x00, 0xB0, 0x81, 0x00, 0x00];
const GET_CHALLENGE: [u8; 5] = [0x00, 0x84, 0x00, 0x00, 0x08];

pub(crate) fn run(
    source: &Source<'_>,
    interrupt: &Interrupt,
    options: &ReaderOption,
    out: &mut Out,
) -> Outcome {
    let stage = Stage::open(source, interrupt, options)?;
    let mut story = Story::new(out);
    let told = tell(&stage, &mut story);
    let told = match told {
        Err(Failure::Said { message, .. }) if interrupt.has_come() => {
            story.line(&format!("   {message}"))?;
            Err(Failure::Interrupted)
        }
        other => other,
    };
    story.end(&told)?;
    told
}

fn tell(stage: &Stage, story: &mut Story<'_>) -> Outcome {
    story.introduce(stage)?;
    story.chapter("Wait for a card")?;
    let reader = wait_for_card(stage, story)?;
    let protocols = Protocols::ANY;
    let connect = || stage.session.context.connect(&reader.name, ShareMode::Shared, protocols);
    let mut card = connect().map_err(|error| stage.session.failure(error, &reader.text))?;
    story.chapter("Talk to it")?;
    if stage.simulated {
        let select = [&[0x00, 0xA4, 0x04, 0x00, 0x07][..], &sim::card::APPLICATION].concat();
        exchange(&card, "SELECT", &select, &reader, story)?;
        exchange(&card, "READ BINARY", &READ_BINARY, &reader, story)?;
        exchange(&card, "GET CHALLENGE", &GET_CHALLENGE, &reader, story)?;
        story.chapter("A command that the card never answers, cancelled after a second")?;
        cancelled_command(stage, &card, &reader, story)?;
        story.chapter("The next command gets its own answer")?;
        after_cancel(stage, &mut card, &reader, story)?;
        exchange(&card, "SELECT", &select, &reader, story)?;
        exchange(&card, "READ BINARY", &READ_BINARY, &reader, story)?;
    } else {
        let select = [0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00];
        exchange(&card, "SELECT MF", &select, &reader, story)?;
        exchange(&card, "GET CHALLENGE", &GET_CHALLENGE, &reader, story)?;
        story.chapter("A wait for the card to be removed, cancelled after a second")?;
        cancelled_wait(stage, &reader, story)?;
        exchange(&card, "SELECT MF", &select, &reader, story)?;
    }
    // The reader powers it off anyway when it is closed.
    let _ = card.disconnect(Disposition::LeaveCard);
    Ok(())
}

/// Waits until there is a card that answers in the reader, or in any of them.
fn wait_for_card(stage: &Stage, story: &mut Story<'_>) -> Result<Chosen, Failure> {
    let session = &stage.session;
    let names: Vec<_> = match &stage.only {
        Some(only) => vec![only.name.clone()],
        None => session.readers().into_iter().map(|reader| reader.name).collect(),
    };
    let began = Instant::now();
    let mut states = session.states(&names)?;
    loop {
        let present = |state: &&ReaderState| state.event_state().contains(State::PRESENT);
        if let Some(state) = states.iter().find(present) {
            let chosen = Chosen { name: state.name().to_owned(), text: text(state.name()) };
            if state.atr().is_empty() {
                return Err(Failure::of(Error::UnresponsiveCard, &chosen.text));
            }
            let summary = explain(state.atr(), None).summary;
            story.card(began.elapsed(), &chosen.text, state.atr(), &summary)?;
            return Ok(chosen);
        }
        session.interrupt.check()?;
        if let [only] = &states[..] {
            session.check_reach(only)?;
        }
        story.line(if stage.inserts {
            "   None is there yet; the simulation inserts one in a moment."
        } else {
            "   None is there yet: insert one, please. Ctrl-C ends the wait."
        })?;
        states.iter_mut().for_each(ReaderState::sync_current_state);
        match session.context.get_status_change(None, &mut states) {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Failure::Interrupted),
            Err(error) => return Err(Failure::of(error, "the reader")),
        }
    }
}

/// A command and its answer, in two lines.
fn exchange(
    card: &Card,
    name: &str,
    command: &[u8],
    reader: &Chosen,
    story: &mut Story<'_>,
) -> Outcome {
    let mut exchange = Exchange::new(command, true);
    let mut next = Some(command.to_vec());
    while let Some(command) = next {
        let response = card.transmit_owned(&command, None);
        let response = response.map_err(|error| Failure::of_exchange(error, &reader.text, None))?;
        next = exchange.answered(command, &response);
    }
    story.exchange(name, command, exchange.response())
}

/// Starts the command that never ends on a thread, and cancels the context from here.
fn cancelled_command(
    stage: &Stage,
    card: &Card,
    reader: &Chosen,
    story: &mut Story<'_>,
) -> Outcome {
    // What went over the wire before is not part of this chapter.
    stage.wire.try_iter().for_each(drop);
    let began = Instant::now();
    let (sender, result) = bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(card.transmit_owned(&NEVER_ANSWERED, None)));
        // A second after the command has been seen to go out.
        let mut cancel_at: Option<Instant> = None;
        let mut cancelled_at: Option<Instant> = None;
        let ended = loop {
            let due = match (cancel_at, cancelled_at) {
                (at, None) => {
                    let at = at.unwrap_or(began + 5 * PATIENCE);
                    at.saturating_duration_since(Instant::now())
                }
                (_, Some(_)) => Duration::MAX,
            };
            select! {
                recv(stage.wire) -> passed => if let Ok(passed) = passed {
                    if passed.exchange && passed.out {
                        cancel_at.get_or_insert(passed.at + PATIENCE);
                    }
                    story.passed(began, &passed)?;
                },
                recv(result) -> ended => break ended,
                recv(crossbeam_channel::after(due)) -> _ => {
                    cancelled_at = Some(Instant::now());
                    story.note(began, "Context::cancel is called")?;
                    // It succeeds as long as there is a context.
                    let _ = stage.session.context.cancel();
                }
            }
        };
        let ended_at = Instant::now();
        for passed in stage.wire.try_iter() {
            story.passed(began, &passed)?;
        }
        stage.session.interrupt.check()?;
        let error = match ended.unwrap_or(Err(Error::InternalError)) {
            Ok(_) => return Err(Failure::failed("the card has answered: nothing to cancel")),
            Err(error) => error,
        };
        match (error, cancelled_at) {
            (Error::Cancelled, Some(at)) => {
                story.cancelled("Card::transmit_owned", ended_at.saturating_duration_since(at))
            }
            (error, _) => Err(Failure::of_exchange(error, &reader.text, None)),
        }
    })
}

/// The card was in the middle of something: the stack has reset it, and says so to whoever uses it.
fn after_cancel(stage: &Stage, card: &mut Card, reader: &Chosen, story: &mut Story<'_>) -> Outcome {
    let began = Instant::now();
    if card.status2_owned() == Err(Error::ResetCard) {
        card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard)
            .map_err(|error| stage.session.failure(error, &reader.text))?;
        story.line("   The stack has reset the card, as nobody knows how far it was.")?;
    }
    for passed in stage.wire.try_iter() {
        story.passed(began, &passed)?;
    }
    Ok(())
}

/// Waits for the card to go, on a thread, and cancels the context from here.
fn cancelled_wait(stage: &Stage, reader: &Chosen, story: &mut Story<'_>) -> Outcome {
    let context = &stage.session.context;
    let mut states = stage.session.states(std::slice::from_ref(&reader.name))?;
    states.iter_mut().for_each(ReaderState::sync_current_state);
    let (sender, result) = bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(context.get_status_change(None, &mut states)));
        let mut ended = result.recv_timeout(PATIENCE);
        let cancelled_at = Instant::now();
        while ended == Err(RecvTimeoutError::Timeout) {
            let _ = context.cancel();
            ended = result.recv_timeout(REPEAT);
        }
        let took = cancelled_at.elapsed();
        stage.session.interrupt.check()?;
        match ended.unwrap_or(Err(Error::InternalError)) {
            Err(Error::Cancelled) => story.cancelled("Context::get_status_change", took),
            Ok(()) => Err(Failure::nothing(format!("the card was removed from {}", reader.text))),
            Err(error) => Err(Failure::of(error, &reader.text)),
        }
    })
}
