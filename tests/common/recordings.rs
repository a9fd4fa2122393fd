//! The recordings in `fixtures` that are conversations with a card, and what was said in them.

#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

/// A recorded conversation.
pub struct Recording {
    /// The file in `fixtures`.
    pub file: &'static str,
    /// Another driver made it, or it was one without an interrupt pipe, which is asked for its card
    /// at moments that do not come again.
    pub lenient: bool,
    /// SCARD_PROTOCOL_*
    pub protocol: u32,
    /// Commands, and what the card said.
    pub exchanges: Vec<(Vec<u8>, Vec<u8>)>,
    /// What was exchanged after the card was taken out and put in again; nothing if it was not.
    pub again: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Recording {
    /// How it is replayed, as in the name of a trace: one in which the card is taken out, with its
    /// timing.
    pub fn manner(&self) -> &'static str {
        match (self.lenient, self.again.is_empty()) {
            (true, true) => "lenient:fast:",
            (true, false) => "lenient:",
            (false, true) => "fast:",
            (false, false) => "",
        }
    }
}

/// T=0, T=1
pub const T0: u32 = 1;
pub const T1: u32 = 2;

/// All of them.
pub fn all() -> Vec<Recording> {
    let ours = |file, protocol, exchanges| {
        let again = Vec::new();
        Recording { file, lenient: false, protocol, exchanges, again }
    };
    let read = (vec![0x00, 0xB0, 0, 0, 4], vec![0x69, 0x86]);
    vec![
        ours("sim-apdu.pcapng", T1, apdus()),
        ours("sim-iccd-b.pcapng", T1, apdus()),
        ours("sim-t1-check.pcapng", T1, apdus()),
        ours("sim-t0-character.pcapng", T0, apdus()),
        ours("sim-time-extension.pcapng", T1, vec![read]),
        ours("qemu-usb-ccid-uhci.pcap", T0, qemu()),
        ours("qemu-usb-ccid-xhci.pcap", T0, qemu()),
        from_qemus_reader("qemu-libccid.pcap", true),
        from_qemus_reader("qemu-pcscd.pcap", false),
        from_qemus_reader("qemu-library.pcap", false),
        from_usbd_ccid("usbd-ccid-libccid.pcap"),
        from_usbd_ccid("usbd-ccid-pcscd.pcap"),
        from_usbd_ccid("usbd-ccid-library.pcap"),
    ]
}

/// The conversation of `tests/vm/cases/lib/conversation.py`.
fn from_qemus_reader(file: &'static str, lenient: bool) -> Recording {
    let again: &[&[u8]] = &[&[0x00, 0x10, 0, 0, 2, 0xCA, 0xFE]];
    let (exchanges, again) = (answered(COMMANDS), answered(again));
    Recording { file, lenient, protocol: T0, exchanges, again }
}

/// The same with a card that cannot be taken out.
fn from_usbd_ccid(file: &'static str) -> Recording {
    let more: &[&[u8]] = &[&[0x00, 0x12, 4, 0, 0, 4, 0], &[0x00, 0x14, 7, 0xD0]];
    let exchanges = [answered(COMMANDS), answered(more)].concat();
    Recording { file, lenient: true, protocol: T1, exchanges, again: Vec::new() }
}

const COMMANDS: &[&[u8]] = &[
    &[0x00, 0xA4, 0, 0, 2, 0x3F, 0],
    &[0x00, 0x10, 0, 0, 3, 1, 2, 3],
    &[0x00, 0x12, 0, 0x33, 0x33],
    &[0x00, 0x12, 1, 0, 0],
    &[0x00, 0x12, 0, 0xFF, 0],
    &[0x00, 0x99, 0, 0],
    &[0x00, 0x10, 0, 0, 4, 0xAA, 0xBB, 0xCC, 0xDD],
];

fn answered(commands: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    commands.iter().map(|command| (command.to_vec(), card(command))).collect()
}

/// Bytes that count from `first` on, and 9000.
fn counted(first: u8, length: u8) -> Vec<u8> {
    (first..first + length).chain([0x90, 0x00]).collect()
}

/// The commands of `tests/record.rs`.
fn apdus() -> Vec<(Vec<u8>, Vec<u8>)> {
    let application = [0xF0, 0x53, 0x43, 0x41, 0x52, 0x44, 0x01];
    let select = [&[0x00, 0xA4, 0x04, 0x00, 7][..], &application].concat();
    let verify = |pin: &[u8]| [&[0x00, 0x20, 0x00, 0x81, pin.len() as u8][..], pin].concat();
    let file = [&[0x6F, 0x10, 0x84, 7][..], &application].concat();
    let file = [&file[..], &[0x83, 2, 0x50, 0x15, 0x82, 1, 0x38, 0x90, 0x00]].concat();
    vec![
        (select, file),
        // The fixtures have asterisks for the PINs.
        (verify(b"0000"), vec![0x63, 0xC2]),
        (verify(b"123456"), vec![0x90, 0x00]),
        ([&[0x00, 0x10, 0, 0, 54][..], &counted(0x41, 54)[..54]].concat(), counted(0x41, 54)),
        (vec![0x00, 0x12, 0, 0x34, 0], counted(0, 0x34)),
        (vec![0x00, 0xEE, 0, 0], vec![0x6D, 0x00]),
    ]
}

/// Those that QEMU recorded itself.
fn qemu() -> Vec<(Vec<u8>, Vec<u8>)> {
    answered(&[
        &[0x00, 0xA4, 0, 0, 2, 0x3F, 0],
        &[0x00, 0x12, 0, 0x34, 0],
        &[0x00, 0x10, 0, 0, 3, 1, 2, 3],
        &[0x00, 0x10, 0, 0, 1, 2],
        &[0x00, 0x12, 0, 0xE0, 0],
        &[0x00, 0x10, 0, 0, 4, 0xAA, 0xBB, 0xCC, 0xDD],
    ])
}

/// What the card in QEMU's reader and usbd-ccid's says (`tests/vm/peer.py`, `tests/peers`).
fn card(command: &[u8]) -> Vec<u8> {
    match *command {
        [_, 0x10, _, _, length, ref data @ ..] => [&data[..length.into()], &[0x90, 0x00]].concat(),
        [_, 0x12, p1, p2, ..] => {
            let length = u16::from_be_bytes([p1, p2]);
            (0..length).map(|n| n as u8).chain([0x90, 0x00]).collect()
        }
        [_, 0x14 | 0xA4, ..] => vec![0x90, 0x00],
        _ => vec![0x6D, 0x00],
    }
}
