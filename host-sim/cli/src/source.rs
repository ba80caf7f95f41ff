//! The files of a command line.

use crate::Unusable;
use host_sim_bootstrap::Bootstrap;
use std::fs;
use std::path::{Path, PathBuf};

/// Said of paths without one.
pub(crate) const NO_SCENARIO: &str = "there is no scenario in what was named";

/// Reads and understands a bootstrap. A file that cannot be read is a wrong argument; one that
/// host-sim cannot run is rejected with every problem, each after the file's name.
pub(crate) fn bootstrap(file: &Path) -> anyhow::Result<Bootstrap> {
    let text = fs::read_to_string(file)
        .map_err(|error| Unusable(format!("cannot read {}: {error}", file.display())))?;
    Bootstrap::from_yaml(&text).map_err(|problems| {
        let place = file.display();
        let lines: Vec<_> = problems.0.iter().map(|p| format!("  {place}: {p}")).collect();
        let count = match lines.len() {
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        anyhow::anyhow!("{place} is rejected, {count}:\n{}", lines.join("\n"))
    })
}

/// The scenario files that `paths` stand for, at least one.
pub(crate) fn scenarios(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Unusable> {
    let files = host_sim::scenario_files(paths).map_err(|error| Unusable(error.to_string()))?;
    if files.is_empty() { Err(Unusable(NO_SCENARIO.to_owned())) } else { Ok(files) }
}
