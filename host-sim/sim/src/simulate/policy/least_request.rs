//! Envoy's LEAST_REQUEST. Of equal weights some are drawn, with replacement, and the one with the
//! fewest requests in flight is taken; or all are looked at, and one of the least is drawn. With
//! unequal weights it is the earliest-deadline scheduler over weight / (in flight + 1)^bias, whatever
//! the selection method says.

use super::{Policy, PolicyKind, Scene, Schedule};
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;

/// Envoy's `LeastRequest`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastRequest {
    /// How many are drawn. Default 2.
    #[schemars(range(min = 2, max = 10_000))]
    pub choice_count: usize,
    /// How much requests in flight weigh. Default 1.
    #[schemars(range(min = 0, max = 100))]
    pub active_request_bias: f64,
    /// Default `n_choices`.
    pub selection_method: SelectionMethod,
}

/// How many endpoints are looked at.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SelectionMethod {
    /// `choice_count`.
    #[default]
    NChoices,
    /// All.
    FullScan,
}

impl Default for LeastRequest {
    fn default() -> Self {
        let selection_method = SelectionMethod::NChoices;
        Self { choice_count: 2, active_request_bias: 1.0, selection_method }
    }
}

#[derive(Debug)]
struct Least {
    spec: LeastRequest,
    schedule: Schedule,
}

impl PolicyKind for LeastRequest {
    fn policy(&self, _: usize) -> Box<dyn Policy> {
        Box::new(Least { spec: self.clone(), schedule: Schedule::default() })
    }
}

impl Policy for Least {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        if !scene.equal_weights() {
            let bias = self.spec.active_request_bias;
            let weight = |at: usize| {
                f64::from(scene.weights[at]) / (f64::from(scene.active[at]) + 1.0).powf(bias)
            };
            return self.schedule.pick(scene.eligible, draws, weight);
        }
        match self.spec.selection_method {
            SelectionMethod::NChoices => {
                let mut best: Option<usize> = None;
                for _ in 0..self.spec.choice_count {
                    let drawn = *scene.eligible.get(draws.below(scene.eligible.len()))?;
                    if best.is_none_or(|best| scene.active[drawn] < scene.active[best]) {
                        best = Some(drawn);
                    }
                }
                best
            }
            SelectionMethod::FullScan => {
                let least = scene.eligible.iter().map(|at| scene.active[*at]).min()?;
                let least = scene.eligible.iter().filter(|at| scene.active[**at] == least);
                let least: Vec<usize> = least.copied().collect();
                least.get(draws.below(least.len())).copied()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;

    #[test]
    fn the_busier_of_two_is_chosen_in_a_quarter_of_cases() {
        // Both draws must hit it: they are made with replacement.
        let mut stage = Stage::new(&LeastRequest::default(), 2);
        stage.active = vec![5, 1];
        let counts = stage.counts(40_000);
        assert!(counts[0].abs_diff(10_000) < 300, "{counts:?}");
    }

    #[test]
    fn a_full_scan_takes_one_of_the_least() {
        let scan =
            LeastRequest { selection_method: SelectionMethod::FullScan, ..Default::default() };
        let mut stage = Stage::new(&scan, 4);
        stage.active = vec![1, 3, 1, 2];
        let counts = stage.counts(10_000);
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!(counts[0].abs_diff(5000) < 200, "{counts:?}");
    }

    #[test]
    fn unequal_weights_are_bent_by_requests_in_flight() {
        let mut stage = Stage::new(&LeastRequest::default(), 2);
        stage.weights = vec![1, 3];
        let idle = stage.counts(4000);
        assert!(idle[1].abs_diff(3000) < 3, "{idle:?}");
        // 3 / (2 + 1) = 1: as heavy as the other.
        stage.active = vec![0, 2];
        let busy = stage.counts(4000);
        assert!(busy[1].abs_diff(2000) < 5, "{busy:?}");
    }
}
