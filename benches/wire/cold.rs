//! Tokens that are not at hand.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use token_broker::upstream::standin::Behaviour;
use tokio::runtime::Runtime;

use crate::{
    http2::{Http2, Questions},
    options::Options,
    site::{Broker, Cores, Policy, Site},
    stage::connect,
    table::Table,
};

/// How many callers of one token there are: so many connections, with so many calls each.
const CONNECTIONS: usize = 10;
const STREAMS: usize = 100;
/// How long the upstream takes for them.
const SLOW: Duration = Duration::from_millis(500);

/// What the broker adds to its upstream, for one caller at a time.
pub(crate) fn alone(runtime: &Runtime, cores: &Cores, options: &Options) -> io::Result<Table> {
    let site = runtime.block_on(Site::new(Policy {
        destinations: options.cold_tokens(),
        callers: 1,
    }));
    let broker = Broker::start(&site, cores);
    let mut load = load(&site, &broker, 1, cores)?;
    let mut table = Table::new(
        "A token that is not at hand, with an upstream that answers at once",
        ["the upstream", "the broker"],
    );
    for n in 0..site.policy.destinations {
        let started = Instant::now();
        ask(site.upstream.addr(), n)?;
        table.note("ms", 0, millis(started.elapsed()));
        for took in load.once(n, 1)? {
            table.note("ms", 1, millis(took));
        }
    }
    Ok(table)
}

/// A thousand callers of one token at once.
///
/// # Errors
/// When it costs more than one call of the upstream.
pub(crate) fn crowd(runtime: &Runtime, cores: &Cores) -> io::Result<Table> {
    let site = runtime.block_on(Site::new(Policy {
        destinations: 1,
        callers: CONNECTIONS,
    }));
    let broker = Broker::start(&site, cores);
    site.upstream.behave(Behaviour {
        delay: SLOW,
        ..Site::behaviour()
    });
    let mut load = load(&site, &broker, CONNECTIONS, cores)?;
    let latencies = load.once(0, STREAMS)?;
    let calls = site.upstream.calls();
    if calls != 1 {
        return Err(io::Error::other(format!("{calls} calls of the upstream")));
    }
    let callers = latencies.len();
    let title = format!("{callers} callers of one token at once, and one call of an upstream");
    let mut table = Table::new(title, ["the upstream", "all callers"]);
    let last = latencies.into_iter().max().unwrap_or_default();
    table.note("ms", 0, millis(SLOW));
    table.note("ms", 1, millis(last));
    Ok(table)
}

fn load(
    site: &Site,
    broker: &Broker,
    connections: usize,
    cores: &Cores,
) -> io::Result<crate::load::Load> {
    let questions = Questions::new(site.policy.destinations, Policy::token_start);
    let talk = || Box::new(Http2::new(&questions)) as _;
    connect(site, broker.address, connections, cores, &talk)
}

/// Asks the upstream itself, on a connection of its own as it wants it.
fn ask(upstream: SocketAddr, n: usize) -> io::Result<()> {
    let mut socket = TcpStream::connect(upstream)?;
    socket.write_all(Policy::token_request(n).as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    if answer.contains(&Policy::token_start(n)) {
        return Ok(());
    }
    Err(io::Error::other(answer))
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
