//! What the README says is so: its configurations are accepted, its commands exist, and
//! its tables name what there is, all of it and nothing else.

#![cfg(unix)]
// The lints know only the test functions themselves; here a panic is the report, too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{CommandFactory as _, Parser as _};
use token_broker::cli::{Cli, dev::Authority};
use toml::de::{DeTable, DeValue};

const README: &str = include_str!("../README.md");
const PROTOCOL: &str = include_str!("../proto/tokenbroker/v1/token_broker.proto");

#[test]
fn configurations_of_the_readme_are_accepted() {
    let blocks = blocks("toml");
    let whole: Vec<_> = blocks
        .iter()
        .filter(|text| text.contains("[server]"))
        .collect();
    assert!(!whole.is_empty(), "the README shows no whole configuration");
    for block in &blocks {
        if block.contains("[server]") {
            check(block);
        } else {
            // A part is shown to be added to a whole.
            check(&format!("{}\n{block}", whole[0]));
        }
    }
}

#[test]
fn commands_of_the_readme_exist() {
    let mut commands = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        for words in calls(line) {
            commands += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("the README says {words:?}, and the command line answers: {error}");
            }
        }
    }
    assert!(commands > 5, "only {commands} commands found in the README");
    for span in spans(README) {
        for words in calls(span) {
            walk(&words);
        }
        if span.starts_with("--") {
            let known = all_flags(&Cli::command());
            let flag = span.split([' ', '=']).next().unwrap();
            assert!(
                known.contains(flag),
                "the README names {flag}, which no command has"
            );
        }
    }
}

#[test]
fn reason_codes_of_the_readme_are_those_of_the_source() {
    // Replicas are no callers: their outcomes are in a table of their own.
    let shared = root().join("src/shared_cache");
    let mut source = BTreeSet::new();
    for file in rust_files(&root().join("src")) {
        if !file.starts_with(&shared) {
            source.extend(codes(&fs::read_to_string(file).unwrap()));
        }
    }
    let told: BTreeSet<_> = section("## Reason codes")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(reason, _)| reason.to_owned())
        .collect();
    assert_same("reason codes", &told, &source);
}

#[test]
fn what_the_shared_cache_counts_is_told_in_the_readme() {
    let (mut operations, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
    for folder in ["src/shared_cache", "src/cache", "src/broker"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            if file.starts_with(root().join("src/shared_cache")) {
                outcomes.extend(codes(&text));
            }
            for call in [".heard(\"", ".shared_cache(\"", ".count(\""] {
                for call in text.split(call).skip(1) {
                    let call = call.split(';').next().unwrap();
                    // Whatever else is called is looked at by itself.
                    let call = call.split("self.").next().unwrap();
                    let mut literals = call.split('"').step_by(2).map(str::to_owned);
                    operations.extend(literals.next());
                    outcomes.extend(literals);
                }
            }
        }
    }
    let tables = section("## Many replicas");
    for (table, counted) in [("operation", operations), ("outcome", outcomes)] {
        let (_, table) = tables.split_once(&format!("| {table} |")).unwrap();
        let table = table.split("\n\n").next().unwrap();
        let cells = table.lines().filter_map(|line| line.split('|').nth(1));
        let told: BTreeSet<_> = cells.flat_map(spans).map(str::to_owned).collect();
        assert!(!counted.is_empty(), "nothing is counted");
        let untold: Vec<_> = counted.difference(&told).collect();
        assert!(untold.is_empty(), "the README does not tell of {untold:?}");
    }
}

