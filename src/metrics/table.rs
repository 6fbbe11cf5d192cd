//! The series of one metric, of which each can end.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric},
};

/// The series of one metric by their labels, in the order of these. A clone is the same table.
///
/// Unlike a family of the Prometheus client it can be told which series to keep, and it shows
/// its name and type before it has any series.
#[derive(Debug)]
pub(super) struct Table<L, M> {
    series: Arc<RwLock<BTreeMap<L, M>>>,
    make: fn() -> M,
}

impl<L: Ord + Clone, M: Clone> Table<L, M> {
    pub(super) fn new(make: fn() -> M) -> Self {
        Self {
            series: Arc::default(),
            make,
        }
    }

    /// The series with these labels, which begins if there is none. It may be held on to.
    pub(super) fn at(&self, labels: &L) -> M {
        if let Some(known) = self.read().get(labels) {
            return known.clone();
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let known = series.entry(labels.clone()).or_insert_with(self.make);
        known.clone()
    }

    pub(super) fn remove(&self, labels: &L) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.remove(labels);
    }

    /// Keeps the series of which this is true, and ends all others.
    pub(super) fn keep(&self, mut is_kept: impl FnMut(&L) -> bool) {
        // Mostly there is nothing to end, and whoever counts need not wait then.
        if self.read().keys().all(&mut is_kept) {
            return;
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|labels, _| is_kept(labels));
    }

    /// Has these series from now on, and no others.
    pub(super) fn replace(&self, series: BTreeMap<L, M>) {
        *self.series.write().unwrap_or_else(PoisonError::into_inner) = series;
    }

    /// All series as they are now.
    pub(super) fn series(&self) -> BTreeMap<L, M> {
        // Whoever counts waits for no scrape: one new series would have all of them wait
        // behind it while this is read.
        self.read().clone()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<L, M>> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Ord + Clone, M: Clone + Default> Default for Table<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M> Clone for Table<L, M> {
    fn clone(&self) -> Self {
        Self {
            series: Arc::clone(&self.series),
            make: self.make,
        }
    }
}

impl<L, M> EncodeMetric for Table<L, M>
where
    L: EncodeLabelSet + Ord + Clone,
    M: EncodeMetric + TypedMetric + Clone,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, metric) in &self.series() {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use prometheus_client::{encoding::text, metrics::counter::Counter, registry::Registry};

    use super::*;

    type Labels = [(&'static str, &'static str); 1];

    fn shown(table: &Table<Labels, Counter>) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register("calls", "Calls", table.clone());
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn series_are_shown_in_order_and_end_alone() {
        let table = Table::<Labels, Counter>::default();
        let head = ["# HELP calls Calls.", "# TYPE calls counter"];
        assert_eq!(shown(&table), [head[0], head[1], "# EOF"]);

        let counter = table.at(&[("door", "b")]);
        table.at(&[("door", "a")]).inc();
        counter.inc_by(2);
        let [a, b] = [r#"calls_total{door="a"} 1"#, r#"calls_total{door="b"} 2"#];
        assert_eq!(shown(&table), [head[0], head[1], a, b, "# EOF"]);

        table.keep(|labels| labels[0].1 == "a");
        assert_eq!(shown(&table), [head[0], head[1], a, "# EOF"]);
        counter.inc();
        assert_eq!(table.at(&[("door", "b")]).get(), 0, "it begins anew");
    }

    /// Looks at its own table while it is shown.
    #[derive(Clone, Debug, Default)]
    struct Nosy(Arc<OnceLock<Table<Labels, Nosy>>>);

    impl TypedMetric for Nosy {
        const TYPE: MetricType = MetricType::Counter;
    }

    impl EncodeMetric for Nosy {
        fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
            let table = self.0.get().unwrap();
            assert!(table.series.try_write().is_ok(), "a new series would wait");
            Counter::<u64>::default().encode(encoder)
        }

        fn metric_type(&self) -> MetricType {
            Self::TYPE
        }
    }

    #[test]
    fn a_series_can_begin_while_others_are_shown() {
        let table = Table::<Labels, Nosy>::default();
        table.at(&[("door", "a")]).0.set(table.clone()).unwrap();
        let mut registry = Registry::default();
        registry.register("calls", "Calls", table);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(r#"calls_total{door="a"} 0"#), "{text}");
    }
}
