//! What the documents say is so: their configurations are accepted, their commands exist, their
//! tables name what there is, all of it and nothing else, and their links lead somewhere. That
//! the commands do what the pages say, `tests/docs/run` finds out.

#![cfg(unix)]
// The lints know only the test functions themselves; here a panic is the report, too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{CommandFactory as _, Parser as _};
use token_broker::{
    cli::{Cli, dev::Authority},
    config::EXAMPLE,
};
use toml::de::{DeTable, DeValue};

const PROTOCOL: &str = include_str!("../proto/tokenbroker/v1/token_broker.proto");

/// What a part of a configuration is added to.
const REST: &str = r#"
[server]
cert = "server.pem"
key = "server.key"
client_ca = "ca.pem"
[credentials]
directory = "credentials"
sealed = "credentials.age"
identity = "broker.key"
[[destination]]
id = "rest"
upstream = "occtoo"
[[destination.application]]
name = "rest"
credential = "env:REST"
[[destination.grant]]
callers = ["rest.example"]
"#;

#[test]
fn configurations_are_accepted() {
    let mut wholes = 0;
    for page in pages() {
        for block in page.blocks("toml") {
            if block.contains("[server]") {
                wholes += 1;
                page.check(&block);
            } else if block.starts_with("[[upstream]]") && !block.contains("[[destination]]") {
                // The destination comes last, so that it knows what it is given.
                page.check(&format!("{block}\n{REST}"));
            } else {
                page.check(&format!("{REST}\n{block}"));
            }
        }
    }
    assert!(wholes > 0, "no page shows a whole configuration");
}

#[test]
fn commands_exist() {
    let mut commands = 0;
    for page in all() {
        for block in page.blocks("sh") {
            for line in block.replace("\\\n", " ").lines() {
                for words in calls(line) {
                    commands += 1;
                    if let Err(error) = Cli::try_parse_from(&words) {
                        panic!("{page} says {words:?}, and the command line answers: {error}");
                    }
                }
            }
        }
        for span in page.spans() {
            for words in calls(span) {
                page.walk(&words);
            }
        }
    }
    assert!(commands > 50, "only {commands} commands found");
}

#[test]
fn every_command_is_told() {
    fn leaves(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
        let known = command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help");
        let mut is_leaf = true;
        for sub in known {
            is_leaf = false;
            leaves(sub, &format!("{name} {}", sub.get_name()), found);
        }
        if is_leaf {
            found.insert(name.to_owned());
        }
    }
    let mut real = BTreeSet::new();
    leaves(&Cli::command(), "token-broker", &mut real);
    let page = page("docs/cli.md");
    let told = first_cells(&page.text);
    let told = told.filter(|cell| cell.starts_with("token-broker "));
    assert_same("commands", &told.map(str::to_owned).collect(), &real);
}

#[test]
fn every_fault_of_the_upstream_is_told() {
    let root = Cli::command();
    let upstream = root.find_subcommand("upstream").unwrap();
    let mut real = flags(upstream);
    real.remove("--listen");
    let page = page("docs/testing.md");
    let told = page.spans().filter(|span| span.starts_with("--"));
    assert_same("options", &told.map(str::to_owned).collect(), &real);
}

#[test]
fn every_key_of_the_configuration_is_told_with_its_default() {
    let page = page("docs/configuration.md");
    let mut told = BTreeMap::new();
    for section in page.text.split("\n### `").skip(1) {
        let (title, body) = section.split_once('`').unwrap();
        for row in rows(body) {
            let [key, default, ..] = row[..] else {
                panic!("{row:?}");
            };
            if let Some(key) = spans(key).next() {
                told.insert((title.to_owned(), key.to_owned()), default.to_owned());
            }
        }
    }
    let example = keys_of_the_example();
    assert_same(
        "keys",
        &told
            .keys()
            .map(|(title, key)| format!("{title} {key}"))
            .collect(),
        &example
            .keys()
            .map(|(title, key)| format!("{title} {key}"))
            .collect(),
    );
    for (key, default) in &told {
        let (is_default, value) = &example[key];
        if *is_default && !matches!(default.as_str(), "" | "none") {
            assert_eq!(default, &format!("`{value}`"), "the default of {key:?}");
        }
    }
    // The example itself might lack one.
    let read = keys_that_are_read();
    let untold: Vec<_> = read
        .iter()
        .filter(|key| !told.keys().any(|(_, told)| told == *key))
        .collect();
    assert!(read.len() > 60, "only {} keys are read", read.len());
    assert!(untold.is_empty(), "no page tells of {untold:?}");
}

