//! Process-wide stats: counters, gauges and histograms, by name.
//!
//! Handles are atomics behind an `Arc`: looking a stat up takes a lock once, using it takes none.
//! A name may exist once per type, as in Envoy, where a plugin can define a counter and a gauge of
//! one name and both show up. Gauges and counters wrap below zero, as Envoy's do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Upper bounds of histogram buckets: Envoy's defaults, in the histogram's own unit.
pub const HISTOGRAM_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The registry.
#[derive(Debug, Default)]
pub struct Stats {
    counters: Mutex<BTreeMap<Arc<str>, Counter>>,
    gauges: Mutex<BTreeMap<Arc<str>, Gauge>>,
    histograms: Mutex<BTreeMap<Arc<str>, Histogram>>,
}

/// A number that grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// A distribution.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<HistogramCells>);

#[derive(Debug, Default)]
struct HistogramCells {
    count: AtomicU64,
    sum: AtomicU64,
    buckets: [AtomicU64; HISTOGRAM_BOUNDS.len()],
}

/// A value as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum StatValue {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(u64),
    /// Of a histogram.
    Histogram {
        /// Number of samples.
        count: u64,
        /// Their sum.
        sum: u64,
        /// Samples at or below each of [`HISTOGRAM_BOUNDS`] (cumulative).
        buckets: [u64; HISTOGRAM_BOUNDS.len()],
    },
}

impl Stats {
    /// The counter of that name, made when there is none.
    pub fn counter(&self, name: &str) -> Counter {
        find_or_add(&self.counters, name)
    }

    /// The gauge of that name, made when there is none.
    pub fn gauge(&self, name: &str) -> Gauge {
        find_or_add(&self.gauges, name)
    }

    /// The histogram of that name, made when there is none.
    pub fn histogram(&self, name: &str) -> Histogram {
        find_or_add(&self.histograms, name)
    }

    /// The value of a counter, 0 when there is none of that name.
    #[must_use]
    pub fn counter_value(&self, name: &str) -> u64 {
        lock(&self.counters).get(name).map_or(0, Counter::value)
    }

    /// The value of a gauge, 0 when there is none of that name.
    #[must_use]
    pub fn gauge_value(&self, name: &str) -> u64 {
        lock(&self.gauges).get(name).map_or(0, Gauge::value)
    }

    /// Everything, ordered by name; of one name counter, gauge, histogram.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Arc<str>, StatValue)> {
        let mut all = Vec::new();
        for (name, counter) in lock(&self.counters).iter() {
            all.push((name.clone(), StatValue::Counter(counter.value())));
        }
        for (name, gauge) in lock(&self.gauges).iter() {
            all.push((name.clone(), StatValue::Gauge(gauge.value())));
        }
        for (name, histogram) in lock(&self.histograms).iter() {
            all.push((name.clone(), histogram.value()));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds; negative amounts subtract and wrap below zero.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount.cast_unsigned(), Ordering::Relaxed);
    }

    /// Overwrites.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// Adds a sample.
    pub fn record(&self, sample: u64) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(sample, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "compared with bounds below 2^22 only")]
        let at = HISTOGRAM_BOUNDS.iter().position(|bound| sample as f64 <= *bound);
        if let Some(bucket) = at.and_then(|at| self.0.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads.
    #[must_use]
    pub fn value(&self) -> StatValue {
        let mut below = 0;
        let buckets = std::array::from_fn(|at| {
            below += self.0.buckets.get(at).map_or(0, |b| b.load(Ordering::Relaxed));
            below
        });
        StatValue::Histogram {
            count: self.0.count.load(Ordering::Relaxed),
            sum: self.0.sum.load(Ordering::Relaxed),
            buckets,
        }
    }
}

fn find_or_add<T: Clone + Default>(map: &Mutex<BTreeMap<Arc<str>, T>>, name: &str) -> T {
    let mut map = lock(map);
    if let Some(found) = map.get(name) {
        return found.clone();
    }
    let added = T::default();
    map.insert(Arc::from(name), added.clone());
    added
}

/// A panic between lock and unlock cannot leave these maps half-written.
fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_counter() {
        let stats = Stats::default();
        stats.counter("a").inc();
        stats.counter("a").add(2);
        assert_eq!(stats.counter_value("a"), 3);
        assert_eq!(stats.counter_value("b"), 0);
    }

    #[test]
    fn a_gauge_below_zero_wraps() {
        let stats = Stats::default();
        stats.gauge("g").add(-3);
        assert_eq!(stats.gauge_value("g"), u64::MAX - 2);
    }

    #[test]
    fn one_name_may_have_two_types() {
        let stats = Stats::default();
        stats.counter("x").inc();
        stats.gauge("x").set(9);
        let names: Vec<_> = stats.snapshot().into_iter().map(|(_, v)| v).collect();
        assert_eq!(names, [StatValue::Counter(1), StatValue::Gauge(9)]);
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_the_largest_samples_are_only_counted() {
        let stats = Stats::default();
        let histogram = stats.histogram("h");
        for sample in [0, 1, 7, u64::MAX / 2] {
            histogram.record(sample);
        }
        let StatValue::Histogram { count, buckets, .. } = histogram.value() else {
            panic!("a histogram");
        };
        assert_eq!(count, 4);
        assert_eq!(buckets[..4], [1, 2, 2, 3]);
        assert_eq!(buckets[HISTOGRAM_BOUNDS.len() - 1], 3);
    }
}
