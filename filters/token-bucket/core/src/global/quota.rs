//! What a worker may answer without asking: hits granted ahead, and refusals that still hold.
//!
//! **Batches.** A descriptor that this worker asks for again and again is asked for several hits at
//! once: as many as it was wanted in the last `batch.time`, at most `batch.max`, and at most a
//! quarter of what the service said was left. What is granted beyond the request's own cost is spent
//! here, until `batch.time` after the question or the end of the service's window, whichever comes
//! first. Near the limit nothing is asked for ahead, and a batch that is refused is asked again for
//! the request's own cost alone.
//!
//! - *Over-admission: none beyond the delay.* Every hit was granted before it is spent, so with a
//!   limit of `L` in each window at most `L` are granted in one, over all proxies and workers. A hit
//!   is spent at most `batch.time` after it was granted, so in any span of length `s` no more pass
//!   than the service grants in a span of `s + batch.time`. Where the service says when its window
//!   ends, no hit outlives the window that it was counted in, as this worker's clock runs.
//! - *Under-admission: what is granted and not spent*, at most `batch.max - 1` hits of a worker and
//!   descriptor in each `batch.time`, and only while demand falls. A client that goes away while
//!   its question is out loses what that one was granted.
//!
//! One batch of a descriptor is out at a time; requests that come meanwhile ask for themselves.
//!
//! **Memory** is a fixed number of places. A descriptor whose place is in use by another is not
//! batched and asks for each request: forgetting costs a call, never a decision.

use super::answer::{Answer, FleetLimit};
use super::config::Batch;
use core::time::Duration;
use shared_state::UnixNanos;

/// Places: 88 KB a worker that has asked.
const PLACES: usize = 1024;

/// Longest that a refusal is remembered, whatever the service says: so long takes a limit that was
/// raised to be noticed.
const LONGEST_REFUSAL: Duration = Duration::from_secs(10);

/// How to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// From what was granted ahead; what is then known to be left.
    Spend(Option<FleetLimit>),
    /// By asking for so many hits: the request's own and those ahead.
    Ask(u32),
}

/// A descriptor's state.
#[derive(Clone, Copy, Debug)]
struct Place {
    fingerprint: u64,
    /// Begin of the span of `batch.time` in which `wanted` is counted.
    counted_from: UnixNanos,
    wanted: u32,
    /// Count of the span before.
    wanted_before: u32,
    /// Hits granted ahead, good until `spend_until`.
    left: u32,
    spend_until: UnixNanos,
    /// A batch is out, and forgotten if it is not back by then.
    asking_until: UnixNanos,
    limit: Option<FleetLimit>,
    limit_of: UnixNanos,
}

#[derive(Clone, Copy, Debug)]
struct Denial {
    fingerprint: u64,
    /// Remembered so long.
    until: UnixNanos,
    /// The end of the service's window.
    resets_at: UnixNanos,
    cost: u32,
}

/// The state of all descriptors of one worker. Empty until one is asked for.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    places: Vec<Option<Place>>,
    denials: Vec<Option<Denial>>,
}

impl Quotas {
    /// How long a request of this cost is known to be refused.
    pub(super) fn refusal(&self, fingerprint: u64, cost: u32, now: UnixNanos) -> Option<Duration> {
        let denial = (*self.denials.get(place_of(fingerprint))?)?;
        let known = denial.fingerprint == fingerprint
            && denial.cost <= cost
            && denial.until > now
            && !denial.until.is_stale_deadline(now, LONGEST_REFUSAL);
        known.then(|| denial.resets_at.since(now))
    }

    /// Counts the demand, and spends or tells what to ask for. A question that is out is given up
    /// after `patience`.
    pub(super) fn plan(
        &mut self,
        fingerprint: u64,
        batch: &Batch,
        cost: u32,
        now: UnixNanos,
        patience: Duration,
    ) -> Plan {
        if batch.max <= 1 {
            return Plan::Ask(cost);
        }
        let Some(place) = self.place(fingerprint, batch, now) else { return Plan::Ask(cost) };
        place.count(batch, cost, now);
        if place.left >= cost && place.is_good(batch, now) {
            place.left = place.left.saturating_sub(cost);
            return Plan::Spend(place.limit_at(now));
        }
        let is_out =
            place.asking_until > now && !place.asking_until.is_stale_deadline(now, patience);
        let ahead = if is_out { 0 } else { place.ahead(batch, cost, now) };
        if ahead > 0 {
            place.asking_until = now.plus(patience);
        }
        Plan::Ask(cost.saturating_add(ahead))
    }

    /// The service granted a question of `asked_at`, with `ahead` hits beyond the request's cost.
    pub(super) fn granted(
        &mut self,
        fingerprint: u64,
        batch: &Batch,
        ahead: u32,
        asked_at: UnixNanos,
        now: UnixNanos,
        answer: &Answer,
    ) {
        let Some(place) = self.found(fingerprint) else { return };
        place.limit = answer.limit;
        place.limit_of = now;
        if ahead > 0 {
            place.asking_until = UnixNanos::ZERO;
            place.left = ahead;
            let by_age = asked_at.plus(batch.time);
            // The window ends as long after the service's answer as it says, so at the earliest as
            // long after the question.
            let by_window = answer.window_ends.map_or(by_age, |ends| asked_at.plus(ends));
            place.spend_until = by_age.min(by_window);
        }
    }

