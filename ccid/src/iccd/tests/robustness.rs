//! Waiting, Abort, what ICCD does not have, and any bytes.

use super::*;

#[test]
fn waiting_is_passed_on_once_a_second() {
    let mut a = Bench::powered(Version::A);
    a.sends(xfr(&[0; 5])).puts(0, &[0; 5]);
    for second in 1..=400 {
        while a.now < Instant::from_millis(second * 1000 - 10) {
            a.asks(STATUS_A, BUSY).waits(10);
        }
        a.asks(STATUS_A, BUSY);
        a.now = Instant::from_millis(second * 1000);
        a.translator.handle_timeout(a.now);
        a.hears(extension());
    }
    a.asks(STATUS_A, &[0x20]).asks(STATUS_WORD, &[0x90, 0]).hears(data(&[0x90, 0]));
    // 2.5 s asked for by the device.
    let mut b = Bench::powered(Version::B);
    b.sends(xfr(&[0; 5])).puts(0, &[0; 5]).asks(DATA, &[0x80, 250, 0]);
    b.waits(1000).hears(extension()).waits(1000).hears(extension()).waits(500);
    b.asks(DATA, &[0x80, 0, 0]).waits(10).asks(DATA, &[0x40, 0x80, 0]).waits(10);
    b.asks(DATA, &[0, 0x90, 0]).hears(data(&[0x90, 0]));
    // The longest there is: passed on all the time.
    b.sends(xfr(&[0; 5])).puts(0, &[0; 5]).asks(DATA, &[0x80, 0xFF, 0xFF]);
    for _ in 0..655 {
        b.waits(1000).hears(extension());
    }
    b.waits(350).asks(DATA, &[0, 0x6F, 0]).hears(data(&[0x6F, 0]));
}

#[test]
fn what_was_not_answered_is_asked_again_if_that_does_no_harm() {
    let mut bench = Bench::powered(Version::B);
    bench.sends(xfr(&[0; 5])).puts(0, &[0; 5]);
    for _ in 0..5 {
        bench.ends(DATA, &[], Err(Failure::TimedOut));
    }
    bench.asks(DATA, &[0, 0x90, 0]).hears(data(&[0x90, 0]));
    bench.sends(xfr(&[0; 5])).ends(([0x21, 0x65, 0, 0], 5), &[0; 5], Err(Failure::TimedOut));
    bench.hears(failed(LOST, SlotError::HwError)).silent();
    // Asked again by the host, too: one answer, to the last.
    bench.sends(Command::GetSlotStatus).ends(STATUS_B, &[], Err(Failure::TimedOut));
    bench.sends(Command::GetSlotStatus);
    bench.asks(STATUS_B, &[0x40, 1, 0]).hears(slot(Status::success(LOST))).silent();
    // A device that does not answer for ten minutes will not do so any more.
    bench.sends(Command::GetSlotStatus);
    for _ in 0..601 {
        bench.ends(STATUS_B, &[], Err(Failure::TimedOut));
    }
    bench.hears(slot(Status::failed(LOST, SlotError::HwError))).silent();
}

#[test]
fn abort_stops_the_asking() {
    let refused = |icc| slot(Status::failed(icc, SlotError::CmdNotSupported));
    let mut bench = Bench::powered(Version::A);
    bench.sends(Command::Abort).hears(refused(IccStatus::PresentActive)).silent();
    bench.sends(xfr(&[0; 5])).puts(0, &[0; 5]).asks(STATUS_A, BUSY);
    let exchange = bench.seq;
    bench.sends(Command::Abort).hears_for(exchange, failed(LOST, SlotError::CmdAborted));
    bench.hears(refused(LOST)).silent();
    assert_eq!(bench.translator.poll_deadline(), None);
    bench.sends(POWER_ON).asks(OFF, &[]).asks(STATUS_A, BUSY).waits(10).asks(STATUS_A, IDLE);
    bench.asks(ON_A, ATR).hears(data(ATR));
    // A request is on its way: what comes next waits for its end, and its answer is nobody's.
    bench.sends(xfr(&[0; 5]));
    assert!(bench.translator.poll_control(bench.now).is_some());
    let exchange = bench.seq;
    bench.sends(Command::Abort).hears_for(exchange, failed(LOST, SlotError::CmdAborted));
    assert!(bench.translator.is_abandoned());
    bench.hears(refused(LOST)).sends(Command::IccPowerOff).silent();
    bench.translator.handle_control(Ok(&[]), bench.now);
    assert!(!bench.translator.is_abandoned());
    bench.asks(OFF, &[]).asks(STATUS_A, IDLE).hears(slot(Status::success(LOST)));
}

#[test]
fn abort_of_a_command_that_waits_for_the_opening() {
    let mut bench = Bench::fresh(Version::B);
    bench.sends(POWER_ON);
    let power_on = bench.seq;
    bench.sends(Command::Abort).hears_for(power_on, failed(LOST, SlotError::CmdAborted));
    bench.hears(slot(Status::failed(LOST, SlotError::CmdNotSupported)));
    bench.opening();
    bench.silent();
}

#[test]
fn stopped_without_an_answer() {
    let mut bench = Bench::powered(Version::B);
    bench.sends(xfr(&[0; 5])).puts(0, &[0; 5]).asks(DATA, &[0x80, 1, 0]);
    bench.translator.stop();
    bench.silent().sends(Command::GetSlotStatus).asks(STATUS_B, &[0x40, 0, 0]);
    bench.hears(slot(Status::success(IccStatus::PresentActive)));
    bench.sends(xfr(&[0; 5])).hears(failed(LOST, SlotError::IccMute)).silent();
}

