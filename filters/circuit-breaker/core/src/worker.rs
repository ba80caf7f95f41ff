//! One worker's part of all breakers of a scope: cached states and outcomes that wait.
//!
//! A request costs no shared data but for the two things that must be exact: a failure is recorded
//! at once, and a half-open breaker is asked for a permit. Successes wait for [`BATCH`] of them or
//! [`PATIENCE`], whichever comes first, and states are read again after [`PATIENCE`]; both by the
//! tick, so that a request finds them done. Another worker's trip is noticed within that time. A run of
//! failures is never broken by a success that the same worker saw before it. One that waits in another
//! worker may break it, once for each of those: a late trip, where the moments of both, neither of them
//! exact, would make early ones.
//!
//! When the host fails, or every race for a record is lost, the request passes: a breaker that
//! cannot be read does not exist. Outcomes that could not be stored for want of luck wait for the
//! next try, within bounds.
//!
//! Breakers of routes, clusters and endpoints are named by the proxy's configuration, and each has a
//! record of its own. Breakers of clients and the like are named by whoever sends requests, so
//! there is a fixed number of places for them, and a record says whose it is. See `place`.

mod clock;
mod followed;
mod place;
mod subject;
mod table;
mod tick;
mod told;

use crate::breaker::{
    Admission, Outcome, PermitTally, Rules, Step, admit, admit_needed, outlier, ramping, record,
};
use crate::config::{Forced, Slots};
use crate::destinations::View;
use crate::outlier::SuccessRate;
use crate::room::{Opened, Pardoned, Room};
use crate::window;
pub use clock::Clock;
use core::time::Duration;
use followed::Followed;
use place::{Placed, claim};
use shared_state::{
    BreakerRecord, BreakerState, Endpoint, ReadError, SharedStore, Transition, UnixNanos,
    UpdateError, update,
};
use sorting::sort_by;
use std::rc::Rc;
pub use subject::Subject;
pub(crate) use subject::Which;
pub(crate) use table::Table;
pub use told::{Degradation, Event};

/// Outcomes that wait at most.
const BATCH: usize = 256;

/// How long an outcome waits, and a cached state is believed, at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// After so long a request does what the tick should have done.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// How late a tick may be.
const TICK_LAG: Duration = Duration::from_millis(500);

/// Outcomes that are kept when they cannot be stored.
const MAX_BACKLOG: usize = 64;

/// Breakers that a worker follows. More have no breaker, and are counted.
const MAX_SUBJECTS: usize = 1024;

/// A breaker that nobody asked for so long is no longer followed; its record stays.
const IDLE: Duration = Duration::from_secs(600);

/// The same for breakers whose number clients decide, if their window is not longer.
const KEYED_IDLE: Duration = Duration::from_secs(10);

/// The breakers of one scope, as one worker sees them.
#[derive(Debug)]
pub struct WorkerBreakers {
    scope: String,
    rules: Rules,
    slots: Option<Slots>,
    forced: Vec<(Which, Forced)>,
    followed: Table<Followed>,
    events: Vec<Event>,
}

impl WorkerBreakers {
    /// Follows no breaker yet.
    pub fn new(scope: &str, rules: Rules) -> Self {
        Self {
            scope: scope.to_owned(),
            rules,
            slots: None,
            forced: Vec::new(),
            followed: Table::new(),
            events: Vec::new(),
        }
    }

    /// With places for keys.
    pub(crate) fn with_slots(self, slots: Option<Slots>) -> Self {
        Self { slots, ..self }
    }

    /// Says what the operator has decided. Earlier decisions on what is followed already stay.
    pub(crate) fn force(&mut self, forced: Vec<(Which, Forced)>) {
        self.forced = forced;
    }

    /// What is known of a breaker, at most [`PATIENCE`] old.
    pub fn view(&mut self, store: &impl SharedStore, subject: &Subject, clock: impl Clock) -> View {
        let place = self.follow(store, subject, clock.recent());
        place.map_or(View::CLOSED, |at| self.look(store, at, clock))
    }

    /// True if an endpoint is known in one cluster only, and what is known of its breaker is closed,
    /// and not only will be.
    pub(crate) fn is_closed(
        &mut self,
        store: &impl SharedStore,
        endpoint: Endpoint,
        clock: impl Clock,
    ) -> bool {
        let Some(at) = self.followed.only(endpoint) else { return false };
        self.look(store, at, clock).state == BreakerState::Closed
            && self.followed.at(at).is_some_and(|followed| followed.is_settled())
    }

