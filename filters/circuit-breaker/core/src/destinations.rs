//! The ordered list of endpoints in the steering header, and which of them may be tried.
//!
//! The host tries the list from the front: the first attempt goes to the first endpoint, each retry
//! to the next. So a half-open endpoint keeps its place only at the front, where the request will
//! prove something: a permit for a later entry would be spent on a request that, most likely, never
//! gets there. One that ramps keeps the front for its share of requests, and goes to the end for the
//! others: it is fit to be asked, only not by everybody at once.

use crate::Admission;
use crate::config::Forced;
use core::fmt::Write as _;
use shared_state::{BreakerState, Endpoint, UnixNanos};

/// Most endpoints that are read of a list; what follows is cut off. Longer lists have no use: each
/// entry is one more retry.
pub const MAX_DESTINATIONS: usize = 16;

/// What a worker knows of an endpoint's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its state now.
    pub state: BreakerState,
    /// When it becomes half-open, if it is open.
    pub open_until: UnixNanos,
    /// A request that was sent earlier does not count.
    pub counted_from: UnixNanos,
    /// The operator wants it to reject nothing.
    pub shadow: bool,
}

impl View {
    /// Of a breaker without a record.
    pub const CLOSED: Self = Self {
        state: BreakerState::Closed,
        open_until: UnixNanos::ZERO,
        counted_from: UnixNanos::ZERO,
        shadow: false,
    };

    /// True if this is what the operator decided, and not what was observed.
    pub(crate) fn is_forced(&self, forced: Option<Forced>) -> bool {
        matches!(forced, Some(Forced::Open | Forced::Closed))
    }
}

/// Whether an open endpoint is asked all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pardon {
    /// It is not.
    #[default]
    None,
    /// It stays in the list: more are open than may be.
    Stays,
    /// The others cannot do without it: it is asked as if it were half-open.
    Needed,
}

/// The breakers of a list's endpoints.
pub trait Breakers {
    /// What is known of the endpoint's breaker.
    fn view(&mut self, endpoint: Endpoint) -> View;

    /// Asks a half-open or ramping breaker for admission.
    fn admit(&mut self, endpoint: Endpoint) -> Admission;

    /// What becomes of an open endpoint where too many of its cluster are open.
    fn pardon(&mut self, _endpoint: Endpoint) -> Pardon {
        Pardon::None
    }

    /// Asks an open breaker whose endpoint is [needed](Pardon::Needed) for admission.
    fn admit_needed(&mut self, endpoint: Endpoint) -> Admission {
        self.admit(endpoint)
    }
}

/// What is left of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The endpoints to try, in order.
    pub keep: Vec<Endpoint>,
    /// Those that were taken out, in order.
    pub excluded: Vec<Endpoint>,
    /// Those that were moved to the end: they ramp, and this request is none of their share.
    pub demoted: Vec<Endpoint>,
    /// The first one passes as a probe.
    pub permit: Option<crate::Permit>,
    /// All of them reject; the one that is kept is the least bad.
    pub all_rejected: bool,
}

/// Reads a list. Entries that are no `ip:port` are dropped, as the host skips them.
pub fn parse(header: &str) -> Vec<Endpoint> {
    let entries = header.split(',').filter_map(|entry| entry.parse().ok());
    entries.take(MAX_DESTINATIONS).collect()
}

/// Writes a list as the host reads it.
pub fn format(endpoints: &[Endpoint]) -> String {
    let mut text = String::with_capacity(endpoints.len() * 20);
    for (at, endpoint) in endpoints.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{endpoint}");
    }
    text
}

/// Asks a breaker that is not closed for admission.
fn ask(breakers: &mut impl Breakers, endpoint: Endpoint, state: BreakerState) -> Admission {
    match state {
        BreakerState::Open => breakers.admit_needed(endpoint),
        _ => breakers.admit(endpoint),
    }
}

