//! Which endpoint an attempt goes to: Envoy's policies, without clock, randomness or atomics.
//!
//! Two things make Envoy's choices what they are, and textbook versions of the same policies
//! differ from it in both. With equal weights its round robin is an index and its least request is
//! a power of two choices *with* replacement; with unequal weights both become an earliest-deadline
//! scheduler whose weights, for least request, shrink with the requests in flight. And before a
//! policy sees a host, the host set is split by health: below the panic threshold health is
//! ignored, degraded hosts serve only what healthy ones cannot.
//!
//! State (indices, schedulers) is one worker's own, as in Envoy: N workers are N independent
//! balancers, which is why small counts look less even than one counter would make them.
//! `override_host` sits on top and ignores health and predicates; see [`OverrideWalk`].

mod edf;
mod health;
mod override_host;

use std::net::SocketAddr;

use host_sim_bootstrap::{HealthStatus, LoadBalancingPolicy, OverrideSource, SelectionMethod};

pub use edf::Edf;
pub use override_host::OverrideWalk;

use health::{Partition, partition};

/// An endpoint as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// Where it is.
    pub address: SocketAddr,
    /// At least 1.
    pub weight: u32,
    /// What health checks say.
    pub health: HealthStatus,
    /// Requests in flight to it, of all workers.
    pub active_requests: u64,
}

/// What one attempt asks for.
pub struct Choice<'r> {
    /// The first value of a request header, for `override_host`.
    pub header: &'r dyn Fn(&str) -> Option<&'r [u8]>,
    /// How far the exchange has walked down its list of hosts; one per exchange, kept over retries.
    pub walk: &'r mut OverrideWalk,
    /// Hosts to avoid: empty on a first attempt and without the `previous_hosts` predicate.
    pub tried: &'r [SocketAddr],
    /// `host_selection_retry_max_attempts`: how often the policy may choose again because its choice
    /// is in `tried`. The last choice stands, tried or not.
    pub reselections: u32,
}

/// One worker's balancer of one cluster.
#[derive(Debug)]
pub struct Balancer {
    policy: LoadBalancingPolicy,
    panic_threshold: f64,
    seed: u64,
    seen: Vec<(SocketAddr, u32, HealthStatus)>,
    pools: [Pool; 3],
}

/// State over one part of the hosts: healthy, degraded, or all of them in panic.
#[derive(Debug, Default)]
struct Pool {
    /// Positions in the host slice.
    members: Vec<usize>,
    /// Next index of the unweighted round robin.
    next: u64,
    /// Present when weights differ and the policy minds.
    edf: Option<Edf>,
}

impl Balancer {
    /// `panic_threshold` in percent. `seed` offsets the round robin, as Envoy's does, so that
    /// workers do not all begin with the first host.
    #[must_use]
    pub fn new(policy: LoadBalancingPolicy, panic_threshold: f64, seed: u64) -> Self {
        Self { policy, panic_threshold, seed, seen: Vec::new(), pools: Default::default() }
    }

