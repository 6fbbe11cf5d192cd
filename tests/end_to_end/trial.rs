//! A whole broker over real sockets and real mutual TLS, with an upstream that can be
//! told what to do.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;
use token_broker::{
    api::v1::{GetTokenRequest, GetTokenResponse, token_broker_client::TokenBrokerClient},
    app::App,
    cli::dev::{Authority, Signed},
    credential::{
        Credential, CredentialRef, Proof,
        sealed::{Keys, Store},
    },
    secret::Secret,
    upstream::standin::{Standin, StandinSettings},
};
use tonic::{
    Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

/// Not how fast anything must be, but when a test that hangs is given up.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(60);

/// The caller that is granted every destination.
pub(crate) const CART: &str = "spiffe://corp.example/ns/shop/sa/cart";
/// A caller that is granted nothing.
pub(crate) const STRANGER: &str = "spiffe://corp.example/ns/other/sa/stranger";

/// A running broker. Its destinations are `d0`, `d1` and so on; `public` needs no token.
pub(crate) struct Trial {
    pub(crate) app: App,
    site: Site,
}

/// All that a broker needs: its files, and its upstream.
pub(crate) struct Site {
    pub(crate) upstream: Standin,
    pub(crate) authority: Authority,
    /// Holds the files that the broker is configured with, `broker.toml` first.
    pub(crate) folder: TempDir,
}

/// What a trial differs in from the ordinary.
#[derive(Default)]
pub(crate) struct Setup {
    /// How many protected destinations there are.
    pub(crate) destinations: usize,
    /// Lines for every protected destination.
    pub(crate) destination: &'static str,
    /// Lines for `[server]`.
    pub(crate) server: &'static str,
    /// Lines for `[[upstream]]`.
    pub(crate) upstream: &'static str,
    /// Lines for `[audit]`.
    pub(crate) audit: &'static str,
    /// Whether the credentials are in a sealed store, and not in folders.
    pub(crate) sealed: bool,
    /// Files beside the configuration, or instead of the ordinary ones.
    pub(crate) files: Vec<(&'static str, String)>,
}

/// The client id of a destination's application.
pub(crate) fn client_id(destination: &str) -> String {
    format!("client-of-{destination}")
}

/// The secret of a destination's application.
pub(crate) fn client_secret(destination: &str) -> String {
    format!("canary-secret-of-{destination}")
}

impl Trial {
    /// A broker with this many protected destinations.
    pub(crate) async fn with(destinations: usize) -> Self {
        Self::start(Setup {
            destinations,
            ..Setup::default()
        })
        .await
    }

    pub(crate) async fn start(setup: Setup) -> Self {
        Self::of(Site::new(setup).await).await
    }

    /// A broker with what is there, which may have been changed.
    pub(crate) async fn of(site: Site) -> Self {
        let app = App::start(&site.config()).await.unwrap();
        Self { app, site }
    }

    /// The broker, to be stopped, and what it was started with.
    #[allow(
        dead_code,
        reason = "only some programs of tests stop the broker first"
    )]
    pub(crate) fn into_parts(self) -> (App, Site) {
        (self.app, self.site)
    }

    /// A client with the certificate of this caller, on a connection of its own.
    pub(crate) async fn client(&self, caller: &str) -> TokenBrokerClient<Channel> {
        let signed = self.authority.client(caller).unwrap();
        TokenBrokerClient::new(self.connect(&signed).await.unwrap())
    }

    pub(crate) async fn connect(
        &self,
        signed: &Signed,
    ) -> Result<Channel, tonic::transport::Error> {
        let identity = Identity::from_pem(&signed.certificate, signed.key.expose());
        self.connect_with(self.tls().identity(identity)).await
    }

    pub(crate) async fn connect_with(
        &self,
        tls: ClientTlsConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        endpoint(self.app.address(), tls).connect().await
    }

    pub(crate) fn tls(&self) -> ClientTlsConfig {
        trusting(&self.authority)
    }

    /// The status and the body of a plain HTTP GET.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        http(self.app.http_address().unwrap(), path).await.unwrap()
    }
}

