//! What the filter asks of a request and of its end, what it decides, and what it keeps in between.

use crate::breaker::Permit;
use crate::destinations::Selection;
use crate::load::{Cause, Ticket};
use crate::worker::Subject;
use core::time::Duration;
use request_key::Attributes;
use shared_state::{Endpoint, UnixNanos};
use std::rc::Rc;

/// The request, as far as the filter asks for it.
///
/// [`Attributes::route`] gives the name of the cluster for a route without one.
pub trait Request: Attributes {
    /// The steering header.
    fn destinations(&self) -> Option<String>;

    /// Endpoints of the cluster.
    fn num_endpoints(&self) -> Option<u32>;

    /// How many of them can be done without, if the filter that steers says so.
    fn spare(&self) -> Option<u32>;
}

/// The end of a request, as far as the filter asks for it.
pub trait Response {
    /// Who served the last attempt.
    fn server(&self) -> Option<Endpoint>;

    /// The cluster that it belongs to.
    fn cluster(&self) -> Option<String>;

    /// Status that the client got.
    fn status(&self) -> Option<u16>;

    /// The response came to its end.
    fn is_complete(&self) -> bool;

    /// `response.flags`.
    fn flags(&self) -> u64;

    /// The response is the endpoint's own.
    fn via_upstream(&self) -> bool;

    /// Status of a gRPC response, be it in headers or trailers.
    fn grpc_status(&self) -> Option<u32>;

    /// How many attempts there were.
    fn attempts(&self) -> u32;

    /// Endpoints of the cluster.
    fn num_endpoints(&self) -> u32;

    /// How long the endpoint asked not to be called.
    fn retry_after(&self) -> Option<Duration>;

    /// How long the endpoint took to answer, or had not answered when the request ended. `None` if
    /// that was surely less than [`Filter::slow_after`](super::Filter::slow_after).
    fn elapsed(&self) -> Option<Duration>;
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A guard rejects it.
    Reject {
        /// Which one, in the order of the configuration.
        guard: usize,
        /// Which breaker is open, or what has too much under way.
        subject: Subject,
        /// Which of both.
        cause: Cause,
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// It passes.
    Pass {
        /// What to do with the steering header.
        steering: Steering,
        /// What was taken out of it, and why not more.
        selection: Selection,
        /// The first guard that is open and only passes, with what is open.
        open: Option<(usize, Subject)>,
        /// It is sent once and not again: it is a probe or one of few, or the budget is spent.
        no_retries: bool,
    },
}

/// What to do with the steering header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Nothing.
    Keep,
    /// Replace its value.
    Replace(String),
    /// Remove it: the cluster's own policy decides.
    Remove,
}

/// A request that was sent, until it ends.
#[derive(Debug)]
pub struct Exchange {
    pub(super) started_at: UnixNanos,
    /// If the host was asked.
    pub(super) cluster: Option<Rc<str>>,
    pub(super) destinations: Vec<Endpoint>,
    pub(super) probe: Option<(Endpoint, Permit)>,
    pub(super) held: Vec<Held>,
}

/// A guard that let a request pass.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) guard: usize,
    pub(super) subject: Subject,
    pub(super) permit: Option<Permit>,
    pub(super) ticket: Option<Ticket>,
}

impl Exchange {
    /// True if the request may have been tried elsewhere before `server` got it. Most requests are
    /// served by the first endpoint of their list, and need no question to the host.
    pub fn was_retried(&self, server: Option<Endpoint>) -> bool {
        self.destinations.first().is_some_and(|first| Some(*first) != server)
    }

    /// The endpoint that this request probes.
    pub fn probed(&self) -> Option<Endpoint> {
        self.probe.map(|(endpoint, _)| endpoint)
    }

    /// When it was let pass, to within the age of [`Clock::recent`].
    pub fn started_at(&self) -> UnixNanos {
        self.started_at
    }

    pub(super) fn has_permit(&self) -> bool {
        self.probe.is_some() || self.held.iter().any(|held| held.permit.is_some())
    }
}
