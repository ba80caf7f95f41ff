//! Permits of a bulkhead, over all workers.
//!
//! As with token-bucket's limits of concurrency, each worker has one row in a shared table that says
//! how many requests it has under way, and until when its word counts: a worker that dies renews
//! nothing, and its permits come back. The sum of all rows never exceeds the bulkhead. Where that is
//! small ([`EXACT`]), a row is the true number at every moment. Where it is large, a worker reserves
//! a share of what is free at once and gives back with the next tick what it did not use, so that a
//! request seldom costs shared data; until then others may be refused though permits lie idle.

use super::Bulkhead;
use crate::worker::Subject;
use request_key::siphash_2_4;
use shared_state::{Holding, PermitTable, SharedStore, Transition, UnixNanos, update};

/// Bulkheads that are not larger are exact at every moment.
const EXACT: u32 = 64;

/// Tables of one scope: subjects of different ones do not race.
const SHARDS: u64 = 8;

/// What a worker says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve {
    pub(crate) subject: u64,
    pub(crate) owner: u64,
    pub(crate) in_flight: u32,
    pub(crate) rule: Bulkhead,
    pub(crate) now: UnixNanos,
}

pub(super) fn is_exact(rule: &Bulkhead) -> bool {
    rule.max_concurrent <= EXACT
}

/// What a subject is known by in a table. Of a key that is its own hash; names are no secret.
pub(crate) fn fingerprint(subject: &Subject) -> u64 {
    subject.key.unwrap_or_else(|| siphash_2_4([0, 0], subject.name.as_bytes()))
}

/// Reserves one permit more than are under way, or some. Gives how many this worker has reserved
/// then; `None` if that could not be written.
pub(super) fn reserve(
    store: &impl SharedStore,
    plugin: &str,
    scope: &str,
    ask: &Reserve,
) -> Option<u32> {
    write(store, plugin, scope, ask, true)
}

/// Writes down what is under way. Answers whether that succeeded.
pub(super) fn settle(store: &impl SharedStore, plugin: &str, scope: &str, ask: &Reserve) -> bool {
    write(store, plugin, scope, ask, false).is_some()
}

fn write(
    store: &impl SharedStore,
    plugin: &str,
    scope: &str,
    ask: &Reserve,
    wants_more: bool,
) -> Option<u32> {
    let shard = u16::try_from(ask.subject % SHARDS).unwrap_or(0);
    // Apart from the policies of a token-bucket of the same name.
    let key = PermitTable::key(plugin, &format!("bulkhead.{scope}"), shard);
    let done = update(store, &key, |prior| {
        let mut table = prior.unwrap_or_default();
        let now = table.settle(ask.now, ask.rule.lease).now;
        let own = table.held_by(ask.subject, ask.owner);
        let others = table.in_flight(ask.subject).saturating_sub(own);
        let free = ask.rule.max_concurrent.saturating_sub(others.saturating_add(ask.in_flight));
        let share = if is_exact(&ask.rule) { 1 } else { free / 4 };
        let more = if wants_more { share.max(1).min(free) } else { 0 };
        let count = ask.in_flight.saturating_add(more);
        let expires_at = now.plus(ask.rule.lease);
        let row = Holding { fingerprint: ask.subject, owner: ask.owner, count, expires_at };
        if table.put(row) { Transition::Store(table, Some(count)) } else { Transition::Keep(None) }
    });
    done.ok().and_then(|done| done.value)
}
