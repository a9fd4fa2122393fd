//! What the library shows of itself.

use crate::library::library;
use std::process::Command;

fn output(program: &str, options: &[&str]) -> String {
    let output = Command::new(program).args(options).arg(library()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error} (tests/packages installs it)"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_library_exports_the_interface_and_nothing_else() {
    let text = output("nm", &["-D", "--defined-only"]);
    let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let expected = [
        "SCardBeginTransaction",
        "SCardCancel",
        "SCardConnect",
        "SCardControl",
        "SCardDisconnect",
        "SCardEndTransaction",
        "SCardEstablishContext",
        "SCardFreeMemory",
        "SCardGetAttrib",
        "SCardGetDeviceTypeId",
        "SCardGetDeviceTypeIdA",
        "SCardGetStatusChange",
        "SCardGetTransmitCount",
        "SCardIsValidContext",
        "SCardListReaderGroups",
        "SCardListReaders",
        "SCardLocateCardsByATR",
        "SCardLocateCardsByATRA",
        "SCardReconnect",
        "SCardReleaseContext",
        "SCardSetAttrib",
        "SCardStatus",
        "SCardTransmit",
        "g_rgSCardRawPci",
        "g_rgSCardT0Pci",
        "g_rgSCardT1Pci",
        "pcsc_stringify_error",
    ];
    assert_eq!(names, expected);
}

#[test]
fn it_takes_the_place_of_the_systems_library() {
    let dynamic = output("readelf", &["-d"]);
    assert!(dynamic.contains("Library soname: [libpcsclite.so.1]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "it stays loaded: {dynamic}");
    // Programs may have a copy of the constants, made with their size.
    let symbols = output("readelf", &["--dyn-syms", "-W"]);
    for name in ["g_rgSCardT0Pci", "g_rgSCardT1Pci", "g_rgSCardRawPci"] {
        let line = symbols.lines().find(|line| line.ends_with(name)).unwrap();
        let size = line.split_whitespace().nth(2).unwrap();
        assert_eq!(size, (2 * size_of::<std::ffi::c_ulong>()).to_string(), "{line}");
    }
}
