//! Messages of all pipes: what is read and written again is the same, what is shown is one line
//! without a PIN. The input is one message; its first eight bytes are read as a SETUP packet, too.

#![no_main]

use ccid::wire::{
    ClassRequest, Command, HEADER_LEN, Message, Notification, Response, SetupPacket, WireError,
    dissect,
};
use libfuzzer_sys::fuzz_target;
use std::fmt::Display;

fuzz_target!(|bytes: &[u8]| {
    one_line(dissect(bytes));
    bulk(bytes);
    interrupt(bytes);
    if let Some(setup) = bytes.first_chunk() {
        control(*setup);
    }
});

fn one_line(shown: impl Display) -> String {
    let line = shown.to_string();
    assert!(!line.is_empty());
    assert!(!line.contains(char::is_control), "more than a line: {line:?}");
    line
}

fn bulk(bytes: &[u8]) {
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(error) => {
            one_line(error);
            return;
        }
    };
    let length = HEADER_LEN + message.data.len();
    assert_eq!(Message::length_of(bytes), u32::try_from(message.data.len()).ok());
    assert_eq!(message.emit(), bytes[..length]);

    let (slot, seq) = (message.slot, message.seq);
    match Command::parse(&message) {
        Ok(command) => {
            assert_eq!(command.message_type(), message.message_type);
            assert!(Response::name_of(command.answered_by()).is_some());
            let emitted = command.emit(slot, seq);
            let again = Message::parse(&emitted).unwrap();
            assert_eq!((again.slot, again.seq), (slot, seq));
            assert_eq!(Command::parse(&again), Ok(command));
            // What is left out in between is reserved: it is never longer, or of another type.
            assert!(emitted.len() <= length && emitted[0] == bytes[0]);
        }
        Err(error) => known_or_not(error, Command::name_of(message.message_type)),
    }
    match Response::parse(&message) {
        Ok(response) => {
            assert_eq!(response.message_type(), message.message_type);
            one_line(response.status());
            let emitted = response.emit(slot, seq);
            let again = Message::parse(&emitted).unwrap();
            assert_eq!((again.slot, again.seq), (slot, seq));
            assert_eq!(Response::parse(&again), Ok(response));
        }
        Err(error) => known_or_not(error, Response::name_of(message.message_type)),
    }
    hidden_data(&message);
}

/// A type has a name, and is refused for its fields only; or it has none.
fn known_or_not(error: WireError, name: Option<&str>) {
    one_line(error);
    assert_eq!(matches!(error, WireError::UnknownType(_)), name.is_none());
}

/// The line about a command that may hold a PIN does not depend on its data.
fn hidden_data(message: &Message<'_>) {
    let instruction_at =
        |n: usize| matches!(message.data.get(n), Some(0x20 | 0x21 | 0x24 | 0x25 | 0x2C | 0x2D));
    let shown_from = match message.message_type {
        0x69 => 0,
        // An APDU; or one in the I-block of T=1, whose PCB has bit 8 clear.
        0x6F if message.data.len() > 5 && instruction_at(1) => 5,
        0x6F if message.data.len() > 8 && message.data[1] & 0x80 == 0 && instruction_at(4) => 8,
        _ => return,
    };
    let mut other = message.data.to_vec();
    other[shown_from..].iter_mut().for_each(|byte| *byte ^= 0x55);
    let other = Message { data: &other, ..*message }.emit();
    assert_eq!(one_line(dissect(&message.emit())), one_line(dissect(&other)));
}

fn interrupt(bytes: &[u8]) {
    match Notification::parse(bytes) {
        Ok(notification) => {
            let emitted = notification.emit();
            assert_eq!(Notification::parse(&emitted), Ok(notification));
            assert!(bytes.starts_with(&emitted));
            // Every slot once, from 0 on.
            let slots = notification.slots().map(|change| usize::from(change.slot.0));
            assert!(slots.eq(0..notification.slots().count()));
        }
        Err(error) => {
            one_line(error);
        }
    }
}

fn control(bytes: [u8; 8]) {
    let setup = SetupPacket::from_bytes(bytes);
    assert_eq!(setup.to_bytes(), bytes);
    assert_eq!(setup.is_in(), bytes[0] & 0x80 != 0);
    if let Ok(request) = ClassRequest::parse(&setup) {
        let again = request.setup(bytes[4]);
        assert_eq!(ClassRequest::parse(&again), Ok(request));
        assert_eq!((again.request_type, again.request), (setup.request_type, setup.request));
    }
}
