//! The newest of each signal of one endpoint, smoothed, and what its limits say of it.
//!
//! Samples come unevenly spaced, so the mean is over time: `m += (1 - exp(-dt/tau)) * (x - m)`. A
//! signal that worsens is believed twice as fast as one that improves: to send too little for a
//! second costs less than to send too much. Each signal has the age limit of where it came from.

use crate::Signal;
use crate::config::{Limit, ReportedState, Smoothing};
use crate::latency::decay_weight;
use crate::passive::is_fresh;
use core::time::Duration;
use shared_state::{LoadReport, UnixNanos};

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A poll.
    Poll,
    /// A load report of the endpoint's own accord.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Track {
    signal: Signal,
    source: Source,
    mean: f64,
    at: UnixNanos,
    /// How long it counts.
    limit: Duration,
}

/// All signals of one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals(Vec<Track>);

impl Signals {
    /// Takes a sample. What is no finite number, or below zero, is none.
    pub fn add(
        &mut self,
        signal: Signal,
        sample: f64,
        source: Source,
        limit: Duration,
        smoothing: &Smoothing,
        now: UnixNanos,
    ) {
        if !sample.is_finite() || sample < 0.0 {
            return;
        }
        let Some(track) = self.0.iter_mut().find(|track| track.signal == signal) else {
            return self.0.push(Track { signal, source, mean: sample, at: now, limit });
        };
        let last = track.at;
        let mean = if is_fresh(last, now, track.limit) {
            let slow = smoothing.tau(signal);
            let tau = if sample > track.mean { slow / 2 } else { slow };
            track.mean + decay_weight(now.since(last), tau) * (sample - track.mean)
        } else {
            sample
        };
        *track = Track { signal, source, mean, at: now, limit };
    }

    /// Takes all that a load report says.
    pub fn add_report(
        &mut self,
        report: &LoadReport,
        wanted: &[Limit],
        limit: Duration,
        smoothing: &Smoothing,
    ) {
        let own = Signal::NAMED.iter().map(|(_, signal)| *signal);
        let custom = wanted.iter().map(|limit| limit.signal);
        for signal in own.chain(custom.filter(|signal| matches!(signal, Signal::Custom(_)))) {
            if let Some(sample) = signal.reported(report) {
                self.add(signal, sample, Source::Report, limit, smoothing, report.received_at);
            }
        }
    }

    /// The signal, unless it is stale.
    pub fn get(&self, signal: Signal, now: UnixNanos) -> Option<f64> {
        let track = self.0.iter().find(|track| track.signal == signal)?;
        is_fresh(track.at, now, track.limit).then_some(track.mean)
    }

    /// What the limits make of the endpoint; `None` where they say nothing.
    pub fn beyond(&self, limits: &[Limit], now: UnixNanos) -> Option<ReportedState> {
        let state = |limit: &Limit| {
            let value = self.get(limit.signal, now)?;
            if limit.unready_above.is_some_and(|most| value > most) {
                return Some(ReportedState::Unready);
            }
            limit.degraded_above.is_some_and(|most| value > most).then_some(ReportedState::Degraded)
        };
        let mut worst = None;
        for state in limits.iter().filter_map(state) {
            if worst != Some(ReportedState::Unready) {
                worst = Some(state);
            }
        }
        worst
    }

