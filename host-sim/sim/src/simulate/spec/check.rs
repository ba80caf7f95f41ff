//! What a schema cannot say of an experiment: fields that need each other, names that must exist.

use super::arm::Plugins;
use super::expect::BEST_POLICY;
use super::{Arm, Experiment, Failure, Load};
use crate::problem::did_you_mean;
use crate::scenario::suite::SuiteSpec;
use crate::simulate::failure::Victims;
use crate::simulate::measure;
use crate::strict::Checks;
use crate::suite;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Most endpoints of an experiment: each has an address of its own.
const MOST_ENDPOINTS: usize = 10_000;

/// Most intervals in which shares are counted.
const MOST_INTERVALS: u128 = 100_000;

/// Problems of an experiment that fits the schema, each at its place.
pub(super) fn check(experiment: &Experiment, checks: &mut Checks<'_>) {
    checks.times(experiment);
    checks.endpoints(experiment);
    checks.network(experiment);
    checks.trouble(experiment);
    checks.load(experiment);
    checks.cases(experiment);
    checks.arms(experiment);
    checks.expectations(experiment);
}

impl Checks<'_> {
    fn positive(&mut self, path: &[&str], span: Duration) {
        if span.is_zero() {
            self.tell(path, "must be more than nothing");
        }
    }

    fn times(&mut self, experiment: &Experiment) {
        self.positive(&["duration"], experiment.duration.0);
        self.positive(&["interval"], experiment.interval.0);
        let intervals = experiment.duration.0.as_nanos() / experiment.interval.0.as_nanos().max(1);
        if intervals > MOST_INTERVALS {
            self.tell(&["interval"], format!("makes more than {MOST_INTERVALS} intervals"));
        }
        let mut names = BTreeSet::from(["all"]);
        for (at, window) in experiment.windows.iter().enumerate() {
            let at = at.to_string();
            if window.from >= window.to || window.to > experiment.duration {
                let text = "a window ends after it begins, and within `duration`";
                self.tell(&["windows", &at, "to"], text);
            }
            if !names.insert(&window.name) {
                let text = format!("'{}' is the name of another window", window.name);
                self.tell(&["windows", &at, "name"], text);
            }
        }
    }

    fn endpoints(&mut self, experiment: &Experiment) {
        if experiment.endpoints.is_empty() {
            self.tell(&["endpoints"], "there must be endpoints");
        }
        if experiment.servers().count() > MOST_ENDPOINTS {
            self.tell(&["endpoints"], format!("more than {MOST_ENDPOINTS}"));
        }
        let mut names = BTreeSet::new();
        for (at, group) in experiment.endpoints.iter().enumerate() {
            let at = at.to_string();
            self.positive(&["endpoints", &at, "service_time", "mean"], group.service_time.mean.0);
            if group.speeds.iter().any(|speed| *speed <= 0.0) {
                self.tell(&["endpoints", &at, "speeds"], "a speed is more than 0");
            }
            let of_one = (0..group.count).map(|number| group.endpoint_name(number));
            let own: BTreeSet<String> = of_one.chain([group.name.clone()]).collect();
            if let Some(taken) = own.iter().find(|name| names.contains(*name)) {
                let text = format!("'{taken}' is the name of another endpoint or group");
                self.tell(&["endpoints", &at, "name"], text);
            }
            names.extend(own);
        }
    }

    fn network(&mut self, experiment: &Experiment) {
        let groups = experiment.endpoints.iter().map(|group| &group.zone);
        let clients = experiment.clients.iter().map(|clients| &clients.zone);
        let zones = groups.chain(clients).chain(&experiment.proxies.zones);
        let zones: BTreeSet<&str> = zones.map(String::as_str).collect();
        for (at, link) in experiment.network.between.iter().enumerate() {
            let at = at.to_string();
            let path = ["network", "between", &at, "zones"];
            if link.zones.len() != 2 {
                self.tell(&path, "a link joins two zones");
            }
            for name in link.zones.iter().filter(|name| !zones.contains(name.as_str())) {
                let meant = did_you_mean(name, zones.iter().copied());
                self.tell(&path, format!("nothing is in the zone '{name}'{meant}"));
            }
        }
    }

    fn trouble(&mut self, experiment: &Experiment) {
        self.failures(experiment, &[], &experiment.failures);
        for (at, antagonists) in experiment.antagonists.iter().enumerate() {
            let at = at.to_string();
            self.positive(&["antagonists", &at, "every"], antagonists.every.0);
            self.targets(experiment, &["antagonists", &at, "endpoints"], &antagonists.endpoints);
        }
    }

    /// Failures that stand below `place`.
    fn failures(&mut self, experiment: &Experiment, place: &[&str], failures: &[Failure]) {
        for (at, failure) in failures.iter().enumerate() {
            let at = at.to_string();
            let below = |more: &[&'static str]| -> Vec<&str> {
                let own = ["failures", at.as_str()].into_iter().chain(more.iter().copied());
                place.iter().copied().chain(own).collect()
            };
            let path = below(&[]);
            let kinds = "one of `down`, `answers`, `slow` and `vms_die`";
            match failure.effects().as_slice() {
                [] => self.tell(&path, format!("{kinds} is needed")),
                [one] => {
                    let named = !failure.endpoints.is_empty();
                    let place = below(&["endpoints"]);
                    match one.befalls() {
                        Victims::Endpoints if !named => self.tell(&place, "hits nobody"),
                        Victims::Proxies if named => {
                            self.tell(&place, "it hits proxies, and not endpoints");
                        }
                        _ => {}
                    }
                }
                _ => self.tell(&path, format!("{kinds}, not several")),
            }
            self.targets(experiment, &below(&["endpoints"]), &failure.endpoints);
            if let Some(every) = failure.every {
                self.positive(&below(&["every"]), every.0);
                let momentary = failure.vms_die.is_some() && failure.lasts.is_none();
                if !momentary && failure.lasts.is_none_or(|lasts| lasts >= every) {
                    let text = "needs `for`, and a longer time: one ends before the next begins";
                    self.tell(&below(&["every"]), text);
                }
            }
        }
    }

    fn targets(&mut self, experiment: &Experiment, path: &[&str], names: &[String]) {
        let mut known: Vec<String> = experiment.endpoint_names();
        known.extend(experiment.endpoints.iter().map(|group| group.name.clone()));
        for (at, name) in names.iter().enumerate().filter(|(_, name)| !known.contains(name)) {
            let at = at.to_string();
            let path: Vec<&str> = path.iter().copied().chain([at.as_str()]).collect();
            let meant = did_you_mean(name, known.iter().map(String::as_str));
            self.tell(&path, format!("no endpoint or group is called '{name}'{meant}"));
        }
    }

    fn load(&mut self, experiment: &Experiment) {
        self.of_load(&[], &experiment.load);
        if experiment.clients.iter().map(|clients| clients.share).sum::<f64>() <= 0.0 {
            self.tell(&["clients"], "nobody has a share");
        }
    }

    /// A load that stands below `place`.
    fn of_load(&mut self, place: &[&str], load: &Load) {
        let below = |more: &[&'static str]| -> Vec<&str> {
            place.iter().copied().chain(["load"]).chain(more.iter().copied()).collect()
        };
        if load.rate.is_some() == load.rho.is_some() {
            self.tell(&below(&[]), "needs either `rate` or `rho`");
        }
        for (at, step) in load.steps.iter().enumerate() {
            let text = at.to_string();
            let mut path = below(&["steps"]);
            path.push(&text);
            if step.rate.is_some() == step.rho.is_some() {
                self.tell(&path, "needs either `rate` or `rho`");
            }
            if at > 0 && load.steps[at - 1].at >= step.at {
                path.push("at");
                self.tell(&path, "steps are in order of time");
            }
        }
    }

    fn cases(&mut self, experiment: &Experiment) {
        let mut names = BTreeSet::new();
        for (at, case) in experiment.cases.iter().enumerate() {
            let at = at.to_string();
            if !names.insert(&case.name) {
                self.tell(&["cases", &at, "name"], "the name of another case");
            }
            if let Some(load) = &case.load {
                self.of_load(&["cases", &at], load);
            }
            self.failures(experiment, &["cases", &at], case.failures.as_deref().unwrap_or(&[]));
        }
        let Some(trouble) = &experiment.trouble else { return };
        self.positive(&["trouble", "from"], trouble.from.0);
        if trouble.to <= trouble.from {
            self.tell(&["trouble", "to"], "trouble ends after it begins");
        }
        if trouble.to.0 + trouble.patience.0 >= experiment.duration.0 {
            let text = "must be over, with patience, before `duration`: something must be measured";
            self.tell(&["trouble"], text);
        }
    }

    fn arms(&mut self, experiment: &Experiment) {
        if experiment.arms.is_empty() {
            self.tell(&["arms"], "there must be arms");
        }
        let mut names = BTreeSet::new();
        for (at, arm) in experiment.arms.iter().enumerate() {
            let text = at.to_string();
            if !names.insert(&arm.name) {
                self.tell(&["arms", &text, "name"], "the name of another arm");
            }
            self.arm(experiment, &text, arm);
        }
        let proxies = &experiment.proxies;
        self.bootstrap(&["proxies"], &proxies.bootstrap, &proxies.suite);
    }

    fn arm(&mut self, experiment: &Experiment, at: &str, arm: &Arm) {
        if arm.policy.is_some() == arm.plugins.is_some() {
            self.tell(&["arms", at], "needs either `policy` or `plugins`");
        }
        if let Some(policy) = &arm.policy
            && policy.kinds().len() != 1
        {
            self.tell(&["arms", at, "policy"], "names one policy, such as `round_robin: {}`");
        }
        let of_policy = [
            ("outlier_detection", arm.outlier_detection.is_some()),
            ("health_checks", arm.health_checks.is_some()),
            ("circuit_breakers", arm.circuit_breakers.is_some()),
            ("admission_control", arm.admission_control.is_some()),
            ("adaptive_concurrency", arm.adaptive_concurrency.is_some()),
            ("per_try_timeout", arm.per_try_timeout.is_some()),
            ("retries", arm.retries > 0),
        ];
        for (field, _) in of_policy.iter().filter(|(_, there)| *there && arm.policy.is_none()) {
            let text = format!("`{field}` belongs to a `policy`; a bootstrap has its own");
            self.tell(&["arms", at], text);
        }
        let Some(plugins) = &arm.plugins else { return };
        let Plugins { bootstrap, suite, .. } = plugins;
        self.bootstrap(&["arms", at, "plugins"], bootstrap, suite);
        let proxies = &experiment.proxies;
        if [bootstrap, &proxies.bootstrap].into_iter().all(Option::is_none)
            && [suite, &proxies.suite].into_iter().all(Option::is_none)
        {
            let text = "needs a `bootstrap` or `suite`, here or in `proxies`";
            self.tell(&["arms", at, "plugins"], text);
        }
    }

    fn expectations(&mut self, experiment: &Experiment) {
        let arms: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        let others: Vec<&str> = arms.iter().copied().chain([BEST_POLICY]).collect();
        let windows = experiment.windows.iter().map(|window| window.name.as_str());
        let windows: Vec<&str> = windows.chain([super::super::results::WHOLE]).collect();
        let measures = measure::all();
        let names: Vec<&str> = measures.iter().map(|measure| measure.name).collect();
        for (at, expectation) in experiment.expect.iter().enumerate() {
            let text = at.to_string();
            let mut known = |field: &str, name: &str, names: &[&str], what: &str| {
                if !names.contains(&name) {
                    let meant = did_you_mean(name, names.iter().copied());
                    self.tell(&["expect", &text, field], format!("no {what} '{name}'{meant}"));
                }
            };
            known("arm", &expectation.arm, &arms, "arm");
            known("measure", &expectation.measure, &names, "measure");
            if let Some(window) = &expectation.window {
                known("window", window, &windows, "window");
            }
            if let Some(against) = &expectation.against {
                known("against", against, &others, "arm");
                let none = |measure: &measure::Measure| {
                    measure.name == expectation.measure && !measure.ratio
                };
                if measures.iter().any(none) {
                    self.tell(&["expect", &text, "against"], "ratios of it mean nothing");
                }
            }
            if expectation.at_most.is_some() == expectation.at_least.is_some() {
                self.tell(&["expect", &text], "needs either `at_most` or `at_least`");
            }
        }
    }

    fn bootstrap(&mut self, path: &[&str], file: &Option<PathBuf>, suite: &Option<SuiteSpec>) {
        let of =
            |field: &'static str| -> Vec<&str> { path.iter().copied().chain([field]).collect() };
        if file.is_some() && suite.is_some() {
            self.tell(path, "either `bootstrap` or `suite`");
        }
        let Some(base) = self.base else { return };
        if let Some(file) = file.as_ref().map(|file| base.join(file))
            && !file.is_file()
        {
            self.tell(&of("bootstrap"), format!("no file {}", file.display()));
        }
        let filters =
            suite.iter().flat_map(|suite| suite.filters.iter().chain(&suite.upstream_filters));
        for filter in filters {
            if let Err(error) = suite::find_module(&filter.module, base) {
                self.tell(&of("suite"), error);
            }
        }
    }
}
