//! Envoy's RANDOM: every endpoint as likely as another.

use super::{Policy, PolicyKind, Scene};
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;

/// Needs no parameters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {}

impl PolicyKind for Random {
    fn policy(&self, _: usize) -> Box<dyn Policy> {
        Box::new(Self {})
    }
}

impl Policy for Random {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        scene.eligible.get(draws.below(scene.eligible.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;

    #[test]
    fn every_eligible_endpoint_is_as_likely_as_another() {
        let mut stage = Stage::new(&Random {}, 4);
        stage.eligible = vec![0, 2, 3];
        let counts = stage.counts(30_000);
        assert_eq!(counts[1], 0);
        assert!([0, 2, 3].iter().all(|at| counts[*at].abs_diff(10_000) < 300), "{counts:?}");
    }
}
