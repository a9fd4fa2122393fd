//! Traces that are text: usbmon's own (`/sys/kernel/debug/usb/usbmon/1u`), the messages in the logs
//! of libccid and drivers made of it (ACS's), which pcscd writes, and those of scdaemon
//! ([`scdaemon`](super::scdaemon)):
//!
//! ```text
//! ffff8880 3575914555 S Bo:1:005:2 -115 10 = 65000000 00000000 0000
//! 00000089 [1946149872] -> 000000 65 00 00 00 00 00 07 00 00 00
//! ```
//!
//! Lines of other kinds are passed over. A record's number is that of its line.

use super::TraceError;
use super::pcap::{Format, Order, Record};
use super::scdaemon::{self, Line};
use super::usbmon::{Stage, TransferType};
use super::write::{Outgoing, usbmon_packet};
use ccid::wire::SetupPacket;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

/// Longer lines are taken in parts, which are none.
const MAX_LINE: u64 = 1 << 20;

/// In so many bytes one line at least must be of a trace.
const MAX_PREAMBLE: u64 = 16 << 20;

/// As a device of which nothing is known is numbered (`made_of`).
const BULK_OUT: u8 = 0x01;
const BULK_IN: u8 = 0x82;

/// The records of a text.
pub(super) struct Lines<R> {
    text: BufReader<R>,
    number: u64,
    /// The sum of what pcscd says passed between lines.
    time: Duration,
    urbs: u64,
    /// Of scdaemon's, messages take several lines.
    scdaemon: scdaemon::Log,
    /// Found, and not taken.
    ready: VecDeque<Record>,
}

impl<R: Read> Lines<R> {
    /// For a text in which there is one line at least.
    pub(super) fn new(text: R) -> Result<Self, TraceError> {
        let text = BufReader::new(text);
        let scdaemon = scdaemon::Log::default();
        let time = Duration::ZERO;
        let ready = VecDeque::new();
        let mut lines = Self { text, number: 0, time, urbs: 0, scdaemon, ready };
        match lines.look(MAX_PREAMBLE)? {
            Some(first) => lines.ready.push_front(first),
            None => return Err(TraceError::NotPcap),
        }
        Ok(lines)
    }

    pub(super) fn next(&mut self) -> Result<Option<Record>, TraceError> {
        match self.ready.pop_front() {
            Some(first) => Ok(Some(first)),
            None => self.look(u64::MAX),
        }
    }

    /// The next record, if it comes within so many bytes.
    fn look(&mut self, mut limit: u64) -> Result<Option<Record>, TraceError> {
        let mut line = Vec::new();
        while limit > 0 {
            line.clear();
            let read = (&mut self.text).take(MAX_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                let last = self.scdaemon.end();
                return Ok(last.map(|told| self.told(&told)));
            }
            limit = limit.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
            self.number += 1;
            let Ok(text) = std::str::from_utf8(&line) else { continue };
            match self.scdaemon.line(self.number, text) {
                Line::OfOthers => {}
                Line::Own(None) => continue,
                Line::Own(Some(told)) => return Ok(Some(self.told(&told))),
            }
            if let Some(data) = self.usbmon(text).or_else(|| self.logged(text)) {
                let found = record(self.number, data);
                return Ok(Some(match self.scdaemon.end() {
                    // It began before.
                    Some(told) => {
                        self.ready.push_back(found);
                        self.told(&told)
                    }
                    None => found,
                }));
            }
        }
        Ok(None)
    }

    /// A message of scdaemon's log, which is of one reader.
    fn told(&mut self, told: &scdaemon::Told) -> Record {
        record(told.line, self.message(1, told.out, told.time, &told.bytes))
    }

    /// A message without a USB packet around it.
    fn message(&mut self, address: u8, out: bool, time: Duration, data: &[u8]) -> Vec<u8> {
        self.urbs += 1;
        usbmon_packet(&Outgoing {
            urb: self.urbs,
            bus: 0,
            address,
            endpoint: if out { BULK_OUT } else { BULK_IN },
            transfer: TransferType::Bulk,
            time,
            end: (!out).then_some(Ok(())),
            setup: None,
            length: data.len(),
            data,
            comment: None,
        })
    }

