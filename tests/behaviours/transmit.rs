//! Cases 93 to 104: transmit, control, attributes.

use crate::common::{Bench, run, until};
use crate::fixture::{
    ECHO, ECHOED, NEVER, PROMPT, SLOT, bench, both_devices, busy, connect, echo, exchange,
    no_violations, one, slow, until_state,
};
use scard::{Attribute, Disposition, Error, Protocol, Protocols, ShareMode, State};
use sim::Reader;
use sim::card::{FileCard, LineCard, Pace};
use sim::reader::Level;
use std::time::{Duration, Instant};

// Lengths and control information have no pointers that could be missing; a buffer without any
// room is the nearest to a missing length.
#[test]
fn case_093_a_buffer_without_room_is_refused() {
    for (name, bench) in both_devices() {
        let card = bench.connect(&bench.context());
        let mut none = [];
        assert_eq!(card.transmit(&ECHO, &mut none), Err(Error::InsufficientBuffer), "{name}");
        assert_eq!(card.transmit(&ECHO, &mut [0; 3]).unwrap(), ECHOED, "{name}");
        let empty = card.transmit(&[], &mut none);
        assert_eq!(empty, Err(Error::InvalidParameter), "{name}: nothing to send");
    }
}

#[test]
fn case_094_a_response_that_does_not_fit_says_how_long_it_is() {
    for (name, bench) in both_devices() {
        let card = bench.connect(&bench.context());
        let mut buffer = [0xAA; 8];
        let short = card.transmit2(&ECHO, &mut buffer[..2]);
        assert_eq!(short, Err((Error::InsufficientBuffer, 3)), "{name}");
        assert_eq!(buffer, [0xAA; 8], "{name}: no overrun");
        let (command, expected) = echo(7);
        assert_eq!(card.transmit2(&command, &mut buffer).unwrap(), expected, "{name}");
        let features = ifd::features::GET_FEATURE_REQUEST;
        let needed = card.control_owned(features, &[], None).unwrap().len();
        let short = card.control2(features, &[], &mut []);
        assert_eq!(short, Err((Error::InsufficientBuffer, needed)), "{name}");
        let refused = card.control2(features, &[], &mut vec![0; needed]).map(<[u8]>::len);
        assert_eq!(refused, Ok(needed), "{name}");
    }
}

// A command is not sent with a protocol; who has agreed on another than the card now speaks is told
// by the reset that it took, and by the mismatch when it asks for its own again.
#[test]
fn case_095_a_protocol_that_is_not_in_use_is_a_mismatch() {
    let bench = bench("both");
    let (a, b) = (bench.context(), bench.context());
    let reader = bench.reader();
    let mut t0 = a.connect(&reader, ShareMode::Shared, Protocols::T0).unwrap();
    let mut other = b.connect(&reader, ShareMode::Shared, Protocols::T0).unwrap();
    assert_eq!(exchange(&t0, &ECHO).unwrap(), ECHOED);
    let t1 = b.connect(&reader, ShareMode::Shared, Protocols::T1);
    assert_eq!(t1.unwrap_err(), Error::ProtoMismatch);
    other.reconnect(ShareMode::Shared, Protocols::T1, Disposition::ResetCard).unwrap();
    assert_eq!(exchange(&t0, &ECHO), Err(Error::ResetCard));
    let again = t0.reconnect(ShareMode::Shared, Protocols::T0, Disposition::LeaveCard);
    assert_eq!(again, Err(Error::ProtoMismatch));
    t0.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
    assert_eq!(t0.status2_owned().unwrap().protocol2(), Some(Protocol::T1));
}

