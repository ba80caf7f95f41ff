//! What this worker knows of one endpoint by its own measurement.

use crate::ewma::{Ewma, Peak, believable, decay};
use crate::look::Looks;
use crate::service_time::{Concurrency, ServiceTime, crowding};
use crate::throughput::Throughput;
use crate::work::Work;
use crate::{LeastCost, OrcaWeight, Outcome};
use core::cmp::Ordering;
use core::time::Duration;
use shared_state::{
    BreakerRecord, BreakerState, Cas, DEFAULT_ENDPOINT_SCOPE, Endpoint, EndpointHealth, Key,
    LoadReport, MAX_MEMBERS, UnixNanos, WorkerEntry,
};
use sorting::sort_by_key;

/// Rows a table holds: all members, and as many again that were and still have requests in flight.
const MAX_ROWS: usize = 2 * MAX_MEMBERS as usize;

/// Misses in a row after which an endpoint is taken for gone.
pub(crate) const MISSES_ALLOWED: u8 = 2;

/// As many failures one connection counts for that could not be made. An answer of 503 may concern
/// that request alone; where nobody listens, the next one finds nobody, too.
const UNREACHABLE_WEIGHT: u32 = 8;

/// A run of failures is forgiven as many times later as it is long, up to this: what failed three
/// times and never since worked will most probably fail a fourth.
const LATEST: f64 = 3.0;

/// From so many failures in a row on an endpoint is in trouble.
const TROUBLE: u32 = 2;

/// How often an endpoint that has failed and is needed is tried. More often costs more failures, and
/// for as long an endpoint that works again is missing.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);

/// Age from which a failure is over. A breaker that this worker cannot read may still be open for it.
pub(crate) const TROUBLE_AGE: Duration = Duration::from_secs(60);

/// How long an endpoint is taken for gone, unless it serves.
const ABSENCE: Duration = Duration::from_secs(30);

/// Seconds that a client waited in vain which tell something of an endpoint that never answered.
const LONG_WAIT: f64 = 1.0;

/// Time constant of the load of other workers. They tell it at ticks, and by the time it is read
/// the requests it counted are mostly done: taken as it is, all workers would rush to whatever
/// looked idle a moment ago. Smoothed, it says who has more to do, which stays true for longer.
const ELSEWHERE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) endpoint: Endpoint,
    /// The endpoint as the header and the metrics write it.
    pub(crate) text: String,
    pub(crate) health_key: Key<EndpointHealth>,
    pub(crate) breaker_key: Key<BreakerRecord>,
    /// What the others have written of it, as of the last time it was read, and in which versions.
    pub(crate) health: Option<EndpointHealth>,
    pub(crate) breaker: Option<BreakerRecord>,
    pub(crate) versions: (Option<Cas>, Option<Cas>),
    /// What it last reported to this worker, where nobody writes that down.
    pub(crate) report: Option<LoadReport>,
    pub(crate) in_flight: u32,
    /// What all other workers have in flight there, as well as it is known.
    pub(crate) others: f64,
    pub(crate) work: Work,
    /// Failures that no snapshot knows of yet, each counted as many times as the run of them is long.
    pub(crate) new_failures: u32,
    elsewhere: Ewma,
    pub(crate) service_time: ServiceTime,
    /// Seconds, as the peaks have it; kept where the policy asks for it.
    pub(crate) peak: Peak,
    /// [`zone_id`](shared_state::zone_id) of the zone that a response said; `None` before one did.
    pub(crate) zone: Option<u64>,
    /// Its own word on its load, 1 for full.
    pub(crate) utilization: Option<f64>,
    /// Its place among the candidates, while it is one.
    pub(crate) candidate: Option<usize>,
    /// It is one of the cluster's endpoints, as of the last refresh.
    pub(crate) is_known: bool,
    /// When it became one, if the cluster had been known by then; or when it was found again.
    came_at: Option<UnixNanos>,
    was_known: bool,
    errors: Ewma,
    succeeded: u64,
    failed: u64,
    consecutive_failures: u32,
    pub(crate) last_success: UnixNanos,
    pub(crate) last_failure: UnixNanos,
    /// When a client last left that had waited for too long.
    abandoned_at: UnixNanos,
    /// When its membership was last written down.
    pub(crate) confirmed_at: UnixNanos,
    pub(crate) looks: Looks,
    /// Picks in a row that something else served.
    pub(crate) misses: u8,
    missed_at: UnixNanos,
    pub(crate) orca: OrcaWeight,
    pub(crate) throughput: Throughput,
    /// Picks since they were last counted.
    pub(crate) picks: u64,
    /// Weight by 1000, as it is and as it was last told.
    pub(crate) weight_milli: u64,
    pub(crate) weight_told: u64,
}

