//! The reader that an ICCD device is made to look like.

use super::dialogue::{Dialogue, End, Next};
use super::request::{Control, Failure, Request};
use super::{MAX_TRANSFER, Version};
use crate::descriptor::{ClassDescriptor, ExchangeLevel};
use crate::time::Instant;
use crate::wire::{
    ChainParameter, ClockStatus, Command, CommandStatus, IccStatus, Message, Response, Seq, Slot,
    SlotError, Status,
};
use alloc::collections::VecDeque;
use bytes::Bytes;
use core::time::Duration;
use log::{debug, warn};

/// The one slot.
const SLOT: Slot = Slot(0);

/// How often time extensions are passed on.
const EXTENSION_PERIOD: Duration = Duration::from_secs(1);

/// How long the power cycle may take that a new device begins with.
const OPENING_TIME: Duration = Duration::from_secs(2);

/// How often a question is repeated for one command, at one second each.
const MAX_REPEATS: u16 = 600;

/// The errors that name the offset of dwLength and of wLevelParameter.
const BAD_LENGTH: SlotError = SlotError::Unknown(1);
const BAD_LEVEL: SlotError = SlotError::Unknown(8);

/// The shortest and the longest T=0 command TPDU.
const TPDU: core::ops::RangeInclusive<usize> = 4..=261;

/// The card's power, as far as ICCD tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Power {
    On,
    Off,
    /// It may have power, and may be in the middle of something.
    Unclear,
}

/// The command that a dialogue is held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    message_type: u8,
    seq: Seq,
}

#[derive(Debug)]
enum Phase {
    /// A request is to go out.
    Ask(Request),
    /// It is on its way.
    Asked(Request),
    /// It is to go out later.
    Wait { until: Instant, request: Request },
}

#[derive(Debug)]
struct Running {
    /// None: the power cycle of the opening.
    owner: Option<Owner>,
    dialogue: Dialogue,
    phase: Phase,
    /// When the next time extension is passed on, if one is needed.
    extension: Instant,
    /// Questions that were repeated.
    repeats: u16,
}

/// What is left of the power cycle at the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opening {
    Begin,
    /// The second power-off follows.
    PoweringUp,
    Last,
    Done,
}

/// One ICCD device as a CCID reader of one slot. See the [module](super).
#[derive(Debug)]
pub struct Translator {
    version: Version,
    interface: u8,
    /// The exchange level that the device declares.
    level: ExchangeLevel,
    power: Power,
    /// The device has said that there is no card.
    absent: bool,
    opening: Opening,
    opening_until: Option<Instant>,
    running: Option<Running>,
    /// A control transfer is on its way; whether someone still wants its answer, `running` knows.
    in_flight: bool,
    /// A command that came before the opening was done.
    waiting: Option<Bytes>,
    messages: VecDeque<Bytes>,
}

impl Translator {
    /// For a device that has just been opened, which declares the class descriptor `declared` at
    /// interface number `interface`. It begins with a power cycle, which brings the device to a
    /// known state.
    pub fn new(version: Version, declared: &ClassDescriptor, interface: u8) -> Self {
        Self {
            version,
            interface,
            level: declared.exchange_level(),
            power: Power::Unclear,
            absent: false,
            opening: Opening::Begin,
            opening_until: None,
            running: None,
            in_flight: false,
            waiting: None,
            messages: VecDeque::new(),
        }
    }

