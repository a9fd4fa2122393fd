//! The C functions as a C program calls them, in safe clothes: one slot by its Lun.

#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

use ifdscard::exports::*;
use std::ffi::{CString, c_int};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

pub const SUCCESS: ResponseCode = 0;
pub const TAG: ResponseCode = 600;
pub const NOT_SUPPORTED: ResponseCode = 606;
pub const PROTOCOL_NOT_SUPPORTED: ResponseCode = 607;
pub const POWER_ACTION: ResponseCode = 608;
pub const COMMUNICATION: ResponseCode = 612;
pub const RESPONSE_TIMEOUT: ResponseCode = 613;
pub const NO_CARD: ResponseCode = 616;
pub const NO_SUCH_DEVICE: ResponseCode = 617;
pub const INSUFFICIENT_BUFFER: ResponseCode = 618;

pub const UP: Dword = 500;
pub const DOWN: Dword = 501;
pub const RESET: Dword = 502;

pub const ESC_CANCEL: Dword = 0x0007_A003;

/// A Lun; the numbers are valid or not.
#[derive(Clone, Copy, Debug)]
pub struct Slot(pub Dword);

/// The first slot of a reader whose number no other test has.
pub fn fresh() -> Slot {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Slot(NEXT.fetch_add(1, Ordering::Relaxed) << 16)
}

/// That slot of `name`, open.
#[track_caller]
pub fn open(name: &str) -> Slot {
    let slot = fresh();
    assert_eq!(slot.open(name), SUCCESS, "{name}");
    slot
}

impl Slot {
    pub fn open(self, name: &str) -> ResponseCode {
        let name = CString::new(name).unwrap();
        // SAFETY: a C string.
        unsafe { IFDHCreateChannelByName(self.0, name.as_ptr()) }
    }

    pub fn close(self) -> ResponseCode {
        // SAFETY: none needed.
        unsafe { IFDHCloseChannel(self.0) }
    }

    pub fn presence(self) -> ResponseCode {
        // SAFETY: none needed.
        unsafe { IFDHICCPresence(self.0) }
    }

    pub fn power(self, action: Dword) -> (ResponseCode, Vec<u8>) {
        let mut atr = [0; 33];
        let mut length = 33;
        // SAFETY: there is room for 33 bytes.
        let code = unsafe { IFDHPowerICC(self.0, action, atr.as_mut_ptr(), &raw mut length) };
        (code, atr[..length as usize].to_vec())
    }

    pub fn protocol(self, protocol: Dword) -> ResponseCode {
        // SAFETY: none needed.
        unsafe { IFDHSetProtocolParameters(self.0, protocol, 0, 0, 0, 0) }
    }

    pub fn transmit(self, command: &[u8], room: usize) -> (ResponseCode, Vec<u8>) {
        let mut response = vec![0; room];
        let mut length = room as Dword;
        let pci = ScardIoHeader { protocol: 1, length: 16 };
        let mut received = pci;
        // SAFETY: the lengths are those of the buffers.
        let code = unsafe {
            IFDHTransmitToICC(
                self.0,
                pci,
                command.as_ptr(),
                command.len() as Dword,
                response.as_mut_ptr(),
                &raw mut length,
                &raw mut received,
            )
        };
        response.truncate(length as usize);
        (code, response)
    }

    pub fn control(self, code: Dword, data: &[u8], room: usize) -> (ResponseCode, Vec<u8>) {
        let mut answer = vec![0; room];
        let mut length = 0xDEAD;
        // SAFETY: the lengths are those of the buffers.
        let result = unsafe {
            IFDHControl(
                self.0,
                code,
                data.as_ptr(),
                data.len() as Dword,
                answer.as_mut_ptr(),
                room as Dword,
                &raw mut length,
            )
        };
        answer.truncate(length as usize);
        (result, answer)
    }

    pub fn tag(self, tag: Dword, room: usize) -> (ResponseCode, Vec<u8>) {
        let mut value = vec![0; room];
        let mut length = room as Dword;
        // SAFETY: the length is that of the buffer.
        let code = unsafe { IFDHGetCapabilities(self.0, tag, &raw mut length, value.as_mut_ptr()) };
        value.truncate(length as usize);
        (code, value)
    }

    pub fn set(self, tag: Dword, value: &[u8]) -> ResponseCode {
        // SAFETY: the length is that of the value.
        unsafe { IFDHSetCapabilities(self.0, tag, value.len() as Dword, value.as_ptr()) }
    }

    /// The function that pcscd's thread waits in.
    pub fn poll(self, timeout: c_int) -> ResponseCode {
        let function = self.function(0x0FB3);
        // SAFETY: that is what the tag's value is.
        let poll: extern "C" fn(Dword, c_int) -> ResponseCode =
            unsafe { std::mem::transmute(function) };
        poll(self.0, timeout)
    }

    /// The function that ends that.
    pub fn stop(self) -> ResponseCode {
        let function = self.function(0x0FB2);
        // SAFETY: that is what the tag's value is.
        let stop: extern "C" fn(Dword) -> ResponseCode = unsafe { std::mem::transmute(function) };
        stop(self.0)
    }

    #[track_caller]
    fn function(self, tag: Dword) -> *const () {
        let (code, value) = self.tag(tag, 8);
        assert_eq!((code, value.len()), (SUCCESS, 8));
        usize::from_ne_bytes(value.try_into().unwrap()) as *const ()
    }
}

/// A simulated reader, and the hands of its user.
pub struct Handled {
    pub slot: Slot,
    hands: BufReader<UnixStream>,
}

impl Handled {
    #[track_caller]
    pub fn open(preset: &str) -> Self {
        let slot = fresh();
        let socket = format!("scard-driver-{}-{}", std::process::id(), slot.0);
        let socket: PathBuf = std::env::temp_dir().join(socket);
        assert_eq!(slot.open(&format!("sim:{preset}@{}", socket.display())), SUCCESS);
        Self { slot, hands: BufReader::new(UnixStream::connect(socket).unwrap()) }
    }

    #[track_caller]
    pub fn say(&mut self, line: &str) -> Vec<String> {
        writeln!(self.hands.get_mut(), "{line}").unwrap();
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            self.hands.read_line(&mut line).unwrap();
            match line.trim_end() {
                "ok" => return said,
                problem if problem.starts_with("error") || problem.is_empty() => {
                    panic!("{problem}")
                }
                other => said.push(other.to_owned()),
            }
        }
    }

    /// Waits until the reader has seen a message with `text` in it.
    #[track_caller]
    pub fn until_seen(&mut self, text: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.say("log").iter().any(|line| line.contains(text)) {
            assert!(std::time::Instant::now() < deadline, "never seen: {text}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
