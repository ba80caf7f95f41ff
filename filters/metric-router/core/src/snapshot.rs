//! Which endpoints are candidates, and how much each can do: rebuilt by the tick, read by picks.
//!
//! A rate is relative: 1 is the average endpoint. It comes from the service time that this worker has
//! measured. As far as that is not enough to go by, it comes from load reports if at least half of
//! the candidates have a usable weight; the two have different units, and each is taken relative to
//! its own median. A report is believed as far as the endpoint was busy: one that idles reports a
//! small rate, would be given less for it, and would never come back. What is unknown counts as the
//! median of what is known: neither starved nor flooded.
//!
//! Rates by latency count for what they are beyond chance. Latencies of equal endpoints differ by
//! that, and at low load, when nothing is in flight, the smallest difference would send every request
//! to the same one. While endpoints fail, and for some time after, chance has more room: queues come and
//! go, times tell less of who is fast, and the others have the work of the one that is missing already.
//! The penalty for errors is rounded, to quarters of an octave: an error ratio fades
//! and never gets to zero, and an endpoint that has failed once would not be picked again.

use crate::division::{Division, Part};
use crate::ewma::decay;
use crate::{ClusterConfig, Policy, fitness, ramp};
use core::time::Duration;
use shared_state::{Endpoint, HealthState, UnixNanos};
use sorting::sort_by_key;

/// How much more a degraded endpoint costs: others are preferred until they have four times as much
/// waiting, so it works when it is needed, and else has time to recover.
const DEGRADED_PENALTY: f64 = 4.0;

/// From this share of the usual rate on, an endpoint's report says what it can do and not what it
/// is given.
const BUSY_SHARE: f64 = 0.5;

/// Steps of a penalty within an octave: powers of the fourth root of two.
const STEPS: [f64; 4] =
    [1.0, 1.189_207_115_002_721, core::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// Half a step: where one begins to be nearer than the one before.
const HALF_STEP: f64 = 1.090_507_732_665_257_7;

/// Part by which the mean of an endpoint's service times lies off by chance: they vary as much as their
/// mean, and it rests on some hundred of them.
const CHANCE: f64 = 0.1;

/// The same while a cluster is upset.
const CHANCE_UPSET: f64 = 0.25;

/// So far off certainty latencies are enough to go by without reports while a cluster is upset: the
/// little that a report has to say beside them sends a fifth more to one of twenty equals.
const NEARLY: f64 = 0.1;

/// No endpoint is believed to be more than this many times faster or slower than the median.
const MOST_RATIO: f64 = 1024.0;

/// What is known of one endpoint when a snapshot is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Which.
    pub endpoint: Endpoint,
    /// Which part of the cluster it belongs to.
    pub part: Part,
    /// What a list says that it can do, compared with the others.
    pub listed: f64,
    /// Where this worker keeps its own measurements.
    pub row: usize,
    /// Its state; unknown if nobody says.
    pub state: HealthState,
    /// Since when it has been in that state, if anybody says.
    pub state_since: Option<UnixNanos>,
    /// When it came, or came back, as far as that is not its state: a new address, a breaker that has
    /// closed, found again after it was taken for gone.
    pub came_at: Option<UnixNanos>,
    /// Its breaker would let no request pass.
    pub breaker_rejects: bool,
    /// Requests of other workers in flight, smoothed.
    pub elsewhere: f64,
    /// Usable weight by load reports.
    pub orca: Option<f64>,
    /// Requests a second in its newest report, faded by age; `None` believes the weight wholly.
    pub reported_rps: Option<f64>,
    /// How long it takes for a request, in seconds, smoothed.
    pub latency: Option<f64>,
    /// Time since it last answered: how old the latency is.
    pub latency_age: Duration,
    /// How far that was measured by this worker itself, 0 to 1.
    pub certainty: f64,
    /// Its last answer to this worker was a success, after a failure or without one.
    pub works: bool,
    /// Share of attempts that failed, 0 to 1.
    pub error_ratio: f64,
    /// Share of its usual traffic that it asks for; 1 if it asks for nothing else.
    pub weight: f64,
    /// What it reports of its load.
    pub load: Option<Load>,
}

