//! Envoy's `admission_control`: rejects the larger a share, the fewer of the requests that passed have
//! succeeded. A client that left before its answer is a failure there, and so it is here.

use super::{End, Gate};
use crate::scenario::value::Span;
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;

/// With Envoy's fields and defaults. Successes are answers below 500.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmissionControl {
    /// What the success rate is taken over. Default `30s`.
    #[serde(default = "thirty_seconds")]
    pub sampling_window: Span,
    /// Percent of successes below which it rejects. Default 95.
    #[serde(default = "ninety_five")]
    #[schemars(range(min = 1, max = 100))]
    pub sr_threshold: f64,
    /// More rejects more when few fail. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub aggression: f64,
    /// Largest share that is rejected, in percent. Default 80.
    #[serde(default = "eighty")]
    #[schemars(range(min = 0, max = 100))]
    pub max_rejection_probability: f64,
}

impl AdmissionControl {
    /// One that has seen nothing.
    pub(crate) fn gate(&self) -> Box<dyn Gate> {
        Box::new(Controller { rules: self.clone(), seen: VecDeque::new(), succeeded: 0 })
    }
}

struct Controller {
    rules: AdmissionControl,
    /// When, and whether it succeeded.
    seen: VecDeque<(Duration, bool)>,
    succeeded: usize,
}

impl Gate for Controller {
    fn admits(&mut self, now: Duration, draws: &mut Draws) -> bool {
        while let Some((at, succeeded)) = self.seen.front().copied()
            && now - at > self.rules.sampling_window.0
        {
            self.seen.pop_front();
            self.succeeded -= usize::from(succeeded);
        }
        let (all, succeeded) = (self.seen.len() as f64, self.succeeded as f64);
        let excess = (all - succeeded * 100.0 / self.rules.sr_threshold) / (all + 1.0);
        let share = excess.max(0.0).powf(1.0 / self.rules.aggression);
        draws.unit() >= share.min(self.rules.max_rejection_probability / 100.0)
    }

    fn ended(&mut self, end: &End, _: &mut Draws) {
        let succeeded = end.status.is_some_and(|status| (100..500).contains(&status));
        self.seen.push_back((end.now, succeeded));
        self.succeeded += usize::from(succeeded);
    }
}

fn thirty_seconds() -> Span {
    Span(Duration::from_secs(30))
}

fn ninety_five() -> f64 {
    95.0
}

fn one() -> f64 {
    1.0
}

fn eighty() -> f64 {
    80.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rejected_while_all_succeed_and_four_of_five_while_all_fail() {
        let rules: AdmissionControl = serde_json::from_value(serde_json::json!({})).unwrap();
        let (mut gate, mut draws) = (rules.gate(), Draws::new(1, "gate", 0));
        let s = Duration::from_secs;
        let admitted = |gate: &mut Box<dyn Gate>, now, draws: &mut Draws| {
            (0..1000).filter(|_| gate.admits(now, draws)).count()
        };
        let end = |now, status| End { now, started: now, status };
        (0..500).for_each(|_| gate.ended(&end(s(1), Some(404)), &mut draws));
        assert_eq!(admitted(&mut gate, s(1), &mut draws), 1000);
        (0..500).for_each(|_| gate.ended(&end(s(40), None), &mut draws));
        let few = admitted(&mut gate, s(40), &mut draws);
        assert!((150..250).contains(&few), "{few}");
        assert_eq!(admitted(&mut gate, s(71), &mut draws), 1000, "all is forgotten");
    }
}