#[test]
fn reason_codes_are_those_of_the_source() {
    // Replicas are no callers: their outcomes are in a table of their own.
    let shared = root().join("src/shared_cache");
    let mut source = BTreeSet::new();
    for file in rust_files(&root().join("src")) {
        if !file.starts_with(&shared) {
            source.extend(bodies(&fs::read_to_string(file).unwrap(), "fn code("));
        }
    }
    let page = page("docs/reason-codes.md");
    for heading in ["## For callers", "## For operators"] {
        assert!(page.text.contains(heading), "{heading}");
    }
    let (codes, _) = page.text.split_once("## Connections").unwrap();
    let told = first_cells(codes).map(str::to_owned).collect();
    assert_same("reason codes", &told, &source);

    // Whoever must act is told what to do.
    let operators = page.section("## What the operator does");
    let advice: BTreeSet<_> = spans(operators).map(str::to_owned).collect();
    let callers = first_cells(page.section("## For callers"));
    let mistakes = ["INVALID_", "CREDENTIAL_MISSING", "DESTINATION_UNPROTECTED"];
    for code in callers.filter(|code| !mistakes.iter().any(|mistake| code.starts_with(mistake))) {
        assert!(
            advice.contains(code),
            "nobody says what an operator does about {code}"
        );
    }
}

