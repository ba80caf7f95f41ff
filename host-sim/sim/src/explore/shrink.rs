//! From a run that fails to the smallest one that still does.
//!
//! Decisions are left out by delta debugging. Then requests and workers are taken away; what is
//! left must hold when workers run one after the other, or its failure would say nothing about
//! order, and must still fail under some schedule: another one than before, most of the time,
//! because there is less in it.

use super::attempt::{Attempt, Case, Subject};
use super::plan::{Decision, Plan};
use super::seen::Seen;
use super::stage::Quiet;
use std::sync::Arc;

/// Runs spent on one finding.
const MOST_ATTEMPTS: u64 = 2_000;

/// Schedules tried on a smaller case before it counts as one that holds.
const RETRIES: u64 = 40;

/// See the module.
pub(super) struct Shrink<'a> {
    pub(super) subject: &'a Subject,
    pub(super) quiet: &'a Arc<Quiet>,
    pub(super) preemptions: usize,
    pub(super) attempts: u64,
}

impl Shrink<'_> {
    /// The smallest case found, with its run recorded.
    pub(super) fn smallest(
        &mut self,
        case: Case,
        straight: &Seen,
    ) -> Result<(Case, Attempt), String> {
        let (mut case, mut straight) = (case, straight.clone());
        case.decisions = self.fewest_decisions(&case, &straight)?;
        for workers in 2..case.workers {
            let smaller = Case { workers, ..case.clone() };
            if let Some((found, seen)) = self.still_fails(smaller)? {
                (case, straight) = (found, seen);
                break;
            }
        }
        let mut at = 0;
        while at < case.requests.len() {
            let now = case.requests.get(at).copied().unwrap_or(0);
            let mut candidates = vec![0, 1, 2, now / 2, now.saturating_sub(1)];
            candidates.retain(|count| *count < now);
            candidates.sort_unstable();
            candidates.dedup();
            let mut smaller = None;
            for count in candidates {
                let mut tried = case.clone();
                if let Some(slot) = tried.requests.get_mut(at) {
                    *slot = count;
                }
                smaller = self.still_fails(tried)?;
                if smaller.is_some() {
                    break;
                }
            }
            match smaller {
                Some(found) => (case, straight) = found,
                None => at += 1,
            }
        }
        let plan = Plan::replay(&case.decisions);
        let attempt = self.subject.attempt(&case, plan, self.quiet, Some(&straight), true)?;
        Ok((case, attempt))
    }

    /// A failing schedule of a smaller case, if it holds in order and fails in another.
    fn still_fails(&mut self, case: Case) -> Result<Option<(Case, Seen)>, String> {
        if self.attempts > MOST_ATTEMPTS {
            return Ok(None);
        }
        let straight = self.subject.attempt(&case, Plan::Straight, self.quiet, None, false)?;
        self.attempts += 1;
        if straight.failed() {
            return Ok(None);
        }
        let (length, lanes) = (straight.course.contended, case.workers + 1);
        let mut plans = vec![Plan::replay(&case.decisions)];
        plans.extend(
            (0..RETRIES).map(|index| Plan::search(7, index, lanes, length, self.preemptions)),
        );
        for plan in plans {
            let seen = Some(&straight.seen);
            let attempt = self.subject.attempt(&case, plan, self.quiet, seen, false)?;
            self.attempts += 1;
            if attempt.failed() {
                let mut found = Case { decisions: attempt.course.decisions, ..case };
                found.decisions = self.fewest_decisions(&found, &straight.seen)?;
                return Ok(Some((found, straight.seen)));
            }
        }
        Ok(None)
    }

    /// Delta debugging: leaves out ever smaller runs of decisions while the case still fails.
    fn fewest_decisions(&mut self, case: &Case, straight: &Seen) -> Result<Vec<Decision>, String> {
        let mut best = case.decisions.clone();
        let mut size = best.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut less = false;
            while at < best.len() && self.attempts < MOST_ATTEMPTS {
                let mut tried = best.clone();
                tried.drain(at..(at + size).min(best.len()));
                let plan = Plan::replay(&tried);
                let attempt =
                    self.subject.attempt(case, plan, self.quiet, Some(straight), false)?;
                self.attempts += 1;
                if attempt.failed() {
                    (best, less) = (tried, true);
                } else {
                    at += size;
                }
            }
            if size == 1 && !less {
                return Ok(best);
            }
            if self.attempts >= MOST_ATTEMPTS {
                return Ok(best);
            }
            size = (size / 2).max(1);
        }
    }
}
