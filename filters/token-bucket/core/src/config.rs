//! The configuration: Envoy's field names, and a default for all that has a sensible one.

use crate::{Attributes, Gcra, KeyPart, fields};
use core::fmt;
use core::ops::RangeInclusive;
use plugin_config::{Check, Parsed, Problems, Span};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use shared_state::{Key, MAX_SLOTS, SlotTable};

/// Most policies of one plugin. Each costs a read and a write of shared data on every request.
const MAX_POLICIES: usize = 32;

/// Shortest time of a token, in ns: a bucket gives at most a million tokens a second.
const MIN_TOKEN_NS: u128 = 1_000;

/// Times between fills: below a millisecond the wall clock itself is no better than a guess.
const FILL_INTERVALS: RangeInclusive<Span> = Span::from_millis(1)..=Span::from_secs(86_400);

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decide, count and act.
    #[default]
    Enforce,
    /// Decide and count.
    Shadow,
    /// Nothing.
    Off,
}

/// What happens to a request when the limiter cannot decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
}

/// What happens to a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingKey {
    /// All such requests share one bucket.
    #[default]
    Shared,
    /// The policy does not apply to it.
    Skip,
    /// It is refused.
    Deny,
}

/// What happens to a key that finds no free slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It shares one bucket with all such keys of its shard.
    #[default]
    Share,
    /// It is refused until a slot comes free.
    Deny,
    /// It passes, uncounted.
    Allow,
}

/// A configuration that cannot be wrong.
#[derive(Clone, Debug)]
pub struct Config {
    /// Label `plugin` of the metrics, and part of the keys of shared data.
    pub name: String,
    /// Of the whole plugin.
    pub mode: Mode,
    /// What is limited, in order. All must admit a request. None of them is off.
    pub policies: Vec<Policy>,
    /// When every attempt to spend was lost to other workers.
    pub on_contention: FailureMode,
    /// When the host's shared data fails.
    pub failure_mode: FailureMode,
    /// When a table has no free slot.
    pub on_full: OnFull,
    /// Slots of one table, 4 to [`MAX_SLOTS`].
    pub slots_per_shard: usize,
    /// How a refusal is answered.
    pub reply: ReplyConfig,
    /// Whether responses carry `RateLimit-Policy` and `RateLimit`.
    pub ratelimit_headers: bool,
}

/// The answer to a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyConfig {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Body; for gRPC the message.
    pub body: String,
    /// Whether it carries `Retry-After`.
    pub retry_after: bool,
    /// How much is drawn on top of the wait, in percent of it and at least a second; 0 is nothing.
    pub retry_after_jitter_percent: u8,
}

/// One limit.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Label `policy` of the metrics, and the name in the headers.
    pub name: String,
    /// Whether a refusal counts as one.
    pub shadow: bool,
    /// What requests it applies to.
    pub applies: Match,
    /// What it counts by; empty for one bucket over all.
    pub parts: Vec<KeyPart>,
    /// When a part has no value.
    pub on_missing_key: OnMissingKey,
    /// The bucket.
    pub bucket: Gcra,
    /// Its item in `RateLimit-Policy`.
    pub declaration: String,
    /// Where its tables are.
    pub shards: Shards,
}

/// The tables of a policy; at least one.
#[derive(Clone, Debug)]
pub struct Shards {
    first: Key<SlotTable>,
    others: Vec<Key<SlotTable>>,
}

impl Shards {
    fn new(plugin: &str, policy: &str, count: u16) -> Self {
        let key = |shard| SlotTable::key(plugin, policy, shard);
        Self { first: key(0), others: (1..count).map(key).collect() }
    }

    /// The table that holds the bucket with this fingerprint.
    pub fn of(&self, fingerprint: u64) -> &Key<SlotTable> {
        let count = self.others.len().saturating_add(1) as u64;
        let shard = fingerprint.checked_rem(count).unwrap_or(0) as usize;
        shard.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }
}

/// What requests a policy applies to. Nothing named is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Paths.
    pub path: Option<PathMatch>,
    /// Methods; empty for all.
    pub methods: Vec<String>,
}