    fn look(&mut self, store: &impl SharedStore, at: usize, clock: impl Clock) -> View {
        let recent = clock.recent();
        let Some(followed) = self.followed.at(at) else { return View::CLOSED };
        followed.used_at = recent;
        followed.uses = followed.uses.saturating_add(1);
        match followed.forced {
            Some(Forced::Closed) => return View::CLOSED,
            Some(Forced::Open) => {
                let open_until = recent.plus(self.rules.backoff.base);
                return View { state: BreakerState::Open, open_until, ..View::CLOSED };
            }
            Some(Forced::Shadow) | None => {}
        }
        if !followed.is_fresh(recent, clock.patience()) {
            self.events.extend(followed.refresh(store, recent).map(Event::Degraded));
        }
        let shadow = followed.forced == Some(Forced::Shadow);
        followed.record.as_ref().map_or(View::CLOSED, |record| View {
            state: record.state_at(recent),
            open_until: record.open_until,
            counted_from: record.counted_from,
            shadow,
        })
    }

    /// Whether a request may pass. Asks the shared record only if the cached state is HalfOpen, or
    /// one whose time is over.
    pub fn admit(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        clock: impl Clock,
        draw: u64,
    ) -> Admission {
        let view = self.view(store, subject, clock);
        let Some(followed) = self.followed.get(subject) else { return Admission::Allow };
        let known = followed.record.as_ref().filter(|_| !view.is_forced(followed.forced));
        let is_settled = known.is_none_or(|record| record.state == BreakerState::Closed);
        if view.state == BreakerState::Closed && is_settled {
            return Admission::Allow;
        }
        let now = clock.now();
        let admission = match known {
            None => Admission::Reject { retry_after: view.open_until.since(now) },
            Some(record) => match (record.state, record.state_at(now)) {
                (BreakerState::Open, BreakerState::Open) => {
                    Admission::Reject { retry_after: record.open_until.since(now) }
                }
                (BreakerState::Ramping, BreakerState::Ramping) => {
                    ramping(&self.rules, record, now, draw)
                }
                _ => {
                    let rules = self.rules;
                    self.ask(store, subject, now, &|prior| admit(&rules, prior, now, draw))
                }
            },
        };
        match admission {
            Admission::Reject { .. } if view.shadow => {
                self.events.push(Event::Pardoned(subject.clone()));
                Admission::Allow
            }
            other => other,
        }
    }

    /// As [`WorkerBreakers::admit`], of an open breaker whose endpoint cannot be spared.
    pub(crate) fn admit_needed(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        clock: impl Clock,
        draw: u64,
    ) -> Admission {
        let (rules, now) = (self.rules, clock.now());
        self.ask(store, subject, now, &|prior| admit_needed(&rules, prior, now, draw))
    }

    fn ask(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
        step: &dyn Fn(Option<BreakerRecord>) -> Asked,
    ) -> Admission {
        match self.change(store, subject, now, step) {
            Some(Ok(admission)) => {
                if matches!(admission, Admission::Probe(_)) {
                    self.events.push(Event::Granted);
                }
                admission
            }
            Some(Err(error)) => {
                self.events.push(Event::Degraded(of_update(error)));
                Admission::Allow
            }
            None => Admission::Allow,
        }
    }

    /// Makes one step of a followed breaker's state machine and learns what came of it. `None` if
    /// its place has gone to another key: it is no longer followed.
    fn change(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
        step: &dyn Fn(Option<BreakerRecord>) -> Asked,
    ) -> Option<Result<Admission, UpdateError>> {
        let rules = self.rules;
        let followed = self.followed.get_mut(subject)?;
        let owner = followed.owner;
        let decided =
            update(store, &followed.key, |prior| match claim(prior, owner, &rules, now) {
                None => Transition::Keep(None),
                Some(prior) => match step(prior) {
                    Transition::Keep(step) => Transition::Keep(Some(step)),
                    Transition::Store(record, step) => Transition::Store(record, Some(step)),
                },
            });
        let updated = match decided {
            Ok(updated) => updated,
            Err(error) => return Some(Err(error)),
        };
        if updated.corrupt.is_some() {
            self.events.push(Event::Degraded(Degradation::Corrupt));
        }
        let Some(Step { value, change, permits, record }) = updated.value else {
            self.followed.remove(subject);
            return None;
        };
        followed.record = Some(record);
        followed.read_at = Some(now);
        let subject = || subject.clone();
        self.events.extend(change.map(|change| Event::Changed { subject: subject(), change }));
        if permits != PermitTally::default() {
            self.events.push(Event::Resolved(permits));
        }
        Some(Ok(value))
    }

