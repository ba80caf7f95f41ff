//! The field `global` of a policy: which service is asked, and how.

use crate::{Attributes, FailureMode, KeyPart};
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Fields, Or, Required};

/// Longest name of a cluster. Longer ones cannot be called from a plugin.
const MAX_CLUSTER_BYTES: usize = 125;

/// Most descriptors, and most entries of one.
const MAX_LIST: usize = 8;

/// Longest value that is sent. What is longer is cut, so that all such values share one limit.
const MAX_VALUE_BYTES: usize = 512;

/// The host counts in milliseconds; a request that waits longer than this has lost its client.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

const BATCH_TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// A limit that a rate limit service keeps for the whole fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// The service's cluster.
    pub cluster: String,
    /// The service's name for this proxy's set of limits.
    pub domain: String,
    /// What the service counts by. At least one.
    pub descriptors: Vec<Descriptor>,
    /// How long a request waits for an answer, in whole milliseconds.
    pub timeout: Duration,
    /// What happens to it if none comes.
    pub failure_mode: FailureMode,
    /// Status of the answer if it is refused for that.
    pub status_on_error: u16,
    /// Hits asked for ahead.
    pub batch: Batch,
}

/// How far ahead hits are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Most hits of one question; 1 asks for each request.
    pub max: u32,
    /// How long a hit may wait to be spent.
    pub time: Duration,
}

/// A list of entries that the service looks up as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Literal(String),
    Of(KeyPart),
}

impl Descriptor {
    /// The entries of a request; `None` if one has no value, as then the descriptor does not apply.
    pub(super) fn entries<'a>(
        &'a self,
        request: &impl Attributes,
    ) -> Option<Vec<(&'a str, String)>> {
        let entry = |entry: &'a Entry| {
            let mut value = match &entry.value {
                Value::Literal(text) => text.clone(),
                Value::Of(part) => part.text(request)?,
            };
            value.truncate(value.floor_char_boundary(MAX_VALUE_BYTES));
            Some((entry.key.as_str(), value))
        };
        self.0.iter().map(entry).collect()
    }
}

impl Global {
    /// Reads the object. `hops` is the plugin's `xff_trusted_hops`.
    pub(crate) fn read(mut fields: Fields<'_>, hops: Option<u8>) -> Self {
        let cluster = fields.text("cluster", Required);
        let fits = !fields.is_clean() || (1..=MAX_CLUSTER_BYTES).contains(&cluster.len());
        fields.require(
            "cluster",
            fits,
            "a plugin can call clusters with names of 1 to 125 bytes: shorten it",
        );
        let domain = fields.text("domain", Required);
        let named = !fields.is_clean() || !domain.is_empty();
        fields.require("domain", named, "is empty: write the domain of the service's limits");
        let count = bounded(&mut fields, "descriptors");
        fields.require("descriptors", count, "write 1 to 8 of them: the service counts by them");
        let descriptors = fields.each("descriptors", |_, fields| descriptor(fields, hops));
        let timeout = fields.duration("timeout", TIMEOUTS, Or(Duration::from_millis(20)));
        let failure_mode = fields.choice("failure_mode", FailureMode::Allow);
        let status_on_error = fields.integer("status_on_error", 400..=599, Or(500));
        let batched = fields.has("batch");
        let mut batch = fields.object("batch");
        let max = if batched { Required } else { Or(1) };
        let max = batch.integer("max", 1..=10_000, max);
        let time = batch.duration("time", BATCH_TIMES, Or(Duration::from_millis(100)));
        drop(batch);
        Self {
            cluster,
            domain,
            descriptors,
            timeout,
            failure_mode,
            status_on_error,
            batch: Batch { max, time },
        }
    }
}

fn bounded(fields: &mut Fields<'_>, list: &str) -> bool {
    // What is no list is told where it is read.
    fields.count(list).is_none_or(|count| (1..=MAX_LIST).contains(&count))
}

fn descriptor(mut fields: Fields<'_>, hops: Option<u8>) -> Descriptor {
    let count = bounded(&mut fields, "entries");
    fields.require("entries", count, "write 1 to 8 of them");
    Descriptor(fields.each("entries", |_, fields| entry(fields, hops)))
}

fn entry(mut fields: Fields<'_>, hops: Option<u8>) -> Entry {
    let key = fields.text("key", Required);
    let (has_value, has_from) = (fields.has("value"), fields.has("from"));
    if fields.is_clean() && has_value == has_from {
        fields.problem("name one of 'from', a part of the request, and 'value'");
    }
    let value = if has_from {
        match KeyPart::parse(&fields.text("from", Required), hops) {
            Ok(part) => Value::Of(part),
            Err(message) => {
                fields.problem_at("from", message);
                Value::Literal(String::new())
            }
        }
    } else {
        Value::Literal(fields.text("value", Or("")))
    };
    Entry { key, value }
}
