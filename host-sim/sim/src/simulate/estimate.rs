//! Medians over seeds, with how sure one can be of them.

use super::draws::Draws;
use serde::Serialize;

/// How often the seeds are drawn anew.
const RESAMPLES: usize = 2000;

/// Draws of the resamples: the same for all, so that a file and its seeds fix every digit.
const SEED: u64 = 0x5eed;

/// A median, and the interval in which it lies in 95 of 100 resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Over seeds.
    pub median: f64,
    /// 2.5 % of resampled medians are below.
    pub low: f64,
    /// 2.5 % are above.
    pub high: f64,
}

impl Estimate {
    /// Of one value a seed; none without values. The interval is the percentile bootstrap's.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = median(&sorted)?;
        let mut draws = Draws::new(SEED, "bootstrap", values.len() as u64);
        let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
        let mut sample = sorted.clone();
        for _ in 0..RESAMPLES {
            sample.iter_mut().for_each(|value| *value = sorted[draws.below(sorted.len())]);
            sample.sort_by(f64::total_cmp);
            medians.extend(self::median(&sample));
        }
        medians.sort_by(f64::total_cmp);
        let at = |part: f64| medians[((RESAMPLES - 1) as f64 * part).round() as usize];
        Some(Self { median, low: at(0.025), high: at(0.975) })
    }
}

/// Of sorted values.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(upper, sorted[middle - 1]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_one_value_is_sure_of_itself() {
        assert_eq!(Estimate::of(&[]), None);
        let one = Estimate::of(&[3.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (3.0, 3.0, 3.0));
        let four = Estimate::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!(four.median == 2.5 && four.low < 2.5 && four.high > 2.5, "{four:?}");
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        let mut draws = Draws::new(1, "coverage", 0);
        let covered = (0..400).filter(|_| {
            let values: Vec<f64> = (0..20).map(|_| draws.normal()).collect();
            let estimate = Estimate::of(&values).unwrap();
            estimate.low <= 0.0 && estimate.high >= 0.0
        });
        let percent = covered.count() as f64 / 4.0;
        assert!((90.0..=99.0).contains(&percent), "{percent}");
    }
}
