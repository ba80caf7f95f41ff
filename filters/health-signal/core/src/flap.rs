//! Damping of an endpoint that comes and goes, after RFC 2439.
//!
//! Each time it stops or starts working, a penalty is added, which decays with a half-life. Above
//! one limit the endpoint is suppressed, and is so until the penalty has decayed below a lower one.
//! The penalty is capped such that, once the endpoint is steady, it is free within the longest time.
//! A suppressed endpoint is not out: it is taken for degraded, because when everything flaps,
//! something has to serve.

use crate::config::FlapRules;
use shared_state::UnixNanos;

/// One endpoint's penalty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flap {
    penalty: f64,
    as_of: UnixNanos,
    works: Option<bool>,
    suppressed: bool,
}

impl Flap {
    /// Goes on with the penalty that a former leader left.
    pub fn inherited(
        penalty: f32,
        as_of: UnixNanos,
        works: Option<bool>,
        suppressed: bool,
    ) -> Self {
        Self { penalty: penalty.into(), as_of, works, suppressed }
    }

    /// Takes whether the endpoint works now; `None` if nobody knows. Answers whether it is
    /// suppressed.
    pub fn is_suppressed(
        &mut self,
        works: Option<bool>,
        rules: &FlapRules,
        now: UnixNanos,
    ) -> bool {
        let half_lives = now.since(self.as_of).as_secs_f64() / rules.half_life.as_secs_f64();
        self.penalty *= (-half_lives * core::f64::consts::LN_2).exp();
        self.as_of = now;
        if let Some(works) = works {
            if self.works.is_some_and(|before| before != works) {
                self.penalty = (self.penalty + rules.penalty).min(rules.ceiling());
            }
            self.works = Some(works);
        }
        self.suppressed = if self.suppressed {
            self.penalty >= rules.reuse
        } else {
            self.penalty > rules.suppress
        };
        self.suppressed
    }

    /// The penalty as of the last look.
    pub fn penalty(&self) -> f32 {
        self.penalty as f32
    }
}

impl FlapRules {
    /// The penalty from which it takes the longest time to become reusable.
    fn ceiling(&self) -> f64 {
        let half_lives = self.max.as_secs_f64() / self.half_life.as_secs_f64();
        (self.reuse * (half_lives * core::f64::consts::LN_2).exp()).max(self.suppress + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;

    fn rules() -> FlapRules {
        FlapRules {
            penalty: 1000.0,
            half_life: Duration::from_secs(15),
            suppress: 2000.0,
            reuse: 750.0,
            max: Duration::from_secs(60),
        }
    }

    /// Whether it is suppressed after working, or not, at each of these seconds.
    fn after(steps: &[(u64, bool)]) -> Vec<bool> {
        let mut flap = Flap::default();
        let look = |(secs, works): &(u64, bool)| {
            flap.is_suppressed(Some(*works), &rules(), UnixNanos::from_secs(100 + secs))
        };
        steps.iter().map(look).collect()
    }

    #[test]
    fn one_failure_and_its_end_are_no_flapping() {
        assert_eq!(after(&[(0, true), (1, false), (2, true), (3, true)]), [false; 4]);
    }

    #[test]
    fn the_third_change_within_seconds_suppresses_until_it_has_decayed() {
        let steps =
            [(0, true), (1, false), (2, true), (3, false), (4, true), (30, true), (37, true)];
        // 1000 after the first change; at the third 2867, at the fourth 3737, then 1123 and 813; 750
        // is reached 34.7 s after the last change.
        assert_eq!(after(&steps), [false, false, false, true, true, true, true]);
        assert_eq!(after(&[&steps[..], &[(39, true)]].concat()).last(), Some(&false));
    }

    #[test]
    fn slow_changes_never_suppress() {
        let steps: Vec<_> = (0..40).map(|n| (n * 20, n % 2 == 0)).collect();
        assert!(after(&steps).iter().all(|suppressed| !suppressed));
    }

    #[test]
    fn however_long_it_flapped_it_is_free_within_the_longest_time() {
        let mut steps: Vec<_> = (0..=400).map(|n| (n, n % 2 == 0)).collect();
        steps.extend([(400 + 58, true), (400 + 61, true)]);
        let seen = after(&steps);
        assert_eq!(seen[399..], [true, true, true, false]);
    }

    #[test]
    fn nobody_knowing_is_no_change() {
        let mut flap = Flap::default();
        for n in 0..100 {
            let works = (n % 2 == 0).then_some(true);
            assert!(!flap.is_suppressed(works, &rules(), UnixNanos::from_secs(n)));
        }
    }

    proptest! {
        #[test]
        fn no_clock_breaks_it(steps in proptest::collection::vec((any::<u64>(), any::<Option<bool>>()), 0..60)) {
            let mut flap = Flap::default();
            for (nanos, works) in steps {
                flap.is_suppressed(works, &rules(), UnixNanos::from_nanos(nanos));
                prop_assert!(flap.penalty().is_finite() && flap.penalty() >= 0.0);
                prop_assert!(f64::from(flap.penalty()) <= rules().ceiling() * 1.000_001);
            }
        }
    }
}
