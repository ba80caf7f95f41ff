//! `lb_policy` and `load_balancing_policy`: one type for both spellings.

use crate::reader::{Message, Reader};

/// How a cluster chooses an endpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum LoadBalancingPolicy {
    /// Weighted round robin (default).
    #[default]
    RoundRobin,
    /// Fewest active requests among some, or among all.
    LeastRequest {
        /// How many random hosts compete; at least 2. Default 2.
        choice_count: u32,
        /// With unequal weights: weight / (active + 1)^bias. Default 1.0.
        active_request_bias: f64,
        /// Random choices, or a look at every host. Default N_CHOICES.
        selection_method: SelectionMethod,
    },
    /// Uniform over healthy hosts whatever their weights, as in Envoy.
    Random,
    /// The hosts a request header names, in order; then the fallback policy.
    OverrideHost {
        /// Looked at in order; the first that is present counts.
        sources: Vec<OverrideSource>,
        /// When no named host is left.
        fallback: Box<LoadBalancingPolicy>,
    },
    /// `CLUSTER_PROVIDED`: the cluster itself knows (ORIGINAL_DST).
    ClusterProvided,
}

/// One `override_host_sources` entry. Metadata sources are not simulated: no filter that host-sim
/// runs can set dynamic metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideSource {
    /// A request header, lower case.
    Header(String),
}

/// `LeastRequest.selection_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SelectionMethod {
    /// `choice_count` random hosts compete.
    #[default]
    NChoices,
    /// Every host competes; ties are broken at random.
    FullScan,
}

pub(crate) const LOAD_BALANCING_POLICY: Message<LoadBalancingPolicy> =
    Message { name: "envoy.config.cluster.v3.LoadBalancingPolicy", read: load_balancing_policy };

pub(crate) const LEAST_REQUEST_LB_CONFIG: Message<LoadBalancingPolicy> =
    Message { name: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig", read: least_request };

const POLICY: Message<LoadBalancingPolicy> = Message {
    name: "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
    read: |message| message.required("typed_extension_config", EXTENSION),
};

const EXTENSION: Message<LoadBalancingPolicy> =
    Message { name: "envoy.config.core.v3.TypedExtensionConfig", read: extension };

const ROUND_ROBIN: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    read: |_| Some(LoadBalancingPolicy::RoundRobin),
};

const LEAST_REQUEST: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    read: least_request_extension,
};

const RANDOM: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.random.v3.Random",
    read: |_| Some(LoadBalancingPolicy::Random),
};

const CLUSTER_PROVIDED: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided",
    read: |_| Some(LoadBalancingPolicy::ClusterProvided),
};

const OVERRIDE_HOST: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
    read: override_host,
};

const CLIENT_SIDE_WEIGHTED: Message<LoadBalancingPolicy> = Message {
    name: "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.\
           ClientSideWeightedRoundRobin",
    read: |message| {
        message.accept_all();
        message.problem("client_side_weighted_round_robin is not simulated by host-sim yet");
        None
    },
};

const OVERRIDE_SOURCE: Message<OverrideSource> = Message {
    name: "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.\
           OverrideHostSource",
    read: |message| {
        message.one_of(&["header", "metadata"], true);
        message.header_name("header").map(OverrideSource::Header)
    },
};

const RUNTIME_DOUBLE: Message<f64> = Message {
    name: "envoy.config.core.v3.RuntimeDouble",
    read: |message| {
        // host-sim has no runtime layers: the key finds nothing, the default holds.
        message.accept(&["runtime_key"]);
        Some(message.number("default_value", 0.0..=f64::MAX).unwrap_or(0.0))
    },
};

/// Envoy takes the first policy it knows; host-sim must know all that are listed.
fn load_balancing_policy(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    if message.count("policies") == 0 {
        message.problem("field 'policies' needs at least one policy");
    }
    message.list("policies", POLICY).into_iter().next()
}

fn extension(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    message.required_text("name");
    let kinds =
        [ROUND_ROBIN, LEAST_REQUEST, RANDOM, OVERRIDE_HOST, CLUSTER_PROVIDED, CLIENT_SIDE_WEIGHTED];
    message.extension("typed_config", &kinds)
}

fn least_request(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    let bias = message.message("active_request_bias", RUNTIME_DOUBLE);
    Some(LoadBalancingPolicy::LeastRequest {
        choice_count: message.integer("choice_count", 2..=u32::MAX).unwrap_or(2),
        active_request_bias: bias.unwrap_or(1.0),
        selection_method: SelectionMethod::NChoices,
    })
}

fn least_request_extension(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    let methods = [
        ("N_CHOICES", 0, Some(SelectionMethod::NChoices)),
        ("FULL_SCAN", 1, Some(SelectionMethod::FullScan)),
    ];
    let method = message.choice("selection_method", &methods);
    // The deprecated flag wins over the default only.
    let full_scan = message.flag("enable_full_scan", false);
    let LoadBalancingPolicy::LeastRequest { choice_count, active_request_bias, .. } =
        least_request(message)?
    else {
        return None;
    };
    let selection_method = if full_scan { SelectionMethod::FullScan } else { method? };
    Some(LoadBalancingPolicy::LeastRequest { choice_count, active_request_bias, selection_method })
}

fn override_host(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    if message.count("override_host_sources") == 0 {
        message.problem("field 'override_host_sources' needs at least one source");
    }
    let sources = message.list("override_host_sources", OVERRIDE_SOURCE);
    let fallback = message.required("fallback_policy", LOAD_BALANCING_POLICY)?;
    Some(LoadBalancingPolicy::OverrideHost { sources, fallback: Box::new(fallback) })
}
