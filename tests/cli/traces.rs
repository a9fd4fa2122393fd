//! Recordings: made, told in words, and in the place of a reader.

use crate::SELECT;
use crate::process::run;
use serde_json::Value;

fn temporary(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("scard-cli-{}-{name}", std::process::id()))
}

#[test]
fn what_is_recorded_is_shown_as_a_conversation_without_the_pin() {
    let path = temporary("recorded.pcapng");
    let file = path.to_str().unwrap();
    let verify = "0020008106313233343536";
    run(&["apdu", "--sim", "t1-tpdu", "--record", file, SELECT, verify]).with_status(0);
    let shown = run(&["trace", file]).with_status(0).out;
    for part in [
        "Simulated Reader, TPDU, 1 slot",
        "-> IccPowerOn slot 0",
        "T=1 S-block IFS request, 254",
        "SELECT P1 04 P2 00",
        "PIN command not shown",
        "VERIFY P1 00 P2 81",
        "90 00: success",
        "0 unanswered, 0 anomalies",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"123456"), "the PIN is in the file");
    let lines = run(&["trace", "--json", file]).with_status(0).out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["reader"]["product_id"], "5ca0");
    assert_eq!(lines[1]["message"], "GetSlotStatus slot 0 seq 0");
    let totals = &lines.last().unwrap()["summary"]["totals"];
    assert_eq!((&totals["unanswered"], &totals["anomalies"]), (&0.into(), &0.into()));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_report_is_a_folder_and_the_status_is_the_commands() {
    let folder = temporary("report");
    let name = folder.to_str().unwrap();
    let ended = run(&["record", "--report", name, "--", "apdu", "--sim", "empty", SELECT]);
    let ended = ended.with_status(3);
    assert!(ended.out.contains("PINs are masked"), "{}", ended.out);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    assert!(read("readers.txt").starts_with("1209:5ca0"), "{}", read("readers.txt"));
    assert!(read("versions.txt").starts_with("scard "));
    assert!(read("log.txt").contains("no card"), "{}", read("log.txt"));
    assert!(read("README.txt").contains("PINs are masked"));
    let trace = folder.join("trace.pcapng");
    run(&["trace", trace.to_str().unwrap()]).with_status(0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_is_no_trace_is_said_to_be_none() {
    let ended = run(&["trace", "Cargo.toml"]).with_status(2);
    assert!(ended.err.contains("neither a pcap nor a pcapng file"), "{}", ended.err);
    run(&["trace", "/nowhere/at/all"]).with_status(2);
    run(&["trace", "fixtures/qemu-usb-ccid-uhci.pcap", "--device", "9.9"]).with_status(3);
    run(&["record", "--", "list"]).with_status(2);
}

/// ACS's driver writes packets of 64 bytes as transfers of their own, and as lines of their own.
#[test]
fn a_message_that_was_sent_in_packets_is_one() {
    let path = temporary("acsccid.log");
    let data: String = (0..70).map(|n| format!(" {n:02X}")).collect();
    let (first, rest) = data.split_at(3 * 49);
    let log = format!(
        "00000089 -> 000000 6F 4B 00 00 00 00 01 00 00 00 00 10 00 00 46{first}\n\
         00000089 -> 000000{rest}\n\
         00000089 <- 000000 80 02 00 00 00 00 01 00 00 00 90 00\n"
    );
    std::fs::write(&path, log).unwrap();
    let shown = run(&["trace", path.to_str().unwrap()]).with_status(0).out;
    assert!(shown.contains("0 unanswered, 0 anomalies"), "{shown}");
    assert_eq!(shown.matches("->").count(), 1, "{shown}");
    std::fs::remove_file(path).unwrap();
}

/// What scdaemon says where it drives the reader itself.
#[test]
fn a_log_of_scdaemons_is_a_conversation() {
    let path = temporary("scdaemon.log");
    let lines = [
        "PC_to_RDR_XfrBlock:",
        "  dwLength ..........: 11",
        "  bSlot .............: 0",
        "  bSeq ..............: 9",
        "  bBWI ..............: 0x04",
        "  wLevelParameter ...: 0x0000",
        "  [0010]  00 40 07 00 A4 04",
        "  [0016]  00 02 3F 00 DA",
        "RDR_to_PC_DataBlock:",
        "  dwLength ..........: 6",
        "  bSlot .............: 0",
        "  bSeq ..............: 9",
        "  bStatus ...........: 0",
        "  [0010]  00 40 02 90 00",
        "  [0015]  D2",
    ];
    let with = |line| format!("2026-11-22 17:00:00 scdaemon[7] DBG: ccid-driver: {line}\n");
    std::fs::write(&path, lines.map(with).concat()).unwrap();
    let shown = run(&["trace", path.to_str().unwrap()]).with_status(0).out;
    for part in
        ["XfrBlock slot 0 seq 9", "SELECT P1 04 P2 00", "T=1 I-block N(S) 1", "90 00: success"]
    {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    assert!(shown.contains("0 unanswered, 0 anomalies"), "{shown}");
    std::fs::remove_file(path).unwrap();
}

/// What an ICCD device says on its control pipe is shown as the conversation that it stands for.
#[test]
fn chips_without_bulk_pipes_are_shown_as_readers() {
    let path = temporary("iccd.pcapng");
    let file = path.to_str().unwrap();
    let verify = "0020008106313233343536";
    for (preset, parts) in [
        (
            "iccd-a",
            &["IccStatus 10h", "XfrBlock, data (6 bytes, not shown)", "DataBlock, data: 00 01"][..],
        ),
        ("iccd-a-apdu", &["IccStatus 20h", "XfrBlock (11 bytes, PIN command not shown)"]),
        ("iccd-b", &["SlotStatus ok, card inactive", "XfrBlock (11 bytes, PIN command not shown)"]),
        ("iccd-b-slow", &["asks to be asked again in 100 ms", "5 time extensions"]),
    ] {
        let read = "00B0000004";
        run(&["apdu", "--sim", preset, "--record", file, SELECT, verify, "0012003434", read])
            .with_status(0);
        let shown = run(&["trace", file]).with_status(0).out;
        let always = [
            "-> IccPowerOn",
            "<- DataBlock ok, card active: 3B",
            "VERIFY P1 00 P2 81",
            "90 00: success",
            "69 86: error: not allowed without",
            "0 unanswered, 0 anomalies",
        ];
        for part in parts.iter().chain(&always) {
            assert!(shown.contains(part), "{preset}: {part:?} in\n{shown}");
        }
        assert!(!shown.contains("seq"), "{preset}: it has no such number\n{shown}");
    }
    // A command in parts, and what it is answered in.
    let long = format!("00100000000200{}0000", "5A".repeat(512));
    run(&["apdu", "--sim", "iccd-b", "--record", file, &long]).with_status(0);
    let lines = run(&["trace", "--json", file]).with_status(0).out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    for start in [
        "XfrBlock level 0001h",
        "XfrBlock level 0002h (",
        "DataBlock ok, card active, chain 01h",
        "XfrBlock level 0010h",
        "DataBlock ok, card active, chain 02h",
    ] {
        assert!(
            messages.iter().any(|message| message.starts_with(start)),
            "{start} in {messages:?}"
        );
    }
    let totals = &lines.last().unwrap()["summary"]["totals"];
    assert_eq!((&totals["unanswered"], &totals["anomalies"]), (&0.into(), &0.into()));
    assert_eq!(lines[1]["seq"], Value::Null);
    std::fs::remove_file(path).unwrap();
}

/// Of what is no reader nothing is shown, and a response's parts are not taken for status words.
#[test]
fn a_capture_of_the_whole_bus_shows_the_reader_only() {
    for file in ["fixtures/qemu-libccid.pcap", "fixtures/usbd-ccid-libccid.pcap"] {
        let shown = run(&["trace", file]).with_status(0).out;
        assert_eq!(shown.matches("# device").count(), 2, "its head and its totals: {shown}");
        for part in ["malformed", "request A3", "6A 6B: "] {
            assert!(!shown.contains(part), "{file}: {part}");
        }
    }
}

/// What scdaemon has recorded of a reader: each message is read, and it can be had again.
#[test]
fn scdaemons_own_log_stands_in_for_the_reader() {
    let log = "fixtures/scdaemon-t1-tpdu.log";
    let shown = run(&["trace", log]).with_status(0).out;
    let titles = std::fs::read_to_string(log).unwrap().matches("PC_to_RDR_").count();
    assert_eq!(shown.matches(" -> ").count(), titles, "{shown}");
    assert!(shown.contains("T=1 S-block IFS request, 254"), "{shown}");
    assert!(shown.contains("0 unanswered, 0 anomalies"), "{shown}");
    let described = run(&["descriptor", "--sim", "t1-tpdu", "--json"]).with_status(0).out;
    let described: Value = serde_json::from_str(&described).unwrap();
    let class = described[0]["descriptor"].as_str().unwrap();
    let select = ["00A4000C023F00", "00A4020C022F02"];
    let words = [&["apdu", "--trace", log, "--lenient", "--class", class], &select[..]].concat();
    let said = run(&words).with_status(0).out;
    let answers: Vec<_> = said.lines().filter(|line| !line.starts_with(['>', ' '])).collect();
    assert_eq!(answers, ["90 00", "6A 82"]);
}

const FIXTURE: &str = "fixtures/sim-apdu.pcapng";

/// As `tests/record.rs` has it: SELECT, then PINs wrong and right.
#[test]
fn a_trace_stands_in_for_the_reader() {
    let (wrong, right) = ("002000810430303030", "0020008106313233343536");
    let select = &SELECT[..SELECT.len() - 2];
    for more in [&[][..], &["--real-time"]] {
        let words = [&["apdu", "--trace", FIXTURE, SELECT, wrong, right], more].concat();
        let answers = run(&words).with_status(0).out;
        assert!(answers.contains("63 C2") && answers.contains("90 00"), "{answers}");
    }
    let listed = run(&["list", "--trace", FIXTURE]).with_status(0).out;
    assert!(listed.contains("Simulated Reader"), "{listed}");
    // Another command than that of the recording is told with both.
    let ended = run(&["apdu", "--trace", FIXTURE, select, wrong]).with_status(1);
    assert!(ended.err.contains("not as in the trace: packet"), "{}", ended.err);
    assert!(ended.err.contains("--lenient"), "{}", ended.err);
    // Leniently, what is not wanted is passed over.
    let some = ["apdu", "--trace", FIXTURE, "--lenient", SELECT, "0012003400"];
    let answers = run(&some).with_status(0).out;
    assert!(answers.contains("30 31 32 33 90 00"), "{answers}");
    run(&["list", "--lenient"]).with_status(2);
    run(&["list", "--trace", "/nowhere/at/all"]).with_status(2);
    run(&["list", "--trace", "Cargo.toml"]).with_status(2);
}

/// libccid's and scdaemon's logs do not tell of descriptors.
#[test]
fn a_log_stands_in_for_the_reader_if_its_class_is_given() {
    let path = temporary("replayed.log");
    let log = "00000089 -> 000000 65 00 00 00 00 00 00 00 00 00\n\
               00000089 <- 000000 81 00 00 00 00 00 00 01 00 00\n\
               00000089 -> 000000 62 00 00 00 00 00 01 01 00 00\n\
               00000089 <- 000000 80 04 00 00 00 00 01 00 00 00 3B 80 01 81\n\
               00000089 -> 000000 6F 05 00 00 00 00 02 00 00 00 00 B0 00 00 02\n\
               00000089 <- 000000 80 04 00 00 00 00 02 00 00 00 CA FE 90 00\n";
    std::fs::write(&path, log).unwrap();
    let file = path.to_str().unwrap();
    let ended = run(&["apdu", "--trace", file, "--lenient", "00B0000002"]).with_status(2);
    assert!(ended.err.contains("--class"), "{}", ended.err);
    let described = run(&["descriptor", "--sim", "default", "--json"]).with_status(0).out;
    let described: Value = serde_json::from_str(&described).unwrap();
    let class = described[0]["descriptor"].as_str().unwrap();
    let words = ["apdu", "--trace", file, "--lenient", "--class", class, "00B0000002"];
    let answers = run(&words).with_status(0).out;
    assert!(answers.lines().any(|line| line == "CA FE 90 00"), "{answers}");
    run(&["list", "--class", class]).with_status(2);
    run(&["list", "--trace", file, "--class", "36 2"]).with_status(2);
    std::fs::remove_file(path).unwrap();
}

/// In a log nothing is masked; the second part of the command does not look like one with a PIN.
#[test]
fn the_pin_in_a_log_of_libccids_is_not_shown() {
    let path = temporary("pcscd.log");
    let log = "00000089 -> 000000 6F 09 00 00 00 00 01 00 01 00 00 20 00 81 00 00 06 31 32\n\
               00000089 <- 000000 80 00 00 00 00 00 01 00 00 10\n\
               00000089 -> 000000 6F 04 00 00 00 00 02 00 02 00 33 34 35 36\n\
               00000089 <- 000000 80 02 00 00 00 00 02 00 00 00 90 00\n";
    std::fs::write(&path, log).unwrap();
    let shown = run(&["trace", path.to_str().unwrap()]).with_status(0).out;
    assert!(shown.contains("VERIFY P1 00 P2 81") && shown.contains("90 00: success"), "{shown}");
    assert!(!shown.contains("31 32") && !shown.contains("33 34"), "{shown}");
    std::fs::remove_file(path).unwrap();
}
