//! The whole stack with cards that others wrote, which connect to the simulated reader from outside.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod opcard;
mod outside;
mod vicc;

use common::WATCHDOG;
use outside::Outside;
use scard::{Card, Context, Protocols, ReaderState, ShareMode, Stack, State};
use sim::Hands;
use sim::hands::Hardware;
use std::net::SocketAddr;

/// A reader for cards from outside, and a stack that drives it.
struct Bench {
    hands: Hands,
    inner: common::Bench<Box<dyn Hardware>>,
}

impl Bench {
    fn new() -> Self {
        let hands = Hands::of("vpcd:0").unwrap();
        let inner = common::Bench { port: hands.port(), stack: Stack::empty() };
        inner.attach();
        Self { hands, inner }
    }

    fn address(&self) -> SocketAddr {
        self.hands.address().unwrap()
    }

    fn context(&self) -> Context {
        self.inner.context()
    }

    /// Waits until there is, or is no, card.
    #[track_caller]
    fn until_present(&self, context: &Context, present: bool) {
        let mut states = [ReaderState::new(self.inner.reader(), State::UNAWARE)];
        while states[0].event_state().contains(State::PRESENT) != present
            || !states[0].event_state().intersects(State::PRESENT | State::EMPTY)
        {
            states[0].sync_current_state();
            context.get_status_change(WATCHDOG, &mut states).unwrap();
        }
    }

    /// Waits for the card that this program is, and connects.
    #[track_caller]
    fn connect(&self, context: &Context, outside: &mut Outside) -> Card {
        let mut states = [ReaderState::new(self.inner.reader(), State::UNAWARE)];
        while !states[0].event_state().contains(State::PRESENT) {
            outside.assert_runs();
            states[0].sync_current_state();
            // A second: in case it ends before it has connected.
            let _ = context.get_status_change(std::time::Duration::from_secs(1), &mut states);
        }
        context.connect(&self.inner.reader(), ShareMode::Shared, Protocols::ANY).unwrap()
    }

    /// The rules that our side has broken.
    fn violations(&self) -> Vec<String> {
        self.inner.port.with(|device| device.violations().iter().map(ToString::to_string).collect())
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Exchanges a command: data and SW.
#[track_caller]
fn exchange(card: &Card, command: &str) -> (Vec<u8>, u16) {
    let mut response = card.transmit_owned(&bytes(command), None).unwrap().to_vec();
    let sw = response.split_off(response.len() - 2);
    (response, u16::from_be_bytes([sw[0], sw[1]]))
}

/// Exchanges a command that succeeds: the data.
#[track_caller]
fn data(card: &Card, command: &str) -> Vec<u8> {
    let (data, sw) = exchange(card, command);
    assert_eq!(sw, 0x9000, "{command}: {sw:04X}");
    data
}
