//! One worker's part of all breakers of a scope: cached states and outcomes that wait.
//!
//! A request costs no shared data but for the two things that must be exact: a failure is recorded
//! at once, and a half-open breaker is asked for a permit. Successes wait for [`BATCH`] of them or
//! [`PATIENCE`], whichever comes first, and states are read again after [`PATIENCE`]. So another
//! worker's trip is noticed within that time, and a run of failures is never broken by a success
//! that came before it.
//!
//! When the host fails, or every race for a record is lost, the request passes: a breaker that
//! cannot be read does not exist. Outcomes that could not be stored for want of luck wait for the
//! next try, within bounds.

use crate::breaker::{Admission, Outcome, PermitTally, Rules, Step, Verdict, admit, record};
use crate::change::Change;
use crate::destinations::View;
use core::time::Duration;
use hashbrown::HashMap;
use shared_state::{
    BreakerRecord, BreakerState, Endpoint, Key, ReadError, SharedStore, UnixNanos, UpdateError,
    read, update,
};
use std::rc::Rc;

/// Outcomes that wait at most.
const BATCH: usize = 16;

/// How long an outcome waits, and a cached state is believed, at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// Outcomes that are kept when they cannot be stored.
const MAX_BACKLOG: usize = 64;

/// Breakers that a worker follows. More have no breaker, and are counted.
const MAX_SUBJECTS: usize = 1024;

/// A breaker that nobody asked for so long is no longer followed; its record stays.
const IDLE: Duration = Duration::from_secs(600);

/// What has a breaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The route's name, or the cluster's.
    pub name: Rc<str>,
    /// An endpoint of the cluster, if it is one.
    pub endpoint: Option<Endpoint>,
}

impl Subject {
    fn key(&self, scope: &str) -> Key<BreakerRecord> {
        match self.endpoint {
            Some(endpoint) => BreakerRecord::key(scope, &[&self.name, &endpoint.to_string()]),
            None => BreakerRecord::key(scope, &[&self.name]),
        }
    }
}

/// Something that the operator may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This worker changed the state of a breaker.
    Changed {
        /// Which breaker.
        subject: Subject,
        /// From what, to what, and why.
        change: Change,
    },
    /// A permit was granted.
    Granted,
    /// Permits were resolved.
    Resolved(PermitTally),
    /// A breaker did less than it should.
    Degraded(Degradation),
}

/// Why a breaker did less than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degradation {
    /// Its record was no record: taken as closed.
    Corrupt,
    /// The host failed: the request passed.
    Store,
    /// Every race for its record was lost: the request passed, or its outcome waits.
    Contended,
    /// The worker follows as many as it may: this one does not exist.
    TooManyBreakers,
    /// A list named more endpoints that never answered than the cluster has.
    UnconfirmedEndpoint,
}

impl Degradation {
    /// The label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt_record",
            Self::Store => "store_failed",
            Self::Contended => "contended",
            Self::TooManyBreakers => "too_many_breakers",
            Self::UnconfirmedEndpoint => "unconfirmed_endpoint",
        }
    }

    /// What happens because of it.
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::Corrupt => "a breaker's record does not decode and is taken as closed",
            Self::Store => "shared data cannot be read or written, requests pass",
            Self::Contended => "a breaker's record lost every race, its outcomes wait",
            Self::TooManyBreakers => "a worker follows too many breakers, this one does not exist",
            Self::UnconfirmedEndpoint => {
                "the steering header names more endpoints that never answered than the cluster has"
            }
        }
    }
}

/// The breakers of one scope, as one worker sees them.
#[derive(Debug)]
pub struct WorkerBreakers {
    scope: String,
    rules: Rules,
    followed: HashMap<Subject, Followed>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Followed {
    key: Key<BreakerRecord>,
    record: Option<BreakerRecord>,
    read_at: Option<UnixNanos>,
    waiting: Vec<Outcome>,
    waiting_since: UnixNanos,
    used_at: UnixNanos,
    /// The subject has answered, so it exists. An endpoint that only a list names may not.
    answered: bool,
}

impl WorkerBreakers {
    /// Follows no breaker yet.
    pub fn new(scope: &str, rules: Rules) -> Self {
        let scope = scope.to_owned();
        Self { scope, rules, followed: HashMap::new(), events: Vec::new() }
    }

