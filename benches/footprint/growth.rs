//! What one more destination, or grant, costs.

use crate::{
    memory::resident,
    report::{Report, Unit, number},
    site::{Cores, Policy, Site},
    start,
};

const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// More do not fit the largest configuration file.
const MOST_DESTINATIONS: usize = 10_000;
/// Among how many destinations grants are shared out.
const GRANTED: usize = 10;

/// A broker of one size.
struct Cost {
    count: usize,
    bytes: u64,
    milliseconds: f64,
}

pub(crate) async fn measure(cores: &Cores, report: &mut Report) {
    let destinations = SIZES.iter().filter(|size| **size <= MOST_DESTINATIONS);
    series("destination", destinations, cores, report, |count| Policy {
        destinations: count,
        callers: 1,
    })
    .await;
    series("grant", SIZES.iter(), cores, report, |count| Policy {
        destinations: GRANTED,
        callers: count / GRANTED,
    })
    .await;
}

async fn series(
    what: &str,
    sizes: impl Iterator<Item = &usize>,
    cores: &Cores,
    report: &mut Report,
    policy: impl Fn(usize) -> Policy,
) {
    let mut last: Option<Cost> = None;
    for count in sizes {
        let cost = Cost::of(*count, policy(*count), cores).await;
        let name = format!("{count} {what}s");
        report.add(&*name, number(cost.bytes) / 1e6, Unit::Megabytes);
        let start = format!("{name}, start to answering");
        report.add(start, cost.milliseconds, Unit::Milliseconds);
        if let Some(last) = &last {
            let more = number(u64::try_from(cost.count - last.count).unwrap());
            let bytes = (number(cost.bytes) - number(last.bytes)) / more;
            let microseconds = (cost.milliseconds - last.milliseconds) * 1e3 / more;
            let one = format!("one more {what}, from {} to {count}", last.count);
            report.add(&*one, bytes, Unit::Bytes);
            report.add(one, microseconds, Unit::Microseconds);
        }
        last = Some(cost);
    }
}

impl Cost {
    async fn of(count: usize, policy: Policy, cores: &Cores) -> Self {
        let site = Site::new(policy).await;
        let start = start::median(&site, cores);
        let broker = start::afresh(&site, cores);
        Self {
            count,
            bytes: resident(&broker).await,
            milliseconds: start::milliseconds(start.answering),
        }
    }
}
