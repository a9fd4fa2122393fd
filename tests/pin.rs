//! PIN entry at the reader, through the whole stack on the simulated reader.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use bytes::Bytes;
use ccid::Slot;
use ccid::descriptor::PinSupport;
use ccid::wire::Message;
use common::{Bench, until};
use ifd::features::{
    ESCAPE, GET_FEATURE_REQUEST, GET_TLV_PROPERTIES, IFD_PIN_PROPERTIES, MCT_READER_DIRECT,
    MODIFY_PIN_DIRECT, VERIFY_PIN_DIRECT,
};
use scard::{Card, Error, Protocols, ShareMode};
use sim::FileCard;
use sim::reader::{Event, Key, Level};
use sim::{Reader, presets};

const SLOT: Slot = Slot(0);

/// The PIN of the simulated card; three tries.
const PIN: &str = "123456";

const SECURE: u8 = 0x69;
const ESCAPE_COMMAND: u8 = 0x6B;

/// VERIFY of reference 81h: ASCII, 4 to 8 digits, ended by Enter.
fn verify(time_out: u8) -> Vec<u8> {
    let apdu = [0x00, 0x20, 0x00, 0x81];
    let mut data = vec![time_out, 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    data
}

/// CHANGE REFERENCE DATA of reference 81h: the current PIN and twice the new one, in blocks of 8.
fn modify() -> Vec<u8> {
    let apdu = [&[0x00, 0x24, 0x00, 0x81, 16][..], &[0xFF; 16]].concat();
    let mut data = vec![30, 0, 0x82, 0x08, 0, 0, 8, 8, 4, 3, 2, 3, 9, 4, 0, 1, 2, 0, 0, 0];
    data.extend((apdu.len() as u32).to_le_bytes());
    data.extend(apdu);
    data
}

fn idle_pad() -> Bench<Reader> {
    Bench::new(presets::by_name("pinpad-idle").unwrap())
}

/// Starts a PIN entry, does something about it once the reader waits for it, and gives its end.
fn entry(
    bench: &Bench<Reader>,
    card: &Card,
    code: u32,
    structure: &[u8],
    act: impl FnOnce(&mut Reader),
) -> Result<Bytes, Error> {
    std::thread::scope(|scope| {
        let control = scope.spawn(|| card.control_owned(code, structure, None));
        until("the reader waits for the PIN", || {
            assert!(!control.is_finished(), "the PIN was not asked for");
            bench.port.with(|reader| reader.awaits_pin(SLOT))
        });
        bench.port.with(act);
        control.join().unwrap()
    })
}

/// Messages of this type that the reader has seen, without their headers.
fn seen(bench: &Bench<Reader>, message_type: u8) -> Vec<Vec<u8>> {
    let events = bench.port.with(|reader| reader.seen().to_vec());
    let data = events.iter().filter_map(|seen| match &seen.what {
        Event::Command(bytes) => {
            let message = Message::parse(bytes).unwrap();
            (message.message_type == message_type).then(|| message.data.to_vec())
        }
        _ => None,
    });
    data.collect()
}

#[track_caller]
fn no_violations(bench: &Bench<Reader>) {
    let violations = bench.port.with(|reader| reader.violations().to_vec());
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn the_cards_word_on_right_and_wrong_pins() {
    let both = PinSupport::VERIFY | PinSupport::MODIFY;
    let readers = [
        Reader::builder().card(SLOT, FileCard::t1()),
        Reader::builder().card(SLOT, FileCard::t1()).level(Level::ShortApdu),
        Reader::builder().card(SLOT, FileCard::t0()).level(Level::Tpdu),
    ];
    for reader in readers {
        let bench = Bench::new(reader.pin_support(both).build());
        let card = bench.connect(&bench.context());
        for (pin, status) in [("0000", [0x63, 0xC2]), (PIN, [0x90, 0x00]), ("00000", [0x63, 0xC2])]
        {
            let ended =
                entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| pad.enter_pin(pin));
            assert_eq!(ended, Ok(Bytes::copy_from_slice(&status)), "{pin}");
        }
        no_violations(&bench);
    }
}

/// At TPDU level with T=1 the command goes in a block of the host's, and the answer is another:
/// numbers go on from entry to exchange and back, an entry that the user ends costs none, and the
/// card may ask for more time in between.
#[test]
fn a_card_that_the_host_speaks_t1_with() {
    for (name, modifies) in [("pinpad-tpdu", true), ("pinpad-tpdu-wtx", false)] {
        let bench = Bench::new(presets::by_name(name).unwrap());
        let card = bench.connect(&bench.context());
        let verified = |pin: &'static str| {
            entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| pad.enter_pin(pin))
        };
        let tries = || card.transmit_owned(&[0x00, 0x20, 0x00, 0x81], None);
        assert_eq!(verified("0000"), Ok(Bytes::from_static(&[0x63, 0xC2])), "{name}");
        assert_eq!(tries(), Ok(Bytes::from_static(&[0x63, 0xC2])));
        assert_eq!(verified(PIN), Ok(Bytes::from_static(&[0x90, 0x00])));
        let cancelled = entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| {
            pad.press(Key::Cancel);
        });
        assert_eq!(cancelled, Ok(Bytes::from_static(&[0x64, 0x01])));
        assert_eq!(verified("4711"), Ok(Bytes::from_static(&[0x63, 0xC2])));
        if modifies {
            let enter = |pad: &mut Reader| [PIN, "2468", "2468"].map(|pin| pad.enter_pin(pin));
            let ended = entry(&bench, &card, MODIFY_PIN_DIRECT, &modify(), |pad| {
                enter(pad);
            });
            assert_eq!(ended, Ok(Bytes::from_static(&[0x90, 0x00])));
            assert_eq!(verified("2468"), Ok(Bytes::from_static(&[0x90, 0x00])));
        }
        no_violations(&bench);
    }
}

