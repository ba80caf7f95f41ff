//! What failures cost, arm by arm: 20 endpoints, 1500 requests a second, no retries but where said.

use crate::record::{Outcome, Results, Run};
use crate::table::{spread, table, verdict};
use anyhow::Context;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_tests::Host;
use weir_tests::experiment::{
    Arm, Broken, Cpu, Cycles, Reloads, Setting, Stall, Stand, With, dies, kill_cycles, sinkhole,
    vms_die,
};

/// Requests a second.
const RATE: f64 = 1500.0;

/// Seconds of load before anything breaks, and while it is broken.
const BEFORE: u64 = 3;
const BROKEN: u64 = 4;

/// When and for how long the proxy stands still, where it does, and how many endpoints die meanwhile.
const STALL: Stall = Stall { at: 8, lasts: 2 };
const STALL_CYCLES: u64 = 30;

/// How often a VM dies, where they do.
const DEATHS: Duration = Duration::from_millis(500);

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Case {
    Sinkhole,
    IdleSinkhole,
    Death,
    ColdReturn,
    /// One after the other, with retries.
    Cycles,
    /// The same, and the proxy stands still.
    Stall,
    /// The VM of a module, again and again, while two endpoints are sinkholes.
    VmDies(Module),
}

/// A module whose VM dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Module {
    MetricRouter,
    CircuitBreaker,
    HealthSignal,
    HealthSignalUpstream,
}

pub(crate) const CASES: [Case; 10] = [
    Case::Sinkhole,
    Case::IdleSinkhole,
    Case::Death,
    Case::ColdReturn,
    Case::Cycles,
    Case::Stall,
    Case::VmDies(Module::MetricRouter),
    Case::VmDies(Module::CircuitBreaker),
    Case::VmDies(Module::HealthSignal),
    Case::VmDies(Module::HealthSignalUpstream),
];

impl Case {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sinkhole => "sinkhole",
            Self::IdleSinkhole => "sinkhole-idle",
            Self::Death => "death",
            Self::ColdReturn => "cold-return",
            Self::Cycles => "kill-cycles",
            Self::Stall => "stall",
            Self::VmDies(Module::MetricRouter) => "metric-router-dies",
            Self::VmDies(Module::CircuitBreaker) => "circuit-breaker-dies",
            Self::VmDies(Module::HealthSignal) => "health-signal-dies",
            Self::VmDies(Module::HealthSignalUpstream) => "health-signal-upstream-dies",
        }
    }

    pub(crate) const fn arms(self) -> &'static [Arm] {
        match self {
            Self::Cycles => &Arm::CYCLES,
            Self::Stall => &[Arm::FullScan, Arm::FullScanEjects, Arm::Weir, Arm::WeirPrivate],
            Self::VmDies(_) => &[Arm::Weir, Arm::WeirPrivate],
            _ => &Arm::FAILURES,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Sinkhole => "Two answer 503 in 1 ms, for 4 s",
            Self::IdleSinkhole => "Two answer 503 in 1 ms and report that they are idle, for 4 s",
            Self::Death => "One dies, for 4 s",
            Self::ColdReturn => "One dies for 4 s and comes back at a quarter of its speed",
            Self::Cycles => "Endpoints die in turn, half a second each, with two retries",
            Self::Stall => {
                "The same for 30 s, and the proxy stands still for 2 s from the ninth on"
            }
            Self::VmDies(Module::MetricRouter) => {
                "metric-router's VM dies every half second, and two endpoints answer 503 in 1 ms"
            }
            Self::VmDies(Module::CircuitBreaker) => "The same with circuit-breaker's VM",
            Self::VmDies(Module::HealthSignal) => "The same with health-signal's VM",
            Self::VmDies(Module::HealthSignalUpstream) => {
                "The same with the VM of health-signal's upstream instance"
            }
        }
    }

    const fn head(self) -> &'static [&'static str] {
        match self {
            Self::Sinkhole | Self::IdleSinkhole => &["failed, %", "after the first second, %"],
            Self::Death => &[
                "failed, %",
                "failed requests",
                "of these in hand when it died",
                "sent to it later",
            ],
            Self::ColdReturn => &[
                "failed, %",
                "largest share in 10 s after its return, x equal",
                "the same of the nineteen others' traffic",
                "its own share",
                "failed in these",
            ],
            Self::Cycles => &[
                "deaths in all runs",
                "deaths that a client saw",
                "requests",
                "failed for clients",
            ],
            Self::Stall => {
                &["requests", "failed for clients", "the last that failed was due after, s"]
            }
            Self::VmDies(_) => {
                &["deaths", "requests", "failed for a VM, a death", "failed at endpoints, %"]
            }
        }
    }
}

