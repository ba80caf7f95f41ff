//! Who used the machine during a run, as parts of one core: without it nobody can tell a slow policy
//! from a neighbour that compiles.

use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Cores used, on average over a run. 0 where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// By the proxy.
    pub proxy: f64,
    /// By this process: endpoints and load.
    pub own: f64,
    /// By everybody else, the kernel's interrupts among them.
    pub others: f64,
    /// Cores that the proxy could have used and did not get: where that is not small, it stood and
    /// waited for others, and so did its requests.
    pub proxy_waited: f64,
    /// The same of this process.
    pub own_waited: f64,
}

/// What had been used at one time, in the kernel's ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    at: Instant,
    /// Of all processors together, idle or not.
    all: u64,
    cores: usize,
    idle: u64,
    proxy: u64,
    own: u64,
    proxy_waited: Duration,
    own_waited: Duration,
}

impl Ticks {
    /// Now. `proxy` is a process id; without one, the proxy is in this process.
    pub(super) fn now(proxy: Option<u32>) -> Self {
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = machine
            .lines()
            .next()
            .map(|line| line.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect())
            .unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is in user and nice already.
        let idle = fields.iter().skip(3).take(2).sum();
        Self {
            all: fields.iter().take(8).sum(),
            cores: cores_of(&machine),
            idle,
            proxy: proxy.map_or(0, |id| process(&id.to_string())),
            own: process("self"),
            proxy_waited: proxy.map_or(Duration::ZERO, |id| waited(&id.to_string())),
            own_waited: waited("self"),
            at: Instant::now(),
        }
    }

    /// Who used what since then.
    pub(super) fn since(self, then: Self) -> Cpu {
        let one = self.all.saturating_sub(then.all) as f64 / self.cores.max(1) as f64;
        let part = |now: u64, then: u64| {
            if one > 0.0 { now.saturating_sub(then) as f64 / one } else { 0.0 }
        };
        let (proxy, own) = (part(self.proxy, then.proxy), part(self.own, then.own));
        let busy = part(self.all - self.idle, then.all - then.idle);
        let elapsed = self.at.duration_since(then.at).as_secs_f64().max(1e-9);
        let waited =
            |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / elapsed;
        Cpu {
            proxy,
            own,
            others: (busy - proxy - own).max(0.0),
            proxy_waited: waited(self.proxy_waited, then.proxy_waited),
            own_waited: waited(self.own_waited, then.own_waited),
        }
    }
}

/// How many cores the machine has. Not how many this process may use: it may be pinned to one.
fn cores_of(machine: &str) -> usize {
    let of_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    machine.lines().filter(of_one).count()
}

/// Whom the cores belong to: the first to this process, the others to the proxy. A scheduler that is
/// left alone now and then puts both on one core beside whatever else runs there; the proxy then
/// stands still, and what waits in it makes up P99. Says whether it could.
///
/// A proxy with as many workers as there are cores gets them all.
pub(super) fn pin(proxy: u32, workers: u32) -> bool {
    let cores = cores_of(&fs::read_to_string("/proc/stat").unwrap_or_default());
    if cores < 2 {
        return false;
    }
    let last = cores - 1;
    let first = usize::from((workers as usize) < cores);
    pinned(std::process::id(), "0") && pinned(proxy, &format!("{first}-{last}"))
}

/// Sends a process a signal, by its name without `SIG`.
pub(super) fn signal(id: u32, name: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill").args([format!("-{name}"), id.to_string()]).status()?;
    anyhow::ensure!(sent.success(), "cannot send SIG{name} to {id}: {sent}");
    Ok(())
}

fn pinned(id: u32, cores: &str) -> bool {
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", cores, &id.to_string()]);
    taskset.output().is_ok_and(|output| output.status.success())
}

/// Ticks of a process in user and kernel mode.
fn process(id: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The second field is a name in parentheses, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// How long the threads of a process could have run, and had to wait for a core.
fn waited(id: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        // The second of three numbers; a thread may end meanwhile.
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_has_used_the_machine() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let then = Ticks::now(None);
        let mut number = 0_u64;
        // Until the kernel has counted some of it; a loop that never ends it would be its fault.
        while Ticks::now(None).own < then.own + 3 {
            number = std::hint::black_box(number.wrapping_add(1));
        }
        let used = Ticks::now(None).since(then);
        assert!(used.own > 0.0 && used.proxy == 0.0, "{used:?}");
    }
}
