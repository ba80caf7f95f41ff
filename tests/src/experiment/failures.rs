//! What breaks, and how many requests it costs.

use super::{Cpu, Stand};
use anyhow::Context;
use host_sim_rig::endpoint::{Cold, Fault, LoadReport, ReportSource};
use host_sim_rig::load::LoadResult;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a failure cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Broken {
    /// Requests that were due after it happened.
    pub requests: u64,
    /// Of these, failed.
    pub failed_after: u64,
    /// Requests that were due before it happened, and failed: they were on their way or in hand.
    pub failed_before: u64,
    /// Of those that were due later than a second after it happened, failed.
    pub failed_later: u64,
    /// Requests that were due later than that.
    pub requests_later: u64,
    /// Requests that the endpoint had in hand when it died, and took with it.
    pub in_hand: u64,
    /// The largest part of the traffic that one endpoint had in the ten seconds after its return, as
    /// a multiple of an equal part. 0 if nothing returned.
    pub share_after_return: f64,
    /// The largest part of what the others had then, as a multiple of an equal part of that: without
    /// what the one that returned did not take yet.
    pub share_of_others: f64,
    /// The part of the one that returned, as a multiple of an equal part of all traffic.
    pub share_of_returned: f64,
    /// Failed in those seconds.
    pub failed_after_return: u64,
    /// What the clients of failed requests got: a status, or why there was no answer.
    pub how: BTreeMap<String, u64>,
    /// Who used the machine.
    pub cpu: Cpu,
}

impl Broken {
    /// All that failed.
    pub fn failed(&self) -> u64 {
        self.failed_before + self.failed_after
    }

    /// The same of 100 requests after it happened.
    pub fn percent(&self) -> f64 {
        100.0 * self.failed() as f64 / self.requests.max(1) as f64
    }

    /// Of 100 requests later than a second after it happened, failed.
    pub fn percent_later(&self) -> f64 {
        100.0 * self.failed_later as f64 / self.requests_later.max(1) as f64
    }

    /// Failed beyond what was in hand: those that were sent to an endpoint that was dead already.
    pub fn sent_to_the_dead(&self) -> u64 {
        self.failed().saturating_sub(self.in_hand)
    }

    /// Of a load in which it happened after so many seconds.
    pub(super) fn of(result: &LoadResult, at: u64) -> Self {
        let after = |from: u64| result.timeline.iter().filter(move |own| own.second >= from);
        let failed_after = after(at).map(|own| own.errors).sum();
        let errors = result.errors.iter().map(|(kind, count)| (format!("{kind:?}"), *count));
        let statuses = result.by_status.iter().filter(|(status, _)| **status >= 500);
        let statuses = statuses.map(|(status, count)| (status.to_string(), *count));
        Self {
            requests: after(at).map(|own| own.requests).sum(),
            failed_after,
            failed_before: result.failed.saturating_sub(failed_after),
            requests_later: after(at + 1).map(|own| own.requests).sum(),
            failed_later: after(at + 1).map(|own| own.errors).sum(),
            how: errors.chain(statuses).collect(),
            ..Self::default()
        }
    }
}

/// Two endpoints answer 503 in 1 ms, after so many seconds of load and for so many. With `idle`, their
/// load reports tell of nothing to do and of no errors.
pub async fn sinkhole(
    stand: &Stand,
    before: u64,
    lasts: u64,
    idle: bool,
) -> anyhow::Result<Broken> {
    let start = Instant::now();
    let breaking = async {
        sleep_until(start + Duration::from_secs(before)).await;
        break_two(stand, idle);
    };
    let load = stand.load(Duration::ZERO, seconds(before + lasts));
    let ((result, ()), cpu) = stand.watch(async { tokio::join!(load, breaking) }).await;
    Ok(Broken { cpu, ..Broken::of(&result?, before) })
}

/// Has two endpoints answer 503 in 1 ms.
pub(super) fn break_two(stand: &Stand, idle: bool) {
    for endpoint in stand.fleet().endpoints().iter().skip(3).step_by(4).take(2) {
        let after = Duration::from_millis(1);
        endpoint.set_fault(Fault::Respond { status: 503, after, fraction: 1.0 });
        if idle {
            endpoint.set_report(ReportSource::Fixed(nothing_to_do()));
        }
    }
}