#[test]
fn case_096_the_longest_short_exchanges() {
    let names = ["default", "short", "extended", "t0", "t0-tpdu", "t0-character", "t1-tpdu"];
    for name in names.into_iter().chain(["t1-tpdu-short", "t1-character"]) {
        let bench = bench(name);
        let card = bench.connect(&bench.context());
        let select = |data: &[u8]| {
            let command = [&[0x00, 0xA4, 0x00, 0x00, data.len() as u8][..], data].concat();
            let response = exchange(&card, &command).unwrap();
            assert_eq!(response[response.len() - 2..], [0x90, 0x00], "{name}");
        };
        select(&[0x50, 0x15]);
        select(&[0x00, 0x02]);
        // 256 bytes of response.
        let response = exchange(&card, &[0x00, 0xB0, 0x00, 0x00, 0x00]).unwrap();
        let content: Vec<u8> = (0..=255).chain([0x90, 0x00]).collect();
        assert_eq!(response, content, "{name}");
        // 255 bytes of data.
        let data: Vec<u8> = (0..255).collect();
        let command = [&[0x00, 0x10, 0x00, 0x00, 255][..], &data].concat();
        let expected = [&data[..], &[0x90, 0x00]].concat();
        assert_eq!(exchange(&card, &command).unwrap(), expected, "{name}");
        // Neither, in four bytes.
        assert_eq!(exchange(&card, &slow(0)).unwrap(), [0x90, 0x00][..], "{name}");
        no_violations(&bench);
    }
}

// usbd-ccid's card cannot be taken out; there the reader goes with it.
#[test]
fn case_097_a_card_that_is_taken_out_ends_its_command() {
    let bench = bench("default");
    let context = bench.context();
    let card = bench.connect(&context);
    let transmit = run(move || (card.transmit_owned(&NEVER, None), card));
    until("the reader is at it", || busy(&bench, 0));
    let began = Instant::now();
    bench.port.with(|reader| drop(reader.remove(SLOT)));
    let (result, card) = transmit.join();
    assert_eq!(result, Err(Error::NoSmartcard));
    assert!(began.elapsed() < PROMPT);
    until_state(&context, &bench.reader(), State::EMPTY);
    assert_eq!(card.status2_owned().unwrap_err(), Error::RemovedCard);

    let (_, peer) = both_devices().remove(1);
    let card = peer.connect(&peer.context());
    let transmit = run(move || (card.transmit_owned(&NEVER, None), card));
    until("the card has the command", || peer.port.with(|d| d.has_sent(NEVER[1])));
    peer.port.unplug();
    let (result, card) = transmit.join();
    assert_eq!(result, Err(Error::ReaderUnavailable));
    assert_eq!(card.status2_owned().unwrap_err(), Error::ReaderUnavailable);
}

#[test]
fn case_098_a_card_may_ask_for_more_time() {
    let period = Duration::from_millis(20);
    for (level, times) in [Level::ExtendedApdu, Level::ShortApdu, Level::Tpdu, Level::Character]
        .into_iter()
        .flat_map(|level| [1, 2, 5, 30].map(|times| (level, times)))
    {
        let pace = Pace::Extend { periods: times, period, multiplier: 2 };
        for card in [FileCard::t1(), FileCard::t0()] {
            let card = card.pace(0x14, pace);
            let builder = Reader::builder().level(level);
            let builder = match level {
                Level::Character | Level::Tpdu => builder.card(SLOT, LineCard::new(card)),
                _ => builder.card(SLOT, card),
            };
            let bench = Bench::new(builder.build());
            let card = bench.connect(&bench.context());
            let began = Instant::now();
            let response = exchange(&card, &slow(0));
            assert_eq!(response.unwrap(), [0x90, 0x00][..], "{level:?}, {times} times");
            assert!(began.elapsed() >= period * times, "{level:?}, {times} times");
            no_violations(&bench);
        }
    }
    // The other device asks every second.
    let (_, peer) = both_devices().remove(1);
    let card = peer.connect(&peer.context());
    assert_eq!(exchange(&card, &slow(2500)).unwrap(), [0x90, 0x00][..]);
}