    /// Records what became of a request to a subject that answered it, or that the host names.
    pub fn record(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        outcome: Outcome,
        clock: impl Clock,
        draw: u64,
    ) {
        if outcome.says_nothing() {
            return;
        }
        let Some(at) = self.follow(store, subject, clock.recent()) else { return };
        let Some(followed) = self.followed.at(at) else { return };
        followed.answered = true;
        self.push(store, (subject, at), outcome, clock, draw);
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
        (clock, draw): (impl Clock, u64),
    ) {
        let Some(at) = self.follow(store, subject, clock.recent()) else { return };
        if self.followed.at(at).is_some_and(|followed| !followed.answered) {
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
        self.push(store, (subject, at), outcome, clock, draw);
    }

    fn push(
        &mut self,
        store: &impl SharedStore,
        (subject, at): (&Subject, usize),
        outcome: Outcome,
        clock: impl Clock,
        draw: u64,
    ) {
        let Some(followed) = self.followed.at(at) else { return };
        if matches!(followed.forced, Some(Forced::Open | Forced::Closed)) {
            return;
        }
        let recent = clock.recent();
        if followed.waiting.is_empty() {
            followed.waiting_since = recent;
        }
        let is_urgent = outcome.verdict.is_failure() || outcome.permit.is_some() || outcome.slow;
        followed.waiting.push(outcome);
        let is_due = followed.waiting.len() >= BATCH || followed.is_overdue(recent, IMPATIENCE);
        if is_urgent || is_due {
            self.flush(store, subject, clock.now(), draw);
        }
    }

    fn flush(&mut self, store: &impl SharedStore, subject: &Subject, now: UnixNanos, draw: u64) {
        let Some(followed) = self.followed.get_mut(subject) else { return };
        let mut waiting = core::mem::take(&mut followed.waiting);
        let rules = self.rules;
        let step = |prior| unasked(record(&rules, prior, &waiting, now, draw));
        let done = self.change(store, subject, now, &step);
        let failed = done.and_then(Result::err);
        self.events.extend(failed.map(|error| Event::Degraded(of_update(error))));
        let Some(followed) = self.followed.get_mut(subject) else { return };
        if failed == Some(UpdateError::Contended) {
            waiting.drain(..waiting.len().saturating_sub(MAX_BACKLOG));
            followed.waiting_since = now;
        } else {
            waiting.clear();
        }
        // Those that come next find room.
        waiting.shrink_to(MAX_BACKLOG);
        followed.waiting = waiting;
    }

    /// The cluster of an endpoint that is known in no other.
    pub(crate) fn cluster_of(&self, endpoint: Endpoint) -> Option<&Rc<str>> {
        self.followed.subject(self.followed.only(endpoint)?).map(|subject| &subject.name)
    }

    /// The endpoints of a cluster that are open and for which there is no [`Room`].
    pub(crate) fn pardoned(&self, cluster: &str, room: Room, now: UnixNanos) -> Pardoned {
        let of_cluster = self.followed.iter().filter(|(subject, _)| *subject.name == *cluster);
        let mut known = 0u32;
        let mut open = Vec::new();
        for (subject, followed) in of_cluster {
            known = known.saturating_add(u32::from(followed.answered));
            let Some((endpoint, record)) = subject.endpoint.zip(followed.record.as_ref()) else {
                continue;
            };
            let is_forced = matches!(followed.forced, Some(Forced::Open | Forced::Closed));
            if record.state_at(now) == BreakerState::Open && !is_forced {
                open.push(Opened {
                    endpoint,
                    severity: (record.severity, record.trips),
                    at: record.changed_at,
                });
            }
        }
        room.pardoned(open, known)
    }

    /// Opens the breakers of endpoints that do much worse than those beside them.
    pub(crate) fn open_outliers(
        &mut self,
        store: &impl SharedStore,
        rule: &SuccessRate,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) {
        let mut rated: Vec<(Rc<str>, f64, Subject)> = Vec::new();
        for (subject, followed) in self.followed.iter() {
            let Some(record) = &followed.record else { continue };
            let sums = window::sums_at(&record.window, self.rules.window, now);
            let counts = record.state_at(now) == BreakerState::Closed;
            if counts && sums.total >= u64::from(rule.request_volume) {
                let rate = 100.0 - sums.failure_rate();
                rated.push((Rc::clone(&subject.name), rate, subject.clone()));
            }
        }
        sort_by(&mut rated, |a, b| (&a.0, a.2.endpoint).cmp(&(&b.0, b.2.endpoint)));
        for peers in rated.chunk_by(|a, b| a.0 == b.0) {
            let rates: Vec<f64> = peers.iter().map(|(_, rate, _)| *rate).collect();
            let Some(threshold) = rule.threshold(&rates) else { continue };
            for (_, rate, subject) in peers {
                if *rate < threshold {
                    let (rules, draw) = (self.rules, draw());
                    let step = |prior| unasked(outlier(&rules, prior, threshold, now, draw));
                    if let Some(Err(error)) = self.change(store, subject, now, &step) {
                        self.events.push(Event::Degraded(of_update(error)));
                    }
                }
            }
        }
    }

    /// From when on requests count, as far as is known.
    pub(crate) fn counted_from(&self, subject: &Subject) -> UnixNanos {
        let record = self.followed.get(subject).and_then(|followed| followed.record.as_ref());
        record.map_or(UnixNanos::ZERO, |record| record.counted_from)
    }

    /// True if what is known of a breaker is closed, and not only will be.
    pub(crate) fn is_settled(&self, subject: &Subject) -> bool {
        self.followed.get(subject).is_none_or(Followed::is_settled)
    }

    /// What is known of a breaker, in words for whoever asks why it is open.
    pub(crate) fn describe(&self, subject: &Subject, now: UnixNanos) -> String {
        let Some(followed) = self.followed.get(subject) else { return "not followed".to_owned() };
        let forced = match followed.forced {
            None => "",
            Some(Forced::Open) => "FORCED_OPEN, ",
            Some(Forced::Closed) => "FORCED_CLOSED, ",
            Some(Forced::Shadow) => "SHADOW, ",
        };
        let Some(record) = &followed.record else { return format!("{forced}Closed, no record") };
        let sums = window::sums_at(&record.window, self.rules.window, now);
        let state = record.state_at(now);
        let left = match state {
            BreakerState::Open => record.open_until.since(now),
            BreakerState::Ramping => record.ramp_until.since(now),
            BreakerState::Closed | BreakerState::HalfOpen => Duration::ZERO,
        };
        let window::Sums { total, failed, slow } = sums;
        format!(
            "{forced}{} since {}s, {}s to go, {failed} failed and {slow} slow of {total}, {} in a \
             row, {} trips, {} permille when it opened",
            state.name(),
            now.since(record.changed_at).as_secs(),
            left.as_secs(),
            record.consecutive_failures,
            record.trips,
            record.severity,
        )
    }

    /// True if something happened since [`WorkerBreakers::take_events`] was last called.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    fn room(&self) -> usize {
        self.slots.map_or(MAX_SUBJECTS, |slots| usize::from(slots.count).max(MAX_SUBJECTS))
    }

