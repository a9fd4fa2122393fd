//! What an ICCD is: version, exchange level, descriptors (ICCD 1.0 §4).

use super::{Iccd, State};
use crate::Descriptors;
use crate::card::Card;
use crate::reader::Level;
use crate::reader::journal::Journal;
use ccid::descriptor::{
    ClassDescriptor, Features, Mechanical, PinSupport, ReaderProtocols, Voltages,
};
use std::time::Duration;

/// Which of the two sets of requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// bInterfaceProtocol 1: GET_ICC_STATUS tells when DATA_BLOCK can be asked for.
    A,
    /// bInterfaceProtocol 2: DATA_BLOCK is always answered, and says what its answer is.
    B,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) version: Version,
    pub(super) level: Level,
    pub(super) interrupt: bool,
    pub(super) max_message_length: u32,
    pub(super) waiting_time: Duration,
    /// In units of 10 ms.
    pub(super) polling_delay: u16,
    vendor_id: u16,
    product_id: u16,
}

impl Config {
    /// The most data bytes of one request.
    pub(super) fn max_data(&self) -> usize {
        usize::try_from(self.max_message_length).unwrap_or(usize::MAX).saturating_sub(10).max(1)
    }
}

/// Makes an [`Iccd`]: short APDU level, no interrupt endpoint, messages of 271 bytes, where nothing
/// else is said.
pub struct IccdBuilder {
    config: Config,
    card: Box<dyn Card>,
}

impl std::fmt::Debug for IccdBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IccdBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl IccdBuilder {
    pub(super) fn new(version: Version, card: Box<dyn Card>) -> Self {
        let config = Config {
            version,
            level: Level::ShortApdu,
            interrupt: false,
            max_message_length: 271,
            waiting_time: Duration::from_secs(1),
            polling_delay: 1,
            vendor_id: 0x1209,
            product_id: 0x5CA1,
        };
        Self { config, card }
    }

    /// The exchange level. At APDU level the card is one that takes APDUs (T=1); at TPDU level it
    /// takes TPDUs of T=0 as a whole. Character level is for version A, and what its devices in the
    /// field do: header, data and SW1 SW2 of T=0 go one after the other; that version A at another
    /// level has its whole response ready at status 20h is inferred. Extended APDUs in parts are for
    /// version B.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.config.level = level;
        self
    }

    /// With an interrupt endpoint, which tells of virtual insertion and removal; for version B.
    #[must_use]
    pub fn interrupt(mut self) -> Self {
        self.config.interrupt = true;
        self
    }

    /// dwMaxCCIDMessageLength in bytes; a request carries ten less.
    #[must_use]
    pub fn max_message_length(mut self, length: u32) -> Self {
        self.config.max_message_length = length;
        self
    }

    /// How long the device waits for a card that falls silent until it says so.
    #[must_use]
    pub fn waiting_time(mut self, time: Duration) -> Self {
        self.config.waiting_time = time;
        self
    }

    /// How long the host is told to wait before it asks again, in units of 10 ms (version B); 0
    /// leaves it to the host.
    #[must_use]
    pub fn polling_delay(mut self, delay: u16) -> Self {
        self.config.polling_delay = delay;
        self
    }

    /// The ICCD.
    pub fn build(self) -> Iccd {
        let descriptors = descriptors(&self.config);
        Iccd {
            config: self.config,
            descriptors,
            card: self.card,
            state: State::Off,
            present: true,
            changed: false,
            not_before: None,
            journal: Journal::default(),
        }
    }
}

fn class(config: &Config) -> ClassDescriptor {
    let (level, protocols) = match config.level {
        Level::Character => (Features::empty(), ReaderProtocols::T0),
        Level::Tpdu => (Features::TPDU_LEVEL, ReaderProtocols::T0),
        Level::ShortApdu => (Features::SHORT_APDU_LEVEL, ReaderProtocols::T1),
        Level::ExtendedApdu => (Features::EXTENDED_APDU_LEVEL, ReaderProtocols::T1),
    };
    ClassDescriptor {
        descriptor_type: 0x21,
        bcd_ccid: 0x0110,
        max_slot_index: 0,
        voltage_support: Voltages::V5,
        protocols,
        default_clock: 3580,
        maximum_clock: 3580,
        num_clock_supported: 0,
        data_rate: 9600,
        max_data_rate: 9600,
        num_data_rates_supported: 0,
        max_ifsd: 254,
        synch_protocols: 0,
        mechanical: Mechanical::empty(),
        features: Features::ICCD | Features::AUTO_PARAMETER_NEGOTIATION | level,
        max_ccid_message_length: config.max_message_length,
        class_get_response: 0xFF,
        class_envelope: 0xFF,
        lcd_layout: 0,
        pin_support: PinSupport::empty(),
        max_ccid_busy_slots: 1,
    }
}

fn descriptors(config: &Config) -> Descriptors {
    let strings = vec!["scard".into(), "Simulated ICCD".into(), "0001".into()];
    let [v0, v1] = config.vendor_id.to_le_bytes();
    let [p0, p1] = config.product_id.to_le_bytes();
    let device = vec![18, 0x01, 0x00, 0x02, 0, 0, 0, 64, v0, v1, p0, p1, 0x00, 0x01, 1, 2, 3, 1];
    let protocol = match config.version {
        Version::A => 1,
        Version::B => 2,
    };
    let mut below = vec![9, 0x04, 0, 0, u8::from(config.interrupt), 0x0B, 0x00, protocol, 0];
    below.extend(class(config).emit());
    if config.interrupt {
        below.extend([7, 0x05, 0x81, 0x03, 8, 0, 16]);
    }
    let total = u16::try_from(9 + below.len()).unwrap_or(u16::MAX);
    let [low, high] = total.to_le_bytes();
    let configuration = [&[9, 0x02, low, high, 1, 1, 0, 0x80, 50][..], &below].concat();
    Descriptors { device: device.into(), configuration: configuration.into(), strings }
}