/// What a Gemalto reader says of itself at opening decides how it is asked for a PIN.
#[test]
fn a_reader_that_tells_of_itself() {
    let pad = presets::all().iter().find(|preset| preset.name == "pinpad-idle").unwrap();
    let gemalto = || pad.builder().vendor(0x08E6, "Gemalto").product(0x34C0, "CT710");
    // bNumberMessage is heeded, an entry ends by the Enter key only, 4 to 12 digits.
    let mut block = [0; 21];
    (block[3], block[8], block[13], block[14]) = (2, 4, 4, 12);
    for (told, sizes, least) in [(true, &[6, 1, 4, 7, 1, 12][..], 2), (false, &[], 7)] {
        let builder = if told { gemalto().escape(&[0x6A], &block) } else { gemalto() };
        let bench = Bench::new(builder.firmware("CT710-V3").build());
        let card = bench.connect(&bench.context());
        assert_eq!(seen(&bench, ESCAPE_COMMAND)[..2], [[0x6A], [0x02]]);
        assert_eq!(card.control_owned(IFD_PIN_PROPERTIES, &[], None).unwrap()[2], least);
        let properties = card.control_owned(GET_TLV_PROPERTIES, &[], None).unwrap();
        let holds = |part: &[u8]| properties.windows(part.len().max(1)).any(|found| found == part);
        assert!(holds(&[&[8, 8][..], b"CT710-V3"].concat()), "{properties:02X?}");
        assert_eq!(holds(sizes), told);
        // Two messages: without the word that this is mended, all three indexes are sent, which
        // the simulated reader, as the specification has it, does not take.
        let mut structure = modify();
        structure[11] = 2;
        if told {
            let cancel = |pad: &mut Reader| pad.press(Key::Cancel);
            let ended = entry(&bench, &card, MODIFY_PIN_DIRECT, &structure, cancel);
            assert_eq!(ended, Ok(Bytes::from_static(&[0x64, 0x01])));
        } else {
            card.control_owned(MODIFY_PIN_DIRECT, &structure, None).unwrap_err();
        }
        let (fields, template) = (14 + 3, 21);
        let indexes = if told { 2 } else { 3 };
        assert_eq!(seen(&bench, SECURE)[0].len(), fields + indexes + template);
    }
}

