//! A module that traps, under each failure policy.
//!
//! These come last: the VMs of their listeners are dead afterwards.

use crate::Phase;
use crate::case::{Case, Exchange};
use crate::op::Op;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    ["closed", "open", "legacy", "reload"].into_iter().map(sequence).collect()
}

/// Good, trap, good, trap, good.
fn sequence(listener: &'static str) -> Case {
    let ops = vec![Op::trap(Phase::RequestHeaders)];
    let patience = Duration::from_millis(500);
    let good = || Exchange { patience, ..Exchange::get(listener).unprobed() };
    let bad = || Exchange { patience, ..Exchange::get(listener) };
    Case::new(format!("trap/{listener}"), ops, good())
        .then(bad())
        .then(good())
        .then(bad())
        .then(good())
        .unawaited()
}
