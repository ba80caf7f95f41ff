//! The configuration: Envoy's field names, and a default for all that has a sensible one.

mod capacity;
mod concurrency;
mod fair_share;
mod limit;
mod peers;
mod read;
#[cfg(test)]
mod readme;
mod reply;
mod rules;

use crate::global::Global;
use crate::{Attributes, Capacity, Cost, KeyPart, Limit, Match, Peers, Settle};
use core::time::Duration;
use plugin_config::{Parsed, Problems};
use request_key::siphash_2_4;
use shared_state::{Key, SlotTable};

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
}

/// Which responses tell of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TellLimits {
    /// All. One that passed costs four hostcalls more: the origin may have limits of its own.
    Always,
    /// Answers to refused requests, where it costs none.
    #[default]
    Refused,
    /// None.
    Never,
}

/// What happens to a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Longest that a worker keeps tokens that it has drawn ahead; zero for none.
    pub lease_time: Duration,
    /// Most requests that one worker holds.
    pub max_held: usize,
    /// Slots of one table, 4 to [`MAX_SLOTS`].
    pub slots_per_shard: usize,
    /// How a refusal is answered.
    pub reply: ReplyConfig,
    /// Which responses carry `RateLimit-Policy` and `RateLimit`.
    pub ratelimit_headers: TellLimits,
    /// Whether they carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    pub x_ratelimit_headers: bool,
    /// What is worth a warning, though it is no mistake. For the log, once.
    pub notes: Vec<String>,
}

/// The answer to a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyConfig {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Status for gRPC.
    pub grpc_status: GrpcStatus,
    /// Body; for gRPC the message.
    pub body: String,
    /// Whether the body is wrapped in problem details.
    pub problem_details: bool,
    /// Further headers: names and values.
    pub headers: Vec<(String, String)>,
    /// Whether it carries `Retry-After`.
    pub retry_after: bool,
    /// How much is drawn on top of the wait, in percent of it and at least a second; 0 is nothing.
    pub retry_after_jitter_percent: u8,
}

/// What a gRPC client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// Many clients do not retry it.
    ResourceExhausted = 8,
    /// Many clients retry it, as Envoy's own local rate limiter answers.
    Unavailable = 14,
}

/// One limit.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Label `policy` of the metrics, and the name in the headers.
    pub name: String,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
    /// For so many requests in a hundred it exists; 100 unless it is tried out.
    pub enabled_percent: u8,
    /// For so many requests in a hundred it is enforced, else it is in shadow mode; 100 as well.
    pub enforced_percent: u8,
    /// What requests it applies to.
    pub applies: Match,
    /// What it counts by; empty for one bucket over all.
    pub parts: Vec<KeyPart>,
    /// When a part has no value.
    pub on_missing_key: OnMissingKey,
    /// What its rate follows; only for buckets.
    pub capacity: Option<Capacity>,
    /// The proxies that share it.
    pub peers: Option<Peers>,
    /// What it limits by.
    pub limit: Limit,
    /// What a request takes.
    pub cost: Cost,
    /// How that is corrected by the response.
    pub settle: Option<Settle>,
    /// Its item in `RateLimit-Policy`.
    pub declaration: String,
    /// The service that is asked besides.
    pub global: Option<Global>,
    /// Requests that it admits at once: the burst, or those in flight.
    pub most_at_once: u32,
    /// Where its tables are.
    pub shards: Shards,
}

impl Policy {
    /// How the policy at this index stands to a request. Each policy has a draw of its own: whether
    /// one is tried out on a request says nothing of the others.
    pub(crate) fn mode_for(&self, at: usize, request: &impl Attributes) -> Mode {
        let is_drawn = |percent: u8, purpose: u8| {
            percent >= 100 || {
                let draw = siphash_2_4([request.draw(), at as u64], &[purpose]);
                draw.checked_rem(100).unwrap_or(0) < u64::from(percent)
            }
        };
        if !is_drawn(self.enabled_percent, 0) {
            Mode::Off
        } else if self.shadow || !is_drawn(self.enforced_percent, 1) {
            Mode::Shadow
        } else {
            Mode::Enforce
        }
    }
}

/// The tables of a policy; at least one. Their keys are written when they are needed: there may be
/// thousands, of which a worker touches a few at a time.
#[derive(Clone, Debug)]
pub struct Shards {
    plugin: String,
    policy: String,
    count: u16,
}

