//! Scenario files and imported suites on small plugins: what each part of the formats does.

mod behind;
mod costs;
mod doings;
mod exchange;
mod faults;
mod problems;
mod state;
mod suites;
mod tcp;
mod upstreams;

use host_sim::{Format, ModuleCache, Report, RunOptions};
use std::path::{Path, PathBuf};

/// A folder with modules and a file to run.
struct Folder(tempfile::TempDir);

impl Folder {
    /// With a module of the name `NAME.wasm` for each body.
    fn with<'a>(modules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, body) in modules {
            folder.write(&format!("{name}.wasm"), host_sim_guest::module(body));
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Runs a file with these contents.
    fn run(&self, name: &str, contents: &str) -> Report {
        let options = RunOptions { module_cache: ModuleCache::user(), ..RunOptions::default() };
        host_sim::run(&[self.write(name, contents)], &options, |_| {}).unwrap()
    }

    /// Runs a scenario that must hold.
    fn holds(&self, scenario: &str) {
        let report = self.run("scenario.yaml", scenario);
        assert_eq!(report.exit_code(), 0, "\n{}", report.render(Format::Text));
    }

    /// Runs a scenario that must fail, and gives what is told.
    fn fails(&self, scenario: &str) -> String {
        let report = self.run("scenario.yaml", scenario);
        let text = report.render(Format::Text);
        assert_eq!(report.exit_code(), 1, "\n{text}");
        text
    }
}

/// Every one of `wanted` is in `text`.
fn tells(text: &str, wanted: &[&str]) {
    for told in wanted {
        assert!(text.contains(told), "missing: {told}\nin:\n{text}");
    }
}
