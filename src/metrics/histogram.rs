//! A histogram that costs two additions.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// How long something took, in buckets. A clone is the same histogram.
///
/// Nobody waits to observe: a span is added to its bucket, and to the sum. What is shown as
/// the count is the sum of the buckets as they were read, so the two are never at odds; the
/// sum may be ahead of it, or behind, by what is observed just then.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds of the buckets, in seconds.
    bounds: &'static [f64],
    /// The last one is for what is above all bounds.
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds, which lasts for 584 years.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram whose buckets have these upper bounds, in seconds.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(Inner {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    /// Something took so long.
    pub(super) fn observe(&self, took: Duration) {
        let Inner {
            bounds,
            buckets,
            sum,
        } = &*self.0;
        let seconds = took.as_secs_f64();
        let place = bounds.iter().take_while(|bound| **bound < seconds).count();
        if let Some(bucket) = buckets.get(place) {
            bucket.fetch_add(1, Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        sum.fetch_add(nanoseconds, Relaxed);
    }

    /// Whether nothing was observed yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0
            .buckets
            .iter()
            .all(|bucket| bucket.load(Relaxed) == 0)
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Inner {
            bounds,
            buckets,
            sum,
        } = &*self.0;
        let sum = Duration::from_nanos(sum.load(Relaxed)).as_secs_f64();
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let counts = buckets.iter().map(|bucket| bucket.load(Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use prometheus_client::{encoding::text, metrics::histogram, registry::Registry};

    use super::*;

    const BOUNDS: &[f64] = &[0.000_05, 0.25, 1.0, 10.0];

    fn shown(
        metric: impl EncodeMetric + fmt::Debug + Send + Sync + TypedMetric + 'static,
    ) -> String {
        let mut registry = Registry::default();
        registry.register("took", "Took", metric);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn it_is_shown_as_the_clients_own_is() {
        let own = Histogram::new(BOUNDS);
        let theirs = histogram::Histogram::new(BOUNDS.iter().copied());
        assert!(own.is_empty());
        assert_eq!(shown(own.clone()), shown(theirs.clone()));
        for took in [
            Duration::ZERO,
            Duration::from_micros(50),
            Duration::from_micros(51),
            Duration::from_millis(250),
            Duration::from_secs(10),
            Duration::from_secs(11),
        ] {
            own.observe(took);
            theirs.observe(took.as_secs_f64());
        }
        assert!(!own.is_empty());
        assert_eq!(shown(own), shown(theirs));
    }

    #[test]
    fn no_look_finds_another_count_than_in_the_buckets() {
        let histogram = Histogram::new(BOUNDS);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    histogram.observe(Duration::from_millis(1));
                    histogram.observe(Duration::from_secs(60));
                }
            });
            let number = |text: &str, name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().parse::<u64>().unwrap()
            };
            let mut last = 0;
            for _ in 0..1000 {
                let text = shown(histogram.clone());
                let count = number(&text, "took_count");
                assert_eq!(count, number(&text, "took_bucket{le=\"+Inf\"}"));
                assert!(number(&text, "took_bucket{le=\"10.0\"}") <= count);
                assert!(count >= last);
                last = count;
            }
            is_over.store(true, Relaxed);
        });
    }
}
