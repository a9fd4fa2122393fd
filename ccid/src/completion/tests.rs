//! Commands and answers as a card would give them, by the cases of ISO/IEC 7816-3 §12.2.

use super::*;
use alloc::vec;
use alloc::vec::Vec;

/// The commands that `completion` sends to a card of these answers, and the response.
fn run(mut completion: Completion, answers: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut commands = vec![completion.command().to_vec()];
    let mut answers = answers.iter();
    loop {
        match completion.answered(answers.next().expect("another answer")) {
            Next::Send(command) => {
                assert_eq!(&command, completion.command());
                commands.push(command.to_vec());
            }
            Next::Done(response) => {
                assert_eq!(answers.next(), None, "fewer commands than expected");
                return (commands, response.to_vec());
            }
        }
    }
}

fn whole(command: &[u8]) -> Completion {
    Completion::new(Bytes::copy_from_slice(command))
}

fn t0(command: &[u8]) -> Completion {
    Completion::over_t0(Bytes::copy_from_slice(command)).unwrap()
}

fn get_response(le: u8) -> Vec<u8> {
    vec![0x00, 0xC0, 0x00, 0x00, le]
}

const DATA_256: [u8; 256] = [0x55; 256];

fn with(data: &[u8], word: [u8; 2]) -> Vec<u8> {
    [data, &word].concat()
}

#[test]
fn without_le_all_is_fetched() {
    let select = [0x00, 0xA4, 0x04, 0x00, 0x01, 0xF0];
    for completion in [whole(&select), t0(&select)] {
        let answers: [&[u8]; 3] = [&[0x61, 0x02], &[1, 2, 0x61, 0x01], &[3, 0x90, 0x00]];
        let (commands, response) = run(completion, &answers);
        assert_eq!(commands, [select.to_vec(), get_response(2), get_response(1)]);
        assert_eq!(response, [1, 2, 3, 0x90, 0x00]);
    }
}

/// Case 1: nothing is made of it.
#[test]
fn section_12_2_case_1() {
    let (commands, response) = run(t0(&[0, 0x44, 0, 0]), &[&[0x90, 0x00]]);
    assert_eq!((commands, response), (vec![vec![0, 0x44, 0, 0]], vec![0x90, 0x00]));
}

/// Case 2S: 6Cxx names the right Le, and the response has no more than was asked for.
#[test]
fn section_12_2_case_2s() {
    for (le, data) in [(0, &[1, 2, 3][..]), (2, &[1, 2]), (200, &[1, 2, 3])] {
        let read = [0x00, 0xB0, 0, 0, le];
        let (commands, response) = run(t0(&read), &[&[0x6C, 0x03], &[1, 2, 3, 0x90, 0x00]]);
        assert_eq!(commands, [read.to_vec(), vec![0x00, 0xB0, 0, 0, 3]]);
        assert_eq!(response, with(data, [0x90, 0x00]));
    }
    // Once: a card that never likes its Le is left alone.
    let (commands, response) = run(t0(&[0x00, 0xB0, 0, 0, 0]), &[&[0x6C, 2], &[0x6C, 3]]);
    assert_eq!((commands.len(), response), (2, vec![0x6C, 3]));
}

/// Case 3S: a refusal is the response, 6Cxx too, as the command has no Le.
#[test]
fn section_12_2_case_3s() {
    let write = [0x00, 0xD6, 0, 0, 2, 7, 8];
    for word in [[0x90, 0x00], [0x67, 0x00], [0x6C, 0x02]] {
        assert_eq!(run(t0(&write), &[&word]), (vec![write.to_vec()], word.to_vec()));
    }
}

