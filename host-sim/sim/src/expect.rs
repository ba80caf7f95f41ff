//! Comparing what is with what should be. Every failure says both.

use crate::scenario::{Expect, Quantity};
use crate::{Host, RequestId, metric};
use regex::Regex;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Log lines quoted in a failure.
const QUOTED_LINES: usize = 12;

/// What there is to look at.
pub(crate) struct Seen<'a> {
    pub(crate) host: &'a Host,
    /// The requests of this step.
    pub(crate) sent: &'a [RequestId],
    pub(crate) endpoints: &'a [SocketAddr],
    pub(crate) counted: &'a Counted,
    pub(crate) vm_ids: &'a [String],
}

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

/// What does not hold; nothing if all does.
pub(crate) fn check(expect: &Expect, seen: &Seen<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    statuses(expect, seen, &mut failures);
    response_headers(expect, seen, &mut failures);
    endpoints(expect, seen, &mut failures);
    metrics(expect, seen, &mut failures);
    logs(expect, seen, &mut failures);
    if let Some(wanted) = expect.shared_keys {
        let shared = seen.host.engine().shared_data();
        let keys: usize = seen.vm_ids.iter().map(|vm_id| shared.key_count(vm_id)).sum();
        compare("keys of shared data", wanted, keys as f64, &mut failures);
    }
    failures
}

fn compare(what: &str, wanted: Quantity, actual: f64, failures: &mut Vec<String>) {
    if !wanted.holds(actual) {
        failures.push(format!("{what}: expected {wanted}, got {actual}"));
    }
}

fn statuses(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    if expect.statuses.is_empty() {
        return;
    }
    let mut actual: BTreeMap<u16, usize> = BTreeMap::new();
    for id in seen.sent {
        let status = seen.host.reply(*id).map_or(0, |reply| reply.status);
        *actual.entry(status).or_default() += 1;
    }
    let holds = expect
        .statuses
        .iter()
        .all(|(status, wanted)| wanted.holds(actual.get(status).copied().unwrap_or(0) as f64));
    let others = actual.keys().any(|status| !expect.statuses.contains_key(status));
    if !holds || others {
        let wanted: Vec<_> =
            expect.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        failures.push(format!("statuses: expected {{{}}}, got {actual:?}", wanted.join(", ")));
    }
}

fn response_headers(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    let replies = || seen.sent.iter().filter_map(|id| seen.host.reply(*id));
    for (name, pattern) in &expect.response_headers {
        let Some(pattern) = regex(name, pattern, failures) else { continue };
        let wrong = replies().find_map(|reply| match reply.header(name) {
            Some(value) if pattern.is_match(value) => None,
            other => Some(format!("{other:?} in {} {:?}", reply.status, reply.headers)),
        });
        if let Some(wrong) = wrong {
            failures.push(format!("response header {name}: expected /{pattern}/, got {wrong}"));
        }
    }
    for name in &expect.no_response_headers {
        if let Some(value) = replies().find_map(|reply| reply.header(name)) {
            failures.push(format!("response header {name}: expected none, got {value:?}"));
        }
    }
}

fn endpoints(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    for (endpoint, path, wanted) in asked(expect) {
        let count = seen.counted.since(seen.host, endpoint, path);
        let path = path.map(|path| format!("{path} ")).unwrap_or_default();
        compare(&format!("{path}requests received by {endpoint}"), wanted, count as f64, failures);
    }
    for name in &expect.no_request_headers {
        let found = seen.endpoints.iter().find(|endpoint| {
            let has = |(own, _): &(String, String)| own == name;
            seen.host.received(**endpoint).iter().any(|request| request.headers.iter().any(has))
        });
        if let Some(endpoint) = found {
            failures.push(format!("request header {name}: expected none, {endpoint} received one"));
        }
    }
}

fn metrics(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    for (text, wanted) in &expect.metrics {
        match metric::parse(text) {
            Some((name, labels)) => {
                let actual = seen.host.metric(name, &labels).unwrap_or(0.0);
                compare(text, *wanted, actual, failures);
            }
            None => failures.push(format!("{text}: write name or name{{label=\"value\"}}")),
        }
    }
}

fn logs(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    if expect.log.is_empty() && expect.no_log.is_empty() {
        return;
    }
    let lines = seen.host.log();
    for pattern in &expect.log {
        let Some(pattern) = regex("log", pattern, failures) else { continue };
        if !lines.iter().any(|line| pattern.is_match(line)) {
            let last = lines.len().saturating_sub(QUOTED_LINES);
            failures.push(format!(
                "log: no line matches /{pattern}/; the last {} lines:\n    {}",
                lines.len() - last,
                lines[last..].join("\n    ")
            ));
        }
    }
    for pattern in &expect.no_log {
        let Some(pattern) = regex("no_log", pattern, failures) else { continue };
        if let Some(line) = lines.iter().find(|line| pattern.is_match(line)) {
            failures.push(format!("log: a line matches /{pattern}/: {line}"));
        }
    }
}

fn regex(place: &str, pattern: &str, failures: &mut Vec<String>) -> Option<Regex> {
    match Regex::new(pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            failures.push(format!("{place}: {error}"));
            None
        }
    }
}
