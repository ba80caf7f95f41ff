//! Test suites in the format of the service extensions' plugin tester (`*.textpb`).
//!
//! The format asks for less than a scenario: one plugin, one stream a test, and what each callback
//! did to what it was handed. Nothing surrounds the callbacks, so a response can come without a
//! request and a header phase without a path; the engine's bare streams are made for it. Suites run
//! as they are:
//!
//! - headers are matched as the tester keeps them: one value a name, repeated ones joined by commas,
//!   names regardless of case; `headers` lines have names as they were written;
//! - `exact` is the whole text, `regex` must match all of it, `invert` wants no match;
//! - logs are those of the phase and of the context that the phase is about, from `log_level` up;
//! - after a local reply the phases that follow call nothing and give nothing;
//! - time stands at `time_secs`; a stream ends with done and delete, without a log callback.
//!
//! Where the tester differs from Envoy the plugin meets Envoy here: a write into the middle of a
//! body is refused, blanks in details become underscores. `benchmark` measures instructions instead
//! of time. Of `immediate` in a body phase, which that tester can never see, this one knows.

mod bench;
mod check;
mod http1;
mod plugin;
mod suite;
mod text;

use crate::report::Outcome;
use crate::runner::RunOptions;
use check::Context;
use plugin::{Phase, Plugin};
use std::path::{Path, PathBuf};
use std::time::Instant;
use suite::{Chunking, Input, Invocation, Test, TestSuite};

/// Endings of files in this format.
pub(crate) const ENDINGS: [&str; 3] = ["textpb", "textproto", "pbtxt"];

/// What is wrong with a suite's text; nothing if it can be run. Files it names are not looked for.
///
/// # Errors
/// The first fault of the syntax, or every problem of the fields, with line and column.
pub fn check_suite(text: &str) -> Result<(), Vec<crate::Problem>> {
    suite::parse(text).map(|_| ())
}

/// Runs every test of a file.
pub(crate) fn run_file(file: &Path, options: &RunOptions) -> Vec<Outcome> {
    let suite = std::fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| {
        suite::parse(&text).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    });
    let suite = match suite {
        Ok(suite) if suite.tests.is_empty() => {
            return vec![Outcome::unusable(file, "the suite has no test".to_owned())];
        }
        Ok(suite) => suite,
        Err(error) => return vec![Outcome::unusable(file, error)],
    };
    let setup = match Setup::of(&suite, file, options) {
        Ok(setup) => setup,
        Err(error) => return vec![Outcome::unusable(file, error)],
    };
    let run = |test: &Test| {
        let start = Instant::now();
        let mut notes = Vec::new();
        let (failures, unusable) = match run_test(&setup, test) {
            Ok(failures) => {
                if failures.is_empty() && test.benchmark {
                    notes = bench::notes(&setup, test);
                }
                (failures, None)
            }
            Err(error) => (Vec::new(), Some(error)),
        };
        Outcome {
            file: file.to_owned(),
            name: test.name.clone(),
            workers: 0,
            seed: 0,
            failures,
            unusable,
            notes,
            findings: Vec::new(),
            took: start.elapsed(),
        }
    };
    suite.tests.iter().map(run).collect()
}

/// What all tests of a suite have in common.
struct Setup<'a> {
    suite: &'a TestSuite,
    /// The folder of the file, from which inputs are named.
    folder: PathBuf,
    module: PathBuf,
    configuration: Vec<u8>,
    options: &'a RunOptions,
}