#[test]
fn case_099_a_card_that_falls_silent_is_given_up_and_comes_back_by_a_reset() {
    for name in ["default", "short", "t1-tpdu", "t0-tpdu", "t1-character", "t0-character"] {
        let bench = bench(name);
        run(move || {
            let mut card = bench.connect(&bench.context());
            let silent = exchange(&card, &[0x00, 0x1A, 0x00, 0x00]).unwrap_err();
            let wanted = [Error::NotTransacted, Error::Timeout];
            assert!(wanted.contains(&silent), "{name}: {silent:?}");
            assert!(scard::last_cause().is_some(), "{name}");
            card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::ResetCard).unwrap();
            assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED, "{name}");
            no_violations(&bench);
        })
        .join();
    }
    // There the limit ends what is never answered.
    let (_, peer) = both_devices().remove(1);
    let mut card = peer.connect(&peer.context());
    let limit = Some(Duration::from_millis(200));
    assert_eq!(card.transmit_owned(&NEVER, limit), Err(Error::Timeout));
    card.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::ResetCard).unwrap();
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
}

#[test]
fn case_100_control_without_a_card() {
    let bench = bench("empty");
    let card = connect(&bench.context(), &bench.reader(), ShareMode::Direct).unwrap();
    let unknown = card.control_owned(scard::ctl_code(3999), &[], None);
    assert_eq!(unknown, Err(Error::UnsupportedFeature));
    let features = card.control_owned(ifd::features::GET_FEATURE_REQUEST, &[], None).unwrap();
    assert!(!features.is_empty());
    assert!(card.control_owned(scard::CTL_ESCAPE, &[1], None).is_ok());
    for (name, bench) in both_devices() {
        let card = connect(&bench.context(), &bench.reader(), ShareMode::Direct).unwrap();
        let unknown = card.control_owned(scard::ctl_code(3999), &[], None);
        assert_eq!(unknown, Err(Error::UnsupportedFeature), "{name}");
    }
}

#[test]
fn case_101_attributes_with_and_without_a_card() {
    for (preset, there) in [("default", true), ("empty", false)] {
        let bench = bench(preset);
        let card = connect(&bench.context(), &bench.reader(), ShareMode::Direct).unwrap();
        let get = |attribute| card.get_attribute_owned(attribute);
        assert_eq!(get(Attribute::IccPresence), Ok(vec![if there { 2 } else { 0 }]));
        assert_eq!(get(Attribute::IccInterfaceStatus), Ok(vec![u8::from(there)]));
        for card_only in [Attribute::AtrString, Attribute::IccTypePerAtr] {
            assert_eq!(get(card_only).is_ok(), there, "{card_only:?}");
        }
        for never in [Attribute::EscCancel, Attribute::CurrentBwt, Attribute::SupressT1IfsRequest] {
            assert_eq!(get(never), Err(Error::UnsupportedFeature));
            assert_eq!(card.get_attribute_len(never), Err(Error::UnsupportedFeature));
        }
        assert_eq!(Attribute::from_code(0x1234_5678), None, "a number that is no attribute");
        let text = |text: &str| Ok([text.as_bytes(), &[0]].concat());
        let reader = &bench.stack.readers()[0];
        let info = &reader.device;
        assert_eq!(get(Attribute::VendorName), text(info.manufacturer.as_ref().unwrap()));
        assert_eq!(get(Attribute::VendorIfdType), text(info.product.as_ref().unwrap()));
        assert_eq!(get(Attribute::DeviceFriendlyName), text(reader.name.to_str().unwrap()));
        let version = u32::from(info.bcd_device) << 16;
        assert_eq!(get(Attribute::VendorIfdVersion), Ok(version.to_le_bytes().to_vec()));
        // The length is told, and it is enough.
        let length = card.get_attribute_len(Attribute::VendorName).unwrap();
        let mut buffer = vec![0; length];
        let short = card.get_attribute(Attribute::VendorName, &mut buffer[1..]).map(<[u8]>::len);
        assert_eq!(short, Err(Error::InsufficientBuffer));
        let whole = card.get_attribute(Attribute::VendorName, &mut buffer).map(<[u8]>::len);
        assert_eq!(whole, Ok(length));
    }
    let (_, peer) = both_devices().remove(1);
    let card = peer.connect(&peer.context());
    assert_eq!(card.get_attribute_owned(Attribute::IccPresence), Ok(vec![2]));
    assert_eq!(card.get_attribute_owned(Attribute::AtrString).unwrap()[0], 0x3B);
}

