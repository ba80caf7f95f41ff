//! What was counted, as a report.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// What requests cost, and what happened besides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Requests measured.
    pub requests: usize,
    /// Workers they went to.
    pub workers: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Requests a second of virtual time.
    pub rate: u32,
    /// Responses by status; 0 is no response.
    pub statuses: BTreeMap<u16, u64>,
    /// One request through all plugins, downstream and upstream.
    pub per_request: PerRequest,
    /// The request's callbacks, in the order they first ran.
    pub callbacks: Vec<CallbackCost>,
    /// What no request caused.
    pub background: Background,
}

/// What one request costs in the whole chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerRequest {
    /// Instructions of all plugins.
    pub instructions: Instructions,
    /// Hostcalls, mean.
    pub hostcalls: f64,
    /// Of these, by name, most frequent first.
    #[serde(serialize_with = "as_object")]
    pub hostcalls_by_name: Vec<(&'static str, f64)>,
    /// `proxy_get_shared_data`, mean.
    pub shared_data_reads: f64,
    /// `proxy_set_shared_data`, mean: every one is the end of a read-modify-write, or a plain write.
    pub shared_data_writes: f64,
    /// Bytes that hostcalls copied into guests, mean.
    pub bytes_given: f64,
}

/// Instructions of a call or a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Instructions {
    /// Arithmetic mean.
    pub mean: f64,
    /// 99 of 100 take no more.
    pub p99: u64,
}

/// One callback of one plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallbackCost {
    /// Name of the plugin.
    pub plugin: String,
    /// Export of the module.
    pub callback: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// Instructions of a call.
    pub instructions: Instructions,
    /// Hostcalls of a call, mean.
    pub hostcalls: f64,
    /// Of these, by name, most frequent first.
    #[serde(serialize_with = "as_object")]
    pub hostcalls_by_name: Vec<(&'static str, f64)>,
    /// Bytes that hostcalls of a call copied into the guest, mean.
    pub bytes_given: f64,
}

/// What plugins do without a request: ticks, answers to their own calls and the upstream filters
/// of those calls, on all workers and the main thread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Background {
    /// Instructions a second of virtual time.
    pub instructions_per_second: f64,
    /// Hostcalls a second of virtual time.
    pub hostcalls_per_second: f64,
    /// In the order they first ran.
    pub callbacks: Vec<CallbackCost>,
}

fn as_object<S: Serializer>(
    pairs: &[(&'static str, f64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}
