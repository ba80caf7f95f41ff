//! Whether what must hold does: of an experiment's expectations, what was found.

use super::estimate::Estimate;
use super::results::{ArmKind, Results, WHOLE};
use super::spec::expect::{BEST_POLICY, Expectation};
use serde::Serialize;
use std::fmt;

/// What became of an expectation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The arm.
    pub arm: String,
    /// The key of the measure.
    pub measure: String,
    /// The key of the window.
    pub window: String,
    /// The arm it was compared with; of `best_policy` the one that was it.
    pub against: Option<String>,
    /// Whether the bound is the lowest that is allowed, not the highest.
    pub at_least: bool,
    /// What is allowed.
    pub bound: f64,
    /// What was found; nothing if there was nothing to be measured.
    pub found: Option<Estimate>,
    /// Whether the median is on the right side of the bound.
    pub holds: bool,
}

impl Verdict {
    /// Of an expectation of results whose arms have been compared.
    pub(crate) fn of(expectation: &Expectation, results: &Results) -> Self {
        let window = expectation.window.as_deref().unwrap_or(WHOLE);
        let measure = expectation.measure.as_str();
        let against = match expectation.against.as_deref() {
            Some(BEST_POLICY) => best_policy(results, &expectation.arm, window, measure),
            other => other.map(str::to_owned),
        };
        let arm = results.arm(&expectation.arm);
        let found = arm.and_then(|arm| match (&expectation.against, &against) {
            (None, _) => arm.estimate(window, measure),
            (Some(_), against) => arm.ratio(against.as_ref()?, window, measure),
        });
        let at_least = expectation.at_least.is_some();
        let bound = expectation.at_most.or(expectation.at_least).unwrap_or_default();
        let right = |found: &Estimate| match at_least {
            true => found.median >= bound,
            false => found.median <= bound,
        };
        Self {
            arm: expectation.arm.clone(),
            measure: measure.to_owned(),
            window: window.to_owned(),
            against,
            at_least,
            bound,
            holds: found.is_some_and(right),
            found: found.copied(),
        }
    }

    /// What is bounded, in words.
    #[must_use]
    pub fn subject(&self) -> String {
        let Self { arm, measure, window, .. } = self;
        let ratio =
            self.against.as_ref().map_or_else(String::new, |arm| format!(" / that of {arm}"));
        let window = if window == WHOLE { String::new() } else { format!(", {window}") };
        format!("{measure} of {arm}{ratio}{window}")
    }

    /// `at most 1.1`.
    #[must_use]
    pub fn allowed(&self) -> String {
        format!("{} {}", if self.at_least { "at least" } else { "at most" }, self.bound)
    }

    /// The median, and its interval over seeds.
    #[must_use]
    pub fn measured(&self) -> String {
        self.found.as_ref().map_or_else(
            || "nothing".to_owned(),
            |Estimate { median, low, high }| format!("{median:.3} [{low:.3}, {high:.3}]"),
        )
    }

    /// `holds`, or not: an interval that reaches over the bound is told.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let across = |found: &Estimate| (found.low..=found.high).contains(&self.bound);
        let sure =
            self.found.as_ref().is_none_or(|found| found.low == found.high || !across(found));
        match (self.holds, sure) {
            (true, true) => "holds",
            (true, false) => "holds, not for sure",
            (false, true) => "MISSED",
            (false, false) => "MISSED, not for sure",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (allowed, measured) = (self.allowed(), self.measured());
        write!(f, "{}: {} {allowed}: {measured}", self.word(), self.subject())
    }
}

/// The policy with the lowest median that is neither a bound nor the arm itself.
fn best_policy(results: &Results, but: &str, window: &str, measure: &str) -> Option<String> {
    let rivals = results.arms.iter().filter(|arm| arm.kind == ArmKind::Policy && arm.name != but);
    let medians = rivals.filter_map(|arm| Some((arm.estimate(window, measure)?.median, &arm.name)));
    medians.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name.clone())
}
