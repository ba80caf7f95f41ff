//! What is measured of a run, each a number: one file a kind.
//!
//! A measure is a name, a unit and a function of the requests in a window. Add one to [`all`] and it
//! is in the table, the JSON and the page, with its interval over seeds and its ratios.

mod goodput;
mod latency;
mod share;

use super::record::{Record, Sample};
use std::time::Duration;

/// A part of a run: the whole, or a window.
pub(crate) struct Part<'a> {
    /// Requests that were sent in it.
    pub(crate) samples: Vec<&'a Sample>,
    /// Latencies that count, sorted: see [`latency`].
    pub(crate) latencies: Vec<Duration>,
    /// How long it is.
    pub(crate) span: Duration,
    from: Duration,
    record: &'a Record,
    /// Each endpoint's part of the capacity.
    fair: &'a [f64],
}

impl<'a> Part<'a> {
    /// From one time to another, the warm-up not counted.
    pub(crate) fn of(record: &'a Record, fair: &'a [f64], from: Duration, to: Duration) -> Self {
        let inside = |sample: &&Sample| sample.at >= from && sample.at < to;
        let samples: Vec<&Sample> = record.samples.iter().filter(inside).collect();
        let latencies = latency::counted(&samples);
        Self { samples, latencies, span: to - from, from, record, fair }
    }

    /// The latency that this part of the requests did not exceed; none without requests.
    pub(crate) fn percentile(&self, part: f64) -> Option<Duration> {
        // Nearest rank.
        let rank = (part * self.latencies.len() as f64).ceil().max(1.0) as usize;
        self.latencies.get(rank - 1).copied()
    }

    /// Requests sent to each endpoint, by interval.
    fn intervals(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.record.shares.within(self.from, self.from + self.span)
    }
}

/// One measure.
pub(crate) struct Measure {
    /// As the JSON calls it.
    pub(crate) name: &'static str,
    /// As tables call it.
    pub(crate) title: &'static str,
    /// Of the number.
    pub(crate) unit: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether ratios between arms mean something.
    pub(crate) ratio: bool,
    /// None when nothing was there to be measured.
    pub(crate) of: fn(&Part<'_>) -> Option<f64>,
}

/// All of them, in the order of the tables.
pub(crate) fn all() -> Vec<Measure> {
    let families: [Vec<Measure>; 3] = [latency::measures(), goodput::measures(), share::measures()];
    families.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::record::{Ending, Shares};
    use crate::simulate::spec::Experiment;

    fn experiment() -> Experiment {
        let text = "experiment: x\nwarmup: 1s\nduration: 10s\nload: {rate: 1}\n\
                    endpoints: [{name: e, count: 2, service_time: {mean: 10ms}}]\n\
                    arms: [{name: a, policy: {random: {}}}]\n";
        Experiment::parse(text).unwrap()
    }

    fn record(endings: &[(u64, u64, Ending)]) -> Record {
        let mut shares = Shares::new(&experiment(), 2);
        for at in 0..100 {
            shares.count(Duration::from_millis(at * 100), usize::from(at % 4 == 0));
        }
        let sample = |(at, latency, ending): &(u64, u64, Ending)| Sample {
            at: Duration::from_millis(*at),
            latency: Duration::from_millis(*latency),
            ending: *ending,
        };
        Record { samples: endings.iter().map(sample).collect(), shares, notices: Vec::new() }
    }

    fn value(record: &Record, name: &str, from: u64, to: u64) -> Option<f64> {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let part = Part::of(record, &[0.5, 0.5], from, to);
        let measure = all().into_iter().find(|measure| measure.name == name).unwrap();
        (measure.of)(&part)
    }

    #[test]
    fn percentiles_are_nearest_ranks_of_what_was_answered_or_timed_out() {
        let mut endings: Vec<_> = (1..=98).map(|at| (at, at, Ending::Good)).collect();
        endings.push((99, 1, Ending::Failed(503)));
        endings.push((99, 5000, Ending::TimedOut));
        let record = record(&endings);
        assert_eq!(value(&record, "p50", 0, 10), Some(50.0));
        assert_eq!(value(&record, "p99", 0, 10), Some(5000.0));
        assert_eq!(value(&record, "p50", 5, 10), None);
    }

    #[test]
    fn goodput_counts_what_was_served_and_errors_what_was_not() {
        let record = record(&[
            (0, 1, Ending::Good),
            (1, 1, Ending::Good),
            (2, 1, Ending::Failed(503)),
            (6000, 1, Ending::TimedOut),
        ]);
        assert_eq!(value(&record, "requests", 0, 10), Some(4.0));
        assert_eq!(value(&record, "errors", 0, 10), Some(2.0));
        assert_eq!(value(&record, "error_percent", 0, 10), Some(50.0));
        assert_eq!(value(&record, "goodput", 0, 10), Some(0.2));
        assert_eq!(value(&record, "errors", 5, 10), Some(1.0));
    }

    #[test]
    fn shares_are_those_of_the_worst_endpoint_against_its_fair_share() {
        // Three of four requests go to the first of two equal endpoints; of ten in a second, seven
        // or eight.
        let peak = value(&record(&[]), "peak_share", 0, 9).unwrap();
        assert!((peak - 1.6).abs() < 1e-9, "{peak}");
        let share = value(&record(&[]), "share", 0, 9).unwrap();
        // 90 requests after a second of warm-up: 22 to the second endpoint.
        assert!((share - 68.0 / 45.0).abs() < 1e-9, "{share}");
    }
}
