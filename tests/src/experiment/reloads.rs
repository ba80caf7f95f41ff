//! VMs that die under load, while endpoints are broken: what dies with them, and what does not.

use super::{Cpu, Stand, failures};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// What it cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reloads {
    /// VMs that the proxy started in place of dead ones, by plugin.
    pub reloads: BTreeMap<String, u64>,
    /// Requests.
    pub requests: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, answered by a broken endpoint: the others failed for a VM.
    pub failed_at_endpoints: u64,
    /// What the clients of failed requests got.
    pub how: BTreeMap<String, u64>,
    /// Who used the machine.
    pub cpu: Cpu,
}

impl Reloads {
    /// Requests that failed for a VM that was dead, or died with them.
    pub fn failed_for_vms(&self) -> u64 {
        self.failed.saturating_sub(self.failed_at_endpoints)
    }

    /// All reloads.
    pub fn count(&self) -> u64 {
        self.reloads.values().sum()
    }
}

/// Two endpoints answer 503 in 1 ms from the second second on; all the while one VM after the other
/// dies, of one module after the other or of one of them `only`.
pub async fn vms_die(
    stand: &Stand,
    lasts: u64,
    every: Duration,
    only: Option<&str>,
) -> anyhow::Result<Reloads> {
    let wanted = |name: &&String| only.is_none_or(|only| name.as_str() == format!("kill-{only}"));
    let killers: Vec<&String> = stand.killers.iter().filter(wanted).collect();
    anyhow::ensure!(!killers.is_empty(), "no module {only:?}: {:?}", stand.killers);
    let (start, whole) = (Instant::now(), Duration::from_secs(1 + lasts));
    let breaking = async {
        sleep_until(start + Duration::from_secs(1)).await;
        failures::break_two(stand, false);
    };
    let killing = async {
        let kills = whole.as_millis() / every.as_millis().max(1);
        for (kill, name) in (1..u32::try_from(kills).unwrap_or(1)).zip(killers.iter().cycle()) {
            sleep_until(start + every * kill).await;
            let connected = TcpStream::connect(stand.proxy.address(name)).await;
            if let Ok(mut connection) = connected {
                // Whether it is reset or closed, when that comes the VM is dead.
                let _ = connection.read(&mut [0]).await;
            }
        }
    };
    let load = stand.load(Duration::ZERO, whole);
    let all = async { tokio::join!(load, breaking, killing) };
    let ((result, (), ()), cpu) = stand.watch(all).await;
    let result = result?;
    let mut reloads = BTreeMap::new();
    for name in &killers {
        let plugin = name.trim_start_matches("kill-").replace('-', "_");
        let metric = format!("envoy_wasm_{plugin}_vm_reload_success");
        let count = stand.proxy.metric(&metric).await?.unwrap_or(0.0);
        reloads.insert(plugin, count as u64);
    }
    let failures::Broken { how, .. } = failures::Broken::of(&result, 0);
    Ok(Reloads {
        reloads,
        requests: result.requests,
        failed: result.failed,
        failed_at_endpoints: stand.fleet.counters().iter().map(|own| own.failed).sum(),
        how,
        cpu,
    })
}
