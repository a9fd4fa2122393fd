//! What a reader is sent when it is opened besides a row's own escape commands, and what its answers
//! change. A reader that does not know such a command is used without.

use super::{Behaviour, Flags};
use alloc::vec::Vec;
use bytes::Bytes;
use log::{debug, info};

/// Bytes of the feature block.
const FEATURE_BLOCK: usize = 21;

/// Where in it is what counts here: bEntryValidationCondition, flags, least and greatest length of a
/// PIN. The rest is what the class descriptor says as well, or of no use to a host.
const CONDITIONS: usize = 3;
const FLAGS: usize = 8;
const LEAST_PIN: usize = 13;
const MOST_PIN: usize = 14;

/// In its flags: message indexes in a modification stand where bNumberMessage has them.
const NUMBER_MESSAGE_FIX: u8 = 0x04;

/// The most of a firmware's name that is kept: what a property of PC/SC part 10 can hold.
const MAX_NAME: usize = 255;

/// Loads the strings of the display: to address A000h, with a key.
const LOAD_STRINGS: [u8; 5] = [0xB2, 0xA0, 0x00, 0x4D, 0x4C];

/// Characters of a string.
const STRING: usize = 16;

/// The strings, in the order the reader wants them. It writes a digit over the asterisk.
const STRINGS: [&str; 10] = [
    "Your PIN?",
    "Choose a new PIN",
    "Repeat new PIN",
    "PIN accepted",
    "Wrong PIN",
    "Time is up",
    "* tries left",
    "Put a card in",
    "Card failure",
    "PIN is blocked",
];

/// What an escape command at opening is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    /// Its answer does not matter.
    None,
    /// Its answer is the feature block.
    Features,
    /// Its answer is the name of the firmware.
    FirmwareName,
}

impl Behaviour {
    /// The escape commands for the first slot, in their order. A row's own come behind the strings,
    /// so that a user's row can replace them.
    pub(crate) fn opening(&self) -> Vec<(Question, Bytes)> {
        let mut commands = Vec::new();
        if self.flags.contains(Flags::PIN_STRINGS) {
            commands.push((Question::None, load_strings()));
        }
        commands.extend(self.open_escapes.iter().map(|data| (Question::None, data.clone())));
        if self.flags.contains(Flags::PIN_FEATURE_BLOCK) {
            commands.push((Question::Features, Bytes::from_static(&[0x6A])));
        }
        if self.flags.contains(Flags::FIRMWARE_NAME) {
            commands.push((Question::FirmwareName, Bytes::from_static(&[0x02])));
        }
        commands
    }

    /// The reader has answered `question`.
    pub(crate) fn learn(&mut self, question: Question, answer: &[u8]) {
        match question {
            Question::None => {}
            Question::Features => match answer.try_into() {
                Ok(block) => self.learn_features(block),
                Err(_) => debug!("a feature block of {} bytes is none", answer.len()),
            },
            Question::FirmwareName => {
                let name = answer.get(..MAX_NAME).unwrap_or(answer);
                info!("firmware {}", name.escape_ascii());
                self.firmware_name = (!name.is_empty()).then(|| Bytes::copy_from_slice(name));
            }
        }
    }

    /// What the table says of a reader goes before what it says itself.
    fn learn_features(&mut self, block: [u8; FEATURE_BLOCK]) {
        if block[FLAGS] & NUMBER_MESSAGE_FIX != 0 {
            self.flags.remove(Flags::PIN_MODIFY_THREE_INDEXES);
        }
        if let conditions @ 1..=7 = block[CONDITIONS] {
            self.pin_conditions = Some(conditions);
        }
        let (least, most) = (block[LEAST_PIN], block[MOST_PIN]);
        if self.pin_length.is_none() && most > 0 && least <= most {
            self.pin_length = Some(least..=most);
        }
    }
}

fn load_strings() -> Bytes {
    let padded = |text: &'static str| text.bytes().chain(core::iter::repeat(b' ')).take(STRING);
    LOAD_STRINGS.into_iter().chain(STRINGS.into_iter().flat_map(padded)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(conditions: u8, flags: u8, least: u8, most: u8) -> [u8; FEATURE_BLOCK] {
        let mut block = [0; FEATURE_BLOCK];
        (block[3], block[8], block[13], block[14]) = (conditions, flags, least, most);
        block
    }

    fn gemalto() -> Behaviour {
        let flags = Flags::PIN_FEATURE_BLOCK | Flags::PIN_MODIFY_THREE_INDEXES;
        Behaviour { flags, ..Behaviour::default() }
    }

    #[test]
    fn a_feature_block_is_heeded() {
        let mut behaviour = gemalto();
        behaviour.learn(Question::Features, &block(0x02, 0x04, 4, 12));
        assert_eq!(behaviour.flags, Flags::PIN_FEATURE_BLOCK);
        assert_eq!((behaviour.pin_conditions, behaviour.pin_length), (Some(2), Some(4..=12)));
        let mut behaviour = gemalto();
        behaviour.learn(Question::Features, &block(0x07, 0xFB, 0, 0));
        assert_eq!(behaviour, Behaviour { pin_conditions: Some(7), ..gemalto() });
        // The table knows better.
        let known = Behaviour { pin_length: Some(4..=8), ..gemalto() };
        let mut behaviour = known.clone();
        behaviour.learn(Question::Features, &block(0, 0, 0, 16));
        assert_eq!(behaviour, known);
    }

    #[test]
    fn what_is_no_feature_block_changes_nothing() {
        let whole = block(2, 4, 4, 8);
        let longer = [&whole[..], &[0]].concat();
        for answer in [&[][..], &whole[..20], &longer, &block(8, 0, 9, 8)] {
            let mut behaviour = gemalto();
            behaviour.learn(Question::Features, answer);
            assert_eq!(behaviour, gemalto(), "{answer:02X?}");
        }
    }

    #[test]
    fn a_name_is_kept_as_far_as_it_can_be_told() {
        let mut behaviour = Behaviour::default();
        behaviour.learn(Question::FirmwareName, &[b'x'; 300]);
        assert_eq!(behaviour.firmware_name, Some(Bytes::from_static(&[b'x'; 255])));
        behaviour.learn(Question::FirmwareName, &[]);
        assert_eq!(behaviour.firmware_name, None);
    }

    #[test]
    fn strings_are_sixteen_characters_each() {
        let command = load_strings();
        assert_eq!(command.len(), 5 + 10 * 16);
        assert!(command[5..].is_ascii());
        assert_eq!(&command[5..21], b"Your PIN?       ");
        assert_eq!(&command[21..37], b"Choose a new PIN");
        assert_eq!(&command[149..], b"PIN is blocked  ");
        assert!(STRINGS.iter().all(|text| text.len() <= STRING));
    }

    #[test]
    fn the_rows_own_commands_come_behind_the_strings() {
        let behaviour = Behaviour {
            flags: Flags::PIN_STRINGS | Flags::PIN_FEATURE_BLOCK | Flags::FIRMWARE_NAME,
            open_escapes: alloc::vec![Bytes::from_static(&[0xB5, 0x00])],
            ..Behaviour::default()
        };
        let commands = behaviour.opening();
        let first: Vec<_> = commands.iter().map(|(question, data)| (*question, data[0])).collect();
        use Question::{Features, FirmwareName, None};
        assert_eq!(first, [(None, 0xB2), (None, 0xB5), (Features, 0x6A), (FirmwareName, 0x02)]);
    }
}