impl Shards {
    fn new(plugin: &str, policy: &str, count: u16) -> Self {
        Self { plugin: plugin.to_owned(), policy: policy.to_owned(), count }
    }

    /// How many.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The table that holds the bucket with this fingerprint.
    pub fn of(&self, fingerprint: u64) -> Key<SlotTable> {
        // A remainder of a u16 is one.
        let shard = fingerprint.checked_rem(self.count.into()).unwrap_or(0) as u16;
        SlotTable::key(&self.plugin, &self.policy, shard)
    }
}

impl Config {
    /// Reads the configuration, or tells all that is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Parsed<Self>, Problems> {
        plugin_config::read(bytes, read::config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gcra;

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
        assert_eq!(config.ratelimit_headers, TellLimits::Refused);
        let policy = &config.policies[0];
        assert_eq!((policy.shadow, policy.on_missing_key), (false, OnMissingKey::Shared));
        let bucket = Gcra::new(5, 1, core::time::Duration::from_secs(1)).unwrap();
        assert_eq!(policy.limit, Limit::Bucket(bucket));
        for fingerprint in 0..9 {
            let key = policy.shards.of(fingerprint);
            assert_eq!(
                key.as_str(),
                "weir/2/bucket/token_bucket/p/0",
                "one bucket needs one shard"
            );
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
            .map(|policy| {
                (policy.name.as_str(), policy.shards.of(15).as_str().to_owned(), policy.shadow)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a", "weir/2/bucket/token_bucket/a/7".to_owned(), false),
                ("b", "weir/2/bucket/token_bucket/b/7".to_owned(), true),
                ("d", "weir/2/bucket/token_bucket/d/0".to_owned(), false),
            ]
        );
    }

    #[test]
    fn a_rate_is_written_in_either_way() {
        let first = |json: &str| {
            config(&format!(r#"{{"policies":[{{"name":"p",{json}}}]}}"#)).policies.remove(0)
        };
        for (envoys, short) in [
            (
                r#""token_bucket":{"max_tokens":20,"tokens_per_fill":10,"fill_interval":"1s"}"#,
                r#""gcra":{"rate":10,"burst":20}"#,
            ),
            (
                r#""token_bucket":{"max_tokens":10,"tokens_per_fill":10,"fill_interval":"60s"}"#,
                r#""gcra":{"rate":10,"per":"60s"}"#,
            ),
            (
                r#""token_bucket":{"max_tokens":1,"tokens_per_fill":1,"fill_interval":"0.000001s"}"#,
                r#""gcra":{"rate":1000000,"burst":1}"#,
            ),
        ] {
            let (envoys, short) = (first(envoys), first(short));
            assert_eq!(envoys.limit, short.limit);
            assert_eq!(envoys.declaration, short.declaration);
        }
    }

    #[test]
    fn a_policy_is_tried_out_on_so_many_requests_in_a_hundred() {
        use crate::testing::{Request, policy};
        let policy =
            policy(r#"{"name":"p","enabled_percent":50,"enforced_percent":20,"gcra":{"rate":1}}"#);
        let mut counts = [0_u32; 3];
        for draw in 0..10_000 {
            let mode = policy.mode_for(3, &Request::default().draw(draw));
            assert_eq!(mode, policy.mode_for(3, &Request::default().draw(draw)), "the same draw");
            counts[mode as usize] += 1;
        }
        let [enforced, shadow, off] = counts;
        assert!((4_800..5_200).contains(&off), "{counts:?}");
        assert!((3_800..4_200).contains(&shadow), "{counts:?}");
        assert!((900..1_100).contains(&enforced), "{counts:?}");
    }

    #[test]
    fn by_default_every_request_is_limited_in_earnest() {
        use crate::testing::{Request, policy};
        let default = policy(r#"{"name":"p","gcra":{"rate":1}}"#);
        let never = policy(r#"{"name":"p","enabled_percent":0,"gcra":{"rate":1}}"#);
        let shadow = policy(r#"{"name":"p","enforced_percent":0,"gcra":{"rate":1}}"#);
        for draw in (0..1000).map(|draw| draw << 54 | draw) {
            let request = Request::default().draw(draw);
            assert_eq!(default.mode_for(0, &request), Mode::Enforce);
            assert_eq!(never.mode_for(0, &request), Mode::Off);
            assert_eq!(shadow.mode_for(0, &request), Mode::Shadow);
        }
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
                 "token_bucket":{"max_tokens":2,"tokens_per_fill":3,"fill_interval":"0.0000005s"}},
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
