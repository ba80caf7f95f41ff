//! How the candidates are divided, and which part a request goes to first.
//!
//! Three divisions, from the outermost: the release (a canary, or not), the priority, the zone (this
//! proxy's own, or another). Each part is a run of the snapshot's candidates, and a policy sees one
//! part only, as if it were the cluster. Which part that is, is drawn:
//!
//! - the canary's by its share, or by a hash that stays the same for one client;
//! - a priority by what it can take, as in Envoy: fit endpoints over all of them, times an
//!   overprovisioning factor, and what is left goes to the next;
//! - the own zone as long as it has capacity. When its load is above the limit, and above that of the
//!   others, its share falls, until the loads are equal or the share is what is due to it by its
//!   size; when it is below, the share grows again, more slowly. Envoy's zone-aware routing has the
//!   same aim, and knows numbers of endpoints; here it is their load that is known.
//!
//! What the part cannot fill of a list is filled from the next best part, so that a retry crosses a
//! zone or a priority rather than to fail. Only the canary is no place for those that it is not for.

use crate::membership::falls_within;
use crate::rank::lot;
use crate::{Facts, Locality};
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use shared_state::{Listed, UnixNanos};
use sorting::sort_by_key;
use std::borrow::Cow;

/// How long it takes the own zone to lose its traffic while it is overloaded.
const FALL: Duration = Duration::from_secs(1);

/// How long it takes it to get its traffic back: longer, or the load would swing.
const RISE: Duration = Duration::from_secs(10);

/// Which part of a cluster an endpoint belongs to. In the order in which parts are preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// It belongs to the release that is being tried.
    pub is_canary: bool,
    /// 0 is the first choice.
    pub priority: u8,
    /// It is in another zone than the proxy.
    pub is_remote: bool,
}

/// What is not as usual of it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_canary {
            f.write_str(" release=canary")?;
        }
        if self.priority > 0 {
            write!(f, " priority={}", self.priority)?;
        }
        if self.is_remote {
            f.write_str(" zone=other")?;
        }
        Ok(())
    }
}

/// The zone that the proxy is in, as far as a cluster minds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Home(u64);

impl Home {
    /// By its [`zone_id`](shared_state::zone_id); 0 if it is not known, and then no zone is another.
    pub(crate) const fn new(zone: u64) -> Self {
        Self(zone)
    }

    pub(crate) const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// Which part of the cluster an endpoint belongs to. One without a zone is elsewhere.
    pub(crate) fn part(self, site: &Listed) -> Part {
        Part {
            is_canary: site.is_canary,
            priority: site.priority,
            is_remote: self.is_known() && site.zone != self.0,
        }
    }
}

/// A part, and where its candidates are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) part: Part,
    pub(crate) places: Range<usize>,
}

/// What a priority can take.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    is_canary: bool,
    priority: u8,
    /// Its share of the release's requests.
    share: f64,
}

/// The parts of one snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Division {
    runs: Vec<Run>,
    levels: Vec<Level>,
}

