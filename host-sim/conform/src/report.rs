//! What two hosts showed, side by side.

use crate::explained::Explained;
use crate::observe::Cells;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Cells that either host showed.
    pub total: usize,
    /// Cells in which both showed the same.
    pub equal: usize,
    /// Cases that were run again, because they differed the first time.
    pub repeated: usize,
    /// Differences that are meant.
    pub explained: Vec<Difference>,
    /// Differences that are not.
    pub different: Vec<Difference>,
    /// Cells in which both showed the same.
    #[serde(skip)]
    pub same: Vec<Difference>,
    /// Explanations of nothing: their patterns match no difference.
    pub stale: Vec<String>,
}

/// What both hosts showed of one case.
pub(crate) struct Pair {
    pub(crate) envoy: Cells,
    pub(crate) host_sim: Cells,
}

impl Pair {
    /// Cells by name: Envoy's, host-sim's.
    fn cells(&self) -> Vec<(String, Option<String>, Option<String>)> {
        let mut cells: BTreeMap<&str, (Option<&String>, Option<&String>)> = BTreeMap::new();
        for (cell, text) in &self.envoy {
            cells.entry(cell).or_default().0 = Some(text);
        }
        for (cell, text) in &self.host_sim {
            cells.entry(cell).or_default().1 = Some(text);
        }
        let cells = cells.into_iter();
        cells.map(|(cell, (e, h))| (cell.to_owned(), e.cloned(), h.cloned())).collect()
    }

    /// Whether all that differs is explained.
    pub(crate) fn agree(&self, explained: &Explained) -> bool {
        self.cells().iter().all(|(cell, e, h)| e == h || explained.find(cell).is_some())
    }
}

/// A cell in which the hosts differ.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its name.
    pub cell: String,
    /// What Envoy showed; `None` when it did not come to it.
    pub envoy: Option<String>,
    /// What host-sim showed.
    pub host_sim: Option<String>,
    /// Why that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Report {
    /// Compares cell by cell. Stale explanations are looked for only after a `complete` run.
    pub(crate) fn new(pairs: &[Pair], explained: &Explained, complete: bool) -> Self {
        let mut report = Self::default();
        let mut used = vec![false; explained.rows().len()];
        for (cell, envoy, host_sim) in pairs.iter().flat_map(Pair::cells) {
            report.total += 1;
            let mut difference = Difference { cell, envoy, host_sim, reason: None };
            if difference.envoy == difference.host_sim {
                report.equal += 1;
                report.same.push(difference);
            } else if let Some((at, row)) = explained.find(&difference.cell) {
                used[at] = true;
                difference.reason = Some(row.reason.clone());
                report.explained.push(difference);
            } else {
                report.different.push(difference);
            }
        }
        if complete {
            let rows = explained.rows().iter().zip(used);
            let unused = rows.filter(|(row, used)| !used && row.is_certain());
            report.stale = unused.map(|(row, _)| row.cells.clone()).collect();
        }
        report
    }

    /// No difference that is not explained, and no explanation without a difference.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.different.is_empty() && self.stale.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.different {
            writeln!(f, "{}", difference.cell)?;
            writeln!(f, "  envoy:    {}", shown(difference.envoy.as_deref()))?;
            writeln!(f, "  host-sim: {}", shown(difference.host_sim.as_deref()))?;
        }
        for pattern in &self.stale {
            writeln!(f, "explained, but no difference any more: {pattern}")?;
        }
        let (explained, different) = (self.explained.len(), self.different.len());
        writeln!(f, "{:>9} cells", self.total)?;
        writeln!(f, "{:>9} equal", self.equal)?;
        writeln!(f, "{explained:>9} explained")?;
        write!(f, "{different:>9} different")
    }
}

fn shown(text: Option<&str>) -> String {
    text.map_or("(none)".to_owned(), |text| text.trim_end().replace('\n', "\n            "))
}
