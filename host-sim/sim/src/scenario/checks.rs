//! What a schema cannot say: fields that need each other, names that must exist.

use super::value::{Body, Content};
use super::{Scenario, step::Step};
use crate::problem::did_you_mean;
use crate::strict::Checks;
use crate::{capability, metric, suite};
use std::path::Path;

/// Problems of a scenario that fits the schema, each at its place.
pub(super) fn check(scenario: &Scenario, checks: &mut Checks<'_>) {
    checks.whole(scenario);
    checks.suite(scenario);
    checks.faults(&["faults"], &scenario.faults);
    for (endpoint, spec) in &scenario.endpoints {
        checks.endpoint(&["endpoints", &endpoint.to_string()], spec);
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        checks.step(at, step, &names);
        names.extend(step.sends().filter_map(|send| send.name.as_deref()));
    }
}

impl Checks<'_> {
    fn whole(&mut self, scenario: &Scenario) {
        if scenario.bootstrap.is_some() == scenario.suite.is_some() {
            self.tell(&[], "a scenario needs either `bootstrap` or `suite`");
        }
        if scenario.workers.is_empty() || scenario.workers.contains(&0) {
            self.tell(&["workers"], "`workers` lists numbers from 1");
        }
        if scenario.steps.is_empty() {
            self.tell(&["steps"], "`steps` is empty: nothing would be shown");
        } else if !scenario.steps.iter().any(|step| step.expect.is_some()) {
            self.tell(&["steps"], "no step has an `expect`: the scenario could not fail");
        }
        if let (Some(base), Some(bootstrap)) = (self.base, &scenario.bootstrap)
            && !base.join(bootstrap).is_file()
        {
            self.tell(&["bootstrap"], format!("no file {}", base.join(bootstrap).display()));
        }
    }

    fn suite(&mut self, scenario: &Scenario) {
        let Some(spec) = &scenario.suite else { return };
        for (list, filters) in [
            ("filters", &spec.filters),
            ("upstream_filters", &spec.upstream_filters),
            ("network_filters", &spec.network_filters),
        ] {
            for (at, filter) in filters.iter().enumerate() {
                let at = at.to_string();
                if let Some(Err(error)) =
                    self.base.map(|base| suite::find_module(&filter.module, base))
                {
                    self.tell(&["suite", list, &at, "module"], error);
                }
                if let Err(error) = capability::all_but(&filter.denied_capabilities) {
                    self.tell(&["suite", list, &at, "denied_capabilities"], error);
                }
            }
        }
    }

    fn step(&mut self, at: usize, step: &Step, names: &[&str]) {
        let at = &at.to_string();
        let path = |rest: &'static str| ["steps", at.as_str(), rest];
        self.faults(&path("faults"), &step.faults);
        for (endpoint, spec) in &step.endpoints {
            self.endpoint(&["steps", at, "endpoints", &endpoint.to_string()], spec);
        }
        if let Some(send) = &step.send {
            self.body(&["steps", at, "send", "body"], &send.body);
        }
        for (number, send) in step.together.iter().enumerate() {
            self.body(&["steps", at, "together", &number.to_string(), "body"], &send.body);
        }
        for (number, action) in step.tcp.iter().enumerate() {
            let path = ["steps", at.as_str(), "tcp", &number.to_string()];
            if action.connection().is_none() {
                self.tell(&path, "one of `open`, `send`, `half_close` and `abort` is needed");
            }
            match &action.data {
                Some(content) => self.content(&path, content),
                None if action.send.is_some() => self.tell(&path, "`send` needs `data`"),
                None => {}
            }
        }
        for (key, content) in &step.set_shared_data {
            self.content(&["steps", at, "set_shared_data", key], content);
        }
        for (vm_id, keys) in &step.write_shared_data {
            for (key, content) in keys {
                self.content(&["steps", at, "write_shared_data", vm_id, key], content);
            }
        }
        if let Some(content) = &step.corrupt_shared_data {
            self.content(&path("corrupt_shared_data"), content);
        }
        let Some(expect) = &step.expect else { return };
        if step.sends().next().is_none() {
            let own = expect.reply.as_ref().is_some_and(|reply| reply.of.is_none());
            if own {
                let text = "this step sends nothing: say of whose replies, `of: NAME`";
                self.tell(&["steps", at, "expect", "reply"], text);
            }
        }
        let known: Vec<&str> = names
            .iter()
            .copied()
            .chain(step.sends().filter_map(|send| send.name.as_deref()))
            .collect();
        let of = expect.reply.iter().chain(&expect.replies).filter_map(|reply| reply.of.as_deref());
        for name in of.filter(|name| !known.contains(name)) {
            let meant = did_you_mean(name, known.iter().copied());
            let text = format!("no step before has `send: {{name: {name}}}`{meant}");
            self.tell(&["steps", at, "expect", "reply", "of"], text);
        }
        for text in expect.metrics.keys().filter(|text| metric::parse(text).is_none()) {
            let told = format!("{text}: write name or name{{label=\"value\"}}");
            self.tell(&["steps", at, "expect", "metrics", text], told);
        }
        for text in expect.log_count.keys() {
            if let Err(error) = regex::Regex::new(text) {
                let told = format!("no regular expression: {error}");
                self.tell(&["steps", at, "expect", "log_count", text], told);
            }
        }
    }

    fn faults(&mut self, path: &[&str], faults: &[super::fault::FaultSpec]) {
        for (at, fault) in faults.iter().enumerate() {
            if let Err(error) = fault.fault() {
                let at = at.to_string();
                let path: Vec<&str> = path.iter().copied().chain([at.as_str()]).collect();
                self.tell(&path, error);
            }
        }
    }

    fn endpoint(&mut self, path: &[&str], spec: &super::EndpointSpec) {
        let answers = spec.script.iter().chain(spec.paths.values());
        for answer in std::iter::once(&spec.answer).chain(answers) {
            self.body(path, &answer.body);
            for message in answer.grpc.iter().flat_map(|grpc| &grpc.messages) {
                self.content(path, message);
            }
        }
    }

    fn body(&mut self, path: &[&str], body: &Body) {
        for content in body.chunks() {
            self.content(path, content);
        }
    }

    fn content(&mut self, path: &[&str], content: &Content) {
        let names_file = matches!(content, Content::Other(spec) if spec.file.is_some());
        if names_file && self.base.is_none() {
            return;
        }
        if let Err(error) = content.bytes(self.base.unwrap_or(Path::new("."))) {
            self.tell(path, error);
        }
    }
}
