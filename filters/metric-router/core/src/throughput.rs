//! How much of an endpoint's traffic passes through this proxy: all its workers' responses a second,
//! by the rate that the endpoint reports.

use crate::ewma::Ewma;
use core::time::Duration;
use shared_state::UnixNanos;

/// Time constant of both rates: a share that changes with every burst would change policies with it.
const SHARE_TIME: Duration = Duration::from_secs(10);

/// How often responses are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Both rates of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throughput {
    counted: Option<(u64, UnixNanos)>,
    own: Ewma,
    reported: Ewma,
    reported_at: UnixNanos,
}

impl Throughput {
    /// All workers together have had `total` responses since they began.
    pub(crate) fn count(&mut self, total: u64, now: UnixNanos) {
        let Some((before, at)) = self.counted else {
            self.counted = Some((total, now));
            return;
        };
        let elapsed = now.since(at);
        // A worker that has begun anew, or left, makes the sum smaller; a clock may step back.
        if total < before || at > now {
            self.counted = Some((total, now));
        } else if elapsed >= COUNT_INTERVAL {
            let rate = (total - before) as f64 / elapsed.as_secs_f64();
            self.own.record(rate, now, SHARE_TIME);
            self.counted = Some((total, now));
        }
    }

    /// The endpoint says that it serves so many requests a second.
    pub(crate) fn report(&mut self, rate: f64, received_at: UnixNanos, now: UnixNanos) {
        if received_at != self.reported_at {
            self.reported_at = received_at;
            self.reported.record(rate, now, SHARE_TIME);
        }
    }

    /// The share, if both rates are known.
    pub(crate) fn share(&self) -> Option<f64> {
        let (own, reported) = (self.own.value()?, self.reported.value()?);
        (reported > 0.0).then(|| own / reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(1000 + secs)
    }

    fn after(throughput: &mut Throughput, secs: core::ops::Range<u64>, own: u64, reported: f64) {
        for secs in secs {
            throughput.count(own * secs, at(secs));
            throughput.report(reported, at(secs), at(secs));
        }
    }

    #[test]
    fn the_share_is_what_comes_from_here_by_what_is_served() {
        let mut throughput = Throughput::default();
        throughput.count(0, at(0));
        assert_eq!(throughput.share(), None);
        after(&mut throughput, 1..10, 20, 80.0);
        assert!((throughput.share().unwrap() - 0.25).abs() < 1e-6);
    }

    #[test]
    fn it_follows_within_some_ten_seconds() {
        let mut throughput = Throughput::default();
        after(&mut throughput, 0..30, 100, 100.0);
        let mut total = 100 * 29;
        for secs in 30..60 {
            total += 10;
            throughput.count(total, at(secs));
            throughput.report(100.0, at(secs), at(secs));
        }
        let share = throughput.share().unwrap();
        assert!((0.1..0.2).contains(&share), "{share}");
    }

    #[test]
    fn a_worker_that_begins_anew_and_a_clock_that_steps_back_make_no_rate() {
        let mut throughput = Throughput::default();
        after(&mut throughput, 0..30, 100, 100.0);
        throughput.count(5, at(31));
        throughput.count(105, at(0));
        assert!((throughput.share().unwrap() - 1.0).abs() < 0.05);
    }

    #[test]
    fn an_endpoint_that_reports_no_rate_has_no_share() {
        let mut throughput = Throughput::default();
        after(&mut throughput, 0..10, 100, 0.0);
        assert_eq!(throughput.share(), None);
    }
}
