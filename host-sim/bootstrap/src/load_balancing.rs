//! `lb_policy` and `load_balancing_policy`: one type for both spellings.

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
    /// Uniform over healthy hosts (by weight when weights differ).
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
