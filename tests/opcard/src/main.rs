//! The OpenPGP card of Nitrokey's firmware (opcard), in software, as a card in a simulated reader.
//!
//! `scard-opcard PORT [FOLDER]` connects to the port of a reader called `sim:vpcd:PORT` and is its
//! card until the reader hangs up. Keys and data are kept in memory, or in files in the folder: then
//! it is the same card the next time. The random numbers are the same each time: for tests only.

mod card;
mod dispatch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use trussed::virt::{self, StorageConfig, StoreConfig};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok());
    let (Some(port), folder, None) = (port, arguments.next(), arguments.next()) else {
        eprintln!("usage: scard-opcard PORT [FOLDER]");
        return ExitCode::from(2);
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connection = match vpicc::connect_socket(address) {
        Ok(connection) => connection,
        Err(error) => {
            eprintln!("scard-opcard: {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let store = folder.map_or_else(StoreConfig::ram, |folder| kept_in(folder.as_ref()));
    let end = virt::with_platform(store, |platform| {
        let dispatch = dispatch::Dispatch::default();
        platform.run_client_with_backends("opcard", dispatch, dispatch::BACKENDS, |client| {
            let options = opcard::Options::default();
            connection.run(&mut card::Card::new(opcard::Card::new(client, options)))
        })
    });
    // It has no other end than that the reader hangs up.
    if let Err(error) = end {
        eprintln!("scard-opcard: {error}");
    }
    ExitCode::SUCCESS
}

/// What a card keeps without power, in files.
fn kept_in(folder: &Path) -> StoreConfig<'static> {
    StoreConfig {
        internal: StorageConfig::filesystem(folder.join("internal")),
        external: StorageConfig::filesystem(folder.join("external")),
        volatile: StorageConfig::ram(),
    }
}