    /// What is known of a breaker, at most [`PATIENCE`] old.
    pub fn view(&mut self, store: &impl SharedStore, subject: &Subject, now: UnixNanos) -> View {
        let Some(followed) = self.follow(subject, now) else { return View::CLOSED };
        let is_fresh =
            followed.read_at.is_some_and(|read_at| read_at <= now && now.since(read_at) < PATIENCE);
        let mut degraded = None;
        if !is_fresh {
            followed.read_at = Some(now);
            match read(store, &followed.key) {
                Ok(record) => followed.record = record,
                Err(error) => {
                    followed.record = None;
                    degraded = Some(of_read(error));
                }
            }
        }
        let view = followed.record.as_ref().map_or(View::CLOSED, |record| View {
            state: record.state_at(now),
            open_until: record.open_until,
        });
        self.events.extend(degraded.map(Event::Degraded));
        view
    }

    /// Whether a request may pass. Asks the shared record only if the cached state is HalfOpen.
    pub fn admit(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
        draw: u64,
    ) -> Admission {
        let view = self.view(store, subject, now);
        match view.state {
            BreakerState::Closed => Admission::Allow,
            BreakerState::Open => Admission::Reject { retry_after: view.open_until.since(now) },
            BreakerState::HalfOpen => self.ask(store, subject, now, draw),
        }
    }

    fn ask(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
        draw: u64,
    ) -> Admission {
        let rules = self.rules;
        let Some(followed) = self.follow(subject, now) else { return Admission::Allow };
        match update(store, &followed.key, |prior| admit(&rules, prior, now, draw)) {
            Ok(updated) => {
                let admission = updated.value.value;
                let mut events = learn(followed, subject, updated.value, now);
                events.extend(updated.corrupt.map(|_| Event::Degraded(Degradation::Corrupt)));
                if matches!(admission, Admission::Probe(_)) {
                    events.push(Event::Granted);
                }
                self.events.append(&mut events);
                admission
            }
            Err(error) => {
                self.events.push(Event::Degraded(of_update(error)));
                Admission::Allow
            }
        }
    }

    /// Records what became of a request to a subject that answered it, or that the host names.
    pub fn record(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        outcome: Outcome,
        now: UnixNanos,
        draw: u64,
    ) {
        if outcome.verdict == Verdict::Ignored && outcome.permit.is_none() {
            return;
        }
        let Some(followed) = self.follow(subject, now) else { return };
        followed.answered = true;
        self.push(store, subject, outcome, now, draw);
    }

    /// Records that an earlier attempt failed at an endpoint which only the list names. Anyone
    /// might have written that list, and each record lives for ever: so of endpoints that have
    /// never answered no more get a record than the cluster has endpoints, `num_endpoints`.
    pub fn record_unconfirmed(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        outcome: Outcome,
        num_endpoints: u32,
        (now, draw): (UnixNanos, u64),
    ) {
        let Some(followed) = self.follow(subject, now) else { return };
        if !followed.answered {
            let known = self.followed.iter().filter(|(other, followed)| {
                other.name == subject.name && (followed.answered || followed.record.is_some())
            });
            let room = known.count() < usize::try_from(num_endpoints).unwrap_or(usize::MAX);
            let has_record = self.followed.get(subject).is_some_and(|own| own.record.is_some());
            if !room && !has_record {
                self.events.push(Event::Degraded(Degradation::UnconfirmedEndpoint));
                return;
            }
        }
        self.push(store, subject, outcome, now, draw);
    }

