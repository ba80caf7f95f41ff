//! How many endpoints of a cluster may be out at once, and which of them.
//!
//! Two have a say. The configuration allows a share of all endpoints, for the worst of them, as Envoy's
//! outlier detection does; the others stay in the list. And whoever steers sees the load, and knows how
//! many the rest can do without: one too many that is out leaves the others with more than they can
//! do. Of those the last to open stay out, and the others are half-open before their time: what is
//! known of them is oldest, and a few requests find out whether it still holds.

use crate::destinations::Pardon;
use core::cmp::Ordering;
use shared_state::{Endpoint, UnixNanos};
use sorting::sort_by;

/// How many may be out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Percent of the endpoints; 100 for all of them.
    pub(crate) percent: u8,
    /// How many endpoints there are; 0 if unknown.
    pub(crate) size: u32,
    /// How many can be done without, if anybody says.
    pub(crate) spare: Option<u32>,
}

/// An endpoint whose breaker is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) endpoint: Endpoint,
    /// The share of failures that it opened with, and how often it has.
    pub(crate) severity: (u16, u32),
    /// When it opened.
    pub(crate) at: UnixNanos,
}

/// Open endpoints for which there is no room.
#[derive(Debug, Default)]
pub(crate) struct Pardoned {
    /// More are open than the configuration allows.
    stay: Vec<Endpoint>,
    /// More are open than the others can do without.
    needed: Vec<Endpoint>,
}

impl Pardoned {
    /// What becomes of this one.
    pub(crate) fn of(&self, endpoint: Endpoint) -> Pardon {
        if self.stay.contains(&endpoint) {
            Pardon::Stays
        } else if self.needed.contains(&endpoint) {
            Pardon::Needed
        } else {
            Pardon::None
        }
    }
}

impl Room {
    /// Those for which there is none, in a cluster of which `known` endpoints have answered. There is
    /// always room for one.
    pub(crate) fn pardoned(self, mut open: Vec<Opened>, known: u32) -> Pardoned {
        let size = u64::from(self.size.max(known));
        let share = match self.percent {
            100.. => u64::MAX,
            percent => size * u64::from(percent) / 100,
        };
        let spare = self.spare.map_or(u64::MAX, u64::from);
        Pardoned {
            stay: beyond(&mut open, share, &|own, other| own.severity.cmp(&other.severity)),
            needed: beyond(&mut open, spare, &|own, other| own.at.cmp(&other.at)),
        }
    }
}

/// Takes away all but the greatest so many, which is at least one.
fn beyond(
    open: &mut Vec<Opened>,
    most: u64,
    order: &dyn Fn(&Opened, &Opened) -> Ordering,
) -> Vec<Endpoint> {
    sort_by(open, |own, other| order(other, own).then(own.endpoint.cmp(&other.endpoint)));
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    let rest = open.drain(most.min(open.len())..);
    rest.map(|own| own.endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(number: u64) -> Endpoint {
        format!("10.0.0.{number}:80").parse().unwrap()
    }

    /// Four that opened one after the other; the second is the worst, the fourth the least bad. Who
    /// stays, and who is needed.
    fn pardoned(percent: u8, spare: Option<u32>) -> (Vec<Endpoint>, Vec<Endpoint>) {
        let severities = (1..).zip([500, 900, 700, 300]);
        let open = severities.map(|(number, severity)| Opened {
            endpoint: endpoint(number),
            severity: (severity, 1),
            at: UnixNanos::from_secs(number),
        });
        let Pardoned { stay, needed } =
            Room { percent, size: 8, spare }.pardoned(open.collect(), 4);
        (stay, needed)
    }

    fn are(stay: &[u64], needed: &[u64]) -> (Vec<Endpoint>, Vec<Endpoint>) {
        let endpoints = |numbers: &[u64]| numbers.iter().map(|number| endpoint(*number)).collect();
        (endpoints(stay), endpoints(needed))
    }

    #[test]
    fn all_may_be_out_where_nobody_says_otherwise() {
        assert_eq!(pardoned(100, None), are(&[], &[]));
    }

    #[test]
    fn of_a_share_the_worst_are_out() {
        assert_eq!(pardoned(50, None), are(&[], &[]));
        assert_eq!(pardoned(25, None), are(&[1, 4], &[]));
        assert_eq!(pardoned(1, None), are(&[3, 1, 4], &[]), "one may always be");
    }

    #[test]
    fn of_those_that_can_be_spared_the_last_to_open_are_out() {
        assert_eq!(pardoned(100, Some(4)), are(&[], &[]));
        assert_eq!(pardoned(100, Some(2)), are(&[], &[2, 1]));
        assert_eq!(pardoned(100, Some(0)), are(&[], &[3, 2, 1]));
    }

    #[test]
    fn both_have_a_say() {
        assert_eq!(pardoned(25, Some(1)), are(&[1, 4], &[2]), "2 and 3 are the worst, 3 the last");
    }

    #[test]
    fn a_share_is_one_of_the_endpoints_that_there_are_or_are_known() {
        let open =
            |number| Opened { endpoint: endpoint(number), severity: (1, 1), at: UnixNanos::ZERO };
        let stay = |size, known| {
            let room = Room { percent: 50, size, spare: None };
            room.pardoned((1..=8).map(open).collect(), known).stay.len()
        };
        assert_eq!((stay(10, 4), stay(4, 10), stay(0, 0)), (3, 3, 7));
    }

    #[test]
    fn who_is_neither_is_not_pardoned() {
        let pardoned = Pardoned { stay: vec![endpoint(1)], needed: vec![endpoint(2)] };
        let pardons = [1, 2, 3].map(|number| pardoned.of(endpoint(number)));
        assert_eq!(pardons, [Pardon::Stays, Pardon::Needed, Pardon::None]);
    }
}
