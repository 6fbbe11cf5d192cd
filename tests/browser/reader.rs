//! A person with a browser, who does what the test says.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tokio::task::block_in_place;

/// A Chromium that is told what to do. Dropped, it is closed.
pub(crate) struct Reader {
    node: Child,
    tell: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

/// Where the browser's program and its pictures are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser")
}

impl Reader {
    /// A reader of the broker at this origin.
    pub(crate) fn of(origin: &str) -> Self {
        assert!(env::var_os("CHROMIUM").is_some(), "run tests/browser/run");
        let mut node = Command::new("node")
            .arg(folder().join("reader.mjs"))
            .arg(origin)
            .arg(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            tell: node.stdin.take(),
            answers: BufReader::new(node.stdout.take().unwrap()).lines(),
            node,
        }
    }

    pub(crate) fn open(&mut self, path: &str) {
        assert_eq!(self.act(&json!(["open", path])), 200);
    }

    pub(crate) fn open_without_script(&mut self, path: &str) {
        assert_eq!(self.act(&json!(["open", path, false])), 200);
    }

    /// Takes pictures of what is shown, with which nothing may be wrong.
    pub(crate) fn picture(&mut self, name: &str) {
        let wrong = self.act(&json!(["picture", name]));
        assert_eq!(wrong, json!([]), "{wrong:#}");
    }

    /// Waits until an element has this text.
    pub(crate) fn until(&mut self, selector: &str, text: &str) {
        self.act(&json!(["until", selector, text]));
    }

    /// Waits until there is no such element.
    pub(crate) fn until_gone(&mut self, selector: &str) {
        self.act(&json!(["gone", selector]));
    }

    pub(crate) fn click(&mut self, selector: &str) {
        self.act(&json!(["click", selector]));
    }

    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        self.act(&json!(["fill", selector, text]));
    }

    /// What an expression is in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        self.act(&json!(["value", expression]))
    }

    /// Nothing went wrong so far: the page was loaded so often, nothing was asked of anybody
    /// else, and nothing was complained of.
    pub(crate) fn was_content(&mut self, loads: u32) {
        let seen = self.act(&json!(["seen"]));
        let expected = json!({ "loads": loads, "errors": [], "elsewhere": [] });
        assert_eq!(seen, expected, "{seen:#}");
    }

    fn act(&mut self, act: &Value) -> Value {
        let tell = self.tell.as_mut().unwrap();
        writeln!(tell, "{act}").unwrap();
        let answer = block_in_place(|| self.answers.next()).expect("the browser is gone");
        let mut answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        assert!(answer["error"].is_null(), "{}", answer["error"]);
        answer["ok"].take()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Its input ends, so it closes the browser and ends itself.
        self.tell = None;
        let _ = self.node.wait();
    }
}
