//! The problems found so far, and the place where the reader is.

use crate::value::step_into;
use crate::{Problem, Problems};

/// Problems that are collected. Who reads fifty does not want more.
const MAX_PROBLEMS: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pointer: String,
    problems: Vec<Problem>,
    /// Pointers of the fields that were asked for.
    #[cfg(feature = "record")]
    pub(crate) asked: Vec<String>,
}

impl Notes {
    /// Goes one step deeper. Returns what [`Self::leave`] needs.
    pub(crate) fn enter(&mut self, step: &str) -> usize {
        step_into(&mut self.pointer, step)
    }

    /// Comes back to the place that `enter` was called at.
    pub(crate) fn leave(&mut self, length: usize) {
        self.pointer.truncate(length);
    }

    /// Notes that a field was asked for.
    #[cfg(feature = "record")]
    pub(crate) fn asked(&mut self, name: &str) {
        let above = self.enter(name);
        self.asked.push(self.pointer.clone());
        self.leave(above);
    }

    /// Notes a problem at the field or the index `step`, or here if that is empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn problem(&mut self, step: &str, message: String) {
        if self.problems.len() < MAX_PROBLEMS {
            let mut pointer = self.pointer.clone();
            if !step.is_empty() {
                step_into(&mut pointer, step);
            }
            self.problems.push(Problem { pointer, message });
        }
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.problems.len()
    }

    pub(crate) fn into_result(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }
}
