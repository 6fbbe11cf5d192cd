//! `token-broker dev` in a process of its own, as a newcomer has it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A running broker. Dropped, it is killed.
pub(crate) struct Dev {
    child: Child,
    /// What its file of variables says.
    pub(crate) environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Dev {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_token-broker"))
            .arg("dev")
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap() == "Ctrl-C ends it.");
        assert!(ready, "dev did not start");
        let exports = fs::read_to_string(folder.path().join("env")).unwrap();
        let environment = exports.lines().map(|line| {
            let (name, value) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
                .unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self {
            environment: environment.collect(),
            child,
            folder,
        }
    }

    /// What a variable says.
    pub(crate) fn variable(&self, name: &str) -> &str {
        let is_it = |(known, _): &&(String, String)| known == name;
        let (_, value) = self.environment.iter().find(is_it).unwrap();
        value
    }

    /// What is in a file of its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// How many tokens were minted for the protected sample.
    pub(crate) fn mints(&self) -> u64 {
        let http = self.variable("TOKEN_BROKER_HTTP");
        let mut stream = TcpStream::connect(http.strip_prefix("http://").unwrap()).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: dev\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        metrics
            .lines()
            .filter(|line| line.starts_with("token_broker_mints_total") && line.contains("\"ok\""))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
