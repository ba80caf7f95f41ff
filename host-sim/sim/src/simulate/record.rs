//! What is kept of a run: one sample a request, and how many requests each endpoint was sent when.

use super::notices::Notice;
use super::spec::Experiment;
use std::time::Duration;

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a status below 400.
    Good,
    /// With another status, 0 for a reset.
    Failed(u16),
    /// The client, or the experiment, waited no longer.
    TimedOut,
}

/// One request that was sent after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// When it was sent, the warm-up not counted.
    pub(crate) at: Duration,
    /// From then to the end of its last try.
    pub(crate) latency: Duration,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// All of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) samples: Vec<Sample>,
    pub(crate) shares: Shares,
    /// What plugins and the host said that somebody should read.
    pub(crate) notices: Vec<Notice>,
}

/// Requests that proxies sent to each endpoint, by interval.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares {
    warmup: Duration,
    interval: Duration,
    /// By interval, then by endpoint.
    pub(crate) counts: Vec<Vec<u32>>,
}

impl Shares {
    pub(crate) fn new(experiment: &Experiment, endpoints: usize) -> Self {
        let (interval, duration) = (experiment.interval.0, experiment.duration.0);
        let intervals = duration.as_nanos().div_ceil(interval.as_nanos().max(1));
        let intervals = usize::try_from(intervals).unwrap_or(0);
        Self { warmup: experiment.warmup.0, interval, counts: vec![vec![0; endpoints]; intervals] }
    }

    /// A request is sent to an endpoint. What is sent after the last interval is not counted: nothing
    /// but retries is.
    pub(crate) fn count(&mut self, now: Duration, endpoint: usize) {
        let Some(since) = now.checked_sub(self.warmup) else { return };
        let at = since.as_nanos() / self.interval.as_nanos().max(1);
        let interval = usize::try_from(at).ok().and_then(|at| self.counts.get_mut(at));
        if let Some(count) = interval.and_then(|counts| counts.get_mut(endpoint)) {
            *count += 1;
        }
    }

    /// Each interval's beginning and counts, of those that lie in a span.
    pub(crate) fn within(&self, from: Duration, to: Duration) -> impl Iterator<Item = &[u32]> + '_ {
        let begins = |at: usize| self.interval * u32::try_from(at).unwrap_or(u32::MAX);
        let inside = move |at: usize| begins(at) >= from && begins(at) + self.interval <= to;
        let counts = self.counts.iter().enumerate();
        counts.filter(move |(at, _)| inside(*at)).map(|(_, counts)| counts.as_slice())
    }
}
