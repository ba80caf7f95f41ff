//! In turn, in proportion to weight: Envoy's `client_side_weighted_round_robin`, gRPC's A58.
//!
//! The weights are those of [`orca`](crate::orca), median for those without one. They are taken up
//! every `weight_update_period`, and at once when other endpoints are candidates than before.

use super::{Choice, Ranked, Scene};
use crate::{Policy, Schedule, Why};
use shared_state::{Endpoint, UnixNanos};

#[derive(Debug, Default)]
pub(super) struct Turns {
    schedule: Schedule,
    members: Vec<Endpoint>,
    /// Where their rows were.
    rows: Vec<usize>,
    updated_at: Option<UnixNanos>,
}

impl Turns {
    pub(super) fn update(&mut self, scene: &Scene<'_>, draw: u64) {
        let (candidates, now) = (scene.candidates, scene.now);
        let period = scene.config.load_reports.weight_update_period;
        let due = self.updated_at.is_none_or(|at| at > now || now.since(at) >= period * 9 / 10);
        let endpoints = candidates.iter().map(|candidate| candidate.endpoint);
        // An endpoint that is ramped up gets a little more with each snapshot.
        let is_ramping = candidates.iter().any(|candidate| candidate.admission < 1.0);
        if !due && !is_ramping && endpoints.clone().eq(self.members.iter().copied()) {
            return;
        }
        self.updated_at = Some(now);
        self.members = endpoints.collect();
        self.rows = candidates.iter().map(|candidate| candidate.row).collect();
        let weights = candidates.iter().map(|c| (c.endpoint, c.rate * c.admission));
        self.schedule.update(weights, draw);
    }

    pub(super) fn choose(&mut self, scene: &Scene<'_>) -> Choice {
        let turns = self.schedule.next_numbered(scene.most);
        let list: Vec<Ranked> = turns
            .into_iter()
            .filter_map(|(endpoint, number)| {
                let row = self.rows.get(number).copied().unwrap_or(0);
                scene.candidate_near(endpoint, row)
            })
            .map(|(place, candidate)| Ranked { place, score: 1.0 / candidate.rate })
            .collect();
        let considered = scene.candidates.len();
        Choice { policy: Policy::WeightedRoundRobin, why: Why::Turn, considered, list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Candidate;
    use crate::testing::{Stage, candidate};
    use core::time::Duration;

    fn counts(turns: &mut Turns, stage: &Stage, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; stage.candidates.len()];
        for _ in 0..picks {
            counts[turns.choose(&stage.scene(0)).list[0].place] += 1;
        }
        counts
    }

    #[test]
    fn turns_are_in_proportion_to_the_weights() {
        let stage = Stage::of(3, |row| Candidate { rate: (row + 1) as f64, ..candidate(row) });
        let mut turns = Turns::default();
        turns.update(&stage.scene(0), 0);
        assert_eq!(counts(&mut turns, &stage, 60), [10, 20, 30]);
    }

    #[test]
    fn weights_are_taken_up_with_the_period_and_members_at_once() {
        let mut stage = Stage::of(2, candidate);
        let mut turns = Turns::default();
        turns.update(&stage.scene(0), 0);
        stage.candidates[0].rate = 3.0;
        stage.pass(Duration::from_millis(500));
        turns.update(&stage.scene(0), 0);
        assert_eq!(counts(&mut turns, &stage, 40), [20, 20], "half a period");
        stage.pass(Duration::from_millis(500));
        turns.update(&stage.scene(0), 0);
        assert_eq!(counts(&mut turns, &stage, 40), [30, 10]);
        stage.drop_last();
        turns.update(&stage.scene(0), 0);
        assert_eq!(counts(&mut turns, &stage, 10), [10]);
    }
}
