//! Adds up what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::result::{LoadResult, Percentiles, Progress, Second};
use super::transport::Reply;
use crate::connect::{ErrorKind, ExchangeError};
use crate::duration::as_ms;

/// Endpoint names told apart; the names come from responses.
const MAX_ENDPOINTS: usize = 1024;

/// Where answers of further endpoints are counted.
const OTHER_ENDPOINTS: &str = "other";

/// Significant digits of latencies over the whole run: 0.1 %.
const DIGITS: u8 = 3;

/// The same within one second: 1 %, for a tenth of the memory.
const DIGITS_PER_SECOND: u8 = 2;

/// Two hours: twice the longest run. Bounds what a histogram grows to.
const MAX_LATENCY_MICROS: u64 = 7_200_000_000;

/// Counts and latencies of one run.
pub(super) struct Recorder {
    /// What is due earlier counts in the timeline alone.
    measured_from: Duration,
    tally: Tally,
    latency: Histogram<u64>,
    waited: Histogram<u64>,
    send_lag: Histogram<u64>,
    errors: BTreeMap<ErrorKind, u64>,
    by_status: BTreeMap<u16, u64>,
    by_client: Vec<(u64, u64)>,
    unsent: u64,
    in_flight: u64,
    max_in_flight: u64,
    seconds: Vec<SecondRecord>,
    /// Since the last call of `progress`.
    window: Histogram<u64>,
    window_answers: u64,
    window_from: Duration,
}

/// Counts by outcome.
#[derive(Default)]
struct Tally {
    requests: u64,
    succeeded: u64,
    failed: u64,
    limited: u64,
    by_endpoint: BTreeMap<String, u64>,
}

struct SecondRecord {
    tally: Tally,
    latency: Histogram<u64>,
}

