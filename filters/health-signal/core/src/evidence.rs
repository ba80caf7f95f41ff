//! What all workers together have seen of an endpoint.

use crate::{Agent, EndpointMap};
use shared_state::{LoadReport, UnixNanos, WorkerEntry, WorkerReport};

/// The sum of the workers' entries for one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Requests that wait for it.
    pub in_flight: u32,
    /// Successes since the workers began; falls when a worker ends.
    pub succeeded: u64,
    /// Failures since the workers began; falls when a worker ends.
    pub failed: u64,
    /// Failures in a row, since the newest success that any worker saw.
    pub consecutive_failures: u32,
    /// Mean of the workers' smoothed latencies, in microseconds; 0 if unknown.
    pub latency_us: u32,
    /// The newest success; zero if there was none.
    pub last_success: UnixNanos,
    /// The newest failure; zero if there was none.
    pub last_failure: UnixNanos,
    /// The newest load report.
    pub report: Option<LoadReport>,
    /// What the endpoint's agent last said in a response, to each worker, the newest last.
    pub agent: Vec<(UnixNanos, Agent)>,
}

/// Adds the reports up.
///
/// Failures in a row are the sum over the workers whose last failure is younger than the newest
/// success of all. A worker's own run may have begun before that success: then it counts in full,
/// because so many failures in a row, as one worker saw them, are reason enough.
pub fn merge(reports: &[WorkerReport]) -> EndpointMap<Evidence> {
    let mut merged: EndpointMap<Sum> = EndpointMap::default();
    let entries = || reports.iter().flat_map(|report| &report.entries);
    for entry in entries() {
        if let Some(sum) = merged.get_or_insert_with(entry.endpoint, Sum::default) {
            sum.add(entry);
        }
    }
    // The newest success of all is known only now.
    for entry in entries() {
        if let Some(Sum { evidence, .. }) = merged.get_mut(entry.endpoint)
            && entry.last_failure > evidence.last_success
        {
            evidence.consecutive_failures =
                evidence.consecutive_failures.saturating_add(entry.consecutive_failures);
        }
    }
    merged.map(Sum::evidence)
}

#[derive(Default)]
struct Sum {
    evidence: Evidence,
    latency_us: u64,
    latencies: u64,
}

impl Sum {
    fn add(&mut self, entry: &WorkerEntry) {
        let sum = &mut self.evidence;
        sum.in_flight = sum.in_flight.saturating_add(entry.in_flight);
        sum.succeeded = sum.succeeded.saturating_add(entry.succeeded);
        sum.failed = sum.failed.saturating_add(entry.failed);
        sum.last_success = sum.last_success.max(entry.last_success);
        sum.last_failure = sum.last_failure.max(entry.last_failure);
        let received = |report: &Option<LoadReport>| report.as_ref().map(|r| r.received_at);
        if received(&entry.report) > received(&sum.report) {
            sum.report.clone_from(&entry.report);
        }
        if let Some((said_at, words)) = entry.agent {
            let at = sum.agent.partition_point(|(at, _)| *at <= said_at);
            sum.agent.insert(at, (said_at, Agent::unpack(words)));
        }
        if entry.latency_us > 0 {
            self.latency_us = self.latency_us.saturating_add(u64::from(entry.latency_us));
            self.latencies += 1;
        }
    }

    fn evidence(self) -> Evidence {
        let mean = self.latency_us.checked_div(self.latencies).unwrap_or(0);
        Evidence { latency_us: u32::try_from(mean).unwrap_or(u32::MAX), ..self.evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::Endpoint;

    fn endpoint() -> Endpoint {
        "10.0.0.1:80".parse().unwrap()
    }

    /// A worker that saw its last success and its last failure at these seconds.
    fn worker(success: u64, failure: u64, run: u32) -> WorkerReport {
        let entry = WorkerEntry {
            in_flight: 2,
            succeeded: u64::from(success > 0),
            failed: u64::from(run),
            consecutive_failures: run,
            last_success: UnixNanos::from_secs(success),
            last_failure: UnixNanos::from_secs(failure),
            ..WorkerEntry::new(endpoint())
        };
        WorkerReport { owner: 1, written_at: UnixNanos::ZERO, entries: vec![entry] }
    }

    fn sum(reports: &[WorkerReport]) -> Evidence {
        merge(reports).remove(endpoint()).unwrap()
    }

    #[test]
    fn no_report_is_no_evidence() {
        assert!(merge(&[]).is_empty());
    }

    #[test]
    fn counts_add_up_and_the_newest_moments_win() {
        let all = sum(&[worker(5, 3, 0), worker(2, 9, 2)]);
        assert_eq!((all.in_flight, all.succeeded, all.failed), (4, 2, 2));
        assert_eq!(all.last_success, UnixNanos::from_secs(5));
        assert_eq!(all.last_failure, UnixNanos::from_secs(9));
    }

    #[test]
    fn a_success_that_another_worker_saw_ends_an_older_run() {
        assert_eq!(sum(&[worker(10, 0, 0), worker(0, 9, 5)]).consecutive_failures, 0);
        assert_eq!(sum(&[worker(10, 0, 0), worker(0, 11, 5)]).consecutive_failures, 5);
    }

    #[test]
    fn runs_of_several_workers_add_up() {
        assert_eq!(sum(&[worker(1, 4, 2), worker(2, 5, 1)]).consecutive_failures, 3);
    }

    #[test]
    fn latency_is_the_mean_of_those_who_know_it() {
        let mut reports = [worker(1, 0, 0), worker(1, 0, 0), worker(1, 0, 0)];
        reports[0].entries[0].latency_us = 10;
        reports[1].entries[0].latency_us = 30;
        assert_eq!(sum(&reports).latency_us, 20);
    }

    #[test]
    fn the_newest_load_report_wins() {
        let reported = |at, rps| {
            let received_at = UnixNanos::from_secs(at);
            Some(LoadReport { received_at, rps, ..LoadReport::default() })
        };
        let mut reports = [worker(1, 0, 0), worker(1, 0, 0), worker(1, 0, 0)];
        reports[0].entries[0].report = reported(5, 1.0);
        reports[1].entries[0].report = reported(7, 2.0);
        assert_eq!(sum(&reports).report.unwrap().rps, 2.0);
    }
}
