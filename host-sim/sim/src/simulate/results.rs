//! What an experiment has shown: every number, as JSON has it. Tables and plots are made from this.

use super::estimate::{Estimate, median};
use super::measure::{self, Measure, Over, Part, Setting};
use super::notices::{self, Notice};
use super::record::Record;
use super::spec::Experiment;
use super::verdict::Verdict;
use super::words;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The name of the window that is the whole.
pub(crate) const WHOLE: &str = "all";

/// Points of the latency curve, as parts of 1: dense where tails are.
const CURVE: [f64; 22] = [
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98,
    0.99, 0.995, 0.998, 0.999, 0.9995,
];

/// Of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// What it is about.
    pub experiment: String,
    /// The seeds of the runs, in order.
    pub seeds: Vec<u64>,
    /// Seconds of load before anything is measured.
    pub warmup_seconds: f64,
    /// Seconds that are measured.
    pub duration_seconds: f64,
    /// Seconds of an interval of `shares`.
    pub interval_seconds: f64,
    /// Number of proxies.
    pub proxies: usize,
    /// Workers of each, in arms with plugins.
    pub workers: usize,
    /// The endpoints in words, a phrase for each group: how many, slots, speeds, work.
    pub endpoint_groups: Vec<String>,
    /// Load in words: requests a second, and the part of the capacity that is.
    pub load: String,
    /// Slots of all endpoints.
    pub slots: usize,
    /// Requests a second that all endpoints can serve.
    pub capacity_rps: f64,
    /// Names of the endpoints, in the order of `shares`.
    pub endpoints: Vec<String>,
    /// Each endpoint's part of the capacity.
    pub fair_shares: Vec<f64>,
    /// What is measured.
    pub measures: Vec<MeasureInfo>,
    /// In which parts of the time: `all` first.
    pub windows: Vec<WindowInfo>,
    /// Names of the cases, if there are any.
    pub cases: Vec<String>,
    /// Points of `curve`, as parts of 1.
    pub curve_points: Vec<f64>,
    /// In the order of the file.
    pub arms: Vec<ArmResult>,
    /// What must hold, in the order of the file, and whether it does.
    pub verdicts: Vec<Verdict>,
}

/// A measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasureInfo {
    /// Its key.
    pub name: String,
    /// As tables call it.
    pub title: String,
    /// Of its numbers.
    pub unit: String,
    /// Digits behind the point in tables.
    pub digits: usize,
}

/// A part of the measured time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowInfo {
    /// Its key.
    pub name: String,
    /// Begin, in seconds.
    pub from: f64,
    /// End, in seconds.
    pub to: f64,
}

/// What stands in an arm's proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmKind {
    /// A native policy.
    Policy,
    /// A bound, not a rival.
    Oracle,
    /// Plugins in the engine.
    Plugins,
}

/// Numbers by window, then by measure.
pub type ByWindow<T> = BTreeMap<String, BTreeMap<String, T>>;

/// Of an arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmResult {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ArmKind,
    /// Over seeds, and over all cases.
    pub summary: ByWindow<Estimate>,
    /// The same of each case, in the order of `cases`.
    pub by_case: Vec<ByWindow<Estimate>>,
    /// By other arm: this arm's number / that arm's, of the same seed, over seeds.
    pub ratios: BTreeMap<String, ByWindow<Estimate>>,
    /// Latencies in milliseconds at `curve_points` of the whole, median over seeds.
    pub curve: Vec<f64>,
    /// What plugins and the host said at warn or above, the worst first: of all runs.
    pub notices: Vec<Notice>,
    /// Of each seed.
    pub runs: Vec<Run>,
}

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Which.
    pub seed: u64,
    /// Number of its case, from 0.
    pub case: usize,
    /// What was measured.
    pub values: ByWindow<f64>,
    /// As `curve` of the arm.
    pub curve: Vec<f64>,
    /// Requests sent to each endpoint, by interval.
    pub shares: Vec<Vec<u32>>,
    /// What plugins and the host said at warn or above, the worst first.
    pub notices: Vec<Notice>,
}