#[test]
fn warnings_of_the_readme_are_those_of_the_source() {
    let source = fs::read_to_string(root().join("src/broker/operator/warnings.rs")).unwrap();
    let body = source.split("fn label(").nth(1).unwrap();
    let end = body.find("\n    }\n").expect("a function in an impl ends");
    let literals = body[..end].split('"').skip(1).step_by(2);
    let source: BTreeSet<_> = literals.map(str::to_owned).collect();
    let table = README.split("| warning | says |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    let told = names.flat_map(|names| names.split('`').skip(1).step_by(2));
    let told: BTreeSet<_> = told.map(str::to_owned).collect();
    assert_same("warnings", &told, &source);
}

#[test]
fn the_readme_shows_what_dev_prints() {
    let shown = blocks("text")
        .into_iter()
        .find(|block| block.contains("is running."))
        .expect("the README shows what `dev` prints");
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_token-broker"))
        .arg("dev")
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let printed: Vec<_> = lines
        .map(|line| shape(&line.unwrap()))
        .take_while(|line| line != "Ctrl-C ends it.")
        .collect();
    dev.kill().unwrap();
    dev.wait().unwrap();
    for line in shown.lines() {
        assert!(
            printed.contains(&shape(line)),
            "the README shows this line, which `dev` does not print: {line}\nit prints {printed:#?}"
        );
    }
}

#[test]
fn the_protocol_of_the_readme_is_the_real_one() {
    let real: BTreeSet<_> = PROTOCOL.lines().map(shape_of_code).collect();
    let blocks = blocks("proto");
    assert!(!blocks.is_empty(), "the README shows no protocol");
    for line in blocks.iter().flat_map(|block| block.lines()) {
        assert!(
            real.contains(&shape_of_code(line)),
            "the protocol has no line {line:?}"
        );
    }
}

#[test]
fn variables_and_files_of_the_readme_exist() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        for file in rust_files(&root().join(folder)) {
            sources += &fs::read_to_string(file).unwrap();
        }
    }
    let variable = |c: char| c.is_ascii_uppercase() || c == '_';
    for name in README
        .split(|c| !variable(c))
        .filter(|word| word.starts_with("TOKEN_BROKER_"))
    {
        let read = sources.contains(&format!("\"{name}\""));
        assert!(read, "nothing reads the variable {name}");
    }
    for link in README.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        assert!(
            target.contains("://") || root().join(target).exists(),
            "the README links to {target}, which does not exist"
        );
    }
}

/// Checks a configuration in a folder with everything that it names.
fn check(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    command.args(["config", "check"]).arg(&file);
    let document = DeTable::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    provide(document.get_ref(), folder.path(), &mut command);
    let output = command.output().unwrap();
    let mistakes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{mistakes}\nin\n{text}");
}

