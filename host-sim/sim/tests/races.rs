//! Twenty races that plugins' authors write, each found, and none found in its cure.

use host_sim::{ExploreOptions, Explored, ModuleCache, explore, replay_schedule};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Schedules within which every bug below is found.
const ENOUGH: u64 = 200;

/// The plugin, compiled once by plain `rustc`: it needs no crate.
static MODULE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/races/plugin.rs");
    let done = Command::new(compiler)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--edition", "2024", "--target", "wasm32-wasip1", "--crate-type", "cdylib"])
        .args(["-O", "-C", "panic=abort", "-C", "strip=symbols", "-o"])
        .arg(folder.path().join("races.wasm"))
        .arg(source)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
});

struct Race {
    number: u8,
    name: &'static str,
    workers: usize,
    /// Steps of the scenario.
    steps: &'static str,
    /// What must not depend on the order.
    same: &'static str,
}

const fn race(
    number: u8,
    name: &'static str,
    workers: usize,
    same: &'static str,
    steps: &'static str,
) -> Race {
    Race { number, name, workers, steps, same }
}

const THREE: &str = "- {send: {count: 3}, expect: {statuses: {200: '>= 1'}}}";
const FOUR: &str = "- {send: {count: 4}, expect: {statuses: {200: '>= 1'}}}";

/// A role is the path's first letter; requests go to the workers in turn.
const RACES: [Race; 20] = [
    race(1, "lost update", 3, "shared_data", THREE),
    race(2, "CAS forced", 3, "shared_data", THREE),
    race(3, "check, then act", 4, "", "- {send: {count: 4}, expect: {statuses: {200: 2, 429: 2}}}"),
    race(4, "double permit", 3, "", "- {send: {count: 3}, expect: {statuses: {200: 1, 503: 2}}}"),
    race(
        5,
        "ABA",
        2,
        "",
        "
- {together: [{path: /p}, {path: /j}], expect: {statuses: {200: 2}}}
- {send: {path: /p}, expect: {statuses: {200: 1}}}",
    ),
    race(
        6,
        "lost lease",
        2,
        "",
        "- {together: [{path: /r}, {path: /t}], expect: {statuses: {200: 1, 409: 1}}}",
    ),
    race(
        7,
        "lease taken twice",
        3,
        "",
        "- {send: {count: 3}, expect: {statuses: {200: 1, 409: 2}}}",
    ),
    race(8, "double init", 3, "shared_data", THREE),
    race(9, "stale snapshot", 3, "shared_data", THREE),
    race(10, "dropped conflict", 3, "shared_data", THREE),
    race(
        11,
        "torn update",
        2,
        "",
        "- {together: [{path: /w}, {path: /r}], expect: {statuses: {200: 2}}}",
    ),
    race(
        12,
        "lock order",
        2,
        "",
        "- {together: [{path: /a}, {path: /b}], expect: {statuses: {200: 2}}}",
    ),
    race(13, "two leaders", 3, "", "- {advance: 150ms, expect: {metrics: {race: 1}}}"),
    race(14, "gauge out of order", 3, "metrics", THREE),
    race(15, "consumed twice", 3, "", THREE),
    race(
        16,
        "lost wake-up",
        2,
        "",
        "
- {together: [{path: /p}, {path: /c}], expect: {statuses: {200: 2}}}
- {send: {path: /look}, expect: {statuses: {200: 1}}}",
    ),
    race(
        17,
        "transfer",
        2,
        "",
        "- {together: [{path: /m}, {path: /r}], expect: {statuses: {200: 2}}}",
    ),
    race(18, "equal numbers", 4, "", FOUR),
    race(
        19,
        "window reset",
        4,
        "",
        "- {send: {count: 4}, expect: {statuses: {200: '<= 2', 429: '>= 0'}}}",
    ),
    race(
        20,
        "resurrection",
        2,
        "shared_data",
        "- {together: [{path: /d}, {path: /t}], expect: {statuses: {200: 2}}}",
    ),
];

impl Race {
    fn write(&self, folder: &Path, variant: char) -> PathBuf {
        let Self { number, name, workers, steps, same } = self;
        let module = MODULE.path().join("races.wasm");
        let text = format!(
            "scenario: {name}\nworkers: [{workers}]\nsuite: {{filters: [{{module: {}, \
             name: plugin, configuration: '{number:02}{variant}'}}]}}\nendpoints: {{127.0.0.1:9001: {{}}}}\n\
             explore: {{same: [{same}]}}\nsteps:\n{steps}\n",
            module.display()
        );
        let file = folder.join(format!("{number}{variant}.yaml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    fn explore(&self, variant: char) -> Explored {
        let folder = tempfile::tempdir().unwrap();
        let file = self.write(folder.path(), variant);
        let options = ExploreOptions { schedules: ENOUGH, ..ExploreOptions::default() };
        let explored = explore(&file, &options, |_| {});
        assert_eq!(explored.unusable, None, "{}", self.name);
        if let Some(finding) = &explored.finding {
            // What is told can be had again.
            let again = replay_schedule(&finding.schedule, ModuleCache::default());
            let again = again.unwrap().unwrap_or_else(|| panic!("{explored}: not again"));
            assert_eq!((&again.failures, &again.steps), (&finding.failures, &finding.steps));
        }
        explored
    }
}

#[test]
fn each_of_twenty_races_is_found_and_told_in_few_steps() {
    for race in &RACES {
        let explored = race.explore('b');
        let finding = explored.finding.as_ref();
        let finding = finding.unwrap_or_else(|| panic!("{} was not found: {explored}", race.name));
        println!("{explored}");
        assert!(finding.schedule.found_by > 0, "{} needs no interleaving: {explored}", race.name);
        let case = &finding.schedule.case;
        assert!(case.decisions.len() <= 3, "{explored}");
        // Two items taken and one put back, and a window full of requests, take more.
        let most = if matches!(race.number, 5 | 19) { 20 } else { 10 };
        assert!(finding.steps.len() + finding.earlier <= most, "{explored}");
    }
}

#[test]
fn none_is_found_in_their_cures() {
    for race in &RACES {
        let explored = race.explore('c');
        assert!(explored.passed() && explored.schedules == ENOUGH, "{}: {explored}", race.name);
    }
}
