//! How a simulated reader is made.

use super::behaviour::{AbortBehaviour, FailureMessage, OnRemoval, PendingAnswer};
use super::hardware::{Action, Key, Timeline};
use super::{Reader, describe, hardware};
use crate::Card;
use bytes::Bytes;
use ccid::Slot;
use ccid::descriptor::{
    ClassDescriptor, Features, Mechanical, PinSupport, ReaderProtocols, Voltages,
};
use std::time::Duration;

/// How much of the card protocol the reader does (CCID 1.1 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// It passes characters on: the host does procedure bytes and blocks.
    Character,
    /// It passes TPDUs on: TPDUs of T=0, blocks of T=1.
    Tpdu,
    /// It takes APDUs of at most 261 bytes.
    ShortApdu,
    /// It takes APDUs of any length, in parts where a message does not hold them.
    ExtendedApdu,
}

impl Level {
    /// The card's contacts are the host's business, at least in T=1.
    pub(super) const fn is_line(self) -> bool {
        matches!(self, Self::Character | Self::Tpdu)
    }
}

/// What a reader is, once built.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) vendor_id: u16,
    pub(super) product_id: u16,
    pub(super) bcd_device: u16,
    pub(super) manufacturer: String,
    pub(super) product: String,
    pub(super) serial_number: Option<String>,
    pub(super) level: Level,
    pub(super) class: ClassDescriptor,
    pub(super) clock_frequencies: Vec<u32>,
    pub(super) data_rates: Vec<u32>,
    pub(super) interrupt: bool,
    pub(super) max_packet: u16,
    pub(super) zero_length_packets: bool,
    pub(super) firmware: String,
    /// Further escape commands and their answers.
    pub(super) escapes: Vec<(Bytes, Bytes)>,
    pub(super) abort: AbortBehaviour,
    pub(super) pending_answer: PendingAnswer,
    pub(super) on_removal: OnRemoval,
    pub(super) failure_message: FailureMessage,
    pub(super) power_up: Duration,
    pub(super) waiting_time: Option<Duration>,
    pub(super) busy_extension: Option<(Duration, u8)>,
    pub(super) pin_timeout: Duration,
}

impl Config {
    /// The most data bytes a message carries.
    pub(super) fn max_data(&self) -> usize {
        let length = usize::try_from(self.class.max_ccid_message_length).unwrap_or(usize::MAX);
        length.saturating_sub(ccid::wire::HEADER_LEN)
    }
}

/// Makes a [`Reader`]: one slot, extended APDU level, T=0 and T=1, an interrupt endpoint, no PIN
/// pad, no card, and conforming behaviour, where nothing else is said.
#[derive(Debug)]
pub struct ReaderBuilder {
    config: Config,
    timeline: Timeline,
}

impl Default for ReaderBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ReaderBuilder {
    /// The reader described at [`ReaderBuilder`].
    pub fn new() -> Self {
        let class = ClassDescriptor {
            descriptor_type: 0x21,
            bcd_ccid: 0x0110,
            max_slot_index: 0,
            voltage_support: Voltages::V5 | Voltages::V3 | Voltages::V1_8,
            protocols: ReaderProtocols::T0 | ReaderProtocols::T1,
            default_clock: 4000,
            maximum_clock: 4000,
            num_clock_supported: 0,
            data_rate: 10_752,
            max_data_rate: 344_086,
            num_data_rates_supported: 0,
            max_ifsd: 254,
            synch_protocols: 0,
            mechanical: Mechanical::empty(),
            features: Features::empty(),
            max_ccid_message_length: 0,
            class_get_response: 0xFF,
            class_envelope: 0xFF,
            lcd_layout: 0,
            pin_support: PinSupport::empty(),
            max_ccid_busy_slots: 1,
        };
        let config = Config {
            vendor_id: 0x1209,
            product_id: 0x5CA0,
            bcd_device: 0x0100,
            manufacturer: "scard".into(),
            product: "Simulated Reader".into(),
            serial_number: Some("0001".into()),
            level: Level::ExtendedApdu,
            class,
            clock_frequencies: Vec::new(),
            data_rates: Vec::new(),
            interrupt: true,
            max_packet: 64,
            zero_length_packets: true,
            firmware: "scard-sim 1".into(),
            escapes: Vec::new(),
            abort: AbortBehaviour::Conforming,
            pending_answer: PendingAnswer::BeforeSlotStatus,
            on_removal: OnRemoval::Answers,
            failure_message: FailureMessage::OfItsType,
            power_up: Duration::ZERO,
            waiting_time: Some(Duration::from_secs(1)),
            busy_extension: None,
            pin_timeout: Duration::from_secs(30),
        };
        Self { config, timeline: Timeline::default() }.level(Level::ExtendedApdu)
    }