    /// The position of the chosen host in `hosts`; `None` = no healthy upstream.
    ///
    /// `draw` gives uniform integers and is asked as often as Envoy asks its generator.
    pub fn choose(
        &mut self,
        hosts: &[Host],
        choice: &mut Choice<'_>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        if let LoadBalancingPolicy::OverrideHost { sources, .. } = &self.policy {
            let listed =
                || sources.iter().find_map(|OverrideSource::Header(name)| (choice.header)(name));
            if let Some(found) = choice.walk.next(listed, hosts) {
                return Some(found);
            }
        }
        self.refresh(hosts);
        let mut chosen = self.choose_once(hosts, draw)?;
        for _ in 0..choice.reselections {
            let tried = hosts.get(chosen).is_some_and(|host| choice.tried.contains(&host.address));
            if !tried {
                break;
            }
            chosen = self.choose_once(hosts, draw)?;
        }
        Some(chosen)
    }

    /// Rebuilds the pools when the host set has changed; indices survive, schedulers start anew.
    fn refresh(&mut self, hosts: &[Host]) {
        let is_same = |(seen, host): (&(SocketAddr, u32, HealthStatus), &Host)| {
            *seen == (host.address, host.weight, host.health)
        };
        if self.seen.len() == hosts.len() && self.seen.iter().zip(hosts).all(is_same) {
            return;
        }
        let first = self.seen.is_empty();
        self.seen = hosts.iter().map(|host| (host.address, host.weight, host.health)).collect();
        let weighted = self.weighted();
        let (seed, bias) = (self.seed, self.bias());
        for (pool, part) in self.pools.iter_mut().zip(Partition::ALL) {
            pool.members = (0..hosts.len()).filter(|at| part.contains(hosts.get(*at))).collect();
            if first {
                pool.next = seed;
            }
            let members: Vec<&Host> = pool.members.iter().filter_map(|at| hosts.get(*at)).collect();
            let equal =
                members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight));
            let build = || Edf::new(members.iter().map(|host| effective_weight(host, bias)), seed);
            pool.edf = (weighted && !equal).then(build);
        }
    }

    fn choose_once(&mut self, hosts: &[Host], draw: &mut dyn FnMut() -> u64) -> Option<usize> {
        let part = partition(hosts, self.panic_threshold, draw())?;
        let bias = self.bias();
        let policy = terminal(&self.policy);
        let pool = self.pools.get_mut(part as usize)?;
        if let Some(edf) = &mut pool.edf {
            let members = &pool.members;
            let weight = |at: usize| {
                let host = members.get(at).and_then(|at| hosts.get(*at));
                host.map_or(1.0, |host| effective_weight(host, bias))
            };
            let at = edf.pick(weight)?;
            return pool.members.get(at).copied();
        }
        pool.choose_unweighted(policy, hosts, draw)
    }

    /// Whether unequal weights matter to the policy. Envoy's random policy ignores them.
    fn weighted(&self) -> bool {
        matches!(
            terminal(&self.policy),
            LoadBalancingPolicy::RoundRobin | LoadBalancingPolicy::LeastRequest { .. }
        )
    }

    /// How much requests in flight count against a host's weight.
    fn bias(&self) -> f64 {
        match terminal(&self.policy) {
            LoadBalancingPolicy::LeastRequest { active_request_bias, .. } => *active_request_bias,
            _ => 0.0,
        }
    }
}

impl Pool {
    fn choose_unweighted(
        &mut self,
        policy: &LoadBalancingPolicy,
        hosts: &[Host],
        draw: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        let count = u64::try_from(self.members.len()).ok().filter(|count| *count > 0)?;
        let at = |number: u64| {
            let at = usize::try_from(number % count).ok()?;
            self.members.get(at).copied()
        };
        match policy {
            LoadBalancingPolicy::LeastRequest { choice_count, selection_method, .. } => {
                let load = |at: usize| hosts.get(at).map_or(0, |host| host.active_requests);
                match selection_method {
                    SelectionMethod::NChoices => {
                        let mut choices = (0..*choice_count).filter_map(|_| at(draw()));
                        let first = choices.next()?;
                        // A later choice wins only with strictly fewer requests.
                        Some(choices.fold(
                            first,
                            |best, next| {
                                if load(next) < load(best) { next } else { best }
                            },
                        ))
                    }
                    SelectionMethod::FullScan => full_scan(&self.members, load, draw),
                }
            }
            LoadBalancingPolicy::Random => at(draw()),
            // ORIGINAL_DST has no host list; a fallback policy within `override_host` is terminal.
            LoadBalancingPolicy::ClusterProvided | LoadBalancingPolicy::OverrideHost { .. } => None,
            LoadBalancingPolicy::RoundRobin => {
                let chosen = at(self.next);
                self.next = self.next.wrapping_add(1);
                chosen
            }
        }
    }
}

/// The least loaded member; reservoir sampling makes every tied one equally likely.
fn full_scan(
    members: &[usize],
    load: impl Fn(usize) -> u64,
    draw: &mut dyn FnMut() -> u64,
) -> Option<usize> {
    let (mut best, rest) = members.split_first().map(|(first, rest)| (*first, rest))?;
    let mut tied = 1;
    for next in rest {
        match load(*next).cmp(&load(best)) {
            std::cmp::Ordering::Less => (best, tied) = (*next, 1),
            std::cmp::Ordering::Equal => {
                tied += 1;
                if draw().is_multiple_of(tied) {
                    best = *next;
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    Some(best)
}

/// The policy that chooses once no named host is left.
fn terminal(policy: &LoadBalancingPolicy) -> &LoadBalancingPolicy {
    match policy {
        LoadBalancingPolicy::OverrideHost { fallback, .. } => terminal(fallback),
        policy => policy,
    }
}

/// Envoy's `hostWeight`: weight / (active + 1)^bias.
fn effective_weight(host: &Host, bias: f64) -> f64 {
    let weight = f64::from(host.weight.max(1));
    if bias == 0.0 {
        return weight;
    }
    #[expect(clippy::cast_precision_loss, reason = "no proxy has 2^53 requests in flight")]
    let active = host.active_requests as f64 + 1.0;
    weight / active.powf(bias)
}

#[cfg(test)]
mod tests;
