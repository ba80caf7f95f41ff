//! Numbers over seeds, with how sure one can be of them.
//!
//! Most measures are told as their median. One that says of a run whether something happened, 0 or
//! 100, is told as its mean, which is how often it did; and a ratio of two such is that of the means,
//! for that of a single seed says nothing.

use super::draws::Draws;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How often the seeds are drawn anew.
const RESAMPLES: usize = 2000;

/// Draws of the resamples: the same for all, so that a file and its seeds fix every digit.
const SEED: u64 = 0x5eed;

/// A median, and the interval in which it lies in 95 of 100 resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Over seeds. Of a measure that is counted, its mean.
    pub median: f64,
    /// 2.5 % of resampled medians are below.
    pub low: f64,
    /// 2.5 % are above.
    pub high: f64,
}

impl Estimate {
    /// The median of one value a seed; none without values. The interval is the percentile
    /// bootstrap's.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = median(&sorted)?;
        let resampled = ranks(sorted.len());
        let pairs = resampled.iter().map(|(low, high)| f64::midpoint(sorted[*low], sorted[*high]));
        Some(Self::within(median, pairs.collect()))
    }

    /// The mean of one value a seed.
    #[must_use]
    pub(crate) fn mean(values: &[f64]) -> Option<Self> {
        Self::mean_ratio(values, None)
    }

    /// The mean of one value a seed over that of the other's values of the same seeds; none where
    /// that is zero.
    #[must_use]
    pub(crate) fn mean_ratio(values: &[f64], of: Option<&[f64]>) -> Option<Self> {
        let count = values.len();
        let other = |at: usize| of.map_or(1.0, |of| of.get(at).copied().unwrap_or_default());
        let (own, by) =
            (0..count).fold((0.0, 0.0), |sum, at| (sum.0 + values[at], sum.1 + other(at)));
        if by <= 0.0 {
            return None;
        }
        let mut draws = Draws::new(SEED, "bootstrap", count as u64);
        let mut means = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            let (mut own, mut by) = (0.0, 0.0);
            for _ in 0..count {
                let at = draws.below(count);
                own += values[at];
                by += other(at);
            }
            if by > 0.0 {
                means.push(own / by);
            }
        }
        Some(Self::within(own / by, means))
    }

    fn within(median: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_by(f64::total_cmp);
        let last = resampled.len().saturating_sub(1) as f64;
        let at = |part: f64| resampled.get((last * part).round() as usize).copied();
        Self { median, low: at(0.025).unwrap_or(median), high: at(0.975).unwrap_or(median) }
    }
}

/// Two places in an order, by resample.
type Ranks = Rc<[(usize, usize)]>;

/// Of each resample of so many values, which of them, in order, its median lies between. The draws
/// depend on nothing else, so they are drawn once and not for each of a thousand estimates.
fn ranks(count: usize) -> Ranks {
    thread_local! {
        static RANKS: RefCell<HashMap<usize, Ranks>> = RefCell::default();
    }
    RANKS.with_borrow_mut(|known| {
        let drawn = known.entry(count).or_insert_with(|| {
            let mut draws = Draws::new(SEED, "bootstrap", count as u64);
            let mut sample = vec![0; count];
            let resample = |_| {
                sample.iter_mut().for_each(|value| *value = draws.below(count));
                sample.sort_unstable();
                let upper = sample[count / 2];
                let lower = if count % 2 == 1 { upper } else { sample[count / 2 - 1] };
                (lower, upper)
            };
            (0..RESAMPLES).map(resample).collect()
        });
        Rc::clone(drawn)
    })
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

    #[test]
    fn what_is_counted_has_a_mean_and_a_ratio_of_means() {
        let (some, all) = ([0.0, 0.0, 0.0, 100.0], [100.0; 4]);
        let own = Estimate::mean(&some).unwrap();
        assert!(own.median == 25.0 && own.low == 0.0 && own.high > 25.0, "{own:?}");
        let ratio = Estimate::mean_ratio(&some, Some(&all)).unwrap();
        assert!(ratio.median == 0.25 && ratio.high <= 1.0, "{ratio:?}");
        assert_eq!(Estimate::mean_ratio(&all, Some(&[0.0; 4])), None);
        assert_eq!(Estimate::mean(&[]), None);
    }
}
