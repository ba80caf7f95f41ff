//! Loading a plugin's configuration.

use crate::{ffi, logger, metrics::Gauge};
use plugin_config::{Parsed, Problems};

/// Buffer of the plugin's configuration; readable in `on_configure` only.
const PLUGIN_CONFIGURATION: u32 = 7;

/// Longer than any configuration that will be accepted, so that one too long is told as such.
const READ_AT_MOST: usize = 1 << 24;

/// Reads and parses the configuration. `None` means that `on_configure` must answer false: every
/// problem has been logged, and the last line holds all of them, because it is the one that control
/// planes show.
///
/// Decides by the bytes alone. Called once for each worker, the main thread and a canary, so it
/// must write nothing that counts.
pub fn configure<T>(
    parse: impl FnOnce(&[u8]) -> Result<Parsed<T>, Problems>,
    name: impl Fn(&T) -> &str,
) -> Option<T> {
    logger::follow_host_level();
    let (module, version) = logger::module();
    let bytes = match ffi::buffer(PLUGIN_CONFIGURATION, READ_AT_MOST) {
        Ok(bytes) => bytes,
        Err(status) => {
            log::error!("the host refused the configuration with status {status}");
            return None;
        }
    };
    match parse(&bytes) {
        Ok(Parsed { value, hash }) => {
            log::info!("{version} configured as '{}', config hash {hash}", name(&value));
            let labels = [
                ("plugin", name(&value)),
                ("module", module),
                ("version", version),
                ("hash", hash.as_str()),
            ];
            Gauge::new("weir_config_info", &labels).set(1);
            Some(value)
        }
        Err(problems) => {
            for problem in &problems.0 {
                log::error!("{problem}");
            }
            let all: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
            log::error!("{version} configuration rejected: {}", all.join("; "));
            None
        }
    }
}
