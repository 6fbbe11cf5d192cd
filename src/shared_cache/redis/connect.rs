//! How a connection is made.

use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    TlsCertificates, aio::MultiplexedConnection, cluster::ClusterClientBuilder,
    io::tcp::TcpSettings,
};
use tokio::time::timeout;

use super::{
    Trouble, keys::Keys, line::Line, news::Listener, sentinel, trouble::trouble, wire::Wire,
};
use crate::{
    metrics::Metrics,
    shared_cache::settings::{HostPort, Login, Servers, Settings, Tls},
};

/// An attempt to connect ends after this.
const ATTEMPT: Duration = Duration::from_secs(1);
/// A request that a cluster redirects or turns away is sent again so often; the broker has
/// gone on alone by then.
const REDIRECTS: u32 = 4;
/// The longest wait before that, in milliseconds.
const REDIRECT_WAIT: u64 = 10;
/// What was sent and not acknowledged for so long went to a host that is gone.
#[cfg(target_os = "linux")]
const GONE: Duration = Duration::from_secs(5);

/// Connects, listens to the others, and makes sure that answers come in time.
pub(super) async fn connect(
    settings: &Settings,
    listener: Arc<Listener>,
    metrics: Arc<Metrics>,
) -> Result<Line, Trouble> {
    let keys = Keys::new(&settings.namespace);
    let attempt = async {
        let wire = reach(settings, &listener).await?;
        let subscribed = wire.subscribe(&keys.channel()).await;
        subscribed.map_err(|error| trouble(&error))?;
        Ok(wire)
    };
    let wire = timeout(ATTEMPT, attempt).await;
    let wire = wire.unwrap_or(Err(Trouble::Unreachable))?;
    let probe = timeout(settings.timeout, wire.probe()).await;
    probe.unwrap_or(Err(Trouble::Slow))?;
    Ok(Line {
        wire,
        servers: settings.servers.to_string(),
        keys,
        timeout: settings.timeout,
        listener,
        metrics,
        stale: tokio::sync::Notify::new(),
    })
}

async fn reach(settings: &Settings, listener: &Arc<Listener>) -> Result<Wire, Trouble> {
    match &settings.servers {
        Servers::One(server) => one(settings, server, listener).await,
        Servers::Cluster(nodes) => {
            let connected = cluster(settings, nodes, listener).await;
            connected.map_err(|error| trouble(&error))
        }
        Servers::Sentinel {
            sentinels,
            master,
            login,
        } => sentinel::master(settings, sentinels, master, login, listener).await,
    }
}

/// Connects to one server.
pub(super) async fn one(
    settings: &Settings,
    server: &HostPort,
    listener: &Arc<Listener>,
) -> Result<Wire, Trouble> {
    let listener = Arc::clone(listener);
    let config = AsyncConnectionConfig::new()
        .set_push_sender(move |push| heard(&listener, push))
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(settings.database.into());
    let connected = open(
        server,
        login,
        &settings.login,
        settings.tls.as_ref(),
        &config,
    )
    .await;
    Ok(Wire::One(connected.map_err(|error| trouble(&error))?))
}

/// Opens a connection that is used as `config` says.
pub(super) async fn open(
    server: &HostPort,
    redis: RedisConnectionInfo,
    login: &Login,
    tls: Option<&Tls>,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let info = info(server, redis, login, tls.is_some())?;
    let client = match tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls))?,
        None => Client::open(info)?,
    };
    client
        .get_multiplexed_async_connection_with_config(config)
        .await
}

async fn cluster(
    settings: &Settings,
    nodes: &[HostPort],
    listener: &Arc<Listener>,
) -> Result<Wire, RedisError> {
    let redis = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let is_tls = settings.tls.is_some();
    let nodes = nodes
        .iter()
        .map(|node| info(node, redis.clone(), &settings.login, is_tls));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let listener = Arc::clone(listener);
    let mut builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(move |push| heard(&listener, push))
        .tcp_settings(tcp())
        .connection_timeout(ATTEMPT)
        .response_timeout(ATTEMPT)
        .overall_response_timeout(None)
        .retries(REDIRECTS)
        .min_retry_wait(1)
        .max_retry_wait(REDIRECT_WAIT);
    if let Some(tls) = &settings.tls {
        builder = builder.certs(certificates(tls));
    }
    let connection = builder.build()?.get_async_connection().await?;
    Ok(Wire::Cluster(connection))
}

fn info(
    server: &HostPort,
    redis: RedisConnectionInfo,
    login: &Login,
    is_tls: bool,
) -> Result<ConnectionInfo, RedisError> {
    let HostPort { host, port } = server.clone();
    let address = if is_tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    // What the library is called is nobody's business, and needs a permission of its own.
    let mut redis = redis.set_skip_set_lib_name();
    if let Some(username) = &login.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &login.password {
        redis = redis.set_password(password.expose());
    }
    let info = address.into_connection_info()?;
    Ok(info.set_tcp_settings(tcp()).set_redis_settings(redis))
}

fn tcp() -> TcpSettings {
    // Left alone, a small question waits until the answer to the one before is acknowledged,
    // which takes 40 ms.
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(GONE);
    tcp
}

fn certificates(tls: &Tls) -> TlsCertificates {
    TlsCertificates {
        client_tls: tls.client.as_ref().map(|(cert, key)| ClientTlsConfig {
            client_cert: cert.clone(),
            client_key: key.expose().as_bytes().to_vec(),
        }),
        root_cert: tls.ca.clone(),
    }
}

/// Whatever comes of it, the connection goes on.
#[expect(clippy::unnecessary_wraps, reason = "what the library asks for")]
fn heard(listener: &Listener, push: PushInfo) -> Result<(), std::convert::Infallible> {
    listener.hear(push);
    Ok(())
}
