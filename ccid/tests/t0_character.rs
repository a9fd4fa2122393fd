//! T=0 through a reader of character level (ISO/IEC 7816-3 §10.3).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "host/mod.rs"]
mod host;

use ccid::Error;
use ccid::error::{Breach, CardFault};
use ccid::wire::{IccStatus, SlotError};
use host::{APDU, CHARACTER, OK, Script, T0_ATR};

/// ISO/IEC 7816-3 §10.3: header, procedure byte, data in one go or one by one, SW1 SW2.
#[test]
fn section_10_3_3_case_2_in_parts() {
    let mut script = Script::powered(CHARACTER, &T0_ATR);
    script.exchange(&[0x00, 0xB0, 0x00, 0x00, 0x03]);
    script.sent(0, 1, &[0x00, 0xB0, 0x00, 0x00, 0x03]).data(&[0x60]);
    script.sent(0, 1, &[]).data(&[0x4F]); // the complement of INS: one byte
    script.sent(0, 1, &[]).data(&[0x11]);
    script.sent(0, 1, &[]).data(&[0xB1]); // INS, bit 0 turned over: the rest
    script.sent(0, 2, &[]).data(&[0x22]);
    script.sent(0, 1, &[]).data(&[0x33]);
    script.sent(0, 1, &[]).data(&[0x90]);
    script.sent(0, 1, &[]).data(&[0x00]).gives(&[0x11, 0x22, 0x33, 0x90, 0x00]);
}

#[test]
fn section_10_3_3_case_2_of_256_bytes() {
    let mut script = Script::powered(CHARACTER, &T0_ATR);
    script.exchange(&APDU);
    script.sent(0, 1, &APDU).data(&[0xB0]);
    script.sent(0, 256, &[]).data(&[0x55; 256]);
    // More than the byte asked for, as long as it is the end.
    script.sent(0, 1, &[]).data(&[0x90, 0x00]);
    script.gives(&[&[0x55; 256][..], &OK].concat());
}

#[test]
fn section_10_3_3_cases_3_and_4() {
    for le in [&[][..], &[0x00]] {
        let mut script = Script::powered(CHARACTER, &T0_ATR);
        script.exchange(&[&[0x00, 0xA4, 0x00, 0x00, 0x03, 1, 2, 3][..], le].concat());
        script.sent(0, 1, &[0x00, 0xA4, 0x00, 0x00, 0x03]).data(&[0x5A]); // INS^1 turned over
        script.sent(0, 1, &[1]).data(&[0x5B]); // INS turned over: one more
        script.sent(0, 1, &[2]).data(&[0xA4]); // the rest
        script.sent(0, 1, &[3]).data(&[0x61]);
        script.sent(0, 1, &[]).data(&[0x10]).gives(&[0x61, 0x10]);
    }
}

#[test]
fn section_10_3_3_case_1() {
    for acknowledge in [false, true] {
        let mut script = Script::powered(CHARACTER, &T0_ATR);
        script.exchange(&[0x00, 0x44, 0x00, 0x00]);
        script.sent(0, 1, &[0x00, 0x44, 0x00, 0x00, 0x00]);
        if acknowledge {
            script.data(&[0x44]).sent(0, 1, &[]);
        }
        script.data(&[0x90]).sent(0, 1, &[]).data(&[0x00]).gives(&OK);
    }
}

#[test]
fn section_10_3_3_procedure_bytes_that_do_not_fit() {
    // No procedure byte; and data when all have passed.
    for bytes in [&[0x12][..], &[0xA4, 0xA4], &[0xA4, 0x5B]] {
        let mut script = Script::powered(CHARACTER, &T0_ATR);
        script.exchange(&[0x00, 0xA4, 0x00, 0x00, 0x01, 0xFF]);
        for byte in bytes {
            script.next_message();
            script.data(&[*byte]);
        }
        let wrong = CardFault::ProcedureByte(*bytes.last().unwrap());
        assert_eq!(script.completed(), Err(Error::Card(wrong)));
        script.quiet();
    }
    // INS may not look like SW1.
    for ins in [0x60, 0x6F, 0x90, 0x9F] {
        let mut script = Script::powered(CHARACTER, &T0_ATR);
        script.exchange(&[0x00, ins, 0x00, 0x00, 0x00]);
        assert_eq!(script.completed(), Err(Error::InvalidCommand));
    }
}

#[test]
fn what_the_reader_may_not_do() {
    for (bytes, breach) in [
        (&[][..], Breach::NoCharacter),
        (&[0x90, 0x00, 0x00], Breach::TooManyCharacters),
        (&[0xA4, 0x90, 0x00], Breach::TooManyCharacters),
    ] {
        let mut script = Script::powered(CHARACTER, &T0_ATR);
        script.exchange(&[0x00, 0xA4, 0x00, 0x00, 0x01, 0xFF]);
        script.next_message();
        script.data(bytes);
        let error = script.completed();
        assert!(
            matches!(error, Err(Error::Misbehaved { breach: found, .. }) if found == breach),
            "{error:?}"
        );
    }
}

#[test]
fn section_10_3_3_null_has_a_limit() {
    let mut script = Script::powered(CHARACTER, &T0_ATR);
    script.exchange(&APDU);
    for _ in 0..65_536 {
        script.next_message();
        script.data(&[0x60]);
    }
    script.next_message();
    script.data(&[0x60]);
    assert_eq!(script.completed(), Err(Error::Card(CardFault::TooManyNulls)));
}

/// A character that comes wrong, in spite of the repetition that is the reader's (ISO/IEC 7816-3
/// §7.3), or not at all (§10.2): there is no way to ask for it again.
#[test]
fn section_10_2_what_the_reader_reports_of_a_character() {
    for behind in 0..3 {
        for (error, ended) in [
            (SlotError::IccMute, None),
            (SlotError::XfrParityError, Some(SlotError::XfrParityError)),
        ] {
            let mut script = Script::powered(CHARACTER, &T0_ATR);
            script.exchange(&[0x00, 0xB0, 0x00, 0x00, 0x01]);
            for byte in &[0xB0, 0x11][..behind.min(2)] {
                script.next_message();
                script.data(&[*byte]);
            }
            script.next_message();
            script.failed(IccStatus::PresentActive, error);
            match (script.completed(), ended) {
                (Err(Error::CardMute), None) => {}
                (Err(Error::Failed { error, .. }), Some(expected)) => assert_eq!(error, expected),
                (other, _) => panic!("{other:?}"),
            }
            // It is no Abort: the card is left as it is, and hears the next header.
            script.quiet();
            script.exchange(&[0x00, 0xB0, 0x00, 0x00, 0x01]);
            script.sent(0, 1, &[0x00, 0xB0, 0x00, 0x00, 0x01]);
        }
    }
}