impl Deref for Trial {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Site {
    pub(crate) async fn new(setup: Setup) -> Self {
        let upstream = Standin::start(([127, 0, 0, 1], 0).into(), StandinSettings::default())
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let server = authority.server([127, 0, 0, 1].into()).unwrap();
        let trial_file = |name: &str, content: &str| {
            fs::write(folder.path().join(name), content).unwrap();
        };
        trial_file("ca.pem", authority.certificate());
        trial_file("server.pem", &server.certificate);
        trial_file("server.key", server.key.expose());

        let names: Vec<_> = (0..setup.destinations).map(|n| format!("d{n}")).collect();
        for name in &names {
            upstream.register(name, &client_id(name), &client_secret(name));
            let credential = folder.path().join("credentials").join(name);
            fs::create_dir_all(&credential).unwrap();
            fs::write(credential.join("client_id"), client_id(name)).unwrap();
            fs::write(credential.join("client_secret"), client_secret(name)).unwrap();
        }
        fs::create_dir_all(folder.path().join("credentials")).unwrap();
        if setup.sealed {
            seal(folder.path(), &names);
        }
        let config = configuration(&setup, &names, &upstream.base_url());
        trial_file("broker.toml", &config);
        for (name, content) in &setup.files {
            trial_file(name, content);
        }
        Self {
            upstream,
            authority,
            folder,
        }
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("broker.toml")
    }
}

/// Writes the key `broker.key`, and a store for it with the credentials of these destinations.
fn seal(folder: &Path, names: &[String]) {
    let key = Keys::draw(Timestamp::now());
    let identity = folder.join("broker.key");
    fs::write(&identity, key.file.expose()).unwrap();
    let keys = Keys::read(&identity).unwrap();
    let store = Store::new(folder.join("credentials.age"), keys, false);
    store.create().unwrap();
    for name in names {
        let proof = Proof::ClientSecret(Secret::new(client_secret(name)));
        let reference = CredentialRef::Sealed(name.clone());
        let credential = Credential::new(&reference, client_id(name), proof);
        store
            .change(|contents| contents.set(name, &credential, Timestamp::now()))
            .unwrap();
    }
}

/// A broker at this address.
pub(crate) fn endpoint(broker: SocketAddr, tls: ClientTlsConfig) -> Endpoint {
    Endpoint::from_shared(format!("https://{broker}"))
        .unwrap()
        .connect_timeout(GIVE_UP)
        .timeout(GIVE_UP)
        .tls_config(tls)
        .unwrap()
}

/// Believes a broker with a certificate of this authority.
pub(crate) fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.certificate()))
}

/// A client of HTTP that waits for nothing for ever.
pub(crate) fn http_client() -> reqwest::ClientBuilder {
    // The first to ask may have started no broker, which would have seen to it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(GIVE_UP)
}

/// The status and the body of a plain HTTP GET.
pub(crate) async fn http(address: SocketAddr, path: &str) -> reqwest::Result<(u16, String)> {
    let client = http_client().build()?;
    let response = client.get(format!("http://{address}{path}")).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// Asks for a token.
pub(crate) async fn ask(
    client: &mut TokenBrokerClient<Channel>,
    destination: &str,
) -> Result<GetTokenResponse, Status> {
    let request = GetTokenRequest {
        destination_id: destination.to_owned(),
        min_validity: None,
    };
    client.get_token(request).await.map(Response::into_inner)
}

/// The reason code of an error.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has a reason");
    assert_eq!(info.domain, "tokenbroker");
    info.reason.clone()
}

const MOUNTED: &str = r#"directory = "credentials""#;
const SEALED: &str = "sealed = \"credentials.age\"\nidentity = \"broker.key\"";

fn configuration(setup: &Setup, names: &[String], upstream: &str) -> String {
    let mut config = format!(
        r#"
[server]
listen = "127.0.0.1:0"
cert = "server.pem"
key = "server.key"
client_ca = "ca.pem"
{server}
[http]
listen = "127.0.0.1:0"
[credentials]
{places}
[audit]
{audit}
[[upstream]]
name = "occtoo"
endpoint = "{upstream}"
plain_http = true
allow_loopback = true
{settings}
[[destination]]
id = "public"
upstream = "occtoo"
unprotected = true
[[destination.grant]]
callers = ["{CART}"]
"#,
        server = setup.server,
        places = if setup.sealed { SEALED } else { MOUNTED },
        settings = setup.upstream,
        audit = setup.audit,
    );
    for name in names {
        write!(
            config,
            r#"
[[destination]]
id = "{name}"
name = "name-of-{name}"
upstream = "occtoo"
{lines}
[[destination.application]]
name = "shop"
credential = "{scheme}:{name}"
[[destination.grant]]
callers = ["spiffe://corp.example/ns/shop/sa/*", "cart.corp.example"]
"#,
            lines = setup.destination,
            scheme = if setup.sealed { "sealed" } else { "file" },
        )
        .unwrap();
    }
    config
}