/// The cancel key is the user's word to the application; SCARD_E_CANCELLED is the application's
/// own doing.
#[test]
fn the_user_cancels() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    for _ in 0..2 {
        let ended = entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| {
            pad.press(Key::Digit(1));
            pad.press(Key::Cancel);
        });
        assert_eq!(ended, Ok(Bytes::from_static(&[0x64, 0x01])));
    }
    // Neither the card nor its tries know of it.
    let tries = card.transmit_owned(&[0x00, 0x20, 0x00, 0x81], None);
    assert_eq!(tries, Ok(Bytes::from_static(&[0x63, 0xC3])));
    no_violations(&bench);
}

#[test]
fn the_user_is_too_slow() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    let ended = entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(1), |_| {});
    assert_eq!(ended, Ok(Bytes::from_static(&[0x64, 0x00])));
    no_violations(&bench);
}

#[test]
fn a_pin_is_changed() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    let enter = |pad: &mut Reader| {
        for pin in [PIN, "2468", "2469", "2468", "2468"] {
            // The new one is asked for again when its repetition is another.
            pad.enter_pin(pin);
        }
    };
    let ended = entry(&bench, &card, MODIFY_PIN_DIRECT, &modify(), enter);
    assert_eq!(ended, Ok(Bytes::from_static(&[0x90, 0x00])));
    let verified =
        entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| pad.enter_pin("2468"));
    assert_eq!(verified, Ok(Bytes::from_static(&[0x90, 0x00])));
    no_violations(&bench);
}

#[test]
fn a_field_that_the_reader_refuses() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    let mut structure = verify(30);
    // bmFormatString: reserved.
    structure[2] = 0x83;
    let ended = card.control_owned(VERIFY_PIN_DIRECT, &structure, None);
    assert_eq!(ended, Ok(Bytes::from_static(&[0x6B, 0x80])));
}

#[test]
fn the_card_is_taken_out_during_an_entry() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    let ended = entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| {
        assert!(pad.remove(SLOT).is_some());
    });
    assert_eq!(ended, Err(Error::NoSmartcard));
}

#[test]
fn what_is_no_structure_is_not_sent() {
    let bench = idle_pad();
    let card = bench.connect(&bench.context());
    let with = |structure: Vec<u8>, at: usize, value: u8| {
        let mut structure = structure;
        structure[at] = value;
        structure
    };
    for (code, structure) in [
        (VERIFY_PIN_DIRECT, Vec::new()),
        (VERIFY_PIN_DIRECT, verify(30)[..22].to_vec()),
        (VERIFY_PIN_DIRECT, with(verify(30), 15, 5)),
        (VERIFY_PIN_DIRECT, with(verify(30), 6, 9)),
        (MODIFY_PIN_DIRECT, modify()[..24].to_vec()),
        (MODIFY_PIN_DIRECT, with(modify(), 20, 0)),
        (MODIFY_PIN_DIRECT, with(modify(), 9, 4)),
        (MODIFY_PIN_DIRECT, with(modify(), 6, 17)),
        (MODIFY_PIN_DIRECT, with(modify(), 11, 4)),
    ] {
        let refused = card.control_owned(code, &structure, None);
        assert_eq!(refused, Err(Error::InvalidParameter), "{structure:02X?}");
    }
    let unknown = card.control_owned(0x4233_0001, &[], None);
    assert_eq!(unknown, Err(Error::UnsupportedFeature), "PIN entry in two steps");
    assert_eq!(seen(&bench, SECURE), Vec::<Vec<u8>>::new());
    no_violations(&bench);
}

