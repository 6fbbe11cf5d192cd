//! What `dev` writes down: certificates, credentials, a configuration, and the
//! environment for the client commands.

use std::{
    fs, io,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rand::distr::{Alphanumeric, SampleString as _};

use super::{DevError, authority::Authority};
use crate::secret::Secret;

/// Marks a folder as written by `dev`, so that it may be written again.
const MARK: &str = ".token-broker-dev";
/// Whom the client certificate names.
const CALLER: &str = "spiffe://dev.example/ns/default/sa/you";

/// The samples, by the names under which they are asked for.
pub(super) const PROTECTED: Sample = Sample {
    name: "protected",
    id: "3f8c2b1e-6d47-4c0a-9e15-7a2d90c4b851",
};
pub(super) const UNPROTECTED: Sample = Sample {
    name: "unprotected",
    id: "b7a41d5c-02f9-4e86-8c33-19d6e5f0a274",
};
pub(super) const WRONG_SECRET: Sample = Sample {
    name: "wrong-secret",
    id: "e90d7f36-4ab8-4d12-b5c7-c8316f2e9d05",
};

/// A sample destination.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) id: &'static str,
}

/// An application that was registered for a sample.
pub(super) struct Registered {
    pub(super) client_id: String,
    pub(super) secret: Secret,
}

/// The folder of one trial. A folder that `dev` chose itself is removed with it.
pub(super) struct Folder {
    path: PathBuf,
    throw_away: bool,
}

impl Folder {
    /// A folder of the user's choice, which must be empty, new, or written by `dev`; or
    /// else one in the system's place for temporary files.
    pub(super) fn create(chosen: Option<PathBuf>) -> Result<Self, DevError> {
        let throw_away = chosen.is_none();
        let path = chosen.unwrap_or_else(|| {
            let name = Alphanumeric.sample_string(&mut rand::rng(), 8);
            std::env::temp_dir().join(format!("token-broker-dev-{name}"))
        });
        let path = std::path::absolute(&path).map_err(|error| DevError::write(&path, error))?;
        let folder = Self { path, throw_away };
        let occupied = folder.path.exists()
            && !folder.path(MARK).exists()
            && fs::read_dir(&folder.path)
                .map_err(|error| DevError::write(&folder.path, error))?
                .next()
                .is_some();
        if occupied {
            return Err(DevError::Occupied(folder.path.clone()));
        }
        folder.make_folder("")?;
        folder.write(MARK, "written by `token-broker dev`\n")?;
        Ok(folder)
    }

