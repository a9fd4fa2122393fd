//! IFDHControl: control codes, by [`ifd::features`].

use crate::code::Code;
use crate::registry::Channel;
use bytes::Bytes;
use ifd::features::{self, Control, ControlError, Kind, ReaderFacts};
use log::info;

/// Does what `code` with `data` asks for.
pub(crate) fn control(channel: &Channel, code: u32, data: &[u8]) -> Result<Bytes, Code> {
    let reader = channel.device.reader();
    let facts = ReaderFacts {
        class: &reader.info().class,
        vendor_id: reader.info().vendor_id,
        product_id: reader.info().product_id,
        behaviour: reader.behaviour(),
    };
    let settings = features::Settings { escape: channel.device.settings().escape };
    let control = features::control(code, data, &facts, settings).map_err(|error| {
        info!("control code {code:08X}h: {error}");
        match error {
            ControlError::Unsupported(_) | ControlError::EscapeNotAllowed => Code::NotSupported,
            _ => Code::Communication,
        }
    })?;
    match control {
        Control::Answer(answer) => Ok(answer),
        Control::Operation(operation, kind) => {
            if kind == Kind::Pin {
                channel.settle()?;
            }
            kind.answer(channel.call(operation, None)).map_err(|error| {
                info!("control code {code:08X}h: {error}");
                (&error).into()
            })
        }
    }
}
