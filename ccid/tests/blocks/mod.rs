//! An exchange of T=1 as a script: the block that goes out, the block that comes in.

#![allow(dead_code, unused_imports, reason = "no one test file needs all of it")]

use bytes::Bytes;
use ccid::ClassDescriptor;
use ccid::atr::T1Parameters;
use ccid::t1::{Block, Connection, Exchange, Failure, Pcb, Progress, Received, Supervisory};

pub(crate) const AUTO_IFSD: u32 = 0x0400;
pub(crate) const APDU: [u8; 5] = [0x00, 0xB0, 0x00, 0x00, 0x00];

pub(crate) fn class(max_ifsd: u32, features: u32, max_message: u32) -> ClassDescriptor {
    let mut bytes = [0u8; 54];
    bytes[..7].copy_from_slice(&[54, 0x21, 0x10, 0x01, 0, 7, 3]);
    bytes[28..32].copy_from_slice(&max_ifsd.to_le_bytes());
    bytes[40..44].copy_from_slice(&(features | 0x0001_0000).to_le_bytes());
    bytes[44..48].copy_from_slice(&max_message.to_le_bytes());
    ClassDescriptor::parse(&bytes).unwrap()
}

pub(crate) fn parameters(ifsc: u8, crc: bool) -> T1Parameters {
    T1Parameters { ifsc, bwi: 4, cwi: 13, crc }
}

/// IFSC 32, LRC, no negotiation.
pub(crate) fn plain() -> Connection {
    Connection::new(parameters(32, false), &class(254, AUTO_IFSD, 271))
}

pub(crate) fn i(ns: u8, more: bool) -> Pcb {
    Pcb::I { ns, more }
}

pub(crate) fn r(nr: u8, error: u8) -> Pcb {
    Pcb::R { nr, error }
}

pub(crate) use Pcb::{Request, Response};
pub(crate) use Supervisory::{Abort, Ifs, Resynch, Wtx};

pub(crate) struct Script {
    pub(crate) exchange: Exchange,
    pub(crate) progress: Progress,
}

impl Script {
    #[track_caller]
    pub(crate) fn new(connection: Connection, command: &[u8]) -> Self {
        let exchange = Exchange::new(connection, Bytes::copy_from_slice(command)).unwrap();
        Self { exchange, progress: Progress::Send }
    }

    /// The block that is to be sent.
    #[track_caller]
    pub(crate) fn out(&mut self, pcb: Pcb, information: &[u8]) -> &mut Self {
        assert_eq!(self.progress, Progress::Send);
        let connection = self.exchange.connection();
        let block = self.exchange.block();
        let sent = Block::parse(block, connection.check_code(), connection.nad()).unwrap();
        assert_eq!((sent.pcb, sent.information), (pcb, information));
        self
    }

    pub(crate) fn received(&mut self, received: Received<'_>) -> &mut Self {
        self.progress = self.exchange.received(received);
        self
    }

    /// A block of the card.
    pub(crate) fn card(&mut self, pcb: Pcb, information: &[u8]) -> &mut Self {
        let connection = self.exchange.connection();
        let block = Block { nad: connection.card_nad(), pcb, information };
        let bytes = block.emit(connection.check_code());
        self.received(Received::Block(&bytes))
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.received(Received::Block(bytes))
    }

    /// Nothing within the block waiting time.
    pub(crate) fn silence(&mut self) -> &mut Self {
        self.received(Received::Nothing)
    }

    #[track_caller]
    pub(crate) fn done(&mut self, response: &[u8]) -> Connection {
        assert_eq!(self.progress, Progress::Done(Ok(Bytes::copy_from_slice(response))));
        let connection = self.exchange.connection();
        assert!(connection.is_in_step());
        connection
    }

    #[track_caller]
    pub(crate) fn fails(&mut self, failure: Failure) -> Connection {
        assert_eq!(self.progress, Progress::Done(Err(failure)));
        self.exchange.connection()
    }
}