/// Makes the files and variables that a configuration refers to.
fn provide(table: &DeTable<'_>, folder: &Path, command: &mut Command) {
    let authority = Authority::new().unwrap();
    let server = authority.server([127, 0, 0, 1].into()).unwrap();
    let write = |path: &str, content: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("cert", DeValue::String(path)) => write(path, &server.certificate),
            ("key", DeValue::String(path)) => write(path, server.key.expose()),
            ("client_ca" | "ca", DeValue::String(path)) => write(path, authority.certificate()),
            ("sealing_keys", DeValue::Array(paths)) => {
                for path in paths {
                    // As long as a key is, which is 32 bytes in Base64 that are not all alike.
                    let key = format!("{}A=", "AB".repeat(21));
                    write(path.get_ref().as_str().unwrap(), &key);
                }
            }
            ("password_file", DeValue::String(path)) => write(path, "password"),
            ("sealed", DeValue::String(_)) => run(folder, &["init"], ""),
            ("directory", DeValue::String(path)) => {
                fs::create_dir_all(folder.join(path.as_ref())).unwrap();
            }
            ("credential", DeValue::String(reference)) => match reference.split_once(':') {
                Some(("file", name)) => {
                    // The folder of credentials in every configuration of the README.
                    write(&format!("credentials/{name}/client_id"), "id");
                    write(&format!("credentials/{name}/client_secret"), "secret");
                }
                Some(("sealed", name)) => {
                    let words = ["set", name, "--client-id", "id", "--no-verify"];
                    run(folder, &words, "secret");
                }
                Some(("env", name)) => {
                    command.env(format!("{name}_CLIENT_ID"), "id");
                    command.env(format!("{name}_CLIENT_SECRET"), "secret");
                }
                _ => panic!("{reference} refers to no credential"),
            },
            (_, DeValue::Table(table)) => provide(table, folder, command),
            (_, DeValue::Array(values)) => {
                for value in values {
                    if let DeValue::Table(table) = value.get_ref() {
                        provide(table, folder, command);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Runs a `credential` command on the configuration in a folder.
fn run(folder: &Path, words: &[&str], secret: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_token-broker"))
        .arg("credential")
        .args(words)
        .env("TOKEN_BROKER_CONFIG", folder.join("broker.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(secret.as_bytes());
    assert!(child.wait().unwrap().success(), "{words:?}");
}

/// The calls of the broker in a line for a shell, each as its words.
fn calls(line: &str) -> Vec<Vec<&str>> {
    let line = line.split(" # ").next().unwrap().trim_end_matches("…");
    let mut calls = Vec::new();
    let mut words = line.split([' ', '(']).peekable();
    while let Some(word) = words.next() {
        let by_cargo = word == "--" && line.trim_start().starts_with("cargo run");
        if word != "token-broker" && !word.ends_with("/token-broker") && !by_cargo {
            continue;
        }
        let mut call = vec!["token-broker"];
        while let Some(word) = words.next_if(|word| !matches!(*word, "" | "|" | ">" | "&&" | "&")) {
            call.push(word.trim_end_matches([')', '"', ';']));
        }
        // The name alone, or a path that ends with it, is no call.
        if call.len() > 1 {
            calls.push(call);
        }
    }
    calls
}

/// Follows the words of a call, which may be incomplete, down the commands.
fn walk(words: &[&str]) {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in &words[1..] {
        if word.starts_with("--") {
            assert!(
                flags(command).contains(*word),
                "the README says {words:?}, but `{}` has no {word}",
                command.get_name()
            );
        } else if command.has_subcommands() {
            command = command.find_subcommand(word).unwrap_or_else(|| {
                panic!("the README says {words:?}, but there is no command {word}")
            });
        }
    }
}

fn flags(command: &clap::Command) -> BTreeSet<String> {
    let long = command.get_arguments().filter_map(clap::Arg::get_long);
    long.map(|name| format!("--{name}")).collect()
}

fn all_flags(command: &clap::Command) -> BTreeSet<String> {
    let mut all = flags(command);
    all.extend(command.get_subcommands().flat_map(all_flags));
    all
}

/// The contents of the README's fenced blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else {
            continue;
        };
        let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if fence == language {
            found.push(inside.join("\n"));
        }
    }
    found
}

/// The code spans outside of fenced blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// The codes that the source of a file has.
fn codes(text: &str) -> BTreeSet<String> {
    let bodies = text.split("fn code(").skip(1);
    // A function in an impl ends so.
    let bodies = bodies.map(|body| body.split_once("\n    }\n").unwrap().0);
    let literals = bodies.flat_map(|body| body.split('"').skip(1).step_by(2));
    literals.map(str::to_owned).collect()
}

/// A section of the README, without its heading.
fn section(heading: &str) -> &'static str {
    let Some((_, rest)) = README.split_once(heading) else {
        panic!("the README has no section {heading:?}");
    };
    rest.split("\n## ").next().unwrap()
}

/// A line without what differs from run to run: numbers, names and places.
fn shape(line: &str) -> String {
    let differs = |word: &&str| word.contains('/') || word.contains(|c: char| c.is_ascii_digit());
    let words = line.split_whitespace();
    let words: Vec<_> = words
        .map(|word| if differs(&word) { "…" } else { word })
        .collect();
    words.join(" ")
}

/// A line of code without its spaces.
fn shape_of_code(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_same(what: &str, told: &BTreeSet<String>, real: &BTreeSet<String>) {
    let invented: Vec<_> = told.difference(real).collect();
    let untold: Vec<_> = real.difference(told).collect();
    assert!(
        invented.is_empty() && untold.is_empty(),
        "{what} that only the README has: {invented:?}; that it does not tell of: {untold:?}"
    );
    assert!(!real.is_empty(), "no {what} found at all");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Programs of others may lie beside the tests.
        if path.is_dir() && !path.ends_with("interop") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