    /// The device's version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Takes a PC_to_RDR message. Bytes that are none are dropped.
    pub fn handle_message(&mut self, bytes: &Bytes, now: Instant) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return warn!("not a bulk-OUT message, dropped: {error}"),
        };
        let owner = Owner { message_type: message.message_type, seq: message.seq };
        if message.slot != SLOT {
            let status = Status::failed(IccStatus::NotPresent, SlotError::BadSlot);
            let response = response_of(owner, status, ChainParameter::Whole, &[]);
            self.messages.push_back(response.emit(message.slot, message.seq));
        } else if message.message_type == Command::Abort.message_type() {
            self.abort();
            self.fail(owner, SlotError::CmdNotSupported);
        } else if self.replaces(owner) {
            debug!("GetSlotStatus again: the earlier one is not answered");
            match &mut self.running {
                Some(running) if running.owner.is_some() => running.owner = Some(owner),
                _ => self.waiting = Some(bytes.clone()),
            }
        } else if self.waiting.is_some() || self.owner().is_some() {
            self.fail(owner, SlotError::CmdSlotBusy);
        } else if self.opening == Opening::Done {
            self.start(owner, &message, now);
        } else {
            self.waiting = Some(bytes.clone());
        }
    }

    /// The control transfer that was given out has ended.
    pub fn handle_control(&mut self, result: Result<&[u8], Failure>, now: Instant) {
        self.in_flight = false;
        let Some(running) = &mut self.running else {
            return;
        };
        let Phase::Asked(request) = &running.phase else {
            return;
        };
        let request = request.clone();
        if result == Err(Failure::TimedOut)
            && request.is_repeatable()
            && running.repeats < MAX_REPEATS
        {
            // How long that goes on is up to the sender of the command.
            running.repeats += 1;
            debug!("{request:?} was not answered: again");
            running.phase = Phase::Ask(request);
            return self.limit_opening(now);
        }
        if let Err(failure) = result {
            debug!("{request:?}: {failure:?}");
        }
        match (&request, result) {
            (Request::PowerOff, Ok(_)) => self.power = Power::Off,
            (Request::PowerOff | Request::PowerOn, _) => self.power = Power::Unclear,
            _ => {}
        }
        match running.dialogue.answered(self.version, &request, result) {
            Next::Ask(request) => running.phase = Phase::Ask(request),
            Next::AskAfter(pause, request) => {
                running.phase = Phase::Wait { until: now + pause, request };
                self.extend(now);
            }
            Next::End(end) => return self.ended(end),
        }
        self.limit_opening(now);
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.extend(now);
        if let Some(running) = &mut self.running {
            if let Phase::Wait { until, request } = &running.phase {
                if *until <= now {
                    running.phase = Phase::Ask(request.clone());
                }
            }
        }
        self.limit_opening(now);
    }

    /// What was going on ends without an answer, and answers that were not fetched are dropped:
    /// for hosts that lost step. The card has to be powered up again.
    pub fn stop(&mut self) {
        self.waiting = None;
        self.messages.clear();
        if self.owner().is_some() {
            self.interrupt();
        }
    }

    /// The next control transfer; none while one is on its way. When it has ended, well or not:
    /// [`handle_control`](Self::handle_control).
    pub fn poll_control(&mut self, now: Instant) -> Option<Control> {
        if self.opening_until.is_none() {
            self.opening_until = Some(now + OPENING_TIME);
        }
        if self.in_flight {
            return None;
        }
        if self.running.is_none() {
            self.next_opening(now);
        }
        let running = self.running.as_mut()?;
        let Phase::Ask(request) = &running.phase else {
            return None;
        };
        let request = request.clone();
        let control = request.control(self.version, self.interface);
        running.phase = Phase::Asked(request);
        self.in_flight = true;
        Some(control)
    }

    /// The next RDR_to_PC message.
    pub fn poll_message(&mut self) -> Option<Bytes> {
        self.messages.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        match &running.phase {
            Phase::Wait { until, request } if running.extends(request) => {
                Some(running.extension.min(*until))
            }
            Phase::Wait { until, .. } => Some(*until),
            Phase::Ask(_) | Phase::Asked(_) => None,
        }
    }

    /// A control transfer is on its way whose answer nobody wants any more.
    pub fn is_abandoned(&self) -> bool {
        let wanted = self.running.as_ref().is_some_and(|r| matches!(r.phase, Phase::Asked(_)));
        self.in_flight && !wanted
    }

    /// It asks what is being asked for already, as a host does that was not answered in time. To
    /// call the slot busy would look like an answer of a device that gives none.
    fn replaces(&self, owner: Owner) -> bool {
        let earlier = self.owner().map(|owner| owner.message_type);
        let waiting = self.waiting.as_ref().and_then(|bytes| bytes.first().copied());
        owner.message_type == Command::GetSlotStatus.message_type()
            && earlier.or(waiting) == Some(owner.message_type)
    }

    fn owner(&self) -> Option<Owner> {
        self.running.as_ref().and_then(|running| running.owner)
    }

    fn start(&mut self, owner: Owner, message: &Message<'_>, now: Instant) {
        let exchange = match Command::parse(message) {
            Ok(Command::IccPowerOn { .. }) => Dialogue::power_on(self.power == Power::Off),
            Ok(Command::IccPowerOff) => Dialogue::power_off(),
            Ok(Command::GetSlotStatus) => Dialogue::status(),
            Ok(Command::XfrBlock { .. }) if self.power != Power::On => {
                return self.fail(owner, SlotError::IccMute);
            }
            Ok(Command::XfrBlock { level_parameter, data, .. }) => {
                let level = u8::try_from(level_parameter.0);
                let fits = data.len() <= usize::from(MAX_TRANSFER);
                match (self.version, self.level, level) {
                    (Version::A, ExchangeLevel::Character, _) if TPDU.contains(&data.len()) => {
                        Dialogue::character_level(data)
                    }
                    (Version::A, ExchangeLevel::Character, _) => {
                        return self.fail(owner, BAD_LENGTH);
                    }
                    (Version::A, _, _) if fits => Dialogue::whole(data),
                    (Version::B, _, Ok(level)) if fits => Dialogue::block(level, data),
                    (Version::B, _, Err(_)) => return self.fail(owner, BAD_LEVEL),
                    _ => return self.fail(owner, BAD_LENGTH),
                }
            }
            _ => return self.fail(owner, SlotError::CmdNotSupported),
        };
        self.run(Some(owner), exchange, now);
    }

    fn run(&mut self, owner: Option<Owner>, first: (Dialogue, Request), now: Instant) {
        let (dialogue, request) = first;
        let (phase, extension) = (Phase::Ask(request), now + EXTENSION_PERIOD);
        self.running = Some(Running { owner, dialogue, phase, extension, repeats: 0 });
    }

    /// The opening's next step, if it is not over; then what has waited for its end.
    fn next_opening(&mut self, now: Instant) {
        if self.opening != Opening::Done && self.opening_until.is_some_and(|until| until <= now) {
            warn!("power cycle of an ICCD device not done in time");
            self.opening = Opening::Done;
        }
        let (next, step) = match self.opening {
            Opening::Begin => (Opening::PoweringUp, Dialogue::power_off()),
            Opening::PoweringUp => (Opening::Last, Dialogue::power_on(self.power == Power::Off)),
            Opening::Last => (Opening::Done, Dialogue::power_off()),
            Opening::Done => {
                if let Some(bytes) = self.waiting.take() {
                    self.handle_message(&bytes, now);
                }
                return;
            }
        };
        self.opening = next;
        self.run(None, step, now);
    }

    /// Ends the opening's step if that takes too long.
    fn limit_opening(&mut self, now: Instant) {
        let opening = self.running.as_ref().is_some_and(|running| running.owner.is_none());
        if opening && self.opening_until.is_some_and(|until| until <= now) {
            self.interrupt();
        }
    }

    /// A device that is waited for longer than a while: the sender of the command is told.
    fn extend(&mut self, now: Instant) {
        let icc = self.icc();
        let Some(running) = &mut self.running else {
            return;
        };
        match &running.phase {
            Phase::Wait { request, .. } if running.extends(request) => {}
            _ => return,
        }
        if let (Some(owner), true) = (running.owner, running.extension <= now) {
            running.extension = now + EXTENSION_PERIOD;
            let status = Status { icc, command: CommandStatus::TimeExtension, error: 1 };
            self.respond(owner, status, ChainParameter::Whole, &[]);
        }
    }

    fn abort(&mut self) {
        let waiting = self.waiting.take();
        let waiting = waiting.as_ref().and_then(|bytes| Message::parse(bytes).ok());
        let waiting = waiting.map(|m| Owner { message_type: m.message_type, seq: m.seq });
        if let Some(owner) = self.owner() {
            self.interrupt();
            self.fail(owner, SlotError::CmdAborted);
        } else if let Some(owner) = waiting {
            self.fail(owner, SlotError::CmdAborted);
        }
    }

    /// What runs is dropped where it is.
    fn interrupt(&mut self) {
        let running = self.running.take();
        if running.is_some_and(|running| !matches!(running.dialogue, Dialogue::Status)) {
            self.power = Power::Unclear;
        }
    }

    fn ended(&mut self, end: End) {
        let Some(Running { owner, dialogue, .. }) = self.running.take() else {
            return;
        };
        let keeps_power = matches!(dialogue, Dialogue::Status | Dialogue::PowerOff { .. });
        let (error, icc, chain, data) = match end {
            End::Status(icc) => (None, icc, ChainParameter::Whole, Bytes::new()),
            End::PoweredUp(atr) => {
                self.power = Power::On;
                (None, None, ChainParameter::Whole, atr)
            }
            End::Data(chain, data) => (None, None, chain, data),
            End::Failed(error, icc) => {
                if !keeps_power && icc != Some(IccStatus::PresentActive) {
                    self.power = Power::Unclear;
                }
                (Some(error), icc, ChainParameter::Whole, Bytes::new())
            }
        };
        self.absent = icc == Some(IccStatus::NotPresent);
        let icc = icc.unwrap_or_else(|| self.icc());
        let status = match error {
            None => Status::success(icc),
            Some(error) => Status::failed(icc, error),
        };
        match owner {
            Some(owner) => self.respond(owner, status, chain, &data),
            None => debug!("power cycle: {status}"),
        }
    }

    /// bmICCStatus where the device does not tell.
    const fn icc(&self) -> IccStatus {
        match (self.absent, self.power) {
            (true, _) => IccStatus::NotPresent,
            (false, Power::On) => IccStatus::PresentActive,
            (false, Power::Off | Power::Unclear) => IccStatus::PresentInactive,
        }
    }

    fn fail(&mut self, owner: Owner, error: SlotError) {
        self.respond(owner, Status::failed(self.icc(), error), ChainParameter::Whole, &[]);
    }

    fn respond(&mut self, owner: Owner, status: Status, chain: ChainParameter, data: &[u8]) {
        let response = response_of(owner, status, chain, data);
        self.messages.push_back(response.emit(SLOT, owner.seq));
    }
}

impl Running {
    fn extends(&self, request: &Request) -> bool {
        self.owner.is_some() && self.dialogue.extends(request)
    }
}

/// The message that answers a command of the owner's type.
fn response_of(owner: Owner, status: Status, chain: ChainParameter, data: &[u8]) -> Response<'_> {
    match owner.message_type {
        // IccPowerOn, Secure, XfrBlock.
        0x62 | 0x69 | 0x6F => Response::DataBlock { status, chain, data },
        // SetParameters, GetParameters, ResetParameters.
        0x61 | 0x6C | 0x6D => Response::Parameters { status, protocol_num: 0, data },
        // Escape.
        0x6B => Response::Escape { status, data },
        // SetDataRateAndClockFrequency.
        0x73 => Response::DataRateAndClockFrequency { status, clock_frequency: 0, data_rate: 0 },
        _ => Response::SlotStatus { status, clock_status: ClockStatus::Running },
    }
}