impl Division {
    /// Of the candidates of these parts, which are in order; `facts` are all known endpoints, of
    /// which those that are `fit` count for their priority.
    pub(crate) fn new(
        candidates: &[Part],
        facts: &[Facts],
        fit: impl Fn(&Facts) -> bool,
        overprovisioning: f64,
    ) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (place, part) in candidates.iter().enumerate() {
            match runs.last_mut().filter(|run| run.part == *part) {
                Some(run) => run.places.end = place + 1,
                None => runs.push(Run { part: *part, places: place..place + 1 }),
            }
        }
        let mut levels: Vec<Level> = Vec::new();
        for is_canary in [false, true] {
            let first = levels.len();
            let mut left = 1.0;
            for priority in priorities(facts, is_canary) {
                let of = facts.iter().filter(|facts| {
                    facts.part.is_canary == is_canary && facts.part.priority == priority
                });
                let (mut all, mut sound) = (0.0, 0.0);
                for facts in of {
                    all += 1.0;
                    sound += if fit(facts) { 1.0 } else { 0.0 };
                }
                let share = (overprovisioning * sound / all).min(left);
                left -= share;
                levels.push(Level { is_canary, priority, share });
            }
            // Where all together cannot take everything, each takes as much more.
            let sum = 1.0 - left;
            for level in levels.iter_mut().skip(first) {
                level.share = if sum > 0.0 { level.share / sum } else { 0.0 };
            }
        }
        Self { runs, levels }
    }

    /// Forgets the candidate at this place.
    pub(crate) fn remove(&mut self, place: usize) {
        for run in &mut self.runs {
            if run.places.end > place {
                run.places.end -= 1;
            }
            if run.places.start > place {
                run.places.start -= 1;
            }
        }
        self.runs.retain(|run| !run.places.is_empty());
    }

    /// The parts that have candidates.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// True if the priorities of the release that is in use can together take everything, so that
    /// their number of fit endpoints is no reason to panic.
    pub(crate) fn fails_over(facts: &[Facts], fit: impl Fn(&Facts) -> bool, factor: f64) -> bool {
        let priorities = priorities(facts, false);
        let health = |priority: &u8| {
            let of = || facts.iter().filter(|facts| facts.part.priority == *priority);
            let sound = of().filter(|facts| fit(facts)).count() as f64;
            factor * sound / (of().count() as f64).max(1.0)
        };
        priorities.len() > 1 && priorities.iter().map(health).sum::<f64>() >= 1.0
    }

    /// The parts in the order in which one request prefers them. `draw` decides, and `sticky` about
    /// the canary, if there is one.
    pub(crate) fn order(
        &self,
        draw: u32,
        sticky: Option<u64>,
        canary_share: f64,
        local_share: f64,
    ) -> Cow<'_, [Run]> {
        if let [_] = self.runs.as_slice() {
            return Cow::Borrowed(&self.runs);
        }
        let canary_draw = sticky.map_or(lot(draw, CANARY), |hash| (hash >> 32) as u32);
        let tries = falls_within(canary_draw, canary_share);
        let has = |is_canary: bool| self.runs.iter().any(|run| run.part.is_canary == is_canary);
        let is_canary = if tries { has(true) } else { !has(false) };
        let priority = self.priority(is_canary, lot(draw, PRIORITY));
        let stays = falls_within(lot(draw, ZONE), local_share);
        let rank = |run: &Run| {
            let part = run.part;
            let other_level = Some(part.priority) != priority;
            (part.is_canary != is_canary, other_level, part.priority, part.is_remote == stays)
        };
        let mut order = self.runs.clone();
        sort_by_key(&mut order, rank);
        if !is_canary {
            order.retain(|run| !run.part.is_canary);
        }
        Cow::Owned(order)
    }

    fn priority(&self, is_canary: bool, draw: u32) -> Option<u8> {
        let mut sum = 0.0;
        let levels = self.levels.iter().filter(|level| level.is_canary == is_canary);
        for level in levels {
            sum += level.share;
            if falls_within(draw, sum) {
                return Some(level.priority);
            }
        }
        None
    }
}

/// Numbers that make independent draws of one.
const CANARY: usize = 0x0001_0000;
const PRIORITY: usize = 0x0002_0000;
const ZONE: usize = 0x0003_0000;

/// In order, each once.
fn priorities(facts: &[Facts], is_canary: bool) -> Vec<u8> {
    let of = facts.iter().filter(|facts| facts.part.is_canary == is_canary);
    let mut found: Vec<u8> = Vec::new();
    for priority in of.map(|facts| facts.part.priority) {
        if let Err(at) = found.binary_search(&priority) {
            found.insert(at, priority);
        }
    }
    found
}

/// The share of the requests that stay in the own zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Balance {
    share: f64,
    updated_at: Option<UnixNanos>,
}

impl Default for Balance {
    fn default() -> Self {
        Self { share: 1.0, updated_at: None }
    }
}

/// What the two sides have to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Zones {
    /// Load of the own zone; 1 is full.
    pub(crate) local: f64,
    /// Load of all others.
    pub(crate) remote: f64,
    /// What the own zone can do, as a share of what all can do.
    pub(crate) due: f64,
}

impl Balance {
    /// From 0 to 1.
    pub(crate) const fn share(self) -> f64 {
        self.share
    }

    pub(crate) fn update(&mut self, zones: Zones, rules: &Locality, now: UnixNanos) {
        let elapsed = self.updated_at.map_or(Duration::ZERO, |at| now.since(at));
        self.updated_at = Some(now);
        let passed = |time: Duration| (elapsed.as_secs_f64() / time.as_secs_f64()).min(1.0);
        if zones.local > rules.full_at && zones.local > zones.remote {
            let floor = zones.due.min(self.share);
            self.share -= (self.share - floor) * passed(FALL);
        } else {
            self.share += (1.0 - self.share).min(passed(RISE));
        }
    }
}

#[cfg(test)]
mod tests;
