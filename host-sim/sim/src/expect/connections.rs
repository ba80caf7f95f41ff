//! Connections that carry bytes.

use super::Seen;
use crate::scenario::expect::{Expect, Text};

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    for (name, wanted) in &expect.tcp {
        let connection = seen.connections.get(name).and_then(|id| seen.host.connection(*id));
        let Some(connection) = connection else {
            failures.push(format!("connection {name}: there is none"));
            continue;
        };
        let whose = format!("connection {name}");
        text(&whose, "received", wanted.received.as_ref(), &connection.received, failures);
        flag(&whose, "ended", wanted.ended, connection.ended, failures);
        flag(&whose, "closed", wanted.closed, connection.closed, failures);
        flag(&whose, "reset", wanted.reset, connection.reset, failures);
    }
    for (endpoint, wanted) in &expect.tcp_received {
        let all = seen.host.received_bytes(*endpoint);
        if all.len() != wanted.len() {
            let (expected, got) = (wanted.len(), all.len());
            failures.push(format!("connections at {endpoint}: expected {expected}, got {got}"));
        }
        for (at, (wanted, received)) in wanted.iter().zip(all).enumerate() {
            let whose = format!("connection {} at {endpoint}", at + 1);
            text(&whose, "bytes", wanted.bytes.as_ref(), &received.bytes, failures);
            flag(&whose, "ended", wanted.ended, received.ended, failures);
            flag(&whose, "reset", wanted.reset, received.reset, failures);
        }
    }
}

fn text(whose: &str, what: &str, wanted: Option<&Text>, actual: &[u8], failures: &mut Vec<String>) {
    if let Some(why) = wanted.and_then(|wanted| wanted.mismatch(actual)) {
        failures.push(format!("{whose}: {what}: {why}"));
    }
}

fn flag(whose: &str, what: &str, wanted: Option<bool>, actual: bool, failures: &mut Vec<String>) {
    if let Some(wanted) = wanted.filter(|wanted| *wanted != actual) {
        failures.push(format!("{whose}: {what}: expected {wanted}, got {actual}"));
    }
}
