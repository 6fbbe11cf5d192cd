//! Configurations and credentials in a real file system: whatever stands where a file
//! belongs is refused by name, and nothing is waited for.

#![cfg(unix)]
// The lints know only the test functions themselves; here a panic is the report, too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tempfile::TempDir;
use token_broker::{
    config::Config,
    credential::{Credential, CredentialStore, Mounted, Proof},
};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
const CONFIG: &str = r#"
[server]
cert = "server.pem"
key = "server-key.pem"
client_ca = "server.pem"

[credentials]
directory = "credentials"

[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
"#;

/// A folder with a good configuration in it.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.write("broker.toml", CONFIG);
        site.write("server.pem", CERTIFICATE);
        site.write("server-key.pem", KEY);
        site.write("credentials/shop/client_id", "id");
        site.write("credentials/shop/client_secret", "secret");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Puts something else where a file stands.
    fn replace(&self, name: &str, with: Obstacle) {
        let path = self.path(name);
        fs::remove_file(&path).unwrap();
        with.make(&path);
    }

    fn load(&self) -> Result<Config, Vec<String>> {
        Config::load(&self.path("broker.toml")).map_err(|mistakes| {
            let folder = format!("{}/", self.0.path().display());
            let text = mistakes.to_string().replace(&folder, "");
            text.lines().map(str::to_owned).collect()
        })
    }

    fn credential(&self) -> Result<Arc<Credential>, String> {
        let store = Mounted::new(self.path("credentials"));
        let loaded = store.load("shop").map(|credentials| credentials.current);
        loaded.map_err(|error| {
            let folder = format!("{}/", self.0.path().display());
            error.to_string().replace(&folder, "")
        })
    }
}

/// What may stand where a file belongs.
#[derive(Clone, Copy)]
enum Obstacle {
    Nothing,
    Folder,
    Pipe,
    /// A gigabyte that takes no room on the disk.
    Huge,
    DanglingLink,
    Device,
}

impl Obstacle {
    fn make(self, path: &Path) {
        match self {
            Self::Nothing => {}
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::Pipe => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            Self::Huge => File::create(path).unwrap().set_len(1 << 30).unwrap(),
            Self::DanglingLink => symlink("nowhere", path).unwrap(),
            Self::Device => symlink("/dev/zero", path).unwrap(),
        }
    }
}

fn secret(credential: &Credential) -> &str {
    match &credential.proof {
        Proof::ClientSecret(secret) => secret.expose(),
        Proof::PrivateKey { .. } => panic!("a secret was written"),
    }
}

#[test]
fn a_good_configuration_is_read() {
    let config = Site::new().load().unwrap();
    assert_eq!(config.destinations.len(), 1);
}

#[test]
fn a_configuration_that_is_no_small_file_is_refused_by_name() {
    for (obstacle, expected) in [
        (Obstacle::Nothing, "broker.toml: the file does not exist"),
        (
            Obstacle::Folder,
            "broker.toml: the file is not a regular file",
        ),
        (
            Obstacle::Pipe,
            "broker.toml: the file is not a regular file",
        ),
        (
            Obstacle::Huge,
            "broker.toml: the file is larger than 4096 KiB",
        ),
        (
            Obstacle::DanglingLink,
            "broker.toml: the file does not exist",
        ),
        (
            Obstacle::Device,
            "broker.toml: the file is not a regular file",
        ),
    ] {
        let site = Site::new();
        site.replace("broker.toml", obstacle);
        assert_eq!(
            site.load().unwrap_err(),
            [expected, "broker.toml: 1 mistake"]
        );
    }
}

#[test]
fn a_configuration_that_is_not_text_is_refused_at_its_first_wrong_byte() {
    let site = Site::new();
    site.write("broker.toml", b"# \xc3\xa4\n# \xc3\xa4 \xff");
    let expected = [
        "broker.toml:2:5: not UTF-8: save the file as UTF-8 text",
        "broker.toml: 1 mistake",
    ];
    assert_eq!(site.load().unwrap_err(), expected);
}

#[test]
fn certificates_that_are_no_small_files_are_refused_by_name() {
    for (obstacle, expected) in [
        (Obstacle::Nothing, "which does not exist"),
        (Obstacle::Folder, "which is not a regular file"),
        (Obstacle::Pipe, "which is not a regular file"),
        (Obstacle::Huge, "which is larger than 1024 KiB"),
        (Obstacle::Device, "which is not a regular file"),
    ] {
        let site = Site::new();
        site.replace("server-key.pem", obstacle);
        let expected = format!("broker.toml:4:7: \"key\" names \"server-key.pem\", {expected}");
        assert_eq!(
            site.load().unwrap_err(),
            [&expected, "broker.toml: 1 mistake"]
        );
    }
}

