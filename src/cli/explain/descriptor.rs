//! The CCID class descriptor, field by field (CCID 1.1 §5.1), and what follows from it.

use super::{Row, enumerate};
use crate::cli::hex::Spaced;
use ccid::ClassDescriptor;
use ccid::atr::Protocol;
use ccid::descriptor::{
    ExchangeLevel, Features, Mechanical, PinSupport, ReaderProtocols, Voltages,
};
use ccid::wire::{HEADER_LEN, MAX_DATA_LEN};

/// Clocks above this are none that a card could bear: kHz are meant.
const MAX_CLOCK: u32 = 40_000;

/// The longest message there is any use for.
const MAX_MESSAGE: usize = HEADER_LEN + MAX_DATA_LEN;

/// A message with a short APDU of greatest length.
const SHORT_MESSAGE: u32 = 271;

/// The fields in their order.
pub(crate) fn explain(class: &ClassDescriptor) -> Vec<Row> {
    let mut fields = Fields { bytes: class.emit(), at: 0, rows: Vec::new() };
    fields.push(1, "bLength", "54 bytes: the length of this descriptor", &[]);
    let older = class.descriptor_type != 0x21;
    fields.push(1, "bDescriptorType", "class descriptor", &[(older, "21h is standard")]);
    let [major, minor] = class.bcd_ccid.to_be_bytes();
    let version = format!("CCID {major:x}.{:x}{:x}", minor >> 4, minor & 0x0F);
    let unknown = !matches!(class.bcd_ccid, 0x0100 | 0x0110);
    fields.push(2, "bcdCCID", version, &[(unknown, "there are 1.00 and 1.10")]);
    let slots = match class.slots() {
        1 => "one slot".to_owned(),
        n => format!("{n} slots, numbered 0 to {}", n - 1),
    };
    fields.push(1, "bMaxSlotIndex", slots, &[]);
    card_side(class, &mut fields);
    clocks(class, &mut fields);
    block_size(class, &mut fields);
    features(class.features, &mut fields);
    messages(class, &mut fields);
    fields.rows
}