impl Results {
    /// Without arms.
    pub(crate) fn new(experiment: &Experiment, seeds: &[u64]) -> Self {
        let seconds = |span: Duration| span.as_secs_f64();
        let whole =
            WindowInfo { name: WHOLE.to_owned(), from: 0.0, to: seconds(experiment.duration.0) };
        let windows = experiment.windows.iter().map(|window| WindowInfo {
            name: window.name.clone(),
            from: seconds(window.from.0),
            to: seconds(window.to.0),
        });
        let measures = measure::of(experiment).into_iter().map(|measure| MeasureInfo {
            name: measure.name.to_owned(),
            title: measure.title.to_owned(),
            unit: measure.unit.to_owned(),
            digits: measure.digits,
        });
        Self {
            experiment: experiment.experiment.clone(),
            seeds: seeds.to_vec(),
            warmup_seconds: seconds(experiment.warmup.0),
            duration_seconds: seconds(experiment.duration.0),
            interval_seconds: seconds(experiment.interval.0),
            proxies: experiment.proxies.count,
            workers: experiment.proxies.workers,
            endpoint_groups: experiment.endpoints.iter().map(words::group).collect(),
            load: words::load(experiment),
            slots: experiment.endpoints.iter().map(|group| group.count * group.slots).sum(),
            capacity_rps: experiment.capacity(),
            endpoints: experiment.endpoint_names(),
            fair_shares: fair_shares(experiment),
            measures: measures.collect(),
            windows: std::iter::once(whole).chain(windows).collect(),
            cases: experiment.cases.iter().map(|case| case.name.clone()).collect(),
            curve_points: CURVE.to_vec(),
            arms: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Adds an arm; [`Results::compare`] comes when all are there.
    pub(crate) fn push(&mut self, name: &str, kind: ArmKind, runs: Vec<Run>) {
        let all: Vec<_> = runs.iter().map(|run| &run.values).collect();
        let of_case = |case: usize| {
            let runs = runs.iter().filter(|run| run.case == case);
            estimates(&runs.map(|run| &run.values).collect::<Vec<_>>())
        };
        let by_case = (0..self.cases.len()).map(of_case).collect();
        let mut curve = Vec::new();
        for at in 0..CURVE.len() {
            let mut of_seeds: Vec<f64> =
                runs.iter().filter_map(|run| run.curve.get(at).copied()).collect();
            of_seeds.sort_by(f64::total_cmp);
            curve.extend(median(&of_seeds));
        }
        self.arms.push(ArmResult {
            name: name.to_owned(),
            kind,
            summary: estimates(&all),
            by_case,
            ratios: BTreeMap::new(),
            curve,
            notices: notices::merged(runs.iter().flat_map(|run| run.notices.clone())),
            runs,
        });
    }

    /// Every arm with every other, seed by seed, and with what is expected of it.
    pub(crate) fn compare(&mut self, experiment: &Experiment) {
        let measures = measure::of(experiment);
        let told = |over| {
            let told = measures.iter().filter(move |own: &&Measure| own.ratio && own.over == over);
            told.map(|measure| measure.name).collect()
        };
        let (ratio, counted): (Vec<&str>, Vec<&str>) = (told(Over::Median), told(Over::Mean));
        let mut all = Vec::new();
        for arm in &self.arms {
            let mut ratios = BTreeMap::new();
            for other in self.arms.iter().filter(|other| other.name != arm.name) {
                let pairs = arm.runs.iter().zip(&other.runs);
                let of_seeds: Vec<ByWindow<f64>> =
                    pairs.map(|(own, other)| divided(&own.values, &other.values, &ratio)).collect();
                let mut told = estimates(&of_seeds.iter().collect::<Vec<_>>());
                for (window, measure, estimate) in counted_ratios(&counted, arm, other) {
                    told.entry(window).or_default().insert(measure, estimate);
                }
                ratios.insert(other.name.clone(), told);
            }
            all.push(ratios);
        }
        self.arms.iter_mut().zip(all).for_each(|(arm, ratios)| arm.ratios = ratios);
        let verdicts = experiment.expect.iter().map(|expected| Verdict::of(expected, self));
        self.verdicts = verdicts.collect();
    }

    /// The arm of that name.
    #[must_use]
    pub fn arm(&self, name: &str) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// One JSON document, with everything.
    #[must_use]
    pub fn json(&self) -> String {
        // Maps with string keys and numbers: this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl ArmResult {
    /// An estimate over seeds, of a window and a measure.
    #[must_use]
    pub fn estimate(&self, window: &str, measure: &str) -> Option<&Estimate> {
        self.summary.get(window)?.get(measure)
    }

    /// The same of the ratio to another arm.
    #[must_use]
    pub fn ratio(&self, other: &str, window: &str, measure: &str) -> Option<&Estimate> {
        self.ratios.get(other)?.get(window)?.get(measure)
    }
}

impl Run {
    /// What a record comes to.
    pub(crate) fn of(experiment: &Experiment, seed: u64, case: usize, record: Record) -> Self {
        let setting = Setting {
            fair: fair_shares(experiment),
            capacity: experiment.capacity(),
            trouble: experiment.trouble,
            duration: experiment.duration.0,
            interval: experiment.interval.0,
        };
        let whole = (WHOLE.to_owned(), Duration::ZERO, experiment.duration.0);
        let windows = experiment.windows.iter();
        let windows = windows.map(|window| (window.name.clone(), window.from.0, window.to.0));
        let measures = measure::of(experiment);
        let values = |part: &Part<'_>| -> BTreeMap<String, f64> {
            let value = |measure: &measure::Measure| {
                (measure.of)(part).map(|value| (measure.name.to_owned(), value))
            };
            measures.iter().filter_map(value).collect()
        };
        let parts = std::iter::once(whole).chain(windows);
        let values_by_window = parts
            .map(|(name, from, to)| (name, values(&Part::of(&record, &setting, from, to))))
            .collect();
        let part = Part::of(&record, &setting, Duration::ZERO, experiment.duration.0);
        let curve = CURVE.iter().filter_map(|at| part.percentile(*at));
        let curve = curve.map(|latency| latency.as_secs_f64() * 1e3).collect();
        let Record { shares, notices, .. } = record;
        Self { seed, case, values: values_by_window, curve, shares: shares.counts, notices }
    }
}

/// Each endpoint's part of the capacity.
fn fair_shares(experiment: &Experiment) -> Vec<f64> {
    let all = experiment.capacity();
    let servers = experiment.servers();
    servers.map(|(group, at)| super::server::Server::new(group, at).capacity() / all).collect()
}

/// Of runs of which each has numbers.
fn estimates(runs: &[&ByWindow<f64>]) -> ByWindow<Estimate> {
    let mut collected: ByWindow<Vec<f64>> = BTreeMap::new();
    for (window, values) in runs.iter().flat_map(|run| run.iter()) {
        let window = collected.entry(window.clone()).or_default();
        for (measure, value) in values {
            window.entry(measure.clone()).or_default().push(*value);
        }
    }
    let means = means();
    let estimated = |(measure, values): (String, Vec<f64>)| {
        let estimate = match means.contains(&measure.as_str()) {
            true => Estimate::mean(&values),
            false => Estimate::of(&values),
        };
        estimate.map(|estimate| (measure, estimate))
    };
    let windows = collected.into_iter();
    windows.map(|(name, of)| (name, of.into_iter().filter_map(estimated).collect())).collect()
}

/// Measures that are told as means.
fn means() -> Vec<&'static str> {
    let counted = |measure: &Measure| (measure.over == Over::Mean).then_some(measure.name);
    measure::all().iter().filter_map(counted).collect()
}

/// Of measures that are counted, over all runs that both have: the window, the measure, the ratio.
fn counted_ratios<'a>(
    measures: &'a [&str],
    arm: &'a ArmResult,
    other: &'a ArmResult,
) -> impl Iterator<Item = (String, String, Estimate)> + 'a {
    let windows = arm.summary.keys();
    windows.flat_map(move |window| {
        measures.iter().filter_map(move |measure| {
            let values = |arm: &ArmResult| -> Option<Vec<f64>> {
                let value = |run: &Run| run.values.get(window)?.get(*measure).copied();
                arm.runs.iter().map(value).collect()
            };
            let ratio = Estimate::mean_ratio(&values(arm)?, Some(&values(other)?))?;
            Some((window.clone(), (*measure).to_owned(), ratio))
        })
    })
}

/// Where the other is not zero.
fn divided(own: &ByWindow<f64>, other: &ByWindow<f64>, measures: &[&str]) -> ByWindow<f64> {
    let window = |(name, values): (&String, &BTreeMap<String, f64>)| {
        let others = other.get(name);
        let divided = values.iter().filter_map(|(measure, value)| {
            let by = *others?.get(measure)?;
            let told = measures.contains(&measure.as_str()) && by > 0.0;
            told.then(|| (measure.clone(), value / by))
        });
        (name.clone(), divided.collect())
    };
    own.iter().map(window).collect()
}