impl Module {
    /// As the filter is called.
    const fn name(self) -> &'static str {
        match self {
            Self::MetricRouter => "metric-router",
            Self::CircuitBreaker => "circuit-breaker",
            Self::HealthSignal => "health-signal",
            Self::HealthSignalUpstream => "health-signal-upstream",
        }
    }
}

/// One run of one arm.
pub(crate) async fn measure(
    host: &Host,
    case: Case,
    run: &Run,
    cycles: u64,
    pinned: bool,
) -> anyhow::Result<Outcome> {
    let workers = NonZeroU32::new(run.workers).context("no workers")?;
    let setting = Setting::usual(RATE);
    let with = With {
        retries: matches!(case, Case::Cycles | Case::Stall),
        reloads: matches!(case, Case::VmDies(_)),
        pinned,
    };
    let stand = Stand::start(host, run.arm, &setting, workers, run.seed, with).await?;
    Ok(match case {
        Case::Sinkhole => Outcome::Broken(sinkhole(&stand, BEFORE, BROKEN, false).await?),
        Case::IdleSinkhole => Outcome::Broken(sinkhole(&stand, BEFORE, BROKEN, true).await?),
        Case::Death => Outcome::Broken(dies(&stand, BEFORE, BROKEN, false).await?),
        Case::ColdReturn => Outcome::Broken(dies(&stand, BEFORE, BROKEN, true).await?),
        Case::Cycles => Outcome::Cycles(kill_cycles(&stand, cycles, None).await?),
        Case::Stall => Outcome::Cycles(kill_cycles(&stand, STALL_CYCLES, Some(STALL)).await?),
        Case::VmDies(module) => {
            let lasts = BEFORE + BROKEN;
            Outcome::Reloads(vms_die(&stand, lasts, DEATHS, Some(module.name())).await?)
        }
    })
}

/// What was measured with so many workers; empty if nothing was.
pub(crate) fn section(results: &Results, workers: u32) -> String {
    let tables: String =
        CASES.iter().filter_map(|case| compared(results, workers, *case)).collect();
    if tables.is_empty() {
        return tables;
    }
    format!(
        "\n## Failures, concurrency {workers}\n\n20 endpoints, {RATE:.0} requests a second.\n{tables}"
    )
}

fn compared(results: &Results, workers: u32, case: Case) -> Option<String> {
    results.of(case.name(), workers).next()?;
    let mut head = vec!["arm".to_owned(), "seeds".to_owned()];
    head.extend(case.head().iter().map(|cell| (*cell).to_owned()));
    let more = ["", "cores: Envoy", "others", "disturbed runs", "failed runs"];
    head.extend(more.map(str::to_owned));
    let mut rows = vec![head];
    for arm in case.arms() {
        let all = results.of(case.name(), workers).filter(|own| own.run.arm == *arm);
        let (whole, rest): (Vec<_>, Vec<_>) = all
            .map(|own| &own.outcome)
            .partition(|own| !matches!(own, Outcome::Failed(_) | Outcome::Disturbed(_)));
        if whole.is_empty() && rest.is_empty() {
            continue;
        }
        let disturbed = rest.iter().filter(|own| matches!(own, Outcome::Disturbed(_))).count();
        let (cells, verdicts) = match case {
            Case::Cycles => turns(&whole),
            Case::Stall => stalls(&whole),
            Case::VmDies(_) => vms(&whole),
            _ => figures(case, &whole),
        };
        let held = matches!(arm, Arm::Weir | Arm::WeirPrivate);
        let mut row = vec![arm.to_string(), whole.len().to_string()];
        row.extend(cells);
        row.push(if held { verdicts.join("; ") } else { String::new() });
        let cores = |of: fn(&Cpu) -> f64| -> Vec<f64> {
            whole.iter().filter_map(|own| own.cpu()).map(of).collect()
        };
        row.push(spread(&cores(|own| own.proxy), 2));
        row.push(spread(&cores(|own| own.others), 2));
        row.extend([disturbed, rest.len() - disturbed].map(|count| count.to_string()));
        rows.push(row);
    }
    Some(format!("\n### {}\n{}", case.title(), table(&rows)))
}

