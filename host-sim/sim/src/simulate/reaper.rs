//! Makes VMs trap when an experiment wants them to.

use super::notices::KILLED;
use host_sim_abi::Status;
use host_sim_engine::{HostcallView, Observer, Origin};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Knows whose next callback is the last.
#[derive(Debug, Default)]
pub(crate) struct Reaper(Mutex<BTreeSet<(u32, String)>>);

impl Reaper {
    /// The VMs of these plugins on so many workers trap in their next callback.
    pub(crate) fn arm<'a>(&self, workers: usize, plugins: impl Iterator<Item = &'a String>) {
        let mut doomed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins {
            let workers = 0..u32::try_from(workers).unwrap_or(u32::MAX);
            doomed.extend(workers.map(|worker| (worker, plugin.clone())));
        }
    }
}

impl Observer for Reaper {
    fn interrupt(&self, origin: Origin<'_>, _: &'static str) -> Option<String> {
        let mut doomed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doomed.is_empty() {
            return None;
        }
        let vm = (origin.worker?, origin.plugin.to_owned());
        doomed.remove(&vm).then(|| KILLED.to_owned())
    }

    fn hostcall(&self, _: Origin<'_>, _: &HostcallView<'_>, _: Option<Status>) {}
}
