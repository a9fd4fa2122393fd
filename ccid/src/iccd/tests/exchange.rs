//! Exchanges, and devices that misbehave in them.

use super::*;

#[test]
fn version_a_exchanges_tpdus() {
    let mut bench = Bench::powered(Version::A);
    // Case 1, with and without P3.
    for command in [&[0, 0x44, 0, 0][..], &[0, 0x44, 0, 0, 0]] {
        bench.sends(xfr(command)).puts(0, &[0, 0x44, 0, 0, 0]).asks(STATUS_A, &[0x20]);
        bench.asks(STATUS_WORD, &[0x90, 0]).hears(data(&[0x90, 0]));
    }
    // Case 2, in two blocks.
    bench.sends(xfr(&[0, 0xB0, 0, 0, 3])).puts(0, &[0, 0xB0, 0, 0, 3]).asks(STATUS_A, &[0x10]);
    bench.asks(DATA, &[1, 2]).asks(STATUS_A, &[0x10]).asks(DATA, &[3]).asks(STATUS_A, &[0x20]);
    bench.asks(STATUS_WORD, &[0x90, 0]).hears(data(&[1, 2, 3, 0x90, 0]));
    // Case 3.
    bench.sends(xfr(&[0, 0xD6, 0, 0, 2, 8, 9])).puts(0, &[0, 0xD6, 0, 0, 2]);
    bench.asks(STATUS_A, BUSY).waits(10).asks(STATUS_A, &[0x10]).puts(0, &[8, 9]);
    bench.asks(STATUS_A, &[0x43]).waits(10).asks(STATUS_A, &[0x20]);
    bench.asks(STATUS_WORD, &[0x61, 2]).hears(data(&[0x61, 2]));
    // Refused before its data are sent.
    bench.sends(xfr(&[0, 0xD6, 0, 0, 1, 8])).puts(0, &[0, 0xD6, 0, 0, 1]).asks(STATUS_A, &[0x20]);
    bench.asks(STATUS_WORD, &[0x6D, 0]).hears(data(&[0x6D, 0]));
    // SW1 SW2 with the data.
    bench.sends(xfr(&[0, 0xB0, 0, 0, 1])).puts(0, &[0, 0xB0, 0, 0, 1]).asks(STATUS_A, &[0x10]);
    bench.asks(DATA, &[7, 0x90, 0]).asks(STATUS_A, IDLE).hears(data(&[7, 0x90, 0]));
    let bad_length = failed(IccStatus::PresentActive, 0x01.into());
    bench.sends(xfr(&[0; 3])).hears(bad_length).sends(xfr(&[0; 262])).hears(bad_length).silent();
}

#[test]
fn version_a_at_other_levels() {
    let mut bench = Bench::declaring(Version::A, Features::SHORT_APDU_LEVEL);
    bench.opening();
    bench.sends(POWER_ON).asks(ON_A, ATR).hears(data(ATR));
    // All of it at once, and so the response.
    bench.sends(xfr(&[0, 0xD6, 0, 0, 1, 8])).puts(0, &[0, 0xD6, 0, 0, 1, 8]);
    bench.asks(STATUS_A, BUSY).waits(10).asks(STATUS_A, &[0x20]).asks(DATA, &[7, 0x90, 0]);
    bench.hears(data(&[7, 0x90, 0]));
    // Or in two.
    bench.sends(xfr(&[0, 0xB0, 0, 0, 1])).puts(0, &[0, 0xB0, 0, 0, 1]).asks(STATUS_A, &[0x10]);
    bench.asks(DATA, &[7]).asks(STATUS_A, &[0x20]).asks(DATA, &[0x90, 0]);
    bench.hears(data(&[7, 0x90, 0]));
    bench.sends(xfr(&[0; 4097])).hears(failed(IccStatus::PresentActive, 0x01.into())).silent();
}

