//! What endpoints received.

use super::replies::fields;
use super::{Seen, compare};
use crate::Received;
use crate::scenario::expect::{Expect, UpstreamExpect, values};
use crate::scenario::value::Quantity;
use std::net::SocketAddr;

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    for name in &expect.no_request_headers {
        let found = seen.endpoints.iter().find(|endpoint| {
            let requests = seen.host.received(**endpoint);
            requests.iter().any(|request| !values(&request.headers, name).is_empty())
        });
        if let Some(endpoint) = found {
            failures.push(format!("request header {name}: expected none, {endpoint} received one"));
        }
    }
    for wanted in &expect.upstream {
        let requests: Vec<(SocketAddr, &Received)> = seen
            .endpoints
            .iter()
            .filter(|endpoint| wanted.endpoint.is_none_or(|own| own == **endpoint))
            .flat_map(|endpoint| {
                let before = seen.before.received.get(endpoint).copied().unwrap_or(0);
                let requests = seen.host.received(*endpoint).iter().skip(before);
                requests.map(|request| (*endpoint, request))
            })
            .collect();
        let fits =
            |(_, request): &&(SocketAddr, &Received)| differences(wanted, request).is_empty();
        let count = requests.iter().filter(fits).count();
        let quantity = wanted.count.unwrap_or(Quantity::AtLeast(1.0));
        if quantity.holds(count as f64) {
            continue;
        }
        let what = format!("requests like {}", describe(wanted));
        compare(&what, quantity, count as f64, failures);
        // The one that comes closest tells more than the number.
        let closest = requests.iter().map(|(endpoint, request)| {
            let differences = differences(wanted, request);
            (differences.len(), *endpoint, request.path.as_str(), differences)
        });
        if let (0, Some((_, endpoint, path, differences))) = (count, closest.min()) {
            for difference in differences {
                failures.push(format!("  closest, {path} at {endpoint}: {difference}"));
            }
        }
    }
}

fn describe(wanted: &UpstreamExpect) -> String {
    let mut parts = Vec::new();
    if let Some(endpoint) = wanted.endpoint {
        parts.push(endpoint.to_string());
    }
    let named = [("method", &wanted.method), ("path", &wanted.path), ("body", &wanted.body)];
    parts.extend(
        named.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| (*name).to_owned()),
    );
    parts.extend(wanted.headers.keys().chain(wanted.trailers.keys()).cloned());
    parts.extend(wanted.no_headers.iter().map(|name| format!("no {name}")));
    format!("[{}]", parts.join(", "))
}

fn differences(wanted: &UpstreamExpect, request: &Received) -> Vec<String> {
    let mut found = Vec::new();
    let method = values(&request.headers, ":method").first().copied().unwrap_or_default();
    let texts = [
        ("method", &wanted.method, method.as_bytes()),
        ("path", &wanted.path, request.path.as_bytes()),
        ("body", &wanted.body, request.body.as_slice()),
    ];
    for (what, text, actual) in texts {
        if let Some(why) = text.as_ref().and_then(|text| text.mismatch(actual)) {
            found.push(format!("{what}: {why}"));
        }
    }
    fields("header", &wanted.headers, &wanted.no_headers, &request.headers, &mut found);
    fields("trailer", &wanted.trailers, &[], &request.trailers, &mut found);
    found
}
