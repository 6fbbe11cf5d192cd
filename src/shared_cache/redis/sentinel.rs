//! Where the master is.

use std::sync::Arc;

use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, cmd};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{Trouble, connect, news::Listener, reply::bytes, trouble::trouble, wire::Wire};
use crate::shared_cache::settings::{HostPort, Login, Settings};

/// Connects to the master. All sentinels are asked at once, since one may be gone and another
/// may not have heard of a failover; whoever they name has to be in charge by its own word. The
/// first one that says so is the master, whatever keeps the others from answering.
pub(super) async fn master(
    settings: &Settings,
    sentinels: &[HostPort],
    master: &str,
    login: &Login,
    listener: &Arc<Listener>,
) -> Result<Wire, Trouble> {
    let questions = sentinels
        .iter()
        .map(|sentinel| ask(settings, sentinel, master, login));
    let mut questions: FuturesUnordered<_> = questions.collect();
    let mut trials = FuturesUnordered::new();
    let mut named = Vec::new();
    let mut last = Trouble::Unreachable;
    loop {
        tokio::select! {
            Some(answer) = questions.next() => match answer {
                Ok(server) if named.contains(&server) => {}
                Ok(server) => {
                    named.push(server.clone());
                    trials.push(in_charge(settings, server, listener));
                }
                Err(trouble) => last = trouble,
            },
            Some(trial) = trials.next() => match trial {
                Ok(wire) => return Ok(wire),
                Err(trouble) => last = trouble,
            },
            else => return Err(last),
        }
    }
}

async fn in_charge(
    settings: &Settings,
    server: HostPort,
    listener: &Arc<Listener>,
) -> Result<Wire, Trouble> {
    let wire = connect::one(settings, &server, listener).await?;
    if wire.is_master().await? {
        Ok(wire)
    } else {
        Err(Trouble::ReadOnly)
    }
}

async fn ask(
    settings: &Settings,
    sentinel: &HostPort,
    master: &str,
    login: &Login,
) -> Result<HostPort, Trouble> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let redis = RedisConnectionInfo::default();
    let tls = settings.tls.as_ref();
    let opened = connect::open(sentinel, redis, login, tls, &config).await;
    let mut connection = opened.map_err(|error| trouble(&error))?;
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = question.query_async(&mut connection).await;
    address(answer.map_err(|error| trouble(&error))?)
}

fn address(answer: Value) -> Result<HostPort, Trouble> {
    let parts = match answer {
        Value::Array(parts) => parts,
        // It knows no master of that name.
        Value::Nil => return Err(Trouble::Unreachable),
        _ => return Err(Trouble::Garbage),
    };
    let [host, port] = <[Value; 2]>::try_from(parts).map_err(|_| Trouble::Garbage)?;
    let text = |value| String::from_utf8(bytes(value)?).map_err(|_| Trouble::Garbage);
    Ok(HostPort {
        host: text(host)?,
        port: text(port)?.parse().map_err(|_| Trouble::Garbage)?,
    })
}