impl Recorder {
    pub(super) fn new(clients: usize, measured_from: Duration) -> Self {
        Self {
            measured_from,
            tally: Tally::default(),
            latency: histogram(DIGITS),
            waited: histogram(DIGITS),
            send_lag: histogram(DIGITS),
            errors: BTreeMap::new(),
            by_status: BTreeMap::new(),
            by_client: vec![(0, 0); clients],
            unsent: 0,
            in_flight: 0,
            max_in_flight: 0,
            seconds: Vec::new(),
            window: histogram(DIGITS_PER_SECOND),
            window_answers: 0,
            window_from: Duration::ZERO,
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// A request is taken up.
    pub(super) fn sent(&mut self, due: Duration) {
        self.in_flight += 1;
        self.max_in_flight = self.max_in_flight.max(self.in_flight);
        self.tally.requests += u64::from(self.is_measured(due));
        self.second(due).tally.requests += 1;
    }

    /// It leaves, this long after it was due.
    pub(super) fn left(&mut self, due: Duration, lag: Duration) {
        if self.is_measured(due) {
            record(&mut self.send_lag, lag);
        }
    }

    fn is_measured(&self, due: Duration) -> bool {
        due >= self.measured_from
    }

    /// A request came due with too many in flight.
    pub(super) fn unsent(&mut self) {
        self.unsent += 1;
    }

    /// A request ends, `latency` after it was due.
    pub(super) fn ended(
        &mut self,
        due: Duration,
        client: usize,
        latency: Duration,
        outcome: &Result<Reply, ExchangeError>,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.window_answers += 1;
        let succeeded = matches!(outcome, Ok(reply) if reply.status < 400);
        let second = self.second(due);
        second.tally.count(outcome);
        if succeeded {
            record(&mut second.latency, latency);
            record(&mut self.window, latency);
        }
        if !self.is_measured(due) {
            return;
        }
        match outcome {
            Ok(reply) => *self.by_status.entry(reply.status).or_default() += 1,
            Err(error) => *self.errors.entry(error.kind).or_default() += 1,
        }
        if let Some((ended, successes)) = self.by_client.get_mut(client) {
            *ended += 1;
            *successes += u64::from(succeeded);
        }
        self.tally.count(outcome);
        if succeeded {
            record(&mut self.latency, latency);
        }
        if succeeded || matches!(outcome, Err(error) if error.kind == ErrorKind::Timeout) {
            record(&mut self.waited, latency);
        }
    }

    fn second(&mut self, due: Duration) -> &mut SecondRecord {
        let index = due.as_secs() as usize;
        while self.seconds.len() <= index {
            let latency = histogram(DIGITS_PER_SECOND);
            self.seconds.push(SecondRecord { tally: Tally::default(), latency });
        }
        &mut self.seconds[index]
    }

    /// How it stands, with rate and percentiles since the last call.
    pub(super) fn progress(&mut self, elapsed: Duration) -> Progress {
        let window_seconds = elapsed.saturating_sub(self.window_from).as_secs_f64();
        let rate =
            if window_seconds > 0.0 { self.window_answers as f64 / window_seconds } else { 0.0 };
        let progress = Progress {
            elapsed_seconds: elapsed.as_secs_f64(),
            requests: self.tally.requests,
            errors: self.tally.failed,
            limited: self.tally.limited,
            in_flight: self.in_flight,
            unsent: self.unsent,
            rate,
            p50_ms: quantile_ms(&self.window, 0.5),
            p99_ms: quantile_ms(&self.window, 0.99),
            share: self.tally.share(),
        };
        self.window.reset();
        self.window_answers = 0;
        self.window_from = elapsed;
        progress
    }

    pub(super) fn result(self, elapsed: Duration) -> LoadResult {
        let seconds = |(second, record): (usize, SecondRecord)| Second {
            second: second as u64,
            requests: record.tally.requests,
            succeeded: record.tally.succeeded,
            errors: record.tally.failed,
            limited: record.tally.limited,
            p50_ms: quantile_ms(&record.latency, 0.5),
            p99_ms: quantile_ms(&record.latency, 0.99),
            share: record.tally.share(),
        };
        LoadResult {
            elapsed_seconds: elapsed.as_secs_f64(),
            requests: self.tally.requests,
            succeeded: self.tally.succeeded,
            failed: self.tally.failed,
            limited: self.tally.limited,
            unsent: self.unsent,
            max_in_flight: self.max_in_flight,
            errors: self.errors,
            latency: percentiles(&self.latency),
            waited: percentiles(&self.waited),
            send_lag: percentiles(&self.send_lag),
            share: self.tally.share(),
            by_status: self.by_status,
            by_client: self.by_client,
            timeline: self.seconds.into_iter().enumerate().map(seconds).collect(),
        }
    }
}

impl Tally {
    fn count(&mut self, outcome: &Result<Reply, ExchangeError>) {
        let Ok(reply) = outcome else {
            self.failed += 1;
            return;
        };
        match reply.status {
            ..400 => self.succeeded += 1,
            429 => self.limited += 1,
            500.. => self.failed += 1,
            _ => {}
        }
        let Some(name) = &reply.endpoint else { return };
        if let Some(count) = self.by_endpoint.get_mut(name) {
            *count += 1;
        } else {
            let full = self.by_endpoint.len() >= MAX_ENDPOINTS;
            let name = if full { OTHER_ENDPOINTS } else { name };
            *self.by_endpoint.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn share(&self) -> BTreeMap<String, f64> {
        let total: u64 = self.by_endpoint.values().sum();
        self.by_endpoint
            .iter()
            .map(|(name, count)| (name.clone(), *count as f64 / total as f64))
            .collect()
    }
}

/// Microseconds, growing as needed.
#[expect(clippy::expect_used, reason = "fails for more than five digits, and these are constants")]
fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("at most five digits")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // Nothing takes less than a microsecond, and no run longer than the bound.
    if let Err(error) = histogram.record(micros.clamp(1, MAX_LATENCY_MICROS)) {
        log::warn!("{time:?} is not recorded: {error}");
    }
}

fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { micros_as_ms(histogram.value_at_quantile(quantile)) }
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    Percentiles {
        p50_ms: quantile_ms(histogram, 0.5),
        p90_ms: quantile_ms(histogram, 0.9),
        p99_ms: quantile_ms(histogram, 0.99),
        p999_ms: quantile_ms(histogram, 0.999),
        max_ms: quantile_ms(histogram, 1.0),
        mean_ms: if histogram.is_empty() { 0.0 } else { histogram.mean() / 1e3 },
    }
}

fn micros_as_ms(micros: u64) -> f64 {
    as_ms(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, endpoint: &str) -> Result<Reply, ExchangeError> {
        Ok(Reply { status, endpoint: Some(endpoint.to_owned()) })
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_those_of_the_successes() {
        let mut recorder = Recorder::new(1, Duration::ZERO);
        for i in 1..=1000 {
            recorder.sent(ms(i));
            recorder.ended(ms(i), 0, ms(i), &reply(200, "e1"));
        }
        // A fast failure must not make the latencies look better.
        recorder.sent(ms(1));
        recorder.ended(ms(1), 0, Duration::ZERO, &reply(503, "e2"));
        let result = recorder.result(Duration::from_secs(1));
        let close = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        let latency = &result.latency;
        assert!(close(latency.p50_ms, 500.0) && close(latency.p90_ms, 900.0), "{latency:?}");
        assert!(close(latency.p99_ms, 990.0) && close(latency.p999_ms, 999.0), "{latency:?}");
        assert!(close(latency.max_ms, 1000.0) && close(latency.mean_ms, 500.5), "{latency:?}");
        assert_eq!((result.requests, result.succeeded, result.failed), (1001, 1000, 1));
    }

    #[test]
    fn outcomes_are_told_apart() {
        let mut recorder = Recorder::new(2, Duration::ZERO);
        let timeout = Err(ExchangeError::new(ErrorKind::Timeout, ""));
        for (client, outcome) in
            [(0, reply(200, "a")), (0, reply(429, "a")), (1, reply(404, "b")), (1, timeout)]
        {
            recorder.sent(ms(0));
            recorder.ended(ms(0), client, ms(1), &outcome);
        }
        recorder.unsent();
        let result = recorder.result(Duration::from_secs(1));
        assert_eq!((result.succeeded, result.limited, result.failed, result.unsent), (1, 1, 1, 1));
        assert_eq!(result.errors, BTreeMap::from([(ErrorKind::Timeout, 1)]));
        assert_eq!(result.by_status, BTreeMap::from([(200, 1), (404, 1), (429, 1)]));
        assert_eq!(result.by_client, [(2, 1), (2, 0)]);
        assert!((result.share["a"] - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_timeline_counts_a_request_in_the_second_it_was_due() {
        let mut recorder = Recorder::new(1, Duration::ZERO);
        recorder.sent(ms(900));
        recorder.ended(ms(900), 0, ms(5000), &reply(200, "a"));
        let result = recorder.result(Duration::from_secs(6));
        assert_eq!(result.timeline.len(), 1);
        assert!(result.timeline[0].p99_ms > 4900.0);
    }

    #[test]
    fn the_warm_up_counts_in_the_timeline_alone() {
        let mut recorder = Recorder::new(1, ms(1000));
        for (due, took) in [(900, 500), (1000, 20)] {
            recorder.sent(ms(due));
            recorder.left(ms(due), ms(due) / 100);
            recorder.ended(ms(due), 0, ms(took), &reply(200, "a"));
        }
        let result = recorder.result(Duration::from_secs(2));
        assert_eq!((result.requests, result.succeeded, result.by_client[0]), (1, 1, (1, 1)));
        assert!(result.latency.max_ms < 21.0 && result.send_lag.p50_ms > 9.9, "{result:?}");
        assert_eq!(result.timeline[0].requests + result.timeline[1].requests, 2);
    }

    #[test]
    fn what_was_waited_for_in_vain_was_waited_for() {
        let mut recorder = Recorder::new(1, Duration::ZERO);
        let timeout = Err(ExchangeError::new(ErrorKind::Timeout, ""));
        let reset = Err(ExchangeError::new(ErrorKind::Reset, ""));
        for (took, outcome) in [(10, reply(200, "a")), (2000, timeout), (1, reset)] {
            recorder.sent(ms(0));
            recorder.ended(ms(0), 0, ms(took), &outcome);
        }
        let result = recorder.result(Duration::from_secs(2));
        assert!(result.waited.max_ms > 1990.0 && result.waited.p50_ms > 9.9, "{result:?}");
        assert!(result.latency.max_ms < 11.0, "{result:?}");
    }

    #[test]
    fn endless_endpoint_names_are_counted_together() {
        let mut recorder = Recorder::new(1, Duration::ZERO);
        for i in 0..2 * MAX_ENDPOINTS {
            recorder.ended(ms(0), 0, ms(1), &reply(200, &i.to_string()));
        }
        let share = recorder.result(Duration::from_secs(1)).share;
        assert_eq!(share.len(), MAX_ENDPOINTS + 1);
        assert!((share[OTHER_ENDPOINTS] - 0.5).abs() < 1e-9);
    }

    #[test]
    fn an_empty_run_has_a_result_without_nan() {
        let result = Recorder::new(1, Duration::ZERO).result(Duration::ZERO);
        let json = serde_json::to_string(&result).unwrap();
        assert!(!json.contains("null"), "{json}");
    }
}
