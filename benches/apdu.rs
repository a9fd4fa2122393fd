//! An APDU through the whole stack on the simulated reader, against the bare transport: what
//! context, driver, I/O thread and protocol cost.
//!
//! `cargo bench`

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic)]

use bytes::Bytes;
use ccid::Instant;
use ccid::wire::{Command, LevelParameter, Seq, Slot};
use divan::Bencher;
use ifd::transport::sim::SimTransport;
use ifd::transport::{Pipe, Transport};
use scard::{Context, Protocols, ShareMode, Stack};
use sim::{Port, Reader, presets};
use std::task::{Context as TaskContext, Poll, Waker};

/// Bytes of the echoed data: 5-byte and 255-byte exchanges.
const LENGTHS: [u8; 2] = [5, 255];

fn main() {
    divan::main();
}

fn reader() -> Reader {
    let preset = presets::all().iter().find(|preset| preset.name == "default");
    preset.unwrap_or_else(|| unreachable!("the default reader")).builder().build()
}

fn echo(length: u8) -> Vec<u8> {
    let mut command = vec![0x00, 0x10, 0x00, 0x00, length];
    command.extend(0..length);
    command
}

/// Context layer, I/O thread, protocol, transport, device.
#[divan::bench(args = LENGTHS)]
fn whole_stack(bencher: Bencher<'_, '_>, length: u8) {
    let stack = Stack::empty();
    let transport = SimTransport::new(Port::new(reader())).unwrap_or_else(|e| panic!("{e}"));
    stack.attach(transport).unwrap_or_else(|e| panic!("{e}"));
    let context = Context::on(&stack).unwrap_or_else(|e| panic!("{e}"));
    let names = context.list_readers_owned().unwrap_or_default();
    let card = context
        .connect(&names[0], ShareMode::Shared, Protocols::ANY)
        .unwrap_or_else(|e| panic!("{e}"));
    let command = echo(length);
    bencher.bench_local(|| card.transmit_owned(&command, None));
}

/// The transport and the device alone, messages made by hand, on one thread.
#[divan::bench(args = LENGTHS)]
fn bare_transport(bencher: Bencher<'_, '_>, length: u8) {
    let transport = SimTransport::new(Port::new(reader()));
    let mut wire = Wire { transport: transport.unwrap_or_else(|e| panic!("{e}")), seq: Seq(0) };
    let power_select = ccid::wire::PowerSelect::Automatic;
    wire.exchange(Command::IccPowerOn { power_select });
    let command = echo(length);
    let level_parameter = LevelParameter::WHOLE;
    bencher.bench_local(|| {
        wire.exchange(Command::XfrBlock { bwi: 0, level_parameter, data: &command })
    });
}

struct Wire {
    transport: SimTransport<Reader>,
    seq: Seq,
}

impl Wire {
    fn exchange(&mut self, command: Command<'_>) -> Bytes {
        let mut cx = TaskContext::from_waker(Waker::noop());
        self.transport.submit_in(Pipe::BulkIn, 65_600);
        self.seq = self.seq.next();
        self.transport.submit_out(command.emit(Slot(0), self.seq));
        let mut now = 0;
        loop {
            // The device's own time passes as fast as it is asked for.
            now += 1;
            match self.transport.poll(&mut cx, Instant::from_millis(now)) {
                Poll::Ready(done) if done.pipe == Pipe::BulkIn => {
                    return done.result.unwrap_or_else(|e| panic!("{e}"));
                }
                Poll::Ready(_) | Poll::Pending => {}
            }
        }
    }
}
