//! An audit file, read back without the broker's own reader.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// A record of a token that was handed out, and where it ends in the file.
pub(crate) struct HandOut {
    pub(crate) record: Value,
    pub(crate) end: u64,
}

/// The tokens that were handed out, by the name of their request.
pub(crate) fn hand_outs(file: &Path) -> HashMap<String, Vec<HandOut>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    let mut end = 0;
    for line in fs::read_to_string(file).unwrap().split_inclusive('\n') {
        end += line.len() as u64;
        let record: Value = serde_json::from_str(line).unwrap();
        if record["kind"] == "token" {
            let request = record["request_id"].as_str().unwrap().to_owned();
            let hand_out = HandOut { record, end };
            found.entry(request).or_default().push(hand_out);
        }
    }
    found
}

/// The kinds of the records in a file.
pub(crate) fn kinds(file: &Path) -> Vec<String> {
    let kind = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["kind"].as_str().unwrap().to_owned()
    };
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(kind)
        .collect()
}

/// Runs `audit verify`.
pub(crate) fn verify(files: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_token-broker"))
        .args(["audit", "verify"])
        .args(files)
        .output()
        .unwrap()
}

/// What `audit verify` finds in a file of this content.
pub(crate) fn fault(folder: &Path, content: &[u8]) -> Option<String> {
    let copy = folder.join("copy.jsonl");
    fs::write(&copy, content).unwrap();
    let output = verify(std::slice::from_ref(&copy));
    let told = String::from_utf8(output.stderr).unwrap();
    match output.status.code() {
        Some(0) => None,
        Some(1) => Some(told.replace(&*copy.to_string_lossy(), "copy")),
        code => panic!("{code:?}: {told}"),
    }
}