/// One endpoint dies after so many seconds of load, and stays dead for so many; then, if `cold` says
/// so, it is back for ten seconds, with a quarter of its speed in the first five.
pub async fn dies(stand: &Stand, before: u64, lasts: u64, cold: bool) -> anyhow::Result<Broken> {
    let start = Instant::now();
    let victim = stand.fleet().endpoints().get(3).context("a fourth endpoint")?;
    let dying = async {
        sleep_until(start + seconds(before)).await;
        let before = victim.counters().abandoned;
        victim.kill().await?;
        let in_hand = victim.counters().abandoned - before;
        if cold {
            sleep_until(start + seconds(before + lasts)).await;
            let duration = Duration::from_secs(5);
            victim.revive(Some(Cold { factor: 4.0, duration })).await?;
        }
        anyhow::Ok(in_hand)
    };
    let back = before + lasts;
    let whole = if cold { back + 10 } else { back };
    let load = stand.load(Duration::ZERO, seconds(whole));
    let ((result, in_hand), cpu) = stand.watch(async { tokio::join!(load, dying) }).await;
    let (result, in_hand) = (result?, in_hand?);
    let mut broken = Broken { in_hand, cpu, ..Broken::of(&result, before) };
    if cold {
        let mut answers = BTreeMap::<&str, f64>::new();
        for second in result.timeline.iter().filter(|own| own.second >= back) {
            broken.failed_after_return += second.errors;
            for (endpoint, share) in &second.share {
                *answers.entry(endpoint).or_default() += share * second.requests as f64;
            }
        }
        let endpoints = stand.fleet().endpoints().len();
        let largest_of = |answers: &BTreeMap<&str, f64>, among: usize| {
            let equal = answers.values().sum::<f64>().max(1.0) / among.max(1) as f64;
            (answers.values().copied().fold(0.0, f64::max) / equal, equal)
        };
        let (largest, equal) = largest_of(&answers, endpoints);
        broken.share_after_return = largest;
        broken.share_of_returned = answers.remove(victim.name()).unwrap_or(0.0) / equal;
        broken.share_of_others = largest_of(&answers, endpoints - 1).0;
    }
    Ok(broken)
}

/// What many deaths cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cycles {
    /// Deaths.
    pub deaths: u64,
    /// Of these, such that a client saw an error before the next one.
    pub seen: u64,
    /// Requests.
    pub requests: u64,
    /// Of these, failed for their clients.
    pub failed: u64,
    /// The last second in which one was due that failed.
    pub last_failed: Option<u64>,
    /// What the clients of failed requests got.
    pub how: BTreeMap<String, u64>,
    /// Who used the machine.
    pub cpu: Cpu,
}

/// The proxy stands still, as if somebody had taken its core away.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// The second of the load in which it begins.
    pub at: u64,
    /// Seconds.
    pub lasts: u64,
}

/// One endpoint after the other dies for half a second and is back for half a second, under load;
/// the proxy may stand still meanwhile.
pub async fn kill_cycles(
    stand: &Stand,
    cycles: u64,
    stall: Option<Stall>,
) -> anyhow::Result<Cycles> {
    // The proxy gets to know them first.
    let first = 1;
    let start = Instant::now();
    let killing = async {
        let endpoints = stand.fleet().endpoints();
        for (cycle, victim) in (first..first + cycles).zip(endpoints.iter().cycle()) {
            sleep_until(start + seconds(cycle)).await;
            victim.kill().await?;
            sleep_until(start + seconds(cycle) + Duration::from_millis(500)).await;
            victim.revive(None).await?;
        }
        anyhow::Ok(())
    };
    let stalling = async {
        if let Some(stall) = stall {
            sleep_until(start + seconds(stall.at)).await;
            stand.stop(seconds(stall.lasts)).await?;
        }
        anyhow::Ok(())
    };
    let load = stand.load(Duration::ZERO, seconds(first + cycles));
    let all = async { tokio::join!(load, killing, stalling) };
    let ((result, killed, stalled), cpu) = stand.watch(all).await;
    killed.and(stalled)?;
    let result = result?;
    let bad = result.timeline.iter().filter(|second| second.errors > 0);
    let Broken { how, .. } = Broken::of(&result, 0);
    Ok(Cycles {
        deaths: cycles,
        last_failed: bad.clone().map(|second| second.second).max(),
        seen: bad.count() as u64,
        requests: result.requests,
        failed: result.failed,
        how,
        cpu,
    })
}

/// As an endpoint without work reports it.
fn nothing_to_do() -> LoadReport {
    let mut report = LoadReport {
        cpu_utilization: Some(0.01),
        application_utilization: Some(0.01),
        rps_fractional: Some(75.0),
        eps: Some(0.0),
        ..LoadReport::default()
    };
    report.named_metrics.insert("rif".to_owned(), 1.0);
    report.named_metrics.insert("queue".to_owned(), 0.0);
    report
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
