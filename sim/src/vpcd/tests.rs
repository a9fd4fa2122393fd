//! The reader's side of the connection, with programs that keep the protocol and such that do not.
//!
//! The reader is driven by a clock of its own; what comes over the socket is waited for.

use crate::hands::Hardware;
use crate::reader::Event;
use crate::{Device, Hands, Port};
use ccid::Instant;
use ccid::wire::ClassRequest;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

const WATCHDOG: Duration = Duration::from_secs(60);
const ATR: [u8; 4] = [0x3B, 0x80, 0x01, 0x81];

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(Mutex<u64>, Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

/// The host, and the reader with its clock.
struct Bench {
    hands: Hands,
    port: Port<Box<dyn Hardware>>,
    woken: Arc<Woken>,
    now: Instant,
    seq: u8,
}

impl Bench {
    fn new() -> Self {
        let hands = Hands::of("vpcd:0").unwrap();
        let port = hands.port();
        Self { hands, port, woken: Arc::default(), now: Instant::ZERO, seq: 0 }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.hands.address().unwrap()).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        Client(stream)
    }

    /// A program connected as a card that has given its ATR.
    fn card(&mut self) -> Client {
        let mut client = self.client();
        self.until_present(true);
        self.send(0x62, &[]);
        assert_eq!(client.read(), [1], "power on");
        assert_eq!(client.read(), [4], "ATR");
        client.write(&ATR);
        assert_eq!(self.answer(), (0x80, 0, ATR.to_vec()));
        client
    }

    fn with<R>(&self, act: impl FnOnce(&mut Box<dyn Hardware>) -> R) -> R {
        self.port.drive(self.port.plugs(), &Waker::from(Arc::clone(&self.woken)), act).unwrap()
    }

    /// Looks again whenever the reader says that something has happened.
    fn until<R>(&self, mut look: impl FnMut(&mut Box<dyn Hardware>) -> Option<R>) -> R {
        loop {
            let before = *self.woken.0.lock().unwrap();
            if let Some(found) = self.with(&mut look) {
                return found;
            }
            let count = self.woken.0.lock().unwrap();
            let waited = self.woken.1.wait_timeout_while(count, WATCHDOG, |n| *n == before);
            assert!(!waited.unwrap().1.timed_out(), "nothing happens");
        }
    }

    fn until_present(&self, present: bool) {
        self.until(|d| (d.reader().unwrap().has_card(super::SLOT) == present).then_some(()));
    }

    /// A message to the reader.
    fn send(&mut self, message_type: u8, data: &[u8]) {
        self.seq = self.seq.wrapping_add(1);
        let mut message = vec![message_type];
        message.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        message.extend([0, self.seq, 0, 0, 0]);
        message.extend(data);
        let now = self.now;
        self.with(|device| device.bulk_out(&message, now));
    }

    /// The next message of the reader's: its type, status and error as one number, its data.
    fn answer(&self) -> (u8, u16, Vec<u8>) {
        let now = self.now;
        let mut message = Vec::new();
        self.until(|device| {
            while let Some(packet) = device.poll_bulk_in(now) {
                message.extend_from_slice(&packet);
                if packet.len() < 64 {
                    return Some(());
                }
            }
            None
        });
        (message[0], u16::from_be_bytes([message[7], message[8]]), message.split_off(10))
    }

    /// So much time passes.
    fn later(&mut self, time: Duration) {
        self.now = self.now + time;
        let now = self.now;
        self.with(|device| device.handle_timeout(now));
    }

    fn abort(&mut self) {
        let seq = ccid::Seq(self.seq.wrapping_add(1));
        let setup = ClassRequest::Abort { slot: super::SLOT, seq }.setup(0);
        let now = self.now;
        self.with(|device| device.control(setup, &[], now));
        self.send(0x72, &[]);
    }
}

/// The program that is the card.
struct Client(TcpStream);

impl Client {
    fn read(&mut self) -> Vec<u8> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length).unwrap();
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut message).unwrap();
        message
    }

    fn write(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, message].concat()).unwrap();
    }

    fn is_hung_up_on(&mut self) {
        loop {
            match self.0.read(&mut [0; 1024]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "still connected");
                    return;
                }
            }
        }
    }
}

#[test]
fn connecting_is_insertion_and_hanging_up_is_removal() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let mut client = bench.card();
        bench.send(0x6F, &[0, 0xA4, 0, 0]);
        assert_eq!(client.read(), [0, 0xA4, 0, 0]);
        client.write(&[1, 2, 3, 0x90, 0]);
        assert_eq!(bench.answer(), (0x80, 0, vec![1, 2, 3, 0x90, 0]));
        bench.send(0x62, &[]);
        assert_eq!((client.read(), client.read()), (vec![2], vec![4]), "a warm reset");
        client.write(&ATR);
        bench.answer();
        bench.send(0x63, &[]);
        assert_eq!(client.read(), [0], "power off");
        bench.answer();
        drop(client);
        bench.until_present(false);
    }
}

#[test]
fn the_next_card_waits_until_the_first_has_left() {
    let mut bench = Bench::new();
    let first = bench.card();
    let mut second = bench.client();
    drop(first);
    let inserted = |d: &mut Box<dyn Hardware>| {
        d.seen().iter().filter(|seen| seen.what == Event::Inserted).count() == 2
    };
    bench.until(|device| inserted(device).then_some(()));
    bench.send(0x62, &[]);
    assert_eq!((second.read(), second.read()), (vec![1], vec![4]));
}

