//! `scard cancel`.

use crate::cli::args::CancelOptions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::out::Out;
use crate::cli::pcscd::{Pcscd, Problem, socket};
use serde_json::json;
use std::io::Write;

/// No name that pcscd gives is longer, and longer ones are none of its readers'.
const MAX_NAME: usize = 127;

pub(crate) fn run(options: &CancelOptions, out: &mut Out) -> Outcome {
    let failed = |problem| failure(&problem);
    let mut pcscd = Pcscd::connect(&socket()).map_err(failed)?;
    let reader = choose(&options.pcscd, pcscd.readers().map_err(failed)?)?;
    pcscd.cancel(&reader).map_err(failed)?;
    if out.is_json() {
        return Ok(out.document(&json!({ "reader": reader }))?);
    }
    Ok(writeln!(out, "{reader}: what it was doing is being aborted")?)
}

/// The reader that is called so, or the only one whose name has that in it.
fn choose(wanted: &str, names: Vec<String>) -> Result<String, Failure> {
    if names.iter().any(|name| name == wanted) && wanted.len() <= MAX_NAME {
        return Ok(wanted.to_owned());
    }
    let wanted_lower = wanted.to_lowercase();
    let mut found: Vec<_> =
        names.iter().filter(|name| name.to_lowercase().contains(&wanted_lower)).collect();
    let listed = || match names.is_empty() {
        true => "pcscd has no reader".to_owned(),
        false => format!("pcscd has: {}", names.join("; ")),
    };
    match (found.pop(), found.is_empty()) {
        (Some(name), true) => Ok(name.clone()),
        (None, _) => Err(Failure::nothing(format!("no reader {wanted:?}")).hint(listed())),
        (Some(_), false) => {
            Err(Failure::usage(format!("{wanted:?} is in several names")).hint(listed()))
        }
    }
}

fn failure(problem: &Problem) -> Failure {
    match problem {
        Problem::Io(error) => {
            let path = socket();
            Failure::failed(format!("pcscd at {}: {error}", path.display()))
                .hint("is it running, and may you use it?")
        }
        Problem::Version(major, minor) => {
            Failure::failed(format!("pcscd speaks version {major}:{minor} of its protocol"))
                .hint("4:4 and later of 4 are understood")
        }
        Problem::Refused("SCardSetAttrib", code) => {
            Failure::failed(format!("the reader's driver did not abort it ({code:08X}h)"))
                .hint("only this project's driver can: `scard install bundle`")
        }
        // Another handle is exclusive, or in a transaction of its own.
        Problem::Refused(call, code) => Failure::failed(format!("{call}: {code:08X}h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_by_its_name_or_a_part_of_it_that_no_other_has() {
        let names = || ["Acme 00 00", "Acme 00 01", "Beta 01 00"].map(str::to_owned).to_vec();
        assert_eq!(choose("Acme 00 00", names()).unwrap(), "Acme 00 00");
        assert_eq!(choose("beta", names()).unwrap(), "Beta 01 00");
        assert!(choose("acme", names()).is_err());
        assert!(choose("gamma", names()).is_err());
        assert!(choose("x", Vec::new()).is_err());
    }
}