    fn push(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        outcome: Outcome,
        now: UnixNanos,
        draw: u64,
    ) {
        let Some(followed) = self.followed.get_mut(subject) else { return };
        if followed.waiting.is_empty() {
            followed.waiting_since = now;
        }
        let is_urgent = outcome.verdict == Verdict::Failure || outcome.permit.is_some();
        followed.waiting.push(outcome);
        if is_urgent || followed.waiting.len() >= BATCH || is_overdue(followed, now) {
            let events = flush(store, subject, followed, &self.rules, now, draw);
            self.events.extend(events);
        }
    }

    /// Stores what has waited long enough, and forgets breakers that nobody asks for. If there is
    /// no room left, what never answered and has no record goes first: a list that anyone may write
    /// has named it, or a route that takes its cluster from the request.
    pub fn tick(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
        mut draw: impl FnMut() -> u64,
    ) {
        let Self { followed, rules, events, .. } = self;
        for (subject, followed) in followed.iter_mut() {
            if !followed.waiting.is_empty() && is_overdue(followed, now) {
                events.extend(flush(store, subject, followed, rules, now, draw()));
            }
        }
        let has_room = followed.len() < MAX_SUBJECTS;
        followed.retain(|_, followed| {
            // A use in the future was before the clock stepped back: its age counts from here.
            followed.used_at = followed.used_at.min(now);
            let is_kept = has_room || followed.answered || followed.record.is_some();
            !followed.waiting.is_empty() || is_kept && now.since(followed.used_at) < IDLE
        });
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    fn follow(&mut self, subject: &Subject, now: UnixNanos) -> Option<&mut Followed> {
        if !self.followed.contains_key(subject) && self.followed.len() >= MAX_SUBJECTS {
            self.events.push(Event::Degraded(Degradation::TooManyBreakers));
            return None;
        }
        let scope = &self.scope;
        let followed = self.followed.entry(subject.clone()).or_insert_with(|| Followed {
            key: subject.key(scope),
            record: None,
            read_at: None,
            waiting: Vec::new(),
            waiting_since: now,
            used_at: now,
            answered: false,
        });
        followed.used_at = now;
        Some(followed)
    }
}

/// True if the oldest outcome has waited long enough; a clock that went back makes it so.
fn is_overdue(followed: &Followed, now: UnixNanos) -> bool {
    now < followed.waiting_since || now.since(followed.waiting_since) >= PATIENCE
}

fn flush(
    store: &impl SharedStore,
    subject: &Subject,
    followed: &mut Followed,
    rules: &Rules,
    now: UnixNanos,
    draw: u64,
) -> Vec<Event> {
    let waiting = &followed.waiting;
    match update(store, &followed.key, |prior| record(rules, prior, waiting, now, draw)) {
        Ok(updated) => {
            followed.waiting.clear();
            let mut events = learn(followed, subject, updated.value, now);
            events.extend(updated.corrupt.map(|_| Event::Degraded(Degradation::Corrupt)));
            events
        }
        Err(error) => {
            let excess = followed.waiting.len().saturating_sub(MAX_BACKLOG);
            followed.waiting.drain(..excess);
            if matches!(error, UpdateError::Store(_)) {
                followed.waiting.clear();
            }
            followed.waiting_since = now;
            vec![Event::Degraded(of_update(error))]
        }
    }
}

fn learn<T>(
    followed: &mut Followed,
    subject: &Subject,
    step: Step<T>,
    now: UnixNanos,
) -> Vec<Event> {
    followed.record = Some(step.record);
    followed.read_at = Some(now);
    let changed = step.change.map(|change| Event::Changed { subject: subject.clone(), change });
    let resolved = (step.permits != PermitTally::default()).then_some(step.permits);
    changed.into_iter().chain(resolved.map(Event::Resolved)).collect()
}

fn of_read(error: ReadError) -> Degradation {
    match error {
        ReadError::Corrupt(_) => Degradation::Corrupt,
        ReadError::Store(_) => Degradation::Store,
    }
}

fn of_update(error: UpdateError) -> Degradation {
    match error {
        UpdateError::Contended => Degradation::Contended,
        UpdateError::Store(_) => Degradation::Store,
    }
}
