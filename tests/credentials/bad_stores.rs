//! Stores that cannot be used: refused by name when a broker starts and when it reloads.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use token_broker::app::App;
use tokio::time::Instant;

use crate::{
    broker::{Broker, machine, until},
    store::setup,
    trial::{Site, ask},
};

/// How long anything may take that looks at a bad store.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Something that is put where the store belongs, and what is said of it.
struct Bad {
    kind: &'static str,
    put: fn(&Site, &Path),
    said: &'static str,
}

const BAD: [Bad; 10] = [
    Bad {
        kind: "nothing",
        put: |_, _| {},
        said: "credentials.age does not exist",
    },
    Bad {
        kind: "truncated",
        put: |site, path| {
            let whole = fs::read(site.folder.path().join("whole")).unwrap();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
        },
        said: "credentials.age is truncated or garbled: put back a whole copy of it",
    },
    Bad {
        kind: "garbled",
        put: |site, path| {
            let mut whole = fs::read(site.folder.path().join("whole")).unwrap();
            // A letter of the last line of the armour, which is still base64 afterwards.
            let at = whole.len() - 60;
            whole[at] = if whole[at] == b'A' { b'B' } else { b'A' };
            fs::write(path, whole).unwrap();
        },
        said: "credentials.age is truncated or garbled: put back a whole copy of it",
    },
    Bad {
        kind: "another file",
        put: |site, path| {
            fs::copy(site.config(), path).unwrap();
        },
        said: "credentials.age is not an age file: `token-broker credential init` makes one",
    },
    Bad {
        kind: "another key's",
        put: |site, path| {
            let other = site.folder.path().join("other");
            fs::create_dir_all(&other).unwrap();
            let config = other.join("broker.toml");
            let places =
                "[credentials]\nsealed = \"../credentials.age\"\nidentity = \"other.key\"\n";
            fs::write(&config, places).unwrap();
            let mut init = site.command("init");
            init.env("TOKEN_BROKER_CONFIG", config);
            assert!(init.output().unwrap().status.success());
            assert!(path.exists());
        },
        said: "credentials.age is encrypted to another key than those in DIR/broker.key",
    },
    Bad {
        kind: "with a passphrase",
        put: |_, path| {
            let header = "age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 22\nZV8jRhj40fqbGA6OEJXCAQV1BAw1PYLyd2M4BzVnqGc\n--- 2gfR8q5DlJG0YkHX6VUGn4Y0TGVcYhBHQ7qYqWgZpfA\n";
            fs::write(path, format!("{header}{}", "x".repeat(100))).unwrap();
        },
        said: "credentials.age is encrypted with a passphrase, which is not supported: encrypt it to a key",
    },
    Bad {
        kind: "a pipe",
        put: |_, path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        said: "credentials.age is not a regular file",
    },
    Bad {
        kind: "a folder",
        put: |_, path| fs::create_dir(path).unwrap(),
        said: "credentials.age is not a regular file",
    },
    Bad {
        kind: "a device",
        put: |_, path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        said: "credentials.age is not a regular file",
    },
    Bad {
        kind: "a gigabyte",
        put: |_, path| File::create(path).unwrap().set_len(1 << 30).unwrap(),
        said: "credentials.age is larger than 16384 KiB",
    },
];

impl Bad {
    /// Puts it where the store belongs; the whole store is kept beside it.
    fn put(&self, site: &Site) {
        let store = site.store_file();
        fs::rename(&store, site.folder.path().join("whole")).unwrap();
        (self.put)(site, &store);
    }

    /// Puts the whole store back.
    fn undo(site: &Site) {
        let store = site.store_file();
        if store.is_dir() {
            fs::remove_dir(&store).unwrap();
        }
        fs::rename(site.folder.path().join("whole"), &store).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_does_not_start_with_a_bad_store_and_says_why() {
    let site = Site::new(setup()).await;
    let folder = format!("{}/", site.folder.path().display());
    for bad in BAD {
        bad.put(&site);
        // The machine may be busy with something else, but not every time.
        let mut took = Duration::MAX;
        for _ in 0..3 {
            let asked = Instant::now();
            assert!(App::start(&site.config()).await.is_err(), "{}", bad.kind);
            took = took.min(asked.elapsed());
        }
        let refused = App::start(&site.config()).await.err().expect(bad.kind);
        let refused = refused.to_string().replace(&folder, "");
        let said = bad.said.replace("DIR/", "");
        let mistake = refused.lines().next().unwrap();
        assert!(
            mistake.ends_with(&format!("\"sealed\" cannot be used: {said}")),
            "{}: {refused}",
            bad.kind
        );
        assert_eq!(refused.lines().count(), 2, "{refused}");
        assert!(took < AT_ONCE, "{} took {took:?}", bad.kind);
        Bad::undo(&site);
    }
    App::start(&site.config()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_runs_says_why_it_refuses_a_bad_store_and_the_last_good_one_serves_on() {
    let _machine = machine().await;
    let site = Site::new(setup()).await;
    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    let token = ask(&mut client, "d0").await.unwrap();
    let taken_in = || broker.log().matches("took in the configuration").count();
    let refusals = || {
        let log = broker.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("refused the configuration"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let folder = format!("{}/", site.folder.path().display());
    for bad in BAD {
        let before = refusals().len();
        bad.put(&site);
        broker.signal(Signal::HUP);
        until(bad.kind, async || refusals().len() > before).await;
        let refusal = refusals().pop().unwrap().replace(&folder, "");
        let said = bad.said.replace("DIR/", "");
        assert!(refusal.contains(&said), "{}: {refusal}", bad.kind);
        assert_eq!(
            ask(&mut client, "d0").await.unwrap().token_id,
            token.token_id
        );
        let before = taken_in();
        Bad::undo(&site);
        broker.signal(Signal::HUP);
        until("the whole store is taken in", async || taken_in() > before).await;
        assert_eq!(
            ask(&mut client, "d0").await.unwrap().token_id,
            token.token_id
        );
    }
    assert_eq!(
        site.upstream.calls(),
        1,
        "the credentials were the same all the time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_file_that_cannot_be_used_is_refused_by_name() {
    let site = Site::new(setup()).await;
    let key = site.folder.path().join("broker.key");
    let folder = format!("{}/", site.folder.path().display());
    for (content, said) in [
        (None, "broker.key does not exist"),
        (
            Some("# no key\n"),
            "broker.key holds no age key: it must have a line that begins with AGE-SECRET-KEY-1",
        ),
        (
            Some("-----BEGIN AGE ENCRYPTED FILE-----\n"),
            "broker.key is protected with a passphrase, which is not supported: nobody is there to type it",
        ),
        (
            Some("canary\n"),
            "broker.key has no age key in line 1: such a line begins with AGE-SECRET-KEY-1",
        ),
    ] {
        match content {
            Some(content) => fs::write(&key, content).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        let refused = App::start(&site.config()).await.err().unwrap();
        let refused = refused.to_string().replace(&folder, "");
        let mistake = refused.lines().next().unwrap();
        let expected = format!("\"identity\" cannot be used: {said}");
        assert!(mistake.ends_with(&expected), "{refused}");
    }
}