/// Case 4S: Le goes with GET RESPONSE, and limits it.
#[test]
fn section_12_2_case_4s() {
    for (le, fetched) in [(0, 5), (5, 5), (9, 5), (3, 3)] {
        let select = [0x00, 0xA4, 0, 0, 2, 0x3F, 0x00, le];
        let last = with(&[1, 2, 3, 4, 5][..fetched], [0x90, 0x00]);
        let (commands, response) = run(t0(&select), &[&[0x61, 0x05], &last]);
        assert_eq!(commands, [select[..7].to_vec(), get_response(fetched as u8)]);
        assert_eq!(response, last);
    }
    // What it has beyond Le stays there.
    let select = [0x00, 0xA4, 0, 0, 2, 0x3F, 0x00, 2];
    let (commands, response) = run(t0(&select), &[&[0x61, 0x05], &[1, 2, 0x61, 0x03]]);
    assert_eq!((commands.len(), response), (2, vec![1, 2, 0x61, 0x03]));
    // 9000h: no response. 6Cxx: no more than another refusal.
    for word in [[0x90, 0x00], [0x6A, 0x82], [0x6C, 0x05]] {
        assert_eq!(run(t0(&select), &[&word]).1, word);
    }
}

/// 256 bytes are not all that Le 0 stands for, by either protocol.
#[test]
fn le_0_stands_for_all_there_is() {
    let read = [0x00, 0xB0, 0, 0, 0];
    for completion in [whole(&read), t0(&read)] {
        let first = with(&DATA_256, [0x61, 0x02]);
        let (commands, response) = run(completion, &[&first, &[8, 9, 0x90, 0x00]]);
        assert_eq!(commands[1..], [get_response(2)]);
        assert_eq!(response, [&DATA_256[..], &[8, 9, 0x90, 0x00]].concat());
    }
}

/// GET RESPONSE, too, may be told its Le, each of them once.
#[test]
fn a_get_response_with_another_le() {
    let answers: [&[u8]; 5] =
        [&[0x61, 0x00], &[0x6C, 0x02], &[1, 2, 0x61, 0x09], &[0x6C, 0x01], &[3, 0x90, 0x00]];
    let (commands, response) = run(t0(&[0x00, 0xA4, 0, 0, 1, 7, 0]), &answers);
    assert_eq!(commands[1..], [0, 2, 9, 1].map(get_response));
    assert_eq!(response, [1, 2, 3, 0x90, 0x00]);
}

/// Case 2E: what P3 can say is asked for; the rest is fetched.
#[test]
fn section_12_2_case_2e() {
    for (le, p3) in [(1u16, 1), (255, 255), (256, 0), (257, 0), (0, 0)] {
        let [high, low] = le.to_be_bytes();
        assert_eq!(t0(&[0, 0xB0, 0, 0, 0, high, low]).command()[..], [0, 0xB0, 0, 0, p3]);
    }
    let first = with(&DATA_256, [0x61, 0x00]);
    let (commands, response) =
        run(t0(&[0, 0xB0, 0, 0, 0, 0x01, 0x02]), &[&first, &[8, 9, 0x61, 0xFE]]);
    assert_eq!(commands, [vec![0, 0xB0, 0, 0, 0], get_response(2)]);
    assert_eq!(response, [&DATA_256[..], &[8, 9, 0x61, 0xFE]].concat());
    // Shorter than Ne: 6Cxx names it.
    let (commands, response) =
        run(t0(&[0, 0xB0, 0, 0, 0, 0, 0]), &[&[0x6C, 0x01], &[7, 0x90, 0x00]]);
    assert_eq!(commands[1], [0, 0xB0, 0, 0, 1]);
    assert_eq!(response, [7, 0x90, 0x00]);
}

/// Cases 3E and 4E with no more data than P3 can say; more would take ENVELOPE.
#[test]
fn section_12_2_cases_3e_and_4e() {
    for (lc, extra) in [(1u16, 0), (255, 0), (1, 2), (255, 2)] {
        let [high, low] = lc.to_be_bytes();
        let data = vec![0xD5; lc.into()];
        let apdu = [&[0, 0xD6, 0, 0, 0, high, low][..], &data, &vec![0; extra]].concat();
        let tpdu = [&[0, 0xD6, 0, 0, low][..], &data].concat();
        assert_eq!(t0(&apdu).command()[..], tpdu);
        let (commands, _) = run(t0(&apdu), &[&[0x61, 0x01], &[7, 0x90, 0x00]]);
        assert_eq!(commands[1], get_response(1));
    }
    let apdu = [&[0, 0xD6, 0, 0, 0, 1, 0][..], &DATA_256].concat();
    let too_long = Completion::over_t0(apdu.into()).unwrap_err();
    assert_eq!(too_long, Error::TooLong { length: 263, limit: 261 });
}