#[test]
fn case_102_no_attribute_can_be_set_but_one() {
    let bench = bench("default");
    let card = bench.connect(&bench.context());
    bench.port.with(Reader::forget);
    for attribute in Attribute::ALL {
        let set = card.set_attribute(*attribute, &[0; 264]);
        match attribute {
            // There is nothing to be ended.
            Attribute::EscCancel => assert_eq!(set, Ok(())),
            _ => assert_eq!(set, Err(Error::UnsupportedFeature), "{attribute:?}"),
        }
        let oversize = card.set_attribute(*attribute, &[0; 265]);
        assert_eq!(oversize, Err(Error::InsufficientBuffer), "{attribute:?}");
        let empty = card.set_attribute(*attribute, &[]);
        assert_eq!(empty, Err(Error::InvalidParameter), "{attribute:?}");
    }
    assert_eq!(crate::fixture::commands(&bench), [0; 0], "the reader heard nothing of it");
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
}

/// The one that ends another's command, as through pcscd; what waits behind it gets its turn.
#[test]
fn case_102_a_running_command_is_ended_by_an_attribute() {
    for (name, bench) in both_devices() {
        let (a, b) = (bench.context(), bench.context());
        let (running, queued) = (bench.connect(&a), bench.connect(&a));
        a.set_cancel_commands(false).unwrap();
        let direct = connect(&b, &bench.reader(), ShareMode::Direct).unwrap();
        let transmit = run(move || (running.transmit_owned(&NEVER, None), running));
        until("the card has the command", || bench.port.with(|d| d.has_sent(NEVER[1])));
        let queued = run(move || (exchange(&queued, &ECHO), queued));
        crate::fixture::outstanding(&a, 2);
        direct.set_attribute(Attribute::EscCancel, &[0]).unwrap();
        let (result, mut running) = transmit.join();
        assert_eq!(result, Err(Error::Cancelled), "{name}");
        let (result, _queued) = queued.join();
        assert_eq!(result, Err(Error::ResetCard), "{name}");
        let (requests, messages) = bench.port.with(|device| device.aborts());
        assert_eq!((requests.len(), &requests), (1, &messages), "{name}");
        running.reconnect(ShareMode::Shared, Protocols::ANY, Disposition::LeaveCard).unwrap();
        assert_eq!(exchange(&running, &ECHO).unwrap(), ECHOED, "{name}");
    }
}

#[test]
fn case_103_many_threads_on_one_reader_each_get_their_own_answers() {
    for (name, bench) in both_devices() {
        let threads: Vec<_> = (0..6u32)
            .map(|thread| {
                let (context, reader) = (bench.context(), bench.reader());
                run(move || {
                    for round in 0..40 {
                        let card = connect(&context, &reader, ShareMode::Shared).unwrap();
                        for n in 0..5 {
                            let (command, expected) = echo(thread << 24 | round << 8 | n);
                            assert_eq!(exchange(&card, &command).unwrap(), expected);
                        }
                        card.disconnect(Disposition::LeaveCard).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join();
        }
        assert!(connect(&bench.context(), &bench.reader(), ShareMode::Exclusive).is_ok(), "{name}");
    }
}

#[test]
fn case_104_many_threads_wait_and_cancel_on_one_reader() {
    let bench = bench("empty");
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (context, reader) = (bench.context(), bench.reader());
            run(move || {
                for _ in 0..100 {
                    let wait = crate::fixture::waiting(&context, None, one(&reader, State::EMPTY));
                    while context.outstanding_calls() == Ok(0) {
                        std::thread::yield_now();
                    }
                    assert_eq!(context.cancel(), Ok(()));
                    assert_eq!(wait.join().0, Err(Error::Cancelled));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join();
    }
}