    /// A line of pcscd's log with a message.
    fn logged(&mut self, text: &str) -> Option<Vec<u8>> {
        let digits =
            |word: &&str| word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_digit());
        let micros = text.split_ascii_whitespace().take(8).find(digits);
        let micros = micros.and_then(|word| word.parse().ok()).unwrap_or_default();
        self.time = self.time.saturating_add(Duration::from_micros(micros));
        let (out, message) = match (text.split_once("-> "), text.split_once("<- ")) {
            (Some((_, message)), None) => (true, message),
            (None, Some((_, message))) => (false, message),
            _ => return None,
        };
        let mut words = message.split_ascii_whitespace();
        let lun = words.next().filter(|word| word.len() == 6)?;
        let lun = u32::from_str_radix(lun, 16).ok()?;
        let byte = |word: &str| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?;
        // Behind the bytes there may be a terminal's colours.
        let data: Vec<u8> = words.map_while(byte).collect();
        if data.is_empty() {
            return None;
        }
        // One reader, one device.
        let address = u8::try_from(lun >> 16).unwrap_or(u8::MAX).saturating_add(1);
        Some(self.message(address, out, self.time, &data))
    }

    /// A line of usbmon's.
    fn usbmon(&self, text: &str) -> Option<Vec<u8>> {
        let mut words = text.split_ascii_whitespace();
        let urb = u64::from_str_radix(words.next()?, 16).ok()?;
        let time = Duration::from_micros(words.next()?.parse().ok()?);
        let stage = match words.next()? {
            "S" => Stage::Submit,
            "C" => Stage::Complete,
            "E" => Stage::Error,
            _ => return None,
        };
        let (transfer, bus, address, endpoint) = pipe(words.next()?)?;
        let mut word = words.next()?;
        let mut setup = None;
        let mut status = 0;
        if word == "s" {
            let mut field = |radix| u16::from_str_radix(words.next()?, radix).ok();
            setup = Some(SetupPacket {
                request_type: u8::try_from(field(16)?).ok()?,
                request: u8::try_from(field(16)?).ok()?,
                value: field(16)?,
                index: field(16)?,
                length: field(16)?,
            });
        } else {
            // Of an interrupt transfer, its interval follows.
            status = word.split(':').next()?.parse().ok()?;
        }
        word = words.next()?;
        let length = word.parse().ok()?;
        let data = match words.next() {
            Some("=") => words.flat_map(bytes).collect(),
            _ => Vec::new(),
        };
        let end = match (stage, status) {
            (Stage::Submit, _) => None,
            (_, 0) => Some(Ok(())),
            (_, status) => Some(Err(super::usbmon::error_of(status))),
        };
        let comment = None;
        let data = &data;
        Some(usbmon_packet(&Outgoing {
            urb,
            bus,
            address,
            endpoint,
            transfer,
            time,
            end,
            setup,
            length,
            data,
            comment,
        }))
    }
}

fn record(number: u64, data: Vec<u8>) -> Record {
    let format = Format { order: Order::Little, link_type: 220 };
    Record { number, format, time: None, data }
}

/// Kind and direction, bus, device, endpoint: `Bo:1:005:2`; in older kernels without the bus.
fn pipe(word: &str) -> Option<(TransferType, u16, u8, u8)> {
    let (kind, place) = word.split_once(':')?;
    let mut numbers = place.split(':').collect::<Vec<_>>().into_iter().rev();
    let endpoint: u8 = numbers.next()?.parse().ok()?;
    let address = numbers.next()?.parse().ok()?;
    let bus = numbers.next().map_or(Some(0), |bus| bus.parse().ok())?;
    let mut kind = kind.chars();
    let transfer = match kind.next()? {
        'C' => TransferType::Control,
        'B' => TransferType::Bulk,
        'I' => TransferType::Interrupt,
        'Z' => TransferType::Isochronous,
        _ => return None,
    };
    let direction = match kind.next()? {
        'i' => 0x80,
        'o' => 0,
        _ => return None,
    };
    Some((transfer, bus, address, (endpoint & 0x0F) | direction))
}

