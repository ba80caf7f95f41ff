//! Envoy's ROUND_ROBIN: an index from a random start, and with unequal weights an earliest-deadline
//! scheduler.

use super::{Policy, PolicyKind, Scene, Schedule};
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;

/// Needs no parameters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundRobin {}

#[derive(Debug, Default)]
struct Turns {
    next: Option<usize>,
    schedule: Schedule,
}

impl PolicyKind for RoundRobin {
    fn policy(&self, _: usize) -> Box<dyn Policy> {
        Box::new(Turns::default())
    }
}

impl Policy for Turns {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        if !scene.equal_weights() {
            let weight = |at: usize| f64::from(scene.weights[at]);
            return self.schedule.pick(scene.eligible, draws, weight);
        }
        let count = scene.eligible.len();
        let next = *self.next.get_or_insert_with(|| draws.below(count));
        self.next = Some(next.wrapping_add(1));
        scene.eligible.get(next.checked_rem(count)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;

    #[test]
    fn equal_weights_take_turns() {
        let mut stage = Stage::new(&RoundRobin {}, 3);
        let first = stage.pick();
        let turns: Vec<usize> = (0..5).map(|_| stage.pick()).collect();
        let wanted: Vec<usize> = (1..6).map(|at| (first + at) % 3).collect();
        assert_eq!(turns, wanted);
    }

    #[test]
    fn unequal_weights_are_their_shares() {
        let mut stage = Stage::new(&RoundRobin {}, 3);
        stage.weights = vec![1, 2, 5];
        let counts = stage.counts(8000);
        assert!(counts[0].abs_diff(1000) < 3 && counts[2].abs_diff(5000) < 3, "{counts:?}");
    }
}