impl<'a> Setup<'a> {
    fn of(suite: &'a TestSuite, file: &Path, options: &'a RunOptions) -> Result<Self, String> {
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        // Named from where the tool runs, as the format has it, or else from beside the suite.
        let find = |name: &str| {
            let here = PathBuf::from(name);
            if here.exists() { here } else { folder.join(name) }
        };
        let env = &suite.env;
        let module = match &options.plugin {
            Some(plugin) => plugin.clone(),
            None if env.wasm_path.is_empty() => {
                return Err("the suite names no `wasm_path`: say --plugin FILE".to_owned());
            }
            None => find(&env.wasm_path),
        };
        if !module.is_file() {
            return Err(format!("no module {}", module.display()));
        }
        let config = match &options.plugin_config {
            Some(config) => Some(config.clone()),
            None => Some(env.config_path.as_str()).filter(|path| !path.is_empty()).map(find),
        };
        let configuration = config.map_or(Ok(Vec::new()), |path| {
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        })?;
        Ok(Self { suite, folder, module, configuration, options })
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(file);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Headers of an input; names as they are written.
    fn headers(&self, input: &Input, request: bool) -> Result<Vec<suite::Header>, String> {
        let content = if !input.file.is_empty() {
            self.read(&input.file)?
        } else if !input.content.is_empty() {
            input.content.clone()
        } else {
            return Ok(input.header.clone());
        };
        http1::parse(&String::from_utf8_lossy(&content), request)
    }

    fn body(&self, input: &Input) -> Result<Vec<u8>, String> {
        if input.file.is_empty() { Ok(input.content.clone()) } else { self.read(&input.file) }
    }
}

/// One test; the failures, or why it cannot be run.
fn run_test(setup: &Setup<'_>, test: &Test) -> Result<Vec<String>, String> {
    let mut failures = Vec::new();
    let mut plugin = match Plugin::start(setup, test, false) {
        Ok(plugin) => plugin,
        Err(error) => return Ok(vec![format!("[plugin_init] {error}")]),
    };
    let mut context = Context { setup, failures: &mut failures };
    context.logs("plugin_init", &test.plugin_init, &plugin.take_logs(Phase::Root))?;
    plugin.begin_stream(test);
    if alive("stream_init", &mut plugin, &mut context) {
        context.logs("stream_init", &test.stream_init, &plugin.take_logs(Phase::Stream))?;
        phases(setup, test, &mut plugin, &mut context)?;
    }
    plugin.end();
    if let Some(reason) = plugin.failure().filter(|_| context.failures.is_empty()) {
        context.failures.push(format!("[plugin_destroy] the VM failed: {reason}"));
    }
    Ok(failures)
}

fn phases(
    setup: &Setup<'_>,
    test: &Test,
    plugin: &mut Plugin,
    context: &mut Context<'_>,
) -> Result<(), String> {
    for request in [true, false] {
        let (headers, bodies, names) = if request {
            (&test.request_headers, &test.request_body, ["request_headers", "request_body"])
        } else {
            (&test.response_headers, &test.response_body, ["response_headers", "response_body"])
        };
        if let Some(Invocation { input, result }) = headers {
            let outcome = plugin.headers(request, &setup.headers(input, request)?);
            if !alive(names[0], plugin, context) {
                return Ok(());
            }
            context.headers_phase(names[0], result, &outcome, &plugin.take_logs(Phase::Stream))?;
        }
        for Invocation { input, result } in bodies {
            let mut body = Vec::new();
            let mut reply = None;
            let chunks = chunk(&setup.body(input)?, test.chunking);
            for (at, data) in chunks.iter().enumerate() {
                let outcome = plugin.data(request, data, at + 1 == chunks.len());
                if !alive(names[1], plugin, context) {
                    return Ok(());
                }
                body.extend_from_slice(&outcome.body);
                reply = reply.or(outcome.reply);
            }
            let logs = plugin.take_logs(Phase::Stream);
            context.body_phase(names[1], result, &body, reply.as_ref(), &logs)?;
        }
    }
    plugin.end_stream();
    if alive("stream_destroy", plugin, context) {
        let logs = plugin.take_logs(Phase::Stream);
        context.logs("stream_destroy", &test.stream_destroy, &logs)?;
    }
    Ok(())
}

/// Whether the VM is; if not, that is a failure, and the end of the test.
fn alive(phase: &str, plugin: &mut Plugin, context: &mut Context<'_>) -> bool {
    let Some(reason) = plugin.failure() else { return true };
    let mut text = format!("[{phase}] the VM failed: {reason}");
    for line in plugin.take_logs(Phase::Stream) {
        text += &format!("\n  {line}");
    }
    context.failures.push(text);
    false
}

/// Cuts a body as the test says. There is always a chunk, if an empty one.
fn chunk(body: &[u8], plan: Option<Chunking>) -> Vec<Vec<u8>> {
    let (length, most) = match plan {
        None => (usize::MAX, 1),
        Some(Chunking::Size(size)) => (size.max(1), usize::MAX),
        Some(Chunking::Count(count)) => ((body.len() / count.max(1)).max(1), count),
    };
    let mut chunks = Vec::new();
    let mut rest = body;
    while rest.len() > length && chunks.len() + 1 < most {
        let (chunk, later) = rest.split_at(length);
        chunks.push(chunk.to_vec());
        rest = later;
    }
    chunks.push(rest.to_vec());
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(body: &str, plan: Option<Chunking>) -> Vec<String> {
        let chunks = chunk(body.as_bytes(), plan).into_iter();
        chunks.map(|chunk| String::from_utf8(chunk).unwrap()).collect()
    }

    #[test]
    fn bodies_are_cut_as_the_format_has_it() {
        assert_eq!(cut("1234567890", None), ["1234567890"]);
        assert_eq!(cut("1234567", Some(Chunking::Size(3))), ["123", "456", "7"]);
        assert_eq!(cut("1234567", Some(Chunking::Count(3))), ["12", "34", "567"]);
        assert_eq!(cut("12", Some(Chunking::Count(5))), ["1", "2"]);
        assert_eq!(cut("", Some(Chunking::Size(2))), [""]);
    }
}
