//! What is sealed comes back, and nothing else is taken for it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::credential::{Credential, CredentialRef, Offered, Proof};

/// How much of the processor looking at a hostile store may take. The tests are built without
/// optimisation.
const AT_MOST: Duration = Duration::from_secs(1);
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";

/// A folder with a key and a store.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.draw("key");
        site.store().create().unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a new key, and returns its public half.
    fn draw(&self, name: &str) -> String {
        let key = Keys::draw(Timestamp::now());
        fs::write(self.path(name), key.file.expose()).unwrap();
        key.public
    }

    fn store(&self) -> Store {
        self.store_with("key", false)
    }

    fn store_with(&self, key: &str, is_shared: bool) -> Store {
        let keys = Keys::read(&self.path(key)).unwrap();
        Store::new(self.path("store"), keys, is_shared)
    }

    fn refusal(&self) -> String {
        let folder = format!("{}/", self.0.path().display());
        let error = self.store().read().unwrap_err().to_string();
        error.replace(&folder, "")
    }

    /// Seals a text of one's own for the key.
    fn seal(&self, text: &str) {
        let readers = self.store().keys().public();
        let sealed = envelope::seal(text.as_bytes(), &readers).unwrap();
        fs::write(self.path("store"), sealed).unwrap();
    }
}

fn credential(client_id: &str, proof: &str) -> Credential {
    let offered = Offered {
        client_id: client_id.to_owned(),
        proof: Zeroizing::new(proof.as_bytes().to_vec()),
        place: "here".to_owned(),
        is_key: Offered::looks_like_key(proof.as_bytes()),
        key_id: proof.starts_with("---").then(|| "k1".to_owned()),
    };
    let reference = CredentialRef::Sealed("shop".to_owned());
    offered.assemble(reference).unwrap()
}

fn secret(credential: &Credential) -> &str {
    match &credential.proof {
        Proof::ClientSecret(secret) | Proof::PrivateKey { pem: secret, .. } => secret.expose(),
    }
}

