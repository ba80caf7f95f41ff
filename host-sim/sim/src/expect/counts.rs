//! Numbers: requests received since the last question, metrics, requests under way.

use super::{Seen, compare};
use crate::scenario::expect::Expect;
use crate::scenario::value::Quantity;
use crate::{Host, metric};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How many requests an endpoint had received when it was last asked, for all paths and for one.
#[derive(Debug, Default)]
pub(crate) struct Counted(BTreeMap<(SocketAddr, Option<String>), usize>);

impl Counted {
    /// Begins anew what `expect` asked for.
    pub(crate) fn note(&mut self, expect: &Expect, host: &Host) {
        for (endpoint, path, _) in asked(expect) {
            let count = received(host, endpoint, path);
            self.0.insert((endpoint, path.map(str::to_owned)), count);
        }
    }

    fn since(&self, host: &Host, endpoint: SocketAddr, path: Option<&str>) -> usize {
        let before = self.0.get(&(endpoint, path.map(str::to_owned))).copied().unwrap_or(0);
        received(host, endpoint, path) - before
    }
}

/// Every question about the number of requests.
fn asked(expect: &Expect) -> impl Iterator<Item = (SocketAddr, Option<&str>, Quantity)> {
    let all = expect.received.iter().map(|(endpoint, wanted)| (*endpoint, None, *wanted));
    let by_path = expect.received_by_path.iter().flat_map(|(path, endpoints)| {
        let path = Some(path.as_str());
        endpoints.iter().map(move |(endpoint, wanted)| (*endpoint, path, *wanted))
    });
    all.chain(by_path)
}

fn received(host: &Host, endpoint: SocketAddr, path: Option<&str>) -> usize {
    let requests = host.received(endpoint).iter();
    requests.filter(|request| path.is_none_or(|path| request.path == path)).count()
}

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    for (endpoint, path, wanted) in asked(expect) {
        let count = seen.counted.since(seen.host, endpoint, path);
        let path = path.map(|path| format!("{path} ")).unwrap_or_default();
        compare(&format!("{path}requests received by {endpoint}"), wanted, count as f64, failures);
    }
    for (text, wanted) in &expect.metrics {
        match metric::parse(text) {
            Some((name, labels)) => {
                let actual = seen.host.metric(name, &labels).unwrap_or(0.0);
                compare(text, *wanted, actual, failures);
            }
            None => failures.push(format!("{text}: write name or name{{label=\"value\"}}")),
        }
    }
    if let Some(wanted) = expect.unfinished {
        let unfinished = seen.host.unfinished() as f64;
        compare("requests without a complete response", wanted, unfinished, failures);
    }
}
