//! How much may be under way, and how much of it again.
//!
//! A breaker answers whether its subject works; what stands here answers whether it works *under
//! this load*, and each rule by another sign of it:
//!
//! - [`Bulkhead`]: so many requests at once over all workers, whatever they do;
//! - [`Adaptive`]: as many at once as the latency says the subject bears;
//! - [`AdmissionControl`]: as large a share as the success rate says;
//! - [`RetryBudget`]: retries in proportion to requests, for they multiply what is too much already.
//!
//! The bulkhead is exact over all workers ([`bulkhead`]). The others are what one worker sees of its
//! own requests: each worker learns the same, and what is shared between them is the subject itself.
//! A request is counted in before it is sent and out when it ends, however it ends; that is one value
//! which is taken once, so nothing is counted out twice.

pub(crate) mod adaptive;
pub(crate) mod bulkhead;
mod retries;

use crate::backoff::unit;
use crate::breaker::Verdict;
use crate::window::{self, Window};
use crate::worker::{Clock, Subject, Table};
use adaptive::Limit;
use bulkhead::Reserve;
use core::time::Duration;
use retries::Balance;
use shared_state::{BreakerWindow, SharedStore, UnixNanos};

pub use adaptive::{Adaptive, Algorithm};
pub use retries::RetryBudget;

/// Subjects that a worker counts the load of. More are not limited.
const MAX_SUBJECTS: usize = 1024;

/// What nobody asked for so long, with nothing under way, is forgotten.
const IDLE: Duration = Duration::from_secs(60);

/// How many requests may be under way at once, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    /// So many.
    pub max_concurrent: u32,
    /// Time after which what a worker that died had under way is free again.
    pub lease: Duration,
}

/// Envoy's admission control: rejects the more, the fewer succeed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdmissionControl {
    /// What the success rate is taken over.
    pub sampling_window: Duration,
    /// Success rate below which it rejects, in percent.
    pub sr_threshold: f64,
    /// More rejects more when few fail.
    pub aggression: f64,
    /// Largest share that is rejected, in percent.
    pub max_rejection_probability: f64,
}

impl AdmissionControl {
    /// The share that is rejected after so many requests of which so many succeeded.
    pub fn rejection_probability(&self, total: u64, succeeded: u64) -> f64 {
        let (total, succeeded) = (total as f64, succeeded as f64);
        let excess = (total - succeeded * 100.0 / self.sr_threshold) / (total + 1.0);
        let share = excess.max(0.0).powf(1.0 / self.aggression);
        share.min(self.max_rejection_probability / 100.0)
    }
}

/// All rules of one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadRules {
    /// Over all workers.
    pub bulkhead: Option<Bulkhead>,
    /// By latency.
    pub adaptive: Option<Adaptive>,
    /// By the success rate.
    pub admission: Option<AdmissionControl>,
    /// How many retries.
    pub retry_budget: Option<RetryBudget>,
}

impl LoadRules {
    /// True if nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a request was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its breaker is open, or half-open without a permit, or ramping.
    Breaker,
    /// As many are under way as may be.
    Bulkhead,
    /// As many are under way as the latency allows.
    Adaptive,
    /// The success rate is low, and the draw was against it.
    Admission,
}

impl Cause {
    /// The label of metrics, and in the access log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Breaker => "open",
            Self::Bulkhead => "bulkhead",
            Self::Adaptive => "adaptive_concurrency",
            Self::Admission => "admission_control",
        }
    }
}

/// A request that was counted in.
#[derive(Debug)]
pub(crate) struct Ticket(());

/// What the end of a request says about the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// The subject said that it is asked for too much, or did not answer in time.
    pub(crate) overloaded: bool,
    pub(crate) elapsed: Option<Duration>,
    pub(crate) attempts: u32,
}

/// The loads of one scope's subjects, on one worker.
#[derive(Debug)]
pub(crate) struct Loads {
    plugin: String,
    scope: String,
    rules: LoadRules,
    /// A number that no other VM has.
    owner: u64,
    loads: Table<Load>,
}

#[derive(Debug)]
struct Load {
    in_flight: u32,
    /// Of the bulkhead, by this worker.
    reserved: u32,
    renewed_at: UnixNanos,
    limit: Limit,
    outcomes: BreakerWindow,
    balance: Balance,
    used_at: UnixNanos,
}

impl Load {
    fn new(rules: &LoadRules, recent: UnixNanos) -> Self {
        Self {
            in_flight: 0,
            reserved: 0,
            renewed_at: recent,
            limit: Limit::new(rules.adaptive.as_ref()),
            outcomes: BreakerWindow::default(),
            balance: Balance::new(rules.retry_budget.as_ref(), recent),
            used_at: recent,
        }
    }
}

impl Loads {
    pub(crate) fn new(plugin: &str, scope: &str, rules: LoadRules, owner: u64) -> Self {
        let (plugin, scope) = (plugin.to_owned(), scope.to_owned());
        Self { plugin, scope, rules, owner, loads: Table::new() }
    }