#[test]
fn ends_of_connections_are_told() {
    let mut source = BTreeSet::new();
    let mut all = String::new();
    let mut files = rust_files(&root().join("src/listener"));
    files.push(root().join("src/identity.rs"));
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        all += text;
        source.extend(bodies(text, "fn label("));
        source.extend(bodies(text, "fn certificate("));
        for call in [
            ".connection(\"",
            ".closed(\"",
            "Err(\"",
            "ok_or(\"",
            "return \"",
        ] {
            let literals = text.split(call).skip(1);
            source.extend(literals.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let page = page("docs/reason-codes.md");
    let told: BTreeSet<_> = rows(page.section("## Connections"))
        .filter_map(|row| Some(row.first()?.to_string()))
        .flat_map(|cell| spans(&cell).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let untold: Vec<_> = source.difference(&told).collect();
    assert!(untold.is_empty(), "no page tells of {untold:?}");
    assert!(source.len() > 20, "only {source:?}");
    for name in &told {
        let known = all.contains(&format!("\"{name}\""));
        assert!(known, "no connection ends with {name:?}");
    }
}

#[test]
fn what_the_shared_cache_counts_is_told() {
    let (mut operations, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
    for folder in ["src/shared_cache", "src/cache", "src/broker"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            if file.starts_with(root().join("src/shared_cache")) {
                outcomes.extend(bodies(&text, "fn code("));
            }
            for call in [".ask(\"", ".heard(\"", ".shared_cache(\"", ".count(\""] {
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
    let page = page("docs/replicas.md");
    for (table, counted) in [("operation", operations), ("outcome", outcomes)] {
        let told = page.names_in(&format!("| {table} |"));
        assert!(!counted.is_empty(), "nothing is counted");
        let untold: Vec<_> = counted.difference(&told).collect();
        assert!(untold.is_empty(), "no page tells of {untold:?}");
    }
}

#[test]
fn warnings_are_those_of_the_source() {
    let source = fs::read_to_string(root().join("src/broker/operator/warnings.rs")).unwrap();
    let source = bodies(&source, "fn label(");
    let told = page("docs/operating.md").names_in("| warning | says |");
    assert_same("warnings", &told, &source);
}

#[test]
fn metrics_have_an_entry() {
    let entries: BTreeSet<_> = page("docs/metrics.md").spans().map(str::to_owned).collect();
    for page in all().filter(|page| page.name != "docs/metrics.md") {
        for span in page
            .spans()
            .filter(|span| span.starts_with("token_broker_"))
        {
            let name = span
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next();
            assert!(
                name.is_some_and(|name| entries.contains(name)),
                "{page} names {span}, which docs/metrics.md does not have"
            );
        }
    }
}

#[test]
fn dev_prints_what_is_shown() {
    let shown: Vec<_> = ["README.md", "docs/getting-started.md"]
        .into_iter()
        .flat_map(|name| page(name).blocks("text"))
        .filter(|block| block.contains("A first GetToken"))
        .collect();
    assert_eq!(shown.len(), 2, "both show what `dev` prints");
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
    for line in shown.iter().flat_map(|block| block.lines()) {
        assert!(
            printed.contains(&shape(line)),
            "this line is shown, and `dev` does not print it: {line}\nit prints {printed:#?}"
        );
    }
}

#[test]
fn the_protocol_is_the_real_one() {
    let real: BTreeSet<_> = PROTOCOL.lines().map(shape_of_code).collect();
    let blocks = page("docs/clients.md").blocks("proto");
    assert!(!blocks.is_empty(), "the protocol is not shown");
    for line in blocks.iter().flat_map(|block| block.lines()) {
        assert!(
            real.contains(&shape_of_code(line)),
            "the protocol has no line {line:?}"
        );
    }
}

#[test]
fn variables_are_read() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        for file in rust_files(&root().join(folder)) {
            sources += &fs::read_to_string(file).unwrap();
        }
    }
    let variable = |c: char| c.is_ascii_uppercase() || c == '_';
    for page in all() {
        let words = page.text.split(|c| !variable(c));
        for name in words.filter(|word| word.starts_with("TOKEN_BROKER_")) {
            let read = sources.contains(&format!("\"{name}\""));
            assert!(read, "{page} names {name}, which nothing reads");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for page in all() {
        for target in page.links() {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() {
                page.path.clone()
            } else {
                page.path.parent().unwrap().join(path)
            };
            assert!(
                file.exists(),
                "{page} links to {target}, which is not there"
            );
            if !anchor.is_empty() {
                let headings = Page::read(&file).anchors();
                assert!(
                    headings.contains(anchor),
                    "{page} links to {target}, but there is no such heading: {headings:?}"
                );
            }
        }
    }
}

#[test]
fn every_page_is_in_the_index() {
    let index = page("docs/README.md");
    let listed: BTreeSet<_> = index.links().collect();
    for page in pages() {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        let itself = name == "README.md";
        assert!(itself || listed.contains(name), "the index lacks {page}");
    }
}

#[test]
fn lines_can_be_read_in_a_terminal() {
    for page in pages() {
        for (number, line) in (1..).zip(page.text.lines()) {
            // A row of a table cannot be broken, and output is as it comes.
            let long = line.chars().count() > 115 && !line.starts_with('|') && line.contains(". ");
            assert!(!long, "{page} has a long line {number}");
        }
    }
}

/// One document.
struct Page {
    path: PathBuf,
    name: String,
    text: String,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        let name = path.strip_prefix(root()).unwrap_or(path);
        Self {
            name: name.display().to_string(),
            path: path.to_owned(),
            text,
        }
    }

    /// The contents of the fenced blocks in a language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = self.text.lines();
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

    fn spans(&self) -> impl Iterator<Item = &str> {
        spans(&self.text)
    }

    /// What it links to, but for other sites.
    fn links(&self) -> impl Iterator<Item = String> {
        outside_of_blocks(&self.text)
            .flat_map(|text| text.split("](").skip(1))
            .map(|link| link.split(')').next().unwrap().to_owned())
            .filter(|target| !target.contains("://"))
    }

    /// The headings, as links name them.
    fn anchors(&self) -> BTreeSet<String> {
        outside_of_blocks(&self.text)
            .flat_map(str::lines)
            .filter(|line| line.starts_with('#'))
            .map(|line| {
                let text = line.trim_start_matches('#').trim().to_lowercase();
                text.chars()
                    .filter_map(|c| match c {
                        ' ' => Some('-'),
                        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
                        _ => None,
                    })
                    .collect()
            })
            .collect()
    }

    /// A section, without its heading.
    fn section(&self, heading: &str) -> &str {
        let Some((_, rest)) = self.text.split_once(&format!("\n{heading}\n")) else {
            panic!("{self} has no section {heading:?}");
        };
        rest.split("\n## ").next().unwrap()
    }

    /// The names in the first cells of the table that begins so.
    fn names_in(&self, header: &str) -> BTreeSet<String> {
        let Some((_, table)) = self.text.split_once(header) else {
            panic!("{self} has no table {header:?}");
        };
        let table = table.split("\n\n").next().unwrap();
        let cells = table.lines().filter_map(|line| line.split('|').nth(1));
        cells.flat_map(spans).map(str::to_owned).collect()
    }

    /// Follows the words of a call, which may be incomplete, down the commands.
    fn walk(&self, words: &[&str]) {
        let mut root = Cli::command();
        root.build();
        let mut command = &root;
        for word in &words[1..] {
            if word.starts_with("--") {
                // What may follow it is no part of its name.
                let flag = word.split(['[', '=']).next().unwrap();
                assert!(
                    flags(command).contains(flag),
                    "{self} says {words:?}, but `{}` has no {word}",
                    command.get_name()
                );
            } else if command.has_subcommands() {
                command = command.find_subcommand(word).unwrap_or_else(|| {
                    panic!("{self} says {words:?}, but there is no command {word}")
                });
            }
        }
    }

    /// Checks a configuration in a folder with everything that it names.
    fn check(&self, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        command.args(["config", "check"]).arg(&file);
        let document =
            DeTable::parse(text).unwrap_or_else(|error| panic!("{self}: {error}\n{text}"));
        provide(document.get_ref(), folder.path(), &mut command);
        let output = command.output().unwrap();
        let mistakes = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self}: {mistakes}\nin\n{text}");
    }
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is written for users: the README and `docs/`.
fn pages() -> impl Iterator<Item = Page> {
    let mut paths: Vec<_> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    paths.insert(0, root().join("README.md"));
    paths.into_iter().map(|path| Page::read(&path))
}

/// All documents.
fn all() -> impl Iterator<Item = Page> {
    let others = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "examples/README.md",
    ];
    pages().chain(others.map(page))
}

fn page(name: &str) -> Page {
    Page::read(&root().join(name))
}

/// The keys of the example with their sections: whether a value is only shown, and the value.
fn keys_of_the_example() -> BTreeMap<(String, String), (bool, String)> {
    let mut keys = BTreeMap::new();
    let mut title = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.trim_start_matches(['#', ' ']);
        if bare.starts_with('[') && bare.ends_with(']') {
            bare.clone_into(&mut title);
            continue;
        }
        let Some((key, value)) = bare.split_once(" = ") else {
            continue;
        };
        if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            continue;
        }
        let value = value.split("  #").next().unwrap();
        let value = value.split(" # ").next().unwrap().trim().to_owned();
        let key = (title.clone(), key.to_owned());
        keys.entry(key).or_insert((line.starts_with('#'), value));
    }
    keys
}

/// The names of the keys that the configuration is asked for.
fn keys_that_are_read() -> BTreeSet<String> {
    let calls = [
        ".or(",
        ".optional(",
        ".required(",
        ".required_list(",
        ".one_or_list(",
        ".texts(",
        " timeout(",
        " age(",
        " count(",
        " allowed(",
        " owned(",
        " nodes(",
    ];
    let mut keys = BTreeSet::new();
    for file in rust_files(&root().join("src/config")) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        if file.ends_with("tests.rs") {
            continue;
        }
        for call in calls {
            for rest in text.split(call).skip(1) {
                if let Some(rest) = rest.trim_start().strip_prefix('"') {
                    keys.insert(rest.split('"').next().unwrap().to_owned());
                }
            }
        }
    }
    keys
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
                    // The folder of credentials in every configuration of the documents.
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
    let line = line.split(" # ").next().unwrap().trim_end_matches('…');
    let mut calls = Vec::new();
    let mut words = line.split([' ', '\n', '(']).peekable();
    let mut before = "";
    while let Some(word) = words.next() {
        let by_cargo = word == "--"
            && line.trim_start().starts_with("cargo run")
            && !line.contains("--example");
        let named = word == "token-broker" || word.ends_with("/token-broker");
        // Elsewhere it is the name of something else, such as a service or an image.
        let begins = before.is_empty() || before.ends_with(['=', '$', ';', '|', '&', '-']);
        let begins = begins || matches!(before, "until" | "if" | "do" | "!" | "exec" | "sudo");
        before = word;
        if !(by_cargo || named && begins) {
            continue;
        }
        let mut call = vec!["token-broker"];
        while let Some(word) =
            words.next_if(|word| !matches!(*word, "" | "|" | ">" | "&&" | "&" | "||" | "2>&1"))
        {
            call.push(word.trim_end_matches([')', '"', ';']));
            if word.ends_with([';', ')']) {
                break;
            }
        }
        // The name alone, or a path that ends with it, is no call.
        if call.len() > 1 {
            calls.push(call);
        }
    }
    calls
}

fn flags(command: &clap::Command) -> BTreeSet<String> {
    let long = command.get_arguments().filter_map(clap::Arg::get_long);
    long.map(|name| format!("--{name}")).collect()
}

/// The parts of a text that are in no fenced block.
fn outside_of_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```").step_by(2)
}

/// The code spans outside of fenced blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    outside_of_blocks(text).flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// The rows of the tables in a text, without headers, each as its cells.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split("\n|--").skip(1).flat_map(|table| {
        let rows = table.lines().skip(1);
        let rows = rows.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
    })
}

/// The first code span of each row.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(cell, _)| cell)
}

/// The literals in the functions of a file that begin so.
fn bodies(text: &str, function: &str) -> BTreeSet<String> {
    let bodies = text.split(function).skip(1);
    // A function ends so, in an impl or outside of one.
    let bodies = bodies.map(|body| {
        let method = body.find("\n    }\n").unwrap_or(body.len());
        let free = body.find("\n}\n").unwrap_or(body.len());
        &body[..method.min(free)]
    });
    let literals = bodies.flat_map(|body| body.split('"').skip(1).step_by(2));
    literals.map(str::to_owned).collect()
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
        "{what} that only the documents have: {invented:?}; that they do not tell of: {untold:?}"
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
