//! A udev rule by which the class is the list of readers: one that the bundle does not name is named
//! in it when it is plugged in, and where pcscd does not run as root but has a group of its own, it
//! may open every one.

use log::warn;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where rules of the machine's administrator are.
pub(super) const FOLDER: &str = "/etc/udev/rules.d";

const FILE: &str = "92-scard.rules";

/// pcscd's group, where it has one.
const GROUP: &str = "pcscd";

/// The class of smart-card readers is 0Bh; subclass and protocol do not matter. The kernel tells the
/// class of an interface in decimal.
const INTERFACE: &str =
    "SUBSYSTEM==\"usb\", ENV{DEVTYPE}==\"usb_interface\", ENV{INTERFACE}==\"11/*\"";
const DEVICE: &str = "SUBSYSTEM==\"usb\", ENV{DEVTYPE}==\"usb_device\", \
  ENV{ID_USB_INTERFACES}==\"*:0b????:*\"";

/// Writes the rule: where. `words` are the command by which readers are named.
pub(super) fn install(folder: &Path, words: &[&str]) -> io::Result<PathBuf> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let path = folder.join(FILE);
    fs::write(&path, rule(words, has_group(&groups))?)?;
    reload(folder);
    Ok(path)
}

/// udev looks for new rules every three seconds by itself; the reader may be plugged in before.
fn reload(folder: &Path) {
    if folder == Path::new(FOLDER) && Path::new("/run/udev/control").exists() {
        if let Err(error) = Command::new("udevadm").args(["control", "--reload"]).status() {
            warn!("udevadm: {error}");
        }
    }
}

fn rule(words: &[&str], has_group: bool) -> io::Result<String> {
    let words: io::Result<Vec<_>> = words.iter().map(|word| quoted(word)).collect();
    let mut rule = format!(
        "# Written by `scard install bundle`; `scard uninstall bundle` removes it.\n\
         # Smart-card readers, by the class of an interface: pcscd's driver takes them, whoever made them.\n\
         ACTION==\"add\", {INTERFACE}, \\\n  RUN+=\"{}\"\n",
        words?.join(" ")
    );
    if has_group {
        rule += &format!("ACTION!=\"remove\", {DEVICE}, \\\n  GROUP=\"{GROUP}\", MODE=\"0660\"\n");
    }
    Ok(rule)
}

/// A word of a command as udev reads it: it takes `'` for quotes, and `%` and `$` for its own.
fn quoted(word: &str) -> io::Result<String> {
    if word.contains(|c: char| c.is_control() || "\"'\\".contains(c)) {
        let text = format!("{word:?} cannot be in a udev rule");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(format!("'{}'", word.replace('%', "%%").replace('$', "$$")))
}

/// Removes the rule, if it is there: from where.
pub(super) fn remove(folder: &Path) -> io::Result<Option<PathBuf>> {
    let path = folder.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => {
            reload(folder);
            Ok(Some(path))
        }
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
        assert!(rule(&["/x"], true).unwrap().contains("GROUP=\"pcscd\""));
        assert!(!rule(&["/x"], false).unwrap().contains("GROUP"));
        let none = std::env::temp_dir().join("scard-no-such-folder");
        assert_eq!(remove(&none).unwrap(), None);
    }

    #[test]
    fn a_command_is_quoted() {
        let text = rule(&["/a b/100%/$x", "install"], false).unwrap();
        assert!(text.ends_with("  RUN+=\"'/a b/100%%/$$x' 'install'\"\n"), "{text}");
        for wrong in ["/it's", "/a\"b", "/a\nb"] {
            assert!(rule(&[wrong], false).is_err(), "{wrong}");
        }
    }
}