#[test]
fn what_is_stored_comes_back() {
    let site = Site::new();
    let store = site.store();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store
        .change(|contents| {
            contents.set("shop", &credential("id", "quotes \" and \\ and ä"), now)?;
            contents.rotate("shop", &credential("other", "next"), now)?;
            contents.set("signer", &credential("signer", PEM), now)?;
            contents.set("gone", &credential("gone", "gone"), now)?;
            contents.remove("gone")
        })
        .unwrap();
    let armored = fs::read_to_string(store.path()).unwrap();
    assert!(armored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    assert!(armored.ends_with("-----END AGE ENCRYPTED FILE-----\n"));

    let sealed = Sealed::open(&store).unwrap();
    let shop = sealed.load("shop").unwrap();
    let next = shop.next.unwrap();
    assert_eq!(&**shop.current.client_id(), "id");
    assert_eq!(secret(&shop.current), "quotes \" and \\ and ä");
    assert_eq!((&**next.client_id(), secret(&next)), ("other", "next"));
    let name = |credential: &Credential| {
        let name = &credential.name;
        format!("{} {}", name.credential, name.generation)
    };
    assert_eq!(name(&shop.current), "sealed:shop 1");
    assert_eq!(name(&next), "sealed:shop 2");
    let signer = sealed.load("signer").unwrap().current;
    assert!(matches!(&signer.proof, Proof::PrivateKey { key_id: Some(id), .. } if id == "k1"));
    assert_eq!(secret(&signer), PEM);
    let contents = store.read().unwrap();
    assert_eq!(contents.find("shop").unwrap().current.stored_at, now);
    let error = sealed.load("gone").unwrap_err().to_string();
    assert!(error.ends_with(r#"holds no credential "gone": it holds "shop", "signer""#));
    let again = store.change(|contents| contents.set("gone", &credential("gone", "new"), now));
    assert_eq!(
        again.unwrap(),
        2,
        "the store remembers what it has forgotten"
    );
}

#[test]
fn a_new_store_is_its_owners_alone_and_never_replaces_another() {
    let site = Site::new();
    let mode = fs::metadata(site.path("store"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(site.path("store")).unwrap();
    let refused = site.store().create().unwrap_err();
    assert!(matches!(refused, ChangeError::Exists(_)), "{refused}");
    assert_eq!(fs::read(site.path("store")).unwrap(), before);
}

#[test]
fn every_store_that_cannot_be_used_is_refused_by_its_kind() {
    let site = Site::new();
    let good = fs::read_to_string(site.path("store")).unwrap();
    let mut lines: Vec<_> = good.lines().collect();
    lines[3] = lines[2];
    let garbled = lines.join("\n") + "\n";
    let passphrase = "age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 22\nZV8jRhj40fqbGA6OEJXCAQV1BAw1PYLyd2M4BzVnqGc\n--- 2gfR8q5DlJG0YkHX6VUGn4Y0TGVcYhBHQ7qYqWgZpfA\n0123456789abcdef0123456789abcdef";
    let mut other = BTreeSet::new();
    other.insert(site.draw("other"));
    let of_other = envelope::seal(b"{}", &other).unwrap();
    for (content, expected) in [
        (
            &b""[..],
            "store is not an age file: `token-broker credential init` makes one",
        ),
        (
            b"nonsense",
            "store is not an age file: `token-broker credential init` makes one",
        ),
        (
            &good.as_bytes()[..good.len() / 2],
            "store is truncated or garbled: put back a whole copy of it",
        ),
        (
            garbled.as_bytes(),
            "store is truncated or garbled: put back a whole copy of it",
        ),
        (
            format!("{good}x").as_bytes(),
            "store is truncated or garbled: put back a whole copy of it",
        ),
        (
            b"age-encryption.org/v2\n--- x\n",
            "store is truncated or garbled: put back a whole copy of it",
        ),
        (
            &of_other,
            "store is encrypted to another key than those in key",
        ),
        (
            passphrase.as_bytes(),
            "store is encrypted with a passphrase, which is not supported: encrypt it to a key",
        ),
    ] {
        fs::write(site.path("store"), content).unwrap();
        assert_eq!(site.refusal(), expected);
    }
    fs::remove_file(site.path("store")).unwrap();
    assert_eq!(site.refusal(), "store does not exist");
    File::create(site.path("store"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    assert_eq!(site.refusal(), "store is larger than 16384 KiB");
    fs::remove_file(site.path("store")).unwrap();
    fs::create_dir(site.path("store")).unwrap();
    assert_eq!(site.refusal(), "store is not a regular file");
}

#[test]
fn what_was_sealed_by_others_is_read_strictly() {
    let site = Site::new();
    let secret = |generation: u64, secret: &str| {
        format!(
            r#"{{"generation":{generation},"stored_at":0,"client_id":"id","client_secret_base64":"{secret}"}}"#
        )
    };
    let whole = |credentials: &str, removed: &str| {
        format!(
            r#"{{"version":1,"readers":[],"credentials":[{credentials}],"removed":[{removed}]}}"#
        )
    };
    let entry = |name: &str, last: u64, current: &str, next: &str| {
        format!(r#"{{"name":"{name}","last_generation":{last},"current":{current}{next}}}"#)
    };
    let one = secret(1, "Y2FuYXJ5");
    let next = |next: &str| format!(r#","next":{next}"#);
    let contents = "store was decrypted, but does not hold credentials as this broker writes them";
    site.seal(&whole(
        &entry("a", 2, &one, &next(&secret(2, "Y2FuYXJ5"))),
        "",
    ));
    assert!(site.store().read().is_ok());
    for (text, expected) in [
        ("", contents),
        ("canary", contents),
        ("{}", contents),
        (
            r#"{"version":2,"canary":[]}"#,
            "store is of version 2, and this broker knows version 1: use a newer broker",
        ),
        (r#"{"version":1,"credentials":[]}"#, contents),
        (
            &whole("", "").replace("version\":1", "version\":1,\"canary\":0"),
            contents,
        ),
        (&whole(&entry("../a", 1, &one, ""), ""), contents),
        (&whole(&entry("a", 0, &one, ""), ""), contents),
        (&whole(&entry("a", 2, &one, &next(&one)), ""), contents),
        (
            &whole(
                &[entry("a", 1, &one, ""), entry("a", 1, &one, "")].join(","),
                "",
            ),
            contents,
        ),
        (
            &whole(
                &entry("a", 1, &one, ""),
                r#"{"name":"a","last_generation":1}"#,
            ),
            contents,
        ),
        (&whole(&entry("a", 1, &secret(1, "%"), ""), ""), contents),
        (
            &whole(&entry("a", 1, &secret(1, "\\u0041AAA"), ""), ""),
            contents,
        ),
        (
            &whole(&entry("a", 1, &secret(1, ""), ""), ""),
            "store: the client secret of \"a\" is empty: write the value into it",
        ),
        (
            &whole(&entry("a", 1, &secret(1, "Y2FuYXJ5CmNhbmFyeQ=="), ""), ""),
            "store: the client secret of \"a\" holds control characters: write the value alone, in one line",
        ),
        (
            &whole(
                &entry("a", 1, &one.replace("client_secret", "private_key"), ""),
                "",
            ),
            "store: the private key of \"a\" is not a private key in PEM: it must begin with -----BEGIN PRIVATE KEY-----",
        ),
    ] {
        site.seal(text);
        assert_eq!(site.refusal(), expected, "{text}");
    }
}

#[test]
fn keys_are_rotated_by_adding_one_and_removing_the_other() {
    let site = Site::new();
    let old = fs::read_to_string(site.path("key")).unwrap();
    site.draw("new");
    let new = fs::read_to_string(site.path("new")).unwrap();
    fs::write(site.path("both"), format!("{new}{old}")).unwrap();
    let set = |key: &str, name: &str| {
        let store = site.store_with(key, false);
        store
            .change(|contents| contents.set(name, &credential("id", "s"), Timestamp::now()))
            .map_err(|error| error.to_string())
    };
    set("key", "one").unwrap();
    assert!(
        set("new", "two")
            .unwrap_err()
            .contains("is encrypted to another key than those in")
    );
    set("both", "two").unwrap();
    set("key", "three").unwrap();
    set("both", "four").unwrap();
    set("new", "five").unwrap();
    let error = set("key", "six").unwrap_err();
    assert!(error.contains("is encrypted to another key"), "{error}");
    assert_eq!(
        site.store_with("new", false).read().unwrap().iter().count(),
        5
    );
}

#[test]
fn a_key_from_elsewhere_locks_nobody_out() {
    let site = Site::new();
    site.draw("operator");
    let operator = fs::read_to_string(site.path("operator")).unwrap();
    let broker = fs::read_to_string(site.path("key")).unwrap();
    fs::write(site.path("both"), format!("{broker}{operator}")).unwrap();
    let change = |key: &str, is_shared: bool, name: &str| {
        let store = site.store_with(key, is_shared);
        let set =
            store.change(|contents| contents.set(name, &credential("id", "s"), Timestamp::now()));
        set.unwrap();
    };
    change("both", false, "one");
    change("operator", true, "two");
    assert_eq!(site.store().read().unwrap().iter().count(), 2);
    change("operator", false, "three");
    assert!(site.store().read().is_err());
}

#[test]
fn a_hostile_store_is_refused_within_a_second() {
    let site = Site::new();
    let limit = usize::try_from(MAX_STORE).unwrap();
    let binary = |lines: &str| {
        let mut file = "age-encryption.org/v1\n".to_owned();
        file.push_str(&lines.repeat((limit - file.len()) / lines.len()));
        file.into_bytes()
    };
    let armored = |line: &str| {
        let mut file = "-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned();
        file.push_str(&line.repeat((limit - file.len()) / line.len()));
        file.into_bytes()
    };
    let line = "A".repeat(64) + "\n";
    // As many recipients as a header takes, each of which every key is tried on.
    let x25519 = "-> X25519 DoYsJmSGfFbHCbJh6wSR6VLbCtYTmgGsAcIbCbHKXSE\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    let mac = "--- 2gfR8q5DlJG0YkHX6VUGn4Y0TGVcYhBHQ7qYqWgZpfA\n0123456789abcdef0123456789abcdef";
    let recipients = x25519.repeat((8 * 1024 - 128) / x25519.len());
    let recipients = format!("age-encryption.org/v1\n{recipients}{mac}");
    let keys: Vec<_> = (0..8)
        .map(|_| Keys::draw(Timestamp::now()).file.expose().to_owned())
        .collect();
    fs::write(site.path("key"), keys.concat()).unwrap();
    for (kind, file) in [
        ("an endless header", binary("-> x\n\n")),
        ("an endless recipient", binary(&line)),
        ("an endless line", binary("A")),
        ("endless recipients", binary(x25519)),
        ("many recipients", recipients.into_bytes()),
        ("an endless armour", armored(&line)),
        ("an endless line in armour", armored("A")),
        ("zeroes", vec![0; limit]),
        ("work without end", b"age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 64\nZV8jRhj40fqbGA6OEJXCAQV1BAw1PYLyd2M4BzVnqGc\n--- 2gfR8q5DlJG0YkHX6VUGn4Y0TGVcYhBHQ7qYqWgZpfA\n0123456789abcdef0123456789abcdef".to_vec()),
    ] {
        fs::write(site.path("store"), file).unwrap();
        let store = site.store();
        let before = processor_time();
        let refused = store.read().unwrap_err();
        let took = processor_time().saturating_sub(before);
        println!("{kind} took {took:?}: {refused}");
        assert!(took < AT_MOST, "{kind} took {took:?}");
    }
}

/// The time that the processor gave this thread, whatever else the machine does (proc(5)).
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let (nanoseconds, _) = stat.split_once(' ').unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

#[test]
fn neither_keys_nor_contents_are_shown() {
    let site = Site::new();
    let store = site.store();
    let set = store
        .change(|contents| contents.set("shop", &credential("id", "canary"), Timestamp::now()));
    set.unwrap();
    let shown = format!("{store:#?} {:#?}", Sealed::open(&store).unwrap());
    assert!(
        !shown.contains("canary") && !shown.contains("AGE-SECRET-KEY"),
        "{shown}"
    );
}