#[test]
fn statuses() {
    let mut a = Bench::opened(Version::A);
    for (status, icc) in [(IDLE, LOST), (&[0x80], LOST), (BUSY, LOST)] {
        a.sends(Command::GetSlotStatus).asks(STATUS_A, status).hears(slot(Status::success(icc)));
    }
    a.sends(Command::GetSlotStatus).ends(STATUS_A, &[], Err(Failure::Stall));
    a.hears(slot(Status::failed(LOST, SlotError::HwError)));
    let mut b = Bench::opened(Version::B);
    let absent = IccStatus::NotPresent;
    for (status, icc) in [(0, IccStatus::PresentActive), (1, LOST), (2, absent), (3, absent)] {
        b.sends(Command::GetSlotStatus).asks(STATUS_B, &[0x40]);
        b.hears(slot(Status::failed(LOST, SlotError::HwError)));
        b.sends(Command::GetSlotStatus).asks(STATUS_B, &[0x80, 9, 0]).waits(10);
        b.asks(STATUS_B, &[0x40, status, 0]).hears(slot(Status::success(icc)));
        // Without bResponseType; failed or not.
        b.sends(Command::GetSlotStatus).asks(STATUS_B, &[status, 0, 1]);
        b.hears(slot(Status::success(icc)));
        b.sends(Command::GetSlotStatus).asks(STATUS_B, &[0x40 | status, 0xFE, 1]);
        b.hears(slot(Status::success(icc)));
    }
}

#[test]
fn what_iccd_does_not_have() {
    let mut bench = Bench::powered(Version::B);
    for command in [
        Command::GetParameters,
        Command::ResetParameters,
        Command::SetParameters { protocol_num: 1, data: &[0; 7] },
        Command::Escape { data: &[1] },
        Command::Secure { bwi: 0, level_parameter: LevelParameter::WHOLE, data: &[0] },
        Command::IccClock { clock_command: crate::wire::ClockCommand::Stop },
        Command::T0Apdu { changes: 0, class_get_response: 0, class_envelope: 0 },
        Command::Mechanical { function: crate::wire::MechanicalFunction::Eject },
        Command::SetDataRateAndClockFrequency { clock_frequency: 1, data_rate: 1 },
    ] {
        bench.sends(command);
        let bytes = bench.translator.poll_message().unwrap();
        let message = Message::parse(&bytes).unwrap();
        let response = Response::parse(&message).unwrap();
        assert_eq!(response.message_type(), command.answered_by());
        assert_eq!(response.status().slot_error(), Some(SlotError::CmdNotSupported));
        assert_eq!(message.seq, bench.seq);
        bench.silent();
    }
    let other = Command::GetSlotStatus.emit(Slot(1), Seq(9));
    bench.translator.handle_message(&other, bench.now);
    let bytes = bench.translator.poll_message().unwrap();
    assert_eq!(&bytes[..], [0x81, 0, 0, 0, 0, 1, 9, 0x42, 5, 0]);
    bench.translator.handle_message(&Bytes::from_static(&[0x62, 0, 0]), bench.now);
    bench.silent();
}

/// Whatever bytes come from either side, in any order: no panic, one request at a time, and no
/// message answered twice, time extensions apart.
#[test]
fn random_bytes() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % n
    };
    let kinds = [0x62, 0x63, 0x65, 0x6F, 0x6F, 0x6F, 0x72, 0x6B, 0x00];
    let firsts = [0x00, 0x01, 0x03, 0x10, 0x20, 0x40, 0x80, 0xFF];
    for round in 0..200 {
        let version = if round % 2 == 0 { Version::A } else { Version::B };
        let level = if round % 3 == 0 { Features::TPDU_LEVEL } else { Features::ICCD };
        let class = declared(level, 271);
        let (mut translator, mut now) = (Translator::new(version, &class, 0), Instant::ZERO);
        let (mut sent, mut answered) = (0, 0);
        for _ in 0..2000 {
            match random(6) {
                0 => {
                    let length = random(300);
                    let mut bytes: Vec<u8> = (0..length + 10).map(|_| random(256) as u8).collect();
                    (bytes[0], bytes[5]) = (kinds[random(kinds.len())], random(20) as u8 / 19);
                    bytes[1..5].copy_from_slice(&(length as u32).to_le_bytes());
                    translator.handle_message(&bytes.into(), now);
                    sent += 1;
                }
                1..=3 if translator.poll_control(now).is_some() => {
                    assert_eq!(translator.poll_control(now), None);
                    let mut bytes: Vec<u8> = (0..random(5)).map(|_| random(256) as u8).collect();
                    if let Some(first) = bytes.first_mut() {
                        *first = firsts[random(firsts.len())];
                    }
                    let failures = [Failure::Stall, Failure::TimedOut, Failure::Broken];
                    let failure = failures[random(3)];
                    let result = if random(20) == 0 { Err(failure) } else { Ok(&bytes[..]) };
                    translator.handle_control(result, now);
                }
                4 => {
                    if let Some(due) = translator.poll_deadline() {
                        now = due;
                        translator.handle_timeout(now);
                    }
                }
                _ if random(50) == 0 => translator.stop(),
                _ => {}
            }
            while let Some(message) = translator.poll_message() {
                let message = Message::parse(&message).unwrap();
                assert!(Response::parse(&message).is_ok());
                answered += usize::from(message.specific[0] >> 6 != 2);
            }
            assert!(answered <= sent, "{answered} answers to {sent}");
        }
    }
}
