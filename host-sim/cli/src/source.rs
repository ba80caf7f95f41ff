//! The bootstrap file of a command line.

use crate::Unusable;
use host_sim_bootstrap::Bootstrap;
use std::fs;
use std::path::Path;

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
