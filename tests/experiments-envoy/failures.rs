//! What failures cost, arm by arm: 20 endpoints, 1500 requests a second, no retries but where said.

use crate::Args;
use crate::table::{median, spread, table, verdict};
use std::num::NonZeroU32;
use weir_tests::Host;
use weir_tests::experiment::{Arm, Broken, Cycles, Setting, Stand, dies, kill_cycles, sinkhole};

/// Requests a second.
const RATE: f64 = 1500.0;

/// Seconds of load before anything breaks, and while it is broken.
const BEFORE: u64 = 3;
const BROKEN: u64 = 4;

/// Requests a second while endpoints die in turn with retries on.
const CYCLE_RATE: f64 = 500.0;

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Sinkhole,
    IdleSinkhole,
    Death,
    ColdReturn,
}

pub(crate) async fn section(
    args: &Args,
    host: &Host,
    workers: NonZeroU32,
) -> anyhow::Result<String> {
    let mut text = format!("\n## Failures, concurrency {workers}\n");
    for case in [Case::Sinkhole, Case::IdleSinkhole, Case::Death, Case::ColdReturn] {
        text.push_str(&compared(args, host, workers, case).await?);
    }
    text.push_str(&cycles(args, host, workers).await?);
    Ok(text)
}

async fn compared(
    args: &Args,
    host: &Host,
    workers: NonZeroU32,
    case: Case,
) -> anyhow::Result<String> {
    let (title, head): (_, &[&str]) = match case {
        Case::Sinkhole => ("Two answer 503 in 1 ms, for 4 s", &SINKHOLE),
        Case::IdleSinkhole => {
            ("Two answer 503 in 1 ms and report that they are idle, for 4 s", &SINKHOLE)
        }
        Case::Death => ("One dies", &DEATH),
        Case::ColdReturn => ("One dies for 4 s and comes back at a quarter of its speed", &RETURN),
    };
    let mut rows = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    for arm in Arm::FAILURES {
        let mut runs = Vec::new();
        for seed in 1..=args.seeds {
            let setting = Setting::usual(RATE);
            let stand = Stand::start(host, arm, &setting, workers, seed, false).await?;
            let broken = match case {
                Case::Sinkhole => sinkhole(&stand, BEFORE, BROKEN, false).await?,
                Case::IdleSinkhole => sinkhole(&stand, BEFORE, BROKEN, true).await?,
                Case::Death => dies(&stand, BEFORE, BROKEN, false).await?,
                Case::ColdReturn => dies(&stand, BEFORE, BROKEN, true).await?,
            };
            eprintln!("{case:?} concurrency {workers} seed {seed} {arm}: {broken:?}");
            runs.push(broken);
        }
        rows.push(row(case, arm, &runs));
    }
    Ok(format!("\n### {title}\n{}", table(&rows)))
}

const SINKHOLE: [&str; 4] = ["arm", "failed, %", "after the first second, %", ""];
const DEATH: [&str; 5] = ["arm", "failed, %", "failed requests", "sent to the dead one", ""];
const RETURN: [&str; 4] =
    ["arm", "failed, %", "largest share in 10 s after its return, x equal", ""];

fn row(case: Case, arm: Arm, runs: &[Broken]) -> Vec<String> {
    let all = |of: fn(&Broken) -> f64| -> Vec<f64> { runs.iter().map(of).collect() };
    let percent = all(Broken::percent);
    let mut cells = vec![arm.to_string(), spread(&percent, 2)];
    let mut verdicts = Vec::new();
    match case {
        Case::Sinkhole | Case::IdleSinkhole => {
            let later = all(Broken::percent_later);
            cells.push(spread(&later, 2));
            verdicts = vec![verdict(median(&percent), 0.5), verdict(median(&later), 0.1)];
        }
        Case::Death => {
            let failed = all(|own| own.failed as f64);
            let sent = all(|own| own.sent_to_the_dead() as f64);
            cells.extend([spread(&failed, 0), spread(&sent, 0)]);
            verdicts = vec![verdict(median(&sent), 3.0)];
        }
        Case::ColdReturn => {
            let share = all(|own| own.share_after_return);
            cells.push(spread(&share, 2));
            verdicts.push(verdict(median(&share), 1.2));
        }
    }
    cells.push(if arm == Arm::Weir { verdicts.join(", ") } else { String::new() });
    cells
}

async fn cycles(args: &Args, host: &Host, workers: NonZeroU32) -> anyhow::Result<String> {
    let head = ["arm", "deaths", "requests", "failed for clients", ""].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for arm in [Arm::RoundRobin, Arm::FullScan, Arm::Weir] {
        let setting = Setting::usual(CYCLE_RATE);
        let stand = Stand::start(host, arm, &setting, workers, 1, true).await?;
        let run = kill_cycles(&stand, args.cycles).await?;
        eprintln!("kill cycles concurrency {workers} {arm}: {run:?}");
        let Cycles { deaths, requests, failed } = run;
        let word = if arm == Arm::Weir { verdict(failed as f64, 0.0) } else { String::new() };
        let numbers = [deaths, requests, failed].map(|number| number.to_string());
        rows.push(std::iter::once(arm.to_string()).chain(numbers).chain([word]).collect());
    }
    Ok(format!(
        "\n### Endpoints die in turn, half a second each, {CYCLE_RATE:.0} rps, two retries\n{}",
        table(&rows)
    ))
}
