//! Cases 11 to 19: lists of readers.

use crate::common::{Bench, until};
use crate::fixture::bench;
use ifd::transport::sim::SimTransport;
use scard::{ALL_READERS, DEFAULT_READERS, Error, Stack};
use sim::{Port, presets};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

// As in the `pcsc` crate, no readers are an empty list, not an error.
#[test]
fn case_011_without_a_reader_the_list_is_empty() {
    let context = scard::Context::on(&Stack::empty()).unwrap();
    assert_eq!(context.list_readers_owned().unwrap(), [c""; 0].map(CString::from));
    assert_eq!(context.list_readers_len(), Ok(1), "the list's end");
    let mut buffer = [0xAA; 4];
    assert_eq!(context.list_readers(&mut buffer).unwrap().count(), 0);
    assert_eq!(buffer[0], 0);
}

// For a NULL buffer: the query for the length.
#[test]
fn case_012_the_length_counts_every_end_mark() {
    let bench = bench("three-slots");
    let context = bench.context();
    let names = context.list_readers_owned().unwrap();
    assert_eq!(names.len(), 3);
    let bytes: usize = names.iter().map(|name| name.count_bytes() + 1).sum();
    assert_eq!(context.list_readers_len(), Ok(bytes + 1));
}

// A length pointer cannot be missing; a buffer without any room is the nearest to it.
#[test]
fn case_013_a_buffer_without_room_is_refused() {
    let context = bench("default").context();
    assert_eq!(context.list_readers(&mut []).err(), Some(Error::InsufficientBuffer));
    let none = scard::Context::on(&Stack::empty()).unwrap();
    assert_eq!(none.list_readers(&mut []).err(), Some(Error::InsufficientBuffer));
}

#[test]
fn case_014_a_list_fits_its_length_and_no_less() {
    let bench = bench("three-slots");
    let context = bench.context();
    let length = context.list_readers_len().unwrap();
    let mut buffer = vec![0xAA; length];
    let short = context.list_readers(&mut buffer[..length - 1]).err();
    assert_eq!(short, Some(Error::InsufficientBuffer));
    let listed: Vec<CString> =
        context.list_readers(&mut buffer).unwrap().map(CStr::to_owned).collect();
    assert_eq!(listed, context.list_readers_owned().unwrap());
    assert_eq!(buffer[length - 2..], [0, 0], "a multi-string");
}

// For AUTOALLOCATE: the list that owns its names; it outlives the context.
#[test]
fn case_015_an_owned_list_is_the_callers() {
    let context = bench("default").context();
    let names = context.list_readers_owned().unwrap();
    context.release().unwrap();
    assert_eq!(names.len(), 1);
    assert!(names[0].to_str().unwrap().ends_with(" 00 00"), "{names:?}");
}

#[test]
fn case_016_an_unknown_group_is_passed_over() {
    let bench = bench("three-slots");
    let context = bench.context();
    let all = context.list_readers_owned().unwrap();
    let list = |groups: &[&CStr]| context.list_readers_in_groups(groups).unwrap();
    assert_eq!(list(&[c"no such group", DEFAULT_READERS]), all);
    assert_eq!(list(&[DEFAULT_READERS, ALL_READERS, DEFAULT_READERS]), all, "each once");
    assert_eq!(list(&[c"no such group"]), [c""; 0].map(CString::from));
}

#[test]
fn case_017_a_reader_that_is_unplugged_is_not_listed() {
    let bench = bench("default");
    let context = bench.context();
    assert_eq!(context.list_readers_owned().unwrap().len(), 1);
    bench.port.unplug();
    until("it is no longer listed", || context.list_readers_owned().unwrap().is_empty());
}

#[test]
fn case_018_equal_readers_have_different_names() {
    let bench = Bench::new(presets::by_name("three-slots").unwrap());
    for _ in 0..2 {
        let twin = Port::new(presets::by_name("three-slots").unwrap());
        bench.stack.attach(SimTransport::new(twin).unwrap()).unwrap();
    }
    let names = bench.context().list_readers_owned().unwrap();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (9, 9));
}

#[test]
fn case_019_no_group_is_empty_and_all_readers_is_none() {
    let none = scard::Context::on(&Stack::empty()).unwrap();
    assert_eq!(none.list_reader_groups_owned().unwrap(), [c""; 0].map(CString::from));
    let context = bench("default").context();
    let groups = context.list_reader_groups_owned().unwrap();
    assert_eq!(groups, [DEFAULT_READERS.to_owned()]);
    assert!(!groups.iter().any(|group| group.as_c_str() == ALL_READERS));
}
