//! How many callers can connect: full handshakes of TLS 1.3 with certificates on both sides.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use crate::{
    connection::Connection,
    http2::{Http2, Questions},
    options::Options,
    site::Process,
    stage::{Stage, Warm},
    table::Table,
    tls,
};

/// How many peers connect at once. The broker lets eight of one address be in their handshake
/// even where it has few places.
const PEERS: usize = 4;

pub(crate) fn measure(stage: &Stage, options: &Options) -> io::Result<Table> {
    let bare = ("bare tonic", stage.bare.address, &stage.bare.process);
    let config = |site| tls::client(site, 0, tls::Care::None);
    let mut servers = vec![(bare, config(&stage.brokers[0].site))];
    for Warm {
        name, site, broker, ..
    } in &stage.brokers
    {
        servers.push(((*name, broker.address, &broker.process), config(site)));
    }
    let mut table = Table::new(
        "Connections, each with a full handshake, until the server has greeted",
        servers.iter().map(|((name, ..), _)| *name),
    );
    for round in options.rounds() {
        for (column, ((_, address, process), config)) in servers.iter().enumerate() {
            let (count, took, processor) = connect(*address, process, config, options.round() / 2)?;
            if round > 0 {
                table.note(
                    "connections/s",
                    column,
                    f64::from(count) / took.as_secs_f64(),
                );
                let micros = processor.as_secs_f64() * 1e6;
                table.note("CPU us/connection", column, micros / f64::from(count));
            }
        }
    }
    Ok(table)
}

/// Connects again and again for this long. How often was it, how long did it take, and how
/// much processor time?
fn connect(
    server: SocketAddr,
    process: &Process,
    config: &Arc<ClientConfig>,
    time: Duration,
) -> io::Result<(u32, Duration, Duration)> {
    let (started, before) = (Instant::now(), process.processor_time());
    let peer = || {
        let nothing = Questions::new(0, |_| String::new());
        let mut count = 0;
        while started.elapsed() < time {
            Connection::open(server, config, Box::new(Http2::new(&nothing)))?;
            count += 1;
        }
        Ok(count)
    };
    let count: io::Result<u32> = thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS).map(|_| scope.spawn(peer)).collect();
        let counts = peers.into_iter().map(|peer| peer.join().unwrap());
        counts.sum()
    });
    let processor = process.processor_time().saturating_sub(before);
    Ok((count?, started.elapsed(), processor))
}
