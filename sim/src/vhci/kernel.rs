//! vhci-hcd's files in sysfs.

use super::Speed;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The folder of the first controller; its `attach` serves the ports of all.
const CONTROLLER: &str = "/sys/devices/platform/vhci_hcd.0";

/// `sta` of a port that nothing is attached to (VDEV_ST_NULL).
const FREE: u32 = 4;

/// vhci-hcd's ports.
pub(super) struct Kernel {
    controller: PathBuf,
    speed: Speed,
}

impl Kernel {
    pub(super) fn new(speed: Speed) -> Self {
        Self { controller: CONTROLLER.into(), speed }
    }

    /// Attaches a device to a free port. The end of the socket pair that is given back speaks
    /// USB/IP for it; with that, the device goes.
    pub(super) fn connect(&self) -> io::Result<(UnixStream, u32)> {
        let ports = self.free_ports()?;
        let (ours, theirs) = UnixStream::pair()?;
        for port in ports {
            // Bus 1, device number port + 1: only the kernel's own messages show it.
            let devid = 1 << 16 | (port + 1);
            let line = format!("{port} {} {devid} {}", theirs.as_raw_fd(), self.speed as u8);
            match self.write_attach(&line) {
                Ok(()) => return Ok((ours, port)),
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "all ports of vhci-hcd are in use"))
    }

    fn free_ports(&self) -> io::Result<Vec<u32>> {
        let mut ports = Vec::new();
        for controller in 0.. {
            let file = match controller {
                0 => self.controller.join("status"),
                n => self.controller.join(format!("status.{n}")),
            };
            match fs::read_to_string(&file) {
                Ok(status) => ports.extend(free_ports(&status)),
                Err(error) if error.kind() == ErrorKind::NotFound && controller > 0 => break,
                Err(error) => return Err(explained(error, &file.display().to_string())),
            }
        }
        Ok(ports)
    }

    fn write_attach(&self, line: &str) -> io::Result<()> {
        let file = self.controller.join("attach");
        OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|mut attach| attach.write_all(line.as_bytes()))
            .map_err(|error| explained(error, &file.display().to_string()))
    }
}

/// The free ports of the high-speed hubs, which take full-speed devices, too, in a `status` file.
/// Its columns: hub, port, sta, and five that do not matter here.
fn free_ports(status: &str) -> impl Iterator<Item = u32> + '_ {
    status.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (hub, port, state) = (columns.next()?, columns.next()?, columns.next()?);
        (hub == "hs" && state.parse() == Ok(FREE)).then(|| port.parse().ok())?
    })
}

/// `error` at `file`, with what to do about it.
fn explained(error: io::Error, file: &str) -> io::Error {
    let advice = match error.kind() {
        ErrorKind::NotFound => "vhci-hcd is not loaded: modprobe vhci-hcd",
        ErrorKind::PermissionDenied => "attaching devices to vhci-hcd needs root",
        _ => "vhci-hcd refused the device",
    };
    io::Error::new(error.kind(), format!("{advice} ({file}: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout as Linux 6.1 writes it, a device on port 1.
    const STATUS: &str = "\
hub port sta spd dev      sockfd local_busid
hs  0000 004 000 00000000 000000 0-0
hs  0001 006 002 00010002 000003 5-2
hs  0002 004 000 00000000 000000 0-0
hs  0010 004 000 00000000 000000 0-0
ss  0011 004 000 00000000 000000 0-0
";

    #[test]
    fn free_high_speed_ports() {
        assert_eq!(free_ports(STATUS).collect::<Vec<_>>(), [0, 2, 10]);
        assert_eq!(free_ports("").count(), 0);
        assert_eq!(free_ports("hs\nhs x 004\nhs 0001 00x\n").count(), 0);
    }

    #[test]
    fn a_missing_module_is_named() {
        let kernel = Kernel { controller: "/nonexistent".into(), speed: Speed::Full };
        let error = kernel.connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("modprobe vhci-hcd"), "{error}");
        let denied = explained(ErrorKind::PermissionDenied.into(), "attach");
        assert!(denied.to_string().contains("needs root"), "{denied}");
    }
}