/// What an endpoint reports of its load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// When that was received.
    pub reported_at: UnixNanos,
    /// Requests that it has in flight from everyone; or its utilization, if it tells only that.
    pub in_flight: f64,
    /// Its latency as it sees it, in whatever unit all endpoints use.
    pub latency: Option<f64>,
    /// Share of its traffic that passes through this proxy.
    pub own_share: Option<f64>,
}

/// How a cluster does as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// How many of its endpoints can be [spared](crate::spare), if that is known.
    pub spare: Option<usize>,
    /// One of them is out or fails, or was or did a short while ago.
    pub is_upset: bool,
}

/// An endpoint that may be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub endpoint: Endpoint,
    /// Where this worker keeps its own measurements.
    pub row: usize,
    /// Requests of other workers in flight: smoothed, and by what they have told since.
    pub elsewhere: f64,
    /// What it can do, relative to the average of 1; greater than 0.
    pub rate: f64,
    /// Share of the picks that may consider it, greater than 0: 1, or less while it is ramped up.
    pub admission: f64,
    /// It is unfit, and a candidate all the same: others cannot do without it, or are no better.
    pub is_unfit: bool,
    /// It is unfit, cannot be spared, and has not worked since: one request now and then finds out.
    pub is_on_trial: bool,
    /// Its share by its own word, as an agent's, and by the list; 1 is the average listed. `rate` has
    /// been multiplied by it.
    pub weight: f64,
    /// How many times as much as it else would it costs for its errors and its state; at least 1.
    /// `rate` has been divided by it.
    pub penalty: f64,
    /// What it reports of its load.
    pub load: Option<Load>,
}

/// What picks are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The endpoints to choose from, part by part.
    pub candidates: Vec<Candidate>,
    pub(crate) division: Division,
    /// How many endpoints are known, and how many of them are fit.
    pub(crate) known: usize,
    pub(crate) fit: usize,
    /// So few of the known endpoints are fit that choosing among them would crush them.
    pub panic: bool,
}

impl Snapshot {
    /// From all known endpoints of a cluster.
    pub fn build(
        facts: &[Facts],
        config: &ClusterConfig,
        Condition { spare, is_upset }: Condition,
        now: UnixNanos,
    ) -> Self {
        let (mut chosen, panic) = fitness::choose(facts, config, spare);
        let is_fit = |facts: &Facts| fitness::badness(facts) == 0;
        let factor = config.overprovisioning;
        let panic = panic && !Division::fails_over(facts, is_fit, factor);
        sort_by_key(&mut chosen, |facts| facts.part);
        let parts: Vec<Part> = chosen.iter().map(|facts| facts.part).collect();
        let division = Division::new(&parts, facts, is_fit, factor);
        let fit = facts.iter().filter(|facts| is_fit(facts)).count();
        let left = spare.map(|spare| spare as f64 - (facts.len() - fit) as f64);
        let admissions = ramp::admissions(&chosen, &config.slow_start, left, now);
        let base = match config.policy {
            Policy::WeightedRoundRobin => orca_rates(&chosen),
            _ => service_rates(&chosen, config, is_upset),
        };
        let mean_listed = mean_listed(&chosen);
        let candidates =
            chosen.iter().zip(base).zip(admissions).map(|((facts, base), admission)| {
                let penalty = penalty(facts, config);
                let weight = facts.weight * facts.listed / mean_listed;
                Candidate {
                    endpoint: facts.endpoint,
                    row: facts.row,
                    elsewhere: facts.elsewhere,
                    rate: base * weight / penalty,
                    admission,
                    is_unfit: !is_fit(facts),
                    is_on_trial: spare.is_some() && !is_fit(facts) && !facts.works,
                    weight,
                    penalty,
                    load: facts.load,
                }
            });
        Self { candidates: candidates.collect(), division, known: facts.len(), fit, panic }
    }
}

/// The listed weight of the average endpoint; never 0.
fn mean_listed(facts: &[&Facts]) -> f64 {
    let sum: f64 = facts.iter().map(|facts| facts.listed).sum();
    (sum / facts.len().max(1) as f64).max(f64::MIN_POSITIVE)
}