impl Match {
    /// True if the policy applies to `request`. Reads only what it needs.
    pub(crate) fn to(&self, request: &impl Attributes) -> bool {
        let path = match &self.path {
            None => true,
            Some(PathMatch::Prefix(prefix)) => {
                request.path().is_some_and(|path| path.starts_with(prefix))
            }
            Some(PathMatch::Exact(exact)) => request.path().is_some_and(|path| path == *exact),
        };
        let method = |method| self.methods.contains(&method);
        path && (self.methods.is_empty() || request.method().is_some_and(method))
    }
}

/// Which paths, without their query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Those that begin so.
    Prefix(String),
    /// This one.
    Exact(String),
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    name: String,
    mode: Mode,
    policies: Vec<RawPolicy>,
    store: RawStore,
    on_contention: FailureMode,
    failure_mode: FailureMode,
    status: u16,
    body: String,
    retry_after: bool,
    retry_after_jitter_percent: u8,
    ratelimit_headers: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: "token_bucket".to_owned(),
            mode: Mode::Enforce,
            policies: Vec::new(),
            store: RawStore::default(),
            on_contention: FailureMode::Deny,
            failure_mode: FailureMode::Allow,
            status: 429,
            body: "rate limited".to_owned(),
            retry_after: true,
            retry_after_jitter_percent: 10,
            ratelimit_headers: true,
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    name: String,
    #[serde(default)]
    mode: Mode,
    #[serde(default, rename = "match")]
    applies: RawMatch,
    #[serde(default)]
    key: RawKey,
    #[serde(default)]
    on_missing_key: OnMissingKey,
    token_bucket: RawBucket,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMatch {
    path: Option<RawPath>,
    methods: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPath {
    prefix: Option<String>,
    exact: Option<String>,
}

/// A list of parts, or the only one.
#[derive(Debug, Default)]
struct RawKey(Vec<String>);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = RawKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part of a key, such as \"source.address\", or a list of parts")
            }

            fn visit_str<E: Error>(self, part: &str) -> Result<RawKey, E> {
                Ok(RawKey(vec![part.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<RawKey, A::Error> {
                let mut key = RawKey::default();
                while let Some(part) = parts.next_element()? {
                    key.0.push(part);
                }
                Ok(key)
            }
        }

        deserializer.deserialize_any(Parts)
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBucket {
    max_tokens: u32,
    #[serde(default = "one")]
    tokens_per_fill: u32,
    fill_interval: Span,
}

const fn one() -> u32 {
    1
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    shards: u16,
    slots_per_shard: u16,
    on_full: OnFull,
}

impl Default for RawStore {
    fn default() -> Self {
        Self { shards: 64, slots_per_shard: 64, on_full: OnFull::Share }
    }
}

impl Config {
    /// Reads the configuration, or tells all that is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Parsed<Self>, Problems> {
        let Parsed { value, hash } = plugin_config::parse::<Raw>(bytes)?;
        Ok(Parsed { value: validate(value)?, hash })
    }
}

fn validate(raw: Raw) -> Result<Config, Problems> {
    let mut check = Check::new();
    check.name("name", &raw.name);
    check.range("status", raw.status, 400..=599);
    check.range("retry_after_jitter_percent", raw.retry_after_jitter_percent, 0..=100);
    check.at("store", |check| {
        check.range("shards", raw.store.shards, 1..=256);
        check.range("slots_per_shard", raw.store.slots_per_shard, 4..=MAX_SLOTS);
    });
    let policies = check.at("policies", |check| {
        let count = raw.policies.len();
        check.require(count > 0, "nothing is limited: name at least one policy");
        let many = format!("{count} policies are too many: the limit is {MAX_POLICIES}");
        check.require(count <= MAX_POLICIES, many);
        check.unique("name", raw.policies.iter().map(|policy| policy.name.as_str()));
        let mut policies = Vec::new();
        for (at, policy) in raw.policies.into_iter().enumerate() {
            policies.extend(
                check.at(at, |check| validate_policy(check, policy, &raw.name, raw.store.shards)),
            );
        }
        policies
    });
    check.finish(Config {
        name: raw.name,
        mode: raw.mode,
        policies,
        on_contention: raw.on_contention,
        failure_mode: raw.failure_mode,
        on_full: raw.store.on_full,
        slots_per_shard: usize::from(raw.store.slots_per_shard),
        reply: ReplyConfig {
            status: raw.status,
            body: raw.body,
            retry_after: raw.retry_after,
            retry_after_jitter_percent: raw.retry_after_jitter_percent,
        },
        ratelimit_headers: raw.ratelimit_headers,
    })
}

/// `None` for a policy that is off or wrong.
fn validate_policy(check: &mut Check, raw: RawPolicy, plugin: &str, shards: u16) -> Option<Policy> {
    check.name("name", &raw.name);
    let parts = validate_key(check, raw.key);
    let applies = validate_match(check, raw.applies);
    let RawBucket { max_tokens, tokens_per_fill, fill_interval } = raw.token_bucket;
    let bucket = check.at("token_bucket", |check| validate_bucket(check, &raw.token_bucket))?;
    let shards = if parts.is_empty() { 1 } else { shards };
    let policy = Policy {
        shadow: raw.mode == Mode::Shadow,
        applies,
        on_missing_key: raw.on_missing_key,
        bucket,
        declaration: fields::declaration(&raw.name, max_tokens, tokens_per_fill, fill_interval.0),
        shards: Shards::new(plugin, &raw.name, shards),
        name: raw.name,
        parts,
    };
    (raw.mode != Mode::Off).then_some(policy)
}

/// `[]`, `"none"` and nothing are one bucket over all.
fn validate_key(check: &mut Check, RawKey(names): RawKey) -> Vec<KeyPart> {
    if names == ["none"] {
        return Vec::new();
    }
    check.at("key", |check| {
        check.require(names.len() <= 8, "more than 8 parts: leave some out");
        let mut parts = Vec::new();
        for (at, name) in names.iter().enumerate() {
            match name.parse() {
                Ok(part) if parts.contains(&part) => {
                    check.at(at, |check| check.problem(format!("'{name}' stands twice")));
                }
                Ok(part) => parts.push(part),
                Err(message) => check.at(at, |check| check.problem(message)),
            }
        }
        parts
    })
}

fn validate_match(check: &mut Check, raw: RawMatch) -> Match {
    check.at("match", |check| {
        let path = raw.path.and_then(|path| check.at("path", |check| validate_path(check, path)));
        check.at("methods", |check| {
            for (at, method) in raw.methods.iter().enumerate() {
                let plain = |b: u8| b.is_ascii_uppercase() || b == b'-';
                if method.is_empty() || !method.bytes().all(plain) {
                    let message = format!("'{method}' is no method: write it as in GET");
                    check.at(at, |check| check.problem(message));
                }
            }
        });
        Match { path, methods: raw.methods }
    })
}

fn validate_path(check: &mut Check, raw: RawPath) -> Option<PathMatch> {
    let path = match (raw.prefix, raw.exact) {
        (Some(path), None) => PathMatch::Prefix(path),
        (None, Some(path)) => PathMatch::Exact(path),
        _ => {
            check.problem("name one of 'prefix' and 'exact'");
            return None;
        }
    };
    let (PathMatch::Prefix(text) | PathMatch::Exact(text)) = &path;
    if !text.starts_with('/') || text.contains('?') {
        check.problem(format!("'{text}' is no path: begin with '/', without a query"));
    }
    Some(path)
}

fn validate_bucket(check: &mut Check, raw: &RawBucket) -> Option<Gcra> {
    check.range("max_tokens", raw.max_tokens, 1..=u32::MAX);
    check.range("tokens_per_fill", raw.tokens_per_fill, 1..=raw.max_tokens.max(1));
    check.range("fill_interval", raw.fill_interval, FILL_INTERVALS);
    let in_range = (1..=raw.max_tokens).contains(&raw.tokens_per_fill)
        && FILL_INTERVALS.contains(&raw.fill_interval);
    if !in_range {
        return None;
    }
    if raw.fill_interval.0.as_nanos() < MIN_TOKEN_NS * u128::from(raw.tokens_per_fill) {
        check.problem("more than 1000000 tokens a second: no bucket is asked as often");
    }
    let bucket = Gcra::new(raw.max_tokens, raw.tokens_per_fill, raw.fill_interval.0);
    check.require(
        bucket.is_some(),
        "filling this bucket takes longer than 146 years: fewer max_tokens or a higher rate",
    );
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        Config::from_json(json.as_bytes()).unwrap_or_else(|problems| panic!("{problems}")).value
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = Config::from_json(json.as_bytes()).unwrap_err().to_string();
        problems.lines().map(str::to_owned).collect()
    }

    fn with_bucket(bucket: &str) -> String {
        format!(r#"{{"policies":[{{"name":"p","token_bucket":{bucket}}}]}}"#)
    }

    #[test]
    fn the_smallest_configuration_has_the_documented_defaults() {
        let config = config(&with_bucket(r#"{"max_tokens":5,"fill_interval":"1s"}"#));
        assert_eq!((config.name.as_str(), config.mode), ("token_bucket", Mode::Enforce));
        assert_eq!(config.on_contention, FailureMode::Deny);
        assert_eq!(config.failure_mode, FailureMode::Allow);
        assert_eq!((config.on_full, config.slots_per_shard), (OnFull::Share, 64));
        assert_eq!((config.reply.status, config.reply.retry_after), (429, true));
        assert!(config.ratelimit_headers);
        let policy = &config.policies[0];
        assert_eq!((policy.shadow, policy.on_missing_key), (false, OnMissingKey::Shared));
        assert_eq!(policy.bucket, Gcra::new(5, 1, core::time::Duration::from_secs(1)).unwrap());
        for fingerprint in 0..9 {
            let key = policy.shards.of(fingerprint).as_str();
            assert_eq!(key, "weir/1/bucket/token_bucket/p/0", "one bucket needs one shard");
        }
    }

    #[test]
    fn a_keyed_policy_has_its_shards_and_one_that_is_off_does_not_exist() {
        let bucket = r#""token_bucket":{"max_tokens":5,"fill_interval":"1s"}"#;
        let config = config(&format!(
            r#"{{"store":{{"shards":8}},"policies":[
                {{"name":"a","key":"source.address",{bucket}}},
                {{"name":"b","key":["path","method"],"mode":"shadow",{bucket}}},
                {{"name":"c","mode":"off",{bucket}}},
                {{"name":"d","key":"none",{bucket}}}]}}"#
        ));
        let found: Vec<_> = config
            .policies
            .iter()
            .map(|policy| (policy.name.as_str(), policy.shards.of(15).as_str(), policy.shadow))
            .collect();
        assert_eq!(
            found,
            [
                ("a", "weir/1/bucket/token_bucket/a/7", false),
                ("b", "weir/1/bucket/token_bucket/b/7", true),
                ("d", "weir/1/bucket/token_bucket/d/0", false),
            ]
        );
    }

    #[test]
    fn nothing_to_limit_is_a_mistake() {
        assert_eq!(problems(""), ["/policies: nothing is limited: name at least one policy"]);
    }

    #[test]
    fn every_range_is_told_with_its_place() {
        let told = problems(
            r#"{"name":"A","status":200,"store":{"shards":0,"slots_per_shard":3},
                "retry_after_jitter_percent":101,"policies":[
                {"name":"p","key":["ip","path","path"],"match":{"path":{"prefix":"api"},"methods":["get"]},
                 "token_bucket":{"max_tokens":2,"tokens_per_fill":3,"fill_interval":"0.0005s"}},
                {"name":"p","token_bucket":{"max_tokens":0,"fill_interval":"1s"}}]}"#,
        );
        let places: Vec<_> = told.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(
            places,
            [
                "/name",
                "/status",
                "/retry_after_jitter_percent",
                "/store/shards",
                "/store/slots_per_shard",
                "/policies/1/name",
                "/policies/0/key/0",
                "/policies/0/key/2",
                "/policies/0/match/path",
                "/policies/0/match/methods/0",
                "/policies/0/token_bucket/tokens_per_fill",
                "/policies/0/token_bucket/fill_interval",
                "/policies/1/token_bucket/max_tokens",
            ]
        );
    }

    #[test]
    fn a_misspelt_field_finds_what_was_meant() {
        let told = problems(&with_bucket(r#"{"max_token":5,"fill_interval":"1s"}"#));
        assert!(told[0].ends_with("did you mean 'max_tokens'?"), "{told:?}");
    }

    #[test]
    fn rates_and_times_that_cannot_be_kept_are_refused() {
        let fast = r#"{"max_tokens":2000000,"tokens_per_fill":1001,"fill_interval":"0.001s"}"#;
        assert!(problems(&with_bucket(fast))[0].contains("1000000 tokens a second"));
        let slow = r#"{"max_tokens":4294967295,"fill_interval":"86400s"}"#;
        assert!(problems(&with_bucket(slow))[0].contains("146 years"));
        config(&with_bucket(
            r#"{"max_tokens":1000,"tokens_per_fill":1000,"fill_interval":"0.001s"}"#,
        ));
    }
}
