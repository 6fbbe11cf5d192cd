//! The trial on one machine has an audit trail as well.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::trail::kinds;

/// A first call, and those whose median is told.
const CALLS: usize = 102;

#[test]
fn what_dev_hands_out_is_on_record() {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_token-broker");
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Command::new(PROGRAM)
        .arg("dev")
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let told: Vec<_> = lines
        .map_while(Result::ok)
        .take_while(|line| line != "Ctrl-C ends it.")
        .collect();
    let line = told.iter().find(|line| line.contains(" audit verify "));
    let (call, _) = line.unwrap().split_once(" # ").unwrap();
    // It is typed while the broker runs.
    let typed = Command::new("sh").args(["-c", call]).output().unwrap();
    dev.kill().unwrap();
    dev.wait().unwrap();
    let report = String::from_utf8(typed.stdout).unwrap();
    assert!(typed.status.success(), "{call}: {report}");
    let records = format!("{} records, seq 1 to {0}, open\n", CALLS + 2);
    assert!(report.ends_with(&records), "{report}");
    let kinds = kinds(&folder.path().join("audit.jsonl"));
    let tokens = kinds.iter().filter(|kind| *kind == "token").count();
    assert_eq!(tokens, CALLS);
}
