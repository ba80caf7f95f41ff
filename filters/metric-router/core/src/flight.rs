//! One request on its way, from the pick to the end of the stream.

use shared_state::{Endpoint, UnixNanos};

/// What must be remembered of a request so that its end can be accounted for exactly once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flight {
    /// When the request came.
    pub(crate) started_at: UnixNanos,
    /// The list that was sent, best first; empty if the request was not steered.
    pub(crate) list: Vec<Endpoint>,
    /// The endpoint that counts this request as in flight.
    pub(crate) charged: Option<Endpoint>,
    /// When it was sent, if that endpoint's [`Work`](crate::work::Work) watches it.
    pub(crate) watched: Option<UnixNanos>,
    /// How many others it found in flight there; `None` if it was not counted from the beginning.
    pub(crate) ahead: Option<f64>,
    /// Where the row of that endpoint was.
    pub(crate) place: usize,
    /// The response has been accounted for.
    pub(crate) responded: bool,
    /// Nothing about it is in doubt: see [`Flight::is_routine`].
    pub(crate) is_routine: bool,
    /// Nothing is to be asked of its answer: see [`Flight::is_overlooked`].
    pub(crate) is_overlooked: bool,
}

impl Flight {
    /// True while no response has been accounted for.
    pub const fn awaits_response(&self) -> bool {
        !self.responded
    }

    /// True if a good answer to this request need not be looked at closely: it is taken for one of
    /// the endpoint that was picked, and when it came is not asked either.
    pub const fn is_routine(&self) -> bool {
        self.is_routine
    }

    /// True if nothing is to be asked of an answer to this request, neither how it went nor whose it
    /// is. Only that there was one counts: [`Flight::overlook`].
    pub const fn is_overlooked(&self) -> bool {
        self.is_overlooked
    }

    /// It was answered, in whatever way: nothing more is to be accounted for but its end.
    pub const fn overlook(&mut self) {
        self.responded = true;
    }

    /// It is this late. To be told of every request that is no routine.
    pub const fn begin(&mut self, now: UnixNanos) {
        self.started_at = now;
    }

    /// It came at `came_at`, as the proxy has it. That is too early where another filter has held it
    /// up, and never earlier than what was known when it was picked for.
    pub fn begin_after(&mut self, came_at: UnixNanos) {
        self.started_at = self.started_at.max(came_at);
    }

    /// True if the request was sent with a list.
    pub const fn is_steered(&self) -> bool {
        !self.list.is_empty()
    }

    /// True if `list`, what another filter has left of the steering header, begins with another
    /// endpoint than was picked. `None`: nobody says to have changed it.
    pub fn is_edited(&self, list: Option<&str>) -> bool {
        let first = list.and_then(|list| list.split(',').next()).map(|first| first.parse().ok());
        first.is_some_and(|first| first != self.first())
    }

    /// True if the request was steered and something else than its first endpoint served it.
    pub fn went_astray(&self, served: Option<Endpoint>) -> bool {
        self.is_steered() && served.is_some() && self.first() != served
    }

    pub(crate) fn first(&self) -> Option<Endpoint> {
        self.list.first().copied()
    }

    /// Endpoints that failed before the one that served: retries walk the list, so attempt `n` went
    /// to its `n`th endpoint. Nothing else tells of them: the proxy names the last attempt only.
    pub(crate) fn failed_before(&self, response: &Response) -> Vec<Endpoint> {
        let earlier = response.attempts.saturating_sub(1) as usize;
        if response.edited {
            return Vec::new();
        }
        let earlier = self.list.iter().copied().take(earlier);
        earlier.filter(|endpoint| Some(*endpoint) != response.served).collect()
    }
}

/// What is known when a response has come, or when it is clear that none will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The endpoint of the last attempt; `None` if there was none, or if it has no `ip:port`.
    pub served: Option<Endpoint>,
    /// Attempts made. Matters only where another endpoint than the first of the list served.
    pub attempts: u32,
    /// Another filter changed the list after the pick, so that it proves nothing.
    pub edited: bool,
    /// What the response says about the endpoint.
    pub outcome: Outcome,
}

/// What a response says about the endpoint that served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It cannot be reached: no request has even come there.
    Unreachable,
    /// The client left before there was an answer: it is no faster than that.
    Abandoned,
    /// Nothing: the proxy did not ask it.
    Neutral,
}

