//! The other end of the wire: a USB CCID reader and smart cards in software.
//!
//! A [`Device`] is anything that answers on the four pipes of a CCID interface; a [`Port`] is the
//! socket it is plugged into, shared by the one who drives it over the wire and the one who
//! handles the hardware: inserts cards, presses keys, pulls the plug.
//!
//! * [`reader`]: the CCID reader, conforming or not, with its log and the rules it checks.
//! * [`iccd`]: a card with a USB plug of its own.
//! * [`card`]: what goes into it.
//! * [`faulty`]: devices that are to be survived.
//! * [`presets`]: readers with cards, by name.
//! * [`hands`]: what a user does with them, by lines of text; [`control`] takes these from a socket.
//! * [`vpcd`]: cards that other programs are.

pub mod card;
#[cfg(unix)]
pub mod control;
pub mod device;
pub mod faulty;
pub mod hands;
pub mod iccd;
pub mod port;
pub mod presets;
pub mod reader;
#[cfg(target_os = "linux")]
pub mod vhci;
pub mod vpcd;

pub use card::{Card, FileCard, LineCard};
pub use device::{ControlReply, Descriptors, Device};
pub use faulty::Faulty;
pub use hands::Hands;
pub use iccd::Iccd;
pub use port::{Claim, Port};
pub use reader::{Reader, ReaderBuilder};
