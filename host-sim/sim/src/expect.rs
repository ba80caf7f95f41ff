//! Comparing what is with what should be. Every failure says both.

mod connections;
mod counts;
mod data;
mod doings;
mod lines;
mod replies;
mod upstream;

use crate::fault::Injector;
use crate::scenario::expect::Expect;
use crate::scenario::value::Quantity;
use crate::watch::{Mark, Watch};
use crate::{Host, RequestId, TcpId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub(crate) use counts::Counted;

/// What there is to look at.
pub(crate) struct Seen<'a> {
    pub(crate) host: &'a Host,
    /// The requests of this step.
    pub(crate) sent: &'a [RequestId],
    /// Requests of earlier steps by name.
    pub(crate) named: &'a BTreeMap<String, Vec<RequestId>>,
    /// Connections by name.
    pub(crate) connections: &'a BTreeMap<String, TcpId>,
    pub(crate) endpoints: &'a [SocketAddr],
    pub(crate) counted: &'a Counted,
    pub(crate) vm_ids: &'a [String],
    pub(crate) watch: &'a Watch,
    pub(crate) faults: &'a Injector,
    pub(crate) before: &'a Before,
}

/// How things stood when the step began.
#[derive(Debug, Default)]
pub(crate) struct Before {
    pub(crate) mark: Mark,
    pub(crate) received: BTreeMap<SocketAddr, usize>,
    pub(crate) keys: BTreeMap<String, usize>,
    pub(crate) memory: usize,
    pub(crate) fuel: u64,
}

/// What does not hold; nothing if all does.
pub(crate) fn check(expect: &Expect, seen: &Seen<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    replies::check(expect, seen, &mut failures);
    counts::check(expect, seen, &mut failures);
    upstream::check(expect, seen, &mut failures);
    connections::check(expect, seen, &mut failures);
    doings::check(expect, seen, &mut failures);
    data::check(expect, seen, &mut failures);
    lines::check(expect, seen, &mut failures);
    failures
}

fn compare(what: &str, wanted: Quantity, actual: f64, failures: &mut Vec<String>) {
    if !wanted.holds(actual) {
        failures.push(format!("{what}: expected {wanted}, got {actual}"));
    }
}
