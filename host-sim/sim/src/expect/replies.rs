//! What clients got.

use super::Seen;
use crate::scenario::expect::{Expect, ReplyExpect, Text, values};
use crate::{Host, Reply, RequestId};
use std::collections::BTreeMap;

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    statuses(expect, seen, failures);
    response_headers(expect, seen, failures);
    if let Some(wanted) = &expect.reply {
        let requests = of(wanted, seen);
        if requests.is_empty() {
            failures.push("reply: expected one, nothing was sent".to_owned());
        }
        // One that differs is told; a thousand would say the same a thousand times.
        let wrong = requests.iter().enumerate().find_map(|(at, id)| {
            let differences = differences(wanted, seen.host, *id);
            (!differences.is_empty()).then_some((at, differences))
        });
        if let Some((at, differences)) = wrong {
            let which = if requests.len() > 1 {
                format!("reply {} of {}", at + 1, requests.len())
            } else {
                "reply".to_owned()
            };
            failures.extend(differences.iter().map(|difference| format!("{which}: {difference}")));
        }
    }
    for (at, wanted) in expect.replies.iter().enumerate() {
        let which = format!("reply {}", at + 1);
        match of(wanted, seen).get(at) {
            None => failures.push(format!("{which}: expected one, only {at} requests were sent")),
            Some(id) => failures.extend(
                differences(wanted, seen.host, *id)
                    .iter()
                    .map(|difference| format!("{which}: {difference}")),
            ),
        }
    }
}

fn of<'a>(wanted: &ReplyExpect, seen: &Seen<'a>) -> &'a [RequestId] {
    match &wanted.of {
        Some(name) => seen.named.get(name).map_or(&[], Vec::as_slice),
        None => seen.sent,
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
        let wrong = replies().find_map(|reply| match reply.header(name) {
            Some(value) if pattern.0.is_match(value) => None,
            other => Some(format!("{other:?} in {} {:?}", reply.status, reply.headers)),
        });
        if let Some(wrong) = wrong {
            failures.push(format!("response header {name}: expected {pattern}, got {wrong}"));
        }
    }
    for name in &expect.no_response_headers {
        if let Some(value) = replies().find_map(|reply| reply.header(name)) {
            failures.push(format!("response header {name}: expected none, got {value:?}"));
        }
    }
}

fn differences(wanted: &ReplyExpect, host: &Host, id: RequestId) -> Vec<String> {
    let mut found = Vec::new();
    let complete = host.is_complete(id);
    if let Some(expected) = wanted.complete.filter(|expected| *expected != complete) {
        found.push(format!("complete: expected {expected}, got {complete}"));
    }
    let none = Reply::none();
    let reply = host.reply(id).unwrap_or(&none);
    if let Some(status) = wanted.status.filter(|status| !status.holds(f64::from(reply.status))) {
        let body = crate::difference::quoted(&reply.body);
        found.push(format!("status: expected {status}, got {} with the body {body}", reply.status));
    }
    fields("header", &wanted.headers, &wanted.no_headers, &reply.headers, &mut found);
    if let Some(why) = wanted.body.as_ref().and_then(|body| body.mismatch(&reply.body)) {
        found.push(format!("body: {why}"));
    }
    fields("trailer", &wanted.trailers, &wanted.no_trailers, &reply.trailers, &mut found);
    if let Some(expected) = wanted.reset.filter(|expected| *expected != reply.reset) {
        found.push(format!("reset: expected {expected}, got {}", reply.reset));
    }
    let milliseconds = reply.latency.as_secs_f64() * 1e3;
    if let Some(expected) = wanted.milliseconds.filter(|wanted| !wanted.holds(milliseconds)) {
        found.push(format!("milliseconds: expected {expected}, got {milliseconds}"));
    }
    found
}

/// What is wrong with headers or trailers.
pub(super) fn fields(
    what: &str,
    wanted: &BTreeMap<String, Text>,
    unwanted: &[String],
    actual: &[(String, String)],
    found: &mut Vec<String>,
) {
    for (name, text) in wanted {
        let own = values(actual, name);
        if own.iter().any(|value| text.mismatch(value.as_bytes()).is_none()) {
            continue;
        }
        found.push(match own.first() {
            Some(first) if own.len() == 1 => {
                let why = text.mismatch(first.as_bytes()).unwrap_or_default();
                format!("{what} {name}: {why}")
            }
            Some(_) => format!("{what} {name}: none of its values fits: {own:?}"),
            None => {
                let names: Vec<_> = actual.iter().map(|(name, _)| name.as_str()).collect();
                format!("{what} {name}: expected one, there are only: {}", names.join(", "))
            }
        });
    }
    for name in unwanted {
        if let Some(value) = values(actual, name).first() {
            found.push(format!("{what} {name}: expected none, got {value:?}"));
        }
    }
}
