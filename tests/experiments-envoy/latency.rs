//! The P99 table: arms alternate seed by seed, so that a machine that gets slower does so for all.

use crate::Args;
use crate::table::{median, spread, table, verdict};
use anyhow::ensure;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use weir_tests::Host;
use weir_tests::experiment::{Arm, P99, Setting, Stand};

/// Load before anything is measured.
const WARMUP: Duration = Duration::from_secs(5);

/// A row: its name, the speeds, the load, and whether antagonists strike.
type Row = (&'static str, &'static [f64], f64, bool);

const ROWS: [Row; 7] = [
    ("mild-0.75", &[0.8, 1.0, 1.0, 1.2], 0.75, false),
    ("mild-0.9", &[0.8, 1.0, 1.0, 1.2], 0.9, false),
    ("strong-0.6", &[0.5, 1.0, 1.0, 1.5], 0.6, false),
    ("strong-0.75", &[0.5, 1.0, 1.0, 1.5], 0.75, false),
    ("strong-0.9", &[0.5, 1.0, 1.0, 1.5], 0.9, false),
    ("antagonist-0.75", &[], 0.75, true),
    ("homogeneous-0.75", &[], 0.75, false),
];

/// What an antagonist leaves, for how long, and how often one strikes.
const ANTAGONIST: (f64, Duration, Duration) =
    (0.4, Duration::from_secs(4), Duration::from_millis(800));

pub(crate) async fn section(
    args: &Args,
    host: &Host,
    workers: NonZeroU32,
) -> anyhow::Result<String> {
    let unknown = args.rows.iter().find(|name| ROWS.iter().all(|(own, ..)| own != name));
    ensure!(unknown.is_none(), "no row {unknown:?}");
    let arms = if args.arms.is_empty() { Arm::LATENCY.to_vec() } else { args.arms.clone() };
    let mut head = vec!["P99 in ms".to_owned()];
    head.extend(arms.iter().map(Arm::to_string));
    head.extend(
        [
            "errors of weir, %",
            "lateness of the load",
            "against full scan",
            "against the oracle",
            "against the best native",
        ]
        .map(str::to_owned),
    );
    let mut rows = vec![head];
    for row in ROWS
        .iter()
        .filter(|(name, ..)| args.rows.is_empty() || args.rows.iter().any(|own| own == name))
    {
        rows.push(measured(args, host, workers, row, &arms).await?);
    }
    let (seeds, seconds) = (args.seeds, args.seconds);
    Ok(format!(
        "\n## P99, concurrency {workers}\n\n{seeds} seeds of {seconds} s after 5 s. Ratios are P99 of weir \
         over P99 of the other, seed by seed. Where the load's own lateness (P99, ms) is not \
         small, the machine was measured and not the policies.\n{}",
        table(&rows)
    ))
}

async fn measured(
    args: &Args,
    host: &Host,
    workers: NonZeroU32,
    row: &Row,
    arms: &[Arm],
) -> anyhow::Result<Vec<String>> {
    let (name, speeds, rho, antagonists) = *row;
    let setting = Setting::loaded(rho, speeds);
    let duration = Duration::from_secs(args.seconds);
    let mut runs: BTreeMap<Arm, Vec<P99>> = BTreeMap::new();
    for seed in 1..=args.seeds {
        for arm in arms {
            let stand = Stand::start(host, *arm, &setting, workers, seed, false).await?;
            let run = if antagonists {
                let striking = strike(&stand, seed);
                tokio::select! {
                    run = stand.p99(WARMUP, duration) => run?,
                    () = striking => continue,
                }
            } else {
                stand.p99(WARMUP, duration).await?
            };
            eprintln!("{name} concurrency {workers} seed {seed} {arm}: {run:?}");
            runs.entry(*arm).or_default().push(run);
        }
    }
    let p99 = |arm: Arm| -> Vec<f64> {
        runs.get(&arm).into_iter().flatten().map(|run| run.p99_ms).collect()
    };
    let against = |other: Arm| -> Vec<f64> {
        p99(Arm::Weir).iter().zip(p99(other)).map(|(own, other)| own / other).collect()
    };
    let rate = setting.rate;
    let mut cells = vec![format!("{name} ({rate:.0} rps)")];
    cells.extend(arms.iter().map(|arm| spread(&p99(*arm), 0)));
    let errors: Vec<f64> =
        runs.get(&Arm::Weir).into_iter().flatten().map(|run| run.error_percent).collect();
    cells.push(spread(&errors, 2));
    let lateness: Vec<f64> = runs.values().flatten().map(|run| run.lag_p99_ms).collect();
    cells.push(spread(&lateness, 1));
    let scan = against(Arm::FullScan);
    let bounded = matches!(name, "strong-0.6" | "strong-0.75");
    let scan_verdict = bounded.then(|| format!(", {}", verdict(median(&scan), 0.85)));
    cells.push(format!("{}{}", spread(&scan, 2), scan_verdict.unwrap_or_default()));
    let oracle = against(Arm::Oracle);
    cells.push(format!("{}, {}", spread(&oracle, 2), verdict(median(&oracle), 1.1)));
    let natives = arms.iter().copied().filter(|arm| arm.is_native());
    let best = natives.min_by(|one, other| median(&p99(*one)).total_cmp(&median(&p99(*other))));
    cells.push(best.map_or_else(String::new, |best| {
        let ratio = against(best);
        format!("{} ({best}), {}", spread(&ratio, 2), verdict(median(&ratio), 1.02))
    }));
    Ok(cells)
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