#[test]
fn a_card_that_works_is_given_time_and_can_be_aborted() {
    let mut bench = Bench::new();
    let mut client = bench.card();
    bench.send(0x6F, &[0, 0x10, 0, 0]);
    assert_eq!(client.read(), [0, 0x10, 0, 0]);
    for _ in 0..3 {
        bench.later(super::EXTENSION);
        assert_eq!(bench.answer(), (0x80, 0x8001, vec![]), "time extension");
    }
    bench.abort();
    assert_eq!(bench.answer(), (0x80, 0x40FF, vec![]), "CMD_ABORTED");
    assert_eq!(bench.answer().0, 0x81);
    // What it answers now is the answer to a command that is gone.
    bench.send(0x6F, &[0, 0x20, 0, 0]);
    assert_eq!(client.read(), [0, 0x20, 0, 0]);
    client.write(&[0x11, 0x11]);
    client.write(&[0x22, 0x22]);
    assert_eq!(bench.answer(), (0x80, 0, vec![0x22, 0x22]));
}

#[test]
fn a_card_without_an_atr_is_mute_until_it_has_one() {
    let mut bench = Bench::new();
    let mut client = bench.client();
    bench.until_present(true);
    bench.send(0x62, &[]);
    bench.later(super::ATR_TIME);
    assert_eq!(bench.answer(), (0x80, 0x8101, vec![]), "time extension");
    assert_eq!(bench.answer(), (0x80, 0x41FE, vec![]), "ICC_MUTE");
    assert_eq!((client.read(), client.read()), (vec![1], vec![4]));
    // The first comes too late; the second is no ATR; the third is.
    client.write(&ATR);
    for (atr, status, answer) in [
        (vec![0x3B; 40], 0x41FE, vec![]),
        (vec![], 0x41FE, vec![]),
        (ATR.to_vec(), 0, ATR.to_vec()),
    ] {
        bench.send(0x62, &[]);
        client.read();
        client.read();
        client.write(&atr);
        assert_eq!(bench.answer(), (0x80, status, answer));
    }
}

#[test]
fn hanging_up_ends_the_command() {
    let mut bench = Bench::new();
    let mut client = bench.card();
    bench.send(0x6F, &[0, 0x10, 0, 0]);
    client.read();
    // In the middle of a message.
    client.0.write_all(&[0xFF, 0xFF, 1, 2, 3]).unwrap();
    drop(client);
    assert_eq!(bench.answer(), (0x80, 0x42FE, vec![]), "ICC_MUTE, no card");
}

#[test]
fn who_talks_unasked_is_hung_up_on() {
    let mut bench = Bench::new();
    let mut client = bench.card();
    client.write(&[0x90, 0x00]);
    client.is_hung_up_on();
    bench.until_present(false);
    bench.card();
}

#[test]
fn who_does_not_read_is_hung_up_on() {
    let mut bench = Bench::new();
    let mut client = bench.card();
    let mut apdu = vec![0, 0x10, 0, 0, 0, 0xFF, 0];
    apdu.resize(7 + 0xFF00, 0);
    // More than all buffers between them hold.
    while bench.with(|device| device.reader().unwrap().has_card(super::SLOT)) {
        bench.send(0x6F, &apdu);
        bench.abort();
        let now = bench.now;
        bench.with(|device| while device.poll_bulk_in(now).is_some() {});
    }
    client.is_hung_up_on();
    bench.card();
}

#[test]
fn long_answers_and_answers_that_are_none() {
    let mut bench = Bench::new();
    let mut client = bench.card();
    for length in [2, 3, 258, 60_000] {
        let mut response = vec![7; length];
        bench.send(0x6F, &[0, 0xB0, 0, 0, 0]);
        client.read();
        client.write(&response);
        assert_eq!(bench.answer(), (0x80, 0, std::mem::take(&mut response)), "{length}");
    }
    for response in [&[][..], &[0x90]] {
        bench.send(0x6F, &[0, 0xB0, 0, 0, 0]);
        client.read();
        client.write(response);
        assert_eq!(bench.answer(), (0x80, 0x40FE, vec![]), "ICC_MUTE");
    }
}

#[test]
fn a_card_of_t0_takes_whole_apdus() {
    let mut bench = Bench::new();
    let mut client = bench.client();
    bench.until_present(true);
    bench.send(0x62, &[]);
    client.read();
    client.read();
    client.write(&[0x3B, 0x00]);
    assert_eq!(bench.answer().2, [0x3B, 0x00]);
    let apdu = [0, 0xA4, 4, 0, 2, 0xA0, 0, 0];
    bench.send(0x6F, &apdu);
    assert_eq!(client.read(), apdu);
    client.write(&[0x61, 0x10]);
    assert_eq!(bench.answer().2, [0x61, 0x10]);
}

#[test]
fn a_port_is_listened_to_once_and_let_go() {
    let bench = Bench::new();
    let address = bench.hands.address().unwrap();
    let mut hands = Hands::of(&format!("vpcd:{}", address.port())).unwrap_err().to_string();
    assert!(hands.starts_with(&format!("vpcd: port {}: ", address.port())), "{hands}");
    let mut client = bench.client();
    bench.until_present(true);
    let port = bench.port.clone();
    drop(bench);
    client.is_hung_up_on();
    assert!(port.with(|device| !device.reader().unwrap().has_card(super::SLOT)));
    assert!(TcpStream::connect(address).is_err());
    hands =
        Hands::of(&format!("vpcd:{}", address.port())).unwrap().obey("address").unwrap().concat();
    assert_eq!(hands, address.to_string());
}
