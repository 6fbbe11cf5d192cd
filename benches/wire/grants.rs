//! Throughput with few and with many grants.

use std::io;

use tokio::runtime::Runtime;

use crate::{
    contender::Contender,
    http2::Http2,
    options::Options,
    site::{Broker, Cores, Policy, Site},
    stage::{connect, questions, warm},
    table::Table,
};

const DESTINATIONS: usize = 10;
/// How many callers are granted each of them.
const CALLERS: [usize; 3] = [1, 100, 10_000];

pub(crate) fn measure(runtime: &Runtime, cores: &Cores, options: &Options) -> io::Result<Table> {
    let policies = CALLERS.map(|callers| Policy {
        destinations: DESTINATIONS,
        callers,
    });
    let brokers = policies.map(|policy| {
        let site = runtime.block_on(Site::new(policy));
        let broker = Broker::start(&site, cores);
        (site, broker)
    });
    let mut contenders = Vec::new();
    for (site, broker) in &brokers {
        let replies = runtime.block_on(warm(site, broker.address));
        let questions = questions(&replies);
        let talk = || Box::new(Http2::new(&questions)) as _;
        let load = connect(site, broker.address, options.connections, cores, &talk)?;
        let name = format!("{} grants", site.policy.grants());
        contenders.push(Contender::new(name, &broker.process, load));
    }
    let names = contenders.iter().map(|it| it.name.clone());
    let mut table = Table::new("The broker at full load, by the size of its policy", names);
    for round in options.rounds() {
        for (column, contender) in contenders.iter_mut().enumerate() {
            let full = contender.full(options.streams, options.round())?;
            if round > 0 {
                full.note(column, &mut table);
            }
        }
    }
    Ok(table)
}
