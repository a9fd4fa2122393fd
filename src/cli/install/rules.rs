//! A udev rule by which pcscd may open every reader of the class, whoever made it, where pcscd does
//! not run as root but has a group of its own.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where rules of the machine's administrator are.
pub(super) const FOLDER: &str = "/etc/udev/rules.d";

const FILE: &str = "92-scard.rules";

/// pcscd's group, where it has one.
const GROUP: &str = "pcscd";

/// The class of smart-card readers is 0Bh; subclass and protocol do not matter.
const RULE: &str = "\
# Written by `scard install bundle`; `scard uninstall bundle` removes it.
# Smart-card readers, by the class of an interface: pcscd may open them.
ACTION!=\"remove\", SUBSYSTEM==\"usb\", ENV{DEVTYPE}==\"usb_device\", \\
  ENV{ID_USB_INTERFACES}==\"*:0b????:*\", GROUP=\"pcscd\", MODE=\"0660\"
";

/// Writes the rule, if there is someone to write it for: where.
pub(super) fn install(folder: &Path) -> io::Result<Option<PathBuf>> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    if !has_group(&groups) {
        return Ok(None);
    }
    let path = folder.join(FILE);
    fs::write(&path, RULE)?;
    Ok(Some(path))
}

/// Removes the rule, if it is there: from where.
pub(super) fn remove(folder: &Path) -> io::Result<Option<PathBuf>> {
    let path = folder.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_group(groups: &str) -> bool {
    groups.lines().any(|line| line.split(':').next() == Some(GROUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_for_pcscds_group() {
        assert!(has_group("root:x:0:\npcscd:x:104:\n"));
        assert!(!has_group("root:x:0:\npcscd-users:x:104:pcscd\n"));
        assert!(RULE.contains(&format!("GROUP=\"{GROUP}\"")));
        let none = std::env::temp_dir().join("scard-no-such-folder");
        assert_eq!(remove(&none).unwrap(), None);
    }
}
