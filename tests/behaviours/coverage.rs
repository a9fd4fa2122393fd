//! No case is left out.

const SOURCES: [&str; 8] = [
    include_str!("context.rs"),
    include_str!("listing.rs"),
    include_str!("status_change.rs"),
    include_str!("cancel_waits.rs"),
    include_str!("cancel_commands.rs"),
    include_str!("connect.rs"),
    include_str!("transactions.rs"),
    include_str!("transmit.rs"),
];

const CASES: usize = 104;

#[test]
fn every_case_has_a_test() {
    let mut tests = vec![0; CASES + 1];
    for source in SOURCES {
        let lines: Vec<_> = source.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            if let Some(name) = pair[1].strip_prefix("fn case_") {
                let number: usize = name[..3].parse().unwrap();
                tests[number] += 1;
            }
        }
    }
    let missing: Vec<_> = (1..=CASES).filter(|case| tests[*case] == 0).collect();
    assert_eq!(missing, [0; 0], "cases without a test");
    assert_eq!(tests[0], 0, "there is no case 0");
}