    fn idle(&self) -> Duration {
        match (self.slots, self.rules.window) {
            (None, _) => IDLE,
            (Some(_), window::Window::Time(size)) => size.max(KEYED_IDLE),
            (Some(_), window::Window::Count(_)) => KEYED_IDLE,
        }
    }

    /// Where a breaker is followed.
    fn follow(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
    ) -> Option<usize> {
        if let Some(at) = self.followed.find(subject) {
            self.followed.at(at)?.used_at = now;
            return Some(at);
        }
        if self.followed.len() >= self.room() {
            self.events.push(Event::Degraded(Degradation::TooManyBreakers));
            return None;
        }
        let fresh = self.begin_to_follow(store, subject, now)?;
        Some(self.followed.insert(subject.clone(), fresh))
    }

    fn begin_to_follow(
        &mut self,
        store: &impl SharedStore,
        subject: &Subject,
        now: UnixNanos,
    ) -> Option<Followed> {
        let placed = match (subject.key, self.slots) {
            (Some(key), Some(slots)) => {
                let placed = place::find(store, &self.scope, slots, key, &self.rules, now);
                if placed.is_overflow {
                    self.events.push(Event::Degraded(Degradation::NoSlot));
                }
                placed.place?
            }
            _ => Placed { key: subject.record_key(&self.scope), owner: 0 },
        };
        let applies = |which: &Which| match which {
            Which::All => true,
            Which::Named(other) => other == subject,
        };
        let named = self.forced.iter().rev().find(|(which, _)| applies(which));
        Some(Followed {
            key: placed.key,
            owner: placed.owner,
            forced: named.map(|(_, state)| *state),
            record: None,
            read_at: None,
            waiting: Vec::new(),
            waiting_since: now,
            used_at: now,
            uses: 0,
            answered: false,
        })
    }
}

/// A step of the state machine. One type for all, so that the loop that makes them is compiled once.
type Asked = Transition<BreakerRecord, Step<Admission>>;

/// A step in which nobody asked for admission.
fn unasked(step: Transition<BreakerRecord, Step<()>>) -> Asked {
    let told = |Step { change, permits, record, .. }: Step<()>| Step {
        value: Admission::Allow,
        change,
        permits,
        record,
    };
    match step {
        Transition::Keep(step) => Transition::Keep(told(step)),
        Transition::Store(record, step) => Transition::Store(record, told(step)),
    }
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