/// The bytes of a word of hexadecimal.
fn bytes(word: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        word.chars().map_while(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits
        .chunks_exact(2)
        .filter_map(|pair| match *pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{DeviceKey, Events, What};
    use super::*;
    use bytes::Bytes;

    fn read(text: &str) -> Vec<super::super::Recorded> {
        Events::new(text.as_bytes()).unwrap().map(Result::unwrap).collect()
    }

    const STATUS: [u8; 10] = [0x65, 0, 0, 0, 0, 0, 7, 0, 0, 0];
    const ANSWER: [u8; 10] = [0x81, 0, 0, 0, 0, 0, 7, 1, 0, 0];

    #[test]
    fn a_log_of_pcscd() {
        let events = read(
            "00000010 ifdhandler.c:1303:IFDHTransmitToICC() usb:1209/5ca0 (lun: 10000)\n\
             00000089 [1946149872] -> 010000 65 00 00 00 00 00 07 00 00 00 \n\
             00000500 [1946149872] something else -> here\n\
             Nov 22 17:00:00 host pcscd[7]: 00002000 <- 010000 81 00 00 00 00 00 07 01 00 00\u{1b}[0m\n",
        );
        let device = DeviceKey { bus: 0, address: 2 };
        assert!(events.iter().all(|event| event.device == device));
        assert_eq!(events[0].event.what, What::Out(Bytes::from_static(&STATUS)));
        assert_eq!(events[1].event.packet, 4);
        assert_eq!(events[1].event.time, Duration::from_micros(2500));
    }

    #[test]
    fn a_log_of_scdaemons() {
        let events = read(
            "17:00:01 scdaemon[7] DBG: ccid-driver: PC_to_RDR_GetSlotStatus:\n\
             17:00:01 scdaemon[7] DBG: ccid-driver:   dwLength ..........: 0\n\
             17:00:01 scdaemon[7] DBG: ccid-driver:   bSlot .............: 0\n\
             17:00:01 scdaemon[7] DBG: ccid-driver:   bSeq ..............: 7\n\
             17:00:01 scdaemon[7] DBG: ccid-driver:   [0007]  00 00 00\n\
             17:00:03 scdaemon[7] DBG: ccid-driver: RDR_to_PC_SlotStatus:\n\
             17:00:03 scdaemon[7] DBG: ccid-driver:   dwLength ..........: 0\n\
             17:00:03 scdaemon[7] DBG: ccid-driver:   bSlot .............: 0\n\
             17:00:03 scdaemon[7] DBG: ccid-driver:   bSeq ..............: 7\n\
             17:00:03 scdaemon[7] DBG: ccid-driver:   bStatus ...........: 1\n\
             17:00:03 scdaemon[7] DBG: ccid-driver:   bClockStatus ......: 0x00 (running)\n",
        );
        assert_eq!(events[0].event.what, What::Out(Bytes::from_static(&STATUS)));
        assert_eq!(events[1].event.what, What::In(Bytes::from_static(&ANSWER)));
        assert_eq!((events[1].event.packet, events[1].event.time), (6, Duration::from_secs(2)));
    }

    /// Whatever stands among its lines, numbers go up.
    #[test]
    fn a_log_of_scdaemons_with_others_in_it() {
        let events = read(
            "DBG: ccid-driver: PC_to_RDR_Abort:\n\
             00000089 -> 000000 65 00 00 00 00 00 07 00 00 00\n\
             ffff8b 400 C Ii:1:005:4 0:8 2 = 50 DBG: ccid-driver: PC_to_RDR_Abort:\n\
             ffff8b 400 C Ii:1:005:4 0:8 2 = 5003\n",
        );
        let packets: Vec<_> = events.iter().map(|event| event.event.packet).collect();
        assert_eq!(packets, [1, 2, 3, 4]);
    }

    #[test]
    fn usbmons_own_text() {
        let events = read(
            "ffff88 100 S Bo:1:005:2 -115 10 = 65000000 00000700 0000\n\
             ffff88 150 C Bo:1:005:2 0 10 >\n\
             ffff89 160 S Bi:1:005:3 -115 64 <\n\
             ffff89 200 C Bi:1:005:3 0 10 = 81000000 00000701 0000\n\
             ffff8a 300 S Co:1:005:0 s 21 01 0700 0000 0000 0\n\
             ffff8a 310 C Co:1:005:0 -32 0\n\
             ffff8b 400 C Ii:1:005:4 0:8 2 = 5003\n\
             ffff8c 500 S Bo:1:005:2 -115 64 = 6f360000 00000800 0000\n",
        );
        let what: Vec<_> = events.iter().map(|event| &event.event.what).collect();
        assert_eq!(*what[0], What::Out(Bytes::from_static(&STATUS)));
        assert_eq!(*what[1], What::In(Bytes::from_static(&ANSWER)));
        assert!(
            matches!(what[2], What::Control { setup, result: Err(_), .. } if setup.value == 0x700)
        );
        assert_eq!(*what[3], What::Interrupt(Bytes::from_static(&[0x50, 3])));
        assert!(events[4].cut, "it keeps 32 bytes at most");
        assert_eq!(events[1].event.time, Duration::from_micros(100));
        assert_eq!((events[0].endpoint, events[1].endpoint), (0x02, 0x83));
    }

    #[test]
    fn other_text_is_no_trace() {
        for text in ["", "one", "some lines\nof text\n-> here\n", "ffff 1 S Xx:1:2:3 0 0\n"] {
            assert!(matches!(Events::new(text.as_bytes()), Err(TraceError::NotPcap)), "{text}");
        }
    }
}
