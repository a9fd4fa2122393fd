//! The library in libpcsclite's place: in a folder of its own, so that a program uses it that is told to, and no other.

use super::denied;
use crate::cli::args::LibraryOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::out::Out;
use serde_json::json;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What programs look for.
const NAME: &str = "libpcsclite.so.1";
/// Where it is made.
const NEW: &str = ".libpcsclite.so.1.new";
/// What cargo calls it.
const BUILT: &str = "libscard_pcsclite.so";
/// A folder that no program looks into unless told to.
const USUAL_FOLDER: &str = "/usr/local/lib/scard";
/// Every program looks into these, and into those that are named after the machine in them.
const EVERYBODYS: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// `scard install library`
pub(crate) fn install(options: &LibraryOptions, out: &mut Out) -> Outcome {
    let library = built(options)?;
    let folder = folder(options);
    fs::create_dir_all(&folder).map_err(|error| denied(&folder, &error))?;
    let folder = folder.canonicalize().map_err(|error| denied(&folder, &error))?;
    not_everybodys(&folder)?;
    let target = folder.join(NAME);
    is_ours_or_none(&target)?;
    let new = folder.join(NEW);
    let made = fs::copy(&library, &new).and_then(|_| fs::rename(&new, &target));
    made.map_err(|error| denied(&target, &error))?;
    if out.is_json() {
        return Ok(out.document(&json!({ "library": target }))?);
    }
    writeln!(out, "{}", target.display())?;
    Ok(explain(&folder, &target, out)?)
}

/// `scard uninstall library`
pub(crate) fn uninstall(options: &LibraryOptions, out: &mut Out) -> Outcome {
    let folder = folder(options);
    let target = folder.join(NAME);
    if !is_ours_or_none(&target)? {
        return Err(Failure::nothing(format!("{} is not there", target.display())));
    }
    fs::remove_file(&target).map_err(|error| denied(&target, &error))?;
    // It may hold something else.
    let _ = fs::remove_dir(&folder);
    if out.is_json() {
        return Ok(out.document(&json!({ "library": target }))?);
    }
    Ok(writeln!(out, "{}: removed", target.display())?)
}

fn explain(folder: &Path, target: &Path, out: &mut Out) -> io::Result<()> {
    let (folder, target) = (folder.display(), target.display());
    writeln!(out, "a program uses it instead of pcscd when started so:")?;
    writeln!(out, "    LD_LIBRARY_PATH={folder} PROGRAM")?;
    writeln!(out, "    LD_PRELOAD={target} PROGRAM")?;
    writeln!(out, "    LIBPCSCLITE_DELEGATE={target} PROGRAM      (pcsc-lite 2.1 and later)")?;
    // Debian's is linked with libpcsclite and does not listen to that.
    let property = format!("-Dsun.security.smartcardio.library={target}");
    writeln!(out, "    java {property} ...      (Debian's java: as PROGRAM above)")?;
    writeln!(out, "a reader is one program's at a time: stop pcscd before")
}

fn folder(options: &LibraryOptions) -> PathBuf {
    options.dir.clone().unwrap_or_else(|| PathBuf::from(USUAL_FOLDER))
}

/// The library that was built.
fn built(options: &LibraryOptions) -> Result<PathBuf, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(BUILT));
    let library = options.library.clone().or_else(beside).unwrap_or_default();
    match is_ours(&library) {
        Ok(true) => Ok(library),
        Ok(false) => Err(Failure::failed(format!("{} is not that library", library.display()))),
        Err(error) => Err(Failure::failed(format!("{}: {error}", library.display())).hint(
            "`cargo build --release -p scard-pcsclite` makes it; --library says where it is",
        )),
    }
}

/// A library with pcsc-lite's functions and this one's settings.
fn is_ours(library: &Path) -> io::Result<bool> {
    let bytes = fs::read(library)?;
    let has = |text: &[u8]| bytes.windows(text.len()).any(|at| at == text);
    Ok(bytes.starts_with(b"\x7FELF") && has(b"SCardEstablishContext") && has(b"SCARD_READERS"))
}

/// Whether the library is there. Another's is not touched.
fn is_ours_or_none(target: &Path) -> Result<bool, Failure> {
    let ours = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(denied(target, &error)),
        Ok(metadata) => metadata.is_file() && is_ours(target).unwrap_or(false),
    };
    if ours {
        return Ok(true);
    }
    Err(Failure::failed(format!("{} is there, and not of this program", target.display()))
        .hint("--dir names another folder"))
}

fn not_everybodys(folder: &Path) -> Result<(), Failure> {
    let everybodys = EVERYBODYS.iter().filter_map(|usual| fs::canonicalize(usual).ok());
    let mut everybodys = everybodys.filter(|usual| {
        let below = folder.strip_prefix(usual).ok().map(|rest| rest.to_string_lossy());
        // `x86_64-linux-gnu` and its like.
        below.is_some_and(|rest| rest.is_empty() || rest.split('-').nth(1) == Some("linux"))
    });
    if everybodys.next().is_none() {
        return Ok(());
    }
    let message = format!("every program looks into {}", folder.display());
    Err(Failure::failed(message).hint("--dir names a folder of its own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_all_programs_are_refused() {
        for folder in ["/usr/lib", "/usr/local/lib"] {
            let folder = Path::new(folder).canonicalize().unwrap();
            assert!(not_everybodys(&folder).is_err(), "{folder:?}");
            assert!(not_everybodys(&folder.join("x86_64-linux-gnu")).is_err());
            assert!(not_everybodys(&folder.join("scard")).is_ok());
        }
        assert!(not_everybodys(Path::new("/home/somebody/lib")).is_ok());
    }
}
