//! Noticing that certificates and revocation lists run out, or are missing.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::error;

use crate::{
    listener::{Expiry, Tls},
    metrics::Metrics,
};

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
                which => error!(which, %file, "a certificate has expired"),
            }
        }
    }

    fn notice(&mut self, expiries: &[Expiry], now: SystemTime) -> Vec<Expiry> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
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

/// Shows when everything runs out, and says what is missing from the start.
pub(super) fn show(metrics: &Metrics, tls: &Tls) {
    let expiries = tls.expiries().iter();
    metrics.expire(expiries.map(|expiry| (expiry.which, expiry.last)));
    for authority in tls.unlisted() {
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
    fn what_runs_out_is_noticed_once_and_again_after_it_was_renewed() {
        let expiry = |file: &str, last| Expiry {
            which: "crl",
            file: file.into(),
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
