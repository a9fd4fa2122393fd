//! The readers that a bundle names: pcscd gives a driver only those, by idVendor and idProduct.

use ifd::bundle::{Info, Listed};
use ifd::quirks;
use ifd::transport::usb::{self, Candidate};
use log::{info, warn};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Ids = (u16, u16);

/// Those that the drivers of the class in `drivers` name, those that are plugged in, and those of
/// which something is known; each once, under the name of the first of these.
pub(super) fn all(drivers: &Path) -> Vec<Listed> {
    merge(of_others(drivers).into_iter().chain(plugged_in()).chain(known()))
}

/// Those that are plugged in.
pub(super) fn plugged_in() -> Vec<Listed> {
    let found = usb::readers().unwrap_or_else(|error| {
        info!("{error}");
        Vec::new()
    });
    found.iter().map(listed).collect()
}

/// How many readers a bundle may name before plugging in adds no more: a device that calls itself
/// something else each time is not to fill the disk, nor to restart pcscd for ever.
const MOST: usize = 2000;

/// Those plugged in that a bundle does not name. If it names too many already to add one: how many.
pub(super) fn to_add(named: &[Listed], plugged_in: Vec<Listed>) -> Result<Vec<Listed>, usize> {
    let mut added = merge(plugged_in.into_iter());
    let ids = |reader: &Listed| (reader.vendor, reader.product);
    added.retain(|reader| !named.iter().any(|other| ids(other) == ids(reader)));
    match added.is_empty() || named.len() < MOST {
        true => Ok(added),
        false => Err(named.len()),
    }
}

/// Each once, under its first name.
pub(super) fn merge(readers: impl Iterator<Item = Listed>) -> Vec<Listed> {
    let mut by_ids = BTreeMap::<Ids, Listed>::new();
    for reader in readers {
        by_ids.entry((reader.vendor, reader.product)).or_insert(reader);
    }
    by_ids.into_values().collect()
}

/// What libccid's bundle names.
fn of_others(drivers: &Path) -> Vec<Listed> {
    let bundles = fs::read_dir(drivers).into_iter().flatten().flatten();
    let infos = bundles
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "bundle"))
        .filter_map(|entry| fs::read_to_string(entry.path().join("Contents/Info.plist")).ok())
        .filter_map(|text| Info::parse(&text).ok());
    infos.filter(is_of_the_class).flat_map(|info| readers(&info)).collect()
}

/// libccid's name for itself; others' bundles are for readers of no class.
fn is_of_the_class(info: &Info) -> bool {
    let executable = info.text("CFBundleExecutable").unwrap_or_default();
    info.text("CFBundleName") == Some("CCIDCLASSDRIVER") || executable == "libccid.so"
}

fn readers(info: &Info) -> Vec<Listed> {
    info.readers().unwrap_or_else(|error| {
        warn!("libccid's Info.plist: {error}");
        Vec::new()
    })
}

fn listed(candidate: &Candidate) -> Listed {
    let (vendor, product) = (candidate.vendor_id(), candidate.product_id());
    let name = match (candidate.manufacturer(), candidate.product()) {
        (None, None) => format!("CCID reader {vendor:04x}:{product:04x}"),
        (maker, product) => {
            format!("{} {}", maker.unwrap_or_default(), product.unwrap_or_default())
        }
    };
    Listed { vendor, product, name: name.trim().to_owned() }
}

fn known() -> impl Iterator<Item = Listed> {
    let products = quirks::table().products();
    products.map(|(vendor, product, name)| Listed { vendor, product, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_added_up_to_a_number() {
        let listed = |product| Listed { vendor: 1, product, name: "r".into() };
        let named: Vec<_> = (0..2000).map(listed).collect();
        assert_eq!(to_add(&named[..5], vec![listed(4), listed(5), listed(5)]), Ok(vec![listed(5)]));
        assert_eq!(to_add(&named, vec![listed(4)]), Ok(vec![]));
        assert_eq!(to_add(&named, vec![listed(2000)]), Err(2000));
    }

    #[test]
    fn each_reader_once_under_its_first_name() {
        let listed = |vendor, product, name: &str| Listed { vendor, product, name: name.into() };
        let readers = [listed(2, 1, "b"), listed(1, 9, "a"), listed(2, 1, "other")];
        assert_eq!(merge(readers.into_iter()), [listed(1, 9, "a"), listed(2, 1, "b")]);
        assert!(known().any(|reader| (reader.vendor, reader.product) == (0x08E6, 0x3478)));
    }
}
