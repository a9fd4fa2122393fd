//! Connects to the card in the first reader, selects the master file and echoes a command.
//!
//! `cargo run --example select [HEX...]`

#![allow(clippy::indexing_slicing)] // Within the length that the range was made from.

use scard::{Context, Disposition, Protocols, Scope, ShareMode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::establish(Scope::User)?;
    for unusable in context.stack().unusable_readers() {
        eprintln!("{}: {}; {}", unusable.name, unusable.reason, unusable.remedy());
    }
    let readers = context.list_readers_owned()?;
    let reader = readers.first().ok_or(scard::Error::NoReadersAvailable)?;
    println!("reader: {}", reader.to_string_lossy());
    let card = context.connect(reader, ShareMode::Shared, Protocols::ANY)?;
    println!("ATR: {:02X?}", card.status2_owned()?.atr());
    let mut commands: Vec<String> = std::env::args().skip(1).collect();
    if commands.is_empty() {
        commands.push("00A40000023F00".into());
    }
    for command in commands {
        let bytes = (0..command.len() / 2)
            .map(|n| u8::from_str_radix(&command[2 * n..2 * n + 2], 16))
            .collect::<Result<Vec<u8>, _>>()?;
        let response = card.transmit_owned(&bytes, None)?;
        println!("{command} -> {response:02X?}");
    }
    card.disconnect(Disposition::LeaveCard).map_err(|(_, error)| error)?;
    Ok(())
}
