//! A quantile of a histogram with cumulative buckets, by linear interpolation within one.

/// Most buckets; no library makes as many.
const MAX_BUCKETS: usize = 256;

/// How many observations lie at or below each bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Adds `count` observations at or below `le`, which may be infinite.
    pub(super) fn add(&mut self, le: f64, count: f64) {
        if le.is_nan() {
            return;
        }
        // Their order is that of the page, which is that of the bounds: the search ends at once.
        let at = self.0.iter().rposition(|(other, _)| *other <= le);
        if let Some((other, sum)) = at.and_then(|at| self.0.get_mut(at))
            && *other == le
        {
            *sum += count;
        } else if self.0.len() < MAX_BUCKETS {
            self.0.insert(at.map_or(0, |at| at + 1), (le, count));
        }
    }

    /// The bound that this share of the observations does not exceed; `None` if there are none, or
    /// the bucket of all is not there.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let (last, total) = *self.0.last()?;
        if last != f64::INFINITY || total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let mut below = (0.0, 0.0);
        for (le, count) in &self.0 {
            // Buckets are read one after the other, while observations come in: counts may dip.
            let count = count.max(below.1);
            if count >= rank && *le == f64::INFINITY {
                return Some(below.0);
            }
            if count >= rank && count > below.1 {
                // Nothing is known of how far below zero the first one reaches.
                let from = if *le <= 0.0 { *le } else { below.0 };
                return Some(from + (le - from) * (rank - below.1) / (count - below.1));
            }
            if *le < f64::INFINITY {
                below = (*le, count);
            }
        }
        Some(below.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(buckets: &[(f64, f64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for (le, count) in buckets {
            histogram.add(*le, *count);
        }
        histogram
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn it_interpolates_within_the_bucket() {
        let all = histogram(&[(0.1, 50.0), (0.2, 90.0), (1.0, 100.0), (INF, 100.0)]);
        for (quantile, value) in [(0.5, 0.1), (0.25, 0.05), (0.7, 0.15), (0.95, 0.6), (1.0, 1.0)] {
            let found = all.quantile(quantile).unwrap();
            assert!((found - value).abs() < 1e-9, "{quantile}: {found}");
        }
    }

    #[test]
    fn what_lies_above_all_bounds_is_told_as_the_highest() {
        assert_eq!(histogram(&[(0.1, 1.0), (0.2, 2.0), (INF, 100.0)]).quantile(0.9), Some(0.2));
    }

    #[test]
    fn without_observations_or_the_bucket_of_all_there_is_none() {
        assert_eq!(histogram(&[]).quantile(0.5), None);
        assert_eq!(histogram(&[(0.1, 0.0), (INF, 0.0)]).quantile(0.5), None);
        assert_eq!(histogram(&[(0.1, 5.0)]).quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn it_lies_between_the_bounds_whatever_the_buckets(
            buckets in proptest::collection::vec((any::<f64>(), 0.0f64..1e9), 0..20),
            all in 0.0f64..1e9, quantile in 0.0f64..=1.0,
        ) {
            let mut made = histogram(&buckets);
            made.add(INF, all);
            if let Some(value) = made.quantile(quantile) {
                prop_assert!(!value.is_nan());
            }
        }

        #[test]
        fn it_grows_with_the_quantile(
            counts in proptest::collection::vec(0.0f64..100.0, 1..10), one in 0.0f64..=1.0, two in 0.0f64..=1.0,
        ) {
            let mut sum = 0.0;
            let mut made = Histogram::default();
            for (at, count) in counts.iter().enumerate() {
                sum += count;
                made.add((at + 1) as f64, sum);
            }
            made.add(INF, sum);
            let (low, high) = (made.quantile(one.min(two)), made.quantile(one.max(two)));
            prop_assert!(low <= high, "{low:?} {high:?}");
        }
    }
}
