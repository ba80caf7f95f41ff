//! The result, for programs and for people.

use super::{DemoArgs, cast};
use anyhow::Context;
use host_sim_rig::load::{LoadResult, Second};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

const REPORT: &str = "report.json";
const TIMELINE: &str = "timeline.json";

/// What `report.json` holds: these fields and no others, for programs to compare.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) host: &'static str,
    pub(super) arms: Vec<Arm>,
}

/// One run of the load.
#[derive(Debug, Serialize)]
pub(super) struct Arm {
    name: &'static str,
    requests: u64,
    errors: u64,
    limited: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    /// Fraction of the answers by endpoint.
    share: BTreeMap<String, f64>,
    #[serde(skip)]
    course: Course,
}

/// What `timeline.json` holds of each arm: how it came to the totals.
#[derive(Debug, Serialize)]
struct Course {
    breaker_transitions: u64,
    /// Requests that came due while too many were in flight, and were not sent.
    unsent: u64,
    /// How long the suite takes to learn, what a death and a return cost.
    seconds: Vec<Second>,
}

impl Arm {
    pub(super) fn new(name: &'static str, result: LoadResult, breaker_transitions: u64) -> Self {
        Self {
            name,
            requests: result.requests,
            errors: result.failed,
            limited: result.limited,
            p50_ms: result.latency.p50_ms,
            p90_ms: result.latency.p90_ms,
            p99_ms: result.latency.p99_ms,
            share: result.share,
            course: Course { breaker_transitions, unsent: result.unsent, seconds: result.timeline },
        }
    }
}

impl Report {
    /// Writes `report.json` and `timeline.json` into this directory.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let courses: BTreeMap<_, _> = self.arms.iter().map(|arm| (arm.name, &arm.course)).collect();
        write(&directory.join(REPORT), self)?;
        write(&directory.join(TIMELINE), &courses)
    }

    pub(super) fn print(&self, args: &DemoArgs) {
        println!();
        println!(
            "{} requests a second for {} s in {}; {} is {:.0} times slower, {} dies and comes back cold",
            args.rate,
            args.seconds,
            self.host,
            cast::SLOW,
            cast::SLOW_FACTOR,
            cast::MORTAL,
        );
        println!();
        let heads: String = self.arms.iter().map(|arm| format!("{:>12}", arm.name)).collect();
        println!("  {:<22}{heads}", "");
        self.row("P50", |arm| format!("{:.1} ms", arm.p50_ms));
        self.row("P90", |arm| format!("{:.1} ms", arm.p90_ms));
        self.row("P99", |arm| format!("{:.1} ms", arm.p99_ms));
        self.row("requests", |arm| arm.requests.to_string());
        self.row("errors", |arm| arm.errors.to_string());
        self.row("limited (429)", |arm| arm.limited.to_string());
        self.row("breaker transitions", |arm| arm.course.breaker_transitions.to_string());
        for name in cast::NAMES {
            let label = match name {
                cast::SLOW => format!("share of {name} (slow)"),
                cast::MORTAL => format!("share of {name} (dies)"),
                _ => format!("share of {name}"),
            };
            let share = |arm: &Arm| arm.share.get(name).copied().unwrap_or(0.0) * 100.0;
            self.row(&label, |arm| format!("{:.1} %", share(arm)));
        }
        println!();
        println!(
            "native: the cluster's own least_request policy with two retries. weir: the same, and"
        );
        println!(
            "the four modules in front. Absolute times are this machine's; compare the columns."
        );
        println!(
            "The limit is per client, and one client sends more than it allows: shed load is part"
        );
        println!("of the difference. Latencies are of successes.");
        println!();
        println!("  report      {}", args.out.join(REPORT).display());
        println!("  by second   {}", args.out.join(TIMELINE).display());
        println!("  bootstrap   {} (the same file in both hosts)", args.config.display());
        println!("  access log  {}", args.out.join("access.log").display());
        println!("  metrics     {}", args.out.join("weir.prom").display());
        println!("  next        make demo HOST=envoy    the same in real Envoy");
        println!("              filters/README.md       how the modules work together");
    }

    fn row(&self, label: &str, cell: impl Fn(&Arm) -> String) {
        let cells: String = self.arms.iter().map(|arm| format!("{:>12}", cell(arm))).collect();
        println!("  {label:<22}{cells}");
    }
}

fn write(path: &Path, document: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_report_has_the_fields_that_are_promised_and_no_others() {
        let arm = Arm {
            name: "weir",
            requests: 100,
            errors: 1,
            limited: 2,
            p50_ms: 1.5,
            p90_ms: 2.5,
            p99_ms: 3.5,
            share: BTreeMap::from([("e1".to_owned(), 0.25), ("e2".to_owned(), 0.75)]),
            course: Course { breaker_transitions: 3, unsent: 0, seconds: Vec::new() },
        };
        let directory = tempfile::tempdir().unwrap();
        Report { host: "envoy", arms: vec![arm] }.write(directory.path()).unwrap();
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(directory.path().join(name)).unwrap()).unwrap()
        };
        let expected = json!({"host": "envoy", "arms": [{
            "name": "weir", "requests": 100, "errors": 1, "limited": 2,
            "p50_ms": 1.5, "p90_ms": 2.5, "p99_ms": 3.5, "share": {"e1": 0.25, "e2": 0.75},
        }]});
        assert_eq!(read(REPORT), expected);
        assert_eq!(read(TIMELINE)["weir"]["breaker_transitions"], 3);
    }
}
