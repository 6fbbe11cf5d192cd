//! The folder of a broker, and the upstream that it asks.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tempfile::TempDir;
use token_broker::{
    cli::dev::{Authority, Signed},
    credential::{
        Credential, CredentialRef, Proof,
        sealed::{Keys, Store},
    },
    secret::Secret,
    upstream::standin::{Behaviour, Standin, StandinSettings},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::Policy;

/// All that a broker needs: certificates, credentials in a sealed store, a policy, and an
/// upstream. The audit trail is a file, the metrics are on, and no limit is in the way.
pub(crate) struct Site {
    pub(crate) policy: Policy,
    pub(crate) authority: Authority,
    pub(crate) upstream: Standin,
    folder: TempDir,
}

impl Site {
    /// How long tokens are, in bytes.
    pub(crate) const TOKEN: usize = 900;

    pub(crate) async fn new(policy: Policy) -> Self {
        let settings = StandinSettings {
            behaviour: Self::behaviour(),
            ..StandinSettings::default()
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let upstream = Standin::start(loopback, settings).await.unwrap();
        for n in 0..policy.destinations {
            upstream.register(
                &Policy::destination(n),
                &Policy::client_id(n),
                &Policy::client_secret(n),
            );
        }
        let site = Self {
            policy,
            authority: Authority::new().unwrap(),
            upstream,
            folder: tempfile::tempdir().unwrap(),
        };
        site.write_certificates();
        site.seal();
        site.write("broker.toml", site.configuration());
        site
    }

    /// How the upstream behaves until it is told otherwise.
    pub(crate) fn behaviour() -> Behaviour {
        Behaviour {
            token_length: Self::TOKEN,
            ..Behaviour::default()
        }
    }

    /// One of its files. There are `broker.toml`, `ca.pem`, `server.pem` and `server.key`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the others.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// The certificate of a caller of the policy.
    pub(crate) fn caller(&self, n: usize) -> Signed {
        self.authority.client(&Policy::caller(n)).unwrap()
    }

    /// A server at this address that shows the certificate of this site, as an ordinary client
    /// connects to it.
    pub(crate) fn endpoint(&self, server: SocketAddr, caller: usize) -> Endpoint {
        let signed = self.caller(caller);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate()))
            .identity(Identity::from_pem(&signed.certificate, signed.key.expose()));
        Endpoint::from_shared(format!("https://{server}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
    }

    fn write_certificates(&self) {
        let server = self.authority.server([127, 0, 0, 1].into()).unwrap();
        self.write("ca.pem", self.authority.certificate());
        self.write("server.pem", &server.certificate);
        self.write("server.key", server.key.expose());
    }

    /// Writes the key `broker.key`, and the store `credentials.age` for it.
    fn seal(&self) {
        let identity = self.path("broker.key");
        self.write("broker.key", Keys::draw(Timestamp::now()).file.expose());
        let keys = Keys::read(&identity).unwrap();
        let store = Store::new(self.path("credentials.age"), keys, false);
        store.create().unwrap();
        store
            .change(|contents| {
                for n in 0..self.policy.destinations {
                    let name = Policy::credential(n);
                    let proof = Proof::ClientSecret(Secret::new(Policy::client_secret(n)));
                    let reference = CredentialRef::Sealed(name.clone());
                    let credential = Credential::new(&reference, Policy::client_id(n), proof);
                    contents.set(&name, &credential, Timestamp::now())?;
                }
                Ok(())
            })
            .unwrap();
    }

    fn configuration(&self) -> String {
        format!(
            r#"
[server]
listen = "127.0.0.1:0"
cert = "server.pem"
key = "server.key"
client_ca = "ca.pem"
# No limit is what is measured.
max_connections_per_caller = 10000
max_calls = 1000000
max_calls_per_second = 1000000
first_request_timeout = "10m"
[http]
listen = "127.0.0.1:0"
[credentials]
sealed = "credentials.age"
identity = "broker.key"
[audit]
file = "audit.jsonl"
[[upstream]]
name = "occtoo"
endpoint = "{upstream}"
plain_http = true
allow_loopback = true
{policy}"#,
            upstream = self.upstream.base_url(),
            policy = self.policy.lines(),
        )
    }
}

impl AsRef<Path> for Site {
    fn as_ref(&self) -> &Path {
        self.folder.path()
    }
}
