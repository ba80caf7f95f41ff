//! Who runs next: by default who runs already, elsewise by chance or by a recorded schedule.
//!
//! A schedule is the list of decisions that differ from the default, each named by the worker that
//! was running and how many steps it had made. That name still means something when another
//! decision is left out, which is what shrinking does; a number of steps since the start would not.

use host_sim_engine::rng::{GAMMA, mix};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Steps of one worker in a row before another gets its turn all the same: a guest that spins until
/// another has done something would spin for ever.
const PATIENCE: u64 = 200;

/// One decision that was not the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who ran: a worker, or the number of workers for the main thread, or one more for nobody.
    pub from: usize,
    /// How many steps it had made.
    pub at: u64,
    /// Who runs from there.
    pub to: usize,
}

/// Where a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before a hostcall on something that workers share.
    Hostcall,
    /// Before a hostcall on something that nobody changes.
    Quiet,
    /// Between two events of one worker.
    Between,
    /// The worker has nothing more to do.
    Idle,
}

/// How a run decides.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// By default: one worker after the other.
    Straight,
    /// As recorded.
    Replay(HashMap<(usize, u64), usize>),
    /// By chance.
    Search(Search),
}

/// Decisions by chance, all from one seed.
#[derive(Clone, Debug)]
pub(super) struct Search {
    draws: u64,
    style: Style,
    preemptions: usize,
}

#[derive(Clone, Debug)]
enum Style {
    /// Any worker, with this chance in a hundred at every step.
    Walk(u64),
    /// The one of highest priority; at a few random steps the running one drops to the lowest.
    /// A bug that needs few preemptions is found with a chance that does not fall with the length of
    /// the run as a walk's does (Burckhardt et al., "A randomized scheduler with probabilistic
    /// guarantees of finding bugs").
    Priorities { of: Vec<u64>, changes: Vec<u64>, steps: u64, lowest: u64 },
}

impl Plan {
    pub(super) fn replay(decisions: &[Decision]) -> Self {
        Self::Replay(decisions.iter().map(|d| ((d.from, d.at), d.to)).collect())
    }

    /// The plan number `index` of a search over runs of about `length` steps.
    pub(super) fn search(
        seed: u64,
        index: u64,
        lanes: usize,
        length: u64,
        preemptions: usize,
    ) -> Self {
        let mut search = Search {
            draws: mix(seed) ^ mix(index.wrapping_add(0x5745_4952)),
            style: Style::Walk(0),
            preemptions,
        };
        search.style = if index.is_multiple_of(2) {
            let of = (0..lanes).map(|_| search.draw() | 1 << 63).collect();
            let depth = 1 + search.draw() % preemptions.clamp(1, 3) as u64;
            let changes = (0..depth).map(|_| search.draw() % length.max(1)).collect();
            Style::Priorities { of, changes, steps: 0, lowest: 1 << 62 }
        } else {
            let chance = search.draw() as usize % 4;
            Style::Walk([4, 10, 25, 50][chance])
        };
        Self::Search(search)
    }

    /// Chooses among `runnable`, which is not empty and ascending. Answers the choice, and what the
    /// default was.
    pub(super) fn choose(
        &mut self,
        place: Place,
        (from, at): (usize, u64),
        in_a_row: u64,
        runnable: &[usize],
    ) -> (usize, usize) {
        let first = runnable.first().copied().unwrap_or(from);
        let stays = runnable.contains(&from) && place != Place::Idle;
        let next = runnable.iter().copied().find(|lane| *lane > from).unwrap_or(first);
        let spins = stays && in_a_row >= PATIENCE;
        let usual = match stays {
            _ if spins => next,
            true => from,
            false => first,
        };
        if spins {
            // No plan may keep the turn with somebody who waits for another's.
            if let Self::Search(search) = self {
                search.lower(from);
            }
            return (usual, usual);
        }
        let wanted = match self {
            Self::Straight => usual,
            Self::Replay(decisions) => decisions.get(&(from, at)).copied().unwrap_or(usual),
            Self::Search(search) => search.choose(place, from, usual, runnable),
        };
        (if runnable.contains(&wanted) { wanted } else { usual }, usual)
    }
}