impl Row {
    fn new(cluster: &str, endpoint: Endpoint) -> Self {
        let text = endpoint.to_string();
        Self {
            endpoint,
            health_key: EndpointHealth::key(cluster, endpoint),
            breaker_key: BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &[cluster, &text]),
            text,
            health: None,
            breaker: None,
            versions: (None, None),
            report: None,
            in_flight: 0,
            others: 0.0,
            work: Work::default(),
            new_failures: 0,
            elsewhere: Ewma::default(),
            service_time: ServiceTime::default(),
            peak: Peak::default(),
            zone: None,
            utilization: None,
            candidate: None,
            is_known: false,
            came_at: None,
            was_known: false,
            errors: Ewma::default(),
            succeeded: 0,
            failed: 0,
            consecutive_failures: 0,
            last_success: UnixNanos::ZERO,
            last_failure: UnixNanos::ZERO,
            abandoned_at: UnixNanos::ZERO,
            confirmed_at: UnixNanos::ZERO,
            looks: Looks::default(),
            misses: 0,
            missed_at: UnixNanos::ZERO,
            orca: OrcaWeight::default(),
            throughput: Throughput::default(),
            picks: 0,
            weight_milli: 0,
            weight_told: 0,
        }
    }

    /// Takes up a response. `took` is `None` where the time was spent on several endpoints, else it
    /// comes with the number of requests that this one had found there, if that is known.
    ///
    /// A failure counts as at least what was to be expected, by default as configured: an
    /// endpoint that refuses in a tenth of a millisecond must not look like the fastest of all.
    /// Answers the time that was counted, in seconds.
    pub(crate) fn measure(
        &mut self,
        outcome: Outcome,
        took: Option<(Duration, Option<f64>)>,
        now: UnixNanos,
        rules: &LeastCost,
        concurrency: &mut Concurrency,
    ) -> Option<f64> {
        let ahead = took.and_then(|(_, ahead)| ahead);
        let mut took = took.map(|(took, _)| took.as_secs_f64());
        let alone = self.service_time.value(concurrency);
        let expected =
            alone.map(|alone| alone * crowding(ahead.unwrap_or(0.0), concurrency.whole()));
        if self.errors.value().is_some_and(|errors| errors > 0.0) {
            self.errors.resume(now, rules.forgiveness());
        }
        match outcome {
            Outcome::Neutral => return None,
            Outcome::Abandoned => {
                // It says how long an answer takes at least, and that may be known already.
                let known = expected.unwrap_or(LONG_WAIT);
                took = Some(took.filter(|took| *took > known)?);
                self.abandoned_at = now;
            }
            Outcome::Success => {
                self.succeeded = self.succeeded.saturating_add(1);
                self.consecutive_failures = 0;
                self.last_success = now;
                self.errors.record(0.0, now, rules.decay_time);
            }
            Outcome::Failure | Outcome::Unreachable => {
                let weight = if outcome == Outcome::Failure { 1 } else { UNREACHABLE_WEIGHT };
                self.failed = self.failed.saturating_add(1);
                self.consecutive_failures = self.consecutive_failures.saturating_add(weight);
                // One more of a run is not tried again before the snapshot knows of it.
                self.new_failures = self.new_failures.saturating_add(self.consecutive_failures);
                self.last_failure = now;
                self.errors.record(1.0, now, rules.decay_time);
                let least = rules.default_latency.as_secs_f64();
                took = took.map(|took| took.max(expected.unwrap_or(least)));
            }
        }
        if let Some(took) = took {
            self.service_time.record(
                took,
                ahead,
                now,
                rules.service_time_decay(concurrency.is_known()),
                concurrency,
            );
        }
        took
    }

    /// When it last answered, well or badly, or showed that it takes long to.
    pub(crate) fn last_answer(&self, now: UnixNanos) -> UnixNanos {
        let told = [self.last_success, self.last_failure, self.abandoned_at];
        told.into_iter().map(|at| believable(at, now)).max().unwrap_or(UnixNanos::ZERO)
    }

    /// True if the last that it answered well is newer than the last failure.
    pub(crate) fn works(&self, now: UnixNanos) -> bool {
        believable(self.last_success, now) > believable(self.last_failure, now)
    }

    /// True if one request may find out whether it works again: the last one is long enough ago.
    pub(crate) fn may_be_tried(&self, now: UnixNanos) -> bool {
        self.waiting() == 0 && now.since(self.last_answer(now)) >= TRIAL_INTERVAL
    }

    /// Share of attempts that failed. Fades without traffic, or an endpoint that is no longer
    /// picked could never show that it has recovered.
    pub(crate) fn error_ratio(&self, now: UnixNanos, rules: &LeastCost) -> f64 {
        self.errors.faded(now, rules.forgiveness()).clamp(0.0, 1.0)
    }

    /// The error ratio that a streak of failures suggests: 0 for a single one, a third for two, two
    /// thirds for three, towards 1. A mean takes long to believe that an endpoint which worked well has
    /// died. It fades as errors do, but later the longer the streak is.
    pub(crate) fn streak(&self, now: UnixNanos, rules: &LeastCost) -> f64 {
        streak(self.consecutive_failures, self.last_failure, now, rules)
    }

    /// True if it has failed twice in a row or more, and not long ago: nobody knows whether it works.
    pub(crate) fn is_in_trouble(&self, now: UnixNanos) -> bool {
        let failed_at = believable(self.last_failure, now);
        self.consecutive_failures >= TROUBLE && now.since(failed_at) < TROUBLE_AGE
    }

    /// What a new request would have to wait for: those in flight, and those that failed since the
    /// last snapshot. An endpoint that fails at once has nothing in flight, and would draw all
    /// requests until the snapshot knows better.
    pub(crate) fn waiting(&self) -> u32 {
        self.in_flight.saturating_add(self.new_failures)
    }

    /// Responses of this worker, good and bad.
    pub(crate) fn answered(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Takes up what all other workers have in flight there, and gives the smoothed number.
    pub(crate) fn load_elsewhere(&mut self, in_flight: u64, now: UnixNanos) -> f64 {
        self.elsewhere.record(in_flight as f64, now, ELSEWHERE_TIME);
        self.others = self.mean_elsewhere();
        self.others
    }

    /// The same as of the last time.
    pub(crate) fn mean_elsewhere(&self) -> f64 {
        self.elsewhere.value().unwrap_or(0.0)
    }

    /// A request picked for it was served by something else.
    pub(crate) fn miss(&mut self, now: UnixNanos) {
        self.misses = self.misses.saturating_add(1);
        self.missed_at = now;
    }

    /// It has served, after so many misses.
    pub(crate) fn found(&mut self, misses: u8, now: UnixNanos) {
        if misses >= MISSES_ALLOWED {
            self.came_at = Some(now);
        }
    }

    /// When it came or came back, as far as this worker and its breaker tell.
    pub(crate) fn came_at(&self, now: UnixNanos) -> Option<UnixNanos> {
        let breaker = self
            .breaker
            .as_ref()
            .filter(|breaker| breaker.epoch > 0 && breaker.state_at(now) != BreakerState::Open);
        let was_absent = self.misses >= MISSES_ALLOWED && !self.is_absent(now);
        let found_again = was_absent.then(|| self.missed_at.plus(ABSENCE));
        self.came_at.max(breaker.map(|breaker| breaker.changed_at)).max(found_again)
    }

    /// True while it is taken for gone.
    pub(crate) fn is_absent(&self, now: UnixNanos) -> bool {
        self.misses >= MISSES_ALLOWED && self.has_missed_lately(now)
    }

    fn has_missed_lately(&self, now: UnixNanos) -> bool {
        self.misses > 0 && self.missed_at <= now && now.since(self.missed_at) < ABSENCE
    }

    fn entry(&self, concurrency: &Concurrency) -> WorkerEntry {
        let micros = self.service_time.value(concurrency).unwrap_or(0.0) * 1e6;
        WorkerEntry {
            in_flight: self.in_flight,
            succeeded: self.succeeded,
            failed: self.failed,
            consecutive_failures: self.consecutive_failures,
            // A float beyond the range becomes its end.
            latency_us: micros as u32,
            last_success: self.last_success,
            last_failure: self.last_failure,
            ..WorkerEntry::new(self.endpoint)
        }
    }
}

