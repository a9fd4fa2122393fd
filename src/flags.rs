//! Modes, protocols and states, with pcsc-lite's values.

use bitflags::bitflags;

/// Whose context it is. PC/SC asks for it; it makes no difference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// SCARD_SCOPE_USER.
    User,
    /// SCARD_SCOPE_TERMINAL.
    Terminal,
    /// SCARD_SCOPE_SYSTEM.
    System,
    /// SCARD_SCOPE_GLOBAL.
    Global,
}

/// Who else may use the card meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ShareMode {
    /// SCARD_SHARE_EXCLUSIVE: nobody.
    Exclusive,
    /// SCARD_SHARE_SHARED: others who share.
    Shared,
    /// SCARD_SHARE_DIRECT: the reader itself, with or without a card; shares.
    Direct,
}

/// The protocol in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// SCARD_PROTOCOL_T0.
    T0,
    /// SCARD_PROTOCOL_T1.
    T1,
    /// SCARD_PROTOCOL_RAW.
    RAW,
}

impl From<ccid::atr::Protocol> for Protocol {
    fn from(protocol: ccid::atr::Protocol) -> Self {
        match protocol {
            ccid::atr::Protocol::T0 => Self::T0,
            ccid::atr::Protocol::T1 => Self::T1,
        }
    }
}

/// What happens to the card when a handle or a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Disposition {
    /// SCARD_LEAVE_CARD: nothing.
    LeaveCard,
    /// SCARD_RESET_CARD: a warm reset.
    ResetCard,
    /// SCARD_UNPOWER_CARD: its power is cut; reconnecting makes it a cold reset.
    UnpowerCard,
    /// SCARD_EJECT_CARD: as unpowering; no reader known can eject by CCID.
    EjectCard,
}

bitflags! {
    /// Protocols that a caller accepts.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Protocols: u32 {
        /// None; only for [`ShareMode::Direct`].
        const UNDEFINED = 0x0;
        /// T=0.
        const T0 = 0x1;
        /// T=1.
        const T1 = 0x2;
        /// Whatever the reader makes of the bytes.
        const RAW = 0x4;
        /// T=0 or T=1.
        const ANY = 0x3;
    }

    /// A reader's state in a status wait: SCARD_STATE_*.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct State: u32 {
        /// The caller knows nothing: the wait ends at once.
        const UNAWARE = 0x0000;
        /// The caller does not care about this reader.
        const IGNORE = 0x0001;
        /// The state differs from what the caller knew.
        const CHANGED = 0x0002;
        /// There is no such reader.
        const UNKNOWN = 0x0004;
        /// The state cannot be told: the reader is gone, with [`UNKNOWN`](Self::UNKNOWN); without,
        /// another program has it, or it cannot be opened.
        const UNAVAILABLE = 0x0008;
        /// No card.
        const EMPTY = 0x0010;
        /// A card.
        const PRESENT = 0x0020;
        /// A card with the ATR looked for.
        const ATRMATCH = 0x0040;
        /// Somebody has it exclusively.
        const EXCLUSIVE = 0x0080;
        /// Somebody shares it.
        const INUSE = 0x0100;
        /// The card does not answer.
        const MUTE = 0x0200;
        /// The card has no power.
        const UNPOWERED = 0x0400;
    }

    /// A connected card's state: what SCardStatus gives, as a bit field.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Status: u32 {
        /// Not known.
        const UNKNOWN = 0x0001;
        /// No card.
        const ABSENT = 0x0002;
        /// A card.
        const PRESENT = 0x0004;
        /// A card that does not answer, or has no power.
        const SWALLOWED = 0x0008;
        /// It has power.
        const POWERED = 0x0010;
        /// It awaits protocol selection.
        const NEGOTIABLE = 0x0020;
        /// Its protocol is set.
        const SPECIFIC = 0x0040;
    }
}
