//! What plugins did: calls, callbacks, hostcalls, and what it cost.

use super::replies::fields;
use super::{Seen, compare};
use crate::fault;
use crate::scenario::expect::{CallExpect, Expect};
use crate::scenario::value::Quantity;
use crate::watch::{Call, Ran};

/// Callbacks quoted in a failure.
const QUOTED: usize = 30;

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    let since = &seen.before.mark;
    calls(expect, seen, failures);
    for (name, wanted) in &expect.hostcalls {
        let own = Some(name.as_str()).filter(|name| *name != "any");
        let count = seen.watch.hostcalls(since, own) as f64;
        compare(&format!("hostcalls {name}"), *wanted, count, failures);
    }
    if seen.watch.overflow() {
        let text = "more callbacks or calls in one step than are kept: expect in smaller steps";
        failures.push(text.to_owned());
    }
    let ran = seen.watch.callbacks();
    for (name, wanted) in &expect.callbacks {
        let count = ran.iter().filter(|ran| ran.name == name).count();
        compare(&format!("callbacks {name}"), *wanted, count as f64, failures);
    }
    order(&expect.callback_order, &ran, failures);
    if let Some(wanted) = expect.traps {
        let traps: Vec<_> = ran.iter().filter(|ran| ran.trapped).collect();
        if !wanted.holds(traps.len() as f64) {
            let names: Vec<_> =
                traps.iter().map(|ran| format!("{}: {}", ran.plugin, ran.name)).collect();
            let names = names.join(", ");
            failures.push(format!("traps: expected {wanted}, got {} ({names})", traps.len()));
        }
    }
    if let Some(wanted) = expect.faults_struck {
        compare("faults that struck", wanted, seen.faults.hits() as f64, failures);
        for waiting in seen.faults.waiting() {
            if !wanted.holds(seen.faults.hits() as f64) {
                failures.push(format!("  did not strike: {waiting}"));
            }
        }
    }
    costs(expect, seen, &ran, failures);
}

fn costs(expect: &Expect, seen: &Seen<'_>, ran: &[Ran], failures: &mut Vec<String>) {
    if let Some(wanted) = expect.fuel {
        // A VM made anew counts from 0.
        let fuel = seen.host.fuel_consumed().saturating_sub(seen.before.fuel);
        compare("fuel", wanted, fuel as f64, failures);
    }
    if let Some(wanted) = expect.fuel_per_callback
        && let Some(most) = ran.iter().max_by_key(|ran| ran.fuel)
        && !wanted.holds(most.fuel as f64)
    {
        failures.push(format!(
            "fuel per callback: expected {wanted}, got {} in {} of {}",
            most.fuel, most.name, most.plugin
        ));
    }
    let memory = seen.host.memory_bytes();
    if let Some(wanted) = expect.memory {
        compare("memory", wanted, memory as f64, failures);
    }
    if let Some(wanted) = expect.memory_growth {
        let growth = memory as f64 - seen.before.memory as f64;
        compare("memory growth", wanted, growth, failures);
    }
}

fn order(wanted: &[String], ran: &[Ran], failures: &mut Vec<String>) {
    let mut rest = ran.iter();
    for (at, text) in wanted.iter().enumerate() {
        let (plugin, name) = match text.rsplit_once(':') {
            Some((plugin, name)) => (Some(plugin.trim()), name.trim()),
            None => (None, text.as_str()),
        };
        let fits = |ran: &Ran| ran.name == name && plugin.is_none_or(|plugin| plugin == ran.plugin);
        if !rest.any(fits) {
            let names: Vec<_> = ran
                .iter()
                .take(QUOTED)
                .map(|ran| format!("{}: {}", ran.plugin, ran.name))
                .collect();
            failures.push(format!(
                "callback order: number {} ({text}) did not come after those before it; what ran:\n    {}",
                at + 1,
                names.join("\n    ")
            ));
            return;
        }
    }
}

fn calls(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    if expect.calls.is_empty() {
        return;
    }
    let made = seen.watch.calls();
    for wanted in &expect.calls {
        let candidates = made.iter().filter(|call| {
            wanted.kind.is_none_or(|kind| kind == call.kind)
                && wanted.plugin.as_ref().is_none_or(|plugin| *plugin == call.plugin)
        });
        let told: Vec<_> = candidates.map(|call| differences(wanted, call)).collect();
        let count = told.iter().filter(|differences| differences.is_empty()).count();
        let quantity = wanted.count.unwrap_or(Quantity::AtLeast(1.0));
        if quantity.holds(count as f64) {
            continue;
        }
        let kind = wanted.kind.map(|kind| format!("{kind:?} ")).unwrap_or_default();
        failures.push(format!(
            "{kind}calls that fit: expected {quantity}, got {count} of {} made",
            made.len()
        ));
        if let (0, Some(closest)) = (count, told.into_iter().min_by_key(Vec::len)) {
            failures.extend(closest.into_iter().map(|told| format!("  closest: {told}")));
        }
    }
}

fn differences(wanted: &CallExpect, call: &Call) -> Vec<String> {
    let mut found = Vec::new();
    let texts = [
        ("cluster", &wanted.cluster, &call.cluster),
        ("service", &wanted.service, &call.service),
        ("method", &wanted.method, &call.method),
        ("body", &wanted.body, &call.body),
    ];
    for (what, text, actual) in texts {
        if let Some(why) = text.as_ref().and_then(|text| text.mismatch(actual)) {
            found.push(format!("{what}: {why}"));
        }
    }
    fields("header", &wanted.headers, &[], &call.headers, &mut found);
    if let Some(name) = &wanted.answered {
        let status = fault::status_named(name);
        if status != call.answered {
            found.push(format!("answered: expected {status:?}, got {:?}", call.answered));
        }
    }
    found
}
