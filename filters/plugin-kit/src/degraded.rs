//! Stepping aside, visibly.

use crate::metrics::{Counter, Family};
use core::cell::RefCell;

/// Counts each time the plugin could not do its work and let the request pass, and logs the first
/// time for each reason. A reason is a short constant such as `corrupt_record`.
#[derive(Debug)]
pub struct Degraded {
    counters: Family<Counter>,
    logged: RefCell<Vec<&'static str>>,
}

impl Degraded {
    /// For the plugin with this configured name.
    pub fn new(plugin: &str) -> Self {
        Self {
            counters: Family::new("weir_degraded_total", &[("plugin", plugin)], &["reason"]),
            logged: RefCell::default(),
        }
    }

    /// Counts `reason`, and logs `detail` the first time.
    pub fn note(&self, reason: &'static str, detail: impl core::fmt::Display) {
        self.counters.with(&[reason]).add(1);
        let first = self.logged.try_borrow_mut().is_ok_and(|mut logged| {
            let first = !logged.contains(&reason);
            if first {
                logged.push(reason);
            }
            first
        });
        if first {
            log::warn!(
                "stepping aside ({reason}): {detail}; counted from now on, not logged again"
            );
        }
    }
}