/// What an endpoint costs more for its errors and its state. The same for every policy: an endpoint
/// that fails at once has nothing in flight, a short latency, and reports no load.
fn penalty(facts: &Facts, config: &ClusterConfig) -> f64 {
    let errors = stepped(1.0 + config.least_cost.error_penalty * facts.error_ratio);
    if facts.state.is_impaired() { errors * DEGRADED_PENALTY } else { errors }
}

/// How much each can do, by load reports and latencies.
fn service_rates(facts: &[&Facts], config: &ClusterConfig, is_upset: bool) -> Vec<f64> {
    let reporting = facts.iter().filter(|facts| facts.orca.is_some()).count();
    let (chance, nearly) = if is_upset { (CHANCE_UPSET, NEARLY) } else { (CHANCE, 0.0) };
    let by_latency = latency_rates(facts, config, chance);
    if reporting > 0 && reporting * 2 >= facts.len() {
        let usual = median(facts.iter().filter_map(|facts| facts.reported_rps)).unwrap_or(0.0);
        let blend = |((facts, by_report), by_latency): ((&&Facts, f64), f64)| {
            let doubt = (1.0 - facts.certainty - nearly).max(0.0) / (1.0 - nearly);
            by_latency + (by_report - by_latency) * (busy(facts, usual) * doubt)
        };
        facts.iter().zip(orca_rates(facts)).zip(by_latency).map(blend).collect()
    } else {
        by_latency
    }
}

/// How far the endpoint's own report says what it can do, 0 to 1.
fn busy(facts: &Facts, usual_rps: f64) -> f64 {
    match facts.reported_rps {
        Some(rps) if usual_rps > 0.0 => (rps / (usual_rps * BUSY_SHARE)).clamp(0.0, 1.0),
        _ => 1.0,
    }
}

fn orca_rates(facts: &[&Facts]) -> Vec<f64> {
    let median = median(facts.iter().filter_map(|facts| facts.orca)).unwrap_or(1.0);
    facts.iter().map(|facts| facts.orca.unwrap_or(median) / median).collect()
}

fn latency_rates(facts: &[&Facts], config: &ClusterConfig, chance: f64) -> Vec<f64> {
    let known = facts.iter().filter_map(|facts| facts.latency.filter(|latency| *latency > 0.0));
    let Some(median) = median(known) else { return vec![1.0; facts.len()] };
    let rate = |facts: &&Facts| match facts.latency {
        Some(latency) if latency > 0.0 => {
            // An endpoint that is no longer picked cannot show that it has become faster, so what
            // is known of it fades.
            let fresh = decay(facts.latency_age, config.least_cost.decay_time);
            beyond_chance(median / (median + (latency - median) * fresh), chance)
        }
        _ => 1.0,
    };
    facts.iter().map(rate).collect()
}

/// `ratio` without what may be chance: 1 while it may, and the ratio itself from three times as much on.
/// In between it grows evenly, so that an endpoint that comes to be a little beyond chance does not get
/// all of that at once.
fn beyond_chance(ratio: f64, chance: f64) -> f64 {
    let ratio = ratio.clamp(1.0 / MOST_RATIO, MOST_RATIO);
    let excess = ratio.max(1.0 / ratio) - 1.0;
    let beyond = 1.0 + ((excess - chance).max(0.0) * 1.5).min(excess);
    if ratio < 1.0 { 1.0 / beyond } else { beyond }
}

/// The step that is nearest to `ratio`. A loop over octaves, because logarithms bring tables.
fn stepped(ratio: f64) -> f64 {
    let ratio = ratio.clamp(1.0 / MOST_RATIO, MOST_RATIO) * HALF_STEP;
    let mut octave = 1.0;
    while ratio >= 2.0 * octave {
        octave *= 2.0;
    }
    while ratio < octave {
        octave /= 2.0;
    }
    let step = STEPS.iter().rev().find(|step| ratio >= octave * **step);
    octave * step.copied().unwrap_or(1.0)
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    // By insertion: a few hundred numbers a tick do not pay for the code of a general sort.
    let mut sorted: Vec<f64> = Vec::with_capacity(values.size_hint().1.unwrap_or(0));
    for value in values {
        sorted.insert(sorted.partition_point(|other| *other < value), value);
    }
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
pub(crate) mod tests;