#[test]
fn what_is_no_apdu() {
    for bad in [&[0, 0xA4, 0][..], &[0, 0xA4, 0, 0, 3, 1], &[0, 0xA4, 0, 0, 0, 0, 0, 1]] {
        let refused = Completion::over_t0(Bytes::copy_from_slice(bad));
        assert_eq!(refused.unwrap_err(), Error::InvalidCommand);
        // As it is, it goes to the card, whose word counts.
        let (commands, response) = run(whole(bad), &[&[0x6C, 0x03]]);
        assert_eq!((commands, response), (vec![bad.to_vec()], vec![0x6C, 0x03]));
    }
    assert_eq!(run(whole(&[0, 0xA4, 0, 0]), &[&[0x90]]).1, [0x90]);
}

/// Where APDUs go as they are, Le has its place in every case.
#[test]
fn another_le_in_every_case() {
    for (command, expected) in [
        (&[0, 1, 2, 3][..], &[0, 1, 2, 3, 9][..]),
        (&[0, 1, 2, 3, 0], &[0, 1, 2, 3, 9]),
        (&[0, 1, 2, 3, 1, 7], &[0, 1, 2, 3, 1, 7, 9]),
        (&[0, 1, 2, 3, 1, 7, 0], &[0, 1, 2, 3, 1, 7, 9]),
        (&[0, 1, 2, 3, 0, 1, 0], &[0, 1, 2, 3, 0, 0, 9]),
        (&[0, 1, 2, 3, 0, 0, 1, 7], &[0, 1, 2, 3, 0, 0, 1, 7, 0, 9]),
        (&[0, 1, 2, 3, 0, 0, 1, 7, 0, 0], &[0, 1, 2, 3, 0, 0, 1, 7, 0, 9]),
    ] {
        let (commands, _) = run(whole(command), &[&[0x6C, 0x09], &[0x90, 0x00]]);
        assert_eq!(commands, [command, expected]);
    }
}

#[test]
fn the_class_keeps_its_channel_only() {
    for (class, expected) in
        [(0x00, 0x00), (0x13, 0x03), (0x0C, 0x00), (0x80, 0x80), (0x84, 0x80), (0xA0, 0xA0)]
    {
        let (commands, _) = run(whole(&[class, 0xA4, 0, 0]), &[&[0x61, 1], &[7, 0x90, 0]]);
        assert_eq!(commands[1][0], expected);
    }
    assert_eq!((get_response_class(0x75), get_response_class(0xFF)), (0x45, 0x00));
}

/// The longest response comes whole, and nothing beyond it.
#[test]
fn the_longest_response() {
    let mut completion = t0(&[0, 0xB0, 0, 0, 0, 0, 0]);
    let part = with(&DATA_256, [0x61, 0x00]);
    let mut answers = 0;
    let response = loop {
        answers += 1;
        if let Next::Done(response) = completion.answered(&part) {
            break response;
        }
    };
    assert_eq!((answers, response.len()), (256, 65_536 + 2));
    // A reader of APDU level may bring all of it at once, and a card too much.
    let mut completion = whole(&[0, 0xB0, 0, 0, 0, 0, 0]);
    let Next::Done(response) = completion.answered(&vec![0x61; 70_000]) else { panic!() };
    assert_eq!(response.len(), 65_536 + 2);
}

#[test]
fn a_card_that_never_ends_is_left() {
    for part in [&[0x61, 0x10][..], &[7, 0x61, 0x10]] {
        let mut completion = whole(&[0, 0xA4, 0, 0]);
        let mut commands = 1;
        while let Next::Send(_) = completion.answered(part) {
            commands += 1;
        }
        assert!(commands <= MAX_COMMANDS, "{commands}");
        assert_eq!(commands == 2, part.len() == 2, "an empty part is the last");
    }
}

#[test]
fn nothing_of_the_data_is_shown() {
    let completion = whole(&[0, 0x20, 0, 0x81, 2, 0x31, 0x32]);
    assert_eq!(alloc::format!("{completion:?}"), "Completion(7 bytes; 0 answers, 0)");
}