impl Search {
    fn choose(&mut self, place: Place, from: usize, usual: usize, runnable: &[usize]) -> usize {
        if place == Place::Quiet {
            return usual;
        }
        let preempts = place == Place::Hostcall;
        if preempts && self.changes_here() {
            self.lower(from);
        }
        let wanted = match &mut self.style {
            Style::Priorities { of, .. } => {
                let highest = runnable.iter().max_by_key(|lane| of.get(**lane).copied());
                highest.copied().unwrap_or(usual)
            }
            Style::Walk(chance) => {
                let chance = if preempts { *chance } else { 50 };
                if self.draw() % 100 < chance {
                    let at = self.draw() as usize % runnable.len().max(1);
                    runnable.get(at).copied().unwrap_or(usual)
                } else {
                    usual
                }
            }
        };
        if preempts && wanted != from {
            if self.preemptions == 0 {
                return usual;
            }
            self.preemptions -= 1;
        }
        wanted
    }

    /// Whether this step is one at which priorities change.
    fn changes_here(&mut self) -> bool {
        let Style::Priorities { changes, steps, .. } = &mut self.style else { return false };
        *steps += 1;
        changes.contains(&(*steps - 1))
    }

    /// Puts a worker behind all others.
    fn lower(&mut self, lane: usize) {
        if let Style::Priorities { of, lowest, .. } = &mut self.style
            && let Some(priority) = of.get_mut(lane)
        {
            *lowest -= 1;
            *priority = *lowest;
        }
    }

    fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(GAMMA);
        mix(self.draws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_who_runs_goes_on_and_then_the_first_who_can() {
        let mut plan = Plan::Straight;
        assert_eq!(plan.choose(Place::Hostcall, (2, 7), 0, &[0, 1, 2]), (2, 2));
        assert_eq!(plan.choose(Place::Idle, (2, 8), 0, &[0, 1]), (0, 0));
    }

    #[test]
    fn who_spins_gives_way_at_last() {
        let mut plan = Plan::Straight;
        assert_eq!(plan.choose(Place::Hostcall, (1, 0), PATIENCE, &[0, 1, 2]).0, 2);
        assert_eq!(plan.choose(Place::Hostcall, (2, 0), PATIENCE, &[0, 1, 2]).0, 0);
    }

    #[test]
    fn a_recorded_decision_for_somebody_who_cannot_run_is_passed_over() {
        let mut plan = Plan::replay(&[Decision { from: 0, at: 3, to: 2 }]);
        assert_eq!(plan.choose(Place::Hostcall, (0, 3), 0, &[0, 2]).0, 2);
        assert_eq!(plan.choose(Place::Hostcall, (0, 3), 0, &[0, 1]).0, 0);
        assert_eq!(plan.choose(Place::Hostcall, (0, 4), 0, &[0, 2]).0, 0);
    }

    #[test]
    fn equal_seeds_decide_equally_and_no_more_often_than_allowed() {
        let run = |seed, index| {
            let mut plan = Plan::search(seed, index, 3, 40, 2);
            let choose = |at| plan.choose(Place::Hostcall, (0, at), 0, &[0, 1, 2]).0;
            (0..40).map(choose).collect::<Vec<_>>()
        };
        for index in 0..20 {
            assert_eq!(run(1, index), run(1, index));
            assert!(run(1, index).iter().filter(|to| **to != 0).count() <= 2);
        }
        assert_ne!(
            (0..20).map(|i| run(1, i)).collect::<Vec<_>>(),
            (0..20).map(|i| run(2, i)).collect::<Vec<_>>()
        );
    }
}