/// Envoy's response flags of attempts that failed on the way: upstream timeout, local reset,
/// upstream remote reset, connection failure, connection termination.
const FLAGS_FAILED: u64 = 0x4 | 0x8 | 0x10 | 0x20 | 0x40;

/// The one among them that says that there was no connection.
const FLAG_UNREACHABLE: u64 = 0x20;

/// A client that left.
const FLAG_ABANDONED: u64 = 0x4000;

/// Flags of requests that no endpoint is to blame for: no healthy upstream, overflow, and a client
/// that left.
const FLAGS_BLAMELESS: u64 = 0x2 | 0x80 | FLAG_ABANDONED;

impl Outcome {
    /// From the status, if there was one, and Envoy's response flags.
    pub const fn of(status: Option<u16>, flags: u64) -> Self {
        match status {
            Some(..500) => Self::Success,
            None if flags & FLAG_ABANDONED != 0 => Self::Abandoned,
            _ if flags & FLAGS_BLAMELESS != 0 => Self::Neutral,
            _ if flags & FLAG_UNREACHABLE != 0 => Self::Unreachable,
            Some(_) => Self::Failure,
            None if flags & FLAGS_FAILED != 0 => Self::Failure,
            None => Self::Neutral,
        }
    }

    /// The same, once it is known whether an endpoint sent the response at all. A status of 500 and
    /// above without a flag may be the proxy's own: of a filter, or because the VM of one has died,
    /// which ends all requests that are in its hands, whichever endpoints they are at.
    pub fn unless_of_the_proxy(self, flags: u64, is_of_the_proxy: impl FnOnce() -> bool) -> Self {
        match self {
            Self::Failure if flags == 0 && is_of_the_proxy() => Self::Neutral,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_begins_with_something_else_was_edited() {
        let flight = Flight { list: vec!["127.0.0.1:1".parse().unwrap()], ..Flight::default() };
        assert!(!flight.is_edited(Some("127.0.0.1:1,127.0.0.1:2")));
        assert!(flight.is_edited(Some("127.0.0.1:2")) && flight.is_edited(Some("-")));
        assert!(!flight.is_edited(None), "nobody changed it");
    }

    #[test]
    fn attempts_walk_the_list() {
        let list = [1, 2, 3].map(|port| format!("127.0.0.1:{port}").parse().unwrap());
        let flight = Flight { list: list.to_vec(), ..Flight::default() };
        let response = |attempts, served: Endpoint, edited| Response {
            served: Some(served),
            attempts,
            edited,
            outcome: Outcome::Success,
        };
        assert_eq!(flight.failed_before(&response(1, list[0], false)), []);
        assert_eq!(flight.failed_before(&response(3, list[2], false)), list[..2]);
        assert_eq!(flight.failed_before(&response(9, list[0], false)), list[1..]);
        assert_eq!(flight.failed_before(&response(2, list[1], true)), []);
    }

    #[test]
    fn an_endpoint_is_blamed_for_its_own_failures_only() {
        for (status, flags, outcome) in [
            (Some(200), 0, Outcome::Success),
            (Some(499), 0, Outcome::Success),
            (Some(500), 0, Outcome::Failure),
            (Some(503), 0x20 | 0x8000, Outcome::Unreachable),
            (None, 0x20, Outcome::Unreachable),
            (Some(504), 0x4, Outcome::Failure),
            (Some(503), 0x80, Outcome::Neutral),
            (Some(503), 0x2, Outcome::Neutral),
            (None, 0x4000, Outcome::Abandoned),
            (Some(503), 0x4000, Outcome::Neutral),
            (None, 0x10, Outcome::Failure),
            (None, 0, Outcome::Neutral),
        ] {
            assert_eq!(Outcome::of(status, flags), outcome, "{status:?} {flags:#x}");
        }
    }

    #[test]
    fn nobody_is_blamed_for_a_response_that_the_proxy_made() {
        let unless = |flags, is_its| {
            Outcome::of(Some(503), flags).unless_of_the_proxy(flags, move || is_its)
        };
        assert_eq!((unless(0, true), unless(0, false)), (Outcome::Neutral, Outcome::Failure));
        assert_eq!(unless(0x4, true), Outcome::Failure, "it made it because nothing came");
        let good = Outcome::of(Some(200), 0);
        assert_eq!(good.unless_of_the_proxy(0, || panic!("nobody asks")), Outcome::Success);
    }
}
