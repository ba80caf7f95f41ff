//! Sorting, compiled once.
//!
//! The library compiles its sorts anew for each type and each order, two to four kilobytes a time,
//! and a VM of each module runs on every worker. Here what is sorted are numbers of places, by a
//! question about two of them; only moving things to where they belong is compiled for each type.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use core::cmp::Ordering;

/// Sorts; what compares as equal stays in its order.
pub fn sort_by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let is_after = |a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => order(a, b).is_gt(),
        _ => false,
    };
    let mut places = sorted(items.len(), &is_after);
    for start in 0..items.len() {
        let mut at = start;
        // Along the circle that begins here; one that was gone along before ends at once.
        while let Some(next) = places.get_mut(at).map(|place| core::mem::replace(place, at)) {
            if next == start || next == at {
                break;
            }
            items.swap(at, next);
            at = next;
        }
    }
}

/// As [`sort_by`], by what a key is.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// The places in order: runs of one are merged to runs of two, these to runs of four, and so on.
fn sorted(count: usize, is_after: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    // What is sorted again and again has mostly stayed as it was.
    if (1..count).all(|at| !is_after(at - 1, at)) {
        return places;
    }
    let mut width = 1;
    while width < count {
        let mut merged = Vec::with_capacity(count);
        for run in places.chunks(2 * width) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            while let ([a, rest_left @ ..], [b, rest_right @ ..]) = (left, right) {
                if is_after(*a, *b) {
                    merged.push(*b);
                    right = rest_right;
                } else {
                    merged.push(*a);
                    left = rest_left;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        places = merged;
        width *= 2;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_library_does(
            mut items in proptest::collection::vec((0u8..9, any::<u16>()), 0..200),
        ) {
            let mut wanted = items.clone();
            wanted.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(&items, &wanted, "equal ones stay in their order");
            sort_by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(&items, &wanted, "and in their order again");
            wanted.sort_by(|a, b| b.cmp(a));
            sort_by(&mut items, |a, b| b.cmp(a));
            prop_assert_eq!(items, wanted);
        }
    }
}
