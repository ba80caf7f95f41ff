//! metric-router on the shipped module, in a cluster whose members change all the time.

use anyhow::{Context as _, Result};
use host_sim::{Host, HostOptions, Request};
use serde_json::json;
use shared_state::{Endpoint, Members, decode};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Requests in the time from one tick to the next.
const TICK: u64 = 20;

struct Cluster {
    host: Host,
    members: Vec<SocketAddr>,
    newest: u16,
    sent: usize,
}

impl Cluster {
    fn start(workers: usize) -> Result<Self> {
        let plugin = json!({"module": "metric_router", "configuration": {
            "clusters": [{"name": "backend", "policy": "weighted_round_robin"}],
        }});
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let base_dir = Some(Path::new(&root).to_owned());
        let options = HostOptions { workers, base_dir, ..HostOptions::default() };
        // One endpoint of the file, which is made to stand for as many as there are at the moment.
        let endpoint = "127.0.0.1:1".parse()?;
        let host = Host::start_suite(&json!({"filters": [plugin]}), &[endpoint], options)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut cluster = Self { host, members: Vec::new(), newest: 10_000, sent: 0 };
        (0..5).for_each(|_| cluster.join());
        Ok(cluster)
    }

    fn fresh(&mut self) -> SocketAddr {
        self.newest += 1;
        SocketAddr::from(([10, 0, 0, 1], self.newest))
    }

    fn join(&mut self) {
        let fresh = self.fresh();
        self.members.push(fresh);
        self.tell();
    }

    fn tell(&mut self) {
        let cluster = self.host.engine().cluster("backend").expect("the cluster is there");
        cluster.resolve(0, &self.members);
    }

    /// A member comes, or leaves, or one leaves and another one comes.
    fn change(&mut self, draw: u64) {
        let at = (draw >> 8) as usize % self.members.len();
        match draw % 3 {
            0 if self.members.len() < 12 => return self.join(),
            1 if self.members.len() > 2 => drop(self.members.remove(at)),
            _ => self.members[at] = self.fresh(),
        }
        self.tell();
    }

    fn request(&mut self) -> Result<()> {
        let worker = self.sent % self.host.workers();
        self.sent += 1;
        let request = self.host.send(&Request::get("/").on_worker(worker));
        self.host.advance(Duration::from_millis(5));
        let status = self.host.reply(request).map(|reply| reply.status);
        anyhow::ensure!(status == Some(200), "request {}: {status:?}", self.sent);
        Ok(())
    }

    fn is_learned(&self) -> Result<bool> {
        let key = Members::key("backend");
        let bytes = self.host.engine().shared_data().get("weir", key.as_str().as_bytes());
        let Some((bytes, _)) = bytes else { return Ok(false) };
        let members: Members = decode(&bytes).ok().context("the list decodes")?;
        let mut wanted: Vec<Endpoint> = self.members.iter().copied().map(Endpoint::new).collect();
        wanted.sort();
        Ok(members.endpoints().eq(wanted))
    }
}

fn follows_a_thousand_changes(workers: usize) -> Result<()> {
    let mut cluster = Cluster::start(workers)?;
    let mut state = 7u64;
    for number in 0..1000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if number > 0 {
            cluster.change(state >> 32);
        }
        // Three rounds of each worker, and two ticks: of the one that is under way and of the one in
        // which it is written down.
        let most = 3 * cluster.members.len() as u64 * workers as u64 + 2 * TICK;
        let mut requests = 0;
        while !cluster.is_learned()? {
            cluster.request()?;
            requests += 1;
            let size = cluster.members.len();
            anyhow::ensure!(requests <= most, "change {number}: {requests} for {size} endpoints");
        }
        for _ in 0..TICK {
            cluster.request()?;
        }
    }
    let ineffective = cluster.host.metric("weir_steering_ineffective", &[]);
    assert_eq!(ineffective.unwrap_or(0.0), 0.0);
    Ok(())
}

#[test]
fn one_worker_follows_a_thousand_changes() -> Result<()> {
    follows_a_thousand_changes(1)
}

#[test]
fn two_workers_follow_a_thousand_changes() -> Result<()> {
    follows_a_thousand_changes(2)
}
