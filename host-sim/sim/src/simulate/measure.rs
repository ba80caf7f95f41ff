//! What is measured of a run, each a number: one file a kind.
//!
//! A measure is a name, a unit and a function of the requests in a window. Add one to [`all`] and it
//! is in the table, the JSON and the page, with its interval over seeds and its ratios.

mod goodput;
mod latency;
mod recovery;
mod share;

use super::record::{Record, Sample};
use super::spec::{Experiment, Trouble};
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
    setting: &'a Setting,
}

/// What figures are held against.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Each endpoint's part of the capacity.
    pub(crate) fair: Vec<f64>,
    /// Requests a second that all endpoints can serve.
    pub(crate) capacity: f64,
    pub(crate) trouble: Option<Trouble>,
    /// How long is measured.
    pub(crate) duration: Duration,
    /// Width of what is looked at one by one.
    pub(crate) interval: Duration,
}

impl<'a> Part<'a> {
    /// From one time to another, the warm-up not counted.
    pub(crate) fn of(
        record: &'a Record,
        setting: &'a Setting,
        from: Duration,
        to: Duration,
    ) -> Self {
        let inside = |sample: &&Sample| sample.at >= from && sample.at < to;
        let samples: Vec<&Sample> = record.samples.iter().filter(inside).collect();
        let latencies = latency::counted(&samples);
        Self { samples, latencies, span: to - from, from, record, setting }
    }

    /// The latency that this part of the requests did not exceed; none without requests.
    pub(crate) fn percentile(&self, part: f64) -> Option<Duration> {
        percentile(&self.latencies, part)
    }

    fn is_whole(&self) -> bool {
        self.from.is_zero() && self.span == self.setting.duration
    }

    /// Requests sent to each endpoint, by interval.
    fn intervals(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.record.shares.within(self.from, self.from + self.span)
    }
}

/// Of sorted latencies, by nearest rank.
fn percentile(latencies: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * latencies.len() as f64).ceil().max(1.0) as usize;
    latencies.get(rank - 1).copied()
}

/// What is told of a number that each run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its median.
    Median,
    /// Its mean: how often something is.
    Mean,
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
    /// What is told of it over runs.
    pub(crate) over: Over,
    /// None when nothing was there to be measured.
    pub(crate) of: fn(&Part<'_>) -> Option<f64>,
}

/// All of them, in the order of the tables.
pub(crate) fn all() -> Vec<Measure> {
    let families =
        [latency::measures(), goodput::measures(), share::measures(), recovery::measures()];
    families.into_iter().flatten().collect()
}

/// Those that an experiment has: there is no recovery without trouble.
pub(crate) fn of(experiment: &Experiment) -> Vec<Measure> {
    let is_told = |measure: &Measure| {
        let recovery = recovery::measures();
        experiment.trouble.is_some() || recovery.iter().all(|other| other.name != measure.name)
    };
    all().into_iter().filter(is_told).collect()
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

    fn setting() -> Setting {
        let trouble = "{from: 2s, to: 4s, patience: 1s}";
        let trouble = crate::yaml::Node::parse(trouble).unwrap().to_json();
        let trouble = Some(serde_json::from_value(trouble).unwrap());
        let duration = Duration::from_secs(10);
        let interval = Duration::from_millis(500);
        Setting { fair: vec![0.5, 0.5], capacity: 20.0, trouble, duration, interval }
    }

    fn value(record: &Record, name: &str, from: u64, to: u64) -> Option<f64> {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let setting = setting();
        let part = Part::of(record, &setting, from, to);
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

    /// Ten requests a second, of which each is served in 10 ms unless it is sent in a span.
    fn served_but(ill: std::ops::Range<u64>, ending: Ending, latency: u64) -> Record {
        let request = |at: u64| match ill.contains(&(at * 100)) {
            true => (at * 100, latency, ending),
            false => (at * 100, 10, Ending::Good),
        };
        record(&(0..100).map(request).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_served_long_after_its_cause_is_gone_is_a_cascade() {
        let cascades = |to| value(&served_but(2000..to, Ending::TimedOut, 900), "cascades", 0, 10);
        assert_eq!(cascades(6000), Some(0.0));
        // Of five seconds after a second of patience, two are not served.
        assert_eq!(cascades(7000), Some(100.0));
        assert_eq!(value(&served_but(0..0, Ending::Good, 0), "cascades", 4, 10), None);
    }

    #[test]
    fn recovery_ends_with_the_last_half_second_in_which_few_are_well() {
        let recovery =
            |to, ending, latency| value(&served_but(2000..to, ending, latency), "recovery", 0, 10);
        assert_eq!(recovery(4000, Ending::Failed(503), 1), Some(0.0));
        assert_eq!(recovery(5200, Ending::Failed(503), 1), Some(1.5));
        // Served, but more than twice as late as before.
        assert_eq!(recovery(5200, Ending::Good, 21), Some(1.5));
        assert_eq!(recovery(5200, Ending::Good, 20), Some(0.0));
        assert_eq!(recovery(10_000, Ending::TimedOut, 900), Some(6.0));
    }

    #[test]
    fn trouble_is_told_against_before_and_against_the_capacity() {
        let record = served_but(2000..4000, Ending::Good, 25);
        assert_eq!(value(&record, "p99_rise", 2, 4), Some(2.5));
        assert_eq!(value(&record, "p99_rise", 0, 4), None);
        assert_eq!(value(&record, "goodput_part", 2, 4), Some(0.5));
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
