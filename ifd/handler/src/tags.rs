//! IFDHGetCapabilities and IFDHSetCapabilities: what pcscd wants to know of the driver (its own
//! tags), and the reader's attributes, as SCardGetAttrib has them.

use crate::code::Code;
use crate::exports::{polling, stop_polling};
use crate::registry::Channel;
use log::{debug, info};

const ATR: u32 = 0x0303;
const SLOT_THREAD_SAFE: u32 = 0x0FAC;
const THREAD_SAFE: u32 = 0x0FAD;
const SLOTS_NUMBER: u32 = 0x0FAE;
const SIMULTANEOUS_ACCESS: u32 = 0x0FAF;
const POLLING_THREAD_KILLABLE: u32 = 0x0FB1;
const STOP_POLLING_THREAD: u32 = 0x0FB2;
const POLLING_THREAD_WITH_TIMEOUT: u32 = 0x0FB3;
const DEVICE_REMOVED: u32 = 0x0FB4;

const VENDOR_NAME: u32 = 0x0001_0100;
const VENDOR_IFD_VERSION: u32 = 0x0001_0102;
const VENDOR_IFD_SERIAL_NO: u32 = 0x0001_0103;
const CHANNEL_ID: u32 = 0x0002_0110;
const ICC_PRESENCE: u32 = 0x0009_0300;
const ICC_INTERFACE_STATUS: u32 = 0x0009_0301;
const ATR_STRING: u32 = 0x0009_0303;
const ESC_CANCEL: u32 = 0x0007_A003;
const MAXINPUT: u32 = 0x0007_A007;

/// Most readers of this driver at once: as many as the answer can say.
const MAX_READERS: u8 = 255;

/// The value of a tag. pcscd's own name of the reader is told by pcscd, if the driver has none.
pub(crate) fn get(channel: &Channel, tag: u32) -> Result<Vec<u8>, Code> {
    let reader = channel.device.reader();
    let info = reader.info();
    let text = |text: &Option<String>| match text {
        // Texts end with a NUL, as libccid's do.
        Some(text) => Ok([text.as_bytes(), &[0]].concat()),
        None => Err(Code::Tag),
    };
    let number = |number: u32| Ok(number.to_ne_bytes().to_vec());
    match tag {
        ATR | ATR_STRING => channel.slot.atr().map(|atr| atr.as_bytes().to_vec()).ok_or(Code::Tag),
        ICC_PRESENCE => presence(channel).map(|present| vec![if present { 2 } else { 0 }]),
        ICC_INTERFACE_STATUS => presence(channel).map(|present| vec![u8::from(present)]),
        // Calls for different readers, and for different slots of one, may come at once: what a
        // reader cannot do at once waits in the driver.
        THREAD_SAFE | SLOT_THREAD_SAFE => Ok(vec![1]),
        SIMULTANEOUS_ACCESS => Ok(vec![MAX_READERS]),
        SLOTS_NUMBER => Ok(vec![u8::try_from(info.class.slots()).unwrap_or(u8::MAX)]),
        POLLING_THREAD_WITH_TIMEOUT => Ok((polling as *const () as usize).to_ne_bytes().to_vec()),
        STOP_POLLING_THREAD => Ok((stop_polling as *const () as usize).to_ne_bytes().to_vec()),
        // It holds locks. pcscd asks when it is about to stop it for good.
        POLLING_THREAD_KILLABLE => {
            channel.slot.prepare_end();
            Ok(vec![0])
        }
        DEVICE_REMOVED => Ok(vec![1]),
        VENDOR_NAME => text(&info.manufacturer),
        VENDOR_IFD_SERIAL_NO => text(&info.serial_number),
        VENDOR_IFD_VERSION => number(u32::from(info.bcd_device) << 16),
        CHANNEL_ID => number(0x0020 << 16 | u32::from(info.bus) << 8 | u32::from(info.address)),
        MAXINPUT => number(u32::try_from(info.class.max_data()).unwrap_or(u32::MAX)),
        _ => Err(Code::Tag),
    }
}

fn presence(channel: &Channel) -> Result<bool, Code> {
    match channel.presence() {
        Code::Success => Ok(true),
        Code::NoCard => Ok(false),
        code => Err(code),
    }
}

/// Sets a tag. pcscd calls it while the slot is at work.
pub(crate) fn set(channel: &Channel, tag: u32) -> Code {
    match tag {
        ESC_CANCEL => {
            info!("{}: cancel", channel.device.name());
            channel.slot.cancel();
            Code::Success
        }
        DEVICE_REMOVED => {
            debug!("{}: unplugged, says pcscd", channel.device.name());
            Code::Success
        }
        _ => Code::Tag,
    }
}
