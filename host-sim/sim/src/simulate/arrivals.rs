//! When each request comes, from whom and by which proxy. Fixed by the seed before anything runs, so
//! nothing an arm does can move a request.

use super::draws::Draws;
use super::spec::Experiment;
use super::spec::load::Arrivals as Gaps;
use std::time::Duration;

/// A request to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// When, the warm-up included.
    pub(crate) at: Duration,
    /// Which group of clients.
    pub(crate) client: usize,
    /// Which proxy.
    pub(crate) proxy: usize,
    /// Which worker of it: a number to be reduced to how many there are.
    pub(crate) worker: u64,
}

/// Requests in order of time.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Beginning, end and rate of each span with the same load.
    phases: Vec<(f64, f64, f64)>,
    phase: usize,
    at: f64,
    gaps: Gaps,
    draws: Draws,
    /// Apart from the gaps: other shares must not move the arrivals.
    routes: Draws,
    shares: Vec<f64>,
    /// The proxies of each group of clients.
    proxies: Vec<Vec<usize>>,
}

impl Arrivals {
    /// Those of an experiment with a seed.
    pub(crate) fn new(experiment: &Experiment, seed: u64) -> Self {
        let capacity = experiment.capacity();
        let rate = |rate: Option<f64>, rho: Option<f64>| {
            rate.or_else(|| rho.map(|rho| rho * capacity)).unwrap_or(0.0)
        };
        let load = &experiment.load;
        let warmup = experiment.warmup.0.as_secs_f64();
        let mut changes = vec![(0.0, rate(load.rate, load.rho))];
        let steps = load.steps.iter();
        changes.extend(
            steps.map(|step| (warmup + step.at.0.as_secs_f64(), rate(step.rate, step.rho))),
        );
        let end = experiment.end().as_secs_f64();
        let ends = changes.iter().skip(1).map(|(at, _)| at.min(end)).chain([end]);
        let phases: Vec<_> =
            changes.iter().zip(ends).map(|((from, rate), to)| (*from, to, *rate)).collect();
        let (clients, proxies) = (&experiment.clients, &experiment.proxies);
        let near = |zone: &str| -> Vec<usize> {
            let near = (0..proxies.count).filter(|at| proxies.zone(*at) == zone);
            let near: Vec<_> = near.collect();
            if near.is_empty() { (0..proxies.count).collect() } else { near }
        };
        Self {
            phases,
            phase: 0,
            at: 0.0,
            gaps: load.arrivals,
            draws: Draws::new(seed, "arrivals", 0),
            routes: Draws::new(seed, "routes", 0),
            shares: clients.iter().map(|group| group.share).collect(),
            proxies: clients.iter().map(|group| near(&group.zone)).collect(),
        }
    }

    fn client(&mut self) -> usize {
        let mut left = self.routes.unit() * self.shares.iter().sum::<f64>();
        let hit = self.shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        hit.unwrap_or(0)
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let (from, to, rate) = *self.phases.get(self.phase)?;
            self.at = self.at.max(from);
            if rate > 0.0 {
                self.at += match self.gaps {
                    Gaps::Poisson => self.draws.exponential() / rate,
                    Gaps::Constant => 1.0 / rate,
                };
                if self.at < to {
                    break;
                }
            }
            // The gap that crossed the end is dropped: exponential gaps have no memory, and a
            // metronome starts anew with its new rate.
            self.at = to;
            self.phase += 1;
        }
        let client = self.client();
        let choice = self.routes.bits();
        let proxies = &self.proxies[client];
        let proxy = proxies[(choice % proxies.len() as u64) as usize];
        let worker = self.routes.bits();
        Some(Arrival { at: Duration::try_from_secs_f64(self.at).ok()?, client, proxy, worker })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(load: &str, more: &str) -> Experiment {
        let text = format!(
            "experiment: x\nwarmup: 0s\nduration: 100s\nload: {load}\n{more}\n\
             endpoints: [{{name: e, count: 2, service_time: {{mean: 10ms}}}}]\n\
             arms: [{{name: a, policy: {{random: {{}}}}}}]\n"
        );
        Experiment::parse(&text).unwrap()
    }

    fn times(experiment: &Experiment, seed: u64) -> Vec<f64> {
        Arrivals::new(experiment, seed).map(|arrival| arrival.at.as_secs_f64()).collect()
    }

    #[test]
    fn the_seed_fixes_the_arrivals_and_the_clients_do_not() {
        let plain = experiment("{rate: 100}", "");
        let groups = "clients: [{name: a}, {name: b, share: 3}]\nproxies: {count: 3}";
        assert_eq!(times(&plain, 1), times(&experiment("{rate: 100}", groups), 1));
        assert_ne!(times(&plain, 1), times(&plain, 2));
    }

    #[test]
    fn poisson_gaps_vary_like_exponential_ones() {
        let at = times(&experiment("{rate: 1000}", ""), 1);
        assert!((at.len() as f64 / 100_000.0 - 1.0).abs() < 0.02, "{}", at.len());
        let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03);
    }

    #[test]
    fn rho_is_a_part_of_the_capacity_and_steps_change_it() {
        // Two endpoints of 100 requests a second.
        let steps =
            "{rho: 0.5, arrivals: constant, steps: [{at: 10s, rho: 0}, {at: 20s, rate: 50}]}";
        let at = times(&experiment(steps, ""), 1);
        let within = |from: f64, to: f64| at.iter().filter(|t| (from..to).contains(*t)).count();
        assert!((998..=1000).contains(&within(0.0, 10.0)), "{}", within(0.0, 10.0));
        assert_eq!(within(10.001, 20.0), 0);
        assert!((3998..=4000).contains(&within(20.0, 100.0)), "{}", within(20.0, 100.0));
    }

    #[test]
    fn clients_come_by_share_and_use_the_proxies_of_their_zone() {
        let more = "clients: [{name: a, zone: west}, {name: b, share: 3, zone: nowhere}]\n\
                    proxies: {count: 4, zones: [west, east]}";
        let all: Vec<_> = Arrivals::new(&experiment("{rate: 1000}", more), 1).collect();
        let of_a: Vec<_> = all.iter().filter(|arrival| arrival.client == 0).collect();
        assert!((of_a.len() as f64 / all.len() as f64 - 0.25).abs() < 0.01);
        assert!(of_a.iter().all(|arrival| arrival.proxy % 2 == 0));
        assert!((0..4).all(|p| all.iter().any(|a| a.client == 1 && a.proxy == p)));
    }
}
