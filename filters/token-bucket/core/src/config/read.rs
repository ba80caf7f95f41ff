//! The document: every field with its range and its default, and the rules between fields.

use super::capacity::capacity;
use super::limit::{Limited, cost, limit, settle};
use super::peers::peers;
use super::reply::reply;
use super::rules::matches;
use super::{Config, FailureMode, Mode, OnFull, OnMissingKey, Policy, Shards, TellLimits};
use crate::KeyPart;
use crate::global::Global;
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Required};
use shared_state::MAX_SLOTS;

/// Most policies of one plugin. Each costs a read and a write of shared data on every request.
const MAX_POLICIES: usize = 32;

/// Most tables of a policy: with 64 slots each room for two million buckets. Each that was ever used
/// stays in shared data as a key and an empty record, about 180 bytes.
const MAX_SHARDS: u16 = 32_768;

/// How long a request is held. Clients wait seldom longer than a minute.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// How long a worker keeps what it has drawn ahead: beyond a second it would be tokens that nobody
/// else can use for no gain.
const LEASE_TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

impl Choice for FailureMode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("allow", Self::Allow), ("deny", Self::Deny)];
}

impl Choice for TellLimits {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("always", Self::Always), ("refused", Self::Refused), ("never", Self::Never)];
}

impl Choice for OnMissingKey {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("skip", Self::Skip), ("deny", Self::Deny)];
}

impl Choice for OnFull {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("share", Self::Share), ("deny", Self::Deny), ("allow", Self::Allow)];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let name = fields.name("name", Or("token_bucket"));
    let mode = fields.choice("mode", Mode::Enforce);
    let on_contention = fields.choice("on_contention", FailureMode::Deny);
    let failure_mode = fields.choice("failure_mode", FailureMode::Allow);
    let ratelimit_headers = fields.choice("ratelimit_headers", TellLimits::Refused);
    let x_ratelimit_headers = fields.flag("x_ratelimit_headers", false);
    let reply = reply(&mut fields);
    let Store { shards, slots_per_shard, on_full, lease_time } = store(fields.object("store"));
    let hops = fields
        .has("xff_trusted_hops")
        .then(|| fields.integer("xff_trusted_hops", 0..=u8::MAX, Required));
    let max_held: u32 = fields.integer("max_held", 1..=65_536, Or(1_024));
    let policies = policies(&mut fields, &name, shards, hops);
    Config {
        notes: notes(&policies),
        name,
        mode,
        policies,
        on_contention,
        failure_mode,
        on_full,
        lease_time,
        max_held: max_held as usize,
        slots_per_shard,
        reply,
        ratelimit_headers,
        x_ratelimit_headers,
    }
}

struct Store {
    shards: u16,
    slots_per_shard: usize,
    on_full: OnFull,
    lease_time: Duration,
}

fn store(mut fields: Fields<'_>) -> Store {
    let shards = fields.integer("shards", 1..=MAX_SHARDS, Or(64));
    let slots_per_shard: u16 = fields.integer("slots_per_shard", 4..=MAX_SLOTS, Or(64));
    Store {
        shards,
        slots_per_shard: slots_per_shard.into(),
        on_full: fields.choice("on_full", OnFull::Share),
        lease_time: fields.duration("lease_time", LEASE_TIMES, Or(Duration::from_millis(50))),
    }
}

/// What an operator should know who counts by something that anybody can write.
fn notes(policies: &[Policy]) -> Vec<String> {
    let mut notes = Vec::new();
    for policy in policies {
        for part in &policy.parts {
            if let KeyPart::Claim(claim) = part {
                notes.push(format!(
                    "policy '{}' counts by the claim '{claim}' of tokens that it does not verify: \
                     anybody can write one; put envoy.filters.http.jwt_authn in front",
                    policy.name
                ));
            }
        }
    }
    notes
}

fn policies(fields: &mut Fields<'_>, plugin: &str, shards: u16, hops: Option<u8>) -> Vec<Policy> {
    let count = fields.count("policies");
    fields.require("policies", count != Some(0), "nothing is limited: name at least one policy");
    if let Some(count) = count.filter(|count| *count > MAX_POLICIES) {
        let message = format!("{count} policies are too many: the limit is {MAX_POLICIES}");
        fields.problem_at("policies", message);
    }
    fields.unique("policies", "name");
    let policies = fields.each("policies", |_, fields| policy(fields, plugin, shards, hops));
    let mut policies: Vec<Policy> = policies.into_iter().flatten().collect();
    if fields.is_clean() {
        super::fair_share::resolve(fields, &mut policies);
    }
    policies
}

/// `None` for a policy that is off or wrong.
fn policy(mut fields: Fields<'_>, plugin: &str, shards: u16, hops: Option<u8>) -> Option<Policy> {
    let name = fields.name("name", Required);
    let mode = fields.choice("mode", Mode::Enforce);
    let parts = key(&mut fields, hops);
    let applies = matches(&mut fields);
    let on_missing_key = fields.choice("on_missing_key", OnMissingKey::Shared);
    let max_wait = fields.duration("max_wait", WAITS, Or(Duration::ZERO));
    let capacity = capacity(&mut fields);
    let peers = peers(&mut fields);
    let global = fields.has("global").then(|| Global::read(fields.object("global"), hops));
    let enabled_percent = fields.integer("enabled_percent", 0..=100, Or(100));
    let enforced_percent = fields.integer("enforced_percent", 0..=100, Or(100));
    let settle = settle(&mut fields);
    let limited = limit(&mut fields, &name);
    let cost = cost(&mut fields, limited.as_ref().map_or(u32::MAX, |limited| limited.most));
    let Limited { limit, declaration, most_at_once, .. } = limited?;
    let max_debt = settle.as_ref().map_or(0, |settle| settle.max_debt);
    let Some(limit) = limit.with_max_debt(max_debt) else {
        fields.problem_at("settle", "paying back this debt takes longer than 146 years: lower it");
        return None;
    };
    let Some(limit) = limit.with_max_wait(max_wait) else {
        fields.problem_at("max_wait", "only a bucket knows how long to wait: leave it out");
        return None;
    };
    let policy = Policy {
        shadow: mode == Mode::Shadow,
        enabled_percent,
        enforced_percent,
        cost,
        settle,
        applies,
        on_missing_key,
        limit,
        capacity,
        peers,
        declaration,
        global,
        most_at_once,
        shards: Shards::new(plugin, &name, if parts.is_empty() { 1 } else { shards }),
        parts,
        name,
    };
    (mode != Mode::Off).then_some(policy)
}

/// A list of parts, or the only one. `[]`, `"none"` and nothing are one bucket over all.
fn key(fields: &mut Fields<'_>, hops: Option<u8>) -> Vec<KeyPart> {
    let count = fields.count("key");
    fields.require("key", count <= Some(8), "more than 8 parts: leave some out");
    let mut parts = Vec::new();
    fields.one_or_many("key", &[], &mut |name| match KeyPart::parse(name, hops) {
        _ if name == "none" && count <= Some(1) => Ok(()),
        Ok(part) if parts.contains(&part) => Err(format!("'{name}' stands twice: keep one")),
        Ok(part) => {
            parts.push(part);
            Ok(())
        }
        Err(message) => Err(message),
    });
    parts
}
