//! What the commands print, store and refuse.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use rcgen::KeyPair;
use serde_json::{Value, json};
use token_broker::{
    cli::dev::Authority,
    upstream::standin::{Behaviour, Fault},
};

use crate::{
    broker::until,
    store::{credential, setup, start},
    trial::{Setup, Site, client_secret},
};

async fn site() -> Site {
    let site = Site::new(setup()).await;
    // An operator's machine has none of these.
    for name in ["server.pem", "server.key", "ca.pem"] {
        fs::remove_file(site.folder.path().join(name)).unwrap();
    }
    site
}

/// What a command said, without what differs from run to run.
fn shape(site: &Site, text: &str) -> String {
    let folder = format!("{}/", site.folder.path().display());
    let host = site.upstream.base_url().replace("http://", "");
    text.replace(&folder, "").replace(&host, "HOST")
}

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_a_key_and_an_empty_store_once() {
    let site = Site::new(Setup::default()).await;
    let refused = shape(&site, &site.run("init", "").failed());
    assert_eq!(
        refused,
        "error: broker.toml configures no sealed store: write sealed = \"credentials.age\" and identity = \"broker.key\" in [credentials]\n"
    );
    let places = "[credentials]\nsealed = \"credentials.age\"\nidentity = \"broker.key\"";
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config.replace("[credentials]", places)).unwrap();

    let said = shape(&site, &site.run("init", "").done());
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "made the key broker.key, whose public half is");
    assert!(
        lines[1].starts_with("  age1") && lines[1].len() == 64,
        "{said}"
    );
    assert_eq!(&lines[2..], ["made the empty store credentials.age"]);
    assert!(!said.contains("AGE-SECRET-KEY"));
    let key = site.folder.path().join("broker.key");
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(site.stored(), []);

    let (key_before, store_before) = (
        fs::read(&key).unwrap(),
        fs::read(site.store_file()).unwrap(),
    );
    let refused = shape(&site, &site.run("init", "").failed());
    assert_eq!(
        refused,
        "error: credentials.age exists already, and was left as it is\n"
    );
    assert_eq!(fs::read(&key).unwrap(), key_before);
    assert_eq!(fs::read(site.store_file()).unwrap(), store_before);

    // A key that is there is kept; one that is none stops it.
    fs::remove_file(site.store_file()).unwrap();
    let again = shape(&site, &site.run("init", "").done());
    assert_eq!(again, said.replace("made the key", "kept the key"));
    assert_eq!(fs::read(&key).unwrap(), key_before);
    fs::remove_file(site.store_file()).unwrap();
    fs::write(&key, "nonsense").unwrap();
    let refused = shape(&site, &site.run("init", "").failed());
    assert!(
        refused.starts_with("error: broker.key has no age key in line 1"),
        "{refused}"
    );
    assert!(!site.store_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn set_stores_what_has_minted_and_nothing_else() {
    let site = site().await;
    site.run("remove d0 --force", "").done();
    site.run("list", "").done();
    let before = fs::read(site.store_file()).unwrap();

    let rejected = site
        .run("set d0 --client-id client-of-d0", "canary-wrong\n")
        .failed();
    assert_eq!(
        shape(&site, &rejected),
        "error: name-of-d0 (HOST): the token endpoint rejected the request with status 401; nothing was changed\n"
    );
    site.upstream
        .behave_for("d0", Some(Behaviour::fault(Fault::Reset)));
    let unreachable = site
        .run("set d0 --client-id client-of-d0", &client_secret("d0"))
        .failed();
    assert!(
        unreachable.contains("could not be reached"),
        "{unreachable}"
    );
    site.upstream.behave_for("d0", None);
    assert_eq!(fs::read(site.store_file()).unwrap(), before);

    let said = site.run(
        "set d0 --client-id client-of-d0",
        &format!("{}\n", client_secret("d0")),
    );
    assert_eq!(
        shape(&site, &said.done()),
        "name-of-d0 (HOST): minted a token that lives for 1h\nstored \"d0\", generation 2\n"
    );
    let taken = site
        .run("set d0 --client-id client-of-d0", "another")
        .failed();
    assert_eq!(
        taken,
        "error: \"d0\" is stored already: replace its secret with `token-broker credential rotate d0`, or remove it first\n"
    );

    let unused = site
        .run("set new --client-id client-of-d0", "canary")
        .failed();
    assert_eq!(
        unused,
        "error: no destination uses sealed:new, so nobody can be asked whether its secret works: name one with --destination, or store it all the same with --no-verify\n"
    );
    for (destination, complaint) in [
        (
            "nowhere",
            "--destination names none of the configured destinations",
        ),
        ("public", "--destination names one that needs no token"),
    ] {
        let words = format!("set new --client-id client-of-d0 --destination {destination}");
        assert_eq!(
            site.run(&words, "canary").failed(),
            format!("error: {complaint}\n")
        );
    }
    let secret = site.folder.path().join("secret");
    fs::write(&secret, client_secret("d0")).unwrap();
    let words = format!(
        "set new --client-id client-of-d0 --destination d0 --secret-file {}",
        secret.display()
    );
    site.run(&words, "").done();
    site.run("set unasked --client-id c --no-verify", "canary")
        .done();
    let stored: Vec<_> = site.stored().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(stored, ["d0", "new", "unasked"]);
    // One call each for the two that minted, the wrong secret and the broken connection.
    assert_eq!(site.upstream.calls(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_none_is_refused_before_anybody_is_asked() {
    let site = site().await;
    let key = site.folder.path().join("key.pem");
    let signed = Authority::new().unwrap().client("spiffe://td/a").unwrap();
    fs::write(&key, signed.key.expose()).unwrap();
    let key = key.display();
    let large = "x".repeat(70_000);
    for (words, input, expected) in [
        ("", "", "standard input is empty: write the value into it"),
        (
            "",
            "canary\ncanary",
            "standard input holds control characters: write the value alone, in one line",
        ),
        ("", &large, "standard input is larger than 64 KiB"),
        (
            "--key-id k",
            "canary",
            "--key-id cannot be used together with standard input: remove one of them",
        ),
        (
            "--secret-file /nowhere/canary",
            "",
            "the file that --secret-file names does not exist",
        ),
        (
            "--private-key-file /nowhere/canary",
            "",
            "the file that --private-key-file names does not exist",
        ),
        (
            "--secret-file /",
            "",
            "the file that --secret-file names is not a regular file",
        ),
    ] {
        let ended = site.run(&format!("set new --client-id c --no-verify {words}"), input);
        let refused = ended.failed();
        assert_eq!(refused, format!("error: {expected}\n"));
    }
    let both = site.run(
        &format!("set new --client-id c --secret-file {key} --private-key-file {key}"),
        "",
    );
    assert_eq!(both.code, Some(2), "{both:?}");
    // Occtoo takes no key.
    let words = format!("set new --client-id c --destination d0 --private-key-file {key}");
    let refused = shape(&site, &site.run(&words, "").failed());
    assert_eq!(
        refused,
        "error: name-of-d0 (HOST): this protocol needs a client secret, and the application has a private key; nothing was changed\n"
    );
    site.run(
        &format!("set new --client-id c --no-verify --key-id k1 --private-key-file {key}"),
        "",
    )
    .done();
    // A key through a pipe is known by how it begins.
    site.run(
        "set piped --client-id c --no-verify --key-id k1",
        signed.key.expose(),
    )
    .done();
    let list = site.run("list", "").done();
    assert_eq!(list.matches("private key").count(), 2, "{list}");
    assert_eq!(site.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_is_verified_by_what_it_signs() {
    let site = site().await;
    let endpoint = site.upstream.oauth2_url();
    let config = fs::read_to_string(site.config()).unwrap();
    let signed = format!(
        r#"
[[upstream]]
name = "idp"
kind = "oauth2"
endpoint = "{endpoint}"
plain_http = true
allow_loopback = true
[[destination]]
id = "signed"
upstream = "idp"
client_authentication = "private_key_jwt"
[[destination.application]]
name = "signer"
credential = "sealed:signer"
[[destination.grant]]
callers = ["spiffe://td/a"]
"#
    );
    fs::write(site.config(), config + &signed).unwrap();
    let [right, wrong] = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    site.upstream
        .register_key("signed", "signer", &right.public_key_pem())
        .unwrap();
    let set = "set signer --client-id signer --key-id k1";
    let refused = site.run(set, &wrong.serialize_pem()).failed();
    assert!(
        refused.ends_with("status 401 (invalid_client); nothing was changed\n"),
        "{refused}"
    );
    let said = shape(&site, &site.run(set, &right.serialize_pem()).done());
    assert_eq!(
        said,
        "signed (HOST): minted a token that lives for 1h\nstored \"signer\", generation 1\n"
    );
    site.run("verify signer", "").done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_has_a_beginning_and_one_of_two_ends() {
    let site = site().await;
    let begin = "rotate d0 --client-id second";
    site.upstream.register("d0", "second", "canary-second");
    for (words, input, complaint) in [
        (
            "rotate none",
            "canary",
            "the store holds no credential \"none\": it holds \"d0\"",
        ),
        (
            "rotate d0 --finish",
            "",
            "no rotation of \"d0\" is under way: begin one with `token-broker credential rotate d0`",
        ),
        (
            "rotate d0 --abort",
            "",
            "no rotation of \"d0\" is under way: begin one with `token-broker credential rotate d0`",
        ),
        (
            "rotate d0",
            &client_secret("d0"),
            "this is the current secret of \"d0\" already: give the new one",
        ),
        (
            begin,
            "canary-wrong",
            "name-of-d0 (HOST): the token endpoint rejected the request with status 401; nothing was changed",
        ),
    ] {
        let refused = site.run(words, input).failed();
        assert_eq!(shape(&site, &refused), format!("error: {complaint}\n"));
    }
    assert_eq!(site.stored(), [("d0".to_owned(), 1, None)]);
    assert_eq!(site.upstream.calls(), 1, "only the last of them asked");

    site.run(begin, "canary-second").done();
    assert_eq!(site.stored(), [("d0".to_owned(), 1, Some(2))]);
    let twice = site.run(begin, "canary-second").failed();
    assert_eq!(
        twice,
        "error: a rotation of \"d0\" is under way: end it with `token-broker credential rotate d0 --finish`, or give it up with `token-broker credential rotate d0 --abort`\n"
    );
    assert_eq!(
        site.run("rotate d0 --abort", "").done(),
        "dropped generation 2 of \"d0\"\n"
    );
    assert_eq!(site.stored(), [("d0".to_owned(), 1, None)]);

    site.run(begin, "canary-second").done();
    // It has to work when it becomes the current one, too.
    site.upstream.register("d0", "second", "canary-other");
    let refused = site.run("rotate d0 --finish", "").failed();
    assert!(
        refused.ends_with("status 401; nothing was changed\n"),
        "{refused}"
    );
    assert_eq!(site.stored(), [("d0".to_owned(), 1, Some(3))]);
    site.run("rotate d0 --finish --no-verify", "").done();
    assert_eq!(site.stored(), [("d0".to_owned(), 3, None)]);
    for words in [
        "--finish --abort",
        "--finish --client-id c",
        "--abort --secret-file f",
        "--abort --no-verify",
    ] {
        assert_eq!(
            site.run(&format!("rotate d0 {words}"), "").code,
            Some(2),
            "{words}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_what_is_there_and_what_is_missing() {
    let site = site().await;
    site.put("spare", "spare-client", "canary-spare");
    site.run("rotate d0 --client-id second --no-verify", "canary-second")
        .done();
    let config = fs::read_to_string(site.config()).unwrap();
    let late = config
        .replace("sealed:d0", "sealed:late")
        .replace("d0", "d1");
    let late = late
        .split_once("callers = [\"spiffe://corp.example/ns/shop/sa/cart\"]")
        .unwrap()
        .1;
    fs::write(site.config(), format!("{config}{late}")).unwrap();

    let list = site.run("list", "").done();
    let rows: Vec<Vec<_>> = list
        .lines()
        .map(|line| {
            let cells = line.split("  ").map(str::trim);
            cells
                .filter(|cell| !cell.is_empty() && !cell.starts_with("20"))
                .collect()
        })
        .collect();
    assert_eq!(
        rows,
        [
            vec![
                "NAME",
                "SECRET",
                "GENERATION",
                "STORED",
                "PROOF",
                "CLIENT ID",
                "USED BY"
            ],
            vec![
                "d0",
                "current",
                "1",
                "client secret",
                "client-of-d0",
                "name-of-d0/shop"
            ],
            vec![
                "d0",
                "next",
                "2",
                "client secret",
                "second",
                "name-of-d0/shop"
            ],
            vec![
                "spare",
                "current",
                "1",
                "client secret",
                "spare-client",
                "nobody"
            ],
            vec!["late", "missing", "name-of-d1/shop"],
        ]
    );
    let mut json: Value = serde_json::from_str(&site.run("list --output json", "").done()).unwrap();
    let since = |secret: &mut Value| {
        let since = secret["stored_at"].take();
        since.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    };
    since(&mut json["credentials"][0]["current"]);
    since(&mut json["credentials"][0]["next"]);
    since(&mut json["credentials"][1]["current"]);
    let secret = |client_id: &str, generation: u64| {
        json!({
            "client_id": client_id, "proof": "client_secret",
            "generation": generation, "stored_at": null,
        })
    };
    assert_eq!(
        json,
        json!({
            "credentials": [
                {
                    "name": "d0",
                    "current": secret("client-of-d0", 1),
                    "next": secret("second", 2),
                    "used_by": [{ "destination": "d0", "application": "shop" }],
                },
                {
                    "name": "spare",
                    "current": secret("spare-client", 1),
                    "next": null,
                    "used_by": [],
                },
            ],
            "missing": [
                { "name": "late", "used_by": [{ "destination": "d1", "application": "shop" }] },
            ],
        })
    );
    assert_eq!(site.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_asks_with_each_secret_and_says_what_came_of_it() {
    let site = site().await;
    let good = "sealed:d0 current: name-of-d0 (HOST): minted a token that lives for 30m\n";
    site.upstream.behave(Behaviour {
        lifetime: Duration::from_secs(1800),
        ..Behaviour::default()
    });
    for words in [
        "verify",
        "verify d0",
        "verify sealed:d0",
        "verify d0 --destination name-of-d0",
    ] {
        assert_eq!(shape(&site, &site.run(words, "").done()), good);
    }
    assert_eq!(site.upstream.calls(), 4);
    site.put("spare", "client-of-d0", "canary-spare");
    assert_eq!(
        shape(&site, &site.run("verify", "").done()),
        format!("{good}sealed:spare is used by nobody\n")
    );
    let refused = site.run("verify spare", "").failed();
    assert_eq!(
        refused,
        "error: no destination uses sealed:spare, so nobody can be asked: name one with --destination\n"
    );
    let refused = site.run("verify none", "").failed();
    assert_eq!(
        refused,
        "error: the store holds no credential \"none\": it holds \"d0\", \"spare\"\n"
    );

    site.run("rotate d0 --no-verify", "canary-wrong").done();
    let ended = site.run("verify d0", "");
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let bad = "sealed:d0 next: name-of-d0 (HOST): the token endpoint rejected the request with status 401\n";
    assert_eq!(shape(&site, &ended.out), format!("{good}{bad}"));
    let ended = site.run("verify d0 --output json", "");
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let json: Value = serde_json::from_str(&shape(&site, &ended.out)).unwrap();
    assert_eq!(
        json,
        json!({ "verdicts": [
            {
                "credential": "sealed:d0", "secret": "current", "client_id": "client-of-d0",
                "destination": "d0", "host": "HOST", "ok": true, "lifetime_seconds": 1800,
            },
            {
                "credential": "sealed:d0", "secret": "next", "client_id": "client-of-d0",
                "destination": "d0", "host": "HOST", "ok": false, "status": 401, "code": null,
                "error": "the token endpoint rejected the request with status 401",
            },
        ]})
    );

    site.run("remove d0 --force", "").done();
    let ended = site.run("verify", "");
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.out,
        "sealed:d0 is not stored\nsealed:spare is used by nobody\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_takes_references_to_other_places() {
    let mut mounted = setup();
    mounted.sealed = false;
    let site = Site::new(mounted).await;
    let said = shape(&site, &site.run("verify file:d0", "").done());
    assert_eq!(
        said,
        "file:d0 current: name-of-d0 (HOST): minted a token that lives for 1h\n"
    );
    let refused = shape(&site, &site.run("verify file:none", "").failed());
    assert!(
        refused.starts_with("error: credentials/none is missing"),
        "{refused}"
    );

    let mut command = site.command("verify env:SHOP --destination d0");
    command
        .env("SHOP_CLIENT_ID", "client-of-d0")
        .env("SHOP_CLIENT_SECRET", "canary-wrong");
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.starts_with("env:SHOP current: ") && out.contains("status 401"),
        "{out}"
    );
    let wrong = site.run("verify vault:canary", "");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(!wrong.err.contains("canary"));
    // There is no sealed store here, and none is needed.
    assert_eq!(site.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_spares_what_is_in_use() {
    let site = site().await;
    site.put("spare", "spare-client", "canary-spare");
    let refused = site.run("remove d0", "").failed();
    assert_eq!(
        refused,
        "error: sealed:d0 is used by name-of-d0/shop: a broker would refuse the configuration; --force removes it all the same\n"
    );
    let said = site.run("remove spare", "").done();
    assert_eq!(
        said,
        "removed generation 1 of \"spare\", of the client \"spare-client\"\n"
    );
    site.run("rotate d0 --client-id second --no-verify", "canary")
        .done();
    let said = site.run("remove d0 --force", "").done();
    assert_eq!(
        said,
        "removed generation 1 of \"d0\", of the client \"client-of-d0\"\nremoved generation 2 of \"d0\", of the client \"second\"\n"
    );
    assert_eq!(site.stored(), []);
    let refused = site.run("remove d0", "").failed();
    assert_eq!(
        refused,
        "error: the store holds no credential \"d0\": it is empty\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_be_elsewhere() {
    let site = site().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("key");
    let here = site.folder.path().join("broker.key");
    fs::copy(&here, &key).unwrap();
    fs::remove_file(&here).unwrap();
    let refused = shape(&site, &site.run("list", "").failed());
    assert_eq!(
        refused,
        "error: broker.key does not exist: `token-broker credential init` makes it\n"
    );
    site.run(
        &format!(
            "set one --client-id c --no-verify --identity {}",
            key.display()
        ),
        "canary",
    )
    .done();
    let mut command = site.command("list");
    let output = command.env("TOKEN_BROKER_IDENTITY", &key).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    symlink(&key, &here).unwrap();
    assert_eq!(site.stored().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_begin_the_same_rotation_do_not_overwrite_each_other() {
    let site = site().await;
    let slow = Behaviour {
        delay: Duration::from_millis(500),
        ..Behaviour::default()
    };
    site.upstream.register("d0", "second", "canary-second");
    site.upstream.behave(slow);
    let mut command = site.command("rotate d0 --client-id second");
    let mut child = start(&mut command, "canary-second");
    // While that one asks the endpoint, somebody else is quicker.
    drop(child.stdin.take());
    until("it asks", async || site.upstream.calls() == 1).await;
    let quicker = credential("d0", "third", "canary-third");
    site.store()
        .change(|contents| contents.rotate("d0", &quicker, jiff::Timestamp::now()))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let contents = site.store().read().unwrap();
    let next = contents.find("d0").unwrap().next.as_ref().unwrap();
    assert_eq!(&**next.credential.client_id(), "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_configuration_are_reported_with_their_lines() {
    let site = site().await;
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config.replace("sealed:d0", "canary")).unwrap();
    let refused = site.run("list", "").failed();
    assert!(
        refused.contains("\"credential\" must be \"file:NAME\" or \"sealed:NAME\""),
        "{refused}"
    );
    assert!(refused.ends_with("1 mistake\n") && !refused.contains("canary"));
    fs::remove_file(site.config()).unwrap();
    let refused = shape(&site, &site.run("list", "").failed());
    assert!(
        refused.starts_with("broker.toml: the file does not exist"),
        "{refused}"
    );
}
