//! The store of a site, and the commands that keep it.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use jiff::Timestamp;
use token_broker::{
    credential::{
        Credential, CredentialRef, Proof,
        sealed::{Keys, Store},
    },
    secret::Secret,
};

use crate::{
    broker::PROGRAM,
    trial::{Setup, Site},
};

/// A broker's files with one destination, `d0`, whose credential is sealed.
pub(crate) fn setup() -> Setup {
    Setup {
        destinations: 1,
        sealed: true,
        ..Setup::default()
    }
}

/// A credential with a client secret.
pub(crate) fn credential(name: &str, client_id: &str, secret: &str) -> Credential {
    let reference = CredentialRef::Sealed(name.to_owned());
    let proof = Proof::ClientSecret(Secret::new(secret.to_owned()));
    Credential::new(&reference, client_id.to_owned(), proof)
}

impl Site {
    pub(crate) fn store_file(&self) -> PathBuf {
        self.folder.path().join("credentials.age")
    }

    pub(crate) fn store(&self) -> Store {
        let keys = Keys::read(&self.folder.path().join("broker.key")).unwrap();
        Store::new(self.store_file(), keys, false)
    }

    /// The names in the store, each with its generations.
    pub(crate) fn stored(&self) -> Vec<(String, u64, Option<u64>)> {
        let contents = self.store().read().unwrap();
        let stored = contents.iter().map(|(name, stored)| {
            let next = stored.next.as_ref().map(|next| next.generation);
            (name.to_owned(), stored.current.generation, next)
        });
        stored.collect()
    }

    /// Stores a credential, past the commands.
    pub(crate) fn put(&self, name: &str, client_id: &str, secret: &str) {
        let credential = credential(name, client_id, secret);
        self.store()
            .change(|contents| contents.set(name, &credential, Timestamp::now()))
            .unwrap();
    }

    /// A `credential` command with these words, which are separated by spaces.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("credential")
            .args(words.split_whitespace())
            .env("TOKEN_BROKER_CONFIG", self.config())
            .env_remove("TOKEN_BROKER_IDENTITY");
        command
    }

    /// Runs such a command, with this on its standard input.
    pub(crate) fn run(&self, words: &str, input: &str) -> Ended {
        Ended::of(pipe(&mut self.command(words), input))
    }
}

/// Starts a command with this on its standard input, which stays open.
pub(crate) fn start(command: &mut Command, input: &str) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments does not listen.
    let _ = child.stdin.as_mut().unwrap().write_all(input.as_bytes());
    child
}

/// Runs a command with this on its standard input.
pub(crate) fn pipe(command: &mut Command, input: &str) -> Output {
    start(command, input).wait_with_output().unwrap()
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it printed, if it did what it was told.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""));
        self.out
    }

    /// Why it failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(
            (self.code, self.out.as_str()),
            (Some(1), ""),
            "{}",
            self.err
        );
        self.err
    }
}