    /// Counts a request in; `None` if there are too many subjects to count. The error says why it
    /// may not be sent.
    pub(crate) fn begin(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        clock: impl Clock,
        draw: u64,
    ) -> Result<Option<Ticket>, Cause> {
        let recent = clock.recent();
        let rules = self.rules;
        let at = match self.loads.find(subject) {
            Some(at) => at,
            None if self.loads.len() >= MAX_SUBJECTS => return Ok(None),
            None => self.loads.insert(subject.clone(), Load::new(&rules, recent)),
        };
        let Some(load) = self.loads.at(at) else { return Ok(None) };
        load.used_at = recent;
        if let Some(rule) = &rules.admission {
            let window = Window::Time(rule.sampling_window);
            let sums = window::sums_at(&load.outcomes, window, recent);
            let succeeded = sums.total.saturating_sub(sums.failed);
            if unit(draw) < rule.rejection_probability(sums.total, succeeded) {
                return Err(Cause::Admission);
            }
        }
        if rules.adaptive.is_some() && load.in_flight >= load.limit.whole() {
            load.limit.hold_back(load.in_flight);
            return Err(Cause::Adaptive);
        }
        if let Some(bulkhead) = rules.bulkhead
            && load.in_flight >= load.reserved
        {
            let now = clock.now();
            let reserve = Reserve {
                subject: bulkhead::fingerprint(subject),
                owner: self.owner,
                in_flight: load.in_flight,
                rule: bulkhead,
                now,
            };
            match bulkhead::reserve(store, &self.plugin, &self.scope, &reserve) {
                Some(reserved) if reserved <= load.in_flight => return Err(Cause::Bulkhead),
                Some(reserved) => {
                    load.reserved = reserved;
                    load.renewed_at = now;
                }
                // What cannot be counted passes: the tick writes it down as soon as it can.
                None => {}
            }
        }
        load.in_flight = load.in_flight.saturating_add(1);
        if let Some(budget) = &rules.retry_budget {
            load.balance.earn(budget, recent);
        }
        Ok(Some(Ticket(())))
    }

    /// True if a request that is sent now must not be retried.
    pub(crate) fn is_spent(&self, subject: &Subject) -> bool {
        self.rules.retry_budget.is_some()
            && self.loads.get(subject).is_some_and(|load| load.balance.is_spent())
    }

    /// Counts a request out. Without an end, it was never sent.
    pub(crate) fn end(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        _ticket: Ticket,
        ended: Option<Ended>,
        (clock, draw): (impl Clock, u64),
    ) {
        let rules = self.rules;
        let Some(load) = self.loads.get_mut(subject) else { return };
        let under_way = load.in_flight;
        load.in_flight = load.in_flight.saturating_sub(1);
        if let Some(bulkhead) = &rules.bulkhead
            && bulkhead::is_exact(bulkhead)
        {
            self.settle(store, subject, clock.now());
        }
        let (Some(load), Some(ended)) = (self.loads.get_mut(subject), ended) else { return };
        if let Some(rule) = &rules.adaptive {
            let answered = ended.elapsed.filter(|_| ended.verdict == Verdict::Success);
            load.limit.observe(rule, answered, ended.overloaded, under_way, draw);
        }
        if let (Some(rule), true) = (&rules.admission, ended.verdict != Verdict::Ignored) {
            let window = Window::Time(rule.sampling_window);
            let failed = ended.verdict.is_failure();
            window::count(&mut load.outcomes, window, clock.recent(), failed, false);
        }
        if rules.retry_budget.is_some() {
            load.balance.spend(ended.attempts.saturating_sub(1));
        }
    }

    /// Requests of a subject under way on this worker.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, subject: &Subject) -> u32 {
        self.loads.get(subject).map_or(0, |load| load.in_flight)
    }

    /// Tells the other workers what is really under way.
    fn settle(&mut self, store: &impl SharedStore, subject: &Subject, now: UnixNanos) {
        let (Some(rule), Some(load)) = (self.rules.bulkhead, self.loads.get_mut(subject)) else {
            return;
        };
        let reserve = Reserve {
            subject: bulkhead::fingerprint(subject),
            owner: self.owner,
            in_flight: load.in_flight,
            rule,
            now,
        };
        if bulkhead::settle(store, &self.plugin, &self.scope, &reserve) {
            load.reserved = load.in_flight;
            load.renewed_at = now;
        }
    }

    /// Gives back what was reserved and is not used, renews what is, forgets what is idle.
    pub(crate) fn tick(&mut self, store: &impl SharedStore, now: UnixNanos) {
        if let Some(rule) = self.rules.bulkhead {
            let is_due = |load: &Load| {
                let is_old = now < load.renewed_at || now.since(load.renewed_at) >= rule.lease / 3;
                load.reserved != load.in_flight || load.in_flight > 0 && is_old
            };
            let due = self.loads.iter().filter(|(_, load)| is_due(load));
            let due: Vec<Subject> = due.map(|(subject, _)| subject.clone()).collect();
            for subject in &due {
                self.settle(store, subject, now);
            }
        }
        self.loads.retain(|load| {
            load.used_at = load.used_at.min(now);
            load.in_flight > 0 || load.reserved > 0 || now.since(load.used_at) < IDLE
        });
    }
}

#[cfg(test)]
mod tests;