    /// Number of slots, at least 1 (bMaxSlotIndex); all of them may be busy at once.
    #[must_use]
    pub fn slots(mut self, slots: u8) -> Self {
        self.config.class.max_slot_index = slots.saturating_sub(1);
        self.config.class.max_ccid_busy_slots = slots.max(1);
        self
    }

    /// How many slots may be busy at once (bMaxCCIDBusySlots).
    #[must_use]
    pub fn busy_slots(mut self, slots: u8) -> Self {
        self.config.class.max_ccid_busy_slots = slots;
        self
    }

    /// The exchange level, with the features and message length that go with it: at character and
    /// TPDU level PPS is the host's; above it the reader does PPS itself. Messages of 271 bytes; at
    /// extended APDU level of any length.
    ///
    /// At character and TPDU level a card without [`Contacts`](crate::card::Contacts) of its own is
    /// put into a [`LineCard`](crate::card::LineCard).
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        let class = &mut self.config.class;
        let (features, length) = match level {
            Level::Character | Level::Tpdu => {
                let auto = Features::AUTO_PARAMETERS_FROM_ATR
                    | Features::AUTO_VOLTAGE
                    | Features::AUTO_CLOCK
                    | Features::AUTO_BAUD_RATE;
                let tpdu = level == Level::Tpdu;
                (if tpdu { auto | Features::TPDU_LEVEL } else { auto }, 271)
            }
            Level::ShortApdu | Level::ExtendedApdu => {
                let auto = Features::AUTO_PARAMETERS_FROM_ATR
                    | Features::AUTO_VOLTAGE
                    | Features::AUTO_CLOCK
                    | Features::AUTO_BAUD_RATE
                    | Features::AUTO_PARAMETER_NEGOTIATION
                    | Features::AUTO_IFSD;
                match level {
                    Level::ShortApdu => (auto | Features::SHORT_APDU_LEVEL, 271),
                    _ => (auto | Features::EXTENDED_APDU_LEVEL, 65_554),
                }
            }
        };
        class.features = features;
        class.max_ccid_message_length = length;
        self.config.level = level;
        self
    }

    /// The protocols the reader knows (dwProtocols). An exchange with a card that speaks nothing else
    /// fails with ICC_PROTOCOL_NOT_SUPPORTED.
    #[must_use]
    pub fn protocols(mut self, protocols: ReaderProtocols) -> Self {
        self.config.class.protocols = protocols;
        self
    }

    /// dwFeatures without the exchange level, after [`level`](Self::level). These make a
    /// difference: automatic parameters, voltage, negotiation and PPS, clock stop, and at TPDU level
    /// automatic IFSD.
    #[must_use]
    pub fn features(mut self, features: Features) -> Self {
        let levels =
            Features::TPDU_LEVEL | Features::SHORT_APDU_LEVEL | Features::EXTENDED_APDU_LEVEL;
        let class = &mut self.config.class;
        class.features = class.features & levels | features & !levels;
        self
    }

    /// dwMaxCCIDMessageLength in bytes, header included, after [`level`](Self::level).
    #[must_use]
    pub fn max_message_length(mut self, length: u32) -> Self {
        self.config.class.max_ccid_message_length = length;
        self
    }

    /// dwMaxIFSD: the longest information field of T=1 that the reader takes, at TPDU level.
    #[must_use]
    pub fn max_ifsd(mut self, bytes: u32) -> Self {
        self.config.class.max_ifsd = bytes;
        self
    }

    /// dwDefaultClock and dwMaximumClock in kHz, and dwMaxDataRate in bit/s. At character and TPDU
    /// level waiting times and the rates that can be set follow from them.
    #[must_use]
    pub fn clock(mut self, kilohertz: u32, max_data_rate: u32) -> Self {
        let class = &mut self.config.class;
        (class.default_clock, class.maximum_clock) = (kilohertz, kilohertz);
        class.max_data_rate = max_data_rate;
        self
    }

    /// The voltages the reader can give (bVoltageSupport).
    #[must_use]
    pub fn voltages(mut self, voltages: Voltages) -> Self {
        self.config.class.voltage_support = voltages;
        self
    }

    /// What its PIN pad does (bPINSupport); none: it has no PIN pad.
    #[must_use]
    pub fn pin_support(mut self, support: PinSupport) -> Self {
        self.config.class.pin_support = support;
        self
    }

    /// How long a PIN entry lasts when the host leaves that to the reader (bTimeOut 0).
    #[must_use]
    pub fn pin_timeout(mut self, timeout: Duration) -> Self {
        self.config.pin_timeout = timeout;
        self
    }

    /// What GET_CLOCK_FREQUENCIES answers, in kHz; none: it stalls.
    #[must_use]
    pub fn clock_frequencies(mut self, frequencies: &[u32]) -> Self {
        self.config.class.num_clock_supported = u8::try_from(frequencies.len()).unwrap_or(u8::MAX);
        self.config.clock_frequencies = frequencies.iter().copied().take(255).collect();
        self
    }

    /// What GET_DATA_RATES answers, in bit/s; none: it stalls.
    #[must_use]
    pub fn data_rates(mut self, rates: &[u32]) -> Self {
        self.config.class.num_data_rates_supported = u8::try_from(rates.len()).unwrap_or(u8::MAX);
        self.config.data_rates = rates.iter().copied().take(255).collect();
        self
    }

    /// Without the interrupt endpoint: the host must ask for the cards.
    #[must_use]
    pub fn without_interrupt(mut self) -> Self {
        self.config.interrupt = false;
        self
    }

    /// idVendor and iManufacturer.
    #[must_use]
    pub fn vendor(mut self, id: u16, name: &str) -> Self {
        (self.config.vendor_id, self.config.manufacturer) = (id, name.into());
        self
    }

    /// idProduct and iProduct.
    #[must_use]
    pub fn product(mut self, id: u16, name: &str) -> Self {
        (self.config.product_id, self.config.product) = (id, name.into());
        self
    }

    /// bcdDevice.
    #[must_use]
    pub fn bcd_device(mut self, bcd: u16) -> Self {
        self.config.bcd_device = bcd;
        self
    }

    /// iSerialNumber; None: there is none.
    #[must_use]
    pub fn serial_number(mut self, serial: Option<&str>) -> Self {
        self.config.serial_number = serial.map(Into::into);
        self
    }

    /// wMaxPacketSize of the bulk endpoints: 64 as on full speed (the default), 512 as on high
    /// speed.
    #[must_use]
    pub fn max_packet(mut self, bytes: u16) -> Self {
        self.config.max_packet = bytes.clamp(8, 1024);
        self
    }

    /// No zero-length packet ends a message that fills its last packet, as with some readers.
    #[must_use]
    pub fn without_zero_length_packets(mut self) -> Self {
        self.config.zero_length_packets = false;
        self
    }

    /// What the escape command 02h answers.
    #[must_use]
    pub fn firmware(mut self, name: &str) -> Self {
        self.config.firmware = name.into();
        self
    }

    /// An escape command that it knows besides, and what it answers.
    #[must_use]
    pub fn escape(mut self, command: &[u8], answer: &[u8]) -> Self {
        let (command, answer) = (Bytes::copy_from_slice(command), Bytes::copy_from_slice(answer));
        self.config.escapes.push((command, answer));
        self
    }

    /// What it can do with a card by itself (dwMechanical); none.
    #[must_use]
    pub fn mechanical(mut self, mechanical: Mechanical) -> Self {
        self.config.class.mechanical = mechanical;
        self
    }

    /// What it does about Abort.
    #[must_use]
    pub fn abort(mut self, behaviour: AbortBehaviour) -> Self {
        self.config.abort = behaviour;
        self
    }

    /// When the aborted command is answered, where the behaviour is as specified.
    #[must_use]
    pub fn pending_answer(mut self, answer: PendingAnswer) -> Self {
        self.config.pending_answer = answer;
        self
    }

    /// What becomes of a command whose card is taken out.
    #[must_use]
    pub fn on_removal(mut self, on_removal: OnRemoval) -> Self {
        self.config.on_removal = on_removal;
        self
    }

    /// How commands fail.
    #[must_use]
    pub fn failure_message(mut self, message: FailureMessage) -> Self {
        self.config.failure_message = message;
        self
    }

    /// How long IccPowerOn takes before the card is reset.
    #[must_use]
    pub fn power_up(mut self, time: Duration) -> Self {
        self.config.power_up = time;
        self
    }

    /// How long the reader waits for a card that is silent until it says ICC_MUTE; None: for ever.
    /// Blocks of T=1, and characters, are waited for as ISO/IEC 7816-3 has it instead, by the
    /// parameters that are set; or for ever.
    #[must_use]
    pub fn waiting_time(mut self, time: Option<Duration>) -> Self {
        self.config.waiting_time = time;
        self
    }

    /// While a command runs, the reader itself asks for more time: how often, and bError.
    #[must_use]
    pub fn busy_extension(mut self, period: Duration, multiplier: u8) -> Self {
        self.config.busy_extension = Some((period.max(Duration::from_millis(1)), multiplier));
        self
    }

    /// A card that is in `slot` from the start.
    #[must_use]
    pub fn card(self, slot: Slot, card: impl Card + 'static) -> Self {
        self.at(Duration::ZERO, Action::Insert(slot, Box::new(card)))
    }

    /// A card that is inserted so long after the reader has been plugged in.
    #[must_use]
    pub fn insert_after(self, delay: Duration, slot: Slot, card: impl Card + 'static) -> Self {
        self.at(delay, Action::Insert(slot, Box::new(card)))
    }

    /// The card in `slot` is removed so long after the reader has been plugged in.
    #[must_use]
    pub fn remove_after(self, delay: Duration, slot: Slot) -> Self {
        self.at(delay, Action::Remove(slot))
    }

    /// A key of the PIN pad is pressed so long after the reader has been plugged in.
    #[must_use]
    pub fn press_after(self, delay: Duration, key: Key) -> Self {
        self.at(delay, Action::Press(key))
    }

    /// The digits of `pin` and Enter are pressed so long after the reader has been plugged in.
    #[must_use]
    pub fn enter_pin_after(self, delay: Duration, pin: &str) -> Self {
        hardware::keys_of(pin).fold(self, |reader, key| reader.press_after(delay, key))
    }

    fn at(mut self, delay: Duration, action: Action) -> Self {
        self.timeline.add(delay, action);
        self
    }

    /// The reader.
    pub fn build(self) -> Reader {
        let descriptors = describe::descriptors(&self.config);
        Reader::new(self.config, descriptors, self.timeline)
    }
}
