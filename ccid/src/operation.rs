//! What a slot can be asked to do.

use crate::atr::{Atr, Protocol};
use crate::pin::PinEntry;
use crate::wire::{ClockCommand, ClockStatus, IccStatus, MechanicalFunction};
use bytes::Bytes;
use core::fmt;
use core::time::Duration;

/// Names an operation of one [`Reader`](crate::Reader) from its start to its completion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(pub u64);

/// How a card is powered up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PowerUp {
    /// Power off first, then on: a cold reset.
    Cold,
    /// Power on; a card that has power gets a warm reset.
    Warm,
}

/// Something a slot can be asked to do. What it takes on the wire is the reader's business.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Powers the card up, with each voltage that reader and host can choose until one works.
    /// Gives [`Output::Atr`].
    PowerOn(PowerUp),
    /// Cuts the power. Gives [`Output::Done`].
    PowerOff,
    /// Asks for the slot's status. Gives [`Output::Status`].
    Status,
    /// Makes reader and card speak this protocol, as fast as both can: by PPS and SetParameters, or
    /// what of it the reader does not do by itself. Gives [`Output::Done`]. Nothing is sent if the
    /// protocol was set before. A card that has to be switched by PPS and is past that, as it has
    /// exchanged something or another protocol was set, is reset first, and so is one with which
    /// the best failed; if the defaults fail too, it is reset again and the operation fails.
    SetProtocol(Protocol),
    /// Exchanges a command APDU for its response. Gives [`Output::Data`]: data and SW1 SW2. With
    /// T=0 at TPDU and character level, one TPDU: 61xx and 6Cxx are the caller's.
    Exchange(Bytes),
    /// The same to its whole response, with what 61xx and 6Cxx ask for; at TPDU and character level
    /// of T=0, APDUs of any case but those that take ENVELOPE (see
    /// [`Completion`](crate::completion::Completion)). Cancelled or timed out in between, it ends as
    /// that, without what there is of the response.
    ExchangeComplete(Bytes),
    /// A manufacturer's command to the reader. Gives [`Output::Data`].
    Escape(Bytes),
    /// PIN entry on the reader (CCID 1.1 §6.1.11). Gives [`Output::Data`]: what the card, or the
    /// reader in its place, answers to the command with the PIN.
    Secure {
        /// What the reader is told.
        entry: PinEntry,
        /// How long the user may take.
        timeout: Duration,
    },
    /// Asks for the protocol parameters. Gives [`Output::Data`]: bProtocolNum and the data
    /// structure of CCID 1.1 §6.2.3.
    GetParameters,
    /// Resets the protocol parameters to their defaults. Gives as above.
    ResetParameters,
    /// PC_to_RDR_SetDataRateAndClockFrequency (CCID 1.1 §6.1.14), for readers that change neither
    /// by themselves. [`SetProtocol`](Self::SetProtocol) does not use it. Gives [`Output::Rates`].
    SetRates {
        /// dwClockFrequency in kHz.
        clock_frequency: u32,
        /// dwDataRate in bit/s.
        data_rate: u32,
    },
    /// Stops or restarts the card's clock (CCID 1.1 §6.1.9), if the reader can. Gives
    /// [`Output::Clock`].
    IccClock(ClockCommand),
    /// The class bytes of the GET RESPONSE and ENVELOPE commands that a reader of APDU level makes
    /// itself with T=0 (CCID 1.1 §6.1.10); none: as the class descriptor has it. Gives
    /// [`Output::Done`].
    T0Apdu {
        /// bClassGetResponse.
        get_response: Option<u8>,
        /// bClassEnvelope.
        envelope: Option<u8>,
    },
    /// Moves or holds the card (CCID 1.1 §6.1.12), if the reader can. A card that is ejected or
    /// captured has no power afterwards. Gives [`Output::Done`].
    Mechanical(MechanicalFunction),
}

impl fmt::Debug for Operation {
    /// Command data may hold a PIN and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOn(how) => write!(f, "PowerOn({how:?})"),
            Self::PowerOff => f.write_str("PowerOff"),
            Self::Status => f.write_str("Status"),
            Self::SetProtocol(protocol) => write!(f, "SetProtocol({protocol})"),
            Self::Exchange(data) => write!(f, "Exchange({} bytes)", data.len()),
            Self::ExchangeComplete(data) => write!(f, "ExchangeComplete({} bytes)", data.len()),
            Self::Escape(data) => write!(f, "Escape({} bytes)", data.len()),
            Self::Secure { entry, .. } => write!(f, "Secure({entry:?})"),
            Self::GetParameters => f.write_str("GetParameters"),
            Self::ResetParameters => f.write_str("ResetParameters"),
            Self::SetRates { clock_frequency, data_rate } => {
                write!(f, "SetRates({clock_frequency} kHz, {data_rate} bit/s)")
            }
            Self::IccClock(command) => write!(f, "IccClock({command:?})"),
            Self::T0Apdu { get_response, envelope } => {
                write!(f, "T0Apdu({get_response:02X?}, {envelope:02X?})")
            }
            Self::Mechanical(function) => write!(f, "Mechanical({function:?})"),
        }
    }
}

/// What a successful operation gives.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Nothing but success.
    Done,
    /// The answer to reset.
    Atr(Atr),
    /// The slot's status.
    Status(IccStatus),
    /// The state of the card's clock.
    Clock(ClockStatus),
    /// Data, as the operation says.
    Data(Bytes),
    /// What the reader has set, which need not be what was asked for.
    Rates {
        /// dwClockFrequency in kHz.
        clock_frequency: u32,
        /// dwDataRate in bit/s.
        data_rate: u32,
    },
}