    /// The report of the endpoint, and what polls know besides or know better because it is newer.
    pub fn complete(&self, report: Option<LoadReport>, now: UnixNanos) -> Option<LoadReport> {
        let mut complete = report.clone();
        for track in self.0.iter().filter(|track| is_fresh(track.at, now, track.limit)) {
            let said = report.as_ref().and_then(|report| track.signal.reported(report));
            let newer = report.as_ref().is_none_or(|report| track.at > report.received_at);
            let own_field = matches!(track.signal, Signal::QueueDepth | Signal::Connections);
            if track.source == Source::Report || own_field || (said.is_some() && !newer) {
                continue;
            }
            let into = complete.get_or_insert_default();
            track.signal.report(track.mean, into);
            into.received_at = into.received_at.max(track.at);
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(15);

    fn smoothing() -> Smoothing {
        Smoothing {
            utilization: Duration::from_secs(3),
            queue_depth: Duration::from_secs(1),
            latency: Duration::from_secs(4),
        }
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn add(signals: &mut Signals, signal: Signal, sample: f64, secs: u64) {
        signals.add(signal, sample, Source::Poll, LIMIT, &smoothing(), at(secs));
    }

    fn limit(signal: Signal, degraded: f64, unready: f64) -> Limit {
        Limit { signal, degraded_above: Some(degraded), unready_above: Some(unready) }
    }

    #[test]
    fn worsening_is_believed_twice_as_fast_as_improving() {
        let moved = |first: f64, second: f64| {
            let mut signals = Signals::default();
            add(&mut signals, Signal::CpuUtilization, first, 100);
            add(&mut signals, Signal::CpuUtilization, second, 101);
            signals.get(Signal::CpuUtilization, at(101)).unwrap()
        };
        // One second: 1 - exp(-1/1.5) = 49 % of the way up, 1 - exp(-1/3) = 28 % down.
        assert!((moved(0.0, 1.0) - 0.487).abs() < 0.001);
        assert!((moved(1.0, 0.0) - 0.717).abs() < 0.001);
    }

    #[test]
    fn a_signal_counts_until_it_is_stale_and_then_begins_anew() {
        let mut signals = Signals::default();
        add(&mut signals, Signal::QueueDepth, 9.0, 100);
        assert_eq!(signals.get(Signal::QueueDepth, at(115)), Some(9.0));
        assert_eq!(signals.get(Signal::QueueDepth, at(116)), None);
        add(&mut signals, Signal::QueueDepth, 1.0, 120);
        assert_eq!(signals.get(Signal::QueueDepth, at(120)), Some(1.0));
        assert_eq!(signals.get(Signal::QueueDepth, at(50)), None, "the clock stepped back");
    }

    #[test]
    fn the_worst_limit_that_is_passed_decides() {
        let mut signals = Signals::default();
        let limits = [limit(Signal::QueueDepth, 100.0, 500.0), limit(Signal::Rif, 10.0, 20.0)];
        assert_eq!(signals.beyond(&limits, at(100)), None);
        add(&mut signals, Signal::QueueDepth, 100.0, 100);
        assert_eq!(signals.beyond(&limits, at(100)), None, "at the limit is within");
        add(&mut signals, Signal::Rif, 11.0, 100);
        assert_eq!(signals.beyond(&limits, at(100)), Some(ReportedState::Degraded));
        add(&mut signals, Signal::QueueDepth, 1e9, 105);
        assert_eq!(signals.beyond(&limits, at(105)), Some(ReportedState::Unready));
        assert_eq!(signals.beyond(&limits, at(121)), None, "stale");
    }

    #[test]
    fn a_report_is_completed_by_what_polls_know_besides_or_know_better() {
        let mut signals = Signals::default();
        add(&mut signals, Signal::CpuUtilization, 0.9, 100);
        add(&mut signals, Signal::Rif, 7.0, 100);
        add(&mut signals, Signal::QueueDepth, 3.0, 100);
        let report =
            LoadReport { received_at: at(105), cpu_utilization: 0.1, ..Default::default() };
        let complete = signals.complete(Some(report.clone()), at(106)).unwrap();
        assert_eq!((complete.cpu_utilization, complete.received_at), (0.1, at(105)));
        assert_eq!(complete.named("named_metrics.rif"), Some(7.0));
        add(&mut signals, Signal::CpuUtilization, 0.9, 107);
        let complete = signals.complete(Some(report), at(107)).unwrap();
        assert_eq!((complete.cpu_utilization, complete.received_at), (0.9, at(107)));
        assert_eq!(signals.complete(None, at(500)), None, "all stale");
    }

    #[test]
    fn a_report_feeds_the_limits_and_is_not_changed_by_itself() {
        let mut signals = Signals::default();
        let mut report = LoadReport { received_at: at(100), eps: 5.0, ..Default::default() };
        Signal::Rif.report(4.0, &mut report);
        signals.add_report(&report, &[], LIMIT, &smoothing());
        assert_eq!(signals.get(Signal::Rif, at(100)), Some(4.0));
        assert_eq!(
            signals.beyond(&[limit(Signal::Eps, 4.0, 9.0)], at(100)),
            Some(ReportedState::Degraded)
        );
        assert_eq!(signals.complete(Some(report.clone()), at(100)), Some(report));
    }

    proptest! {
        #[test]
        fn the_mean_stays_within_the_samples(
            samples in proptest::collection::vec((any::<f64>(), 0u64..u64::MAX), 1..40)
        ) {
            let mut signals = Signals::default();
            let (mut least, mut most) = (f64::INFINITY, 0.0f64);
            for (sample, nanos) in samples {
                let now = UnixNanos::from_nanos(nanos);
                signals.add(Signal::Rps, sample, Source::Poll, LIMIT, &smoothing(), now);
                if sample.is_finite() && sample >= 0.0 {
                    (least, most) = (least.min(sample), most.max(sample));
                }
                if let Some(mean) = signals.get(Signal::Rps, now) {
                    prop_assert!(mean >= least * 0.999_999 && mean <= most * 1.000_001, "{mean}");
                }
            }
        }
    }
}