/// Takes the endpoints out that may not be tried. With `always_keep_one`, one stays even if all of
/// them reject: the one that becomes half-open first. The cluster's own policy would try any.
pub fn select(list: &[Endpoint], always_keep_one: bool, breakers: &mut impl Breakers) -> Selection {
    let mut selection = Selection::default();
    let mut least_bad: Option<(UnixNanos, Endpoint)> = None;
    for endpoint in list {
        let view = breakers.view(*endpoint);
        let at_front = selection.keep.is_empty();
        let pardon = match view.state {
            BreakerState::Open if !view.shadow => breakers.pardon(*endpoint),
            _ => Pardon::None,
        };
        let passes = match view.state {
            _ if view.shadow => true,
            BreakerState::Closed => true,
            BreakerState::Open if pardon == Pardon::Stays => true,
            BreakerState::Open if pardon == Pardon::None => false,
            BreakerState::Open | BreakerState::HalfOpen if !at_front => false,
            // Later entries get what is retried, which is little.
            BreakerState::Ramping if !at_front => true,
            state => match ask(breakers, *endpoint, state) {
                Admission::Allow => true,
                Admission::Probe(permit) => {
                    selection.permit = Some(permit);
                    true
                }
                Admission::Reject { .. } if view.state == BreakerState::Ramping => {
                    selection.demoted.push(*endpoint);
                    continue;
                }
                Admission::Reject { .. } => false,
            },
        };
        if passes {
            selection.keep.push(*endpoint);
        } else {
            selection.excluded.push(*endpoint);
            if least_bad.is_none_or(|(until, _)| view.open_until < until) {
                least_bad = Some((view.open_until, *endpoint));
            }
        }
    }
    selection.keep.extend_from_slice(&selection.demoted);
    if let (true, Some((_, endpoint))) = (selection.keep.is_empty(), least_bad) {
        selection.all_rejected = true;
        if always_keep_one {
            selection.keep.push(endpoint);
            selection.excluded.retain(|other| *other != endpoint);
        }
    }
    selection
}