/// Cells, and whether they are as they must be.
type Judged = (Vec<String>, Vec<String>);

fn figures(case: Case, runs: &[&Outcome]) -> Judged {
    let all = |of: fn(&Broken) -> f64| -> Vec<f64> {
        let broken = runs.iter().filter_map(|run| match run {
            Outcome::Broken(broken) => Some(broken),
            _ => None,
        });
        broken.map(of).collect()
    };
    let percent = all(Broken::percent);
    let mut cells = vec![spread(&percent, 2)];
    let verdicts = match case {
        Case::Sinkhole | Case::IdleSinkhole => {
            let later = all(Broken::percent_later);
            cells.push(spread(&later, 3));
            vec![verdict(&percent, 0.5), verdict(&later, 0.1)]
        }
        Case::ColdReturn => {
            let share = all(|own| own.share_after_return);
            let returned = all(|own| own.share_of_returned);
            let failed = all(|own| own.failed_after_return as f64);
            let others = all(|own| own.share_of_others);
            cells.extend([&share, &others, &returned].map(|values| spread(values, 2)));
            cells.push(spread(&failed, 0));
            vec![verdict(&share, 1.2), verdict(&failed, 0.0)]
        }
        _ => {
            let failed = all(|own| own.failed() as f64);
            let sent = all(|own| own.sent_to_the_dead() as f64);
            let in_hand = all(|own| (own.failed() - own.sent_to_the_dead()) as f64);
            cells.extend([spread(&failed, 0), spread(&in_hand, 0), spread(&sent, 0)]);
            vec![
                format!("all that failed: {}", verdict(&failed, 3.0)),
                format!("sent later: {}", verdict(&sent, 3.0)),
            ]
        }
    };
    (cells, verdicts)
}

/// One value of each run of kill cycles.
fn cycles(runs: &[&Outcome], of: impl Fn(&Cycles) -> u64) -> Vec<f64> {
    let cycles = runs.iter().filter_map(|run| match run {
        Outcome::Cycles(cycles) => Some(of(cycles) as f64),
        _ => None,
    });
    cycles.collect()
}

fn stalls(runs: &[&Outcome]) -> Judged {
    let last = |own: &Cycles| own.last_failed.map_or(0, |last| (last + 1).saturating_sub(STALL.at));
    let all =
        [cycles(runs, |own| own.requests), cycles(runs, |own| own.failed), cycles(runs, last)];
    (all.iter().map(|values| spread(values, 0)).collect(), Vec::new())
}

fn turns(runs: &[&Outcome]) -> Judged {
    // What must hold holds of each death, so of each run.
    let sum = |of: fn(&Cycles) -> u64| cycles(runs, of).iter().sum::<f64>();
    let failed = sum(|own| own.failed);
    let cells = [sum(|own| own.deaths), sum(|own| own.seen), sum(|own| own.requests), failed];
    let cells = cells.map(|sum| format!("{sum:.0}"));
    (cells.to_vec(), vec![verdict(&[failed], 0.0)])
}

fn vms(runs: &[&Outcome]) -> Judged {
    let all = |of: fn(&Reloads) -> f64| -> Vec<f64> {
        let reloads = runs.iter().filter_map(|run| match run {
            Outcome::Reloads(reloads) => Some(of(reloads)),
            _ => None,
        });
        reloads.collect()
    };
    let endpoints = all(|own| 100.0 * own.failed_at_endpoints as f64 / own.requests.max(1) as f64);
    let cells = vec![
        spread(&all(|own| own.count() as f64), 0),
        spread(&all(|own| own.requests as f64), 0),
        spread(&all(|own| own.failed_for_vms() as f64 / own.count().max(1) as f64), 1),
        spread(&endpoints, 2),
    ];
    (cells, vec![verdict(&endpoints, 0.5)])
}