/// Names of the bits set, and what is left of them.
fn bits<T: Copy>(names: &[(T, &'static str)], set: impl Fn(T) -> bool) -> Vec<&'static str> {
    names.iter().filter(|(bit, _)| set(*bit)).map(|(_, name)| *name).collect()
}

fn or_none(words: &[&str], none: &str) -> String {
    if words.is_empty() { none.into() } else { enumerate(words) }
}

fn card_side(class: &ClassDescriptor, fields: &mut Fields) {
    let voltages = voltage_names(class.voltage_support);
    fields.push(
        1,
        "bVoltageSupport",
        or_none(&voltages, "no voltage"),
        &[
            (voltages.is_empty(), "a reader has one voltage at least"),
            (class.voltage_support.bits() & !0x07 != 0, "reserved bits are set"),
        ],
    );
    let protocols = [(ReaderProtocols::T0, "T=0"), (ReaderProtocols::T1, "T=1")];
    let protocols = bits(&protocols, |bit| class.protocols.contains(bit));
    let reserved = class.protocols.bits() & !0x03 != 0;
    fields.push(
        4,
        "dwProtocols",
        or_none(&protocols, "no protocol"),
        &[
            (protocols.is_empty(), "neither T=0 nor T=1: the card's ATR decides"),
            (reserved, "reserved bits are set (bytes in the wrong order?)"),
        ],
    );
}

fn clocks(class: &ClassDescriptor, fields: &mut Fields) {
    let mega = |khz: u32| format!("{} MHz", f64::from(khz) / 1000.0);
    let odd_clock = "a clock is given in kHz; this cannot be meant";
    let strange = |khz: u32| (khz == 0 || khz > MAX_CLOCK, odd_clock);
    let (default, maximum) = (class.default_clock, class.maximum_clock);
    fields.push(4, "dwDefaultClock", mega(default), &[strange(default)]);
    let lower = "lower than the default";
    let odd = [strange(maximum), (maximum < default, lower)];
    fields.push(4, "dwMaximumClock", mega(maximum), &odd);
    let listed = |number: u8, what: &str, request: &str| match number {
        0 => format!("any {what} between the two"),
        n => format!("{n}, by {request}"),
    };
    let text = listed(class.num_clock_supported, "clock", "GET_CLOCK_FREQUENCIES");
    fields.push(1, "bNumClockSupported", text, &[]);
    let (default, maximum) = (class.data_rate, class.max_data_rate);
    let odd = [(default == 0, "no rate at all")];
    fields.push(4, "dwDataRate", format!("{default} bit/s"), &odd);
    fields.push(4, "dwMaxDataRate", format!("{maximum} bit/s"), &[(maximum < default, lower)]);
    let text = listed(class.num_data_rates_supported, "rate", "GET_DATA_RATES");
    fields.push(1, "bNumDataRatesSupported", text, &[]);
}

fn block_size(class: &ClassDescriptor, fields: &mut Fields) {
    let ifsd = class.max_ifsd;
    let t1 = class.protocols.contains(ReaderProtocols::T1);
    let odd = [
        (t1 && ifsd == 0, "0, though it speaks T=1"),
        (ifsd > 254, "a block has at most 254 bytes"),
    ];
    fields.push(4, "dwMaxIFSD", format!("T=1 blocks of up to {ifsd} bytes"), &odd);
    let odd = [(class.synch_protocols != 0, "reserved, to be 0")];
    fields.push(4, "dwSynchProtocols", "synchronous protocols: none", &odd);
    let mechanical = [
        (Mechanical::ACCEPT, "accepts"),
        (Mechanical::EJECT, "ejects"),
        (Mechanical::CAPTURE, "captures"),
        (Mechanical::LOCK, "locks"),
    ];
    let mechanical = bits(&mechanical, |bit| class.mechanical.contains(bit));
    let text = match mechanical.len() {
        0 => "no mechanics".to_owned(),
        _ => format!("{} cards", enumerate(&mechanical)),
    };
    let odd = [(class.mechanical.bits() & !0x0F != 0, "reserved bits are set")];
    fields.push(4, "dwMechanical", text, &odd);
}

/// Every bit of dwFeatures in words; the exchange level apart.
const FEATURES: [(Features, &str); 12] = [
    (Features::AUTO_PARAMETERS_FROM_ATR, "sets its parameters from the ATR"),
    (Features::AUTO_ACTIVATION, "activates a card when it is inserted"),
    (Features::AUTO_VOLTAGE, "chooses the voltage"),
    (Features::AUTO_CLOCK, "changes the clock as the card wants it"),
    (Features::AUTO_BAUD_RATE, "changes the rate as the card wants it"),
    (Features::AUTO_PARAMETER_NEGOTIATION, "negotiates parameters with the card (PPS) by itself"),
    (Features::AUTO_PPS, "makes a PPS from the parameters it is given"),
    (Features::CLOCK_STOP, "can stop the clock"),
    (Features::NAD, "takes NAD values other than 0 (T=1)"),
    (Features::AUTO_IFSD, "tells the card its block size first (IFSD, T=1)"),
    (Features::ICCD, "an ICCD device: card and reader in one"),
    (Features::USB_WAKE_UP, "wakes the host up on insertion and removal"),
];

const LEVELS: [(Features, &str); 3] = [
    (Features::TPDU_LEVEL, "exchanges TPDUs"),
    (Features::SHORT_APDU_LEVEL, "exchanges short APDUs"),
    (Features::EXTENDED_APDU_LEVEL, "exchanges short and extended APDUs"),
];

fn features(features: Features, fields: &mut Fields) {
    let levels = LEVELS.iter().filter(|(bit, _)| features.contains(*bit)).count();
    let text = if levels == 0 { "exchanges characters; and" } else { "bit by bit" };
    let both = Features::AUTO_PARAMETER_NEGOTIATION | Features::AUTO_PPS;
    let odd = [
        (levels > 1, "more than one exchange level: the highest is used"),
        (features.contains(both), "0040h and 0080h exclude each other"),
    ];
    let offset = fields.at;
    fields.push(4, "dwFeatures", text, &odd);
    let mut left = features;
    let known = FEATURES.iter().chain(&LEVELS);
    for (bit, text) in known.filter(|(bit, _)| features.contains(*bit)) {
        left.remove(*bit);
        let value = format!("{:08X}h", bit.bits());
        fields.rows.push(Row::new(offset, &[], "", *text).value(value));
    }
    if !left.is_empty() {
        let value = format!("{:08X}h", left.bits());
        let row = Row::new(offset, &[], "", "reserved bits").value(value);
        fields.rows.push(row.odd("are set"));
    }
}

fn messages(class: &ClassDescriptor, fields: &mut Fields) {
    let length = class.max_ccid_message_length;
    let chained = class.exchange_level() == ExchangeLevel::ExtendedApdu;
    let fits = usize::try_from(length).is_ok_and(|length| length <= MAX_MESSAGE);
    fields.push(
        4,
        "dwMaxCCIDMessageLength",
        format!("messages of up to {length} bytes"),
        &[
            (length < SHORT_MESSAGE && !chained, "shorter than a short APDU needs, 271"),
            (!fits, "longer than any message there is"),
        ],
    );
    let class_byte = |byte: u8| match byte {
        0xFF => "the class of the command".to_owned(),
        byte => format!("class {byte:02X}h"),
    };
    let text = format!("own GET RESPONSE: {}", class_byte(class.class_get_response));
    fields.push(1, "bClassGetResponse", text, &[]);
    let text = format!("own ENVELOPE: {}", class_byte(class.class_envelope));
    fields.push(1, "bClassEnvelope", text, &[]);
    let [lines, characters] = class.lcd_layout.to_be_bytes();
    let text = match class.lcd_layout {
        0 => "no display".to_owned(),
        _ => format!("a display of {lines} lines with {characters} characters each"),
    };
    let half = class.lcd_layout != 0 && (lines == 0 || characters == 0);
    let odd = [(half, "lines without characters, or the other way round")];
    fields.push(2, "wLcdLayout", text, &odd);
    let pin = [(PinSupport::VERIFY, "verification"), (PinSupport::MODIFY, "modification")];
    let pin = bits(&pin, |bit| class.pin_support.contains(bit));
    let text = match pin.len() {
        0 => "no PIN pad".to_owned(),
        _ => format!("a PIN pad, for {}", enumerate(&pin)),
    };
    let odd = [(class.pin_support.bits() & !0x03 != 0, "reserved bits are set")];
    fields.push(1, "bPINSupport", text, &odd);
    let busy = class.max_ccid_busy_slots;
    let odd = [
        (busy == 0, "one must be: taken as 1"),
        (usize::from(busy) > class.slots(), "more than there are slots"),
    ];
    let text = format!("{} may be busy at once", super::counted(busy.into(), "slot"));
    fields.push(1, "bMaxCCIDBusySlots", text, &odd);
}

fn voltage_names(voltages: Voltages) -> Vec<&'static str> {
    let names = [(Voltages::V5, "5 V"), (Voltages::V3, "3 V"), (Voltages::V1_8, "1.8 V")];
    bits(&names, |bit| voltages.contains(bit))
}

/// The rows, and how far the descriptor has been explained.
struct Fields {
    bytes: [u8; ccid::descriptor::DESCRIPTOR_LEN],
    at: usize,
    rows: Vec<Row>,
}

impl Fields {
    /// The next field, of `length` bytes, with what is odd about it where the condition holds.
    fn push(
        &mut self,
        length: usize,
        name: &str,
        meaning: impl Into<String>,
        odd: &[(bool, &str)],
    ) {
        let bytes = self.bytes.get(self.at..self.at + length).unwrap_or_default();
        let value: String = bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect();
        let row = Row::new(self.at, bytes, name, meaning).value(value + "h");
        self.at += length;
        self.rows.push(odd.iter().fold(row, |row, (condition, odd)| row.odd_if(*condition, odd)));
    }
}

/// A conclusion: of what, and what it is.
pub(crate) type Conclusion = (&'static str, String);

/// What this stack makes of a reader with this descriptor.
pub(crate) fn conclusions(class: &ClassDescriptor) -> Vec<Conclusion> {
    let level = match class.exchange_level() {
        ExchangeLevel::Character => "character: the host exchanges characters with the card",
        ExchangeLevel::Tpdu => "TPDU: the host makes TPDUs of APDUs",
        ExchangeLevel::ShortApdu => "short APDU",
        ExchangeLevel::ExtendedApdu => "short and extended APDU",
    };
    let chunk = class.max_data();
    let chunk = match class.exchange_level() {
        ExchangeLevel::ExtendedApdu if chunk < MAX_DATA_LEN => {
            format!("{chunk} bytes; longer APDUs go in several")
        }
        _ => format!("{chunk} bytes"),
    };
    let slots = class.slots();
    let busy = match (slots, class.busy_slots()) {
        (1, _) => "one slot, one command at a time".to_owned(),
        (_, 1) => format!("{slots} slots, one command at a time"),
        (_, busy) => format!("{slots} slots, of which {busy} may be busy at once"),
    };
    vec![
        ("exchange level", level.to_owned()),
        ("protocols", protocols(class)),
        ("voltage", voltage(class)),
        ("data in a message", chunk),
        ("slots", busy),
        ("PIN entry", pin_entry(class)),
    ]
}

fn protocols(class: &ClassDescriptor) -> String {
    let (mut spoken, mut not) = (Vec::new(), Vec::new());
    for protocol in [Protocol::T0, Protocol::T1] {
        match class.can_speak(protocol) {
            Ok(()) => spoken.push(protocol.to_string()),
            Err(reason) => not.push(format!("not {protocol}: {reason}")),
        }
    }
    let spoken = if spoken.is_empty() { "none".into() } else { enumerate(&spoken) };
    std::iter::once(spoken).chain(not).collect::<Vec<_>>().join("; ")
}

fn voltage(class: &ClassDescriptor) -> String {
    let automatic = Features::AUTO_VOLTAGE | Features::AUTO_ACTIVATION;
    let names = voltage_names(class.voltage_support);
    match (class.features.intersects(automatic), names.len()) {
        (true, _) | (false, 0) => "left to the reader".into(),
        (false, 1) => enumerate(&names),
        (false, _) => format!("{}, one after the other", names.join(", ")),
    }
}

fn pin_entry(class: &ClassDescriptor) -> String {
    let support = class.pin_support;
    match (support.contains(PinSupport::VERIFY), support.contains(PinSupport::MODIFY)) {
        (false, false) => "none on the reader".into(),
        (true, true) => "VERIFY and MODIFY on the reader".into(),
        (true, false) => "VERIFY on the reader".into(),
        (false, true) => "MODIFY on the reader".into(),
    }
}

/// The bytes, in lines of sixteen.
pub(crate) fn dump(class: &ClassDescriptor) -> Vec<String> {
    class.emit().chunks(16).map(|line| Spaced(line).to_string()).collect()
}

#[cfg(test)]
mod tests;
