//! Opening and closing: nothing stays behind. In a process of their own, as threads and memory are
//! counted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unsafe_code)]

mod driver;

use driver::*;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is counted is the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Opens a reader, uses it and closes it.
fn cycle(slot: Slot, device: &str) {
    assert_eq!(slot.open(device), SUCCESS);
    assert_eq!(slot.presence(), SUCCESS);
    assert_eq!(slot.power(UP).0, SUCCESS);
    assert_eq!(slot.transmit(&[0x00, 0x12, 0, 4, 4], 256).1.len(), 6);
    assert_eq!(slot.control(0x4200_0D48, &[], 256).0, SUCCESS);
    assert_eq!(slot.set(ESC_CANCEL, &[]), SUCCESS);
    assert_eq!(slot.close(), SUCCESS);
}

fn devices() -> [String; 3] {
    let socket = std::env::temp_dir().join(format!("scard-cycles-{}", std::process::id()));
    ["sim:default".into(), format!("sim:t1-tpdu@{}", socket.display()), "sim:iccd-b".into()]
}

/// The driver's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("scard")).collect()
}

/// No thread of the driver is left. The kernel lists a thread for a moment after it has been joined.
#[track_caller]
fn no_thread_is_left() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !threads().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(threads(), [""; 0]);
}

/// Bytes of memory in use.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn five_hundred_cycles_leave_nothing_behind() {
    let _alone = ALONE.lock();
    let slot = fresh();
    let cycles = |count: usize| {
        for (_, device) in (0..count).zip(devices().iter().cycle()) {
            cycle(slot, device);
        }
    };
    cycles(100);
    let before = memory();
    cycles(500);
    let after = memory();
    no_thread_is_left();
    // A page here and there is the allocator's; a reader that stays would be a thousand.
    assert!(after < before + 1_000_000, "{before} bytes before, {after} after");
}

#[test]
fn a_few_cycles() {
    let _alone = ALONE.lock();
    let slot = fresh();
    for device in devices().iter().cycle().take(6) {
        cycle(slot, device);
    }
    no_thread_is_left();
}

/// The same, every access to memory checked, and all memory given back.
#[test]
fn valgrind_finds_nothing() {
    let _alone = ALONE.lock();
    let valgrind = Command::new("valgrind")
        .args(["--leak-check=full", "--errors-for-leak-kinds=definite,indirect"])
        .args(["--error-exitcode=99", "--quiet"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_few_cycles", "--nocapture"])
        .output();
    let output =
        valgrind.unwrap_or_else(|error| panic!("valgrind: {error} (tests/packages installs it)"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}
