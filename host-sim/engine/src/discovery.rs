//! Configuration discovery from files: reading them, counting what came of it, and noticing that
//! one was replaced.
//!
//! Counters and outcomes are Envoy's, also where they surprise: a rejected configuration that comes
//! a second time is *not* rejected again, as nothing differs from what was seen last, and counts as
//! a success; `config_reload` also counts what a plugin refused. As in Envoy, only a file that was
//! *moved* to the path is noticed. One that was written in place is not, which is said once.

use crate::plugin_slot::run_canary;
use crate::stats::{Counter, Gauge};
use crate::{Engine, LogLevel, LogRecord, StartError, Stats};
use host_sim_bootstrap::{Discovered, DiscoveryError, PluginConfig, read_discovered};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use twox_hash::XxHash64;

/// One file, and the filters of one name that it configures.
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) path: PathBuf,
    /// Places by number.
    pub(crate) slots: Vec<usize>,
    counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<FileIdentity>,
    /// Seen last, accepted or not.
    last: Option<PluginConfig>,
    version: String,
}

/// `extension_config_discovery.http_filter.<name>.*`
struct Counters {
    config_reload: Counter,
    config_fail: Counter,
    update_attempt: Counter,
    update_success: Counter,
    update_failure: Counter,
    update_rejected: Counter,
    /// Milliseconds since 1970 when an update has last succeeded.
    update_time: Gauge,
    /// XXH64 of the `version_info` of that update.
    version: Gauge,
}

/// Which file is at a path, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    number: (u64, u64),
    written: Option<SystemTime>,
}

impl Subscription {
    pub(crate) fn new(filter: &str, path: PathBuf, stats: &Stats) -> Self {
        let prefix = format!("extension_config_discovery.http_filter.{filter}.");
        let counter = |name: &str| stats.counter(&format!("{prefix}{name}"));
        let gauge = |name: &str| stats.gauge(&format!("{prefix}{name}"));
        // Nothing here makes these grow: files are read at once, and Envoy, too, times no reading.
        counter("config_conflict");
        counter("init_fetch_timeout");
        stats.histogram(&format!("{prefix}update_duration"));
        Self {
            filter: filter.to_owned(),
            path,
            slots: Vec::new(),
            counters: Counters {
                config_reload: counter("config_reload"),
                config_fail: counter("config_fail"),
                update_attempt: counter("update_attempt"),
                update_success: counter("update_success"),
                update_failure: counter("update_failure"),
                update_rejected: counter("update_rejected"),
                update_time: gauge("update_time"),
                version: gauge("version"),
            },
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Whether filters get their configuration from files that may change.
    #[must_use]
    pub fn has_discovery(&self) -> bool {
        !self.subscriptions().is_empty()
    }

    /// Looks whether files of discovered configurations were replaced, and applies those that were.
    /// A driver calls it every now and then; it blocks while a canary runs.
    pub fn poll_discovery(self: &Arc<Self>) {
        for subscription in self.subscriptions() {
            let found = identify(&subscription.path);
            let known = subscription.state().file;
            match (known, found) {
                (Some(known), Some(found)) if known.number == found.number => {
                    if known.written != found.written {
                        subscription.state().file = Some(found);
                        let path = subscription.path.display();
                        self.tell(&format!(
                            "{path} was written in place, which Envoy does not notice: write \
                             another file and move it there"
                        ));
                    }
                }
                // Envoy goes on with what it has while there is no file.
                (_, None) => subscription.state().file = None,
                (_, Some(_)) => self.fetch(subscription),
            }
        }
    }

    /// `version_info` of the response that a filter's configuration was last taken from.
    #[must_use]
    pub fn discovered_version(&self, filter: &str) -> Option<String> {
        let subscription = self.subscriptions().iter().find(|s| s.filter == filter)?;
        Some(subscription.state().version.clone())
    }

    /// Every file's first reading, at the start; a second start does nothing.
    pub(crate) fn start_discovery(self: &Arc<Self>) -> Result<(), StartError> {
        if !self.begins_discovery() {
            return Ok(());
        }
        for subscription in self.subscriptions() {
            if !subscription.path.exists() {
                let path = subscription.path.display();
                return Err(StartError::host(format!(
                    "filter {:?}: paths must refer to an existing path in the system: '{path}' \
                     does not exist",
                    subscription.filter
                )));
            }
            self.fetch(subscription);
        }
        Ok(())
    }

    fn fetch(self: &Arc<Self>, subscription: &Subscription) {
        let counters = &subscription.counters;
        counters.update_attempt.inc();
        subscription.state().file = identify(&subscription.path);
        let text = std::fs::read_to_string(&subscription.path)
            .map_err(|error| DiscoveryError::Failed(error.to_string()));
        let read = text.and_then(|text| read_discovered(&text, &subscription.filter));
        match read.and_then(|found| self.accept(subscription, found)) {
            Ok(()) => {
                counters.update_success.inc();
                let now = self.options().clock.wall().0 / 1_000_000;
                counters.update_time.set(now);
                let version = subscription.state().version.clone();
                counters.version.set(XxHash64::oneshot(0, version.as_bytes()));
            }
            Err(error) => {
                counters.config_fail.inc();
                let what = match &error {
                    DiscoveryError::Failed(_) => {
                        counters.update_failure.inc();
                        "failure"
                    }
                    DiscoveryError::Rejected(_) => {
                        counters.update_rejected.inc();
                        "rejected"
                    }
                };
                let path = subscription.path.display();
                self.tell(&format!("Filesystem config update {what}: {path}: {error}"));
            }
        }
    }

    fn accept(
        self: &Arc<Self>,
        subscription: &Subscription,
        found: Discovered,
    ) -> Result<(), DiscoveryError> {
        {
            let mut state = subscription.state();
            if state.last.as_ref() == Some(&found.plugin) {
                state.version = found.version;
                return Ok(());
            }
            state.last = Some(found.plugin.clone());
        }
        let plugin = self
            .plugins()
            .load(&found.plugin, self.options(), false)
            .and_then(|plugin| run_canary(self, &plugin).map(|()| plugin))
            .map_err(|error| {
                subscription.counters.config_reload.inc();
                DiscoveryError::Rejected(error.to_string())
            })?;
        subscription.state().version = found.version;
        let reloads = subscription.counters.config_reload.clone();
        self.roll_out(subscription.slots.clone(), &plugin, Some(reloads));
        Ok(())
    }

    fn tell(&self, message: &str) {
        let (level, time) = (LogLevel::Warn, self.options().clock.now());
        let record = LogRecord { time, level, worker: None, plugin: None, message };
        if level >= self.options().log.level() {
            self.options().log.log(&record);
        }
    }
}

/// `None`: there is no such file now.
fn identify(path: &Path) -> Option<FileIdentity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileIdentity { number: number(&metadata), written: metadata.modified().ok() })
}

#[cfg(unix)]
fn number(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Without inodes, a file that was written is another file.
#[cfg(not(unix))]
fn number(metadata: &std::fs::Metadata) -> (u64, u64) {
    let written = metadata.modified().ok();
    let since = written.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or((0, 0), |since| (since.as_secs(), since.subsec_nanos().into()))
}
