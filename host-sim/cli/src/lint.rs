//! `host-sim lint`: what Envoy takes otherwise than a plugin's author.

use crate::cache::CacheArgs;
use crate::format::Format;
use crate::{Unusable, source};
use clap::Args;
use host_sim::lint::{Finding, Level, RULES, lint_bootstrap, lint_file, rule, worst};
use host_sim::{HostOptions, RunOptions, find_files};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is looked for in folders.
const ENDINGS: [&str; 3] = ["wasm", "yaml", "textpb"];

/// Name a plugin's mistakes, with place, rule and mend.
///
/// Scenarios bring their own traffic. A bootstrap and a bare module get traffic of all sorts: many
/// clients, bodies in chunks, failing upstreams, a minute of ticks. Lines of the plugin's source
/// need DWARF in the module: build it with `debug = true` and without `strip`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim lint target/wasm32-wasip1/debug/my_plugin.wasm\n  \
    host-sim lint envoy.yaml --allow empty-vm-id\n  \
    host-sim lint tests/scenarios --format json\n  \
    host-sim lint --list\n\n\
    Exit codes: 0 nothing, or notes only; 1 a warning or an error; 2 unusable arguments, or a \
    scenario that could not be run.")]
pub(crate) struct LintArgs {
    /// Modules (.wasm), bootstraps and scenario files (.yaml), test suites (.textpb), or folders
    /// searched for them.
    #[arg(required_unless_present = "list", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A lint that is not told of; can be repeated.
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Workers of bootstraps and modules; scenarios say how many they have.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Print every lint with its level, rule and mend.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Everything that was found.
#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

pub(crate) fn execute(args: &LintArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        for rule in RULES {
            let (level, name) = (rule.level.as_str(), rule.name);
            println!("{level}[{name}]\n  rule  {}\n  mend  {}", rule.rule, rule.mend);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = args.allow.iter().find(|name| rule(name).is_none()) {
        return Err(Unusable(format!("--allow: there is no lint '{name}', see --list")).into());
    }
    let files = find_files(&args.paths, &ENDINGS).map_err(|error| Unusable(error.to_string()))?;
    if files.is_empty() {
        let nothing = "there is nothing to lint: no .wasm, .yaml or .textpb file";
        return Err(Unusable(nothing.to_owned()).into());
    }
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(lint(file, args)?);
    }
    findings.retain(|finding| !args.allow.iter().any(|name| name == finding.lint));
    let findings = distinct(findings);
    let worst = worst(&findings);
    args.format.print(&Findings { findings }, text)?;
    Ok(if worst >= Some(Level::Warning) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lint(path: &Path, args: &LintArgs) -> anyhow::Result<Vec<Finding>> {
    let options = HostOptions {
        workers: args.workers.into(),
        module_cache: args.cache.modules(),
        ..HostOptions::default()
    };
    if path.extension().is_some_and(|ending| ending == "wasm") {
        return lint_file(path, options).map_err(|error| Unusable(error).into());
    }
    if is_bootstrap(path)? {
        return Ok(lint_bootstrap(&source::bootstrap(path)?, options));
    }
    let module_cache = args.cache.modules();
    let options = RunOptions { module_cache, explain: true, ..RunOptions::default() };
    let report = host_sim::run(&[path.to_owned()], &options, |_| {})
        .map_err(|error| Unusable(error.to_string()))?;
    let mut findings = Vec::new();
    for outcome in report.outcomes {
        if let Some(reason) = outcome.unusable.filter(|_| outcome.findings.is_empty()) {
            return Err(Unusable(format!("{}: {reason}", outcome.file.display())).into());
        }
        findings.extend(outcome.findings);
    }
    Ok(findings)
}

/// Told by what only bootstraps have.
fn is_bootstrap(path: &Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Unusable(format!("cannot read {}: {error}", path.display())))?;
    let document = serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&text);
    Ok(document.is_ok_and(|document| {
        ["static_resources", "bootstrap_extensions"].iter().any(|key| document.get(key).is_some())
    }))
}

/// The same mistake of several runs is one.
fn distinct(findings: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |own: &&mut Finding| {
            own.lint == finding.lint
                && own.plugin == finding.plugin
                && own.callback == finding.callback
                && own.message == finding.message
        };
        match all.iter_mut().find(same) {
            Some(own) => own.count += finding.count,
            None => all.push(finding),
        }
    }
    all.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.lint.cmp(b.lint)));
    all
}

fn text(all: &Findings) -> String {
    let mut text: String = all.findings.iter().map(|finding| format!("{finding}\n\n")).collect();
    let count = |level| all.findings.iter().filter(|finding| finding.level == level).count();
    let counts = [Level::Error, Level::Warning, Level::Note].map(|level| match count(level) {
        1 => format!("1 {}", level.as_str()),
        many => format!("{many} {}s", level.as_str()),
    });
    text.push_str(&counts.join(", "));
    text.push('\n');
    text
}