    /// The service refused. True if the hits ahead may be why: then ask for the cost alone.
    pub(super) fn refused(
        &mut self,
        fingerprint: u64,
        cost: u32,
        ahead: u32,
        now: UnixNanos,
        limit: Option<FleetLimit>,
    ) -> bool {
        self.ended(fingerprint, ahead);
        if let Some(place) = self.found(fingerprint) {
            // Whatever is left is less than what was asked for.
            let left = cost.saturating_add(ahead).saturating_sub(1);
            let mut known = limit.unwrap_or_default();
            known.remaining = Some(known.remaining.map_or(left, |said| said.min(left)));
            place.limit = Some(known);
            place.limit_of = now;
        }
        if ahead > 0 {
            return true;
        }
        let reset = limit.and_then(|limit| limit.reset);
        if let Some(reset) = reset.filter(|reset| !reset.is_zero()) {
            if self.denials.is_empty() {
                self.denials.resize(PLACES, None);
            }
            if let Some(denial) = self.denials.get_mut(place_of(fingerprint)) {
                let until = now.plus(reset.min(LONGEST_REFUSAL));
                let resets_at = now.plus(reset);
                *denial = Some(Denial { fingerprint, until, resets_at, cost });
            }
        }
        false
    }

    /// A question with `ahead` hits came to nothing.
    pub(super) fn ended(&mut self, fingerprint: u64, ahead: u32) {
        if ahead > 0
            && let Some(place) = self.found(fingerprint)
        {
            place.asking_until = UnixNanos::ZERO;
        }
    }

    fn found(&mut self, fingerprint: u64) -> Option<&mut Place> {
        let place = self.places.get_mut(place_of(fingerprint))?.as_mut();
        place.filter(|place| place.fingerprint == fingerprint)
    }

    /// The descriptor's place, if it is not in use by another.
    fn place(&mut self, fingerprint: u64, batch: &Batch, now: UnixNanos) -> Option<&mut Place> {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let place = self.places.get_mut(place_of(fingerprint))?;
        let taken = place
            .is_some_and(|other| other.fingerprint != fingerprint && !other.is_idle(batch, now));
        if taken {
            return None;
        }
        if place.is_none_or(|other| other.fingerprint != fingerprint) {
            *place = None;
        }
        Some(place.get_or_insert(Place {
            fingerprint,
            counted_from: now,
            wanted: 0,
            wanted_before: 0,
            left: 0,
            spend_until: UnixNanos::ZERO,
            asking_until: UnixNanos::ZERO,
            limit: None,
            limit_of: now,
        }))
    }
}

impl Place {
    fn count(&mut self, batch: &Batch, cost: u32, now: UnixNanos) {
        let since = now.since(self.counted_from);
        if since >= batch.time || now < self.counted_from {
            let follows = now >= self.counted_from && since < batch.time.saturating_mul(2);
            self.wanted_before = if follows { self.wanted } else { 0 };
            self.wanted = 0;
            self.counted_from = now;
        }
        self.wanted = self.wanted.saturating_add(cost);
    }

    /// Hits to ask for beyond the cost.
    fn ahead(&self, batch: &Batch, cost: u32, now: UnixNanos) -> u32 {
        let wanted = self.wanted.max(self.wanted_before).min(batch.max);
        let left = self.limit_at(now).and_then(|limit| limit.remaining);
        wanted.min(left.map_or(u32::MAX, |left| left / 4)).saturating_sub(cost)
    }

    /// What was said of the limit, unless its window is over.
    fn limit_at(&self, now: UnixNanos) -> Option<FleetLimit> {
        let mut limit = self.limit?;
        // Where no end was said, a second is as good a guess as any: it bounds how long a batch
        // that was refused keeps others small.
        let ends = limit.reset.unwrap_or(Duration::from_secs(1));
        let passed = now.since(self.limit_of);
        if passed >= ends || now < self.limit_of {
            return None;
        }
        limit.reset = limit.reset.map(|reset| reset.saturating_sub(passed));
        limit.remaining = limit.remaining.map(|left| left.saturating_add(self.left));
        Some(limit)
    }

    fn is_good(&self, batch: &Batch, now: UnixNanos) -> bool {
        self.spend_until > now && !self.spend_until.is_stale_deadline(now, batch.time)
    }

    fn is_idle(&self, batch: &Batch, now: UnixNanos) -> bool {
        let quiet = batch.time.saturating_mul(2);
        now < self.counted_from || now.since(self.counted_from) >= quiet
    }
}

fn place_of(fingerprint: u64) -> usize {
    // PLACES is a power of two, so truncation loses nothing.
    fingerprint as usize % PLACES
}

#[cfg(test)]
mod tests;
