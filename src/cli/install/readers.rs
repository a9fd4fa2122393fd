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
    fn each_reader_once_under_its_first_name() {
        let listed = |vendor, product, name: &str| Listed { vendor, product, name: name.into() };
        let readers = [listed(2, 1, "b"), listed(1, 9, "a"), listed(2, 1, "other")];
        assert_eq!(merge(readers.into_iter()), [listed(1, 9, "a"), listed(2, 1, "b")]);
        assert!(known().any(|reader| (reader.vendor, reader.product) == (0x08E6, 0x3478)));
    }
}
