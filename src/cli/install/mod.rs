//! `scard install` and `scard uninstall`.

pub(crate) mod library;
mod readers;
mod rules;

use crate::cli::args::BundleOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::out::Out;
use ifd::bundle::{EXECUTABLE, IDENTIFIER, Info, info_plist};
use log::{info, warn};
use serde_json::json;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bundle's folder in the folder of drivers.
const BUNDLE: &str = "scard.bundle";

/// Where it is made, and where the one before is kept until that is done. pcscd looks at what ends
/// in `.bundle` only.
const NEW: &str = ".scard.bundle.new";
const OLD: &str = ".scard.bundle.old";

const INFO: &str = "Contents/Info.plist";
const LIBRARY_FOLDER: &str = "Contents/Linux";

/// This program in the bundle, for the udev rule: what root runs lies where only root can write.
const PROGRAM: &str = "scard";

/// The folder of drivers of most distributions.
const USUAL_DRIVERS: &str = "/usr/lib/pcsc/drivers";

/// Settings that a user may have changed, and what they are at first.
const SETTINGS: [(&str, &str); 2] = [("ifdLogLevel", "0x0003"), ("ifdDriverOptions", "0x0000")];

/// `scard install bundle`
pub(crate) fn bundle(options: &BundleOptions, out: &mut Out) -> Outcome {
    let drivers = drivers(options)?;
    if options.plugged {
        return plugged(options, &drivers, out);
    }
    let library = library(options)?;
    let bundle = drivers.join(BUNDLE);
    let before = own(&bundle)?;
    let readers = readers::all(&drivers);
    let plist = info_plist(&readers, &settings(before.as_ref()));
    replace(&drivers, &library, &plist).map_err(|error| denied(&drivers, &error))?;
    let rule = match rules_folder(options) {
        Some(folder) => {
            let rule = rule(&folder, &bundle, options.drivers.as_deref());
            Some(rule.map_err(|error| denied(&folder, &error))?)
        }
        None => None,
    };
    if out.is_json() {
        return Ok(out.document(&json!({
            "bundle": bundle,
            "readers": readers.len(),
            "rule": rule,
        }))?);
    }
    writeln!(out, "{}: {} readers", bundle.display(), readers.len())?;
    if let Some(rule) = rule {
        writeln!(out, "{}: for readers that are plugged in later", rule.display())?;
    }
    restart(out)
}