#[test]
fn a_reader_tells_what_it_has() {
    let ask = |bench: &Bench<Reader>, code| {
        // A card is not needed for that.
        let context = bench.context();
        let direct = context.connect(&bench.reader(), ShareMode::Direct, Protocols::UNDEFINED);
        direct.unwrap().control_owned(code, &[], None)
    };
    let pad = idle_pad();
    let features = ask(&pad, GET_FEATURE_REQUEST).unwrap();
    let expected: Vec<u8> =
        [(0x06, VERIFY_PIN_DIRECT), (0x07, MODIFY_PIN_DIRECT), (0x0A, IFD_PIN_PROPERTIES)]
            .into_iter()
            .chain([(0x12, GET_TLV_PROPERTIES), (0x13, ESCAPE)])
            .flat_map(|(tag, code)| [&[tag, 4][..], &code.to_be_bytes()].concat())
            .collect();
    assert_eq!(features, expected);
    assert_eq!(ask(&pad, IFD_PIN_PROPERTIES), Ok(Bytes::from_static(&[0, 0, 7, 0])));
    let properties = ask(&pad, GET_TLV_PROPERTIES).unwrap();
    assert!(properties.starts_with(&[1, 2, 0, 0, 2, 1, 7]), "{properties:02X?}");
    let bare = Bench::new(presets::by_name("default").unwrap());
    assert_eq!(ask(&bare, IFD_PIN_PROPERTIES), Err(Error::UnsupportedFeature));
    assert_eq!(ask(&bare, VERIFY_PIN_DIRECT), Err(Error::UnsupportedFeature));
    assert_eq!(ask(&bare, MCT_READER_DIRECT), Err(Error::UnsupportedFeature));
}

#[test]
fn escape_commands_reach_the_reader() {
    let bench = Bench::new(presets::by_name("default").unwrap());
    let card = bench.connect(&bench.context());
    let firmware = card.control_owned(ESCAPE, &[0x02], None).unwrap();
    assert!(!firmware.is_empty());
    assert_eq!(seen(&bench, ESCAPE_COMMAND), [[0x02]]);
    // Its errors are not those of a PIN entry.
    assert_eq!(card.control_owned(ESCAPE, &[0xEE], None), Err(Error::NotTransacted));
}

/// An SPR 532 takes a command without Lc only after a word about it.
#[test]
fn a_reader_with_ways_of_its_own() {
    let spr532 = presets::all().iter().find(|preset| preset.name == "pinpad-idle").unwrap();
    let spr532 = spr532.builder().vendor(0x04E6, "SCM").product(0xE003, "SPR 532");
    let bench = Bench::new(spr532.build());
    let card = bench.connect(&bench.context());
    let ended = entry(&bench, &card, VERIFY_PIN_DIRECT, &verify(30), |pad| pad.enter_pin(PIN));
    assert_eq!(ended, Ok(Bytes::from_static(&[0x90, 0x00])));
    assert_eq!(seen(&bench, ESCAPE_COMMAND).last().unwrap()[..], [0x80, 0x02, 0x00]);
    no_violations(&bench);
}

/// Commands of the Secoder kind go to the readers that have them, as escape commands.
#[test]
fn a_secoder_reader() {
    const INFO: &[u8] = &[0x20, 0x70, 0x00, 0x00, 0x00];
    let pad = presets::all().iter().find(|preset| preset.name == "default").unwrap();
    let bench =
        Bench::new(pad.builder().vendor(0x0D46, "KOBIL").product(0x3010, "TriB@nk").build());
    let card = bench.connect(&bench.context());
    let features = card.control_owned(GET_FEATURE_REQUEST, &[], None).unwrap();
    assert!(features.chunks(6).any(|record| record[0] == 0x08), "{features:02X?}");
    // The simulated reader does not know them.
    let _ = card.control_owned(MCT_READER_DIRECT, INFO, None);
    assert_eq!(seen(&bench, ESCAPE_COMMAND), [INFO]);
    let other = card.control_owned(MCT_READER_DIRECT, &[0x20, 0x75, 0, 0, 0], None);
    assert_eq!(other, Err(Error::InvalidParameter));
    assert_eq!(seen(&bench, ESCAPE_COMMAND).len(), 1);
}
