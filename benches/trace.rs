//! How fast traces are read, piece by piece: the recorded session of a fixture over and over, as one
//! file in memory.

#![allow(clippy::unwrap_used, missing_docs)]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ifd::trace::Events;
use std::path::Path;

/// A section of pcapng may follow another.
const TIMES: usize = 1000;

fn main() {
    divan::main();
}

#[divan::bench]
fn pcapng(bencher: Bencher<'_, '_>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sim-apdu.pcapng");
    let file = std::fs::read(path).unwrap().repeat(TIMES);
    let events = Events::new(&file[..]).unwrap().count();
    assert!(events > 10 * TIMES);
    bencher
        .counter(BytesCount::new(file.len()))
        .counter(ItemsCount::new(events))
        .bench(|| Events::new(divan::black_box(&file[..])).unwrap().count());
}