/// [`Row::streak`] of so many failures, the last of them then.
pub(crate) fn streak(
    failures: u32,
    last_failure: UnixNanos,
    now: UnixNanos,
    rules: &LeastCost,
) -> f64 {
    // One is no run, and nothing fades.
    if failures < 2 {
        return 0.0;
    }
    let failures = f64::from(failures);
    let ratio = 1.0 - 4.0 / (failures * (failures + 1.0));
    let forgiveness = rules.forgiveness().mul_f64(failures.min(LATEST));
    ratio * decay(now.since(believable(last_failure, now)), forgiveness)
}

/// The rows of one cluster. A row keeps its place until [`Table::compact`].
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Most of the endpoints were known at the last refresh, too.
    is_settled: bool,
    /// Places in order of endpoint, so that a request finds its row among a thousand.
    order: Vec<usize>,
}

impl Table {
    pub(crate) fn at(&mut self, place: usize) -> Option<&mut Row> {
        self.rows.get_mut(place)
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn rows_mut(&mut self) -> &mut [Row] {
        &mut self.rows
    }

    pub(crate) fn find(&mut self, endpoint: Endpoint) -> Option<&mut Row> {
        let place = self.place(endpoint)?;
        self.rows.get_mut(place)
    }

    /// As [`Table::place`], for one that was at `place` a moment ago and most probably still is.
    pub(crate) fn place_near(&self, endpoint: Endpoint, place: usize) -> Option<usize> {
        let is_there = self.rows.get(place).is_some_and(|row| row.endpoint == endpoint);
        if is_there { Some(place) } else { self.place(endpoint) }
    }

    /// Where the row of `endpoint` is, if there is one.
    pub(crate) fn place(&self, endpoint: Endpoint) -> Option<usize> {
        self.order.get(self.search(endpoint).ok()?).copied()
    }

    fn search(&self, endpoint: Endpoint) -> Result<usize, usize> {
        self.order.binary_search_by(|place| {
            self.rows.get(*place).map_or(Ordering::Less, |row| row.endpoint.cmp(&endpoint))
        })
    }

    /// The row of `endpoint`, new if need be; `None` if the table is full.
    pub(crate) fn get_or_add(&mut self, cluster: &str, endpoint: Endpoint) -> Option<&mut Row> {
        let place = self.place_or_add(cluster, endpoint)?;
        self.rows.get_mut(place)
    }

    pub(crate) fn place_or_add(&mut self, cluster: &str, endpoint: Endpoint) -> Option<usize> {
        match self.search(endpoint) {
            Ok(at) => self.order.get(at).copied(),
            Err(_) if self.rows.len() >= MAX_ROWS => None,
            Err(at) => {
                self.rows.push(Row::new(cluster, endpoint));
                let place = self.rows.len() - 1;
                self.order.insert(at, place);
                Some(place)
            }
        }
    }

    /// Takes up which endpoints the cluster has, and forgets rows that nobody needs: not known,
    /// nothing in flight, nothing left to tell.
    pub(crate) fn compact(&mut self, known: &[Endpoint], now: UnixNanos) {
        let mut were_known = 0;
        for row in &mut self.rows {
            row.was_known = row.is_known;
            were_known += usize::from(row.is_known);
            row.is_known = false;
        }
        // Where most of the endpoints are new, it is the cluster that is.
        let is_settled = were_known * 2 > known.len() && self.is_settled;
        self.is_settled = were_known * 2 > known.len();
        for endpoint in known {
            if let Some(row) = self.find(*endpoint) {
                row.is_known = true;
                if !row.was_known && is_settled {
                    row.came_at = Some(now);
                }
            }
        }
        let before = self.rows.len();
        self.rows.retain(|row| {
            row.is_known
                || row.in_flight > 0
                || row.picks > 0
                || row.weight_told > 0
                || row.has_missed_lately(now)
        });
        if self.rows.len() < before {
            self.order = (0..self.rows.len()).collect();
            let rows = &self.rows;
            sort_by_key(&mut self.order, |place| rows.get(*place).map(|row| row.endpoint));
        }
    }

    /// What the other workers should know.
    pub(crate) fn entries(&self, concurrency: &Concurrency) -> Vec<WorkerEntry> {
        let busy = |row: &&Row| row.in_flight > 0 || row.succeeded > 0 || row.failed > 0;
        let busy = self.rows.iter().filter(busy).take(usize::from(MAX_MEMBERS));
        busy.map(|row| row.entry(concurrency)).collect()
    }
}

#[cfg(test)]
mod tests;
