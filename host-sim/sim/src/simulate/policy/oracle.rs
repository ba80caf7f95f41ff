//! Shortest expected delay with perfect knowledge: what was sent to each endpoint by all proxies, its
//! slots, and the speed it works at now. It does not know how long a request will take, nor what
//! will happen. What no policy does better than is a bound, not a rival.

use super::{Policy, PolicyKind, Scene};
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;

/// Needs no parameters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oracle {}

impl PolicyKind for Oracle {
    fn policy(&self, _: usize) -> Box<dyn Policy> {
        Box::new(Self {})
    }
}

impl Policy for Oracle {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        let serving = |at: &&usize| scene.servers[**at].serves();
        let mut candidates: Vec<usize> = scene.eligible.iter().filter(serving).copied().collect();
        if candidates.is_empty() {
            candidates = scene.eligible.to_vec();
        }
        let delay = |at: &usize| scene.servers[*at].expected_delay();
        let least = candidates.iter().map(delay).min_by(f64::total_cmp)?;
        candidates.retain(|at| delay(at) <= least);
        candidates.get(draws.below(candidates.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;
    use std::time::Duration;

    #[test]
    fn it_knows_queues_speeds_and_failures() {
        let mut stage = Stage::new(&Oracle {}, 3);
        stage.servers[0].assign();
        stage.servers[1].set_factor(Duration::ZERO, 0, 0.25);
        // 2 * 10, 1 * 40 and 1 * 10 ms.
        assert_eq!(stage.counts(10), [0, 0, 10]);
        let answers = serde_json::from_value(serde_json::json!({})).unwrap();
        stage.servers[2].set_answer(0, &answers);
        assert_eq!(stage.counts(10), [10, 0, 0]);
    }
}
