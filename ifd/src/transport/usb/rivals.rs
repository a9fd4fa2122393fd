//! Who else opens a device node: any program does so before it finds that the interface is
//! claimed, this stack in another process, pcscd and scdaemon alike.

use crate::source::Rivals;
use log::debug;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::{Errno, read};
use std::path::Path;

/// Room for one event about a file, which has no name then.
const EVENT: usize = 64;

/// Notices that a device node is opened.
#[derive(Debug)]
pub(super) struct Opened(OwnedFd);

impl Opened {
    /// From now on. None where the system does not tell.
    pub(super) fn of(node: &Path) -> Option<Self> {
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .and_then(|fd| add_watch(&fd, node, WatchFlags::OPEN).map(|_| fd));
        match watch {
            Ok(fd) => Some(Self(fd)),
            Err(error) => {
                debug!("{}: {error}", node.display());
                None
            }
        }
    }
}

impl Rivals for Opened {
    fn any(&mut self) -> bool {
        // Whatever else there is to say is as good as that: it cannot be watched any more.
        read(&self.0, &mut [0; EVENT]) != Err(Errno::AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_opened_is_noticed_from_then_on() {
        let path = std::env::temp_dir().join(format!("scard-rivals-{}", std::process::id()));
        fs::write(&path, b"").unwrap();
        let mut opened = Opened::of(&path).unwrap();
        assert!(!opened.any());
        drop(fs::File::open(&path).unwrap());
        assert!(opened.any());
        assert!(!opened.any());
        fs::remove_file(&path).unwrap();
        assert!(Opened::of(&path).is_none());
    }
}
