//! Who has a device node open, by what /proc shows this user.

use super::Holder;
use std::fs;
use std::path::Path;

/// The other processes that have `node` open.
pub(super) fn holders(node: &Path) -> Vec<Holder> {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut holders: Vec<_> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != own && has_open(pid, node))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder { pid, name: name.trim().to_owned() }
        })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

fn has_open(pid: u32, node: &Path) -> bool {
    // Another user's process does not show its files: it is not among the holders then.
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn finds_the_process_that_has_a_file_open() {
        let path = std::env::temp_dir().join(format!("scard-holder-{}", std::process::id()));
        fs::write(&path, b"").unwrap();
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(fs::File::options().write(true).open(&path).unwrap())
            .spawn()
            .unwrap();
        // The child has it from its first instruction on.
        let found = holders(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(found.iter().any(|holder| holder.pid == child.id()), "{found:?}");
        assert!(holders(&path).is_empty());
    }
}
