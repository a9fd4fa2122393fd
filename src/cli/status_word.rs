//! What SW1 SW2 mean (ISO/IEC 7816-4 §5.6).

/// A status word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StatusWord(pub(crate) u16);

/// INS of VERIFY, CHANGE and RESET REFERENCE DATA, and their like: 63Cx counts their tries.
const INS_WITH_TRIES: [u8; 8] = [0x20, 0x21, 0x22, 0x24, 0x25, 0x2C, 0x2D, 0x82];

impl StatusWord {
    /// The last two bytes of a response; none if it is shorter.
    pub(crate) fn of(response: &[u8]) -> Option<Self> {
        match *response {
            [.., sw1, sw2] => Some(Self(u16::from_be_bytes([sw1, sw2]))),
            _ => None,
        }
    }

    /// SW1 and SW2.
    pub(crate) fn bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    /// The command has succeeded, without a warning.
    pub(crate) fn is_success(self) -> bool {
        let [sw1, _] = self.bytes();
        self.0 == 0x9000 || sw1 == 0x61
    }

    /// What it says as the answer to instruction `ins`.
    pub(crate) fn meaning(self, ins: u8) -> String {
        let [sw1, sw2] = self.bytes();
        let length = if sw2 == 0 { 256 } else { usize::from(sw2) };
        if let Some(text) = exact(self.0) {
            return text.into();
        }
        match sw1 {
            0x63 if sw2 == 0 && INS_WITH_TRIES.contains(&ins) => "wrong".into(),
            0x61 => format!("success; {length} more bytes can be fetched"),
            0x63 if sw2 & 0xF0 == 0xC0 => match (INS_WITH_TRIES.contains(&ins), sw2 & 0x0F) {
                (true, 1) => "wrong; 1 try left".into(),
                (true, left) => format!("wrong; {left} tries left"),
                (false, count) => format!("warning: memory was changed; counter at {count}"),
            },
            0x62 | 0x64 if (0x02..=0x80).contains(&sw2) => {
                let kind = if sw1 == 0x62 { "warning" } else { "error" };
                format!("{kind}: the card wants to be asked for {sw2} bytes")
            }
            0x6C => format!("wrong Le; there are {length} bytes"),
            _ => general(sw1).into(),
        }
    }
}

fn exact(sw: u16) -> Option<&'static str> {
    Some(match sw {
        0x9000 => "success",
        0x6281 => "warning: part of the data may be corrupted",
        0x6282 => "warning: the end was reached before Le bytes were read",
        0x6283 => "warning: the selected file is deactivated",
        0x6284 => "warning: the file control information is not formatted by the rules",
        0x6285 => "warning: the selected file is in termination state",
        0x6286 => "warning: no data from a sensor of the card",
        0x6287 => "warning: a record is deactivated",
        0x6381 => "warning: the file was filled up by the last write",
        0x6401 => "error: the card needs an answer at once",
        0x6481 => "error: shared access to the logical channel is denied",
        0x6482 => "error: opening a logical channel is denied",
        0x6581 => "error: memory failure",
        0x6701 => "error: not a command APDU",
        0x6702 => "error: unexpected Lc",
        0x6881 => "error: logical channels are not supported",
        0x6882 => "error: secure messaging is not supported",
        0x6883 => "error: the last command of the chain was expected",
        0x6884 => "error: command chaining is not supported",
        0x6981 => "error: the command does not fit the file's structure",
        0x6982 => "error: security status not satisfied",
        0x6983 => "error: the authentication method is blocked",
        0x6984 => "error: the reference data cannot be used",
        0x6985 => "error: conditions of use not satisfied",
        0x6986 => "error: not allowed without a selected elementary file",
        0x6987 => "error: secure messaging data objects are missing",
        0x6988 => "error: secure messaging data objects are wrong",
        0x6A80 => "error: wrong data field",
        0x6A81 => "error: function not supported",
        0x6A82 => "error: file or application not found",
        0x6A83 => "error: record not found",
        0x6A84 => "error: not enough memory in the file",
        0x6A85 => "error: Lc does not fit the TLV structure",
        0x6A86 => "error: wrong P1 P2",
        0x6A87 => "error: Lc does not fit P1 P2",
        0x6A88 => "error: referenced data not found",
        0x6A89 => "error: the file exists already",
        0x6A8A => "error: the application's name exists already",
        _ => return None,
    })
}

fn general(sw1: u8) -> &'static str {
    match sw1 {
        0x62 => "warning: memory was not changed",
        0x63 => "warning: memory was changed",
        0x64 => "error in execution; memory was not changed",
        0x65 => "error in execution; memory was changed",
        0x66 => "error: security",
        0x67 => "error: wrong length",
        0x68 => "error: function of the class byte not supported",
        0x69 => "error: command not allowed",
        0x6A => "error: wrong parameters P1 P2",
        0x6B => "error: wrong P1 P2, an offset outside the file for example",
        0x6D => "error: instruction not supported",
        0x6E => "error: class not supported",
        0x6F => "error without a precise diagnosis",
        0x91 => "success by the card's own rules (91xx)",
        0x90 | 0x92..=0x9F => "defined by the application, not by ISO/IEC 7816-4",
        _ => "not a status word of ISO/IEC 7816-4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(sw: u16) -> String {
        StatusWord(sw).meaning(0xA4)
    }

    #[test]
    fn status_words_have_meanings() {
        assert_eq!(meaning(0x9000), "success");
        assert_eq!(meaning(0x6100), "success; 256 more bytes can be fetched");
        assert_eq!(meaning(0x6C10), "wrong Le; there are 16 bytes");
        assert_eq!(meaning(0x6A82), "error: file or application not found");
        assert_eq!(meaning(0x6A00), "error: wrong parameters P1 P2");
        assert_eq!(meaning(0x6D01), "error: instruction not supported");
        assert_eq!(meaning(0x6202), "warning: the card wants to be asked for 2 bytes");
        assert_eq!(meaning(0x63C2), "warning: memory was changed; counter at 2");
        assert_eq!(StatusWord(0x63C2).meaning(0x20), "wrong; 2 tries left");
        assert_eq!(StatusWord(0x63C1).meaning(0x20), "wrong; 1 try left");
        assert_eq!(meaning(0x9F10), "defined by the application, not by ISO/IEC 7816-4");
        assert_eq!(meaning(0x1234), "not a status word of ISO/IEC 7816-4");
    }

    #[test]
    fn every_status_word_has_a_meaning() {
        for sw in 0..=u16::MAX {
            assert!(!meaning(sw).is_empty());
        }
    }

    #[test]
    fn success_or_not() {
        assert!(StatusWord(0x9000).is_success() && StatusWord(0x6110).is_success());
        assert!(!StatusWord(0x6282).is_success() && !StatusWord(0x63C2).is_success());
        assert_eq!(StatusWord::of(&[0x90]), None);
        assert_eq!(StatusWord::of(&[1, 0x90, 0x00]), Some(StatusWord(0x9000)));
    }
}