/// The settings of a bundle: what they were, or are at first.
fn settings(before: Option<&Info>) -> [(&'static str, &str); 2] {
    SETTINGS.map(|(key, usual)| (key, before.and_then(|info| info.text(key)).unwrap_or(usual)))
}

fn rule(folder: &Path, bundle: &Path, drivers: Option<&Path>) -> io::Result<PathBuf> {
    let program = bundle.join(LIBRARY_FOLDER).join(PROGRAM);
    let (program, drivers) = (program.to_string_lossy(), drivers.map(Path::to_string_lossy));
    let mut words = vec![&*program, "install", "bundle", "--plugged"];
    if let Some(drivers) = &drivers {
        words.extend(["--drivers", drivers]);
    }
    rules::install(folder, &words)
}

/// `scard install bundle --plugged`
fn plugged(options: &BundleOptions, drivers: &Path, out: &mut Out) -> Outcome {
    let bundle = drivers.join(BUNDLE);
    let Some(before) = own(&bundle)? else {
        return Err(Failure::nothing(format!("{} is not there", bundle.display())));
    };
    let path = bundle.join(INFO);
    let named = before
        .readers()
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let added = readers::to_add(&named, readers::plugged_in()).map_err(|count| {
        Failure::failed(format!("{}: it names {count} readers already", path.display()))
            .hint("`scard install bundle` makes it anew")
    })?;
    if !added.is_empty() {
        let all = readers::merge(named.iter().chain(&added).cloned());
        rewrite(&path, &info_plist(&all, &settings(Some(&before))))
            .map_err(|error| denied(&path, &error))?;
    }
    if out.is_json() {
        let added: Vec<_> = added.iter().map(|reader| &reader.name).collect();
        out.document(&json!({ "bundle": bundle, "added": added }))?;
    } else {
        for reader in &added {
            writeln!(out, "{}: named in {}", reader.name, bundle.display())?;
        }
    }
    if !added.is_empty() && options.drivers.is_none() {
        restart_service();
    }
    Ok(())
}

/// Puts a file in the place of another, whole or not at all.
fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// Has systemd start pcscd anew, if it runs. Where there is no systemd, whoever starts pcscd sees to
/// it.
fn restart_service() {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let words = ["--no-block", "try-restart", "pcscd.service"];
    match Command::new("systemctl").args(words).status() {
        Ok(status) if status.success() => info!("pcscd is restarted"),
        Ok(status) => warn!("systemctl: {status}"),
        Err(error) => warn!("systemctl: {error}"),
    }
}

/// `scard uninstall bundle`
pub(crate) fn no_bundle(options: &BundleOptions, out: &mut Out) -> Outcome {
    let drivers = drivers(options)?;
    let bundle = drivers.join(BUNDLE);
    if own(&bundle)?.is_none() {
        return Err(Failure::nothing(format!("{} is not there", bundle.display())));
    }
    fs::remove_dir_all(&bundle).map_err(|error| denied(&bundle, &error))?;
    let rule = match rules_folder(options) {
        Some(folder) => rules::remove(&folder).map_err(|error| denied(&folder, &error))?,
        None => None,
    };
    if out.is_json() {
        return Ok(out.document(&json!({ "bundle": bundle, "rule": rule }))?);
    }
    for path in [Some(bundle), rule].into_iter().flatten() {
        writeln!(out, "{}: removed", path.display())?;
    }
    restart(out)
}

fn restart(out: &mut Out) -> Outcome {
    Ok(writeln!(out, "restart pcscd, which looks only then: systemctl restart pcscd")?)
}

fn denied(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(format!("{}: {error}", path.display()));
    match error.kind() {
        ErrorKind::PermissionDenied => failure.hint("run it as root"),
        _ => failure,
    }
}

/// The folder of drivers.
fn drivers(options: &BundleOptions) -> Result<PathBuf, Failure> {
    let drivers = options.drivers.clone().or_else(compiled_in);
    let drivers = drivers.unwrap_or_else(|| PathBuf::from(USUAL_DRIVERS));
    if drivers.is_dir() {
        return Ok(drivers);
    }
    Err(Failure::failed(format!("{} is no folder", drivers.display()))
        .hint("is pcscd installed? --drivers says where its drivers are"))
}

/// The folder that pcscd says it looks into.
fn compiled_in() -> Option<PathBuf> {
    let version = Command::new("pcscd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    let folder = text.split_whitespace().find_map(|word| word.strip_prefix("usbdropdir="))?;
    Some(PathBuf::from(folder))
}

/// Only with pcscd's own folder of drivers goes a rule for the machine.
fn rules_folder(options: &BundleOptions) -> Option<PathBuf> {
    match (&options.rules, &options.drivers) {
        (Some(folder), _) => Some(folder.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from(rules::FOLDER)),
    }
}

/// The driver.
fn library(options: &BundleOptions) -> Result<PathBuf, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(EXECUTABLE));
    let library = options.library.clone().or_else(beside).unwrap_or_default();
    let bytes = fs::read(&library).map_err(|error| {
        Failure::failed(format!("{}: {error}", library.display())).hint(
            "`cargo build --release -p scard-ifdhandler` makes it; --library says where it is",
        )
    })?;
    let function = b"IFDHCreateChannelByName";
    let is_driver =
        bytes.starts_with(b"\x7FELF") && bytes.windows(function.len()).any(|at| at == function);
    match is_driver {
        true => Ok(library),
        false => Err(Failure::failed(format!("{} is no driver for pcscd", library.display()))),
    }
}

/// The Info.plist of the bundle, if it is there. What is not ours is left alone.
fn own(bundle: &Path) -> Result<Option<Info>, Failure> {
    match fs::symlink_metadata(bundle) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(denied(bundle, &error)),
        Ok(_) => {}
    }
    let info = fs::read_to_string(bundle.join(INFO)).ok().and_then(|text| Info::parse(&text).ok());
    match info {
        Some(info) if info.text("CFBundleIdentifier") == Some(IDENTIFIER) => Ok(Some(info)),
        _ => {
            Err(Failure::failed(format!("{} is there, and not of this program", bundle.display()))
                .hint("remove it by hand, if nobody needs it"))
        }
    }
}

/// Makes the bundle, whole or not at all.
fn replace(drivers: &Path, library: &Path, plist: &str) -> io::Result<()> {
    let [new, old, bundle] = [NEW, OLD, BUNDLE].map(|name| drivers.join(name));
    for left_over in [&new, &old] {
        match fs::remove_dir_all(left_over) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let made = fs::create_dir_all(new.join(LIBRARY_FOLDER))
        .and_then(|()| fs::copy(library, new.join(LIBRARY_FOLDER).join(EXECUTABLE)))
        .and_then(|_| fs::copy(std::env::current_exe()?, new.join(LIBRARY_FOLDER).join(PROGRAM)))
        .and_then(|_| {
            // Whoever could write to what it was copied from is not to write to what root runs.
            let files = [EXECUTABLE, PROGRAM].map(|name| new.join(LIBRARY_FOLDER).join(name));
            files
                .iter()
                .try_for_each(|file| fs::set_permissions(file, Permissions::from_mode(0o755)))
        })
        .and_then(|()| fs::write(new.join(INFO), plist));
    let moved = made.and_then(|()| {
        let had_one = bundle.exists();
        if had_one {
            fs::rename(&bundle, &old)?;
        }
        fs::rename(&new, &bundle).inspect_err(|_| {
            if had_one {
                let _ = fs::rename(&old, &bundle);
            }
        })
    });
    // It may be as it was; what was begun is not to stay.
    let _ = fs::remove_dir_all(&new);
    moved?;
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