#[test]
fn version_a_devices_that_misbehave() {
    type Answers = &'static [(([u8; 4], u16), Result<&'static [u8], Failure>)];
    let cases: &[(Answers, SlotError)] = &[
        (&[(STATUS_A, Ok(&[0x80]))], SlotError::IccMute),
        (&[(STATUS_A, Ok(&[]))], SlotError::HwError),
        (&[(STATUS_A, Ok(&[0x30]))], SlotError::HwError),
        (&[(STATUS_A, Ok(IDLE))], SlotError::HwError),
        (&[(STATUS_A, Err(Failure::Stall))], SlotError::HwError),
        (&[(STATUS_A, Ok(&[0x10])), (DATA, Ok(&[]))], SlotError::HwError),
        (&[(STATUS_A, Ok(&[0x10])), (DATA, Err(Failure::Broken))], SlotError::HwError),
        (&[(STATUS_A, Ok(&[0x20])), (STATUS_WORD, Ok(&[0x90]))], SlotError::HwError),
    ];
    for (answers, error) in cases {
        let mut bench = Bench::powered(Version::A);
        bench.sends(xfr(&[0, 0xB0, 0, 0, 0])).puts(0, &[0, 0xB0, 0, 0, 0]);
        for (request, answer) in *answers {
            bench.ends(*request, &[], *answer);
        }
        // The card is lost until it is powered up again, from the beginning.
        bench.hears(failed(LOST, *error)).sends(xfr(&[0; 5]));
        bench.hears(failed(LOST, SlotError::IccMute));
        bench.sends(POWER_ON).asks(OFF, &[]).asks(STATUS_A, IDLE).asks(ON_A, ATR).hears(data(ATR));
    }
    // Data without end.
    let mut bench = Bench::powered(Version::A);
    bench.sends(xfr(&[0, 0xB0, 0, 0, 0])).puts(0, &[0, 0xB0, 0, 0, 0]);
    for _ in 0..64 {
        bench.asks(STATUS_A, &[0x10]).asks(DATA, &[0]);
    }
    bench.hears(failed(LOST, SlotError::HwError)).silent();
}

#[test]
fn version_b_exchanges_apdus_in_parts() {
    let mut bench = Bench::powered(Version::B);
    bench.sends(xfr(&[0, 0xA4, 0, 0])).puts(0, &[0, 0xA4, 0, 0]).asks(DATA, &[0, 0x90, 0]);
    bench.hears(data(&[0x90, 0]));
    let part = |level_parameter, data| Command::XfrBlock { bwi: 0, level_parameter, data };
    bench.sends(part(LevelParameter::BEGIN, &[1])).puts(1, &[1]).asks(DATA, &[0x10]);
    bench.hears(chained(ChainParameter::NextCommandPart, &[]));
    bench.sends(part(LevelParameter::CONTINUE, &[2])).puts(3, &[2]).asks(DATA, &[0x10]);
    bench.hears(chained(ChainParameter::NextCommandPart, &[]));
    bench.sends(part(LevelParameter::END, &[3])).puts(2, &[3]).asks(DATA, &[1, 4]);
    bench.hears(chained(ChainParameter::Begin, &[4]));
    bench.sends(part(LevelParameter::CONTINUE_RESPONSE, &[])).puts(0x10, &[]).asks(DATA, &[3, 5]);
    bench.hears(chained(ChainParameter::Continue, &[5]));
    bench.sends(part(LevelParameter::CONTINUE_RESPONSE, &[])).puts(0x10, &[]).asks(DATA, &[2, 6]);
    bench.hears(chained(ChainParameter::End, &[6]));
    bench.sends(part(LevelParameter(0x100), &[]));
    bench.hears(failed(IccStatus::PresentActive, 0x08.into()));
    bench.sends(xfr(&[0; 4097])).hears(failed(IccStatus::PresentActive, 0x01.into())).silent();
}

#[test]
fn version_b_failures() {
    let active = IccStatus::PresentActive;
    for (block, icc, error) in [
        (&[0x40, 0x40, 0xFD][..], active, SlotError::XfrParityError),
        (&[0x40, 0x41, 0xFE], LOST, SlotError::IccMute),
        (&[0x40, 0x42, 0xFE], IccStatus::NotPresent, SlotError::IccMute),
        (&[0x40, 0x00, 0x00], active, SlotError::HwError),
        (&[0x40, 0x40], LOST, SlotError::HwError),
        (&[0x80, 1], LOST, SlotError::HwError),
        (&[0x05, 1, 2], LOST, SlotError::HwError),
        (&[], LOST, SlotError::HwError),
    ] {
        let mut bench = Bench::powered(Version::B);
        bench.sends(xfr(&[0, 0xA4, 0, 0])).puts(0, &[0, 0xA4, 0, 0]).asks(DATA, block);
        bench.hears(failed(icc, error));
        bench.sends(xfr(&[0, 0xA4, 0, 0]));
        match icc == active {
            true => {
                bench.puts(0, &[0, 0xA4, 0, 0]).asks(DATA, &[0, 0x90, 0]).hears(data(&[0x90, 0]))
            }
            false => bench.hears(failed(icc, SlotError::IccMute)),
        };
    }
}
