//! Noticing that certificates and revocation lists run out, or are missing.

use std::{
    collections::{BTreeMap, HashSet},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use tracing::error;

use crate::{
    broker::Trouble,
    listener::{Expiry, Terms},
    metrics::Metrics,
};

/// A certificate or list is near its end when less than this is left of it, in seconds,
const NEAR: i64 = 14 * 24 * 60 * 60;
/// and less than this part of its life: one that lives for a day is renewed every day.
const NEAR_SHARE: i64 = 4;

/// What has run out, and was said to have.
#[derive(Default)]
pub(super) struct Lapsed(HashSet<Expiry>);

impl Lapsed {
    /// Says what has run out since the last look.
    pub(super) fn look(&mut self, expiries: &[Expiry], now: SystemTime) {
        for Expiry { which, file, .. } in self.notice(expiries, now) {
            let file = file.display();
            match which {
                "crl" => error!(
                    %file,
                    "a revocation list is past its next update: unless crl_lenient is set, every client that it should clear is refused"
                ),
                "client_ca" => error!(
                    which,
                    %file,
                    "an authority of clients has expired: what it signed is believed all the same, until it is taken out of the file"
                ),
                which => error!(which, %file, "a certificate has expired"),
            }
        }
    }

    fn notice(&mut self, expiries: &[Expiry], now: SystemTime) -> Vec<Expiry> {
        let now = unix(now);
        let lapsed: HashSet<_> = expiries
            .iter()
            .filter(|expiry| expiry.last < now)
            .cloned()
            .collect();
        let new = lapsed.difference(&self.0).cloned().collect();
        self.0 = lapsed;
        new
    }
}

/// What is near its end or past it.
pub(super) fn near(expiries: &[Expiry], now: SystemTime) -> BTreeMap<Trouble, String> {
    let now = unix(now);
    let mut near: BTreeMap<_, String> = BTreeMap::new();
    for Expiry {
        which,
        file,
        first,
        last,
    } in expiries
    {
        let left = last.saturating_sub(now);
        if left >= NEAR || left >= last.saturating_sub(*first) / NEAR_SHARE {
            continue;
        }
        let (trouble, what) = match *which {
            "server" => (Trouble::ServerExpires, "the server's certificate"),
            "client_ca" => (Trouble::ClientCaExpires, "an authority of clients"),
            _ => (Trouble::CrlExpires, "a revocation list"),
        };
        let file = file.display();
        let at =
            Timestamp::from_second(*last).map_or_else(|_| String::new(), |at| format!(" at {at}"));
        let message = format!("{what} runs out{at}: {file}");
        let messages = near.entry(trouble).or_default();
        if !messages.is_empty() {
            messages.push_str("; ");
        }
        messages.push_str(&message);
    }
    near
}

fn unix(now: SystemTime) -> i64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Shows when everything runs out and how much there may be, and says what is missing from
/// the start.
pub(super) fn show(metrics: &Metrics, terms: &Terms) {
    let expiries = terms.tls.expiries().iter();
    metrics.expire(expiries.map(|expiry| (expiry.which, expiry.last)));
    metrics.limit_connections(terms.limits.count);
    for authority in terms.tls.unlisted() {
        error!(
            authority,
            "there are revocation lists, but none of this client CA: unless crl_lenient is set, every client of it is refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_ends_soon_is_near_by_the_shorter_of_two_measures() {
        const DAY: i64 = 24 * 60 * 60;
        let now = 1000 * DAY;
        for (first, last, is_near) in [
            // A year, of which 14 days count.
            (now - 350 * DAY, now + 15 * DAY, false),
            (now - 351 * DAY, now + 14 * DAY, false),
            (now - 351 * DAY, now + 14 * DAY - 1, true),
            // A day, of which six hours count.
            (now - 18 * 3600, now + 6 * 3600, false),
            (now - 18 * 3600 - 4, now + 6 * 3600 - 1, true),
            (now - 10 * DAY, now - 1, true),
        ] {
            let expiry = Expiry {
                which: "crl",
                file: "list".into(),
                first,
                last,
            };
            let at = UNIX_EPOCH + Duration::from_secs(now.try_into().unwrap());
            let near = near(&[expiry], at);
            assert_eq!(
                near.contains_key(&Trouble::CrlExpires),
                is_near,
                "{first} {last}"
            );
        }
    }

    #[test]
    fn every_file_that_ends_soon_is_named() {
        let expiry = |which, file: &str| Expiry {
            which,
            file: file.into(),
            first: 0,
            last: 90,
        };
        let expiries = [
            expiry("crl", "one"),
            expiry("server", "cert"),
            expiry("crl", "two"),
        ];
        let near = near(&expiries, UNIX_EPOCH + Duration::from_secs(80));
        let expected = [
            (
                Trouble::ServerExpires,
                "the server's certificate runs out at 1970-01-01T00:01:30Z: cert",
            ),
            (
                Trouble::CrlExpires,
                "a revocation list runs out at 1970-01-01T00:01:30Z: one; a revocation list runs out at 1970-01-01T00:01:30Z: two",
            ),
        ];
        let near: Vec<_> = near
            .iter()
            .map(|(t, message)| (*t, message.as_str()))
            .collect();
        assert_eq!(near, expected);
    }

    #[test]
    fn what_runs_out_is_noticed_once_and_again_after_it_was_renewed() {
        let expiry = |file: &str, last| Expiry {
            which: "crl",
            file: file.into(),
            first: 0,
            last,
        };
        let (one, two) = (expiry("one", 10), expiry("two", 20));
        let renewed = expiry("one", 30);
        let mut lapsed = Lapsed::default();
        for (now, expiries, expected) in [
            (10, vec![one.clone(), two.clone()], vec![]),
            (11, vec![one.clone(), two.clone()], vec![one.clone()]),
            (12, vec![one.clone(), two.clone()], vec![]),
            (13, vec![renewed.clone(), two.clone()], vec![]),
            (21, vec![renewed.clone(), two.clone()], vec![two.clone()]),
            (31, vec![renewed.clone(), two.clone()], vec![renewed]),
            (32, vec![], vec![]),
            (33, vec![one.clone()], vec![one]),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(lapsed.notice(&expiries, at), expected, "at {now}");
        }
    }
}
