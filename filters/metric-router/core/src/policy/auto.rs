//! Which policy fits: that depends on how much of the endpoints' traffic passes through this proxy.
//!
//! A gateway sees most of it. What it has in flight itself is then nearly all there is, known to the
//! moment, and nothing an endpoint reports is as fresh: `least_cost`. A proxy in a mesh, one of
//! many, sees a slice. Its own requests in flight say little, the endpoint's report says much:
//! `hot_cold`, which in turn is worse than the proxy's own default at a gateway.
//!
//! The share is the median, over the endpoints that report, of the responses a second that came
//! through this proxy, all workers together, by those that the endpoint says it serves. Between the
//! two thresholds the policy stays what it was. Without reports there is nothing to go by but one's
//! own requests, and nobody to share them: a gateway.

use crate::{AutoRules, Candidate, Policy};
use sorting::sort_by;

#[derive(Debug, Default)]
pub(super) struct Regime {
    is_mesh: bool,
}

impl Regime {
    pub(super) fn update(&mut self, candidates: &[Candidate], rules: &AutoRules) {
        let mut shares: Vec<f64> = candidates.iter().filter_map(|it| it.load?.own_share).collect();
        // A few that report are no picture of all.
        if shares.len() * 2 < candidates.len() || shares.is_empty() {
            self.is_mesh = false;
            return;
        }
        sort_by(&mut shares, f64::total_cmp);
        let median = shares.get(shares.len() / 2).copied().unwrap_or(1.0);
        if median >= rules.gateway_share {
            self.is_mesh = false;
        } else if median < rules.mesh_share {
            self.is_mesh = true;
        }
    }

    /// The policy that fits.
    pub(super) const fn policy(&self) -> Policy {
        if self.is_mesh { Policy::HotCold } else { Policy::LeastCost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{candidate, loaded};
    use crate::{Load, Policy};

    const RULES: AutoRules = AutoRules { gateway_share: 0.5, mesh_share: 0.2 };

    fn sharing(row: usize, share: Option<f64>) -> Candidate {
        let load = loaded(row, 1.0).load.map(|load| Load { own_share: share, ..load });
        Candidate { load, ..candidate(row) }
    }

    fn after(regime: &mut Regime, share: f64) -> Policy {
        let candidates: Vec<_> = (0..4).map(|row| sharing(row, Some(share))).collect();
        regime.update(&candidates, &RULES);
        regime.policy()
    }

    #[test]
    fn without_reports_it_is_a_gateway() {
        let mut regime = Regime::default();
        assert_eq!(after(&mut regime, 0.01), Policy::HotCold);
        regime.update(&[candidate(0), candidate(1)], &RULES);
        assert_eq!(regime.policy(), Policy::LeastCost);
        after(&mut regime, 0.01);
        let few = [sharing(0, Some(0.01)), sharing(1, None), sharing(2, None)];
        regime.update(&few, &RULES);
        assert_eq!(regime.policy(), Policy::LeastCost, "one of three is no picture");
    }

    #[test]
    fn between_the_thresholds_it_stays_what_it_was() {
        let mut regime = Regime::default();
        let policies = [1.0, 0.3, 0.19, 0.3, 0.49, 0.5, 0.3].map(|share| after(&mut regime, share));
        use Policy::{HotCold, LeastCost};
        let expected = [LeastCost, LeastCost, HotCold, HotCold, HotCold, LeastCost, LeastCost];
        assert_eq!(policies, expected);
    }
}
