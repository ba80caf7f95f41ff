//! Endpoints on a stage: what a policy sees of a cluster, set up by hand.

use crate::policy::{Choice, Scene};
use crate::row::Table;
use crate::service_time::Concurrency;
use crate::{Candidate, ClusterConfig, Config, Load, Outcome};
use core::time::Duration;
use shared_state::{Endpoint, UnixNanos};

pub(crate) struct Stage {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) load: f64,
    pub(crate) comfortable: f64,
    table: Table,
    config: ClusterConfig,
    now: UnixNanos,
}

pub(crate) fn endpoint(row: usize) -> Endpoint {
    format!("10.0.{}.{}:80", row / 250, row % 250).parse().unwrap()
}

/// The average endpoint, idle.
pub(crate) fn candidate(row: usize) -> Candidate {
    Candidate {
        endpoint: endpoint(row),
        row,
        elsewhere: 0.0,
        rate: 1.0,
        admission: 1.0,
        is_unfit: false,
        is_on_trial: false,
        weight: 1.0,
        penalty: 1.0,
        load: None,
    }
}

/// One that reported this load a moment ago, all of it from here.
pub(crate) fn loaded(row: usize, in_flight: f64) -> Candidate {
    let reported_at = UnixNanos::from_secs(1000);
    let load = Load { reported_at, in_flight, latency: None, own_share: Some(1.0) };
    Candidate { load: Some(load), ..candidate(row) }
}

fn config(more: &str) -> ClusterConfig {
    let json = format!(r#"{{"clusters":[{{"name":"backend"{more}}}]}}"#);
    Config::from_json(json.as_bytes()).unwrap().value.clusters.remove(0)
}

impl Stage {
    pub(crate) fn of(count: usize, candidate: impl Fn(usize) -> Candidate) -> Self {
        let mut table = Table::default();
        for row in 0..count {
            assert_eq!(table.place_or_add("backend", endpoint(row)), Some(row));
            table.at(row).unwrap().candidate = Some(row);
        }
        let candidates = (0..count).map(candidate).collect();
        let now = UnixNanos::from_secs(1000);
        Self { candidates, load: 0.0, comfortable: 1.0, table, config: config(""), now }
    }

    /// With these fields of the cluster's entry.
    pub(crate) fn with(self, more: &str) -> Self {
        Self { config: config(more), ..self }
    }

    pub(crate) fn scene(&self, draw: u32) -> Scene<'_> {
        Scene {
            config: &self.config,
            candidates: &self.candidates,
            first: 0,
            part: crate::Part::default(),
            table: &self.table,
            most: 3,
            draw,
            now: self.now,
            load: self.load,
            comfortable: self.comfortable,
            key: None,
        }
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.candidates.iter().map(|candidate| candidate.endpoint).collect()
    }

    /// So many requests of this worker are in flight there.
    pub(crate) fn fly(&mut self, row: usize, in_flight: u32) {
        self.table.at(row).unwrap().in_flight = in_flight;
    }

    /// An attempt there came to nothing.
    pub(crate) fn fail(&mut self, row: usize, outcome: Outcome) {
        let (rules, mut concurrency) = (self.config.least_cost, Concurrency::default());
        self.table.at(row).unwrap().measure(outcome, None, self.now, &rules, &mut concurrency);
    }

    /// A snapshot has taken up its failures.
    pub(crate) fn settle(&mut self, row: usize) {
        self.table.at(row).unwrap().new_failures = 0;
    }

    /// An answer that took so long.
    pub(crate) fn peak(&mut self, row: usize, took: Duration) {
        let tau = self.config.peak_ewma.decay_time;
        self.table.at(row).unwrap().peak.record(took.as_secs_f64(), self.now, tau);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// The last endpoint is no candidate any more.
    pub(crate) fn drop_last(&mut self) {
        let gone = self.candidates.pop().unwrap();
        self.table.at(gone.row).unwrap().candidate = None;
    }

    pub(crate) fn list(&self, draw: u32, choose: impl Fn(&Scene<'_>) -> Choice) -> Vec<usize> {
        choose(&self.scene(draw)).list.iter().map(|ranked| ranked.place).collect()
    }

    /// How often each is the first.
    pub(crate) fn counts(&self, picks: u32, choose: impl Fn(&Scene<'_>) -> Choice) -> Vec<usize> {
        let mut counts = vec![0; self.candidates.len()];
        for draw in 0..picks {
            counts[self.list(draw.wrapping_mul(0x61c8_8647), &choose)[0]] += 1;
        }
        counts
    }
}
