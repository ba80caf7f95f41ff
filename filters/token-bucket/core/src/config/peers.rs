//! `peers`: how many proxies share a bucket.

use crate::Peers;
use plugin_config::{Fields, Or, Required};

/// `None` if this proxy has it alone.
pub(super) fn peers(policy: &mut Fields<'_>) -> Option<Peers> {
    if !policy.has("peers") {
        return None;
    }
    if policy.has("concurrency") {
        policy.problem_at("peers", "only a bucket can be shared: leave it out");
    }
    let mut fields = policy.object("peers");
    let from_cluster = fields.has("from_cluster").then(|| fields.text("from_cluster", Required));
    let absent = if from_cluster.is_some() { Or(1) } else { Required };
    let count = fields.integer("count", 1..=1_000, absent);
    Some(Peers { count, from_cluster })
}