#[test]
fn a_credential_that_is_no_small_file_is_refused_by_name() {
    for (obstacle, problem) in [
        (
            Obstacle::Nothing,
            "is missing: write the client secret into it, or a private key into private_key",
        ),
        (Obstacle::Folder, "is not a regular file"),
        (Obstacle::Pipe, "is not a regular file"),
        (Obstacle::Huge, "is larger than 64 KiB"),
        (
            Obstacle::DanglingLink,
            "is missing: write the client secret into it, or a private key into private_key",
        ),
        (Obstacle::Device, "is not a regular file"),
    ] {
        let site = Site::new();
        site.replace("credentials/shop/client_secret", obstacle);
        let expected = format!("credentials/shop/client_secret {problem}");
        assert_eq!(site.credential().unwrap_err(), expected);
        let expected = format!("broker.toml:15:14: \"credential\" cannot be loaded: {expected}");
        assert_eq!(
            site.load().unwrap_err(),
            [&expected, "broker.toml: 1 mistake"]
        );
    }
}

#[test]
fn a_file_that_may_not_be_read_is_refused_by_name() {
    let site = Site::new();
    let path = site.path("credentials/shop/client_secret");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if File::open(&path).is_ok() {
        return;
    }
    let expected = "credentials/shop/client_secret cannot be read: permission denied";
    assert_eq!(site.credential().unwrap_err(), expected);
}

#[test]
fn a_file_at_the_limit_is_read_and_one_beyond_is_not() {
    let site = Site::new();
    site.write("credentials/shop/client_secret", "x".repeat(64 * 1024));
    assert_eq!(secret(&site.credential().unwrap()).len(), 64 * 1024);
    site.write("credentials/shop/client_secret", "x".repeat(64 * 1024 + 1));
    let expected = "credentials/shop/client_secret is larger than 64 KiB";
    assert_eq!(site.credential().unwrap_err(), expected);
}

#[test]
fn a_name_never_leads_out_of_the_directory() {
    let site = Site::new();
    site.write("outside/client_id", "id");
    site.write("outside/client_secret", "canary");
    let store = Mounted::new(site.path("credentials"));
    let absolute = site.path("outside").display().to_string();
    for name in [
        "..",
        ".",
        "",
        "../outside",
        "shop/../../outside",
        &absolute,
        "shop/",
        "a\0b",
    ] {
        let error = store.load(name).unwrap_err().to_string();
        assert!(
            error.ends_with("NAME is no name of a credential"),
            "{name:?}: {error}"
        );
    }
}

#[test]
fn a_kubernetes_mount_is_read_and_its_renewal_is_seen() {
    let site = Site::new();
    let folder = site.path("credentials/shop");
    fs::remove_dir_all(&folder).unwrap();
    // As the kubelet does it: each part is a link through `..data`, which alone is swapped.
    site.write("credentials/shop/..2026_1/client_id", "id");
    site.write("credentials/shop/..2026_1/client_secret", "old");
    symlink("..2026_1", folder.join("..data")).unwrap();
    symlink("..data/client_id", folder.join("client_id")).unwrap();
    symlink("..data/client_secret", folder.join("client_secret")).unwrap();
    let old = site.credential().unwrap();
    assert_eq!((&**old.client_id(), secret(&old)), ("id", "old"));
    assert_eq!(site.credential().unwrap().generation, old.generation);

    site.write("credentials/shop/..2026_2/client_id", "id");
    site.write("credentials/shop/..2026_2/client_secret", "new");
    symlink("..2026_2", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    fs::remove_dir_all(folder.join("..2026_1")).unwrap();
    let new = site.credential().unwrap();
    assert_eq!(secret(&new), "new");
    assert_ne!(new.generation, old.generation);

    fs::remove_file(folder.join("..2026_2/client_secret")).unwrap();
    let expected = "credentials/shop/client_secret is missing: write the client secret into it, or a private key into private_key";
    assert_eq!(site.credential().unwrap_err(), expected);
}

#[test]
fn a_renewal_never_mixes_two_states() {
    let site = Site::new();
    let folder = site.path("credentials/shop");
    fs::remove_dir_all(&folder).unwrap();
    for state in ["0", "1"] {
        site.write(&format!("credentials/shop/..{state}/client_id"), state);
        site.write(&format!("credentials/shop/..{state}/client_secret"), state);
    }
    symlink("..0", folder.join("..data")).unwrap();
    symlink("..data/client_id", folder.join("client_id")).unwrap();
    symlink("..data/client_secret", folder.join("client_secret")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for swap in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                symlink(format!("..{}", swap % 2), folder.join("next")).unwrap();
                fs::rename(folder.join("next"), folder.join("..data")).unwrap();
            }
        });
        for _ in 0..2_000 {
            let credential = site.credential().unwrap();
            assert_eq!(&**credential.client_id(), secret(&credential));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_credential_cut_at_any_byte_is_another_one_or_refused() {
    let site = Site::new();
    let whole = site.credential().unwrap();
    for length in 0.."secret".len() {
        site.write("credentials/shop/client_secret", &"secret"[..length]);
        match site.credential() {
            Ok(cut) => assert_ne!(cut.generation, whole.generation),
            Err(error) => assert!(!error.contains("secret is \""), "{error}"),
        }
    }
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let site = Site::new();
    let config = site.load().unwrap();
    assert_eq!(config.server.tls.cert, site.path("server.pem"));
}
