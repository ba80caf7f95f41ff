//! The P99 table.

use crate::record::{Length, Outcome, Results, Run};
use crate::table::{median, spread, table, verdict};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use weir_tests::Host;
use weir_tests::experiment::{Arm, P99, Setting, Stand, With};

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    speeds: &'static [f64],
    /// Part of the capacity.
    rho: f64,
    /// Whether endpoints get slow in turn.
    antagonists: bool,
    /// What it is measured with, unless asked otherwise.
    pub(crate) arms: &'static [Arm],
    /// What weir may be of full scan's at most; where none is asked for, of the best native policy's.
    full_scan: Option<f64>,
}

const MILD: &[f64] = &[0.8, 1.0, 1.0, 1.2];
const STRONG: &[f64] = &[0.5, 1.0, 1.0, 1.5];

/// Of the proxy's own policies full scan is the best in every row, but for one in which it is CSWRR.
const ARMS: &[Arm] = &[Arm::FullScan, Arm::Oracle, Arm::Weir];
const ARMS_AND_CSWRR: &[Arm] = &[Arm::FullScan, Arm::Cswrr, Arm::Oracle, Arm::Weir];

pub(crate) const ROWS: [Row; 7] = [
    row("mild-0.75", MILD, 0.75),
    row("mild-0.9", MILD, 0.9),
    Row { arms: ARMS_AND_CSWRR, full_scan: Some(0.85), ..row("strong-0.6", STRONG, 0.6) },
    Row { full_scan: Some(0.85), ..row("strong-0.75", STRONG, 0.75) },
    row("strong-0.9", STRONG, 0.9),
    Row { antagonists: true, ..row("antagonist-0.75", &[], 0.75) },
    row("homogeneous-0.75", &[], 0.75),
];

const fn row(name: &'static str, speeds: &'static [f64], rho: f64) -> Row {
    Row { name, speeds, rho, antagonists: false, arms: ARMS, full_scan: None }
}

/// What an antagonist leaves, for how long, and how often one strikes.
const ANTAGONIST: (f64, Duration, Duration) =
    (0.4, Duration::from_secs(4), Duration::from_millis(800));

/// One run of one arm.
pub(crate) async fn measure(
    host: &Host,
    row: &Row,
    run: &Run,
    Length { warmup, measured }: Length,
    pinned: bool,
) -> anyhow::Result<P99> {
    let setting = Setting::loaded(row.rho, row.speeds);
    let workers = NonZeroU32::new(run.workers).context("no workers")?;
    let stand = Stand::start(
        host,
        run.arm,
        &setting,
        workers,
        run.seed,
        With { pinned, ..With::default() },
    )
    .await?;
    let running = stand.p99(Duration::from_secs(warmup), Duration::from_secs(measured));
    let result = tokio::select! {
        result = running => result?,
        () = strike(&stand, run.seed), if row.antagonists => anyhow::bail!("antagonists gave up"),
    };
    Ok(result)
}

/// Slows down one endpoint after the other, until it is dropped. A seed fixes whom.
async fn strike(stand: &Stand, seed: u64) {
    let (left, lasts, every) = ANTAGONIST;
    let mut draws = host_sim_rig::draw::SplitMix64::named(seed, "antagonist");
    let endpoints = stand.fleet().endpoints();
    let mut hit: Vec<(usize, Instant)> = Vec::new();
    let mut next = Instant::now();
    loop {
        for (at, _) in hit.extract_if(.., |(_, until)| *until <= Instant::now()) {
            endpoints[at].set_slow_factor(1.0);
        }
        if next <= Instant::now() {
            let free = (0..endpoints.len()).filter(|at| hit.iter().all(|(own, _)| own != at));
            let free: Vec<usize> = free.collect();
            let drawn = free[(draws.unit() * free.len() as f64) as usize % free.len()];
            endpoints[drawn].set_slow_factor(1.0 / left);
            hit.push((drawn, next + lasts));
            next += every;
        }
        let end = hit.iter().map(|(_, until)| *until).chain([next]).min().unwrap_or(next);
        sleep_until(end).await;
    }
}