/// The endpoints whose attempts failed before the last one, which `server` answered: attempt `n`
/// goes to entry `n` of the list. An entry equal to `server` is left out, for that one was skipped
/// or has been answered since.
pub fn failed_before(
    list: &[Endpoint],
    attempts: u32,
    server: Option<Endpoint>,
) -> impl Iterator<Item = Endpoint> + '_ {
    let earlier = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    list.iter().copied().take(earlier).filter(move |endpoint| Some(*endpoint) != server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Permit;
    use core::time::Duration;
    use std::collections::BTreeMap;

    const PERMIT: Permit = Permit { epoch: 2, id: 0 };

    #[derive(Default)]
    struct Known {
        pardons: BTreeMap<Endpoint, Pardon>,
        views: BTreeMap<Endpoint, View>,
        no_permits: bool,
        asked: Vec<Endpoint>,
    }

    impl Breakers for Known {
        fn view(&mut self, endpoint: Endpoint) -> View {
            self.views.get(&endpoint).copied().unwrap_or(View::CLOSED)
        }

        fn admit(&mut self, endpoint: Endpoint) -> Admission {
            self.asked.push(endpoint);
            if self.no_permits {
                Admission::Reject { retry_after: Duration::from_secs(1) }
            } else {
                Admission::Probe(PERMIT)
            }
        }

        fn pardon(&mut self, endpoint: Endpoint) -> Pardon {
            self.pardons.get(&endpoint).copied().unwrap_or_default()
        }
    }

    fn endpoint(port: u16) -> Endpoint {
        format!("10.0.0.1:{port}").parse().unwrap()
    }

    fn ports(list: &[Endpoint]) -> Vec<u16> {
        list.iter().map(|endpoint| endpoint.address().port()).collect()
    }

    fn known(states: &[(u16, BreakerState, u64)]) -> Known {
        let view = |state, until| {
            let open_until = UnixNanos::from_secs(until);
            View { state, open_until, ..View::CLOSED }
        };
        let views =
            states.iter().map(|(port, state, until)| (endpoint(*port), view(*state, *until)));
        Known { views: views.collect(), ..Known::default() }
    }

    fn chosen(known: &mut Known, list: &[u16]) -> Selection {
        let list: Vec<_> = list.iter().map(|port| endpoint(*port)).collect();
        select(&list, true, known)
    }

    #[test]
    fn a_list_survives_reading_and_writing() {
        let list = parse("10.0.0.1:1, [::1]:2,nonsense,,10.0.0.1:3");
        assert_eq!(format(&list), "10.0.0.1:1,[::1]:2,10.0.0.1:3");
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_long_list_is_cut_off() {
        let long = format(&(1..100).map(endpoint).collect::<Vec<_>>());
        assert_eq!(parse(&long).len(), MAX_DESTINATIONS);
    }

    #[test]
    fn open_endpoints_are_taken_out_and_the_order_stays() {
        let mut known = known(&[(2, BreakerState::Open, 9)]);
        let selection = chosen(&mut known, &[1, 2, 3]);
        assert_eq!((ports(&selection.keep), ports(&selection.excluded)), (vec![1, 3], vec![2]));
        assert!(known.asked.is_empty() && !selection.all_rejected);
    }

    #[test]
    fn a_half_open_endpoint_at_the_front_passes_with_a_permit() {
        let selection = chosen(&mut known(&[(1, BreakerState::HalfOpen, 9)]), &[1, 2]);
        assert_eq!((ports(&selection.keep), selection.permit), (vec![1, 2], Some(PERMIT)));
    }

    #[test]
    fn a_half_open_endpoint_behind_another_is_taken_out_without_a_permit() {
        let mut known = known(&[(2, BreakerState::HalfOpen, 9)]);
        let selection = chosen(&mut known, &[1, 2, 3]);
        assert_eq!((ports(&selection.keep), selection.permit), (vec![1, 3], None));
        assert!(known.asked.is_empty());
    }

    #[test]
    fn a_half_open_endpoint_moves_to_the_front_when_those_before_it_are_open() {
        let mut known = known(&[(1, BreakerState::Open, 9), (2, BreakerState::HalfOpen, 5)]);
        let selection = chosen(&mut known, &[1, 2, 3]);
        assert_eq!((ports(&selection.keep), selection.permit), (vec![2, 3], Some(PERMIT)));
    }

    #[test]
    fn only_one_permit_is_taken_a_request() {
        let both = [(1, BreakerState::HalfOpen, 9), (2, BreakerState::HalfOpen, 9)];
        let mut known = known(&both);
        let selection = chosen(&mut known, &[1, 2]);
        assert_eq!((ports(&selection.keep), ports(&known.asked)), (vec![1], vec![1]));
    }

    #[test]
    fn when_all_reject_the_one_that_reopens_first_is_kept() {
        let open = [(1, BreakerState::Open, 9), (2, BreakerState::Open, 5)];
        let selection = chosen(&mut known(&open), &[1, 2]);
        assert!(selection.all_rejected);
        assert_eq!((ports(&selection.keep), ports(&selection.excluded)), (vec![2], vec![1]));
        let none = select(&[endpoint(1)], false, &mut known(&open));
        assert!(none.all_rejected && none.keep.is_empty());
    }

    #[test]
    fn a_half_open_endpoint_without_free_permits_gives_way() {
        let mut known = known(&[(1, BreakerState::HalfOpen, 9)]);
        known.no_permits = true;
        assert_eq!(ports(&chosen(&mut known, &[1, 2]).keep), [2]);
        assert!(chosen(&mut known, &[1]).all_rejected);
    }

    #[test]
    fn a_ramping_endpoint_goes_to_the_end_when_it_is_not_its_turn() {
        let mut known = known(&[(1, BreakerState::Ramping, 9)]);
        known.no_permits = true;
        let selection = chosen(&mut known, &[1, 2, 3]);
        assert_eq!((ports(&selection.keep), ports(&selection.demoted)), (vec![2, 3, 1], vec![1]));
        assert!(selection.excluded.is_empty());
        let alone = chosen(&mut known, &[1]);
        assert_eq!((ports(&alone.keep), alone.all_rejected), (vec![1], false));
        let behind = chosen(&mut known, &[2, 1]);
        assert_eq!(ports(&behind.keep), [2, 1]);
    }

    #[test]
    fn open_endpoints_stay_that_are_pardoned_or_only_watched() {
        let mut known = known(&[(1, BreakerState::Open, 9), (2, BreakerState::Open, 5)]);
        known.pardons.insert(endpoint(2), Pardon::Stays);
        assert_eq!(ports(&chosen(&mut known, &[1, 2, 3]).keep), [2, 3]);
        known.views.get_mut(&endpoint(1)).unwrap().shadow = true;
        assert_eq!(ports(&chosen(&mut known, &[1, 2, 3]).keep), [1, 2, 3]);
    }

    #[test]
    fn an_open_endpoint_that_is_needed_is_asked_as_if_it_were_half_open() {
        let mut known = known(&[(1, BreakerState::Open, 9)]);
        known.pardons.insert(endpoint(1), Pardon::Needed);
        let front = chosen(&mut known, &[1, 2]);
        assert_eq!((ports(&front.keep), front.permit), (vec![1, 2], Some(PERMIT)));
        assert_eq!(ports(&chosen(&mut known, &[2, 1]).keep), [2], "behind, it would prove nothing");
        known.no_permits = true;
        assert_eq!(ports(&chosen(&mut known, &[1, 2]).keep), [2]);
    }

    #[test]
    fn an_empty_list_stays_empty() {
        assert_eq!(chosen(&mut Known::default(), &[]), Selection::default());
    }

    #[test]
    fn retries_name_the_endpoints_that_failed_before() {
        let list: Vec<_> = [1, 2, 3].map(endpoint).into();
        let failed = |attempts, server: u16| {
            let failed: Vec<_> = failed_before(&list, attempts, Some(endpoint(server))).collect();
            ports(&failed)
        };
        assert!(failed(0, 1).is_empty() && failed(1, 1).is_empty());
        assert_eq!(failed(2, 2), [1]);
        assert_eq!(failed(3, 3), [1, 2]);
        assert_eq!(failed(9, 7), [1, 2, 3], "the cluster's own policy went on");
        assert!(failed(2, 1).is_empty(), "the first entry itself answered the retry");
    }
}