    /// The folder, or a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        }
    }

    /// Certificates for both sides.
    pub(super) fn write_certificates(&self, address: SocketAddr) -> Result<(), DevError> {
        let authority = Authority::new()?;
        let server = authority.server(address.ip())?;
        let client = authority.client(CALLER)?;
        self.write("ca.pem", authority.certificate())?;
        self.write("server.pem", &server.certificate)?;
        self.write("server.key", server.key.expose())?;
        self.write("client.pem", &client.certificate)?;
        self.write("client.key", client.key.expose())
    }

    /// The credentials of one sample.
    pub(super) fn write_credential(
        &self,
        sample: &Sample,
        client_id: &str,
        secret: &Secret,
    ) -> Result<(), DevError> {
        let folder = format!("credentials/{}", sample.name);
        self.make_folder(&folder)?;
        self.write(&format!("{folder}/client_id"), client_id)?;
        self.write(&format!("{folder}/client_secret"), secret.expose())
    }

    /// A configuration like one that a person would write.
    pub(super) fn write_config(
        &self,
        listen: SocketAddr,
        upstream: &str,
    ) -> Result<PathBuf, DevError> {
        let mut config = format!(
            r#"# Written by `token-broker dev`. Everything in this folder is for trying things out.

[server]
listen = "{listen}"
cert = "server.pem"
key = "server.key"
client_ca = "ca.pem"

[http]
listen = "127.0.0.1:0"

# Whoever may look at everything and stop it.
[admin]
allow = ["{CALLER}"]
state_file = "state.json"

[credentials]
directory = "credentials"

# Who was given which token: token-broker audit verify --open audit.jsonl
[audit]
file = "audit.jsonl"

# The embedded token endpoint, which speaks plain HTTP on this machine.
[[upstream]]
name = "occtoo"
endpoint = "{upstream}"
plain_http = true
allow_loopback = true

[[destination]]
id = "{unprotected_id}"
name = "{unprotected}"
upstream = "occtoo"
unprotected = true
[[destination.grant]]
callers = ["{CALLER}"]
"#,
            unprotected_id = UNPROTECTED.id,
            unprotected = UNPROTECTED.name,
        );
        for Sample { name, id } in [PROTECTED, WRONG_SECRET] {
            let section = format!(
                r#"
[[destination]]
id = "{id}"
name = "{name}"
upstream = "occtoo"
[[destination.application]]
name = "dev"
credential = "file:{name}"
[[destination.grant]]
callers = ["{CALLER}"]
"#
            );
            config.push_str(&section);
        }
        self.write("token-broker.toml", &config)?;
        Ok(self.path("token-broker.toml"))
    }

    /// Shell exports, from which the client commands read how to connect.
    pub(super) fn write_env(&self, endpoint: &str, http: &str) -> Result<(), DevError> {
        let mut exports = String::new();
        for (variable, value) in [
            ("TOKEN_BROKER_ENDPOINT", endpoint.to_owned()),
            ("TOKEN_BROKER_CA", self.path("ca.pem").display().to_string()),
            (
                "TOKEN_BROKER_CERT",
                self.path("client.pem").display().to_string(),
            ),
            (
                "TOKEN_BROKER_KEY",
                self.path("client.key").display().to_string(),
            ),
            ("TOKEN_BROKER_HTTP", http.to_owned()),
        ] {
            let export = format!("export {variable}={}\n", quoted(&value));
            exports.push_str(&export);
        }
        self.write("env", &exports)
    }

    fn make_folder(&self, name: &str) -> Result<(), DevError> {
        let path = self.path(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| DevError::write(&path, error))
    }

    /// Writes a file that nobody else may read.
    fn write(&self, name: &str, content: &str) -> Result<(), DevError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(content.as_bytes())
        };
        write().map_err(|error| DevError::write(&path, error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.throw_away {
            // It is in the place for temporary files: what stays behind is cleaned up there.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Registered {
    /// New credentials, shaped like Occtoo's: a GUID and 44 characters of base64.
    pub(super) fn random() -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let id = format!("{:032x}", rand::random::<u128>());
        Self {
            client_id: [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-"),
            secret: Secret::new(STANDARD.encode(rand::random::<[u8; 32]>())),
        }
    }
}

/// A word that a POSIX shell reads back unchanged.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.-_".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as a person would type it: relative where that is shorter.
pub(super) fn typed(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok());
    quoted(&relative.unwrap_or(path).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (text, expected) in [
            ("/tmp/a-b_c.d:1", "/tmp/a-b_c.d:1"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_folder_with_somebody_elses_files_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("ca.pem"), "mine").unwrap();
        let refused = Folder::create(Some(parent.path().to_owned()));
        assert!(matches!(refused, Err(DevError::Occupied(_))));
        assert_eq!(fs::read(parent.path().join("ca.pem")).unwrap(), b"mine");

        let new = parent.path().join("new");
        drop(Folder::create(Some(new.clone())).unwrap());
        assert!(
            Folder::create(Some(new)).is_ok(),
            "what dev wrote it may write again"
        );
    }

    #[test]
    fn a_throw_away_folder_goes_with_its_trial() {
        let folder = Folder::create(None).unwrap();
        let path = folder.path("");
        assert!(path.join(MARK).exists());
        drop(folder);
        assert!(!path.exists());
    }
}