/// What was measured with so many workers; empty if nothing was.
pub(crate) fn section(results: &Results, workers: u32) -> String {
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| results.of(row.name, workers).next().is_some())
        .map(|row| (row, Measured::of(results, row, workers)))
        .collect();
    let arms: BTreeSet<Arm> =
        rows.iter().flat_map(|(_, measured)| measured.runs.keys().copied()).collect();
    if arms.is_empty() {
        return String::new();
    }
    let mut head = vec!["P99 in ms".to_owned(), "seeds".to_owned()];
    head.extend(arms.iter().map(Arm::to_string));
    let mut figures = vec![head];
    let mut held = vec![
        ["P99 of weir over that of", "full scan", "the oracle", "the best native policy"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut machine = vec![
        [
            "",
            "lateness P50, ms",
            "lateness P99, ms",
            "cores: Envoy, full scan",
            "Envoy, weir",
            "endpoints and load",
            "others",
            "Envoy waited, full scan",
            "weir",
            "errors of weir, %",
            "disturbed runs",
            "failed runs",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (row, measured) in &rows {
        figures.push(measured.figures(row, &arms));
        held.push(measured.held(row));
        machine.push(measured.machine(row));
    }
    let lengths: BTreeSet<Length> = rows.iter().flat_map(|(_, own)| own.lengths.clone()).collect();
    let lengths: Vec<String> = lengths
        .iter()
        .map(|own| format!("{} s after {} s of warm-up", own.measured, own.warmup))
        .collect();
    format!(
        "\n## P99, concurrency {workers}\n\nEach run is {}.\n{}\nWhat must hold:\n{}\n\
         The machine meanwhile, over all arms of a row:\n{}",
        lengths.join(", or "),
        table(&figures),
        table(&held),
        table(&machine),
    )
}

/// The runs of one row.
struct Measured {
    /// By arm and seed.
    runs: BTreeMap<Arm, BTreeMap<u64, P99>>,
    lengths: BTreeSet<Length>,
    disturbed: usize,
    failed: usize,
}

impl Measured {
    fn of(results: &Results, row: &Row, workers: u32) -> Self {
        let mut own =
            Self { runs: BTreeMap::new(), lengths: BTreeSet::new(), disturbed: 0, failed: 0 };
        for record in results.of(row.name, workers) {
            match &record.outcome {
                Outcome::Latency((length, p99)) => {
                    own.lengths.insert(*length);
                    let arm = own.runs.entry(record.run.arm).or_default();
                    arm.insert(record.run.seed, p99.clone());
                }
                Outcome::Disturbed(_) => own.disturbed += 1,
                _ => own.failed += 1,
            }
        }
        own
    }

    fn values(&self, arm: Arm, of: impl Fn(&P99) -> f64) -> Vec<f64> {
        self.runs.get(&arm).into_iter().flat_map(BTreeMap::values).map(of).collect()
    }

    /// Of weir over another arm, seed by seed.
    fn ratios(&self, other: Arm) -> Vec<f64> {
        let (Some(own), Some(other)) = (self.runs.get(&Arm::Weir), self.runs.get(&other)) else {
            return Vec::new();
        };
        let pairs = own.iter().filter_map(|(seed, own)| Some((own, other.get(seed)?)));
        pairs.map(|(own, other)| own.p99_ms / other.p99_ms).collect()
    }

    fn figures(&self, row: &Row, arms: &BTreeSet<Arm>) -> Vec<String> {
        let rate = Setting::loaded(row.rho, row.speeds).rate;
        let seeds: BTreeSet<u64> = self.runs.values().flat_map(BTreeMap::keys).copied().collect();
        let mut cells = vec![format!("{} ({rate:.0} rps)", row.name), seeds.len().to_string()];
        cells.extend(arms.iter().map(|arm| match self.runs.get(arm) {
            Some(_) => spread(&self.values(*arm, |own| own.p99_ms), 0),
            None => String::new(),
        }));
        cells
    }

    fn held(&self, row: &Row) -> Vec<String> {
        let held = |ratios: &[f64], bound: Option<f64>, whose: &str| match bound {
            _ if ratios.is_empty() => "-".to_owned(),
            None => spread(ratios, 3),
            Some(bound) => {
                format!("{}{whose}; {}", spread(ratios, 3), verdict(ratios, bound))
            }
        };
        let natives = self.runs.keys().copied().filter(|arm| arm.is_native());
        let p99 = |arm: &Arm| median(&self.values(*arm, |own| own.p99_ms));
        let best = natives.min_by(|one, other| p99(one).total_cmp(&p99(other)));
        vec![
            row.name.to_owned(),
            held(&self.ratios(Arm::FullScan), row.full_scan, ""),
            held(&self.ratios(Arm::Oracle), Some(1.1), ""),
            best.map_or_else(String::new, |best| {
                held(&self.ratios(best), Some(1.02), &format!(" ({best})"))
            }),
        ]
    }

    fn machine(&self, row: &Row) -> Vec<String> {
        let all = |of: fn(&P99) -> f64| -> Vec<f64> {
            self.runs.values().flat_map(BTreeMap::values).map(of).collect()
        };
        vec![
            row.name.to_owned(),
            spread(&all(|own| own.lag_p50_ms), 2),
            spread(&all(|own| own.lag_p99_ms), 1),
            spread(&self.values(Arm::FullScan, |own| own.cpu.proxy), 2),
            spread(&self.values(Arm::Weir, |own| own.cpu.proxy), 2),
            spread(&all(|own| own.cpu.own), 2),
            spread(&all(|own| own.cpu.others), 2),
            spread(&self.values(Arm::FullScan, |own| own.cpu.proxy_waited), 2),
            spread(&self.values(Arm::Weir, |own| own.cpu.proxy_waited), 2),
            spread(&self.values(Arm::Weir, |own| own.error_percent), 2),
            self.disturbed.to_string(),
            self.failed.to_string(),
        ]
    }
}
